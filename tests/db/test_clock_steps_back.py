"""F25: what was set before the clock of the database stepped back by an hour holds nobody up for an hour."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from airweave_server.db import connections, indexes, jobs, leases, moves, partitions
from airweave_server.db.models import (
    Collection,
    Engine,
    Organization,
    SourceConnection,
    Status,
    SyncJob,
    SyncPartition,
    Trigger,
)
from airweave_server.db.session import Database

HOST = "here"


@pytest.fixture
def session(fresh_database: Database) -> Iterator[Session]:
    with Session(fresh_database.engine, expire_on_commit=False) as session:
        yield session
        session.rollback()
        session.execute(text("truncate organization, lease cascade"))
        session.commit()


@pytest.fixture
def job(session: Session) -> SyncJob:
    """A job with one partition."""
    organization = Organization(name="o")
    session.add(organization)
    session.flush()
    collection = Collection(
        organization_id=organization.id, readable_id="c", name="c", embedder="e", embedder_name="e", dimensions=2
    )
    session.add(collection)
    session.flush()
    place = {"organization_id": organization.id, "collection_id": collection.id}
    connection = SourceConnection(**place, short_name="stub", name="s", config={})
    session.add(connection)
    session.flush()
    made = new_job(session, connection)
    session.add(SyncPartition(job_id=made.id, key="k", scope="", ordinal=0, data={}))
    session.commit()
    return made


def new_job(session: Session, connection: SourceConnection, trigger: Trigger = Trigger.API) -> SyncJob:
    made = SyncJob(
        organization_id=connection.organization_id,
        collection_id=connection.collection_id,
        connection_id=connection.id,
        engine=Engine.IN_PROCESS,
        trigger=trigger,
        config_version=1,
    )
    session.add(made)
    session.flush()
    return made


def step_back(session: Session) -> None:
    """Move every time in the database an hour ahead: it is as if its clock stepped back."""
    session.commit()
    columns = session.execute(
        text("""
            select table_name, string_agg(format('%1$I = %1$I + interval ''1 hour''', column_name), ', ')
            from information_schema.columns
            where table_schema = current_schema() and data_type = 'timestamp with time zone'
              and column_name <> 'backend_start' group by 1
        """)
    ).all()
    for table, changes in columns:
        session.execute(text(f"update {table} set {changes}"))
    session.commit()
    session.expire_all()


def test_a_lease(session: Session) -> None:
    assert leases.take(session, "keeper", "dead", 20)
    assert not leases.take(session, "keeper", "other", 20)
    assert (leases.holder(session, "keeper"), leases.list_held(session)) == ("dead", ["keeper:dead"])
    step_back(session)
    assert (leases.holder(session, "keeper"), leases.list_held(session)) == (None, [])
    assert leases.count(session, "keeper") == 0
    assert leases.take(session, "keeper", "other", 20)
    assert not leases.take(session, "keeper", "third", 20)


def claim(session: Session, driver: str) -> UUID | None:
    return jobs.claim_to_drive(session, engine=Engine.IN_PROCESS, driver=driver, host=HOST, lease_s=20)


def test_a_job_and_its_cancel(session: Session, job: SyncJob) -> None:
    assert claim(session, "dead") == job.id
    assert claim(session, "other") is None
    step_back(session)
    assert jobs.next_due_s(session, engine=Engine.IN_PROCESS, host=HOST) == 0
    assert claim(session, "other") == job.id
    jobs.release(session, job.id, driver="other", wait_s=30, waiting_for="source")
    assert claim(session, "third") is None
    step_back(session)
    assert claim(session, "third") == job.id
    assert jobs.request_cancel(session, job.id) == Status.CANCELLING
    assert jobs.list_overdue_cancels(session, patience_s=5) == []
    step_back(session)
    assert jobs.list_overdue_cancels(session, patience_s=5) == [job.id]


def test_a_partition(session: Session, job: SyncJob) -> None:
    claim(session, "driver")
    session.commit()
    (partition,) = partitions.of_job(session, job.id)
    number = partition.id
    held = partitions.claim(session, number, owner="dead", lease_s=20)
    assert held is not None
    assert partitions.next_due(session, job.id, owner="other").is_busy
    step_back(session)
    assert partitions.next_due(session, job.id, owner="other").partition_id == number
    held = partitions.claim(session, number, owner="other", lease_s=20)
    assert held is not None
    for _ in range(2):
        partitions.record_failure(session, held, error="e", category="c", wait_s=600, final=False, waiting=True)
        session.commit()
        assert 590 < (partitions.next_due(session, job.id, owner="other").wait_s or 0) <= 600
        step_back(session)
        assert partitions.next_due(session, job.id, owner="other").partition_id == number
        assert partitions.waited_s(session, number) <= 0


def test_the_pace_of_a_source(session: Session, job: SyncJob) -> None:
    def book() -> float:
        wait_s = connections.book_request(session, job.connection_id, requests=60, per_s=60)
        session.commit()
        return wait_s

    for _ in range(10):
        before_s = book()
    assert before_s > 2
    step_back(session)
    assert before_s < book() < before_s + 3  # as if nothing had happened


def test_a_schedule(session: Session, job: SyncJob) -> None:
    session.execute(text("update source_connection set next_run_at = now() + interval '1 min', planned_at = now()"))
    assert connections.list_planned_ahead(session) == []
    step_back(session)
    assert [one.id for one in connections.list_planned_ahead(session)] == [job.connection_id]


def test_the_sizes_of_collections(session: Session, job: SyncJob) -> None:
    jobs.end(session, job.id, status=Status.COMPLETED, error=None)
    session.execute(text("update sync_job set modified_at = now() - interval '1 day'"))
    indexes.count(session, job.collection_id)
    session.commit()
    assert indexes.list_to_check(session) == []
    step_back(session)
    assert indexes.list_to_check(session) == [job.collection_id]


@pytest.mark.filterwarnings("ignore:Passing expression to ``distinct``")
def test_a_move_to_another_embedder_and_the_newest_job(session: Session, job: SyncJob) -> None:
    jobs.end(session, job.id, status=Status.COMPLETED, error=None)
    collection = session.get_one(Collection, job.collection_id)
    connection = session.get_one(SourceConnection, job.connection_id)
    moves.begin(session, collection, embedder="n", name="n", dimensions=3)
    step_back(session)
    filled = new_job(session, connection, Trigger.REEMBED)
    assert filled.created_at < session.get_one(SyncJob, job.id).created_at, "the clock did not step"
    jobs.end(session, filled.id, status=Status.COMPLETED, error=None)
    assert moves.unfinished_connections(session, collection) == []
    assert [one.id for one in moves.newest_jobs(session, collection)] == [filled.id]
    assert [one.id for one in jobs.list_newest(session, connection.id, limit=5)] == [filled.id, job.id]
    assert jobs.newest_by_connection(session, [connection.id])[connection.id].id == filled.id
    moves.cancel(session, collection)
    moves.begin(session, collection, embedder="n", name="n", dimensions=3)  # the connection was made in the future
    assert [one.id for one in moves.unfinished_connections(session, collection)] == [connection.id]
