"""What a new version never reads leaves the index with the next job, and the job says how much that was."""

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from running import IN_PROCESS, TEMPORAL, Running, Server

BOTH = pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")
SECRETS = 15  # of 20 files: more than the guard lets go


def index_under_an_earlier_version(server: Server, database: Database, folder: Path) -> tuple[str, str]:
    """Sync files, then give some of them names that an earlier version read, on disk and in the ledger."""
    for number in range(20):
        (folder / f"file{number:02}").write_text(f"the text of file number{number}")
    collection = server.collection()
    connection = server.connect(collection, "folder", {"path": str(folder)})
    assert server.sync(connection)["entities_inserted"] == 20
    for number in range(SECRETS):
        name = f"server{number}.pem.gz"
        (folder / f"file{number:02}").rename(folder / name)
        with database.session() as session:
            session.execute(
                text("update entity set entity_id = :name where connection_id = :id and entity_id = :was"),
                {"name": name, "id": connection, "was": f"file{number:02}"},
            )
    assert "server3.pem.gz" in server.found(collection, "number3")
    return collection, connection


@BOTH
def test_what_an_upgrade_never_reads_leaves_the_index_past_the_guard(
    running: Running, server: Server, fresh_database: Database
) -> None:
    folder = server.folder()
    collection, connection = index_under_an_earlier_version(server, fresh_database, folder)
    (folder / "server0.pem.gz").unlink()  # whether it is still there does not matter
    job = server.sync(connection)
    assert (job["status"], job["held_deletes"]) == ("completed", 0)
    assert (job["entities_deleted"], job["entities_never_read"], job["entities_kept"]) == (SECRETS, SECRETS, 5)
    assert not [name for name in server.found(collection, "number3") if "pem" in name]
    assert len(server.ledger(connection)) == 5
    assert server.sync(connection)["entities_never_read"] == 0


def test_other_deletes_are_still_held(server: Server, fresh_database: Database) -> None:
    folder = server.folder()
    _, connection = index_under_an_earlier_version(server, fresh_database, folder)
    for number in range(SECRETS, 20):
        (folder / f"file{number:02}").unlink()
    job = server.sync(connection)
    assert (job["entities_deleted"], job["entities_never_read"], job["held_deletes"]) == (SECRETS, SECRETS, 5)
    assert set(server.ledger(connection)) == {f"file{number:02}" for number in range(SECRETS, 20)}


def test_the_command_line_says_how_many_left(running: Running, server: Server, fresh_database: Database) -> None:
    _, connection = index_under_an_earlier_version(server, fresh_database, server.folder())
    done = running.command("sync", connection, API_URL=server.url)
    assert done.returncode == 0, done.stderr
    assert f"Removed {SECRETS} entities from the index" in " ".join(done.stdout.split())


def test_a_link_to_the_servers_own_files_leaves_the_index(running: Running, server: Server) -> None:
    folder, key = server.folder(), running.place / "data" / "vault.key"
    (folder / "a.md").write_text("one text")
    (folder / "notes.md").write_text("another text")
    collection = server.collection()
    connection = server.connect(collection, "folder", {"path": str(folder)})
    assert server.sync(connection)["entities_inserted"] == 2
    assert key.exists()
    (folder / "notes.md").unlink()
    os.link(key, folder / "notes.md")
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"], job["entities_updated"]) == ("completed", 1, 0)
    assert set(server.ledger(connection)) == {"a.md"}
    assert server.found(collection, key.read_text()) in ([], ["a.md"])
