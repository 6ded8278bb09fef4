"""Sources, with the fields of their forms derived from their models."""

from fastapi import APIRouter

from .. import wire
from ..services.sources import describe
from .deps import Organization, PartsOf, ShortName

router = APIRouter(prefix="/sources", tags=["sources"])


@router.get("")
def list_sources(parts: PartsOf, _: Organization) -> list[wire.Source]:
    """List the sources that can be connected, with the fields of their configuration and credentials."""
    return [describe(kind) for kind in parts.connections.sources()]


@router.get("/{short_name}")
def get_source(short_name: ShortName, parts: PartsOf, _: Organization) -> wire.Source:
    """Get a source with the fields of its configuration and credentials."""
    return describe(parts.connections.source(short_name))
