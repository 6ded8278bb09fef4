"""The steps of a job as Temporal activities: each is taken on a thread of its own and watched while it runs."""

import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from ..db import jobs, partitions
from ..db.models import ACTIVE, Engine, Status
from ..db.session import Database, first_line, is_outage
from ..errors import Fenced
from ..settings import Settings
from ..sync.signals import Signals
from ..sync.sync_service import Outcome, SyncService

LOOK_S = 1.0
LEAVE_S = 5.0  # after which a step that was told to stop is left behind
OUTAGE_WAIT_S = 2.0
FENCED_WAIT_S = 0.5
STUCK_EXIT = 70

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Step:
    """What a step tells the workflow. ``ended``: the job's terminal status, or ``gone`` when it is not Temporal's any
    more. ``lanes``: how many partitions may be read side by side now, 0 when all were read, None when nobody looked.
    ``wait_s``: seconds after which there is something to do. ``is_busy``: others read what is left."""

    ended: str | None = None
    lanes: int | None = None
    wait_s: float | None = None
    is_busy: bool = False


Work = Callable[["Taken"], Step]


@dataclass(slots=True)
class Taken:
    """One step of one job, taken by this process. ``owner`` names it as the reader of partitions."""

    job_id: UUID
    owner: str
    signals: Signals = field(default_factory=Signals)
    began_at: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    step: Step | None = None
    trouble: Exception | None = None


