"""Cancel and delete, in every phase of a job: within seconds, and nothing is written afterwards."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, hold, no_open_workflow
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

CANCEL_S = 15.0  # the keeper ends it where its driver does not within 5, at its next look


@pytest.fixture
def connection(server: Server, source: ScriptedServer) -> str:
    source.partitions["a"] = items(60)
    return server.connect_to(source)


@contextmanager
def locked(database: Database, statement: str, **values: Any) -> Iterator[None]:
    """Hold rows locked for as long as it takes, so that a step stands still right there."""
    with database.engine.connect() as held, held.begin():
        held.execute(text("set local idle_in_transaction_session_timeout = 0"))
        assert held.execute(text(statement), values).all()
        yield


def cancel(server: Server, connection: str, job: str) -> dict[str, Any]:
    began_at = time.monotonic()
    answer = server.http.post(f"/source-connections/{connection}/jobs/{job}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] in ("cancelling", "cancelled")
    again = server.http.post(f"/source-connections/{connection}/jobs/{job}/cancel")
    assert again.status_code == 400
    ended = server.finish(connection, job)
    assert ended["status"] == "cancelled"
    assert time.monotonic() - began_at < CANCEL_S
    return ended


def reach(server: Server, connection: str, job: str, phase: str) -> None:
    server.wait_for(
        lambda: server.job(connection, job), lambda seen: seen["status"] == "running" and seen["phase"] == phase
    )


@pytest.mark.fault("F19", on="temporal")
def test_while_it_waits_for_a_thread(apart: Running, source: ScriptedServer) -> None:
    server = apart.start(JOB_THREADS="1")
    source.partitions["a"] = items(10)
    source.fault("slow", latency_s=5)
    first, second = (server.connect_to(source) for _ in range(2))
    blocker = server.run(first)
    reach(server, first, blocker, "open")
    waiting = server.run(second)
    assert server.job(second, waiting)["status"] == "pending"
    ended = cancel(server, second, waiting)
    hold(apart, ended, cancel(server, first, blocker), listed=0)


@pytest.mark.fault("F19", on="temporal")
def test_while_it_lists_partitions(running: Running, server: Server, source: ScriptedServer, connection: str) -> None:
    source.fault("slow", path="/partitions", latency_s=8)
    job = server.run(connection)
    reach(server, connection, job, "open")
    hold(running, cancel(server, connection, job), listed=0)


@pytest.mark.fault("F19", on="temporal")
def test_while_the_source_is_silent(running: Running, server: Server, source: ScriptedServer, connection: str) -> None:
    source.fault("hang", page=3)
    job = server.run(connection)
    server.wait_for(lambda: source.log, lambda log: any(entry["page"] == 3 for entry in log))
    cancelled = cancel(server, connection, job)
    source.faults.clear()
    done = server.sync(connection)
    assert done["status"] == "completed"
    hold(running, cancelled, done)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F19", on="temporal")
def test_while_it_embeds(apart: Running, source: ScriptedServer) -> None:
    server = apart.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="4")
    source.partitions["a"] = items(60)
    connection = server.connect_to(source)
    job = server.run(connection)
    server.wait_for(lambda: source.log, lambda log: any(entry["page"] == 5 for entry in log))
    ended = cancel(server, connection, job)
    time.sleep(4.5)  # the batch that was being embedded comes back now, and must not be written
    assert server.ledger(connection) == {}
    assert server.job(connection, job) == ended
    hold(apart, ended, listed=0)


@pytest.mark.fault("F19", on="temporal")
def test_while_it_deletes(
    running: Running, server: Server, source: ScriptedServer, connection: str, fresh_database: Database
) -> None:
    server.sync(connection)
    source.partitions["a"] = items(55)
    with locked(
        fresh_database,
        "select 1 from entity where entity_id = 'item-0057' and connection_id = :id for update",
        id=connection,
    ):
        job = server.run(connection)
        reach(server, connection, job, "delete")
        cancelled = cancel(server, connection, job)
    server.wait_for(lambda: len(server.ledger(connection)), lambda count: count == 60)
    again = server.sync(connection)
    assert (again["status"], again["entities_deleted"]) == ("completed", 5)
    hold(running, cancelled, again)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F19", on="temporal")
def test_while_it_closes(running: Running, server: Server, connection: str, fresh_database: Database) -> None:
    server.sync(connection)
    with locked(fresh_database, "select 1 from source_cursor where connection_id = :id for update", id=connection):
        job = server.run(connection)
        server.wait_for(
            lambda: server.job(connection, job), lambda seen: seen["partitions_done"] == 1 and seen["phase"] == "delete"
        )
        time.sleep(0.3)
        ended = cancel(server, connection, job)
    hold(running, ended)
    time.sleep(0.5)
    assert server.job(connection, job) == ended


@pytest.mark.fault("F19", on="temporal")
def test_after_the_end_it_is_refused(running: Running, server: Server, connection: str) -> None:
    job = server.sync(connection)
    answer = server.http.post(f"/source-connections/{connection}/jobs/{job['id']}/cancel")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "Cannot cancel job in COMPLETED state"
    hold(running, job, listed=60)


def rows_of(database: Database, connection: str) -> int:
    tables = {
        "entity": "connection_id",
        "chunk": "connection_id",
        "sync_job": "connection_id",
        "source_connection": "id",
    }
    with database.session() as session:
        return sum(
            session.execute(text(f"select count(*) from {table} where {column} = :id"), {"id": connection}).scalar_one()
            for table, column in tables.items()
        )


def asked_during(source: ScriptedServer, seconds: float) -> int:
    before = len(source.log)
    time.sleep(seconds)
    return len(source.log) - before


@pytest.mark.fault("F20", on="temporal")
@pytest.mark.parametrize("what", ["connection", "collection"])
def test_deleting_in_the_middle_hides_at_once_and_leaves_nothing(
    running: Running, server: Server, source: ScriptedServer, fresh_database: Database, what: str
) -> None:
    source.partitions["a"] = items(300)
    source.latency_s = 0.15
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    assert server.search(collection, "worditem3")
    with fresh_database.session() as session:  # and its schedule says in a moment
        session.execute(
            text(
                "update source_connection set cron = '0 0 * * *', next_run_at = now() + interval '1 s' where id = :id"
            ),
            {"id": connection},
        )
    path = f"/source-connections/{connection}" if what == "connection" else f"/collections/{collection}"
    deleted = server.http.delete(path)
    assert deleted.status_code == 200, deleted.text
    assert server.http.get(f"/source-connections/{connection}").status_code == 404
    if what == "connection":
        assert server.search(collection, "worditem3") == []
    else:
        assert server.http.post(f"/collections/{collection}/search/instant", json={"query": "x"}).status_code == 404
        assert server.collection(collection) == collection  # its name is free again
    server.wait_for(lambda: rows_of(fresh_database, connection), lambda rows: rows == 0)
    server.wait_for(lambda: asked_during(source, 0.6), lambda asked: asked == 0, 10)  # nobody reads on
    assert rows_of(fresh_database, connection) == 0
    if running.temporal is not None:
        no_open_workflow(running, job)
    hold(running)
