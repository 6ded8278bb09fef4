"""A closer look at the text of a hit: which words of the query stand where, how near to each other, and which passage
shows it best. Knows neither HTTP nor SQL."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..db.search import Term
from ..sdk import Embedder, Vectors
from ..text.identifiers import is_telling
from ..text.normal import search_form, unaccented

NEAR_CHARS = 30  # words with no more between them are near: about four words
PASSAGE_CHARS = 320  # of the passage that is shown
LEAST_VERBATIM = 3  # words in their order that are a phrase
LEAST_PREFIX = 3  # of a stem, with which its inflections begin
WORDS_KEPT = 50_000  # whose stems are remembered
VECTORS_KEPT = 20_000  # vectors of words that are remembered
ALIKE = 0.5  # the cosine of two words that mean about the same, by static word vectors
MAX_WANTED = 32  # words of a query that are compared with those of a text
K1, B = 1.2, 0.75

_LETTERS = re.compile(r"[^\W\d_]{3,}")


class Span(NamedTuple):
    """A word of the query in a text. ``term``: its index among the terms, -1 if it only means about the same."""

    start: int
    end: int
    term: int


class _Flat(dict[int, str]):
    """Each character in the form in which words are compared: small, without diacritics or invisible ones."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = flat = unaccented(search_form(char)).lower() if not "\u0300" <= char <= "\u036f" else ""
        return flat


class _Known(dict[str, bool]):
    """For each character whether it satisfies the condition, which is found out once."""

    def __init__(self, condition: Callable[[str], bool]) -> None:
        self._condition = condition

    def __missing__(self, char: str) -> bool:
        self[char] = known = self._condition(char)
        return known


_FLAT = _Flat()
# the small sigma depends on its place in the word
_IS_LOWER = _Known(lambda char: char != "\u03a3" and _FLAT[ord(char)] == char.lower() and len(char.lower()) == 1)
_IS_ONE = _Known(lambda char: len(_FLAT[ord(char)]) == 1)
ToLexemes = Callable[[Sequence[str]], list[list[str]]]


def flatten(text: str) -> str:
    if text.isascii() or all(map(_IS_LOWER.__getitem__, set(text))):
        return text.lower()
    return text.translate(_FLAT)


