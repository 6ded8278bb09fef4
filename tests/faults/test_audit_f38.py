"""A database that says yes and does not do it: the audit after each job finds it, and no job completes until it is
repaired."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, content, hold, settled
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

COUNT = 400
LONG = "\nMore is told of it, line by line, so that it takes two chunks to hold." * 28

# A real trigger that drops, silently, a part of what is written: 1 % of the chunks that are inserted, or a third of
# the second chunks that are deleted, or of the first ones, or each entity that is deleted.
BROKEN = """
create schema broken;
create table broken.writer as select ''::text as drops;
create function broken.drops(what text, content text, one_of int) returns boolean language sql as $$
    select drops = what and abs(hashtext(content)) % one_of = 0 from broken.writer
$$;
create function broken.entity() returns trigger language plpgsql as $$ begin
    if broken.drops('deleted entities', old.entity_id, 1) then return null; end if;
    return old;
end $$;
create function broken.chunk() returns trigger language plpgsql as $$ begin
    if tg_op = 'INSERT' then
        if broken.drops('chunks', new.text, 100) then return null; end if;
        return new;
    end if;
    if old.ordinal = 0 and broken.drops('deleted first chunks', old.text, 3)
        or old.ordinal > 0 and broken.drops('deleted second chunks', old.entity_row::text, 3) then return null; end if;
    return old;
end $$;
create trigger broken_entity before delete on entity for each row execute function broken.entity();
create trigger broken_chunk before insert or delete on chunk for each row execute function broken.chunk();
"""


class Writer:
    """What the servers' database writes with; it breaks and is mended while they run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def drops(self, what: str) -> None:
        with self._database.session() as session:
            session.execute(text("update broken.writer set drops = :what"), {"what": what})

    def mended(self) -> None:
        self.drops("")


@pytest.fixture(scope="module")
def breakable(fresh_database: Database) -> Database:
    with fresh_database.session() as session:
        session.execute(text(BROKEN))
    return fresh_database


@pytest.fixture
def writer(breakable: Database) -> Iterator[Writer]:
    made = Writer(breakable)
    yield made
    made.mended()


@pytest.fixture
def patient(source: ScriptedServer) -> ScriptedServer:
    """A source that answers late, so that a writer can be mended before the repair has something to write."""
    source.latency_s = 1.5
    source.page_size = COUNT
    return source


def repair_of(server: Server, connection: str) -> dict[str, Any]:
    """The repair that starts by itself as the connection's next job, when it has ended."""
    path = f"/source-connections/{connection}/jobs"
    newest = server.wait_for(lambda: server.get(path)[0], lambda job: job["trigger"] == "repair", 30)
    return server.finish(connection, newest["id"])


def fault_of(job: dict[str, Any], fault: str) -> dict[str, Any]:
    """What the job says that it found of this kind."""
    assert (job["status"], job["error_kind"]) == ("failed", "index_incomplete"), job
    assert job["error"].startswith("index_incomplete: ")
    found = [one for one in job["error_details"]["index"] if one["fault"] == fault]
    assert len(found) == 1, job["error_details"]
    return dict(found[0])


def said_by(running: Running) -> str:
    """All that its processes have logged."""
    return "".join(log.read_text() for log in running.place.glob("*.log"))


def incomplete(server: Server, connection: str) -> set[str]:
    """The entities of which the ledger says that their chunks are not what they should be."""
    failed = server.ledger(connection, state="failed")
    return {id for id, entry in failed.items() if entry["reason"].startswith("index_incomplete: ")}


