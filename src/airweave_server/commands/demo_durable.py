"""``airweave-server demo --durable``: runs one job on Temporal, kills its worker, Temporal and Postgres meanwhile with
``kill -9``, and then checks that folder, ledger and index agree."""

import ctypes
import os
import shutil
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from .. import wire
from ..client import Client, fill
from ..db import embedded
from ..errors import ClientError
from .common import Words, out, show
from .demo import (
    COLLECTION,
    DATA,
    POLL_S,
    connect_folder,
    copy_library,
    free_ports,
    place,
    require,
    scratch,
    search,
    server,
    sync,
)

COPIES = 4
JOB_S = 600.0
BACK_S = 90.0  # within which a killed process is back and the job advances
WORKFLOW_S = 30.0
PAGE = 1_000
IDS_AT_ONCE = 500
MARKER = "DURABLE_4711"
MARKED = ("copy-1/abc.py", "copy-2/json/decoder.py", "copy-4/zipimport.py")
NAMESPACE = "default"

# of inotify(7)
OPENED, OVERFLOW, IS_FOLDER = 0x20, 0x4000, 0x40000000
EVENT = struct.Struct("iIII")


def run() -> None:
    """Run the demo and check each step. Raises ``ClientError`` at the first step that fails."""
    port, ui_port = free_ports(2)
    settings = {"TEMPORAL_PORT": str(port), "TEMPORAL_UI_PORT": str(ui_port), "TEMPORAL_NAMESPACE": NAMESPACE}
    with scratch() as home:
        folders = home / "folders"
        folders.mkdir(mode=0o755)
        folder = _copy_libraries(folders / "library")
        paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        with _count_reads(folder) as reads, server(home, folders, "--temporal", **settings) as client:
            show(f"[bold]A temporary server[/] is up at {client.url}, its data in {home}")
            client.ensure_collection(COLLECTION)
            connection = connect_folder(client, folder, "Python's standard library")
            job = _Job(client, connection.id, client.run(connection.id).id, len(paths), reads)
            show("")
            show(f"[bold]Syncing {COPIES} copies of Python's standard library[/] on Temporal: {len(paths):,} files")
            show(
                f"   see http://localhost:{ui_port}/namespaces/{NAMESPACE}/workflows/sync-{job.id}",
            )
            victims = (
                _Victim("the worker", 0.2, lambda: _find_child("worker"), lambda: True),
                _Victim("Temporal", 0.45, lambda: _find_child("start-dev"), lambda: _listens(port)),
                _Victim("Postgres", 0.7, lambda: _find_postgres(home / DATA), lambda: _is_ready(client)),
            )
            ended = _follow_and_kill(job, victims)
            _check_end(ended, len(paths))
            _check_workflow(ui_port, job.id)
            _check_agreement(client, connection, paths)
    show("")
    show("[bold green]Every step passed.[/] Next: [bold].venv/bin/airweave-server up --temporal[/]")


@dataclass(frozen=True)
class _Victim:
    """A process to kill when ``share`` of the files are in. ``pid``: its process id, None while it is down.
    ``answers``: whether it can be used."""

    title: str
    share: float
    pid: Callable[[], int | None]
    answers: Callable[[], bool]


