"""The steps of a job as Temporal activities. Each runs on its own thread and is watched while it runs."""

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
from ..sync.trouble import STORAGE_WAIT_S, waits_for

LOOK_S = 1.0
LEAVE_S = 5.0  # after being told to stop, a step that has not returned is left behind
OUTAGE_WAIT_S = 2.0
FENCED_WAIT_S = 0.5
STUCK_EXIT = 70

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Step:
    """The result of a step, for the workflow.

    ``ended``: the job's terminal status, or ``gone`` if Temporal no longer drives it. ``lanes``: how many partitions
    may be read in parallel now; 0 if all have been read, None if the step did not check. ``wait_s``: seconds until
    there is something to do. ``is_busy``: other lanes are reading all that is left. ``partition``, ``partitions`` and
    ``met``, for people: the number of the partition that was read last or is next, how many there are, and how many
    entities were met in it.
    """

    ended: str | None = None
    lanes: int | None = None
    wait_s: float | None = None
    is_busy: bool = False
    partition: int | None = None
    partitions: int | None = None
    met: int | None = None


Work = Callable[["RunningStep"], Step]


@dataclass(slots=True)
class RunningStep:
    """One step of one job, on a thread of this process. ``owner`` identifies it as the reader of partitions."""

    job_id: UUID
    owner: str
    signals: Signals = field(default_factory=Signals)
    began_at: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    partition_id: int | None = None
    partitions: int = 0
    place: str | None = None
    result: Step | None = None
    failure: Exception | None = None


