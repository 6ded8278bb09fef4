"""The typed client: it has a method for every route, reads what a real server answers, and says what went wrong."""

import base64
import inspect
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airweave_server import wire
from airweave_server.client import Client, fill
from airweave_server.errors import ClientError
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

SAMPLES: dict[Any, Any] = {
    "readable_id": "some-collection",
    "short_name": "folder",
    "connection_id": uuid4(),
    "job_id": uuid4(),
    "plan_id": uuid4(),
    "message_id": uuid4(),
    "subscription_id": uuid4(),
    "entity_id": "a/b c.md",
    "organization_id": uuid4(),
    "key_id": uuid4(),
    wire.ApiKeyCreate: wire.ApiKeyCreate(role="reader"),
    wire.CollectionCreate: wire.CollectionCreate(name="Notes"),
    wire.CollectionUpdate: wire.CollectionUpdate(name="Notes"),
    wire.ReembedRequest: wire.ReembedRequest(embedder="wordllama"),
    wire.AgenticSearchRequest: wire.AgenticSearchRequest(query="bees"),
    wire.SearchRequest: wire.SearchRequest(query="bees"),
    wire.SourceConnectionCreate: wire.SourceConnectionCreate(short_name="folder", readable_collection_id="notes"),
    wire.SourceConnectionUpdate: wire.SourceConnectionUpdate(name="Notes"),
    wire.WebhookRecovery: wire.WebhookRecovery(since=datetime.now(UTC)),
    wire.WebhookSubscriptionCreate: wire.WebhookSubscriptionCreate(
        url="https://a.example/", event_types=["sync.failed"]
    ),
    wire.WebhookSubscriptionUpdate: wire.WebhookSubscriptionUpdate(disabled=True),
    wire.SourceRateLimitUpdate: wire.SourceRateLimitUpdate(limit=100, window_seconds=60),
}
NO_ROUTES = {"close", "from_settings"}


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened


@contextmanager
def listening(status: int = 404, body: bytes = b"{}") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that answers everything alike, and what it was asked for."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.command, self.path.partition("?")[0]))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}", asked
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def call(client: Client, name: str) -> None:
    """Call a method with a sample of each argument that it needs."""
    method = getattr(client, name)
    given = [
        SAMPLES[parameter.annotation if parameter.name == "body" else parameter.name]
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
    ]
    with suppress(ClientError):
        answer = method(*given)
        if inspect.isgenerator(answer):
            next(answer)


def test_every_route_has_a_method(server: Server) -> None:
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, ways in server.get("/openapi.json")["paths"].items()
        for method, operation in ways.items()
        if not operation.get("deprecated")
    }
    patterns = {
        route: re.compile(re.escape(route[1]).replace(r"\{\}", "[^/]+")) for route in sorted(described, reverse=True)
    }
    with listening() as (url, asked), Client(url) as client:
        for name, _ in inspect.getmembers(Client, inspect.isfunction):
            if not name.startswith("_") and name not in NO_ROUTES:
                call(client, name)
    reached = set()
    for method, path in asked:
        exact = (method, path)
        found = [route for route, pattern in patterns.items() if route[0] == method and pattern.fullmatch(path)]
        assert found, f"the client asks for {method} {path}, which is no route"
        reached.add(exact if exact in described else min(found, key=lambda route: route[1].count("{}")))
    assert len(described) > 30
    assert described == reached


