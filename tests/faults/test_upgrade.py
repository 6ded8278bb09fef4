"""F26: two versions of the program side by side, on a schema that has grown, and a job that is under way over both."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airweave_server.db.session import Database
from faults.readers import asked_again, pages, until
from invariants import agree, hold, watch
from running import IN_PROCESS, Running, Server, Worker, plain
from servers.scripted_server import ScriptedServer, items

ROOT = Path(__file__).parents[2]
GIT = ("git", "-c", "safe.directory=*")  # whoever owns the checkout
MIGRATIONS = "src/airweave_server/db/migrations/versions"
TOTAL = 600
READ_AGAIN = 3 * 12  # pages: a batch of 2 s at each of three changes


def output(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def former(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a process that runs the version before the last change of the schema, from its own wheel."""
    if not (ROOT / ".git").exists():
        pytest.skip("there is no history here to take the former version from")
    added = output(*GIT, "log", "-1", "--diff-filter=A", "--format=%H", "--", MIGRATIONS)
    found = subprocess.run(
        [*GIT, "rev-parse", "--verify", "--quiet", f"{added}^"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip("the history here does not go back to the former version")
    place = tmp_path_factory.mktemp("former")
    tree, wheels, library = place / "tree", place / "wheels", place / "library"
    tree.mkdir()
    archive = place / "tree.tar"
    output(*GIT, "archive", "--output", archive, found.stdout.strip())
    output("tar", "-xf", archive, "-C", tree)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    output(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels, tree)
    (wheel,) = wheels.glob("*.whl")
    output(*pip, "install", "--no-deps", "--no-index", "--target", library, wheel)
    return {"PYTHONPATH": str(library)}


@pytest.fixture
def on_former_schema(empty: Running, former: dict[str, str], source: ScriptedServer) -> Running:
    """A database that the former version has made."""
    first = empty.start(worker=False, **former)
    first.terminate()
    database = Database(empty.database_url)
    watch(database)
    database.close()
    source.partitions = {"a": items(TOTAL // 2), "b": items(TOTAL // 2, prefix="other")}
    source.page_size = 10
    return empty


def started(running: Running, version: dict[str, str]) -> tuple[Server, Worker | None]:
    server = running.start(**version)
    return server, server.worker


def ended(server: Server, worker: Worker | None) -> None:
    assert server.terminate() == 0
    if worker is not None:
        assert worker.terminate() == 0


def revision(running: Running) -> str:
    with psycopg.connect(plain(running.database_url)) as database:
        row = database.execute("select version_num from alembic_version").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.fault("F26", on="temporal")
def test_a_job_goes_on_over_an_upgrade_and_back(
    on_former_schema: Running, former: dict[str, str], source: ScriptedServer, say: Callable[[str], None]
) -> None:
    running = on_former_schema
    source.latency_s = 0.8
    old = started(running, former)
    connection = old[0].connect_to(source)
    job = old[0].run(connection)
    until(lambda: len(pages(source)) >= 4, 60, "the former version reads")
    before = revision(running)
    new = started(running, {})  # brings the schema up to date while the former version is at work
    assert revision(running) > before
    until(lambda: len(pages(source)) >= 8, 60, "both versions are there")
    assert old[0].job(connection, job)["status"] == new[0].job(connection, job)["status"] == "running"
    ended(*old)
    asked = len(pages(source))
    until(lambda: len(pages(source)) >= asked + 4, 90, "the new version reads")
    back = started(running, former)  # on the schema of the new one
    ended(*new)
    source.latency_s = 0.1
    done = back[0].finish(connection, job)
    assert (done["status"], done["entities_inserted"]) == ("completed", TOTAL), done["error"]
    again = asked_again(source)
    say(f"{again} of {len(pages(source))} pages were read again, attempts {done['attempts']}")
    assert again <= READ_AGAIN
    hold(running, done, listed=TOTAL, with_events=False)
    agree(running, connection, source.listed())
    ended(*back)
    server, worker = started(running, {})
    mended = server.sync(connection)  # where the versions read otherwise, what the other one read is read again, once
    assert (mended["status"], mended["entities_kept"] + mended["entities_updated"]) == ("completed", TOTAL)
    kept = server.sync(connection)
    assert (kept["status"], kept["entities_kept"]) == ("completed", TOTAL)
    agree(running, connection, source.listed())
    ended(server, worker)


Columns = dict[str, list[str]]


def columns(running: Running) -> Columns:
    """The columns of every table."""
    with psycopg.connect(plain(running.database_url)) as database:
        found = database.execute("""
            select table_name, array_agg(cast(column_name as text) order by ordinal_position)
            from information_schema.columns where table_schema = 'public' and table_name <> 'alembic_version'
            group by 1 order by 1
        """)
        return dict(found.fetchall())


def contents(running: Running, of: Columns) -> dict[str, list[str]]:
    """Every row of these tables, in these columns."""
    with psycopg.connect(plain(running.database_url)) as database:
        found = {}
        for table, names in of.items():
            shown = ", ".join(f'"{name}"' for name in names)
            rows = database.execute(f'select row({shown})::text from "{table}" order by 1')  # type: ignore[arg-type]
            found[table] = [row for (row,) in rows.fetchall()]
        return found


@pytest.mark.fault("F26", only=IN_PROCESS)
def test_an_upgrade_keeps_every_row(
    on_former_schema: Running, former: dict[str, str], source: ScriptedServer, say: Callable[[str], None]
) -> None:
    running = on_former_schema
    server, worker = started(running, former)
    connection = server.connect_to(source)
    assert server.sync(connection)["entities_inserted"] == TOTAL
    ended(server, worker)
    known = columns(running)
    before = contents(running, known)
    assert {"source_connection", "sync_job", "entity", "chunk"} <= {table for table, rows in before.items() if rows}
    database = Database(running.database_url)
    database.migrate()
    database.close()
    assert contents(running, known) == before
    after = columns(running)
    new = after.keys() - known.keys()
    assert not any(contents(running, {table: after[table] for table in new}).values())
    say(f"{sum(map(len, before.values())):,} rows of {len(before)} tables; new: {', '.join(sorted(new))}")
    server, worker = started(running, {})
    kept = server.sync(connection)  # with the credentials that the former version sealed
    assert (kept["status"], kept["entities_kept"] + kept["entities_updated"]) == ("completed", TOTAL)
    ended(server, worker)


@pytest.mark.fault("F26", on="temporal", only="temporal")
@pytest.mark.parametrize("who", ["worker", "api"])
def test_an_api_and_a_worker_of_two_versions_work_together(
    on_former_schema: Running, former: dict[str, str], source: ScriptedServer, who: str
) -> None:
    running = on_former_schema
    of_api, of_worker = ({}, former) if who == "worker" else (former, {})
    running.start(worker=False).terminate()  # the schema is the new one
    server, worker = running.start(worker=False, **of_api), running.ready_worker(**of_worker)
    connection = server.connect_to(source)
    first = server.sync(connection)
    assert (first["status"], first["engine"], first["entities_inserted"]) == ("completed", "temporal", TOTAL)
    source.partitions["a"] = items(60, version="2") + items(TOTAL // 2 - 65, start=60)
    second = server.sync(connection)
    assert (second["entities_updated"], second["entities_deleted"]) == (60, 5)
    hold(running, first, second, with_events=False)
    agree(running, connection, source.listed())
    source.latency_s = 1
    job = server.run(connection)
    until(lambda: server.job(connection, job)["status"] == "running", 30, "it runs")
    assert server.http.post(f"/source-connections/{connection}/jobs/{job}/cancel").status_code == 200
    began_at = time.monotonic()
    assert server.finish(connection, job)["status"] == "cancelled"
    assert time.monotonic() - began_at < 10
    ended(server, worker)


@pytest.mark.fault("F26", on="in_process", only="in_process")
def test_a_process_of_one_version_takes_over_from_one_of_the_other(
    on_former_schema: Running, former: dict[str, str], source: ScriptedServer
) -> None:
    running = on_former_schema
    for version, other in ((former, {}), ({}, former)):
        source.latency_s = 0.5
        one = running.start(**version)
        connection = one.connect_to(source)
        job = one.run(connection)
        one.wait_for(lambda: one.job(connection, job), lambda seen: seen["entities_encountered"] > 0)  # noqa: B023
        assert running.driving_pid(job) == one.process.pid
        two = running.start(**other)  # only now: it might have taken the job first
        one.kill()
        source.latency_s = 0.05
        done = two.finish(connection, job)
        assert (done["status"], done["engine"], done["entities_inserted"]) == ("completed", IN_PROCESS, TOTAL)
        hold(running, done, listed=TOTAL, with_events=False)
        agree(running, connection, source.listed())
        two.terminate()
