"""``airweave-server demo --durable``: one job on Temporal, and ``kill -9`` for its worker, Temporal and Postgres while
it runs; then the proof that folder, ledger and index agree."""

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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .. import wire
from ..client import Client, fill
from ..db import embedded
from ..errors import ClientError
from .demo import (
    COLLECTION,
    DATA,
    POLL_S,
    connect_folder,
    copy_library,
    free_ports,
    hold,
    place,
    scratch,
    search,
    server,
    sync,
)

COPIES = 4
JOB_S = 600.0
BACK_S = 90.0  # for what was killed to be there again, and for the job to advance
WORKFLOW_S = 30.0
PAGE = 1_000
IDS_AT_ONCE = 500
MARKER = "DURABLE_4711"
MARKED = ("copy-1/abc.py", "copy-2/json/decoder.py", "copy-4/zipimport.py")
NAMESPACE = "default"

# of inotify(7)
OPENED, OVERFLOW, IS_FOLDER = 0x20, 0x4000, 0x40000000
EVENT = struct.Struct("iIII")


def run(out: Console) -> None:
    """Show it, checking each step. Raises ``ClientError`` at the first one that does not hold."""
    port, ui_port = free_ports(2)
    settings = {"TEMPORAL_PORT": str(port), "TEMPORAL_UI_PORT": str(ui_port), "TEMPORAL_NAMESPACE": NAMESPACE}
    with scratch() as home:
        folders = home / "folders"
        folders.mkdir(mode=0o755)
        folder = _copies(folders / "library")
        paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        with _reads(folder) as reads, server(home, folders, "--temporal", **settings) as client:
            out.print(f"[bold]A throw-away server[/] is up at {client.url}, its data in {home}", soft_wrap=True)
            client.ensure_collection(COLLECTION)
            connection = connect_folder(client, folder, "Python's standard library")
            job = _Job(client, connection.id, client.run(connection.id).id, len(paths), reads)
            out.print(
                f"\n[bold]Syncing {COPIES} copies of Python's standard library[/] on Temporal: {len(paths):,} files\n"
                f"   see http://localhost:{ui_port}/namespaces/{NAMESPACE}/workflows/sync-{job.id}",
                soft_wrap=True,
            )
            victims = (
                _Victim("the worker", 0.2, lambda: _ours("worker"), lambda: True),
                _Victim("Temporal", 0.45, lambda: _ours("start-dev"), lambda: _listens(port)),
                _Victim("Postgres", 0.7, lambda: _postgres(home / DATA), lambda: _is_ready(client)),
            )
            ended = _through(out, job, victims)
            _hold_end(out, ended, len(paths))
            _hold_workflow(out, ui_port, job.id)
            _hold_agreement(out, client, connection, paths)
    out.print("\n[bold green]Every step held.[/] Now: [bold].venv/bin/airweave-server up --temporal[/]", soft_wrap=True)


@dataclass(frozen=True)
class _Victim:
    """What is killed when ``share`` of the files are in. ``pid``: its process, None while there is none; ``answers``:
    whether that can be used."""

    title: str
    share: float
    pid: Callable[[], int | None]
    answers: Callable[[], bool]


