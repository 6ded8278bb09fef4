"""A collection moves to another embedder as a job: searched all the while, killed and resumed, and moved back."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from airweave_server.db import moves
from airweave_server.db.models import Engine, SourceConnection
from airweave_server.db.session import Database
from airweave_server.services import reembed
from airweave_server.services.jobs import EngineChoice
from airweave_server.vault import Vault
from invariants import agree, hold
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

NEAR = "The heron stands in the reeds at dawn, and waits for fish"


@pytest.fixture
def control(apart: Running) -> Path:
    """The seconds in it the embedder ``test-slow`` takes for a batch."""
    path = apart.place / "embedder"
    path.write_text("0")
    return path


class Asking:
    """Asks by meaning and both ways, again and again; what is wrong with an answer stands in ``wrong``."""

    def __init__(self, server: Server, collection: str) -> None:
        self.server = server
        self.answers: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self._collection = collection
        self._ending = threading.Event()

    def __call__(self) -> None:
        while not self._ending.is_set():
            for strategy in ("semantic", "hybrid"):
                try:
                    found = self.server.found(self._collection, NEAR, retrieval_strategy=strategy)
                except (httpx.HTTPError, RuntimeError):  # it was killed, and its client closed
                    self._ending.wait(0.05)
                    continue
                except Exception as error:
                    self.wrong.append(error)
                    return
                self.answers[strategy] += 1
                if len(found) != 10 or "item-0007" not in found:
                    self.wrong.append((strategy, found))

    @contextmanager
    def under_way(self) -> Iterator["Asking"]:
        thread = threading.Thread(target=self)
        thread.start()
        try:
            yield self
        finally:
            self._ending.set()
            thread.join()
        assert not self.wrong
        assert min(self.answers["semantic"], self.answers["hybrid"]) > 2


def things(count: int) -> list[dict[str, Any]]:
    """Items, of which one is unlike all others."""
    made = items(count)
    made[7]["text"] = NEAR
    return made


def move(server: Server, collection: str) -> dict[str, Any]:
    return dict(server.get(f"/collections/{collection}/reembed"))


def settled(server: Server, collection: str) -> dict[str, Any]:
    return dict(server.wait_for(lambda: move(server, collection), lambda seen: seen["state"] == "settled"))


def count(apart: Running, which: str) -> int:
    database = Database(apart.database_url)
    with database.session() as session:
        found = int(session.execute(text(f"select count(*) from chunk where {which}")).scalar_one())
    database.close()
    return found


@pytest.mark.parametrize("driver", ["in_process", "temporal"], indirect=True, scope="module")
def test_a_collection_is_searched_while_it_moves_through_a_kill_and_back(
    apart: Running, source: ScriptedServer, control: Path, driver: str
) -> None:
    told = {"TEST_EMBEDDER_CONTROL": str(control)}
    server = apart.start(**told)
    source.partitions["a"] = things(500)
    with ScriptedServer() as second:
        second.partitions["b"] = items(60, prefix="other")
        collection = server.collection()
        first, other = (
            server.connect_to(source, collection=collection),
            server.connect_to(second, collection=collection),
        )
        assert server.sync(first)["entities_inserted"] == 500
        assert server.sync(other)["entities_inserted"] == 60
        asked_before = len(source.log)
        second.partitions["b"] = items(60, prefix="other", version="2")
        second.fault("slow", latency_s=0.3)
        syncing = server.run(other)
        server.wait_for(lambda: server.job(other, syncing), lambda seen: seen["phase"] == "read")
        with Asking(server, collection).under_way() as asking:
            control.write_text("1.5")
            begun = server.post(f"/collections/{collection}/reembed", {"embedder": "test-slow"})
            assert (begun["state"], begun["embedder"], begun["to"]) == ("moving", "wordllama", "test-slow")
            elsewhere = server.http.post(f"/collections/{collection}/reembed", json={"embedder": "test-failing"})
            assert elsewhere.status_code == 400
            server.wait_for(lambda: move(server, collection), lambda seen: seen["entities_done"] > 0)
            server.kill()
            asking.server = server = apart.start(**told)
            seen = server.wait_for(lambda: move(server, collection), lambda seen: len(seen["jobs"]) == 2)
            assert (seen["state"], seen["embedder"]) == ("moving", "wordllama")
            control.write_text("0")
            moved = settled(server, collection)
        assert (moved["embedder"], moved["embedding_model_name"], moved["vector_size"]) == (
            "test-slow",
            "test-slow",
            16,
        )
        assert len(source.log) == asked_before  # no source was asked
        assert count(apart, "embedding_2 is null or vector_dims(embedding_2) <> 16") == 0
        synced = server.finish(other, syncing)
        assert (synced["status"], synced["entities_updated"]) == ("completed", 60)
        jobs = [job for job in server.get(f"/source-connections/{first}/jobs") if job["trigger"] == "reembed"]
        assert [(job["status"], job["entities_updated"]) for job in jobs] == [("completed", 500)]
        hold(apart, *jobs)
        agree(apart, first, source.partitions["a"])
        agree(apart, other, second.partitions["b"])
        again = server.sync(first)
        assert (again["status"], again["entities_kept"]) == ("completed", 500)  # nothing is read again for it
        source.partitions["a"] = [*things(500)[:480], *items(20, start=480, version="2")]
        assert server.sync(first)["entities_updated"] == 20
        assert count(apart, "embedding is null") == 20
        with Asking(server, collection).under_way():
            back = apart.command("reembed", collection, "--to", "wordllama", API_URL=server.url)
            assert back.returncode == 0, back.stderr
        assert f"{collection} now has wordllama" in " ".join(back.stdout.split())
        jobs = [job for job in server.get(f"/source-connections/{first}/jobs") if job["trigger"] == "reembed"]
        assert jobs[0]["entities_updated"] == 20  # what lacked it, and no more
        assert count(apart, "embedding is null or embedding_2 is null") == 0
        hold(apart, *jobs)
        agree(apart, first, source.partitions["a"])
        assert server.found(collection, "worditem499")[0] == "item-0499"


def test_a_move_can_be_abandoned_and_another_model_overwrites_what_it_left(
    apart: Running, source: ScriptedServer, control: Path
) -> None:
    server = apart.start(TEST_EMBEDDER_CONTROL=str(control))
    source.partitions["a"] = things(300)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    path = f"/collections/{collection}/reembed"
    assert server.sync(connection)["entities_inserted"] == 300
    assert server.http.delete(path).status_code == 400
    assert server.http.post(path, json={"embedder": "wordllama"}).status_code == 400
    assert server.http.post(path, json={"embedder": "nobody"}).status_code == 400
    assert server.http.post("/collections/nowhere/reembed", json={"embedder": "wordllama"}).status_code == 404
    control.write_text("1")
    server.post(path, {"embedder": "test-slow"})
    server.wait_for(lambda: move(server, collection), lambda seen: seen["entities_done"] > 0)
    assert server.http.delete(path).json()["state"] == "settled"
    server.wait_for(
        lambda: server.get(f"/source-connections/{connection}/jobs")[0],
        lambda job: job["status"] == "cancelled" and job["trigger"] == "reembed",
    )
    left = count(apart, "embedding_2 is not null")
    assert 0 < left < 300
    control.write_text("ok")  # what the other one waits for
    server.post(path, {"embedder": "test-failing"})
    assert settled(server, collection)["embedding_model_name"] == "test-failing"
    assert server.get(f"/source-connections/{connection}/jobs")[0]["entities_updated"] == 300
    hold(apart)
    assert server.found(collection, NEAR, retrieval_strategy="semantic")[0] == "item-0007"


def test_a_move_whose_embedder_fails_goes_on_when_it_is_asked_for_again(
    apart: Running, source: ScriptedServer, control: Path
) -> None:
    server = apart.start(TEST_EMBEDDER_CONTROL=str(control), RETRY_ATTEMPTS="2")
    source.partitions["a"] = things(150)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    assert server.sync(connection)["entities_inserted"] == 150
    control.write_text("500")
    server.post(f"/collections/{collection}/reembed", {"embedder": "test-failing"})
    seen = server.wait_for(
        lambda: move(server, collection), lambda seen: [job["status"] for job in seen["jobs"]] == ["failed"]
    )
    assert "test-failing was told to fail" in seen["jobs"][0]["error"]
    doctor = apart.command("doctor")
    assert f"airweave-server reembed {collection} --to test-failing" in " ".join(doctor.stdout.split())
    assert server.found(collection, NEAR, retrieval_strategy="semantic")[0] == "item-0007"
    control.write_text("ok")
    synced = server.sync(connection)  # a sync in between writes both, and takes nothing from it
    assert synced["status"] == "completed"
    server.post(f"/collections/{collection}/reembed", {"embedder": "test-failing"})
    assert settled(server, collection)["embedder"] == "test-failing"
    hold(apart)
    agree(apart, connection, source.partitions["a"])


def test_a_move_that_ended_just_before_it_was_locked_starts_no_job(
    server: Server, source: ScriptedServer, fresh_database: Database
) -> None:
    connection = server.connect_to(source)
    with fresh_database.session() as session:
        collection = moves.lock(session, session.get_one(SourceConnection, UUID(connection)).collection_id)
        assert collection is not None
        assert reembed.go_on(session, Vault([bytes(32)]), collection, EngineChoice(Engine.IN_PROCESS)) == []
        assert not moves.switch(session, collection)


def test_an_entity_is_read_whole_as_it_was_extracted(apart: Running, source: ScriptedServer) -> None:
    server = apart.start()
    long = "\n\n".join(f"Paragraph {number} of the long one. " + "It says more. " * 30 for number in range(40))
    source.partitions["a"] = [{"id": "long/one", "name": "long", "text": long, "version": "1"}, *items(1)]
    connection = server.connect_to(source)
    assert server.sync(connection)["entities_inserted"] == 2
    path = f"/source-connections/{connection}/entities/text"
    answer = server.get(path, entity_id="long/one")
    assert (answer["entity_id"], answer["name"], answer["truncated"]) == ("long/one", "long", False)
    assert answer["text"].strip() == long.strip()
    assert server.http.get(path, params={"entity_id": "nobody"}).status_code == 404
    assert server.http.get(path, params={"entity_id": "\x00"}).status_code in (404, 422)
    assert server.http.get(path).status_code == 422
