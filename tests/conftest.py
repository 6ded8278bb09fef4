"""What all tests share: one real embedded Postgres a session, a fresh database a module, real servers as processes."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from running import Running, Server

OURS = ("AIRWEAVE_", "API_", "AUTH_", "ALLOW", "DATABASE_URL", "VAULT_", "EMBEDDER", "LOG_", "ENABLE_")

for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]  # what a developer has set must not decide about a test


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder that the OS user of Postgres can pass through, as pytest's own cannot when we are root."""
    path = Path(tempfile.mkdtemp(prefix="airweave-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[str]:
    """The URL of the session's Postgres, without a database of ours."""
    server = EmbeddedPostgres(scratch / "postgres")
    url = server.start()
    yield url
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """A migrated database to make copies of."""
    url = _create(postgres, "template_of_ours", template=None)
    database = Database(url)
    database.check()
    database.migrate()
    database.close()
    return "template_of_ours"


@pytest.fixture(scope="module")
def database_url(postgres: str, template: str) -> Iterator[str]:
    """A migrated, empty database of this test module's own."""
    name = f"t_{uuid4().hex}"
    yield _create(postgres, name, template=template)
    _drop(postgres, name)


@pytest.fixture(scope="module")
def fresh_database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def running(scratch: Path, database_url: str) -> Iterator[Running]:
    """Starts server processes on the module's database and ends them all."""
    place = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
    place.chmod(0o711)
    started = Running(place, database_url)
    yield started
    started.stop_all()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line at the end of the whole run: seeds, and what happened at random."""
    return lambda line: request.node.user_properties.append(("say", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, line in report.user_properties:
            if name == "say" and report.when == "call":
                terminalreporter.line(f"{report.nodeid}: {line}")


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    """One server with short leases, the test sources and the tests' folder root."""
    return running.start()


def _create(url: str, name: str, *, template: str | None) -> str:
    made = sql.SQL("create database {}").format(sql.Identifier(name))
    if template is not None:
        made += sql.SQL(" template {}").format(sql.Identifier(template))
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute(made)
    head, _, tail = url.partition("/airweave?")
    return f"{head}/{name}?{tail}"


def _drop(url: str, name: str) -> None:
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
