"""Records the histories that test_replay.py replays, from real jobs on real servers: by hand, once for each version of
the workflow. The histories of former versions stay: python tests/temporal/record.py VERSION [KIND ...]
"""

import asyncio
import json
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from temporalio.testing import WorkflowEnvironment

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from running import Running, Server, Worker
from servers.scripted_server import ScriptedServer, items

HISTORIES = Path(__file__).parent / "histories"
ANEW_AFTER = 30  # events after which the server suggests a new history


class Address:
    """What ``Running`` needs to know of a Temporal server."""

    def __init__(self, target: str) -> None:
        self.port = int(target.rpartition(":")[2])


def without_traces(history: str) -> str:
    """A stack trace tells where this was recorded; nothing replays it."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key != "stackTrace"}

    return json.dumps(json.loads(history, object_pairs_hook=kept), indent=1)


@contextmanager
def scripted(
    server: Server, partitions: int, size: int, *, latency_s: float = 0.0
) -> Iterator[tuple[ScriptedServer, str]]:
    """A scripted source and a connection to it."""
    with ScriptedServer() as source:
        for number in range(partitions):
            source.partitions[f"p{number}"] = items(size, prefix=f"i{number}")
        source.latency_s = latency_s
        yield source, server.connect_to(source)


def reading(server: Server, connection: str, job: str) -> None:
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)


def gated(server: Server) -> tuple[Path, Path, str]:
    """A folder of two partitions besides its own files, its gates, and a connection to it."""
    root = server.folder()
    gates = root.with_name(f"{root.name}-gates")
    for folder in (gates, root / "a", root / "b"):
        folder.mkdir()
    for name in ("a/one.txt", "b/two.txt"):
        (root / name).write_text(f"this is {name}")
    connection = server.connect(server.collection(), "gated_folder", {"path": str(root), "gates": str(gates)})
    return root, gates, connection


async def record(version: str, kinds: list[str], running: Running, env: WorkflowEnvironment, server: Server) -> None:
    async def save(name: str, job: str) -> None:
        if kinds and name not in kinds:
            return
        for _ in range(100):
            described = await env.client.get_workflow_handle(f"sync-{job}").describe()
            if described.close_time is not None:
                break
            await asyncio.sleep(0.1)
        runs, run_id = [], described.run_id
        while run_id:
            history = await env.client.get_workflow_handle(f"sync-{job}", run_id=run_id).fetch_history()
            runs.append(history)
            started = history.events[0].workflow_execution_started_event_attributes
            run_id = started.continued_execution_run_id
        for number, history in enumerate(reversed(runs)):
            (HISTORIES / f"{version}_{name}_{number}.json").write_text(without_traces(history.to_json()))
        print(name, [len(history.events) for history in runs])  # noqa: T201

    with scripted(server, 1, 30) as (_, connection):
        job = server.run(connection)
        server.finish(connection, job)
        await save("plain", job)
    with scripted(server, 4, 30) as (source, connection):
        source.fault("status", status=429, retry_after=2, page=1, partition="p1", times=20)
        job = server.run(connection)
        server.finish(connection, job)
        await save("lanes", job)
    root, gates, connection = gated(server)
    (gates / "asked a.closed").touch()
    job = server.run(connection)
    server.wait_for((gates / "asked a.reached").exists, bool)
    (root / "b" / "two.txt").rename(root / "a" / "two.txt")
    (gates / "asked a.closed").unlink()
    server.finish(connection, job)
    await save("reread", job)
    with scripted(server, 1, 30) as (source, connection):
        source.fault("status", status=401)
        job = server.run(connection)
        server.finish(connection, job)
        await save("failed", job)
    with scripted(server, 1, 300, latency_s=0.2) as (_, connection):
        job = server.run(connection)
        reading(server, connection, job)
        server.post(f"/source-connections/{connection}/jobs/{job}/cancel")
        server.finish(connection, job)
        await save("cancelled", job)
    with scripted(server, 1, 300, latency_s=0.2) as (_, connection):
        job = server.run(connection)
        reading(server, connection, job)
        await env.client.get_workflow_handle(f"sync-{job}").cancel()
        server.finish(connection, job)
        await save("cancelled_in_the_ui", job)
    with scripted(server, 2, 200, latency_s=0.2) as (_, connection):
        job = server.run(connection)
        reading(server, connection, job)
        old, server.worker = server.worker, running.start_worker()
        assert old is not None
        old.kill()
        server.finish(connection, job)
        await save("taken_over", job)
    assert isinstance(server.worker, Worker)
    server.worker.terminate()
    server.worker = running.start_worker(SLICE_S="0.2")
    with scripted(server, 3, 500, latency_s=0.1) as (_, connection):
        job = server.run(connection)
        server.finish(connection, job, 120)
        await save("continued", job)


async def main() -> None:
    version, *kinds = sys.argv[1:]
    place = Path(tempfile.mkdtemp(prefix="airweave-record-"))
    place.chmod(0o711)
    postgres = EmbeddedPostgres(place / "postgres")
    url = postgres.start()
    database = Database(url)
    database.migrate()
    database.close()
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(program),
        dev_server_extra_args=["--dynamic-config-value", f"limit.historyCount.suggestContinueAsNew={ANEW_AFTER}"],
    )
    running = Running(place, url, temporal=Address(env.client.service_client.config.target_host))  # type: ignore[arg-type]
    try:
        server = running.start()
        time.sleep(1)
        await record(version, kinds, running, env, server)
    finally:
        running.stop_all()
        await env.shutdown()
        postgres.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
