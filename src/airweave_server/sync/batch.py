"""Write a partition's items in batches: read, cut, embed, write, fence. Knows neither drivers nor HTTP."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from threading import Thread
from typing import Any, Self
from uuid import UUID

import structlog
from pyroaring import BitMap64
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .. import metrics
from ..db import chunks as chunk_rows
from ..db import ledger, partitions
from ..db.chunks import NewChunk, Pair
from ..db.jobs import Counts
from ..db.ledger import FAILED, INCOMPLETE, INDEXED, SKIPPED, Entry, Known
from ..db.models import SyncPartition
from ..db.room import Room
from ..db.session import first_line, is_duplicate, is_orphan, is_refused_data
from ..errors import Fenced
from ..sdk import Deleted, Embedder, Entity, Seen, Skipped, Stopped, Unembeddable, Unreadable
from ..text import identifiers, versions
from ..text.chunk import Chunk
from ..text.parsers import Parsers
from ..text.parts import COMPLETE, Extracted, LeftOut, NoText, Unparseable, describe
from ..text.reading import MAX_CHUNKS, Reader, as_unparseable, cut, max_chunks
from . import diff
from .scrub import scrub
from .signals import Signals
from .vectors import Models, embed

BATCH_CHANGED = 200
BATCH_PIECES = 1_024
IDLE_PIECES = 512  # a batch of so many is written at once if no other one is being written
BATCH_ITEMS = 1_000
BATCH_S = 2.0
BATCH_CHARS = 4_000_000  # of text that a batch holds in memory
BIG_CHARS = 1_000_000  # an entity above this is written through the staging table
STAGE_AT_ONCE = 1_000
KEPT_VECTORS = 50_000  # of a big entity that are held in memory; those of more chunks are looked up group by group
EMBED_AT_ONCE = 128
STOP_AFTER_S = 2.0  # a batch that takes longer to embed is given up when asked to stop
CAREFUL_AFTER = 2  # crashes; a single one is rarely the fault of an entity
QUARANTINE_AFTER = 3  # crashes on one entity that was read alone
UNKNOWN: Pair = (None, None)

_OUTCOMES = {INDEXED: "kept", SKIPPED: "skipped", FAILED: "failed"}  # of an unchanged entity

log = structlog.get_logger(__name__)

Item = Entity | Seen | Deleted | Skipped


@dataclass(frozen=True, slots=True)
class YieldedCursor:
    """A cursor that the source yielded, as JSON."""

    cursor: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where a job writes, and how."""

    organization_id: UUID
    collection_id: UUID
    connection_id: UUID
    job_id: UUID
    source: str
    scope: str
    models: Models
    force: bool
    lease_s: float
    room: Room
    parsers: Parsers
    secrets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk before it is embedded. ``hash`` covers heading and text; ``named`` is extra text that identifier search
    finds."""

    ordinal: int
    heading: str
    text: str
    hash: bytes
    named: str = ""

    def ident(self) -> Sequence[str]:
        """Extract the lexemes of its identifiers."""
        return identifiers.index_terms(self.text + self.named)


@dataclass(slots=True)
class Change:
    """One entity that the batch writes. ``pieces``: its new chunks; None to leave the stored ones. ``staged``: its new
    chunks wait in the staging table instead."""

    entry: Entry
    known: Known | None
    pieces: Sequence[Piece] | None = None
    chunks: Sequence[NewChunk] = ()
    staged: bool = False
    counts_as: str = "updated"


@dataclass(slots=True)
class Pending:
    """The contents of the next transaction."""

    changes: dict[str, Change] = field(default_factory=dict)
    same: list[tuple[int, str | None, str, datetime | None]] = field(default_factory=list)
    moved: list[tuple[int, str]] = field(default_factory=list)
    met: BitMap64 = field(default_factory=BitMap64)
    deleted: BitMap64 = field(default_factory=BitMap64)
    subtrees: list[str] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    items: int = 0
    chars: int = 0
    pieces: int = 0

    def is_full(self) -> bool:
        many = len(self.changes) >= BATCH_CHANGED or self.items >= BATCH_ITEMS
        return many or self.chars >= BATCH_CHARS or self.pieces >= BATCH_PIECES

    def is_worth_writing(self) -> bool:
        return self.pieces >= IDLE_PIECES


class Writer:
    """Commits the items of one partition, in order, batch by batch. While one batch is written the next is read and
    embedded; there are never more than these two. Nobody waits for a full batch while nothing is written.

    ``met``: the rows that the job has met already. An entity that is read again, after a crash or because the source
    lists it twice, is written again if it differs but counted once. ``aside``: opens a session for lookups while
    ``session`` writes.
    """

    def __init__(
        self,
        session: Session,
        aside: Callable[[], AbstractContextManager[Session]],
        partition: SyncPartition,
        target: Target,
        met: BitMap64,
        signals: Signals,
    ) -> None:
        self._session = session  # belongs to the writing thread until that has settled
        self._aside = aside
        self._partition = partition
        self._target = target
        self._met = met
        self._signals = signals
        self._reader = Reader(target.parsers, signals.waiting, signals.beat)
        self._careful = BATCH_ITEMS if partition.crashes >= CAREFUL_AFTER else 0  # entities to read one by one
        self._pending = Pending()
        self._in_flight = Pending()  # being written now
        self._written: Future[None] | None = None
        self._known: dict[str, Known] = {}
        self._committed_at = time.monotonic()
        self.written = 0  # committed entities
        self.cursor = partition.cursor  # every item before it is committed or pending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait for the writing thread to end. Its error is dropped: a caller who wants it has called ``commit``."""
        if error is not None:
            self._target.room.report(error)  # the database does not see errors of COPY
        if self._written is not None:
            self._written.exception()

    def take(self, window: Sequence[Item | YieldedCursor]) -> None:
        """Process a window of items, committing a batch whenever one is full."""
        ids = {
            diff.clean_id(item.id)
            for item in window
            if not isinstance(item, YieldedCursor) and isinstance(item.id, str)
        }
        known: dict[str, Known] = {}
        self._known = known  # the writing thread adds to it from now on; its rows are newer than the ones looked up
        with self._aside() as session:
            for entity_id, found in ledger.look_up(session, self._target.connection_id, ids).items():
                known.setdefault(entity_id, found)
        began_at = time.monotonic()
        for item in window:
            if isinstance(item, YieldedCursor):
                self.cursor = item.cursor
                continue
            self._signals.advance()
            self._pending.items += 1
            writing = self._in_flight.changes
            if writing and isinstance(item.id, str) and diff.clean_id(item.id) in writing:
                self._settle()  # the decision about this entity depends on what that batch stores
            if isinstance(item, Entity):
                if self._is_unchanged(item):  # before sanitizing: an id that must be changed is never stored as it came
                    if self._pending.items >= BATCH_ITEMS:
                        self._submit()
                    continue
                self._take_entity(item)
            elif isinstance(item, Seen):
                self._take_seen(diff.clean_id(item.id))
            elif isinstance(item, Deleted):
                self._take_deleted(diff.clean_id(item.id))
            else:
                self._take_skipped(item)
            is_due = self._pending.is_full() or (self._pending.is_worth_writing() and self._is_idle())
            if is_due or time.monotonic() - max(began_at, self._committed_at) > BATCH_S:
                self._submit()
        if time.monotonic() - self._committed_at > BATCH_S:
            self._submit()

    def commit(self, *, done: bool = False) -> None:
        """Write the pending batch in one transaction. A batch that Postgres refuses is halved until the culprit stands
        alone. Raises ``Fenced`` if another process has taken over the partition."""
        self._submit(done=done)
        self._settle()

    def _submit(self, *, done: bool = False) -> None:
        """Embed the pending batch, wait for the previous one, and write this one in a thread."""
        pending, self._pending = self._pending, Pending()
        self._signals.advance()
        self._embed_pending(pending)
        self._settle()
        if pending != Pending() or done or self.cursor != self._partition.cursor:
            self._in_flight, self._written = pending, Future()
            work = (self._write_in_thread, self._written, pending, self.cursor, done)
            # this context puts the job's id in the log; a daemon, so that a hung write cannot keep the process alive
            Thread(target=copy_context().run, args=work, name="write", daemon=True).start()
        self._committed_at = time.monotonic()

    def _is_idle(self) -> bool:
        """Whether no batch is being written."""
        return self._written is None or self._written.done()

    def _settle(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()
            self._in_flight = Pending()

    def _write_in_thread(
        self, written: "Future[None]", pending: Pending, cursor: dict[str, Any] | None, done: bool
    ) -> None:
        try:
            self._write(pending, cursor, done=done)
        except BaseException as error:
            written.set_exception(error)
        else:
            written.set_result(None)

    def _take_entity(self, item: Entity) -> None:
        entity = diff.sanitize(item)
        if isinstance(entity, diff.Malformed):
            before = self._known.get(entity.entity_id)
            name, reason = (scrub(text, self._target.secrets) for text in (entity.name, entity.reason))
            entry = Entry(entity.entity_id, name, "Malformed", self._target.scope, FAILED, reason)
            self._change(Change(entry, before, counts_as="failed"))
            return
        if self._is_unchanged(entity):
            return
        before = self._known.get(entity.id)
        if not self._careful:
            self._read(entity, before)
            return
        self.commit()  # a crash must not cost the items before this one
        self._careful -= 1
        if entity.id == self._partition.suspect and self._partition.suspect_crashes >= QUARANTINE_AFTER:
            self._fail(entity, before, f"quarantined: reading it crashed the process {QUARANTINE_AFTER} times")
            return
        partitions.note_suspect(self._session, self._partition, entity.id)
        self._session.commit()
        self._read(entity, before)
        self.commit()
        partitions.clear_suspect(self._session, self._partition)
        self._session.commit()

    def _is_unchanged(self, entity: Entity) -> bool:
        """Whether the entity is unchanged; if so, marks it as met."""
        target, pending = self._target, self._pending
        if not isinstance(entity.id, str) or entity.id in pending.changes:
            return False
        before = self._known.get(entity.id)
        if before is None or not diff.is_unchanged(before, entity, force=target.force):
            return False
        if before.scope != target.scope:
            pending.moved.append((before.row, target.scope))
        self._mark_met(before.row, _OUTCOMES[before.state], is_incomplete=before.is_incomplete)
        return True

    def _read(self, entity: Entity, before: Known | None) -> None:
        try:
            self._index(entity, before, self._reader.read(entity))
        except Unreadable as reason:
            self._note_skipped(entity, before, SKIPPED, str(reason), version=None)
        except Unparseable as reason:
            self._fail(entity, before, str(reason))

    def _index(self, entity: Entity, before: Known | None, found: Extracted | NoText) -> None:
        made_by = versions.stamp(found.formats)
        if isinstance(found, NoText):
            entry = self._make_entry(entity, SKIPPED, reason=found.reason, pipeline=made_by, empties=True)
            self._change(Change(entry, before, pieces=[], counts_as="skipped"))
            return
        content, metadata = diff.fingerprint(entity, found.pieces()), diff.metadata_fingerprint(entity, found.left_out)
        indexed = before is not None and before.fingerprint == content and before.pipeline == made_by
        alone = entity.id not in self._pending.changes
        if indexed and alone and before is not None and before.metadata_fingerprint == metadata:
            self._pending.same.append((before.row, entity.version, self._target.scope, entity.updated_at))
            self._mark_met(before.row, "kept", is_incomplete=before.is_incomplete)
            return
        counts_as = "inserted" if before is None or before.fingerprint is None else "updated"
        entry = self._make_entry(
            entity,
            INDEXED,
            pipeline=made_by,
            fingerprint=content,
            metadata_fingerprint=metadata,
        )
        change = Change(entry, before, counts_as=counts_as)
        pieces = self._make_pieces(entity, cut(found))
        if indexed and alone and before is not None:
            change.entry = _with_left_out(
                replace(entry, chunks=before.chunks),
                found.left_out,
                is_cut=before.chunks >= max_chunks(found),
                most=max_chunks(found),
            )
            self._change(change)
        elif found.chars > BIG_CHARS:
            self._stage_big(change, pieces, found.left_out, most=max_chunks(found))
        else:
            change.pieces = list(islice(pieces, MAX_CHUNKS))
            entry = replace(entry, chunks=len(change.pieces))
            change.entry = _with_left_out(entry, found.left_out, is_cut=next(pieces, None) is not None)
            self._pending.chars += len(found.text)
            self._pending.pieces += len(change.pieces)
            self._change(change)

    def _take_seen(self, entity_id: str) -> None:
        before = self._known.get(entity_id)
        if before is not None:
            self._mark_met(before.row, _OUTCOMES[before.state], is_incomplete=before.is_incomplete)

    def _take_deleted(self, entity_id: str) -> None:
        self._pending.changes.pop(entity_id, None)
        if (before := self._known.get(entity_id)) is not None:
            self._pending.met.discard(before.row)
            self._pending.deleted.add(before.row)

    def _take_skipped(self, item: Skipped) -> None:
        entity_id = diff.clean_id(item.id)
        name = diff.clean_text(item.name or item.id)[: diff.MAX_NAME_CHARS]
        reason = scrub(item.reason, self._target.secrets)
        entry = Entry(entity_id, name, "Skipped", self._target.scope, SKIPPED, reason)
        if item.subtree:
            self._pending.subtrees.append(entity_id)
        self._change(Change(entry, self._known.get(entity_id), counts_as="skipped"))

    def _note_skipped(
        self, entity: Entity, before: Known | None, state: str, reason: str, *, version: str | None
    ) -> None:
        entry = self._make_entry(entity, state, reason=scrub(reason, self._target.secrets))
        self._change(Change(replace(entry, version=version), before, counts_as=state))

    def _fail(self, entity: Entity, before: Known | None, reason: str) -> None:
        left = _retries_left(before, entity.version)
        entry = self._make_entry(entity, FAILED, reason=scrub(reason, self._target.secrets))
        self._change(Change(replace(entry, retries_left=left), before, counts_as="failed"))

    def _make_entry(
        self,
        entity: Entity,
        state: str,
        *,
        reason: str | None = None,
        pipeline: str = versions.PIPELINE,
        fingerprint: bytes | None = None,
        metadata_fingerprint: bytes | None = None,
        empties: bool = False,
    ) -> Entry:
        return Entry(
            entity_id=entity.id,
            name=entity.name,
            type=entity.type,
            scope=self._target.scope,
            state=state,
            reason=reason,
            version=entity.version,
            pipeline=pipeline,
            fingerprint=fingerprint,
            metadata_fingerprint=metadata_fingerprint,
            empties=empties,
            breadcrumbs=diff.breadcrumbs_json(entity),
            fields=dict(entity.fields),
            web_url=entity.web_url,
            url=entity.url,
            created_at=entity.created_at,
            updated_at=entity.updated_at,
        )

    def _make_pieces(self, entity: Entity, cut: Iterator[Chunk]) -> Iterator[Piece]:
        """Yield the entity's pieces. The first can also be found by the entity's name and the parts of its id."""
        ordinal = -1
        while True:
            ordinal += 1
            try:
                chunk = next(cut)
            except StopIteration:
                return
            except Exception as error:  # a chunker that fails costs this entity only
                raise as_unparseable(error) from error
            heading, named = chunk.heading, ""
            if ordinal == 0:
                heading = " > ".join(filter(None, (entity.name, chunk.heading)))
                named = f" {entity.name} {entity.id}"
            digest = hashlib.sha256(f"{heading}\x00{chunk.text}".encode()).digest()[:16]
            yield Piece(ordinal, heading, chunk.text, digest, named)

    def _stage_big(self, change: Change, pieces: Iterator[Piece], left_out: Sequence[LeftOut], *, most: int) -> None:
        """Stage up to ``most`` pieces of a big entity in several transactions; the last one swaps them in."""
        self.commit()  # the transactions of this entity must not contain earlier ones
        chunk_rows.unstage(self._session, self._partition.id)
        staged, group = 0, list(islice(pieces, STAGE_AT_ONCE))
        is_known = change.known is not None and change.known.chunks <= KEPT_VECTORS
        stored = self._stored_embeddings([change]) if is_known else {}
        while group and staged < most:
            group = group[: most - staged]
            if is_known:
                have = {piece.hash: stored[piece.hash] for piece in group if piece.hash in stored}
            else:
                have = self._stored_embeddings([change], group)
            try:
                made = self._embed(group, have)
            except _Refused as refused:
                self._change(self._refuse(change, refused.reason_for(group) or "the embedder does not take its text"))
                self.commit()
                return
            self._target.room.require()
            chunk_rows.stage(self._session, self._partition.id, made)
            partitions.lock(self._session, self._partition)
            self._session.commit()
            staged += len(group)
            group = list(islice(pieces, STAGE_AT_ONCE))
        change.entry = _with_left_out(replace(change.entry, chunks=staged), left_out, is_cut=bool(group), most=most)
        change.staged = True
        self._change(change)
        self.commit()

    def _change(self, change: Change) -> None:
        earlier = self._pending.changes.pop(change.entry.entity_id, None)
        if earlier is not None and earlier.counts_as == "inserted" and change.counts_as == "updated":
            change.counts_as = "inserted"
        self._pending.changes[change.entry.entity_id] = change

    def _mark_met(self, row: int, outcome: str, *, is_incomplete: bool = False) -> None:
        if row not in self._met and row not in self._pending.met and row not in self._in_flight.met:
            self._pending.tally[outcome] += 1
            self._pending.tally["incomplete"] += is_incomplete and outcome == "kept"
        self._pending.met.add(row)
        self._pending.deleted.discard(row)

    def _stored_embeddings(self, changes: Sequence[Change], pieces: Sequence[Piece] | None = None) -> dict[bytes, Pair]:
        """The stored vectors of these entities by the hash of their text. ``pieces``: only the vectors of these."""
        rows = [change.known.row for change in changes if change.known is not None and change.known.chunks]
        if not rows:
            return {}
        with self._aside() as session:
            hashes = None if pieces is None else [piece.hash for piece in pieces]
            found = chunk_rows.vectors_by_hash(session, rows, hashes)
        if (stale := self._target.models.stale) is not None:
            found = {piece: _with_vector(pair, stale, None) for piece, pair in found.items()}
        return found

    def _is_reusable(self, before: Known | None) -> bool:
        """Whether the stored chunks of an entity were made by the present pipeline, so that equal ones may stay."""
        return (
            before is not None
            and before.state == INDEXED
            and versions.is_current(before.pipeline)
            and not self._target.force
        )

    def _embed(
        self, pieces: Sequence[Piece], have: dict[bytes, Pair], stays: Container[bytes] = frozenset()
    ) -> list[NewChunk]:
        """Turn pieces into chunks with vectors. Text whose vectors are in ``have`` is not embedded again. Pieces in
        ``stays`` will most likely not be written, so they get their identifiers only if they are."""
        self._vectorize(pieces, have)
        return [
            NewChunk(
                piece.ordinal,
                piece.heading,
                piece.text,
                piece.hash,
                have[piece.hash],
                None if piece.hash in stays else piece.ident(),
            )
            for piece in pieces
        ]

    def _vectorize(self, pieces: Sequence[Piece], have: dict[bytes, Pair]) -> None:
        """Embed the pieces that have no vector in ``have``, and add theirs."""
        for column, embedder in enumerate(self._target.models.of):
            if embedder is not None:
                missing = {piece.hash: piece for piece in pieces if have.get(piece.hash, UNKNOWN)[column] is None}
                for key, vector in self._embed_pieces(embedder, list(missing.values())):
                    have[key] = _with_vector(have.get(key, UNKNOWN), column, vector)

    def _embed_pieces(self, embedder: Embedder, pieces: Sequence[Piece]) -> Iterator[tuple[bytes, bytes]]:
        """Embed the pieces; yield each piece's hash and its vector in wire form."""
        began_at = time.monotonic()
        for start in range(0, len(pieces), EMBED_AT_ONCE):
            self._signals.advance()
            if self._signals.stop.is_set() and time.monotonic() - began_at > STOP_AFTER_S:
                raise Stopped("asked to stop")
            part = pieces[start : start + EMBED_AT_ONCE]
            try:
                vectors = embed(embedder, [f"{piece.heading}\n{piece.text}" for piece in part])
            except Unembeddable as error:
                raise _Refused({part[place].hash: reason for place, reason in error.reasons.items()}) from None
            yield from zip((piece.hash for piece in part), chunk_rows.encode_vectors(vectors), strict=True)

    def _embed_pending(self, pending: Pending) -> None:
        have = self._stored_embeddings([change for change in pending.changes.values() if change.pieces])
        stored = frozenset(have)
        while True:
            changes = [change for change in pending.changes.values() if change.pieces]
            try:
                self._vectorize([piece for change in changes for piece in change.pieces or ()], have)
                break
            except _Refused as refused:
                for change in changes:
                    if (reason := refused.reason_for(change.pieces or ())) is not None:
                        pending.changes[change.entry.entity_id] = self._refuse(change, reason)
        for change in changes:
            stays = stored if self._is_reusable(change.known) else frozenset[bytes]()
            change.chunks = self._embed(change.pieces or (), have, stays)

    def _refuse(self, change: Change, reason: str) -> Change:
        """Turn the change into a failure: the embedder does not take one of its texts."""
        entry = replace(
            change.entry,
            state=FAILED,
            reason=scrub(reason, self._target.secrets),
            fingerprint=None,
            metadata_fingerprint=None,
            chunks=0,
            truncated=False,
            left_out=(),
            retries_left=_retries_left(change.known, change.entry.version),
        )
        return Change(entry, change.known, counts_as="failed")

    def _write(self, pending: Pending, cursor: dict[str, Any] | None, *, done: bool) -> None:
        try:
            self._write_transaction(pending, cursor, done=done)
        except DBAPIError as error:
            self._session.rollback()
            if is_orphan(error):
                raise Fenced("the job's connection was deleted and purged") from None
            if not is_refused_data(error) or not pending.changes:
                raise
            changes = list(pending.changes.values())
            if len(changes) == 1:
                entry = changes[0].entry
                reason = scrub(f"refused by the database: {first_line(error)}", self._target.secrets)
                if is_duplicate(error):  # of a key that was just deleted: not the entity's fault, the audit repairs it
                    reason = f"{INCOMPLETE}: its former chunks could not be deleted"
                failed = Entry(entry.entity_id, entry.name, entry.type, entry.scope, FAILED, reason)
                only = Change(failed, changes[0].known, counts_as="failed")
                self._write_transaction(replace(pending, changes={entry.entity_id: only}), cursor, done=done)
                return
            middle = len(changes) // 2
            first = Pending(changes={change.entry.entity_id: change for change in changes[:middle]}, items=middle)
            rest = {change.entry.entity_id: change for change in changes[middle:]}
            self._write(first, self._partition.cursor, done=False)
            self._write(replace(pending, changes=rest), cursor, done=done)

    def _write_transaction(self, pending: Pending, cursor: dict[str, Any] | None, *, done: bool) -> None:
        session, target = self._session, self._target
        target.room.require()
        changes = pending.changes.values()
        rows = ledger.write(
            session,
            [change.entry for change in changes],
            organization_id=target.organization_id,
            collection_id=target.collection_id,
            connection_id=target.connection_id,
            job_id=target.job_id,
        )
        place = {"collection_id": target.collection_id, "connection_id": target.connection_id}
        anew = [(rows[change.entry.entity_id], change) for change in changes if change.pieces is not None]
        chunks_written = 0
        if anew:
            wanted = [(row, chunk) for row, change in anew for chunk in change.chunks]
            pieces = {row: change.pieces for row, change in anew if change.pieces}
            good = {row for row, change in anew if self._is_reusable(change.known)}
            kept = chunk_rows.drop_changed(
                session, [row for row, _ in anew], [(row, chunk) for row, chunk in wanted if row in good]
            )
            new = [(row, chunk) for row, chunk in wanted if (row, chunk.ordinal) not in kept]
            chunks_written = len(new)
            chunk_rows.insert(session, ((row, _with_identifiers(chunk, pieces[row])) for row, chunk in new), **place)
        for change in changes:
            if change.staged:
                keep = self._is_reusable(change.known)
                row = rows[change.entry.entity_id]
                chunks_written += chunk_rows.swap_in(session, self._partition.id, row, **place, keep=keep)
        if pending.same:
            ledger.confirm_unchanged(session, pending.same)
        if pending.moved:
            ledger.update_scopes(session, pending.moved)
        tally = Counter(pending.tally)
        for change in changes:
            if rows[change.entry.entity_id] not in self._met and rows[change.entry.entity_id] not in pending.met:
                tally[change.counts_as] += 1
                tally["incomplete"] += bool(change.entry.left_out)
        met = pending.met | BitMap64(rows.values())
        partitions.add_marks(
            session, self._partition, met=met, deleted=pending.deleted - met, subtrees=pending.subtrees
        )
        partitions.fence(
            session,
            self._partition,
            cursor=cursor,
            counts=Counts(**tally, chunks_written=chunks_written),
            done=done,
            lease_s=target.lease_s,
            progressed=bool(met - self._met) or done or cursor != self._partition.cursor,
        )
        session.commit()
        tally.pop("incomplete", None)
        for outcome, count in tally.items():
            metrics.ENTITIES.labels(target.source, outcome).inc(count)
        for change in changes:
            for one in change.entry.left_out:
                metrics.LEFT_OUT.labels(target.source, one["what"]).inc(one["count"])
        metrics.BATCH_S.labels(target.source).observe(time.monotonic() - self._committed_at)
        self._committed_at = time.monotonic()
        self.written += len(met)
        self._partition.cursor = cursor
        self._met |= met
        for change in changes:
            self._known[change.entry.entity_id] = _to_known(rows[change.entry.entity_id], change)


def _with_identifiers(chunk: NewChunk, pieces: Sequence[Piece]) -> NewChunk:
    return replace(chunk, ident=pieces[chunk.ordinal].ident()) if chunk.ident is None else chunk


def _with_vector(pair: Pair, column: int, vector: bytes | None) -> Pair:
    return (vector, pair[1]) if column == 0 else (pair[0], vector)


class _Refused(Exception):
    """The embedder does not take some pieces; ``reasons`` by their hashes."""

    def __init__(self, reasons: dict[bytes, str]) -> None:
        super().__init__(reasons)
        self._reasons = reasons

    def reason_for(self, pieces: Sequence[Piece]) -> str | None:
        """The reason of the first refused one of these pieces, None if none was refused."""
        return next((self._reasons[piece.hash] for piece in pieces if piece.hash in self._reasons), None)


def _with_left_out(entry: Entry, left_out: Sequence[LeftOut], *, is_cut: bool, most: int = MAX_CHUNKS) -> Entry:
    """The entry of an indexed entity, with what is not in its chunks. ``is_cut``: it has more than the ``most`` that
    may be indexed."""
    every = (*left_out, LeftOut("rest", note=f"what comes after {most:,} chunks")) if is_cut else left_out
    return replace(
        entry,
        left_out=[one.as_json() for one in every],
        truncated=any(one.what not in COMPLETE for one in every),
        reason=f"left out: {describe(every)}" if every else None,
    )


def _retries_left(before: Known | None, version: str | None) -> int:
    again = before is not None and before.state == FAILED and before.version == version
    return max(before.retries_left - 1, 0) if again and before is not None else diff.RETRIES


def _to_known(row: int, change: Change) -> Known:
    entry, before = change.entry, change.known
    holds = entry if entry.state == INDEXED or entry.empties else before
    return Known(
        row=row,
        state=entry.state,
        reason=entry.reason,
        version=entry.version,
        pipeline=holds.pipeline if holds else entry.pipeline,
        fingerprint=holds.fingerprint if holds else None,
        metadata_fingerprint=holds.metadata_fingerprint if holds else None,
        scope=entry.scope,
        chunks=holds.chunks if holds else 0,
        retries_left=entry.retries_left,
        is_incomplete=bool(entry.left_out),
    )
