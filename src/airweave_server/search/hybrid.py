"""One query over one collection: vectors and words, fused by rank. Knows neither HTTP nor SQL.

Three things decide the order. First, how many of the identifiers of the query (``ERR_1234``, ``steps.py``) a chunk
holds. Then the reciprocal ranks in the list of the words (BM25) and in that of the vectors. Last, the place in the
ledger, so that the order is total: pages neither repeat nor lose a hit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Candidate, Gate, Scope, Size, Term
from ..errors import BadInput
from ..sdk import Embedder, Vectors
from ..text.identifiers import exact_terms, query_terms
from ..wire import FilterGroup
from .filters import clean, lower

# To be judged on more collections; on Cranfield 2:1 was best.
KEYWORD_WEIGHT = 2.0
SEMANTIC_WEIGHT = 1.0
RRF_K = 60

MAX_LIMIT = 1_000
MAX_QUERY_CHARS = 10_000  # what follows is not looked at
MAX_COUNTED_TERMS = 200  # of a query; of these the rarest are asked for
MAX_TERMS = 32
POSTINGS = 400  # occurrences of the rarest terms, each of which alone lets a chunk be ranked
COMBINED = 4  # terms of which chunks hold several, where the rarest alone do not find enough
FEW_RANKED = 2_000  # chunks that a filter leaves, of which all with any of the terms are ranked
# What a filter leaves is compared one by one where that costs less than to find it among its neighbours: 10 of these
# for each chunk of the way, which is the longer the less the filter leaves.
COMPARED_PER_STEP = 10
DEEPEST = 50_000  # place in the order of a collection behind which there are no pages


@dataclass(frozen=True, slots=True)
class Query:
    """Raises ``BadInput`` where limit or offset are out of range."""

    text: str
    strategy: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    filter: Sequence[FilterGroup] = ()
    limit: int = 100
    offset: int = 0
    group: Literal["entity", "chunk"] = "entity"

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadInput(f"limit must be between 1 and {MAX_LIMIT:,}", field="body.limit")
        if self.offset < 0:
            raise BadInput("offset must not be negative", field="body.offset")


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that answers, and the entity it is of. ``score`` is in (0, 1] and falls from hit to hit."""

    entity_id: str
    name: str
    type: str
    source_name: str
    connection_id: UUID
    job_id: UUID
    ordinal: int
    heading: str
    text: str
    score: float
    breadcrumbs: list[dict[str, str]]
    created_at: datetime | None
    updated_at: datetime | None
    web_url: str | None
    url: str | None
    fields: dict[str, Any]

    @property
    def chunk_id(self) -> str:
        return f"{self.entity_id}__chunk_{self.ordinal}"


Answer = Callable[[], Sequence[Candidate]]  # waits for it
Beside = Callable[[Session, Callable[[Session], Sequence[Candidate]]], Answer]


@dataclass(frozen=True, slots=True)
class _Depth:
    """How far the lists go that are fused. Of the words: chunks that are enough to be ranked, the most of each gate,
    and the best that are in the list; of the vectors, the nearest."""

    wanted: int
    budget: int
    best: int
    nearest: int


