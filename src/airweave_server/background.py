"""The in-process driver: takes the steps of due jobs on threads of its own. FastAPI's background tasks only wake it."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from .db import jobs, leases
from .db.models import Engine, Status
from .db.session import Database, first_line, is_outage
from .services.jobs import EngineChoice
from .settings import Settings
from .sync.signals import Signals
from .sync.sync_service import Outcome, SyncService

OUTAGE_WAIT_S = 1.0
RENEWALS_PER_LEASE = 4
SHOWN_TICKS = 4  # after which others take this process for gone
CANCEL_LOOK_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ride:
    """One job on one thread."""

    job_id: UUID
    thread: threading.Thread | None = None
    signals: Signals = field(default_factory=Signals)


class InProcessDriver:
    """Drives up to ``JOB_THREADS`` jobs side by side. Its lease on each is renewed by a thread that does nothing else,
    so a slow step never loses it; a thread whose source went silent is given up, and its place is free again."""

    def __init__(
        self, database: Database, service: SyncService, settings: Settings, *, reason: str | None = None
    ) -> None:
        self._database = database
        self._service = service
        self._settings = settings
        self._engine = EngineChoice(Engine.IN_PROCESS, reason)
        self._host = socket.gethostname()
        self._name = f"{self._host}:{os.getpid()}:{uuid4().hex[:8]}"
        self.job_ended: Callable[[], None] | None = None  # called after each, on the job's own thread
        self._rides: dict[UUID, Ride] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._dispatch, name="dispatch", daemon=True),
            threading.Thread(target=self._renew, name="renew-leases", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def choose(self) -> EngineChoice:
        return self._engine

    def kick(self) -> None:
        self._wake.set()

    def cancelled(self, job_id: UUID) -> None:
        self._wake.set()

    def reconcile(self) -> None:
        """Jobs that were Temporal's, from a time when it was switched on, are ours once no worker attends to them."""
        with self._database.session() as session:
            is_used = leases.count(session, leases.TEMPORAL_API) > 0
        if not is_used:
            self.adopt("Temporal is switched off (TEMPORAL_ENABLED)")

    def adopt(self, reason: str, *, only_refused: bool = False) -> None:
        """Drive in process what Temporal was to drive and nobody attends to."""
        with self._database.session() as session:
            adopted = jobs.adopt(session, reason=reason, only_refused=only_refused)
        for job_id in adopted:
            log.warning("job_adopted", job=str(job_id), reason=reason)
        if adopted:
            self._wake.set()

    def shown(self) -> dict[str, Any]:
        return {"engine": self._engine.name, "engine_reason": self._engine.reason}

    def stop(self, *, grace_s: float) -> None:
        """Ask every job to stop at its next safe place, wait up to ``grace_s`` and let go of them; others, or the next
        start of this process, take them up from there."""
        self._stopping.set()
        self._wake.set()
        with self._lock:
            rides = list(self._rides.values())
        for ride in rides:
            ride.signals.stop.set()
        deadline = time.monotonic() + grace_s
        for ride in rides:
            if ride.thread is not None:
                ride.thread.join(max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        with suppress(SQLAlchemyError), self._database.session() as session:  # else it lapses by itself
            leases.release(session, f"{leases.API}{self._name}", self._name)

    def _dispatch(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            try:
                wait_s = self._take_due()
            except Exception as error:  # the outermost loop of this thread: it must not end
                _report(error)
                wait_s = OUTAGE_WAIT_S

    def _take_due(self) -> float:
        """Start a thread for every due job there is room for; returns the seconds until the next look."""
        with self._database.session() as session:
            shown_s = self._settings.tick_s * SHOWN_TICKS
            leases.take(session, f"{leases.API}{self._name}", self._name, shown_s)
        while not self._stopping.is_set():
            with self._lock:
                if len(self._rides) >= self._settings.job_threads:
                    return self._settings.tick_s
            with self._database.session() as session:
                job_id = jobs.claim_to_drive(
                    session,
                    engine=Engine.IN_PROCESS,
                    driver=self._name,
                    host=self._host,
                    lease_s=self._settings.lease_s,
                )
                if job_id is None:
                    due_s = jobs.next_due_s(session, engine=Engine.IN_PROCESS, host=self._host)
                    return self._settings.tick_s if due_s is None else min(max(due_s, 0.05), self._settings.tick_s)
            ride = Ride(job_id)
            ride.thread = threading.Thread(target=self._drive, args=(ride,), name=f"job-{job_id}", daemon=True)
            with self._lock:
                self._rides[job_id] = ride
            ride.thread.start()
        return 0.0

    def _drive(self, ride: Ride) -> None:
        trouble: Exception | None = None
        outcome = Outcome(wait_s=OUTAGE_WAIT_S, waiting_for="database")
        try:
            outcome = self._service.run(ride.job_id, ride.signals)
        except Exception as error:  # the outermost frame of this thread
            _report(error, job=ride.job_id)
            trouble = None if is_outage(error) else error
        if self._drop(ride) and not outcome.ended:
            self._let_go(ride.job_id, outcome, trouble)
        elif self.job_ended is not None:
            self.job_ended()
        self._wake.set()

    def _drop(self, ride: Ride) -> bool:
        """Make its place free. False when it was dropped before."""
        with self._lock:
            mine = self._rides.get(ride.job_id) is ride
            if mine:
                del self._rides[ride.job_id]
        return mine

    def _let_go(self, job_id: UUID, outcome: Outcome, trouble: Exception | None) -> None:
        try:
            if trouble is not None and self._service.unexpected(job_id, trouble, driver=self._name):
                return
            with self._database.session() as session:
                jobs.let_go(
                    session, job_id, driver=self._name, wait_s=outcome.wait_s or 0.0, waiting_for=outcome.waiting_for
                )
        except SQLAlchemyError as error:
            _report(error, job=job_id)  # the lease lapses by itself

    def _renew(self) -> None:
        renewed_at = 0.0
        pause_s = min(CANCEL_LOOK_S, self._settings.lease_s / RENEWALS_PER_LEASE)
        while not self._stopping.wait(pause_s):
            with self._lock:
                rides = dict(self._rides)
            if not rides:
                continue
            try:
                self._look_after(rides)
                renewed_at = time.monotonic()
            except Exception as error:  # the outermost loop of this thread: it must not end
                _report(error)
                if time.monotonic() - renewed_at > self._settings.lease_s:
                    for ride in rides.values():
                        ride.signals.stop.set()

    def _look_after(self, rides: dict[UUID, Ride]) -> None:
        with self._database.session() as session:
            driven = jobs.renew(session, driver=self._name, lease_s=self._settings.lease_s, job_ids=list(rides))
        still = {job.id: job.status for job in driven}
        for job_id, ride in rides.items():
            if still.get(job_id) != Status.RUNNING:
                ride.signals.stop.set()
            if job_id not in still:  # it ended or went to somebody else; its thread comes back when its source lets it
                self._drop(ride)
            since = ride.signals.source_since
            if since is not None and time.monotonic() - since > self._settings.source_stall_s:
                self._give_up(ride)
            busy = ride.signals.busy_since
            if busy is not None and time.monotonic() - busy > self._settings.stuck_s:
                self._leave_behind(ride)

    def _leave_behind(self, ride: Ride) -> None:
        """It does not come back from one entity: another thread takes the job up, and finds which one by its mark."""
        ride.signals.stop.set()
        if not self._drop(ride):
            return
        log.critical("stuck", job=str(ride.job_id), seconds=self._settings.stuck_s)
        with self._database.session() as session:
            jobs.end_backends(session, ride.job_id)
            jobs.let_go(session, ride.job_id, driver=self._name, wait_s=0.0, waiting_for=None)
        self._wake.set()

    def _give_up(self, ride: Ride) -> None:
        """The source has been silent for too long: end the job, and leave the thread to come back when it can."""
        ride.signals.stop.set()
        if not self._drop(ride):
            return
        self._service.give_up(ride.job_id, driver=self._name)
        self._wake.set()


def _report(error: Exception, **ids: object) -> None:
    if is_outage(error):
        log.warning("database_unreachable", error=first_line(error), **{k: str(v) for k, v in ids.items()})
    else:
        log.error("unexpected_error", exc_info=error, **{k: str(v) for k, v in ids.items()})
