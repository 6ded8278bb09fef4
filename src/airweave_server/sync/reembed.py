"""One slice of filling a connection's chunks with the vectors of the embedder that its collection moves to. Contacts no
source; fenced and resumed like any other read of a partition."""

import time
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy.orm import Session

from ..db import moves, partitions
from ..db.jobs import Counts
from ..db.models import SyncPartition
from ..sdk import Embedder, Unembeddable, Vectors
from .signals import Signals
from .vectors import embed

BATCH = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Filling:
    """What is filled, and how. ``anew``: whatever stands there already."""

    connection_id: UUID
    column: str
    embedder: Embedder
    anew: bool
    slice_s: float
    lease_s: float


def fill(session: Session, partition: SyncPartition, filling: Filling, signals: Signals) -> int:
    """Read on from the partition's cursor, a batch a transaction, to its end or until the slice's time is over; returns
    the entities that were come to. Raises ``Fenced`` when it is somebody else's by now."""
    began_at, entities = time.monotonic(), 0
    row, ordinal = _place(partition)
    while not signals.stop.is_set():
        signals.advance()
        chunks = moves.list_unfilled(
            session, filling.connection_id, filling.column, after=(row, ordinal), last=int(partition.data["last"]),
            overwrite=filling.anew, limit=BATCH,
        )  # fmt: skip
        session.commit()  # nothing is held while the embedder works
        come_to = {chunk.entity_row for chunk in chunks} - {row}
        if chunks:
            vectors = _vectors(filling.embedder, [f"{chunk.heading}\n{chunk.text}" for chunk in chunks])
            moves.fill(session, filling.column, chunks, vectors)
            row, ordinal = chunks[-1].entity_row, chunks[-1].ordinal
        done = len(chunks) < BATCH
        cursor = {"entity_row": row, "ordinal": ordinal}
        partitions.fence(
            session, partition, cursor=cursor, counts=Counts(updated=len(come_to)), done=done, lease_s=filling.lease_s,
            progressed=True,
        )  # fmt: skip
        session.commit()
        partition.cursor = cursor
        entities += len(come_to)
        if done or time.monotonic() - began_at > filling.slice_s:
            break
    return entities


def _place(partition: SyncPartition) -> tuple[int, int]:
    cursor = partition.cursor or {"entity_row": int(partition.data["first"]) - 1, "ordinal": 0}
    return int(cursor["entity_row"]), int(cursor["ordinal"])


def _vectors(embedder: Embedder, texts: list[str]) -> Vectors:
    """A text that the embedder cannot take gets zeros: it is found by its words."""
    try:
        return embed(embedder, texts)
    except Unembeddable as error:
        log.warning("text_not_embeddable", texts=len(error.reasons), error=str(error)[:500])
        good = [number for number in range(len(texts)) if number not in error.reasons]
        vectors = np.zeros((len(texts), embedder.dimensions), dtype=np.float32)
        if good:
            vectors[good] = embed(embedder, [texts[number] for number in good])
        return vectors