class Activities:
    """Steps for the jobs of one database. A step that is told to stop, because its job ended, its worker ends or
    Temporal gave it to another, comes back at the next safe place and is no failure."""

    def __init__(
        self, database: Database, service: SyncService, settings: Settings, *, ended: Callable[[], None]
    ) -> None:
        self._database = database
        self._service = service
        self._settings = settings
        self._job_ended = ended
        self._ending = threading.Event()
        self._left: list[Taken] = []  # steps that did not stop when told, and may never

    def end(self) -> None:
        """Tell every step to come to a safe place and hand back."""
        self._ending.set()

    @activity.defn(name="open", no_thread_cancel_exception=True)
    def open(self, job_id: str) -> Step:
        """Decide and list; where there is one partition its first slice is read at once."""

        def work(taken: Taken) -> Step:
            outcome = self._service.open(taken.job_id, taken.signals)
            if outcome.ended or outcome.wait_s is not None:
                return self._told(taken, outcome)
            return self._read(taken) if self._service.lanes(taken.job_id) == 1 else self._looked(taken)

        return self._take(job_id, work)

    @activity.defn(name="read", no_thread_cancel_exception=True)
    def read(self, job_id: str) -> Step:
        """About a minute of reading: slices of whatever partitions are due and nobody else reads."""
        return self._take(job_id, self._read)

    @activity.defn(name="sweep", no_thread_cancel_exception=True)
    def sweep(self, job_id: str) -> Step:
        """Plan the deletes and carry out what the guard lets pass."""
        return self._take(job_id, lambda taken: self._told(taken, self._service.sweep(taken.job_id, taken.signals)))

    @activity.defn(name="close", no_thread_cancel_exception=True)
    def close(self, job_id: str) -> Step:
        """Give the job its end."""
        return self._take(job_id, lambda taken: self._told(taken, self._service.close(taken.job_id)))

    @activity.defn(name="cancel", no_thread_cancel_exception=True)
    def cancel(self, job_id: str) -> Step:
        """The workflow was cancelled: so is the job, whoever asked for it."""

        def work(taken: Taken) -> Step:
            with self._database.session() as session:
                jobs.request_cancel(session, taken.job_id)
            return self._told(taken, self._service.close(taken.job_id))

        return self._take(job_id, work)

    def _read(self, taken: Taken) -> Step:
        while True:
            outcome, due = self._service.read_next(taken.job_id, taken.signals, owner=taken.owner)
            if outcome.ended:
                return self._told(taken, outcome)
            if due.partition_id is None:
                return replace(self._looked(taken), wait_s=due.wait_s, is_busy=due.is_busy)
            if outcome.waiting_for is not None:
                with self._database.session() as session:
                    jobs.wait(session, taken.job_id, outcome.waiting_for)
            if taken.signals.stop.is_set() or time.monotonic() - taken.began_at > self._settings.slice_s:
                return self._looked(taken)

    def _looked(self, taken: Taken) -> Step:
        return Step(lanes=self._service.lanes(taken.job_id))

    def _told(self, taken: Taken, outcome: Outcome) -> Step:
        if outcome.ended:
            with self._database.session() as session:
                job = jobs.get(session, taken.job_id)
            is_over = job is not None and job.engine == Engine.TEMPORAL and job.status not in ACTIVE
            return Step(ended=job.status if job is not None and is_over else "gone")
        if outcome.waiting_for is not None:
            with self._database.session() as session:
                jobs.wait(session, taken.job_id, outcome.waiting_for)
        return Step(wait_s=outcome.wait_s)

    def _take(self, job_id: str, work: Work) -> Step:
        """Take one step. Whatever goes wrong in it, only its kind reaches Temporal."""
        if self._ending.is_set():
            return Step(wait_s=FENCED_WAIT_S)
        info = activity.info()
        reader = f"{info.workflow_run_id}/{info.activity_id}"
        taken = Taken(UUID(job_id), f"{reader}#{info.attempt}")
        former = [f"{reader}#{attempt}" for attempt in range(max(1, info.attempt - 20), info.attempt)]
        with structlog.contextvars.bound_contextvars(job=job_id, step=info.activity_type, attempt=info.attempt):
            threading.Thread(
                target=copy_context().run,
                args=(self._run, taken, former, work),
                name=f"{info.activity_type}-{job_id}",
                daemon=True,
            ).start()
            left_behind = self._watch(taken)
        if left_behind is not None:
            return left_behind
        if taken.step is not None:
            if taken.step.ended is not None:
                self._job_ended()
            return taken.step
        assert taken.trouble is not None
        if is_outage(taken.trouble):
            kind, wait_s = "database_unreachable", OUTAGE_WAIT_S
        else:
            kind, wait_s = "unexpected_error", None
        raise ApplicationError(
            f"{kind}; the worker's log has the rest", type=kind,
            next_retry_delay=timedelta(seconds=wait_s) if wait_s is not None else None,
        ) from None  # fmt: skip

    def _run(self, taken: Taken, former: list[str], work: Work) -> None:
        try:
            with self._database.session() as session:
                status = jobs.take_step(session, taken.job_id, lease_s=self._settings.lease_s, anew=bool(former))
                if status is not None and former:
                    partitions.disown(session, taken.job_id, owners=former)
            if status is None:
                taken.step = self._told(taken, Outcome(ended=True))
            elif status == Status.CANCELLING:
                taken.step = self._told(taken, self._service.close(taken.job_id))
            else:
                taken.step = work(taken)
        except Fenced:
            taken.step = Step(wait_s=FENCED_WAIT_S)
        except Exception as error:  # the outermost frame of this thread
            self._report(taken, error)
        finally:
            taken.done.set()

    def _report(self, taken: Taken, error: Exception) -> None:
        taken.trouble = error
        if is_outage(error):
            log.warning("database_unreachable", job=str(taken.job_id), error=first_line(error))
            return
        log.error("unexpected_error", job=str(taken.job_id), exc_info=error)
        try:
            if self._service.unexpected(taken.job_id, error, driver=jobs.TEMPORAL):
                taken.step = Step(ended=Status.FAILED)
        except SQLAlchemyError as trouble:
            log.warning("database_unreachable", job=str(taken.job_id), error=first_line(trouble))

    def _watch(self, taken: Taken) -> Step | None:
        """Until it is done: say that the process lives, renew the leases, pass on the word to stop. Returns a step
        where the one that was taken is left behind."""
        pause_s = min(LOOK_S, self._settings.temporal_heartbeat_s / 4, self._settings.lease_s / 4)
        seen_at, told_at = time.monotonic(), None
        while not taken.done.wait(pause_s):
            activity.heartbeat()
            now = time.monotonic()
            try:
                if self._is_ours(taken):
                    seen_at = now
                else:
                    taken.signals.stop.set()
            except SQLAlchemyError as error:
                log.warning("database_unreachable", job=str(taken.job_id), error=first_line(error))
                if now - seen_at > self._settings.lease_s:
                    taken.signals.stop.set()
            if self._ending.is_set() or activity.is_cancelled():
                taken.signals.stop.set()
            self._left = [one for one in self._left if not one.done.is_set()]
            source_since = taken.signals.source_since
            busy_since = min((one.signals.busy_since or now for one in (taken, *self._left)), default=now)
            if source_since is not None and now - source_since > self._settings.source_stall_s:
                taken.signals.stop.set()
                if self._gave_up(taken):
                    return Step(ended=Status.FAILED)
            if now - busy_since > self._settings.stuck_s:
                log.critical("stuck", job=str(taken.job_id), seconds=self._settings.stuck_s)
                os._exit(STUCK_EXIT)  # no thread can be ended; what it was at is found by its mark in the partition
            if taken.signals.stop.is_set():
                told_at = told_at or now
                if now - told_at > (max(0.5, self._settings.worker_grace_s - 2) if self._ending.is_set() else LEAVE_S):
                    self._left.append(taken)
                    return Step(wait_s=FENCED_WAIT_S)
        return None

    def _gave_up(self, taken: Taken) -> bool:
        try:
            self._service.give_up(taken.job_id, driver=jobs.TEMPORAL)
        except SQLAlchemyError as error:
            log.warning("database_unreachable", job=str(taken.job_id), error=first_line(error))
            return False
        return True

    def _is_ours(self, taken: Taken) -> bool:
        with self._database.session() as session:
            driven = jobs.renew(session, driver=jobs.TEMPORAL, lease_s=self._settings.lease_s, job_ids=[taken.job_id])
            partitions.renew(session, taken.job_id, owner=taken.owner, lease_s=self._settings.lease_s)
        return bool(driven) and driven[0].status == Status.RUNNING
