"""What every fault must leave behind it: ledger and index equal the source, and jobs that tell the truth."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import psutil
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from airweave_server.db.session import Database
from running import Running, Server, Worker
from servers.scripted_server import ScriptedServer

TERMINAL = ("completed", "failed", "cancelled")
FOLLOWING = {
    "pending": {"pending", "running", *TERMINAL},
    "running": {"running", "cancelling", *TERMINAL},
    "cancelling": {"cancelling", *TERMINAL},
    **{status: {status} for status in TERMINAL},
}
OUTCOMES = ("inserted", "updated", "kept", "skipped", "failed")
QUIET_S = 1.0

CONTENT = """
    select e.entity_id, e.state, e.chunks, count(c.*), count(distinct c.ordinal),
           coalesce(string_agg(c.text, E'\\n' order by c.ordinal), '')
    from entity e left join chunk c on c.entity_row = e.row where e.connection_id = :id group by e.row order by 1
"""
# one statement, one moment: what the job's counters say, what its ledger holds, and whose chunks are not as declared
MOMENT = """
    select (select coalesce(sum(p.inserted + p.updated + p.kept + p.skipped + p.failed), 0) from sync_partition p
              join sync_job j on j.id = p.job_id where j.connection_id = :id) as counted,
           (select count(*) from entity where connection_id = :id) as ledger,
           (select count(*) from entity e where connection_id = :id
              and e.chunks <> (select count(*) from chunk c where c.entity_row = e.row)) as torn
