"""Workers that are killed again and again while they read partitions of one job side by side."""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from airweave_server.db.session import Database
from faults.readers import Kept
from invariants import agree, content, hold, settled
from running import Running, in_folder, write

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
