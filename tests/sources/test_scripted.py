"""The tests' own source on the scripted server: that both do what other tests rely on."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import scripted_server
from airweave_test_plugin.embedders import Failing, Slow
from airweave_test_plugin.scripted import (
    Scripted,
    ScriptedConfig,
    ScriptedCredentials,
    ScriptedCursor,
    ScriptedIncremental,
    ScriptedSkipping,
)
from pydantic import SecretStr
from scripted_server import ScriptedServer, items

from airweave_server.sdk import (
    AuthError,
    ConfigError,
    Context,
    Deleted,
    EmbedderError,
    Entity,
    Seen,
    Skipped,
    Unavailable,
)
from airweave_server.sdk.testing import SourceSuite

CANARY = "canary-token-91c4"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.partitions = {"a": items(25, prefix="a"), "b": items(5, prefix="b")}
        yield server


def scripted(server: ScriptedServer, kind: type[Scripted] = Scripted, **config: Any) -> Scripted:
    options = {"backoff_s": 0.01, "attempts": 2, "timeout_s": 2, **config}
    credentials = ScriptedCredentials(token=SecretStr(CANARY))
    return kind(ScriptedConfig(url=server.url, **options), credentials, Context(allowed_hosts=("127.0.0.1",)))


def read(source: Scripted, *, cursor: ScriptedCursor | None = None) -> list[Any]:
    try:
        return [item for partition in source.partitions() for item in source.read(partition, cursor)]
    finally:
        source.close()


def ids(found: list[Any]) -> list[Any]:
    return [item.id for item in found if isinstance(item, Entity)]


class ScriptedSuite(SourceSuite):
    kind: type[Scripted]
    secrets = (CANARY,)

    @pytest.fixture(autouse=True)
    def _place(self, server: ScriptedServer) -> None:
        self.server = server
        server.token = CANARY

    def source(self) -> Scripted:
        return scripted(self.server, self.kind)

    def requests_failed_in_turn(self) -> Iterator[Scripted]:
        for kind in ("status", "reset", "truncate"):
            for number in range(1, 6):
                for times in (1, 2):  # two are more than the source's patience
                    self.server.faults.clear()
                    first = self.server.requests + number
                    self.server.fault(kind, status=500, from_request=first, times=times)
                    yield self.source()


class TestScriptedSuite(ScriptedSuite):
    kind = Scripted


class TestScriptedIncrementalSuite(ScriptedSuite):
    kind = ScriptedIncremental


class TestScriptedSkippingSuite(ScriptedSuite):
    kind = ScriptedSkipping


def test_everything_is_found_through_its_entry_point() -> None:
    sources = {entry.name: entry.load() for entry in entry_points(group="airweave_server.sources")}
    embedders = {entry.name: entry.load() for entry in entry_points(group="airweave_server.embedders")}
    for name in ("scripted", "scripted_incremental", "scripted_skipping"):
        assert sources[name].name == name
        assert sources[name].internal
    for name in ("test-slow", "test-failing"):
        assert embedders[name]().name == name


def test_pages_follow_each_other_and_content_may_be_lazy(server: ScriptedServer) -> None:
    found = read(scripted(server, lazy=True))
    assert len(ids(found)) == 30
    assert [item for item in found if isinstance(item, ScriptedCursor)][:3] == [
        ScriptedCursor(page=page) for page in (1, 2, 3)
    ]
    source = scripted(server, lazy=True)
    entity = next(item for item in source.read(next(source.partitions()), None))
    with entity.open() as content:
        assert content.read().decode() == items(1, prefix="a")[0]["text"]
    source.close()


def test_content_and_faults_may_change_from_another_process(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"partitions": {"a": items(3)}, "page_size": 2}))
    command = [sys.executable, scripted_server.__file__, "--script", str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def found() -> list[Any]:
            context = Context(allowed_hosts=("127.0.0.1",))
            return ids(read(Scripted(ScriptedConfig(url=url, attempts=1), None, context)))

        assert len(found()) == 3
        httpx.post(
            f"{url}/_script", json={"partitions": {"b": items(4)}, "put": [{"partition": "a", "item": {"id": "x"}}]}
        )
        assert len(found()) == 8
        httpx.post(f"{url}/_script", json={"faults": [{"kind": "status", "status": 500, "partition": "b"}]})
        with pytest.raises(Unavailable):
            found()
        log = httpx.get(f"{url}/_log").json()
        assert log[-1]["answer"] == 500
        assert log[-1]["at"] <= time.time()
        httpx.post(f"{url}/_script", json={"reset": True, "partitions": {"only": []}})
        assert found() == []
        process.stdin.close()
        assert process.wait(10) == 0


def test_steps_happen_once_after_the_page_they_name(server: ScriptedServer) -> None:
    server.step({"partition": "a", "page": 0}, "remove", partition="a", id="a-0000")
    server.step({"partition": "a", "page": 1}, "move", partition="b", id="b-0003", to="a")
    server.step({"partition": "a", "page": 2}, "drop", partition="b")
    source = scripted(server)
    partitions = list(source.partitions())
    found = ids(list(source.read(partitions[0], None)))
    assert "a-0010" not in found, "the shift of pages by number hides it"
    assert found[-1] == "b-0003"
    with pytest.raises(ConfigError):
        list(source.read(partitions[1], None))
    source.close()
    assert server.steps == []


def test_credentials_expire_at_a_given_request(server: ScriptedServer) -> None:
    server.token = CANARY
    server.expires_at_request = 3
    with pytest.raises(AuthError):
        read(scripted(server))
    assert len(server.log) == 3


def test_a_listing_that_ends_early_or_is_empty_looks_like_any_other(server: ScriptedServer) -> None:
    server.fault("end", partition="a", page=1)
    assert len(ids(read(scripted(server)))) == 25
    server.faults.clear()
    server.fault("empty", path="/items")
    assert ids(read(scripted(server))) == []


def test_one_folder_may_be_forbidden(server: ScriptedServer) -> None:
    server.fault("status", status=403, partition="b")
    with pytest.raises(AuthError, match="403"):
        read(scripted(server))


def test_malformed_items_are_passed_on_as_they_are(server: ScriptedServer) -> None:
    odd: list[Any] = [
        {"text": "no id"},
        {"id": "nul", "text": "a\0b"},
        {"id": 17, "text": ["a"], "name": {"x": 1}},
        {"id": "nan", "fields": {"x": float("nan")}},
        {"id": "x" * 5_000},
        {"id": "sur\ud800rogate", "text": "\udfff"},
        "a text",
        None,
        {"id": "fields", "fields": 3},
        {"id": "time", "updated_at": "yesterday"},
        {"id": "twice"},
        {"id": "twice"},
        {"id": "skip", "skip": "locked", "subtree": True},
        {"id": "seen", "seen": True},
        {"id": "deleted", "deleted": True},
    ]
    server.partitions = {"a": odd}
    found = [item for item in read(scripted(server)) if not isinstance(item, ScriptedCursor)]
    assert len(found) == len(odd)
    assert [item.id for item in found[:6]] == [None, "nul", 17, "nan", "x" * 5_000, "sur\ud800rogate"]
    assert found[2].text == ["a"]
    assert found[-3:] == [Skipped("skip", "locked", subtree=True), Seen("seen"), Deleted("deleted")]
    lazily = [item for item in read(scripted(server, lazy=True)) if not isinstance(item, ScriptedCursor)]
    assert len(lazily) == len(odd)


def test_the_feed_of_changes_tells_what_came_changed_and_went(server: ScriptedServer) -> None:
    def since(cursor: ScriptedCursor | None) -> tuple[list[Any], ScriptedCursor]:
        source = scripted(server, ScriptedIncremental)
        found = list(source.read(next(source.partitions()), cursor))
        source.close()
        return [item for item in found if not isinstance(item, ScriptedCursor)], found[-1]

    first, cursor = since(None)
    assert len(first) == 25
    assert since(cursor)[0] == []
    server.put("a", {"id": "a-0003", "text": "new", "version": "2"})
    server.remove("a", "a-0004")
    server.put("a", {"id": "added"})
    changes, later = since(cursor)
    assert {item.id for item in changes if isinstance(item, Entity)} == {"a-0003", "added"}
    assert [item for item in changes if isinstance(item, Deleted)] == [Deleted("a-0004")]
    assert since(later)[0] == []


def test_chances_are_the_same_for_the_same_seed(server: ScriptedServer) -> None:
    def answers() -> list[Any]:
        server.apply({"seed": 5, "clear_log": True, "faults": [{"kind": "status", "status": 500, "probability": 0.3}]})
        with httpx.Client(base_url=server.url) as client:
            for _ in range(30):
                client.get("/partitions")
        return [request["answer"] for request in server.log]

    assert answers() == answers()
    assert set(answers()) == {200, 500}


def test_the_slow_embedder_waits_as_the_control_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = tmp_path / "control"
    monkeypatch.setenv("TEST_EMBEDDER_CONTROL", str(control))
    monkeypatch.setenv("TEST_EMBEDDER_DELAY_S", "0.2")
    began = time.monotonic()
    vectors = Slow().embed(["red fox", "fox red", "", "blue whale"])
    assert 0.2 <= time.monotonic() - began < 1
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1])
    assert np.allclose(vectors[0], vectors[1])
    control.write_text("0")
    began = time.monotonic()
    assert np.array_equal(Slow().embed(["red fox"])[0], vectors[0])
    assert time.monotonic() - began < 0.1


def test_the_failing_embedder_fails_while_the_control_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = tmp_path / "control"
    monkeypatch.setenv("TEST_EMBEDDER_CONTROL", str(control))
    assert Failing().embed(["a"]).shape == (1, 16)
    control.write_text("fail")
    with pytest.raises(EmbedderError):
        Failing().embed(["a"])
    control.write_text("ok")
    assert Failing().embed([]).shape == (0, 16)
