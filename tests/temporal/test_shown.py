"""What people see of a job in Temporal's UI: whose it is, and how far its steps are. Its input stays its id."""

import asyncio
import re
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecution
from temporalio.testing import WorkflowEnvironment

from running import TEMPORAL, Running
from servers.scripted_server import ScriptedServer, items

PARTITIONS, PAGES, PAGE = 3, 6, 10
SHOWN_S = 20.0  # Temporal lists a workflow a little later


@pytest.mark.parametrize("driver", [TEMPORAL], indirect=True)
def test_a_job_is_found_by_what_people_know_of_it(running: Running, source: ScriptedServer) -> None:
    assert running.temporal is not None
    address = running.temporal.address
    server = running.start(SLICE_S="1")  # several steps a partition
    for number in range(PARTITIONS):
        source.partitions[f"secret-folder-{number}"] = items(PAGES * PAGE, prefix=f"i{number}")
    source.page_size, source.latency_s = PAGE, 0.3
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    server.run(connection)
    (job,) = server.get(f"/source-connections/{connection}/jobs")
    assert server.finish(connection, job["id"])["status"] == "completed"

    async def look() -> tuple[list[WorkflowExecution], dict[str, Any], str | None, list[str]]:
        client = await Client.connect(address)
        query = (
            f"AirweaveConnection = '{connection}' and AirweaveSource = 'scripted' "
            f"and AirweaveCollection = '{collection}' and AirweaveTrigger = 'api'"
        )
        found = [one async for one in client.list_workflows(query)]
        handle = client.get_workflow_handle(f"sync-{job['id']}")
        told = await handle.describe()
        summaries = []
        async for event in handle.fetch_history_events():
            if event.user_metadata.summary.data and event.HasField("activity_task_scheduled_event_attributes"):
                summaries.append(event.user_metadata.summary.data.decode().strip('"'))
        return found, dict(await told.memo()), await told.static_summary(), summaries

    deadline = time.monotonic() + SHOWN_S
    while not (seen := asyncio.run(look()))[0] and time.monotonic() < deadline:
        time.sleep(0.2)
    found, memo, summary, summaries = seen
    assert [one.id for one in found] == [f"sync-{job['id']}"]
    assert memo == {"source": "scripted", "collection": collection, "connection": connection, "trigger": "api"}
    assert summary == f"scripted into {collection} (api)"
    read = [re.fullmatch(rf"partition (\d) of {PARTITIONS}, (\d+) entities", one) for one in summaries]
    assert all(read), summaries
    assert {int(one[1]) for one in read if one} == {1, 2, 3}
    assert max(int(one[2]) for one in read if one) >= PAGE  # and how far


def test_a_server_without_our_search_attributes_runs_jobs(running: Running, source: ScriptedServer) -> None:
    source.partitions["a"] = items(20)
    program = str(Path(sysconfig.get_path("scripts")) / "temporal")
    loop = asyncio.new_event_loop()
    bare = loop.run_until_complete(WorkflowEnvironment.start_local(dev_server_existing_path=program))
    try:
        host, _, port = bare.client.service_client.config.target_host.partition(":")
        settings = {"TEMPORAL_ENABLED": "true", "TEMPORAL_HOST": host, "TEMPORAL_PORT": port}
        server = running.start(**settings)
        worker = running.ready_worker(**settings)
        done = server.sync(server.connect_to(source), 60)
        assert (done["status"], done["engine"]) == ("completed", "temporal")
        handle = bare.client.get_workflow_handle(f"sync-{done['id']}")
        told = loop.run_until_complete(handle.describe())
        assert loop.run_until_complete(told.memo())["source"] == "scripted"
        server.terminate()
        worker.terminate()
    finally:
        loop.run_until_complete(bare.shutdown())
        loop.close()
