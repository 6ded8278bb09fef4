"""``airweave-server up`` as a person runs it: everything embedded, ended in every way, and started again."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from running import Running, Server

Up = Callable[..., Server]


@pytest.fixture
def up(scratch: Path) -> Iterator[Up]:
    """Starts servers with an embedded Postgres of their own; ends them, and what a kill left behind."""
    place = Path(tempfile.mkdtemp(prefix="up ", dir=scratch))  # with a space
    place.chmod(0o711)
    running = Running(place, "")
    homes: set[Path] = set()

    def start(name: str = "data", **more: str) -> Server:
        homes.add(place / name)
        return running.start(verb="up", AIRWEAVE_DATA_DIR=str(place / name), **more)

    yield start
    running.stop_all()
    for home in homes:
        if (process := postmaster(home)) is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def postmaster(home: Path) -> psutil.Process | None:
    try:
        return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def home_of(server: Server) -> Path:
    return server.log.parent / "data"


def filled(server: Server, count: int = 40) -> tuple[str, str]:
    folder, collection = server.folder(), server.collection()
    for number in range(count):
        (folder / f"note{number}.md").write_text(f"# Note {number}\n\nIt tells of animal{number}.\n")
    return collection, server.connect(collection, "folder", {"path": str(folder)})


def test_it_stops_postgres_too_and_starts_again_with_what_it_had(up: Up) -> None:
    server = up()
    collection, connection = filled(server)
    server.sync(connection)
    home = home_of(server)
    assert postmaster(home) is not None
    assert server.terminate() == 0
    assert postmaster(home) is None
    said = server.log.read_text()
    assert str(home) in said
    assert "docs at" in said
    again = up()
    assert again.found(collection, "animal7")[0] == "note7.md"
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(30) == 0
    assert postmaster(home) is None


def test_killed_it_leaves_postgres_which_the_next_start_adopts_with_the_job(up: Up) -> None:
    server = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.3")
    collection, connection = filled(server, 1_000)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    home = home_of(server)
    process = postmaster(home)
    assert process is not None
    server.kill()
    assert process.is_running()
    again = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    found = postmaster(home)
    assert found is not None
    assert found.pid == process.pid
    ended = again.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"], ended["attempts"]) == ("completed", 1_000, 2)
    assert again.found(collection, "animal777", retrieval_strategy="keyword") == ["note777.md"]


def test_a_killed_postmaster_is_restarted_and_the_job_goes_on(up: Up) -> None:
    server = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.3")
    _, connection = filled(server, 1_000)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    process = postmaster(home_of(server))
    assert process is not None
    process.kill()
    server.wait_for(lambda: postmaster(home_of(server)), lambda found: found not in (None, process))
    server.wait_for(lambda: server.http.get("/health/ready").status_code, lambda code: code == 200)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 1_000)


def test_two_servers_live_side_by_side_and_a_second_owner_is_refused(up: Up, scratch: Path) -> None:
    one, other = up("data"), up("other")
    collection, connection = filled(one, 3)
    one.sync(connection)
    assert other.http.get(f"/collections/{collection}").status_code == 404
    third = Running(Path(tempfile.mkdtemp(dir=scratch)), "")
    began_at = time.monotonic()
    refused = third.start(verb="up", ready=False, AIRWEAVE_DATA_DIR=str(home_of(one)))
    assert refused.process.wait(60) == 1
    assert time.monotonic() - began_at < 60  # it takes 2 s at rest, and does not wait for the owner
    last = refused.log.read_text().strip().splitlines()[-1]
    assert str(one.process.pid) in last
    assert last.startswith("airweave-server: ")
    assert one.found(collection, "animal1")
