"""Use cases of sync jobs: create one, cancel one; and the interface of the driver, which runs a job's steps."""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import connections, events, jobs
from ..db.models import Engine, Mode, SourceConnection, Status, SyncJob, Trigger
from ..errors import InvalidState, NotFound
from ..sync.connector import traits_of
from ..vault import Vault


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What drives a job: ``temporal`` or ``in_process``. ``reason``: why, if that differs from the configuration."""

    name: Engine
    reason: str | None = None


class Driver(Protocol):
    """Runs the steps of jobs."""

    def choose(self) -> EngineChoice:
        """Return the engine for a job that starts now. Raises ``Unavailable`` if none may drive it."""
        ...

    def kick(self) -> None:
        """Look for due jobs now instead of at the next tick; returns at once."""
        ...

    def cancelled(self, job_id: UUID) -> None:
        """Tell the process that drives this job about its committed cancel request; returns at once."""
        ...

    def reconcile(self) -> None:
        """Start jobs that were not started, and take over those that lost their owner. The keeper calls it every
        tick."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return its part of the answer of /health."""
        ...


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The options of a new job."""

    trigger: Trigger = Trigger.API
    force_full: bool = False  # read everything again, as if nothing were known
    reread: bool = False  # list everything, but use what the ledger knows
    access_token: str | None = None
    approves: UUID | None = None


def create(
    session: Session, vault: Vault, connection: SourceConnection, engine: EngineChoice, request: JobRequest
) -> SyncJob:
    """Write the row of a new job; the driver does the rest. Raises ``InvalidState`` if a job of the connection is
    already active, and ``NotFound`` if the connection was deleted meanwhile."""
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
        job.host = None  # it reads the index, which every host can
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
        advice = "wait for its end" if state in (Status.CANCELLING, "ending") else "wait for its end, or cancel it"
        raise InvalidState(f"a sync job is already {state} for this connection; {advice}") from None
    connection.has_sync = True
    session.refresh(job)
    events.record_job(session, job.id)
    return job


def fail_to_start(session: Session, connection: SourceConnection, engine: EngineChoice, reason: str) -> SyncJob:
    """Write the row of a failed job that could not be started, so that the reason shows among the jobs."""
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
    connection.has_sync = True
    session.flush()
    events.record_job(session, job.id)
    jobs.end(session, job.id, status=Status.FAILED, error=reason)
    session.refresh(job)
    return job


def cancel(session: Session, job: SyncJob) -> None:
    """End a pending job, or fence off a running one and let its driver end it. Raises ``InvalidState`` otherwise."""
    if jobs.request_cancel(session, job.id) is None:
        session.refresh(job)
        raise InvalidState(f"Cannot cancel job in {job.status.upper()} state")
    session.refresh(job)
