"""Shared fixtures: one real embedded Postgres per session, a new database per module, and real server processes."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from psycopg import sql

import compatibility
from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from fault_table import fault_table
from forking import Forker
from invariants import watch
from running import IN_PROCESS, TEMPORAL, Running, Server, TemporalServer, plain
from servers.scripted_server import ScriptedServer

OURS = (
    "AIRWEAVE_",
    "TEMPORAL_",
    "LEASE_",
    "SLICE_",
    "TICK_",
    "RETRY_",
    "API_",
    "AUTH_",
    "ALLOW",
    "DATABASE_URL",
    "VAULT_",
    "EMBEDD",
    "LOG_",
    "ENABLE_",
    "WEBHOOK_",
)

EXIT_STATUS = pytest.StashKey[int]()
IN_SERVERS = {"scratch", "postgres"}  # a test that uses one of these fixtures, even indirectly, needs a server
SERVER_PROGRAMS = {"postgres", "initdb", "pg_ctl", "temporal", "airweave-server"}

for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]  # a developer's settings must not affect the tests


hypothesis.settings.register_profile("ours", deadline=None)  # the tests must pass on a slow, busy machine
hypothesis.settings.load_profile("ours")

# a shell that starts the run in the background makes it ignore Ctrl-C, which our servers would inherit
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--driver", default=IN_PROCESS, help="The driver of jobs in tests that do not choose one.")
    parser.addoption("--both-drivers", action="store_true", help="Run each fault on both drivers.")
    parser.addoption("--default-times", action="store_true", help="Use the default leases and timeouts.")
    parser.addoption("--cold-starts", action="store_true", help="Start every process of ours, never fork it.")
    parser.addoption("--no-servers", action="store_true", help="Skip every test that needs a server process.")
    parser.addoption("--fuzz-seed", type=int, help="Repeat the requests of the fuzz of this seed (default: random).")
    parser.addoption("--compatibility", help="Write what the public clients can do to this file.")
    parser.addoption("--fault-table", help="Write the results of the fault tests to this file.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-servers"):
        sys.addaudithook(refuse_servers)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--no-servers``, deselect tests that use ``scratch``, even indirectly: servers start in that folder."""
    if config.getoption("--no-servers"):
        left_out = {item for item in items if "scratch" in getattr(item, "fixturenames", ())}
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, 2), rank(item))
    items.sort(key=lambda item: ranks[item.path])  # stable: the tests of a file stay together


def rank(item: pytest.Item) -> int:
    """Faults take longest, tests without a server are quickest. The processes take files in this order, so that they
    end together."""
    if item.get_closest_marker("fault") is not None:
        return 0
    return 1 if "scratch" in getattr(item, "fixturenames", ()) else 2


def refuse_servers(event: str, arguments: tuple[object, ...]) -> None:
    """Keep the remaining tests from starting a server process."""
    if event != "subprocess.Popen":
        return
    command = arguments[1]
    words = [os.fsdecode(word) for word in command] if isinstance(command, list | tuple) else [os.fsdecode(command)]
    is_ours = any(pair in (("-m", "airweave_server"), ("-m", "forking")) for pair in pairwise(words))
    if is_ours or Path(words[0]).name in SERVER_PROGRAMS:
        raise RuntimeError(f"{words[0]} starts a server: the test must use the fixture scratch")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked ``fault("F1", on="temporal")`` on the driver at greater risk, on both if asked to or marked
    ``on="both"``."""
    mark = metafunc.definition.get_closest_marker("fault")
    if mark is None or "driver" not in metafunc.fixturenames:
        return
    on = mark.kwargs.get("on", IN_PROCESS)
    here = [IN_PROCESS, TEMPORAL] if on == "both" else [on]
    if metafunc.config.getoption("--both-drivers") and not mark.kwargs.get("only"):
        here = [IN_PROCESS, TEMPORAL]
    if here != [IN_PROCESS]:
        metafunc.parametrize("driver", here, indirect=True, scope="module")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Skip the normal exit, during which the Temporal client's native threads can abort the interpreter."""
    if "temporalio" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(config.stash.get(EXIT_STATUS, 1)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder that the OS user of Postgres can enter. If we are root, it cannot enter pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="airweave-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[str]:
    """The URL of the session's Postgres, which has no database of ours yet."""
    server = EmbeddedPostgres(scratch / "postgres")
    url = server.start()
    yield url
    server.stop()


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """The name of a migrated database to copy."""
    url = _create(postgres, "template_of_ours", template=None)
    database = Database(url)
    database.check()
    database.migrate()
    watch(database)
    database.close()
    return "template_of_ours"


@pytest.fixture(scope="module")
def database_url(postgres: str, template: str) -> Iterator[str]:
    """A migrated, empty database for this test module."""
    name = f"t_{uuid4().hex}"
    yield _create(postgres, name, template=template)
    _drop(postgres, name)


@pytest.fixture(scope="module")
def fresh_database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def temporal_server(scratch: Path) -> Iterator[TemporalServer]:
    """The session's Temporal server, for tests that neither stop nor change it."""
    server = TemporalServer(scratch / "temporal")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def forker(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Forker | None]:
    """What our processes are forked from. None with ``--cold-starts`` or ``--default-times``, and on macOS,
    where a process of several threads that forks may not go on."""
    options = request.config.getoption
    if sys.platform != "linux" or options("--cold-starts") or options("--default-times"):
        yield None
        return
    made = Forker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def driver(request: pytest.FixtureRequest) -> str:
    """The driver of this test's jobs: ``in_process`` or ``temporal``."""
    return str(getattr(request, "param", request.config.getoption("--driver")))


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, scratch: Path, database_url: str, driver: str) -> Iterator[Running]:
    """Starts server processes on the module's database with the test's driver, and ends them all."""
    yield from _running(request, scratch, database_url, driver)


