"""Re-embedding a connection's chunks, one slice at a time, when its collection moves to another embedder.

Contacts no source. Fenced and resumed like any other read of a partition."""

import time
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy.orm import Session

from ..db import moves, partitions
from ..db.jobs import Counts
from ..db.models import SyncPartition
from ..db.room import Room
from ..sdk import Embedder, Unembeddable, Vectors
from .signals import Signals
from .vectors import embed

BATCH = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FillTask:
    """The chunks to fill with vectors, and how. ``overwrite``: also those that have a vector already."""

    connection_id: UUID
    column: str
    embedder: Embedder
    overwrite: bool
    slice_s: float
    lease_s: float
    room: Room


def fill(session: Session, partition: SyncPartition, task: FillTask, signals: Signals) -> int:
    """Embed from the partition's cursor to its end, or until the slice's time is up; one transaction per batch.

    Returns the number of entities reached. Raises ``Fenced`` if another process has taken over the partition.
    """
    began_at, entities = time.monotonic(), 0
    row, ordinal = _start_position(partition)
    while not signals.stop.is_set():
        signals.advance()
        task.room.require()
        chunks = moves.list_unfilled(
            session,
            task.connection_id,
            task.column,
            after=(row, ordinal),
            last=int(partition.data["last"]),
            overwrite=task.overwrite,
            limit=BATCH,
        )
        session.commit()  # hold no lock while the embedder works
        reached = {chunk.entity_row for chunk in chunks} - {row}
        if chunks:
            vectors = _embed_or_zero(task.embedder, [f"{chunk.heading}\n{chunk.text}" for chunk in chunks])
            moves.fill(session, task.column, chunks, vectors)
            row, ordinal = chunks[-1].entity_row, chunks[-1].ordinal
        done = len(chunks) < BATCH
        cursor = {"entity_row": row, "ordinal": ordinal}
        partitions.fence(
            session,
            partition,
            cursor=cursor,
            counts=Counts(updated=len(reached)),
            done=done,
            lease_s=task.lease_s,
            progressed=True,
        )
        session.commit()
        partition.cursor = cursor
        entities += len(reached)
        if done or time.monotonic() - began_at > task.slice_s:
            break
    return entities


def _start_position(partition: SyncPartition) -> tuple[int, int]:
    cursor = partition.cursor or {"entity_row": int(partition.data["first"]) - 1, "ordinal": 0}
    return int(cursor["entity_row"]), int(cursor["ordinal"])


def _embed_or_zero(embedder: Embedder, texts: list[str]) -> Vectors:
    """Embed the texts. One that the embedder refuses gets a zero vector: keyword search still finds it."""
    try:
        return embed(embedder, texts)
    except Unembeddable as error:
        log.warning("text_not_embeddable", texts=len(error.reasons), error=str(error)[:500])
        good = [number for number in range(len(texts)) if number not in error.reasons]
        vectors = np.zeros((len(texts), embedder.dimensions), dtype=np.float32)
        if good:
            vectors[good] = embed(embedder, [texts[number] for number in good])
        return vectors
