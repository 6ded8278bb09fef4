"""Queries on a collection's move to another embedder: under way or not, what is left, and the switch at its end.

A chunk has two places for a vector. The collection's ``slot`` names the one that is searched; the other is written
beside it while a move is under way, by everybody who writes, and filled for what is there already by a job of each
connection. Each place holds vectors of one model at a time, or is overwritten from end to end.
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
                        and j.status = 'completed' and j.created_at >= k.next_since)"""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A chunk without a vector of the next embedder, or with one of which that is not known."""

    entity_row: int
    ordinal: int
    heading: str
    text: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How many entities that have chunks the move's jobs came past."""

    done: int
    total: int


def lock(session: Session, collection_id: UUID) -> Collection | None:
    """The collection as it is now, kept from being moved by anybody else. None when it is gone."""
    return session.scalars(
        select(Collection)
        .where(Collection.id == collection_id, Collection.deleted_at.is_(None))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()


def begin(session: Session, collection: Collection, *, embedder: str, name: str, dimensions: int) -> None:
    """From the commit on everybody writes both vectors: whoever wrote before was fenced off by the caller."""
    if (collection.other_name, collection.other_dimensions) != (name, dimensions):
        collection.other_name = collection.other_dimensions = None  # it will be of two models until all is overwritten
    collection.next_embedder, collection.next_name, collection.next_dimensions = embedder, name, dimensions
    collection.next_since = func.now()
    session.flush()
    session.refresh(collection)


def is_indexed(session: Session, collection: Collection) -> bool:
    """Whether there still is an index over the vectors that are not searched: it would take no others."""
    found = session.execute(
        text("select to_regclass(:name) is not null"), {"name": indexes.name(collection.id, 3 - collection.slot)}
    )
    return bool(found.scalar_one())


def drop(session: Session, collection: Collection) -> None:
    """The move is given up; what it wrote already stays in its place."""
    collection.next_embedder = collection.next_name = collection.next_dimensions = collection.next_since = None
    session.flush()


def under_way(session: Session) -> list[Collection]:
    query = select(Collection).where(Collection.next_embedder.is_not(None), Collection.deleted_at.is_(None))
    return list(session.scalars(query.order_by(Collection.next_since)))


def left(session: Session, collection: Collection) -> list[SourceConnection]:
    """The connections whose chunks no job of the move has filled to the end."""
    ids = session.scalars(text(f"select s.id {LEFT}"), {"id": collection.id}).all()
    return list(session.scalars(select(SourceConnection).where(SourceConnection.id.in_(ids))))


def jobs_of(session: Session, collection: Collection) -> list[SyncJob]:
    """The last job of the move of each connection."""
    return list(
        session.scalars(
            select(SyncJob)
            .distinct(SyncJob.connection_id)
            .where(
                SyncJob.collection_id == collection.id, SyncJob.trigger == Trigger.REEMBED,
                SyncJob.created_at >= collection.next_since,
            )
            .order_by(SyncJob.connection_id, SyncJob.created_at.desc())
        )
    )  # fmt: skip


def progress(session: Session, collection: Collection) -> Progress:
    row = session.execute(
        text("""
            select (select count(*) from entity e join source_connection s on s.id = e.connection_id
                    where e.collection_id = :id and e.chunks > 0 and s.deleted_at is null) as total,
                   (select coalesce(sum(p.updated), 0) from sync_partition p join sync_job j on j.id = p.job_id
                    join source_connection s on s.id = j.connection_id where s.collection_id = :id
                      and s.deleted_at is null and j.trigger = 'reembed' and j.created_at >= :since) as done
        """),
        {"id": collection.id, "since": collection.next_since},
    ).one()
    return Progress(min(int(row.done), int(row.total)), int(row.total))


def bounds(session: Session, connection_id: UUID) -> tuple[int, int] | None:
    """The least and the greatest row of the connection's entities. None when it has none."""
    row = session.execute(
        text("select min(row), max(row) from entity where connection_id = :id"), {"id": connection_id}
    ).one()
    return None if row[0] is None else (int(row[0]), int(row[1]))


def lacking(
    session: Session, connection_id: UUID, column: str, *, after: tuple[int, int], last: int, anew: bool, limit: int
) -> list[Lacking]:
    """The connection's next chunks to fill, in the order of their keys, up to those of row ``last``; ``anew``: whatever
    stands there."""
    which = "" if anew else f"and c.{_known(column)} is null"
    rows = session.execute(
        text(f"""
            select c.entity_row, c.ordinal, c.heading, c.text, c.hash from chunk c
            where (c.entity_row, c.ordinal) > (:row, :ordinal) and c.entity_row <= :last
              and c.connection_id = :id {which}
            order by c.entity_row, c.ordinal limit :limit
        """),
        {"id": connection_id, "row": after[0], "ordinal": after[1], "last": last, "limit": limit},
    )
    return [Lacking(*row) for row in rows]


def fill(session: Session, column: str, chunks: Sequence[Lacking], vectors: Vectors) -> None:
    """Write the vectors of these chunks, but of one whose text has changed since: who changed it wrote both."""
    values: dict[str, Any] = {
        "rows": [chunk.entity_row for chunk in chunks], "ordinals": [chunk.ordinal for chunk in chunks],
        "hashes": [chunk.hash for chunk in chunks],
        "vectors": ["[" + ",".join(f"{value:.6g}" for value in vector) + "]" for vector in vectors.tolist()],
    }  # fmt: skip
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
    """Search by the next embedder from the commit on, if every connection is filled and every chunk has its vector;
    the former ones stay where they are. False when something is left. The caller holds the collection's lock."""
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
        collection.next_since = func.now()  # no job that is done counts: all are to come past again
        session.flush()
        return False
    session.execute(
        text("""
            update collection set slot = 3 - slot, embedder = next_embedder, embedder_name = next_name,
                   dimensions = next_dimensions, other_name = embedder_name, other_dimensions = dimensions,
                   next_embedder = null, next_name = null, next_dimensions = null, next_since = null,
                   modified_at = now()
            where id = :id
        """),
        {"id": collection.id},
    )
    session.refresh(collection)
    return True


def _known(column: str) -> str:
    return VECTORS[VECTORS.index(column)]  # nothing else becomes SQL
