"""The organization of the caller. Others are made and listed on the command line, by the operator."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from sqlalchemy.orm import Session

from .. import wire
from ..db.models import Organization, Role
from ..errors import NotFound
from .deps import CallerOf, SessionOf
from .gate import Caller

router = APIRouter(tags=["organizations"])


@router.get("/organizations")
def list_organizations(session: SessionOf, caller: CallerOf) -> list[wire.Organization]:
    """List the organizations that the API key belongs to: always one."""
    return [_to_wire(session, caller)]


@router.get("/organizations/{organization_id}")
def get_organization(
    organization_id: Annotated[UUID, Path(description="The id of an organization.")],
    session: SessionOf,
    caller: CallerOf,
) -> wire.Organization:
    """Get the organization that the API key belongs to."""
    if organization_id != caller.organization:
        raise NotFound("Organization not found")
    return _to_wire(session, caller)


@router.get("/users/me/organizations")
def list_own_organizations(session: SessionOf, caller: CallerOf) -> list[wire.Organization]:
    """List the organizations that the API key belongs to: always one. This server has keys, and no users."""
    return [_to_wire(session, caller)]


def _to_wire(session: Session, caller: Caller) -> wire.Organization:
    return wire.Organization.of(
        session.get_one(Organization, caller.organization),
        role="admin" if caller.role == Role.ADMIN else "member",
        key_role=caller.role,
    )
