"""F5: the disk of the data directory is filled, by a sync and by another program, while Postgres is killed on it."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from airweave_server.db import room
from airweave_server.db.embedded import attach
from airweave_server.db.session import Database
from invariants import agree, hold, watch
from running import TERMINAL, Running, in_folder, refusal, write
from small_disk import fill, mounted

SIZE = "420m"
FILES, WORDS = 400, 1_000  # more than fits into what is left
SPARE_BYTES = 15_000_000  # that a job may write before it waits


@pytest.fixture
def small(request: pytest.FixtureRequest, scratch: Path, driver: str) -> Iterator[Running]:
    """Servers whose data directory is on a small disk."""
    place = Path(tempfile.mkdtemp(prefix="room-", dir=scratch))
    place.chmod(0o711)
    with mounted(place / "data", SIZE):
        temporal = request.getfixturevalue("temporal_server") if driver == "temporal" else None
        running = Running(place, "", temporal=temporal, default_times=request.config.getoption("--default-times"))
        yield running
        running.stop_all()


def watch_it(running: Running, data: Path) -> None:
    """Let the invariants look at the embedded Postgres of a server."""
    running.database_url = attach(data)
    database = Database(running.database_url)
    watch(database)
    database.close()


@pytest.mark.fault("F5", on="temporal")
def test_a_full_disk_is_waited_for_and_survived(small: Running, say: Callable[[str], None]) -> None:
    data = small.place / "data"
    filler = fill(data, leave_bytes=room.NEW_BYTES - 1_000_000)
    line = refusal(small.command("up", "--port", "0"))
    assert "a new database needs 300.0 MB to start: free at least 1.0 MB" in line
    filler.unlink()

    server = small.start(verb="up", EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    needed = server.get("/health")["storage"]["needed_bytes"]
    watch_it(small, data)
    assert (data / "reserve").stat().st_blocks * 512 >= room.RESERVE_BYTES
    folder = server.folder()
    write(folder, range(FILES), version=1)
    for path in folder.rglob("*.txt"):
        path.write_text(path.read_text() + " ".join(f"{path.stem}w{number}" for number in range(WORDS)))
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    fill(data, leave_bytes=needed - room.RESERVE_BYTES + SPARE_BYTES)
    job = server.run(connection)

    def now() -> dict[str, Any]:
        """The job, or nothing while Postgres is away: the disk may fill before the reserve is given up."""
        answer = server.http.get(f"/source-connections/{connection}/jobs/{job}")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def waits() -> bool:
        seen = now()
        return seen.get("waiting_for") == "storage" and "jobs need 195.1 MB: free at least" in (seen["error"] or "")

    server.wait_for(waits, bool)  # it stops by itself, with the disk not full
    assert shutil.disk_usage(data).free > room.START_BYTES
    assert server.job(connection, job)["entities_inserted"] < FILES
    assert server.get("/health")["storage"]["status"] == "full"
    hold(small)

    fill(data)
    server.wait_for(lambda: (data / "reserve").exists(), lambda there: not there)
    server.wait_for(waits, bool)  # with what the reserve made free, even that can be written
    fill(data)
    process = psutil.Process(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
    process.kill()
    health = server.wait_for(lambda: server.get("/health"), lambda seen: seen["database"] == "down")
    assert (health["storage"]["status"], health["status"]) == ("full", "degraded")
    time.sleep(2)  # while it cannot start

    for one in data.glob("filler-*"):
        one.unlink()
    began_at = time.monotonic()
    server.wait_for(lambda: server.get("/health"), lambda seen: seen["database"] == "up")
    server.wait_for(now, lambda seen: seen.get("status") in TERMINAL, 120)
    ended = now()
    say(f"completed {time.monotonic() - began_at:.1f} s after there was room")
    assert (ended["status"], ended["error"], ended["entities_failed"]) == ("completed", None, 0)
    hold(small, ended, listed=FILES)
    agree(small, connection, in_folder(folder))
    server.wait_for(
        lambda: server.get("/health"), lambda seen: seen["status"] == "healthy" and seen["storage"]["reason"] is None
    )
    assert (data / "reserve").exists()

    server.terminate()
    fill(data)
    (data / "reserve").rename(data / "filler-too")  # of the reserve nothing is left
    line = refusal(small.command("up", "--port", "0", DATABASE_URL=""))
    assert "Postgres needs 33.6 MB to start: free at least" in line


def test_a_job_waits_before_the_disk_is_full(scratch: Path) -> None:
    """On any disk: here, jobs are to leave more free than there is."""
    place = Path(tempfile.mkdtemp(prefix="room-", dir=scratch))
    place.chmod(0o711)
    running = Running(place, "")
    try:
        server = running.start(verb="up", MIN_FREE_MB="1000000000")
        watch_it(running, place / "data")
        folder = server.folder()
        write(folder, range(5), version=1)
        connection = server.connect(server.collection(), "folder", {"path": str(folder)})
        job = server.run(connection)
        seen = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] == "storage")
        assert (seen["status"], seen["entities_encountered"]) == ("running", 0)
        assert "they then go on by themselves" in seen["error"]
        doctor = running.command("doctor", "--json", DATABASE_URL="", MIN_FREE_MB="1000000000")
        assert "free at least" in json.loads(doctor.stdout)["facts"]["room"]
        server.terminate()
        held = (place / "data" / "reserve").stat().st_blocks * 512
        assert held >= room.RESERVE_BYTES
        server = running.start(verb="up", DATABASE_URL="")
        assert server.finish(connection, job)["status"] == "completed"
        hold(running)
    finally:
        running.stop_all()
