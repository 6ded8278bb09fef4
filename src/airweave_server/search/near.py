"""The nearest words that a collection has to one that it has not: typing errors, transliterations, and compounds that
end with it. Knows neither HTTP nor SQL."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Scope, Term
from ..text.normal import unaccented

MOST_WORDS = 4  # of a query that are looked for nearby
SHORTEST = 4  # letters; what is near a shorter word may be anything
LONG = 8  # letters from which a word may differ in two places
SHORTEST_STEM, LONGEST_ENDING = 6, 4  # letters
SHORTEST_PART = 5  # letters of the last part of a compound
SHARE = 0.7  # what a near word counts, beside the word itself
PREFIX = 3

_UMLAUTS = re.compile("([aou])e")


def nearest(session: Session, collection: Collection, whole: Scope, absent: Sequence[Term], chunks: int) -> list[Term]:
    """For each absent word that has one, the nearest word of the collection as a term of its own, with ``instead_of``
    as the word that was asked for. ``chunks``: the size of the collection."""
    asked = [term for term in absent if term.word.isalpha() and len(term.word) >= SHORTEST and not term.exact]
    found = []
    for term in asked[:MOST_WORDS]:
        stem = unaccented(term.stem or term.word)
        prefixes = {stem[:PREFIX], stem[: max(PREFIX, len(stem) * 2 // 3)]}
        words = sql.words_like(session, collection, whole, chunks, sorted(prefixes), stem[-PREFIX:], len(stem))
        if near := _pick(stem, words) or _pick_beginning(unaccented(term.word), words):
            found.append(replace(term, stem=near, idents=(), folded=(), word=near, instead_of=term.word))
    return found


def _pick(stem: str, words: Iterable[tuple[str, int]]) -> str | None:
    """The nearest of these (word, frequency) pairs, of several the most frequent; None if none is near."""
    most = 2 if len(stem) >= LONG else 1
    spelled_out = _UMLAUTS.sub(r"\1", stem)
    best: tuple[int, int, str] | None = None
    for word, frequency in words:
        plain = unaccented(word)
        distance = most + 1
        if plain == spelled_out:
            distance = 0
        elif abs(len(plain) - len(stem)) <= most and len(set(plain) ^ set(stem)) <= 2 * most:
            distance = edits(stem, plain)
        if distance > most and len(spelled_out) >= SHORTEST_PART and plain.endswith((stem, spelled_out)):
            distance = most  # a compound
        if distance <= most and (best is None or (distance, -frequency, word) < best):
            best = (distance, -frequency, word)
    return best[2] if best else None


def _pick_beginning(word: str, words: Iterable[tuple[str, int]]) -> str | None:
    """The nearest of these stems to a beginning of the word: an error in its ending may have hidden its stem."""
    best: tuple[int, str] | None = None
    for stem, frequency in words:
        plain = unaccented(stem)
        if len(plain) < SHORTEST_STEM or len(word) - len(plain) > LONGEST_ENDING:
            continue
        near = any(edits(word[:length], plain) <= 1 for length in range(len(plain) - 1, len(plain) + 2))
        if near and (best is None or (-frequency, stem) < best):
            best = (-frequency, stem)
    return best[1] if best else None


def edits(one: str, other: str) -> int:
    """How many letters to insert, delete, replace or exchange with their neighbour (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
