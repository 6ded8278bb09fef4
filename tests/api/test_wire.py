"""The public API on the wire: as the public Python client speaks it, and field for field as its tables have it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import airweave
import httpx
import pytest
import wire_shapes as shapes
from airweave import AirweaveSDK
from airweave.core.api_error import ApiError
from pydantic import TypeAdapter

from airweave_server.db import collections
from airweave_server.db.session import CONNECTIONS, Database
from running import IN_PROCESS, TEMPORAL, Running, Server
from servers.scripted_server import ScriptedServer, items

STUB = {"authentication": {"credentials": {"stub_key": "k"}}}
NO_LIMITS = httpx.Limits(max_connections=None)
LONG = {"entity_count": 1000, "generation_delay_ms": 100}


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[AirweaveSDK]:
    with httpx.Client(follow_redirects=False, timeout=60) as client:
        yield AirweaveSDK(base_url=server.url, api_key="any", httpx_client=client)


@pytest.fixture(scope="module")
def library(server: Server) -> tuple[str, str]:
    """A collection and its connection to a folder that has been synced."""
    folder = server.folder()
    (folder / "sub").mkdir()
    (folder / "sub" / "apples.md").write_text("# Apples\n\nThe orchard grows apples near the river.")
    (folder / "pears.txt").write_text("Pears are stored in the cellar until winter.")
    (folder / "plums.txt").write_text("Plums raise ERR_1234 when they are dried too fast.")
    collection = server.collection()
    connection = server.connect(collection, "folder", {"path": str(folder)})
    assert server.sync(connection)["status"] == "completed"
    return collection, connection


def fits(shape: Any, answer: httpx.Response) -> Any:
    """The JSON of the answer, if it has the shape."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    TypeAdapter(shape).validate_json(answer.content)
    return answer.json()


def stub(server: Server, collection: str, short_name: str = "stub", **config: Any) -> str:
    return server.connect(collection, short_name, config, **STUB)


def create(server: Server, collection: str, short_name: str = "stub", **body: Any) -> httpx.Response:
    authentication = STUB if short_name != "folder" else {}
    whole = {"short_name": short_name, "readable_collection_id": collection, **authentication, **body}
    return server.http.post("/source-connections", json={"sync_immediately": False, **whole})


