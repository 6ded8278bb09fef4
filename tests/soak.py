"""Random faults on a whole installation for minutes on end; now and then they stop, and the invariants are checked.

    .venv/bin/python tests/soak.py --minutes 20 --seed 7 --driver both

The seed decides what is done and in which order, the machine when it hits. Exits 1 with the evidence when anything that
must hold does not.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from airweave_server.errors import Unstartable
from airweave_server.settings import Settings
from invariants import agree, hold, watch
from running import TERMINAL, Running, Server, TemporalServer, Worker, in_folder
from servers.scripted_server import ScriptedServer, items
from small_disk import fill, mounted

APIS, WORKERS = 2, 2
ROUND_S = 90.0  # of faults, between two checks
CALM_S = 120.0  # in which every job must come to its end once the faults stop
OWNERLESS_S = 60.0  # that a job may be without an owner, though there is nothing that it waits for
SETTINGS = {"EMBEDDER": "test-slow", "TEST_EMBEDDER_DELAY_S": "0.03", "JOB_THREADS": "4"}
PATIENCE = {"timeout_s": 2, "total_s": 4, "attempts": 2, "backoff_s": 0.05, "patience_s": 1}
KEPT = 20  # entities of each connection that nobody touches: their rows in the ledger must never change
SOURCE_FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 429, "retry_after": "1", "times": 4},
    {"kind": "status", "status": 500, "probability": 0.5, "times": 20},
    {"kind": "status", "status": 503, "times": 6},
    {"kind": "reset", "times": 6},
    {"kind": "truncate", "times": 4},
    {"kind": "cut", "times": 4},
    {"kind": "hang", "times": 2},
    {"kind": "slow", "latency_s": 1.0, "times": 6},
    {"kind": "empty", "times": 1},
    {"kind": "end", "times": 1},
]
DISK_MB = 700  # of Postgres' data, if a small file system can be mounted
# For these rows the clock of the database goes back by an hour. Ended jobs keep their times, which ``Watch`` compares.
STEP_BACK = """
    update lease set taken_at = taken_at + interval '1 hour', until = until + interval '1 hour';
    update sync_partition set leased_at = leased_at + interval '1 hour', lease_until = lease_until + interval '1 hour',
                              delayed_at = delayed_at + interval '1 hour', not_before = not_before + interval '1 hour',
                              waiting_since = waiting_since + interval '1 hour';
    update sync_job set driven_at = driven_at + interval '1 hour', driven_until = driven_until + interval '1 hour',
                        delayed_at = delayed_at + interval '1 hour', not_before = not_before + interval '1 hour',
                        created_at = created_at + interval '1 hour', started_at = started_at + interval '1 hour'
    where status in ('pending', 'running', 'cancelling');
    update source_pace set booked_at = booked_at + interval '1 hour', free_at = free_at + interval '1 hour'
"""
LEFT_OVER = """
    select (select count(*) from entity where connection_id not in (select id from source_connection)) as of_gone,
           (select count(*) from source_connection where deleted_at is not null) as not_purged
"""
JOBS = """
    select id::text, connection_id::text as connection, status, error, completed_at, engine, driver, waiting_for,
           coalesce(driven_until < now() or driven_at > now(), true)
           and coalesce(not_before < now() or delayed_at > now(), true) as is_ownerless
    from sync_job