@dataclass(frozen=True)
class Seeker:
    """Finds the words of a query in texts, in all their inflections. ``asked``: the query. ``to_lexemes``: the stems of
    words in the language of the collection; those that it has returned are kept in ``known``."""

    asked: str
    terms: Sequence[Term]
    to_lexemes: ToLexemes
    known: dict[str, frozenset[str]]

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The words of the query in each text, with places in its flat form."""
        if self._pattern is None:
            return [[] for _ in texts]
        matches = [[(m[0], m) for m in self._pattern.finditer(text)] for text in texts]
        self._learn({word for found in matches for word, _ in found})
        term_of = self._term_of
        return [[Span(*m.span(), term) for word, m in found if (term := term_of[word]) >= 0] for found in matches]

    @cached_property
    def order(self) -> list[int]:
        """The terms in the order in which they are asked for."""
        return [span.term for span in self.find([flatten(self.asked)])[0]]

    @cached_property
    def verbatim(self) -> re.Pattern[str] | None:
        """What the query looks like word by word; None if it is too short to be a phrase."""
        words = re.findall(r"\w+", flatten(self.asked))
        if len(words) < LEAST_VERBATIM:
            return None
        return re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, words)) + r"(?!\w)")

    @cached_property
    def _term_of(self) -> dict[str, int]:
        return {}

    @cached_property
    def _stems(self) -> dict[str, int]:
        return {stem: n for n, term in reversed(list(enumerate(self.terms))) for stem in term.stems}

    @cached_property
    def _idents(self) -> dict[str, int]:
        return {flatten(ident): n for n, term in enumerate(self.terms) for ident in term.idents}

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        prefixes = {flatten(stem)[: max(LEAST_PREFIX, len(stem) - 2)] for stem in self._stems}
        literal = sorted((ident for ident in self._idents if not ident.isalpha()), key=len, reverse=True)
        unspaced = [ident for ident in self._idents if ident.isalpha() and not ident.isascii()]
        parts = [rf"(?<!\w){re.escape(ident)}(?!\w)" for ident in literal]
        parts += [re.escape(ident) for ident in unspaced]
        if prefixes:
            parts.append(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(prefixes)))})\w*")
        return re.compile("|".join(parts)) if parts else None

    def _learn(self, words: Iterable[str]) -> None:
        unknown = [word for word in words if word not in self._term_of]
        stems = {word: self.known.get(word) for word in unknown if word not in self._idents}
        if unread := [word for word, found in stems.items() if found is None]:
            read = dict(zip(unread, map(frozenset, self.to_lexemes(unread)), strict=True))
            stems |= read
            if len(self.known) > WORDS_KEPT:
                self.known.clear()
            self.known.update(read)
        for word in unknown:
            term = self._idents.get(word)
            if term is None:
                term = next((self._stems[stem] for stem in stems[word] or () if stem in self._stems), -1)
            self._term_of[word] = term


def proximity(spans: Sequence[Span], order: Sequence[int], terms: Sequence[Term], length: float) -> float:
    """How near words stand that are asked for one after the other, in the unit of the terms' weights: BM25 with each
    such pair as a term, as in the sequential dependence model (Metzler and Croft 2005). ``length``: of the text, in
    mean lengths."""
    places: dict[int, list[Span]] = {}
    for span in spans:
        places.setdefault(span.term, []).append(span)
    score = 0.0
    for one, other in dict.fromkeys(pairwise(order)):
        if one == other or one not in places or other not in places:
            continue
        if count := _count_near(places[one], places[other]):
            score += min(terms[one].idf, terms[other].idf) * count * (K1 + 1) / (count + K1 * (1 - B + B * length))
    return score


def _count_near(spans: Sequence[Span], others: Sequence[Span]) -> int:
    """How many of the spans have one of the others near. Both are in the order of the text."""
    count = after = 0
    for start, end, _ in spans:
        while after < len(others) and others[after].start < start:
            after += 1
        count += (after < len(others) and others[after].start - end <= NEAR_CHARS) or (
            after > 0 and start - others[after - 1].end <= NEAR_CHARS
        )
    return count


def find_alike(asked: str, texts: Sequence[str], vectors: "WordVectors") -> list[list[Span]]:
    """For each flat text, its words that mean about the same as one of the query, for texts that hold none of its
    words. The spans have no term."""
    wanted = [word for word in _LETTERS.findall(flatten(asked)) if is_telling(word)][:MAX_WANTED]
    held = [set(_LETTERS.findall(flat)) for flat in texts]
    words = list(filter(is_telling, set().union(*held)))
    if not words or not wanted:
        return [[] for _ in texts]
    close = (vectors.of(words) @ vectors.of(wanted).T).max(axis=1)
    alike = {word for word, closeness in zip(words, close, strict=True) if closeness >= ALIKE}
    return [
        [Span(*match.span(), -1) for match in _LETTERS.finditer(flat) if match[0] in alike]
        if not alike.isdisjoint(own)
        else []
        for flat, own in zip(texts, held, strict=True)
    ]


class WordVectors:
    """The vectors of single words by an embedder; those of the last words asked for are remembered, in half precision,
    512 bytes each for 256 dimensions. May be used by several threads at once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float16]] = {}

    def of(self, words: Sequence[str]) -> Vectors:
        """One row for each word."""
        known = self._known if len(self._known) < VECTORS_KEPT else {}
        if unknown := [word for word in words if word not in known]:
            halves = self._embedder.embed(unknown).astype(np.float16)
            self._known = known = {**known, **dict(zip(unknown, halves, strict=True))}
        return np.stack([known[word] for word in words]).astype(np.float32)


def best_passage(flat: str, spans: Sequence[Span], terms: Sequence[Term]) -> tuple[int, int]:
    """Where the passage is that shows most of the query: the most weight of different words within
    ``PASSAGE_CHARS``. Begins and ends between words, at a sentence if there is one near."""
    best, start = (-1.0, 0), 0
    for first, span in enumerate(spans):
        weights: dict[int, float] = {}
        repeated = 0
        for other in spans[first:]:
            if other.end - span.start > PASSAGE_CHARS * 3 // 4:
                break
            repeated += other.term in weights
            weights[other.term] = 1.0 if other.term < 0 else terms[other.term].weight + terms[other.term].bonus
        worth = sum(weights.values()) + repeated * 0.01
        if worth > best[0]:
            best, start = (worth, span.start), span.start
    return fit_passage(flat, start)


def fit_passage(flat: str, start: int) -> tuple[int, int]:
    """The bounds of a passage around ``start``."""
    if len(flat) <= PASSAGE_CHARS:
        return 0, len(flat)
    lead = flat[max(0, start - PASSAGE_CHARS // 4) : start]
    cut = max((lead.rfind(mark) + len(mark) for mark in ("\n", ". ", "? ", "! ") if mark in lead), default=-1)
    if cut < 0:
        cut = lead.find(" ") + 1 if start > PASSAGE_CHARS // 4 else 0
    begin = start - len(lead) + cut
    begin = max(0, min(begin, len(flat) - PASSAGE_CHARS))
    end = min(len(flat), begin + PASSAGE_CHARS)
    if end < len(flat) and (space := flat.rfind(" ", begin + PASSAGE_CHARS // 2, end)) > 0:
        end = space
    return begin, end


def places_in(text: str, flat: str) -> Sequence[int]:
    """For each place in the flat form, and its end, the place in the text."""
    if text.isascii() or (len(text) == len(flat) and all(map(_IS_ONE.__getitem__, set(text)))):
        return range(len(text) + 1)
    places: list[int] = []
    for place, char in enumerate(text):
        places += [place] * len(_FLAT[ord(char)])
    return [*places, len(text)]
