"""A trial of one source with a person's configuration: what it reads, and whether a failure could end a listing
quietly, so that a job would delete what still exists.

The vendor gets a limited number of requests, and its responses are kept. All further reads, including those with
failures, are answered from these. Nothing is written, neither to a database nor to the source.
"""

import io
import json
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

import httpcore
import httpx
from pydantic import BaseModel

from ..sdk import (
    Context,
    Deleted,
    Entity,
    Partition,
    Patience,
    Rate,
    Seen,
    Skipped,
    Source,
    SourceError,
    Stopped,
    Unreadable,
)
from ..sdk.vendor import KINDS, Asked, Fault, Kind, Reply, Vendor

Item = Entity | Seen | Deleted | Skipped
Make = Callable[[Context], Source[Any, Any]]

AGAIN = 4  # one in this many requests is reserved for the second read
ENTITIES, SECONDS = 1_000, 60.0  # limits of one read
OPENED = 3  # contents that are opened per partition
CURSORS = 10  # tested, spread evenly
FIRST, LAST = 3, 2  # failures are played at this many first and last requests of a read
PLAYED = 5  # a read with a failure may send this many times the requests of one without, ...
BESIDES = 50  # ... plus this many
SHOWN = 5  # ids in a line
HASTE = Patience(timeout_s=1, total_s=30, attempts=2, patience_s=0.5, backoff_s=0.001)  # for replayed responses
UNLIMITED = Rate(requests=1_000_000, per_s=1)
SAMPLE_CHARS = 60
BODILESS = {"content-encoding", "content-length", "transfer-encoding", "connection"}  # describe how a body was sent


@dataclass(frozen=True, slots=True)
class Line:
    """One finding. ``is_good`` is None if the line is neither good nor bad."""

    text: str
    is_good: bool | None = True


def check(make: Make, context: Context, secrets: Sequence[str], *, requests: int) -> Iterator[Line]:
    """Try the source that ``make`` creates, with at most ``requests`` requests to the vendor. Yields each finding as
    soon as it is known. No line shows any of the ``secrets``."""
    tape = _Tape(requests)
    with _log() as logged:
        for line in _Trial(make, context, tape, secrets).run():
            yield replace(line, text=_mask(line.text, secrets))
        log_text = logged.getvalue()
    if secrets:
        is_leaked = any(secret in log_text for secret in secrets)
        yield Line("the log shows a secret" if is_leaked else "the log shows no secret", not is_leaked)


class _Enough(Stopped):
    """This check ends the read: the limit on requests is reached."""


