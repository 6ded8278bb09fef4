"""A database that has no room left: the job waits and says so, nothing is half written, and with room it completes."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

import formats
from invariants import agree, hold
from running import IN_PROCESS, Running, Server, in_folder, plain, write
from small_disk import mounted

BOTH = pytest.mark.fault("F5", on="both")
DISK_FULL = """
    create function no_room() returns trigger language plpgsql as $$ begin
        raise exception using errcode = 'disk_full', message = 'could not extend file: No space left on device';
    end $$;
    create trigger no_room before {what} for each statement execute function no_room();
"""
ROOM = "drop function no_room() cascade"


def waits(server: Server, connection: str, job: str) -> dict[str, Any]:
    """The job once it waits for storage and says why."""
    return dict(
        server.wait_for(
            lambda: server.job(connection, job), lambda seen: seen["waiting_for"] == "storage" and seen["error"]
        )
    )


def run(running: Running, statement: str) -> None:
    with psycopg.connect(plain(running.database_url), autocommit=True) as connection:
        connection.execute(statement)


@BOTH
def test_a_job_waits_while_postgres_reports_a_full_disk(running: Running, driver: str) -> None:
    server = running.start(RETRY_ATTEMPTS="1", SOURCE_WAIT_MAX_S="1")
    folder = server.folder()
    write(folder, range(30), version=1)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    assert server.get("/health")["storage"]["status"] == "ok"
    run(running, DISK_FULL.format(what="insert on chunk"))
    job = server.run(connection)
    seen = waits(server, connection, job)
    assert (seen["status"], seen["error_category"]) == ("running", None)
    assert "the disk of the database is full" in seen["error"]
    hold(running)
    if driver == IN_PROCESS:  # the process that met the full disk
        health = server.get("/health")
        assert (health["status"], health["storage"]["status"]) == ("degraded", "full")
        assert "airweave_storage_full 1.0" in server.http.get("/metrics").text
    run(running, ROOM)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["error"], ended["entities_inserted"]) == ("completed", None, 30)
    hold(running, ended, listed=30)
    agree(running, connection, in_folder(folder))


@BOTH
@pytest.mark.parametrize("step", ["insert on sync_partition", "insert on delete_plan", "delete on sync_mark"])
def test_a_full_disk_in_any_step_is_no_failure(running: Running, server: Server, step: str) -> None:
    """In open, sweep and close."""
    folder = server.folder()
    write(folder, range(5), version=1)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    server.sync(connection)
    (folder / "d1" / "f1.txt").unlink()
    run(running, DISK_FULL.format(what=step))
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job)["waiting_for"], lambda seen: seen == "storage")
    run(running, ROOM)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_deleted"], ended["entities_kept"]) == ("completed", 1, 4)
    agree(running, connection, in_folder(folder))


@pytest.mark.fault("F5", on="in_process")
def test_requests_are_told_of_a_full_disk(running: Running, server: Server) -> None:
    run(running, DISK_FULL.format(what="insert on collection"))
    answer = server.http.post("/collections", json={"name": "No room for it"})
    run(running, ROOM)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "the disk of the database is full" in answer.json()["detail"]


@pytest.fixture
def little_room(scratch: Path, postgres: str, apart: Running) -> Iterator[Path]:
    """The tables of content on a small file system of their own."""
    place = scratch / f"small-{uuid4().hex}"
    with mounted(place, "12m"):
        inside = place / "tablespace"
        inside.mkdir()
        owner = (scratch / "postgres" / "postgres").stat()
        os.chown(inside, owner.st_uid, owner.st_gid)
        with psycopg.connect(plain(postgres), autocommit=True) as connection:
            connection.execute(f"create tablespace small location '{inside}'")
        run(apart, "alter table chunk set tablespace small")
        yield place
        run(apart, "alter table chunk set tablespace pg_default")
        with psycopg.connect(plain(postgres), autocommit=True) as connection:
            connection.execute("drop tablespace small")


@pytest.mark.fault("F5", on="in_process")
def test_a_disk_that_is_full_is_waited_for(little_room: Path, apart: Running) -> None:
    server = apart.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    folder, collection = server.folder(), server.collection()
    for number in range(500):
        (folder / f"f{number}.txt").write_text(f"word{number} " + os.urandom(15_000).hex())
    connection = server.connect(collection, "folder", {"path": str(folder)})
    job = server.run(connection)
    seen = waits(server, connection, job)
    assert seen["status"] == "running"
    assert 0 < seen["entities_inserted"] < 500
    hold(apart)
    assert len(server.ledger(connection)) == seen["entities_inserted"]
    subprocess.run(["mount", "-o", "remount,size=200m", str(little_room)], check=True)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 500)
    hold(apart, ended, listed=500)


@pytest.mark.fault("F5", on="in_process")
def test_no_document_is_blamed_for_a_full_disk_of_temporary_files(apart: Running, scratch: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="tmp-", dir=scratch))
    with mounted(place, "1m"):
        server = apart.start(TMPDIR=str(place))
        folder = server.folder()
        (folder / "first.docx").write_bytes(formats.word())
        connection = server.connect(server.collection(), "folder", {"path": str(folder)})
        assert server.finish(connection, server.run(connection))["entities_inserted"] == 1  # TMPDIR is used from now on
        (place / "filler").write_bytes(os.urandom(1_048_576))
        (folder / "letter.docx").write_bytes(formats.word())
        (folder / "note.txt").write_text("A note that needs no temporary file.")
        job = server.run(connection)
        seen = waits(server, connection, job)
        assert "temporary f" in seen["error"]
        subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        ended = server.finish(connection, job)
        assert (ended["status"], ended["entities_inserted"], ended["entities_failed"]) == ("completed", 2, 0)
        server.terminate()
