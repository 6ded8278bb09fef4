"""Real server processes for tests: used over HTTP and ended with real signals."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from forking import Forked, Forker
from servers.scripted_server import ScriptedServer

START_S = 40.0
ANSWER_S = 60.0  # for a command on a terminal
COMMAND_S = 120.0
LOOK_AGAIN_S = (0.02, 0.15)  # the first and the longest pause between two polls
IN_PROCESS, TEMPORAL = "in_process", "temporal"
TERMINAL = ("completed", "failed", "cancelled")
NEEDED = {
    "ENABLE_INTERNAL_SOURCES": "true",
    "ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
    "API_PORT": "0",  # never a default port, which the developer's own server may use
    "TEMPORAL_PORT": "1",
    "TEMPORAL_UI_PORT": "1",
}
SHORT = {
    "LEASE_S": "2",
    "TICK_S": "0.5",
    "RETRY_BACKOFF_S": "0.1",
    "TEMPORAL_HEARTBEAT_S": "2",
    "TEMPORAL_LOST_S": "3",
    "WORKER_GRACE_S": "5",
    "WEBHOOK_BACKOFF_S": "0.1",
    "WEBHOOK_TIMEOUT_S": "2",
}


Finished = subprocess.CompletedProcess[str]
Process = subprocess.Popen[bytes] | Forked


class Worker:
    """One ``airweave-server worker`` process."""

    def __init__(self, process: "Process", log: Path) -> None:
        self.process = process
        self.log = log

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = 40) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


class TemporalServer:
    """A real Temporal dev server on its own ports. It can be killed, and started again on the same data."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port, self._ui_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        place.mkdir(exist_ok=True)
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        environment = {
            **os.environ,
            "AIRWEAVE_DATA_DIR": str(self.place),
            "TEMPORAL_PORT": str(self.port),
            "TEMPORAL_UI_PORT": str(self._ui_port),
        }
        with (self.place / "temporal.log").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airweave_server", "temporal", "--with-parent"],
                env=environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, (self.place / "temporal.log").read_text(errors="replace")[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server and its parent process with SIGKILL."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._wait(20)

    def forget(self) -> None:
        """Delete its database (while it is down)."""
        for file in self.place.glob("temporal.db*"):
            file.unlink()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._wait(20)

    def _wait(self, timeout_s: float) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)
        if self._process.stdin is not None:
            self._process.stdin.close()