def whole(running: Running, server: Server, connection: str, source: ScriptedServer, repair: dict[str, Any]) -> None:
    """The repair completed; ledger, index and source agree; and nothing more comes of it."""
    assert (repair["status"], repair["trigger"], repair["mode"]) == ("completed", "repair", "full"), repair["error"]
    hold(running, repair, listed=len(source.listed()))
    agree(running, connection, source.listed())
    assert incomplete(server, connection) == set()
    done = running.command("audit", connection, "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    settled(server, connection, repair, jobs=len(server.get(f"/source-connections/{connection}/jobs")))


@pytest.mark.fault("F38", on="in_process")
def test_chunks_that_were_dropped_are_named_and_read_afresh(
    running: Running, server: Server, patient: ScriptedServer, writer: Writer
) -> None:
    patient.partitions["a"] = items(COUNT)
    collection = server.collection()
    connection = server.connect_to(patient, collection=collection)
    writer.drops("chunks")
    job = server.sync(connection)
    writer.mended()
    lost = {id for id, held in content(running, connection).items() if not held.text}
    assert 1 <= len(lost) <= COUNT / 20
    found = fault_of(job, "chunks")
    assert found["count"] == len(lost)
    assert {example.split(": ")[0] for example in found["examples"]} <= lost
    assert "0 of 1" in job["error"]
    assert "a repair, which starts by itself" in job["error"]
    hold(running, job, listed=COUNT)
    assert lost <= incomplete(server, connection) | set(server.ledger(connection, state="indexed"))

    repair = repair_of(server, connection)
    assert (repair["entities_inserted"], repair["entities_kept"]) == (len(lost), COUNT - len(lost))
    whole(running, server, connection, patient, repair)
    for id in sorted(lost)[:3]:
        word = f"worditem{int(id.removeprefix('item-'))}"
        assert server.found(collection, word, retrieval_strategy="keyword") == [id]


@pytest.mark.fault("F38", on="temporal")
def test_a_writer_that_stays_broken_is_tried_once_and_then_waited_for(
    running: Running, server: Server, source: ScriptedServer, writer: Writer
) -> None:
    source.page_size = COUNT
    source.partitions["a"] = items(COUNT)
    connection = server.connect_to(source)
    writer.drops("chunks")
    job = server.sync(connection)
    repair = repair_of(server, connection)
    assert fault_of(repair, "chunks")["count"] == fault_of(job, "chunks")["count"]
    assert "the next sync reads it afresh" in repair["error"]
    settled(server, connection, repair, jobs=2)
    hold(running, job, repair, listed=COUNT)
    lost = {id for id, held in content(running, connection).items() if not held.text}
    assert incomplete(server, connection) == lost
    assert len(lost) == fault_of(job, "chunks")["count"]

    writer.mended()
    last = server.sync(connection)
    assert (last["status"], last["entities_inserted"]) == ("completed", len(lost))
    hold(running, last, listed=COUNT)
    agree(running, connection, source.listed())


@pytest.mark.fault("F38", on="in_process")
def test_deletes_that_were_partial_are_found_in_what_changed_and_in_what_went(
    running: Running, server: Server, patient: ScriptedServer, writer: Writer
) -> None:
    patient.partitions["a"] = [item | {"text": item["text"] + LONG} for item in items(COUNT)]
    connection = server.connect_to(patient)
    assert server.sync(connection)["status"] == "completed"
    patient.partitions["a"] = items(20, version="2") + patient.partitions["a"][20:-20]
    writer.drops("deleted second chunks")
    job = server.sync(connection)
    writer.mended()
    assert (job["entities_updated"], job["entities_deleted"]) == (20, 20)
    stale, orphaned = fault_of(job, "chunks"), fault_of(job, "orphan")
    assert 0 < stale["count"] < 20
    assert 0 < orphaned["count"] < 20
    assert "2 of 1" in job["error"]
    whole(running, server, connection, patient, repair_of(server, connection))


@pytest.mark.fault("F38", on="in_process")
def test_a_delete_that_fails_once_is_made_up_for_by_the_job_itself(
    running: Running, server: Server, source: ScriptedServer, fresh_database: Database
) -> None:
    source.partitions["a"] = items(40)
    connection = server.connect_to(source)
    server.sync(connection)
    with fresh_database.session() as session:
        session.execute(
            text("""
            create function once() returns trigger language plpgsql as $$ begin
                if (select phase from sync_job where status = 'running') = 'delete' and not exists (
                    select from delete_plan where state = 'applied' and connection_id = old.connection_id
                ) then return null; end if;
                return old;
            end $$;
            create trigger once before delete on chunk for each row execute function once()
        """)
        )
    del source.partitions["a"][:5]
    said_before = said_by(running)
    job = server.sync(connection)
    with fresh_database.session() as session:
        session.execute(text("drop function once cascade"))
    assert (job["status"], job["entities_deleted"]) == ("completed", 5), job["error"]
    hold(running, job, listed=35)
    agree(running, connection, source.listed())
    assert said_by(running).count('"orphans": 5') == said_before.count('"orphans": 5') + 1


@pytest.mark.fault("F38", on="temporal")
def test_entities_that_would_not_go_are_found_and_go_with_the_repair(
    running: Running, server: Server, patient: ScriptedServer, writer: Writer
) -> None:
    patient.partitions["a"] = items(40)
    connection = server.connect_to(patient)
    server.sync(connection)
    del patient.partitions["a"][:5]
    writer.drops("deleted entities")
    job = server.sync(connection)
    writer.mended()
    found = fault_of(job, "undeleted")
    assert found == {"fault": "undeleted", "count": 5, "examples": [f"item-000{n}" for n in range(5)]}
    repair = repair_of(server, connection)
    assert repair["entities_deleted"] == 5
    whole(running, server, connection, patient, repair)


@pytest.mark.fault("F38", on="in_process")
def test_chunks_that_could_not_be_replaced_are_no_fault_of_their_entities(
    running: Running, server: Server, patient: ScriptedServer, writer: Writer
) -> None:
    patient.partitions["a"] = items(60)
    connection = server.connect_to(patient)
    server.sync(connection)
    patient.partitions["a"] = items(60, version="2")
    writer.drops("deleted first chunks")
    job = server.sync(connection)
    writer.mended()
    stuck = fault_of(job, "stuck")["count"]
    assert 0 < stuck < 60
    assert (job["entities_updated"], job["entities_failed"]) == (60 - stuck, stuck)
    assert len(content(running, connection)) == 60
    whole(running, server, connection, patient, repair_of(server, connection))


@pytest.mark.fault("F38", on="in_process")
def test_words_that_the_text_index_missed_are_looked_for_and_found_missing(
    apart: Running, patient: ScriptedServer, database: Database
) -> None:
    server = apart.start()
    collection = server.collection()
    patient.page_size = 10
    patient.partitions["a"] = items(40)  # of no more than 50 chunks all are looked up
    connection = server.connect_to(patient, collection=collection)
    job = server.run(connection)
    with database.session() as session:  # the index takes nothing in, though queries use it
        session.execute(text("update pg_index set indisready = false where indexrelid = 'chunk_ts'::regclass"))
    server.wait_for(lambda: len(server.ledger(connection)), lambda count: count >= 10)
    with database.session() as session:
        session.execute(text("update pg_index set indisready = true where indexrelid = 'chunk_ts'::regclass"))
    ended = server.finish(connection, job)
    missed = fault_of(ended, "chunk_ts")["count"]
    assert 10 <= missed < 40
    assert "airweave-server audit --repair builds the index anew" in ended["error"]
    repair = repair_of(server, connection)
    assert repair["entities_inserted"] == missed
    whole(apart, server, connection, patient, repair)
    for number in (0, 20, 39):
        found = server.found(collection, f"worditem{number}", retrieval_strategy="keyword")
        assert found == [f"item-{number:04}"]