class _Reads:
    """Counts the files below a folder that were opened again, and after which kill, as the kernel reports it.

    ``watches``: the folders by inotify number; empty if the kernel cannot report.
    """

    def __init__(self, notify: int, watches: dict[int, Path]) -> None:
        self._notify = notify
        self._watches = watches
        self._opened: dict[Path, int] = {}  # the number of kills before each file was opened
        self.kills = 0
        self.again: Counter[int] = Counter()  # by the number of the kill that undid the first reading

    @property
    def are_known(self) -> bool:
        return bool(self._watches)

    def take(self) -> None:
        """Count the events since the last call."""
        while self._watches:
            try:
                events = os.read(self._notify, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(events):
                watch, mask, _, length = EVENT.unpack_from(events, at)
                name = events[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0")
                at += EVENT.size + length
                if mask & OVERFLOW:
                    self._watches = {}
                    return
                if name and not mask & IS_FOLDER:
                    path = self._watches[watch] / os.fsdecode(name)
                    if path in self._opened:
                        self.again[self._opened[path]] += 1
                    self._opened[path] = self.kills


@dataclass(frozen=True)
class _Job:
    client: Client
    connection_id: UUID
    id: UUID
    files: int
    reads: _Reads

    def poll(self, limit_s: float, due: str) -> Iterator[wire.SourceConnectionJob]:
        """Yield the job again and again, whenever the API answers. Raises ``ClientError`` if it failed, or after
        ``limit_s`` seconds of waiting for ``due``."""
        deadline = time.monotonic() + limit_s
        while True:
            self.reads.take()
            seen: wire.SourceConnectionJob | None = None
            with suppress(ClientError):
                seen = self.client.job(self.connection_id, self.id)
            if seen is not None:
                require(seen.status not in ("failed", "cancelled"), f"the sync {seen.status}: {seen.error}")
                yield seen
            require(time.monotonic() < deadline, f"{limit_s:.0f} s were not enough for {due}")
            time.sleep(POLL_S)


@contextmanager
def _count_reads(folder: Path) -> Iterator[_Reads]:
    """Count from now on."""
    if sys.platform != "linux":
        yield _Reads(-1, {})
        return
    libc = ctypes.CDLL(None)
    notify: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    watches = {libc.inotify_add_watch(notify, os.fsencode(path), OPENED): Path(path) for path, _, _ in os.walk(folder)}
    try:
        yield _Reads(notify, watches if min(watches) >= 0 else {})
    finally:
        with suppress(OSError):
            os.close(notify)


def _follow_and_kill(job: _Job, victims: tuple[_Victim, ...]) -> wire.SourceConnectionJob:
    """Follow the job to its end and kill one victim after the other. Returns the job."""
    columns = (Words("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = list(victims)
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("pending", total=job.files)
        for seen in job.poll(JOB_S, "the sync"):
            progress.update(bar, completed=seen.entities_encountered, description=seen.status)
            if seen.status == "completed":
                break
            if left and seen.entities_encountered >= left[0].share * job.files:
                _kill(progress, bar, job, left.pop(0))
    require(not left, f"the sync ended before these were killed: {', '.join(victim.title for victim in left)}")
    _print_reads(job.reads, victims)
    return seen


def _kill(progress: Progress, bar: TaskID, job: _Job, victim: _Victim) -> None:
    """Kill the victim, and wait until it is back and the job has advanced."""
    pid = victim.pid()
    if pid is None:
        raise ClientError(f"there is no process of {victim.title} to kill")
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    job.reads.take()
    job.reads.kills += 1
    show(f"   [bold red]kill -9[/] {victim.title}, process {pid}")
    base = back_s = advanced_s = None
    for seen in job.poll(BACK_S, f"the job to advance after the kill of {victim.title}"):
        met = seen.entities_encountered
        progress.update(bar, completed=met)
        base = met if base is None else base  # from the first answer after the kill
        if advanced_s is None and met > base:
            advanced_s = time.monotonic() - killed_at
        if back_s is None and victim.pid() not in (None, pid) and victim.answers():
            back_s = time.monotonic() - killed_at
        if advanced_s is not None and back_s is not None:
            break
    show(
        f"   {victim.title} was back after {back_s:.1f} s; the job advanced after {advanced_s:.1f} s",
    )


def _find_child(word: str) -> int | None:
    """The id of the descendant process with this word on its command line."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if word in process.cmdline():
                return process.pid
    return None


def _find_postgres(data_dir: Path) -> int | None:
    return int(embedded.describe(data_dir).get("pid", 0)) or None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(client: Client) -> bool:
    try:
        client.ready()
    except ClientError:
        return False
    return True


def _print_reads(reads: _Reads, victims: tuple[_Victim, ...]) -> None:
    reads.take()
    if not reads.are_known:
        show("   the number of files read twice is unknown: this kernel does not report it")
        return
    lost = [reads.again[number] for number in range(len(victims))]
    lost[-1] += reads.again[len(victims)]  # opened in the moment before the worker noticed
    parts = ", ".join(f"{victim.title} {count:,}" for victim, count in zip(victims, lost, strict=True))
    show(
        f"   the kernel counted {sum(lost):,} files that were opened again, because of the kill of: {parts}",
    )


def _check_end(job: wire.SourceConnectionJob, files: int) -> None:
    met = job.entities_encountered
    require(job.engine == "temporal", f"the job ended on engine {job.engine}: {job.engine_reason}")
    require(met == files, f"the folder has {files} files, but the sync met {met}")
    require(job.entities_failed == 0, f"{job.entities_failed} files failed")
    show(
        f"   {job.entities_inserted:,} inserted, {job.entities_skipped:,} skipped, 0 failed "
        f"in {job.duration_seconds or 0.0:.0f} s; {job.attempts - 1} steps were repeated",
    )


def _check_workflow(ui_port: int, job_id: UUID) -> None:
    """Check with Temporal itself, through its UI, that the workflow has completed."""
    url = f"http://127.0.0.1:{ui_port}/api/v1/namespaces/{NAMESPACE}/workflows/sync-{job_id}"
    deadline = time.monotonic() + WORKFLOW_S
    while True:
        info = httpx.get(url).raise_for_status().json()["workflowExecutionInfo"]
        if info["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED":
            show(f"   Temporal: the workflow completed after {info['historyLength']} events")
            return
        require(time.monotonic() < deadline, f"the job completed, but its workflow is {info['status']}")
        time.sleep(POLL_S)


def _check_agreement(client: Client, connection: wire.SourceConnection, paths: set[str]) -> None:
    show("")
    show("[bold]Do folder, ledger and index agree?[/]")
    ledger = {entry.entity_id: entry.state for entry in client.entities(connection.id)}
    require(ledger.keys() == paths, f"ledger and folder differ in {sorted(ledger.keys() ^ paths)[:5]}")
    states = Counter(ledger.values())
    require(states.keys() <= {"indexed", "skipped"}, f"the ledger has entities in the states {dict(states)}")
    show(
        f"   the ledger has the {len(paths):,} files of the folder and nothing else: {states['indexed']:,} indexed, "
        f"{states['skipped']:,} skipped",
    )
    indexed = sorted(path for path, state in ledger.items() if state == "indexed")
    found: list[str] = []
    for start in range(0, len(indexed), IDS_AT_ONCE):
        found += _search_paths(client, "in", indexed[start : start + IDS_AT_ONCE])
    require(sorted(found) == indexed, f"the index lacks {sorted(set(indexed) - set(found))[:5]}")
    strangers = _search_paths(client, "not_in", indexed)
    require(not strangers, f"the index also has {strangers[:5]}")
    show(f"   search finds each of the {len(indexed):,} indexed files and nothing else")
    for number, path in enumerate(MARKED):
        hits = search(client, f"{MARKER}_{number}", limit=1)
        require(bool(hits) and place(hits[0]) == path, f"{MARKER}_{number} was not found in {path}")
    show(f"   search finds {MARKER}_0 to _{len(MARKED) - 1}, which were written into {', '.join(MARKED)}")
    show("   and a second sync has nothing to do:")
    job = sync(client, connection, len(paths))
    touched = tuple(getattr(job, f"entities_{name}") for name in ("inserted", "updated", "deleted"))
    require(touched == (0, 0, 0), f"there were {touched} inserts, updates and deletes")


def _search_paths(client: Client, operator: str, paths: list[str]) -> list[str]:
    """The indexed files whose path is ``in`` these, or ``not_in``."""
    condition = {"field": "airweave_system_metadata.original_entity_id", "operator": operator, "value": paths}
    asked = fill(
        wire.SearchRequest,
        query="python",
        retrieval_strategy="semantic",
        limit=PAGE,
        filter=[{"conditions": [condition]}],
    )
    return [place(hit) for hit in client.search(COLLECTION, asked)]


def _copy_libraries(folder: Path) -> Path:
    """Several copies of the standard library; some files are marked."""
    first = copy_library(folder / "copy-1")
    for number in range(2, COPIES + 1):
        shutil.copytree(first, folder / f"copy-{number}")
    for number, path in enumerate(MARKED):
        with (folder / path).open("a") as file:
            file.write(f"\n# {MARKER}_{number}\n")
    return folder
