"""Jobs of source connections: start, list and cancel."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Body, Query
from sqlalchemy.orm import Session

from .. import wire
from ..db import jobs
from ..db.models import SyncJob
from ..errors import NotFound
from ..services import jobs as service
from ..services.jobs import Ask
from .deps import Organization, PartsOf, SessionOf, find_connection

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.post("/{connection_id}/run")
def run_source_connection(
    connection_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks,
    body: Annotated[wire.RunRequest | None, Body()] = None, force_full_sync: Annotated[bool, Query()] = False,
) -> wire.SourceConnectionJob:  # fmt: skip
    """Start a sync. ``force_full_sync``, in the query or the body, reads everything afresh; ``access_token`` signs in
    this one run and is forgotten at its end."""
    connection = find_connection(session, organization, connection_id)
    body = body or wire.RunRequest()
    job = service.create(
        session, parts.vault, connection, parts.driver.choose(),
        Ask(force_full=force_full_sync or bool(body.force_full_sync), access_token=body.access_token),
    )  # fmt: skip
    background.add_task(parts.driver.kick)
    return jobs_to_wire(session, [job])[0]


@router.get("/{connection_id}/jobs")
def list_jobs(
    connection_id: UUID, session: SessionOf, organization: Organization,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[wire.SourceConnectionJob]:  # fmt: skip
    """The connection's jobs, newest first."""
    connection = find_connection(session, organization, connection_id)
    return jobs_to_wire(session, jobs.newest(session, connection.id, limit=limit))


@router.get("/{connection_id}/jobs/{job_id}")
def get_job(
    connection_id: UUID, job_id: UUID, session: SessionOf, organization: Organization
) -> wire.SourceConnectionJob:
    return jobs_to_wire(session, [_find_job(session, organization, connection_id, job_id)])[0]


@router.post("/{connection_id}/jobs/{job_id}/cancel")
def cancel_job(
    connection_id: UUID, job_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnectionJob:  # fmt: skip
    """From this answer on nothing more is written for the job; its status becomes cancelled within seconds."""
    job = _find_job(session, organization, connection_id, job_id)
    service.cancel(session, job)
    background.add_task(parts.driver.cancelled, job.id)
    return jobs_to_wire(session, [job])[0]


def jobs_to_wire(session: Session, found: list[SyncJob]) -> list[wire.SourceConnectionJob]:
    progress = jobs.progress(session, [job.id for job in found])
    shown = []
    for job in found:
        seen = progress.get(job.id)  # None: it was deleted just now
        count = seen.counts if seen else jobs.Counts()
        shown.append(
            wire.SourceConnectionJob(
                id=job.id,
                source_connection_id=job.connection_id,
                status=job.status,
                started_at=job.started_at,
                completed_at=job.completed_at,
                duration_seconds=_duration_s(job),
                entities_inserted=count.inserted,
                entities_updated=count.updated,
                entities_deleted=count.deleted,
                entities_failed=count.failed,
                error=job.error,
                error_category=job.error_category,
                error_details=job.error_details,
                organization_id=job.organization_id,
                created_at=job.created_at,
                modified_at=job.modified_at,
                failed_at=job.failed_at,
                entities_kept=count.kept,
                entities_skipped=count.skipped,
                entities_encountered=count.met,
                phase=job.phase,
                mode=job.mode,
                engine=job.engine,
                engine_reason=job.engine_reason,
                trigger=job.trigger,
                waiting_for=job.waiting_for,
                held_deletes=job.held_deletes,
                resumed_from=job.resumed_from,
                attempts=job.attempts,
                partitions_total=seen.partitions_total if seen else 0,
                partitions_done=seen.partitions_done if seen else 0,
            )
        )
    return shown


def _duration_s(job: SyncJob) -> float | None:
    if job.started_at is None:
        return None
    return max(0.0, ((job.completed_at or datetime.now(UTC)) - job.started_at).total_seconds())


def _find_job(session: Session, organization: UUID, connection_id: UUID, job_id: UUID) -> SyncJob:
    connection = find_connection(session, organization, connection_id)
    job = jobs.get(session, job_id)
    if job is None or job.connection_id != connection.id:
        raise NotFound("Job not found")
    return job
