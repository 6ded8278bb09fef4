"""Health: whether the process is alive and ready, and what drives jobs. It answers within 2 s whatever hangs."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from .. import wire
from ..db import figures, leases
from ..db.session import Database, is_outage
from ..settings import is_loopback
from .deps import Parts, PartsOf
from .gate import Caller

ANSWER_S = 1.5  # the longest wait for a look; after it, the last view is shown
HANGING_S = 20.0  # after which a look counts as lost, and another one may start
HIDDEN = "shown with an API key"
MOST_LOST = 3  # lost looks at once; each holds a thread and a connection

router = APIRouter(prefix="/health", tags=["health"])

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What a look saw. ``age_s``: how long ago, 0 if it is this request's own look."""

    view: T
    age_s: float


class Probe(Generic[T]):
    """Looks at something that may hang, on a thread of its own, once for all who ask at the same time. Use it on the
    event loop."""

    def __init__(self, name: str, look: Callable[[], T]) -> None:
        self._name = name
        self._look = look
        self._current: asyncio.Future[T | None] | None = None
        self._began_at = 0.0
        self._lost = 0
        self._last: tuple[float, T] | None = None

    async def ask(self) -> Seen[T] | None:
        """The view of now, or after ``ANSWER_S`` the last one; None if there never was one."""
        look = self._begin()
        if look is not None:
            await asyncio.wait({look}, timeout=ANSWER_S)
            if look.done() and (view := look.result()) is not None:
                return Seen(view, 0.0)
        if self._last is None:
            return None
        at, last = self._last
        return Seen(last, time.monotonic() - at)

    def _begin(self) -> "asyncio.Future[T | None] | None":
        if self._current is not None and time.monotonic() - self._began_at > HANGING_S:
            if self._lost >= MOST_LOST:
                return None
            self._lost += 1
            self._current = None
        if self._current is None:
            loop = asyncio.get_running_loop()
            self._current = loop.create_future()
            self._began_at = time.monotonic()
            # a daemon, so that one that hangs does not keep the process from ending
            threading.Thread(
                target=self._run, args=(self._current, loop), name=f"probe-{self._name}", daemon=True
            ).start()
        return self._current

    def _run(self, future: "asyncio.Future[T | None]", loop: asyncio.AbstractEventLoop) -> None:
        view = None
        try:
            view = self._look()
        except Exception as error:  # the outermost frame of this thread
            log.error("unexpected_error", exc_info=error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._note, future, view)

    def _note(self, future: "asyncio.Future[T | None]", view: T | None) -> None:
        if future is self._current:
            self._current = None
            self._last = (time.monotonic(), view) if view is not None else self._last
        else:
            self._lost -= 1
        future.set_result(view)


class Probes:
    """The probes of a server: its database, and what drives its jobs."""

    def __init__(self, parts: Parts) -> None:
        queue = f"{leases.WORKER}{parts.settings.temporal_task_queue}:"
        self.database = Probe("database", partial(_look_at_database, parts.house, queue))
        self.driver = Probe("driver", parts.driver.describe)


