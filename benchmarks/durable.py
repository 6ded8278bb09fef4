"""The costs and benefits of Temporal: the time from a request to the first entity, and one job on one to three
workers."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from scripted_server import ScriptedServer, items
from temporalio.client import Client as TemporalClient

from airweave_server import wire
from airweave_server.client import fill

from .empty_workflow import Empty
from .lab import Lab
from .report import Table, spread
from .server import Server, Unfit, free_port, serving

DISPATCHES = 30
ENTITIES, PARTITIONS = 100_000, 12
PAGE, LATENCY_S = 10, 0.005
WORKERS = 3


def run(lab: Lab) -> list[Table]:
    return [_dispatch(lab), _scaling(lab)]


def _dispatch(lab: Lab) -> Table:
    table = Table(
        "7. From a request to the first entity", ("what", "ms p50 (least-greatest)", "times the empty workflow")
    )
    port = free_port()
    count = 5 if lab.quick else DISPATCHES
    with ScriptedServer() as source, _durable(lab, port) as server:
        source.partitions["a"] = items(10)
        connection = _connect(server, source)
        for _ in range(3):
            server.sync(connection)  # everything is loaded
        empty_began, empty_whole = asyncio.run(_empty(f"127.0.0.1:{port}", count))
        ours, whole = [], []
        for _ in range(count):
            source.log.clear()
            asked_at = time.time()
            job = server.client.run(connection)
            while job.status in ("pending", "running"):
                time.sleep(0.02)
                job = server.client.job(connection, job.id)
            whole.append(1_000 * (time.time() - asked_at))
            if job.status != "completed" or job.engine != "temporal":
                raise Unfit(f"a job {job.status} on {job.engine}: {job.error}")
            ours.append(1_000 * (next(entry["at"] for entry in source.log if entry["path"] == "/items") - asked_at))
    base = sorted(empty_whole)[len(empty_whole) // 2]
    for name, found in (
        ("empty workflow, one activity: started to its result", empty_whole),
        ("empty workflow, one activity: started to the activity's first line", empty_began),
        ("a run: request to the first page asked of the source", ours),
        ("a run: request to completed, 10 unchanged entities", whole),
    ):
        table.add(name, spread(found), f"{sorted(found)[len(found) // 2] / base:.2f}")
    table.notes.append(
        f"{count} each, one after the other, on the same Temporal dev server and two cores; our way holds the request, "
        "the job's row, the start of the workflow, signing in, listing the partitions and claiming the first."
    )
    return table


def _scaling(lab: Lab) -> Table:
    entities = 2_000 if lab.quick else ENTITIES
    table = Table(
        f"8. {entities:,} entities, {LATENCY_S * 1000:.0f} ms a page of {PAGE}",
        (
            "workers",
            "slices each at once",
            "job s",
            "entities/s",
            "times one worker",
            "share of each worker",
            "events in the workflow's history",
            "bounded by",
        ),
    )
    for threads in (1, 4):
        alone = 0.0
        for workers in (1, WORKERS):
            lab.say(f"{entities:,} entities on {workers} workers, {threads} slices each")
            seconds, shares, events = _one_job(lab, entities, workers, threads)
            alone = alone or seconds
            table.add(
                str(workers),
                str(threads),
                f"{seconds:.1f}",
                f"{entities / seconds:,.0f}",
                f"{alone / seconds:.2f}",
                ", ".join(f"{share:.0%}" for share in shares),
                str(events),
                "one thread's wait for the source, for Postgres and for its own work"
                if workers == threads == 1
                else "the two cores that workers, Postgres, source and servers share",
            )
    table.notes.append(f"{PARTITIONS} partitions, at most 4 of one job side by side (the source's max_parallel).")
    table.notes.append("Source, Postgres, Temporal, API and workers share the two cores: a cluster would not.")
    return table


def _one_job(lab: Lab, entities: int, workers: int, threads: int) -> tuple[float, list[float], int]:
    port = free_port()
    with ScriptedServer() as source, _durable(lab, port, JOB_THREADS=str(threads)) as server:
        each = entities // PARTITIONS
        for number in range(PARTITIONS):
            more = entities - each * PARTITIONS if number == 0 else 0
            source.partitions[f"p{number}"] = items(each + more, prefix=f"p{number}")
        source.page_size, source.latency_s = PAGE, LATENCY_S
        connection = _connect(server, source)
        logs = [server.log]
        beside = []
        try:
            for number in range(workers - 1):
                logs.append(lab.place / f"worker-{uuid4()}-{number}.log")
                with logs[-1].open("wb") as output:
                    beside.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "airweave_server", "worker"],
                            stdin=subprocess.DEVNULL,
                            stdout=output,
                            stderr=output,
                            env={**server.environment, "TEMPORAL_ENABLED": "true", "TEMPORAL_HOST": "127.0.0.1"},
                        )
                    )
            _until_seen(server, workers)
            done = server.sync(connection, inserted=entities)
            job = str(server.client.jobs(connection, limit=1)[0].id)
            events = asyncio.run(_events(f"127.0.0.1:{port}", job))
        finally:
            for process in beside:
                process.send_signal(signal.SIGTERM)
            for process in beside:
                process.wait(40)
        read = [_read_by(log) for log in logs]
    return done.job_s, [count / max(sum(read), 1) for count in read], events


@contextmanager
def _durable(lab: Lab, port: int, **settings: str) -> Iterator[Server]:
    given = {
        "TEMPORAL_PORT": str(port),
        "TEMPORAL_UI_PORT": str(free_port()),
        "ENABLE_INTERNAL_SOURCES": "true",
        "ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
        **settings,
    }
    with serving(lab.place, "--temporal", **given) as server:
        _until_seen(server, 1)
        yield server


def _until_seen(server: Server, workers: int) -> None:
    deadline = time.monotonic() + 60
    while server.client.health().workers != workers:
        if time.monotonic() > deadline:
            raise Unfit(f"{workers} workers were not seen within a minute")
        time.sleep(0.2)


def _connect(server: Server, source: ScriptedServer) -> str:
    server.client.ensure_collection("bench")
    body = fill(
        wire.SourceConnectionCreate,
        short_name="scripted",
        readable_collection_id="bench",
        name="benchmark",
        config={"url": source.url},
        authentication={"credentials": {"token": "t"}},
        sync_immediately=False,
        schedule={"cron": None},
    )
    return str(server.client.create_connection(body).id)


def _read_by(log: Path) -> int:
    """The number of entities committed by the worker that wrote this log."""
    counted: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r'"event": "slice_read"', line):
            counted["entities"] += int(json.loads(line)["entities"])
    return counted["entities"]


async def _events(address: str, job: str) -> int:
    client = await TemporalClient.connect(address)
    return len((await client.get_workflow_handle(f"sync-{job}").fetch_history()).events)


async def _empty(address: str, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the start of an empty workflow to its activity, and to its result."""
    queue = f"empty-{uuid4()}"
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.empty_workflow", address, queue], stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        client = await TemporalClient.connect(address)
        began, whole = [], []
        for turn in range(count + 3):
            asked_at = time.time()
            at = await client.execute_workflow(Empty.run, id=f"empty-{uuid4()}", task_queue=queue)
            if turn >= 3:  # everything is loaded
                began.append(1_000 * (at - asked_at))
                whole.append(1_000 * (time.time() - asked_at))
        worker.send_signal(signal.SIGTERM)
    return began, whole
