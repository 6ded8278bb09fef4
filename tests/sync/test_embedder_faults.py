"""F37: embedders that fail or answer nonsense. Nothing is in the ledger without its vectors, and nothing is lost."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from invariants import agree, hold
from running import Running, Server
from servers.embedding_server import KEY, EmbeddingServer
from servers.scripted_server import ScriptedServer, items

FAULTS = ("500", "short", "nan", "partial")
PATIENCE = {"RETRY_ATTEMPTS": "4", "RETRY_BACKOFF_S": "0.5"}


@pytest.fixture(scope="module")
def control(running: Running) -> Path:
    """What this file says, the embedder does."""
    return running.place / "embedder"


@pytest.fixture(scope="module")
def server(running: Running, control: Path) -> Server:
    return running.start(EMBEDDER="test-failing", TEST_EMBEDDER_CONTROL=str(control), **PATIENCE)


def read_on(database: Database, job: str) -> list[Any]:
    """The cursors of the job's partitions."""
    with database.session() as session:
        return list(session.scalars(text("select cursor from sync_partition where job_id = :id"), {"id": job}))


@pytest.mark.fault("F37", on="temporal")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_whose_vectors_are_wrong_is_embedded_again(
    running: Running,
    server: Server,
    source: ScriptedServer,
    control: Path,
    fresh_database: Database,
    fault: str,
) -> None:
    control.write_text("ok")
    source.partitions["a"] = items(30)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    assert server.sync(connection)["entities_inserted"] == 30
    source.partitions["a"] = items(10, version="2") + items(20, start=10) + items(220, start=30)
    control.write_text(fault)
    job = server.run(connection)
    waiting = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] is not None)
    assert (waiting["status"], waiting["entities_encountered"]) == ("running", 0)
    assert read_on(fresh_database, job) == [None]  # the cursor has not passed what is not embedded
    hold(running)
    agree(running, connection, items(30))  # the old version is found until the new one is there
    control.write_text("ok")
    ended = server.finish(connection, job)
    assert ended["status"] == "completed", ended["error"]
    assert (ended["entities_updated"], ended["entities_inserted"], ended["entities_kept"]) == (10, 220, 20)
    hold(running, ended, listed=250)
    agree(running, connection, source.partitions["a"])
    assert server.found(collection, "worditem249")[0] == "item-0249"
    assert waiting["waiting_for"] == "embedder"


@pytest.mark.fault("F37", on="temporal")
def test_an_embedder_that_stays_broken_fails_the_job_and_the_next_one_goes_on(
    running: Running, server: Server, source: ScriptedServer, control: Path
) -> None:
    control.write_text("ok")
    source.partitions["a"] = items(30)
    connection = server.connect_to(source)
    assert server.sync(connection)["entities_inserted"] == 30
    source.partitions["a"] = items(25, version="2")
    control.write_text("500")
    job = server.sync(connection)
    assert (job["status"], job["error_kind"]) == ("failed", "embedder")
    assert "embedder: test-failing was told to fail: 500" in job["error"]
    assert (job["entities_encountered"], job["entities_deleted"]) == (0, 0)
    hold(running, job, listed=0)
    agree(running, connection, items(30))
    control.write_text("ok")
    done = server.sync(connection)
    assert (done["status"], done["resumed_from"], done["entities_updated"]) == ("completed", job["id"], 25)
    hold(running, job, done)
    last = server.sync(connection)  # a listing of its own: what is gone goes now
    assert (last["entities_kept"], last["entities_deleted"]) == (25, 5)
    agree(running, connection, source.partitions["a"])


@pytest.mark.fault("F37", on="in_process")
def test_an_embedder_that_changed_its_dimensions_is_refused(apart: Running, source: ScriptedServer) -> None:
    server = apart.start(EMBEDDER="test-failing", **PATIENCE)
    source.partitions["a"] = items(30)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)
    assert server.sync(connection)["entities_inserted"] == 30
    server.terminate()
    server = apart.start(EMBEDDER="test-failing", TEST_EMBEDDER_DIMENSIONS="8", **PATIENCE)
    source.partitions["a"] = items(35, version="2")
    job = server.sync(connection)
    hold(apart, job)
    agree(apart, connection, items(30))
    assert (job["status"], job["error_kind"]) == ("failed", "configuration")
    assert f"run airweave-server reembed {collection} --to test-failing" in job["error"]
    doctor = apart.command("doctor", EMBEDDER="test-failing", TEST_EMBEDDER_DIMENSIONS="8")
    assert f"reembed {collection} --to test-failing" in " ".join(doctor.stdout.split())
    server.post(f"/collections/{collection}/reembed", {"embedder": "test-failing"})
    moved = server.wait_for(
        lambda: server.get(f"/collections/{collection}/reembed"), lambda seen: seen["state"] == "settled"
    )
    assert moved["vector_size"] == 8
    job = server.sync(connection)
    assert (job["status"], job["entities_updated"], job["entities_inserted"]) == ("completed", 30, 5)
    hold(apart, job)
    agree(apart, connection, source.partitions["a"])


@pytest.mark.fault("F37", on="in_process")
def test_a_service_that_refuses_a_text_or_is_down_costs_no_other_entity(apart: Running, source: ScriptedServer) -> None:
    with EmbeddingServer() as service:
        server = apart.start(**service.settings(), **PATIENCE)
        source.partitions["a"] = items(30)
        source.partitions["a"][7]["text"] += " arsenic"
        service.poison = "arsenic"
        collection = server.collection()
        connection = server.connect_to(source, collection=collection)
        job = server.sync(connection)
        assert (job["status"], job["entities_inserted"], job["entities_failed"]) == ("completed", 29, 1)
        hold(apart, job, listed=30)
        refused = server.ledger(connection, state="failed")
        assert "the embedder does not take its text" in refused["item-0007"]["reason"]
        assert server.found(collection, "worditem8", retrieval_strategy="semantic")[0] == "item-0008"
        service.poison, service.always = "", (429, 2)
        job = server.run(connection)
        waiting = server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] is not None)
        assert (waiting["status"], waiting["waiting_for"]) == ("running", "embedder")
        answer = server.http.post(f"/collections/{collection}/search/instant", json={"query": "worditem9"})
        assert (answer.status_code, "keyword" in answer.json()["detail"]) == (503, True)
        assert server.found(collection, "worditem9", retrieval_strategy="keyword")[0] == "item-0009"
        assert server.http.post("/collections", json={"name": "while it is down"}).status_code == 503
        service.always = None
        assert server.finish(connection, job)["entities_inserted"] == 1
        agree(apart, connection, source.partitions["a"])
        refusal = apart.command("api", "--port", "0", **service.settings(), EMBEDDINGS_DIMENSIONS="99")
        assert "EMBEDDINGS_DIMENSIONS is 99" in refusal.stderr + refusal.stdout
        assert refusal.returncode == 1
        doctor = apart.command("doctor", **service.settings())
        assert "openai:hashed-words, 16 dimensions" in " ".join(doctor.stdout.split())
        said = server.log.read_text() + doctor.stdout + refusal.stderr + refusal.stdout
        assert KEY not in said
