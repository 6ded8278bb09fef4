"""The worker process: polls Temporal for steps of jobs and runs them, until it is told to stop."""

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle

from .. import metrics, plugins
from ..db import jobs, leases
from ..db.session import Database
from ..errors import Unstartable
from ..installation import database_url, open_database, open_vault, room_of, settle_garbage
from ..settings import Settings, is_loopback
from ..sync.connector import Connectors
from ..sync.sync_service import SyncService
from .activities import Activities
from .client import (
    CALL_S,
    CHECK_S,
    NotStarted,
    connection_options,
    describe_error,
    find_namespace_id,
    find_search_attributes,
    start_next,
    start_workflow,
    task_queue,
    worker_prefix,
)
from .workflows import RunSourceConnectionWorkflow

_CHECK = timedelta(seconds=CHECK_S)
CONNECT_AGAIN_S = (0.2, 5.0)  # the first pause and the longest
NAMESPACE_S = 5.0  # that a server which has just started may need to make its namespace
YIELD_S = 0.3  # for results that are on their way to Temporal when the worker is told to stop
HARD_END_S = 5.0
FATAL_ERRORS = 5
FATAL_WITHIN_S = 600.0
STICKY_S = 2.0
# what a process may still be handed on each queue after it was stopped (SIGSTOP): a step, and two workflow tasks
POLLS, WORKFLOW_POLLS = 1, 2
BEYOND_S = 900.0  # that a step may need beyond a slice and SOURCE_STALL_S
WORKFLOW_TASKS = 20
CACHED_WORKFLOWS = 200

