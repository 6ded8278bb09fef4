"""The index over the vectors of a large collection, and the counts of its words: what of a collection need not be in
step with it. Search is right without either, and slower.

One index a collection: in one of all collections, what is near in others would keep a small one's from being found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .models import IS_ACTIVE, VECTORS
from .session import Database, is_storage_full

PREFIX = "chunk_near_"
MOST_DIMENSIONS = 4_000  # of a halfvec in an index
M, EF_CONSTRUCTION = 16, 100
HELPERS = 1  # processes of Postgres that help to build one index
BUILDING = 0x41_57_54  # any number, the same for every process of ours
LEAST_MEMORY_MB = 64
BYTES_PER_CHUNK = 1_500  # of an index while it is built, beside the vector
QUIET_S = 600  # that a build waits for jobs to end, for each chunk that comes in then costs twice
LOOK_EVERY_S = 3_600.0  # where no job ended; connections may have been purged
LOOK_AT_ACTIVE_S = 300

COUNTED_FROM = 1_000  # chunks; the words of fewer are counted by each query
COUNTED = 8_000  # chunks whose words are counted, of a larger collection at random
SEEN_LEAST = 10  # of these must hold a word that is written down; a query counts rarer ones by itself
CHANGED = 0.1  # share of the chunks by which a collection has grown or shrunk when it is counted anew


@dataclass(frozen=True, slots=True)
class Task:
    """An index to make or to drop. ``dimensions``: None to drop it."""

    name: str
    collection: str
    dimensions: int | None
    chunks: int


def name(collection_id: UUID, slot: int = 1) -> str:
    """By the slot too: a collection that moved to another embedder has no index until there is one over its vectors."""
    return f"{PREFIX}{collection_id.hex}" + ("" if slot == 1 else f"_{slot}")


def distance(column: str, value: str, dimensions: int) -> str:
    """The distance that the index of a collection of so many dimensions knows."""
    return f"(cast({column} as halfvec({int(dimensions)})) <=> cast({value} as halfvec({int(dimensions)})))"


def to_look_at(session: Session) -> list[UUID]:
    """Collections in which jobs wrote since they were last looked at."""
    return list(
        session.scalars(
            text(f"""
                select k.id from collection k left join collection_size z on z.collection_id = k.id
                where k.deleted_at is null and (
                    z.collection_id is null
                    or z.looked_at < now() - make_interval(secs => :every_s)
                    or exists (select from sync_job j where j.collection_id = k.id and not j.{IS_ACTIVE}
                        and j.modified_at > z.looked_at - interval '10 s')  -- it may have ended as we looked
                    or (z.looked_at < now() - make_interval(secs => :active_s)
                        and exists (select from sync_job j where j.collection_id = k.id and j.{IS_ACTIVE})))
                order by k.id
            """),
            {"every_s": LOOK_EVERY_S, "active_s": LOOK_AT_ACTIVE_S},
        )
    )


def count(session: Session, collection_id: UUID) -> int | None:
    """See how large the collection is, and count its words if that changed much. Returns how many chunks were counted,
    None where what was known still holds."""
    known = session.execute(
        text("select chunks from collection_size where collection_id = :id and counted_at is not null for update"),
        {"id": collection_id},
    ).scalar_one_or_none()
    chunks = int(
        session.execute(
            text("select coalesce(sum(chunks), 0) from entity where collection_id = :id"), {"id": collection_id}
        ).scalar_one()
    )
    is_small = chunks < COUNTED_FROM
    if (known is None and is_small) or (known is not None and abs(chunks - known) <= known * CHANGED):
        _note(session, collection_id, "looked_at = now()")
        return None
    session.execute(text("delete from collection_word where collection_id = :id"), {"id": collection_id})
    if is_small:
        _note(session, collection_id, "looked_at = now(), counted_at = null, chunks = 0")
        return None
    share = min(1.0, COUNTED / chunks)
    where = f"collection_id = '{collection_id}'" + (f" and random() < {share:.9f}" if share < 1 else "")
    for column, is_ident in (("ts", False), ("ident", True)):
        session.execute(
            text("""
                insert into collection_word (collection_id, word, is_ident, chunks)
                select :id, word, :is_ident, ceil(ndoc / cast(:share as float8)) from ts_stat(:query)
                where ndoc >= :least
            """),
            {
                "id": collection_id, "is_ident": is_ident, "share": share, "least": SEEN_LEAST,
                "query": f"select {column} from chunk where {where}",
            },
        )  # fmt: skip
    mean = session.execute(
        text(f"select coalesce(avg(octet_length(heading) + octet_length(text)), 0) from chunk where {where}")
    ).scalar_one()
    _note(
        session, collection_id, "looked_at = now(), counted_at = now(), chunks = :chunks, mean_bytes = :mean",
        chunks=chunks, mean=float(mean),
    )  # fmt: skip
    return chunks


def due(session: Session, *, least_chunks: int) -> list[Task]:
    """Indexes to drop, because their collection is gone or has become small, and then those to build: there is none
    over a large collection, or a build was cut short."""
    rows = session.execute(
        text(f"""
            with made as (
                select c.relname as name, i.indisvalid and i.indisready as is_whole from pg_index i
                join pg_class c on c.oid = i.indexrelid
                where i.indrelid = 'chunk'::regclass and starts_with(c.relname, '{PREFIX}')
            ), large as (
                select '{PREFIX}' || replace(cast(k.id as text), '-', '')
                           || case k.slot when 1 then '' else '_' || k.slot end as name, k.readable_id, k.dimensions,
                       z.chunks, exists (
                           select from sync_job j where j.collection_id = k.id and j.{IS_ACTIVE}
                             and j.created_at > now() - make_interval(secs => :quiet_s)) as is_busy
                from collection k join collection_size z on z.collection_id = k.id
                where k.deleted_at is null and k.dimensions <= :most and z.counted_at is not null
            )
            select coalesce(m.name, l.name) as name, l.readable_id, l.chunks,
                   case when l.chunks >= :least then l.dimensions end as dimensions
            from made m full join large l on l.name = m.name
            where (m.name is null and l.chunks >= :least and not l.is_busy)
               or (m.name is not null and coalesce(l.chunks, 0) < :least / 2)
               or (not m.is_whole and not coalesce(l.is_busy, false))
            order by l.chunks nulls first
        """),
        {"quiet_s": QUIET_S, "most": MOST_DIMENSIONS, "least": least_chunks},
    )
    return [Task(row.name, row.readable_id or "", row.dimensions, row.chunks or 0) for row in rows]


def too_wide(session: Session, *, least_chunks: int) -> list[tuple[str, int]]:
    """Large collections whose vectors have too many dimensions for an index, and how many."""
    rows = session.execute(
        text("""
            select k.readable_id, k.dimensions from collection k join collection_size z on z.collection_id = k.id
            where k.deleted_at is null and k.dimensions > :most and z.chunks >= :least order by 1
        """),
        {"most": MOST_DIMENSIONS, "least": least_chunks},
    )
    return [(row[0], row[1]) for row in rows]


class Builder:
    """Makes and drops indexes, on a connection of its own for as long as it takes. ``cancel`` is for another thread."""

    def __init__(self, connection: Connection, *, memory_mb: int) -> None:
        self._connection = connection
        self._memory_mb = memory_mb

    def carry_out(self, task: Task) -> None:
        """Build or drop the index while others read and write. What an attempt left that was cut short goes first."""
        self._do(f"drop index concurrently if exists {task.name}")
        if task.dimensions is None:
            return
        needed_mb = task.chunks * (2 * task.dimensions + BYTES_PER_CHUNK) // 1_000_000
        self._do(f"set maintenance_work_mem = '{min(max(needed_mb, LEAST_MEMORY_MB), self._memory_mb)}MB'")
        try:
            self._build(task, helpers=HELPERS)
        except DBAPIError as error:
            if not is_storage_full(error):
                raise
            # what processes share is bounded apart, in a container to 64 MB; one alone needs none of that
            self._do(f"drop index concurrently if exists {task.name}")
            self._build(task, helpers=0)

    def cancel(self) -> None:
        connection: Any = self._connection.connection.driver_connection
        connection.cancel()

    def _build(self, task: Task, *, helpers: int) -> None:
        collection, _, slot = task.name.removeprefix(PREFIX).partition("_")
        collection_id, column = UUID(collection), VECTORS[int(slot or 1) - 1]
        self._do(f"set max_parallel_maintenance_workers = {helpers}")
        self._do(f"""
            create index concurrently {task.name} on chunk
            using hnsw (cast({column} as halfvec({task.dimensions})) halfvec_cosine_ops)
            with (m = {M}, ef_construction = {EF_CONSTRUCTION}) where collection_id = '{collection_id}'
        """)

    def _do(self, statement: str) -> None:
        self._connection.execute(text(statement))


@contextmanager
def builder(database: Database, *, memory_mb: int) -> Iterator[Builder | None]:
    """None while another process has one, be it that this is a backend whose client was killed in a build."""
    with database.apart() as connection:
        for limit in ("lock_timeout", "statement_timeout"):
            connection.execute(text(f"set {limit} = 0"))
        is_ours = connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": BUILDING}).scalar_one()
        yield Builder(connection, memory_mb=memory_mb) if is_ours else None


def _note(session: Session, collection_id: UUID, changes: str, **values: Any) -> None:
    session.execute(
        text("""
            insert into collection_size (collection_id, chunks, mean_bytes, looked_at) values (:id, 0, 0, now())
            on conflict do nothing
        """),
        {"id": collection_id},
    )
    session.execute(
        text(f"update collection_size set {changes} where collection_id = :id"), {"id": collection_id, **values}
    )
