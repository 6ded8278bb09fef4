"""The classic tier: a plan is carried out, and what its searches find becomes one ranking. Knows neither HTTP nor SQL.

The query is searched for as it is, and its first hits stay first. Which come next, searches decide that find more: one
with the words that the best hits have in common (``feedback``), and one for each other phrasing of the plan. What fits
the plan's filter comes earlier; nothing is left out for it. A query that asks for an identifier or for words in
quotation marks is taken at its word.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..db.models import Collection
from ..db.search import Term
from ..sdk import Embedder, Vectors
from . import feedback, hybrid, ranking
from .hybrid import DEEPEST, Found, Query, Ranking
from .planning import Plan, join_filters
from .ranking import Place

FUSED = 100  # places of each ranking that are fused; what comes later is in the order of the query as it is
LOOKED_AT = 60  # candidates whose text is read
BASE, AGAIN, PHRASING = 0.25, 0.75, 0.25  # weights of the query as it is, with feedback, and of another phrasing
KEPT, SURE = 3, 0.5  # the first places of the query as it is stay first, if their score is at least this
PREFERRED = 1.0  # what counts that fits the plan's filter, where all the words of the query count 1


@dataclass(frozen=True, slots=True)
class Carried:
    """What a plan has found. ``also``: the words of its best hits that were searched for as well. ``is_filter_met``:
    something fits its filter."""

    found: Found
    also: Sequence[str]
    is_filter_met: bool


Rank = Callable[..., Ranking]
Key: TypeAlias = int | tuple[int, int]


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
    others: list[tuple[float, Ranking]] = []
    also: list[Term] = []
    if not _is_precise(base):
        also = feedback.learn(collection, base)
        if also:
            others.append((AGAIN, rank(vectors[0], query, end=FUSED, looked_at=LOOKED_AT, also=also)))
        for text, vector in zip(plan.phrasings[1:], vectors[1:], strict=True):
            others.append((PHRASING, rank(vector, replace(query, text=text), end=FUSED)))
    preferred = None
    if plan.filter:
        narrowed = replace(query, filter=join_filters(query.filter, plan.filter))
        preferred = rank(vectors[0], narrowed, end=FUSED)
    rankings = [(BASE, base), *others]
    fused = _fuse(rankings, preferred)
    scores = _level([*(one for _, one in rankings), *([preferred] if preferred is not None else [])], fused)
    places = list(fused)
    if len(fused) < end:
        met = {_key(base, place) for place in fused}
        for place, score in zip(base.places, ranking.scores(base.question, base.places), strict=True):
            if _key(base, place) not in met:
                places.append(place)
                scores.append(min(score, scores[-1] if scores else score))
    found = hybrid.show(base, places[:end], scores[:end], query, words)
    return Carried(found, tuple(term.word for term in also), is_filter_met=bool(preferred and preferred.places))


def _is_precise(base: Ranking) -> bool:
    """Whether the query is taken at its word: it asks for an identifier that there is, or for words as they are."""
    return base.question.is_quoted or any(term.exact for term in base.question.asked.known)


def _key(base: Ranking, place: Place) -> Key:
    return ranking.key_of(base.question, place.entity_row, place.ordinal)


def _fuse(rankings: Sequence[tuple[float, Ranking]], preferred: Ranking | None) -> list[Place]:
    """The first places of all rankings in one order: the first of the query as it is, then all others by the weighted
    mean of their ranks. In a ranking that a place is not in, it counts as much as the last one that is."""
    base = rankings[0][1]
    places: dict[Key, Place] = {}
    ranks: list[tuple[float, dict[Key, float], float]] = []
    for weight, one in [*rankings, *([(0.0, preferred)] if preferred is not None else [])]:
        first = [place for place in one.places[:FUSED] if place.measured is not None]
        for place in first:
            places.setdefault(_key(base, place), place)
        if weight:
            ranked = {_key(base, place): place.rank for place in first}
            ranks.append((weight, ranked, min(ranked.values(), default=0.0)))
    total = sum(weight for weight, _, _ in ranks)
    mean = {key: sum(weight * of.get(key, least) for weight, of, least in ranks) / total for key in places}
    kept = [_key(base, place) for place in _find_sure(base)]
    rest = sorted(places.keys() - set(kept), key=lambda key: (-mean[key], places[key].entity_row, places[key].ordinal))
    order = [*kept, *rest]
    values = _raise_to_later([mean[key] for key in order])
    fits = {_key(base, place) for place in preferred.places[:FUSED]} if preferred is not None else set()
    counted = {key: value + PREFERRED * (key in fits) for key, value in zip(order, values, strict=True)}
    return [places[key] for key in sorted(order, key=lambda key: -counted[key])]  # stable


def _find_sure(base: Ranking) -> list[Place]:
    """The first places of the query as it is, as far as they are likely to be right."""
    first = [place for place in base.places[:KEPT] if place.measured is not None]
    scores = ranking.scores(base.question, first)
    return [place for place, score in zip(first, scores, strict=True) if score >= SURE]


def _level(rankings: Sequence[Ranking], places: Sequence[Place]) -> list[float]:
    """The scores of the places: the most that a ranking gives each, or one that comes after it."""
    base = rankings[0]
    own: dict[Key, float] = {}
    for one in rankings:
        for place, score in zip(one.places, ranking.scores(one.question, one.places), strict=True):
            key = _key(base, place)
            own[key] = max(score, own.get(key, 0.0))
    return _raise_to_later([own.get(_key(base, place), 0.0) for place in places])


def _raise_to_later(values: list[float]) -> list[float]:
    """The values, none below a later one."""
    raised = list(values)
    for n in range(len(raised) - 2, -1, -1):
        raised[n] = max(raised[n], raised[n + 1])
    return raised