class Activities:
    """Steps for the jobs of one database. A step told to stop, because its job has ended, the worker is stopping or
    Temporal has given the step to another worker, returns at the next safe place. That is not a failure."""

    def __init__(
        self, database: Database, service: SyncService, settings: Settings, *, ended: Callable[[], None]
    ) -> None:
        self._database = database
        self._service = service
        self._settings = settings
        self._job_ended = ended
        self._ending = threading.Event()
        self._left_behind: list[RunningStep] = []  # told to stop, and have not returned yet

    def end(self) -> None:
        """Tell every step to stop at the next safe place."""
        self._ending.set()

    @activity.defn(name="open", no_thread_cancel_exception=True)
    def open(self, job_id: str) -> Step:
        """Decide what to read and list the partitions. A single partition is read at once, for a slice."""

        def work(step: RunningStep) -> Step:
            outcome = self._service.open(step.job_id, step.signals)
            if outcome.ended or outcome.wait_s is not None:
                return self._make_result(step, outcome)
            return self._read(step) if self._service.lanes(step.job_id) == 1 else self._report_lanes(step)

        return self._run_step(job_id, work)

    @activity.defn(name="read", no_thread_cancel_exception=True)
    def read(self, job_id: str) -> Step:
        """Read for ``SLICE_S``: slices of partitions that are due and that no other step reads."""
        return self._run_step(job_id, self._read)

    @activity.defn(name="sweep", no_thread_cancel_exception=True)
    def sweep(self, job_id: str) -> Step:
        """Plan the deletes and carry out those that the guard allows."""
        return self._run_step(
            job_id, lambda step: self._make_result(step, self._service.sweep(step.job_id, step.signals))
        )

    @activity.defn(name="close", no_thread_cancel_exception=True)
    def close(self, job_id: str) -> Step:
        """End the job."""
        return self._run_step(job_id, lambda step: self._make_result(step, self._service.close(step.job_id)))

    @activity.defn(name="cancel", no_thread_cancel_exception=True)
    def cancel(self, job_id: str) -> Step:
        """Cancel the job because its workflow was cancelled."""

        def work(step: RunningStep) -> Step:
            with self._database.session() as session:
                jobs.request_cancel(session, step.job_id)
            return self._make_result(step, self._service.close(step.job_id))

        return self._run_step(job_id, work)

    def _read(self, step: RunningStep) -> Step:
        with self._database.session() as session:
            step.partitions = partitions.count(session, step.job_id)
        while True:
            outcome, due = self._service.read_next(step.job_id, step.signals, owner=step.owner)
            if outcome.ended:
                return self._make_result(step, outcome)
            step.partition_id = due.partition_id or step.partition_id
            if due.partition_id is None:
                if not due.is_busy and waits_for(due.trouble) == "storage":
                    self._make_result(step, Outcome(waiting_for="storage"))
                return replace(self._report_lanes(step), wait_s=due.wait_s, is_busy=due.is_busy)
            if outcome.waiting_for is not None:
                with self._database.session() as session:
                    jobs.set_waiting_for(session, step.job_id, outcome.waiting_for)
            if step.signals.stop.is_set() or time.monotonic() - step.began_at > self._settings.slice_s:
                return self._report_lanes(step)

    def _report_lanes(self, step: RunningStep) -> Step:
        lanes = self._service.lanes(step.job_id)
        with self._database.session() as session:
            total = step.partitions or partitions.count(session, step.job_id)
            number, met = partitions.find_place(session, step.job_id, step.partition_id)
        return Step(lanes=lanes, partition=number, partitions=total, met=met)

    def _make_result(self, step: RunningStep, outcome: Outcome) -> Step:
        if outcome.ended:
            with self._database.session() as session:
                job = jobs.get(session, step.job_id)
            is_over = job is not None and job.engine == Engine.TEMPORAL and job.status not in ACTIVE
            return Step(ended=job.status if job is not None and is_over else "gone")
        if outcome.waiting_for is not None:
            with self._database.session() as session:
                jobs.set_waiting_for(session, step.job_id, outcome.waiting_for)
        return Step(wait_s=outcome.wait_s)

    def _run_step(self, job_id: str, work: Work) -> Step:
        """Run one step on its own thread. Of an error, only its kind reaches Temporal."""
        if self._ending.is_set():
            return Step(wait_s=FENCED_WAIT_S)
        info = activity.info()
        reader = f"{info.workflow_run_id}/{info.activity_id}"
        step = RunningStep(UUID(job_id), f"{reader}#{info.attempt}")
        former = [f"{reader}#{attempt}" for attempt in range(max(1, info.attempt - 20), info.attempt)]
        with structlog.contextvars.bound_contextvars(job=job_id, step=info.activity_type, attempt=info.attempt):
            threading.Thread(
                target=copy_context().run,
                args=(self._execute, step, former, work),
                name=f"{info.activity_type}-{job_id}",
                daemon=True,
            ).start()
            left_behind = self._watch(step)
        if left_behind is not None:
            return left_behind
        if step.result is not None:
            if step.result.ended is not None:
                self._job_ended()
            return step.result
        assert step.failure is not None
        if is_outage(step.failure):
            kind, wait_s = "database_unreachable", OUTAGE_WAIT_S
        else:
            kind, wait_s = "unexpected_error", None
        raise ApplicationError(
            f"{kind}; see the worker log for details",
            type=kind,
            next_retry_delay=timedelta(seconds=wait_s) if wait_s is not None else None,
        ) from None

    def _execute(self, step: RunningStep, former: list[str], work: Work) -> None:
        try:
            with self._database.session() as session:
                status = jobs.take_step(session, step.job_id, lease_s=self._settings.lease_s, new_attempt=bool(former))
                if status is not None and former:
                    partitions.disown(session, step.job_id, owners=former)
            if status is None:
                step.result = self._make_result(step, Outcome(ended=True))
            elif status == Status.CANCELLING:
                step.result = self._make_result(step, self._service.close(step.job_id))
            else:
                step.result = work(step)
        except Fenced:
            step.result = Step(wait_s=FENCED_WAIT_S)
        except Exception as error:  # the outermost frame of this thread
            self._report(step, error)
        finally:
            step.done.set()

    def _report(self, step: RunningStep, error: Exception) -> None:
        step.failure = error
        if self._database.lacks_room(error) and self._wait_for_storage(step):
            return
        if is_outage(error):
            log.warning("database_unreachable", job=str(step.job_id), error=first_line(error))
            return
        log.error("unexpected_error", job=str(step.job_id), exc_info=error)
        try:
            if self._service.count_unexpected(step.job_id, error, driver=jobs.TEMPORAL):
                step.result = Step(ended=Status.FAILED)
        except SQLAlchemyError as outage:
            log.warning("database_unreachable", job=str(step.job_id), error=first_line(outage))

    def _wait_for_storage(self, step: RunningStep) -> bool:
        """Note that the job waits for room on the database's disk. Returns False if even that cannot be written."""
        try:
            step.result = self._make_result(step, Outcome(wait_s=STORAGE_WAIT_S, waiting_for="storage"))
        except SQLAlchemyError:
            return False
        log.warning("storage_full", job=str(step.job_id))
        return True

    def _watch(self, step: RunningStep) -> Step | None:
        """Until the step is done, send heartbeats, renew its leases and pass on requests to stop. Returns None when it
        is done, or the result to report in its place if it is left behind."""
        pause_s = min(LOOK_S, self._settings.temporal_heartbeat_s / 4, self._settings.lease_s / 4)
        renewed_at, stopped_at = time.monotonic(), None
        while not step.done.wait(pause_s):
            activity.heartbeat(*filter(None, [step.place]))
            now = time.monotonic()
            try:
                if self._is_ours(step):
                    renewed_at = now
                else:
                    step.signals.stop.set()
            except SQLAlchemyError as error:
                log.warning("database_unreachable", job=str(step.job_id), error=first_line(error))
                if now - renewed_at > self._settings.lease_s:
                    step.signals.stop.set()
            if self._ending.is_set() or activity.is_cancelled():
                step.signals.stop.set()
            self._left_behind = [other for other in self._left_behind if not other.done.is_set()]
            source_since = step.signals.source_since
            busy_since = min(one.signals.busy_since or now for one in (step, *self._left_behind))
            if source_since is not None and now - source_since > self._settings.source_stall_s:
                step.signals.stop.set()
                if self._give_up(step):
                    return Step(ended=Status.FAILED)
            if now - busy_since > self._settings.stuck_s:
                log.critical("stuck", job=str(step.job_id), seconds=self._settings.stuck_s)
                # a thread cannot be killed; a mark in the partition tells the next reader which entity it was
                os._exit(STUCK_EXIT)
            if step.signals.stop.is_set():
                stopped_at = stopped_at or now
                if now - stopped_at > (
                    max(0.5, self._settings.worker_grace_s - 2) if self._ending.is_set() else LEAVE_S
                ):
                    self._left_behind.append(step)
                    return Step(wait_s=FENCED_WAIT_S)
        return None

    def _give_up(self, step: RunningStep) -> bool:
        """Fail the job, whose source has gone silent. Returns False if the database cannot be reached."""
        try:
            self._service.give_up(step.job_id, driver=jobs.TEMPORAL)
        except SQLAlchemyError as error:
            log.warning("database_unreachable", job=str(step.job_id), error=first_line(error))
            return False
        return True

    def _is_ours(self, step: RunningStep) -> bool:
        """Renew the leases of the step; whether Temporal still drives the job and it should run on."""
        with self._database.session() as session:
            driven = jobs.renew(session, driver=jobs.TEMPORAL, lease_s=self._settings.lease_s, job_ids=[step.job_id])
            partitions.renew(session, step.job_id, owner=step.owner, lease_s=self._settings.lease_s)
            step.place = partitions.describe_place(session, step.job_id, owner=step.owner, total=step.partitions)
        return bool(driven) and driven[0].status == Status.RUNNING
