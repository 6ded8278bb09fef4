"""The in-process driver: runs the steps of due jobs on its own threads. FastAPI's background tasks only wake it."""

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
from .sync.trouble import STORAGE_WAIT_S

OUTAGE_WAIT_S = 1.0
RENEWALS_PER_LEASE = 4
SHOWN_TICKS = 4  # without a sign of life, after which others consider this process gone
CANCEL_LOOK_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RunningJob:
    """One job on one thread."""

    job_id: UUID
    thread: threading.Thread | None = None
    signals: Signals = field(default_factory=Signals)


class InProcessDriver:
    """Drives up to ``JOB_THREADS`` jobs in parallel. A dedicated thread renews the lease on each, so a slow step never
    loses it. A thread whose source has gone silent is abandoned, which frees its slot."""

    def __init__(
        self, database: Database, service: SyncService, settings: Settings, *, reason: str | None = None
    ) -> None:
        self._database = database
        self._service = service
        self._settings = settings
        self._engine = EngineChoice(Engine.IN_PROCESS, reason)
        self._host = socket.gethostname()
        self._name = f"{self._host}:{os.getpid()}:{uuid4().hex[:8]}"
        self.job_ended: Callable[[], None] | None = None  # called after each job, on the job's own thread
        self._running: dict[UUID, RunningJob] = {}
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
        """Take over jobs left from a time when Temporal was enabled, once no API process uses it."""
        with self._database.session() as session:
            is_used = leases.count(session, leases.TEMPORAL_API) > 0
        if not is_used:
            self.adopt("Temporal is switched off (TEMPORAL_ENABLED)")

    def adopt(self, reason: str, *, only_refused: bool = False) -> None:
        """Drive in process the jobs that were meant for Temporal and that no driver holds."""
        with self._database.session() as session:
            adopted = jobs.adopt(session, reason=reason, only_refused=only_refused)
        for job_id in adopted:
            log.warning("job_adopted", job=str(job_id), reason=reason)
        if adopted:
            self._wake.set()

    def describe(self) -> dict[str, Any]:
        return {"engine": self._engine.name, "engine_reason": self._engine.reason}

    def stop(self, *, grace_s: float) -> None:
        """Ask every job to stop at its next safe place and wait up to ``grace_s``. Another process, or the next start
        of this one, continues them from there."""
        self._stopping.set()
        self._wake.set()
        with self._lock:
            running = list(self._running.values())
        for job in running:
            job.signals.stop.set()
        deadline = time.monotonic() + grace_s
        for job in running:
            if job.thread is not None:
                job.thread.join(max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        with suppress(SQLAlchemyError), self._database.session() as session:  # otherwise the lease expires
            leases.release(session, f"{leases.API}{self._name}", self._name)

    def _dispatch(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            try:
                wait_s = self._start_due()
            except Exception as error:  # the outermost loop of this thread: it must not end
                _report(error)
                wait_s = OUTAGE_WAIT_S

    def _start_due(self) -> float:
        """Start a thread for each due job while there are free slots; return the seconds until the next look."""
        with self._database.session() as session:
            shown_s = self._settings.tick_s * SHOWN_TICKS
            leases.take(session, f"{leases.API}{self._name}", self._name, shown_s)
        while not self._stopping.is_set():
            with self._lock:
                if len(self._running) >= self._settings.job_threads:
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
            job = RunningJob(job_id)
            job.thread = threading.Thread(target=self._drive, args=(job,), name=f"job-{job_id}", daemon=True)
            with self._lock:
                self._running[job_id] = job
            job.thread.start()
        return 0.0

    def _drive(self, job: RunningJob) -> None:
        failure: Exception | None = None
        outcome = Outcome(wait_s=OUTAGE_WAIT_S, waiting_for="database")
        try:
            outcome = self._service.run(job.job_id, job.signals)
        except Exception as error:  # the outermost frame of this thread
            _report(error, job=job.job_id)
            failure = None if is_outage(error) else error
            if self._database.lacks_room(error):
                failure, outcome = None, Outcome(wait_s=STORAGE_WAIT_S, waiting_for="storage")
        if self._drop(job) and not outcome.ended:
            self._let_go(job.job_id, outcome, failure)
        elif self.job_ended is not None:
            self.job_ended()
        self._wake.set()

    def _drop(self, job: RunningJob) -> bool:
        """Free the slot of the job. Returns False if it was freed before."""
        with self._lock:
            is_held = self._running.get(job.job_id) is job
            if is_held:
                del self._running[job.job_id]
        return is_held

    def _let_go(self, job_id: UUID, outcome: Outcome, failure: Exception | None) -> None:
        """Give up the job as its driver, so that it shows what it waits for. Tries again while the database is away,
        for as long as the lease lasts; then the job is taken over."""
        deadline = time.monotonic() + self._settings.lease_s
        while True:
            try:
                if failure is not None and self._service.count_unexpected(job_id, failure, driver=self._name):
                    return
                with self._database.session() as session:
                    wait_s, waiting_for = outcome.wait_s or 0.0, outcome.waiting_for
                    jobs.release(session, job_id, driver=self._name, wait_s=wait_s, waiting_for=waiting_for)
                return
            except SQLAlchemyError as error:
                _report(error, job=job_id)
                if time.monotonic() > deadline or self._stopping.wait(OUTAGE_WAIT_S):
                    return

    def _renew(self) -> None:
        renewed_at = 0.0
        pause_s = min(CANCEL_LOOK_S, self._settings.lease_s / RENEWALS_PER_LEASE)
        while not self._stopping.wait(pause_s):
            with self._lock:
                running = dict(self._running)
            if not running:
                continue
            try:
                self._look_after(running)
                renewed_at = time.monotonic()
            except Exception as error:  # the outermost loop of this thread: it must not end
                _report(error)
                if time.monotonic() - renewed_at > self._settings.lease_s:
                    for job in running.values():
                        job.signals.stop.set()

    def _look_after(self, running: dict[UUID, RunningJob]) -> None:
        """Renew the leases, pass on cancels, and abandon threads that are stuck."""
        with self._database.session() as session:
            driven = jobs.renew(session, driver=self._name, lease_s=self._settings.lease_s, job_ids=list(running))
        statuses = {row.id: row.status for row in driven}
        for job_id, job in running.items():
            if statuses.get(job_id) != Status.RUNNING:
                job.signals.stop.set()
            if job_id not in statuses:  # it ended or has another driver; its thread returns when the source does
                self._drop(job)
            source_since = job.signals.source_since
            if source_since is not None and time.monotonic() - source_since > self._settings.source_stall_s:
                self._give_up(job)
            busy_since = job.signals.busy_since
            if busy_since is not None and time.monotonic() - busy_since > self._settings.stuck_s:
                self._leave_behind(job)

    def _leave_behind(self, job: RunningJob) -> None:
        """Abandon a thread that is stuck in one entity. The next thread takes the job over and knows the entity by the
        mark left in the partition."""
        job.signals.stop.set()
        if not self._drop(job):
            return
        log.critical("stuck", job=str(job.job_id), seconds=self._settings.stuck_s)
        with self._database.session() as session:
            jobs.end_backends(session, job.job_id)
            jobs.release(session, job.job_id, driver=self._name, wait_s=0.0, waiting_for=None)
        self._wake.set()

    def _give_up(self, job: RunningJob) -> None:
        """End a job whose source has been silent for too long. Its thread ends when the source returns."""
        job.signals.stop.set()
        if not self._drop(job):
            return
        self._service.give_up(job.job_id, driver=self._name)
        self._wake.set()


def _report(error: Exception, **ids: object) -> None:
    if is_outage(error):
        log.warning("database_unreachable", error=first_line(error), **{k: str(v) for k, v in ids.items()})
    else:
        log.error("unexpected_error", exc_info=error, **{k: str(v) for k, v in ids.items()})
