"""Queries on leases: named locks with one owner at a time, which expire by the database's clock."""

from sqlalchemy import text
from sqlalchemy.orm import Session

API, TEMPORAL_API, WORKER = "api:", "temporal-api:", "worker:"  # name prefixes of the leases of processes


def take(session: Session, name: str, owner: str, lease_s: float) -> bool:
    """Take or renew the lease. False if another owner has it."""
    row = session.execute(
        text("""
            insert into lease (name, owner, until) values (:name, :owner, now() + make_interval(secs => :lease_s))
            on conflict (name) do update set owner = excluded.owner, until = excluded.until
            where lease.owner = excluded.owner or lease.until < now() returning name
        """),
        {"name": name, "owner": owner, "lease_s": lease_s},
    ).one_or_none()
    return row is not None


def release(session: Session, name: str, owner: str) -> None:
    session.execute(text("delete from lease where name = :name and owner = :owner"), {"name": name, "owner": owner})


def holder(session: Session, name: str) -> str | None:
    """The owner of the lease, or None if nobody has it now."""
    return session.execute(
        text("select owner from lease where name = :name and until >= now()"), {"name": name}
    ).scalar_one_or_none()


def list_held(session: Session) -> list[str]:
    """The names of all current leases, which tell the processes that are alive on this database. The lease of the
    keeper is listed as "keeper:" and its owner."""
    return list(
        session.execute(
            text("""
                select case when name = 'keeper' then 'keeper:' || owner else name end from lease
                where until >= now() order by name
            """)
        ).scalars()
    )


def count(session: Session, prefix: str) -> int:
    """The number of current leases whose name starts with ``prefix``."""
    count: int = session.execute(
        text("select count(*) from lease where starts_with(name, :prefix) and until >= now()"), {"prefix": prefix}
    ).scalar_one()
    return count


def forget_lapsed(session: Session, prefix: str) -> None:
    """Delete the leases with this prefix that expired more than an hour ago."""
    session.execute(
        text("delete from lease where starts_with(name, :prefix) and until < now() - interval '1 hour'"),
        {"prefix": prefix},
    )
