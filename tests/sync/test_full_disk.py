"""A database that has no room left: the job says so, nothing is half written, and with room again it completes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from running import Running, Server

ROOM = "40m"


@pytest.fixture
def little_room(scratch: Path, postgres: str, fresh_database: Database) -> Iterator[Path]:
    """The tables of content on a small file system of their own."""
    place = scratch / f"small-{uuid4().hex}"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], check=False)
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    inside = place / "tablespace"
    inside.mkdir()
    owner = (scratch / "postgres" / "postgres").stat()
    os.chown(inside, owner.st_uid, owner.st_gid)
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"create tablespace small location '{inside}'")
    with fresh_database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("alter table chunk set tablespace small"))
    yield place
    with fresh_database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("alter table chunk set tablespace pg_default"))
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("drop tablespace small")
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def patient(running: Running) -> Server:
    return running.start(RETRY_ATTEMPTS="3", RETRY_BACKOFF_S="0.2", EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")


def test_it_fails_with_the_reason_and_completes_with_room(
    little_room: Path, patient: Server, fresh_database: Database
) -> None:
    folder, collection = patient.folder(), patient.collection()
    for number in range(1_500):
        (folder / f"f{number}.txt").write_text(f"word{number} " + os.urandom(15_000).hex())
    connection = patient.connect(collection, "folder", {"path": str(folder)})
    job = patient.sync(connection, 120)
    assert (job["status"], job["error_category"]) == ("failed", "storage_full")
    assert "out of disk space" in job["error"]
    assert 0 < job["entities_inserted"] < 1_500
    with fresh_database.session() as session:
        half = session.execute(
            text("""
                select count(*) from entity e
                where e.chunks <> (select count(*) from chunk c where c.entity_row = e.row)
            """)
        ).scalar_one()
    assert half == 0
    assert len(patient.ledger(connection)) == job["entities_inserted"]

    subprocess.run(["mount", "-o", "remount,size=400m", str(little_room)], check=True)
    again = patient.sync(connection, 120)
    assert again["status"] == "completed"
    assert again["entities_inserted"] + again["entities_kept"] == 1_500
