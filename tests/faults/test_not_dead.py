"""F22, F24: what is only slow is not taken for dead, and what waits for a worker says so."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from faults.readers import asked_again, readers, until
from invariants import Followed, agree, hold, settled
from running import Running
from servers.scripted_server import ScriptedServer, items

BUSY_S = 8.0
VISIBLE_S = 60.0


@contextmanager
def busy_processors() -> Iterator[None]:
    """One process a core that does nothing but run."""
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin, stdin=subprocess.DEVNULL) for _ in range(os.cpu_count() or 2)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.fault("F22", on="temporal")
def test_a_slow_embedder_on_a_busy_machine_is_not_taken_for_dead(
    apart: Running, database: Database, source: ScriptedServer
) -> None:
    slow = {"EMBEDDER": "test-slow", "TEST_EMBEDDER_DELAY_S": "10", "TEMPORAL_HEARTBEAT_S": "2", "LEASE_S": "2"}
    server, _, _ = readers(apart, 2, **slow)
    source.partitions = {"a": items(30), "b": items(30, prefix="other")}
    connection = server.connect_to(source)
    job = server.run(connection)
    with Followed(server, connection, job):
        until(lambda: server.job(connection, job)["phase"] == "read", 30, "reading")
        with busy_processors():
            time.sleep(BUSY_S)
        ended = server.finish(connection, job, 90)
    assert ended["duration_seconds"] > 10
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 60)
    assert ended["attempts"] == 1
    assert asked_again(source) == 0
    with database.session() as session:
        reads = session.execute(text("select reads, failures, crashes from sync_partition")).all()
    assert [tuple(row) for row in reads] == [(1, 0, 0)] * 2
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, source.listed())


@pytest.mark.fault("F24", on="temporal", only="temporal")
def test_a_job_without_a_worker_says_so_and_runs_when_one_appears(
    apart: Running, database: Database, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    server = apart.start(worker=False)
    source.partitions["a"] = items(20)
    connection = server.connect_to(source)
    job = server.run(connection)
    began_at = time.monotonic()
    with Followed(server, connection, job):
        waiting = server.wait_for(
            lambda: server.job(connection, job), lambda seen: seen["waiting_for"] == "worker", VISIBLE_S
        )
        say(f"said so after {time.monotonic() - began_at:.1f} s")
        assert (waiting["status"], waiting["engine"]) == ("pending", "temporal")
        apart.start_worker()
        ended = server.finish(connection, job, 60)
    assert (ended["status"], ended["engine"], ended["entities_inserted"]) == ("completed", "temporal", 20)
    assert ended["attempts"] == 1
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, source.listed())
