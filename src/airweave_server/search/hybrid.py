"""One query over one collection: vectors and words, fused by rank. Knows neither HTTP nor SQL.

Three things decide the order of the hits. First, how many identifiers of the query (``ERR_1234``, ``steps.py``) a chunk
contains. Second, the sum of its reciprocal ranks by words (BM25) and by vectors. Third, its position in the ledger,
which makes the order total: pages neither repeat nor lose a hit.
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

# On Cranfield 2:1 was best; other collections have yet to be measured.
KEYWORD_WEIGHT = 2.0
SEMANTIC_WEIGHT = 1.0
RRF_K = 60

MAX_LIMIT = 1_000
MAX_QUERY_CHARS = 10_000  # the rest of a query is ignored
MAX_COUNTED_TERMS = 200  # terms of a query whose frequency is counted
MAX_TERMS = 32  # of these, the rarest are searched for
POSTINGS = 400  # a chunk with any of the rarest terms is ranked, as long as they occur no more often than this
COMBINED = 4  # if the rarest terms find too few chunks, those with several of this many terms are ranked too
FEW_RANKED = 2_000  # if a filter leaves no more chunks than this, all of them with any term are ranked
# Chunks that a filter leaves are compared one by one if that costs less than finding them through the vector index.
# One step in the index costs as much as comparing this many; the fewer chunks the filter leaves, the more steps.
COMPARED_PER_STEP = 10
DEEPEST = 50_000  # pages end at this position


@dataclass(frozen=True, slots=True)
class Query:
    """A search request. Raises ``BadInput`` if limit or offset is out of range."""

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
    """A matching passage and its entity. ``score`` is in (0, 1] and does not increase from hit to hit."""

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


Answer = Callable[[], Sequence[Candidate]]  # a call waits for the result
ReadConcurrently = Callable[[Session, Callable[[Session], Sequence[Candidate]]], Answer]


@dataclass(frozen=True, slots=True)
class _Depth:
    """How long the fused lists are. For words: ``wanted`` chunks suffice, each gate passes at most ``budget``, and the
    list holds the ``best``. For vectors: the list holds the ``nearest``."""

    wanted: int
    budget: int
    best: int
    nearest: int


# The shallow lists decide the order of the first hits on every page, so that pages fit together. Later pages add what
# the deeper lists find, and finally everything there is.
DEPTHS = (
    _Depth(wanted=100, budget=400, best=300, nearest=300),
    _Depth(wanted=300, budget=700, best=700, nearest=1_000),
    _Depth(wanted=1_000, budget=2_000, best=2_000, nearest=1_000),
)


@dataclass(frozen=True, slots=True)
class _Question:
    """A query in the terms of the database. Without terms, or without a vector, that side is not searched. ``near``
    starts the search for the nearest vectors at a depth, at its first call for that depth."""

    terms: list[Term]
    gates: list[Gate]
    vector: Vectors | None
    near: Callable[[_Depth], Answer] | None
    mean_bytes: float


class _Place(NamedTuple):
    """A passage and its score."""

    entity_row: int
    ordinal: int
    score: float


def embed_query(embedder: Embedder, query: Query) -> Vectors | None:
    """The vector of the query, or None if it is near nothing. Raises what the embedder raises. May take long, so do not
    call it within a transaction."""
    vector = embedder.embed_query(clean(query.text[:MAX_QUERY_CHARS]))
    return vector if vector.any() else None


def search(
    session: Session, collection: Collection, vector: Vectors | None, query: Query, read_concurrently: ReadConcurrently
) -> list[Hit]:
    """The hits of one page. ``vector`` is that of the query; None to search by words alone. The session is a snapshot,
    so all hits are of one moment. ``read_concurrently`` is that of ``Database``, for the two halves of a query."""
    asked = clean(query.text[:MAX_QUERY_CHARS])
    whole, size = sql.whole(session, collection)
    few = max(FEW_RANKED, math.isqrt(COMPARED_PER_STEP * DEPTHS[0].nearest * size.chunks)) if size.has_index else 0
    seen = sql.narrow(session, collection, whole, lower(query.filter), few=few) if query.filter else whole
    near = None
    if vector is not None:
        near = _start_nearest(session, seen, vector, size, read_concurrently if query.strategy == "hybrid" else None)
        near(DEPTHS[0])
    terms = _known_terms(session, collection, whole, asked, size.chunks) if query.strategy != "semantic" else []
    gates = [sql.any_of(terms)] if terms and _is_all_ranked(seen) else _make_gates(terms)
    question = _Question(terms, gates, vector, near, size.mean_bytes)
    found = _collect_places(
        session, seen, question, group=query.group == "entity", end=min(query.offset + query.limit, DEEPEST)
    )
    page = found[query.offset : min(query.offset + query.limit, DEEPEST)]
    rows = sql.read_passages(session, [(place.entity_row, place.ordinal) for place in page]) if page else []
    return [Hit(**row, score=page[place].score) for place, row in rows]


def _is_all_ranked(seen: Scope) -> bool:
    return seen.about is not None and seen.about <= FEW_RANKED


def _known_terms(session: Session, collection: Collection, whole: Scope, text: str, chunks: int) -> list[Term]:
    """The terms of the query that occur in the collection: identifiers first, then the rarest first."""
    terms = _read_terms(session, collection, text)
    if not terms:
        return []
    counts = sql.count_occurrences(session, collection, whole, terms, at_most=POSTINGS)
    known = [
        replace(term, frequency=count, idf=_idf(count, chunks))
        for term, count in zip(terms, counts, strict=True)
        if count
    ]
    known.sort(key=lambda term: (not term.exact, term.frequency))
    return known[:MAX_TERMS]


def _make_gates(terms: Sequence[Term]) -> list[Gate]:
    """The conditions that let a chunk be ranked, the most selective first.

    First, any of the rarest terms. If these find too few chunks, several of the other terms at once, and last, any
    term. A frequent identifier counts first together with another term, then alone.
    """
    rare, postings = [], 0
    for term in terms:
        postings += 0 if term.exact else term.frequency
        if term.frequency < POSTINGS if term.exact else postings < POSTINGS:
            rare.append(term)
    gates = [sql.any_of(rare)] if rare else []
    if len(rare) == len(terms):
        return gates  # empty if there are no terms
    for term in terms:
        if term.exact and term not in rare:
            others = sql.any_of(_take_rarest([other for other in terms if other is not term], term.frequency))
            if others.ts is not None:
                gates.append(Gate(others.ts, sql.any_of([term]).ident, both=True))
            gates.append(replace(sql.any_of([term]), ts=None))
    combined = terms[:COMBINED]
    most = len(combined)
    for count in sorted({most, (most + 2) // 2, 2} - {1}, reverse=True):
        if count <= most and (gate := sql.some_of(combined, count)) is not None:
            gates.append(gate)
    return [*gates, sql.any_of(terms)]


def _take_rarest(terms: Sequence[Term], postings: int) -> Sequence[Term]:
    """The first terms (the rarest come first) that together occur about ``postings`` times; at least one."""
    taken, total = 1, sum(term.frequency for term in terms[:1])
    while taken < len(terms) and total < postings:
        total += terms[taken].frequency
        taken += 1
    return terms[:taken]


def _read_terms(session: Session, collection: Collection, text: str) -> list[Term]:
    """The terms of a query. A plain word and its stem are one term; an identifier that stemming changes is its own
    term.

    A hyphenated word of letters (boundary-layer) is language, not an identifier: only its parts are terms.
    """
    words = [word for word in query_terms(text) if word.isalpha() or not word.replace("-", "").isalpha()]
    words = words[:MAX_COUNTED_TERMS]
    exact = set(exact_terms(text))
    stems, *each = sql.to_lexemes(session, collection, [text, *words])
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


def _collect_places(session: Session, seen: Scope, question: _Question, *, group: bool, end: int) -> list[_Place]:
    """The places up to position ``end``, and perhaps more."""
    found: list[_Place] = []
    for depth in DEPTHS:
        places, is_all = _places_at_depth(session, seen, question, depth, group=group)
        found = _append_new(found, [(one.entity_row, one.ordinal) for one in places], group=group) if found else places
        if is_all or len(found) >= end:
            return found
    return _append_new(found, _list_everything(session, seen, question, group=group, end=end), group=group)


def _places_at_depth(
    session: Session, seen: Scope, question: _Question, depth: _Depth, *, group: bool
) -> tuple[list[_Place], bool]:
    """The best places at this depth, and whether they are all there are."""
    lists: list[tuple[float, Sequence[Candidate]]] = []
    is_all = True
    if question.terms:
        matching, is_all = sql.find_matching(
            session,
            seen,
            question.gates,
            question.terms,
            mean_bytes=question.mean_bytes,
            wanted=depth.wanted,
            budget=max(depth.budget, FEW_RANKED + 1) if _is_all_ranked(seen) else depth.budget,
            limit=depth.best,
        )
        lists.append((KEYWORD_WEIGHT, matching))
    if question.near is not None:
        candidates = question.near(depth)()
        is_all &= len(candidates) < depth.nearest
        lists.append((SEMANTIC_WEIGHT, candidates))
    return _fuse(lists, exact=sum(term.exact for term in question.terms), group=group), is_all


def _start_nearest(
    session: Session, seen: Scope, vector: Vectors, size: Size, read_concurrently: ReadConcurrently | None
) -> Callable[[_Depth], Answer]:
    """A function that starts the search for the nearest vectors, concurrently if words are searched too
    (``read_concurrently``)."""

    @cache
    def near(depth: _Depth) -> Answer:
        def read(on: Session) -> Sequence[Candidate]:
            return sql.find_nearest(
                on,
                seen,
                vector,
                limit=depth.nearest,
                by_index=size.has_index and seen.about is None,
                chunks=size.chunks,
                is_alone=on is not session,
            )

        return read_concurrently(session, read) if read_concurrently else lambda: read(session)

    return near


def _fuse(lists: Sequence[tuple[float, Sequence[Candidate]]], *, exact: int, group: bool) -> list[_Place]:
    """Order places by the number of exact terms they contain, then by the sum of their reciprocal ranks.

    With ``group``, an entity ranks in each list by its best chunk there, and is shown with its best chunk overall.
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


def _list_everything(
    session: Session, seen: Scope, question: _Question, *, group: bool, end: int
) -> list[tuple[int, int]]:
    """All chunks with a term, followed by all chunks by distance."""
    keys: list[tuple[int, int]] = []
    if question.terms:
        keys += sql.list_matching(session, seen, question.terms, mean_bytes=question.mean_bytes, group=group, limit=end)
    if question.vector is not None:
        keys += sql.list_nearest(session, seen, question.vector, group=group, limit=end)
    return keys


def _append_new(found: Sequence[_Place], keys: Sequence[tuple[int, int]], *, group: bool) -> list[_Place]:
    """The places found, followed by those of ``keys`` that are new."""
    met = {place.entity_row if group else (place.entity_row, place.ordinal) for place in found}
    last = found[-1].score if found else 1.0
    rest: list[_Place] = []
    for row, ordinal in keys:
        key = row if group else (row, ordinal)
        if key not in met:
            met.add(key)
            rest.append(_Place(row, ordinal, score=last * RRF_K / (RRF_K + 1 + len(rest))))
    return [*found, *rest]
