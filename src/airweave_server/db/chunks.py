"""Queries on chunks: binary COPY to write them, reads by entity, and the staging table for big entities."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from ..sdk import Vectors
from .session import driver_errors, raw

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)

Pair = tuple[bytes | None, bytes | None]  # the values of ``embedding`` and ``embedding_2``


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to write. ``vectors``: in the binary form of ``halfvec``. ``ident``: distinct lexemes; may be None only
    for a chunk that is not inserted."""

    ordinal: int
    heading: str
    text: str
    hash: bytes
    vectors: Pair
    ident: Sequence[str] | None


def encode_vectors(vectors: Vectors) -> list[bytes]:
    """Each vector in the binary form of pgvector's ``halfvec``."""
    head = struct.pack(">hh", vectors.shape[1], 0)
    return [head + row.tobytes() for row in vectors.astype(np.dtype(">f2"))]


def decode_vector(sent: bytes) -> Vectors:
    """The vector of what ``halfvec_send`` returns."""
    return np.frombuffer(sent, dtype=np.dtype(">f2"), offset=4).astype(np.float32)


def insert(
    session: Session, chunks: Iterable[tuple[int, NewChunk]], *, collection_id: UUID, connection_id: UUID
) -> None:
    """Insert (entity row, chunk) pairs."""
    place = _field(collection_id.bytes) + _field(connection_id.bytes)
    _copy(
        session,
        "chunk (entity_row, ordinal, collection_id, connection_id, heading, text, hash, embedding, embedding_2, ident)",
        10,
        (struct.pack(">iqiq", 8, row, 8, chunk.ordinal) + place + _content(chunk) for row, chunk in chunks),
    )


def drop(session: Session, entity_rows: Sequence[int]) -> None:
    session.execute(text("delete from chunk where entity_row = any(:rows)"), {"rows": list(entity_rows)})


def drop_changed(
    session: Session, entity_rows: Sequence[int], wanted: Sequence[tuple[int, NewChunk]]
) -> set[tuple[int, int]]:
    """Delete the entities' chunks except those that are already in their wanted place, and return the (entity row,
    ordinal) of those. Call this after the entities' rows are written: that locks out every other writer of them."""
    if not wanted:
        drop(session, entity_rows)
        return set()
    values = {
        "rows": list(entity_rows),
        "wanted_rows": [row for row, _ in wanted],
        "ordinals": [chunk.ordinal for _, chunk in wanted],
        "hashes": [chunk.hash for _, chunk in wanted],
    }
    kept = session.execute(
        text("""
            with wanted as materialized (
                select * from unnest(cast(:wanted_rows as bigint[]), cast(:ordinals as bigint[]),
                                     cast(:hashes as bytea[])) as w(entity_row, ordinal, hash)
            ),
            kept as materialized (
                select entity_row, ordinal from chunk join wanted using (entity_row, ordinal, hash)
            ),
            gone as (
                delete from chunk c where c.entity_row = any(:rows)
                  and not exists (select from kept k where k.entity_row = c.entity_row and k.ordinal = c.ordinal)
            )
            select entity_row, ordinal from kept
        """),
        values,
    )
    return {(row[0], row[1]) for row in kept}


