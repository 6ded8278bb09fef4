"""Watches on the progress of jobs, in this process. One query a second serves all of them. A slow client does not delay
the others: what it has not taken yet is replaced by what is newer. Knows nothing of HTTP."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ..db import connections, jobs
from ..db.jobs import Progress
from ..db.session import Database, first_line
from ..errors import TooMany, Unavailable

LOOK_S = 1.0
MOST_WATCHES = 500  # in one process
MOST_OF_ONE = 100  # by one organization
TOO_MANY_S = 5  # after which a client may try again
COUNT_PAUSE = 20  # times the duration of a count of entities by type, before the next count
GONE = "the job no longer exists: its connection was deleted"
STOPPING = "the server is stopping; subscribe again"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """A job at one moment. ``by_type``: the indexed entities of its connection by type; empty if not asked for."""

    progress: Progress
    by_type: Mapping[str, int] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Watch:
    """One client's watch on a job. ``sight`` is the newest; ``over`` is the reason why no other will come."""

    job_id: UUID
    organization_id: UUID
    sight: Sight
    counts_types: bool
    over: str | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def sights(self, *, heartbeat_s: float) -> AsyncIterator[Sight | None]:
        """Yield the present sight, then each change until the job ends or the watch is ``over``; None after each
        ``heartbeat_s`` seconds without a change. Of changes between two requests, only the newest is yielded."""
        while self.over is None:
            self._news.clear()
            sight = self.sight
            yield sight
            if sight.progress.is_ended:
                return
            while not self._news.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(heartbeat_s):
                        await self._news.wait()
                if not self._news.is_set():
                    yield None

    def show(self, sight: Sight) -> None:
        """Replace the sight, and wake the client if it changed."""
        if not self.counts_types:
            sight = replace(sight, by_type={})
        if sight != self.sight:
            self.sight = sight
            self._news.set()

    def end(self, why: str) -> None:
        """End the watch for the reason ``why``, which the client is told."""
        self.over = why
        self._news.set()


class Watches:
    """All open watches, and the task that queries the database for them, which runs only while there are any. Use it on
    the server's event loop, except for ``look``, which blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._counts_lock = threading.Lock()
        self._counts: dict[UUID, tuple[float, dict[str, int]]] = {}  # by job: when to count again, and the last count

    @contextmanager
    def opened(self, watch: Watch) -> Iterator[None]:
        """Serve this watch too, inside the context. Raises ``TooMany``, or ``Unavailable`` while the server stops."""
        self.check_room(watch.organization_id)
        self._watches.add(watch)
        if self._task is None:
            self._task = asyncio.create_task(self._keep_looking(), name="watch-jobs")
        try:
            yield
        finally:
            self._watches.discard(watch)

    def check_room(self, organization_id: UUID) -> None:
        """Raise ``TooMany`` if this organization may not open another watch now, or ``Unavailable`` while the server
        stops."""
        if self._is_closed:
            raise Unavailable(STOPPING)
        own = sum(other.organization_id == organization_id for other in self._watches)
        if own >= MOST_OF_ONE or len(self._watches) >= MOST_WATCHES:
            raise TooMany(
                f"too many streams are open (at most {MOST_OF_ONE} per organization and {MOST_WATCHES} in all): "
                "close one, or poll the job instead",
                retry_after_s=TOO_MANY_S,
            )

    def close(self) -> None:
        """End every watch and refuse new ones."""
        self._is_closed = True
        for watch in self._watches:
            watch.end(STOPPING)

    def look(self, session: Session, job_ids: Iterable[UUID], *, counting: Iterable[UUID]) -> dict[UUID, Sight]:
        """These jobs as they are now, without those that no longer exist. ``counting``: jobs whose entities to count by
        type."""
        seen = jobs.progress(session, list(job_ids))
        counts = {job_id: self._count_types(session, seen[job_id]) for job_id in counting if job_id in seen}
        return {job_id: Sight(progress, counts.get(job_id, {})) for job_id, progress in seen.items()}

    async def _keep_looking(self) -> None:
        while self._watches:
            await asyncio.sleep(LOOK_S)
            watched = set(self._watches)
            counting = {watch.job_id for watch in watched if watch.counts_types}
            with self._counts_lock:
                self._counts = {job_id: known for job_id, known in self._counts.items() if job_id in counting}
            try:
                # not on the threads of the API, which may all be busy
                seen = await asyncio.to_thread(self._look, {watch.job_id for watch in watched}, counting)
            except SQLAlchemyError as error:  # the streams stay open, and the next look may work
                log.warning("progress_unknown", error=first_line(error))
                continue
            except Exception as error:  # the outermost loop of this task: it must not end
                log.error("unexpected_error", exc_info=error)
                continue
            for watch in watched:
                if watch.job_id in seen:
                    watch.show(seen[watch.job_id])
                elif not watch.sight.progress.is_ended:
                    watch.end(GONE)
        self._task = None

    def _look(self, job_ids: set[UUID], counting: set[UUID]) -> dict[UUID, Sight]:
        with self._database.session() as session:
            return self.look(session, job_ids, counting=counting)

    def _count_types(self, session: Session, progress: Progress) -> dict[str, int]:
        """The indexed entities by type. A count reads the whole ledger of the connection, so it is done so seldom that
        it takes a twentieth of the time."""
        with self._counts_lock:
            due_at, known = self._counts.get(progress.job_id, (0.0, {}))
        began_at = time.monotonic()
        if began_at < due_at and not progress.is_ended:
            return known
        known = {kind: count for kind, count, _ in connections.entity_types(session, progress.connection_id)}
        with self._counts_lock:
            ended_at = time.monotonic()
            self._counts[progress.job_id] = (ended_at + (ended_at - began_at) * COUNT_PAUSE, known)
        return known
