"""Queries on leases: named locks with one owner at a time, which expire by the database's clock.

That clock may step back. So whatever ends at a time also keeps the time at which that was set: if this lies in the
future, the clock has stepped back since, and the end means nothing.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

API, TEMPORAL_API, WORKER = "api:", "temporal-api:", "worker:"  # name prefixes of the leases of processes


def is_held(since: str, until: str) -> str:
    """SQL: whether a lease that was taken at ``since`` holds until ``until`` (columns). Never null."""
    return f"coalesce({until} >= clock_timestamp() and ({since} > clock_timestamp()) is not true, false)"


def is_due(since: str, not_before: str) -> str:
    """SQL: whether the wait that was set at ``since`` to last until ``not_before`` (columns) is over. Never null."""
    return f"({not_before} is null or {not_before} <= clock_timestamp() or ({since} > clock_timestamp()) is true)"


HELD = is_held("taken_at", "until")


def take(session: Session, name: str, owner: str, lease_s: float, *, place: str | None = None) -> bool:
    """Take or renew the lease. False if another owner has it. ``place``: of a worker, the id of the Temporal namespace
    that it polls."""
    row = session.execute(
        text(f"""
            insert into lease (name, owner, place, taken_at, until)
            values (:name, :owner, :place, now(), now() + make_interval(secs => :lease_s))
            on conflict (name) do update set owner = excluded.owner, place = excluded.place,
                   taken_at = excluded.taken_at, until = excluded.until
            where lease.owner = excluded.owner or not {is_held("lease.taken_at", "lease.until")} returning name
        """),
        {"name": name, "owner": owner, "place": place, "lease_s": lease_s},
    ).one_or_none()
    return row is not None


def release(session: Session, name: str, owner: str) -> None:
    session.execute(text("delete from lease where name = :name and owner = :owner"), {"name": name, "owner": owner})


def holder(session: Session, name: str) -> str | None:
    """The owner of the lease, or None if nobody has it now."""
    return session.execute(
        text(f"select owner from lease where name = :name and {HELD}"), {"name": name}
    ).scalar_one_or_none()


def list_held(session: Session) -> list[str]:
    """The names of all current leases, which tell the processes that are alive on this database. The lease of the
    keeper is listed as "keeper:" and its owner. Works on older schemas too, whose leases do not tell when they were
    taken."""
    return list(
        session.execute(
            text(f"""
                select case when name = 'keeper' then 'keeper:' || owner else name end from (
                    select name, owner, until, cast(to_jsonb(lease) ->> 'taken_at' as timestamptz) as taken_at
                    from lease
                ) as lease where {HELD} order by name
            """)
        ).scalars()
    )


def count(session: Session, prefix: str, *, place: str | None = None) -> int:
    """The number of current leases whose name starts with ``prefix``. With ``place``, those of workers that poll
    elsewhere are left out."""
    count: int = session.execute(
        text(f"""
            select count(*) from lease where starts_with(name, :prefix) and {HELD}
              and (cast(:place as text) is null or place is null or place = :place)
        """),
        {"prefix": prefix, "place": place},
    ).scalar_one()
    return count


def forget_lapsed(session: Session, prefix: str) -> None:
    """Delete the leases with this prefix that expired more than an hour ago."""
    session.execute(
        text("delete from lease where starts_with(name, :prefix) and until < now() - interval '1 hour'"),
        {"prefix": prefix},
    )