def errors(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {place: text for part in answer.json()["errors"] for place, text in part.items()}


# The public client


def test_the_client_lists_sources_and_gets_one(sdk: AirweaveSDK) -> None:
    names = [source.short_name for source in sdk.sources.list()]
    assert {"folder", "stub", "timed", "incremental_stub", "exception_stub"} <= set(names)
    folder = sdk.sources.get("folder")
    assert folder.name == "Folder"
    assert folder.auth_fields is None
    fields = {field.name: field for field in folder.config_fields.fields}
    assert fields["path"].required
    assert fields["path"].type == "string"
    assert fields["include"].type == "array"
    assert fields["include"].items_type == "string"
    assert fields["gitignore"].type == "boolean"
    assert fields["max_file_mb"].type == "number"
    stub_key = sdk.sources.get("stub").auth_fields
    assert stub_key is not None
    assert [(field.name, field.is_secret) for field in stub_key.fields] == [("stub_key", True)]
    assert sdk.sources.get("incremental_stub").supports_continuous
    with pytest.raises(airweave.NotFoundError):
        sdk.sources.get("no_such_source")


def test_the_client_makes_changes_counts_and_deletes_collections(server: Server, sdk: AirweaveSDK) -> None:
    before = server.get("/collections/count")
    made = sdk.collections.create(name="Orchard notes")
    assert made.readable_id.startswith("orchard-notes-")
    assert made.status == "NEEDS SOURCE"
    assert made.vector_size > 0
    assert made.embedding_model_name
    assert server.get("/collections/count") == before + 1
    assert sdk.collections.get(made.readable_id).id == made.id
    changed = sdk.collections.update(made.readable_id, name="Garden notes")
    assert (changed.name, changed.readable_id) == ("Garden notes", made.readable_id)
    assert changed.modified_at > made.modified_at
    assert sdk.collections.list(limit=1)[0].id == made.id
    assert [found.id for found in sdk.collections.list(search="garden NOTES")] == [made.id]
    assert server.get("/collections/count", search="orchard-notes") == 1
    assert sdk.collections.delete(made.readable_id).id == made.id
    assert server.get("/collections/count") == before
    with pytest.raises(airweave.NotFoundError):
        sdk.collections.get(made.readable_id)


def test_the_client_keeps_a_sync_config(sdk: AirweaveSDK) -> None:
    wanted = airweave.SyncConfig(behavior=airweave.BehaviorConfig(skip_guardrails=True))
    made = sdk.collections.create(name="With a sync config", sync_config=wanted)
    kept = sdk.collections.get(made.readable_id).sync_config
    assert kept is not None
    assert kept.behavior is not None
    assert kept.behavior.skip_guardrails is True


def test_the_client_connects_runs_and_searches(server: Server, sdk: AirweaveSDK) -> None:
    folder = server.folder()
    (folder / "bees.txt").write_text("Bees return to their hive at dusk.")
    collection = sdk.collections.create(name="Meadow").readable_id
    made = sdk.source_connections.create(
        short_name="folder",
        readable_collection_id=collection,
        name="Bee notes",
        description="all of them",
        config={"path": str(folder)},
        sync_immediately=False,
        schedule=airweave.ScheduleConfig(cron=None),
    )
    assert (made.name, made.description, made.status) == ("Bee notes", "all of them", "active")
    assert made.schedule is None
    assert made.sync is not None
    assert made.sync.last_job is None

    job = sdk.source_connections.run(made.id)
    assert job.status == "pending"
    assert job.source_connection_id == made.id
    assert server.finish(made.id, job.id)["status"] == "completed"
    [listed] = sdk.source_connections.get_source_connection_jobs(made.id, limit=5)
    assert (listed.id, listed.status, listed.entities_inserted) == (job.id, "completed", 1)
    assert listed.completed_at is not None
    assert listed.duration_seconds is not None

    shown = sdk.source_connections.get(made.id)
    assert shown.entities is not None
    assert shown.entities.total_entities == 1
    assert shown.entities.by_type is not None
    assert shown.entities.by_type["FileEntity"].count == 1
    assert shown.sync is not None
    assert shown.sync.last_job is not None
    assert (shown.sync.total_runs, shown.sync.last_job.id) == (1, job.id)

    results = sdk.collections.search.instant(collection, query="where do bees go").results
    assert results is not None
    assert results[0].name == "bees.txt"
    assert "hive" in results[0].textual_representation
    assert results[0].airweave_system_metadata.sync_job_id == job.id

    renamed = sdk.source_connections.update(made.id, name="Bees, renamed", description="fewer")
    assert (renamed.name, renamed.description) == ("Bees, renamed", "fewer")
    [item] = sdk.source_connections.list(collection=collection)
    assert (item.id, item.name, item.entity_count, item.status) == (made.id, "Bees, renamed", 1, "active")
    assert sdk.source_connections.delete(made.id).id == made.id
    assert sdk.source_connections.list(collection=collection) == []
    with pytest.raises(airweave.NotFoundError):
        sdk.source_connections.get(made.id)
    assert sdk.collections.search.instant(collection, query="bees").results == []


def test_the_client_is_told_how_often_a_connection_ran_and_how_often_that_failed(
    server: Server, sdk: AirweaveSDK
) -> None:
    collection = server.collection()
    other = stub(server, collection, entity_count=3)
    assert server.sync(other)["status"] == "completed"
    connection = stub(server, collection, entity_count=3, fail_after=0)

    def runs() -> tuple[int | None, int | None, int | None]:
        shown = sdk.source_connections.get(connection).sync
        assert shown is not None
        return shown.total_runs, shown.successful_runs, shown.failed_runs

    assert runs() == (0, 0, 0)
    assert server.sync(connection)["status"] == "failed"
    sdk.source_connections.update(connection, config={"entity_count": 3})
    assert [server.sync(connection)["status"] for _ in range(2)] == ["completed", "completed"]
    sdk.source_connections.update(connection, config=LONG)
    job = server.run(connection)
    sdk.source_connections.cancel_job(connection, job)
    assert server.finish(connection, job)["status"] == "cancelled"
    assert runs() == (4, 2, 1)
    assert len(sdk.source_connections.get_source_connection_jobs(connection)) == 4


def test_the_client_cancels_a_job_and_is_told_when_it_cannot(server: Server, sdk: AirweaveSDK) -> None:
    connection = stub(server, server.collection(), **LONG)
    job = sdk.source_connections.run(connection, force_full_sync=True)
    with pytest.raises(ApiError) as second:
        sdk.source_connections.run(connection)
    assert second.value.status_code == 400
    assert "a sync job is already" in second.value.body["detail"]
    cancelled = sdk.source_connections.cancel_job(connection, job.id)
    assert cancelled.status in ("cancelling", "cancelled")
    assert server.finish(connection, job.id)["status"] == "cancelled"
    with pytest.raises(ApiError) as again:
        sdk.source_connections.cancel_job(connection, job.id)
    assert again.value.status_code == 400
    assert again.value.body == {"detail": "Cannot cancel job in CANCELLED state"}


@pytest.mark.parametrize("strategy", ["hybrid", "semantic", "keyword"])
def test_the_client_searches_with_every_strategy(sdk: AirweaveSDK, library: tuple[str, str], strategy: str) -> None:
    results = sdk.collections.search.instant(library[0], query="apples orchard", retrieval_strategy=strategy).results
    assert results is not None
    assert results[0].airweave_system_metadata.original_entity_id == "sub/apples.md"


def test_the_client_pages_and_filters_a_search(sdk: AirweaveSDK, library: tuple[str, str]) -> None:
    def names(query: str = "apples pears plums", **more: Any) -> list[str]:
        results = sdk.collections.search.instant(library[0], query=query, **more).results or []
        return [result.airweave_system_metadata.original_entity_id for result in results]

    def where(field: str, operator: str, value: Any) -> airweave.FilterGroup:
        condition = airweave.FilterCondition(field=field, operator=operator, value=value)
        return airweave.FilterGroup(conditions=[condition])

    every = names()
    assert sorted(every) == ["pears.txt", "plums.txt", "sub/apples.md"]
    assert names(limit=2) == every[:2]
    assert names(limit=2, offset=2) == every[2:]
    assert names(offset=10) == []
    assert names(filter=[where("name", "equals", "pears.txt")]) == ["pears.txt"]
    either = [where("name", "contains", "PLUM"), where("name", "in", ["pears.txt"])]
    assert sorted(names(filter=either)) == ["pears.txt", "plums.txt"]
    assert names(filter=[where("airweave_system_metadata.source_name", "not_equals", "folder")]) == []
    assert len(names(filter=[where("updated_at", "greater_than", "2001-01-01T00:00:00Z")])) == 3
    assert names("ERR_1234")[0] == "plums.txt"


# The tables


def test_a_source_has_every_field_of_its_table(server: Server) -> None:
    listed = fits(list[shapes.Source], server.http.get("/sources"))
    for source in listed:
        assert fits(shapes.Source, server.http.get(f"/sources/{source['short_name']}")) == source
    [offered] = [source for source in listed if source["short_name"] == "exception_stub"]
    kind = next(field for field in offered["config_fields"]["fields"] if field["name"] == "exception_type")
    assert "runtime_error" in kind["enum_values"]
    assert kind["type"] == "string"


def test_a_collection_has_every_field_of_its_table(server: Server, library: tuple[str, str]) -> None:
    posted = fits(shapes.Collection, server.http.post("/collections", json={"name": "Four"}))
    place = f"/collections/{posted['readable_id']}"
    assert fits(shapes.Collection, server.http.get(place)) == posted
    patched = fits(shapes.Collection, server.http.patch(place, json={"sync_config": {"cursor": {"skip_load": True}}}))
    assert patched["sync_config"]["cursor"] == {"skip_load": True, "skip_updates": False}
    assert patched["sync_config"]["handlers"]["enable_vector_handlers"] is True
    listed = fits(list[shapes.Collection], server.http.get("/collections", params={"limit": 1000}))
    [fed] = [collection for collection in listed if collection["readable_id"] == library[0]]
    assert fed["source_connection_summaries"] == [{"short_name": "folder", "name": "Folder Connection"}]
    assert fed["status"] == "ACTIVE"
    assert server.get(f"/collections/{library[0]}")["source_connection_summaries"] == []
    assert fits(shapes.Collection, server.http.delete(place))["id"] == posted["id"]
    assert fits(int, server.http.get("/collections/count")) >= 1


def test_a_source_connection_has_every_field_of_its_table(server: Server, library: tuple[str, str]) -> None:
    posted = fits(shapes.SourceConnection, create(server, library[0], config={"entity_count": 3}))
    assert posted["name"] == "Stub Connection"
    assert posted["status"] == "active"
    assert posted["auth"]["method"] == "direct"
    place = f"/source-connections/{posted['id']}"
    assert fits(shapes.SourceConnection, server.http.get(place)) == posted
    fits(shapes.SourceConnection, server.http.get(f"/source-connections/{library[1]}"))
    fits(list[shapes.SourceConnectionListItem], server.http.get("/source-connections"))
    patched = fits(shapes.SourceConnection, server.http.patch(place, json={"schedule": {"cron": "0 4 * * *"}}))
    assert patched["schedule"]["cron"] == "0 4 * * *"
    assert fits(dict[str, UUID], server.http.get(f"{place}/sync-id")) == {"sync_id": posted["sync_id"]}
    assert fits(shapes.SourceConnection, server.http.delete(place))["id"] == posted["id"]


def test_a_job_has_every_field_of_its_table_in_every_state(server: Server, library: tuple[str, str]) -> None:
    posted = fits(shapes.Job, server.http.post(f"/source-connections/{library[1]}/run"))
    assert posted["status"] == "pending"
    assert posted["started_at"] is None
    done = server.finish(library[1], posted["id"])
    assert done["entities_kept"] == done["entities_encountered"] == 3
    assert (done["phase"], done["engine"]) == ("done", "in_process")
    place = f"/source-connections/{library[1]}/jobs"
    jobs = fits(list[shapes.Job], server.http.get(place))
    assert jobs[0] == fits(shapes.Job, server.http.get(f"{place}/{posted['id']}")) == done
    assert len(fits(list[shapes.Job], server.http.get(place, params={"limit": 1}))) == 1

    failing = stub(server, library[0], "exception_stub", exception_type="source_auth_error")
    assert server.sync(failing)["status"] == "failed"
    [failed] = fits(list[shapes.Job], server.http.get(f"/source-connections/{failing}/jobs"))
    assert failed["error"]
    assert failed["error_category"]
    assert failed["failed_at"]
    shown = fits(shapes.SourceConnection, server.http.get(f"/source-connections/{failing}"))
    assert (shown["status"], shown["error_message"]) == ("needs_reauth", failed["error"])
    assert shown["sync"]["failed_runs"] == 1


def test_a_search_result_has_every_field_of_its_table(server: Server, library: tuple[str, str]) -> None:
    place = f"/collections/{library[0]}/search/instant"
    found = fits(shapes.SearchResponse, server.http.post(place, json={"query": "apples", "unknown": 1}))
    first = found["results"][0]
    assert first["entity_id"] == "sub/apples.md__chunk_0"
    assert first["airweave_system_metadata"]["source_name"] == "folder"
    assert first["airweave_system_metadata"]["sync_id"] == library[1]
    assert server.search(library[0], "apples", group="chunk")[0]["entity_id"] == first["entity_id"]


def test_more_searches_at_once_than_the_pool_has_connections_are_all_answered(
    server: Server, library: tuple[str, str]
) -> None:
    place, at_once = f"/collections/{library[0]}/search/instant", 3 * CONNECTIONS
    with (
        ThreadPoolExecutor(at_once) as threads,
        httpx.Client(base_url=server.http.base_url, timeout=20, limits=NO_LIMITS) as http,
    ):
        asked_all = [threads.submit(http.post, place, json={"query": "apples"}) for _ in range(at_once)]
        answers = [asked.result() for asked in asked_all]
    assert [answer.status_code for answer in answers] == [200] * at_once
    assert all(answer.json()["results"][0]["name"] == "apples.md" for answer in answers)


def test_a_request_that_takes_its_time_keeps_no_other_waiting(server: Server, fresh_database: Database) -> None:
    server.collection()
    with fresh_database.session() as session:  # as that of a request which tries a source that does not answer
        collections.organization(session)
        assert server.http.get("/collections", timeout=3).status_code == 200


def test_refresh_all_answers_one_job_of_each_connection(server: Server) -> None:
    collection = server.collection()
    place = f"/collections/{collection}/refresh_all"
    assert server.post(place) == []
    connections = {stub(server, collection, entity_count=2), stub(server, collection, "incremental_stub")}
    jobs = fits(list[shapes.Job], server.http.post(place))
    assert {job["source_connection_id"] for job in jobs} == connections
    for job in jobs:
        assert server.finish(job["source_connection_id"], job["id"])["status"] == "completed"
    slow = stub(server, collection, **LONG)
    running = server.run(slow)
    again = fits(list[shapes.Job], server.http.post(place))
    assert next(job["id"] for job in again if job["source_connection_id"] == slow) == running
    assert server.http.post(f"/collections/{uuid4().hex}/refresh_all").status_code == 404
    assert server.http.delete(f"/collections/{collection}").status_code == 200


@pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True)
def test_a_connection_is_syncing_from_refresh_all_to_the_end_of_its_job(apart: Running, source: ScriptedServer) -> None:
    server = apart.start(JOB_THREADS="1")
    source.partitions["a"] = items(5)
    source.held_from = 0
    collection = server.collection()
    connections = [server.connect_to(source, collection=collection) for _ in range(3)]
    server.post(f"/collections/{collection}/refresh_all")
    listed = server.get("/source-connections", collection=collection)
    assert {each["id"]: each["status"] for each in listed} == dict.fromkeys(connections, "syncing")
    assert {server.get(f"/source-connections/{each}")["status"] for each in connections} == {"syncing"}
    assert "pending" in {server.get(f"/source-connections/{each}/jobs")[0]["status"] for each in connections}
    source.held_from = None
    server.wait_for(
        lambda: [each["status"] for each in server.get("/source-connections", collection=collection)],
        lambda seen: "syncing" not in seen,
    )
    for each in connections:
        assert server.get(f"/source-connections/{each}")["status"] == "active"
        assert [job["status"] for job in server.get(f"/source-connections/{each}/jobs")] == ["completed"]