class Server:
    """One ``airweave-server`` process and its HTTP API; with Temporal, its worker too."""

    def __init__(self, process: "Process", url: str, log: Path, folders: Path, worker: Worker | None = None) -> None:
        self.process = process
        self.worker = worker
        self.url = url
        self.log = log
        self.folders = folders
        self.http = httpx.Client(base_url=url, timeout=60)

    def kill(self) -> None:
        """Kill it and its worker."""
        if self.worker is not None:
            self.worker.kill()
        self.process.kill()
        self.process.wait()
        self.http.close()

    def terminate(self, timeout_s: float = 40) -> int:
        """Tell it and its worker to end. Returns its exit code, or the worker's if its own is 0."""
        code = 0
        self.process.send_signal(signal.SIGTERM)
        if self.worker is not None and self.worker.process.poll() is None:
            code = self.worker.terminate(timeout_s)
        self.http.close()
        return self.process.wait(timeout_s) or code

    def get(self, path: str, **query: Any) -> Any:
        return self._ok(self.http.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return self._ok(self.http.post(path, json=body))

    def collection(self, readable_id: str | None = None) -> str:
        readable_id = readable_id or f"c-{uuid4().hex[:12]}"
        made = self.post("/collections", {"name": f"Collection {readable_id}", "readable_id": readable_id})
        return str(made["readable_id"])

    def connect(self, collection: str, short_name: str, config: dict[str, Any], **more: Any) -> str:
        """Create a connection that does not sync by itself, and return its id."""
        body = {
            "short_name": short_name,
            "readable_collection_id": collection,
            "config": config,
            "sync_immediately": False,
            "schedule": {"cron": None},
            **more,
        }
        return str(self.post("/source-connections", body)["id"])

    def connect_to(
        self,
        source: ScriptedServer,
        kind: str = "scripted",
        *,
        collection: str | None = None,
        cron: str | None = None,
        **config: Any,
    ) -> str:
        """Create a connection to this source, by default in a collection of its own, and return its id."""
        return self.connect(
            collection or self.collection(),
            kind,
            {"url": source.url, **config},
            schedule={"cron": cron},
            authentication={"credentials": {"token": "hush-hush-token"}},
        )

    def folder(self, name: str | None = None) -> Path:
        """Create an empty folder below the server's folder root."""
        path = self.folders / (name or uuid4().hex)
        path.mkdir(parents=True)
        return path

    def run(self, connection: str, **body: Any) -> str:
        return str(self.post(f"/source-connections/{connection}/run", body)["id"])

    def job(self, connection: str, job: str) -> dict[str, Any]:
        return dict(self.get(f"/source-connections/{connection}/jobs/{job}"))

    def finish(self, connection: str, job: str, timeout_s: float = 180) -> dict[str, Any]:
        """Wait until the job ends, and return it."""
        return self.wait_for(
            lambda: self.job(connection, job),
            lambda found: found["status"] in TERMINAL,
            timeout_s,
        )

    def sync(self, connection: str, timeout_s: float = 180, **body: Any) -> dict[str, Any]:
        return self.finish(connection, self.run(connection, **body), timeout_s)

    def search(self, collection: str, query: str, **more: Any) -> list[dict[str, Any]]:
        body = {"query": query, "limit": 10, **more}
        return list(self.post(f"/collections/{collection}/search/instant", body)["results"])

    def found(self, collection: str, query: str, **more: Any) -> list[str]:
        """Return the ids of the entities that a search finds."""
        return [hit["airweave_system_metadata"]["original_entity_id"] for hit in self.search(collection, query, **more)]

    def ledger(self, connection: str, **query: Any) -> dict[str, dict[str, Any]]:
        """Return the whole ledger by entity id."""
        entries: dict[str, dict[str, Any]] = {}
        while True:
            page = self.get(f"/source-connections/{connection}/entities", skip=len(entries), limit=1000, **query)
            entries |= {entry["entity_id"]: entry for entry in page}
            if len(page) < 1000:
                return entries

    def wait_for(self, look: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 90) -> Any:
        """Poll ``look`` until its result is ``good``; the error shows the last result. Polls ever less often, since
        polling slows the server down."""
        deadline, pause_s = time.monotonic() + timeout_s, LOOK_AGAIN_S[0]
        while True:
            seen = look()
            if good(seen):
                return seen
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s; the last result: {seen}\n{self.tail()}")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.25, LOOK_AGAIN_S[1])

    def troubles(self) -> str:
        """Return the warnings and errors in the log, for the analysis of a failed test."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if '"level": "info"' not in line)[-6000:]

    def tail(self) -> str:
        text = self.log.read_text(errors="replace")[-4000:]
        if self.worker is not None:
            text += "\n--- worker\n" + self.worker.log.read_text(errors="replace")[-4000:]
        return text

    @staticmethod
    def _ok(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, (
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        )
        return answer.json()


class Running:
    """The server processes of one test module, all on one database. With ``temporal``, each API process gets a worker
    with the same settings. With ``forker`` they are forked, and so are commands, wherever that makes no difference."""

    def __init__(
        self,
        place: Path,
        database_url: str,
        *,
        temporal: TemporalServer | None = None,
        default_times: bool = False,
        forker: Forker | None = None,
    ) -> None:
        self.place = place
        self.forker = forker
        self.temporal = temporal
        self.task_queue = f"q-{uuid4().hex[:12]}"
        self._times = {} if default_times else SHORT
        self.workers: list[Worker] = []
        self.database_url = database_url
        self.folders = place / "folders"
        self.folders.mkdir()
        self.servers: list[Server] = []

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "DATABASE_URL": self.database_url,
            "AIRWEAVE_DATA_DIR": str(self.place / "data"),
            "AIRWEAVE_FOLDER_ROOTS": str(self.folders),
        }
        if self.temporal is not None:
            own |= {
                "TEMPORAL_ENABLED": "true",
                "TEMPORAL_HOST": "127.0.0.1",
                "TEMPORAL_PORT": str(self.temporal.port),
                "TEMPORAL_TASK_QUEUE": self.task_queue,
            }
        settings = {**os.environ, **NEEDED, **self._times, **own, **more}
        return {name: value for name, value in settings.items() if value}

    def start_worker(self, **more: str) -> Worker:
        """Start another worker; ``more`` are settings."""
        log = self.place / f"worker-{len(self.workers)}.log"
        worker = Worker(self._start(["worker"], log, self.environment(**more)), log)
        self.workers.append(worker)
        return worker

    def start(
        self, *, verb: str = "api", options: Sequence[str] = (), ready: bool = True, worker: bool = True, **more: str
    ) -> Server:
        """Start a server process on a free port, with a worker if Temporal drives; ``more`` are settings."""
        port = free_port()
        log = self.place / f"server-{port}.log"
        process = self._start([verb, *options, "--port", str(port)], log, self.environment(**more))
        own_worker = self.start_worker(**more) if worker and verb == "api" and self.temporal is not None else None
        server = Server(process, f"http://127.0.0.1:{port}", log, self.folders, own_worker)
        self.servers.append(server)
        if ready:
            wait_until_ready(server)
            if own_worker is not None:
                server.wait_for(lambda: own_worker.log.read_text(errors="replace"), lambda said: "worker_ready" in said)
        return server

    def _start(self, arguments: list[str], log: Path, environment: dict[str, str]) -> Process:
        with log.open("ab") as output:
            if self.forker is not None and self.forker.can_start(environment):
                return self.forker.start(arguments, environment, output.fileno(), output.fileno())
            return subprocess.Popen(
                [sys.executable, "-m", "airweave_server", *arguments],
                env=environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def command(self, *arguments: str, **more: str) -> Finished:
        """Run a command to its end; ``more`` are settings."""
        environment = self.environment(**more)
        if self.forker is not None and self.forker.can_start(environment):
            with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
                process = self.forker.start(arguments, environment, output.fileno(), errors.fileno())
                try:
                    code = process.wait(COMMAND_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise
                said = [(file.seek(0), file.read())[1] for file in (output, errors)]
            return Finished(arguments, code, *said)
        return subprocess.run(
            [sys.executable, "-m", "airweave_server", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    @contextmanager
    def under_way(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Start a command, and kill it in the end."""
        with subprocess.Popen(
            [sys.executable, "-m", "airweave_server", *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ready_worker(self, **more: str) -> Worker:
        """Start another worker, and wait until it asks Temporal for work."""
        worker = self.start_worker(**more)
        deadline = time.monotonic() + START_S
        while "worker_ready" not in worker.log.read_text(errors="replace"):
            assert time.monotonic() < deadline, worker.log.read_text(errors="replace")[-4000:]
            time.sleep(0.02)
        return worker

    def workflow(self, job: str) -> dict[str, Any] | None:
        """Return the job's workflow as Temporal's own program describes it; None if there is none."""
        assert self.temporal is not None
        done = subprocess.run(
            [
                Path(sysconfig.get_path("scripts"), "temporal"),
                "workflow",
                "describe",
                "--workflow-id",
                f"sync-{job}",
                "--address",
                self.temporal.address,
                "--output",
                "json",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        assert "not found" in done.stderr, done.stderr
        return None

    def driving_pid(self, job: str) -> int | None:
        """Return the process that currently runs the job's steps, an API process or a worker; None if there is none."""
        if self.temporal is None:
            with psycopg.connect(plain(self.database_url), autocommit=True) as connection:
                query = "select driver from sync_job where id = %s and driven_until > now()"
                row = connection.execute(query, (job,)).fetchone()
            return int(row[0].split(":")[1]) if row and row[0] else None
        seen = self.workflow(job)
        if not is_open(seen):
            return None
        for step in (seen or {}).get("pendingActivities", []):
            if step["state"] == "PENDING_ACTIVITY_STATE_STARTED":
                return int(step["lastWorkerIdentity"].split("@")[0])
        return None

    def stop_all(self) -> None:
        processes = [started.process for started in (*self.servers, *self.workers)]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for server in self.servers:
            server.http.close()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if server.http.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server did not start:\n{server.tail()}")
        time.sleep(0.05)


def ok(done: Finished) -> str:
    """Return the output of a command that succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def on_a_terminal(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    answers: Sequence[tuple[str, str]],
    *,
    command: Sequence[str] = (sys.executable, "-m", "airweave_server"),
) -> tuple[int, str]:
    """Run a command, by default ours, on a terminal of its own, and type each answer once its question appears. Returns
    the exit code and the whole output without colours."""
    environment = {**environment, "COLUMNS": "150", "TERM": "xterm", "NO_COLOR": "1"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], [*command, *arguments], environment)
    shown, left, at = "", list(answers), 0
    deadline = time.monotonic() + ANSWER_S
    with suppress(OSError):  # raised once the command closes its end of the terminal
        while time.monotonic() < deadline:
            if left and left[0][0] in shown[at:]:
                at = len(shown)
                os.write(terminal, left.pop(0)[1].encode() + b"\n")
            if select.select([terminal], [], [], 0.1)[0]:
                part = os.read(terminal, 4096)
                if not part:
                    break
                shown += part.decode()
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert not left, f"the command never asked for {left[0][0]}: {shown}"
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def refusal(done: Finished) -> str:
    """Return the one line of a command that failed."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("airweave-server: ")
    assert len(lines[0]) < 500
    return lines[0]


def is_open(workflow: dict[str, Any] | None) -> bool:
    return workflow is not None and workflow["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"


def write(folder: Path, numbers: range, *, version: int) -> None:
    """Write text files in nine sub-folders, each with a unique word for this version."""
    for number in numbers:
        place = folder / f"d{number % 9}"
        place.mkdir(exist_ok=True)
        text = f"version {version} of file {number} tells of word{number}x{version}\n" * 4
        (place / f"f{number}.txt").write_text(text)


def in_folder(folder: Path) -> list[dict[str, Any]]:
    """The text files below a folder, as items of a source."""
    return [{"id": str(path.relative_to(folder)), "text": path.read_text()} for path in folder.rglob("*.txt")]


def plain(database_url: str) -> str:
    """The URL in the form that psycopg itself accepts."""
    return database_url.replace("postgresql+psycopg://", "postgresql://")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
