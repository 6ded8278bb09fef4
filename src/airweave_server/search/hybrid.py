"""One query over one collection: words and vectors, ranked by one measure. Knows neither HTTP nor SQL.

Words and vectors each propose candidates, and each candidate is ranked by both: by how much of the query it covers
(BM25), by how close its vector is, and by the identifiers it holds, the rarer the more. The first of them are then read
(``passages``): words that stand together as asked count more, and what is close to the best hits comes closer. The
position in the ledger makes the order total: pages neither repeat nor lose a hit.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Candidate, Condition, Gate, Measure, Phrase, Scope, Size, Term
from ..errors import BadInput
from ..sdk import Embedder, Vectors
from ..text.normal import calm, search_form
from ..wire import FilterGroup
from . import passages, ranking, terms
from .filters import clean, lower
from .passages import Seeker
from .ranking import Answer, Place, Question
from .terms import Terms

MAX_LIMIT = 1_000
MAX_QUERY_CHARS = 10_000  # the rest of a query is ignored
RARE = 400  # all chunks that hold one of the rarest terms are ranked, as long as there are no more of them than this
COMBINED = 4  # if the rarest terms find too few chunks, those with several of this many terms are ranked too
LONG_PHRASE = 5  # words of a query that is looked for as it is though it has but one telling word
FEW_RANKED = 2_000  # if a filter leaves no more chunks than this, all of them with any term are ranked
RANKED_BYTES = 4_000_000  # of a collection: in one with less text, all chunks with any term are ranked
# Chunks that a filter leaves are compared one by one if that costs less than finding them through the vector index.
# One step in the index costs as much as comparing this many; the fewer chunks the filter leaves, the more steps.
COMPARED_PER_STEP = 10
DEEPEST = 50_000  # pages end at this position


@dataclass(frozen=True, slots=True)
class Query:
    """A search request. Raises ``BadInput`` if limit or offset is out of range."""

    text: str
    strategy: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    filter: Sequence[FilterGroup | Sequence[Condition]] = ()
    limit: int = 100
    offset: int = 0
    group: Literal["entity", "chunk"] = "entity"

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise BadInput(f"limit must be between 1 and {MAX_LIMIT:,}", field="body.limit")
        if self.offset < 0:
            raise BadInput("offset must not be negative", field="body.offset")


@dataclass(frozen=True, slots=True)
class Why:
    """What a hit was ranked by. ``rank``: the sum of what its words, its meaning and its identifiers count; None for a
    hit so deep that it was only listed. ``coverage`` to ``verbatim``: see ``Candidate``. ``found`` and ``lacking``: the
    words of the query that its text holds and does not hold."""

    rank: float | None
    coverage: float
    closeness: float
    identifiers: float
    verbatim: bool
    found: Sequence[str]
    lacking: Sequence[str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A matching chunk and its entity. ``score`` is in (0, 1] and does not increase from hit to hit. ``passage``: the
    part of the text that shows best why, from and to. ``highlights``: the words of the query in the text, from and
    to."""

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
    passage: tuple[int, int]
    highlights: Sequence[tuple[int, int]]
    why: Why

    @property
    def chunk_id(self) -> str:
        return f"{self.entity_id}__chunk_{self.ordinal}"


ReadConcurrently = Callable[[Session, Callable[[Session], Sequence[Candidate]]], Answer]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of hits. ``nothing_relevant``: no hit, of any page, is likely to be what was asked for.
    ``did_you_mean``: the query with words of the collection near those that it does not have; None if it has all of
    them, or none that is near."""

    hits: Sequence[Hit]
    nothing_relevant: bool
    did_you_mean: str | None


@dataclass(frozen=True, slots=True)
class _Depth:
    """How many candidates there are. For words: ``wanted`` chunks suffice, each gate passes at most ``budget``, and the
    ``best`` remain. For vectors: the ``nearest``."""

    wanted: int
    budget: int
    best: int
    nearest: int


# The shallow lists decide the order of the first hits on every page, so that pages fit together. Later pages add what
# the deeper lists find, and finally everything there is.
DEPTHS = (
    _Depth(wanted=100, budget=200, best=150, nearest=150),
    _Depth(wanted=300, budget=600, best=500, nearest=300),
    _Depth(wanted=1_000, budget=2_000, best=2_000, nearest=1_000),
)
WORDS_ALONE = (_Depth(wanted=300, budget=600, best=400, nearest=0), DEPTHS[-1])


def embed_query(embedder: Embedder, query: Query) -> Vectors | None:
    """The vector of the query, or None if it is near nothing. Raises what the embedder raises. May take long, so do not
    call it within a transaction."""
    vector = embedder.embed_query(calm(search_form(clean(query.text[:MAX_QUERY_CHARS]))))
    return vector if vector.any() else None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The places of a query up to a position, and perhaps more, best first. ``whole``: all chunks of the collection,
    and ``size``, how many they are."""

    text: str
    question: Question
    places: Sequence[Place]
    whole: Scope
    size: Size