# Paths, headers and errors


def test_every_route_is_at_the_root_and_under_api_v1_with_and_without_a_slash(
    server: Server, library: tuple[str, str]
) -> None:
    collection, connection = library
    for prefix in ("", "/api/v1"):
        for slash in ("", "/"):
            for path in (
                "/health",
                "/health/ready",
                "/sources",
                "/sources/folder",
                "/collections",
                "/collections/count",
                f"/collections/{collection}",
                f"/collections/{collection}/source-connections",
                "/source-connections",
                f"/source-connections/{connection}",
                f"/source-connections/{connection}/jobs",
                f"/source-connections/{connection}/entities",
                f"/source-connections/{connection}/held-deletes",
            ):
                answer = server.http.get(prefix + path + slash, follow_redirects=False)
                assert answer.status_code == 200, f"{prefix}{path}{slash}: {answer.status_code}"
            for path, body, status in (
                ("/collections", {"name": "Twice"}, 200),
                ("/collections", {}, 422),
                (f"/collections/{collection}/search/instant", {"query": "apples"}, 200),
                (f"/collections/{collection}/search", {"query": "apples"}, 200),
                ("/source-connections", {}, 422),
                (f"/source-connections/{uuid4()}/run", {}, 404),
            ):
                answer = server.http.post(prefix + path + slash, json=body, follow_redirects=False)
                assert answer.status_code == status, f"{prefix}{path}{slash}: {answer.status_code}"


