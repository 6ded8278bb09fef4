"""Queries on credentials that a source renews: those of a connection, and those of a connection yet to be created."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from .models import RenewedCredentials, SourceConnection

HOLD_S = 150  # how long a renewal may take; after that Postgres releases the lock of a stopped process
KEEP_H = 24  # how long the successor of given credentials is kept for another try


@dataclass(frozen=True, slots=True)
class OfConnection:
    """The sealed credentials in a connection's row."""

    connection_id: UUID

    @property
    def owner(self) -> str:
        """The id that the credentials are sealed for."""
        return str(self.connection_id)

    def read(self, session: Session) -> bytes | None:
        query = select(SourceConnection.credentials).where(SourceConnection.id == self.connection_id)
        return session.scalars(query).one_or_none()

    def replace(self, session: Session, *, before: bytes | None, after: bytes) -> bool:
        """Store ``after`` if the stored value is still ``before``. Returns whether it was stored."""
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
    """The sealed successor of credentials that a person sent. ``digest``: SHA-256 of the credentials sent.

    It outlives the request that renewed them. If that request fails, sending the same credentials again uses this one.
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
        statement = insert(RenewedCredentials).values(
            organization_id=self.organization_id, digest=self.digest, sealed=after
        )
        renewed = {"sealed": after, "created_at": func.now()}
        session.execute(statement.on_conflict_do_update(index_elements=["organization_id", "digest"], set_=renewed))
        return True


def try_lock(session: Session, place: OfConnection | Successor) -> bool:
    """Take the lock for renewing these credentials, until the transaction ends. False while another process has it."""
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
    """Delete successors that were not used within ``KEEP_H`` hours."""
    session.execute(
        text("delete from renewed_credentials where created_at < now() - make_interval(hours => :hours)"),
        {"hours": KEEP_H},
    )
