"""Processes that die, stop, and come back in the middle of a job: ledger, index and source agree in the end."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

KILLS, IN_THE_MIDDLE = 20, 15
SLOW = {"EMBEDDER": "test-slow", "TEST_EMBEDDER_DELAY_S": "0.12", "LEASE_S": "0.6", "TICK_S": "0.1"}

CONTENT = """
    select e.entity_id, e.state, e.chunks, count(c.*), md5(string_agg(c.heading || c.text, '|' order by c.ordinal)),
           count(distinct c.ordinal)
    from entity e left join chunk c on c.entity_row = e.row where e.connection_id = :id group by e.row order by 1
"""


def content(database: Database, connection: str) -> list[Any]:
    with database.session() as session:
        orphans = session.execute(
            text("select count(*) from chunk where entity_row not in (select row from entity)")
        ).scalar_one()
        assert orphans == 0
        rows = [tuple(row) for row in session.execute(text(CONTENT), {"id": connection})]
    assert all(row[2] == row[3] == row[5] for row in rows), "chunks declared, stored and distinct are not the same"
    return rows


def driver_pid(database: Database, job: str) -> int | None:
    with database.session() as session:
        driver = session.execute(
            text("select driver from sync_job where id = :id and driven_until > now()"), {"id": job}
        ).scalar_one_or_none()
    return int(driver.split(":")[1]) if driver else None


@pytest.fixture
def source() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        yield started


def connected(server: Server, source: ScriptedServer) -> str:
    body = {"url": source.url}
    return server.connect(server.collection(), "scripted", body, authentication={"credentials": {"token": "t"}})


class Pair:
    """Two servers on one database, one of which is killed again and again while the other takes over."""

    def __init__(self, running: Running, **settings: str) -> None:
        self.running = running
        self.settings = settings
        self.servers = [running.start(**settings), running.start(**settings)]

    def alive(self) -> Server:
        return next(server for server in self.servers if server.process.poll() is None)

    def kill(self, pid: int) -> None:
        """Kill the one with this pid and start another in its place, without waiting for it."""
        for place, server in enumerate(self.servers):
            if server.process.pid == pid:
                server.kill()
                self.servers[place] = self.running.start(**self.settings)


def write(folder: Path, numbers: range, *, version: int) -> None:
    for number in numbers:
        place = folder / f"d{number % 9}"
        place.mkdir(exist_ok=True)
        (place / f"f{number}.txt").write_text(
            f"version {version} of file {number} tells of word{number}x{version}\n" * 4
        )


def test_killed_twenty_times_ledger_index_and_folder_agree_exactly(
    running: Running, fresh_database: Database, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    pair = Pair(running, **SLOW)
    folder = pair.alive().folder()
    total = 4_500
    write(folder, range(total), version=1)
    collection = pair.alive().collection()
    connection = pair.alive().connect(collection, "folder", {"path": str(folder)})
    done, middle, moments = 0, 0, []

    def one_job(kills: int) -> dict[str, Any]:
        nonlocal done, middle
        job = pair.alive().run(connection)
        killed = 0
        while killed < kills:
            time.sleep(chance.uniform(0.02, 0.5))
            seen = pair.alive().job(connection, job)
            if seen["status"] not in ("pending", "running"):
                break
            pid = driver_pid(fresh_database, job)
            if pid is None:
                continue
            in_the_middle = seen["status"] == "running" and seen["phase"] != "open"
            middle += in_the_middle
            moments.append(f"{seen['phase']}:{seen['entities_encountered']}")
            pair.kill(pid)
            killed += 1
        done += killed
        return pair.alive().finish(connection, job, 120)

    first = one_job(14)
    assert first["status"] == "completed", first["error"]
    assert (first["entities_inserted"], first["entities_encountered"]) == (total, total)
    rounds = 0
    while done < KILLS or middle < IN_THE_MIDDLE:  # and on through jobs that update, insert and delete
        rounds += 1
        changed = range(rounds * 10, rounds * 10 + 1_200)
        write(folder, changed, version=rounds + 1)
        for number in range(total + rounds * 100 - 100, total + rounds * 100):
            write(folder, range(number, number + 1), version=1)
        for number in range(2_000 + rounds * 40, 2_040 + rounds * 40):
            (folder / f"d{number % 9}" / f"f{number}.txt").unlink()
        job = one_job(KILLS - done if done < KILLS else 2)
        assert job["status"] == "completed", job["error"]
        assert (job["entities_updated"], job["entities_inserted"], job["entities_deleted"]) == (1_200, 100, 40)
    say(f"seed {seed}: {done} kills, {middle} in the middle of a job, at {', '.join(moments)}")
    assert middle >= IN_THE_MIDDLE

    server = pair.alive()
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.txt")}
    found = content(fresh_database, connection)
    assert {row[0] for row in found} == there
    clean = server.connect(collection, "folder", {"path": str(folder)})
    assert server.sync(clean, 120)["status"] == "completed"
    assert content(fresh_database, clean) == found
    for pair_server in pair.servers:
        pair_server.terminate()


def test_twenty_runs_at_once_from_two_processes_make_one_job(
    running: Running, fresh_database: Database, source: ScriptedServer
) -> None:
    one, other = running.start(), running.start()
    source.partitions["a"] = items(40)
    source.latency_s = 0.2
    connection = connected(one, source)
    with fresh_database.session() as session:  # and its schedule says now
        session.execute(
            text("update source_connection set cron = '0 0 * * *', next_run_at = now() where id = :id"),
            {"id": connection},
        )
    with ThreadPoolExecutor(20) as pool:
        paths = [(one, other)[number % 2] for number in range(20)]
        answers = list(pool.map(lambda server: server.http.post(f"/source-connections/{connection}/run"), paths))
    started = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert len(started) <= 1
    jobs = one.get(f"/source-connections/{connection}/jobs")
    assert len(jobs) == 1
    assert one.finish(connection, jobs[0]["id"])["entities_inserted"] == 40
    pages = [entry["page"] for entry in source.log if entry["path"] == "/items"]
    assert sorted(pages) == [0, 1, 2, 3]
    for server in (one, other):
        server.terminate()


def test_a_stopped_process_that_comes_back_writes_nothing_any_more(
    running: Running, fresh_database: Database, source: ScriptedServer
) -> None:
    one, other = running.start(), running.start()
    source.partitions["a"] = items(300)
    source.latency_s = 0.15
    connection = connected(one, source)
    job = one.run(connection)
    one.wait_for(lambda: one.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    pid = driver_pid(fresh_database, job)
    assert pid is not None
    stays = other if pid == one.process.pid else one
    os.kill(pid, signal.SIGSTOP)
    try:
        stays.wait_for(lambda: driver_pid(fresh_database, job), lambda now: now not in (None, pid))
    finally:
        os.kill(pid, signal.SIGCONT)
    ended = stays.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"], ended["attempts"]) == ("completed", 300, 2)
    before = content(fresh_database, connection)
    time.sleep(1)
    assert stays.job(connection, job) == ended
    assert content(fresh_database, connection) == before
    for server in (one, other):
        server.terminate()


def test_a_terminated_server_checkpoints_and_the_next_start_goes_on_by_itself(
    running: Running, source: ScriptedServer
) -> None:
    server = running.start()
    source.partitions["a"] = items(300)
    source.latency_s = 0.1
    connection = connected(server, source)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    began_at = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - began_at < 10
    read = [entry["page"] for entry in source.log if entry["path"] == "/items"]
    again = running.start()
    ended = again.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
    read_after = [entry["page"] for entry in source.log if entry["path"] == "/items"][len(read) :]
    assert min(read_after) >= max(read) - 1  # it went on where it was, not from the beginning
    again.terminate()


def test_a_job_rides_out_a_database_that_ends_every_connection(
    running: Running, fresh_database: Database, source: ScriptedServer
) -> None:
    server = running.start()
    source.partitions["a"] = items(300)
    source.latency_s = 0.1
    connection = connected(server, source)
    job = server.run(connection)
    for _ in range(6):
        time.sleep(0.4)
        with fresh_database.session() as session:
            session.execute(
                text("""
                    select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()
                """)
            )
    with suppress(AssertionError):  # one answer may be the 503 of the very moment
        server.job(connection, job)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
    server.terminate()