# The order of the first places is decided by the shallow lists, whatever the page, so that pages fit together. Those
# who page further get what the deeper lists have besides, and in the end everything there is.
DEPTHS = (
    _Depth(wanted=100, budget=400, best=300, nearest=300),
    _Depth(wanted=300, budget=700, best=700, nearest=1_000),
    _Depth(wanted=1_000, budget=2_000, best=2_000, nearest=1_000),
)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a query asks the database. No terms, or no vector, ask nothing on that side. ``near`` begins to look for the
    nearest at a depth, the first time that it is asked to."""

    terms: list[Term]
    gates: list[Gate]
    vector: Vectors | None
    near: Callable[[_Depth], Answer] | None
    mean_bytes: float


class _Place(NamedTuple):
    """A passage and why it stands where it stands."""

    entity_row: int
    ordinal: int
    score: float


def embedded(embedder: Embedder, query: Query) -> Vectors | None:
    """The vector of what is asked, None for one that is near nothing. Raises as the embedder does, and may take its
    time: no transaction is to wait for it."""
    vector = embedder.embed_query(clean(query.text[:MAX_QUERY_CHARS]))
    return vector if vector.any() else None


def search(session: Session, collection: Collection, vector: Vectors | None, query: Query, beside: Beside) -> list[Hit]:
    """The hits of one page; ``vector`` is the query's, None for a query by words alone. The session is a snapshot: all
    of them are of one moment of the collection. ``beside`` is ``Database.read_concurrently``, for the two halves of a
    query."""
    asked = clean(query.text[:MAX_QUERY_CHARS])
    whole, size = sql.whole(session, collection)
    few = max(FEW_RANKED, math.isqrt(COMPARED_PER_STEP * DEPTHS[0].nearest * size.chunks)) if size.has_index else 0
    seen = sql.narrowed(session, collection, whole, lower(query.filter), few=few) if query.filter else whole
    near = None
    if vector is not None:
        near = _nearest(session, seen, vector, size, beside if query.strategy == "hybrid" else None)
        near(DEPTHS[0])
    terms = _known(session, collection, whole, asked, size.chunks) if query.strategy != "semantic" else []
    gates = [sql.any_of(terms)] if terms and _all_ranked(seen) else _gates(terms)
    question = _Question(terms, gates, vector, near, size.mean_bytes)
    found = _found(session, seen, question, group=query.group == "entity", end=min(query.offset + query.limit, DEEPEST))
    page = found[query.offset : min(query.offset + query.limit, DEEPEST)]
    rows = sql.passages(session, [(place.entity_row, place.ordinal) for place in page]) if page else []
    return [Hit(**row, score=page[place].score) for place, row in rows]


def _all_ranked(seen: Scope) -> bool:
    return seen.about is not None and seen.about <= FEW_RANKED


def _known(session: Session, collection: Collection, whole: Scope, text: str, chunks: int) -> list[Term]:
    """The terms to look for that occur in the collection, identifiers first, then the rarest first."""
    terms = _terms(session, collection, text)
    if not terms:
        return []
    counts = sql.frequencies(session, collection, whole, terms, at_most=POSTINGS)
    known = [
        replace(term, frequency=count, idf=_idf(count, chunks))
        for term, count in zip(terms, counts, strict=True)
        if count
    ]
    known.sort(key=lambda term: (not term.exact, term.frequency))
    return known[:MAX_TERMS]


def _gates(terms: Sequence[Term]) -> list[Gate]:
    """What chunks must hold to be ranked, the most telling first; the last is any of the terms.

    That is one of the rarest; where these find too few, several of the others at once. An identifier that is frequent
    goes together with any of the others first.
    """
    rare, postings = [], 0
    for term in terms:
        postings += 0 if term.exact else term.frequency
        if term.frequency < POSTINGS if term.exact else postings < POSTINGS:
            rare.append(term)
    gates = [sql.any_of(rare)] if rare else []
    if len(rare) == len(terms):
        return gates  # none where there are no terms
    for term in terms:
        if term.exact and term not in rare:
            others = sql.any_of(_rarest([other for other in terms if other is not term], term.frequency))
            if others.ts is not None:
                gates.append(Gate(others.ts, sql.any_of([term]).ident, both=True))
            gates.append(replace(sql.any_of([term]), ts=None))
    combined = terms[:COMBINED]
    most = len(combined)
    for count in sorted({most, (most + 2) // 2, 2} - {1}, reverse=True):
        if count <= most and (gate := sql.some_of(combined, count)) is not None:
            gates.append(gate)
    return [*gates, sql.any_of(terms)]


def _rarest(terms: Sequence[Term], postings: int) -> Sequence[Term]:
    """Of terms, the rarest first: so many that together they occur about so often, but one at least."""
    taken, total = 1, sum(term.frequency for term in terms[:1])
    while taken < len(terms) and total < postings:
        total += terms[taken].frequency
        taken += 1
    return terms[:taken]


def _terms(session: Session, collection: Collection, text: str) -> list[Term]:
    """What to look for. A plain word is one term with its stem; identifiers that stemming changes stand for themselves.

    A hyphenated word of letters (boundary-layer) is language, not an identifier: its parts are looked for, once.
    """
    words = [word for word in query_terms(text) if word.isalpha() or not word.replace("-", "").isalpha()]
    words = words[:MAX_COUNTED_TERMS]
    exact = set(exact_terms(text))
    stems, *each = sql.lexemes(session, collection, [text, *words])
    by_stem: dict[str, Term] = {}
    others = []
    for word, found in zip(words, each, strict=True):
        if found == [word] or (len(found) == 1 and word.isalnum() and word not in exact):
            known = by_stem.get(found[0], Term(found[0], ()))
            by_stem[found[0]] = replace(known, idents=(*known.idents, word), exact=known.exact or word in exact)
        elif found or word in exact or not word.isalpha() or not word.isascii() or not stems:
            others.append(Term(None, (word,), exact=word in exact))
    plain = [Term(stem, ()) for stem in stems if stem not in by_stem]
    return [*by_stem.values(), *others, *plain][:MAX_COUNTED_TERMS]


def _idf(frequency: int, chunks: int) -> float:
    return math.log(1 + (max(chunks - frequency, 0) + 0.5) / (frequency + 0.5))


def _found(session: Session, seen: Scope, question: _Question, *, group: bool, end: int) -> list[_Place]:
    """The places up to ``end``, and those that came with them."""
    found: list[_Place] = []
    for depth in DEPTHS:
        places, is_all = _at_depth(session, seen, question, depth, group=group)
        found = _after(found, [(one.entity_row, one.ordinal) for one in places], group=group) if found else places
        if is_all or len(found) >= end:
            return found
    return _after(found, _everything(session, seen, question, group=group, end=end), group=group)


def _at_depth(
    session: Session, seen: Scope, question: _Question, depth: _Depth, *, group: bool
) -> tuple[list[_Place], bool]:
    """The best places, and whether they are all there are."""
    lists: list[tuple[float, Sequence[Candidate]]] = []
    is_all = True
    if question.terms:
        matching, is_all = sql.matching(
            session,
            seen,
            question.gates,
            question.terms,
            mean_bytes=question.mean_bytes,
            wanted=depth.wanted,
            budget=max(depth.budget, FEW_RANKED + 1) if _all_ranked(seen) else depth.budget,
            limit=depth.best,
        )
        lists.append((KEYWORD_WEIGHT, matching))
    if question.near is not None:
        candidates = question.near(depth)()
        is_all &= len(candidates) < depth.nearest
        lists.append((SEMANTIC_WEIGHT, candidates))
    return _fused(lists, exact=sum(term.exact for term in question.terms), group=group), is_all


def _nearest(
    session: Session, seen: Scope, vector: Vectors, size: Size, beside: Beside | None
) -> Callable[[_Depth], Answer]:
    """Where words are asked for too (``beside``), the nearest are looked for meanwhile."""

    @cache
    def near(depth: _Depth) -> Answer:
        def read(on: Session) -> Sequence[Candidate]:
            return sql.nearest(
                on,
                seen,
                vector,
                limit=depth.nearest,
                by_index=size.has_index and seen.about is None,
                chunks=size.chunks,
                is_alone=on is not session,
            )

        return beside(session, read) if beside else lambda: read(session)

    return near


def _fused(lists: Sequence[tuple[float, Sequence[Candidate]]], *, exact: int, group: bool) -> list[_Place]:
    """The places by exact terms held, then by the sum of the reciprocal ranks.

    With ``group`` an entity ranks in each list as its best chunk there, and the chunk shown is its best in all.
    """
    scores: dict[tuple[int, int], float] = {}
    held: dict[tuple[int, int], int] = {}
    groups: dict[int | tuple[int, int], float] = {}
    for weight, candidates in lists:
        met = set()
        for rank, (row, ordinal, _, exactly) in enumerate(candidates, start=RRF_K + 1):
            chunk = (row, ordinal)
            scores[chunk] = scores.get(chunk, 0.0) + weight / rank
            if exactly:
                held[chunk] = exactly
            key = row if group else chunk
            if key not in met:
                met.add(key)
                groups[key] = groups.get(key, 0.0) + weight / (RRF_K + len(met))
    top = sum(weight for weight, _ in lists) / (RRF_K + 1)
    best = {}
    for less_held, _, row, ordinal in sorted((-held.get(chunk, 0), -scores[chunk], *chunk) for chunk in scores):
        key = row if group else (row, ordinal)
        if key not in best:
            best[key] = (-(groups[key] / top - less_held) / (exact + 1), row, ordinal)
    return [_Place(row, ordinal, -less) for less, row, ordinal in sorted(best.values())]


def _everything(session: Session, seen: Scope, question: _Question, *, group: bool, end: int) -> list[tuple[int, int]]:
    """All chunks with a term, and then all by distance."""
    keys: list[tuple[int, int]] = []
    if question.terms:
        keys += sql.matching_deep(session, seen, question.terms, mean_bytes=question.mean_bytes, group=group, limit=end)
    if question.vector is not None:
        keys += sql.nearest_deep(session, seen, question.vector, group=group, limit=end)
    return keys


def _after(found: Sequence[_Place], keys: Sequence[tuple[int, int]], *, group: bool) -> list[_Place]:
    """What was found, and behind it those of ``keys`` that are new."""
    met = {place.entity_row if group else (place.entity_row, place.ordinal) for place in found}
    last = found[-1].score if found else 1.0
    rest: list[_Place] = []
    for row, ordinal in keys:
        key = row if group else (row, ordinal)
        if key not in met:
            met.add(key)
            rest.append(_Place(row, ordinal, score=last * RRF_K / (RRF_K + 1 + len(rest))))
    return [*found, *rest]
