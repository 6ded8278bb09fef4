"""Queries on API keys. Only their hashes are stored."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, true, update
from sqlalchemy.orm import Session

from .models import ApiKey, Role

PREFIX = "aw_"
USED_EVERY = timedelta(minutes=1)


def create(
    session: Session, organization_id: UUID, *, name: str, days: int, role: Role = Role.ADMIN
) -> tuple[ApiKey, str]:
    """Create a key. Returns it and its text, which cannot be read again later."""
    plain = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        organization_id=organization_id,
        name=name,
        role=role,
        hint=plain[-4:],
        key_hash=digest(plain),
        expires_at=datetime.now(UTC) + timedelta(days=days),
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, plain


def find_valid(session: Session, plain: str) -> ApiKey | None:
    """The key with this text, or None if it is unknown, revoked or expired. It is found by its hash: no secrets are
    compared, so the timing reveals nothing about them."""
    key = session.scalars(
        select(ApiKey).where(
            ApiKey.key_hash == digest(plain), ApiKey.revoked_at.is_(None), ApiKey.expires_at > func.now()
        )
    ).one_or_none()
    if key is not None and (key.last_used_at is None or datetime.now(UTC) - key.last_used_at > USED_EVERY):
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=func.now()))
    return key


def find_dead(session: Session, key_ids: Iterable[UUID]) -> set[UUID]:
    """Those among these keys that are revoked or expired, or no longer exist."""
    asked = set(key_ids)
    living = select(ApiKey.id).where(
        ApiKey.id.in_(asked), ApiKey.revoked_at.is_(None), ApiKey.expires_at > func.clock_timestamp()
    )
    return asked - set(session.scalars(living))


def find(session: Session, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    return session.scalars(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.organization_id == organization_id)
    ).one_or_none()


def list_page(session: Session, organization_id: UUID, *, skip: int, limit: int) -> list[ApiKey]:
    """The keys of an organization, newest first."""
    query = select(ApiKey).where(ApiKey.organization_id == organization_id)
    return list(session.scalars(query.order_by(ApiKey.created_at.desc(), ApiKey.id).offset(skip).limit(limit)))


def list_all(session: Session) -> list[ApiKey]:
    """All keys of all organizations, for the operator."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))


def revoke(session: Session, organization_id: UUID | None, key_id: UUID) -> bool:
    """Revoke the key; without ``organization_id``, of any organization. False if there is no such key or it was revoked
    before."""
    is_theirs = true() if organization_id is None else ApiKey.organization_id == organization_id
    changed = session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, is_theirs, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now(), modified_at=func.now())
        .returning(ApiKey.id)
    ).one_or_none()
    return changed is not None


def digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode("utf-8", "replace")).digest()