def test_what_is_not_there_is_404_with_a_detail(server: Server, library: tuple[str, str]) -> None:
    connection, nothing = library[1], uuid4()
    for method, path, detail in (
        ("GET", "/collections/nothing", "Collection not found"),
        ("PATCH", "/collections/nothing", "Collection not found"),
        ("DELETE", "/collections/nothing", "Collection not found"),
        ("POST", "/collections/nothing/refresh_all", "Collection not found"),
        ("POST", "/collections/nothing/search/instant", "Collection 'nothing' not found."),
        ("GET", f"/source-connections/{nothing}", "Source connection not found"),
        ("PATCH", f"/source-connections/{nothing}", "Source connection not found"),
        ("DELETE", f"/source-connections/{nothing}", "Source connection not found"),
        ("POST", f"/source-connections/{nothing}/run", "Source connection not found"),
        ("GET", f"/source-connections/{nothing}/jobs", "Source connection not found"),
        ("GET", f"/source-connections/{nothing}/entities", "Source connection not found"),
        ("POST", f"/source-connections/{connection}/jobs/{nothing}/cancel", "Job not found"),
        ("POST", f"/source-connections/{connection}/held-deletes/{nothing}/approve", "Held deletes not found"),
        ("GET", "/nothing", "Not Found"),
    ):
        bodies = {"PATCH": {"name": "Something"}, "POST": {"query": "q"}}
        answer = server.http.request(method, path, json=bodies.get(method))
        assert (answer.status_code, answer.json()) == (404, {"detail": detail}), path
    assert "not found" in server.http.get("/sources/nothing").json()["detail"]
    assert server.http.put("/collections").status_code == 405


