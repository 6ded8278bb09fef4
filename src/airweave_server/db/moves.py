"""Queries on a collection's move to another embedder: its start, the chunks left to fill, and the switch at its end.

A chunk has two vector columns. The collection's ``slot`` names the one that is searched. While a move is under way,
every writer also writes the other one, and one job per connection fills it for the existing chunks. Each column holds
vectors of one model at a time, or is overwritten from end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ..sdk import Vectors
from . import indexes
from .models import VECTORS, Collection, SourceConnection, SyncJob, Trigger

LEFT = """
    from source_connection s join collection k on k.id = s.collection_id
    where k.id = :id and s.deleted_at is null and s.created_at < k.next_since
      and not exists (select from sync_job j where j.connection_id = s.id and j.trigger = 'reembed'
                        and j.status = 'completed' and j.number > coalesce(k.next_after_job, 0))"""


@dataclass(frozen=True, slots=True)
class UnfilledChunk:
    """A chunk without a vector of the next embedder, or with a vector of unknown origin in its place."""

    entity_row: int
    ordinal: int
    heading: str
    text: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """The number of entities with chunks, and how many of them the jobs of the move have processed."""

    done: int
    total: int


def lock(session: Session, collection_id: UUID) -> Collection | None:
    """Lock the collection against moves by others and return its current row. None if it was deleted."""
    return session.scalars(
        select(Collection)
        .where(Collection.id == collection_id, Collection.deleted_at.is_(None))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def begin(session: Session, collection: Collection, *, embedder: str, name: str, dimensions: int) -> None:
    """Begin a move. After the commit every writer writes both vectors, so the caller must fence off current writers."""
    if (collection.other_name, collection.other_dimensions) != (name, dimensions):
        collection.other_name = collection.other_dimensions = None  # of two models until all of it is overwritten
    collection.next_embedder, collection.next_name, collection.next_dimensions = embedder, name, dimensions
    _count_from_now(session, collection)
    session.refresh(collection)


def is_indexed(session: Session, collection: Collection) -> bool:
    """Whether an index over the vectors that are not searched still exists. It would reject other dimensions."""
    found = session.execute(
        text("select to_regclass(:name) is not null"), {"name": indexes.name(collection.id, 3 - collection.slot)}
    )
    return bool(found.scalar_one())


def cancel(session: Session, collection: Collection) -> None:
    """Cancel the move. The vectors that it has written stay."""
    collection.next_embedder = collection.next_name = collection.next_dimensions = None
    collection.next_since = collection.next_after_job = None
    session.flush()


def list_under_way(session: Session) -> list[Collection]:
    query = select(Collection).where(Collection.next_embedder.is_not(None), Collection.deleted_at.is_(None))
    return list(session.scalars(query.order_by(Collection.next_since)))


def unfinished_connections(session: Session, collection: Collection) -> list[SourceConnection]:
    """The connections that no job of the move has completed."""
    ids = session.scalars(text(f"select s.id {LEFT}"), {"id": collection.id}).all()
    return list(session.scalars(select(SourceConnection).where(SourceConnection.id.in_(ids))))


def newest_jobs(session: Session, collection: Collection) -> list[SyncJob]:
    """The newest job of the move for each connection."""
    return list(
        session.scalars(
            select(SyncJob)
            .distinct(SyncJob.connection_id)
            .where(
                SyncJob.collection_id == collection.id,
                SyncJob.trigger == Trigger.REEMBED,
                SyncJob.number > (collection.next_after_job or 0),
            )
            .order_by(SyncJob.connection_id, SyncJob.number.desc())
        )
    )


def progress(session: Session, collection: Collection) -> Progress:
    row = session.execute(
        text("""
            select (select count(*) from entity e join source_connection s on s.id = e.connection_id
                    where e.collection_id = :id and e.chunks > 0 and s.deleted_at is null) as total,
                   (select coalesce(sum(p.updated), 0) from sync_partition p join sync_job j on j.id = p.job_id
                    join source_connection s on s.id = j.connection_id where s.collection_id = :id
                      and s.deleted_at is null and j.trigger = 'reembed' and j.number > :after) as done
        """),
        {"id": collection.id, "after": collection.next_after_job or 0},
    ).one()
    return Progress(min(int(row.done), int(row.total)), int(row.total))


def row_bounds(session: Session, connection_id: UUID) -> tuple[int, int] | None:
    """The lowest and the highest row of the connection's entities. None if it has none."""
    row = session.execute(
        text("select min(row), max(row) from entity where connection_id = :id"), {"id": connection_id}
    ).one()
    return None if row[0] is None else (int(row[0]), int(row[1]))