def search(
    session: Session,
    collection: Collection,
    vector: Vectors | None,
    query: Query,
    read_concurrently: ReadConcurrently,
    *,
    trust: float,
    words: Embedder,
) -> Found:
    """The hits of one page. ``vector`` is that of the query; None to search by words alone. ``trust``: that of its
    embedder. ``words``: an embedder of single words, for hits that hold no word of the query. The session is a
    snapshot, so all hits are of one moment. ``read_concurrently`` is that of ``Database``, for the two halves of a
    query."""
    end = min(query.offset + query.limit, DEEPEST)
    ranked = rank(session, collection, vector, query, read_concurrently, trust=trust, end=end)
    found = ranked.places[:end]
    return show(ranked, found, ranking.scores(ranked.question, found), query, words)


def rank(
    session: Session,
    collection: Collection,
    vector: Vectors | None,
    query: Query,
    read_concurrently: ReadConcurrently,
    *,
    trust: float,
    end: int,
    looked_at: int = ranking.LOOKED_AT,
    also: Sequence[Term] = (),
) -> Ranking:
    """The places of a query up to position ``end``, and perhaps more. The parameters are those of ``search``.
    ``looked_at``: candidates whose text is read. ``also``: more words to search for, weighed."""
    text = clean(query.text[:MAX_QUERY_CHARS])
    whole, size = sql.whole(session, collection)
    few = max(FEW_RANKED, math.isqrt(COMPARED_PER_STEP * DEPTHS[0].nearest * size.chunks)) if size.has_index else 0
    seen = sql.narrow(session, collection, whole, lower(query.filter), few=few) if query.filter else whole
    by_words = query.strategy != "semantic"
    if by_words:
        asked = terms.add(terms.read(session, collection, whole, text, size.chunks), also)
    else:
        asked = Terms([], 0.0, 1.0, phrases=terms.quoted(search_form(text)))
    measure = Measure(
        asked.known, asked.total or 1.0, size.mean_bytes, vector, trust, asked.verbatim, language=collection.language
    )
    gates = [Gate(None, None, phrases=asked.phrases, language=collection.language)] if asked.phrases else []
    is_quoted = bool(gates and sql.find_matching(session, seen, gates, measure, wanted=1, budget=1, limit=1)[0])
    nearest = None
    if not is_quoted:
        gates = _make_gates(asked.known, measure, is_small=_is_all_ranked(seen, size))
        if vector is not None:
            nearest = _start_nearest(session, seen, measure, size, read_concurrently if by_words else None)
            nearest(DEPTHS[0].nearest)
    to_lexemes = partial(sql.to_lexemes, session, collection)
    question = Question(
        session,
        seen,
        asked,
        gates,
        measure,
        nearest,
        Seeker(text, asked.known, to_lexemes, _known_words(collection.language)),
        query.strategy,
        by_entity=query.group == "entity",
        is_quoted=is_quoted,
        is_capped=bool(asked.phrases) and not is_quoted,
        looked_at=looked_at,
    )
    return Ranking(text, question, _collect_places(question, end=end), whole, size)


def show(ranked: Ranking, places: Sequence[Place], scores: Sequence[float], query: Query, words: Embedder) -> Found:
    """The page of these places that the query asks for, with the scores of the places. Their texts are shown by the
    words of the ranking."""
    page = places[query.offset : query.offset + query.limit]
    question = ranked.question
    rows = sql.read_passages(question.session, [(place.entity_row, place.ordinal) for place in page]) if page else []
    hits = _to_hits(question, [(page[place], scores[query.offset + place], row) for place, row in rows], words)
    return Found(
        hits,
        nothing_relevant=not scores or scores[0] < ranking.RELEVANT,
        did_you_mean=_reword(ranked.text, question, hits),
    )


