"""F43: the queue or the namespace of Temporal changes in the middle of a job, its workflow is of another version, or
Temporal knows no such namespace or wants no such queue."""

import asyncio
import sysconfig
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from airweave_server.db.session import Database
from faults.readers import asked_again, until
from invariants import agree, hold, settled
from running import IN_PROCESS, TEMPORAL, Running, TemporalServer, refusal
from servers.scripted_server import ScriptedServer, items

TOTAL, PAGES_OF_A_BATCH = 120, 3


def another_namespace(temporal: TemporalServer) -> str:
    """Make a namespace, and wait until it can be used."""
    name = f"n-{uuid4().hex[:12]}"

    async def make() -> None:
        client = await Client.connect(temporal.address)
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
        )

    async def is_there() -> bool:
        client = await Client.connect(temporal.address, namespace=name)
        try:
            await client.start_workflow("Try", id="try", task_queue="try", execution_timeout=timedelta(seconds=1))
        except RPCError:
            return False
        return True

    asyncio.run(make())
    until(lambda: asyncio.run(is_there()), 30, "the namespace can be used")
    return name


def changed(running: Running, what: str) -> dict[str, str]:
    """Other settings of Temporal."""
    assert running.temporal is not None
    if what == "queue":
        return {"TEMPORAL_TASK_QUEUE": f"q-{uuid4().hex[:12]}"}
    return {"TEMPORAL_NAMESPACE": another_namespace(running.temporal)}


@pytest.mark.fault("F43", on=TEMPORAL, only=TEMPORAL)
@pytest.mark.parametrize("what", ["queue", "namespace"])
def test_a_job_goes_on_where_the_settings_now_say(
    apart: Running, database: Database, source: ScriptedServer, say: Callable[[str], None], what: str
) -> None:
    settings = changed(apart, what)
    source.partitions["a"] = items(TOTAL)
    source.page_size, source.latency_s = 10, 0.5
    old = apart.start()
    connection = old.connect_to(source)
    job = old.run(connection)
    old.wait_for(lambda: old.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    old.terminate()
    server = apart.start(**settings)
    source.latency_s = 0.0
    done = server.finish(connection, job, 60)
    assert (done["status"], done["entities_inserted"], done["engine"]) == ("completed", TOTAL, "temporal")
    assert asked_again(source) <= PAGES_OF_A_BATCH
    say(f"{what}: {done['duration_seconds']:.1f} s, {asked_again(source)} pages read again")
    settled(server, connection, done)
    assert server.sync(connection)["status"] == "completed"
    hold(apart)
    agree(apart, connection, source.listed())


@pytest.mark.fault("F43", on=TEMPORAL, only=TEMPORAL)
@pytest.mark.parametrize("what", ["queue", "namespace"])
def test_a_job_that_no_worker_can_see_says_so(apart: Running, source: ScriptedServer, what: str) -> None:
    settings = changed(apart, what)
    source.partitions["a"] = items(20)
    apart.ready_worker()  # it polls, but elsewhere
    server = apart.start(worker=False, **settings)
    connection = server.connect_to(source)
    job = server.run(connection)

    def waits(seen: dict[str, Any]) -> bool:
        return bool(seen["waiting_for"] == "worker")

    shown = server.wait_for(lambda: server.job(connection, job), waits, 30)
    queue = settings.get("TEMPORAL_TASK_QUEUE", apart.task_queue)
    assert f"no worker polls task queue '{queue}'" in shown["engine_reason"]
    assert settings.get("TEMPORAL_NAMESPACE", "default") in shown["engine_reason"]
    apart.start_worker(**settings)
    done = server.finish(connection, job, 60)
    assert (done["status"], done["engine_reason"]) == ("completed", None)


@pytest.mark.fault("F43", on=TEMPORAL, only=TEMPORAL)
def test_a_workflow_that_the_workers_do_not_know_is_started_again(apart: Running, source: ScriptedServer) -> None:
    assert apart.temporal is not None
    source.partitions["a"] = items(20)
    server = apart.start(worker=False)
    connection = server.connect_to(source)
    job = server.run(connection)
    until(lambda: apart.workflow(job), 20, "the workflow is open")

    async def of_another_version() -> None:
        client = await Client.connect(apart.temporal.address)  # type: ignore[union-attr]
        await client.get_workflow_handle(f"sync-{job}").terminate()
        await client.start_workflow("OfAnotherVersion", job, id=f"sync-{job}", task_queue=apart.task_queue)

    asyncio.run(of_another_version())
    apart.start_worker()
    done = server.finish(connection, job, 60)
    assert (done["status"], done["entities_inserted"], done["engine"]) == ("completed", 20, "temporal")


@pytest.mark.fault("F43", on=TEMPORAL, only=TEMPORAL)
def test_a_worker_without_its_namespace_ends_with_one_line(apart: Running) -> None:
    line = refusal(apart.command("worker", TEMPORAL_NAMESPACE="nowhere", LOG_LEVEL="warning"))
    assert "has no namespace 'nowhere': set TEMPORAL_NAMESPACE" in line


@pytest.mark.fault("F43", only=IN_PROCESS)
def test_a_queue_that_temporal_refuses_is_told_and_jobs_run_in_process(apart: Running, source: ScriptedServer) -> None:
    source.partitions["a"] = items(20)
    program = str(Path(sysconfig.get_path("scripts")) / "temporal")
    short_names = ["--dynamic-config-value", "limit.maxIDLength=100"]
    loop = asyncio.new_event_loop()
    strict = loop.run_until_complete(
        WorkflowEnvironment.start_local(dev_server_existing_path=program, dev_server_extra_args=short_names)
    )
    try:
        host, _, port = strict.client.service_client.config.target_host.partition(":")
        settings = {"TEMPORAL_ENABLED": "true", "TEMPORAL_HOST": host, "TEMPORAL_PORT": port}
        server = apart.start(**settings, TEMPORAL_TASK_QUEUE="q" * 101)
        health = server.get("/health")
        assert (health["engine"], health["temporal"]["reachable"]) == ("in_process", False)
        assert "taskQueue length exceeds limit" in health["engine_reason"]
        done = server.sync(server.connect_to(source), 30)
        assert (done["status"], done["engine"]) == ("completed", "in_process")
        assert "taskQueue length exceeds limit" in done["engine_reason"]
    finally:
        loop.run_until_complete(strict.shutdown())
        loop.close()
