"""Small file systems for tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A file system in memory of this size, as ``mount`` writes it, at ``place``. Skips the test if it cannot."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, *, leave_bytes: int = 0) -> Path:
    """Fill the disk of ``place``, as another program does, but for this many bytes. Returns the file; remove it."""
    filler = place / f"filler-{len(list(place.glob('filler-*')))}"
    with filler.open("wb", buffering=0) as file:
        try:
            while (left := shutil.disk_usage(place).free - leave_bytes) > 0:
                file.write(bytes(min(left, 1 << 20)))
        except OSError:
            pass
    return filler