def test_what_a_real_server_answers_is_read_whole(client: Client, server: Server, tmp_path: Path) -> None:
    assert client.live().status == "alive"
    assert client.ready().checks["database"]["status"] == "up"
    health = client.health()
    assert (health.status, health.engine, health.temporal, health.children) == ("healthy", "in_process", None, {})
    assert "airweave_" in client.metrics()
    assert {"folder", "scripted"} <= {source.short_name for source in client.sources()}
    assert [field.name for field in client.source("folder").config_fields.fields if field.required] == ["path"]

    [organization] = client.organizations()
    assert client.own_organizations() == [client.organization(organization.id)] == [organization]
    key = client.create_api_key(fill(wire.ApiKeyCreate, role="editor", name="typed"))
    assert (key.role, key.decrypted_key is None) == ("editor", False)
    assert [one.id for one in client.api_keys()] == [client.api_key(key.id).id] == [key.id]
    assert client.revoke_api_key(key.id).revoked_at is not None

    made = client.create_collection(fill(wire.CollectionCreate, name="Typed things", readable_id="typed"))
    assert client.count_collections("typed") == 1
    assert client.collection("typed").id == made.id
    assert client.update_collection("typed", fill(wire.CollectionUpdate, name="Typed")).name == "Typed"
    assert [one.readable_id for one in client.collections("typed")] == ["typed"]
    assert client.reembed("typed").state == "settled"

    with ScriptedServer() as source:
        source.partitions["a"] = items(12)
        body = fill(
            wire.SourceConnectionCreate,
            short_name="scripted",
            readable_collection_id="typed",
            name="Scripted",
            config={"url": source.url},
            sync_immediately=False,
            schedule={"cron": None},
            authentication={"credentials": {"token": "hush-hush-token"}},
        )
        assert client.preview(body).entities == 12
        connection = client.create_connection(body)
        assert client.last_full(connection.id) is None
        job = client.run_or_join(connection.id)
        seen = list(client.progress(job.id))
        assert isinstance(seen[-1], wire.SyncEnd)
        assert seen[-1].status == "completed"
        updates = [one for one in seen if isinstance(one, wire.SyncProgressUpdate)]
        assert updates[-1].inserted == 12
        *states, last = client.states(job.id)
        assert isinstance(last, wire.SyncComplete)
        assert last.is_complete
        assert all(isinstance(one, wire.EntityState) for one in states)
        done = client.job(connection.id, job.id)
        assert (done.status, done.entities_inserted, done.id) == ("completed", 12, job.id)
        assert (done.created_at.tzinfo, wire.SourceConnectionJob.model_validate(done.model_dump())) == (UTC, done)
        found = client.last_full(connection.id)
        assert found is not None
        assert found.id == job.id
        assert [one.id for one in client.jobs(connection.id)] == [job.id]
    entries = list(client.entities(connection.id, "indexed"))
    assert len(entries) == 12
    assert client.entity_text(connection.id, entries[0].entity_id).text
    hits = client.search("typed", fill(wire.SearchRequest, query=entries[0].name, limit=3))
    assert len(hits) == 3
    assert [one.id for one in client.connections_of("typed")] == [connection.id]
    assert client.connection(connection.id).config == connection.config
    changed = client.update_connection(connection.id, fill(wire.SourceConnectionUpdate, name="Other name"))
    assert changed.name == "Other name"
    assert client.held_deletes(connection.id) == []
    assert client.delete_connection(connection.id).id == connection.id
    assert client.delete_collection("typed").readable_id == "typed"
    assert client.connections("typed") == []


def test_webhooks_are_subscribed_to_read_and_recovered(client: Client) -> None:
    collection = client.create_collection(fill(wire.CollectionCreate, name="Announced"))
    newest = client.messages(["collection.created"], limit=1)[0]
    assert newest.payload["collection_id"] == str(collection.id)
    assert client.message(newest.id).delivery_attempts == []

    secret = "a secret that is long enough"
    body = fill(
        wire.WebhookSubscriptionCreate, url="http://127.0.0.1:9/", event_types=["organization.created"], secret=secret
    )
    assert secret not in repr(body)
    made = client.subscribe(body)
    assert [one.id for one in client.subscriptions()] == [made.id]
    shown = client.subscription(made.id, include_secret=True).secret
    assert shown is not None
    assert base64.b64decode(shown.removeprefix("whsec_")) == secret.encode()
    assert client.subscription(made.id).secret is None
    assert client.update_subscription(made.id, fill(wire.WebhookSubscriptionUpdate, disabled=True)).disabled
    assert client.recover_messages(made.id, fill(wire.WebhookRecovery, since=datetime.now(UTC))).messages == 0
    assert client.unsubscribe(made.id).id == made.id
    assert client.subscriptions() == []


def test_lists_of_more_than_a_page_are_read_to_their_end(client: Client, server: Server) -> None:
    folder = server.folder()
    for number in range(1_001):
        (folder / f"{number}.md").write_text(f"note {number}")
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    server.sync(connection)
    assert len({entry.entity_id for entry in client.entities(connection)}) == 1_001


def test_what_the_server_refuses_is_said_with_the_field_or_the_detail(client: Client, server: Server) -> None:
    with pytest.raises(ClientError, match=rf"GET {server.url}/collections/nothing: Collection not found"):
        client.collection("nothing")
    with pytest.raises(ClientError, match="Job not found"):
        next(client.progress(uuid4()))
    body = fill(wire.SourceConnectionCreate, short_name="folder", readable_collection_id=server.collection(), config={})
    with pytest.raises(ClientError, match=r"body\.config\.path: Field required"):
        client.create_connection(body)


def test_a_request_that_breaks_a_rule_is_not_sent_and_its_value_not_shown() -> None:
    with pytest.raises(ClientError, match=r"^name: String should have at least 4 characters") as refused:
        fill(wire.CollectionCreate, name="xyz")
    assert "xyz" not in str(refused.value)
    with pytest.raises(ClientError, match=r"^query: must not be blank$"):
        fill(wire.SearchRequest, query=" ")


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"status": 3}', json.dumps({"results": [{}]}).encode()])
def test_what_is_no_airweave_server_is_named(body: bytes) -> None:
    with listening(200, body) as (url, _), Client(url) as client:
        for ask in (client.health, lambda: client.search("c", fill(wire.SearchRequest, query="q"))):
            with pytest.raises(ClientError, match=f"{url} is not an Airweave server of this version"):
                ask()


def test_a_stream_that_breaks_is_an_error() -> None:
    body = b'data: {"type": "connected"}\n\ndata: {"type": "error", "message": "the server is stopping"}\n\n'
    with (
        listening(200, body) as (url, _),
        Client(url) as client,
        pytest.raises(ClientError, match="the server is stopping"),
    ):
        list(client.progress(uuid4()))