def test_what_breaks_a_rule_is_422_and_named_by_place(server: Server, library: tuple[str, str]) -> None:
    assert "body.name" in errors(server.http.post("/collections", json={}))
    assert "query.limit" in errors(server.http.get("/collections", params={"limit": 1001}))
    assert "query.skip" in errors(server.http.get("/collections", params={"skip": -1}))
    assert "query.limit" in errors(server.http.get(f"/source-connections/{library[1]}/jobs", params={"limit": 0}))
    assert "path.connection_id" in errors(server.http.get("/source-connections/no-uuid"))
    search = f"/collections/{library[0]}/search/instant"
    assert "body.query" in errors(server.http.post(search, json={"query": "  "}))
    assert "body.limit" in errors(server.http.post(search, json={"query": "q", "limit": 0}))
    assert "body.offset" in errors(server.http.post(search, json={"query": "q", "offset": -1}))
    assert "body.retrieval_strategy" in errors(
        server.http.post(search, json={"query": "q", "retrieval_strategy": "psychic"})
    )
    condition = {"field": "name", "operator": "greater_than", "value": "a"}
    said = errors(server.http.post(search, json={"query": "q", "filter": [{"conditions": [condition]}]}))
    assert "body.filter.0.conditions.0.operator" in said
    assert "body" in errors(server.http.patch(f"/source-connections/{library[1]}", json={}))


