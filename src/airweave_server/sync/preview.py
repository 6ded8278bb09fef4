"""Estimate a first sync: list the source, then open, cut and embed a sample of it as a sync would.

Writes nothing; knows neither the database nor HTTP."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from ..sdk import ConfigError, Embedder, EmbedderError, Entity, Skipped, Source, SourceError, Stopped, Unreadable
from ..text import identifiers, parts
from ..text.chunk import CHUNK_CHARS
from ..text.parsers import Parsers
from ..text.parts import WHAT, NoText, Unparseable
from ..text.reading import MAX_CHUNKS, Reader, cut
from . import diff
from .scrub import scrub

LIST_S = 10.0
LIST_FEW_S = 5.0  # for a source that is expensive to list: enough for its first pages
SAMPLE = 200  # entities opened at most, within SAMPLE_S
SAMPLE_S = 5.0
AT_LEAST = 3  # entities of each kind in the sample
KINDS = 24  # told apart; all later ones count as one more kind
KEPT = 100  # entities of each kind that the sample is drawn from
KEPT_CHARS = 10_000  # kept of a text that came with the listing
OPENED_BYTES = 32_000_000  # larger entities are not opened
EMBEDDED = (8, 64, 256)  # texts per call, until EMBED_S is over: the first calls warm up, the last one is the measure
EMBED_S = 2.0
WRITE_S = 0.0005  # to write one chunk with its vector and its words
REASONS = 50
EXAMPLES = 5
EXAMPLE_CHARS = 200
MOST_BYTES = MAX_CHUNKS * CHUNK_CHARS  # of one entity that can become chunks


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Entities that would be skipped, fail or lack something for one reason. ``is_exact``: counted, not estimated.
    ``examples``: some of their ids."""

    reason: str
    entities: int
    is_exact: bool
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a first sync would find and produce.

    ``is_complete``: the listing was complete; if not, the figures are minimums. ``is_exact``: also, everything was
    opened; if not, the figures about content are estimates. ``seconds``: duration of the sync with one reader; None if
    the embedder could not be tried. ``notes``: remarks for people.
    """

    embedder: str
    is_complete: bool
    is_exact: bool
    entities: int
    size_bytes: int
    opened: int
    indexed: int
    chunks: int
    seconds: float | None
    skipped: tuple[LeftOut, ...]
    failed: tuple[LeftOut, ...]
    incomplete: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def preview(source: Source[Any, Any], embedder: Embedder, parsers: Parsers, secrets: Sequence[str]) -> Preview:
    """Preview a source, in at most ``LIST_S + SAMPLE_S + EMBED_S`` plus one answer of the source and of the embedder.
    Raises the source's error if it fails before it has listed any entity."""
    inspection = _Inspection(source, Reader(parsers, beat=source.context.check), secrets)
    inspection.list()
    inspection.open()
    return inspection.sum_up(embedder)


@dataclass(slots=True)
class _Opened:
    """The result of opening one entity. ``state``: indexed, skipped or failed. ``left_out``: kinds of what is not in
    its text."""

    size_bytes: int
    state: str = "indexed"
    reason: str = ""
    left_out: tuple[str, ...] = ()
    texts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Kind:
    """Entities that are probably alike. ``weight``: bytes of them that can become chunks."""

    entities: int = 0
    size_bytes: int = 0
    weight: int = 0
    kept: list[Entity] = field(default_factory=list)
    opened: int = 0
    opened_bytes: int = 0
    opened_weight: int = 0
    indexed: int = 0
    chunks: int = 0
    read_s: float = 0.0

    def factor(self, opened: "_Kind") -> float:
        """How many times more there is of this kind than was opened, in ``opened``: this kind or all of them."""
        if self.weight and opened.opened_weight:
            return self.weight / opened.opened_weight
        return self.entities / max(opened.opened, 1)


@dataclass(slots=True)
class _Reason:
    """Why entities were left out. ``counted``: those known from the listing. ``sampled``: the kind of each one that was
    opened."""

    counted: int = 0
    sampled: list[_Kind] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


