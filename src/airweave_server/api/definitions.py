"""Types of entities, what the index holds of each, and what this server does not keep: the raw files."""

from typing import Annotated

from fastapi import APIRouter, Query

from .. import wire
from ..db import connections
from ..errors import NotFound
from ..services.sources import define, entity_type
from .deps import ConnectionId, Organization, PartsOf, SessionOf, find_connection

NO_FILES = (
    "this server keeps no copies of files (no raw archive), so none can be had or replayed; "
    "GET /source-connections/{connection_id}/entities/text has the text of an entity, and its url leads to the file"
)

router = APIRouter(tags=["entities"])


@router.get("/entities/definitions/by-source")
async def list_entity_definitions(
    parts: PartsOf, source_short_name: Annotated[str, Query(max_length=200, description="The short name of a source.")]
) -> list[wire.EntityDefinition]:
    """List the types of entities that a source yields; none for an unknown source. Needs no API key."""
    return [
        definition
        for kind in parts.connections.sources()
        if kind.name == source_short_name
        for definition in define(kind)
    ]


@router.get("/entity-counts/syncs/{connection_id}/counts")
def count_entities_by_type(
    connection_id: ConnectionId, session: SessionOf, organization: Organization
) -> list[wire.EntityCount]:
    """Count the indexed entities of a source connection (the ``sync_id`` is its id) by type."""
    connection = find_connection(session, organization, connection_id)
    return [
        wire.EntityCount(
            count=count,
            entity_definition_short_name=name,
            entity_definition_name=name,
            entity_definition_type=entity_type(name),
            entity_definition_description=None,
            modified_at=changed_at,
        )
        for name, count, changed_at in connections.entity_types(session, connection.id)
    ]


@router.get("/entity-counts/syncs/{connection_id}/total-count")
def count_entities(connection_id: ConnectionId, session: SessionOf, organization: Organization) -> int:
    """Count the indexed entities of a source connection (the ``sync_id`` is its id)."""
    connection = find_connection(session, organization, connection_id)
    return sum(count for _, count, _ in connections.entity_types(session, connection.id))


@router.get("/files", include_in_schema=False)
@router.get("/files/{rest:path}", include_in_schema=False)
@router.post("/files/batch-download", include_in_schema=False)
async def get_file(_: Organization) -> None:
    raise NotFound(NO_FILES)
