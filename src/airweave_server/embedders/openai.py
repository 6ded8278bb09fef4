"""Any service with OpenAI's embeddings API: its own, or a server of one's own (vLLM, Ollama, llama.cpp, TEI, ...).

What it answers is checked before it is believed: as many vectors as texts, each named by its place, of one length, all
numbers, none of them zero. What is wrong is asked again, and where it stays wrong for some texts alone, while the
service works for others, these texts are found by halving and named.
"""

import base64
import binascii
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from pydantic import SecretStr

from airweave_server.sdk import (
    AuthError,
    ConfigError,
    Context,
    Embedder,
    EmbedderError,
    Endpoint,
    RateLimited,
    SourceError,
    Unavailable,
    Unembeddable,
    Vectors,
)
from airweave_server.sdk.http import Http

TEXTS = 64  # asked for at once, or fewer where the service refuses so many
CHARS = 200_000  # of all of them together: below the 300,000 tokens that OpenAI takes, whatever the language
MAX_CHARS = 8_000  # of one text, what follows does not count: below the 8,191 tokens that OpenAI's models take
MAX_BYTES = 50_000_000  # of an answer
ATTEMPTS = 3
ALONE = 2  # times a text is asked for by itself before it is held to be at fault
PATIENCE_S = 20.0  # of waiting as told, within one request; then the job itself waits
TIMEOUT_S, TOTAL_S = 60.0, 90.0  # for the next bytes, and for an answer as a whole
QUERY_ATTEMPTS, QUERY_PATIENCE_S, QUERY_TOTAL_S = 2, 2.0, 10.0  # somebody waits for it
PROBE = "a word"


class OpenAI(Embedder):
    """The model of a service. Its address is the operator's, so it may be a private one.

    ``dimensions`` where the operator left them open, and whether the service must be asked for them, is known from its
    first answer. Raises ``AuthError`` and ``ConfigError`` for what an operator must change, everywhere.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not endpoint.url or not endpoint.model:
            raise ConfigError("embedder openai: set EMBEDDINGS_URL and EMBEDDINGS_MODEL")
        self.name = f"openai:{endpoint.model}"
        self._endpoint = endpoint
        url = endpoint.url.rstrip("/").removesuffix("/embeddings")
        try:
            self._batches = _http(url, endpoint.key, ATTEMPTS, PATIENCE_S, TOTAL_S)
            self._queries = _http(url, endpoint.key, QUERY_ATTEMPTS, QUERY_PATIENCE_S, QUERY_TOTAL_S)
        except SourceError as error:
            raise ConfigError(f"embedder openai: EMBEDDINGS_URL or EMBEDDINGS_KEY: {error}") from None
        self._lock = threading.Lock()
        self._agreed: _Agreed | None = None
        self._texts = TEXTS

    @classmethod
    def configured(cls, endpoint: Endpoint) -> "OpenAI":
        return cls(endpoint)

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """Raises ``EmbedderError`` where only the service knows, and it cannot be asked now."""
        return self._endpoint.dimensions or self._agree(self._queries).dimensions

    def check(self) -> None:
        with self._lock:
            self._agreed = None
        self._agree(self._queries)

    def embed(self, texts: Sequence[str]) -> Vectors:
        agreed = self._agree(self._batches)
        vectors = np.zeros((len(texts), agreed.dimensions), dtype=np.float32)
        refused: dict[int, str] = {}
        for rows in _batched(texts, self._texts):
            self._fill(vectors, [(row, _clean(texts[row])) for row in rows], agreed, refused)
        if refused:
            raise Unembeddable(refused)
        return vectors

    def embed_query(self, text: str) -> Vectors:
        agreed = self._agree(self._queries)
        if not text.strip():
            return np.zeros(agreed.dimensions, dtype=np.float32)
        try:
            vector: Vectors = self._asked(self._queries, [_clean(text)], agreed)[0]
            return vector
        except _Wrong as wrong:
            raise EmbedderError(str(wrong)) from None

    def close(self) -> None:
        """Let go of the connections."""
        self._batches.close()
        self._queries.close()

    def _fill(
        self, vectors: Vectors, asked: Sequence[tuple[int, str]], agreed: "_Agreed", refused: dict[int, str]
    ) -> None:
        """The vectors of these rows. A batch that fails while the service works is halved, down to who is at fault."""
        rows, texts = zip(*asked, strict=True)
        for _ in range(ALONE if len(asked) == 1 else 1):
            try:
                vectors[list(rows)] = self._asked(self._batches, texts, agreed)
                return
            except _Wrong as error:
                wrong = error
        self._probe(agreed, wrong)
        if len(asked) == 1:
            refused[rows[0]] = f"the embedder does not take its text: {wrong}"
            return
        middle, refused_before = len(asked) // 2, len(refused)
        self._fill(vectors, asked[:middle], agreed, refused)
        self._fill(vectors, asked[middle:], agreed, refused)
        if wrong.final and len(refused) == refused_before:
            self._texts = min(self._texts, max(middle, 1))  # there were only too many of them

    def _probe(self, agreed: "_Agreed", wrong: "_Wrong") -> None:
        """Raise what is wrong unless the service works for a text that is beyond reproach."""
        try:
            self._asked(self._queries, [PROBE], agreed)
        except _Wrong:
            if wrong.final:
                raise ConfigError(f"embedder openai: {wrong}; see EMBEDDINGS_URL and EMBEDDINGS_MODEL") from None
            raise EmbedderError(str(wrong)) from None

    def _agree(self, http: Http) -> "_Agreed":
        """Find out how the service is asked for the right dimensions."""
        with self._lock:
            if self._agreed is not None:
                return self._agreed
        wanted = self._endpoint.dimensions
        try:
            own = len(self._asked(http, [PROBE], None)[0])
        except _Wrong as wrong:
            if wrong.final:
                raise ConfigError(f"embedder openai: {wrong}; see EMBEDDINGS_URL and EMBEDDINGS_MODEL") from None
            raise EmbedderError(str(wrong)) from None
        agreed = _Agreed(own, ask=False)
        if wanted is not None and own != wanted:
            agreed = _Agreed(wanted, ask=True)
            try:
                self._asked(http, [PROBE], agreed)
            except (_Wrong, ConfigError) as wrong:
                if isinstance(wrong, _Wrong) and not wrong.final:
                    raise EmbedderError(str(wrong)) from None
                raise ConfigError(
                    f"embedder openai: {self._endpoint.model} answers vectors of {own} dimensions, and "
                    f"EMBEDDINGS_DIMENSIONS is {wanted}"
                ) from None
        with self._lock:
            self._agreed = agreed
        return agreed

    def _asked(self, http: Http, texts: Sequence[str], agreed: "_Agreed | None") -> Vectors:
        """One request. Raises ``_Wrong`` for what may be the fault of the texts, ``EmbedderError`` for what cannot."""
        body: dict[str, Any] = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "base64"}
        if agreed is not None and agreed.ask:
            body["dimensions"] = agreed.dimensions
        try:
            answer = http.json("embeddings", body=body)
        except RateLimited as error:
            raise EmbedderError(str(error), retry_after_s=error.retry_after_s) from None
        except AuthError as error:
            raise ConfigError(f"embedder openai: {error}; see EMBEDDINGS_KEY") from None
        except ConfigError as error:
            raise _Wrong(str(error), final=True) from None
        except Unavailable as error:
            raise _Wrong(str(error), final=False) from None
        except httpx.InvalidURL:
            raise ConfigError("embedder openai: EMBEDDINGS_URL is no address") from None
        vectors = _read(answer, len(texts))
        if agreed is not None and vectors.shape[1] != agreed.dimensions:
            raise ConfigError(
                f"embedder openai: {self._endpoint.model} answers vectors of {vectors.shape[1]} dimensions, and they "
                f"were {agreed.dimensions}; is it another model now? See EMBEDDINGS_MODEL and EMBEDDINGS_DIMENSIONS"
            )
        return vectors


@dataclass(frozen=True, slots=True)
class _Agreed:
    """How many dimensions the vectors have; ``ask``: only because each request says so."""

    dimensions: int
    ask: bool


class _Wrong(Exception):
    """A request that failed, or an answer that is none. ``final``: the same again would fail again."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def _http(url: str, key: SecretStr | None, attempts: int, patience_s: float, total_s: float) -> Http:
    host = httpx.URL(url).host
    headers = {"Authorization": SecretStr(f"Bearer {key.get_secret_value()}")} if key is not None else {}
    return Http(
        url, context=Context(allowed_hosts=(host,)), headers=headers, attempts=attempts, patience_s=patience_s,
        timeout_s=min(TIMEOUT_S, total_s), total_s=total_s, max_bytes=MAX_BYTES,
    )  # fmt: skip


