"""Files and folders that move while a job reads, from what is not read yet to what is read already: what was at the
source at every moment is found when the job has completed. On both drivers, with real renames."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from invariants import Followed, agree, hold
from running import IN_PROCESS, Running, Server, in_folder

pytestmark = pytest.mark.fault("F44", on="both")

HOP_S = 0.004  # between two moves of a file that never rests
FILES = 3  # in each folder, few enough for no guard


class Place:
    """A folder with the partitions "", a/, b/ and c/, its connection, and the gates of its reads."""

    def __init__(self, server: Server) -> None:
        self.root = server.folder()
        self.gates = self.root.with_name(f"{self.root.name}-gates")
        self.gates.mkdir()
        for folder in ("a", "a/deep", "b", "b/sub", "b/up", "c"):
            (self.root / folder).mkdir(exist_ok=True)
            for number in range(FILES):
                self.write(f"{folder}/f{number}.txt")
        self.write("top.txt")
        config = {"path": str(self.root), "gates": str(self.gates)}
        self.connection = server.connect(server.collection(), "gated_folder", config)

    def write(self, path: str) -> None:
        (self.root / path).write_text(f"{path} was written first and tells of {path.replace('/', '').replace('.', '')}")

    def close(self, point: str) -> None:
        (self.gates / f"{point}.closed").touch()

    def open(self, point: str) -> None:
        (self.gates / f"{point}.closed").unlink()

    def reach(self, server: Server, *points: str) -> None:
        """Wait until the job has come to these points since they were waited for last."""
        for point in points:
            reached = self.gates / f"{point}.reached"
            server.wait_for(reached.exists, bool)
            reached.unlink()

    def move(self, old: str, new: str) -> None:
        (self.root / old).rename(self.root / new)

    @contextmanager
    def restless(self) -> Iterator[None]:
        """Move a file from folder to folder, without an end."""
        ending = threading.Event()

        def hop() -> None:
            places = itertools.cycle([self.root / folder / "restless.txt" for folder in ("a", "b", "c")])
            here = next(places)
            here.write_text("of one that never rests")
            for there in places:
                here.rename(there)
                here = there
                if ending.wait(HOP_S):
                    return

        thread = threading.Thread(target=hop)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()


@pytest.fixture
def place(server: Server) -> Place:
    place = Place(server)
    assert server.sync(place.connection)["entities_inserted"] == 6 * FILES + 1
    for reached in place.gates.iterdir():
        reached.unlink()
    return place


def reread(job: dict[str, Any]) -> tuple[Any, ...]:
    return job["status"], job["unsettled"], job["entities_inserted"], job["entities_deleted"], job["attempts"]


def test_what_moves_to_where_was_read_already_is_found(running: Running, server: Server, place: Place) -> None:
    place.close("read b")
    job = server.run(place.connection)
    place.reach(server, "done ", "done a", "read b")
    place.move("b/f1.txt", "a/deep/moved.txt")  # a file
    place.move("b/f2.txt", "a/f2.txt")  # over another
    place.move("b/sub", "a/deep/sub")  # a folder
    place.move("b/up", "up")  # a new folder at the top, which the partitions do not list
    place.close("asked b")
    with Followed(server, place.connection, job):
        place.open("read b")
        place.reach(server, "asked b")
        place.move("b/f0.txt", "c/moved.txt")  # when the job has met it already
        place.open("asked b")
        ended = server.finish(place.connection, job)
    assert reread(ended) == ("completed", False, 2 * FILES + 2, 2 * FILES + 3, 1)
    hold(running, ended)
    agree(running, place.connection, in_folder(place.root))
    assert reread(server.sync(place.connection)) == ("completed", False, 0, 0, 1)


def test_a_top_level_folder_that_is_renamed_is_found_and_its_old_name_goes_later(
    running: Running, server: Server, place: Place
) -> None:
    place.close("read c")
    job = server.run(place.connection)
    place.reach(server, "done ", "done a", "done b", "read c")
    place.move("c", "renamed")
    place.open("read c")
    ended = server.finish(place.connection, job)
    assert reread(ended) == ("completed", False, FILES, 0, 1)
    there = {id for id, entry in server.ledger(place.connection).items() if entry["state"] == "indexed"}
    assert {f"renamed/f{number}.txt" for number in range(FILES)} <= there
    hold(running, ended)
    assert server.sync(place.connection)["entities_deleted"] == FILES + 1  # and what was said of "c"
    agree(running, place.connection, in_folder(place.root))


def test_what_never_rests_leaves_the_job_unsettled_and_deletes_nothing_at_first(
    running: Running, server: Server, place: Place
) -> None:
    place.write("c/gone.txt")
    server.sync(place.connection)
    with place.restless():
        (place.root / "c" / "gone.txt").unlink()
        jobs = [server.sync(place.connection)]
        assert (jobs[0]["status"], jobs[0]["unsettled"], jobs[0]["entities_deleted"]) == ("completed", True, 0)
        assert "c/gone.txt" in server.ledger(place.connection)
        shown = running.command("sync", place.connection, API_URL=server.url)
        assert "Unsettled: entities moved while they were read" in shown.stdout, shown
        jobs.append(server.get(f"/source-connections/{place.connection}/jobs", limit=1)[0])
        assert (jobs[1]["status"], jobs[1]["unsettled"]) == ("completed", True)
        assert "c/gone.txt" not in server.ledger(place.connection)  # two jobs in a row did not meet it
    jobs.append(server.sync(place.connection))
    assert (jobs[2]["status"], jobs[2]["unsettled"]) == ("completed", False)
    hold(running, *jobs)
    agree(running, place.connection, in_folder(place.root))


def test_a_kill_while_the_source_is_asked_or_read_again_loses_nothing(apart: Running, driver: str) -> None:
    point = "asked b" if driver == IN_PROCESS else "read a"
    server = apart.start()
    place = Place(server)
    assert server.sync(place.connection)["status"] == "completed"
    for reached in place.gates.iterdir():
        reached.unlink()
    place.close("read b")
    job = server.run(place.connection)
    place.reach(server, "done ", "read a", "done a", "read b")
    place.move("b/sub", "a/deep/sub")
    place.close(point)
    place.open("read b")
    place.reach(server, point)
    server.kill()
    place.open(point)
    server = apart.start()
    ended = server.finish(place.connection, job)
    assert (ended["status"], ended["unsettled"], ended["entities_deleted"]) == ("completed", False, FILES)
    hold(apart, ended, listed=6 * FILES + 1)
    agree(apart, place.connection, in_folder(place.root))


def test_a_cancel_while_the_source_is_asked_ends_the_job(running: Running, server: Server, place: Place) -> None:
    place.close("asked b")
    job = server.run(place.connection)
    place.reach(server, "asked b")
    began_at = time.monotonic()
    server.post(f"/source-connections/{place.connection}/jobs/{job}/cancel")
    ended = server.finish(place.connection, job)
    assert (ended["status"], ended["entities_deleted"]) == ("cancelled", 0)
    assert time.monotonic() - began_at < 15
    place.open("asked b")
    assert reread(server.sync(place.connection)) == ("completed", False, 0, 0, 1)
    hold(running, ended)
    agree(running, place.connection, in_folder(place.root))


def test_a_folder_that_is_away_when_it_is_asked_is_waited_for(running: Running, server: Server, place: Place) -> None:
    place.close("asked ")
    job = server.run(place.connection)
    place.reach(server, "asked ")
    away = place.root.with_name(f"{place.root.name}-away")
    place.root.rename(away)
    place.open("asked ")
    time.sleep(0.15)
    away.rename(place.root)
    ended = server.finish(place.connection, job)
    assert (ended["status"], ended["entities_deleted"], ended["error"]) == ("completed", 0, None)
    agree(running, place.connection, in_folder(place.root))
