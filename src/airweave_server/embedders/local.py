"""The offline embedder: averages of WordLlama's token vectors, read from its wheel. Uses no network."""

import re
import sys
import sysconfig
import threading
from collections.abc import Sequence
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

from airweave_server.sdk import ConfigError, Embedder, Vectors

WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
TENSOR = "embedding.weight"

CACHED_PIECES = 131_072  # when there are more, all are forgotten
CACHED_PIECE_CHARS = 48  # a longer piece hardly ever comes again
PLACES = 2 * CACHED_PIECES  # of the table that finds a piece by its hash; a power of two
SHIFT = np.uint64(65 - PLACES.bit_length())  # a hash shifted by it is a place in the table
AT_ONCE = 32_768  # pieces looked up and summed at once
SUMMED_TOKENS = 512  # distinct tokens of a text whose vectors are summed without allocating memory; few have more
MAX_CHARS = 200_000  # of a text; the rest is cut
TEXTS_PER_LOCK, CHARS_PER_LOCK = 32, 65_536  # so that a query waits milliseconds for a big batch

# No token of this vocabulary crosses the border of two pieces (a test checks that), so the tokens of a text are the
# tokens of its pieces. A piece is spaces followed by letters or by marks, or a digit, line end or tab.
UNSEEN, SPACE, LETTER, MARK, ALONE = range(5)  # kinds of characters
KINDS = {LETTER: re.compile(r"[^\W\d_²]"), SPACE: re.compile("[ ▁]"), ALONE: re.compile(r"[\d\n\t]")}
CODE_POINTS = sys.maxunicode + 1
BORDER = "\n"  # a piece by itself, and one token
SPECIAL = re.compile(r"(<unk>|<s>|</s>)")


