"""The words that the best hits of a query have in common, to search once more with them (pseudo-relevance feedback).
Knows neither HTTP nor SQL.

The weights of the words are those of a relevance model (Lavrenko and Croft 2001), interpolated with the query as in RM3
(Abdul-Jaleel and others 2004).
"""

import re
from collections import Counter, defaultdict
from dataclasses import replace

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Term
from ..text.identifiers import is_telling
from . import passages, terms
from .hybrid import Ranking

HITS = 5  # the first of them are learned from
LEAST_HITS = 3  # of these must hold a word
COUNTED = 60  # words whose frequency is counted
WORDS = 20  # of these are searched for
SHARE = 0.5  # what the first of them counts, beside a word of the query that is as rare
TOO_FREQUENT = 0.25  # of all chunks: a word that is in more of them tells nothing
SATURATION = 1.0

_LETTERS = re.compile(r"[^\W\d_]{3,}")


def learn(collection: Collection, ranked: Ranking) -> list[Term]:
    """The words of the first hits that are not in the query, weighed; empty if there are too few hits."""
    question = ranked.question
    first = [place for place in ranked.places[:HITS] if place.measured is not None]
    if len(first) < LEAST_HITS or question.strategy == "semantic":
        return []
    read = sql.read_candidates(question.session, question.seen, [(place.entity_row, place.ordinal) for place in first])
    session = question.session
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
    for place, count in zip(first, counts, strict=True):
        held: Counter[str] = Counter()
        for word, times in count.items():
            for stem in stems[word][:1]:
                held[stem] += times
                shown.setdefault(stem, word)
        for stem, times in held.items():
            worth[stem] += max(place.rank, 0.0) * times / (times + SATURATION)
            holders[stem] += 1
    known = {stem for term in question.asked.known for stem in term.stems}
    found = [stem for stem, hits in holders.items() if hits >= LEAST_HITS and stem not in known]
    found = sorted(found, key=lambda stem: -worth[stem])[:COUNTED]
    if not found:
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
