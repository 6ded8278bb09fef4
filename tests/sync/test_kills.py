"""Processes that die, stop, and come back in the middle of a job: ledger, index and source agree in the end."""

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, content, hold
from running import Running, Server, TemporalServer, Worker, in_folder, wait_until_ready, write
from servers.scripted_server import ScriptedServer, items

KILLS, IN_THE_MIDDLE = 20, 15
GRACE_S = 20.0
SLOWNESS_S = ("0.12", "0.02")  # of each batch that is embedded, while there are kills
MOST_QUARANTINED = 3
PATIENT = {"timeout_s": 300, "total_s": 300}  # a source's: it waits for a page that is held
READ_AGAIN = 10  # pages: what a batch of 2 s holds, and the one that was under way
SLOW = {
    "EMBEDDER": "test-slow", "LEASE_S": "0.6", "TICK_S": "0.1",
    "TEMPORAL_HEARTBEAT_S": "2",
}  # fmt: skip


class Pair:
    """Two processes that take the steps of jobs, API processes or workers beside one, and what asks for jobs."""

    def __init__(self, running: Running, **settings: str) -> None:
        self.running = running
        self.settings = settings
        self.servers = [running.start(ready=False, **settings)]
        self.processes: list[Server | Worker]
        if self.servers[0].worker is not None:
            self.processes = [self.servers[0].worker, running.start_worker(**settings)]
        else:
            self.servers.append(running.start(ready=False, **settings))
            self.processes = [*self.servers]

    def server(self, *, besides: Server | Worker | None = None) -> Server:
        """A server that answers."""
        found = next(one for one in self.servers if one is not besides and one.process.poll() is None)
        wait_until_ready(found)
        return found

    def driving(self, job: str) -> Server | Worker | None:
        """Which of them drives the job now."""
        pid = self.running.driving_pid(job)
        return next((one for one in self.processes if one.process.pid == pid and one.process.poll() is None), None)

    def reading(self, connection: str, job: str) -> Server | Worker:
        """Which of them drives the job, once something of it is read."""
        server = self.server()
        server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
        found: Server | Worker = server.wait_for(lambda: self.driving(job), lambda one: one is not None)
        return found

    def kill(self, process: Server | Worker) -> None:
        """Kill this one and start another in its place, without waiting for it."""
        process.kill()
        place = self.processes.index(process)
        if isinstance(process, Server):
            started = self.running.start(ready=False, **self.settings)
            self.servers[self.servers.index(process)] = started
            self.processes[place] = started
        else:
            self.processes[place] = self.running.start_worker(**self.settings)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        for one in (*self.servers, *self.processes):
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGCONT)
                one.process.send_signal(signal.SIGTERM)
        for one in (*self.servers, *self.processes):
            one.process.wait(60)


