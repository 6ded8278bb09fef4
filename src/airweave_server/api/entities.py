"""Entities of source connections: list, read and retry."""

from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Body, Query

from .. import wire
from ..db import chunks, ledger
from ..db.models import Trigger
from ..errors import InvalidState, NotFound
from ..services import jobs as job_service
from ..services.jobs import JobRequest
from ..sync.diff import clean_id
from .answers import may_raise
from .deps import ConnectionId, EngineOf, Organization, PageOf, PartsOf, SessionOf, find_connection
from .jobs import jobs_to_wire

TEXT_CHARS = 10_000_000  # of one entity in a response; longer text is truncated

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.get("/{connection_id}/entities")
def list_entities(
    connection_id: ConnectionId,
    session: SessionOf,
    organization: Organization,
    page: PageOf,
    state: Annotated[
        Literal["indexed", "failed", "skipped"] | None, Query(description="Only those in this state.")
    ] = None,
    incomplete: Annotated[
        bool | None,
        Query(description="Only those from whose text something is left out, or only those that are whole."),
    ] = None,
) -> list[wire.LedgerEntry]:
    """List the ledger: every entity with its state, and the reason if the index does not hold it as the source does."""
    connection = find_connection(session, organization, connection_id)
    found = ledger.list_page(
        session, connection.id, state=state, incomplete=incomplete, skip=page.skip, limit=page.limit
    )
    return [wire.LedgerEntry.of(row, sync_job_id=row.job_id) for row in found]


@router.get("/{connection_id}/entities/text")
def read_entity(
    connection_id: ConnectionId,
    session: SessionOf,
    organization: Organization,
    entity_id: Annotated[str, Query(min_length=1, max_length=2_000, description="The id of the entity at its source.")],
) -> wire.EntityText:
    """Get the text of one entity, as it was extracted when the entity was indexed."""
    connection = find_connection(session, organization, connection_id)
    entity = ledger.find(session, connection.id, clean_id(entity_id))
    if entity is None:
        raise NotFound("Entity not found")
    text = chunks.read_text(session, entity.row, at_most=TEXT_CHARS)
    truncated = entity.truncated or len(text) > TEXT_CHARS
    return wire.EntityText.of(entity, text=text[:TEXT_CHARS], truncated=truncated)


@router.post("/{connection_id}/entities/retry", responses=may_raise(InvalidState))
def retry_entities(
    connection_id: ConnectionId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    engine: EngineOf,
    background: BackgroundTasks,
    body: Annotated[wire.RetryRequest | None, Body()] = None,
) -> wire.SourceConnectionJob:
    """Start a full sync that tries failed entities again: those named in the body, or all of them."""
    connection = find_connection(session, organization, connection_id)
    chosen = body.entity_ids if body is not None else None
    if not ledger.retry_failed(session, connection.id, chosen):
        raise NotFound("there is no failed entity" + (" with these ids" if chosen else "") + " to try again")
    job = job_service.create(session, parts.vault, connection, engine, JobRequest(Trigger.RETRY, reread=True))
    background.add_task(parts.driver.kick)
    return jobs_to_wire(session, [job])[0]