@cache
def _known_words(language: str) -> dict[str, frozenset[str]]:
    """The stems of words, as far as they are known; one dictionary for each language."""
    return {}


@cache
def _vectors_of(words: Embedder) -> passages.WordVectors:
    return passages.WordVectors(words)


def _is_all_ranked(seen: Scope, size: Size) -> bool:
    return (seen.about is not None and seen.about <= FEW_RANKED) or size.chunks * size.mean_bytes <= RANKED_BYTES


def _make_gates(known: Sequence[Term], measure: Measure, *, is_small: bool) -> list[Gate]:
    """The conditions that let a chunk be ranked, the most selective first.

    First, the query as it is. Then any of the rarest terms. If these find too few chunks, several of the terms at once,
    the next one alone, and last, any term. A frequent identifier counts first together with another term, then alone.
    """
    if not known:
        return []
    gates = []
    if measure.verbatim is not None and (len(known) > 1 or _is_long_for(known[0], measure.verbatim)):
        gates.append(Gate(None, None, phrases=(measure.verbatim,), language=measure.language, is_verbatim=True))
    if is_small:
        return [*gates, replace(sql.any_of(known), is_rare=True)]
    rare, postings = [], 0
    for term in known:
        postings += term.frequency
        if not term.is_counted or postings > RARE:
            break
        rare.append(term)
    if rare:
        gates.append(replace(sql.any_of(rare), is_rare=True))
    others = known[len(rare) :]
    if not others:
        return gates
    for term in others:
        if term.exact:
            beside = sql.any_of(_take_rarest([other for other in known if other is not term], term.frequency))
            if beside.ts is not None:
                gates.append(Gate(beside.ts, sql.any_of([term]).ident, both=True))
            gates.append(replace(sql.any_of([term]), ts=None))
    combined = known[:COMBINED]
    most = len(combined)
    for count in sorted({most, (most + 2) // 2, 2} - {1}, reverse=True):
        if count <= most and (gate := sql.some_of(combined, count)) is not None:
            gates.append(gate)
    gates.append(sql.any_of(others[:1]))
    return [*gates, sql.any_of(known)]


def _is_long_for(term: Term, phrase: Phrase) -> bool:
    """Whether a phrase whose only telling word is this one is worth comparing with all chunks that hold the word."""
    return term.frequency <= sql.COMPARED and len(phrase.text.split()) >= LONG_PHRASE


def _take_rarest(known: Sequence[Term], postings: int) -> Sequence[Term]:
    """The first terms (the rarest come first) that together occur about ``postings`` times; at least one."""
    taken, total = 1, sum(term.frequency for term in known[:1])
    while taken < len(known) and total < postings:
        total += known[taken].frequency
        taken += 1
    return known[:taken]


def _collect_places(question: Question, *, end: int) -> list[Place]:
    """The places up to position ``end``, and perhaps more."""
    found: list[Place] = []
    for depth in DEPTHS if question.nearest is not None else WORDS_ALONE:
        candidates, is_all = _find_candidates(question, depth)
        places = ranking.order(question, candidates)
        if found:
            found = _append_new(question, found, [(one.entity_row, one.ordinal) for one in places])
        else:
            found = ranking.look_closer(question, places)
        if is_all or len(found) >= end:
            return found
    return _append_new(question, found, _list_everything(question, end=end))


def _find_candidates(question: Question, depth: _Depth) -> tuple[list[Candidate], bool]:
    """The candidates at this depth, and whether they are all there are."""
    found: list[Candidate] = []
    is_all = True
    if question.gates:
        found, is_all = sql.find_matching(
            question.session,
            question.seen,
            question.gates,
            question.measure,
            wanted=depth.wanted,
            budget=depth.budget,
            limit=depth.best,
        )
    if question.nearest is not None:
        nearest = question.nearest(depth.nearest)()
        is_all &= len(nearest) < depth.nearest
        found += nearest
    return found, is_all


def _start_nearest(
    session: Session, seen: Scope, measure: Measure, size: Size, read_concurrently: ReadConcurrently | None
) -> Callable[[int], Answer]:
    """A function that starts the search for so many of the nearest vectors, concurrently if words are searched too
    (``read_concurrently``)."""

    @cache
    def nearest(limit: int) -> Answer:
        def read(on: Session) -> Sequence[Candidate]:
            return sql.find_nearest(
                on,
                seen,
                measure,
                limit=limit,
                by_index=size.has_index and seen.about is None,
                chunks=size.chunks,
                is_alone=on is not session,
            )

        return read_concurrently(session, read) if read_concurrently else lambda: read(session)

    return nearest


def _list_everything(question: Question, *, end: int) -> list[tuple[int, int]]:
    """All chunks with a term, followed by all chunks by distance. Nothing if all must hold a phrase."""
    measure, group = question.measure, question.by_entity
    on = (question.session, question.seen)
    keys: list[tuple[int, int]] = []
    if question.gates and not question.is_quoted:
        keys += sql.list_matching(*on, measure.terms, mean_bytes=measure.mean_bytes, group=group, limit=end)
    if question.nearest is not None and measure.vector is not None:
        keys += sql.list_nearest(*on, measure.vector, group=group, limit=end)
    return keys


def _append_new(question: Question, found: Sequence[Place], keys: Sequence[tuple[int, int]]) -> list[Place]:
    """The places found, followed by those of ``keys`` that are new."""
    met = {ranking.key_of(question, place.entity_row, place.ordinal) for place in found}
    rest: list[Place] = []
    for row, ordinal in keys:
        key = ranking.key_of(question, row, ordinal)
        if key not in met:
            met.add(key)
            rest.append(Place(row, ordinal, 0.0, None))
    return [*found, *rest]


def _reword(text: str, question: Question, hits: Sequence[Hit]) -> str | None:
    """The query with the words that were searched for instead of those that the collection does not have, in the form
    in which a hit has them."""
    known = question.asked.known
    meant = {n: term for n, term in enumerate(known) if term.instead_of}
    if not meant:
        return None
    forms = {n: term.stem or "" for n, term in meant.items()}
    for hit in reversed(hits):
        flat = passages.flatten(hit.text)
        places = passages.places_in(hit.text, flat)
        for span in question.seeker.find([flat])[0]:
            if span.term in meant:
                forms[span.term] = search_form(hit.text[places[span.start] : places[span.end]]).lower()
    for n, term in meant.items():
        text = re.sub(rf"(?i)(?<!\w){re.escape(term.instead_of)}(?!\w)", forms[n], text)  # of letters alone
    return text


def _to_hits(question: Question, rows: Sequence[tuple[Place, float, dict[str, Any]]], words: Embedder) -> list[Hit]:
    flat = [passages.flatten(row["text"]) for _, _, row in rows]
    found = question.seeker.find(flat)
    if question.measure.vector is not None:
        wordless = [n for n, spans in enumerate(found) if not spans]
        alike = passages.find_alike(question.seeker.asked, [flat[n] for n in wordless], _vectors_of(words))
        for n, spans in zip(wordless, alike, strict=True):
            found[n] = spans
    hits = []
    for (place, score, row), text, spans in zip(rows, flat, found, strict=True):
        places = passages.places_in(row["text"], text)
        start, end = passages.best_passage(text, spans, question.asked.known)
        hits.append(
            Hit(
                **row,
                score=score,
                passage=(places[start], places[end]),
                highlights=[(places[span.start], places[span.end]) for span in spans],
                why=_explain(question, place, {span.term for span in spans}),
            )
        )
    return hits


def _explain(question: Question, place: Place, held: set[int]) -> Why:
    known = [(n in held, term.word) for n, term in enumerate(question.asked.known)]
    one = place.measured
    return Why(
        rank=None if one is None else place.rank,
        coverage=one.coverage if one else 0.0,
        closeness=one.closeness if one else 0.0,
        identifiers=one.bonus if one else 0.0,
        verbatim=bool(one and one.verbatim),
        found=[word for is_held, word in known if is_held],
        lacking=[*(word for is_held, word in known if not is_held), *question.asked.absent],
    )
