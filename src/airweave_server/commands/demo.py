"""``airweave-server demo``: syncs and searches real folders in a temporary server that leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from .. import wire
from ..client import Client, fill
from ..errors import ClientError
from ..settings import Settings
from .common import Words, inline, out, show

START_S = 60.0
STOP_S = 45.0
SYNC_S = 120.0
POLL_S = 0.1
DATA = "data"
MARKER = "ZEBRA_4711"
COLLECTION = "demo"
COUNTS = ("inserted", "updated", "deleted", "kept", "skipped", "failed")


def run() -> None:
    """Run the demo and check each step. Raises ``ClientError`` at the first step that fails."""
    with scratch() as home:
        folders = home / "folders"
        folders.mkdir(mode=0o755)
        ours, theirs = _copy_docs(folders / "docs"), copy_library(folders / "stdlib")
        with server(home, folders) as client:
            show(f"[bold]A temporary server[/] is up at {client.url}, its data in {home}")
            client.ensure_collection(COLLECTION)
            for folder, title in ((ours, "this project's docs"), (theirs, "Python's standard library")):
                files = sum(1 for path in folder.rglob("*") if path.is_file())
                show("")
                show(f"[bold]Syncing {title}[/]: {files:,} files")
                connection = connect_folder(client, folder, title[:42])
                job = sync(client, connection, files)
                met = job.entities_encountered
                require(met == files, f"the folder has {files} files, but the sync met {met}")
                require(job.entities_failed == 0, f"{job.entities_failed} files failed")
            _run_searches(client)
            _change_files(client, connection, theirs)
    show("")
    show("[bold green]Every step passed.[/] Next: [bold]make up[/], then airweave-server add FOLDER")


def _run_searches(client: Client) -> None:
    for query, expected in (
        ("which settings decide about deletes", None),
        ("parse command line arguments", "argparse"),
        ("ZipImportError", "zipimport"),
    ):
        began_at = time.perf_counter()
        hits = search(client, query, limit=3)
        took_ms = (time.perf_counter() - began_at) * 1000
        show("")
        show(f"[bold]Search[/] {query!r}: {took_ms:.0f} ms")
        for hit in hits:
            show_hit(hit)
        found = [place(hit) for hit in hits]
        require(bool(hits), f"nothing was found for {query!r}")
        require(expected is None or any(expected in path for path in found), f"{expected} is not among {found}")


def _change_files(client: Client, connection: wire.SourceConnection, folder: Path) -> None:
    edited, removed = folder / "argparse.py", folder / "zipimport.py"
    edited.write_text(edited.read_text() + f"\n# {MARKER}: edited by the demo\n")
    (folder / "added_by_the_demo.md").write_text(f"# Added\n\nThis file was added; it says {MARKER}_NEW.\n")
    removed.unlink()
    before = sum(1 for path in folder.rglob("*") if path.is_file())
    show("")
    show("[bold]Edited 1 file, added 1, removed 1; syncing again[/]")
    job = sync(client, connection, before)
    touched = tuple(getattr(job, f"entities_{name}") for name in ("inserted", "updated", "deleted"))
    require(touched == (1, 1, 1), f"expected 1 insert, 1 update and 1 delete; there were {touched}")
    for query, expected in ((f"{MARKER}_NEW", "added_by_the_demo.md"), (MARKER, "argparse.py")):
        hits = search(client, query, limit=1)
        require(bool(hits) and place(hits[0]) == expected, f"{query} was not found in {expected}")
        show_hit(hits[0])
    gone = [place(hit) for hit in search(client, "ZipImportError", limit=10)]
    require("zipimport.py" not in gone, "the removed file is still found")
    show("   the removed file is no longer found")


def sync(client: Client, connection: wire.SourceConnection, files: int) -> wire.SourceConnectionJob:
    """Sync with a progress bar, and return the completed job."""
    job = client.run(connection.id)
    deadline = time.monotonic() + SYNC_S
    columns = (Words("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out) as progress:
        task = progress.add_task("reading", total=files)
        while job.status in ("pending", "running"):
            require(time.monotonic() < deadline, f"the sync took longer than {SYNC_S:.0f} s")
            time.sleep(POLL_S)
            job = client.job(connection.id, job.id)
            progress.update(task, completed=job.entities_encountered, description=job.status)
    require(job.status == "completed", f"the sync {job.status}: {job.error}")
    counts = ", ".join(f"{getattr(job, f'entities_{name}'):,} {name}" for name in COUNTS)
    rate = job.entities_encountered / max(job.duration_seconds or 0.0, 0.001)
    show(f"   {counts}: {rate:,.0f} docs/s")
    return job


def connect_folder(client: Client, folder: Path, name: str) -> wire.SourceConnection:
    """Connect the folder to the demo's collection, without syncing it."""
    body = fill(
        wire.SourceConnectionCreate,
        short_name="folder",
        readable_collection_id=COLLECTION,
        name=name,
        config={"path": str(folder)},
        sync_immediately=False,
    )
    return client.create_connection(body)


