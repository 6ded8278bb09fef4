"""A synchronous client of the Temporal server, and the driver that hands jobs over to it."""

import asyncio
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionResponse,
)
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from .. import metrics
from ..background import InProcessDriver
from ..db import jobs, leases
from ..db.models import Engine, Status
from ..db.session import Database, is_outage
from ..errors import Unavailable
from ..services.jobs import EngineChoice
from ..settings import SEARCH_ATTRIBUTES, Settings

CHECK_S = 2.0
CALL_S = 5.0
START_AGAIN_S = 5.0
DECISION_S = 5.0  # after which a worker that has not decided what comes next is taken for stopped (default: 10)
REFUSED_TIMES = 4  # in a row that workers fail to take the next step of a workflow, before it is started again
UNKNOWN_ACTIVITY = "NotFoundError"  # the SDK's type of the failure of an activity that a worker does not know
TRY_QUEUE_S = ASK_AGAIN_S = 60.0  # what the server says of our task queue and search attributes is used for so long
FORGET_TICKS = 3
_CALL = timedelta(seconds=CALL_S)
LOOPBACK = "127.0.0.1"
WORKFLOW = "RunSourceConnectionWorkflow"

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Arguments for ``Client.connect``. The SDK's own environment configuration (``TEMPORAL_ADDRESS``,
    ``TEMPORAL_API_KEY``, ``TEMPORAL_TLS*``, or a profile of a configuration file that is named) takes precedence over
    ``TEMPORAL_HOST`` and ``TEMPORAL_PORT``."""
    names_a_file = any(os.environ.get(name) for name in ("TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE"))
    options: dict[str, Any] = dict(ClientConfig.load_client_connect_config(disable_file=not names_a_file))
    host = f"[{settings.temporal_host}]" if ":" in settings.temporal_host else settings.temporal_host
    options.setdefault("target_host", f"{host}:{settings.temporal_port}")
    options.setdefault("namespace", settings.temporal_namespace)
    options["runtime"] = _runtime()
    return options


@cache
def _runtime() -> Runtime:
    """The SDK's native runtime, one per process. Its logs join ours; its metrics are appended to ours, through a port
    on loopback."""
    logs = LoggingConfig(filter="ERROR", forwarding=LogForwardingConfig(logging.getLogger("temporalio.core")))
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        address = f"{LOOPBACK}:{probe.getsockname()[1]}"
    try:
        runtime = Runtime(telemetry=TelemetryConfig(logging=logs, metrics=PrometheusConfig(bind_address=address)))
    except Exception as error:  # from the native runtime: the port was taken meanwhile
        log.warning("temporal_metrics_missing", error=describe_error(error))
        return Runtime(telemetry=TelemetryConfig(logging=logs))
    metrics.append_page(f"http://{address}/metrics")
    return runtime


def workflow_id(job_id: UUID) -> str:
    return f"sync-{job_id}"


def task_queue(settings: Settings, host: str | None) -> str:
    """The queue on which workers find a job: the common one, or for a job that reads files of one host, that host's."""
    return settings.temporal_task_queue if host is None else f"{settings.temporal_task_queue}@{host}"


def worker_prefix(queue: str, host: str | None = None) -> str:
    """The prefix of the leases that the workers of a task queue hold: of ``queue``, or of the queue of one ``host``
    (``task_queue``)."""
    return f"{leases.WORKER}{queue}:" if host is None else f"{leases.WORKER}{queue.removesuffix(f'@{host}')}:{host}:"


async def find_namespace_id(client: Client) -> str:
    """The id of the client's namespace: no two servers share one, however their addresses are written. Raises
    ``RPCError``."""
    found = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=CHECK_S)
    )
    return found.namespace_info.id


async def find_search_attributes(client: Client) -> frozenset[str]:
    """Those of our search attributes that the server has; none if it does not say."""
    with suppress(RPCError):
        request = ListSearchAttributesRequest(namespace=client.namespace)
        found = await client.operator_service.list_search_attributes(request, timeout=timedelta(seconds=CHECK_S))
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        return frozenset(name for name in SEARCH_ATTRIBUTES if found.custom_attributes.get(name) == keyword)
    return frozenset()


