"""The audit, as a command and after each job: what it finds, what it mends, and what it leaves alone."""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, hold
from running import Running, Server, in_folder
from servers.scripted_server import ScriptedServer, items

COUNT = 30
TWO_CHUNKS = "\nMore is told of it, line by line, so that it takes two chunks to hold." * 28

ROW = "(select row from entity where connection_id = :id and entity_id = '{}')"
ONE = ROW.format("item-0003")

# What is done to entities of two chunks behind the server's back, each to another one.
DAMAGE = {
    "item-0003": "delete from chunk where entity_row = {row} and ordinal = 1",
    "item-0004": """
        insert into chunk (entity_row, ordinal, collection_id, connection_id, heading, text, hash, embedding, ident)
        select entity_row, 2, collection_id, connection_id, heading, text, hash, embedding, ident from chunk
        where entity_row = {row} and ordinal = 1
    """,
    "item-0005": """
        with gone as (delete from chunk where entity_row = {row} and ordinal = 0)
        update entity set chunks = 1 where row = {row}
    """,
    "item-0006": """
        with gone as (delete from chunk where entity_row = {row}) update entity set chunks = 0 where row = {row}
    """,
    "item-0007": "update entity set fingerprint = null where row = {row}",
    "item-0008": "update entity set state = 'failed' where row = {row}",
    "item-0009": "update chunk set connection_id = gen_random_uuid() where entity_row = {row} and ordinal = 0",
    "item-0010": "update chunk set embedding = '[1,2,3]' where entity_row = {row} and ordinal = 1",
}
SAID = """
    the number of stored chunks is not the number in the ledger: 2 (item-0003: 1 of 2, item-0004: 3 of 2)
    marked as indexed, but has no chunks: 1 (item-0006)
    marked as indexed, but has no fingerprint: 1 (item-0007)
    the chunk numbers have a gap: 1 (item-0005)
    the chunks belong to another collection or connection: 1 (item-0009)
    failed or skipped, but has no reason: 1 (item-0008)
    a vector is missing or has the wrong number of dimensions: 1 (item-0010)
"""

Do = Callable[..., Any]


@pytest.fixture
def do(fresh_database: Database) -> Do:
    """Run a statement on the server's database."""
    return partial(execute, fresh_database)


@pytest.fixture
def do_apart(apart: Running) -> Iterator[Do]:
    """Run a statement on the database of a test's own, whose indexes are nobody else's."""
    database = Database(apart.database_url)
    yield partial(execute, database)
    database.close()


def execute(database: Database, statement: str, **values: Any) -> Any:
    with database.session() as session:
        done = session.execute(text(statement), values)
        return done.all() if done.returns_rows else None


