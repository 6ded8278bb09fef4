"""Queries on source connections, their cursors, entity counts and pace."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select, text, update
from sqlalchemy.orm import Session, defer

from .jobs import SIGNED_OUT
from .models import IS_ACTIVE, Collection, EntityRow, SourceConnection, SourceCursor, SyncJob, Trigger


def of_job(session: Session, job: SyncJob) -> tuple[SourceConnection, Collection]:
    """The connection of the job, and its collection."""
    connection = session.get_one(SourceConnection, job.connection_id)
    return connection, session.get_one(Collection, connection.collection_id)


def find(session: Session, organization_id: UUID, connection_id: UUID) -> SourceConnection | None:
    """The connection, or None if this organization has no such connection."""
    return session.scalars(
        select(SourceConnection).where(
            SourceConnection.id == connection_id,
            SourceConnection.organization_id == organization_id,
            SourceConnection.deleted_at.is_(None),
        )
    ).one_or_none()


def lock(session: Session, connection_id: UUID) -> bool:
    """Lock the connection, so that nobody else can change, delete or sync it. False if it was deleted.

    No lock on a connection may keep rows from referring to it: a job that is ending refers to it again, and whoever
    has the lock may wait for that job.
    """
    row = session.execute(
        text("select 1 from source_connection where id = :id and deleted_at is null for no key update"),
        {"id": connection_id},
    ).one_or_none()
    return row is not None


def list_page(
    session: Session,
    organization_id: UUID,
    *,
    collection_id: UUID | None = None,
    skip: int = 0,
    limit: int = 1_000,
    is_brief: bool = False,
) -> list[SourceConnection]:
    """Newest first. ``is_brief``: without their configuration and credentials, which are then loaded one by one."""
    query = select(SourceConnection).where(
        SourceConnection.organization_id == organization_id, SourceConnection.deleted_at.is_(None)
    )
    if collection_id is not None:
        query = query.where(SourceConnection.collection_id == collection_id)
    if is_brief:
        query = query.options(defer(SourceConnection.config), defer(SourceConnection.credentials))
    newest = query.order_by(SourceConnection.created_at.desc(), SourceConnection.id)
    return list(session.scalars(newest.offset(skip).limit(limit)))


def list_all(session: Session) -> list[SourceConnection]:
    """All connections of all organizations, for the operator."""
    return list(
        session.scalars(
            select(SourceConnection)
            .where(SourceConnection.deleted_at.is_(None))
            .order_by(SourceConnection.created_at, SourceConnection.id)
        )
    )


def entity_counts(session: Session, connection_ids: list[UUID]) -> dict[UUID, int]:
    """The number of indexed entities per connection. Connections without any are left out."""
    rows = session.execute(
        select(EntityRow.connection_id, func.count())
        .where(EntityRow.connection_id.in_(connection_ids), EntityRow.chunks > 0)
        .group_by(EntityRow.connection_id)
    )
    return dict(rows.all())


def entity_types(session: Session, connection_id: UUID) -> list[tuple[str, int, datetime]]:
    """For each entity type: the type, the number of indexed entities, and the time of the last change."""
    rows = session.execute(
        select(EntityRow.type, func.count(), func.max(EntityRow.changed_at))
        .where(EntityRow.connection_id == connection_id, EntityRow.chunks > 0)
        .group_by(EntityRow.type)
        .order_by(EntityRow.type)
    )
    return [(kind, count, changed_at) for kind, count, changed_at in rows]


@dataclass(frozen=True, slots=True)
class Runs:
    """The number of stored jobs of a connection, and how many of them succeeded and failed."""

    total_runs: int
    successful_runs: int
    failed_runs: int


def count_runs(session: Session, connection_id: UUID) -> Runs:
    row = session.execute(
        text("""
            select count(*), count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed')
            from sync_job where connection_id = :id
        """),
        {"id": connection_id},
    ).one()
    return Runs(*row)


def cursors(session: Session, connection_id: UUID) -> dict[str, dict[str, Any]]:
    """The change position of each partition, by partition key."""
    rows = session.execute(
        select(SourceCursor.key, SourceCursor.cursor).where(SourceCursor.connection_id == connection_id)
    )
    return dict(rows.all())


def save_cursors(session: Session, job: SyncJob) -> None:
    """Save where the job's completed reads ended. A full job also removes cursors of partitions no longer listed."""
    values = {"connection": job.connection_id, "job": job.id}
    session.execute(
        text("""
            insert into source_cursor (connection_id, key, cursor)
            select :connection, key, cursor from sync_partition
            where job_id = :job and state = 'done' and cursor is not null and cursor <> 'null'
            on conflict (connection_id, key) do update set cursor = excluded.cursor
        """),
        values,
    )
    if job.mode == "full":
        session.execute(
            text("""
                delete from source_cursor where connection_id = :connection
                and key not in (select key from sync_partition where job_id = :job)
            """),
            values,
        )