class WordLlama(Embedder):
    """WordLlama's 256-dimensional vectors, the same as its own ``embed(norm=True)``, several times faster.

    Weights and tokenizer are read at the first use. ``folder``: the installed ``wordllama`` package, found on
    ``sys.path`` by default. Its tokens need no context, so the tokens of each piece of text are found once and cached.
    Pieces are cut and looked up for several texts at once in numpy, which lets other threads run meanwhile and starts
    none of its own (BLAS is not used: its threads would wait for cores that others use). The tokenizer gets only new
    pieces, as one text, so it starts no threads either, and a fork is safe without an environment variable.
    """

    name = "wordllama-256"
    dimensions = 256
    trust = 1.0  # words without their context say little more than the words themselves

    def __init__(self, *, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pieces: _Pieces | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Raises ``ConfigError`` if the weights are not installed."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        start = 0
        while start < len(texts):
            chars = accumulate(len(text) for text in texts[start : start + TEXTS_PER_LOCK])
            end = start + max(1, sum(1 for _ in takewhile(CHARS_PER_LOCK.__ge__, chars)))
            with self._lock:
                if self._pieces is None:
                    self._pieces = _Pieces(self._folder or _find_installed())
                self._pieces.add(texts[start:end], vectors[start:end])
            start = end
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors


class _Pieces:
    """A cache of the tokens of pieces of text, and their vectors. Not thread-safe.

    A piece is identified by a multilinear 64-bit hash (Carter and Wegman 1979). Its factors are random in each process,
    so nobody can construct a collision, and a collision by chance is negligible.
    """

    def __init__(self, folder: Path) -> None:
        for path in (folder / WEIGHTS, folder / TOKENIZER):
            if not path.is_file():
                raise ConfigError(f"wordllama: {path} is missing; install wordllama 0.4 again")
        whole = Tokenizer.from_file(str(folder / TOKENIZER))
        self._special = {token: whole.token_to_id(token) for token in ("<unk>", "<s>", "</s>")}
        self._tokenizer = Tokenizer(whole.model)  # without normalizer and special tokens: we handle both
        with safe_open(folder / WEIGHTS, framework="np") as file:
            self._weights: Vectors = file.get_tensor(TENSOR).astype(np.float32)  # adding 16-bit floats is slow
        (self._border,) = self._tokenize(BORDER)
        self._bits = np.int32((len(self._weights) - 1).bit_length())  # of a token's number
        self._rows = np.empty((SUMMED_TOKENS, self._weights.shape[1]), dtype=np.float32)  # used by each sum
        self._kinds = np.zeros(CODE_POINTS, dtype=np.uint8)
        self._factors = np.random.default_rng().integers(1, 2**64, CACHED_PIECE_CHARS, dtype=np.uint64)
        self._hashes = np.empty(PLACES, dtype=np.uint64)
        self._numbers = np.empty(PLACES, dtype=np.int32)  # of pieces, by place; -1 for an empty place
        self._ids = np.empty(PLACES, dtype=np.int32)  # the tokens of all pieces, concatenated
        self._ends = np.empty(CACHED_PIECES, dtype=np.int32)  # where the tokens of each piece end there, by its number
        self._reset()

    def _reset(self) -> None:
        self._numbers.fill(-1)
        self._known = 0
        self._put(np.zeros(1, dtype=np.uint64), [], [0])  # number 0 stands for no piece
        self._put(self._factors[:1] * np.uint64(ord(BORDER) + 1), [self._border], [1])

    def add(self, texts: Sequence[str], into: Vectors) -> None:
        """Add the vectors of all tokens of each text to its row. Their sum has the direction of their mean."""
        parts: list[str] = []
        owners: list[int] = []
        for owner, whole in enumerate(texts):
            text = whole[:MAX_CHARS]
            if not text.isascii():
                text = text.encode("utf-8", "replace").decode()  # lone surrogates
            for part in SPECIAL.split(text) if "<" in text else [text]:
                if part in self._special:
                    into[owner] += self._weights[self._special[part]]
                elif part:
                    parts.append(f"{BORDER} {part}")
                    owners.append(owner)
        if not parts:
            return
        joined = "".join(parts)
        letters, starts, lengths = self._cut(joined)
        borders = np.searchsorted(starts, np.cumsum([0, *map(len, parts[:-1])]))
        part_of = np.zeros(len(starts), dtype=np.int64)
        part_of[borders] = 1
        part_of = np.array(owners)[np.cumsum(part_of) - 1]
        lengths[borders] = 0  # we inserted them, they are not part of the text
        for piece in np.flatnonzero(lengths > CACHED_PIECE_CHARS):
            start = starts[piece]
            into[part_of[piece]] += self._vector(joined[start : start + lengths[piece]])
            lengths[piece] = 0
        hashes = self._hash(letters, starts)
        for start in range(0, len(starts), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            numbers = self._look_up(joined, hashes[some], starts[some], lengths[some])
            self._sum(numbers, part_of[some], into)

    def _cut(self, text: str) -> tuple[Any, Any, Any]:
        """Returns the code points of the text, and the starts and lengths of its pieces."""
        letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        kinds = self._kinds[letters]
        if not kinds.all():
            for letter in np.unique(letters[kinds == UNSEEN]):
                kind = next((kind for kind, pattern in KINDS.items() if pattern.match(chr(letter))), MARK)
                self._kinds[letter] = kind
            kinds = self._kinds[letters]
        before, after = kinds[:-1], kinds[1:]
        starts = np.flatnonzero((after == ALONE) | ((after != before) & (before != SPACE))) + 1
        starts = np.concatenate(([0], starts))
        return letters, starts, np.diff(starts, append=len(letters))

    def _hash(self, letters: Any, starts: Any) -> Any:
        places = np.arange(len(letters)) - np.repeat(starts, np.diff(starts, append=len(letters)))
        factors = self._factors.take(places, mode="clip")
        factors *= letters + 1  # + 1 so that a trailing NUL changes the hash
        return np.add.reduceat(factors, starts)

    def _look_up(self, text: str, hashes: Any, starts: Any, lengths: Any) -> Any:
        """The numbers of the pieces, 0 for those of length 0. New pieces are learned."""
        hashes = np.where(lengths > 0, hashes, 0)
        numbers = self._find(hashes)
        if (numbers < 0).any():
            if self._known + np.count_nonzero(numbers < 0) > CACHED_PIECES:
                self._reset()
                numbers = self._find(hashes)
            missing = np.flatnonzero(numbers < 0)
            new, first = np.unique(hashes[missing], return_index=True)
            self._learn(new, [text[starts[piece] : starts[piece] + lengths[piece]] for piece in missing[first]])
            numbers = self._find(hashes)
        return numbers

    def _find(self, hashes: Any) -> Any:
        """The numbers by hash, -1 for unknown hashes. A hash is at its place, or after it if others were there
        first."""
        places = (hashes >> SHIFT).astype(np.int64)
        numbers = self._numbers.take(places)
        other = np.flatnonzero((self._hashes.take(places) != hashes) & (numbers >= 0))
        while len(other):
            places[other] = (places[other] + 1) % PLACES
            numbers[other] = self._numbers[places[other]]
            other = other[(self._hashes[places[other]] != hashes[other]) & (numbers[other] >= 0)]
        return numbers

    def _learn(self, hashes: Any, pieces: Sequence[str]) -> None:
        """Tokenize these pieces in one call, and store them."""
        ids = np.array(self._tokenize(BORDER.join([*pieces, ""])))
        borders = np.flatnonzero(ids == self._border)
        self._put(hashes, np.delete(ids, borders), borders - np.arange(len(borders)))

    def _put(self, hashes: Any, ids: Any, ends: Any) -> None:
        used = int(self._ends[self._known - 1]) if self._known else 0
        if used + len(ids) > len(self._ids):
            self._ids = np.concatenate((self._ids, np.empty(len(self._ids) + len(ids), dtype=np.int32)))
        self._ids[used : used + len(ids)] = ids
        self._ends[self._known : self._known + len(ends)] = np.add(ends, used)
        for piece, place in zip(hashes, (hashes >> SHIFT).tolist(), strict=True):
            while self._numbers[place] >= 0:
                place = (place + 1) % PLACES
            self._hashes[place], self._numbers[place] = piece, self._known
            self._known += 1

    def _sum(self, numbers: Any, owners: Any, into: Vectors) -> None:
        """Add the vectors of the tokens of the pieces, each times its count."""
        ends = self._ends.take(numbers)
        starts = self._ends.take(numbers - 1, mode="wrap")
        starts[numbers == 0] = 0
        counts = ends - starts
        places = (ends - np.cumsum(counts, dtype=np.int32)).repeat(counts)
        places += np.arange(len(places), dtype=np.int32)
        both = (owners.astype(np.int32) << self._bits).repeat(counts)  # the owner and the token in one number
        both |= self._ids.take(places)
        both.sort()
        is_first = np.ones(len(both), dtype=np.bool_)
        np.not_equal(both[1:], both[:-1], out=is_first[1:])
        first = np.flatnonzero(is_first)
        times = np.diff(first, append=len(both)).astype(np.float32)
        both = both.take(first)
        bounds = np.searchsorted(both, np.arange(len(into) + 1, dtype=np.int32) << self._bits).tolist()
        ids = both & ((1 << self._bits) - 1)
        for owner, (start, end) in enumerate(pairwise(bounds)):
            rows = self._rows[: end - start] if end - start <= SUMMED_TOKENS else None
            rows = self._weights.take(ids[start:end], axis=0, out=rows, mode="clip")
            into[owner] += np.einsum("i,ij->j", times[start:end], rows)

    def _tokenize(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(piece.replace(" ", "▁"), add_special_tokens=False).ids
        return ids

    def _vector(self, piece: str) -> Vectors:
        distinct, counts = np.unique(self._tokenize(piece), return_counts=True)
        total: Vectors = np.einsum("i,ij->j", counts.astype(np.float32), self._weights[distinct])
        return total


def _find_installed() -> Path:
    for entry in [*sys.path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]:
        folder = Path(entry) / "wordllama"
        if (folder / WEIGHTS).is_file():
            return folder
    raise ConfigError("wordllama: its weights are not on sys.path; install wordllama 0.4, or choose another embedder")
