"""Use cases of moving a collection to another embedder: begin or go on, show, give up, and keep going."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from ..db import connections, jobs, moves
from ..db.models import Collection, SyncJob, Trigger
from ..db.session import disable_idle_limit
from ..errors import InvalidState, NotFound
from ..settings import Settings
from ..vault import Vault
from .collections import usable
from .jobs import EngineChoice, JobRequest, create


@dataclass(frozen=True, slots=True)
class Move:
    """Where a move stands. ``jobs``: the last one of each connection."""

    progress: moves.Progress
    jobs: Sequence[SyncJob]


def begin(
    session: Session, vault: Vault, collection: Collection, embedder: str, engine: EngineChoice, settings: Settings
) -> list[SyncJob]:
    """Begin the move, or go on with the one that is under way; returns the jobs that start now. A collection without
    chunks has moved at once. Raises ``InvalidState`` when it is there already or moves elsewhere, ``Unavailable`` when
    the embedder cannot work now."""
    disable_idle_limit(session)
    model = usable(embedder, settings)
    locked = moves.lock(session, collection.id)
    if locked is None:
        raise NotFound("Collection not found")
    wanted = (embedder, model.name, model.dimensions)
    if locked.next_since is None:
        if wanted == (locked.embedder, locked.embedder_name, locked.dimensions):
            raise InvalidState(f"{locked.readable_id} has vectors of {embedder} ({model.name}) already")
        other = (locked.other_name, locked.other_dimensions)
        if other != (model.name, model.dimensions) and moves.is_indexed(session, locked):
            raise InvalidState(
                f"an index over the former vectors of {locked.readable_id} is still there; the server drops it by "
                "itself, try again in a minute"
            )
        _fence_off(session, locked)
        moves.begin(session, locked, embedder=embedder, name=model.name, dimensions=model.dimensions)
    elif wanted != (locked.next_embedder, locked.next_name, locked.next_dimensions):
        raise InvalidState(
            f"{locked.readable_id} moves to {locked.next_embedder} ({locked.next_name}); wait for it or abandon it"
        )
    started = go_on(session, vault, locked, engine, again=True)
    moves.switch(session, locked)
    return started


def go_on(
    session: Session, vault: Vault, collection: Collection, engine: EngineChoice, *, again: bool = False
) -> list[SyncJob]:
    """Start what the move waits for and is not under way; ``again``: also where the last try failed or was
    cancelled."""
    last = {job.connection_id: job for job in moves.newest_jobs(session, collection)}
    started = []
    for connection in moves.unfinished_connections(session, collection):
        before = last.get(connection.id)
        if jobs.find_active(session, connection.id) is not None or (before is not None and not again):
            continue
        try:
            started.append(create(session, vault, connection, engine, JobRequest(Trigger.REEMBED)))
        except (InvalidState, NotFound):
            continue  # another job began, or it was deleted, at this very moment
    return started


def shown(session: Session, collection: Collection) -> Move | None:
    """None when no move is under way."""
    if collection.next_since is None:
        return None
    return Move(moves.progress(session, collection), moves.newest_jobs(session, collection))


def abandon(session: Session, collection: Collection) -> list[SyncJob]:
    """Give the move up; returns its jobs that are cancelled. Raises ``InvalidState`` when there is none."""
    locked = moves.lock(session, collection.id)
    if locked is None or locked.next_since is None:
        raise InvalidState(f"no move of {collection.readable_id} is under way")
    ended = [job for job in moves.newest_jobs(session, locked) if jobs.request_cancel(session, job.id) is not None]
    moves.cancel(session, locked)
    return ended


def _fence_off(session: Session, collection: Collection) -> None:
    """Whoever writes for the collection reads anew how. A job that is made at this moment waits for us."""
    for connection in connections.list_page(session, collection.organization_id, collection_id=collection.id):
        if (
            connections.lock(session, connection.id)
            and (active := jobs.find_active(session, connection.id)) is not None
        ):
            jobs.fence_off(session, active.id)
