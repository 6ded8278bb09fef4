"""The SQL of search: filters, the exact vector scan, and BM25 rebuilt from ranks of single terms.

Every value is a bound parameter, and tsquery texts hold one quoted lexeme or several joined by ``|``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from ..sdk import Vectors
from .models import Collection, SourceConnection

K1, B = 1.2, 0.75  # the usual constants of BM25
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
    """What a query asks for once: a stem of the English full text, or the identifiers that mean the same, or both.

    ``exact``: an identifier, to be found whatever else is. ``frequency``: chunks of the collection that hold it.
    """

    stem: str | None
    idents: tuple[str, ...]
    exact: bool = False
    frequency: int = 0
    idf: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk, how well it answers one question, and how many of the exact terms it holds."""

    entity_row: int
    ordinal: int
    score: float
    exact: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """What a query may see: the chunks of living connections of one collection, less what its filter leaves out."""

    source: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    chunks: int
    mean_length: float  # bytes


def scope(session: Session, collection: Collection, filters: Sequence[Sequence[Condition]]) -> Scope:
    connections = session.scalars(
        select(SourceConnection.id).where(
            SourceConnection.collection_id == collection.id,
            SourceConnection.organization_id == collection.organization_id,
            SourceConnection.deleted_at.is_(None),
        )
    )
    values: dict[str, Any] = {"collection_id": collection.id, "connections": list(connections)}
    seen = "c.collection_id = :collection_id and c.connection_id = any(:connections)"
    if not filters:
        return Scope(f"chunk c where {seen}", values)
    groups = " or ".join(" and ".join(_condition(one, values) for one in group) for group in filters)
    joined = "chunk c join entity e on e.row = c.entity_row join source_connection s on s.id = c.connection_id"
    return Scope(f"{joined} where {seen} and ({groups})", values)


def size(session: Session, whole: Scope) -> Size:
    row = session.execute(text(f"select count(*), avg({BYTES}) from {whole.source}"), whole.values).one()
    return Size(chunks=row[0], mean_length=float(row[1] or 1))


def lexemes(session: Session, texts: Sequence[str]) -> list[list[str]]:
    """Each text's lexemes in the English full text."""
    rows = session.scalars(
        text("""
            select tsvector_to_array(to_tsvector('public.airweave', t.text))
            from unnest(cast(:texts as text[])) with ordinality as t(text, n) order by t.n
        """),
        {"texts": list(texts)},
    )
    return [list(row) for row in rows]


def frequencies(session: Session, whole: Scope, terms: Sequence[Term], *, at_most: int) -> list[int]:
    """In how many chunks each term occurs; counting stops at ``at_most``."""
    rows = session.scalars(
        text(f"""
            select (select count(*) from (select from {whole.source} and {HOLDS} limit :at_most) as found)
            from unnest(cast(:stems as text[]), cast(:idents as text[])) with ordinality as t(stem, ident, n)
            order by t.n
        """),
        {**whole.values, **_terms(terms), "at_most": at_most},
    )
    return list(rows)


def matching(
    session: Session, seen: Scope, terms: Sequence[Term], scored: Sequence[Term], *, mean_length: float, budget: int
) -> list[Candidate]:
    """The chunks that hold the most of ``terms``, at most ``budget``, best first by BM25 over all of ``scored``.

    Chosen are those that would be best if each term stood in them once, for that needs the indexes alone.
    """
    ranks = "ts_rank('{1,1,1,1}', z.ts, cast(:stem_%d as tsquery))"
    score: list[str] = []
    values: dict[str, Any] = {}
    for n, term in enumerate(scored):
        values[f"idf_{n}"] = term.idf
        parts = []
        if term.stem is not None:
            values[f"stem_{n}"] = _tsquery([term.stem])
            parts.append(f"(select r / (r + (1.0001 - r) * z.length / {HALF}) from (select {ranks % n} as r) as one)")
        if term.idents:
            values[f"ident_{n}"] = _tsquery(term.idents)
            parts.append(f"case when z.ident @@ cast(:ident_{n} as tsquery) then 1 / (1 + z.length) else 0 end")
        score.append(f"cast(:idf_{n} as float8) * greatest({', '.join(parts)})")
    rows = session.execute(
        text(f"""
            with gated as materialized (
                {_gate(seen)} order by exact desc, gate desc, entity_row, ordinal limit :budget
            ),
            z as materialized (
                select g.entity_row, g.ordinal, g.exact, {LENGTH} as length,
                       c.ts || cast('' as tsvector) as ts, c.ident || cast('' as tsvector) as ident  -- unpacked once
                from gated g join chunk c on c.entity_row = g.entity_row and c.ordinal = g.ordinal
            )
            select entity_row, ordinal, {" + ".join(score)} as score, exact from z
            order by score desc, entity_row, ordinal
        """),
        {**seen.values, **_terms(terms), **values, "mean_length": mean_length, "budget": budget},
    )
    return [Candidate(*row) for row in rows.all()]


def nearest(session: Session, seen: Scope, vector: Vectors, *, limit: int) -> list[Candidate]:
    """The chunks nearest by cosine, nearest first. A chunk without any known token is near nothing."""
    rows = session.execute(
        text(f"{_distances(seen)} order by distance, entity_row, ordinal limit :limit"),
        {**seen.values, "vector": _halfvec(vector), "limit": limit},
    )
    return [Candidate(row[0], row[1], 1 - row[2]) for row in rows.all() if row[2] == row[2]]


def matching_deep(
    session: Session, seen: Scope, terms: Sequence[Term], *, mean_length: float, group: bool, limit: int
) -> list[tuple[int, int]]:
    """Every chunk that holds a term, or the best of each entity, in the order in which ``matching`` chooses."""
    values = {**seen.values, **_terms(terms), "mean_length": mean_length, "limit": limit}
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


def _gate(seen: Scope) -> str:
    # offset 0: else the planner may read the whole collection once and unpack every chunk's words for each term
    return f"""
        select p.entity_row, p.ordinal, sum(t.exact) as exact, sum(t.idf / (1 + p.length)) as gate
        from {TERMS} as t(stem, ident, idf, exact) cross join lateral (
            select c.entity_row, c.ordinal, {LENGTH} as length from {seen.source} and {HOLDS} offset 0
        ) as p
        group by p.entity_row, p.ordinal"""


def _distances(seen: Scope) -> str:
    columns = "c.entity_row, c.ordinal, c.embedding <=> cast(:vector as halfvec) as distance"
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
