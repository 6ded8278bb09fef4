"""Workers that are killed again and again while they read partitions of one job side by side."""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from airweave_server.db.session import Database
from airweave_server.temporal.client import DECISION_S
from faults.readers import Kept, reader_of
from invariants import agree, content, hold, settled
from running import Running, in_folder, write
from servers.scripted_server import ScriptedServer, items

KILLS, IN_THE_MIDDLE, WORKERS = 20, 15, 3
TOTAL, CHANGED, NEW, GONE = 2_700, 600, 90, 30
SLOW = {"EMBEDDER": "test-slow", "TEST_EMBEDDER_DELAY_S": "0.02"}


@pytest.mark.fault("F1", on="temporal", only="temporal")
def test_workers_killed_twenty_times_ledger_index_and_folder_agree_exactly(
    running: Running, fresh_database: Database, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    server = running.start(worker=False, **SLOW)
    folder, collection = server.folder(), server.collection()
    write(folder, range(TOTAL), version=1)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    done, middle, jobs = 0, 0, 0
    moments: list[str] = []

    def one_job(kept: Kept, kills: int) -> dict[str, Any]:
        nonlocal done, middle, jobs
        job = server.run(connection)
        jobs += 1
        killed = 0
        while killed < kills:
            time.sleep(chance.uniform(0.1, 0.8))
            seen = server.job(connection, job)
            if seen["status"] not in ("pending", "running"):
                break
            alive = [one for one in kept.processes if one.process.poll() is None]
            if not alive or seen["status"] == "pending":
                continue
            middle += seen["phase"] != "open"
            moments.append(f"{seen['phase']}:{seen['entities_encountered']}")
            chance.choice(alive).process.kill()
            killed += 1
        done += killed
        ended = server.finish(connection, job, 240)
        assert ended["status"] == "completed", ended["error"]
        assert ended["partitions_total"] >= 8
        return ended

    with Kept(lambda: running.start_worker(**SLOW), [running.ready_worker(**SLOW) for _ in range(WORKERS)]) as kept:
        first = one_job(kept, 14)
        assert (first["entities_inserted"], first["entities_encountered"]) == (TOTAL, TOTAL)
        settled(server, connection, first)
        hold(running, first, listed=TOTAL)
        while done < KILLS or middle < IN_THE_MIDDLE:  # and on through jobs that update, insert and delete
            write(folder, range(jobs * 10, jobs * 10 + CHANGED), version=jobs + 1)
            write(folder, range(TOTAL + NEW * (jobs - 1), TOTAL + NEW * jobs), version=1)
            for number in range(1_500 + GONE * (jobs - 1), 1_500 + GONE * jobs):
                (folder / f"d{number % 9}" / f"f{number}.txt").unlink()
            job = one_job(kept, KILLS - done if done < KILLS else 2)
            found = (job["entities_updated"], job["entities_inserted"], job["entities_deleted"])
            assert found == (CHANGED, NEW, GONE)
            settled(server, connection, job, jobs=jobs)
            hold(running, job)
    say(f"seed {seed}: {done} kills, {middle} in the middle of a job, in {jobs} jobs, at {', '.join(moments)}")

    agree(running, connection, in_folder(folder))
    clean = server.connect(collection, "folder", {"path": str(folder)})
    running.ready_worker(**SLOW)
    assert server.sync(clean, 120)["status"] == "completed"
    assert content(running, clean) == content(running, connection)


@pytest.mark.fault("F21", on="temporal", only="temporal")
def test_a_stopped_worker_costs_a_bounded_time(
    apart: Running, source: ScriptedServer, say: Callable[[str], None], by_times: Callable[[float, float], float]
) -> None:
    """Its open polls are still given work, until the server has pinged it in vain."""
    heartbeat_s = by_times(3, 12)
    times = {"TEMPORAL_HEARTBEAT_S": str(heartbeat_s), "SLICE_S": "2"}
    server = apart.start(worker=False, **times)
    workers = [apart.ready_worker(**times) for _ in range(2)]
    source.partitions["a"] = items(150)
    source.page_size, source.latency_s = 10, 0.3
    connection = server.connect_to(source)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 20)
    stopped = reader_of(source, workers)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    last_at, asked, silent_s = time.monotonic(), len(source.log), 0.0
    while server.job(connection, job)["status"] == "running":
        now, seen = time.monotonic(), len(source.log)
        if seen != asked:
            silent_s += max(0.0, now - last_at - 1)
            last_at, asked = now, seen
        time.sleep(0.05)
    silent_s += max(0.0, time.monotonic() - last_at - 1)
    stopped.kill()
    ended = server.job(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 150)
    say(f"nobody read for {silent_s:.1f} s in all, with heartbeats of {heartbeat_s:g} s")
    assert silent_s < 2 * heartbeat_s + 3 + DECISION_S
    hold(apart, ended)
    agree(apart, connection, source.listed())