def search(client: Client, query: str, *, limit: int) -> list[wire.SearchResult]:
    return client.search(COLLECTION, fill(wire.SearchRequest, query=query, limit=limit))


def show_hit(hit: wire.SearchResult) -> None:
    passage = " ".join(hit.textual_representation.split())[:150]
    show(f"   [cyan]{inline(place(hit))}[/] {hit.relevance_score:.3f}  {inline(passage)}")


def place(hit: wire.SearchResult) -> str:
    """The path of the file that was found."""
    return hit.airweave_system_metadata.original_entity_id


def _copy_docs(folder: Path) -> Path:
    """A copy of this project's docs or, installed without them, of its own sources."""
    package = Path(__file__).parents[1]
    project = package.parent.parent
    if (project / "docs").is_dir() and (project / "pyproject.toml").is_file():
        shutil.copytree(project / "docs", folder)
        shutil.copy(project / "README.md", folder / "README.md")
    else:
        shutil.copytree(package, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def copy_library(folder: Path) -> Path:
    """A copy of Python's standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    left_out = shutil.ignore_patterns(
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "*.so",
        "*.a",
        "config-*",
        "idle_test",
        "*.exe",
        "lib2to3",
        "turtledemo",
    )
    shutil.copytree(library, folder, ignore=left_out, symlinks=False, ignore_dangling_symlinks=True)
    return folder


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder."""
    path = Path(tempfile.mkdtemp(prefix="airweave-demo-"))
    path.chmod(0o711)  # if we are root, Postgres runs as another user that must pass through
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def server(home: Path, folders: Path, *options: str, **settings: str) -> Iterator[Client]:
    """A temporary server with its data in ``home / DATA``, which ignores settings in the environment. All its processes
    end afterwards. Raises ``ClientError`` if it does not start."""
    port = free_ports(1)[0]
    environment = {key: value for key, value in os.environ.items() if not _is_setting(key)}
    environment |= {"AIRWEAVE_FOLDER_ROOTS": str(folders), "LOG_FORMAT": "json", **settings}
    command = [sys.executable, "-m", "airweave_server", "up", "--data-dir", str(home / DATA), "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    client = Client(f"http://127.0.0.1:{port}")
    try:
        _wait(client, process, home / "server.log")
        yield client
    finally:
        _end(process)


def _is_setting(variable: str) -> bool:
    return variable.startswith(("AIRWEAVE_", "TEMPORAL_")) or variable.lower() in Settings.model_fields


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and make sure that it and all its child processes are gone."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(family, timeout=1)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=1)


def _wait(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            client.ready()
            return
        except ClientError:
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(errors="replace").strip()
                raise ClientError(f"the demo's server did not start: {text[-2000:]}") from None
            time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """This many free ports of this machine."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def require(condition: bool, otherwise: str) -> None:
    """Raise ``ClientError`` unless the condition is true."""
    if not condition:
        raise ClientError(f"the demo failed: {otherwise}")
