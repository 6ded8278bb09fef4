"""Live progress of a job as server-sent events: its present state, then each change, then its end."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from .. import wire
from ..db import connections
from ..db.models import Status
from ..errors import NotFound
from .deps import JobId, Organization, Parts, PartsOf, SessionOf
from .watches import Sight, Watch


async def check_room(parts: PartsOf, organization: Organization) -> None:
    """Refuse a stream too many before anything is queried for it."""
    parts.watches.check_room(organization)


router = APIRouter(prefix="/sync/job/{job_id}", tags=["jobs"], dependencies=[Depends(check_room)])

ToEvents = Callable[[Sight], Iterator[BaseModel]]


class EventStream(StreamingResponse):
    """A watch as a stream of events. Raises ``TooMany`` before it starts if too many streams are open."""

    media_type = "text/event-stream"

    def __init__(self, parts: Parts, watch: Watch, to_events: ToEvents) -> None:
        events = _stream(watch, to_events, heartbeat_s=parts.settings.progress_heartbeat_s)
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._watches = parts.watches
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._watches.opened(self._watch):
            await super().__call__(scope, receive, send)


@router.get("/subscribe", response_class=EventStream, status_code=200)
def stream_job_progress(job_id: JobId, parts: PartsOf, session: SessionOf, organization: Organization) -> EventStream:
    """Stream what the job has done as server-sent events: at once, after each change, and at its end. The stream ends
    with the job."""
    return EventStream(parts, _start_watch(parts, session, organization, job_id, counts_types=False), _show_progress)


@router.get("/subscribe-state", response_class=EventStream, status_code=200)
def stream_job_state(job_id: JobId, parts: PartsOf, session: SessionOf, organization: Organization) -> EventStream:
    """Stream what the index holds of the job's connection as server-sent events: at once, after each change, and at
    the end of the job. The stream ends with the job."""
    return EventStream(parts, _start_watch(parts, session, organization, job_id, counts_types=True), _show_state)


def _start_watch(parts: Parts, session: Session, organization: UUID, job_id: UUID, *, counts_types: bool) -> Watch:
    sight = parts.watches.look(session, [job_id], counting=[job_id] if counts_types else []).get(job_id)
    if sight is None or connections.find(session, organization, sight.progress.connection_id) is None:
        raise NotFound("Job not found")
    return Watch(job_id, organization, sight, counts_types)


async def _stream(watch: Watch, to_events: ToEvents, *, heartbeat_s: float) -> AsyncIterator[str]:
    yield _format_event(type="connected", job_id=str(watch.job_id))
    async for sight in watch.sights(heartbeat_s=heartbeat_s):
        if sight is None:
            yield _format_event(type="heartbeat")
        else:
            for model in to_events(sight):
                yield _format_event(**model.model_dump(mode="json"))
    if watch.over is not None:
        yield _format_event(type="error", message=watch.over)


def _format_event(**data: Any) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _show_progress(sight: Sight) -> Iterator[BaseModel]:
    job, counts = sight.progress, sight.progress.counts
    yield wire.SyncProgressUpdate.of(
        counts, job, entities_encountered={"all": counts.met}, last_update_timestamp=job.at
    )
    if job.is_ended:
        yield wire.SyncEnd.of(job)


def _show_state(sight: Sight) -> Iterator[BaseModel]:
    job, counts = sight.progress, sight.progress.counts
    total = sum(sight.by_type.values())
    yield wire.EntityState(
        job_id=job.job_id,
        sync_id=job.connection_id,
        entity_counts=dict(sight.by_type),
        total_entities=total,
        timestamp=job.at,
        job_status=job.status,
    )
    if job.is_ended:
        yield wire.SyncComplete(
            job_id=job.job_id,
            sync_id=job.connection_id,
            is_complete=job.status == Status.COMPLETED,
            is_failed=job.status == Status.FAILED,
            final_counts=dict(sight.by_type),
            total_entities=total,
            total_operations=counts.inserted + counts.updated + counts.deleted,
            final_status=job.status,
            error=job.error,
            timestamp=job.at,
        )
