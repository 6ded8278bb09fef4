"""The classic tier: a plan is carried out, and what its searches find becomes one ranking. Knows neither HTTP nor SQL.

The query is searched for as it is, and again with what its best hits have in common (``feedback``). Each other phrasing
of the plan is a search of its own. What fits the plan's filter comes earlier; nothing is left out for it. A query that
asks for an identifier or for words in quotation marks is taken at its word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..db.models import Collection
from ..sdk import Embedder, Vectors
from . import feedback, hybrid, ranking
from .hybrid import DEEPEST, Found, Query, Ranking
from .planning import Plan, join_filters
from .ranking import Place

FUSED = 100  # places of each ranking that are fused; what comes later is in the order of the query as it is
LOOKED_AT = 60  # candidates whose text is read
BASE, AGAIN, PHRASING = 1.0, 1.0, 0.5  # weights of the query as it is, with feedback, and of another phrasing
PREFERRED = 1.0  # what counts that fits the plan's filter, where all the words of the query count 1


@dataclass(frozen=True, slots=True)
class Carried:
    """What a plan has found. ``is_filter_met``: something fits its filter."""

    found: Found
    is_filter_met: bool


Rank = Callable[..., Ranking]


def search(
    rank: Rank,
    collection: Collection,
    plan: Plan,
    vectors: Sequence[Vectors | None],
    query: Query,
    words: Embedder,
) -> Carried:
    """Carry out the plan. ``rank``: ``hybrid.rank`` in one snapshot, which takes a vector and a query. ``vectors``:
    those of the phrasings."""
    end = min(query.offset + query.limit, DEEPEST)
    depth = max(end, FUSED)
    base = rank(vectors[0], query, end=depth, looked_at=LOOKED_AT)
    rankings = [(BASE, base)]
    if not _is_precise(base):
        if base.places:
            learned = feedback.learn(collection, base)
            again = rank(learned.vector, query, end=FUSED, looked_at=LOOKED_AT, also=learned.also)
            rankings.append((AGAIN, again))
        for text, vector in zip(plan.phrasings[1:], vectors[1:], strict=True):
            rankings.append((PHRASING, rank(vector, replace(query, text=text), end=FUSED)))
    preferred = None
    if plan.filter:
        narrowed = replace(query, filter=join_filters(query.filter, plan.filter))
        preferred = rank(vectors[0], narrowed, end=FUSED)
    fused = _fuse(rankings, preferred)
    scores = _level(rankings if preferred is None else [*rankings, (0.0, preferred)], fused)
    places = list(fused)
    if len(fused) < end:
        met = {_key(base, place) for place in fused}
        for place, score in zip(base.places, ranking.scores(base.question, base.places), strict=True):
            if _key(base, place) not in met:
                places.append(place)
                scores.append(min(score, scores[-1]))
    found = hybrid.show(base, places[:end], scores[:end], query, words)
    return Carried(found, is_filter_met=bool(preferred and preferred.places))


def _is_precise(base: Ranking) -> bool:
    """Whether the query is taken at its word: it asks for an identifier that there is, or for words as they are."""
    return base.question.is_quoted or any(term.exact for term in base.question.asked.known)


def _key(base: Ranking, place: Place) -> int | tuple[int, int]:
    return ranking.key_of(base.question, place.entity_row, place.ordinal)


def _fuse(rankings: Sequence[tuple[float, Ranking]], preferred: Ranking | None) -> list[Place]:
    """The first places of all rankings in one order, by the weighted mean of their ranks. In a ranking that a place is
    not in, it counts as much as the last one that is."""
    base = rankings[0][1]
    total = sum(weight for weight, _ in rankings)
    places: dict[int | tuple[int, int], Place] = {}
    ranks: list[tuple[float, dict[int | tuple[int, int], float], float]] = []
    for weight, one in [*rankings, *([(0.0, preferred)] if preferred is not None else [])]:
        first = [place for place in one.places[:FUSED] if place.measured is not None]
        for place in first:
            places.setdefault(_key(base, place), place)
        if weight:
            ranked = {_key(base, place): place.rank for place in first}
            ranks.append((weight / total, ranked, min(ranked.values(), default=0.0)))
    fits = {_key(base, place) for place in preferred.places[:FUSED]} if preferred is not None else set()
    fused = [
        (place, sum(weight * of.get(key, least) for weight, of, least in ranks) + PREFERRED * (key in fits))
        for key, place in places.items()
    ]
    return [place for place, _ in sorted(fused, key=lambda pair: (-pair[1], pair[0].entity_row, pair[0].ordinal))]


def _level(rankings: Sequence[tuple[float, Ranking]], places: Sequence[Place]) -> list[float]:
    """The scores of the places: the most that a ranking gives each, or one that comes after it."""
    base = rankings[0][1]
    own: dict[int | tuple[int, int], float] = {}
    for _, one in rankings:
        for place, score in zip(one.places, ranking.scores(one.question, one.places), strict=True):
            key = _key(base, place)
            own[key] = max(score, own.get(key, 0.0))
    scores = [own.get(_key(base, place), 0.0) for place in places]
    for n in range(len(scores) - 2, -1, -1):
        scores[n] = max(scores[n], scores[n + 1])
    return scores
