"""Queries on the limits that an organization sets on the requests to a source."""

from uuid import UUID, uuid4

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from .connections import Spacing
from .models import SourceRateLimit


def list_all(session: Session, organization_id: UUID) -> list[SourceRateLimit]:
    return list(session.scalars(select(SourceRateLimit).where(SourceRateLimit.organization_id == organization_id)))


def find(session: Session, organization_id: UUID, short_name: str) -> SourceRateLimit | None:
    return session.scalars(
        select(SourceRateLimit).where(
            SourceRateLimit.organization_id == organization_id, SourceRateLimit.source_short_name == short_name
        )
    ).one_or_none()


def save(
    session: Session, organization_id: UUID, short_name: str, *, limit: int, window_seconds: int
) -> SourceRateLimit:
    """Set the limit, or change it. Requests that are booked already keep their time."""
    limit_id = session.execute(
        text("""
            insert into source_rate_limit (id, organization_id, source_short_name, "limit", window_seconds)
            values (:id, :organization_id, :short_name, :limit, :window_seconds)
            on conflict (organization_id, source_short_name) do update
            set "limit" = excluded."limit", window_seconds = excluded.window_seconds, modified_at = now()
            returning id
        """),
        {
            "id": uuid4(),
            "organization_id": organization_id,
            "short_name": short_name,
            "limit": limit,
            "window_seconds": window_seconds,
        },
    ).scalar_one()
    return session.get_one(SourceRateLimit, limit_id, populate_existing=True)


def remove(session: Session, organization_id: UUID, short_name: str) -> None:
    """Remove the limit, if there is one."""
    session.execute(
        delete(SourceRateLimit).where(
            SourceRateLimit.organization_id == organization_id, SourceRateLimit.source_short_name == short_name
        )
    )


def book_request(session: Session, limit: SourceRateLimit, *, at_most_s: float) -> float:
    """Book the organization's next request to the source, as ``connections.book_request`` does for a connection.
    Returns the seconds until it may start. If these are more than ``at_most_s``, nothing is booked."""
    spacing = Spacing.of(requests=limit.limit, per_s=limit.window_seconds)
    row = session.execute(
        text("""
            select at, greatest(extract(epoch from at - clock_timestamp()), 0) as wait_s
            from source_rate_limit cross join lateral (select greatest(
                coalesce(free_at, clock_timestamp())
                    -- by how far the clock has stepped back since the last booking
                    - greatest(coalesce(booked_at, clock_timestamp()) - clock_timestamp(), interval '0'),
                clock_timestamp() - make_interval(secs => :burst_s)) as at) as next
            where id = :id for no key update of source_rate_limit
        """),
        {"id": limit.id, "burst_s": spacing.burst_s},
    ).one_or_none()
    if row is None:  # removed meanwhile
        return 0.0
    if row.wait_s <= at_most_s:
        session.execute(
            text("""
                update source_rate_limit set booked_at = clock_timestamp(),
                       free_at = :at + make_interval(secs => :spacing_s) where id = :id
            """),
            {"id": limit.id, "at": row.at, "spacing_s": spacing.spacing_s},
        )
    return float(row.wait_s)
