"""Use cases of collections: create one with its embedder and language, delete one, refresh all its connections."""

import re
import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import collections, connections, events, jobs
from ..db.models import Collection, SyncJob, Trigger
from ..db.session import give_back
from ..errors import InvalidState, NotFound, Unavailable
from ..sdk import ConfigError, Embedder, EmbedderError
from ..settings import Settings
from ..vault import Vault
from ..wire import ENGLISH
from .connections import Connections
from .jobs import EngineChoice, JobRequest, create, fail_to_start

SUFFIX_CHARS = 6
STEM_CHARS = 50


def make(
    session: Session,
    organization_id: UUID,
    *,
    name: str,
    readable_id: str | None,
    sync_config: dict[str, Any] | None,
    embedder: str,
    settings: Settings,
    language: str = ENGLISH,
) -> Collection:
    """Create a collection. Raises ``InvalidState`` if the readable id is taken or the embedder cannot work,
    ``Unavailable`` if it cannot work now."""
    give_back(session)
    model = load_embedder(embedder, settings)
    collection = Collection(
        id=uuid4(),
        organization_id=organization_id,
        name=name,
        readable_id=readable_id or _readable(name),
        sync_config=sync_config,
        embedder=embedder,
        embedder_name=model.name,
        dimensions=model.dimensions,
        language=language,
    )
    try:
        with session.begin_nested():
            session.add(collection)
            session.flush()
    except IntegrityError:
        raise InvalidState(f"Collection with readable_id {collection.readable_id!r} already exists") from None
    session.refresh(collection)
    events.record_collection(session, collection, "created")
    return collection


def get(
    session: Session, organization_id: UUID, readable_id: str, *, missing: str = "Collection not found"
) -> Collection:
    """Return the collection. Raises ``NotFound`` with the message ``missing``."""
    collection = collections.find(session, organization_id, readable_id)
    if collection is None:
        raise NotFound(missing)
    return collection


def change(session: Session, collection: Collection) -> None:
    """Complete a change of the collection's fields."""
    collections.touch(session, collection)
    events.record_collection(session, collection, "updated")


def delete(session: Session, service: Connections, collection: Collection) -> list[UUID]:
    """Hide the collection and its connections and end their jobs. Returns the jobs; the keeper deletes the data."""
    listed = connections.list_page(session, collection.organization_id, collection_id=collection.id)
    ended = [service.delete(session, connection, with_collection=True) for connection in listed]
    collection.deleted_at = datetime.now(UTC)
    session.flush()
    events.record_collection(session, collection, "deleted")
    return [job_id for job_id in ended if job_id is not None]


def refresh_all(session: Session, vault: Vault, collection: Collection, engine: EngineChoice) -> list[SyncJob]:
    """Return a job of every connection: the active one if there is one, otherwise a new one, or a failed one that says
    why it could not start. No connection keeps another from starting."""
    started = []
    for connection in connections.list_page(session, collection.organization_id, collection_id=collection.id):
        job = jobs.find_active(session, connection.id)
        if job is None:
            try:
                job = create(session, vault, connection, engine, JobRequest(Trigger.REFRESH_ALL))
            except NotFound:
                continue  # it was deleted just now
            except InvalidState as error:
                job = jobs.find_active(session, connection.id) or fail_to_start(session, connection, engine, str(error))
        started.append(job)
    return started


def load_embedder(embedder: str, settings: Settings) -> Embedder:
    """Return the embedder after checking it. Raises ``InvalidState`` if it cannot work as configured, ``Unavailable``
    if it cannot work now."""
    try:
        model = plugins.embedder(embedder, settings)
        model.check()
    except ConfigError as error:
        raise InvalidState(str(error)) from None
    except EmbedderError as error:
        raise Unavailable(f"embedder {embedder}: {error}") from None
    return model


def _readable(name: str) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:STEM_CHARS].strip("-")
    suffix = secrets.token_hex(SUFFIX_CHARS // 2)
    return f"{stem}-{suffix}" if stem else f"collection-{suffix}"
