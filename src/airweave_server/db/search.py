"""The SQL of search: filters, the nearest vectors by index or by an exact scan, and BM25 rebuilt from ranks of single
terms.

Every value is a bound parameter, and tsquery texts hold quoted lexemes joined by ``|`` and ``&``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ..sdk import Vectors
from . import indexes
from .languages import configuration
from .models import VECTORS, Collection

K1, B = 1.2, 0.75  # the usual constants of BM25
MEASURED = 200  # chunks of a collection that nobody has counted yet
# How widely the index is searched, the wider the larger the collection; no wider than pgvector allows.
LEAST_EF_SEARCH, MOST_EF_SEARCH, CHUNKS_PER_EF = 300, 1_000, 110
LISTED = 30_000  # entities that a filter leaves, which a query names one by one
HALF = 0.645  # ts_rank of one term that stands n times is about n / (n + HALF)

# Where a field of a filter stands; an entity's id is matched with and without its chunk's number.
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
# Of an index that is asked: to go on until there are enough, and to be asked at all, even with a filter.
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

# What a term occurs in; both sides are answered by the indexes alone, without unpacking a vector of words.
HOLDS = "(c.ts @@ cast(t.stem as tsquery) or c.ident @@ cast(t.ident as tsquery))"
TERMS = "unnest(cast(:stems as text[]), cast(:idents as text[]), cast(:idfs as float8[]), cast(:exact as int[]))"
BYTES = "octet_length(c.heading) + octet_length(c.text)"
LENGTH = f"cast({K1} as float8) * (1 - {B} + cast({B} as float8) * ({BYTES}) / cast(:mean_length as float8))"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; ``values`` holds one, or those of ``in`` and ``not_in``."""

    field: str
    operator: str
    values: tuple[str | int | datetime, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """What a query asks for once: a stem of the language, or the identifiers that mean the same, or both.

    ``exact``: an identifier, to be found whatever else is. ``frequency``: chunks of the collection that hold it.
    """

    stem: str | None
    idents: tuple[str, ...]
    exact: bool = False
    frequency: int = 0
    idf: float = 0.0


@dataclass(frozen=True, slots=True)
class Gate:
    """What lets a chunk pass to be ranked: its words (``ts``) or its identifiers (``ident``), tsqueries both; with
    ``both`` it takes the two."""

    ts: str | None
    ident: str | None
    both: bool = False

    def condition(self, n: int) -> str:
        asked = [f"c.{name} @@ cast(:{name}_{n} as tsquery)" for name in ("ts", "ident") if getattr(self, name)]
        return f"({(' and ' if self.both else ' or ').join(asked)})"


class Candidate(NamedTuple):
    """A chunk, how well it answers one question, and how many of the exact terms it holds."""

    entity_row: int
    ordinal: int
    score: float
    exact: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """What a query may see: the chunks of living connections of one collection, less what its filter leaves out.

    ``about``: how many that are, where it is known to be few.
    """

    source: str
    values: dict[str, Any]
    about: int | None = None
    vectors: str = VECTORS[0]  # the column of those that are searched


@dataclass(frozen=True, slots=True)
class Size:
    """Of a collection; ``has_index``: whether one over its vectors can be used."""

    chunks: int
    mean_bytes: float
    has_index: bool


def narrowed(
    session: Session, collection: Collection, whole: Scope, filters: Sequence[Sequence[Condition]], *, few: int
) -> Scope:
    """What the filters leave of it. Where that is of no more than ``LISTED`` entities, these are looked up first, and
    what is ``about`` no more than ``few`` chunks is then read by its entities."""
    values = dict(whole.values)
    groups = " or ".join(" and ".join(_condition(one, values) for one in group) for group in filters)
    joined = "join entity e on e.row = c.entity_row join source_connection s on s.id = c.connection_id"
    everything = Scope(f"chunk c {joined} where {_seen(collection)} and ({groups})", values, vectors=whole.vectors)
    if "c.ordinal" in groups:  # a condition on a chunk's number asks for it of the ledger
        found = _left(session, collection, f"({groups})", values, numbered=True, most=few) if few else None
        if found is None or found.chunks > few:
            return everything
        only = "(select * from chunk where entity_row = any(cast(:only as bigint[])))"
        source = f"{only} c {joined} where {_seen(collection)} and ({groups})"
        return Scope(source, {**values, "only": found.rows}, found.chunks, whole.vectors)
    found = _left(session, collection, f"({groups})", values, numbered=False, most=LISTED) if few else None
    if found is None:
        return everything
    values["only"] = found.rows
    if found.chunks <= few:
        source = f"chunk c where {_seen(collection)} and c.entity_row = any(cast(:only as bigint[]))"
        return Scope(source, values, found.chunks, whole.vectors)
    # "is true" keeps it from becoming a join, in which each gate would be read to its end
    source = f"chunk c where {_seen(collection)} and (c.entity_row in (select unnest(cast(:only as bigint[])))) is true"
    return Scope(source, values, vectors=whole.vectors)


def whole(session: Session, collection: Collection) -> tuple[Scope, Size]:
    """All chunks of the collection, and how many: as the keeper counted them; a collection that it has not seen yet is
    measured by its ledger and some chunks."""
    row = session.execute(
        text("""
            select array(select id from source_connection
                         where collection_id = :id and organization_id = :organization_id and deleted_at is null),
                   coalesce(z.chunks, (select sum(chunks) from entity where collection_id = :id), 0),
                   coalesce(nullif(z.mean_bytes, 0), (select avg(octet_length(heading) + octet_length(text)) from
                       (select heading, text from chunk where collection_id = :id limit :some) as c), 1),
                   exists (select from pg_index where indexrelid = to_regclass(:index) and indisvalid and indisready)
            from (select) as one left join collection_size z on z.collection_id = :id
        """),
        {
            "id": collection.id,
            "organization_id": collection.organization_id,
            "index": indexes.name(collection.id, collection.slot),
            "some": MEASURED,
        },
    ).one()
    everything = Scope(f"chunk c where {_seen(collection)}", {"connections": row[0]}, vectors=collection.searched)
    return everything, Size(int(row[1]), float(row[2]), row[3])


def lexemes(session: Session, collection: Collection, texts: Sequence[str]) -> list[list[str]]:
    """Each text's lexemes in the full text of the collection's language."""
    rows = session.scalars(
        text(f"""
            select tsvector_to_array(to_tsvector('public.{configuration(collection.language)}', t.text))
            from unnest(cast(:texts as text[])) with ordinality as t(text, n) order by t.n
        """),
        {"texts": list(texts)},
    )
    return [list(row) for row in rows]


def frequencies(
    session: Session, collection: Collection, whole: Scope, terms: Sequence[Term], *, at_most: int
) -> list[int]:
    """In about how many chunks each term occurs, as the keeper counted them. What it left out is rare, or new: that is
    counted here, up to ``at_most``."""
    rows = session.scalars(
        text(f"""
            select coalesce(
                greatest(
                    (select chunks from collection_word w
                     where w.collection_id = :id and w.word = t.word and not w.is_ident),
                    (select max(chunks) from collection_word w
                     where w.collection_id = :id and w.word = any(string_to_array(t.words, ' ')) and w.is_ident)),
                (select count(*) from (select from {whole.source} and {HOLDS} limit :at_most) as found)
            )
            from unnest(cast(:stems as text[]), cast(:idents as text[]), cast(:word as text[]), cast(:words as text[]))
                with ordinality as t(stem, ident, word, words, n)
            order by t.n
        """),
        {
            **whole.values,
            **_terms(terms),
            "at_most": at_most,
            "id": collection.id,
            "word": [term.stem for term in terms],
            "words": [" ".join(term.idents) for term in terms],
        },
    )
    return list(rows)


def matching(
    session: Session,
    seen: Scope,
    gates: Sequence[Gate],
    scored: Sequence[Term],
    *,
    mean_bytes: float,
    wanted: int,
    budget: int,
    limit: int,
) -> tuple[list[Candidate], bool]:
    """The best chunks that pass a gate, by BM25 over all of ``scored``, and whether they are all that hold any term.

    A gate is tried when those before it let fewer than ``wanted`` pass, and lets ``budget`` pass.
    """
    values: dict[str, Any] = {
        **seen.values,
        "mean_length": mean_bytes,
        "wanted": wanted,
        "budget": budget,
        "limit": limit,
    }
    steps: list[str] = []
    counts: list[str] = []
    for n, gate in enumerate(gates):
        values |= {f"ts_{n}": gate.ts, f"ident_{n}": gate.ident}
        steps.append(f"""
            gate_{n} as materialized (
                select c.entity_row, c.ordinal, {LENGTH} as length, c.ts, c.ident from {seen.source}
                and {gate.condition(n)} {f"and {' + '.join(counts)} < :wanted" if counts else ""} limit :budget
            )""")
        counts.append(f"(select count(*) from gate_{n})")
    passed = " union all ".join(f"select * from gate_{n}" for n in range(len(gates)))
    is_all = " and ".join([f"{counts[-1]} < :budget", *([f"{' + '.join(counts[:-1])} < :wanted"] if steps[1:] else [])])
    rows = session.execute(
        text(f"""
            with {", ".join(steps)},
            z as materialized (
                select distinct on (entity_row, ordinal) entity_row, ordinal, length,
                       setweight(ts, 'D') as ts, strip(ident) as ident  -- as they are, but unpacked once
                from ({passed}) as p
            )
            select entity_row, ordinal, {_score(scored, values)} as score, {_held(scored, values)} as exact,
                   {is_all} as is_all
            from z order by exact desc, score desc, entity_row, ordinal limit :limit
        """),
        values,
    ).all()
    candidates = sorted(
        (Candidate(*row[:4]) for row in rows), key=lambda one: (-one.score, one.entity_row, one.ordinal)
    )
    return candidates, len(rows) < limit and (bool(rows[0].is_all) if rows else True)


def nearest(
    session: Session, seen: Scope, vector: Vectors, *, limit: int, by_index: bool, chunks: int, is_alone: bool
) -> list[Candidate]:
    """The chunks nearest by cosine, nearest first, in a collection of so many. A chunk without any known token is near
    nothing. ``is_alone``: nothing else is asked in this transaction.

    By its index almost all of the nearest are found; where that ends too early, all vectors are compared.
    """
    if by_index:
        distance = indexes.distance(f"c.{seen.vectors}", ":vector", len(vector))
        nested = None if is_alone else session.begin_nested()  # what is set for it is undone with it
        width = min(max(chunks // CHUNKS_PER_EF, LEAST_EF_SEARCH, limit), MOST_EF_SEARCH)
        session.execute(text(WITH_INDEX), {"width": width})
        rows = session.execute(
            text(f"""
                with near as materialized (
                    select c.entity_row, c.ordinal, {distance} as distance from {seen.source}
                    order by {distance} limit :limit
                )
                select * from near order by distance, entity_row, ordinal
            """),
            {**seen.values, "vector": _halfvec(vector), "limit": limit},
        ).all()
        if nested is not None:
            nested.rollback()
        if len(rows) == limit:
            return [Candidate(row[0], row[1], 1 - row[2]) for row in rows]
    rows = session.execute(
        text(f"{_distances(seen)} order by distance, entity_row, ordinal limit :limit"),
        {**seen.values, "vector": _halfvec(vector), "limit": limit},
    ).all()
    return [Candidate(row[0], row[1], 1 - row[2]) for row in rows if row[2] is not None and row[2] == row[2]]


def matching_deep(
    session: Session, seen: Scope, terms: Sequence[Term], *, mean_bytes: float, group: bool, limit: int
) -> list[tuple[int, int]]:
    """Every chunk that holds a term, or the best of each entity, in the order in which ``matching`` chooses."""
    values = {**seen.values, **_terms(terms), "mean_length": mean_bytes, "limit": limit}
    return _deep(
        session, f"select entity_row, ordinal, -exact as a, -gate as b from ({_gate(seen)}) as g", values, group
    )


def nearest_deep(session: Session, seen: Scope, vector: Vectors, *, group: bool, limit: int) -> list[tuple[int, int]]:
    """As ``nearest``, but of each entity the nearest chunk alone where ``group`` is set."""
    values = {**seen.values, "vector": _halfvec(vector), "limit": limit}
    inner = f"select entity_row, ordinal, distance as a, 0 as b from ({_distances(seen)}) as d where distance <= 2"
    return _deep(session, inner, values, group)


def passages(session: Session, keys: Sequence[tuple[int, int]]) -> list[tuple[int, dict[str, Any]]]:
    """What is shown of these chunks, each with its place among ``keys``; one that is left of an entity that is gone
    is left out."""
    rows = session.execute(
        text("""
            select k.n, e.entity_id, e.name, e.type, s.short_name as source_name, e.connection_id, e.job_id, c.ordinal,
                   c.heading, rtrim(c.text, E' \\n\\t') as text, e.breadcrumbs, e.created_at, e.updated_at,
                   e.web_url, e.url, e.fields
            from unnest(cast(:rows as bigint[]), cast(:ordinals as bigint[])) with ordinality as k(row, ordinal, n)
            join chunk c on c.entity_row = k.row and c.ordinal = k.ordinal
            join entity e on e.row = k.row
            join source_connection s on s.id = c.connection_id
            order by k.n
        """),
        {"rows": [row for row, _ in keys], "ordinals": [ordinal for _, ordinal in keys]},
    )
    return [(int(row.pop("n")) - 1, row) for row in map(dict, rows.mappings())]


def any_of(terms: Sequence[Term]) -> Gate:
    """What holds one of these terms."""
    stems = [term.stem for term in terms if term.stem is not None]
    idents = [ident for term in terms for ident in term.idents]
    return Gate(_tsquery(stems) or None, _tsquery(idents) or None)


def some_of(terms: Sequence[Term], count: int) -> Gate | None:
    """What holds so many of these terms, either in its words or among its identifiers; None where these are fewer."""
    stems = [_tsquery([term.stem]) for term in terms if term.stem is not None]
    idents = [f"({_tsquery(term.idents)})" for term in terms if term.stem is None]
    ts, ident = (_at_least(count, asked) if len(asked) >= count else None for asked in (stems, idents))
    return Gate(ts, ident) if ts or ident else None


def _at_least(count: int, asked: Sequence[str]) -> str:
    """A tsquery for so many of these, as short as can be: a GIN index weighs all of it for each row it may find."""
    if count == 1 or count == len(asked):
        return (" & " if count > 1 else " | ").join(asked)
    first, *others = asked
    return f"{first} & ({_at_least(count - 1, others)}) | {_at_least(count, others)}"


def _score(terms: Sequence[Term], values: dict[str, Any]) -> str:
    """BM25 of a row of ``z``."""
    ranks = "ts_rank('{1,1,1,1}', z.ts, cast(:stem_%d as tsquery))"
    score: list[str] = []
    for n, term in enumerate(terms):
        values[f"idf_{n}"] = term.idf
        parts = []
        if term.stem is not None:
            values[f"stem_{n}"] = _tsquery([term.stem])
            parts.append(f"(select r / (r + (1.0001 - r) * z.length / {HALF}) from (select {ranks % n} as r) as one)")
        if term.idents:
            values[f"held_{n}"] = _tsquery(term.idents)
            parts.append(f"case when z.ident @@ cast(:held_{n} as tsquery) then 1 / (1 + z.length) else 0 end")
        score.append(f"cast(:idf_{n} as float8) * greatest({', '.join(parts)})")
    return " + ".join(score)


def _held(terms: Sequence[Term], values: dict[str, Any]) -> str:
    """How many of the exact terms a row of ``z`` holds."""
    held = [f"cast(z.ident @@ cast(:held_{n} as tsquery) as int)" for n, term in enumerate(terms) if term.exact]
    return " + ".join(held) or "0"


def _seen(collection: Collection) -> str:
    # a literal: the planner takes a collection's own index only where it can see which collection is asked for
    return f"c.collection_id = '{UUID(str(collection.id))}' and c.connection_id = any(:connections)"


@dataclass(frozen=True, slots=True)
class _Left:
    """The entities of which a filter leaves something, and how many chunks."""

    rows: str  # as an array's text: it goes back as it came
    chunks: int


def _left(
    session: Session, collection: Collection, condition: str, values: dict[str, Any], *, numbered: bool, most: int
) -> _Left | None:
    """None where it is more than ``most`` entities, or chunks where it asks for their numbers."""
    each = "cross join lateral generate_series(0, e.chunks - 1) as c(ordinal)" if numbered else ""
    found, rows, chunks = session.execute(
        text(f"""
            select count(*), cast(coalesce(array_agg({"distinct" if numbered else ""} row), '{{}}') as text),
                   coalesce(sum(chunks), 0) from (
                select e.row, {"1 as chunks" if numbered else "e.chunks"}
                from entity e join source_connection s on s.id = e.connection_id {each}
                where e.collection_id = :collection_id and e.chunks > 0 and {condition} limit :most
            ) as e
        """),
        {**values, "collection_id": collection.id, "most": most + 1},
    ).one()
    return None if found > most else _Left(rows, int(chunks))


def _gate(seen: Scope) -> str:
    # offset 0: else the planner may read the whole collection once and unpack every chunk's words for each term
    return f"""
        select p.entity_row, p.ordinal, sum(t.exact) as exact, sum(t.idf / (1 + p.length)) as gate
        from {TERMS} as t(stem, ident, idf, exact) cross join lateral (
            select c.entity_row, c.ordinal, {LENGTH} as length from {seen.source} and {HOLDS} offset 0
        ) as p
        group by p.entity_row, p.ordinal"""


def _distances(seen: Scope) -> str:
    columns = f"c.entity_row, c.ordinal, c.{seen.vectors} <=> cast(:vector as halfvec) as distance"
    return f"select {columns} from {seen.source}"


def _deep(session: Session, inner: str, values: dict[str, Any], group: bool) -> list[tuple[int, int]]:
    if group:
        inner = f"select distinct on (entity_row) * from ({inner}) as i order by entity_row, a, b, ordinal"
    rows = session.execute(
        text(f"select entity_row, ordinal from ({inner}) as o order by a, b, entity_row, ordinal limit :limit"), values
    )
    return [(row[0], row[1]) for row in rows.all()]


def _condition(condition: Condition, values: dict[str, Any]) -> str:
    """The SQL of a condition, its value put into ``values``. What is null equals nothing."""
    operator = condition.operator.removeprefix("not_")
    value: Any = list(condition.values) if operator == "in" else condition.values[0]
    if operator == "contains":
        value = "%" + value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    name = f"value_{len(values)}"
    values[name] = value
    kind = _kind(condition.field) + ("[]" if operator == "in" else "")
    found = " or ".join(
        COMPARISONS[operator].format(column=column, value=f"cast(:{name} as {kind})")
        for column in COLUMNS[condition.field]
    )
    if condition.field.startswith("breadcrumbs."):
        found = f"exists (select from jsonb_array_elements(e.breadcrumbs) as b where {found})"
    return f"not coalesce({found}, false)" if condition.operator.startswith("not_") else f"({found})"


def _kind(field: str) -> str:
    if field in ("created_at", "updated_at"):
        return "timestamptz"
    return "numeric" if field.endswith(".chunk_index") else "text"


def _terms(terms: Sequence[Term]) -> dict[str, Any]:
    return {
        "stems": [None if term.stem is None else _tsquery([term.stem]) for term in terms],
        "idents": [_tsquery(term.idents) if term.idents else None for term in terms],
        "idfs": [term.idf for term in terms],
        "exact": [int(term.exact) for term in terms],
    }


def _tsquery(words: Iterable[str]) -> str:
    return " | ".join("'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words)


def _halfvec(vector: Vectors) -> str:
    return "[" + ",".join(f"{value:.6g}" for value in vector.tolist()) + "]"
