"""Moving a collection to another embedder: get the state of a move, start one, abandon one."""

from fastapi import APIRouter, BackgroundTasks
from sqlalchemy.orm import Session

from .. import wire
from ..db.models import Collection
from ..errors import InvalidState
from ..services import collections as service
from ..services import reembed
from .answers import may_raise
from .deps import EngineOf, Organization, PartsOf, ReadableId, SessionOf

router = APIRouter(prefix="/collections", tags=["collections"])


@router.get("/{readable_id}/reembed", summary="Get the progress of a move to another embedder")
def get_reembed(readable_id: ReadableId, session: SessionOf, organization: Organization) -> wire.Reembed:
    """Get the collection's embedder and the progress of its move to another one."""
    return _to_wire(session, service.get(session, organization, readable_id))


@router.post("/{readable_id}/reembed", summary="Move to another embedder", responses=may_raise(InvalidState))
def start_reembed(
    readable_id: ReadableId,
    body: wire.ReembedRequest,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    engine: EngineOf,
    background: BackgroundTasks,
) -> wire.Reembed:
    """Move the collection to another embedder, or resume a move that failed or was cancelled. Searches use the former
    embedder until every chunk has its new vector."""
    collection = service.get(session, organization, readable_id)
    reembed.begin(session, parts.vault, collection, body.embedder, engine, parts.settings)
    background.add_task(parts.driver.kick)
    session.refresh(collection)
    return _to_wire(session, collection)


@router.delete(
    "/{readable_id}/reembed", summary="Abandon a move to another embedder", responses=may_raise(InvalidState)
)
def abandon_reembed(
    readable_id: ReadableId, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks
) -> wire.Reembed:
    """Abandon the move. The collection keeps its present embedder."""
    collection = service.get(session, organization, readable_id)
    for job in reembed.abandon(session, collection):
        background.add_task(parts.driver.cancelled, job.id)
    session.refresh(collection)
    return _to_wire(session, collection)


def _to_wire(session: Session, collection: Collection) -> wire.Reembed:
    now = {"embedding_model_name": collection.embedder_name, "vector_size": collection.dimensions}
    move = reembed.find_move(session, collection)
    if move is None:
        return wire.Reembed.of(collection, state="settled", **now)
    return wire.Reembed.of(
        collection,
        state="moving",
        **now,
        to=collection.next_embedder,
        to_model_name=collection.next_name,
        entities_done=move.progress.done,
        entities_total=move.progress.total,
        jobs=[wire.ReembedJob.of(job, source_connection_id=job.connection_id) for job in move.jobs],
    )
