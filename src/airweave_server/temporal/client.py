"""The way to the Temporal server for code that is not async, and the driver that hands jobs over to it."""

import asyncio
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from .. import metrics
from ..background import InProcessDriver
from ..db import jobs, leases
from ..db.models import Engine
from ..db.session import Database, is_outage
from ..errors import Unavailable
from ..services.jobs import EngineChoice
from ..settings import Settings

CHECK_S = 2.0
CALL_S = 5.0
START_AGAIN_S = 5.0
FORGET_TICKS = 3
_CALL = timedelta(seconds=CALL_S)
LOOPBACK = "127.0.0.1"
WORKFLOW = "RunSourceConnectionWorkflow"

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def connection_options(settings: Settings) -> dict[str, Any]:
    """What ``Client.connect`` takes: ``TEMPORAL_HOST`` and ``_PORT``, unless the SDK's own environment configuration
    (``TEMPORAL_ADDRESS``, ``TEMPORAL_API_KEY``, ``TEMPORAL_TLS*``, or a profile of a file that is named) says else."""
    names_a_file = any(os.environ.get(name) for name in ("TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE"))
    options: dict[str, Any] = dict(ClientConfig.load_client_connect_config(disable_file=not names_a_file))
    options.setdefault("target_host", f"{settings.temporal_host}:{settings.temporal_port}")
    options.setdefault("namespace", settings.temporal_namespace)
    options["runtime"] = _runtime()
    return options


@cache
def _runtime() -> Runtime:
    """The SDK's native part, one a process; what it logs comes out as our own logs do, and what it measures is appended
    to our own metrics, by way of a port that only this machine reaches."""
    logs = LoggingConfig(filter="ERROR", forwarding=LogForwardingConfig(logging.getLogger("temporalio.core")))
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        place = f"{LOOPBACK}:{probe.getsockname()[1]}"
    try:
        runtime = Runtime(telemetry=TelemetryConfig(logging=logs, metrics=PrometheusConfig(bind_address=place)))
    except Exception as error:  # of the native part: somebody took the port meanwhile
        log.warning("temporal_metrics_missing", error=said(error))
        return Runtime(telemetry=TelemetryConfig(logging=logs))
    metrics.also_at(f"http://{place}/metrics")
    return runtime


def workflow_id(job_id: UUID) -> str:
    return f"sync-{job_id}"


def task_queue(settings: Settings, host: str | None) -> str:
    """Where workers look for a job: the common queue, or that of the one host whose files it reads."""
    return settings.temporal_task_queue if host is None else f"{settings.temporal_task_queue}@{host}"


def worker_prefix(settings: Settings, host: str | None = None) -> str:
    """How the leases begin by which workers of our task queue, or those of one host, are seen."""
    return f"{leases.WORKER}{settings.temporal_task_queue}:" + (f"{host}:" if host else "")


async def start_workflow(client: Client, settings: Settings, job: jobs.Handed) -> None:
    """Start the job's workflow; one that is open already is left as it is. Nothing but ids goes along."""
    await client.start_workflow(
        WORKFLOW,
        str(job.id),
        id=workflow_id(job.id),
        task_queue=task_queue(settings, job.host),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        priority=Priority(fairness_key=str(job.organization_id)),
        rpc_timeout=_CALL,
    )


