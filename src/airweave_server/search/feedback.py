"""What the best hits of a query have in common: words, and a direction for its vector, to search once more with them
(pseudo-relevance feedback). Knows neither HTTP nor SQL.

The weights of the words are those of a relevance model (Lavrenko and Croft 2001), interpolated with the query as in RM3
(Abdul-Jaleel and others 2004); the vector moves as Rocchio's does.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Passage, Term
from ..sdk import Vectors
from ..text.identifiers import is_telling
from . import passages, terms
from .hybrid import Ranking

HITS = 8  # the first of them are learned from
LEAST_HITS = 3  # of these must hold a word
COUNTED = 60  # words whose frequency is counted
WORDS = 20  # of these are searched for
SHARE = 0.5  # what the first of them counts, beside a word of the query that is as rare
MOVED = 0.5  # how far the vector moves toward the mean of the hits
TOO_FREQUENT = 0.25  # of all chunks: a word that is in more of them tells nothing
SATURATION = 1.0

_LETTERS = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Feedback:
    """Words with their weights, and the vector of the query, moved; None if it has none."""

    also: Sequence[Term]
    vector: Vectors | None


def learn(collection: Collection, ranked: Ranking) -> Feedback:
    """Read the first hits. No words are found if there are too few hits."""
    question = ranked.question
    first = [place for place in ranked.places[:HITS] if place.measured is not None]
    if not first:
        return Feedback((), question.measure.vector)
    read = sql.read_candidates(question.session, question.seen, [(place.entity_row, place.ordinal) for place in first])
    return Feedback(_find_words(collection, ranked, read), _move(question.measure.vector, read))


def _move(asked: Vectors | None, read: Sequence[Passage]) -> Vectors | None:
    near = [one.vector for one in read if one.vector is not None]
    if asked is None or not near:
        return asked
    moved = asked + MOVED * np.mean(near, axis=0)
    length = np.linalg.norm(moved)
    return asked if not length else (moved / length).astype(np.float32)


def _find_words(collection: Collection, ranked: Ranking, read: Sequence[Passage]) -> list[Term]:
    session = ranked.question.session
    counts = [
        Counter(word for word in _LETTERS.findall(passages.flatten(f"{one.heading}\n{one.text}")) if is_telling(word))
        for one in read
    ]
    forms = sorted({word for count in counts for word in count})
    if not forms:
        return []
    stems = dict(zip(forms, sql.to_lexemes(session, collection, forms), strict=True))
    worth: dict[str, float] = defaultdict(float)
    holders: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for place, count in zip(ranked.places, counts, strict=False):
        held: Counter[str] = Counter()
        for word, times in count.items():
            for stem in stems[word][:1]:
                held[stem] += times
                shown.setdefault(stem, word)
        for stem, times in held.items():
            worth[stem] += max(place.rank, 0.0) * times / (times + SATURATION)
            holders[stem] += 1
    known = {stem for term in ranked.question.asked.known for stem in term.stems}
    found = [stem for stem, hits in holders.items() if hits >= min(LEAST_HITS, len(read)) and stem not in known]
    found = sorted(found, key=lambda stem: -worth[stem])[:COUNTED]
    if not found or len(read) < LEAST_HITS:
        return []
    asked = [Term(stem, (), word=shown[stem]) for stem in found]
    chunks = ranked.size.chunks
    counted = sql.count_occurrences(session, collection, ranked.whole, asked, chunks, at_most=terms.COUNTED)
    weighed = [
        (worth[stem] * terms.idf(frequency, chunks), replace(term, frequency=frequency, is_counted=is_counted))
        for stem, term, (frequency, is_counted) in zip(found, asked, counted, strict=True)
        if 0 < frequency <= max(TOO_FREQUENT * chunks, LEAST_HITS)
    ]
    weighed.sort(key=lambda pair: -pair[0])
    most = weighed[0][0] if weighed else 1.0
    also = []
    for weight, term in weighed[:WORDS]:
        idf = terms.idf(term.frequency, chunks) * SHARE * weight / most
        also.append(replace(term, idf=idf, weight=idf))
    return also
