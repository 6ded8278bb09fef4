"""What a preview says of a source, beside what its first sync then does."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from running import Running, Server
from servers.scripted_server import ScriptedServer, items

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
SECRET = "hush-hush-token"


def body(short_name: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"short_name": short_name, "readable_collection_id": "not-there-yet", "config": config, **more}


def preview(server: Server, short_name: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(server.post("/source-connections/preview", body(short_name, config, **more)))


def scripted(source: ScriptedServer, **config: Any) -> dict[str, Any]:
    return body("scripted", {"url": source.url, **config}, authentication={"credentials": {"token": SECRET}})


def synced(server: Server, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    connection = server.connect(server.collection(), "folder", config)
    return server.sync(connection), server.ledger(connection)


@pytest.fixture(scope="module")
def folder(server: Server) -> Path:
    """Texts, and one of each thing that is left out."""
    place = server.folder()
    (place / "deep").mkdir()
    for number in range(30):
        (place / f"note-{number}.md").write_text(
            f"# Note {number}\n\n" + "The heron stands in the reeds. " * 60 * number
        )
        (place / "deep" / f"table-{number}.csv").write_text("bird,place\n" + "heron,reeds\n" * 10 * number)
    (place / "deep" / "photo.png").write_bytes(PNG)
    (place / "large.log").write_bytes(b"x" * 1_200_000)
    (place / "nothing.txt").write_text("")
    (place / "outside").symlink_to("/etc/hosts")
    (place / ".env").write_text("PASSWORD=never-read")
    return place


def test_a_small_folder_is_known_exactly_and_nothing_of_it_is_stored(server: Server, folder: Path) -> None:
    config = {"path": str(folder), "max_file_mb": 1}
    before = server.get("/collections/count"), server.get("/source-connections")
    said = preview(server, "folder", config)
    assert (server.get("/collections/count"), server.get("/source-connections")) == before

    job, ledger = synced(server, config)
    assert (said["is_complete"], said["is_exact"], said["notes"]) == (True, True, [])
    assert said["entities"] == job["entities_encountered"] == 64
    assert said["indexed"] == job["entities_inserted"]
    assert said["chunks"] == sum(entry["chunks"] for entry in ledger.values())
    assert said["chunks"] > 60
    assert said["seconds"] > 0
    reasons = Counter(entry["reason"].partition(":")[0] for entry in ledger.values() if entry["state"] == "skipped")
    assert {one["reason"]: one["entities"] for one in said["skipped"]} == reasons
    examples = {example: one["reason"] for one in said["skipped"] for example in one["examples"]}
    assert examples == {
        "deep/photo.png": "unsupported_format",
        "large.log": "too_large",
        "nothing.txt": "empty",
        "outside": "symlink",
    }
    assert all(one["is_exact"] for one in said["skipped"])


def test_of_a_large_folder_a_sample_of_each_kind_tells_how_much_it_makes(server: Server) -> None:
    place = server.folder()
    for number in range(300):
        (place / f"{number}.md").write_text("The heron stands in the reeds.\n" * (1 + number))
        (place / f"{number}.png").write_bytes(PNG + bytes([number % 256]))
    (place / "long.txt").write_text("A wide river goes by, and nobody knows where to.\n" * 20_000)
    said = preview(server, "folder", {"path": str(place)})
    job, ledger = synced(server, {"path": str(place)})
    assert (said["is_complete"], said["is_exact"]) == (True, False)
    assert said["entities"] == job["entities_encountered"] == 601
    assert said["size_bytes"] == sum(path.stat().st_size for path in place.iterdir())
    assert 50 <= said["opened"] <= 200
    assert said["indexed"] == job["entities_inserted"] == 301
    assert said["chunks"] == pytest.approx(sum(entry["chunks"] for entry in ledger.values()), rel=0.15)
    assert said["skipped"] == [
        {
            "reason": "unsupported_format",
            "entities": 300,
            "is_exact": False,
            "examples": said["skipped"][0]["examples"],
        }
    ]
    assert re.fullmatch(r"\d+ of 601 were opened: .* estimates", said["notes"][0])


def test_what_creation_refuses_a_preview_refuses_in_the_same_words(server: Server) -> None:
    for refused in (
        body("folder", {"path": "/etc"}),
        body("folder", {"path": str(server.folders / "missing")}),
        body("folder", {"path": "relative"}),
        body("folder", {}),
        body("no_such_source", {}),
        body("scripted", {"url": "http://127.0.0.1:1"}),
        body("folder", {"path": str(server.folders)}, schedule={"cron": "nonsense"}),
        {"short_name": "folder"},
    ):
        # the collection is there, so that nothing else is wrong
        wanted = {**refused, "readable_collection_id": server.collection()} if "config" in refused else refused
        asked = server.http.post("/source-connections/preview", json=wanted)
        created = server.http.post("/source-connections", json=wanted)
        assert asked.status_code == created.status_code >= 400
        assert asked.json() == created.json()


def test_a_source_that_fails_on_the_way_is_told_as_far_as_it_went_without_its_secrets(
    server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = [
        *items(8),
        {"id": "locked", "skip": f"locked: for {SECRET}"},
        {"id": 7},
        *items(5, start=20),
    ]
    whole = server.post("/source-connections/preview", scripted(source))
    assert (whole["is_exact"], whole["entities"], whole["indexed"], whole["chunks"]) == (True, 15, 13, 13)
    assert [(one["reason"], one["entities"]) for one in whole["skipped"]] == [("locked", 1)]
    assert [(one["reason"], one["entities"]) for one in whole["failed"]] == [("malformed", 1)]
    source.fault("status", status=500, page=1)
    part = server.post("/source-connections/preview", scripted(source, attempts=1))
    assert (part["is_complete"], part["entities"]) == (False, 10)
    assert "500" in part["notes"][0]
    assert "at least" in part["notes"][1]
    source.fault("status", status=500, page=0)
    nothing = server.http.post("/source-connections/preview", json=scripted(source, attempts=1))
    assert (nothing.status_code, "500" in nothing.json()["detail"]) == (400, True)
    assert SECRET not in f"{whole} {part} {nothing.text} {server.tail()}"


def test_a_source_that_hangs_is_looked_at_for_seconds_and_keeps_nobody_else_waiting(server: Server) -> None:
    with ScriptedServer() as hanging, ThreadPoolExecutor(2) as pool:
        hanging.partitions["a"] = items(30)
        hanging.fault("hang", page=1)
        asked = [pool.submit(server.post, "/source-connections/preview", scripted(hanging)) for _ in range(2)]
        server.wait_for(lambda: [seen["page"] for seen in hanging.log].count(1), lambda hung: hung == 2)
        third = server.http.post("/source-connections/preview", json=scripted(hanging))
        assert (third.status_code, "Retry-After" in third.headers) == (429, True)
        assert server.collection()  # no lock is held
        assert not any(one.done() for one in asked)
        for one in asked:
            said = one.result(60)
            assert (said["is_complete"], said["entities"], said["chunks"]) == (False, 10, 10)
            assert "at least" in said["notes"][0]


def test_an_embedder_that_fails_leaves_the_time_open(running: Running) -> None:
    control = running.place / "embedder"
    control.write_text("fail")
    server = running.start(EMBEDDER="test-failing", TEST_EMBEDDER_CONTROL=str(control), worker=False)
    place = server.folder()
    (place / "note.md").write_text("The heron stands in the reeds.")
    said = preview(server, "folder", {"path": str(place)})
    assert (said["chunks"], said["seconds"], said["embedding_model_name"]) == (1, None, "test-failing")
    assert "500" in said["notes"][0]