log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run steps of the jobs that Temporal drives until SIGTERM or SIGINT. Steps then have ``WORKER_GRACE_S`` to reach a
    safe place; ``HARD_END_S`` later the process ends, even if something hangs.

    Raises ``Unstartable``, also after repeated fatal errors.
    """
    is_open = settings.metrics_port is not None and not is_loopback(settings.metrics_host)
    if is_open and settings.metrics_token is None and not settings.allow_no_auth:
        raise Unstartable(f"METRICS_HOST={settings.metrics_host} is reachable from other machines: set METRICS_TOKEN")
    with open_database(database_url(settings), room_of(settings)) as database:
        database.migrate()
        plugins.try_embedder(settings)
        service = SyncService(database, Connectors(database, open_vault(settings), settings), settings)
        worker = _WorkerProcess(database, service, settings)
        if settings.metrics_port is not None:
            token = settings.metrics_token.get_secret_value() if settings.metrics_token else None
            metrics.serve(settings.metrics_host, settings.metrics_port, token=token, trouble=worker.describe_trouble)
        settle_garbage()
        asyncio.run(worker.run())


async def _has_namespace(client: Client) -> bool:
    try:
        await find_namespace_id(client)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def _missing(client: Client, address: str) -> Unstartable:
    return Unstartable(
        f"Temporal at {address} has no namespace {client.namespace!r}: set TEMPORAL_NAMESPACE, or create it with "
        "temporal operator namespace create"
    )


class StepTimeouts(Interceptor):
    """Sets the timeouts of each step from this worker's settings. The workflow sets none: it must not read settings,
    because its replay must decide the same."""

    def __init__(self, settings: Settings) -> None:
        self._heartbeat = timedelta(seconds=settings.temporal_heartbeat_s)
        self._longest = timedelta(seconds=settings.slice_s + settings.source_stall_s + BEYOND_S)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        heartbeat, longest = self._heartbeat, self._longest

        class Outbound(WorkflowOutboundInterceptor):
            def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
                input.heartbeat_timeout, input.start_to_close_timeout = heartbeat, longest
                return super().start_activity(input)

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

        return Inbound


class _WorkerProcess:
    def __init__(self, database: Database, service: SyncService, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._host = socket.gethostname()
        unique = uuid4().hex[:8]  # containers may have the same host name and process id
        self._name = f"{worker_prefix(settings.temporal_task_queue, self._host)}{os.getpid()}:{unique}"
        self._identity = f"{os.getpid()}@{self._host}-{unique}"
        self._activities = Activities(database, service, settings, ended=self._start_next_soon)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._ending = asyncio.Event()
        self._next = asyncio.Event()
        self._is_polling = False
        self._place: str | None = None
        self._lease_taken_at = time.monotonic()

    def describe_trouble(self) -> str | None:
        """Why this worker runs no steps now; None if it does."""
        if self._ending.is_set():
            return "the worker is stopping"
        loop, client = self._loop, self._client
        if loop is None or client is None or not self._is_polling:
            return "the worker does not poll: Temporal cannot be reached; see the worker log for the reason"
        try:
            asyncio.run_coroutine_threadsafe(client.service_client.check_health(timeout=_CHECK), loop).result(CALL_S)
        except Exception as error:  # of many kinds, which all mean the same
            return f"Temporal cannot be reached: {describe_error(error)}"
        silent_s = time.monotonic() - self._lease_taken_at
        return f"Postgres has been unreachable for {silent_s:.0f} s" if silent_s > self._settings.lease_s else None

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        starter = asyncio.create_task(self._start_others())
        fatal: list[float] = []
        try:
            while not self._ending.is_set():
                self._client = await self._connect()
                if self._client is None:
                    return
                try:
                    await self._poll(self._client)
                except Exception as error:  # of many kinds; a new client and new workers recover from each
                    with suppress(Exception):
                        if not await _has_namespace(self._client):
                            continue  # it is waited for, and named if it does not come back
                    log.error("worker_failed", exc_info=error)
                    now = time.monotonic()
                    fatal = [at for at in fatal if now - at < FATAL_WITHIN_S] + [now]
                    if len(fatal) >= FATAL_ERRORS:
                        raise Unstartable(
                            f"the worker failed {FATAL_ERRORS} times; see its log for the errors"
                        ) from None
                    await self._pause(CONNECT_AGAIN_S[0] * 2 ** len(fatal))
        finally:
            starter.cancel()

    def _end(self) -> None:
        if self._ending.is_set():
            return
        log.info("worker_ending", grace_s=self._settings.worker_grace_s)
        self._ending.set()
        self._activities.end()
        hard = threading.Timer(self._settings.worker_grace_s + HARD_END_S, os._exit, (1,))
        hard.daemon = True
        hard.start()

    async def _connect(self) -> Client | None:
        """Connect to Temporal, retrying until its server is up. None if we are told to stop first. Raises
        ``Unstartable`` if the server has no such namespace."""
        pause_s, longest_s = CONNECT_AGAIN_S
        missing_since: float | None = None
        while not self._ending.is_set():
            try:
                options = {"identity": self._identity, **connection_options(self._settings)}
                client = await asyncio.wait_for(Client.connect(**options), CALL_S)
                if await _has_namespace(client):
                    return client
                missing_since = missing_since or time.monotonic()
                if time.monotonic() - missing_since > NAMESPACE_S:
                    raise _missing(client, options["target_host"])
            except Unstartable:
                raise
            except Exception as error:  # of many kinds: unreachable, starting, not permitted, misconfigured
                log.warning("temporal_unreachable", error=describe_error(error))
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, longest_s)
        return None

    async def _poll(self, client: Client) -> None:
        slots = self._settings.job_threads
        acts = self._activities
        with ThreadPoolExecutor(2 * slots, thread_name_prefix="step") as executor:
            workers = [
                Worker(
                    client,
                    task_queue=task_queue(self._settings, host),
                    workflows=[RunSourceConnectionWorkflow],
                    activities=[acts.open, acts.read, acts.sweep, acts.close, acts.cancel],
                    activity_executor=executor,
                    max_concurrent_activities=slots,
                    max_concurrent_workflow_tasks=WORKFLOW_TASKS,
                    interceptors=[StepTimeouts(self._settings)],
                    max_concurrent_activity_task_polls=POLLS,
                    max_concurrent_workflow_task_polls=WORKFLOW_POLLS,
                    max_cached_workflows=CACHED_WORKFLOWS,
                    sticky_queue_schedule_to_start_timeout=timedelta(seconds=STICKY_S),
                    max_heartbeat_throttle_interval=timedelta(seconds=self._settings.temporal_heartbeat_s / 4),
                    default_heartbeat_throttle_interval=timedelta(seconds=self._settings.temporal_heartbeat_s / 4),
                    graceful_shutdown_timeout=timedelta(seconds=self._settings.worker_grace_s),
                    disable_eager_activity_execution=True,  # otherwise one worker keeps all partitions of a job
                )
                for host in (None, self._host)
            ]
            running = [asyncio.create_task(worker.run()) for worker in workers]
            log.info("worker_ready", task_queue=self._settings.temporal_task_queue, slots=slots)
            ending = asyncio.create_task(self._ending.wait())
            self._is_polling = True
            over = threading.Event()
            lease = threading.Thread(target=self._hold_lease, args=(over,), name="hold-lease", daemon=True)
            lease.start()
            try:
                await asyncio.wait({*running, ending}, return_when=asyncio.FIRST_COMPLETED)
                if self._ending.is_set():
                    await asyncio.sleep(YIELD_S)
            finally:
                self._is_polling = False
                ending.cancel()
                with suppress(Exception):
                    await asyncio.gather(*(worker.shutdown() for worker in workers))
                over.set()
                await asyncio.to_thread(lease.join, CALL_S)
                results = await asyncio.gather(*running, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    def _hold_lease(self, over: threading.Event) -> None:
        """Hold the lease that shows others that this worker polls, until ``over``."""
        while True:
            place = self._find_place(self._settings.lease_s / 4)
            try:
                with self._database.session() as session:
                    if over.is_set():
                        leases.release(session, self._name, self._name)
                        return
                    leases.take(session, self._name, self._name, self._settings.lease_s, place=place)
                    self._lease_taken_at = time.monotonic()
                    leases.forget_lapsed(session, leases.WORKER)
            except SQLAlchemyError:  # the lease expires meanwhile
                if over.is_set():
                    return
            over.wait(self._settings.lease_s / 4)

    def _find_place(self, patience_s: float) -> str | None:
        """The id of the namespace that this worker polls; while Temporal cannot be asked, as last seen."""
        if self._loop is not None and self._client is not None and not self._ending.is_set():
            with suppress(Exception):
                asked = asyncio.run_coroutine_threadsafe(find_namespace_id(self._client), self._loop)
                self._place = asked.result(patience_s)
        return self._place

    def _start_next_soon(self) -> None:
        """Start another job now that one has ended, without waiting for the API's next look."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._next.set)

    async def _start_others(self) -> None:
        while True:
            await self._next.wait()
            self._next.clear()
            if self._client is None:
                continue
            try:
                while await asyncio.to_thread(start_next, self._database, self._settings, self._start):
                    pass
            except (NotStarted, SQLAlchemyError):
                continue  # the API tries again soon

    def _start(self, job: jobs.TemporalJob) -> None:
        assert self._loop is not None
        assert self._client is not None
        asyncio.run_coroutine_threadsafe(self._start_workflow(self._client, job), self._loop).result(CALL_S)

    async def _start_workflow(self, client: Client, job: jobs.TemporalJob) -> None:
        known = await find_search_attributes(client)
        await start_workflow(client, self._settings, job, search_attributes=known)
