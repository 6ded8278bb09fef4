"""Queries on leases: one owner at a time, by the database's clock."""

from sqlalchemy import text
from sqlalchemy.orm import Session

API, TEMPORAL_API, WORKER = "api:", "temporal-api:", "worker:"  # how the leases of processes begin


def take(session: Session, name: str, owner: str, lease_s: float) -> bool:
    """Take or renew the lease. False when another owner has it."""
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
    """Who has the lease now, None when it lapsed."""
    return session.execute(
        text("select owner from lease where name = :name and until >= now()"), {"name": name}
    ).scalar_one_or_none()


def held(session: Session) -> list[str]:
    """The names of all that hold now, of whoever is alive on this database; the keeper's with who keeps house."""
    return list(
        session.execute(
            text("""
                select case when name = 'keeper' then 'keeper:' || owner else name end from lease
                where until >= now() order by name
            """)
        ).scalars()
    )


def count(session: Session, prefix: str) -> int:
    """How many leases hold whose name begins so."""
    found: int = session.execute(
        text("select count(*) from lease where starts_with(name, :prefix) and until >= now()"), {"prefix": prefix}
    ).scalar_one()
    return found


def forget_lapsed(session: Session, prefix: str) -> None:
    """Remove those that lapsed long ago."""
    session.execute(
        text("delete from lease where starts_with(name, :prefix) and until < now() - interval '1 hour'"),
        {"prefix": prefix},
    )