def list_unfilled(
    session: Session,
    connection_id: UUID,
    column: str,
    *,
    after: tuple[int, int],
    last: int,
    overwrite: bool,
    limit: int,
) -> list[UnfilledChunk]:
    """The connection's next chunks to fill, in the order of their keys, up to entity row ``last``. ``overwrite``: also
    those that already have a vector there."""
    which = "" if overwrite else f"and c.{_known(column)} is null"
    rows = session.execute(
        text(f"""
            select c.entity_row, c.ordinal, c.heading, c.text, c.hash from chunk c
            where (c.entity_row, c.ordinal) > (:row, :ordinal) and c.entity_row <= :last
              and c.connection_id = :id {which}
            order by c.entity_row, c.ordinal limit :limit
        """),
        {"id": connection_id, "row": after[0], "ordinal": after[1], "last": last, "limit": limit},
    )
    return [UnfilledChunk(*row) for row in rows]


def fill(session: Session, column: str, chunks: Sequence[UnfilledChunk], vectors: Vectors) -> None:
    """Write the vectors of these chunks, except where the text has changed since: that writer has written both."""
    values: dict[str, Any] = {
        "rows": [chunk.entity_row for chunk in chunks],
        "ordinals": [chunk.ordinal for chunk in chunks],
        "hashes": [chunk.hash for chunk in chunks],
        "vectors": ["[" + ",".join(f"{value:.6g}" for value in vector) + "]" for vector in vectors.tolist()],
    }
    session.execute(
        text(f"""
            update chunk c set {_known(column)} = cast(n.vector as halfvec)
            from unnest(cast(:rows as bigint[]), cast(:ordinals as bigint[]), cast(:hashes as bytea[]),
                        cast(:vectors as text[])) as n(row, ordinal, hash, vector)
            where c.entity_row = n.row and c.ordinal = n.ordinal and c.hash = n.hash
        """),
        values,
    )


def switch(session: Session, collection: Collection) -> bool:
    """Switch to the next embedder, if every connection is filled and every chunk has its vector. False if not.

    Searches use it from the commit on; the old vectors stay. The caller must hold the lock on the collection.
    """
    if collection.next_since is None or session.execute(text(f"select 1 {LEFT} limit 1"), {"id": collection.id}).all():
        return False
    column = collection.other
    lacks = session.execute(
        text(f"""
            select 1 from chunk c join source_connection s on s.id = c.connection_id
            where c.collection_id = :id and s.deleted_at is null
              and (c.{column} is null or vector_dims(c.{column}) <> :dimensions) limit 1
        """),
        {"id": collection.id, "dimensions": collection.next_dimensions},
    ).one_or_none()
    if lacks is not None:
        _count_from_now(session, collection)  # every connection must be filled again
        return False
    session.execute(
        text("""
            update collection set slot = 3 - slot, embedder = next_embedder, embedder_name = next_name,
                   dimensions = next_dimensions, other_name = embedder_name, other_dimensions = dimensions,
                   next_embedder = null, next_name = null, next_dimensions = null, next_since = null,
                   next_after_job = null,
                   modified_at = now()
            where id = :id
        """),
        {"id": collection.id},
    )
    session.refresh(collection)
    return True


def _count_from_now(session: Session, collection: Collection) -> None:
    """Count for the move only the jobs and connections that come after this moment. A connection whose clock was ahead
    came before it."""
    newest = select(func.max(SourceConnection.created_at)).where(SourceConnection.collection_id == collection.id)
    collection.next_since = func.greatest(func.now(), newest.scalar_subquery() + text("interval '1 microsecond'"))
    collection.next_after_job = select(func.coalesce(func.max(SyncJob.number), 0)).scalar_subquery()
    session.flush()


def _known(column: str) -> str:
    return VECTORS[VECTORS.index(column)]  # only known column names reach the SQL