def vectors_by_hash(
    session: Session, entity_rows: Sequence[int], hashes: Sequence[bytes] | None = None
) -> dict[bytes, Pair]:
    """The current vectors of these entities' chunks, by chunk hash, so that unchanged text is not embedded again.
    ``hashes``: only those of these chunks."""
    rows = session.execute(
        text("""
            select hash, halfvec_send(embedding), halfvec_send(embedding_2) from chunk
            where entity_row = any(:rows) and (cast(:hashes as bytea[]) is null or hash = any(:hashes))
        """),
        {"rows": list(entity_rows), "hashes": None if hashes is None else list(hashes)},
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def read_text(session: Session, entity_row: int, *, at_most: int) -> str:
    """The entity's text, joined from its chunks, which leave no gaps. A text longer than ``at_most`` characters is cut
    off at the end of a chunk, somewhat after that length."""
    parts, chars = [], 0
    rows = session.execute(
        text("select text from chunk where entity_row = :row order by ordinal").execution_options(yield_per=1_000),
        {"row": entity_row},
    )
    for row in rows:
        parts.append(row[0])
        chars += len(row[0])
        if chars > at_most:
            break
    rows.close()
    return "".join(parts)


def stage(session: Session, partition_id: int, chunks: Sequence[NewChunk]) -> None:
    """Stage chunks of the partition's big entity until all of them have arrived."""
    _copy(
        session,
        "chunk_staged (partition_id, ordinal, heading, text, hash, embedding, embedding_2, ident)",
        8,
        (struct.pack(">iqiq", 8, partition_id, 8, chunk.ordinal) + _content(chunk) for chunk in chunks),
    )


def unstage(session: Session, partition_id: int) -> None:
    """Delete the staged chunks of an earlier big entity that was not finished."""
    session.execute(text("delete from chunk_staged where partition_id = :id"), {"id": partition_id})


def swap_in(
    session: Session, partition_id: int, entity_row: int, *, collection_id: UUID, connection_id: UUID, keep: bool
) -> int:
    """Replace the entity's chunks with the staged ones, in this transaction. ``keep``: those that are the same and in
    their place stay, for the indexes make writing a row cost much more than comparing it. Returns how many were
    written."""
    if keep:
        session.execute(
            text("""
                delete from chunk c where c.entity_row = :row and not exists (
                    select from chunk_staged s
                    where s.partition_id = :partition_id and s.ordinal = c.ordinal and s.hash = c.hash
                )
            """),
            {"row": entity_row, "partition_id": partition_id},
        )
    else:
        drop(session, [entity_row])
    written: int = session.execute(
        text("""
            with staged as (delete from chunk_staged where partition_id = :partition_id returning *), written as (
                insert into chunk (entity_row, ordinal, collection_id, connection_id, heading, text, hash, embedding,
                                   embedding_2, ident)
                select :row, ordinal, :collection_id, :connection_id, heading, text, hash, embedding, embedding_2, ident
                from staged s
                where not exists (select from chunk c where c.entity_row = :row and c.ordinal = s.ordinal)
                returning 1
            )
            select count(*) from written
        """),
        {
            "partition_id": partition_id,
            "row": entity_row,
            "collection_id": collection_id,
            "connection_id": connection_id,
        },
    ).scalar_one()
    return written


def tidy(session: Session, *, analyze: bool) -> None:
    """Flush the pending lists of the GIN indexes, which every query would otherwise scan. Call this at the end of a job
    that wrote. ``analyze``: also update the planner's statistics."""
    session.execute(
        text("""
            select gin_clean_pending_list(indexrelid) from pg_index
            where indexrelid in (to_regclass('chunk_ts'), to_regclass('chunk_ident')) and indisvalid
        """)
    )
    if analyze:
        # nobody can analyze a table while an index is being built over it; that must not delay the end of a job
        session.execute(text("analyze (skip_locked) chunk"))
        session.execute(text("analyze entity"))


def _copy(session: Session, target: str, fields: int, rows: Iterable[bytes]) -> None:
    head = struct.pack(">h", fields)
    body = b"".join([COPY_HEADER, *(head + row for row in rows), COPY_TRAILER])
    statement = f"copy {target} from stdin (format binary)"
    with driver_errors(statement), raw(session).cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(body)


def _content(chunk: NewChunk) -> bytes:
    assert chunk.ident is not None
    return b"".join(
        _field(value)
        for value in (
            chunk.heading.encode(),
            chunk.text.encode(),
            chunk.hash,
            *chunk.vectors,
            _tsvector(chunk.ident),
        )
    )


def _field(value: bytes | None) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    return struct.pack(">i", len(value)) + value


def _tsvector(lexemes: Sequence[str]) -> bytes:
    """The binary form of a tsvector without positions. Postgres sorts it on receipt."""
    return struct.pack(">i", len(lexemes)) + "\0\0\0".join([*lexemes, ""]).encode()