"""


def say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


class Violation(Exception):
    """Something that must hold does not."""


@dataclass
class Connected:
    """One connection, and what it reads."""

    id: str
    collection: str
    source: ScriptedServer | None = None
    folder: Path | None = None
    made: int = 0
    rows: dict[str, int] | None = None  # of the entities that are kept, by id

    def listed(self) -> list[dict[str, Any]]:
        if self.source is not None:
            return self.source.listed()
        assert self.folder is not None
        return in_folder(self.folder)

    def edit(self, chance: random.Random) -> None:
        """Change, add, move and remove a few, and leave the first ones alone."""
        kind = chance.choice(["edit", "edit", "add", "remove", "move"])
        if self.source is not None:
            self._edit_items(kind, chance)
            return
        assert self.folder is not None
        files = sorted(path for path in self.folder.rglob("*.txt") if not path.name.startswith("kept"))
        for path in chance.sample(files, min(len(files), chance.randint(1, 12))):
            if kind == "edit":
                path.write_text(f"edited {uuid4().hex} {path.name}\n")
            elif kind == "remove" and len(files) > 60:
                path.unlink()
            elif kind == "move":
                path.rename(self.folder / f"d{chance.randrange(5)}" / path.name)
        if kind == "add":
            for _ in range(chance.randint(1, 20)):
                self.made += 1
                (self.folder / f"d{self.made % 5}").mkdir(exist_ok=True)
                (self.folder / f"d{self.made % 5}" / f"f{self.made}.txt").write_text(f"new {uuid4().hex}\n")

    def move(self, chance: random.Random) -> None:
        """Move some from one folder or partition to another: they are at the source at every moment."""
        if self.source is not None:
            with self.source.lock:
                here, there = chance.sample(sorted(self.source.partitions), 2)
                movable = [item for item in self.source.partitions[here] if not item["id"].startswith("kept")]
                for item in chance.sample(movable, min(len(movable), 5)):
                    self.source.put(there, item)
                    self.source.remove(here, item["id"])
            return
        assert self.folder is not None
        files = sorted(path for path in self.folder.rglob("*.txt") if not path.name.startswith("kept"))
        for path in chance.sample(files, min(len(files), 8)):
            target = self.folder / f"d{chance.randrange(5)}"
            target.mkdir(exist_ok=True)
            path.rename(target / path.name)

    def _edit_items(self, kind: str, chance: random.Random) -> None:
        assert self.source is not None
        with self.source.lock:
            key = chance.choice(sorted(self.source.partitions))
            movable = [item for item in self.source.partitions[key] if not item["id"].startswith("kept")]
            some = chance.sample(movable, min(len(movable), chance.randint(1, 12)))
            if kind == "add":
                for _ in range(chance.randint(1, 20)):
                    self.made += 1
                    new = {"id": f"new-{self.made}", "name": "new", "text": f"new {uuid4().hex}", "version": "1"}
                    self.source.put(key, new)
            for item in some:
                if kind == "edit":
                    self.source.put(key, {**item, "text": f"edited {uuid4().hex}", "version": uuid4().hex})
                elif kind == "remove" and len(movable) > 40:
                    self.source.remove(key, item["id"])


class Watch:
    """Looks at the jobs in the database all the time: an end is an end, and nothing that is due lacks an owner."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ended: dict[str, tuple[Any, ...]] = {}
        self._ownerless: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.violations: list[str] = []
        self.longest_ownerless_s = 0.0
        self.looks = 0
        self.ends: Counter[str] = Counter()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)

    def _loop(self) -> None:
        while not self._stopping.wait(0.2):
            try:
                with self._database.session() as session:
                    rows = session.execute(text(JOBS)).all()
            except SQLAlchemyError:
                self._ownerless.clear()  # nobody can own anything while Postgres is away
                continue
            self.looks += 1
            self._judge(rows)

    def _judge(self, rows: Any) -> None:
        now = time.monotonic()
        active: Counter[str] = Counter()
        for row in rows:
            if row.status in TERMINAL:
                end = (row.status, row.error, row.completed_at)
                if row.id not in self._ended:
                    self._ended[row.id] = end
                    self.ends[row.status] += 1
                elif self._ended[row.id] != end:
                    self.violations.append(f"job {row.id} had ended as {self._ended[row.id]} and is now {end}")
                    self._ended[row.id] = end
                self._ownerless.pop(row.id, None)
                continue
            if row.id in self._ended:
                self.violations.append(f"job {row.id} had ended as {self._ended[row.id]} and is {row.status} again")
                del self._ended[row.id]
            active[row.connection] += 1
            if not row.is_ownerless:
                self._ownerless.pop(row.id, None)
                continue
            without_s = now - self._ownerless.setdefault(row.id, now)
            self.longest_ownerless_s = max(self.longest_ownerless_s, without_s)
            if without_s > OWNERLESS_S:
                self.violations.append(f"nobody has owned job {row.id} for {without_s:.0f} s: {tuple(row)}")
                self._ownerless[row.id] = now
        for connection, count in active.items():
            if count > 1:
                self.violations.append(f"connection {connection} has {count} active jobs")