class Temporal:
    """A client on an event loop and a thread of its own. It is made without a connection, connects when it is first
    used, and again after every failure; each call has a time limit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="temporal-client", daemon=True)
        self._thread.start()
        self._client: Client | None = None

    def place(self) -> tuple[str, str]:
        """Where the server is looked for, and in which namespace."""
        try:
            options = connection_options(self._settings)
        except Exception as error:  # whatever the environment holds: it must not keep the API from answering
            return f"unknown: {said(error)}", self._settings.temporal_namespace
        return str(options["target_host"]), str(options["namespace"])

    def address(self) -> str:
        return self.place()[0]

    def check(self) -> str | None:
        """Why jobs cannot be started now, asked of the server itself within ``CHECK_S``; None when they can."""
        try:
            self._call(self._check(), CHECK_S)
        except Exception as error:  # of many kinds, and each means the same
            return f"Temporal at {self.address()} cannot be used: {said(error)}"
        return None

    def start(self, job: jobs.Handed) -> None:
        """Start the job's workflow; one that is open already is left as it is."""
        self._call(self._start(job), CALL_S)

    def cancel(self, job_id: UUID) -> None:
        """Cancel the job's workflow, if there is one that is open."""
        with suppress(NoSuchWorkflow):
            self._call(self._handled(job_id, lambda handle: handle.cancel(rpc_timeout=_CALL)), CALL_S)

    def is_open(self, job_id: UUID) -> bool:
        try:
            found = self._call(self._handled(job_id, lambda handle: handle.describe(rpc_timeout=_CALL)), CALL_S)
        except NoSuchWorkflow:
            return False
        return found.status == WorkflowExecutionStatus.RUNNING

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)

    def _call(self, work: Coroutine[Any, Any, Answer], limit_s: float) -> Answer:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self._loop).result(limit_s + 1)

    async def _connected(self) -> Client:
        if self._client is None:
            self._client = await Client.connect(**connection_options(self._settings), lazy=True)
        return self._client

    async def _check(self) -> None:
        client = await self._connected()
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=timedelta(seconds=CHECK_S)
        )

    async def _start(self, job: jobs.Handed) -> None:
        await start_workflow(await self._connected(), self._settings, job)

    async def _handled(
        self, job_id: UUID, act: Callable[[WorkflowHandle[Any, Any]], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        client = await self._connected()
        try:
            return await act(client.get_workflow_handle(workflow_id(job_id)))
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise NoSuchWorkflow from None
            raise


class NoSuchWorkflow(Exception):
    """No workflow of the job, or none that is open."""


class NotStarted(Exception):
    """Temporal did not take the job; it is due again."""


class TemporalDriver:
    """Hands jobs over to Temporal, one organization after the other, and drives them in process while it cannot be
    reached. The row of a job comes first: what was not started is started by a later look."""

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
        with suppress(SQLAlchemyError), self._database.session() as session:  # else it lapses by itself
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
        """Start again what Temporal does not know or has closed, say what waits for a worker, and once Temporal was
        out of reach for ``TEMPORAL_LOST_S`` go on in process with what no worker shows life of."""
        reason = self._temporal.check()
        now = time.monotonic()
        if now - self._reconciled_at > self._settings.tick_s * FORGET_TICKS + CHECK_S:
            self._lost_since = self._refused_since = None  # another process kept house meanwhile
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

    def shown(self) -> dict[str, Any]:
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
                self._tell_cancelled()
                wait_s = self._start_due()
            except Exception as error:  # the outermost loop of this thread: it must not end
                if not isinstance(error, SQLAlchemyError) or not is_outage(error):
                    log.error("unexpected_error", exc_info=error)

    def _tell_cancelled(self) -> None:
        with suppress(Empty):
            while True:
                job_id = self._cancelled.get_nowait()
                try:
                    self._temporal.cancel(job_id)
                except Exception as error:  # it finds out by itself, a little later
                    log.info("workflow_not_cancelled", job=str(job_id), error=said(error))

    def _start_due(self) -> float:
        """Hand over what there is room for; returns the seconds until the next look."""
        while not self._stopping.is_set():
            try:
                if start_next(self._database, self._settings, self._temporal.start) is None:
                    return self._settings.tick_s
            except NotStarted:
                if self._temporal.check() is not None:  # else it is this job alone, which is due again a little later
                    return START_AGAIN_S
        return 0.0

    def _look_after_unattended(self) -> None:
        with self._database.session() as session:
            found = jobs.unattended(session)
        deadline = time.monotonic() + self._settings.tick_s  # the keeper has other duties
        for job in found:
            if time.monotonic() > deadline:
                return
            try:
                is_open = self._temporal.is_open(job.id)
            except Exception as error:  # of many kinds; the next tick asks again
                log.warning("workflow_unknown", job=str(job.id), error=said(error))
                return
            with self._database.session() as session:
                if is_open:
                    jobs.look_again(session, job.id, lease_s=self._settings.lease_s)
                    if not leases.count(session, worker_prefix(self._settings, job.host)):
                        jobs.wait(session, job.id, "worker")
                elif job.status != "cancelling":
                    log.warning("workflow_missing", job=str(job.id))
                    jobs.let_go(session, job.id, driver=jobs.TEMPORAL, wait_s=0, waiting_for=None)


def start_next(database: Database, settings: Settings, start: Callable[[jobs.Handed], None]) -> jobs.Handed | None:
    """Hand one due job to Temporal. None when there is none or no room for it; raises ``NotStarted``."""
    with database.session() as session:
        job = jobs.hand_over(session, lease_s=settings.lease_s, at_once=settings.temporal_jobs)
    if job is None:
        return None
    try:
        start(job)
    except Exception as error:  # it may have been started all the same: a second start does no harm
        log.warning("workflow_not_started", job=str(job.id), error=said(error))
        with database.session() as session:
            jobs.not_started(session, job.id, wait_s=START_AGAIN_S)
        raise NotStarted from None
    log.info("workflow_started", job=str(job.id), workflow=workflow_id(job.id))
    return job


def said(error: BaseException) -> str:
    """One line of it that is fit to be shown."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
