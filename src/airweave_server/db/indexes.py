"""The vector index of a large collection, and the counts of its words. Both may lag behind the collection: search is
correct without them, only slower.

Each collection has its own index. In a shared index, near vectors of other collections would hide those of a small one.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .models import IS_ACTIVE, VECTORS
from .session import Database, is_out_of_resources

PREFIX = "chunk_near_"
MOST_DIMENSIONS = 4_000  # of a halfvec in an index
M, EF_CONSTRUCTION = 16, 100
HELPERS = 1  # parallel workers of Postgres for building one index
BUILDING = 0x41_57_54  # an arbitrary advisory lock key, the same for all our processes
LEAST_MEMORY_MB = 64
BYTES_PER_CHUNK = 1_500  # memory for building an index, in addition to the vector
QUIET_S = 600  # how long a build waits for jobs to end: a chunk that arrives during a build costs twice
LOOK_EVERY_S = 3_600.0  # without a job that ended: connections may have been purged
LOOK_AT_ACTIVE_S = 300  # while a job is active

COUNTED_FROM = 1_000  # chunks; in a smaller collection each query counts words by itself
COUNTED = 8_000  # chunks whose words are counted; a random sample in a larger collection
STORED_LEAST = 2  # counted chunks that must contain a word for it to be stored
SEEN_LEAST = (
    10  # counted chunks that must contain a word for the count to be used; a query counts rarer words by itself
)
CHANGED = 0.1  # a collection is counted again once its number of chunks has changed by this share


@dataclass(frozen=True, slots=True)
class Task:
    """An index to build, or to drop if ``dimensions`` is None."""

    name: str
    collection: str
    dimensions: int | None
    chunks: int


def least_counted(chunks: int) -> int:
    """How many chunks must contain a word, as the keeper counted, for a query to rely on it in a collection of so many
    chunks."""
    return math.ceil(SEEN_LEAST * max(1.0, chunks / COUNTED))


def name(collection_id: UUID, slot: int = 1) -> str:
    """The name of a collection's vector index. It includes the slot: after a move to another embedder the collection
    has no index until one over the new vectors is built."""
    return f"{PREFIX}{collection_id.hex}" + ("" if slot == 1 else f"_{slot}")


def distance(column: str, value: str, dimensions: int) -> str:
    """The SQL of the cosine distance, in the form that the index of a collection with so many dimensions supports."""
    return f"(cast({column} as halfvec({int(dimensions)})) <=> cast({value} as halfvec({int(dimensions)})))"


def list_to_check(session: Session) -> list[UUID]:
    """Collections that jobs may have changed since they were last checked."""
    return list(
        session.scalars(
            text(f"""
                select k.id from collection k left join collection_size z on z.collection_id = k.id
                where k.deleted_at is null and (
                    z.collection_id is null
                    or z.looked_at < now() - make_interval(secs => :every_s)
                    or z.looked_at > clock_timestamp()  -- the clock has stepped back since
                    or exists (select from sync_job j where j.collection_id = k.id and not j.{IS_ACTIVE}
                        and j.modified_at > z.looked_at - interval '10 s')  -- it may have ended during the check
                    or (z.looked_at < now() - make_interval(secs => :active_s)
                        and exists (select from sync_job j where j.collection_id = k.id and j.{IS_ACTIVE})))
                order by k.id
            """),
            {"every_s": LOOK_EVERY_S, "active_s": LOOK_AT_ACTIVE_S},
        )
    )


def count(session: Session, collection_id: UUID) -> int | None:
    """Check the size of the collection, and count its words again if the size has changed much. Returns the number of
    chunks in the collection, or None if there was nothing to count."""
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
                "id": collection_id,
                "is_ident": is_ident,
                "share": share,
                "least": STORED_LEAST,
                "query": f"select {column} from chunk where {where}",
            },
        )
    mean = session.execute(
        text(f"select coalesce(avg(octet_length(heading) + octet_length(text)), 0) from chunk where {where}")
    ).scalar_one()
    _note(
        session,
        collection_id,
        "looked_at = now(), counted_at = now(), chunks = :chunks, mean_bytes = :mean",
        chunks=chunks,
        mean=float(mean),
    )
    return chunks


def list_due(session: Session, *, least_chunks: int) -> list[Task]:
    """The indexes to drop and then the indexes to build. Dropped: those of collections that are gone or have become
    small. Built: those that a large collection lacks, and those whose build was interrupted."""
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
                             and j.created_at > now() - make_interval(secs => :quiet_s)
                             and j.created_at <= clock_timestamp()) as is_busy
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


def list_too_wide(session: Session, *, least_chunks: int) -> list[tuple[str, int]]:
    """Large collections whose vectors have too many dimensions for an index: (readable id, dimensions)."""
    rows = session.execute(
        text("""
            select k.readable_id, k.dimensions from collection k join collection_size z on z.collection_id = k.id
            where k.deleted_at is null and k.dimensions > :most and z.chunks >= :least order by 1
        """),
        {"most": MOST_DIMENSIONS, "least": least_chunks},
    )
    return [(row[0], row[1]) for row in rows]


class Builder:
    """Builds and drops indexes on a connection of its own, without a time limit. ``cancel`` may be called from another
    thread."""

    def __init__(self, connection: Connection, *, memory_mb: int) -> None:
        self._connection = connection
        self._memory_mb = memory_mb

    def carry_out(self, task: Task) -> None:
        """Build or drop the index without blocking reads and writes. Drops the remains of an interrupted attempt
        first."""
        self._do(f"drop index concurrently if exists {task.name}")
        if task.dimensions is None:
            return
        needed_mb = task.chunks * (2 * task.dimensions + BYTES_PER_CHUNK) // 1_000_000
        self._do(f"set maintenance_work_mem = '{min(max(needed_mb, LEAST_MEMORY_MB), self._memory_mb)}MB'")
        try:
            self._build(task, helpers=HELPERS)
        except DBAPIError as error:
            if not is_out_of_resources(error):
                raise
            # parallel workers need shared memory, which a container limits to 64 MB; a single process needs none
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
    """A builder, or None while another process has one. That may be a backend whose client was killed during a
    build."""
    with database.dedicated() as connection:
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
