"""Queries on credentials that a source renews: those of a connection, and those given for one that is not made yet."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from .models import RenewedCredentials, SourceConnection

HOLD_S = 150  # that a renewal may take; after it Postgres gives the lock of a stopped process to others
KEEP_H = 24  # that the successor of given credentials is kept, for whoever tries again


@dataclass(frozen=True, slots=True)
class OfConnection:
    """The credentials of a connection, sealed, in its row."""

    connection_id: UUID

    @property
    def owner(self) -> str:
        """What they are sealed for."""
        return str(self.connection_id)

    def read(self, session: Session) -> bytes | None:
        query = select(SourceConnection.credentials).where(SourceConnection.id == self.connection_id)
        return session.scalars(query).one_or_none()

    def replace(self, session: Session, *, before: bytes | None, after: bytes) -> bool:
        """Store ``after`` unless something else than ``before`` stands there by now; whether it was stored."""
        stored = session.execute(
            text("""
                update source_connection set credentials = :after
                where id = :id and credentials is not distinct from :before returning id
            """),
            {"id": self.connection_id, "before": before, "after": after},
        )
        return stored.one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Successor:
    """What credentials that a person sent were renewed to, sealed. ``digest``: SHA-256 of the sent ones.

    It outlives the request that renewed them: should that fail, whoever sends the same ones again goes on with these.
    """

    organization_id: UUID
    digest: bytes

    @property
    def owner(self) -> str:
        return f"{self.organization_id} {self.digest.hex()}"

    def read(self, session: Session) -> bytes | None:
        query = select(RenewedCredentials.sealed).where(
            RenewedCredentials.organization_id == self.organization_id, RenewedCredentials.digest == self.digest
        )
        return session.scalars(query).one_or_none()

    def replace(self, session: Session, *, before: bytes | None, after: bytes) -> bool:
        made = insert(RenewedCredentials).values(organization_id=self.organization_id, digest=self.digest, sealed=after)
        renewed = {"sealed": after, "created_at": func.now()}
        session.execute(made.on_conflict_do_update(index_elements=["organization_id", "digest"], set_=renewed))
        return True


def try_lock(session: Session, place: OfConnection | Successor) -> bool:
    """Become the one that renews these credentials, until the transaction ends; False while another is."""
    session.execute(text(f"set local idle_in_transaction_session_timeout = '{HOLD_S}s'"))
    found = session.execute(
        text("select pg_try_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"credentials {place.owner}"}
    )
    return bool(found.scalar_one())


def successors_sealed_with(session: Session, key_ids: list[bytes]) -> list[RenewedCredentials]:
    """Some of the successors that are sealed with one of these keys, locked."""
    return list(
        session.scalars(
            select(RenewedCredentials)
            .where(func.substring(RenewedCredentials.sealed, 2, 4).in_(key_ids))
            .limit(100)
            .with_for_update(skip_locked=True)
        )
    )


def forget_successors(session: Session) -> None:
    """Remove successors that nobody came back for."""
    session.execute(
        text("delete from renewed_credentials where created_at < now() - make_interval(hours => :hours)"),
        {"hours": KEEP_H},
    )
