"""Limits on the requests to sources, set by an organization for all its connections."""

from fastapi import APIRouter

from .. import wire
from ..db import rate_limits
from ..errors import InvalidState
from ..services.sources import rate_limit_level
from .answers import may_raise
from .deps import Organization, PartsOf, SessionOf, ShortName

router = APIRouter(prefix="/source-rate-limits", tags=["sources"])


@router.get("")
def list_rate_limits(parts: PartsOf, session: SessionOf, organization: Organization) -> list[wire.SourceRateLimit]:
    """List all sources, with the limits on the requests to them that are set."""
    known = {each.source_short_name: each for each in rate_limits.list_all(session, organization)}
    return [
        wire.SourceRateLimit.of(
            known.get(kind.name), source_short_name=kind.name, rate_limit_level=rate_limit_level(kind)
        )
        for kind in parts.connections.sources()
    ]


@router.put("/{short_name}", responses=may_raise(InvalidState))
def set_rate_limit(
    short_name: ShortName,
    body: wire.SourceRateLimitUpdate,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
) -> wire.SourceRateLimitSet:
    """Limit the requests to a source. All connections of the organization together keep to it, in every process, from
    their next request on; what the source itself allows holds besides."""
    kind = parts.connections.source(short_name)
    if rate_limit_level(kind) is None:
        raise InvalidState(f"source {short_name} makes no requests that could be limited")
    saved = rate_limits.save(session, organization, short_name, limit=body.limit, window_seconds=body.window_seconds)
    return wire.SourceRateLimitSet.of(saved)


@router.delete("/{short_name}", status_code=204)
def remove_rate_limit(short_name: ShortName, parts: PartsOf, session: SessionOf, organization: Organization) -> None:
    """Remove the limit on the requests to a source, if there is one."""
    rate_limits.remove(session, organization, parts.connections.source(short_name).name)
