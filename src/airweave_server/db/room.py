"""Room on the disk that the database writes to: how much is free, how much jobs leave free, and a reserve.

The reserve is a file that takes up room until the disk is full. It is removed first, so that Postgres can write its log
and recover, and a job can still record what it waits for.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from ..errors import NoRoom

MEBIBYTE = 1024 * 1024
RESERVE_BYTES = 64 * MEBIBYTE  # four segments of Postgres' log: a recovery writes one or two
START_BYTES = 32 * MEBIBYTE  # that Postgres needs to start; also, below this the reserve is given up
NEW_BYTES = 300_000_000  # for a new database: itself, its log, the reserve, and what jobs leave free
REPORTED_S = 60.0  # a report of a full disk counts for this long: longer than a job waits before it tries again
DISK_FULL = "53100"  # SQLSTATE disk_full
# Postgres has no SQLSTATE for a quota, and reports full shared memory, which is no disk, as a full disk
FULL_WORDS, OTHER_WORDS = ("No space left on device", "Disk quota exceeded"), ("shared memory",)
FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT}


class Room:
    """The disk of the database.

    ``place``: the data directory of the embedded Postgres; None if Postgres is somewhere else. Then nothing can be
    measured, and only the errors of Postgres tell that its disk is full. ``least_bytes``: jobs leave this much free
    beside the reserve.
    """

    def __init__(self, place: Path | None = None, *, least_bytes: int = 0) -> None:
        self._place = place
        self._least_bytes = least_bytes
        self._reported: tuple[float, str] | None = None

    @property
    def needed_bytes(self) -> int | None:
        """What must be free for jobs to go on, the reserve included; None if it cannot be measured."""
        return None if self._place is None else self._least_bytes + RESERVE_BYTES

    def free_bytes(self) -> int | None:
        """What is free, counting the reserve; None if it cannot be measured."""
        if self._place is None:
            return None
        with suppress(OSError):
            return free_bytes(self._place) + Reserve(self._place).held_bytes()
        return None

    def shortage(self) -> str | None:
        """Why jobs must wait, by what is free now; None if there is room, or nothing to measure."""
        free, needed = self.free_bytes(), self.needed_bytes
        if free is None or needed is None or free >= needed:
            return None
        return (
            f"the disk of the database has {in_mb(free)} free and jobs need {in_mb(needed)}: free at least "
            f"{in_mb(needed - free)}; they then go on by themselves"
        )

    def describe(self) -> str:
        """What is free and what is needed, for people."""
        free, needed = self.free_bytes(), self.needed_bytes
        if free is None or needed is None:
            return "its disk cannot be measured from here"
        return self.shortage() or f"{in_mb(free)} free; jobs wait below {in_mb(needed)}"

    def require(self) -> None:
        """Raise ``NoRoom`` if jobs must wait."""
        if (shortage := self.shortage()) is not None:
            raise NoRoom(shortage)

    def report(self, error: BaseException) -> None:
        """Remember that this error, if it is one of a full disk, has just occurred."""
        if is_storage_full(error):
            self._reported = time.monotonic(), "Postgres reports that its disk is full"

    def trouble(self) -> str | None:
        """Why there is no room: ``shortage`` or, where nothing can be measured, a full disk that was reported less than
        ``REPORTED_S`` ago."""
        if self._place is not None:
            return self.shortage()
        reported = self._reported
        return reported[1] if reported is not None and time.monotonic() - reported[0] < REPORTED_S else None

    def to_wire(self) -> dict[str, Any]:
        """Its state, as /health shows it."""
        trouble = self.trouble()
        return {
            "status": "ok" if trouble is None else "full",
            "free_bytes": self.free_bytes(),
            "needed_bytes": self.needed_bytes,
            "reason": trouble,
        }


class Reserve:
    """The file in a data directory that keeps ``RESERVE_BYTES`` for bad times."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "reserve"

    def held_bytes(self) -> int:
        """The room that giving it up makes free."""
        try:
            return self.path.stat().st_blocks * 512
        except OSError:
            return 0

    def keep(self) -> None:
        """Take up the room, unless it is taken up already. Does nothing if the disk is too full."""
        if self.path.exists():
            return
        fresh = self.path.with_suffix(".new")
        try:
            with open(fresh, "wb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as file:
                _allocate(file.fileno())
            os.replace(fresh, self.path)
        except OSError:
            fresh.unlink(missing_ok=True)

    def give_up(self) -> bool:
        """Make the room free. Returns whether there was any."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True


def free_bytes(place: Path) -> int:
    """What is free for ordinary users on the disk of ``place``, or of its nearest parent that exists."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def in_mb(count: int) -> str:
    """A number of bytes in MB, for people."""
    return f"{count / 1_000_000:,.1f} MB"


def is_storage_full(error: BaseException) -> bool:
    """Whether a disk is full: that of Postgres, which said so, or one of ours, on which this error was raised."""
    return any(map(_tells_full_disk, _causes(error)))


def _tells_full_disk(error: BaseException) -> bool:
    if isinstance(error, NoRoom):
        return True
    if isinstance(error, OSError):
        return error.errno in FULL_ERRORS
    if not isinstance(error, psycopg.Error):
        return False
    text = str(error)
    told = error.sqlstate == DISK_FULL or any(words in text for words in FULL_WORDS)
    return told and not any(words in text for words in OTHER_WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, down to the first cause."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.orig if isinstance(found, DBAPIError) and found.orig is not None else found.__cause__


def _allocate(file: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, RESERVE_BYTES)
    else:  # macOS
        for _ in range(RESERVE_BYTES // MEBIBYTE):
            os.write(file, os.urandom(MEBIBYTE))  # a file system that compresses keeps no room for zeros
    os.fsync(file)