def record_full_job(session: Session, job: SyncJob) -> None:
    """Record that a full job completed, so that an incremental one may follow."""
    session.execute(
        update(SourceConnection)
        .where(SourceConnection.id == job.connection_id)
        .values(
            last_full_at=func.now(),
            last_full_config_version=job.config_version,
            last_full_pipeline=select(SyncJob.pipeline).where(SyncJob.id == job.id).scalar_subquery(),
        )
    )


def require_full_job(session: Session, connection_id: UUID, *, repair: bool) -> None:
    """Make the next job list everything, because the index may not be complete. ``repair``: also start one soon."""
    session.execute(
        text("""
            update source_connection set last_full_at = null,
                   repair_asked_at = case when :repair then now() else repair_asked_at end where id = :id
        """),
        {"id": connection_id, "repair": repair},
    )


def list_to_repair(session: Session) -> list[SourceConnection]:
    """Connections that wait for a repair and have no active job, locked for this transaction. Up to 100."""
    active = select(SyncJob.id).where(SyncJob.connection_id == SourceConnection.id, text(IS_ACTIVE)).exists()
    return list(
        session.scalars(
            select(SourceConnection)
            .where(SourceConnection.repair_asked_at.is_not(None), SourceConnection.deleted_at.is_(None), ~active)
            .order_by(SourceConnection.repair_asked_at)
            .limit(100)
            .with_for_update(skip_locked=True, key_share=True)
        )
    )


def list_deleted(session: Session) -> list[UUID]:
    """The ids of connections that were deleted and wait to be purged."""
    return list(session.scalars(select(SourceConnection.id).where(SourceConnection.deleted_at.is_not(None))))


def remove(session: Session, connection_id: UUID) -> None:
    """Delete the row of a purged connection, and with it its jobs, partitions, delete plans and cursors."""
    session.execute(delete(SourceConnection).where(SourceConnection.id == connection_id))


def _is_signed_out() -> ColumnElement[bool]:
    last = (
        select(SyncJob.error_category, SyncJob.config_version)
        .where(SyncJob.connection_id == SourceConnection.id, SyncJob.trigger != Trigger.REEMBED)
        .order_by(SyncJob.number.desc())
        .limit(1)
        # otherwise it joins all connections, and the last job of any of them counts for each
        .correlate(SourceConnection)
        .lateral()
    )
    return exists().where(
        last.c.error_category.in_(SIGNED_OUT), last.c.config_version == SourceConnection.config_version
    )


def list_signed_out(session: Session, connection_ids: list[UUID] | None = None) -> list[SourceConnection]:
    """The connections (of these, or of all) whose credentials the source refused and that have no new ones since."""
    query = select(SourceConnection).where(SourceConnection.deleted_at.is_(None), _is_signed_out())
    if connection_ids is not None:
        query = query.where(SourceConnection.id.in_(connection_ids))
    return list(session.scalars(query.order_by(SourceConnection.name, SourceConnection.id)))


def signed_out_ids(session: Session, connection_ids: list[UUID]) -> set[UUID]:
    """Those of these connections that ``list_signed_out`` lists."""
    return set(
        session.scalars(select(SourceConnection.id).where(SourceConnection.id.in_(connection_ids), _is_signed_out()))
    )