async def start_workflow(
    client: Client, settings: Settings, job: jobs.TemporalJob, *, search_attributes: frozenset[str]
) -> None:
    """Start the job's workflow, unless it is already open. Its input is the job's id. For people, it tells the source's
    short name, the collection's readable id, the connection's id and the trigger: no names, keys or content."""
    told = {"source": job.source, "collection": job.collection, "connection": str(job.connection_id)}
    told["trigger"] = job.trigger
    searched = [
        SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
        for name, value in zip(SEARCH_ATTRIBUTES, told.values(), strict=True)
        if name in search_attributes
    ]
    await client.start_workflow(
        WORKFLOW,
        str(job.id),
        id=workflow_id(job.id),
        task_queue=task_queue(settings, job.host),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary=f"{job.source} into {job.collection} ({job.trigger})",
        memo=told,
        search_attributes=TypedSearchAttributes(searched),
        task_timeout=timedelta(seconds=DECISION_S),
        priority=Priority(fairness_key=str(job.organization_id)),
        rpc_timeout=_CALL,
    )


class Temporal:
    """A client on its own event loop and thread. It connects at first use and again after a failure; each call has a
    time limit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="temporal-client", daemon=True)
        self._thread.start()
        self._client: Client | None = None
        self._search_attributes: frozenset[str] = frozenset()
        self._asked_at = -math.inf
        self._queue_tried_at = -math.inf
        self._queue_refusal: RPCError | None = None

    def place(self) -> tuple[str, str]:
        """The server's address and the namespace."""
        try:
            options = connection_options(self._settings)
        except Exception as error:  # of the environment's configuration: /health must answer all the same
            return f"unknown: {describe_error(error)}", self._settings.temporal_namespace
        return str(options["target_host"]), str(options["namespace"])

    def address(self) -> str:
        return self.place()[0]

    def check(self) -> str | None:
        """Ask the server, within ``CHECK_S``, whether it can start jobs now: None if it can, otherwise the reason."""
        try:
            self._call(self._check(), CHECK_S)
        except Exception as error:  # of many kinds, which all mean the same
            return f"Temporal at {self.address()} cannot be used: {describe_error(error)}"
        return None

    def start(self, job: jobs.TemporalJob) -> None:
        """Start the job's workflow, unless it is already open."""
        self._call(self._start(job), CALL_S)

    def cancel(self, job_id: UUID) -> None:
        """Cancel the job's workflow, if one is open."""
        with suppress(NoSuchWorkflow):
            self._call(self._call_workflow(job_id, lambda handle: handle.cancel(rpc_timeout=_CALL)), CALL_S)

    def find_open(self, job_id: UUID) -> "OpenWorkflow | None":
        """The job's workflow if it is open."""
        try:
            description = self._call(
                self._call_workflow(job_id, lambda handle: handle.describe(rpc_timeout=_CALL)), CALL_S
            )
        except NoSuchWorkflow:
            return None
        if description.status != WorkflowExecutionStatus.RUNNING:
            return None
        return OpenWorkflow(description.task_queue, _is_refused_by_workers(description.raw_description))

    def terminate(self, job_id: UUID, reason: str) -> None:
        """Terminate the job's workflow, if one is open. The job is not told: whoever starts it again goes on."""
        with suppress(NoSuchWorkflow):
            self._call(
                self._call_workflow(job_id, lambda handle: handle.terminate(reason=reason, rpc_timeout=_CALL)), CALL_S
            )

    def namespace_id(self) -> str:
        """The id of the namespace. Raises errors of many kinds if it cannot be asked for."""
        return self._call(self._find_namespace_id(), CHECK_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)

    def _call(self, work: Coroutine[Any, Any, Answer], limit_s: float) -> Answer:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self._loop).result(limit_s + 1)

    async def _connect(self) -> Client:
        if self._client is None:
            self._client = await Client.connect(**connection_options(self._settings), lazy=True)
        return self._client

    async def _check(self) -> None:
        client = await self._connect()
        await find_namespace_id(client)
        if time.monotonic() - self._queue_tried_at > TRY_QUEUE_S:
            self._queue_tried_at, self._queue_refusal = time.monotonic(), await self._try_queue(client)
        if self._queue_refusal is not None:
            raise self._queue_refusal

    async def _try_queue(self, client: Client) -> RPCError | None:
        """Why the server would refuse to start a workflow on our task queue. Only its word about the name counts: a
        server that is slow, or does not let us look, may start workflows all the same."""
        queue = TaskQueue(name=self._settings.temporal_task_queue)
        request = DescribeTaskQueueRequest(namespace=client.namespace, task_queue=queue)
        try:
            await client.workflow_service.describe_task_queue(request, timeout=timedelta(seconds=CHECK_S / 4))
        except RPCError as error:
            return error if error.status == RPCStatusCode.INVALID_ARGUMENT else None
        return None

    async def _find_namespace_id(self) -> str:
        return await find_namespace_id(await self._connect())

    async def _start(self, job: jobs.TemporalJob) -> None:
        client = await self._connect()
        if len(self._search_attributes) < len(SEARCH_ATTRIBUTES) and time.monotonic() - self._asked_at > ASK_AGAIN_S:
            self._search_attributes, self._asked_at = await find_search_attributes(client), time.monotonic()
        try:
            await start_workflow(client, self._settings, job, search_attributes=self._search_attributes)
        except RPCError:
            self._search_attributes, self._asked_at = frozenset(), -math.inf  # they may have been removed
            raise

    async def _call_workflow(
        self, job_id: UUID, act: Callable[[WorkflowHandle[Any, Any]], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        client = await self._connect()
        try:
            return await act(client.get_workflow_handle(workflow_id(job_id)))
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise NoSuchWorkflow from None
            raise


@dataclass(frozen=True, slots=True)
class OpenWorkflow:
    """An open workflow. ``queue``: the task queue that offers it. ``is_refused``: workers take it and cannot run it,
    because they are of another version than those that began it."""

    queue: str
    is_refused: bool


def _is_refused_by_workers(description: DescribeWorkflowExecutionResponse) -> bool:
    is_stuck = description.pending_workflow_task.attempt >= REFUSED_TIMES
    return is_stuck or any(
        step.attempt >= REFUSED_TIMES and step.last_failure.application_failure_info.type == UNKNOWN_ACTIVITY
        for step in description.pending_activities
    )


class NoSuchWorkflow(Exception):
    """The job has no workflow, or none that is open."""


class NotStarted(Exception):
    """Temporal did not take the job; it is due again."""


class TemporalDriver:
    """Hands jobs over to Temporal, organizations taking turns, and drives them in process while Temporal cannot be
    reached. The row of a job comes first: a workflow that did not start is started later."""

    def __init__(self, database: Database, temporal: Temporal, in_process: InProcessDriver, settings: Settings) -> None:
        self._database = database
        self._temporal = temporal
        self._in_process = in_process
        self._settings = settings
        self._lost_since: float | None = None
        self._refused_since: float | None = None
        self._reconciled_at = -math.inf
        self._name = f"{leases.TEMPORAL_API}{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._cancelled: SimpleQueue[UUID] = SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="temporal-driver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(CALL_S)
        with suppress(SQLAlchemyError), self._database.session() as session:  # otherwise the lease expires
            leases.release(session, self._name, self._name)
        self._temporal.close()

    def choose(self) -> EngineChoice:
        reason = self._temporal.check()
        if reason is None:
            return EngineChoice(Engine.TEMPORAL)
        if self._settings.temporal_required:
            raise Unavailable(f"{reason}; nothing was started (TEMPORAL_REQUIRED)")
        return EngineChoice(self._in_process.choose().name, reason)

    def kick(self) -> None:
        self._wake.set()
        self._in_process.kick()

    def cancelled(self, job_id: UUID) -> None:
        self._cancelled.put(job_id)
        self.kick()

    def reconcile(self) -> None:
        """Restart jobs whose workflow is unknown to Temporal or closed, and mark those that wait for a worker. Once
        Temporal has been unreachable for ``TEMPORAL_LOST_S``, continue in process the jobs that no worker holds."""
        reason = self._temporal.check()
        now = time.monotonic()
        if now - self._reconciled_at > self._settings.tick_s * FORGET_TICKS + CHECK_S:
            self._lost_since = self._refused_since = None  # another process was the keeper meanwhile
        self._reconciled_at = now
        patience_s = math.inf if self._settings.temporal_required else self._settings.temporal_lost_s
        if reason is None:
            self._note_refused(now)
            if now - (self._refused_since or now) > patience_s:
                self._in_process.adopt(f"Temporal at {self._temporal.address()} starts no workflow", only_refused=True)
            self._lost_since = None
            self._look_after_unattended()
            self._wake.set()
            return
        if self._lost_since is None:
            self._lost_since = now
            log.warning("temporal_lost", reason=reason)
        if now - self._lost_since >= patience_s:
            self._in_process.adopt(reason)

    def _note_refused(self, now: float) -> None:
        with self._database.session() as session:
            refused = jobs.count_refused(session)
        self._refused_since = (self._refused_since or now) if refused else None

    def describe(self) -> dict[str, Any]:
        reason = self._temporal.check()
        address, namespace = self._temporal.place()
        return {
            "engine": Engine.TEMPORAL if reason is None or self._settings.temporal_required else Engine.IN_PROCESS,
            "engine_reason": reason,
            "temporal": {
                "address": address,
                "namespace": namespace,
                "task_queue": self._settings.temporal_task_queue,
                "required": self._settings.temporal_required,
                "reachable": reason is None,
            },
        }

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._stopping.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            wait_s = self._settings.tick_s
            try:
                with self._database.session() as session:
                    leases.take(session, self._name, self._name, self._settings.tick_s * FORGET_TICKS + CHECK_S)
                self._forward_cancels()
                wait_s = self._start_due()
            except Exception as error:  # the outermost loop of this thread: it must not end
                if not isinstance(error, SQLAlchemyError) or not is_outage(error):
                    log.error("unexpected_error", exc_info=error)

    def _forward_cancels(self) -> None:
        with suppress(Empty):
            while True:
                job_id = self._cancelled.get_nowait()
                try:
                    self._temporal.cancel(job_id)
                except Exception as error:  # its next step finds out, a little later
                    log.info("workflow_not_cancelled", job=str(job_id), error=describe_error(error))

    def _start_due(self) -> float:
        """Hand over due jobs while there is room for them; return the seconds until the next look."""
        while not self._stopping.is_set():
            try:
                if start_next(self._database, self._settings, self._temporal.start) is None:
                    return self._settings.tick_s
            except NotStarted:
                if self._temporal.check() is not None:  # otherwise this job alone failed, and is due again soon
                    return START_AGAIN_S
        return 0.0

    def _look_after_unattended(self) -> None:
        """For jobs that no worker holds: leave those whose workflow some worker can take to Temporal, and start the
        others again. A workflow knows nothing but its job, so it can be replaced at any time."""
        with self._database.session() as session:
            unattended = jobs.list_unattended(session)
        if not unattended:
            return
        deadline = time.monotonic() + self._settings.tick_s  # the keeper has other duties
        for job in unattended:
            if time.monotonic() > deadline:
                return
            try:
                place = self._temporal.namespace_id()
                found = self._temporal.find_open(job.id)
                if found is not None and self._is_lost(job, found, place):
                    log.warning("workflow_replaced", job=str(job.id), queue=found.queue, refused=found.is_refused)
                    self._temporal.terminate(job.id, "no worker can take it: it is started again on another queue")
                    found = None
            except Exception as error:  # of many kinds; the next tick asks again
                log.warning("workflow_unknown", job=str(job.id), error=describe_error(error))
                return
            with self._database.session() as session:
                if found is not None:
                    jobs.extend_lease(session, job.id, lease_s=self._settings.lease_s)
                    if not leases.count(session, worker_prefix(found.queue, job.host), place=place):
                        jobs.wait_for_worker(session, job.id, self._describe_queue(found.queue))
                elif job.status != Status.CANCELLING:
                    log.warning("workflow_missing", job=str(job.id))
                    jobs.release(session, job.id, driver=jobs.TEMPORAL, wait_s=0, waiting_for=None)

    def _is_lost(self, job: jobs.TemporalJob, found: OpenWorkflow, place: str) -> bool:
        """Whether only a new workflow on our own queue can go on with the job."""
        if found.is_refused or found.queue == task_queue(self._settings, job.host):
            return found.is_refused
        with self._database.session() as session:
            return not leases.count(session, worker_prefix(found.queue, job.host), place=place)

    def _describe_queue(self, queue: str) -> str:
        address, namespace = self._temporal.place()
        return f"no worker polls task queue {queue!r} of namespace {namespace!r} of Temporal at {address}"


def start_next(
    database: Database, settings: Settings, start: Callable[[jobs.TemporalJob], None]
) -> jobs.TemporalJob | None:
    """Hand one due job to Temporal. None if no job is due or there is no room for one; raises ``NotStarted``."""
    with database.session() as session:
        job = jobs.hand_over(session, lease_s=settings.lease_s, at_once=settings.temporal_jobs)
    if job is None:
        return None
    try:
        start(job)
    except Exception as error:  # it may have started all the same; starting it twice is harmless
        log.warning("workflow_not_started", job=str(job.id), error=describe_error(error))
        with database.session() as session:
            jobs.mark_refused(session, job.id, wait_s=START_AGAIN_S)
        raise NotStarted from None
    log.info("workflow_started", job=str(job.id), workflow=workflow_id(job.id))
    return job


def describe_error(error: BaseException) -> str:
    """One line about the error, of at most 300 characters."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
