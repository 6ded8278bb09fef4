"""The figures for an operator's monitoring, over the whole database: one cheap query per figure."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from .models import IS_ACTIVE


@dataclass(frozen=True, slots=True)
class JobCount:
    status: str
    engine: str
    source: str
    waiting_for: str
    count: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """When a connection was last synced in full, and whether it needs a person."""

    connection_id: UUID
    collection: str
    source: str
    last_completed_at: datetime | None
    last_full_at: datetime | None
    held_deletes: int
    is_failing: bool


def job_counts(session: Session) -> list[JobCount]:
    """The number of active jobs by status, engine, source and what they wait for."""
    rows = session.execute(
        text(f"""
            select j.status, j.engine, c.short_name, coalesce(j.waiting_for, ''), count(*)
            from sync_job j join source_connection c on c.id = j.connection_id
            where j.{IS_ACTIVE} group by 1, 2, 3, 4
        """)
    )
    return [JobCount(*row) for row in rows]


def oldest_active_s(session: Session) -> float:
    """The age in seconds of the oldest active job that waits for nothing; 0 if there is none."""
    found = session.execute(
        text(f"""
            select greatest(coalesce(max(extract(epoch from now() - created_at)), 0), 0) from sync_job
            where {IS_ACTIVE} and waiting_for is null
        """)
    ).scalar_one()
    return float(found)


def full_listings(session: Session) -> dict[UUID, tuple[datetime, datetime]]:
    """The oldest and the newest time of a last full listing, over all connections of each organization that has any."""
    rows = session.execute(
        text("""select organization_id, min(last_full_at), max(last_full_at) from source_connection
                where deleted_at is null and last_full_at is not null group by organization_id""")
    )
    return {organization: (oldest, newest) for organization, oldest, newest in rows}


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """Sums over the connections of one source. ``oldest_completed_at``: of their last completed syncs."""

    source: str
    connections: int
    failing: int
    held_deletes: int
    oldest_completed_at: datetime | None


def by_source(freshness: list[Freshness]) -> list[SourceFigures]:
    """The figures of each source over these connections."""
    grouped: dict[str, list[Freshness]] = {}
    for each in freshness:
        grouped.setdefault(each.source, []).append(each)
    return [
        SourceFigures(
            source,
            len(group),
            sum(each.is_failing for each in group),
            sum(each.held_deletes for each in group),
            min((each.last_completed_at for each in group if each.last_completed_at is not None), default=None),
        )
        for source, group in sorted(grouped.items())
    ]


def freshness(session: Session) -> list[Freshness]:
    """The freshness of each connection: first those that fail, then those with held deletes, then those synced longest
    ago."""
    rows = session.execute(
        text(f"""
            select c.id, k.readable_id, c.short_name, done.at, c.last_full_at, coalesce(held.total, 0),
                   coalesce(newest.status = 'failed', false)
            from source_connection c join collection k on k.id = c.collection_id
            left join lateral (select completed_at as at from sync_job
                               where connection_id = c.id and status = 'completed'
                               order by number desc limit 1) done on true
            left join lateral (select status from sync_job where connection_id = c.id and not {IS_ACTIVE}
                               order by number desc limit 1) newest on true
            left join lateral (select sum(total) as total from delete_plan
                               where connection_id = c.id and state = 'held') held on true
            where c.deleted_at is null
            order by coalesce(newest.status = 'failed', false) desc, coalesce(held.total, 0) > 0 desc,
                     done.at nulls first, c.id
        """)
    )
    return [Freshness(*row) for row in rows]
