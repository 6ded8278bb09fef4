"""What counts as a full disk, and the reserve in a data directory."""

import errno
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from airweave_server.db import room
from airweave_server.db.room import Reserve, Room, is_storage_full
from airweave_server.errors import NoRoom
from airweave_server.sdk import Unavailable
from airweave_server.sync.trouble import judge


def of_postgres(kind: type[psycopg.Error], message: str) -> DBAPIError:
    return DBAPIError("insert", None, kind(message))


def caused_by(error: OSError) -> Unavailable:
    wrapped = Unavailable("the server cannot write a temporary file")
    wrapped.__cause__ = error
    return wrapped


FULL = {
    "SQLSTATE 53100": of_postgres(psycopg.errors.DiskFull, "could not extend file"),
    "a PANIC without a SQLSTATE": of_postgres(psycopg.OperationalError, "PANIC: xlogtemp: No space left on device"),
    "a quota of Postgres": of_postgres(psycopg.errors.InternalError, "could not write: Disk quota exceeded"),
    "an I/O error": of_postgres(psycopg.errors.IoError, "could not write: No space left on device"),
    "a temporary file": caused_by(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    "a quota of ours": caused_by(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))),
    "too little room": NoRoom("2 MB are free"),
}
NOT_FULL = {
    "memory": of_postgres(psycopg.errors.OutOfMemory, "out of memory"),
    "connections": of_postgres(psycopg.errors.TooManyConnections, "sorry, too many clients already"),
    "shared memory": of_postgres(
        psycopg.errors.DiskFull, 'could not resize shared memory segment "/P.1": No space left on device'
    ),
    "another error of a file": caused_by(OSError(errno.EACCES, os.strerror(errno.EACCES))),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_disk_is_waited_for_without_a_limit(error: Exception) -> None:
    assert is_storage_full(error)
    verdict = judge(error, ())
    assert (verdict.category, verdict.waiting_for) == ("storage_full", "storage")
    assert verdict.waiting
    assert not verdict.final
    assert not verdict.has_limit
    assert 5 <= verdict.wait_after(0) <= verdict.wait_after(10_000) <= 60


@pytest.mark.parametrize("error", NOT_FULL.values(), ids=NOT_FULL)
def test_what_is_no_full_disk(error: Exception) -> None:
    assert not is_storage_full(error)
    assert judge(error, ()).category != "storage_full"


def test_a_reported_full_disk_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Room()
    assert (disk.trouble(), disk.to_wire()["status"]) == (None, "ok")
    disk.report(NOT_FULL["memory"])
    assert disk.trouble() is None
    disk.report(FULL["SQLSTATE 53100"])
    assert disk.to_wire()["status"] == "full"
    disk.require()  # jobs try again: nothing can be measured
    monkeypatch.setattr(room, "REPORTED_S", 0.0)
    assert disk.trouble() is None


def test_the_reserve_takes_up_room_and_gives_it_back(tmp_path: Path) -> None:
    reserve, disk = Reserve(tmp_path), Room(tmp_path, least_bytes=1_000)
    assert reserve.held_bytes() == 0
    reserve.keep()
    assert reserve.held_bytes() >= room.RESERVE_BYTES
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    made = reserve.path.stat().st_ino
    reserve.keep()
    assert reserve.path.stat().st_ino == made
    assert disk.needed_bytes == 1_000 + room.RESERVE_BYTES
    assert disk.shortage() is None
    disk.report(FULL["SQLSTATE 53100"])
    assert disk.trouble() is None  # it is over: what is measured counts
    assert reserve.give_up()
    assert not reserve.give_up()
    assert reserve.held_bytes() == 0


def test_a_shortage_says_how_much_to_free(tmp_path: Path) -> None:
    disk = Room(tmp_path / "not" / "yet", least_bytes=10**18)
    with pytest.raises(NoRoom, match=r"has [\d,.]+ MB free and jobs need [\d,.]+ MB: free at least [\d,.]+ MB"):
        disk.require()
    assert str(tmp_path) not in str(disk.to_wire())  # /health may be open to anybody