@pytest.mark.fault("F1", on="in_process")
def test_killed_twenty_times_ledger_index_and_folder_agree_exactly(
    running: Running, fresh_database: Database, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    slowness = running.place / "slowness"
    with Pair(running, TEST_EMBEDDER_CONTROL=str(slowness), **SLOW) as pair:
        folder = pair.server().folder()
        total = 4_500
        write(folder, range(total), version=1)
        collection = pair.server().collection()
        connection = pair.server().connect(collection, "folder", {"path": str(folder)})
        done, middle, moments = 0, 0, []

        def one_job(kills: int) -> dict[str, Any]:
            nonlocal done, middle
            slowness.write_text(SLOWNESS_S[0])
            job = pair.server().run(connection)
            killed, last, until = 0, None, time.monotonic() + 180
            while killed < kills and time.monotonic() < until:
                time.sleep(chance.uniform(0.02, 0.5))
                seen = pair.server().job(connection, job)
                if seen["status"] not in ("pending", "running"):
                    break
                driving = pair.driving(job)
                at = (seen["phase"], seen["entities_encountered"])
                if driving is None or at == last:  # what two die at in a row is quarantined
                    continue
                in_the_middle = seen["status"] == "running" and seen["phase"] != "open"
                middle += in_the_middle
                moments.append(f"{seen['phase']}:{seen['entities_encountered']}")
                pair.kill(driving)
                now = pair.server().job(connection, job)
                last = (now["phase"], now["entities_encountered"])
                slowness.write_text(chance.choice(SLOWNESS_S))
                killed += 1
            done += killed
            slowness.write_text("0")
            return pair.server().finish(connection, job)

        def quarantined(job: dict[str, Any]) -> int:
            """How many entities two readers in a row were lost at; they are read again."""
            server = pair.server()
            reasons = [entry["reason"] for entry in server.ledger(connection, state="failed").values()]
            assert len(reasons) == job["entities_failed"] <= MOST_QUARANTINED
            assert all(reason.startswith("quarantined: ") for reason in reasons), reasons
            if reasons:
                again = server.finish(connection, server.post(f"/source-connections/{connection}/entities/retry")["id"])
                assert (again["status"], again["entities_failed"]) == ("completed", 0), again
            return len(reasons)

        first = one_job(14)
        assert first["status"] == "completed", first["error"]
        assert (first["entities_inserted"] + quarantined(first), first["entities_encountered"]) == (total, total)
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
            written = job["entities_updated"] + job["entities_inserted"]
            assert (written + quarantined(job), job["entities_deleted"]) == (1_300, 40)
        say(f"seed {seed}: {done} kills, {middle} in the middle of a job, at {', '.join(moments)}")
        assert middle >= IN_THE_MIDDLE

        server = pair.server()
        hold(running)
        agree(running, connection, in_folder(folder))
        clean = server.connect(collection, "folder", {"path": str(folder)})
        assert server.sync(clean)["status"] == "completed"
        assert content(running, clean) == content(running, connection)


@pytest.mark.fault("F18", on="temporal")
def test_twenty_runs_at_once_from_two_processes_make_one_job(
    running: Running, fresh_database: Database, source: ScriptedServer, by_times: Callable[[float, float], float]
) -> None:
    one, other = running.start(ready=False), running.start(ready=False, worker=False)
    for server in (one, other):
        wait_until_ready(server)
    source.partitions["a"] = items(40)
    source.latency_s = by_times(0.35, 3)  # four pages take longer than a tick: its schedule is seen while it runs
    connection = one.connect_to(source)
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
    assert jobs[0]["trigger"] == ("api" if started else "schedule")
    ended = one.finish(connection, jobs[0]["id"])
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 40)
    pages = [entry["page"] for entry in source.log if entry["path"] == "/items"]
    assert sorted(pages) == [0, 1, 2, 3]
    hold(running, ended, listed=40)
    agree(running, connection, source.partitions["a"])
    assert len(one.get(f"/source-connections/{connection}/jobs")) == 1
    for server in (one, other):
        server.terminate()