def test_answers_carry_rate_limit_headers(server: Server) -> None:
    headers = server.http.get("/collections").headers
    assert {headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")} == {"9999"}


# Rules of single fields


def test_names_are_held_to_their_lengths(server: Server) -> None:
    for length, status in ((3, 422), (4, 200), (64, 200), (65, 422)):
        assert server.http.post("/collections", json={"name": "n" * length}).status_code == status
    collection = server.collection()
    place = f"/collections/{collection}"
    for name, status in (("n" * 3, 422), ("n" * 64, 200), ("n" * 65, 422), ("    ", 422)):
        assert server.http.patch(place, json={"name": name}).status_code == status, name
    for length, status in ((3, 422), (4, 200), (42, 200), (43, 422)):
        answer = create(server, collection, name="n" * length)
        assert answer.status_code == status
        if status == 422:
            assert "body.name" in errors(answer)
    assert "body.description" in errors(create(server, collection, description="d" * 256))


def test_a_readable_id_has_its_pattern_and_is_there_once(server: Server) -> None:
    for bad in ("", "Upper", "under_score", "-a", "a-", "a--b", "a b", "ä", "a\n"):
        answer = server.http.post("/collections", json={"name": "Name", "readable_id": bad})
        assert "body.readable_id" in errors(answer), bad
    wanted = {"name": "Name", "readable_id": f"only-{uuid4().hex}"}
    assert server.http.post("/collections", json=wanted).status_code == 200
    again = server.http.post("/collections", json=wanted)
    assert again.status_code == 400
    assert wanted["readable_id"] in again.json()["detail"]
    assert server.http.delete(f"/collections/{wanted['readable_id']}").status_code == 200
    assert server.http.post("/collections", json=wanted).status_code == 200


def test_the_name_of_a_route_is_no_readable_id(server: Server) -> None:
    answer = server.http.post("/collections", json={"name": "Name", "readable_id": "count"})
    assert "body.readable_id" in errors(answer)


def test_a_schedule_left_out_is_the_default_of_the_source(server: Server) -> None:
    collection = server.collection()
    daily = create(server, collection).json()["schedule"]
    fires_at = datetime.fromisoformat(daily["next_run"])
    assert daily["cron"] == f"{fires_at.minute} {fires_at.hour} * * *"
    assert timedelta(hours=23) < fires_at - datetime.now(UTC) <= timedelta(hours=24)
    assert create(server, collection, "incremental_stub").json()["schedule"]["cron"] == "*/5 * * * *"
    assert create(server, collection, schedule=None).json()["schedule"]["cron"] == daily["cron"]
    assert create(server, collection, schedule={"cron": None}).json()["schedule"] is None


def test_a_cron_expression_is_checked_at_the_door(server: Server) -> None:
    collection = server.collection()
    for bad in ("", " ", "never", "61 * * * *", "* * * *", "0 0 30 2 *", "0 0 1 1 * * * *"):
        said = errors(create(server, collection, schedule={"cron": bad}))
        assert "body.schedule.cron" in said, bad
    for often in ("*/5 * * * *", "0,30 * * * *", "0,30 0 * * *", "5,50 12 * * 1"):
        answer = create(server, collection, schedule={"cron": often})
        assert answer.status_code == 400, often
        assert "Minimum schedule interval is 1 hour" in answer.json()["detail"]
        assert create(server, collection, "incremental_stub", schedule={"cron": often}).status_code == 200
    made = create(server, collection, schedule={"cron": "0 * * * *"}).json()
    place = f"/source-connections/{made['id']}"
    assert "body.schedule.cron" in errors(server.http.patch(place, json={"schedule": {"cron": "never"}}))
    assert "body.schedule.cron" in errors(server.http.patch(place, json={"schedule": {"cron": ""}}))
    assert server.http.patch(place, json={"schedule": {"cron": "*/5 * * * *"}}).status_code == 400
    assert server.get(place)["schedule"]["cron"] == "0 * * * *"
    assert server.http.patch(place, json={"schedule": {"cron": None}}).json()["schedule"] is None


def test_a_connection_without_schedule_has_no_sync_before_its_first_job(server: Server) -> None:
    collection = server.collection()

    def ids(connection: str) -> set[str | None]:
        place = f"/source-connections/{connection}"
        return {server.get(place)["sync_id"], server.get(f"{place}/sync-id")["sync_id"]}

    made = fits(shapes.SourceConnection, create(server, collection, schedule={"cron": None}))
    assert made["sync_id"] is None
    assert ids(made["id"]) == {None}
    server.http.patch(f"/source-connections/{made['id']}", json={"schedule": {"cron": "0 * * * *"}})
    server.http.patch(f"/source-connections/{made['id']}", json={"schedule": {"cron": None}})
    assert ids(made["id"]) == {made["id"]}
    run = create(server, collection, schedule={"cron": None}).json()["id"]
    server.sync(run)
    assert ids(run) == {run}
    at_once = create(server, collection, schedule={"cron": None}, sync_immediately=True).json()
    assert at_once["sync_id"] == at_once["id"]


def test_the_category_of_an_error_is_one_that_clients_know_and_its_kind_tells_all(server: Server) -> None:
    collection = server.collection()
    for exception, category, kind in (
        ("token_expired", "oauth_credentials_expired", "oauth_credentials_expired"),
        ("source_auth_error", "api_key_invalid", "api_key_invalid"),
        ("token_provider_config_error", None, "configuration"),
    ):
        connection = stub(server, collection, "exception_stub", exception_type=exception)
        failed = server.sync(connection)
        shown = fits(shapes.SourceConnection, server.http.get(f"/source-connections/{connection}"))
        assert (failed["error_category"], failed["error_kind"]) == (category, kind)
        assert (shown["error_category"], shown["error_kind"]) == (category, kind)
        assert shown["sync"]["last_job"]["error_category"] == category
        assert shown["status"] == ("needs_reauth" if category else "error")


def test_a_job_waits_for_its_source_as_long_as_its_connection_lets_it_and_says_so(server: Server) -> None:
    collection = server.collection()
    limited = {"config": {"exception_type": "source_rate_limit_error", "trigger_after": 0}, "schedule": {"cron": None}}
    assert "body.source_wait_max_s" in errors(create(server, collection, "exception_stub", source_wait_max_s=0))
    made = create(server, collection, "exception_stub", source_wait_max_s=1.5, **limited).json()
    place = f"/source-connections/{made['id']}"
    assert made["source_wait_max_s"] == server.get(place)["source_wait_max_s"] == 1.5
    job = server.run(made["id"])
    waits = server.wait_for(lambda: server.job(made["id"], job), lambda seen: seen["waiting_for"] is not None)
    assert (waits["status"], waits["waiting_for"]) == ("running", "source")
    assert "source_rate_limit_error" in waits["error"]
    assert server.finish(made["id"], job)["error_kind"] == "source_rate_limited"
    assert server.http.patch(place, json={"source_wait_max_s": None}).json()["source_wait_max_s"] is None


def test_a_connection_syncs_at_once_unless_told_otherwise(server: Server) -> None:
    collection = server.collection()
    answer = create(server, collection, config={"entity_count": 2}, sync_immediately=None)
    job = answer.json()["sync"]["last_job"]
    assert job["status"] in ("pending", "running", "completed")
    assert server.finish(answer.json()["id"], job["id"])["entities_inserted"] == 2
    later = create(server, collection, sync_immediately=False).json()
    assert server.get(f"/source-connections/{later['id']}/jobs") == []


def test_a_folder_ignores_credentials_and_any_source_unknown_keys(server: Server) -> None:
    collection, folder = server.collection(), server.folder()
    made = create(
        server,
        collection,
        "folder",
        config={"path": str(folder), "colour": "blue"},
        authentication={"credentials": {"password": "unused"}},
    )
    shown = fits(shapes.SourceConnection, made)
    assert shown["config"]["path"] == str(folder)
    assert "unused" not in made.text
    assert create(server, collection, config={"entity_count": 1, "colour": "blue"}, colour="red").status_code == 200


def test_a_source_says_which_credentials_and_which_configuration_it_needs(server: Server) -> None:
    collection = server.collection()
    assert "stub_key" in errors(create(server, collection, authentication=None))["body.authentication"]
    empty = errors(create(server, collection, authentication={"credentials": {}}))
    assert any(place.startswith("body.authentication") for place in empty)
    wrong = {"credentials": {"stub_key": ["a list"]}}
    assert "body.authentication.credentials.stub_key" in errors(create(server, collection, authentication=wrong))
    assert "body.config.entity_count" in errors(create(server, collection, config={"entity_count": 0}))
    assert "body.config.path" in errors(create(server, collection, "folder", config={}))
    for unsupported in ({}, {"redirect_uri": "http://localhost/"}):
        answer = create(server, collection, authentication=unsupported)
        assert answer.status_code == 400
        assert "not supported" in answer.json()["detail"]
    provided = create(server, collection, authentication={"provider_readable_id": "composio"})
    assert provided.status_code == 404
    assert "Auth provider 'composio' not found" in provided.json()["detail"]


# What the public command line sends


def test_the_type_that_the_command_line_sends_with_credentials_is_ignored(server: Server) -> None:
    authentication = {"type": "direct", "credentials": {"stub_key": "k"}}
    made = fits(shapes.SourceConnection, create(server, server.collection(), authentication=authentication))
    changed = server.http.patch(f"/source-connections/{made['id']}", json={"authentication": authentication})
    assert changed.status_code == 200


def test_the_connections_of_a_collection_are_also_below_it(server: Server, library: tuple[str, str]) -> None:
    alias = fits(
        list[shapes.SourceConnectionListItem], server.http.get(f"/collections/{library[0]}/source-connections/")
    )
    assert alias == server.get("/source-connections", collection=library[0])
    assert server.get("/source-connections", collection="nothing") == []


def test_a_full_sync_may_be_forced_in_the_query_and_in_the_body(server: Server) -> None:
    connection = stub(server, server.collection(), "incremental_stub", entity_count=3)
    assert server.sync(connection)["entities_inserted"] == 4
    assert server.sync(connection)["mode"] == "incremental"
    assert server.sync(connection, force_full_sync=True)["mode"] == "full"
    assert server.sync(connection)["mode"] == "incremental"
    job = server.http.post(f"/source-connections/{connection}/run", params={"force_full_sync": "true"}).json()
    assert server.finish(connection, job["id"])["mode"] == "full"


def test_neural_is_another_name_for_semantic(server: Server, library: tuple[str, str]) -> None:
    former = server.search(library[0], "fruit in the cellar", retrieval_strategy="neural")
    assert former == server.search(library[0], "fruit in the cellar", retrieval_strategy="semantic")


def test_another_configuration_restarts_a_running_sync(server: Server) -> None:
    connection = stub(server, server.collection(), **LONG)
    job = server.run(connection)
    answer = server.http.patch(f"/source-connections/{connection}", json={"config": {"entity_count": 3}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["config"]["entity_count"] == 3
    ended = server.finish(connection, job)
    assert (ended["status"], ended["error"]) == ("cancelled", "configuration changed")
    newest = server.get(f"/source-connections/{connection}/jobs")[0]
    assert newest["trigger"] == "config_change"
    assert server.finish(connection, newest["id"])["entities_inserted"] == 3


def test_the_classic_tier_which_clients_ask_for_by_default_has_the_same_results(server: Server) -> None:
    collection = server.collection()
    connection = server.connect(
        collection, "stub", {"entity_count": 5}, authentication={"credentials": {"stub_key": "x"}}
    )
    server.sync(connection)
    body = {"query": "stub container", "limit": 3}
    classic, instant = (
        server.post(f"/collections/{collection}/search/{tier}", body) for tier in ("classic", "instant")
    )
    assert classic["results"]
    assert classic["results"][0].keys() == instant["results"][0].keys()
    assert {one["entity_id"] for one in classic["results"]} == {one["entity_id"] for one in instant["results"]}