def _batched(texts: Sequence[str], most: int) -> Iterator[list[int]]:
    """Rows that go into one request, those of like length together; a blank text is asked for by nobody."""
    rows: list[int] = []
    chars = 0
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        if not texts[row].strip():
            continue
        length = min(len(texts[row]), MAX_CHARS)
        if rows and (len(rows) == most or chars + length > CHARS):
            yield rows
            rows, chars = [], 0
        rows.append(row)
        chars += length
    if rows:
        yield rows


def _clean(text: str) -> str:
    return text[:MAX_CHARS].encode("utf-8", "replace").decode()  # lone surrogates


def _read(answer: Any, expected: int) -> Vectors:
    """The vectors of an answer, of length 1, in the order of the texts. Raises ``_Wrong``."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != expected:
        got = len(data) if isinstance(data, list) else "no"
        raise _Wrong(f"the embedding service answers {got} vectors for {expected} texts", final=False)
    found: dict[int, Vectors] = {}
    for place, one in enumerate(data):
        index = one.get("index", place) if isinstance(one, dict) else None
        if type(index) is not int or not 0 <= index < expected or index in found:
            raise _Wrong("the embedding service numbers its vectors otherwise than the texts", final=False)
        found[index] = _vector(one.get("embedding"))
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) != 1:
        raise _Wrong("the embedding service answers vectors of different lengths", final=False)
    vectors = np.stack([found[index] for index in range(expected)])
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise _Wrong("the embedding service answers numbers that are none, or zeros", final=False)
    unit: Vectors = (vectors / norms).astype(np.float32)
    return unit


def _vector(told: object) -> Vectors:
    try:
        if isinstance(told, str):
            vector = np.frombuffer(base64.b64decode(told, validate=True), dtype="<f4")
        elif isinstance(told, list) and all(type(value) in (int, float) for value in told):
            vector = np.array(told, dtype=np.float32)
        else:
            raise ValueError
    except (ValueError, OverflowError, binascii.Error):
        raise _Wrong("the embedding service answers what is no vector", final=False) from None
    if not 0 < len(vector) <= 16_000 or not math.isfinite(float(np.abs(vector).max())):
        raise _Wrong("the embedding service answers numbers that are none, or zeros", final=False)
    return vector.astype(np.float32)