@router.get("", summary="Get the state of the server", response_model=None, responses={200: {"model": wire.Health}})
async def get_health(request: Request, parts: PartsOf) -> dict[str, Any]:
    """Report the state of the server: what drives jobs and why, which process does the housekeeping, how many workers
    poll, and when sources were last listed in full. It answers 200 within two seconds even while the database is down
    or hangs. Host names, process ids and addresses are shown only with an API key, or on loopback without
    authentication. With authentication, ``last_full_listing`` is about the connections of the key's
    organization, and null without a key."""
    probes: Probes = request.app.state.probes
    database, driver, caller = await asyncio.gather(
        probes.database.ask(), probes.driver.ask(), _find_caller(request, parts)
    )
    may_see = caller is not None if parts.settings.auth_enabled else is_loopback(parts.settings.api_host)
    view = database.view if database is not None else _Database()
    storage = parts.house.room.to_wire()
    listed = [
        times
        for organization, times in view.listings.items()
        if not parts.settings.auth_enabled or (caller is not None and organization == caller.organization)
    ]
    state = "hanging" if database is None or database.age_s else view.state
    body = {
        "status": "healthy" if state == "up" and storage["status"] == "ok" else "degraded",
        **(driver.view if driver is not None else {"engine": "unknown", "engine_reason": "no answer in time"}),
        "database": state,
        "storage": storage,
        "seen_s_ago": round(max(seen.age_s for seen in (database, driver) if seen is not None), 1)
        if database is not None or driver is not None
        else None,
        "keeper": view.keeper,
        "workers": view.workers,
        "last_full_listing": {
            "oldest": min((oldest for oldest, _ in listed), default=None),
            "newest": max((newest for _, newest in listed), default=None),
        },
        "children": {child.name: child.to_wire() for child in parts.children},
    }
    return body if may_see else _hide_places(body)


@router.get(
    "/live", summary="Check that the process is alive", response_model=None, responses={200: {"model": wire.Live}}
)
async def check_live() -> dict[str, str]:
    """Answer 200 while the process is alive. It waits for nothing."""
    return {"status": "alive"}


@router.get(
    "/ready",
    summary="Check that requests can be served",
    response_model=None,
    responses={status: {"model": wire.Ready} for status in (200, 503)},
)
async def check_ready(request: Request, response: Response) -> dict[str, Any]:
    """Answer 200 if requests can be served, otherwise 503 with the reason, within two seconds."""
    probes: Probes = request.app.state.probes
    seen = await probes.database.ask()
    error = f"no answer within {ANSWER_S} s" if seen is None or seen.age_s else seen.view.error
    if seen is None or error is not None:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
        return {"status": "not_ready", "checks": {"database": {"status": "down", "error": error}}}
    return {"status": "ready", "checks": {"database": {"status": "up", "latency_ms": seen.view.latency_ms}}}


@dataclass(frozen=True, slots=True)
class _Database:
    """What a look at the database saw. ``error``: why it cannot be used."""

    state: str = "unknown"
    error: str | None = None
    latency_ms: float | None = None
    keeper: str | None = None
    workers: int | None = None
    listings: Mapping[UUID, tuple[datetime, datetime]] = field(default_factory=dict)


def _look_at_database(database: Database, queue: str) -> _Database:
    began_at = time.perf_counter()
    try:
        with database.session() as session:
            keeper = leases.holder(session, "keeper")
            latency_ms = round((time.perf_counter() - began_at) * 1000, 2)
            workers = leases.count(session, queue)
            listings = figures.full_listings(session)
    except SQLAlchemyError as error:
        return _Database("down", error="unreachable" if is_outage(error) else type(error).__name__)
    return _Database("up", None, latency_ms, keeper, workers, listings)


async def _find_caller(request: Request, parts: Parts) -> Caller | None:
    """The caller by its API key; None without a valid one, and where authentication is off."""
    if not parts.settings.auth_enabled:
        return None
    find = asyncio.ensure_future(request.app.state.callers.find(request.scope))
    await asyncio.wait({find}, timeout=ANSWER_S)
    if find.done():
        return find.result() if find.exception() is None else None
    find.add_done_callback(lambda done: done.exception())  # not cancelled: its thread would go on without a place
    return None


def _hide_places(body: dict[str, Any]) -> dict[str, Any]:
    """The same without host names, process ids and addresses; where one is left out of a text, it is ``HIDDEN``."""
    hidden = {
        **body,
        "engine_reason": HIDDEN if body["engine_reason"] else None,
        "keeper": HIDDEN if body["keeper"] else None,
        "children": {name: {**child, "pid": None} for name, child in body["children"].items()},
    }
    if "temporal" in body:
        hidden["temporal"] = {**body["temporal"], "address": None, "namespace": None, "task_queue": None}
    return hidden
