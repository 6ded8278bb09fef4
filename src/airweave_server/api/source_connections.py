"""Source connections: preview, create, list, change and delete."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query
from sqlalchemy.orm import Session

from .. import plugins, wire
from ..db import collections, connections, jobs
from ..db.models import ACTIVE, Collection, SourceConnection, Status, SyncJob
from ..errors import InvalidState, NotFound
from ..services import connections as service
from ..services import jobs as job_service
from ..services.connections import NewConnection
from ..services.jobs import JobRequest
from .answers import may_raise
from .deps import ConnectionId, Organization, Page, PageOf, PartsOf, SessionOf, find_connection
from .jobs import jobs_to_wire

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.post("", responses=may_raise(InvalidState, NotFound))
def create_source_connection(
    body: wire.SourceConnectionCreate,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnection:
    """Connect a source to a collection. The first sync starts at once unless ``sync_immediately`` is false."""
    engine = parts.driver.choose() if body.sync_immediately is not False else None
    connection = parts.connections.create(session, organization, _to_new_connection(body))
    if engine is not None:
        job_service.create(session, parts.vault, connection, engine, JobRequest())
        background.add_task(parts.driver.kick)
    return _to_wire(session, connection)


@router.post("/preview", responses=may_raise(InvalidState, NotFound))
def preview_source_connection(
    body: wire.SourceConnectionCreate, parts: PartsOf, session: SessionOf, organization: Organization
) -> wire.SourceConnectionPreview:
    """Report what a first sync would read, index and skip, and how long it would take. Nothing is stored."""
    preview = parts.connections.preview(session, organization, _to_new_connection(body))
    return wire.SourceConnectionPreview.of(preview, short_name=body.short_name, embedding_model_name=preview.embedder)


@router.get("")
def list_source_connections(
    session: SessionOf,
    organization: Organization,
    page: PageOf,
    collection: Annotated[str | None, Query(description="Only those of the collection with this readable id.")] = None,
) -> list[wire.SourceConnectionListItem]:
    """List source connections, newest first."""
    return list_items(session, organization, collection, page)


@router.get("/{connection_id}")
def get_source_connection(
    connection_id: ConnectionId, session: SessionOf, organization: Organization
) -> wire.SourceConnection:
    """Get a source connection with its schedule, its last job and its entity counts."""
    return _to_wire(session, find_connection(session, organization, connection_id))


@router.patch("/{connection_id}", responses=may_raise(InvalidState))
def update_source_connection(
    connection_id: ConnectionId,
    body: wire.SourceConnectionUpdate,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnection:
    """Change the fields that are given. Another ``config`` or ``authentication`` cancels a running sync and
    starts a new one."""
    connection = find_connection(session, organization, connection_id)
    changes: dict[str, Any] = {}
    if body.name is not None:
        changes["name"] = body.name
    if "description" in body.model_fields_set:
        changes["description"] = body.description
    if "source_wait_max_s" in body.model_fields_set:
        changes["source_wait_max_s"] = body.source_wait_max_s
    if body.config is not None:
        changes["config"] = body.config
    if body.schedule is not None:
        changes |= {"cron": body.schedule.cron, "continuous": body.schedule.continuous}
    if body.authentication is not None:
        changes["authentication"] = _read_authentication(body.authentication)
    if parts.connections.update(session, connection, engine=parts.driver.choose, changes=changes) is not None:
        background.add_task(parts.driver.kick)
    session.flush()
    session.refresh(connection)
    return _to_wire(session, connection)


@router.delete("/{connection_id}")
def delete_source_connection(
    connection_id: ConnectionId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnection:
    """Delete a source connection and everything it indexed. It is hidden at once, its job is cancelled, and its data is
    purged in the background."""
    connection = find_connection(session, organization, connection_id)
    deleted = _to_wire(session, connection)
    if (job_id := parts.connections.delete(session, connection)) is not None:
        background.add_task(parts.driver.cancelled, job_id)
    background.add_task(parts.keeper.kick)
    return deleted


@router.get("/{connection_id}/sync-id", include_in_schema=False)
def get_sync_id(connection_id: ConnectionId, session: SessionOf, organization: Organization) -> dict[str, UUID | None]:
    return {"sync_id": _find_sync_id(find_connection(session, organization, connection_id))}


def list_items(
    session: Session, organization: UUID, readable_id: str | None, page: Page
) -> list[wire.SourceConnectionListItem]:
    """The connections of an organization, or of one of its collections, newest first."""
    collection = collections.find(session, organization, readable_id) if readable_id is not None else None
    if readable_id is not None and collection is None:
        return []
    found = connections.list_page(
        session,
        organization,
        collection_id=collection.id if collection else None,
        skip=page.skip,
        limit=page.limit,
        is_brief=True,
    )
    ids = [connection.id for connection in found]
    last, counts = jobs.newest_states(session, ids), connections.entity_counts(session, ids)
    signed_out, synced_at = connections.signed_out_ids(session, ids), jobs.synced_at(session, ids)
    # once per collection: a session forgets a row that nothing references, and would query it again
    feeds = {each: session.get_one(Collection, each).readable_id for each in {one.collection_id for one in found}}
    return [
        wire.SourceConnectionListItem.of(
            connection,
            readable_collection_id=feeds[connection.collection_id],
            is_authenticated=connection.id not in signed_out,
            entity_count=counts.get(connection.id, 0),
            auth_method=_name_auth_method(connection),
            status=_derive_status(last.get(connection.id)),
            synced_at=synced_at.get(connection.id),
        )
        for connection in found
    ]


def _to_wire(session: Session, connection: SourceConnection) -> wire.SourceConnection:
    last = jobs.newest_by_connection(session, [connection.id]).get(connection.id)
    collection = session.get_one(Collection, connection.collection_id)
    types = connections.entity_types(session, connection.id)
    is_signed_out = bool(connections.list_signed_out(session, [connection.id]))
    failed = last if last is not None and last.status == Status.FAILED else None
    return wire.SourceConnection.of(
        connection,
        readable_collection_id=collection.readable_id,
        status=_derive_status(last),
        auth=wire.AuthenticationDetails(
            method=_name_auth_method(connection),
            authenticated=not is_signed_out,
            authenticated_at=connection.created_at,
        ),
        schedule=_schedule_to_wire(connection, waits=is_signed_out) if connection.cron else None,
        sync=wire.SyncDetails.of(
            connections.count_runs(session, connection.id),
            last_job=wire.SyncJobDetails.of(*jobs_to_wire(session, [last])) if last is not None else None,
        ),
        sync_id=_find_sync_id(connection),
        entities=wire.EntitySummary(
            total_entities=sum(count for _, count, _ in types),
            by_type={kind: wire.EntityTypeStats(count=count, last_updated=at) for kind, count, at in types},
        ),
        error_category=wire.to_public_category(failed.error_category) if failed else None,
        error_kind=failed.error_category if failed else None,
        error_message=failed.error if failed else None,
        held_deletes=sum(plan.total for plan in service.held_deletes(session, connection.id)),
        synced_at=jobs.synced_at(session, [connection.id]).get(connection.id),
    )


def _find_sync_id(connection: SourceConnection) -> UUID | None:
    """The public API has a sync apart from the connection. Here it is the same, from its first schedule or job on."""
    return connection.id if connection.has_sync else None


def _schedule_to_wire(connection: SourceConnection, *, waits: bool) -> wire.ScheduleDetails:
    return wire.ScheduleDetails.of(
        connection,
        next_run=None if waits else connection.next_run_at,
        continuous=service.is_continuous(connection),
        paused_reason="its credentials were refused; send new ones, or run a sync once they work again"
        if waits
        else None,
    )


def _derive_status(last: SyncJob | jobs.JobState | None) -> str:
    # pending too: a client that polls until nothing is syncing would think that all is done before it began
    if last is not None and last.status in ACTIVE:
        return "syncing"
    if last is not None and last.status == Status.FAILED:
        return "needs_reauth" if last.error_category in jobs.SIGNED_OUT else "error"
    return "active"


def _name_auth_method(connection: SourceConnection) -> str:
    kind = plugins.sources().get(connection.short_name)
    return kind.auth.wire_method if kind is not None else "direct"


def _to_new_connection(body: wire.SourceConnectionCreate) -> NewConnection:
    return NewConnection(
        short_name=body.short_name,
        readable_collection_id=body.readable_collection_id,
        name=body.name,
        description=body.description,
        config=body.config,
        authentication=_read_authentication(body.authentication),
        cron=body.schedule.cron if body.schedule is not None else "",
        continuous=body.schedule is not None and body.schedule.continuous,
        source_wait_max_s=body.source_wait_max_s,
    )


def _read_authentication(given: wire.Authentication | None) -> dict[str, Any] | None:
    """The fields that were sent, without nulls. Raises ``NotFound`` for an auth provider, as there is none, and
    ``InvalidState`` for ways to sign in that are not supported."""
    if given is None:
        return None
    if given.provider_readable_id is not None:
        name = given.provider_readable_id
        raise NotFound(f"Auth provider {name!r} not found: this server has none; send credentials or an access_token")
    if given.credentials is None and given.access_token is None:
        raise InvalidState("browser sign-in is not supported by this server; send credentials or an access_token")
    return given.model_dump(exclude_none=True)