class _Tape(Vendor):
    """The vendor's recorded responses. A request that is not recorded goes to the vendor while requests are left."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.sent = 0
        self._kept: dict[tuple[str, str, tuple[tuple[str, str], ...], bytes], httpx.Response] = {}
        self._send: Callable[[], httpx.Response] | None = None
        self._may_send = most
        self._may_ask: int | None = None
        self._is_fresh = True
        self._origin = ""
        self.asked = 0  # requests of the current read
        self.is_at_bound = False  # a limit of this check ended the current read
        self.is_endless = False  # it sent far too many requests

    @property
    def url(self) -> str:
        return self._origin

    def begin(self, *, fresh: bool, limit: int, fault: Fault | None = None) -> None:
        """Begin a read. ``fresh``: its requests go to the vendor, until ``limit`` requests in total were sent."""
        self.play(fault)
        self._is_fresh, self._may_send = fresh, min(limit, self.most)
        self._may_ask = None if fault is None else PLAYED * max(1, len(self._kept)) + BESIDES
        self.asked, self.is_at_bound, self.is_endless = 0, False, False

    def between(self, request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        """See ``Context.between``."""
        self.asked += 1
        if self._may_ask is not None and self.asked > self._may_ask:
            self.is_at_bound = self.is_endless = True
            raise _Enough("the read does not end")
        self._origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        headers = {name.lower(): value for name, value in request.headers.items()}
        params = dict(parse_qsl(request.url.query.decode("ascii"), keep_blank_values=True))
        asked = Asked(request.method, request.url.path, params, headers, request.content)
        if self._is_fresh:
            return self._fetch(asked, send)
        self._send = send
        reply, kind = self.reply_to(asked)
        if self.broken:
            raise self.broken.pop()
        if kind == "a hang":
            raise httpcore.ReadTimeout
        if kind == "a cut body":
            raise httpcore.RemoteProtocolError
        return httpx.Response(reply.status, headers=dict(reply.headers), content=reply.content)

    def answer(self, request: Asked) -> Reply:
        answer = self._kept.get(_key(request))
        if answer is None:
            assert self._send is not None
            answer = self._fetch(request, self._send)
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in BODILESS}
        parsed = None
        if "json" in answer.headers.get("content-type", "json"):
            with suppress(ValueError):
                parsed = json.loads(answer.content)
        if parsed is not None:
            return Reply(parsed, answer.status_code, headers)
        return Reply(None, answer.status_code, headers, answer.content)

    def _fetch(self, asked: Asked, send: Callable[[], httpx.Response]) -> httpx.Response:
        if self.sent >= self._may_send:
            self.is_at_bound = True
            raise _Enough(f"all {self.sent} requests have been sent")
        self.sent += 1
        answer = send()
        self._kept[_key(asked)] = answer
        return answer


@dataclass(slots=True)
class _Read:
    """The result of a read. ``ended``: it ended as if everything were listed. ``error``: what it raised otherwise; None
    if this check ended it."""

    items: list[Item] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)  # of the partition of each item
    cursors: list[tuple[Partition, BaseModel, int]] = field(default_factory=list)  # with how many items came before
    ended: bool = False
    error: Exception | None = None
    unreadable: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)  # texts that must not hold a secret

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items if not isinstance(item, Deleted)]

    @property
    def entities(self) -> list[Entity]:
        return [item for item in self.items if isinstance(item, Entity)]


class _Trial:
    """The steps of a check, in order."""

    def __init__(self, make: Make, context: Context, tape: _Tape, secrets: Sequence[str]) -> None:
        self._make = make
        self._context = replace(context, between=tape.between)
        self._tape = tape
        self._secrets = secrets

    def run(self) -> Iterator[Line]:
        spare = max(1, self._tape.most // AGAIN)
        whole = self._read(fresh=True, limit=self._tape.most - spare)
        if whole.error is not None:
            yield Line(f"check() and the first read: {_describe_error(whole.error)}", False)
            return
        yield Line("check() works")
        yield from self._describe(whole)
        if not whole.items:
            return
        requests = self._tape.sent
        again = self._read(fresh=True, limit=self._tape.most)
        yield from self._compare(whole, again)
        yield from self._resume(whole)
        if requests:
            yield from self._fail(whole)
        else:
            yield Line("it sends no requests through self.http, so no failures were played", None)
        leaks = [part for part in whole.shown if any(secret in part for secret in self._secrets)]
        if self._secrets:
            yield Line("a repr shows a secret" if leaks else "no repr shows a secret", not leaks)
        sent = _count(self._tape.sent, "request")
        yield Line(f"{sent} sent, of at most {self._tape.most}" if requests else "no requests sent", None)

    def _read(self, *, fresh: bool, limit: int, fault: Fault | None = None) -> _Read:
        """Read everything from the start, within the limits."""
        found = _Read()
        context = self._context if fresh else self._in_haste()
        self._tape.begin(fresh=fresh, limit=limit, fault=fault)
        try:
            with closing(self._make(context)) as source:
                found.shown += [repr(source), repr(source.config), repr(source.credentials), repr(vars(source))]
                source.check()
                found.ended = self._take(source, found)
        except _Enough:
            pass
        except Exception as error:
            found.error = error
            found.shown.append("".join(traceback.format_exception(error)))
        found.ended = found.ended and not self._tape.is_at_bound
        return found

    def _in_haste(self) -> Context:
        """The context for reads with recorded responses, which need no waits."""
        return replace(self._context, patience=HASTE, pace=None, rate=UNLIMITED)

    def _take(self, source: Source[Any, Any], found: _Read) -> bool:
        """Read within the limits. Returns whether the read finished."""
        deadline = time.monotonic() + SECONDS
        known: set[str] = set()
        for partition in source.partitions():
            found.partitions.append(partition)
            found.shown.append(repr(partition))
            opened = 0
            for item in source.read(partition, None):
                if isinstance(item, BaseModel):
                    found.cursors.append((partition, item, len(found.items)))
                    continue
                found.items.append(item)
                found.keys.append(partition.key)
                found.shown.append(repr(item))
                known.add(item.id)
                if isinstance(item, Entity) and item.open is not None and opened < OPENED:
                    opened += 1
                    self._open(item, found)
                if len(known) >= ENTITIES or time.monotonic() > deadline:
                    return False
        return True

    def _open(self, entity: Entity, found: _Read) -> None:
        assert entity.open is not None
        try:
            with closing(entity.open()) as content:
                content.read(io.DEFAULT_BUFFER_SIZE)
        except Unreadable as error:
            found.unreadable.append(f"{entity.id}: {error}")

    def _describe(self, whole: _Read) -> Iterator[Line]:
        keys = [partition.key or "(the whole)" for partition in whole.partitions]
        if len(set(keys)) < len(keys):
            yield Line(f"partition keys are not unique: {_join_some(keys)}", False)
        bound = "" if whole.ended else ", up to the limit of this check"
        yield Line(f"{_count(len(keys), 'partition')}: {_join_some(keys)}", bool(keys))
        if not whole.items:
            yield Line("nothing was found, so nothing else can be checked", None)
            return
        types = ", ".join(f"{count:,} {name}" for name, count in Counter(one.type for one in whole.entities).items())
        others = len(whole.items) - len(whole.entities)
        more = f" and {others:,} seen, skipped or deleted" if others else ""
        yield Line(f"{_count(len(whole.entities), 'entity')}{more}{bound}: {types or 'none'}")
        for entity in whole.entities[:1]:
            text = entity.text if entity.text is not None else "content to open" if entity.open else "no text"
            yield Line(f"such as {entity.id!r}, {entity.name!r}: {_shorten(text)!r}", None)
        for reason in whole.unreadable[:SHOWN]:
            yield Line(f"unreadable: {reason}", None)

    def _compare(self, whole: _Read, again: _Read) -> Iterator[Line]:
        counted = Counter(whole.ids)
        twice = [one for one, count in counted.items() if count > 1]
        if twice:
            yield Line(f"ids are not unique: {_join_some(twice)}", False)
        if again.error is not None:
            yield Line(f"the second read: {_describe_error(again.error)}", False)
            return
        both = min(len(whole.ids), len(again.ids))
        if not both:
            yield Line("no request was left for a second read: allow more with --requests", None)
        elif whole.ids[:both] != again.ids[:both]:
            other = [one for one, two in zip(whole.ids, again.ids, strict=False) if one != two]
            yield Line(f"a second read returned other ids, or another order: {_join_some(other)}", False)
        elif not twice:
            yield Line(f"ids are unique, and the first {both:,} are the same in a second read")

    def _resume(self, whole: _Read) -> Iterator[Line]:
        stops = whole.cursors[:: max(1, len(whole.cursors) // CURSORS)]
        if not stops:
            yield Line("no cursor was yielded, so an interrupted job starts over", whole.ended or None)
            return
        for partition, cursor, before in stops:
            kind = type(cursor)
            stored = kind.model_validate_json(cursor.model_dump_json())
            if stored != cursor:
                yield Line(f"the cursor {_shorten(repr(cursor))} does not survive JSON", False)
                return
            rest = self._rest(partition, stored, whole)
            if isinstance(rest, Exception):
                yield Line(f"resuming from {_shorten(repr(cursor))}: {_describe_error(rest)}", False)
                return
            own = [at for at, key in enumerate(whole.keys) if key == partition.key]
            met = {whole.items[at].id for at in own if at < before}
            if lost := {whole.items[at].id for at in own} - met - rest:
                yield Line(f"resuming from {_shorten(repr(cursor))} loses {_join_some(sorted(lost))}", False)
                return
        yield Line(f"{_count(len(stops), 'cursor')} survived JSON, and reading resumed from each")

    def _rest(self, partition: Partition, cursor: BaseModel, whole: _Read) -> set[str] | Exception:
        found: set[str] = set()
        self._tape.begin(fresh=False, limit=self._tape.most)
        plain = Partition(partition.key, partition.scope, json.loads(json.dumps(dict(partition.data))))
        try:
            with closing(self._make(self._in_haste())) as source:
                for item in source.read(plain, cursor):
                    if not isinstance(item, BaseModel):
                        found.add(item.id)
                    if len(found) > len(whole.items):
                        break
        except _Enough:
            pass
        except Exception as error:
            return error
        return found

    def _fail(self, whole: _Read) -> Iterator[Line]:
        """Play each failure at the first and the last requests."""
        replayed = self._read(fresh=False, limit=0)
        if replayed.error is not None or set(replayed.ids) != set(whole.ids):
            yield Line("its requests differ between reads, so no failures were played", None)
            return
        total = self._tape.asked
        asked = [str(one) for one in self._tape.log]
        good = 0
        wrong: dict[Kind, str] = {}  # the first of each kind
        for fault in _faults(total):
            met = self._read(fresh=False, limit=0, fault=fault)
            flaw = self._judge(met, replayed, fault)
            if flaw is None:
                good += 1
            else:
                where = f"request {fault.at} of {total} ({asked[fault.at - 1]}) answered by {fault}"
                wrong.setdefault(fault.kind, f"{where}: {flaw}")
        for line in wrong.values():
            yield Line(line, False)
        at = _count(total, "request")
        if wrong:
            yield Line(f"{_count(good, 'other failure')} played at {at}: each was raised, or nothing was lost", None)
        else:
            yield Line(f"{_count(good, 'failure')} played at {at}: each was raised, or nothing was lost")

    def _judge(self, met: _Read, whole: _Read, fault: Fault) -> str | None:
        """What is wrong with a read that met a failure; None if nothing."""
        if met.error is not None:
            if any(secret in part for part in met.shown for secret in self._secrets):
                return "its error shows a secret"
            if isinstance(met.error, SourceError):
                return None
            return f"it raises {type(met.error).__name__}, which is not a SourceError: {met.error}"
        if self._tape.is_endless:
            return "the read does not end"
        known = set(met.ids)
        missing = [one for one in whole.ids if one not in known]
        if missing and self._covers(met, missing):
            return None
        if missing:
            return (
                f"the read goes on as if all were well, and a job would delete {len(missing)} of {len(whole.ids)}: "
                f"{_join_some(missing)}"
            )
        skipped = [one.id for one in met.items if isinstance(one, Skipped)]
        was = {one.id for one in whole.items if isinstance(one, Skipped)}
        fresh = [one for one in skipped if one not in was] + met.unreadable[len(whole.unreadable) :]
        if fault.kind == "401" and fresh:
            return f"the credentials are refused, but the read skips {_join_some(fresh)} instead of raising AuthError"
        now = {one.id: one for one in met.entities}
        had = [one.id for one in whole.entities if one.text]
        hollow = [id for id in had if id in now and not now[id].text and now[id].open is None]
        return f"the read yields entities without their text: {_join_some(hollow)}" if hollow else None

    def _covers(self, met: _Read, missing: Sequence[str]) -> bool:
        above = [one.id for one in met.items if isinstance(one, Skipped) and one.subtree]
        return all(any(one.startswith(f"{top}/") for top in above) for one in missing)


def _faults(requests: int) -> Iterator[Fault]:
    places = sorted({at for at in range(1, requests + 1) if at <= FIRST or at > requests - LAST})
    for at in places:
        for kind in KINDS:
            yield Fault(kind, at)
            if kind not in _ONCE:
                yield Fault(kind, at, lasts=True)


_ONCE: tuple[Kind, ...] = ("an empty page",)


@contextmanager
def _log() -> Iterator[io.StringIO]:
    """Capture the log of this block at every level; it is shown nowhere else."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level, handlers = root.level, root.handlers
    root.handlers = [handler]
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.setLevel(level)
        root.handlers = handlers


def _key(asked: Asked) -> tuple[str, str, tuple[tuple[str, str], ...], bytes]:
    return asked.method, asked.headers.get("host", "") + asked.path, tuple(sorted(asked.params.items())), asked.body


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _count(number: int, noun: str) -> str:
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _join_some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (", …" if len(texts) > SHOWN else "")


def _shorten(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SAMPLE_CHARS else flat[: SAMPLE_CHARS - 1] + "…"


def _mask(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
