"""Use cases of sync jobs: start one once, cancel it; and the driver, who takes its steps."""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import connections, jobs
from ..db.models import Engine, Mode, SourceConnection, Status, SyncJob, Trigger
from ..errors import InvalidState, NotFound
from ..sync.connector import traits_of
from ..vault import Vault


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What drives a job: ``temporal`` or ``in_process``, and why where it is not what was configured."""

    name: Engine
    reason: str | None = None


class Driver(Protocol):
    """Who takes a job's steps."""

    def choose(self) -> EngineChoice:
        """What a job that starts now is driven by. Raises ``Unavailable`` when nothing may drive it."""
        ...

    def kick(self) -> None:
        """Look for due jobs now rather than at the next tick; returns at once."""
        ...

    def cancelled(self, job_id: UUID) -> None:
        """The job's cancel was asked for and is committed: tell whoever drives it; returns at once."""
        ...

    def reconcile(self) -> None:
        """Start what was not started, and take up what lost its owner; the keeper calls it every tick."""
        ...

    def shown(self) -> dict[str, Any]:
        """What /health says of it."""
        ...


@dataclass(frozen=True, slots=True)
class JobRequest:
    """How a job is asked for."""

    trigger: Trigger = Trigger.API
    force_full: bool = False  # read everything afresh, as if nothing were known
    reread: bool = False  # list everything, but keep what the ledger knows
    access_token: str | None = None
    approves: UUID | None = None


def create(
    session: Session, vault: Vault, connection: SourceConnection, engine: EngineChoice, request: JobRequest
) -> SyncJob:
    """Write the row of a new job; the driver does the rest. Raises ``InvalidState`` when one is active already,
    whoever asked first, and ``NotFound`` when the connection was deleted meanwhile."""
    if not connections.lock(session, connection.id):
        raise NotFound("Source connection not found")
    job_id = uuid4()
    job = SyncJob(
        id=job_id,
        organization_id=connection.organization_id,
        collection_id=connection.collection_id,
        connection_id=connection.id,
        engine=engine.name,
        engine_reason=engine.reason,
        trigger=request.trigger,
        force_full=request.force_full,
        mode=Mode.FULL if request.reread else None,
        config_version=connection.config_version,
        host=connection.host,
        approves=request.approves,
        access_token=vault.seal(request.access_token.encode(), owner=str(job_id)) if request.access_token else None,
    )
    if request.trigger == Trigger.REEMBED:
        job.host = None  # what is indexed is read, which everybody can
    elif connection.short_name not in plugins.sources():
        raise InvalidState(f"source {connection.short_name!r} is not installed on this server")
    elif (traits := traits_of(connection)) is not None and not traits.local:
        job.host = None
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        active = jobs.find_active(session, connection.id)
        state = active.status if active is not None else "ending"
        raise InvalidState(f"a sync job of this connection is already {state}; wait for it or cancel it") from None
    session.refresh(job)
    return job


def fail_to_start(session: Session, connection: SourceConnection, engine: EngineChoice, reason: str) -> SyncJob:
    """The row of a job that could not be started, so that the reason can be read where jobs are."""
    job = SyncJob(
        organization_id=connection.organization_id,
        collection_id=connection.collection_id,
        connection_id=connection.id,
        engine=engine.name,
        engine_reason=engine.reason,
        trigger=Trigger.API,
        config_version=connection.config_version,
        status=Status.PENDING,
    )
    session.add(job)
    session.flush()
    jobs.end(session, job.id, status=Status.FAILED, error=reason)
    session.refresh(job)
    return job


def cancel(session: Session, job: SyncJob) -> None:
    """End a pending job, or fence a running one off and let its driver end it. Raises ``InvalidState`` otherwise."""
    if jobs.request_cancel(session, job.id) is None:
        session.refresh(job)
        raise InvalidState(f"Cannot cancel job in {job.status.upper()} state")
    session.refresh(job)
