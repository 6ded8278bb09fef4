"""The legacy search, as former clients call it: the requests of the TypeScript SDK 0.7.20 and of former Python SDKs."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import jsonschema_rs
import pytest
import wire_shapes as shapes
from pydantic import TypeAdapter
from sqlalchemy import text

from airweave_server.db.session import Database
from running import Running, Server

SDK = {"x-api-key": "any", "X-Fern-Language": "JavaScript", "X-Fern-SDK-Version": "v0.7.20"}
NOTES = {
    "apples.md": "The orchard grows apples near the river.",
    "pears.txt": "The orchard stores pears in the cellar.",
    "plums.txt": "The orchard dries plums until ERR_1234.",
}
SLOW_S = 1.6  # more than a request waits for a place in a lane where nothing moves
PLACES = 8  # of searches that run at once


@pytest.fixture(scope="module")
def delay(running: Running) -> Path:
    """The file that says how long the embedder takes."""
    return running.place / "delay"


@pytest.fixture(scope="module")
def server(running: Running, delay: Path) -> Server:
    delay.write_text("0")
    return running.start(EMBEDDER="test-slow", TEST_EMBEDDER_CONTROL=str(delay))


@pytest.fixture(scope="module")
def library(server: Server) -> tuple[str, str]:
    """A collection, and the first of its two connections, which has read ``NOTES``."""
    collection, folder, other = server.collection(), server.folder(), server.folder()
    for name, body in NOTES.items():
        (folder / name).write_text(body)
    (other / "quinces.txt").write_text("The orchard has quinces, too.")
    connections = [server.connect(collection, "folder", {"path": str(path)}) for path in (folder, other)]
    stub = server.connect(
        collection, "stub", {"entity_count": 4}, authentication={"credentials": {"stub_key": "k"}}, name="Stubs"
    )
    for connection in (*connections, stub):
        assert server.sync(connection)["status"] == "completed"
    return collection, connections[0]


def post(server: Server, collection: str, query: str = "orchard", **more: Any) -> httpx.Response:
    return server.http.post(f"/collections/{collection}/search", json={"query": query, **more}, headers=SDK)


def fits(shape: Any, answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    TypeAdapter(shape).validate_json(answer.content)
    assert answer.headers["X-API-Deprecation"] == "true"
    assert "search/instant" in answer.headers["X-API-Deprecation-Message"]
    return answer.json()


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return sorted(each["name"] for each in answer.json()["results"])


def said(answer: httpx.Response) -> tuple[str, str]:
    """Where the one error of a refused request is, and what it says."""
    assert answer.status_code == 422, answer.text
    assert answer.json().keys() == {"errors"}  # a detail that is a text is more than former Python SDKs can read
    [(place, message)] = [pair for each in answer.json()["errors"] for pair in each.items()]
    return place, message


def events(server: Server, collection: str, **body: Any) -> list[dict[str, Any]]:
    path = f"/collections/{collection}/search/stream"
    with server.http.stream("POST", path, json={"query": "orchard", **body}, headers=SDK) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["X-API-Deprecation"] == "true"
        return [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]


def test_the_search_by_query_of_the_typescript_client(server: Server, library: tuple[str, str]) -> None:
    path = f"/collections/{library[0]}/search"
    query = {"query": "orchard ERR_1234", "response_type": "raw", "limit": "1", "offset": "0", "recency_bias": "1.1"}
    answer = server.http.get(path, params=query, headers=SDK)
    found = fits(shapes.LegacySearchResponse, answer)
    assert (found["response_type"], found["completion"], found["status"]) == ("raw", None, "success")
    assert answer.headers["X-Feature-Removed"] == "recency_bias"
    [first] = found["results"]
    assert (first["name"], first["id"], first["entity_id"]) == ("plums.txt", *["plums.txt__chunk_0"] * 2)
    assert first["system_metadata"]["source_name"] == "folder"
    assert first["source_fields"]["path"] == "plums.txt"
    every = fits(shapes.LegacySearchResponse, server.http.get(path, params={"query": "orchard ERR_1234"}))["results"]
    [second] = server.http.get(path, params={**query, "offset": "1"}).json()["results"]
    assert (every[0]["id"], every[1]["id"]) == (first["id"], second["id"])


def test_both_forms_of_a_request_by_post_have_their_response(server: Server, library: tuple[str, str]) -> None:
    collection = library[0]
    plain = post(server, collection)
    found = fits(shapes.UntieredSearchResponse, plain)
    assert "status" not in found
    assert "X-Feature-Removed" not in plain.headers
    whole = {
        "retrieval_strategy": "neural", "filter": None, "offset": 0, "limit": 100, "temporal_relevance": 0.5,
        "expand_query": True, "interpret_filters": False, "rerank": True, "generate_answer": False,
    }  # fmt: skip
    answer = post(server, collection, **whole)
    assert fits(shapes.UntieredSearchResponse, answer)["completion_reason"] is None
    assert answer.headers["X-Feature-Removed"] == "temporal_relevance"
    whole = {
        "filter": {}, "offset": 1, "limit": 3, "score_threshold": 0.9, "response_type": "raw",
        "search_method": "keyword", "recency_bias": 0, "expansion_strategy": "auto", "enable_reranking": True,
        "enable_query_interpretation": False,
    }  # fmt: skip
    found = fits(shapes.LegacySearchResponse, post(server, collection, **whole))
    assert (found["status"], len(found["results"])) == ("success", 3)
    for name, value in whole.items():
        answer = post(server, collection, **{name: value})
        assert ("status" in answer.json()) is (name not in ("filter", "offset", "limit")), name
    nothing = fits(shapes.LegacySearchResponse, post(server, collection, search_method="hybrid", offset=1_000))
    assert (nothing["results"], nothing["status"]) == ([], "no_results")
    unknown = fits(
        shapes.LegacySearchResponse, post(server, collection, "near zebras, lions, tigers", search_method="keyword")
    )
    assert unknown["status"] == "no_relevant_results"
    instant = server.search(collection, "orchard", limit=100)
    same = [(each["entity_id"], each["score"]) for each in post(server, collection).json()["results"]]
    assert same == [(each["entity_id"], each["relevance_score"]) for each in instant]


def test_a_completion_that_cannot_be_is_null_and_says_so(server: Server, library: tuple[str, str]) -> None:
    for more in ({}, {"generate_answer": True}):
        found = post(server, library[0], **more).json()
        assert found["results"]
        assert found["completion"] is None
        assert "language model" in found["completion_reason"]
    path = f"/collections/{library[0]}/search"
    asks_for_nothing_else = {"query": "orchard", "response_type": "completion"}
    for answer in (
        server.http.get(path, params=asks_for_nothing_else),
        server.http.post(path, json=asks_for_nothing_else),
        server.http.post(f"{path}/stream", json=asks_for_nothing_else),
    ):
        assert answer.status_code == 400
        assert answer.json().keys() == {"detail"}
        assert "language model" in answer.json()["detail"]


FRUITS = ["apples.md", "pears.txt", "plums.txt"]
STUBS = {"key": "source_name", "match": {"value": "stub"}}


def named(name: str) -> dict[str, Any]:
    return {"key": "name", "match": {"value": name}}


def test_a_filter_leaves_what_fits_it(server: Server, library: tuple[str, str]) -> None:
    collection, connection = library
    every = names(post(server, collection))
    assert set(FRUITS) < set(every)
    rest = [name for name in every if name not in FRUITS]
    read_by = {"key": "sync_id", "match": {"value": connection.upper()}}
    since = {"key": "created_at", "range": {"gte": "2000-01-01T00:00:00Z", "lt": None}}
    for asked, left in (
        ({"must": [{"key": "system_metadata.source_name", "match": {"value": "folder"}}]}, [*FRUITS, "quinces.txt"]),
        ({"must": [read_by]}, FRUITS),
        ({"must_not": [read_by]}, rest),
        ({"must": [read_by, {"should": [named("pears.txt"), named("plums.txt")]}]}, FRUITS[1:]),
        ({"must": read_by, "must_not": named("pears.txt"), "should": []}, [FRUITS[0], FRUITS[2]]),
        ({"must": [read_by], "should": [named("pears.txt"), named("quinces.txt")]}, [FRUITS[1]]),
        ({"must": [{"key": "name", "match": {"any": FRUITS[:2]}, "range": None}]}, FRUITS[:2]),
        ({"must": [read_by, {"key": "name", "match": {"except": FRUITS[:2]}}]}, FRUITS[2:]),
        ({"must": [read_by, {"key": "name", "match": {"text": ".TXT"}}]}, FRUITS[1:]),
        ({"must": [{"has_id": ["pears.txt__chunk_0", "plums.txt"]}]}, FRUITS[1:]),
        ({"must": [read_by, {"key": "chunk_index", "range": {"gte": 0, "lt": 1.0}}]}, FRUITS),
        ({"must": [read_by, {"key": "chunk_index", "range": {"gt": 0}}]}, []),
        ({"min_should": {"conditions": [read_by, named("pears.txt"), named("plums.txt")], "min_count": 2}}, FRUITS[1:]),
        # the files of a folder have no time of their creation, and the stubs have
        ({"must": [STUBS, since]}, [name for name in rest if name != "quinces.txt"]),
        ({"must_not": [since]}, [*FRUITS, "quinces.txt"]),
        ({"must": [{"is_null": {"key": "created_at"}}]}, [*FRUITS, "quinces.txt"]),
        ({"must": [{"key": "created_at", "is_empty": False}]}, [name for name in rest if name != "quinces.txt"]),
        ({"must": [STUBS, {"is_empty": {"key": "breadcrumbs[].name"}}]}, ["Stub Container (seed=42)"]),
        ({"must_not": [{"must": [read_by, {"must_not": [named("plums.txt")]}]}]}, sorted([*rest, "plums.txt"])),
        ({"must": [{"has_id": []}]}, []),
        ({}, every),
    ):
        assert names(post(server, collection, filter=asked)) == left, asked
    for ids, left in (([connection], FRUITS), ([str(uuid4())], []), ([], []), (None, every)):
        assert names(post(server, collection, source_connection_ids=ids)) == left
    both = {"filter": {"must_not": [named("apples.md")]}, "source_connection_ids": [connection]}
    assert names(post(server, collection, **both)) == FRUITS[1:]


BAD = [
    ({"key": "name", "match": {"value": "a"}}, "body.filter", "must"),
    ({"must": [{"key": "colour", "match": {"value": "red"}}]}, "body.filter.must.0.key", "colour is not a field"),
    ({"must": [{"key": "source_fields.path", "match": {"value": "a"}}]}, "body.filter.must.0.key", "not a field"),
    ({"must": [named("a"), {"key": "name"}]}, "body.filter.must.1", "exactly one of match, range"),
    ({"must": [{**named("a"), "is_null": False}]}, "body.filter.must.0", "exactly one"),
    ({"must": [{"key": "name", "match": {"value": "a", "any": ["a"]}}]}, "body.filter.must.0.match", "exactly one"),
    ({"must": [{"key": "name", "match": {"phrase": "a"}}]}, "body.filter.must.0.match", "exactly one"),
    ({"must": [{"key": "name", "match": {"any": "a"}}]}, "body.filter.must.0.match.any", "must be a list"),
    ({"must": [{"key": "name", "match": {"value": 1.5}}]}, "body.filter.must.0.match.value", "must be a text"),
    ({"must": [{"key": "name", "range": {"gt": "a"}}]}, "body.filter.must.0.range", "use match"),
    ({"must": [{"key": "created_at", "range": {}}]}, "body.filter.must.0.range", "gt, gte, lt, lte"),
    ({"must": [{"key": "created_at", "range": {"from": "2024"}}]}, "body.filter.must.0.range", "gt, gte, lt, lte"),
    ({"must": [{"key": "created_at", "range": {"gt": "soon"}}]}, "body.filter.must.0.range.gt", "ISO-8601"),
    ({"must": [{"key": "name", "geo_radius": {}}]}, "body.filter.must.0", "geo_radius cannot be used"),
    ({"must": [{"nested": {"key": "breadcrumbs", "filter": {}}}]}, "body.filter.must.0", "nested cannot be used"),
    ({"must": [{"has_id": "a"}]}, "body.filter.must.0.has_id", "list of ids"),
    ({"must": [{}]}, "body.filter.must.0", "empty object"),
    ({"must": ["name"]}, "body.filter.must.0", "must"),
    ({"must": [], "any_of": [named("a")]}, "body.filter", "any_of is unknown"),
    ({"min_should": {"conditions": [named("a")], "min_count": -1}}, "body.filter.min_should.min_count", "at least 0"),
    ({"must": [{"is_null": "created_at"}]}, "body.filter.must.0.is_null", "object"),
    ({"should": [named("a")] * 1_001}, "body.filter.should", "too long"),
]  # fmt: skip


def test_a_filter_that_cannot_be_kept_is_refused_and_never_ignored(server: Server, library: tuple[str, str]) -> None:
    for asked, place, words in BAD:
        where, what = said(post(server, library[0], filter=asked))
        assert where == place, asked
        assert words in what
        assert len(what) < 1_500
        stream = server.http.post(f"/collections/{library[0]}/search/stream", json={"query": "q", "filter": asked})
        assert said(stream) == (where, what)
    assert said(post(server, library[0], filter=[{"conditions": []}]))[0] == "body.filter"


def test_the_schema_of_filters_fits_what_is_taken_and_not_what_is_refused(server: Server) -> None:
    schema = server.get("/collections/internal/filter-schema")
    fits = jsonschema_rs.Draft202012Validator(schema).is_valid  # refuses a schema that is none
    for asked in (
        {},
        {"must": [named("a"), {"should": named("b")}], "must_not": None},
        {"must": [{"has_id": ["a", 1]}, {"is_null": {"key": "created_at"}}]},
        {"should": [{"key": "created_at", "range": {"gte": "2024-01-01T00:00:00Z"}}]},
        {"min_should": {"conditions": [STUBS], "min_count": 1}},
    ):
        assert fits(asked), asked
    beyond_a_schema = ("range", "ISO-8601", "too long")  # what a value must be for its field, and how many
    for asked, place, words in BAD:
        assert not fits(asked) or place.split(".")[-1] in beyond_a_schema or words in beyond_a_schema, asked


def test_a_stream_says_what_is_done_and_ends(server: Server, library: tuple[str, str]) -> None:
    seen = events(server, library[0], limit=2)
    assert [each["type"] for each in seen] == [
        "connected", "start", "embedding_start", "embedding_done", "vector_search_start", "vector_search_done",
        "results", "done",
    ]  # fmt: skip
    assert seen[0]["request_id"]
    assert all(each["ts"] for each in seen)
    found = post(server, library[0], limit=2).json()
    assert {name: seen[-2][name] for name in found} == found
    assert seen[-3]["final_count"] == 2
    assert seen[-3]["top_scores"] == [each["score"] for each in found["results"]]
    seen = events(server, library[0], search_method="keyword")
    assert "embedding_start" not in [each["type"] for each in seen]
    assert seen[-2]["status"] == "success"
    answer = server.http.post("/collections/nothing/search/stream", json={"query": "q"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Collection 'nothing' not found."})


def test_a_stream_that_fails_says_why_and_ends(server: Server, fresh_database: Database) -> None:
    collection = server.collection()
    with fresh_database.session() as session:  # as if the package of its embedder were gone
        session.execute(text("update collection set embedder = 'gone' where readable_id = :id"), {"id": collection})
    *_, failed, done = events(server, collection)
    assert (failed["type"], failed["transient"], done["type"]) == ("error", True, "done")
    assert "gone" in failed["message"]
    assert post(server, collection).status_code == 503
    assert events(server, collection, search_method="keyword")[-2]["results"] == []


@pytest.fixture
def slowly(delay: Path) -> Iterator[None]:
    delay.write_text(str(SLOW_S))
    yield
    delay.write_text("0")


def test_a_search_holds_its_place_while_it_streams_and_when_its_client_hangs_up(
    server: Server, library: tuple[str, str], slowly: None
) -> None:
    place, body = urlsplit(server.url), b'{"query": "orchard"}'
    head = f"POST /collections/{library[0]}/search/stream HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(PLACES):
            client = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=30))
            client.sendall(head.encode() + body)
            received = b""
            while b"embedding_start" not in received:
                received += client.recv(65536)
    # all have hung up, and what they began still runs: it is not forgotten, and nobody takes its place
    busy = post(server, library[0], retrieval_strategy="keyword")
    assert (busy.status_code, busy.json()) == (503, {"detail": "the server is busy; try again"})
    server.wait_for(
        lambda: post(server, library[0], retrieval_strategy="keyword").status_code, lambda it: it == 200, 10
    )
    assert '"level": "error"' not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
