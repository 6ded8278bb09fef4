"""The offline embedder: averages of WordLlama's token vectors, straight from its wheel. Knows no network."""

import re
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

from airweave_server.sdk import ConfigError, Embedder, Vectors

WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
TENSOR = "embedding.weight"

CACHED_PIECES = 65_536  # 64 MB of vectors when full; then it is begun anew
CACHED_PIECE_CHARS = 48  # a longer one hardly comes twice
SLICE = 4_096  # distinct pieces summed at once
MANY_TOKENS = 1_000  # in one piece: then equal ones are counted before their vectors are gathered
MAX_CHARS = 200_000  # of a text; what follows does not count
TEXTS_PER_LOCK = 16  # how long a query may have to wait behind a big batch: some milliseconds

# No token of this vocabulary reaches over the border of two pieces (a test holds that), so the tokens of a text are
# the tokens of its pieces. A piece is spaces followed by letters or by punctuation, or a digit, line end or tab.
# Most pieces of any text are ASCII: the first two alternatives find these faster than the next two, which find all.
PIECE = re.compile(
    r" *+[a-zA-Z]++(?![^\x00-\x7f])| *+[^a-zA-Z0-9\n\t \x80-\U0010ffff]++(?![^\x00-\x7f])"
    r"|[ ▁]*+[^\W\d_²]++|[ ▁]*+(?:[^\w\n\t ▁]|[_²])++|[ ▁]++|[\d\n\t]"
)
PIECE_ASCII = re.compile(r" *+[a-zA-Z]++| *+[^a-zA-Z0-9\n\t ]++| ++|[0-9\n\t]")
BORDER = "\n"  # a piece by itself, and one token
SPECIAL = re.compile(r"(<unk>|<s>|</s>)")


class WordLlama(Embedder):
    """WordLlama's 256-dimensional vectors, the same as its own ``embed(norm=True)``, several times faster.

    Weights and tokenizer are read at the first use. ``folder`` is the installed ``wordllama`` package; found by itself.
    Its tokens need no context, so the vector of each piece of text is worked out once and kept. The tokenizer is asked
    for one piece at a time: it never starts threads of its own, and a fork is safe without an environment variable.
    """

    name = "wordllama-256"
    dimensions = 256

    def __init__(self, *, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pieces: _Pieces | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ``ConfigError`` when the weights are not installed."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_PER_LOCK):
            with self._lock:
                if self._pieces is None:
                    self._pieces = _Pieces(self._folder or _installed())
                for row in range(start, min(start + TEXTS_PER_LOCK, len(texts))):
                    self._pieces.add(texts[row], vectors[row])
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors


class _Pieces:
    """Vectors of pieces of text, remembered. Not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        for path in (folder / WEIGHTS, folder / TOKENIZER):
            if not path.is_file():
                raise ConfigError(f"wordllama: {path} is missing; install wordllama 0.4 again")
        whole = Tokenizer.from_file(str(folder / TOKENIZER))
        self._special = {token: whole.token_to_id(token) for token in ("<unk>", "<s>", "</s>")}
        self._tokenizer = Tokenizer(whole.model)  # neither normalizer nor special tokens: we do both
        with safe_open(folder / WEIGHTS, framework="np") as file:
            self._weights: Vectors = file.get_tensor(TENSOR).astype(np.float32)  # halves are slow to add
        (self._border,) = self._tokens(BORDER)
        self._vectors = np.empty((CACHED_PIECES, self._weights.shape[1]), dtype=np.float32)
        self._begin()

    def _begin(self) -> None:
        self._rows = {BORDER: 0}
        self._vectors[0] = self._weights[self._border]

    def add(self, text: str, into: Vectors) -> None:
        """Add the vectors of all tokens of the text. Their mean has the same direction."""
        text = text[:MAX_CHARS]
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # lone surrogates
        if "<" not in text:
            self._add_plain(text, into)
            return
        for part in SPECIAL.split(text):
            if part in self._special:
                into += self._weights[self._special[part]]
            else:
                self._add_plain(part, into)

    def _add_plain(self, text: str, into: Vectors) -> None:
        if not text:
            return
        pattern = PIECE_ASCII if text.isascii() else PIECE
        counts = Counter(pattern.findall(" " + text))
        if len(counts) <= SLICE:
            self._add_pieces(counts, into)
            return
        pieces = list(counts.items())
        for start in range(0, len(pieces), SLICE):
            self._add_pieces(dict(pieces[start : start + SLICE]), into)

    def _add_pieces(self, counts: dict[str, int], into: Vectors) -> None:
        rows: list[Any] = list(map(self._rows.get, counts))
        if None in rows:
            missing = [piece for piece, row in zip(counts, rows, strict=True) if row is None]
            for piece in [piece for piece in missing if len(piece) > CACHED_PIECE_CHARS]:
                into += counts.pop(piece) * self._vector(piece)
            self._learn([piece for piece in missing if piece in counts], counts)
            rows = [self._rows[piece] for piece in counts]
        into += np.fromiter(counts.values(), np.float32, len(counts)) @ self._vectors[rows]

    def _learn(self, missing: Sequence[str], all_now: Collection[str]) -> None:
        """Work out the vectors of these pieces, all at once."""
        if len(self._rows) + len(missing) > CACHED_PIECES:
            self._begin()
            missing = [piece for piece in all_now if piece != BORDER]
        if not missing:
            return
        known = len(self._rows)
        ids = np.array(self._tokens(BORDER.join(["", *missing])))
        is_border = ids == self._border
        vectors = self._weights[ids]
        vectors[is_border] = 0
        self._vectors[known : known + len(missing)] = np.add.reduceat(vectors, np.flatnonzero(is_border) + 1)
        self._rows.update(zip(missing, range(known, known + len(missing)), strict=True))

    def _tokens(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(piece.replace(" ", "▁"), add_special_tokens=False).ids
        return ids

    def _vector(self, piece: str) -> Vectors:
        ids = self._tokens(piece)
        if len(ids) < MANY_TOKENS:
            total: Vectors = self._weights[ids].sum(axis=0)
            return total
        distinct, counts = np.unique(ids, return_counts=True)
        return counts.astype(np.float32) @ self._weights[distinct]


def _installed() -> Path:
    for entry in [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]:
        folder = Path(entry) / "wordllama"
        if (folder / WEIGHTS).is_file():
            return folder
    raise ConfigError(
        "wordllama: its weights are nowhere on sys.path; install wordllama 0.4, or choose another embedder"
    )