def audit(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = running.command("audit", *arguments, COLUMNS="200")
    assert "Traceback" not in done.stderr, done.stderr
    return done


def right(running: Running, *arguments: str) -> str:
    done = audit(running, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wrong(running: Running, *arguments: str) -> str:
    done = audit(running, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def connected(server: Server, source: ScriptedServer) -> tuple[str, str]:
    """A collection and a connection that has synced ``COUNT`` items, some of two chunks."""
    source.partitions["a"] = items(COUNT)
    for item in source.partitions["a"]:
        item["text"] += TWO_CHUNKS if item["id"] in DAMAGE else ""
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    assert server.sync(connection)["status"] == "completed"
    return collection, connection


def repaired(server: Server, connection: str) -> dict[str, Any]:
    """The repair that the server starts by itself, when it has ended."""
    path = f"/source-connections/{connection}/jobs"
    newest = server.wait_for(lambda: server.get(path)[0], lambda job: job["trigger"] == "repair", 30)
    return server.finish(connection, newest["id"])


def test_what_is_right_is_said_to_be_right_with_what_was_counted(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    collection, connection = connected(server, source)
    said, chunks = right(running, connection), COUNT + len(DAMAGE)
    assert f"in {collection} ({connection}): {COUNT} entities, {chunks} chunks, {chunks} of them" in said
    assert said.startswith("right")


def test_what_a_job_keeps_it_does_not_touch(server: Server, source: ScriptedServer, do: Do) -> None:
    _, connection = connected(server, source)
    [first] = server.get(f"/source-connections/{connection}/jobs")
    source.put("a", items(1, version="2")[0])
    second = server.sync(connection)
    third = server.sync(connection)
    assert (second["entities_updated"], third["entities_kept"]) == (1, COUNT)
    written = do("select job_id, count(*) from entity where connection_id = :id group by 1", id=connection)
    assert {str(job): count for job, count in written} == {first["id"]: COUNT - 1, second["id"]: 1}


def test_damage_of_every_kind_is_found_and_what_is_damaged_read_afresh(
    running: Running, server: Server, source: ScriptedServer, do: Do
) -> None:
    collection, connection = connected(server, source)
    for id, damage in DAMAGE.items():
        do(damage.format(row=ROW.format(id)), id=connection)
    found = wrong(running, connection)
    assert sorted(line.strip() for line in found.splitlines()[1:]) == sorted(map(str.strip, SAID.strip().splitlines()))
    assert wrong(running, connection).splitlines()[1:] == found.splitlines()[1:]  # it was only looked at
    assert len(server.get(f"/source-connections/{connection}/jobs")) == 1

    mended = right(running, connection, "--repair")
    assert mended.splitlines()[1:-1] == found.splitlines()[1:]
    assert "requested a repair job" in mended.splitlines()[-1]
    job = repaired(server, connection)
    assert job["status"] == "completed", job["error"]
    assert (job["entities_inserted"], job["entities_kept"]) == (len(DAMAGE), COUNT - len(DAMAGE))
    hold(running, job, listed=COUNT)
    agree(running, connection, source.listed())
    for id in DAMAGE:
        word = f"worditem{int(id[-4:])}"
        assert server.found(collection, word, retrieval_strategy="keyword") == [id]
    assert len(server.found(collection, "told", retrieval_strategy="semantic", limit=100)) == COUNT
    right(running, connection)


def test_full_text_that_is_not_that_of_the_text_is_found(apart: Running, source: ScriptedServer, do_apart: Do) -> None:
    server = apart.start()
    _, connection = connected(server, source)
    # what is stored was made by other rules than those of a query now
    do_apart("alter text search configuration public.airweave alter mapping for asciiword with simple")
    said = wrong(apart, connection)
    assert f"the full-text vector does not match the text of the chunk: {COUNT} (item-0000, item-0001," in said
    right(apart, connection, "--repair")
    assert repaired(server, connection)["entities_inserted"] == COUNT
    right(apart, connection)


def test_chunks_whose_entity_is_gone_are_deleted(
    running: Running, server: Server, source: ScriptedServer, do: Do
) -> None:
    collection, connection = connected(server, source)
    found = server.found(collection, "number", limit=100)
    do(f"delete from entity where row = {ONE}", id=connection)
    still = server.found(collection, "number", limit=100)  # and shows nothing of which nobody can say what it is
    assert 0 < len(still) < len(found)
    assert "chunks remain of an entity that no longer exists: 2 (row " in wrong(running, connection)
    mended = right(running, connection, "--repair")
    assert "repaired: chunks deleted: 2" in mended
    assert "requested a repair job" not in mended
    right(running, connection)
    assert server.sync(connection)["entities_inserted"] == 1
    agree(running, connection, source.listed())


def test_what_is_left_of_connections_that_are_gone_is_deleted(
    running: Running, server: Server, source: ScriptedServer, do: Do
) -> None:
    _, connection = connected(server, source)
    gone = str(uuid4())
    do(
        """
        insert into chunk (entity_row, ordinal, collection_id, connection_id, heading, text, hash, embedding, ident)
        select entity_row + 1000000, ordinal, collection_id, cast(:gone as uuid), heading, text, hash, embedding, ident
        from chunk where connection_id = :id limit 4
    """,
        id=connection,
        gone=gone,
    )
    assert "deleted connections: 0 entities, 4 chunks" in wrong(running)
    right(running, connection)  # it is nothing of this one's
    assert "repaired: deleted" in right(running, "--repair")
    assert "deleted connections" not in right(running)


@pytest.mark.parametrize("index", ["chunk_ts", "chunk_ident"])
def test_an_index_that_missed_what_was_written_is_found_and_built_anew(
    apart: Running, source: ScriptedServer, do_apart: Do, index: str
) -> None:
    server = apart.start()
    collection, connection = connected(server, source)
    ready = "update pg_index set indisready = :ready where indexrelid = cast(:index as regclass)"
    do_apart(ready, ready=False, index=index)
    do_apart("update chunk set heading = heading || ' again' where connection_id = :id", id=connection)
    do_apart(ready, ready=True, index=index)
    said = wrong(apart, connection)
    assert f"the index {index} does not find a chunk by its" in said
    assert f": {COUNT} (item-0000, " in said

    mended = right(apart, connection, "--repair")
    assert f"repaired: index {index} rebuilt" in mended
    assert "requested a repair job" not in mended
    right(apart, connection, "--all")
    assert len(server.found(collection, "tells", retrieval_strategy="keyword", limit=100)) == COUNT
    assert server.found(collection, "item-0021", retrieval_strategy="keyword")[0] == "item-0021"


def test_an_index_that_is_gone_fails_the_job_until_it_is_built(
    apart: Running, source: ScriptedServer, do_apart: Do
) -> None:
    server = apart.start()
    _, connection = connected(server, source)
    do_apart("drop index chunk_ts")
    source.put("a", items(1, version="2")[0])
    job = server.sync(connection)
    assert (job["status"], job["error_kind"]) == ("failed", "index_incomplete")
    assert "an index is missing, invalid or not maintained: 1 (chunk_ts)" in job["error"]
    assert "airweave-server audit --repair builds the index anew" in job["error"]
    assert repaired(server, connection)["error_kind"] == "index_incomplete"
    assert "(chunk_ts)" in wrong(apart, connection)
    right(apart, connection, "--repair")
    assert server.sync(connection)["status"] == "completed"
    right(apart)


def test_what_a_failed_job_wrote_is_looked_at_by_the_next(
    server: Server, source: ScriptedServer, running: Running, do: Do
) -> None:
    source.partitions |= {"a": items(20), "b": items(20, prefix="other")}
    source.fault("status", status=500, partition="b")
    connection = server.connect_to(source, attempts=1)
    assert server.sync(connection)["error_kind"] == "source_unavailable"
    do(
        "delete from chunk where entity_row = (select row from entity where connection_id = :id and entity_id = :name)",
        id=connection,
        name="item-0007",
    )
    source.faults.clear()
    job = server.sync(connection)
    assert job["resumed_from"] is not None
    assert job["error_kind"] == "index_incomplete"
    assert "1 (item-0007: 0 of 1)" in job["error"]
    repair = repaired(server, connection)
    assert (repair["status"], repair["entities_inserted"], repair["resumed_from"]) == ("completed", 1, None)
    hold(running, repair, listed=40)
    agree(running, connection, source.listed())


def test_a_job_that_writes_meanwhile_is_neither_blamed_nor_disturbed(
    running: Running, server: Server, source: ScriptedServer, do: Do
) -> None:
    _, connection = connected(server, source)
    do(f"delete from chunk where entity_row = {ONE}", id=connection)
    source.latency_s, source.page_size = 0.8, 2
    source.partitions["a"] = items(COUNT, version="2")
    source.partitions["a"][3] = items(4)[3] | {"text": source.partitions["a"][3]["text"], "version": "1"}
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_updated"] > 0)
    said = right(running, connection, "--repair")
    assert "1 (item-0003: 0 of 2)" in said
    assert "requested a repair job" in said
    assert len([line for line in said.splitlines() if ": 1 (" in line or ": 2 (" in line]) == 1, said
    assert server.job(connection, job)["status"] == "running"
    assert server.finish(connection, job)["status"] == "completed"
    source.latency_s, source.page_size = 0.0, 50
    repair = repaired(server, connection)
    assert (repair["status"], repair["entities_inserted"]) == ("completed", 1)
    agree(running, connection, source.listed())
    right(running, connection)


def test_without_a_server_it_says_when_the_rest_is_mended(apart: Running, source: ScriptedServer) -> None:
    server = apart.start()
    _, connection = connected(server, source)
    server.terminate()
    database = Database(apart.database_url)
    with database.session() as session:
        session.execute(text(f"delete from chunk where entity_row = {ONE}"), {"id": connection})
        session.execute(text("delete from lease"))  # as after a while
    database.close()
    assert "No server is up: the requested repairs start when one is." in right(apart, "--repair")
    again = apart.start()
    assert repaired(again, connection)["status"] == "completed"
    agree(apart, connection, source.listed())


# The source against the ledger


@pytest.fixture
def folder(server: Server) -> Path:
    path = server.folder()
    for number in range(40):
        place = path / f"d{number % 3}"
        place.mkdir(exist_ok=True)
        (place / f"f{number:02}.txt").write_text(f"file {number} tells of word{number}")
    (path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return path


def test_a_folder_is_compared_with_the_ledger_and_the_repair_makes_them_equal(
    running: Running, server: Server, folder: Path
) -> None:
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    assert server.sync(connection)["status"] == "completed"
    assert "compared with its source, which lists 41" in audit(running, "--source").stdout
    (folder / "d0" / "new.txt").write_text("nobody has read this")
    (folder / "d1" / "f01.txt").write_text("something else, and longer")
    (folder / "d2" / "f02.txt").unlink()
    right(running, connection)  # without --source nobody looks
    said = wrong(running, "--source", connection)
    assert "in the source but not in the ledger: 1 (d0/new.txt)" in said
    assert "in the ledger but no longer in the source: 1 (d2/f02.txt)" in said
    assert "another version in the source: 1 (d1/f01.txt)" in said

    assert "requested a repair job" in right(running, "--source", connection, "--repair")
    job = repaired(server, connection)
    counted = [job[f"entities_{name}"] for name in ("inserted", "updated", "deleted", "kept", "skipped")]
    assert counted == [1, 1, 1, 38, 1]
    agree(running, connection, in_folder(folder))
    right(running, "--source", connection)


def test_what_a_listing_hides_is_found_by_reading_and_the_repair_reads_it_again(
    running: Running, server: Server, folder: Path, source: ScriptedServer
) -> None:
    (folder / "page.html").write_text("<p>Of hedgehogs</p>")
    collection = server.collection()
    here = server.connect(collection, "folder", {"path": str(folder)})
    source.partitions["a"] = items(20)
    there = server.connect_to(source, lazy=True)
    assert [server.sync(connection)["status"] for connection in (here, there)] == ["completed"] * 2
    assert "which lists 42; read 42 of them" in right(running, "--source", "--content", here)
    (folder / "d0" / "f00.txt").write_text("file 00 sings of word0")
    source.put("a", {**items(20)[3], "text": "other words in the same version"})
    source.put("a", {**items(20)[4], "text": "\x00"})  # nothing to index any more
    source.put("a", {**items(20)[5], "version": "2", "text": "another version is told as such"})
    said = wrong(running, "--source", "--content", here)
    assert "another version in the source: 1 (d0/f00.txt)" in said
    assert "other content" not in said
    said = wrong(running, "--source", there)
    assert "another version in the source: 1 (item-0005)" in said
    assert "other content" not in said
    said = wrong(running, "--source", "--content", there)
    assert "other content in the source under the same version: 2 (item-0003, item-0004)" in said
    assert server.sync(there)["entities_updated"] == 1  # the versions hide the others from a sync
    assert "requested a repair job" in right(running, "--source", "--content", there, "--repair")
    job = repaired(server, there)
    assert [job[f"entities_{name}"] for name in ("updated", "skipped", "kept")] == [1, 1, 18]
    right(running, "--source", "--content", there)
    agree(running, there, [item for item in source.listed() if item["id"] != "item-0004"])


def test_content_is_read_only_at_a_source(running: Running) -> None:
    done = audit(running, "--content")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "airweave-server: --content reads the content at the source; add --source\n"


def test_what_is_not_cheap_to_list_is_listed_only_when_it_is_named_and_then_without_opening(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions |= {"a": items(20), "b": items(20, prefix="other")}
    connection = server.connect_to(source, lazy=True)
    server.sync(connection)
    source.log.clear()
    said = audit(running, "--source").stdout
    assert "not compared with its source: scripted is not cheap to list; name the connection" in said
    assert source.log == []
    source.partitions["a"][0] = {"id": "item-0000", "skip": "may not be read now"}
    source.put("b", {"id": "other-0001", "seen": True})
    source.put("b", items(3, prefix="other", version="2")[2])
    source.remove("b", "other-0003")
    source.remove("b", "other-0004")
    source.put("b", {"id": "other-0004", "deleted": True})
    said = wrong(running, "--source", connection)
    assert "which lists 38" in said
    assert "another version in the source: 1 (other-0002)" in said
    assert "in the ledger but no longer in the source: 2 (other-0003, other-0004)" in said
    assert "not in the ledger" not in said
    assert not [request for request in source.log if request["path"].startswith("/content")]


def test_a_source_that_cannot_be_listed_is_no_proof_and_tells_no_secret(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(5)
    source.token = "hush-hush-token"
    connection = server.connect_to(source, attempts=1)
    assert server.sync(connection)["status"] == "completed"
    source.fault("status", status=500, path="/items")
    said = wrong(running, connection, "--source")
    assert said.startswith("right")
    assert "not compared with its source: " in said
    source.faults.clear()
    source.token = "another"
    said = audit(running, connection, "--source")
    assert said.returncode == 1
    assert "hush-hush-token" not in said.stdout + said.stderr


def test_a_folder_of_another_host_is_not_looked_for_here(
    running: Running, server: Server, folder: Path, do: Do
) -> None:
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    do("update source_connection set host = 'elsewhere' where id = :id", id=connection)
    assert "not compared with its source: run this on host elsewhere" in right(running, connection, "--source")


def test_a_connection_that_is_not_there_is_refused_in_one_line(running: Running, server: Server) -> None:
    done = audit(running, "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "airweave-server: there is no connection 'nowhere'; airweave-server status lists them\n"
