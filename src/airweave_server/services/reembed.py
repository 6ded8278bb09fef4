"""Use cases of moving a collection to another embedder: begin or continue a move, show it, abandon it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from ..db import connections, jobs, moves
from ..db.models import Collection, SyncJob, Trigger
from ..db.session import give_back
from ..errors import InvalidState, NotFound
from ..settings import Settings
from ..vault import Vault
from .collections import load_embedder
from .jobs import EngineChoice, JobRequest, create


@dataclass(frozen=True, slots=True)
class Move:
    """The state of a move. ``jobs``: the last one of each connection."""

    progress: moves.Progress
    jobs: Sequence[SyncJob]


def begin(
    session: Session, vault: Vault, collection: Collection, embedder: str, engine: EngineChoice, settings: Settings
) -> list[SyncJob]:
    """Begin a move, or continue the one under way. Returns the jobs that start now.

    A collection without chunks moves at once. Raises ``InvalidState`` if the collection already has this embedder or is
    moving to another one, ``Unavailable`` if the embedder cannot work now.
    """
    give_back(session)
    model = load_embedder(embedder, settings)
    locked = moves.lock(session, collection.id)
    if locked is None:
        raise NotFound("Collection not found")
    wanted = (embedder, model.name, model.dimensions)
    if locked.next_since is None:
        if wanted == (locked.embedder, locked.embedder_name, locked.dimensions):
            raise InvalidState(f"{locked.readable_id} already has vectors of {embedder} ({model.name})")
        other = (locked.other_name, locked.other_dimensions)
        if other != (model.name, model.dimensions) and moves.is_indexed(session, locked):
            raise InvalidState(
                f"the index over the former vectors of {locked.readable_id} still exists; the server drops it by "
                "itself, so try again in a minute"
            )
        _fence_off(session, locked)
        moves.begin(session, locked, embedder=embedder, name=model.name, dimensions=model.dimensions)
    elif wanted != (locked.next_embedder, locked.next_name, locked.next_dimensions):
        raise InvalidState(
            f"{locked.readable_id} is moving to {locked.next_embedder} ({locked.next_name}); wait for it or abandon it"
        )
    started = go_on(session, vault, locked, engine, again=True)
    moves.switch(session, locked)
    return started


def go_on(
    session: Session, vault: Vault, collection: Collection, engine: EngineChoice, *, again: bool = False
) -> list[SyncJob]:
    """Start the jobs that the move still needs and that are not active. ``again``: also those that failed or were
    cancelled before. Starts none if no move is under way: it may have ended just before the collection was locked."""
    if collection.next_since is None:
        return []
    last = {job.connection_id: job for job in moves.newest_jobs(session, collection)}
    started = []
    for connection in moves.unfinished_connections(session, collection):
        before = last.get(connection.id)
        if jobs.find_active(session, connection.id) is not None or (before is not None and not again):
            continue
        try:
            started.append(create(session, vault, connection, engine, JobRequest(Trigger.REEMBED)))
        except (InvalidState, NotFound):
            continue  # another job started, or the connection was deleted, just now
    return started


def find_move(session: Session, collection: Collection) -> Move | None:
    """Return the state of the move; None if none is under way."""
    if collection.next_since is None:
        return None
    return Move(moves.progress(session, collection), moves.newest_jobs(session, collection))


def abandon(session: Session, collection: Collection) -> list[SyncJob]:
    """Abandon the move. Returns its jobs that were cancelled. Raises ``InvalidState`` if no move is under way."""
    locked = moves.lock(session, collection.id)
    if locked is None or locked.next_since is None:
        raise InvalidState(f"no move of {collection.readable_id} is under way")
    ended = [job for job in moves.newest_jobs(session, locked) if jobs.request_cancel(session, job.id) is not None]
    moves.cancel(session, locked)
    return ended


def _fence_off(session: Session, collection: Collection) -> None:
    """Make every active job of the collection read its embedders again. A job created just now waits for this
    transaction."""
    for connection in connections.list_page(session, collection.organization_id, collection_id=collection.id):
        if (
            connections.lock(session, connection.id)
            and (active := jobs.find_active(session, connection.id)) is not None
        ):
            jobs.fence_off(session, active.id)
