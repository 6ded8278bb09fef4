"""The invariants that hold in every fault, whatever happens to the processes; docs/testing.md lists them. A watched
database records by itself if an ended job changes its status or still writes.
"""

import threading
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import psycopg
from sqlalchemy import text

from airweave_server.db.session import Database
from running import TERMINAL, Running, Server, is_open, plain

CLOSE_S = 60.0  # within which the workflow of an ended job closes
QUIET_S = 1.0  # during which nothing may follow from an ended job
NEXT = {
    "pending": {"pending", "running", *TERMINAL},
    "running": {"running", "cancelling", *TERMINAL},
    "cancelling": {"cancelling", *TERMINAL},
    **{status: {status} for status in TERMINAL},
}
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
"""

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
        select c.entity_row, c.ordinal, vector_dims(searched), k.dimensions
        from chunk c join collection k on k.id = c.collection_id cross join lateral
            (select case k.slot when 1 then c.embedding else c.embedding_2 end) as s(searched)
        where coalesce(vector_dims(searched) <> k.dimensions, true)
    """,
    "I2: chunks were left staged": f"""
        select s.partition_id, count(*) from chunk_staged s join sync_partition p on p.id = s.partition_id
        join sync_job j on j.id = p.job_id where j.status in {ENDED} group by 1
    """,
    "F51: an event of a job is missing, or there are two of it": f"""
        select j.id, j.status, array_agg(m.event_type order by m.position) from sync_job j
        join webhook_message m on m.payload ->> 'sync_job_id' = j.id::text
        group by j.id
        having count(*) <> count(distinct m.event_type)
            or count(*) filter (where m.event_type = 'sync.pending') <> 1
            or count(*) filter (where m.event_type = 'sync.' || j.status) <> 1
            or count(*) filter (where m.event_type in ('sync.completed', 'sync.failed', 'sync.cancelled'))
               <> (j.status in {ENDED})::int
    """,
    "F51: an ended job has no event": f"""
        select id from sync_job j where status in {ENDED}
           and not exists (select from webhook_message where payload ->> 'sync_job_id' = j.id::text)
           and created_at > (select min(created_at) from webhook_message)
    """,
    "I11: skipped or failed without a reason": """
        select entity_id, state from entity where state <> 'indexed' and coalesce(reason, '') = ''
    """,
}

CONTENT = """
    select e.entity_id, e.state, coalesce(string_agg(c.text, '' order by c.ordinal), ''),
           coalesce(string_agg(c.heading, E'\\n' order by c.ordinal), '')
    from entity e left join chunk c on c.entity_row = e.row where e.connection_id = %s group by e.row
"""


class Held(NamedTuple):
    """The content of ledger and index for an entity."""

    state: str
    text: str
    headings: str


def watch(database: Database) -> None:
    """Make the database record events that must never happen."""
    with database.session() as session:
        session.execute(text(WATCH))


def hold(running: Running, *ended: dict[str, Any], listed: int | None = None, with_events: bool = True) -> None:
    """Assert all invariants that hold at any time.

    The jobs ``ended`` (as the API shows them) stay ended, their counts add up to what the source ``listed``, and they
    left no workflow open. ``with_events``: no process is of a version that writes none.
    """
    for job in ended:
        assert job["status"] in TERMINAL, job
        parts = [job[f"entities_{name}"] for name in ("inserted", "updated", "kept", "skipped", "failed")]
        assert job["entities_encountered"] == sum(parts), job
        assert listed is None or sum(parts) == listed, job
        if running.temporal is not None and job["engine"] == "temporal":
            no_open_workflow(running, job["id"])
    with psycopg.connect(plain(running.database_url), autocommit=True) as connection:
        for meaning, query in BROKEN.items():
            if meaning.startswith("F51") and not with_events:
                continue
            found = connection.execute(query).fetchall()
            assert found == [], f"{meaning}: {found[:5]}"
        for job in ended:
            now = connection.execute("select status, error from sync_job where id = %s", (job["id"],)).fetchone()
            assert now == (job["status"], job["error"])


def content(running: Running, connection: str) -> dict[str, Held]:
    """Return the content of ledger and index by entity id."""
    with psycopg.connect(plain(running.database_url), autocommit=True) as session:
        return {row[0]: Held(*row[1:]) for row in session.execute(CONTENT, (connection,))}


def agree(running: Running, connection: str, source: Iterable[dict[str, Any]]) -> None:
    """Assert that the index holds exactly the entities that the source lists, each with its current text."""
    found = {id: held.text.strip() for id, held in content(running, connection).items() if held.state == "indexed"}
    there = {item["id"]: item["text"].strip() for item in source}
    assert found.keys() == there.keys(), sorted(found.keys() ^ there.keys())[:10]
    assert found == there


def settled(server: Server, connection: str, job: dict[str, Any], *, jobs: int = 1) -> None:
    """Assert that an ended job stays unchanged, and that no other job followed from it."""
    time.sleep(QUIET_S)
    listed = server.get(f"/source-connections/{connection}/jobs")
    assert len(listed) == jobs, [(seen["status"], seen["trigger"], seen["created_at"]) for seen in listed]
    assert next(seen for seen in listed if seen["id"] == job["id"]) == job


def no_open_workflow(running: Running, job: str) -> None:
    """Wait until the job's workflow is closed; it may also never have started."""
    deadline = time.monotonic() + CLOSE_S
    while is_open(running.workflow(job)):
        assert time.monotonic() < deadline, f"the workflow of {job} is still open {CLOSE_S} s after the job's end"
        time.sleep(0.1)


class Followed:
    """Polls a job through the API, and asserts that the API always answers, that each status may follow the one before,
    and that counts never fall."""

    def __init__(self, server: Server, connection: str, job: str) -> None:
        self._path = f"/source-connections/{connection}/jobs/{job}"
        self._http = httpx.Client(base_url=server.url, timeout=10)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: list[dict[str, Any]] = []
        self.unanswered: list[str] = []

    def __enter__(self) -> "Followed":
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20)
        self._http.close()
        if kind is None:
            assert not self.unanswered, self.unanswered[:3]
            self.check()

    def check(self) -> None:
        statuses = [seen["status"] for seen in self.seen]
        flips = [(one, next_) for one, next_ in pairwise(statuses) if next_ not in NEXT[one]]
        assert not flips, flips
        encountered = [seen["entities_encountered"] for seen in self.seen]
        assert encountered == sorted(encountered), "the number of encountered entities fell"

    def _look(self) -> None:
        while not self._stopping.wait(0.1):
            try:
                answer = self._http.get(self._path)
            except httpx.HTTPError as error:
                self.unanswered.append(repr(error))
                continue
            if answer.status_code == 200:
                self.seen.append(answer.json())
            else:
                self.unanswered.append(f"{answer.status_code} {answer.text}")
