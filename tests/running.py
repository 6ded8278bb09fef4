"""Server processes for tests: started for real, spoken to over HTTP, ended with real signals."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

START_S = 40.0
SHORT = {
    "LEASE_S": "2",
    "TICK_S": "0.3",
    "RETRY_BACKOFF_S": "0.1",
    "ENABLE_INTERNAL_SOURCES": "true",
    "ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}


class Server:
    """One ``airweave-server`` process and its HTTP API."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path, folders: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.folders = folders
        self.http = httpx.Client(base_url=url, timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.http.close()

    def terminate(self, timeout_s: float = 40) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.http.close()
        return self.process.wait(timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        return self._ok(self.http.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return self._ok(self.http.post(path, json=body))

    def collection(self, readable_id: str | None = None) -> str:
        readable_id = readable_id or f"c-{uuid4().hex[:12]}"
        made = self.post("/collections", {"name": f"Collection {readable_id}", "readable_id": readable_id})
        return str(made["readable_id"])

    def connect(self, collection: str, short_name: str, config: dict[str, Any], **more: Any) -> str:
        """A connection that does not sync by itself; returns its id."""
        body = {
            "short_name": short_name, "readable_collection_id": collection, "config": config,
            "sync_immediately": False, "schedule": {"cron": None}, **more,
        }  # fmt: skip
        return str(self.post("/source-connections", body)["id"])

    def folder(self, name: str | None = None) -> Path:
        """A new empty folder below the server's folder root."""
        path = self.folders / (name or uuid4().hex)
        path.mkdir(parents=True)
        return path

    def run(self, connection: str, **body: Any) -> str:
        return str(self.post(f"/source-connections/{connection}/run", body)["id"])

    def job(self, connection: str, job: str) -> dict[str, Any]:
        return dict(self.get(f"/source-connections/{connection}/jobs/{job}"))

    def finish(self, connection: str, job: str, timeout_s: float = 60) -> dict[str, Any]:
        """Wait for the job's end."""
        return self.wait_for(
            lambda: self.job(connection, job),
            lambda found: found["status"] in ("completed", "failed", "cancelled"), timeout_s,
        )  # fmt: skip

    def sync(self, connection: str, timeout_s: float = 60, **body: Any) -> dict[str, Any]:
        return self.finish(connection, self.run(connection, **body), timeout_s)

    def search(self, collection: str, query: str, **more: Any) -> list[dict[str, Any]]:
        body = {"query": query, "limit": 10, **more}
        return list(self.post(f"/collections/{collection}/search/instant", body)["results"])

    def found(self, collection: str, query: str, **more: Any) -> list[str]:
        """The ids of the entities that a search finds."""
        return [hit["airweave_system_metadata"]["original_entity_id"] for hit in self.search(collection, query, **more)]

    def ledger(self, connection: str, **query: Any) -> dict[str, dict[str, Any]]:
        """The whole ledger, by entity id."""
        entries: dict[str, dict[str, Any]] = {}
        while True:
            page = self.get(f"/source-connections/{connection}/entities", skip=len(entries), limit=1000, **query)
            entries |= {entry["entity_id"]: entry for entry in page}
            if len(page) < 1000:
                return entries

    def wait_for(self, look: Callable[[], Any], good: Callable[[Any], bool], timeout_s: float = 30) -> Any:
        """Poll until it is good; the last sight is in the error."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = look()
            if good(seen):
                return seen
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s; last seen: {seen}\n{self.tail()}")
            time.sleep(0.03)

    def troubles(self) -> str:
        """What the log says of warnings and errors, for looking into a failed test."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if '"level": "info"' not in line)[-6000:]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    @staticmethod
    def _ok(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, (
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        )
        return answer.json()


class Running:
    """The server processes of one test module, all on one database."""

    def __init__(self, place: Path, database_url: str) -> None:
        self.place = place
        self.database_url = database_url
        self.folders = place / "folders"
        self.folders.mkdir()
        self._servers: list[Server] = []

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "DATABASE_URL": self.database_url,
            "AIRWEAVE_DATA_DIR": str(self.place / "data"),
            "AIRWEAVE_FOLDER_ROOTS": str(self.folders),
        }
        return {name: value for name, value in {**os.environ, **SHORT, **own, **more}.items() if value}

    def start(self, *, verb: str = "api", ready: bool = True, **more: str) -> Server:
        """A server process on a free port; ``more`` are settings."""
        port = free_port()
        log = self.place / f"server-{port}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airweave_server", verb, "--port", str(port)],
                env=self.environment(**more), stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        server = Server(process, f"http://127.0.0.1:{port}", log, self.folders)
        self._servers.append(server)
        if ready:
            wait_until_ready(server)
        return server

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airweave_server", *arguments], env=self.environment(**more), capture_output=True,
            text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def stop_all(self) -> None:
        for server in self._servers:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
        for server in self._servers:
            try:
                server.process.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
