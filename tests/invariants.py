"""What must hold in every fault, whatever happened to the processes (I1 to I5, I11), and who drives a job now.

A database that is watched notes by itself when an ended job changes its status or is written for.
"""

import json
import subprocess
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from airweave_server.db.session import Database
from running import Running

CLOSE_S = 60.0  # in which the workflow of a job that ended is closed
ENDED = "('completed', 'failed', 'cancelled')"

WATCH = f"""
create schema watched;
create table watched.breach (what text, job uuid, said text, at timestamptz default clock_timestamp());
create function watched.status() returns trigger language plpgsql as $$ begin
    insert into watched.breach values ('a terminal status changed', new.id, old.status || ' became ' || new.status);
    return null;
end $$;
create trigger watched_status after update of status on sync_job for each row
    when (old.status in {ENDED} and new.status <> old.status) execute function watched.status();
create function watched.written() returns trigger language plpgsql as $$ begin
    insert into watched.breach
    select 'written after the end', new.job_id, new.entity_id from sync_job where id = new.job_id and status in {ENDED};
    return null;
end $$;
create trigger watched_written after insert or update of job_id on entity
    for each row execute function watched.written();
"""  # fmt: skip

BROKEN = {
    "I4: an ended job changed": "select what, job, said from watched.breach",
    "I4: status, times and driver of a job do not fit each other": f"""
        select id, status, started_at, completed_at, failed_at, driver, waiting_for from sync_job
        where (status in {ENDED}) <> (completed_at is not null) or (status = 'failed') <> (failed_at is not null)
           or completed_at < started_at or started_at < created_at
           or (status in {ENDED} and (driver is not null or driven_until is not null or waiting_for is not null))
    """,
    "I5: more than one active job of a connection": f"""
        select connection_id, count(*) from sync_job where status not in {ENDED} group by 1 having count(*) > 1
    """,
    "I5: an ended job's partition has a reader": f"""
        select p.id, p.owner from sync_partition p join sync_job j on j.id = p.job_id
        where j.status in {ENDED} and (p.owner is not null or p.lease_until is not null)
    """,
    "I2: chunks without an entity": """
        select c.entity_row, c.ordinal from chunk c left join entity e on e.row = c.entity_row where e.row is null
    """,
    "I2: chunks declared, stored and distinct are not the same": """
        select e.entity_id, e.state, e.chunks, count(c.*), count(distinct c.ordinal)
        from entity e left join chunk c on c.entity_row = e.row
        group by e.row having e.chunks <> count(c.*) or e.chunks <> count(distinct c.ordinal)
    """,
    "I2: an entity is indexed without a chunk": "select entity_id from entity where state = 'indexed' and chunks = 0",
    "I2: a vector is missing or is not of its collection's dimensions": """
        select c.entity_row, c.ordinal, vector_dims(c.embedding), k.dimensions
        from chunk c join collection k on k.id = c.collection_id
        where c.embedding is null or vector_dims(c.embedding) <> k.dimensions
    """,
    "I2: chunks were left staged": f"""
        select s.partition_id, count(*) from chunk_staged s join sync_partition p on p.id = s.partition_id
        join sync_job j on j.id = p.job_id where j.status in {ENDED} group by 1
    """,
    "I11: skipped or failed without a reason": """
        select entity_id, state from entity where state <> 'indexed' and coalesce(reason, '') = ''
    """,
}  # fmt: skip

CONTENT = """
    select e.entity_id, string_agg(c.text, E'\n' order by c.ordinal) from entity e join chunk c on c.entity_row = e.row
    where e.connection_id = %s group by e.row
"""


def watch(database: Database) -> None:
    """Have the database note what must never happen."""
    with database.session() as session:
        session.execute(text(WATCH))


def hold(running: Running, *ended: dict[str, Any], listed: int | None = None) -> None:
    """Everything that holds at any moment; the jobs ``ended`` (as the API shows them) ended for good, with counts that
    add up to what the source ``listed``, and left no workflow open."""
    for job in ended:
        assert job["status"] in ("completed", "failed", "cancelled"), job
        parts = [job[f"entities_{name}"] for name in ("inserted", "updated", "kept", "skipped", "failed")]
        assert job["entities_encountered"] == sum(parts), job
        assert listed is None or sum(parts) == listed, job
        if running.temporal is not None and job["engine"] == "temporal":
            no_open_workflow(running, job["id"])
    with psycopg.connect(_plain(running), autocommit=True) as connection:
        for meaning, query in BROKEN.items():
            found = connection.execute(query).fetchall()
            assert found == [], f"{meaning}: {found[:5]}"
        for job in ended:
            now = connection.execute("select status, error from sync_job where id = %s", (job["id"],)).fetchone()
            assert now == (job["status"], job["error"])


def agree(running: Running, connection: str, source: Iterable[dict[str, Any]]) -> None:
    """The index holds what the source lists and nothing else, each with the words it has there now."""
    with psycopg.connect(_plain(running), autocommit=True) as session:
        found = dict(session.execute(CONTENT, (connection,)).fetchall())
    assert found == {item["id"]: item["text"] for item in source}


def no_open_workflow(running: Running, job: str) -> None:
    """Wait until the job's workflow is closed, or was never started."""
    deadline = time.monotonic() + CLOSE_S
    while is_open(workflow(running, job)):
        assert time.monotonic() < deadline, f"the workflow of {job} is open {CLOSE_S} s after its end"
        time.sleep(0.1)


def is_open(workflow: dict[str, Any] | None) -> bool:
    return workflow is not None and workflow["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"


def workflow(running: Running, job: str) -> dict[str, Any] | None:
    """The job's workflow, as Temporal's own program describes it. None when there is none."""
    assert running.temporal is not None
    said = subprocess.run(
        [
            Path(sysconfig.get_path("scripts"), "temporal"), "workflow", "describe", "--workflow-id", f"sync-{job}",
            "--address", running.temporal.address, "--output", "json",
        ],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if said.returncode == 0:
        return dict(json.loads(said.stdout))
    assert "not found" in said.stderr, said.stderr
    return None


def driving_pid(running: Running, database: Database, job: str) -> int | None:
    """The process that takes the job's steps now: an API process, or a worker. None when there is none."""
    if running.temporal is None:
        with database.session() as session:
            driver = session.execute(
                text("select driver from sync_job where id = :id and driven_until > now()"), {"id": job}
            ).scalar_one_or_none()
        return int(driver.split(":")[1]) if driver else None
    seen = workflow(running, job)
    if seen is None or not is_open(seen):
        return None
    for step in seen.get("pendingActivities", []):
        if step["state"] == "PENDING_ACTIVITY_STATE_STARTED":
            return int(step["lastWorkerIdentity"].split("@")[0])
    return None


def _plain(running: Running) -> str:
    return running.database_url.replace("postgresql+psycopg://", "postgresql://")