class _Inspection:
    """One inspection of a source: ``list``, ``open``, ``sum_up``, in this order."""

    def __init__(self, source: Source[Any, Any], reader: Reader, secrets: Sequence[str]) -> None:
        self._source = source
        self._reader = reader
        self._secrets = secrets
        self._chance = random.Random(0)  # the same folder always gives the same figures
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._entities = 0
        self._is_complete = False
        self._is_whole = True
        self._list_s = 0.0
        self._reasons: dict[tuple[str, str], _Reason] = {}
        self._texts: list[str] = []
        self._texts_seen = 0
        self._notes: list[str] = []

    def list(self) -> None:
        began_at = time.monotonic()
        limit_s = LIST_S if self._source.traits(self._source.config).lists_cheaply else LIST_FEW_S
        try:
            with _stop_after(limit_s, self._source):
                self._is_complete = self._take_all(began_at + limit_s)
        except Stopped:
            pass
        except SourceError as error:
            if not self._entities:
                raise
            self._note(f"the listing of the source broke off: {error}")
        self._list_s = time.monotonic() - began_at
        if not self._is_complete:
            self._note("the source was not listed completely: it holds at least this much")

    def open(self) -> None:
        """Open the sample, in the order of ``_sample``."""
        deadline = time.monotonic() + SAMPLE_S
        try:
            with _stop_after(SAMPLE_S, self._source):
                for kind, entity in islice(self._sample(), SAMPLE):
                    self._open(kind, entity)
                    if time.monotonic() > deadline:
                        break
        except Stopped:
            pass
        except SourceError as error:
            self._note(f"opening the sample broke off: {error}")

    def sum_up(self, embedder: Embedder) -> Preview:
        kinds = list(self._kinds.values())
        listed, opened = sum(kind.entities for kind in kinds), sum(kind.opened for kind in kinds)
        everything = _Kind(
            opened=opened,
            opened_bytes=sum(kind.opened_bytes for kind in kinds),
            opened_weight=sum(kind.opened_weight for kind in kinds),
            indexed=sum(kind.indexed for kind in kinds),
            chunks=sum(kind.chunks for kind in kinds),
            read_s=sum(kind.read_s for kind in kinds),
        )
        size_bytes = indexed = chunks = read_s = 0.0
        for kind in kinds:
            like = kind if kind.opened else everything
            factor = kind.factor(like)
            size_bytes += kind.size_bytes or factor * like.opened_bytes
            indexed += kind.entities * like.indexed / max(like.opened, 1)
            chunks += factor * like.chunks
            read_s += factor * like.read_s
        if opened < listed:
            self._note(f"{opened:,} of {listed:,} were opened: figures about content and time are estimates")
        text_s = self._measure_embedding(embedder)
        # the next batch is read while the last one is written
        seconds = None if text_s is None else self._list_s + chunks * text_s + max(read_s, chunks * WRITE_S)
        return Preview(
            embedder=embedder.name,
            is_complete=self._is_complete,
            is_exact=self._is_complete and self._is_whole and opened == listed,
            entities=self._entities,
            size_bytes=round(size_bytes),
            opened=opened,
            indexed=round(indexed),
            chunks=round(chunks),
            seconds=seconds,
            skipped=self._sum_reasons("skipped"),
            failed=self._sum_reasons("failed"),
            incomplete=self._sum_reasons("incomplete"),
            notes=tuple(self._notes),
        )

    def _take_all(self, deadline: float) -> bool:
        """List the whole source; return False if the deadline came first."""
        for partition in self._source.partitions():
            items: Any = self._source.read(partition, None)
            with closing(items):
                for item in items:
                    self._take(item)
                    if time.monotonic() > deadline:
                        return False
        return True

    def _take(self, item: Any) -> None:
        if isinstance(item, Skipped):
            self._entities += 1
            self._leave_out("skipped", item.reason, item)
        elif isinstance(item, Entity):
            self._entities += 1
            suffix = PurePosixPath(str(item.filename or item.name)).suffix.lower() if item.open is not None else ""
            key = (str(item.type), suffix)
            kind = self._kinds.setdefault(key if key in self._kinds or len(self._kinds) < KINDS else ("", ""), _Kind())
            size = _size_of(item)
            kind.entities += 1
            kind.size_bytes += size
            kind.weight += min(size, MOST_BYTES)
            place = len(kind.kept) if len(kind.kept) < KEPT else self._chance.randrange(kind.entities)
            if place < KEPT:  # reservoir sampling: every entity is equally likely to be kept
                kind.kept[place : place + 1] = [self._shorten(item)]

    def _shorten(self, item: Entity) -> Entity:
        if not isinstance(item.text, str) or len(item.text) <= KEPT_CHARS:
            return item
        self._is_whole = False
        return replace(item, text=item.text[:KEPT_CHARS])

    def _sample(self) -> Iterator[tuple[_Kind, Entity]]:
        """Yield ``AT_LEAST`` of each kind and its share by weight, then the rest."""
        kinds = sorted(self._kinds.values(), key=lambda kind: kind.weight, reverse=True)
        weight = sum(kind.weight for kind in kinds)
        shares = [AT_LEAST + (SAMPLE * kind.weight // weight if weight else 0) for kind in kinds]
        for kind in kinds:
            self._chance.shuffle(kind.kept)
        for within_share in (True, False):
            for place in range(KEPT):
                for kind, share in zip(kinds, shares, strict=True):
                    is_due = place < len(kind.kept) and (place < share) is within_share
                    if is_due and _size_of(kind.kept[place]) <= OPENED_BYTES:
                        yield kind, kind.kept[place]

    def _open(self, kind: _Kind, item: Entity) -> None:
        began_at = time.perf_counter()
        read = _open_and_cut(item, self._reader)
        for text in read.texts:
            identifiers.index_terms(text)
            self._texts_seen += 1
            most = sum(EMBEDDED)
            place = len(self._texts) if len(self._texts) < most else self._chance.randrange(self._texts_seen)
            if place < most:
                self._texts[place : place + 1] = [text]
        kind.opened += 1
        kind.opened_bytes += read.size_bytes
        kind.opened_weight += min(_size_of(item), MOST_BYTES)
        kind.indexed += read.state == "indexed"
        kind.chunks += len(read.texts)
        kind.read_s += time.perf_counter() - began_at
        if read.state != "indexed":
            self._leave_out(read.state, read.reason, item, kind)
        for part in read.left_out:
            self._leave_out("incomplete", part, item, kind)

    def _leave_out(self, state: str, reason: str, item: Entity | Skipped, kind: _Kind | None = None) -> None:
        """Record an entity that is left out. ``kind``: that of an opened entity, which stands for others like it; None
        if the listing told."""
        word = scrub(reason, self._secrets).partition(":")[0]
        key = (state, word)
        if key not in self._reasons and len(self._reasons) >= REASONS:
            key = (state, "other reasons")
        noted = self._reasons.setdefault(key, _Reason())
        if kind is None:
            noted.counted += 1
        else:
            noted.sampled.append(kind)
        if len(noted.examples) < EXAMPLES:
            noted.examples.append(scrub(str(item.id), self._secrets)[:EXAMPLE_CHARS])

    def _sum_reasons(self, state: str) -> tuple[LeftOut, ...]:
        """Sum up the reasons, the most frequent first."""
        reasons = [
            LeftOut(
                reason=word,
                entities=round(noted.counted + sum(kind.entities / kind.opened for kind in noted.sampled)),
                is_exact=all(kind.entities == kind.opened for kind in noted.sampled),
                examples=tuple(noted.examples),
            )
            for (of, word), noted in self._reasons.items()
            if of == state
        ]
        return tuple(sorted(reasons, key=lambda one: -one.entities))

    def _measure_embedding(self, embedder: Embedder) -> float | None:
        """Measure the seconds it takes to embed one text; None if the embedder fails."""
        if not self._texts:
            return 0.0
        self._chance.shuffle(self._texts)
        began_at, start, text_s = time.perf_counter(), 0, 0.0
        for size in EMBEDDED:
            texts = self._texts[start : start + size]
            if not texts or (start and time.perf_counter() - began_at > EMBED_S):
                break
            group_began_at = time.perf_counter()
            try:
                embedder.embed(texts)
            except (EmbedderError, ConfigError) as error:
                self._note(f"the embedder could not be tried: {error}")
                return None
            text_s = (time.perf_counter() - group_began_at) / len(texts)
            start += size
        return text_s

    def _note(self, text: str) -> None:
        self._notes.append(scrub(text, self._secrets))


def _open_and_cut(item: Entity, reader: Reader) -> _Opened:
    """Open an entity and cut it into chunks, as a sync does."""
    entity = diff.sanitize(item)
    if isinstance(entity, diff.Malformed):
        return _Opened(_size_of(item), "failed", entity.reason)
    size = _size_of(entity)
    try:
        found = reader.read(entity)
        if isinstance(found, NoText):
            return _Opened(size, "skipped", found.reason)
        texts = [f"{chunk.heading}\n{chunk.text}" for chunk in islice(cut(found), MAX_CHUNKS)]
        return _Opened(size or found.chars, left_out=_kinds_of(found.left_out), texts=texts)
    except Unreadable as error:
        return _Opened(size, "skipped", str(error))
    except Unparseable as error:
        return _Opened(size, "failed", str(error))
    except (SourceError, Stopped):
        raise
    except Exception as error:  # as in a sync: a chunker that fails costs this entity only
        return _Opened(size, "failed", f"it cannot be parsed: {error}")


def _kinds_of(left_out: Sequence[parts.LeftOut]) -> tuple[str, ...]:
    return tuple(sorted({WHAT[one.what] for one in left_out}))


def _size_of(item: Entity) -> int:
    if isinstance(item.size_bytes, int):
        return item.size_bytes
    return len(item.text) if isinstance(item.text, str) else 0


@contextmanager
def _stop_after(seconds: float, source: Source[Any, Any]) -> Iterator[None]:
    """Ask the source to stop after ``seconds``, which ends its waits with ``Stopped``; take that back on leaving."""
    timer = threading.Timer(seconds, source.context.stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        source.context.stop.clear()
