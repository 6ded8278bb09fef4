"""Lanes: how many requests may work at once, how many may wait, and for how long. A request that gets a place never
waits for a thread or a connection afterwards, because there are as many of these as places."""

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ..db.session import CONCURRENT_READS
from ..errors import Unavailable

STALL_S = 0.8  # a request that waits in a lane where nothing has moved for so long is refused
PATIENCE_S = 8.0  # how long a request may wait in a lane that moves
SMOOTHING = 0.1  # weight of the newest pause in the average pause between two places
OVERLOADED = "the server is busy; try again"

_SUBSCRIPTION = re.compile(r"/webhooks/subscriptions/[^/]+")
_INSTANT = re.compile(r"/collections/[^/]+/search/instant")
_SEARCH = re.compile(r"/collections/[^/]+/search(?:/.+)?")
_CONNECTION = re.compile(r"/source-connections/[^/]+")


class Gone(Exception):
    """The client has gone away; nobody waits for the answer."""


class Lane:
    """At most ``places`` requests at once; ``queue`` more may wait for a place, first come, first served. Use it on the
    event loop."""

    def __init__(self, places: int, queue: int) -> None:
        self.places = places
        self._queue = queue
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._moved_at = 0.0
        self._pause_s = 0.0  # average time between two places given to waiting requests

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place inside the context. Raises ``Unavailable``."""
        place = Place(self)
        await place.take()
        try:
            yield
        finally:
            place.free()

    async def enter(self, wait_gone: Callable[[], Awaitable[Any]] | None) -> None:
        """Take a place. ``wait_gone`` returns when the client has gone. Raises ``Unavailable`` if there are too many
        requests, and ``Gone``."""
        now = time.monotonic()
        if self._free:
            self._free -= 1
            self._moved_at = now
            return
        if len(self._waiting) >= self._queue or len(self._waiting) * self._pause_s > PATIENCE_S:
            raise Unavailable(OVERLOADED)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        gone = asyncio.ensure_future(wait_gone()) if wait_gone is not None else None
        try:
            await self._wait(place, gone, since=now)
        except BaseException:
            if place.done():  # it came at the last moment
                self.leave()
            else:
                self._waiting.remove(place)
            raise
        finally:
            if gone is not None:
                gone.cancel()

    def leave(self) -> None:
        """Give up the place, to the request that has waited longest."""
        if not self._waiting:
            self._free += 1
            return
        now = time.monotonic()
        self._pause_s += (now - self._moved_at - self._pause_s) * SMOOTHING
        self._moved_at = now
        self._waiting.popleft().set_result(None)

    async def _wait(self, place: "asyncio.Future[None]", gone: "asyncio.Future[Any] | None", *, since: float) -> None:
        awaited: set[asyncio.Future[Any]] = {place} if gone is None else {place, gone}
        while True:
            await asyncio.wait(awaited, timeout=STALL_S / 4, return_when=asyncio.FIRST_COMPLETED)
            if place.done():
                return
            if gone is not None and gone.done():
                raise Gone
            now = time.monotonic()
            if now - max(self._moved_at, since) > STALL_S or now - since > PATIENCE_S:
                raise Unavailable(OVERLOADED)


class Place:
    """One request's place in a lane, which may be freed early and any number of times."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._is_held = False
        self._is_kept = False

    async def take(self, wait_gone: Callable[[], Awaitable[Any]] | None = None) -> None:
        await self._lane.enter(wait_gone)
        self._is_held = True

    def keep(self) -> None:
        """Hold the place after the response has begun, for a route that works while it responds. It calls ``free``."""
        self._is_kept = True

    def begin_response(self) -> None:
        """Free the place, unless it is kept."""
        if not self._is_kept:
            self.free()

    def free(self) -> None:
        if self._is_held:
            self._is_held = False
            self._lane.leave()


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of a process, by what a request waits for. One that is full leaves the others alone."""

    common: Lane = field(default_factory=lambda: Lane(10, 128))
    search: Lane = field(default_factory=lambda: Lane(8, 128))
    planned: Lane = field(default_factory=lambda: Lane(8, 128))  # searches that may wait for a language model
    outward: Lane = field(default_factory=lambda: Lane(16, 64))  # wait for a source or an embedder
    metrics: Lane = field(default_factory=lambda: Lane(2, 16))
    mcp: Lane = field(default_factory=lambda: Lane(32, 64))  # only wait for requests of their own, in other lanes
    keys: Lane = field(default_factory=lambda: Lane(4, 256))  # look up an API key

    def of(self, method: str, path: str) -> Lane:
        """The lane of this request."""
        if path == "/metrics":
            return self.metrics
        if path == "/mcp":
            return self.mcp
        if _INSTANT.fullmatch(path):
            return self.search
        if _SEARCH.fullmatch(path):
            return self.planned
        if method == "POST" and (
            path in ("/collections", "/source-connections", "/source-connections/preview") or path.endswith("/reembed")
        ):
            return self.outward
        if method == "POST" and path == "/webhooks/subscriptions":
            return self.outward
        if method == "PATCH" and (_CONNECTION.fullmatch(path) or _SUBSCRIPTION.fullmatch(path)):
            return self.outward
        return self.common

    @property
    def threads(self) -> int:
        """The threads that requests use at once, at most. Those of ``mcp`` have threads of their own."""
        return sum(
            lane.places for lane in (self.common, self.search, self.planned, self.outward, self.metrics, self.keys)
        )

    @property
    def connections(self) -> int:
        """The pooled connections that requests need. Those of ``outward`` hold one only for moments and hold nothing
        while they wait for it, and ``metrics`` has none."""
        return self.common.places + self.search.places + self.planned.places + CONCURRENT_READS + self.keys.places + 4
