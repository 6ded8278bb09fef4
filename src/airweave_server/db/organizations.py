"""Queries on organizations, for the operator: a request knows its own, and no other."""

from contextlib import suppress
from uuid import UUID

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from ..errors import Unstartable
from . import collections
from .models import Organization

LEAST_CHARS, MOST_CHARS = 4, 100  # of a name, as in the public API


def list_all(session: Session) -> list[Organization]:
    """All organizations: the first one, then the others, oldest first."""
    order = (Organization.is_first.desc(), Organization.created_at, Organization.id)
    return list(session.scalars(select(Organization).order_by(*order)))


def find(session: Session, name: str) -> list[Organization]:
    """The organization with this id, or those with this name; names were not always unique."""
    same = Organization.name == name
    with suppress(ValueError):
        same = or_(same, Organization.id == UUID(name))
    return list(session.scalars(select(Organization).where(same).order_by(Organization.created_at, Organization.id)))


def require(session: Session, name: str | None) -> Organization:
    """The organization with this name or id, or the first one without a name. Raises ``Unstartable``."""
    if name is None:
        return collections.organization(session)
    found = find(session, name)
    if not found:
        raise Unstartable(f"there is no organization {name!r}; airweave-server organizations list shows them")
    if len(found) > 1:
        raise Unstartable(f"{len(found)} organizations are called {name!r}; name one by its id")
    return found[0]


def create(session: Session, name: str) -> Organization | None:
    """Create an organization, after the first one if there is none yet. None if the name is taken."""
    collections.organization(session)
    session.execute(text("select pg_advisory_xact_lock(hashtext('airweave organization'))"))
    if find(session, name):
        return None
    made = Organization(name=name)
    session.add(made)
    session.flush()
    session.refresh(made)
    return made


def is_first(session: Session, organization_id: UUID) -> bool:
    return collections.organization(session).id == organization_id
