"""What a listing of the source does not show by itself: content rewritten behind the same size and mtime, and versions
that say nothing. On both drivers."""

import mmap
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, hold
from running import Running, Server, in_folder
from servers.scripted_server import ScriptedServer, items

pytestmark = pytest.mark.fault("F45", on="both")

FORMER_VERSION = "regexp_replace(version, '-[0-9]+-([0-9]+)$', '-\\1')"  # without ctime, as 0.1.0 had it


def in_place(file: Path, new: bytes) -> None:
    with file.open("r+b") as opened:
        opened.write(new)


def mapped(file: Path, new: bytes) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as memory:
        memory[:] = new


def copied_over(file: Path, new: bytes) -> None:
    other = file.with_suffix(".draft")
    other.write_bytes(new)
    shutil.copystat(file, other)
    subprocess.run(["cp", "-p", other, file], check=True)
    other.unlink()


def renamed_over(file: Path, new: bytes) -> None:
    other = file.with_suffix(".draft")
    other.write_bytes(new)
    shutil.copystat(file, other)
    other.rename(file)


def through_a_hard_link(file: Path, new: bytes) -> None:
    other = file.parent.parent / f"{file.parent.name}-{file.name}"
    os.link(file, other)
    in_place(other, new)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.unlink()


def target_of_a_symlink(file: Path, new: bytes) -> None:
    in_place(file.resolve(), new)


WAYS: dict[str, Callable[[Path, bytes], None]] = {
    way.__name__: way for way in (in_place, mapped, copied_over, renamed_over, through_a_hard_link, target_of_a_symlink)
}


def rewrite(file: Path, way: str, new: str) -> None:
    """Change the content so that size and mtime stay."""
    before = file.stat()
    WAYS[way](file, new.encode())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_rewritten_in_place_is_read_again(running: Running, server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    (folder / "elsewhere").mkdir()
    for number, way in enumerate(WAYS):
        (folder / f"{way}.txt").write_text(f"quokka{number} text")
    (folder / "target_of_a_symlink.txt").rename(folder / "elsewhere" / "target.txt")
    (folder / "target_of_a_symlink.txt").symlink_to("elsewhere/target.txt")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    assert server.sync(connection)["entities_inserted"] == len(WAYS) + 1
    for number, way in enumerate(WAYS):
        rewrite(folder / f"{way}.txt", way, f"badger{number} text")
    job = server.sync(connection)
    assert (job["entities_updated"], job["entities_kept"]) == (len(WAYS) + 1, 0)
    for number, way in enumerate(WAYS):
        assert f"{way}.txt" in server.found(collection, f"badger{number}", retrieval_strategy="keyword")
        assert not server.found(collection, f"quokka{number}", retrieval_strategy="keyword")
    hold(running, job, listed=len(WAYS) + 1)
    agree(running, connection, in_folder(folder))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_forced_sync_opens_everything_whatever_the_version_says(
    running: Running, server: Server, source: ScriptedServer, *, lazy: bool
) -> None:
    source.partitions |= {"a": items(15), "b": items(15, prefix="other")}
    connection = server.connect_to(source, lazy=lazy)
    assert server.sync(connection)["entities_inserted"] == 30
    for partition, id in (("a", "item-0003"), ("b", "other-0014")):
        changed = next(item for item in source.partitions[partition] if item["id"] == id)
        source.put(partition, {**changed, "text": f"rewritten{id} under the version it had"})
    job = server.sync(connection)
    assert (job["entities_updated"], job["entities_kept"]) == (0, 30)
    source.log.clear()
    if lazy:
        forced = server.sync(connection, force_full_sync=True)
    else:
        assert running.command("sync", connection, "--full", API_URL=server.url).returncode == 0
        forced = server.get(f"/source-connections/{connection}/jobs", limit=1)[0]
    assert (forced["entities_updated"], forced["entities_kept"], forced["mode"]) == (2, 28, "full")
    if lazy:
        assert len({request["path"] for request in source.log if request["path"].startswith("/content/")}) == 30
    hold(running, job, forced, listed=30)
    agree(running, connection, source.listed())


def test_a_forced_sync_and_the_first_one_after_the_upgrade_open_every_file_and_embed_nothing(
    apart: Running, tmp_path: Path
) -> None:
    control = tmp_path / "control"
    server = apart.start(EMBEDDER="test-failing", TEST_EMBEDDER_CONTROL=str(control))
    folder = server.folder()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"file {number} tells of word{number}")
    (folder / "empty.txt").write_text("")
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    assert server.sync(connection)["entities_inserted"] == 20
    control.write_text("fail")  # whatever is embedded from now on
    forced = server.sync(connection, force_full_sync=True)
    assert (forced["status"], forced["entities_kept"], forced["entities_skipped"]) == ("completed", 20, 1)
    database = Database(apart.database_url)
    with database.session() as session:
        versions = session.execute(text("select version from entity")).scalars().all()
        assert len(set(versions)) == 21
        session.execute(text(f"update entity set version = {FORMER_VERSION}"))
    upgraded = server.sync(connection)
    assert (upgraded["status"], upgraded["entities_kept"], upgraded["entities_updated"]) == ("completed", 20, 0)
    with database.session() as session:
        assert session.execute(text("select version from entity")).scalars().all() == versions
    database.close()
    hold(apart, forced, upgraded, listed=21)
