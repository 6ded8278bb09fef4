"""Collections: create, list, change, delete and sync."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Query
from sqlalchemy.orm import Session

from .. import wire
from ..db import collections, connections, jobs
from ..db.models import Collection, Status
from ..errors import InvalidState
from ..services import collections as service
from .answers import may_raise
from .deps import EngineOf, Organization, PageOf, PartsOf, ReadableId, SessionOf
from .jobs import jobs_to_wire
from .source_connections import list_items

router = APIRouter(prefix="/collections", tags=["collections"])

Search = Annotated[
    str | None, Query(max_length=200, description="Only those whose name or readable id contains this text.")
]


@router.get("")
def list_collections(
    session: SessionOf, organization: Organization, page: PageOf, search: Search = None
) -> list[wire.Collection]:
    """List collections, newest first."""
    found = collections.list_page(session, organization, search=search, skip=page.skip, limit=page.limit)
    return [_to_wire(session, collection, with_summaries=True) for collection in found]


@router.get("/count")
def count_collections(session: SessionOf, organization: Organization, search: Search = None) -> int:
    """Count collections."""
    return collections.count(session, organization, search=search)


@router.post("", responses=may_raise(InvalidState))
def create_collection(
    body: wire.CollectionCreate, parts: PartsOf, session: SessionOf, organization: Organization
) -> wire.Collection:
    """Create a collection with the server's embedder. Without a ``readable_id`` it gets one made from its name."""
    collection = service.make(
        session,
        organization,
        name=body.name,
        readable_id=body.readable_id,
        sync_config=_to_stored(body.sync_config),
        embedder=parts.settings.embedder,
        settings=parts.settings,
        language=body.language,
    )
    return _to_wire(session, collection)


@router.get("/{readable_id}")
def get_collection(readable_id: ReadableId, session: SessionOf, organization: Organization) -> wire.Collection:
    """Get a collection."""
    return _to_wire(session, service.get(session, organization, readable_id))


@router.patch("/{readable_id}")
def update_collection(
    readable_id: ReadableId, body: wire.CollectionUpdate, session: SessionOf, organization: Organization
) -> wire.Collection:
    """Change the fields that are given."""
    collection = service.get(session, organization, readable_id)
    if body.name is not None:
        collection.name = body.name
    if "sync_config" in body.model_fields_set:
        collection.sync_config = _to_stored(body.sync_config)
    service.change(session, collection)
    return _to_wire(session, collection)


@router.delete("/{readable_id}")
def delete_collection(
    readable_id: ReadableId, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks
) -> wire.Collection:
    """Delete a collection with its source connections and everything they indexed. It is hidden at once, its jobs are
    cancelled, and its data is purged in the background."""
    collection = service.get(session, organization, readable_id)
    deleted = _to_wire(session, collection)
    for job_id in service.delete(session, parts.connections, collection):
        background.add_task(parts.driver.cancelled, job_id)
    background.add_task(parts.keeper.kick)
    return deleted


@router.post("/{readable_id}/refresh_all", summary="Sync every connection of a collection")
def refresh_all(
    readable_id: ReadableId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    engine: EngineOf,
    background: BackgroundTasks,
) -> list[wire.SourceConnectionJob]:
    """Start a sync of every source connection of the collection, and return the jobs."""
    collection = service.get(session, organization, readable_id)
    started = service.refresh_all(session, parts.vault, collection, engine)
    background.add_task(parts.driver.kick)
    return jobs_to_wire(session, started)


@router.get("/{readable_id}/source-connections", summary="List source connections of a collection")
def list_connections_of_collection(
    readable_id: ReadableId, session: SessionOf, organization: Organization, page: PageOf
) -> list[wire.SourceConnectionListItem]:
    """List the source connections of the collection, as ``GET /source-connections?collection=`` does."""
    service.get(session, organization, readable_id)
    return list_items(session, organization, readable_id, page)


def _to_wire(session: Session, collection: Collection, *, with_summaries: bool = False) -> wire.Collection:
    feeding = connections.list_page(session, collection.organization_id, collection_id=collection.id)
    return wire.Collection.of(
        collection,
        status=_derive_status(session, [connection.id for connection in feeding]),
        vector_size=collection.dimensions,
        embedding_model_name=collection.embedder_name,
        source_connection_summaries=feeding if with_summaries else [],
    )


def _to_stored(config: wire.SyncConfig | None) -> dict[str, Any] | None:
    return None if config is None else config.model_dump(mode="json", exclude_unset=True)


def _derive_status(session: Session, connection_ids: list[UUID]) -> str:
    if not connection_ids:
        return "NEEDS SOURCE"
    last = jobs.newest_by_connection(session, connection_ids)
    return (
        "ERROR"
        if len(last) == len(connection_ids) and all(job.status == Status.FAILED for job in last.values())
        else "ACTIVE"
    )