class Soak:
    """One installation on one driver, and everything that is done to it."""

    def __init__(self, place: Path, chance: random.Random, driver: str) -> None:
        self.place = place
        self.chance = chance
        self.disk = self._mount_small(place / "postgres")
        self.postgres = EmbeddedPostgres(place / "postgres")
        url = self.postgres.start()
        self.database = Database(url)
        self.database.check()
        self.database.migrate()
        watch(self.database)
        self.temporal = TemporalServer(place / "temporal") if driver == "temporal" else None
        self.running = Running(place, url, temporal=self.temporal)
        self.apis: list[Server] = [self.running.start(worker=False, **SETTINGS) for _ in range(APIS)]
        count = WORKERS if self.temporal else 0
        self.workers: list[Worker] = [self.running.start_worker(**SETTINGS) for _ in range(count)]
        self.sources: list[ScriptedServer] = []
        self.connections: list[Connected] = []
        self.done: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.violations: list[str] = []
        self.checks: list[dict[str, Any]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []  # what is to be mended, and when
        self.awaited: set[int] = set()  # processes that were told to end, and in whose place others are to start
        self.temporal_is_down = self.postgres_is_down = False
        self.watch = Watch(self.database)
        for kind in ("scripted", "scripted", "scripted_incremental", "folder", "folder"):
            self.connect(kind)

    def stop(self) -> None:
        self.watch.stop()
        self.mend_all()
        self.running.stop_all()
        if self.temporal is not None:
            self.temporal.stop()
        for source in self.sources:
            source.stop()
        self.database.close()
        self.postgres.stop()
        self.disk.close()

    # What users do

    def api(self, method: str, path: str, body: Any = None, *, patience_s: float = 20) -> Any:
        """The JSON of the first good answer of any API, None when the answer is no. 500 is a violation."""
        deadline = time.monotonic() + patience_s
        while True:
            server = self.chance.choice(self.apis)
            try:
                answer = httpx.request(method, server.url + path, json=body, timeout=10)
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(answer.status_code)] += 1
                if answer.status_code == 500:
                    self.violations.append(f"{method} {path}: 500 {answer.text}\n{server.troubles()[-3000:]}")
                if answer.status_code == 200:
                    return answer.json()
                if answer.status_code < 500:
                    return None
            if time.monotonic() > deadline:
                return None
            self.mend_due()
            time.sleep(0.1)

    def connect(self, kind: str) -> None:
        name = f"c-{uuid4().hex[:12]}"
        if self.api("POST", "/collections", {"name": f"Soak {name}", "readable_id": name}) is None:
            return
        made = Connected("", name)
        config: dict[str, Any] = {}
        if kind == "folder":
            made.folder = self.running.folders / name
            for number in range(150):
                (made.folder / f"d{number % 5}").mkdir(parents=True, exist_ok=True)
                stem = f"kept{number}" if number < KEPT else f"f{number}"
                (made.folder / f"d{number % 5}" / f"{stem}.txt").write_text(f"{stem} tells of word{stem}x\n" * 5)
            config, made.made = {"path": str(made.folder)}, 150
        else:
            made.source = ScriptedServer().start()
            made.source.latency_s = 0.1
            made.source.seed(self.chance.randrange(10**6))
            for key in "abc":
                for item in [*items(KEPT // 2, prefix=f"kept-{key}"), *items(60, prefix=key)]:
                    made.source.put(key, item)
            self.sources.append(made.source)
            config = {"url": made.source.url, **PATIENCE}
        body = {
            "short_name": kind, "readable_collection_id": name, "config": config, "sync_immediately": False,
            "schedule": {"cron": None},
            **({} if kind == "folder" else {"authentication": {"credentials": {"token": "t"}}}),
        }  # fmt: skip
        answer = self.api("POST", "/source-connections", body)
        if answer is not None:
            made.id = answer["id"]
            self.connections.append(made)

    def do_run(self) -> None:
        connection = self.chance.choice(self.connections)
        self.api("POST", f"/source-connections/{connection.id}/run", {"force_full_sync": self.chance.random() < 0.2})

    def do_edit(self) -> None:
        self.chance.choice(self.connections).edit(self.chance)

    def do_move(self) -> None:
        """Move files in the middle of a sync, if one can be started."""
        connection = self.chance.choice(self.connections)
        self.api("POST", f"/source-connections/{connection.id}/run", {}, patience_s=2)
        time.sleep(self.chance.uniform(0, 1))
        connection.move(self.chance)

    def do_search(self) -> None:
        """What is kept is found by its word, in whatever is going on."""
        connection = self.chance.choice(self.connections)
        if not connection.rows:
            return
        id = self.chance.choice(sorted(connection.rows))
        word = f"word{Path(id).stem}x" if connection.folder else _word(id)
        body = {"query": word, "limit": 20}
        answer = self.api("POST", f"/collections/{connection.collection}/search/instant", body, patience_s=5)
        if answer is not None:
            found = [hit["airweave_system_metadata"]["original_entity_id"] for hit in answer["results"]]
            if id not in found:
                self.violations.append(f"a search for {word} in {connection.collection} did not find {id}: {found}")

    def do_cancel(self) -> None:
        connection = self.chance.choice(self.connections)
        listed = self.api("GET", f"/source-connections/{connection.id}/jobs?limit=1")
        if listed:
            self.api("POST", f"/source-connections/{connection.id}/jobs/{listed[0]['id']}/cancel")

    def do_delete(self) -> None:
        connection = self.chance.choice(self.connections)
        kind = "folder" if connection.folder else "scripted"
        if self.api("DELETE", f"/source-connections/{connection.id}") is not None:
            self.connections.remove(connection)
            self.connect(kind)
        elif self.api("GET", f"/source-connections/{connection.id}") is None:
            self.connections.remove(connection)  # it was done, and the answer lost

    # What befalls them

    def do_source_fault(self) -> None:
        sources = [connection.source for connection in self.connections if connection.source]
        if sources:
            self.chance.choice(sources).fault(**self.chance.choice(SOURCE_FAULTS))

    def do_kill_api(self) -> None:
        self._end(self.apis, signal.SIGKILL)

    def do_stop_api(self) -> None:
        self._pause(self.apis)

    def do_term_api(self) -> None:
        self._end(self.apis, signal.SIGTERM)

    def do_kill_worker(self) -> None:
        self._end(self.workers, signal.SIGKILL)

    def do_stop_worker(self) -> None:
        self._pause(self.workers)

    def do_term_worker(self) -> None:
        self._end(self.workers, signal.SIGTERM)

    def do_kill_temporal(self) -> None:
        if self.temporal is None or self.temporal_is_down:
            return
        self.temporal.kill()
        self.temporal_is_down = True
        if self.chance.random() < 0.3:
            self.temporal.forget()
            self.done["lose Temporal's database"] += 1
        self._after(self.chance.uniform(0, 8), self._start_temporal)

    def do_end_backends(self) -> None:
        with suppress(SQLAlchemyError), self.database.session() as session:
            session.execute(
                text("""
                    select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()
                """)
            )

    def do_fill_disk(self) -> None:
        """Another program fills the disk of Postgres for a while, if it is a small one of its own."""
        if not self.has_small_disk:
            return
        filler = fill(self.place / "postgres")
        self._after(self.chance.uniform(0.5, 8), lambda: filler.unlink(missing_ok=True))

    def do_step_clock_back(self) -> None:
        with suppress(SQLAlchemyError), self.database.session() as session:
            session.execute(text(STEP_BACK))

    def do_change_queue(self) -> None:
        """TEMPORAL_TASK_QUEUE is changed: every process gets the new one when it starts again, one after the other."""
        self.running.task_queue = f"q-{uuid4().hex[:12]}"
        for processes in (self.apis, self.workers):
            for place, one in enumerate(processes):
                if one.process.poll() is None and id(one.process) not in self.awaited:
                    self._end_at(processes, place, signal.SIGTERM)

    def do_restart_postgres(self) -> None:
        if not self.postgres_is_down:
            self.postgres_is_down = True
            self.postgres.stop()
            self._after(self.chance.uniform(0, 3), self._start_postgres)

    def do_kill_postgres(self) -> None:
        file = next((self.place / "postgres").rglob("postmaster.pid"), None)
        if not self.postgres_is_down and file is not None:
            self.postgres_is_down = True
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(file.read_text().split()[0])).kill()
            self._after(self.chance.uniform(0, 3), self._start_postgres)

    def _end(self, processes: list[Any], number: signal.Signals) -> None:
        """End one of them, and start another in its place a little later."""
        alive = [place for place, one in enumerate(processes) if one.process.poll() is None]
        if not alive:
            return
        place = self.chance.choice(alive)
        if id(processes[place].process) not in self.awaited:
            self._end_at(processes, place, number)

    def _end_at(self, processes: list[Any], place: int, number: signal.Signals) -> None:
        process = processes[place].process
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        self.awaited.add(id(process))
        self._after(self.chance.uniform(0, 4), lambda: self._start(processes, place))

    def _pause(self, processes: list[Any]) -> None:
        alive = [one for one in processes if one.process.poll() is None]
        if alive:
            process = self.chance.choice(alive).process
            process.send_signal(signal.SIGSTOP)
            self._after(self.chance.uniform(0.5, 8), lambda: process.poll() is None and _go_on(process))

    def _start(self, processes: list[Any], place: int) -> None:
        old = processes[place]
        if old.process.poll() is None:
            with suppress(Exception):
                old.process.wait(30)
            if old.process.poll() is None:
                self.violations.append(f"a process did not end within 30 s of SIGTERM: {old.log.name}")
                old.process.kill()
                old.process.wait()
        what = "an API" if isinstance(old, Server) else "a worker"
        if id(old.process) not in self.awaited:
            self.done[f"{what} ended by itself with {old.process.returncode}"] += 1
        elif old.process.returncode != -signal.SIGKILL:
            self.done[f"{what} ended on SIGTERM with {old.process.returncode}"] += 1
        self.awaited.discard(id(old.process))
        if isinstance(old, Server):
            old.http.close()
            processes[place] = self.running.start(ready=False, worker=False, **SETTINGS)
        else:
            processes[place] = self.running.start_worker(**SETTINGS)

    def _start_temporal(self) -> None:
        assert self.temporal is not None
        self.temporal.start()
        self.temporal_is_down = False

    def _start_postgres(self) -> None:
        self.postgres.start()
        self.postgres_is_down = False

    def _after(self, seconds: float, mend: Callable[[], Any]) -> None:
        self.later.append((time.monotonic() + seconds, mend))

    def mend_due(self) -> None:
        due = [entry for entry in self.later if entry[0] <= time.monotonic()]
        for entry in due:
            self.later.remove(entry)
            entry[1]()
        if not self.postgres_is_down:  # as ``up`` does
            with suppress(Unstartable):
                if self.postgres.ensure():
                    self.done["Postgres died and was started again"] += 1
        for processes in (self.apis, self.workers):  # as what supervises them does
            for place, one in enumerate(processes):
                if one.process.poll() is not None and id(one.process) not in self.awaited:
                    self._start(processes, place)

    def mend_all(self) -> None:
        """End every fault: what was stopped goes on, what ended is started again."""
        for source in self.sources:
            with source.lock:
                source.faults.clear()
        while self.later:
            self.later.pop(0)[1]()
        self.postgres.ensure()
        for processes in (self.apis, self.workers):
            for place, one in enumerate(processes):
                if one.process.poll() is not None:
                    self._start(processes, place)

    def _mount_small(self, place: Path) -> ExitStack:
        """A small disk for ``place``, unmounted when this is closed; nothing if we may not mount."""
        stack = ExitStack()
        self.has_small_disk = False
        with suppress(pytest.skip.Exception):
            stack.enter_context(mounted(place, f"{DISK_MB}m"))
            self.has_small_disk = True
        return stack

    # What must hold

    def play(self, seconds: float) -> None:
        """Random acts for this time."""
        acts = {
            "run": 12, "edit": 10, "search": 12, "cancel": 2, "delete": 0.7, "source_fault": 5, "kill_api": 1,
            "stop_api": 1, "term_api": 1, "end_backends": 1, "restart_postgres": 0.4, "kill_postgres": 0.4,
            "move": 3, "fill_disk": 0.5, "step_clock_back": 0.3,
        }  # fmt: skip
        if self.temporal is not None:
            acts |= {"kill_worker": 2, "stop_worker": 2, "term_worker": 1, "kill_temporal": 0.7, "change_queue": 0.2}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            (act,) = self.chance.choices(list(acts), list(acts.values()))
            self.done[act] += 1
            getattr(self, f"do_{act}")()
            self.mend_due()
            self._stop_if_wrong()
            time.sleep(self.chance.uniform(0.02, 0.5))

    def check(self) -> None:
        """Faults end; every job comes to its end, and then index, ledger and source are the same."""
        began_at = time.monotonic()
        self.mend_all()
        self._until("every process is ready", self._is_ready, CALM_S)
        ready_s = time.monotonic() - began_at
        self._until("every job has ended", lambda: not self._active(), CALM_S)
        calm_s = time.monotonic() - began_at
        entities = held = 0
        for connection in self.connections:
            job = self._full_sync(connection)
            if job["held_deletes"]:
                held += job["held_deletes"]
                self._approve(connection)
            try:
                agree(self.running, connection.id, connection.listed())
            except AssertionError as error:
                raise Violation(f"connection {connection.id}: {error}\n{self._jobs_of(connection)}") from None
            entities += self._same_rows(connection)
        self._until("nothing is left over", lambda: not any(self._left_over()), CALM_S)
        try:
            hold(self.running)
        except AssertionError as error:
            raise Violation(str(error)) from None
        self._stop_if_wrong()
        self.checks.append(
            {
                "ready after s": round(ready_s, 1),
                "jobs ended after s": round(calm_s, 1),
                "entities": entities,
                "held deletes": held,
                "checked in s": round(time.monotonic() - began_at, 1),
            }
        )
        say(f"check {len(self.checks)}: {self.checks[-1]}")

    def _full_sync(self, connection: Connected) -> dict[str, Any]:
        started = self.api("POST", f"/source-connections/{connection.id}/run", {"force_full_sync": True})
        if started is None:
            raise Violation(f"no sync of connection {connection.id} can be started though none is active")
        job: dict[str, Any] = self._ended(connection, started["id"])
        if job["status"] != "completed":
            raise Violation(f"a full sync without faults ended as {job}")
        counted = sum(job[f"entities_{name}"] for name in ("inserted", "updated", "kept", "skipped", "failed"))
        if counted != len(connection.listed()):
            raise Violation(f"a full sync counted {counted} of {len(connection.listed())} entities: {job}")
        return job

    def _approve(self, connection: Connected) -> None:
        for plan in self.api("GET", f"/source-connections/{connection.id}/held-deletes") or []:
            asked = f"/source-connections/{connection.id}/held-deletes/{plan['id']}/approve"
            approval = self.api("POST", asked)
            if approval is None or self._ended(connection, approval["id"])["status"] != "completed":
                raise Violation(f"held deletes of connection {connection.id} cannot be approved: {approval}")

    def _ended(self, connection: Connected, job: str) -> dict[str, Any]:
        path = f"/source-connections/{connection.id}/jobs/{job}"
        seen: list[Any] = [None]

        def has_ended() -> bool:
            seen[0] = self.api("GET", path)
            return seen[0] is not None and seen[0]["status"] in TERMINAL

        self._until(f"job {job} has ended", has_ended, CALM_S)
        return dict(seen[0])

    def _same_rows(self, connection: Connected) -> int:
        """Rows of what nobody touched: another row means that it was deleted and came again."""
        with self.database.session() as session:
            rows = session.execute(
                text("select entity_id, row from entity where connection_id = :id"), {"id": connection.id}
            ).all()
        kept = {row.entity_id: row.row for row in rows if "kept" in row.entity_id}
        if connection.rows is not None and kept != connection.rows:
            raise Violation(
                f"entities that always existed were deleted: {sorted(connection.rows.items() ^ kept.items())}"
            )
        connection.rows = kept
        return len(rows)

    def _is_ready(self) -> bool:
        for server in self.apis:
            try:
                answer = httpx.get(f"{server.url}/health/ready", timeout=5)
            except httpx.HTTPError:
                return False
            if answer.status_code != 200:
                return False
        return all("worker_ready" in worker.log.read_text(errors="replace") for worker in self.workers)

    def _active(self) -> list[Any]:
        with self.database.session() as session:
            return [tuple(row) for row in session.execute(text(JOBS)).all() if row.status not in TERMINAL]

    def _left_over(self) -> tuple[int, ...]:
        with self.database.session() as session:
            return tuple(session.execute(text(LEFT_OVER)).one())

    def _jobs_of(self, connection: Connected) -> str:
        with self.database.session() as session:
            newest = text("""
                select id, status, phase, mode, engine, error, resumed_from, created_at, completed_at from sync_job
                where connection_id = :id order by created_at desc limit 5
            """)
            return "\n".join(str(tuple(row)) for row in session.execute(newest, {"id": connection.id}))

    def _until(self, what: str, good: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while True:
            with suppress(SQLAlchemyError):
                if good():
                    return
            self._stop_if_wrong()
            if time.monotonic() > deadline:
                raise Violation(f"not within {limit_s:g} s: {what}; {self._active()}; left over: {self._left_over()}")
            time.sleep(0.2)

    def _stop_if_wrong(self) -> None:
        if wrong := self.violations + self.watch.violations:
            raise Violation("\n".join(wrong))

    def summary(self, driver: str) -> str:
        lines = [f"\n## {driver}\n", "| what | how often |", "|---|---:|"]
        lines += [f"| {act.replace('_', ' ')} | {count} |" for act, count in sorted(self.done.items())]
        lines += [f"| jobs that ended {status} | {count} |" for status, count in sorted(self.watch.ends.items())]
        lines += [f"| answers: {status} | {count} |" for status, count in sorted(self.answers.items())]
        lines += [
            f"| looks at the jobs | {self.watch.looks} |",
            f"| longest without an owner, s | {self.watch.longest_ownerless_s:.1f} |",
            f"| checks passed | {len(self.checks)} |",
        ]
        return "\n".join(lines)


def _word(id: str) -> str:
    prefix, _, number = id.rpartition("-")
    return f"word{prefix}{int(number)}"


def _go_on(process: Any) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)


def forget_settings() -> None:
    """What a developer has set must not decide here, and least of all where Temporal is."""
    known = {str(alias) for alias in Settings.model_fields} | {
        "airweave_data_dir",
        "airweave_folder_roots",
        "airweave_organization_roots",
    }
    for name in list(os.environ):
        if name.lower() in known or name.startswith(("TEMPORAL_", "TEST_EMBEDDER_")):
            del os.environ[name]


def soak(driver: str, seconds: float, seed: int) -> bool:
    """Whether everything held."""
    place = Path(tempfile.mkdtemp(prefix="airweave-soak-"))
    place.chmod(0o711)
    say(f"{driver}: seed {seed}, {seconds / 60:g} minutes, in {place}")
    made: Soak | None = None
    held = True
    try:
        made = Soak(place, random.Random(f"{seed}/{driver}"), driver)
        made.check()  # all is there before it begins
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            made.play(min(ROUND_S, until - time.monotonic()))
            made.check()
    except Violation as violation:
        held = False
        say(f"VIOLATION on {driver}, seed {seed}:\n{violation}\nwhat was there is left in {place}")
    finally:
        if made is not None:
            made.stop()
            sys.stdout.write(made.summary(driver) + "\n")
    if held:
        shutil.rmtree(place, ignore_errors=True)
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="of faults, shared by the drivers")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--driver", choices=["in_process", "temporal", "both"], default="both")
    asked = parser.parse_args()
    forget_settings()
    drivers = ["in_process", "temporal"] if asked.driver == "both" else [asked.driver]
    held = [soak(driver, asked.minutes * 60 / len(drivers), asked.seed) for driver in drivers]
    say(f"seed {asked.seed}: " + ("everything held" if all(held) else "NOT everything held"))
    return 0 if all(held) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the threads of servers that were left hanging are not waited for
