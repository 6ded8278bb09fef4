"""One query over one collection: words and vectors, ranked by one measure. Knows neither HTTP nor SQL.

Words and vectors each propose candidates, and each candidate is ranked by both: by how much of the query it covers
(BM25), by how close its vector is, and by the identifiers it holds, the rarer the more. The first of them are then read
(``passages``): words that stand together as asked count more, and what is close to the best hits comes closer. The
position in the ledger makes the order total: pages neither repeat nor lose a hit.

[docs/search.md](../../../docs/search.md) says how the constants were found.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, Literal, NamedTuple
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import Collection
from ..db.search import Candidate, Gate, Measure, Phrase, Scope, Size, Term
from ..errors import BadInput
from ..sdk import Embedder, Vectors
from ..text.normal import calm, search_form
from ..wire import FilterGroup
from . import passages, terms
from .filters import clean, lower
from .passages import Seeker
from .terms import Terms

NEAR_WEIGHT = 0.4  # of words that stand together as asked, beside the words themselves
LITERAL_BONUS = 1.0  # of a passage that holds the query letter by letter, beside what it has for the words
LOOKED_AT = 30  # candidates whose text is read
FEEDBACK, FEEDBACK_WEIGHT = 5, 0.5  # the best of these move the vector of the query by this much (Rocchio 1971)
SECURED = 10  # the last place that a word secures which hardly any other chunk holds

MAX_LIMIT = 1_000
MAX_QUERY_CHARS = 10_000  # the rest of a query is ignored
RARE = 400  # all chunks that hold one of the rarest terms are ranked, as long as there are no more of them than this
COMBINED = 4  # if the rarest terms find too few chunks, those with several of this many terms are ranked too
FEW_RANKED = 2_000  # if a filter leaves no more chunks than this, all of them with any term are ranked
RANKED_BYTES = 4_000_000  # of a collection: in one with less text, all chunks with any term are ranked
# Chunks that a filter leaves are compared one by one if that costs less than finding them through the vector index.
# One step in the index costs as much as comparing this many; the fewer chunks the filter leaves, the more steps.
COMPARED_PER_STEP = 10
DEEPEST = 50_000  # pages end at this position
WEAKER = 60  # scores of hits beyond those that were measured fall slowly

# A score is the probability that a first hit like this one answers the query, as a logistic function of what was found:
# where it is 1/2, and how steep it is there. Fitted to questions of two collections, half of them put to the other.
HALVES = {"hybrid": (1.02, 10.0), "keyword": (0.40, 12.5), "semantic": (0.34, 22.0)}
CLOSENESS_WEIGHT = 2.0
ENOUGH = 0.5  # of the rarest word, that must be held for half of what is covered to count
IDENTIFIER_CERTAINTY = 0.5  # what an identifier that a single chunk holds adds to what is covered
RELEVANT = 0.25  # without a score of at least this, nothing relevant was found
WITHOUT_IDENTIFIER = 0.49  # the most for a hit that holds none of the identifiers asked for


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


Answer = Callable[[], Sequence[Candidate]]  # a call waits for the result
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
    _Depth(wanted=150, budget=300, best=200, nearest=100),
    _Depth(wanted=400, budget=1_000, best=700, nearest=1_000),
    _Depth(wanted=1_000, budget=2_000, best=2_000, nearest=1_000),
)


@dataclass(frozen=True, slots=True)
class _Question:
    """A query in the terms of the database. ``near`` starts the search for the nearest vectors at a depth, at its first
    call for that depth; None if vectors propose no candidates."""

    asked: Terms
    gates: Sequence[Gate]
    measure: Measure
    near: Callable[[_Depth], Answer] | None
    seeker: Seeker
    strategy: str
    capped: bool  # what is in quotation marks stands nowhere


class _Place(NamedTuple):
    """A passage, its rank (the more, the better), and what it was measured as; None if it was only listed."""

    entity_row: int
    ordinal: int
    rank: float
    measured: Candidate | None


def embed_query(embedder: Embedder, query: Query) -> Vectors | None:
    """The vector of the query, or None if it is near nothing. Raises what the embedder raises. May take long, so do not
    call it within a transaction."""
    vector = embedder.embed_query(calm(search_form(clean(query.text[:MAX_QUERY_CHARS]))))
    return vector if vector.any() else None


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
    text = clean(query.text[:MAX_QUERY_CHARS])
    whole, size = sql.whole(session, collection)
    few = max(FEW_RANKED, math.isqrt(COMPARED_PER_STEP * DEPTHS[0].nearest * size.chunks)) if size.has_index else 0
    seen = sql.narrow(session, collection, whole, lower(query.filter), few=few) if query.filter else whole
    question = _ask(session, collection, whole, seen, size, text, vector, query, read_concurrently, trust)
    group = query.group == "entity"
    end = min(query.offset + query.limit, DEEPEST)
    found = _collect_places(session, seen, question, group=group, end=end)
    scores = _scores(question, found[:end])
    page = found[query.offset : end]
    rows = sql.read_passages(session, [(place.entity_row, place.ordinal) for place in page]) if page else []
    hits = _to_hits(question, [(page[place], scores[query.offset + place], row) for place, row in rows], words)
    return Found(
        hits,
        nothing_relevant=not scores or scores[0] < RELEVANT,
        did_you_mean=_reword(text, question, hits),
    )


def _ask(
    session: Session,
    collection: Collection,
    whole: Scope,
    seen: Scope,
    size: Size,
    text: str,
    vector: Vectors | None,
    query: Query,
    read_concurrently: ReadConcurrently,
    trust: float,
) -> _Question:
    by_words = query.strategy != "semantic"
    asked = terms.read(session, collection, whole, text, size.chunks) if by_words else Terms([], 0.0, 1.0)
    verbatim = Phrase(asked.verbatim) if asked.verbatim else None
    measure = Measure(
        asked.known, asked.total or 1.0, size.mean_bytes, vector, trust, verbatim, language=collection.language
    )
    quoted = Gate(None, None, phrases=asked.phrases, language=collection.language) if asked.phrases else None
    gates: Sequence[Gate] = []
    if quoted is not None and sql.find_matching(session, seen, [quoted], measure, wanted=1, budget=1, limit=1)[0]:
        gates, is_quoted = [quoted], True
    else:
        gates, is_quoted = _make_gates(asked.known, is_small=_is_all_ranked(seen, size)), False
        if verbatim is not None and len(asked.known) > 1:
            gates = [Gate(None, None, phrases=(verbatim,), language=collection.language), *gates]
    near = None
    if vector is not None and not is_quoted:
        near = _start_nearest(session, seen, measure, size, read_concurrently if by_words else None)
        near(DEPTHS[0])
    to_lexemes = partial(sql.to_lexemes, session, collection)
    seeker = Seeker(text, asked.known, to_lexemes, _known_words(collection.language))
    return _Question(asked, gates, measure, near, seeker, query.strategy, capped=quoted is not None and not is_quoted)


@cache
def _known_words(language: str) -> dict[str, frozenset[str]]:
    """The stems of words, as far as they are known; one dictionary for each language."""
    return {}


def _is_all_ranked(seen: Scope, size: Size) -> bool:
    return (seen.about is not None and seen.about <= FEW_RANKED) or size.chunks * size.mean_bytes <= RANKED_BYTES


def _make_gates(known: Sequence[Term], *, is_small: bool) -> list[Gate]:
    """The conditions that let a chunk be ranked, the most selective first.

    First, any of the rarest terms, and then each of the next ones. If these find too few chunks, several of the other
    terms at once, and last, any term. A frequent identifier counts first together with another term, then alone.
    """
    if not known:
        return []
    if is_small:
        return [replace(sql.any_of(known), is_rare=True)]
    rare, postings = [], 0
    for term in known:
        postings += term.frequency
        if not term.is_counted or postings > RARE:
            break
        rare.append(term)
    gates = [replace(sql.any_of(rare), is_rare=True)] if rare else []
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
    gates.append(sql.any_of(others[:1]))
    for count in sorted({most, (most + 2) // 2, 2} - {1}, reverse=True):
        if count <= most and (gate := sql.some_of(combined, count)) is not None:
            gates.append(gate)
    return [*gates, sql.any_of(known)]


def _take_rarest(known: Sequence[Term], postings: int) -> Sequence[Term]:
    """The first terms (the rarest come first) that together occur about ``postings`` times; at least one."""
    taken, total = 1, sum(term.frequency for term in known[:1])
    while taken < len(known) and total < postings:
        total += known[taken].frequency
        taken += 1
    return known[:taken]


def _collect_places(session: Session, seen: Scope, question: _Question, *, group: bool, end: int) -> list[_Place]:
    """The places up to position ``end``, and perhaps more."""
    found: list[_Place] = []
    for depth in DEPTHS if question.near is not None else DEPTHS[1:]:  # words alone need more of them
        candidates, is_all = _candidates(session, seen, question, depth)
        places = _order(question, candidates, group=group)
        if found:
            found = _append_new(found, [(one.entity_row, one.ordinal) for one in places], group=group)
        else:
            found = _look_closer(session, seen, question, places)
        if is_all or len(found) >= end:
            return found
    return _append_new(found, _list_everything(session, seen, question, group=group, end=end), group=group)


def _candidates(session: Session, seen: Scope, question: _Question, depth: _Depth) -> tuple[list[Candidate], bool]:
    """The candidates at this depth, and whether they are all there are."""
    found: list[Candidate] = []
    is_all = True
    if question.gates:
        found, is_all = sql.find_matching(
            session,
            seen,
            question.gates,
            question.measure,
            wanted=depth.wanted,
            budget=depth.budget,
            limit=depth.best,
        )
    if question.near is not None:
        nearest = question.near(depth)()
        is_all &= len(nearest) < depth.nearest
        found += nearest
    return found, is_all


def _start_nearest(
    session: Session, seen: Scope, measure: Measure, size: Size, read_concurrently: ReadConcurrently | None
) -> Callable[[_Depth], Answer]:
    """A function that starts the search for the nearest vectors, concurrently if words are searched too
    (``read_concurrently``)."""

    @cache
    def near(depth: _Depth) -> Answer:
        def read(on: Session) -> Sequence[Candidate]:
            return sql.find_nearest(
                on,
                seen,
                measure,
                limit=depth.nearest,
                by_index=size.has_index and seen.about is None,
                chunks=size.chunks,
                is_alone=on is not session,
            )

        return read_concurrently(session, read) if read_concurrently else lambda: read(session)

    return near


def _order(question: _Question, candidates: Sequence[Candidate], *, group: bool) -> list[_Place]:
    """The candidates as places, best first; with ``group``, the best of each entity."""
    trust = question.measure.trust
    places = [
        _Place(
            one.entity_row,
            one.ordinal,
            _cover(one.coverage) + one.bonus + sql.VERBATIM_BONUS * one.verbatim + trust * one.closeness,
            one,
        )
        for one in candidates
    ]
    return _first_of_each(sorted(places, key=_by_rank), group=group)


def _by_rank(place: _Place) -> tuple[float, int, int]:
    return -place.rank, place.entity_row, place.ordinal


def _first_of_each(places: Sequence[_Place], *, group: bool) -> list[_Place]:
    first: dict[Any, _Place] = {}
    for place in places:
        first.setdefault(place.entity_row if group else (place.entity_row, place.ordinal), place)
    return list(first.values())


def _cover(coverage: float) -> float:
    return 2 * coverage / (1 + coverage)


def _score(question: _Question, one: Candidate) -> float:
    held = one.held / question.asked.unit
    covered = one.coverage * held / (held + ENOUGH)
    close = one.closeness if question.strategy == "semantic" else CLOSENESS_WEIGHT * one.closeness
    half, steepness = HALVES[question.strategy if question.measure.vector is not None else "keyword"]
    certain = IDENTIFIER_CERTAINTY * one.bonus / terms.IDENTIFIER_BONUS
    score = 1 / (1 + math.exp(-min(max(steepness * (covered + close + certain - half), -30.0), 30.0)))
    lacks_identifier = question.asked.exact > 0 and not one.exact
    return min(score, WITHOUT_IDENTIFIER) if lacks_identifier or question.capped else score


def _look_closer(session: Session, seen: Scope, question: _Question, places: Sequence[_Place]) -> list[_Place]:
    """The places in their final order. The text of the first ``LOOKED_AT`` is read. A word that few chunks hold secures
    them a place among the first."""
    looked = [(place, place.measured) for place in places[:LOOKED_AT] if place.measured is not None]
    ordered = list(places)
    if looked and question.strategy != "semantic":
        read = sql.read_candidates(session, seen, [(place.entity_row, place.ordinal) for place, _ in looked])
        flat = [passages.flatten(f"{one.heading}\n{one.text}") for one in read]
        near = _nearness(question, flat, [one.heading + one.text for one in read])
        close = _feed_back(question, [one.vector for one in read], [one.closeness for _, one in looked])
        again = [
            place._replace(
                rank=_cover(one.coverage + NEAR_WEIGHT * beside)
                + one.bonus
                + (_verbatim(question, text) if one.verbatim else 0.0)
                + question.measure.trust * closeness
            )
            for (place, one), text, beside, closeness in zip(looked, flat, near, close, strict=True)
        ]
        ordered[: len(again)] = sorted(again, key=_by_rank)
    secured = [place for place in ordered[SECURED:] if place.measured and place.measured.lonely][: SECURED // 2]
    if not secured:
        return ordered
    others = [place for place in ordered if place not in secured]
    first = SECURED - len(secured)
    return [*others[:first], *secured, *others[first:]]


def _verbatim(question: _Question, flat: str) -> float:
    pattern = question.seeker.verbatim
    return sql.VERBATIM_BONUS + (LITERAL_BONUS if pattern is not None and pattern.search(flat) else 0.0)


def _nearness(question: _Question, flat: Sequence[str], texts: Sequence[str]) -> list[float]:
    """How much of the query stands together in each text, in the unit of coverage."""
    known, mean = question.asked.known, question.measure.mean_bytes
    found = question.seeker.find(flat)
    return [
        passages.proximity(spans, question.seeker.order, known, len(text.encode()) / mean) / question.measure.total
        for spans, text in zip(found, texts, strict=True)
    ]


def _feed_back(question: _Question, vectors: Sequence[Vectors | None], closeness: Sequence[float]) -> Sequence[float]:
    """How close each is to a query that has moved toward the best of them."""
    asked = question.measure.vector
    best = [vector for vector in vectors[:FEEDBACK] if vector is not None]
    if asked is None or not best:
        return closeness
    moved = asked + FEEDBACK_WEIGHT * np.mean(best, axis=0)
    moved = moved / np.linalg.norm(moved)
    return [0.0 if vector is None else float(np.nan_to_num(vector @ moved)) for vector in vectors]


def _scores(question: _Question, places: Sequence[_Place]) -> list[float]:
    """The scores of these places, the first ones of all. They do not increase from place to place."""
    scores: list[float] = []
    least, listed = 1.0, 0
    for place in places:
        if place.measured is not None:
            least = min(least, _score(question, place.measured))
            scores.append(least)
        else:
            listed += 1
            scores.append(least * WEAKER / (WEAKER + listed))
    return scores


def _list_everything(
    session: Session, seen: Scope, question: _Question, *, group: bool, end: int
) -> list[tuple[int, int]]:
    """All chunks with a term, followed by all chunks by distance."""
    keys: list[tuple[int, int]] = []
    measure = question.measure
    if question.gates:
        keys += sql.list_matching(session, seen, measure.terms, mean_bytes=measure.mean_bytes, group=group, limit=end)
    if question.near is not None and measure.vector is not None:
        keys += sql.list_nearest(session, seen, measure.vector, group=group, limit=end)
    return keys


def _append_new(found: Sequence[_Place], keys: Sequence[tuple[int, int]], *, group: bool) -> list[_Place]:
    """The places found, followed by those of ``keys`` that are new."""
    met = {place.entity_row if group else (place.entity_row, place.ordinal) for place in found}
    rest: list[_Place] = []
    for row, ordinal in keys:
        key = row if group else (row, ordinal)
        if key not in met:
            met.add(key)
            rest.append(_Place(row, ordinal, 0.0, None))
    return [*found, *rest]


def _reword(text: str, question: _Question, hits: Sequence[Hit]) -> str | None:
    """The query with the words that were searched for instead of those that the collection does not have, in the form
    in which a hit has them."""
    known = question.asked.known
    meant = {n: term for n, term in enumerate(known) if term.instead_of}
    if not meant:
        return None
    forms = {n: term.stem or "" for n, term in meant.items()}
    for hit in reversed(hits):
        flat = passages.flatten(hit.text)
        for span in question.seeker.find([flat])[0]:
            if span.term in meant:
                forms[span.term] = flat[span.start : span.end]
    for n, term in meant.items():
        text = re.sub(rf"(?i)(?<!\w){re.escape(term.instead_of)}(?!\w)", forms[n], text)  # of letters alone
    return text


def _to_hits(question: _Question, rows: Sequence[tuple[_Place, float, dict[str, Any]]], words: Embedder) -> list[Hit]:
    flat = [passages.flatten(row["text"]) for _, _, row in rows]
    hits = []
    for (place, score, row), text, held in zip(rows, flat, question.seeker.find(flat), strict=True):
        spans = held
        if not held and question.measure.vector is not None:
            spans = passages.find_alike(question.seeker.asked, text, words)
        places = passages.places_in(row["text"], text)
        start, end = passages.best_passage(text, spans, question.asked.known)
        hits.append(
            Hit(
                **row,
                score=score,
                passage=(places[start], places[end]),
                highlights=[(places[span.start], places[span.end]) for span in spans],
                why=_explain(question, place, {span.term for span in held}),
            )
        )
    return hits


def _explain(question: _Question, place: _Place, held: set[int]) -> Why:
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
