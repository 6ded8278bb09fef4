"""What the tests of faults share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from running import Running


@pytest.fixture
def database(apart: Running) -> Iterator[Database]:
    """The database of a test's own."""
    opened = Database(apart.database_url)
    yield opened
    opened.close()


@pytest.fixture
def place(scratch: Path) -> Path:
    """A folder that the OS user of Postgres can pass through."""
    made = Path(tempfile.mkdtemp(prefix="frail-", dir=scratch))
    made.chmod(0o711)
    return made


@pytest.fixture
def frail(place: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of the test's own, to be ended."""
    server = EmbeddedPostgres(place / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def on_frail(request: pytest.FixtureRequest, place: Path, frail: EmbeddedPostgres, driver: str) -> Iterator[Running]:
    """Servers on that Postgres."""
    temporal = request.getfixturevalue("temporal_server") if driver == "temporal" else None
    own = place / "servers"
    own.mkdir(mode=0o711)
    times = request.config.getoption("--default-times")
    forker = request.getfixturevalue("forker")
    started = Running(own, frail.start(), temporal=temporal, default_times=times, forker=forker)
    yield started
    started.stop_all()
