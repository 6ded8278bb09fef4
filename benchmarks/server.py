"""A temporary ``airweave-server up`` with its embedded Postgres, used over HTTP like a user would."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from airweave_server import wire
from airweave_server.client import Client, fill
from airweave_server.db import embedded
from airweave_server.errors import ClientError
from airweave_server.settings import Settings

from . import processes
from .processes import Cpu

START_S = 90.0
STOP_S = 40.0
SYNC_S = 3_600.0
LEAST_POLL_S, MOST_POLL_S = 0.01, 0.25
INDEX_POLL_S = 0.05  # or ten times as long as the question takes, so that it costs little where there is much
OURS = (
    "AIRWEAVE_",
    "TEMPORAL_",
    "SLICE_",
    "LEASE_",
    "TICK_",
    "API_",
    "DATABASE_URL",
    "AUTH_",
    "ALLOW",
    "VAULT_",
    "EMBEDD",
    "LLM_",
    "JOB_",
    "LOG_",
    "ENABLE_",
)
NO_VECTOR_INDEX = "none over vectors (exact scan)"
COUNTS = ("inserted", "updated", "deleted", "kept", "skipped", "failed")


class Unfit(Exception):
    """A run did not do the work to be timed, so its figure would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sync:
    """A completed job. ``job_s``: the duration according to the API. ``wall_s``: from the request until its end was
    seen."""

    job_s: float
    wall_s: float
    cpu: Cpu
    counts: dict[str, int]

    @property
    def encountered(self) -> int:
        return sum(self.counts.values())


