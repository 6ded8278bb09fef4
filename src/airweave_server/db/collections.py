"""Queries on collections and organizations."""

from uuid import UUID

from sqlalchemy import Select, delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from .models import Collection, Organization, SourceConnection

DEFAULT_ORGANIZATION = "default"


def organization(session: Session) -> Organization:
    """The first organization, which is that of a server without authentication. Created at first use."""
    first = select(Organization).where(Organization.is_first)
    found = session.scalars(first).first()
    if found is not None:
        return found
    # of several processes that start at once, one creates it
    session.execute(text("select pg_advisory_xact_lock(hashtext('airweave organization'))"))
    found = session.scalars(first).first()
    if found is None:  # a restored backup may be of a time when none was marked
        found = session.scalars(select(Organization).order_by(Organization.created_at, Organization.id)).first()
    if found is None:
        found = Organization(name=DEFAULT_ORGANIZATION)
        session.add(found)
    found.is_first = True
    session.flush()
    return found


def find(session: Session, organization_id: UUID, readable_id: str) -> Collection | None:
    return session.scalars(_visible(organization_id).where(Collection.readable_id == readable_id)).one_or_none()


def list_page(
    session: Session, organization_id: UUID, *, search: str | None, skip: int, limit: int
) -> list[Collection]:
    """Newest first. ``search``: a part of the name or of the readable id."""
    query = _searched(_visible(organization_id), search).order_by(Collection.created_at.desc(), Collection.id)
    return list(session.scalars(query.offset(skip).limit(limit)))


def count(session: Session, organization_id: UUID, *, search: str | None) -> int:
    return (
        session.scalar(select(func.count()).select_from(_searched(_visible(organization_id), search).subquery())) or 0
    )


def list_all(session: Session) -> list[Collection]:
    """All collections of all organizations, for the operator."""
    return list(session.scalars(select(Collection).where(Collection.deleted_at.is_(None)).order_by(Collection.id)))


def touch(session: Session, collection: Collection) -> None:
    """Set ``modified_at`` to now."""
    session.flush()
    session.execute(update(Collection).where(Collection.id == collection.id).values(modified_at=func.now()))
    session.refresh(collection)


def list_purgeable(session: Session) -> list[UUID]:
    """The ids of deleted collections that have no connections left."""
    return list(
        session.scalars(
            select(Collection.id).where(
                Collection.deleted_at.is_not(None),
                ~select(SourceConnection.id).where(SourceConnection.collection_id == Collection.id).exists(),
            )
        )
    )


def remove(session: Session, collection_id: UUID) -> None:
    session.execute(delete(Collection).where(Collection.id == collection_id))


def _visible(organization_id: UUID) -> Select[Collection]:
    return select(Collection).where(Collection.organization_id == organization_id, Collection.deleted_at.is_(None))


def _searched(query: Select[Collection], search: str | None) -> Select[Collection]:
    if not search:
        return query
    return query.where(
        or_(
            Collection.name.icontains(search, autoescape=True),
            Collection.readable_id.icontains(search, autoescape=True),
        )
    )
