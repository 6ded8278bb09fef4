"""The embedder that asks a service, against a real server of its protocol."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from airweave_test_plugin.embedders import hashed
from pydantic import SecretStr

from airweave_server.embedders import openai
from airweave_server.embedders.openai import OpenAI
from airweave_server.sdk import ConfigError, EmbedderError, Endpoint, Unembeddable
from servers.embedding_server import KEY, EmbeddingServer


@pytest.fixture
def service() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as started:
        yield started


@pytest.fixture
def embedder(service: EmbeddingServer) -> Iterator[Callable[..., OpenAI]]:
    """Makes embedders that ask the service, or whatever else is said."""
    with ExitStack() as stack:

        def make(**told: Any) -> OpenAI:
            made = OpenAI(Endpoint(**{"url": service.url, "model": "hashed-words", "key": SecretStr(KEY), **told}))
            stack.callback(made.close)
            return made

        yield make


def texts(count: int) -> list[str]:
    return [f"text number {number} of word{number}" + " and more" * (number % 7) for number in range(count)]


@pytest.mark.parametrize("as_floats", [False, True])
def test_each_text_gets_its_vector_whatever_the_order_and_encoding_of_the_answer(
    service: EmbeddingServer, embedder: Callable[..., OpenAI], as_floats: bool
) -> None:
    service.as_floats = as_floats
    asked = [*texts(150), "", "  \n", "\ud800 lone"]
    vectors = embedder().embed(asked)
    np.testing.assert_allclose(vectors[:150], hashed(asked[:150]), atol=1e-6)
    assert vectors.dtype == np.float32
    assert not vectors[150:152].any()  # blank ones are not asked for
    assert max(service.asked()) <= openai.TEXTS
    assert all("" not in [text.strip() for text in body["input"]] for body in service.requests)


def test_requests_are_bounded_in_texts_and_characters_and_a_text_that_is_too_long_is_cut(
    service: EmbeddingServer,
    embedder: Callable[..., OpenAI],
) -> None:
    long = "word " * 4_000
    vectors = embedder().embed([long] * 70)
    np.testing.assert_allclose(vectors, hashed([long[: openai.MAX_CHARS]] * 70), atol=1e-6)
    assert len(service.requests) > 2
    for body in service.requests:
        assert sum(map(len, body["input"])) <= openai.CHARS
        assert max(map(len, body["input"])) <= openai.MAX_CHARS


@pytest.mark.parametrize(
    "fault",
    [500, 503, 408, (429, 1), "reset", "text", "null", "partial", "doubled", "numbers", "nan", "zero", "ragged"],
)
def test_what_goes_wrong_once_is_asked_again(
    service: EmbeddingServer, embedder: Callable[..., OpenAI], fault: Any
) -> None:
    model = embedder()
    model.check()
    service.faults.append(fault)
    np.testing.assert_allclose(model.embed(texts(5)), hashed(texts(5)), atol=1e-6)


@pytest.mark.parametrize("fault", [500, "reset", "text", "null", "partial", "nan", "zero"])
def test_a_service_that_stays_broken_blames_no_text(
    service: EmbeddingServer, embedder: Callable[..., OpenAI], fault: Any
) -> None:
    model = embedder()
    model.check()
    service.always = fault
    with pytest.raises(EmbedderError) as raised:
        model.embed(texts(5))
    assert not isinstance(raised.value, Unembeddable)
    assert KEY not in str(raised.value)
    with pytest.raises(EmbedderError):
        embedder().embed_query("a question")


def test_an_answer_without_an_end_is_cut_off(service: EmbeddingServer, embedder: Callable[..., OpenAI]) -> None:
    model = embedder()
    model.check()
    service.always = "huge"
    with pytest.raises(EmbedderError, match="too_large"):
        model.embed_query("a question")


def test_a_long_wait_that_the_service_asks_for_is_handed_up(
    service: EmbeddingServer, embedder: Callable[..., OpenAI]
) -> None:
    model = embedder()
    model.check()
    service.always = (429, 300)
    with pytest.raises(EmbedderError) as raised:
        model.embed(texts(5))
    assert raised.value.retry_after_s == 300


@pytest.mark.parametrize("status", [400, 500, "nan"])
def test_the_texts_that_fail_their_batch_are_found_and_named(
    service: EmbeddingServer, embedder: Callable[..., OpenAI], status: int | str
) -> None:
    asked = texts(40)
    asked[3] += " arsenic"
    asked[31] += " arsenic"
    service.poison, service.poison_status = "arsenic", status
    model = embedder()
    model._batches._backoff_s = 0.01  # of 500s there are many
    with pytest.raises(Unembeddable) as raised:
        model.embed(asked)
    assert set(raised.value.reasons) == {3, 31}
    good = [text for text in asked if "arsenic" not in text]
    np.testing.assert_allclose(model.embed(good), hashed(good), atol=1e-6)


def test_a_service_that_takes_fewer_texts_at_once_gets_fewer(
    service: EmbeddingServer, embedder: Callable[..., OpenAI]
) -> None:
    service.most_texts = 10
    model = embedder()
    np.testing.assert_allclose(model.embed(texts(200)), hashed(texts(200)), atol=1e-6)
    service.requests.clear()
    model.embed(texts(64))
    assert max(service.asked()) <= 10  # it is known by now


def test_dimensions_are_what_the_operator_says_or_else_what_the_model_has(
    service: EmbeddingServer, embedder: Callable[..., OpenAI]
) -> None:
    assert embedder().dimensions == 16
    fewer = embedder(dimensions=8)
    assert fewer.dimensions == 8
    vectors = fewer.embed(texts(3))
    assert vectors.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert service.requests[-1]["dimensions"] == 8
    service.requests.clear()
    embedder(dimensions=16).check()
    assert "dimensions" not in service.requests[-1]  # a server that does not know it may refuse it
    with pytest.raises(ConfigError, match="returns vectors of 16 dimensions, but EMBEDDINGS_DIMENSIONS is 32"):
        embedder(dimensions=32).check()
    service.takes_dimensions = False
    with pytest.raises(ConfigError, match="returns vectors of 16 dimensions, but EMBEDDINGS_DIMENSIONS is 8"):
        embedder(dimensions=8).embed(texts(1))


def test_vectors_that_change_their_dimensions_are_never_taken(
    service: EmbeddingServer, embedder: Callable[..., OpenAI]
) -> None:
    model = embedder()
    model.check()
    service.always = "short"
    with pytest.raises(ConfigError, match="15 dimensions now, before they had 16"):
        model.embed(texts(3))


def test_what_an_operator_must_change_is_said_without_the_key(
    service: EmbeddingServer, embedder: Callable[..., OpenAI]
) -> None:
    for wrong, says in (
        ({"key": SecretStr("sk-another-canary-key")}, "EMBEDDINGS_KEY"),
        ({"key": SecretStr("sk-líne\nbreak-canary")}, "EMBEDDINGS_KEY"),
        ({"url": service.url + "/v2"}, "EMBEDDINGS_URL"),
        ({"url": "service.example"}, "EMBEDDINGS_URL"),
        ({"url": ""}, "EMBEDDINGS_URL"),
    ):
        with pytest.raises(ConfigError, match=says) as raised:
            embedder(**wrong).check()
        assert "canary" not in repr(raised.value)
    with pytest.raises(EmbedderError, match="cannot be reached"):
        embedder(url="http://127.0.0.1:9/v1").check()
    assert "canary" not in repr(vars(embedder()))
