"""API keys of the caller's organization."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from sqlalchemy.orm import Session

from .. import wire
from ..db import keys
from ..db.models import ApiKey, Role
from ..errors import NotFound
from .answers import may_raise
from .deps import Organization, PageOf, SessionOf

router = APIRouter(prefix="/api-keys", tags=["organizations"])


@router.get("", summary="List API keys")
def list_api_keys(session: SessionOf, organization: Organization, page: PageOf) -> list[wire.ApiKey]:
    """List the API keys of the organization, newest first, also those that are revoked or expired. The keys themselves
    are not stored, only their last characters."""
    return [_to_wire(key) for key in keys.list_page(session, organization, skip=page.skip, limit=page.limit)]


@router.post("", summary="Create an API key")
def create_api_key(body: wire.ApiKeyCreate, session: SessionOf, organization: Organization) -> wire.ApiKey:
    """Create an API key. Its text, ``decrypted_key``, is shown only now."""
    made, plain = keys.create(session, organization, name=body.name, days=body.expiration_days, role=Role(body.role))
    return _to_wire(made, plain)


@router.get("/{key_id}", summary="Get an API key")
def get_api_key(
    key_id: Annotated[UUID, Path(description="The id of an API key.")], session: SessionOf, organization: Organization
) -> wire.ApiKey:
    """Get an API key, without its text."""
    return _to_wire(_find(session, organization, key_id))


@router.delete("", summary="Revoke an API key", responses=may_raise(NotFound))
def revoke_api_key(
    id: Annotated[UUID, Query(description="The id of the API key.")], session: SessionOf, organization: Organization
) -> wire.ApiKey:
    """Revoke an API key. It is refused within a second, and what it streams ends. A key may revoke itself."""
    key = _find(session, organization, id)
    keys.revoke(session, organization, key.id)
    session.refresh(key)
    return _to_wire(key)


def _find(session: Session, organization: UUID, key_id: UUID) -> ApiKey:
    found = keys.find(session, organization, key_id)
    if found is None:
        raise NotFound("API key not found")
    return found


def _to_wire(key: ApiKey, plain: str | None = None) -> wire.ApiKey:
    return wire.ApiKey.of(key, last_used_date=key.last_used_at, expiration_date=key.expires_at, decrypted_key=plain)