"""

Process = Server | Worker


def content(database: Database, connection: str) -> dict[str, tuple[str, str]]:
    """State and text by entity id, after the ledger and the index were seen to agree, with no chunk twice."""
    with database.session() as session:
        left = session.execute(
            text("""
                select (select count(*) from chunk where entity_row not in (select row from entity)),
                       (select count(*) from chunk_staged)
            """)
        ).one()
        assert tuple(left) == (0, 0), f"chunks without an entity, staged ones left over: {left}"
        rows = session.execute(text(CONTENT), {"id": connection}).all()
    torn = [tuple(row) for row in rows if not row[2] == row[3] == row[4]]
    assert not torn, f"chunks declared, stored and distinct are not the same: {torn[:3]}"
    return {row[0]: (row[1], row[5]) for row in rows}


def agree(database: Database, connection: str, expected: dict[str, str]) -> None:
    """Ledger and index hold these texts by entity id, and nothing else."""
    found = content(database, connection)
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())[:10]
    wrong = [id for id, (state, held) in found.items() if state != "indexed" or expected[id].strip() not in held]
    assert not wrong, {id: found[id] for id in wrong[:3]}


def texts(source: ScriptedServer) -> dict[str, str]:
    return {item["id"]: item["text"] for held in source.partitions.values() for item in held}


def settled(server: Server, connection: str, job: dict[str, Any], *, jobs: int = 1) -> None:
    """The job has come to its one end: its times and counts add up, it stays as it is, and no other job came of it."""
    assert job["status"] in TERMINAL
    assert job["entities_encountered"] == sum(job[f"entities_{outcome}"] for outcome in OUTCOMES)
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]
    assert job["duration_seconds"] >= 0
    assert job["waiting_for"] is None
    time.sleep(QUIET_S)
    listed = server.get(f"/source-connections/{connection}/jobs")
    assert len(listed) == jobs, [(seen["status"], seen["trigger"], seen["created_at"]) for seen in listed]
    assert next(seen for seen in listed if seen["id"] == job["id"]) == job


def moment(database: Database, connection: str) -> int:
    """Looks at the database in the middle of a first job: no batch is there by half. Returns how many entities are."""
    with database.session() as session:
        counted, ledger, torn = session.execute(text(MOMENT), {"id": connection}).one()
    assert torn == 0, f"{torn} entities have not the chunks that the ledger declares"
    assert counted == ledger, f"the counters say {counted} entities, the ledger has {ledger}"
    return int(ledger)


def connected(server: Server, source: ScriptedServer, kind: str = "scripted", **config: Any) -> str:
    body = {"url": source.url, **config}
    return server.connect(server.collection(), kind, body, authentication={"credentials": {"token": "t"}})


def pages(source: ScriptedServer) -> list[tuple[str, int]]:
    """The pages that were asked for so far, in order: partition and number."""
    return [(entry["partition"], entry["page"]) for entry in list(source.log) if entry["path"] == "/items"]


def asked_again(source: ScriptedServer) -> int:
    """How many times a page was asked for that had been asked for before."""
    return sum(count - 1 for count in Counter(pages(source)).values())


def until(good: Callable[[], Any], timeout_s: float, what: str) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (seen := good()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return seen


def reader_of(source: ScriptedServer, processes: Sequence[Process]) -> Process:
    """The one that has a connection to the source: it reads."""
    port = int(source.url.rsplit(":", 1)[1])

    def reads(process: Process) -> bool:
        with suppress(psutil.Error):
            found = psutil.Process(process.process.pid).net_connections(kind="tcp")
            return any(one.raddr and one.raddr.port == port and one.status == "ESTABLISHED" for one in found)
        return False

    found: Process = until(lambda: next(filter(reads, processes), None), 20, "nobody reads the source")
    return found


def ended_in(database: Database, job: str, timeout_s: float, *, most_deaths: int | None = None) -> str:
    """Wait for the job's end without asking an API, which may be down; returns its status. It is given up when more
    than ``most_deaths`` readers of one partition died without coming further."""

    def status() -> str | None:
        crashes, found = 0, None
        with suppress(SQLAlchemyError), database.session() as session:
            found = session.execute(text("select status from sync_job where id = :id"), {"id": job}).scalar_one()
            most = text("select coalesce(max(crashes), 0) from sync_partition where job_id = :id")
            crashes = session.execute(most, {"id": job}).scalar_one()
        assert most_deaths is None or crashes <= most_deaths, f"{crashes} readers died, and none came further"
        return found if found in TERMINAL else None

    found: str = until(status, timeout_s, f"the end of job {job}")
    return found


class Watch:
    """Asks the API for a job again and again meanwhile: it always answers, and no status comes that cannot follow."""

    def __init__(self, server: Server, connection: str, job: str) -> None:
        self._path = f"/source-connections/{connection}/jobs/{job}"
        self._http = httpx.Client(base_url=server.url, timeout=10)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: list[dict[str, Any]] = []
        self.unanswered: list[str] = []

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20)
        self._http.close()
        if kind is None:
            assert not self.unanswered, self.unanswered[:3]
            self.check()

    def check(self) -> None:
        statuses = [seen["status"] for seen in self.seen]
        flips = [(one, next_) for one, next_ in pairwise(statuses) if next_ not in FOLLOWING[one]]
        assert not flips, flips
        encountered = [seen["entities_encountered"] for seen in self.seen]
        assert encountered == sorted(encountered), "an entity that was counted is counted no more"

    def _look(self) -> None:
        while not self._stopping.wait(0.1):
            try:
                answer = self._http.get(self._path)
            except httpx.HTTPError as error:
                self.unanswered.append(repr(error))
                continue
            if answer.status_code == 200:
                self.seen.append(answer.json())
            else:
                self.unanswered.append(f"{answer.status_code} {answer.text}")


class Kept:
    """Processes of which somebody starts another one whenever one ends, as a supervisor does."""

    def __init__(self, start: Callable[[], Process], processes: Sequence[Process]) -> None:
        self._start = start
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True)
        self.processes = list(processes)
        self.exit_codes: list[int] = []

    def __enter__(self) -> "Kept":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _look_after(self) -> None:
        while not self._stopping.wait(0.05):
            for place, one in enumerate(self.processes):
                if (code := one.process.poll()) is not None and not self._stopping.is_set():
                    self.exit_codes.append(code)
                    self.processes[place] = self._start()


def readers(running: Running, count: int, **settings: str) -> tuple[Server, list[Process], Callable[[], Process]]:
    """A server, ``count`` processes that read for its jobs, and how to start one more: workers where Temporal drives,
    else API processes, and the server is one that reads too."""
    if running.temporal is not None:
        server = running.start(worker=False, **settings)
        return (
            server,
            [ready_worker(running, **settings) for _ in range(count)],
            lambda: running.start_worker(**settings),
        )
    servers: list[Process] = [running.start(**settings) for _ in range(count)]
    return servers[0], servers, lambda: running.start(ready=False, **settings)  # type: ignore[return-value]


def ready_worker(running: Running, **settings: str) -> Worker:
    worker = running.start_worker(**settings)
    until(lambda: "worker_ready" in worker.log.read_text(errors="replace"), 40, "the worker is ready")
    return worker
