"""An embedder that uses a service with OpenAI's embeddings API: OpenAI or vLLM, Ollama, llama.cpp, TEI and others.

Responses are checked before they are used: one vector per text with the text's index, all of one length, finite and
not all-zero. A wrong response is requested again. If it stays wrong for some texts while the service works for others,
these texts are found by halving the batch, and reported.
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

TEXTS = 64  # in one request; fewer if the service refuses so many
CHARS = 200_000  # in one request: in any language below the 300,000 tokens that OpenAI accepts
MAX_CHARS = 8_000  # of one text, the rest is cut: below the 8,191 tokens that OpenAI's models accept
MAX_BYTES = 50_000_000  # of a response
ATTEMPTS = 3
ALONE = 2  # failed requests for a single text before the text is considered at fault
PATIENCE_S = 20.0  # of waiting as told by the service within one request; beyond that the job waits
TIMEOUT_S, TOTAL_S = 60.0, 90.0  # for the next bytes, and for a whole response
QUERY_ATTEMPTS, QUERY_PATIENCE_S, QUERY_TOTAL_S = 2, 2.0, 10.0  # less, since somebody waits for the search
PROBE = "a word"


class OpenAI(Embedder):
    """A model of the service. The address may be private, since the operator sets it.

    The first response shows the model's ``dimensions`` if the operator did not set them, or whether they must be
    requested if the operator did. All methods raise ``ConfigError`` for what the operator must change.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not endpoint.url or not endpoint.model:
            raise ConfigError("embedder openai: set EMBEDDINGS_URL and EMBEDDINGS_MODEL")
        self.name = f"openai:{endpoint.model}"
        self._endpoint = endpoint
        url = endpoint.url.rstrip("/").removesuffix("/embeddings")
        try:
            self._batches = _make_http(url, endpoint.key, ATTEMPTS, PATIENCE_S, TOTAL_S)
            self._queries = _make_http(url, endpoint.key, QUERY_ATTEMPTS, QUERY_PATIENCE_S, QUERY_TOTAL_S)
        except SourceError as error:
            raise ConfigError(f"embedder openai: invalid EMBEDDINGS_URL or EMBEDDINGS_KEY: {error}") from None
        self._lock = threading.Lock()
        self._agreed: _Agreed | None = None
        self._texts = TEXTS

    @classmethod
    def configured(cls, endpoint: Endpoint) -> "OpenAI":
        return cls(endpoint)

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """Raises ``EmbedderError`` if they are not configured and the service cannot be reached."""
        return self._endpoint.dimensions or self._agree(self._queries).dimensions

    def check(self) -> None:
        with self._lock:
            self._agreed = None
        self._agree(self._queries)

    def embed(self, texts: Sequence[str]) -> Vectors:
        agreed = self._agree(self._batches)
        vectors = np.zeros((len(texts), agreed.dimensions), dtype=np.float32)
        refused: dict[int, str] = {}
        for rows in _batch(texts, self._texts):
            self._fill(vectors, [(row, _clean(texts[row])) for row in rows], agreed, refused)
        if refused:
            raise Unembeddable(refused)
        return vectors

    def embed_query(self, text: str) -> Vectors:
        agreed = self._agree(self._queries)
        if not text.strip():
            return np.zeros(agreed.dimensions, dtype=np.float32)
        try:
            vector: Vectors = self._request_vectors(self._queries, [_clean(text)], agreed)[0]
            return vector
        except _Wrong as wrong:
            raise EmbedderError(str(wrong)) from None

    def close(self) -> None:
        """Close the connections."""
        self._batches.close()
        self._queries.close()

    def _fill(
        self, vectors: Vectors, asked: Sequence[tuple[int, str]], agreed: "_Agreed", refused: dict[int, str]
    ) -> None:
        """Fill in the vectors of these rows. A batch that fails while the service works is halved, until the texts at
        fault are found; their reasons go into ``refused``."""
        rows, texts = zip(*asked, strict=True)
        for _ in range(ALONE if len(asked) == 1 else 1):
            try:
                vectors[list(rows)] = self._request_vectors(self._batches, texts, agreed)
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
            self._texts = min(self._texts, max(middle, 1))  # the texts were fine, there were only too many

    def _probe(self, agreed: "_Agreed", wrong: "_Wrong") -> None:
        """Raise ``ConfigError`` or ``EmbedderError`` unless the service works for a harmless text."""
        try:
            self._request_vectors(self._queries, [PROBE], agreed)
        except _Wrong:
            if wrong.final:
                raise ConfigError(f"embedder openai: {wrong}; see EMBEDDINGS_URL and EMBEDDINGS_MODEL") from None
            raise EmbedderError(str(wrong)) from None

    def _agree(self, http: Http) -> "_Agreed":
        """Find out, once, which dimensions the vectors have and whether they must be requested."""
        with self._lock:
            if self._agreed is not None:
                return self._agreed
        wanted = self._endpoint.dimensions
        try:
            own = len(self._request_vectors(http, [PROBE], None)[0])
        except _Wrong as wrong:
            if wrong.final:
                raise ConfigError(f"embedder openai: {wrong}; see EMBEDDINGS_URL and EMBEDDINGS_MODEL") from None
            raise EmbedderError(str(wrong)) from None
        agreed = _Agreed(own, is_requested=False)
        if wanted is not None and own != wanted:
            agreed = _Agreed(wanted, is_requested=True)
            try:
                self._request_vectors(http, [PROBE], agreed)
            except (_Wrong, ConfigError) as wrong:
                if isinstance(wrong, _Wrong) and not wrong.final:
                    raise EmbedderError(str(wrong)) from None
                raise ConfigError(
                    f"embedder openai: {self._endpoint.model} returns vectors of {own} dimensions, but "
                    f"EMBEDDINGS_DIMENSIONS is {wanted}"
                ) from None
        with self._lock:
            self._agreed = agreed
        return agreed

    def _request_vectors(self, http: Http, texts: Sequence[str], agreed: "_Agreed | None") -> Vectors:
        """Make a request. Raises ``_Wrong`` if the texts may be at fault, else ``EmbedderError`` or ``ConfigError``."""
        body: dict[str, Any] = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "base64"}
        if agreed is not None and agreed.is_requested:
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
            raise ConfigError("embedder openai: EMBEDDINGS_URL is not a valid URL") from None
        vectors = _read_vectors(answer, len(texts))
        if agreed is not None and vectors.shape[1] != agreed.dimensions:
            raise ConfigError(
                f"embedder openai: {self._endpoint.model} returns vectors of {vectors.shape[1]} dimensions now, before "
                f"they had {agreed.dimensions}; has the model changed? See EMBEDDINGS_MODEL and EMBEDDINGS_DIMENSIONS"
            )
        return vectors