class Server:
    """The running server. ``ready_s``: the time of its first start, including the creation of the database."""

    def __init__(self, place: Path, environment: Mapping[str, str], flags: Sequence[str]) -> None:
        port = free_port()
        self._data_dir = place / "data"
        self._command = [
            *(sys.executable, "-m", "airweave_server", "up", *flags),
            *("--data-dir", str(self._data_dir), "--port", str(port)),
        ]
        self.environment = {**environment, "AIRWEAVE_DATA_DIR": str(self._data_dir)}  # for additional processes
        self.log = place / "server.log"
        self.client = Client(f"http://127.0.0.1:{port}")
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_s = self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start the process and return the seconds until it was ready. Raises ``Unfit`` if it does not start."""
        began_at = time.perf_counter()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # only we handle Ctrl-C
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise
        return time.perf_counter() - began_at

    def restart(self) -> float:
        """Stop the server as an operator would, and start it again on the same data. Returns the seconds of the
        start."""
        self.stop()
        return self.start()

    def connect(self, collection: str, folder: Path, **config: Any) -> str:
        """Create a connection to the folder without a schedule, and return its id."""
        self.client.ensure_collection(collection)
        body = fill(
            wire.SourceConnectionCreate,
            short_name="folder",
            readable_collection_id=collection,
            name="benchmark",
            config={"path": str(folder), **config},
            sync_immediately=False,
            schedule={"cron": None},
        )
        return str(self.client.create_connection(body).id)

    def sync(self, connection: str, *, quiet_s: float = 0.0, **expected: int) -> Sync:
        """Run a job to its end, without polling in the first ``quiet_s``: each poll costs the server some ms. Raises
        ``Unfit`` unless it completed with these counts and no failures."""
        before = processes.cpu(self.pid)
        began_at = time.perf_counter()
        job = self.client.run(connection)
        time.sleep(quiet_s)
        while job.status in ("pending", "running"):
            spent_s = time.perf_counter() - began_at
            if spent_s > SYNC_S:
                raise Unfit(f"a job was not done after {SYNC_S:.0f} s")
            time.sleep(min(max((spent_s - quiet_s) / 10, LEAST_POLL_S), MOST_POLL_S))
            job = self.client.job(connection, job.id)
        wall_s = time.perf_counter() - began_at
        counts = {name: int(getattr(job, f"entities_{name}")) for name in COUNTS}
        if job.status != "completed" or any(counts[name] != value for name, value in expected.items()):
            raise Unfit(f"a job {job.status} with {counts}, due was {expected}; error: {job.error}")
        if counts["failed"]:
            raise Unfit(f"{counts['failed']} entities failed")
        return Sync(float(job.duration_seconds or 0.0), wall_s, processes.cpu(self.pid).since(before), counts)

    def chunks(self, connection: str) -> int:
        """The number of indexed entities in the ledger."""
        return sum(entry.chunks for entry in self.client.entities(connection))

    def search(self, collection: str, query: str, **more: Any) -> list[wire.SearchResult]:
        return self.answer(collection, query, **more).results

    def answer(self, collection: str, query: str, **more: Any) -> wire.SearchResponse:
        return self.client.answer(collection, fill(wire.SearchRequest, query=query, **more))

    def database(self) -> "psycopg.Connection[Any]":
        """A connection to its database, to read or fill it without the API."""
        return psycopg.connect(embedded.attach(self._data_dir).replace("+psycopg", ""), autocommit=True)

    def wait_for_index(self) -> float:
        """Wait until the keeper has built the vector index of every large collection and counted all words. Returns the
        seconds."""
        began_at = time.perf_counter()
        least = int(self.environment.get("VECTOR_INDEX_CHUNKS", Settings.model_fields["vector_index_chunks"].default))
        with self.database() as connection:
            while True:
                query = """
                    select count(*) filter (where z.counted_at is null and e.chunks >= 1000),
                           count(*) filter (where e.chunks >= %s and not coalesce(i.indisvalid, false))
                    from (select collection_id, sum(chunks) as chunks from entity group by 1) as e
                    left join collection_size z using (collection_id)
                    left join pg_index i
                      on i.indexrelid = to_regclass('chunk_near_' || replace(cast(collection_id as text), '-', ''))
                """
                asked_at = time.perf_counter()
                row = connection.execute(query, (least,)).fetchone()
                if row == (0, 0):
                    return time.perf_counter() - began_at
                if time.perf_counter() - began_at > SYNC_S:
                    raise Unfit("the keeper did not build the indexes of search")
                time.sleep(max(INDEX_POLL_S, 10 * (time.perf_counter() - asked_at)))

    def vacuum(self) -> None:
        """Do now what autovacuum and the checkpointer would do during the next minutes."""
        with self.database() as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")

    def database_mb(self) -> float:
        """The size of the database on disk, after a checkpoint has emptied the write-ahead log."""
        with self.database() as connection:
            connection.execute("checkpoint")
            row = connection.execute("select pg_database_size(current_database())").fetchone()
        assert row is not None
        return float(row[0]) / 1e6

    def indexes(self) -> str:
        """The indexes over text and vectors in the database, so that peers are compared fairly."""
        with self.database() as connection:
            rows = connection.execute("select indexdef from pg_indexes where tablename = 'chunk'").fetchall()
        kinds = [row[0].partition(" USING ")[2].partition(" ")[0] for row in rows]
        vectors = next((kind for kind in kinds if kind in ("hnsw", "ivfflat")), None)
        return f"{kinds.count('gin')} GIN over words, " + (f"{vectors} over vectors" if vectors else NO_VECTOR_INDEX)

    def stop(self) -> None:
        """End the server and all its processes, Postgres included: first by SIGTERM, then by force."""
        if self._process is None:
            return
        everything = [process for process, _ in processes.family(self.pid)]
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process = None

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.ready()
                return
            except ClientError:
                if process.poll() is not None or time.monotonic() > deadline:
                    log = self.log.read_text(errors="replace")[-2000:]
                    raise Unfit(f"the server did not start: {log}") from None
                time.sleep(0.02)


@contextmanager
def scratch(prefix: str = "airweave-bench-") -> Iterator[Path]:
    """A folder that is removed in the end."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    path.chmod(0o711)  # if we are root, Postgres runs as another user that must pass through
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def serving(folders: Path, *flags: str, **settings: str) -> Iterator[Server]:
    """A server on a free port with its own data that may read below ``folders``. It ends with this block."""
    with scratch("airweave-bench-data-") as place:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        environment |= {"AIRWEAVE_FOLDER_ROOTS": str(folders), "LOG_FORMAT": "json", **settings}
        server = Server(place, environment, flags)
        try:
            yield server
        finally:
            server.stop()
            server.client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
