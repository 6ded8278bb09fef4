"""Queries on API keys, which stand in the database as hashes only."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from .models import ApiKey

PREFIX = "aw_"
USED_EVERY = timedelta(minutes=1)


def create(session: Session, organization_id: UUID, *, name: str, days: int) -> tuple[ApiKey, str]:
    """A new key and its text, which cannot be had again."""
    plain = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        organization_id=organization_id,
        name=name,
        hint=plain[-4:],
        key_hash=digest(plain),
        expires_at=datetime.now(UTC) + timedelta(days=days),
    )
    session.add(key)
    session.flush()
    session.refresh(key)
    return key, plain


def valid(session: Session, plain: str) -> ApiKey | None:
    """The key of this text, if it is neither revoked nor expired. It is found by its hash: no comparison of secrets
    takes a time that tells anything about them."""
    key = session.scalars(
        select(ApiKey).where(
            ApiKey.key_hash == digest(plain), ApiKey.revoked_at.is_(None), ApiKey.expires_at > func.now()
        )
    ).one_or_none()
    if key is not None and (key.last_used_at is None or datetime.now(UTC) - key.last_used_at > USED_EVERY):
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=func.now()))
    return key


def listed(session: Session, organization_id: UUID) -> list[ApiKey]:
    return list(
        session.scalars(
            select(ApiKey).where(ApiKey.organization_id == organization_id).order_by(ApiKey.created_at, ApiKey.id)
        )
    )


def revoke(session: Session, organization_id: UUID, key_id: UUID) -> bool:
    """False when there is no such key that still holds."""
    changed = session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.organization_id == organization_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now(), modified_at=func.now())
        .returning(ApiKey.id)
    ).one_or_none()
    return changed is not None


def digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode("utf-8", "replace")).digest()
