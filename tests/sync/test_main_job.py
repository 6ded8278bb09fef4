"""The main job from outside: a folder becomes a collection, changes, and stays what it is."""

import os
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from running import Running, Server


def fill(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"part{number % 7}"
        place.mkdir(exist_ok=True)
        (place / f"note{number}.md").write_text(f"# Note {number}\n\nThe animal of note {number} is animal{number}.\n")


def test_a_folder_becomes_searchable_and_only_what_changed_is_touched(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    fill(folder, 40)
    (folder / "steps.py").write_text("def take():\n    raise ValueError('ERR_1234: no v1.9.2 of C++ here')\n")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    first = server.sync(connection)
    assert (first["status"], first["entities_inserted"], first["entities_encountered"]) == ("completed", 41, 41)
    assert server.found(collection, "animal17")[0] == "part3/note17.md"
    for exact in ("ERR_1234", "v1.9.2", "steps.py", "C++"):
        assert server.found(collection, exact)[0] == "steps.py", exact

    again = server.sync(connection)
    assert (again["entities_kept"], again["entities_inserted"], again["entities_updated"]) == (41, 0, 0)

    (folder / "part3" / "note17.md").write_text("# Note 17\n\nIt tells of zebra4711 now.\n")
    (folder / "new.txt").write_text("quokka42 is new")
    (folder / "part0" / "note0.md").unlink()
    third = server.sync(connection)
    done = {name: third[f"entities_{name}"] for name in ("inserted", "updated", "deleted", "kept", "skipped", "failed")}
    assert done == {"inserted": 1, "updated": 1, "deleted": 1, "kept": 39, "skipped": 0, "failed": 0}
    assert server.found(collection, "zebra4711")[0] == "part3/note17.md"
    assert server.found(collection, "quokka42")[0] == "new.txt"
    assert "part0/note0.md" not in server.found(collection, "animal0", limit=100)
    assert "part3/note17.md" not in server.found(collection, "animal17", retrieval_strategy="keyword")


def test_an_edited_document_keeps_the_rows_of_its_unchanged_pieces(server: Server, fresh_database: Database) -> None:
    folder, collection = server.folder(), server.collection()
    sections = [f"# Section {number}\n\n{f'Words of section {number}. ' * 70}\n\n" for number in range(6)]
    (folder / "long.md").write_text("".join(sections))
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)

    def stored() -> dict[int, tuple[str, bytes]]:
        with fresh_database.session() as session:
            rows = session.execute(text("select ordinal, cast(xmin as text), hash from chunk order by ordinal")).all()
            return {row[0]: (row[1], bytes(row[2])) for row in rows}

    before = stored()
    sections[3] = sections[3].replace("section 3. ", "section 3, which tells of quokka4711. ", 1)
    (folder / "long.md").write_text("".join(sections))
    assert server.sync(connection)["entities_updated"] == 1
    after = stored()
    assert len(before) == len(after) == 6
    assert [number for number in after if after[number] != before[number]] == [3]
    assert server.found(collection, "quokka4711") == ["long.md"]

    (folder / "long.md").write_text("".join(sections[:2]))
    server.sync(connection)
    assert stored() == {number: before[number] for number in (0, 1)}


def test_pieces_that_move_within_a_document_are_found_by_their_identifiers(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    sections = [f"# Section {number}\n\nERR_{4000 + number} {'Words of it. ' * 120}\n\n" for number in range(5)]
    (folder / "long.md").write_text("".join(sections))
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    for order in ([4, 0, 1, 2, 3], [3, 2, 0], [0, 1, 2, 3, 4]):
        (folder / "long.md").write_text("".join(sections[number] for number in order))
        assert server.sync(connection)["entities_updated"] == 1
        for number in range(5):
            hits = server.search(collection, f"ERR_{4000 + number}", retrieval_strategy="keyword", limit=1)
            is_shown = any(f"ERR_{4000 + number}" in hit["textual_representation"] for hit in hits)
            assert is_shown == (number in order), (order, number)


def test_a_touched_file_is_kept_and_its_time_follows(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    (folder / "a.txt").write_text("the same words")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    (folder / "a.txt").write_text("the same words")
    again = server.sync(connection)
    assert (again["entities_kept"], again["entities_updated"]) == (1, 0)


def test_a_forced_sync_reads_everything_and_changes_nothing(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    fill(folder, 5)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    forced = server.sync(connection, force_full_sync=True)
    assert (forced["entities_kept"], forced["entities_updated"], forced["mode"]) == (5, 0, "full")


def test_an_empty_folder_completes_with_nothing(server: Server) -> None:
    connection = server.connect(server.collection(), "folder", {"path": str(server.folder())})
    job = server.sync(connection)
    assert (job["status"], job["entities_encountered"]) == ("completed", 0)


def test_binary_and_empty_files_are_skipped_with_a_reason(server: Server) -> None:
    folder = server.folder()
    (folder / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (folder / "empty.md").touch()
    with (folder / "huge.log").open("wb") as file:
        file.truncate(2 * 1024**3)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    job = server.sync(connection)
    assert (job["status"], job["entities_skipped"], job["entities_failed"]) == ("completed", 3, 0)
    reasons = {name: entry["reason"] for name, entry in server.ledger(connection, state="skipped").items()}
    assert "PNG" in reasons["picture.txt"]
    assert reasons["empty.md"] == "empty"
    assert reasons["huge.log"].startswith("too_large")


def test_a_file_that_turns_binary_leaves_the_index_and_comes_back(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    (folder / "a.txt").write_text("wombat99 lives here")
    (folder / "b.txt").write_text("another one")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    (folder / "a.txt").write_bytes(b"\x7fELF" + bytes(100))
    job = server.sync(connection)
    assert (job["entities_skipped"], job["entities_deleted"]) == (1, 0)
    assert "a.txt" not in server.found(collection, "wombat99", retrieval_strategy="keyword")
    (folder / "a.txt").write_text("wombat99 is back")
    server.sync(connection)
    assert server.found(collection, "wombat99")[0] == "a.txt"


def test_names_with_newlines_emoji_and_bytes_that_are_no_text(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    names = [b"line\nbreak.txt", "smile😀.txt".encode(), b"latin\xe9.txt", b"per%20cent.txt", b"quote'\".txt"]
    for number, name in enumerate(names):
        (folder / os.fsdecode(name)).write_text(f"the word of this file is odd{number}word")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    job = server.sync(connection)
    assert (job["status"], job["entities_inserted"]) == ("completed", 5)
    for number in range(5):
        assert len(server.found(collection, f"odd{number}word", retrieval_strategy="keyword")) == 1
    assert server.sync(connection)["entities_kept"] == 5


def test_an_entity_of_thirty_thousand_chunks_is_cut_and_says_so(running: Running) -> None:
    # the vectors of so many are computed in tests/faults/test_hostile_documents.py
    server = running.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    folder, collection = server.folder(), server.collection()
    words = [f"word{number % 5000} stands in line {number} of this very long text" for number in range(800_000)]
    text = "\n".join(words)[:44_000_000]
    (folder / "long.txt").write_text("firstofall\n" + text + "\nlastofall\n")
    connection = server.connect(collection, "folder", {"path": str(folder), "max_file_mb": 60})
    job = server.sync(connection, timeout_s=120)
    assert (job["status"], job["entities_inserted"]) == ("completed", 1)
    entry = server.ledger(connection)["long.txt"]
    assert (entry["chunks"], entry["truncated"]) == (20_000, True)
    assert server.found(collection, "firstofall")
    (folder / "long.txt").write_text("firstofall changed\n" + text)
    again = server.sync(connection, timeout_s=120)
    assert (again["entities_updated"], again["entities_inserted"]) == (1, 0)
    assert server.search(collection, "firstofall changed")[0]["textual_representation"].startswith("firstofall changed")


def test_each_row_of_a_long_table_is_found_and_a_row_more_is_too(server: Server, fresh_database: Database) -> None:
    folder, collection = server.folder(), server.collection()
    rows = (f"{n};Name{n % 977} Surname{n * 7919 % 10007};QX-{n:07d};City{n % 331}\n" for n in range(100_000))
    (folder / "long.csv").write_text("List of parts\n\nid;name;number;city\n" + "".join(rows))
    connection = server.connect(collection, "folder", {"path": str(folder)})
    job = server.sync(connection)
    assert (job["status"], job["entities_inserted"], job["entities_incomplete"]) == ("completed", 1, 0)
    entry = server.ledger(connection)["long.csv"]
    assert (entry["truncated"], entry["left_out"]) == (False, [])
    assert entry["chunks"] > 3_000

    def is_found(number: str) -> bool:
        return f"number: {number}" in server.search(collection, number)[0]["textual_representation"]

    assert all(is_found(number) for number in ("QX-0000000", "QX-0054321", "QX-0099999"))

    def stored() -> dict[int, str]:
        with fresh_database.session() as session:
            return {row[0]: row[1] for row in session.execute(text("select ordinal, cast(xmin as text) from chunk"))}

    before = stored()
    with (folder / "long.csv").open("a") as file:
        file.write("100000;One More;QX-LAST01;Here\n")
    assert server.sync(connection)["entities_updated"] == 1
    after = stored()
    assert 1 <= sum(before.get(ordinal) != xmin for ordinal, xmin in after.items()) <= 2
    assert is_found("QX-LAST01")
    assert is_found("QX-0054321")


def test_litter_is_skipped_and_a_link_is_indexed(server: Server) -> None:
    folder, collection = server.folder(), server.collection()
    litter = {
        "~$report.docx": b"\x0bAnn Example" + bytes(150),
        "._notes.txt": b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(60),
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(60),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "desktop.ini": b"[.ShellClassInfo]\r\nIconResource=x\r\n",
    }
    for name, data in litter.items():
        (folder / name).write_bytes(data)
    (folder / "Shop.url").write_bytes(b"[InternetShortcut]\r\nURL=https://example.com/wombat4711\r\n")
    connection = server.connect(collection, "folder", {"path": str(folder)})
    job = server.sync(connection)
    assert (job["entities_inserted"], job["entities_skipped"], job["entities_failed"]) == (1, len(litter), 0)
    ledger = server.ledger(connection)
    assert all(ledger[name]["reason"].startswith("litter: ") for name in litter)
    assert server.search(collection, "wombat4711")[0]["textual_representation"].strip() == (
        "Shop: https://example.com/wombat4711"
    )


@pytest.mark.parametrize("how", ["gone", "emptied", "another"])
def test_a_folder_that_vanishes_is_unmounted_or_replaced_deletes_nothing(server: Server, how: str) -> None:
    folder, collection = server.folder(), server.collection()
    fill(folder, 30)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    if how == "emptied":
        for part in folder.iterdir():
            shutil.rmtree(part)
    else:
        folder.rename(folder.with_name(folder.name + "-away"))
    if how == "another":
        folder.mkdir()
        (folder / "other.md").write_text("something else lies here now")
    job = server.sync(connection)
    assert job["entities_deleted"] == 0
    assert (job["status"], job["held_deletes"]) == (("failed", 0) if how == "gone" else ("completed", 30))
    assert server.found(collection, "animal17")[0] == "part3/note17.md"


def test_a_folder_that_is_taken_away_in_the_middle_of_a_sync_deletes_nothing(running: Running) -> None:
    server = running.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0", RETRY_ATTEMPTS="2")
    folder, collection = server.folder(), server.collection()
    fill(folder, 700)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    server.terminate()
    slow = running.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.5", RETRY_ATTEMPTS="2")
    for number in range(700):
        (folder / f"part{number % 7}" / f"note{number}.md").write_text(f"another text of note {number}, animal{number}")
    job = slow.run(connection)
    slow.wait_for(lambda: slow.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    folder.rename(folder.with_name(folder.name + "-away"))
    ended = slow.finish(connection, job)
    assert (ended["status"], ended["entities_deleted"], ended["held_deletes"]) == ("failed", 0, 0)
    assert len(slow.ledger(connection)) == 700
    slow.terminate()
