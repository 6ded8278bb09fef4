"""The SQL of the audit: it compares the ledger with the chunks, the chunks with the indexes, and a listing of the
source with the ledger.

No write is trusted: chunks are counted through their primary key, words are looked up in the text indexes, and both are
compared with the content of the tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from . import plans
from .languages import CONFIGURATION
from .ledger import FAILED, INCOMPLETE
from .models import INDEX_VERSION, SyncJob, Trigger
from .session import Database, raw

SAMPLE = 1_000  # chunks whose words are looked up
# of the chunks that jobs wrote, a tenth is looked up, within these bounds
LEAST_OF_JOBS, MOST_OF_JOBS = 50, 250
EXAMPLES = 5
LEXEMES = 4  # per chunk, how many of its longest lexemes, which are rare, are looked up, and how many random ones
KEY = "chunk_pkey"
WORDS = {"chunk_ts": "ts", "chunk_ident": "ident"}  # the text indexes and their columns
INDEXES = (KEY, *WORDS)
IN_DATABASE = ("orphan", "index", *INDEXES)  # faults that are repaired without the source

DESCRIPTIONS = {
    "chunks": "the number of stored chunks is not the number in the ledger",
    "gap": "the chunk numbers have a gap",
    "empty": "marked as indexed, but has no chunks",
    "fingerprint": "marked as indexed, but has no fingerprint",
    "reason": "failed or skipped, but has no reason",
    "stuck": "the old chunks could not be replaced",
    "place": "the chunks belong to another collection or connection",
    "vector": "a vector is missing or has the wrong number of dimensions",
    "text": "the full-text vector does not match the text of the chunk",
    "chunk_ts": "the index chunk_ts does not find a chunk by its words",
    "chunk_ident": "the index chunk_ident does not find a chunk by its identifiers",
    "undeleted": "deleted, but still there",
    "orphan": "chunks remain of an entity that no longer exists",
    "index": "an index is missing, invalid or not maintained",
}

SEARCHED = "case k.slot when 1 then c.embedding else c.embedding_2 end"

# The first fault of each entity. A marked entity is known to be incomplete and waits to be read again.
ENTITY_FAULTS = f"""
    select e.row, e.entity_id, e.chunks as declared, h.stored, m.is_marked,
           case when h.stored <> e.chunks then 'chunks'
                when e.job_id = cast(:job as uuid) and m.is_marked then 'stuck'
                when h.stored > 0 and (h.first <> 0 or h.last <> h.stored - 1) and not m.is_marked then 'gap'
                when e.state = 'indexed' and e.chunks = 0 then 'empty'
                when e.state = 'indexed' and e.fingerprint is null then 'fingerprint'
                when e.state <> 'indexed' and coalesce(e.reason, '') = '' then 'reason'
                when h.is_elsewhere then 'place'
                when h.has_no_vector then 'vector'
                when h.has_no_text then 'text'
           end as fault
    from entity e join collection k on k.id = e.collection_id
    cross join lateral (select starts_with(coalesce(e.reason, ''), '{INCOMPLETE}') as is_marked) as m
    cross join lateral (
        select count(*) as stored, min(c.ordinal) as first, max(c.ordinal) as last,
               bool_or(c.collection_id <> e.collection_id or c.connection_id <> e.connection_id) as is_elsewhere,
               bool_or(coalesce(vector_dims({SEARCHED}) <> k.dimensions, true)) as has_no_vector,
               bool_or(c.ts is null or c.ident is null) as has_no_text
        from chunk c where c.entity_row = e.row
    ) as h"""

CONNECTION_GONE = "not exists (select from source_connection s where s.id = {}.connection_id)"
EXAMPLE = "left(entity_id, 120) || case when stored <> declared then ': ' || stored || ' of ' || declared else '' end"

# Makes the planner find each chunk by its primary key and each word in its index, never by a sequential scan.
BY_INDEX = """
    select set_config(name, setting, true) from (values ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'),
           ('enable_mergejoin', 'off'), ('enable_indexscan', 'on'), ('enable_bitmapscan', 'on'), ('jit', 'off'))
           as s(name, setting)"""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to audit: all of a connection, or only what these ``jobs`` of it wrote and deleted. ``job``: the running
    job, if it audits itself."""

    connection_id: UUID
    jobs: tuple[UUID, ...] | None = None
    job: UUID | None = None

    @property
    def entities(self) -> str:
        """The SQL condition on ``entity e``."""
        whole = "e.connection_id = :connection"
        return whole if self.jobs is None else f"{whole} and e.job_id = any(:jobs)"

    def sample(self, chunks: int) -> int:
        """How many of this number of chunks to look up in the text indexes."""
        return SAMPLE if self.jobs is None else min(max(chunks // 10, LEAST_OF_JOBS), MOST_OF_JOBS)

    @property
    def values(self) -> dict[str, Any]:
        values = {"connection": self.connection_id, "job": self.job}
        return values if self.jobs is None else {**values, "jobs": list(self.jobs)}


@dataclass(frozen=True, slots=True)
class Some:
    """A count, with a few examples."""

    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.count:,} ({', '.join(self.examples)}{more})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, a key of ``DESCRIPTIONS``. ``rows``: the entities with the fault, unless the ledger and a count of the
    chunks suffice to find them again."""

    fault: str
    some: Some
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{DESCRIPTIONS[self.fault]}: {self.some}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an audit. ``chunks``: the number stored. ``looked_up``: how many of them were looked up in the text
    indexes. ``waiting``: entities that are marked as incomplete and wait to be read again."""

    entities: int
    chunks: int
    looked_up: int
    waiting: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """An item of a listing. ``kind``: entity, seen, skipped, subtree or deleted.

    ``content``: the fingerprint of what would be indexed, in hexadecimal; empty if there is nothing to index; None if
    the content was not read.
    """

    kind: str
    entity_id: str
    version: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences between a listing of the source and the ledger.

    ``rewritten``: entities with other content in the same version, which only reading finds; ``rewritten_rows`` are
    their ledger rows. ``read``: how many entities were read.
    """

    listed: int
    read: int
    missing: Some
    gone: Some
    changed: Some
    rewritten: Some
    rewritten_rows: tuple[int, ...]

    def __bool__(self) -> bool:
        return any(some.count for some in (self.missing, self.gone, self.changed, self.rewritten))


def scope_of_job(session: Session, job: SyncJob) -> Scope:
    """The scope to audit at the end of a job: whatever was written since the last completed job, because none of it has
    been audited yet. After a repair it is the whole connection."""
    if job.trigger == Trigger.REPAIR:
        return Scope(job.connection_id, job=job.id)
    found = session.scalars(
        text("""
            select id from sync_job where connection_id = :connection and number > coalesce(
                (select max(number) from sync_job where connection_id = :connection and status = 'completed'
                   and trigger <> 'reembed'), 0)
        """),
        {"connection": job.connection_id},
    )
    return Scope(job.connection_id, jobs=tuple({*found, job.id}), job=job.id)


def check(session: Session, scope: Scope, *, every_chunk: bool = False) -> Report:
    """Audit the scope. Looks up the words of a sample of the chunks, or of ``every_chunk``."""
    findings: list[Finding] = []
    usable = _usable_indexes(session)
    if broken := tuple(name for name in INDEXES if name not in usable):
        findings.append(Finding("index", Some(len(broken), broken)))
    nested = session.begin_nested()  # its rollback undoes the planner settings
    if KEY in usable:
        session.execute(text(BY_INDEX))
    entities = chunks = declared = waiting = looked_up = 0
    for row in session.execute(text(_count_faults(scope)), scope.values):
        entities, chunks, waiting = entities + row.entities, chunks + row.stored, waiting + row.waiting
        declared += row.declared
        if row.fault is not None:
            findings.append(Finding(row.fault, Some(row.entities, tuple(row.examples))))
    if declared:
        words = [name for name in WORDS if name in usable]
        share = 1.0 if every_chunk else min(1.0, scope.sample(declared) / declared)
        found = session.execute(text(_lookup(scope, words)), {**scope.values, "share": share}).mappings().one()
        looked_up = found["looked_up"]
        for fault in ("text", *words):
            if rows := tuple(found[f"{fault}_rows"] or ()):
                findings.append(Finding(fault, Some(len(rows), tuple(found[f"{fault}_examples"])), rows))
    nested.rollback()
    findings += _find_undeleted(session, scope)
    findings += _find_orphans(session, scope)
    return Report(entities, chunks, looked_up, waiting, tuple(findings))


def delete_orphans(session: Session, scope: Scope) -> int:
    """Delete the chunks whose entity no longer exists. Returns how many."""
    which, values = _orphan_condition(session, scope)
    gone = session.execute(text(f"delete from chunk c where {which} returning 1"), values).all()
    return len(gone)


def mark(session: Session, scope: Scope, findings: Sequence[Finding]) -> int:
    """Mark the entities with faults as failed in the ledger, with the number of chunks actually stored, so that the
    next job that lists them reads them again. Returns how many."""
    if any(finding.fault == "vector" for finding in findings):
        # a single vector of other dimensions makes every query of the collection fail
        session.execute(
            text(f"""
                delete from chunk c using entity e join collection k on k.id = e.collection_id
                where c.entity_row = e.row and {scope.entities}
                  and coalesce(vector_dims({SEARCHED}) <> k.dimensions, true)
            """),
            scope.values,
        )
    marked: set[int] = set()
    rows = [row for finding in findings for row in finding.rows]
    for which in (f"{scope.entities}) as d where d.fault is not null", "e.row = any(:rows)) as d where true"):
        marked.update(
            session.scalars(
                text(f"""
                    update entity t set state = 'failed', version = null, fingerprint = null,
                           metadata_fingerprint = null, chunks = d.stored, reason = '{INCOMPLETE}: ' || case
                           when d.stored <> d.declared then d.stored || ' of ' || d.declared || ' chunks were stored'
                           else coalesce(cast(:said as jsonb) ->> d.fault, 'search does not find all of it') end
                    from ({ENTITY_FAULTS} where {which} and d.row = t.row returning t.row
                """),
                {**scope.values, "rows": rows, "said": json.dumps(DESCRIPTIONS)},
            )
        )
    return len(marked)


def count_leftovers(session: Session) -> tuple[int, int]:
    """The number of entities and of chunks whose connection no longer exists."""
    counts = (f"select count(*) from {table} where {CONNECTION_GONE.format(table)}" for table in ("entity", "chunk"))
    entities, chunks = (int(session.execute(text(count)).scalar_one()) for count in counts)
    return entities, chunks


def delete_leftovers(session: Session) -> None:
    for table in ("chunk", "entity"):
        session.execute(text(f"delete from {table} where {CONNECTION_GONE.format(table)}"))


def rebuild(database: Database, index: str) -> None:
    """Rebuild one of ``INDEXES`` without blocking reads and writes."""
    name = INDEXES[INDEXES.index(index)]  # only known index names reach the SQL
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("set lock_timeout = 0"))
        connection.execute(text(f"drop index if exists {name}_ccnew"))  # left by an attempt that was interrupted
        is_there = connection.execute(text("select to_regclass(:name) is not null"), {"name": name}).scalar_one()
        if is_there or name == KEY:
            connection.execute(text(f"reindex index concurrently {name}"))
        else:
            connection.execute(text(f"create index concurrently {name} on chunk using gin ({WORDS[name]})"))
        connection.invalidate()  # its settings differ from those of the pool


def begin_listing(session: Session) -> None:
    """Create a temporary table, visible to this session only, for a listing of the source."""
    session.execute(
        text("""
            create temporary table listed (
                n bigint generated always as identity, kind text not null, entity_id text not null, version text,
                content text
            )
        """)
    )
    session.commit()


def add_listed(session: Session, listed: Sequence[Listed]) -> None:
    """Add to the listing."""
    copying = "copy listed (kind, entity_id, version, content) from stdin"
    with raw(session).cursor() as cursor, cursor.copy(copying) as copy:
        for item in listed:
            copy.write_row((item.kind, item.entity_id, item.version, item.content))
    session.commit()


def compare_listing(session: Session, connection_id: UUID, *, current: Sequence[str]) -> Differences:
    """Compare the listing with the ledger. What the source does not report (a version, the content of a subtree that it
    could not read) does not count as a difference. Content is compared where the present readers made the ledger's:
    all words of its pipeline are in ``current``."""
    session.execute(text("create index on pg_temp.listed (entity_id)"))
    session.execute(text("analyze pg_temp.listed"))
    last = "(select distinct on (entity_id) * from pg_temp.listed order by entity_id, n desc)"
    queries = {
        "missing": f"""
            select l.entity_id, e.row from {last} as l left join entity e
              on e.connection_id = :id and e.entity_id = l.entity_id
            where l.kind in ('entity', 'skipped', 'subtree') and e.row is null
        """,
        "gone": f"""
            select e.entity_id, e.row from entity e left join {last} as l on l.entity_id = e.entity_id
            where e.connection_id = :id and (l.kind is null or l.kind = 'deleted') and not exists (
                select from pg_temp.listed s where s.kind = 'subtree' and (starts_with(e.entity_id, s.entity_id || '/')
                  or e.breadcrumbs @> jsonb_build_array(jsonb_build_object('entity_id', s.entity_id))))
        """,
        "changed": f"""
            select l.entity_id, e.row from {last} as l
            join entity e on e.connection_id = :id and e.entity_id = l.entity_id
            where l.kind = 'entity' and e.version <> l.version
        """,
        "rewritten": f"""
            select l.entity_id, e.row from {last} as l
            join entity e on e.connection_id = :id and e.entity_id = l.entity_id
            where l.kind = 'entity' and coalesce(e.version = l.version, true) and e.state <> '{FAILED}'
              and string_to_array(e.pipeline, ' ') <@ cast(:current as text[])
              and l.content <> coalesce(encode(e.fingerprint, 'hex'), '')
        """,
    }
    differences: dict[str, Some] = {}
    rows: tuple[int, ...] = ()
    for name, query in queries.items():
        found = session.execute(
            text(f"""
                with found as materialized ({query})
                select (select count(*) from found) as number,
                       array(select left(entity_id, 120) from found order by entity_id limit {EXAMPLES}) as examples,
                       case when :name = 'rewritten' then array(select row from found) end as rows
            """),
            {"id": connection_id, "current": list(current), "name": name},
        ).one()
        differences[name] = Some(int(found.number), tuple(found.examples))
        rows = tuple(found.rows or rows)
    listed, read = session.execute(
        text(f"select count(*), count(content) from {last} as l where kind <> 'deleted'")
    ).one()
    return Differences(listed, read, **differences, rewritten_rows=rows)


def _count_faults(scope: Scope) -> str:
    return f"""
        select fault, count(*) as entities, coalesce(sum(stored), 0)::bigint as stored,
               coalesce(sum(declared), 0)::bigint as declared, count(*) filter (where is_marked) as waiting,
               (array_agg({EXAMPLE} order by entity_id) filter (where fault is not null))[1:{EXAMPLES}] as examples
        from ({ENTITY_FAULTS} where {scope.entities}) as judged group by fault order by fault"""


def _lookup(scope: Scope, indexes: Sequence[str]) -> str:
    """SQL that takes a random share of the chunks in the ledger and checks whether the full-text vector matches the
    text and whether each index finds the chunk by its words. Returns the entities by fault."""
    asked = ", ".join(f"{_tsquery(f'c.{WORDS[name]}')} as {name}" for name in indexes)
    # + 0: otherwise the planner finds the chunk by its primary key and only compares the words
    answers = "".join(
        f""", l.{name} is null or (select count(*) from chunk c where c.{WORDS[name]} @@ l.{name}
                and c.entity_row + 0 = l.entity_row and c.ordinal + 0 = l.ordinal) = 1 as {name}_finds"""
        for name in indexes
    )
    faults = {"text": "not a.text_fits", **{name: f"not a.{name}_finds" for name in indexes}}
    counted = ", ".join(
        f"array_agg(distinct e.row) filter (where {wrong}) as {name}_rows,"
        f"(array_agg(distinct left(e.entity_id, 120)) filter (where {wrong}))[1:{EXAMPLES}] as {name}_examples"
        for name, wrong in faults.items()
    )
    return f"""
        with sampled as materialized (
            select e.row, o.ordinal from entity e cross join lateral generate_series(0, e.chunks - 1) as o(ordinal)
            where {scope.entities} and random() < :share
        ),
        looked_at as materialized (
            select c.entity_row, c.ordinal,
                   c.ts is not distinct from airweave_words(k.language, c.heading || ' ' || c.text)
                   or (k.index_version < {INDEX_VERSION} and c.ts is not distinct from
                       to_tsvector({CONFIGURATION.format("k.language")}, c.heading || ' ' || c.text)) as text_fits
                   {", " + asked if asked else ""}
            from sampled s join chunk c on c.entity_row = s.row and c.ordinal = s.ordinal
            join collection k on k.id = c.collection_id
        ),
        answered as materialized (select l.entity_row, l.text_fits {answers} from looked_at l)
        select count(*) as looked_up, {counted} from answered a join entity e on e.row = a.entity_row"""


def _tsquery(vector: str) -> str:
    """A query for some of a vector's words, all at once. Null for a vector without words."""
    quoted = r"'''' || replace(replace(w, '\', '\\'), '''', '''''') || ''''"
    return f"""cast((select string_agg({quoted}, ' & ') from (
        (select w from unnest(tsvector_to_array({vector})) as w order by length(w) desc limit {LEXEMES}) union
        (select w from unnest(tsvector_to_array({vector})) as w order by random() limit {LEXEMES})
    ) as words(w)) as tsquery)"""


def _usable_indexes(session: Session) -> list[str]:
    """Those of ``INDEXES`` that exist, are valid and are maintained."""
    return list(
        session.scalars(
            text("""
                select n.name from unnest(cast(:names as text[])) as n(name)
                join pg_index i on i.indexrelid = to_regclass(n.name)
                where i.indisvalid and i.indisready and i.indislive
            """),
            {"names": list(INDEXES)},
        )
    )


def _find_orphans(session: Session, scope: Scope) -> list[Finding]:
    which, values = _orphan_condition(session, scope)
    row = session.execute(
        text(f"""
            with found as materialized (select c.entity_row, c.ordinal from chunk c where {which})
            select (select count(*) from found), array(
                select 'row ' || entity_row || ' chunk ' || ordinal from found order by entity_row, ordinal
                limit {EXAMPLES})
        """),
        values,
    ).one()
    return [Finding("orphan", Some(int(row[0]), tuple(row[1])))] if row[0] else []


def _orphan_condition(session: Session, scope: Scope) -> tuple[str, dict[str, Any]]:
    """The SQL condition for chunks without an entity, of a connection or of what its jobs deleted, with its values."""
    homeless = "not exists (select from entity e where e.row = c.entity_row)"
    if scope.jobs is None:
        place = "(select collection_id from source_connection where id = :connection)"
        which = f"c.collection_id = {place} and c.connection_id = :connection and {homeless}"
        return which, {"connection": scope.connection_id}
    deleted = plans.deleted_rows(session, scope.connection_id, scope.jobs)
    return f"c.entity_row = any(:rows) and {homeless}", {"rows": list(deleted)}


def _find_undeleted(session: Session, scope: Scope) -> list[Finding]:
    """Entities that the running job deleted and that still exist. Earlier jobs are not checked: what they deleted may
    have come back since."""
    if scope.job is None:
        return []
    deleted = plans.deleted_rows(session, scope.connection_id, (scope.job,))
    found = session.execute(
        text("select row, left(entity_id, 120) as id from entity where row = any(:rows) order by entity_id"),
        {"rows": list(deleted)},
    ).all()
    if not found:
        return []
    examples = tuple(row.id for row in found[:EXAMPLES])
    return [Finding("undeleted", Some(len(found), examples), tuple(row.row for row in found))]