@pytest.mark.fault("F21", on="temporal")
def test_a_stopped_process_that_comes_back_writes_nothing_any_more(
    running: Running, fresh_database: Database, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    with Pair(running) as pair:
        source.partitions["a"] = items(300)
        source.latency_s, source.held_from = 0.15, 20
        connection = pair.server().connect_to(source, **PATIENT)
        job = pair.server().run(connection)
        process = pair.reading(connection, job)
        stays = pair.server(besides=process)
        os.kill(process.process.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            stays.wait_for(lambda: pair.driving(job), lambda now: now not in (None, process), 180)
            say(f"another process took over {time.monotonic() - stopped_at:.1f} s after one was stopped")
            read = stays.job(connection, job)["entities_encountered"]
            source.held_from = None
            stays.wait_for(
                lambda: stays.job(connection, job), lambda seen: seen["entities_encountered"] > min(read, 299)
            )
        finally:
            os.kill(process.process.pid, signal.SIGCONT)
        ended = stays.finish(connection, job)
        assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
        assert ended["attempts"] >= 2
        hold(running, ended, listed=300)
        before = content(running, connection)
        time.sleep(1)
        assert stays.job(connection, job) == ended
        assert content(running, connection) == before
        agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F23", on="temporal")
def test_a_terminated_process_hands_over_to_another_within_its_grace(
    running: Running, fresh_database: Database, source: ScriptedServer
) -> None:
    with Pair(running, LEASE_S="20", TEMPORAL_HEARTBEAT_S="12") as pair:  # a busy machine is no crash
        source.partitions["a"] = items(300)
        source.latency_s, source.held_from = 0.1, 25
        connection = pair.server().connect_to(source, **PATIENT)
        job = pair.server().run(connection)
        process = pair.reading(connection, job)
        stays = pair.server(besides=process)
        began_at = time.monotonic()
        assert process.terminate() == 0
        assert time.monotonic() - began_at < GRACE_S
        read = [entry["page"] for entry in source.log if entry["path"] == "/items"]
        source.held_from = None
        ended = stays.finish(connection, job)
        assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
        assert ended["attempts"] == (1 if running.temporal is not None else 2)  # in process it counts who drove it
        read_after = [entry["page"] for entry in source.log if entry["path"] == "/items"][len(read) :]
        assert min(read_after) >= max(read) - 1  # it went on where it was, not from the beginning
        with fresh_database.session() as session:
            failures = session.execute(
                text("select failures, crashes, failures_in_all from sync_partition where job_id = :id"), {"id": job}
            ).one()
        assert tuple(failures) == (0, 0, 0)
        hold(running, ended, listed=300)
        agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F23", on="in_process")
def test_a_terminated_server_checkpoints_and_the_next_start_goes_on_by_itself(
    running: Running, source: ScriptedServer
) -> None:
    server = running.start()
    source.partitions["a"] = items(300)
    source.latency_s, source.held_from = 0.1, 25
    connection = server.connect_to(source, **PATIENT)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    began_at = time.monotonic()
    assert server.terminate() == 0
    assert time.monotonic() - began_at < GRACE_S
    read = [entry["page"] for entry in source.log if entry["path"] == "/items"]
    source.held_from = None
    again = running.start()
    ended = again.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
    read_after = [entry["page"] for entry in source.log if entry["path"] == "/items"][len(read) :]
    assert min(read_after) >= max(read) - 1  # it went on where it was, not from the beginning
    hold(running, ended, listed=300)
    agree(running, connection, source.partitions["a"])
    again.terminate()


@pytest.mark.fault("F4", on="temporal")
def test_a_job_rides_out_a_database_that_ends_every_connection(
    running: Running, fresh_database: Database, source: ScriptedServer
) -> None:
    server = running.start()
    source.partitions["a"] = items(300)
    source.latency_s, source.held_from = 0.1, 25
    connection = server.connect_to(source, **PATIENT)
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
    source.held_from = None
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
    hold(running, ended, listed=300)
    agree(running, connection, source.partitions["a"])
    server.terminate()


@pytest.mark.fault("F40", on="in_process", only="in_process")
def test_one_replica_takes_over_and_temporal_that_is_switched_on_then_runs_nothing_twice(
    running: Running, fresh_database: Database, source: ScriptedServer, temporal_server: TemporalServer
) -> None:
    one, two, three = (running.start(ready=False) for _ in range(3))
    for server in (one, two, three):
        wait_until_ready(server)
    source.partitions["a"] = items(300)
    source.latency_s, source.held_from = 0.3, 10
    connection = one.connect_to(source, **PATIENT)
    job = one.run(connection)
    servers = {server.process.pid: server for server in (one, two, three)}
    server = one

    def kill_the_driving(held_from: int | None) -> None:
        """Kill it once it reads, and wait until another drives the job and reads on, up to this page."""
        nonlocal server
        read = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)[
            "entities_encountered"
        ]
        pid = server.wait_for(lambda: running.driving_pid(job), lambda found: found in servers)
        servers.pop(pid).kill()
        source.held_from = held_from
        server = next(iter(servers.values()))
        now = server.wait_for(lambda: running.driving_pid(job), lambda now: now not in (None, pid))
        assert now in servers
        server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > read)

    kill_the_driving(held_from=20)
    assert server.job(connection, job)["attempts"] == 2
    settings = {
        "TEMPORAL_ENABLED": "true", "TEMPORAL_HOST": "127.0.0.1", "TEMPORAL_PORT": str(temporal_server.port),
        "TEMPORAL_TASK_QUEUE": running.task_queue,
    }  # fmt: skip
    durable, worker = running.start(**settings), running.start_worker(**settings)
    servers[durable.process.pid] = durable
    refused = durable.http.post(f"/source-connections/{connection}/run")
    assert refused.status_code == 400
    kill_the_driving(held_from=None)
    ended = durable.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"], ended["engine"]) == ("completed", 300, "in_process")
    assert len(durable.get(f"/source-connections/{connection}/jobs")) == 1
    pages = [entry["page"] for entry in source.log if entry["path"] == "/items"]
    assert len(pages) <= 30 + 2 * READ_AGAIN + 2
    hold(running, ended, listed=300)
    agree(running, connection, source.partitions["a"])
    after = durable.sync(connection)
    assert (after["status"], after["engine"], after["entities_kept"]) == ("completed", "temporal", 300)
    hold(running, ended, after)
    assert worker.terminate() == 0
    for left in servers.values():
        left.terminate()
