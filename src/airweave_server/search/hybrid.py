"""One query over one collection: vectors and words, fused by rank. Knows neither HTTP nor SQL.

Three things decide the order. First, how many of the identifiers of the query (``ERR_1234``, ``steps.py``) a chunk
holds. Then the reciprocal ranks in the list of the words (BM25) and in that of the vectors. Last, the place in the
ledger, so that the order is total: pages neither repeat nor lose a hit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Candidate, Scope, Size, Term
from ..errors import BadInput
from ..identifiers import exact_terms, query_terms
from ..sdk import Embedder, Vectors
from .filters import FilterGroup, clean, lowered

# To be judged on more collections; on Cranfield 2:1 was best.
KEYWORD_WEIGHT = 2.0
SEMANTIC_WEIGHT = 1.0
RRF_K = 60

MAX_LIMIT = 1_000
MAX_QUERY_CHARS = 10_000  # what follows is not looked at
MAX_COUNTED_TERMS = 200  # of a query; of these the rarest are asked for
MAX_TERMS = 32
SCORED = 1_000  # chunks that are ranked by BM25
NEAREST = 1_000  # chunks in the list of the vectors
POSTINGS = 10_000  # occurrences that are gone through to choose the chunks to rank, rarest terms first
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


@dataclass(frozen=True, slots=True)
class _Question:
    """What a query asks the database. No terms, or no vector, ask nothing on that side."""

    terms: list[Term]
    gate: list[Term]
    vector: Vectors | None
    mean_length: float


@dataclass(frozen=True, slots=True)
class _Place:
    """A passage and why it stands where it stands."""

    entity_row: int
    ordinal: int
    score: float


def search(session: Session, collection: Collection, embedder: Embedder, query: Query) -> list[Hit]:
    """The hits of one page. The session is a snapshot: all of them are of one moment of the collection."""
    asked = clean(query.text[:MAX_QUERY_CHARS])
    vector = _vector(embedder, asked) if query.strategy != "keyword" else None
    whole = sql.scope(session, collection, ())
    seen = sql.scope(session, collection, lowered(query.filter)) if query.filter else whole
    question = _question(session, whole, asked if query.strategy != "semantic" else "", vector)
    found, more = _first(session, seen, question, group=query.group == "entity")
    end = min(query.offset + query.limit, DEEPEST)
    if more and end > len(found):
        found += _rest(session, seen, question, found, group=query.group == "entity", end=end)
    page = found[query.offset : end]
    rows = sql.passages(session, [(place.entity_row, place.ordinal) for place in page]) if page else []
    return [Hit(**row, score=page[place].score) for place, row in rows]


def _vector(embedder: Embedder, text: str) -> Vectors | None:
    vector: Vectors = embedder.embed([text])[0]
    return vector if vector.any() else None


def _question(session: Session, whole: Scope, text: str, vector: Vectors | None) -> _Question:
    terms = _terms(session, text)
    if not terms:
        return _Question([], [], vector, 1.0)
    size = sql.size(session, whole)
    counts = sql.frequencies(session, whole, terms, at_most=POSTINGS)
    known = [
        replace(term, frequency=count, idf=_idf(count, size))
        for term, count in zip(terms, counts, strict=True)
        if count
    ]
    known.sort(key=lambda term: (not term.exact, term.frequency))
    known = known[:MAX_TERMS]
    gate, postings = [], 0
    for term in known:
        if term.exact or postings < POSTINGS:
            gate.append(term)
            postings += term.frequency
    return _Question(known, gate, vector, size.mean_length)


def _terms(session: Session, text: str) -> list[Term]:
    """What to look for. A plain word is one term with its stem; identifiers that stemming changes stand for themselves.

    A hyphenated word of letters (boundary-layer) is language, not an identifier: its parts are looked for, once.
    """
    words = [word for word in query_terms(text) if word.isalpha() or not word.replace("-", "").isalpha()]
    words = words[:MAX_COUNTED_TERMS]
    exact = set(exact_terms(text))
    stems, *each = sql.lexemes(session, [text, *words])
    by_stem: dict[str, Term] = {}
    others = []
    for word, found in zip(words, each, strict=True):
        if found == [word] or (len(found) == 1 and word.isalnum() and word not in exact):
            known = by_stem.get(found[0], Term(found[0], ()))
            by_stem[found[0]] = replace(known, idents=(*known.idents, word), exact=known.exact or word in exact)
        else:
            others.append(Term(None, (word,), exact=word in exact))
    plain = [Term(stem, ()) for stem in stems if stem not in by_stem]
    return [*by_stem.values(), *others, *plain][:MAX_COUNTED_TERMS]


def _idf(frequency: int, size: Size) -> float:
    return math.log(1 + (max(size.chunks - frequency, 0) + 0.5) / (frequency + 0.5))


def _first(session: Session, seen: Scope, question: _Question, *, group: bool) -> tuple[list[_Place], bool]:
    """The best places, and whether there may be more behind them."""
    lists: list[tuple[float, Sequence[Candidate]]] = []
    more = False
    if question.terms:
        matching = _matching(session, seen, question)
        more |= len(matching) == SCORED
        lists.append((KEYWORD_WEIGHT, matching))
    if question.vector is not None:
        nearest = sql.nearest(session, seen, question.vector, limit=NEAREST)
        more |= len(nearest) == NEAREST
        lists.append((SEMANTIC_WEIGHT, nearest))
    return _fused(lists, exact=sum(term.exact for term in question.terms), group=group), more


def _matching(session: Session, seen: Scope, question: _Question) -> list[Candidate]:
    terms = question.terms
    found = sql.matching(session, seen, question.gate, terms, mean_length=question.mean_length, budget=SCORED)
    if len(found) < SCORED and len(question.gate) < len(terms):
        found = sql.matching(session, seen, terms, terms, mean_length=question.mean_length, budget=SCORED)
    return found


def _fused(lists: Sequence[tuple[float, Sequence[Candidate]]], *, exact: int, group: bool) -> list[_Place]:
    """The places by exact terms held, then by the sum of the reciprocal ranks.

    With ``group`` an entity ranks in each list as its best chunk there, and the chunk shown is its best in all.
    """
    scores: dict[tuple[int, int], float] = {}
    held: dict[tuple[int, int], int] = {}
    groups: dict[tuple[int, int], float] = {}
    for weight, candidates in lists:
        met = set()
        for rank, one in enumerate(candidates, start=1):
            chunk = (one.entity_row, one.ordinal)
            scores[chunk] = scores.get(chunk, 0.0) + weight / (RRF_K + rank)
            held[chunk] = max(held.get(chunk, 0), one.exact)
            key = (one.entity_row, -1) if group else chunk
            if key not in met:
                met.add(key)
                groups[key] = groups.get(key, 0.0) + weight / (RRF_K + len(met))
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for chunk in sorted(scores, key=lambda chunk: (-held[chunk], -scores[chunk], chunk)):
        best.setdefault((chunk[0], -1) if group else chunk, chunk)
    top = sum(weight for weight, _ in lists) / (RRF_K + 1)
    places = [_Place(*chunk, score=(held[chunk] + groups[key] / top) / (exact + 1)) for key, chunk in best.items()]
    return sorted(places, key=lambda place: (-place.score, place.entity_row, place.ordinal))


def _rest(
    session: Session, seen: Scope, question: _Question, first: Sequence[_Place], *, group: bool, end: int
) -> list[_Place]:
    """What follows the best places, for those who page that far: the other chunks with a term, then by distance."""
    keys: list[tuple[int, int]] = []
    if question.terms:
        keys += sql.matching_deep(
            session, seen, question.terms, mean_length=question.mean_length, group=group, limit=end
        )
    if question.vector is not None:
        keys += sql.nearest_deep(session, seen, question.vector, group=group, limit=end)
    met = {place.entity_row if group else (place.entity_row, place.ordinal) for place in first}
    last = first[-1].score if first else 1.0
    rest: list[_Place] = []
    for row, ordinal in keys:
        key = row if group else (row, ordinal)
        if key not in met:
            met.add(key)
            rest.append(_Place(row, ordinal, score=last * RRF_K / (RRF_K + 1 + len(rest))))
    return rest
