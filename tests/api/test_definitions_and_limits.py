"""Types of entities and what is there of each, limits on requests to sources, and files, which are not kept."""

import time

import pytest

from airweave_server import wire
from airweave_server.client import Client
from airweave_server.errors import ClientError
from running import Server
from servers.scripted_server import ScriptedServer, items


def test_a_source_says_which_types_of_entities_it_yields(server: Server) -> None:
    def define(short_name: str) -> list[dict[str, object]]:
        found = server.get("/entities/definitions/by-source/", source_short_name=short_name)
        assert isinstance(found, list)
        return found

    assert define("nothing") == []
    assert server.http.get("/entities/definitions/by-source").status_code == 422
    for source in server.get("/sources"):
        names = [each["short_name"] for each in define(source["short_name"])]
        assert names == source["output_entity_definitions"]
    [_, small, *_, code] = define("stub")
    assert small.keys() == {
        "short_name", "name", "description", "class_name", "module_name", "entity_type", "entity_schema"
    }  # fmt: skip
    assert (small["name"], small["entity_type"], code["entity_type"]) == ("SmallStubEntity", "json", "file")
    assert isinstance(small["entity_schema"], dict)
    assert small["entity_schema"]["type"] == "object"


def test_entities_are_counted_by_their_types(server: Server) -> None:
    connection = server.connect(
        server.collection(), "stub", {"entity_count": 6}, authentication={"credentials": {"stub_key": "k"}}
    )
    place = f"/entity-counts/syncs/{connection}"
    assert (server.get(f"{place}/counts"), server.get(f"{place}/total-count")) == ([], 0)
    assert server.sync(connection)["status"] == "completed"
    counts = server.get(f"{place}/counts")
    by_type = server.get(f"/source-connections/{connection}")["entities"]["by_type"]
    assert {each["entity_definition_name"]: each["count"] for each in counts} == {
        name: each["count"] for name, each in by_type.items()
    }
    assert server.get(f"{place}/total-count") == 6
    assert server.http.get("/entity-counts/syncs/no-uuid/counts").status_code == 422


def test_a_limit_is_set_changed_and_removed(server: Server) -> None:
    with Client(server.url) as client:
        assert {each.source_short_name for each in client.rate_limits()} == {
            each.short_name for each in client.sources()
        }
        assert all(each.limit is None and each.id is None for each in client.rate_limits())
        made = client.set_rate_limit("feed", wire.SourceRateLimitUpdate(limit=100, window_seconds=60))
        assert (made.source_short_name, made.limit, made.window_seconds) == ("feed", 100, 60)
        changed = client.set_rate_limit("feed", wire.SourceRateLimitUpdate(limit=5, window_seconds=1))
        assert (changed.id, changed.limit) == (made.id, 5)
        [listed] = [each for each in client.rate_limits() if each.limit is not None]
        assert (listed.source_short_name, listed.id, listed.rate_limit_level) == ("feed", made.id, "org")
        assert server.http.delete("/source-rate-limits/feed/").status_code == 204
        client.remove_rate_limit("feed")  # again
        assert all(each.limit is None for each in client.rate_limits())
        with pytest.raises(ClientError, match="makes no requests"):
            client.set_rate_limit("folder", wire.SourceRateLimitUpdate(limit=1, window_seconds=1))
        for method in ("PUT", "DELETE"):
            body = {"limit": 1, "window_seconds": 1}
            assert server.http.request(method, "/source-rate-limits/nothing", json=body).status_code == 404
        for body in ({}, {"limit": 0, "window_seconds": 1}, {"limit": 1, "window_seconds": -1}):
            assert server.http.put("/source-rate-limits/feed", json=body).status_code == 422


def test_all_connections_of_a_source_keep_to_its_limit_together(server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(5)
    connections = [server.connect_to(source) for _ in range(2)]
    assert server.http.put("/source-rate-limits/scripted", json={"limit": 5, "window_seconds": 1}).status_code == 200
    before, began_at = source.requests, time.monotonic()
    jobs = [server.run(connection) for connection in connections]
    for connection, job in zip(connections, jobs, strict=True):
        assert server.finish(connection, job)["status"] == "completed"
    made, took_s = source.requests - before, time.monotonic() - began_at
    assert made >= 4
    assert took_s >= (made - 1) / 5 - 0.1  # 5 a second

    assert server.http.put("/source-rate-limits/scripted", json={"limit": 1, "window_seconds": 3600}).status_code == 200
    job = server.run(connections[0])
    waits = server.wait_for(lambda: server.job(connections[0], job), lambda seen: seen["waiting_for"] is not None)
    assert (waits["status"], waits["waiting_for"]) == ("running", "source")
    assert "the limit of 1 requests in 3600 s" in waits["error"]
    server.post(f"/source-connections/{connections[0]}/jobs/{job}/cancel")
    assert server.finish(connections[0], job)["status"] == "cancelled"
    assert server.http.delete("/source-rate-limits/scripted").status_code == 204


def test_files_are_not_kept_and_that_is_said(server: Server) -> None:
    for method, path in (("GET", "/files"), ("GET", "/files/a/content"), ("POST", "/files/batch-download")):
        answer = server.http.request(method, path)
        assert answer.status_code == 404
        assert "keeps no copies of files" in answer.json()["detail"]
