"""What processes use, read from /proc: CPU seconds, and memory as PSS, in which what several share counts once.

A server's own processes and those of its Postgres, which are its children, are told apart by the program's name.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 0.1
POSTGRES = "postgres"
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds, user and system together."""

    server_s: float
    postgres_s: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.server_s - before.server_s, self.postgres_s - before.postgres_s)


@dataclass(slots=True)
class Memory:
    """Peaks of memory in MB. ``together`` is the peak of the sum, not the sum of the peaks."""

    server: float = 0.0
    postgres: float = 0.0
    together: float = 0.0
    samples: int = 0


def family(pid: int) -> Iterator[tuple[psutil.Process, bool]]:
    """The process and its descendants, and whether each is Postgres."""
    with suppress(*GONE):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(*GONE):
                yield process, process.name() == POSTGRES


def cpu(pid: int) -> Cpu:
    """The CPU time of all processes so far. The postmaster counts that of ended backends, which it waited for."""
    server = postgres = 0.0
    for process, is_postgres in family(pid):
        with suppress(*GONE):
            times = process.cpu_times()
            if is_postgres:
                postgres += times.user + times.system + times.children_user + times.children_system
            else:
                server += times.user + times.system
    return Cpu(server, postgres)


def memory(pid: int) -> Memory:
    """The current memory."""
    now = Memory(samples=1)
    for process, is_postgres in family(pid):
        size = _pss_mb(process.pid)
        now.together += size
        if is_postgres:
            now.postgres += size
        else:
            now.server += size
    return now


@contextmanager
def sampled(pid: int, *, every_s: float = SAMPLE_S) -> Iterator[Memory]:
    """Measure peaks during this block. Measuring slows the processes, so it is not for timed runs."""
    peaks = Memory()
    done = threading.Event()

    def watch() -> None:
        while True:
            began_at = time.monotonic()
            now = memory(pid)
            peaks.server = max(peaks.server, now.server)
            peaks.postgres = max(peaks.postgres, now.postgres)
            peaks.together = max(peaks.together, now.together)
            peaks.samples += 1
            # measuring takes at most a fifth of the time
            if done.wait(max(every_s, 4 * (time.monotonic() - began_at))):
                return

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def _pss_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