class _Reads:
    """Which files below a folder were opened again, as the kernel tells it, and after which kill. ``watches``: the
    folders by number; none where the kernel cannot tell."""

    def __init__(self, notify: int, watches: dict[int, Path]) -> None:
        self._notify = notify
        self._watches = watches
        self._opened: dict[Path, int] = {}  # how many kills there had been then
        self.kills = 0
        self.again: Counter[int] = Counter()  # by the number of the kill that undid the first reading

    @property
    def are_known(self) -> bool:
        return bool(self._watches)

    def take(self) -> None:
        """Count what the kernel told since the last time."""
        while self._watches:
            try:
                told = os.read(self._notify, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(told):
                watch, mask, _, length = EVENT.unpack_from(told, at)
                name = told[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0")
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

    def looks(self, limit_s: float, due: str) -> Iterator[wire.SourceConnectionJob]:
        """The job, again and again, whenever the API can tell. Raises ``ClientError`` when it failed, and when
        ``limit_s`` are over before ``due``."""
        deadline = time.monotonic() + limit_s
        while True:
            self.reads.take()
            seen: wire.SourceConnectionJob | None = None
            with suppress(ClientError):
                seen = self.client.job(self.connection_id, self.id)
            if seen is not None:
                hold(seen.status not in ("failed", "cancelled"), f"the sync {seen.status}: {seen.error}")
                yield seen
            hold(time.monotonic() < deadline, f"{limit_s:.0f} s were not enough for {due}")
            time.sleep(POLL_S)


@contextmanager
def _reads(folder: Path) -> Iterator[_Reads]:
    """Counts from now on."""
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


def _through(out: Console, job: _Job, victims: tuple[_Victim, ...]) -> wire.SourceConnectionJob:
    """Follow the job to its end, killing one after the other; returns the job."""
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = list(victims)
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("pending", total=job.files)
        for seen in job.looks(JOB_S, "the sync"):
            progress.update(bar, completed=seen.entities_encountered, description=seen.status)
            if seen.status == "completed":
                break
            if left and seen.entities_encountered >= left[0].share * job.files:
                _kill(progress, bar, job, left.pop(0))
    hold(not left, f"the sync was over before all was killed: {', '.join(victim.title for victim in left)}")
    _say_reads(out, job.reads, victims)
    return seen


def _kill(progress: Progress, bar: TaskID, job: _Job, victim: _Victim) -> None:
    """Kill it, and wait until it is there again and the job has advanced."""
    pid = victim.pid()
    if pid is None:
        raise ClientError(f"there is no process of {victim.title} to kill")
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    job.reads.take()
    job.reads.kills += 1
    progress.console.print(f"   [bold red]kill -9[/] {victim.title}, process {pid}", soft_wrap=True)
    base = back_s = advanced_s = None
    for seen in job.looks(BACK_S, f"the job to advance after the kill of {victim.title}"):
        came = seen.entities_encountered
        progress.update(bar, completed=came)
        base = came if base is None else base  # as the first answer after the kill has it
        if advanced_s is None and came > base:
            advanced_s = time.monotonic() - killed_at
        if back_s is None and victim.pid() not in (None, pid) and victim.answers():
            back_s = time.monotonic() - killed_at
        if advanced_s is not None and back_s is not None:
            break
    progress.console.print(
        f"   {victim.title} was there again after {back_s:.1f} s; the job advanced after {advanced_s:.1f} s",
        soft_wrap=True,
    )


def _ours(word: str) -> int | None:
    """The process started below this one that has this word in its command line."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if word in process.cmdline():
                return process.pid
    return None


def _postgres(data_dir: Path) -> int | None:
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


def _say_reads(out: Console, reads: _Reads, victims: tuple[_Victim, ...]) -> None:
    reads.take()
    if not reads.are_known:
        out.print("   how many files were read twice is not known: the kernel does not tell here")
        return
    lost = [reads.again[number] for number in range(len(victims))]
    lost[-1] += reads.again[len(victims)]  # opened in the moment before the worker noticed
    parts = ", ".join(f"{victim.title} {count:,}" for victim, count in zip(victims, lost, strict=True))
    out.print(
        f"   the kernel counted {sum(lost):,} files that were opened again; their first reading was lost with: {parts}",
        soft_wrap=True,
    )


def _hold_end(out: Console, job: wire.SourceConnectionJob, files: int) -> None:
    came = job.entities_encountered
    hold(job.engine == "temporal", f"the job was ended by {job.engine}: {job.engine_reason}")
    hold(came == files, f"{files} files are there, {came} came")
    hold(job.entities_failed == 0, f"{job.entities_failed} files failed")
    out.print(
        f"   {job.entities_inserted:,} inserted, {job.entities_skipped:,} skipped, 0 failed "
        f"in {job.duration_seconds or 0.0:.0f} s; {job.attempts - 1} steps were taken again",
        soft_wrap=True,
    )


def _hold_workflow(out: Console, ui_port: int, job_id: UUID) -> None:
    """Temporal itself, asked through its UI, says that the workflow has completed."""
    url = f"http://127.0.0.1:{ui_port}/api/v1/namespaces/{NAMESPACE}/workflows/sync-{job_id}"
    deadline = time.monotonic() + WORKFLOW_S
    while True:
        told = httpx.get(url).raise_for_status().json()["workflowExecutionInfo"]
        if told["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED":
            out.print(f"   Temporal: the workflow completed, after {told['historyLength']} events", soft_wrap=True)
            return
        hold(time.monotonic() < deadline, f"the job completed, but its workflow is {told['status']}")
        time.sleep(POLL_S)


def _hold_agreement(out: Console, client: Client, connection: wire.SourceConnection, paths: set[str]) -> None:
    out.print("\n[bold]Do folder, ledger and index agree?[/]")
    ledger = {entry.entity_id: entry.state for entry in client.entities(connection.id)}
    hold(ledger.keys() == paths, f"ledger and folder differ in {sorted(ledger.keys() ^ paths)[:5]}")
    states = Counter(ledger.values())
    hold(states.keys() <= {"indexed", "skipped"}, f"the ledger has entities in the states {dict(states)}")
    out.print(
        f"   the ledger has the {len(paths):,} files of the folder and nothing else: {states['indexed']:,} indexed, "
        f"{states['skipped']:,} skipped",
        soft_wrap=True,
    )
    indexed = sorted(path for path, state in ledger.items() if state == "indexed")
    found: list[str] = []
    for start in range(0, len(indexed), IDS_AT_ONCE):
        found += _searched(client, "in", indexed[start : start + IDS_AT_ONCE])
    hold(sorted(found) == indexed, f"the index lacks {sorted(set(indexed) - set(found))[:5]}")
    strangers = _searched(client, "not_in", indexed)
    hold(not strangers, f"the index also has {strangers[:5]}")
    out.print(f"   search finds each of the {len(indexed):,} indexed files and nothing else", soft_wrap=True)
    for number, path in enumerate(MARKED):
        hits = search(client, f"{MARKER}_{number}", limit=1)
        hold(bool(hits) and place(hits[0]) == path, f"{MARKER}_{number} was not found in {path}")
    out.print(
        f"   search finds {MARKER}_0 to _{len(MARKED) - 1}, which were written into {', '.join(MARKED)}", soft_wrap=True
    )
    out.print("   and a second sync has nothing to do:")
    job = sync(out, client, connection, len(paths))
    touched = tuple(getattr(job, f"entities_{name}") for name in ("inserted", "updated", "deleted"))
    hold(touched == (0, 0, 0), f"there were {touched} inserts, updates and deletes")


def _searched(client: Client, operator: str, paths: list[str]) -> list[str]:
    """The files in the index whose path is ``in`` these, or ``not_in``."""
    condition = {"field": "airweave_system_metadata.original_entity_id", "operator": operator, "value": paths}
    asked = fill(
        wire.SearchRequest,
        query="python",
        retrieval_strategy="semantic",
        limit=PAGE,
        filter=[{"conditions": [condition]}],
    )
    return [place(hit) for hit in client.search(COLLECTION, asked)]


def _copies(folder: Path) -> Path:
    """The standard library several times; some of the files are marked."""
    first = copy_library(folder / "copy-1")
    for number in range(2, COPIES + 1):
        shutil.copytree(first, folder / f"copy-{number}")
    for number, path in enumerate(MARKED):
        with (folder / path).open("a") as file:
            file.write(f"\n# {MARKER}_{number}\n")
    return folder