def list_due(session: Session) -> list[SourceConnection]:
    """Connections whose scheduled time has come, locked for this transaction. Up to 100.

    A connection whose credentials were refused is left out until it has new ones or a sync works. It keeps its time.
    """
    return list(
        session.scalars(
            select(SourceConnection)
            .where(SourceConnection.next_run_at <= func.now(), SourceConnection.deleted_at.is_(None), ~_is_signed_out())
            .order_by(SourceConnection.next_run_at)
            .limit(100)
            .with_for_update(skip_locked=True, key_share=True)
        )
    )


def list_planned_ahead(session: Session) -> list[SourceConnection]:
    """Connections whose schedule was planned in the future: the clock has stepped back since. Locked for this
    transaction. Up to 100."""
    return list(
        session.scalars(
            select(SourceConnection)
            .where(
                SourceConnection.next_run_at.is_not(None),
                SourceConnection.planned_at > func.clock_timestamp(),
                SourceConnection.deleted_at.is_(None),
            )
            .limit(100)
            .with_for_update(skip_locked=True, key_share=True)
        )
    )


def list_sealed_with(session: Session, key_ids: list[bytes]) -> list[SourceConnection]:
    """Up to 100 connections whose credentials are sealed with one of these keys, locked for this transaction."""
    return list(
        session.scalars(
            select(SourceConnection)
            .where(
                SourceConnection.credentials.is_not(None),
                func.substring(SourceConnection.credentials, 2, 4).in_(key_ids),
            )
            .limit(100)
            .with_for_update(skip_locked=True, key_share=True)
        )
    )


@dataclass(frozen=True, slots=True)
class Sealed:
    """A connection, and the id of the key that its credentials are sealed with, in hex."""

    id: UUID
    name: str
    key_id: str


def list_unopenable(session: Session, key_ids: Sequence[str]) -> list[Sealed]:
    """The connections whose credentials none of these keys can open."""
    rows = session.execute(
        text("""
            select id, name, encode(substring(credentials, 2, 4), 'hex') from source_connection
            where credentials is not null and deleted_at is null
              and encode(substring(credentials, 2, 4), 'hex') <> all(:key_ids) order by name, id
        """),
        {"key_ids": list(key_ids)},
    )
    return [Sealed(*row) for row in rows]


def list_on_other_hosts(session: Session, host: str) -> list[SourceConnection]:
    """The connections that are bound to another host."""
    query = select(SourceConnection).where(SourceConnection.host != host, SourceConnection.deleted_at.is_(None))
    return list(session.scalars(query.order_by(SourceConnection.name, SourceConnection.id)))


@dataclass(frozen=True, slots=True)
class Spacing:
    """How far requests are apart, and how much of that may be made up for at once."""

    spacing_s: float
    burst_s: float

    @classmethod
    def of(cls, *, requests: int, per_s: float) -> "Spacing":
        burst = requests // 10
        spacing_s = per_s / (requests - burst)
        return cls(spacing_s, max(burst - 1, 0) * spacing_s)


def book_request(session: Session, connection_id: UUID, *, requests: int, per_s: float) -> float:
    """Book the connection's next request. Returns the seconds until it may start.

    A leaky bucket stored as one timestamp (GCRA, ITU-T I.371): a tenth of ``requests`` may come in a burst, the rest
    evenly spaced. All processes together make at most ``requests`` in any ``per_s`` seconds.
    """
    spacing = Spacing.of(requests=requests, per_s=per_s)
    return float(
        session.execute(
            text("""
                insert into source_pace (connection_id, booked_at, free_at)
                values (:id, clock_timestamp(), clock_timestamp() + make_interval(secs => :spacing_s))
                on conflict (connection_id) do update set booked_at = clock_timestamp(), free_at =
                    greatest(source_pace.free_at
                             -- by how far the clock has stepped back since the last booking
                             - greatest(source_pace.booked_at - clock_timestamp(), interval '0'),
                             clock_timestamp() - make_interval(secs => :burst_s))
                    + make_interval(secs => :spacing_s)
                returning greatest(extract(epoch from free_at - clock_timestamp()) - :spacing_s, 0)
            """),
            {"id": connection_id, "spacing_s": spacing.spacing_s, "burst_s": spacing.burst_s},
        ).scalar_one()
    )
