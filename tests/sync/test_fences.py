"""Fences and ends that were found open by review, each with the interleaving that passed through."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from airweave_server import vault
from airweave_server.db import connections, events, jobs
from airweave_server.db.models import Status
from airweave_server.db.session import Database
from airweave_server.settings import Settings
from airweave_server.sync.connector import Connectors
from airweave_server.sync.signals import Signals
from airweave_server.sync.sync_service import SyncService
from invariants import agree, hold
from running import Running, Server
from servers.scripted_server import ScriptedServer, items


class Nothing(BaseModel):
    """No JSON of interest."""


def connect(server: Server, source: ScriptedServer, kind: str = "scripted", **config: Any) -> str:
    return server.connect_to(source, kind, **{"backoff_s": 0.02, "attempts": 2, "timeout_s": 5, **config})


def indexed(server: Server, connection: str) -> set[str]:
    return {name for name, entry in server.ledger(connection).items() if entry["chunks"]}


@pytest.fixture
def service(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> SyncService:
    monkeypatch.setenv("ALLOWED_PRIVATE_HOSTS", "127.0.0.1")
    settings = Settings()
    connectors = Connectors(fresh_database, vault.Vault([bytes(32)]), settings)
    return SyncService(fresh_database, connectors, settings)


def driven_here(database: Database, connection: str) -> UUID:
    """A running job of the connection that no server knows of."""
    job = uuid4()
    with database.session() as session:
        session.execute(text("update source_connection set credentials = null where id = :id"), {"id": connection})
        session.execute(
            text("""
                insert into sync_job (id, organization_id, collection_id, connection_id, status, phase, engine, trigger,
                       force_full, config_version, attempts, failures, epoch, deleted, held_deletes, driver)
                select :job, organization_id, collection_id, id, 'pending', 'open', 'by hand', 'api', false,
                       config_version, 1, 0, 0, 0, 0, 'here' from source_connection where id = :id
            """),
            {"job": job, "id": connection},
        )
        events.record_job(session, job)
        session.execute(text("update sync_job set status = 'running' where id = :job"), {"job": job})
        events.record_job(session, job)
    return job


def while_it_runs(service: SyncService, job: UUID, reached: Callable[[], bool], act: Callable[[], None]) -> None:
    """Run the job on a thread, act once it has come somewhere, and wait for it."""
    signals = Signals()
    thread = threading.Thread(target=service.run, args=(job, signals))
    thread.start()
    while not reached():
        assert thread.is_alive()
    act()
    thread.join(30)
    assert not thread.is_alive()


def status(database: Database, job: UUID) -> str:
    with database.session() as session:
        return str(session.execute(text("select status from sync_job where id = :id"), {"id": job}).scalar_one())


def test_a_refused_batch_after_a_cancel_is_not_written_in_halves(
    server: Server, source: ScriptedServer, service: SyncService, fresh_database: Database
) -> None:
    source.partitions["a"] = items(10)
    source.partitions["a"][4]["text"] += " POISON_IN_HERE"
    source.fault("slow", page=0, latency_s=1)
    connection = connect(server, source)
    with fresh_database.session() as session:
        session.execute(text("alter table chunk add constraint poison check (text not like '%POISON_IN_HERE%')"))
    job = driven_here(fresh_database, connection)

    def cancel() -> None:
        with fresh_database.session() as session:
            assert jobs.request_cancel(session, job) == "cancelling"

    while_it_runs(service, job, lambda: any(entry["page"] == 0 for entry in source.log), cancel)
    with fresh_database.session() as session:
        session.execute(text("alter table chunk drop constraint poison"))
    assert server.ledger(connection) == {}
    assert status(fresh_database, job) in ("cancelling", "cancelled")


def test_a_refusal_that_comes_after_a_cancel_does_not_make_it_a_failure(
    server: Server, source: ScriptedServer, service: SyncService, fresh_database: Database
) -> None:
    source.partitions["a"] = items(10)
    source.latency_s = 1
    source.fault("status", status=401, path="/items")
    connection = connect(server, source)
    job = driven_here(fresh_database, connection)

    def cancel() -> None:
        with fresh_database.session() as session:
            jobs.request_cancel(session, job)

    while_it_runs(service, job, lambda: any(entry["path"] == "/items" for entry in source.log), cancel)
    assert status(fresh_database, job) in ("cancelling", "cancelled")


def take(session: Session, connection: UUID) -> None:
    assert connections.lock(session, connection)


def find_due(session: Session, connection: UUID) -> None:
    session.execute(text("update source_connection set next_run_at = now() where id = :id"), {"id": connection})
    assert [due.id for due in connections.list_due(session)] == [connection]


@pytest.mark.parametrize("lock", [take, find_due])
def test_a_job_ends_while_its_connection_is_locked(
    server: Server, source: ScriptedServer, fresh_database: Database, lock: Callable[[Session, UUID], None]
) -> None:
    """Whoever has the lock may wait for the job: to end it, or to create the next one."""
    connection = connect(server, source)
    job = driven_here(fresh_database, connection)
    with fresh_database.session() as request:
        lock(request, UUID(connection))
        with fresh_database.session() as step:
            step.execute(text("set local lock_timeout = '2s'"))
            jobs.fence(step, job, 0)
            assert jobs.end(step, job, status=Status.FAILED, error="it is over")
    assert status(fresh_database, job) == "failed"


def test_a_job_whose_connection_is_purged_ends_quietly(
    server: Server, source: ScriptedServer, service: SyncService, fresh_database: Database
) -> None:
    source.partitions["a"] = items(10)
    source.fault("slow", page=0, latency_s=1)
    connection = connect(server, source)
    job = driven_here(fresh_database, connection)

    def purge() -> None:
        with fresh_database.session() as session:
            connections.remove(session, UUID(connection))

    while_it_runs(service, job, lambda: any(entry["page"] == 0 for entry in source.log), purge)
    with fresh_database.session() as session:
        assert jobs.get(session, job) is None


@pytest.mark.fault("F8", on="in_process")
def test_an_entity_that_moved_into_a_partition_that_then_failed_is_kept(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(30, prefix="a"), "b": items(30, prefix="b")}
    connection = connect(server, source)
    server.sync(connection)
    source.move("a", "a-0029", "b")
    source.fault("status", status=500, partition="b")
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"]) == ("failed", 0)
    hold(running, job, listed=29)
    agree(running, connection, source.partitions["a"] + source.partitions["b"])


@pytest.mark.fault("F8", on="temporal")
def test_a_resumed_job_deletes_nothing_by_its_old_listing(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(30, prefix="a"), "b": items(30, prefix="b")}
    connection = connect(server, source)
    server.sync(connection)
    source.fault("status", status=500, partition="b")
    assert server.sync(connection)["status"] == "failed"
    source.faults.clear()
    source.move("b", "b-0029", "a")  # a was read already, and is not read again
    resumed = server.sync(connection)
    assert (resumed["status"], resumed["entities_deleted"]) == ("completed", 0)
    assert resumed["resumed_from"] is not None
    agree(running, connection, source.partitions["a"] + source.partitions["b"])
    after = server.sync(connection)
    assert after["resumed_from"] is None
    hold(running, resumed, after)
    agree(running, connection, source.partitions["a"] + source.partitions["b"])


@pytest.mark.fault("F11", on="in_process")
def test_one_listing_never_counts_as_two(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions |= {"a": items(60, prefix="a"), "b": items(20, prefix="b")}
    connection = connect(server, source, "scripted_skipping")
    server.sync(connection)
    source.step(after={"partition": "a", "page": 2}, do="remove", partition="a", id="a-0005")  # hides a-0030
    source.fault("status", status=500, partition="b")
    assert server.sync(connection)["status"] == "failed"
    source.faults.clear()
    assert server.sync(connection)["entities_deleted"] == 0
    assert "a-0030" in indexed(server, connection)
    hold(running)


@pytest.mark.fault("F9", on="in_process")
def test_a_partition_that_was_gone_and_returns_is_read_from_its_beginning(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    for prefix, count in (("a", 20), ("b", 5)):
        for item in items(count, prefix=prefix):
            source.put(prefix, item)
    connection = connect(server, source, "scripted_incremental")
    server.sync(connection)
    away = source.partitions.pop("b")
    assert server.sync(connection, force_full_sync=True)["held_deletes"] == 5
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    assert server.finish(connection, approval["id"])["entities_deleted"] == 5
    source.partitions["b"] = away
    assert server.sync(connection)["status"] == "completed"
    hold(running)
    agree(running, connection, source.partitions["a"] + source.partitions["b"])


@pytest.mark.fault("F9", on="temporal")
def test_an_approval_that_fails_leaves_the_deletes_held(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(60)
    connection = connect(server, source)
    server.sync(connection)
    source.partitions["a"] = items(1)
    server.sync(connection)
    (plan,) = server.get(f"/source-connections/{connection}/held-deletes")
    source.fault("status", status=401)
    place = f"/source-connections/{connection}/held-deletes"
    approval = server.post(f"{place}/{plan['id']}/approve")
    assert server.finish(connection, approval["id"])["status"] == "failed"
    assert [held["id"] for held in server.get(place)] == [plan["id"]]
    source.faults.clear()
    agree(running, connection, items(60))
    again = server.post(f"{place}/{plan['id']}/approve")
    done = server.finish(connection, again["id"])
    assert done["entities_deleted"] == 59
    hold(running, done)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F7", on="temporal")
def test_silence_while_content_is_read_is_noticed_and_costs_no_backend(apart: Running, source: ScriptedServer) -> None:
    server = apart.start(SOURCE_STALL_S="1")
    source.partitions["a"] = items(3)
    source.fault("hang", path="/content/item-0001")
    connection = connect(server, source, lazy=True, timeout_s=30, total_s=60)
    job = server.sync(connection)
    assert (job["status"], job["error_kind"]) == ("failed", "source_stalled")
    assert job["duration_seconds"] < 25
    database = Database(apart.database_url)
    with database.session() as session:
        left = session.execute(
            text("select count(*) from pg_stat_activity where pid in (select backend_pid from sync_partition)")
        ).scalar_one()
    database.close()
    assert left == 0
    hold(apart, job)


@pytest.mark.fault("F6", on="temporal")
def test_a_place_that_always_fails_is_tried_five_times(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(30)
    source.fault("garbage", page=1)
    connection = connect(server, source, attempts=1)
    job = server.sync(connection)
    assert job["status"] == "failed"
    assert len([entry for entry in source.log if entry["page"] == 1]) <= 6
    hold(running, job, listed=10)
    agree(running, connection, items(10))