@pytest.fixture
def apart(
    request: pytest.FixtureRequest, scratch: Path, postgres: str, template: str, driver: str
) -> Iterator[Running]:
    """Like ``running``, on a database for this test alone: for settings that no other process may share."""
    name = f"t_{uuid4().hex}"
    yield from _running(request, scratch, _create(postgres, name, template=template), driver)
    _drop(postgres, name)


@pytest.fixture
def empty(request: pytest.FixtureRequest, scratch: Path, postgres: str, driver: str) -> Iterator[Running]:
    """Like ``running``, on an empty database in which the first process creates the schema."""
    name = f"t_{uuid4().hex}"
    yield from _running(request, scratch, _create(postgres, name, template=None), driver)
    _drop(postgres, name)


def _running(request: pytest.FixtureRequest, scratch: Path, database_url: str, driver: str) -> Iterator[Running]:
    place = Path(tempfile.mkdtemp(prefix="server-", dir=scratch))
    place.chmod(0o711)
    temporal = request.getfixturevalue("temporal_server") if driver == TEMPORAL else None
    started = Running(
        place,
        database_url,
        temporal=temporal,
        default_times=request.config.getoption("--default-times"),
        forker=None if request.node.get_closest_marker("cold_starts") else request.getfixturevalue("forker"),
    )
    yield started
    started.stop_all()


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line at the end of the whole run, such as seeds and random events."""
    return lambda line: request.node.user_properties.append(("say", line))


@pytest.fixture(autouse=True)
def fault(request: pytest.FixtureRequest) -> None:
    """Record the result of a test marked ``fault`` for the table of ``make faults``."""
    mark = request.node.get_closest_marker("fault")
    if mark is not None:
        driven_by = request.getfixturevalue("driver") if "driver" in request.fixturenames else IN_PROCESS
        request.node.user_properties.append(("fault", f"{mark.args[0]}|{mark.kwargs.get('only') or driven_by}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if (path := config.getoption("--fault-table")) is not None:
        Path(path).write_text(fault_table(terminalreporter, config))
    if (path := config.getoption("--compatibility")) is not None:
        page, (rows, findings) = Path(path), compatibility.results_of(terminalreporter)
        page.write_text(compatibility.render(rows, findings, page.read_text()))
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, line in report.user_properties:
            if name == "say" and report.when == "call":
                terminalreporter.line(f"{report.nodeid}: {line}")


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    """One server with short leases, the test sources and the tests' folder root."""
    return running.start()


@pytest.fixture
def by_times(request: pytest.FixtureRequest) -> Callable[[float, float], float]:
    """Choose the first number of seconds with the tests' short times, the second with the default times."""
    return lambda short_s, default_s: default_s if request.config.getoption("--default-times") else short_s


@pytest.fixture
def source() -> Iterator[ScriptedServer]:
    """A source that follows a script."""
    with ScriptedServer() as started:
        yield started


def _create(url: str, name: str, *, template: str | None) -> str:
    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" template {}").format(sql.Identifier(template))
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(statement)
    head, _, tail = url.partition("/airweave?")
    return f"{head}/{name}?{tail}"


def _drop(url: str, name: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
