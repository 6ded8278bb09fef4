"""Who reads a source, and how often: for killing the right process, and for counting what it cost."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from airweave_server.db.session import Database
from running import TERMINAL, Running, Server, Worker
from servers.scripted_server import ScriptedServer

Process = Server | Worker


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
        time.sleep(0.05)
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
            [running.ready_worker(**settings) for _ in range(count)],
            lambda: running.start_worker(**settings),
        )
    servers: list[Process] = [running.start(**settings) for _ in range(count)]
    return servers[0], servers, lambda: running.start(ready=False, **settings)  # type: ignore[return-value]