@dataclass(frozen=True, slots=True)
class _Agreed:
    """The dimensions of the vectors; ``is_requested``: each request must ask for them."""

    dimensions: int
    is_requested: bool


class _Wrong(Exception):
    """A request failed, or its response is invalid. ``final``: the same request would fail again."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def _make_http(url: str, key: SecretStr | None, attempts: int, patience_s: float, total_s: float) -> Http:
    host = httpx.URL(url).host
    headers = {"Authorization": SecretStr(f"Bearer {key.get_secret_value()}")} if key is not None else {}
    return Http(
        url,
        context=Context(allowed_hosts=(host,)),
        headers=headers,
        attempts=attempts,
        patience_s=patience_s,
        timeout_s=min(TIMEOUT_S, total_s),
        total_s=total_s,
        max_bytes=MAX_BYTES,
    )


def _batch(texts: Sequence[str], most: int) -> Iterator[list[int]]:
    """Yield the rows of each request. Texts of similar length go together; blank texts are left out."""
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


def _read_vectors(answer: Any, expected: int) -> Vectors:
    """The vectors of a response, scaled to length 1, in the order of the texts. Raises ``_Wrong``."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != expected:
        count = len(data) if isinstance(data, list) else "no"
        raise _Wrong(f"the embedding service returned {count} vectors for {expected} texts", final=False)
    by_index: dict[int, Vectors] = {}
    for position, item in enumerate(data):
        index = item.get("index", position) if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < expected or index in by_index:
            raise _Wrong("the embedding service returned vectors whose indexes do not match the texts", final=False)
        by_index[index] = _read_vector(item.get("embedding"))
    lengths = {len(vector) for vector in by_index.values()}
    if len(lengths) != 1:
        raise _Wrong("the embedding service returned vectors of different lengths", final=False)
    vectors = np.stack([by_index[index] for index in range(expected)])
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise _Wrong("the embedding service returned NaN, infinite or all-zero vectors", final=False)
    unit: Vectors = (vectors / norms).astype(np.float32)
    return unit


def _read_vector(value: object) -> Vectors:
    try:
        if isinstance(value, str):
            vector = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        elif isinstance(value, list) and all(type(number) in (int, float) for number in value):
            vector = np.array(value, dtype=np.float32)
        else:
            raise ValueError
    except (ValueError, OverflowError, binascii.Error):
        raise _Wrong("the embedding service returned something that is not a vector", final=False) from None
    if not 0 < len(vector) <= 16_000 or not math.isfinite(float(np.abs(vector).max())):
        raise _Wrong("the embedding service returned NaN, infinite or all-zero vectors", final=False)
    return vector.astype(np.float32)
