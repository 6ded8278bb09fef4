"""What a text lacks is said wherever a person or a program looks, and a better reader reads anew only what it has
read."""

import zipfile
from pathlib import Path

import pytest
from sqlalchemy import text

import formats
from airweave_server.db.session import Database
from airweave_server.text.versions import VERSIONS
from invariants import hold
from running import IN_PROCESS, TEMPORAL, Running, Server, ok
from servers.scripted_server import ScriptedServer, items

BOTH = pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100)


def fill(folder: Path) -> None:
    (folder / "notes.md").write_text("whole and sound")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("read.md", "the walrus text")
        archive.writestr("one.png", PICTURE)
        archive.writestr("two.png", PICTURE)
        archive.writestr("broken.pdf", b"%PDF-1.4 broken")
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        archive.writestr("read.md", "the manatee text")
        archive.writestr("one.png", PICTURE)


@BOTH
def test_what_is_left_out_is_said_everywhere(running: Running, server: Server, driver: str) -> None:
    folder = server.folder()
    fill(folder)
    config = {"path": str(folder)}
    body = {"short_name": "folder", "readable_collection_id": server.collection(), "config": config}
    preview = server.post("/source-connections/preview", body)
    assert {one["reason"]: one["entities"] for one in preview["incomplete"]} == {
        "a file in it is not read": 1,
        "an image is not read": 2,
    }
    connection = server.connect(server.collection(), "folder", config)
    done = running.command("sync", connection, API_URL=server.url)
    assert "2 entities lack something" in " ".join(ok(done).split())
    for job in (server.get(f"/source-connections/{connection}/jobs")[0], server.sync(connection)):  # new, then kept
        assert (job["status"], job["entities_incomplete"], job["entities_failed"]) == ("completed", 2, 0)
    found = server.ledger(connection, incomplete=True)
    assert found.keys() == {"a.zip", "pictures.zip"}
    assert server.ledger(connection, incomplete=False).keys() == {"notes.md"}
    said = {one["what"]: one for one in found["a.zip"]["left_out"]}
    assert said["image"] == {"what": "image", "count": 2, "where": ["one.png", "two.png"], "note": None}
    assert said["member"]["where"] == ["broken.pdf"]
    assert "damaged" in said["member"]["note"]
    assert (found["a.zip"]["truncated"], found["pictures.zip"]["truncated"]) == (True, False)
    assert found["pictures.zip"]["reason"] == "left out: one.png: an image is not read"
    whole = server.get(f"/source-connections/{connection}/entities/text", entity_id="a.zip")
    assert whole["left_out"] == found["a.zip"]["left_out"]
    if driver == IN_PROCESS:  # the process that was asked has also read them
        metrics = server.http.get("/metrics").text
        assert 'airweave_left_out_total{source="folder",what="image"}' in metrics


@BOTH
def test_what_a_text_lacks_may_change_while_the_text_stays(server: Server) -> None:
    folder = server.folder()
    fill(folder)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    server.sync(connection)
    with zipfile.ZipFile(folder / "pictures.zip", "a") as archive:
        archive.writestr("three.png", PICTURE)
    job = server.sync(connection)
    assert (job["entities_updated"], job["entities_kept"], job["entities_incomplete"]) == (1, 2, 2)
    assert server.ledger(connection)["pictures.zip"]["left_out"][0]["count"] == 2
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        archive.writestr("read.md", "the manatee text")
    job = server.sync(connection)
    assert (job["entities_updated"], job["entities_kept"], job["entities_incomplete"]) == (1, 2, 1)
    assert server.ledger(connection)["pictures.zip"]["left_out"] == []


def read_by_the_version_before(database: Database, connection: str, form: str) -> None:
    """Have the ledger say that the reader of this format was another one."""
    with database.session() as session:
        session.execute(
            text("update entity set pipeline = regexp_replace(pipeline, :now, :before) where connection_id = :id"),
            {"id": connection, "now": rf"\m{form}-{VERSIONS[form]}\M", "before": f"{form}-0"},
        )
        session.execute(
            text("update source_connection set last_full_pipeline = 'of before' where id = :id"), {"id": connection}
        )


@BOTH
def test_a_better_reader_reads_anew_only_what_it_has_read(
    running: Running, server: Server, fresh_database: Database
) -> None:
    folder = server.folder()
    (folder / "a.md").write_text("some text")
    (folder / "a.pdf").write_bytes(formats.FORMATS["a.pdf"][0]())
    (folder / "a.docx").write_bytes(formats.word())
    (folder / "in.zip").write_bytes(formats.zipped({"deep/in.zip": formats.zipped({"a.docx": formats.word()})}))
    (folder / "other.zip").write_bytes(formats.zipped({"a.md": b"other text"}))
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    assert server.sync(connection)["entities_inserted"] == 5
    read_by_the_version_before(fresh_database, connection, "docx")
    job = server.sync(connection)
    assert (job["status"], job["entities_updated"], job["entities_kept"]) == ("completed", 2, 3)
    again = server.sync(connection)
    assert (again["entities_updated"], again["entities_kept"]) == (0, 5)
    hold(running, job, again, listed=5)


@BOTH
def test_an_upgrade_leaves_cursors_alone_unless_a_reader_that_was_used_has_changed(
    server: Server, source: ScriptedServer, fresh_database: Database
) -> None:
    source.partitions["a"] = items(20)
    connection = server.connect_to(source, "scripted_incremental")
    assert server.sync(connection)["mode"] == "full"
    read_by_the_version_before(fresh_database, connection, "docx")  # which has read nothing of it
    job = server.sync(connection)
    assert (job["mode"], job["entities_updated"], job["entities_encountered"]) == ("incremental", 0, 0)
    read_by_the_version_before(fresh_database, connection, "markdown")
    job = server.sync(connection)
    assert (job["mode"], job["entities_updated"]) == ("full", 20)
    assert server.sync(connection)["mode"] == "incremental"
