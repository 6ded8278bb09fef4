"""The SQL of search: filters, nearest vectors by index or by exact scan, and BM25 computed from the ranks of single
terms.

Every candidate comes with all that it is ranked by, whether its words or its vector made it one.

Every value is a bound parameter. A tsquery contains quoted lexemes joined by ``|`` and ``&``.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from ..sdk import Vectors
from . import indexes
from .chunks import decode_vector
from .languages import configuration
from .models import VECTORS, Collection
from .session import driver_errors, raw

K1, B = 1.2, 0.75  # the usual constants of BM25
MEASURED = 200  # chunks that are measured in a collection that has not been counted yet
# ef_search grows with the size of the collection, up to the maximum of pgvector.
LEAST_EF_SEARCH, MOST_EF_SEARCH, CHUNKS_PER_EF = 150, 1_000, 220
LIKE_CHUNKS = 300
LISTED = 30_000  # up to this many entities that a filter leaves, a query lists them one by one
VERBATIM_BONUS = 1.0  # of a chunk that holds the whole query in its order; twice if it holds it letter by letter
COMPARED = 5_000  # chunks that hold the telling words of the query in their order, and are compared with all of it
FOLDED = 0.8  # what a word counts if only its form without diacritics is the same
HALF = 0.645  # ts_rank of one term that occurs n times is about n / (n + HALF)

# The columns of each filter field. An entity id matches with and without the number of the chunk.
COLUMNS = {
    "entity_id": ("e.entity_id", "e.entity_id || '__chunk_' || c.ordinal"),
    "name": ("e.name",),
    "created_at": ("e.created_at",),
    "updated_at": ("e.updated_at",),
    "breadcrumbs.entity_id": ("b ->> 'entity_id'",),
    "breadcrumbs.name": ("b ->> 'name'",),
    "breadcrumbs.entity_type": ("b ->> 'entity_type'",),
    "airweave_system_metadata.entity_type": ("e.type",),
    "airweave_system_metadata.source_name": ("s.short_name",),
    "airweave_system_metadata.original_entity_id": ("e.entity_id",),
    "airweave_system_metadata.chunk_index": ("c.ordinal",),
    "airweave_system_metadata.sync_id": ("cast(e.connection_id as text)",),
    "airweave_system_metadata.sync_job_id": ("cast(e.job_id as text)",),
}
# What is read of a hit.
SHOWN = (
    *("entity_id", "name", "type", "source_name", "connection_id", "job_id", "ordinal", "heading", "text"),
    *("breadcrumbs", "created_at", "updated_at", "web_url", "url", "fields"),
)
# Settings for the vector index: it continues until it has found enough, and the planner uses it even with a filter.
WITH_INDEX = """
    select set_config('hnsw.ef_search', cast(:width as text), true),
           set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('enable_sort', 'off', true)"""
COMPARISONS = {
    "equals": "{column} = {value}",
    "in": "{column} = any({value})",
    "contains": "{column} ilike {value}",
    "greater_than": "{column} > {value}",
    "less_than": "{column} < {value}",
    "greater_than_or_equal": "{column} >= {value}",
    "less_than_or_equal": "{column} <= {value}",
}

# Whether a chunk contains a term. The indexes answer both sides by themselves, without unpacking a tsvector.
HOLDS = "(c.ts @@ cast(t.stem as tsquery) or c.ident @@ cast(t.ident as tsquery))"
TERMS = (
    "unnest(cast(:stems as text[]), cast(:idents as text[]), cast(:weights as float8[]), cast(:bonuses as float8[]))"
)
BYTES = "octet_length(c.heading) + octet_length(c.text)"
LENGTH = f"cast({K1} as float8) * (1 - {B} + cast({B} as float8) * ({BYTES}) / cast(:mean_length as float8))"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a filter. ``values`` has one element, except for ``in`` and ``not_in``."""

    field: str
    operator: str
    values: tuple[str | int | datetime, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query: a stem, or identifiers that mean the same, or both.

    ``folded``: stems without diacritics, which count a little less. ``word``: as it was asked for. ``exact``: it is an
    identifier. ``times``: how often it is asked for. ``frequency``: the number of chunks that contain it, exact if
    ``is_counted``. ``idf``: how rare it is. ``weight``: its part of the coverage. ``bonus``: what an identifier counts
    beside that. ``is_lonely``: hardly any chunk contains it. ``instead_of``: the word that was asked for, if the
    collection does not have it and this one is near it.
    """

    stem: str | None
    idents: tuple[str, ...]
    folded: tuple[str, ...] = ()
    word: str = ""
    exact: bool = False
    times: int = 1
    frequency: int = 0
    is_counted: bool = False
    idf: float = 0.0
    weight: float = 0.0
    bonus: float = 0.0
    is_lonely: bool = False
    instead_of: str = ""

    @property
    def stems(self) -> tuple[str, ...]:
        return self.folded if self.stem is None else (self.stem, *self.folded)


class Phrase(NamedTuple):
    """Words in their order: as they are, as a regular expression if they must be there letter by letter, and the
    bigrams of scripts without spaces."""

    text: str
    literal: str = ""
    bigrams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """The condition that lets a chunk be ranked: its words match the tsquery ``ts`` or its identifiers match the
    tsquery ``ident``; with ``both``, it must match the two. ``is_rare``: so few match that none is left out.
    ``phrases``: these words also stand there as they are, in a collection of this language. ``is_verbatim``: the phrase
    is the whole query, and only ``COMPARED`` chunks are compared with it letter by letter."""

    ts: str | None
    ident: str | None
    both: bool = False
    is_rare: bool = False
    phrases: tuple[Phrase, ...] = ()
    language: str = ""
    is_verbatim: bool = False

    def source(self, n: int, seen: str, values: dict[str, Any]) -> str:
        """The SQL of the chunks of ``seen`` that pass, also as ``c``; its values are added to ``values``."""
        asked = []
        for name, query in (("ts", self.ts), ("ident", self.ident)):
            if query:
                values[f"{name}_{n}"] = query
                asked.append(f"c.{name} @@ cast(:{name}_{n} as tsquery)")
        conditions = [f"({(' and ' if self.both else ' or ').join(asked)})"] if asked else []
        literally = []
        for k, phrase in enumerate(self.phrases):
            values |= {f"phrase_{n}_{k}": phrase.text, f"literal_{n}_{k}": phrase.literal}
            if phrase.bigrams:
                values[f"bigrams_{n}_{k}"] = " & ".join(map(_quote, phrase.bigrams))
                conditions.append(f"c.ident @@ cast(:bigrams_{n}_{k} as tsquery)")
            else:
                conditions.append(f"c.ts @@ phraseto_tsquery('public.{configuration(self.language)}', :phrase_{n}_{k})")
            if phrase.literal:
                # the form costs much more than the comparison
                said = "c.text" if self.is_verbatim else "airweave_search_form(c.heading || ' ' || c.text)"
                literally.append(f"{said} ~* :literal_{n}_{k}")
        if not self.is_verbatim:
            return f"{seen} and {' and '.join(conditions + literally)}"
        found = f"select c.* from {seen} and {' and '.join(conditions)} limit {COMPARED}"
        return f"({found}) as c where {' and '.join(literally)}"


class Candidate(NamedTuple):
    """A chunk and what it is ranked by.

    ``rank``: the sum of what its words, its identifiers and its vector count. ``coverage``: BM25 as a part of the
    query's weight; 1 if it holds each term once and is of mean length, at most 2.2. ``held``: the weight of the terms
    that it holds. ``bonus``: for the identifiers that it holds, ``exact`` of them. ``lonely``: how many of the words
    that hardly any other chunk holds. ``verbatim``: 1 if it holds the telling words of the query in their order, 2 if
    it holds the whole query, letter by letter. ``closeness``: the cosine of its vector and the query's, 0 if none was
    asked for.
    """

    entity_row: int
    ordinal: int
    rank: float
    coverage: float
    held: float
    bonus: float
    exact: int
    lonely: int
    verbatim: int
    closeness: float


@dataclass(frozen=True, slots=True)
class Scope:
    """The chunks that a query may see: those of the collection's undeleted connections that pass the filter.

    ``about``: their approximate number, if it is known to be small.
    """

    source: str
    values: dict[str, Any]
    about: int | None = None
    vectors: str = VECTORS[0]  # the vector column to search


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a collection. ``has_index``: whether its vector index can be used."""

    chunks: int
    mean_bytes: float
    has_index: bool


def narrow(
    session: Session, collection: Collection, whole: Scope, filters: Sequence[Sequence[Condition]], *, few: int
) -> Scope:
    """Narrow the scope by the filters. If they leave at most ``LISTED`` entities, these are looked up first. If they
    have at most ``few`` chunks, the chunks are then read by entity."""
    values = dict(whole.values)
    groups = " or ".join(" and ".join(_to_sql(one, values) for one in group) for group in filters)
    joined = "join entity e on e.row = c.entity_row join source_connection s on s.id = c.connection_id"
    everything = Scope(f"chunk c {joined} where {_visible(collection)} and ({groups})", values, vectors=whole.vectors)
    if "c.ordinal" in groups:  # a condition on chunk numbers: generate them from the ledger
        found = _look_up_remainder(session, collection, f"({groups})", values, numbered=True, most=few) if few else None
        if found is None or found.chunks > few:
            return everything
        only = "(select * from chunk where entity_row = any(cast(:only as bigint[])))"
        source = f"{only} c {joined} where {_visible(collection)} and ({groups})"
        return Scope(source, {**values, "only": found.rows}, found.chunks, whole.vectors)
    found = _look_up_remainder(session, collection, f"({groups})", values, numbered=False, most=LISTED) if few else None
    if found is None:
        return everything
    values["only"] = found.rows
    if found.chunks <= few:
        source = f"chunk c where {_visible(collection)} and c.entity_row = any(cast(:only as bigint[]))"
        return Scope(source, values, found.chunks, whole.vectors)
    # "is true" keeps the planner from turning it into a join, which would read each gate to its end
    source = (
        f"chunk c where {_visible(collection)} and (c.entity_row in (select unnest(cast(:only as bigint[])))) is true"
    )
    return Scope(source, values, vectors=whole.vectors)


def whole(session: Session, collection: Collection) -> tuple[Scope, Size]:
    """The scope of all chunks of the collection, and its size as the keeper counted it. A collection that has not been
    counted yet is measured by its ledger and ``MEASURED`` chunks."""
    (row,) = fetch(
        session,
        """
            select array(select id from source_connection
                         where collection_id = :id and organization_id = :organization_id and deleted_at is null),
                   coalesce(nullif(z.chunks, 0), (select sum(chunks) from entity where collection_id = :id), 0),
                   coalesce(nullif(z.mean_bytes, 0), (select avg(octet_length(heading) + octet_length(text)) from
                       (select heading, text from chunk where collection_id = :id limit :some) as c), 1),
                   exists (select from pg_index where indexrelid = to_regclass(:index) and indisvalid and indisready)
            from (select) as one left join collection_size z on z.collection_id = :id
        """,
        {
            "id": collection.id,
            "organization_id": collection.organization_id,
            "index": indexes.name(collection.id, collection.slot),
            "some": MEASURED,
        },
    )
    everything = Scope(f"chunk c where {_visible(collection)}", {"connections": row[0]}, vectors=collection.searched)
    return everything, Size(int(row[1]), float(row[2]), row[3])


def to_lexemes(session: Session, collection: Collection, texts: Sequence[str]) -> list[list[str]]:
    """The lexemes of each text in the collection's language."""
    rows = fetch(
        session,
        f"""
            select tsvector_to_array(to_tsvector('public.{configuration(collection.language)}', t.text))
            from unnest(cast(:texts as text[])) with ordinality as t(text, n) order by t.n
        """,
        {"texts": list(texts)},
    )
    return [lexemes for (lexemes,) in rows]


def count_occurrences(
    session: Session, collection: Collection, whole: Scope, terms: Sequence[Term], chunks: int, *, at_most: int
) -> list[tuple[int, bool]]:
    """The number of chunks that contain each term, and whether it was counted just now. Otherwise it is about what the
    keeper counted. A term of which the keeper saw few is rare or new, and is counted here, up to ``at_most``.
    ``chunks``: the size of the collection."""
    rows = fetch(
        session,
        f"""
            select coalesce(kept.chunks, (select count(*) from
                       (select from {whole.source} and {HOLDS} limit :at_most) as found)) as chunks,
                   kept.chunks is null as is_counted
            from unnest(cast(:stems as text[]), cast(:idents as text[]), cast(:word as text[]), cast(:words as text[]))
                with ordinality as t(stem, ident, word, words, n)
            cross join lateral (select greatest(
                (select chunks from collection_word w
                 where w.collection_id = :id and w.word = t.word and not w.is_ident and w.chunks >= :least),
                (select max(chunks) from collection_word w
                 where w.collection_id = :id and w.word = any(string_to_array(t.words, ' ')) and w.is_ident
                   and w.chunks >= :least)) as chunks
            ) as kept
            order by t.n
        """,
        {
            **whole.values,
            **_term_arrays(terms),
            "at_most": at_most,
            "least": indexes.least_counted(chunks),
            "id": collection.id,
            "word": [term.stem for term in terms],
            "words": [" ".join(term.idents) for term in terms],
        },
    )
    # a term that has as many as are counted may have more
    return [(chunks, is_counted and chunks < at_most) for chunks, is_counted in rows]


def words_like(
    session: Session,
    collection: Collection,
    whole: Scope,
    chunks: int,
    prefixes: Sequence[str],
    ending: str,
    length: int,
) -> list[tuple[str, int]]:
    """Words of the collection that may be near another one, and about how many chunks contain each: words of about the
    same ``length`` that begin with one of the ``prefixes`` or have this ``ending``, and longer ones with the ending.

    All words that the keeper has counted are looked through, and all of a collection too small to be counted. Of rarer
    ones, those of ``LIKE_CHUNKS`` chunks that hold a word with a prefix.
    """
    counted = "select word, chunks from collection_word where collection_id = :id and not is_ident"
    if chunks < indexes.COUNTED_FROM:
        counted = "select word, ndoc as chunks from ts_stat(:everything)"
    rows = fetch(
        session,
        f"""
            select word, chunks from ({counted}) as w
            where (length(word) between :length - 3 and :length + 3 and word like any(:patterns)) or word like :ending
            union all
            select found.lexeme, 1
            from unnest(cast(:patterns as text[]), cast(:queries as text[])) as p(pattern, query) cross join lateral (
                select distinct l.lexeme from (
                    select c.ts from {whole.source} and c.ts @@ cast(p.query as tsquery) limit {LIKE_CHUNKS}
                ) as h, unnest(h.ts) as l
                where l.lexeme like p.pattern
            ) as found
        """,
        {
            **whole.values,
            "id": collection.id,
            "everything": f"select ts from chunk where collection_id = '{collection.id}'",
            "length": length,
            "patterns": [f"{_like(prefix)}%" for prefix in prefixes],
            "ending": f"%{_like(ending)}",
            "queries": [f"{_quote(prefix)}:*" for prefix in prefixes],
        },
    )
    most: dict[str, int] = {}
    for word, found in rows:
        most[word] = max(found, most.get(word, 0))
    return list(most.items())


def _like(literal: str) -> str:
    return literal.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


@dataclass(frozen=True, slots=True)
class Measure:
    """What candidates are ranked by: ``terms``, whose weights are parts of ``total``, and the ``vector``, which counts
    ``trust`` times as much as the words. ``verbatim``: the query as a phrase in this language."""

    terms: Sequence[Term]
    total: float
    mean_bytes: float
    vector: Vectors | None
    trust: float
    verbatim: Phrase | None = None
    language: str = ""


def find_matching(
    session: Session, seen: Scope, gates: Sequence[Gate], measure: Measure, *, wanted: int, budget: int, limit: int
) -> tuple[list[Candidate], bool]:
    """The best chunks that pass a gate, best first, and whether they are all that contain any term.

    A gate is tried if the gates before it passed fewer than ``wanted`` chunks. It passes at most ``budget``, unless it
    is rare.
    """
    values: dict[str, Any] = {**seen.values, "wanted": wanted, "budget": budget}
    steps: list[str] = []
    last = len(gates) - 1
    for n, gate in enumerate(gates):
        steps.append(f"""
            gate_{n} as materialized (
                select {_columns(seen, gate.is_verbatim)} from {gate.source(n, seen.source, values)}
                {f"and (select n from passed_{n - 1}) < :wanted" if n else ""} {"" if gate.is_rare else "limit :budget"}
            )""")
        if n < last:
            before = f"(select n from passed_{n - 1}) + " if n else ""
            steps.append(f"passed_{n} as materialized (select {before}count(*) as n from gate_{n})")
    passed = " union all ".join(f"select * from gate_{n}" for n in range(len(gates)))
    is_all = " and ".join(
        ["true" if gates[-1].is_rare else f"(select count(*) from gate_{last}) < :budget"]
        + ([f"(select n from passed_{last - 1}) < :wanted"] if last else [])
    )
    rows = _measure(session, ", ".join(steps), passed, measure, values, limit=limit, also=f", {is_all} as is_all")
    candidates = [Candidate._make(row[: len(Candidate._fields)]) for row in rows]
    return candidates, len(rows) < limit and (bool(rows[0][-1]) if rows else True)


def find_nearest(
    session: Session, seen: Scope, measure: Measure, *, limit: int, by_index: bool, chunks: int, is_alone: bool
) -> list[Candidate]:
    """The chunks of the nearest vectors by cosine, best first. A chunk without any known token is near nothing.

    ``chunks``: the size of the collection. ``is_alone``: this transaction runs no other query. With ``by_index``,
    almost all of the nearest are found; if the index returns too few, all vectors are compared.
    """
    assert measure.vector is not None
    values = {**seen.values, "vector": to_halfvec(measure.vector), "nearest": limit}
    if by_index:
        distance = indexes.distance(f"c.{seen.vectors}", ":vector", len(measure.vector))
        nearest = f"select {_columns(seen)} from {seen.source} order by {distance} limit :nearest"
        width = min(max(chunks // CHUNKS_PER_EF, LEAST_EF_SEARCH, limit), MOST_EF_SEARCH)
        nested = None if is_alone else session.begin_nested()  # its rollback undoes the settings
        fetch(session, WITH_INDEX, {"width": width})
        measured = _measure(session, "", nearest, measure, dict(values), limit=limit)
        if nested is not None:
            nested.rollback()
        if len(measured) == limit:
            return list(map(Candidate._make, measured))
        if nested is None:
            fetch(session, "select set_config('enable_sort', 'on', true)", {})
    nearest = f"""
        select {_columns(seen)}
        from ({_distance_query(seen)} order by distance, entity_row, ordinal limit :nearest) as k
        join chunk c on c.entity_row = k.entity_row and c.ordinal = k.ordinal
        where k.distance <= 2"""
    return list(map(Candidate._make, _measure(session, "", nearest, measure, values, limit=limit)))


def list_matching(
    session: Session, seen: Scope, terms: Sequence[Term], *, mean_bytes: float, group: bool, limit: int
) -> list[tuple[int, int]]:
    """All chunks that contain a term, or with ``group`` the best one of each entity, in the order of
    ``find_matching``."""
    values = {**seen.values, **_term_arrays(terms), "mean_length": mean_bytes, "limit": limit}
    return _ranked(
        session, f"select entity_row, ordinal, -bonus as a, -gate as b from ({_gate_query(seen)}) as g", values, group
    )


def list_nearest(session: Session, seen: Scope, vector: Vectors, *, group: bool, limit: int) -> list[tuple[int, int]]:
    """All chunks by distance, or with ``group`` the nearest one of each entity."""
    values = {**seen.values, "vector": to_halfvec(vector), "limit": limit}
    inner = f"select entity_row, ordinal, distance as a, 0 as b from ({_distance_query(seen)}) as d where distance <= 2"
    return _ranked(session, inner, values, group)


@dataclass(frozen=True, slots=True)
class Passage:
    """What a candidate is looked at for: its words and its vector, None if it has none."""

    heading: str
    text: str
    vector: Vectors | None


def read_candidates(session: Session, seen: Scope, keys: Sequence[tuple[int, int]]) -> list[Passage]:
    """The passages of these chunks, in their order."""
    rows = fetch(
        session,
        f"""
            select c.heading, c.text, halfvec_send(c.{seen.vectors})
            from unnest(cast(:rows as bigint[]), cast(:ordinals as bigint[])) with ordinality as k(row, ordinal, n)
            join chunk c on c.entity_row = k.row and c.ordinal = k.ordinal
            order by k.n
        """,
        {"rows": [row for row, _ in keys], "ordinals": [ordinal for _, ordinal in keys]},
    )
    return [Passage(heading, body, None if vector is None else decode_vector(vector)) for heading, body, vector in rows]


def read_passages(session: Session, keys: Sequence[tuple[int, int]]) -> list[tuple[int, dict[str, Any]]]:
    """The data to show for these chunks, each with its index in ``keys``. A chunk whose entity no longer exists is left
    out."""
    rows = fetch(
        session,
        """
            select k.n, e.entity_id, e.name, e.type, s.short_name, e.connection_id, e.job_id, c.ordinal, c.heading,
                   rtrim(c.text, E' \\n\\t'), e.breadcrumbs, e.created_at, e.updated_at, e.web_url, e.url, e.fields
            from unnest(cast(:rows as bigint[]), cast(:ordinals as bigint[])) with ordinality as k(row, ordinal, n)
            join chunk c on c.entity_row = k.row and c.ordinal = k.ordinal
            join entity e on e.row = k.row
            join source_connection s on s.id = c.connection_id
            order by k.n
        """,
        {"rows": [row for row, _ in keys], "ordinals": [ordinal for _, ordinal in keys]},
    )
    return [(int(n) - 1, dict(zip(SHOWN, row, strict=True))) for n, *row in rows]


def any_of(terms: Sequence[Term]) -> Gate:
    """The gate for chunks that contain any of these terms."""
    stems = [stem for term in terms for stem in term.stems]
    idents = [ident for term in terms for ident in term.idents]
    return Gate(_to_tsquery(stems) or None, _to_tsquery(idents) or None)


def some_of(terms: Sequence[Term], count: int) -> Gate | None:
    """The gate for chunks with at least ``count`` of these terms, all among their words or all among their identifiers.
    None if there are not that many terms of either kind."""
    stems = [f"({_to_tsquery(term.stems)})" for term in terms if term.stems]
    idents = [f"({_to_tsquery(term.idents)})" for term in terms if not term.stems]
    ts, ident = (_at_least(count, asked) if len(asked) >= count else None for asked in (stems, idents))
    return Gate(ts, ident) if ts or ident else None


def _at_least(count: int, asked: Sequence[str]) -> str:
    """The shortest tsquery for at least ``count`` of these: a GIN index evaluates all of it for each candidate row."""
    if count == 1 or count == len(asked):
        return (" & " if count > 1 else " | ").join(asked)
    first, *others = asked
    return f"{first} & ({_at_least(count - 1, others)}) | {_at_least(count, others)}"


def _columns(seen: Scope, is_verbatim: bool = False) -> str:
    own = f"c.entity_row, c.ordinal, {LENGTH} as length, c.ts, c.ident, c.{seen.vectors} as vector"
    return f"{own}, {int(is_verbatim)} as literally"


def _measure(
    session: Session, before: str, found: str, measure: Measure, values: dict[str, Any], *, limit: int, also: str = ""
) -> Sequence[Any]:
    """The best of the chunks that ``found`` selects, with the fields of ``Candidate``. ``before``: common table
    expressions that it refers to. ``also``: more columns."""
    values |= {"mean_length": measure.mean_bytes, "total": measure.total, "trust": measure.trust, "limit": limit}
    terms = measure.terms
    parts = ", ".join(f"{_part(term, n, values)} as p{n}" for n, term in enumerate(terms))
    sums: dict[str, list[str]] = {"coverage": [], "held": [], "bonus": [], "exact": [], "lonely": []}
    for n, term in enumerate(terms):
        values[f"weight_{n}"] = term.weight
        sums["coverage"].append(f"cast(:weight_{n} as float8) * p{n}")
        sums["held"].append(f"cast(:weight_{n} as float8) * sign(p{n})")
        if term.is_lonely:
            sums["lonely"].append(f"cast(sign(p{n}) as int)")
        if term.exact:
            values[f"bonus_{n}"] = term.bonus
            held = f"cast(z.ident @@ cast(:held_{n} as tsquery) as int)"
            sums["bonus"].append(f"cast(:bonus_{n} as float8) * {held}")
            sums["exact"].append(held)
    verbatim = "0"
    if measure.verbatim is not None:
        values["verbatim"] = measure.verbatim.text
        as_query = f"phraseto_tsquery('public.{configuration(measure.language)}', :verbatim)"
        verbatim = f"greatest(2 * literally, cast(z.ts @@ {as_query} as int))"
    columns = {name: " + ".join(each) or "0" for name, each in sums.items()}
    closeness = "0"
    if measure.vector is not None:
        values["vector"] = to_halfvec(measure.vector)
        closeness = "coalesce(nullif(1 - (z.vector <=> cast(:vector as halfvec)), 'NaN'), 0)"
    return fetch(
        session,
        f"""
            with {f"{before}," if before else ""}
            z as materialized (
                select distinct on (entity_row, ordinal) entity_row, ordinal, length, vector, literally,
                       ts || cast('' as tsvector) as ts, strip(ident) as ident  -- same content, unpacked once
                from ({found}) as f order by entity_row, ordinal, literally desc
            ),
            m as materialized (
                select entity_row, ordinal, {K1 + 1} * ({columns["coverage"]}) / cast(:total as float8) as coverage,
                       cast({columns["held"]} as float8) as held, cast({columns["bonus"]} as float8) as bonus,
                       {columns["exact"]} as exact, {columns["lonely"]} as lonely,
                       {verbatim} as verbatim,
                       cast({closeness} as float8) as closeness
                from z {f"cross join lateral (select {parts} offset 0) as p" if parts else ""}
            )
            select entity_row, ordinal,
                   2 * coverage / (1 + coverage) + bonus + cast({VERBATIM_BONUS} as float8) * verbatim
                   + cast(:trust as float8) * closeness as rank,
                   coverage, held, bonus, exact, lonely, verbatim, closeness{also}
            from m order by lonely > 0 desc, rank desc, entity_row, ordinal limit :limit
        """,
        values,
    )


def _part(term: Term, n: int, values: dict[str, Any]) -> str:
    """The SQL for what a row of ``z`` has of a term: the part of BM25 that depends on its frequency there, below 1."""
    parts = []
    own = () if term.stem is None else (term.stem,)
    for name, stems, share in (("stem", own, "1"), ("folded", term.folded, str(FOLDED))):
        if stems:
            values[f"{name}_{n}"] = _to_tsquery(stems)
            rank = f"ts_rank('{{1,{FOLDED},1,1}}', z.ts, cast(:{name}_{n} as tsquery))"
            parts.append(
                f"(select {share} * r / (r + (1.0001 - r) * z.length / {HALF}) from (select {rank} as r) as one)"
            )
    if term.idents:
        values[f"held_{n}"] = _to_tsquery(term.idents)
        parts.append(f"case when z.ident @@ cast(:held_{n} as tsquery) then 1 / (1 + z.length) else 0 end")
    return f"greatest({', '.join(parts)})"


def _visible(collection: Collection) -> str:
    # a literal: the planner uses a collection's own index only if it can see which collection is meant
    return f"c.collection_id = '{UUID(str(collection.id))}' and c.connection_id = any(:connections)"


@dataclass(frozen=True, slots=True)
class _Remainder:
    """The entities that a filter leaves, and the number of their chunks."""

    rows: str  # the text of an array, which is only passed back to the database
    chunks: int


def _look_up_remainder(
    session: Session, collection: Collection, condition: str, values: dict[str, Any], *, numbered: bool, most: int
) -> _Remainder | None:
    """Look up the entities that the condition leaves. None if there are more than ``most`` of them, or with
    ``numbered`` (the condition is on chunk numbers) more than ``most`` chunks."""
    each = "cross join lateral generate_series(0, e.chunks - 1) as c(ordinal)" if numbered else ""
    ((found, rows, chunks),) = fetch(
        session,
        f"""
            select count(*), cast(coalesce(array_agg({"distinct" if numbered else ""} row), '{{}}') as text),
                   coalesce(sum(chunks), 0) from (
                select e.row, {"1 as chunks" if numbered else "e.chunks"}
                from entity e join source_connection s on s.id = e.connection_id {each}
                where e.collection_id = :collection_id and e.chunks > 0 and {condition} limit :most
            ) as e
        """,
        {**values, "collection_id": collection.id, "most": most + 1},
    )
    return None if found > most else _Remainder(rows, int(chunks))


def _gate_query(seen: Scope) -> str:
    # offset 0: otherwise the planner may read the whole collection and unpack every chunk's words for each term
    return f"""
        select p.entity_row, p.ordinal, sum(t.bonus) as bonus, sum(t.weight / (1 + p.length)) as gate
        from {TERMS} as t(stem, ident, weight, bonus) cross join lateral (
            select c.entity_row, c.ordinal, {LENGTH} as length from {seen.source} and {HOLDS} offset 0
        ) as p
        group by p.entity_row, p.ordinal"""


def _distance_query(seen: Scope) -> str:
    columns = f"c.entity_row, c.ordinal, c.{seen.vectors} <=> cast(:vector as halfvec) as distance"
    return f"select {columns} from {seen.source}"


def _ranked(session: Session, inner: str, values: dict[str, Any], group: bool) -> list[tuple[int, int]]:
    if group:
        inner = f"select distinct on (entity_row) * from ({inner}) as i order by entity_row, a, b, ordinal"
    statement = f"select entity_row, ordinal from ({inner}) as o order by a, b, entity_row, ordinal limit :limit"
    return fetch(session, statement, values)


def _to_sql(condition: Condition, values: dict[str, Any]) -> str:
    """The SQL of a condition; its value is added to ``values``. A null column equals nothing."""
    operator = condition.operator.removeprefix("not_")
    value: Any = list(condition.values) if operator == "in" else condition.values[0]
    if operator == "contains":
        value = "%" + value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    name = f"value_{len(values)}"
    values[name] = value
    kind = _sql_type(condition.field) + ("[]" if operator == "in" else "")
    found = " or ".join(
        COMPARISONS[operator].format(column=column, value=f"cast(:{name} as {kind})")
        for column in COLUMNS[condition.field]
    )
    if condition.field.startswith("breadcrumbs."):
        found = f"exists (select from jsonb_array_elements(e.breadcrumbs) as b where {found})"
    return f"not coalesce({found}, false)" if condition.operator.startswith("not_") else f"({found})"


def _sql_type(field: str) -> str:
    if field in ("created_at", "updated_at"):
        return "timestamptz"
    return "numeric" if field.endswith(".chunk_index") else "text"


def _term_arrays(terms: Sequence[Term]) -> dict[str, Any]:
    return {
        "stems": [_to_tsquery(term.stems) or None for term in terms],
        "idents": [_to_tsquery(term.idents) or None for term in terms],
        "weights": [term.weight for term in terms],
        "bonuses": [term.bonus for term in terms],
    }


def _to_tsquery(words: Iterable[str]) -> str:
    return " | ".join(map(_quote, words))


def _quote(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def to_halfvec(vector: Vectors) -> str:
    return "[" + ",".join(f"{value:.6g}" for value in vector.tolist()) + "]"


def fetch(session: Session, statement: str, values: dict[str, Any]) -> list[Any]:
    """The rows of a statement, by the driver itself: what SQLAlchemy does for each statement took a quarter of the
    Python of a query. Raises ``DBAPIError``."""
    with driver_errors(statement), raw(session).cursor() as cursor:
        return cursor.execute(_to_driver(statement), values).fetchall()


@lru_cache(maxsize=256)
def _to_driver(statement: str) -> bytes:
    """The statement with the driver's placeholders."""
    return _PLACEHOLDER.sub(r"%(\1)s", statement.replace("%", "%%")).encode()


_PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z]\w*)")
