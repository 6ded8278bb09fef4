"""Jobs of source connections: start, list and cancel."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Body, Query
from sqlalchemy.orm import Session

from .. import wire
from ..db import jobs
from ..db.jobs import Counts, Progress
from ..db.models import SyncJob
from ..errors import InvalidState, NotFound
from ..services import jobs as service
from ..services.jobs import JobRequest
from .answers import may_raise
from .deps import ConnectionId, EngineOf, JobId, Organization, PartsOf, SessionOf, find_connection

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.post("/{connection_id}/run", responses=may_raise(InvalidState))
def run_source_connection(
    connection_id: ConnectionId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    engine: EngineOf,
    background: BackgroundTasks,
    body: Annotated[wire.RunRequest | None, Body()] = None,
    force_full_sync: Annotated[bool, Query(description="Read everything again, as if nothing were known.")] = False,
) -> wire.SourceConnectionJob:
    """Start a sync. ``force_full_sync`` may stand in the query or in the body."""
    connection = find_connection(session, organization, connection_id)
    body = body or wire.RunRequest()
    job = service.create(
        session,
        parts.vault,
        connection,
        engine,
        JobRequest(force_full=force_full_sync or bool(body.force_full_sync), access_token=body.access_token),
    )
    background.add_task(parts.driver.kick)
    return jobs_to_wire(session, [job])[0]


@router.get("/{connection_id}/jobs")
def list_jobs(
    connection_id: ConnectionId,
    session: SessionOf,
    organization: Organization,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many to return, at most.")] = 100,
) -> list[wire.SourceConnectionJob]:
    """List the jobs of the connection, newest first."""
    connection = find_connection(session, organization, connection_id)
    return jobs_to_wire(session, jobs.list_newest(session, connection.id, limit=limit))


@router.get("/{connection_id}/jobs/{job_id}")
def get_job(
    connection_id: ConnectionId, job_id: JobId, session: SessionOf, organization: Organization
) -> wire.SourceConnectionJob:
    """Get a job with its counts so far."""
    return jobs_to_wire(session, [_find_job(session, organization, connection_id, job_id)])[0]


@router.post("/{connection_id}/jobs/{job_id}/cancel", responses=may_raise(InvalidState))
def cancel_job(
    connection_id: ConnectionId,
    job_id: JobId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnectionJob:
    """Cancel a job. After this has answered the job writes nothing more; it becomes ``cancelled`` within seconds."""
    job = _find_job(session, organization, connection_id, job_id)
    service.cancel(session, job)
    background.add_task(parts.driver.cancelled, job.id)
    return jobs_to_wire(session, [job])[0]


def jobs_to_wire(session: Session, found: list[SyncJob]) -> list[wire.SourceConnectionJob]:
    """The jobs with their counts, which are 0 for a job that was deleted meanwhile."""
    progress = jobs.progress(session, [job.id for job in found])
    return [_to_wire(job, progress.get(job.id)) for job in found]


def _to_wire(job: SyncJob, progress: Progress | None) -> wire.SourceConnectionJob:
    counts = progress.counts if progress is not None else Counts()
    return wire.SourceConnectionJob.of(
        job,
        source_connection_id=job.connection_id,
        duration_seconds=_measure_s(job),
        error=progress.error if progress is not None else job.error,
        error_category=wire.to_public_category(job.error_category),
        error_kind=job.error_category,
        entities_inserted=counts.inserted,
        entities_updated=counts.updated,
        entities_deleted=counts.deleted,
        entities_failed=counts.failed,
        entities_kept=counts.kept,
        entities_skipped=counts.skipped,
        entities_incomplete=counts.incomplete,
        entities_encountered=counts.met,
        entities_never_read=job.never_read,
        partitions_total=progress.partitions_total if progress is not None else 0,
        partitions_done=progress.partitions_done if progress is not None else 0,
    )


def _measure_s(job: SyncJob) -> float | None:
    if job.started_at is None:
        return None
    return max(0.0, ((job.completed_at or datetime.now(UTC)) - job.started_at).total_seconds())


def _find_job(session: Session, organization: UUID, connection_id: UUID, job_id: UUID) -> SyncJob:
    connection = find_connection(session, organization, connection_id)
    job = jobs.get(session, job_id)
    if job is None or job.connection_id != connection.id:
        raise NotFound("Job not found")
    return job
