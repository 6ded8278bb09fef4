"""No secret leaves the vault: canaries in every field that takes one are looked for wherever something is kept or said.

A canary holds two random words around characters that change when they are quoted, so that half of one, and one that
was escaped, is found too.
"""

import asyncio
import base64
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

import httpx
import pytest
from google.protobuf.message import Message
from sqlalchemy import text
from temporalio.api.common.v1 import Payload
from temporalio.client import Client

from airweave_server.db import collections, keys
from airweave_server.db.session import Database
from airweave_server.temporal.activities import Step
from running import Running, Server
from servers.oauth_server import CLIENT_SECRET, OAuthServer
from servers.scripted_server import ScriptedServer, items

TERMINAL = {"completed", "failed", "cancelled", "gone"}
OF_THE_SERVER = {"ACTIVITY_ID_NOT_STARTED"}  # why it says a step was cancelled
PATIENCE: dict[str, Any] = {"backoff_s": 0.02, "attempts": 2, "timeout_s": 5}
HALF = 16


@dataclass
class Canaries:
    """Secrets that were planted, by the place they were planted in."""

    planted: dict[str, str] = field(default_factory=dict)
    sought: dict[str, str] = field(default_factory=dict)  # what betrays one -> whose and which form it is

    def new(self, place: str) -> str:
        """A secret of its own for this place."""
        first, second = secrets.token_hex(HALF // 2), secrets.token_hex(HALF // 2)
        self.planted[place] = f"{first}/+\"\\'&%={second}"
        self.seek(place, first)
        self.seek(place, second)
        return self.planted[place]

    def seek(self, place: str, part: str) -> None:
        """Look for this text, plain and in the forms that text is wrapped in."""
        self.sought[part] = f"{place} (plain)"
        for name, raw in (("hex", part.encode().hex()), ("HEX", part.encode().hex().upper())):
            self.sought[raw] = f"{place} ({name})"
        for shift in range(3):  # where it stands among the bytes that are encoded decides how it looks
            encoded = base64.b64encode(b"\0" * shift + part.encode()).decode().rstrip("=")
            self.sought[encoded[4 if shift else 0 : -1]] = f"{place} (base64)"

    def in_(self, said: str) -> set[str]:
        """Whose secrets this text tells, and in which form."""
        return {whose for part, whose in self.sought.items() if part in said}


class Leak(AssertionError):
    """A secret was found where none may be."""


@dataclass
class Scene:
    """A server whose every answer is recorded, and the canaries that it was given."""

    running: Running
    server: Server
    database: Database
    canaries: Canaries
    bodies: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.http.event_hooks = {"response": [self._record]}

    def _record(self, answer: httpx.Response) -> None:
        answer.read()
        self.bodies.append((f"{answer.request.method} {answer.url.path}", f"{answer.text}\n{answer.headers}"))

    def connect(self, kind: str, config: dict[str, Any], authentication: dict[str, Any]) -> str:
        return self.server.connect(self.server.collection(), kind, config, authentication=authentication)

    def change(self, connection: str, **config: Any) -> None:
        """Change the configuration behind the API's back, so that nothing is tried at the door."""
        changed = text("update source_connection set config = config || cast(:config as jsonb) where id = :id")
        with self.database.session() as session:
            session.execute(changed, {"config": json.dumps(config), "id": connection})

    def refused(self, path: str, body: Any, *, status: set[int], method: str = "POST", **more: Any) -> None:
        given = {"content": body} if isinstance(body, str) else {"json": body}
        answer = self.server.http.request(method, path, **given, **more)
        assert answer.status_code in status, f"{path}: {answer.status_code} {answer.text}"

    def look_around(self) -> None:
        """Read all that the API shows."""
        server = self.server
        for path in ("/health", "/health/ready", "/sources", "/collections", "/source-connections", "/openapi.json"):
            server.http.get(path)
        for connection in server.get("/source-connections", limit=1000):
            self.look_at(connection["id"])

    def look_at(self, connection: str) -> None:
        """Read all that the API shows of one connection, and what a search finds of it."""
        server, place = self.server, f"/source-connections/{connection}"
        collection = server.get(place)["readable_collection_id"]
        server.get(f"/collections/{collection}")
        server.search(collection, "word number version Bearer token", limit=1000, group="chunk")
        server.ledger(connection)
        server.get(f"{place}/held-deletes")
        for job in server.get(f"{place}/jobs"):
            server.job(connection, job["id"])

    def seek(self, canaries: Canaries) -> None:
        """Raises ``Leak`` with each place where one of these is found."""
        found: dict[str, set[str]] = {}
        for place, said in self._places():
            if told := canaries.in_(said):
                found.setdefault(place, set()).update(told)
        if found:
            raise Leak("\n".join(f"{place}: {', '.join(sorted(told))}" for place, told in found.items()))

    def _places(self) -> Iterator[tuple[str, str]]:
        for log in sorted(self.running.place.glob("*.log")):
            yield f"log {log.name.split('-')[0]}", log.read_text(errors="replace")
        yield from self.bodies
        with self.database.session() as session:
            tables = session.execute(
                text("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'public'")
            ).scalars()
            for table in list(tables):
                for row in session.execute(text(f"select row_to_json(t)::text from {table} t")).scalars():
                    yield f"table {table}", row
        if self.running.temporal is not None:
            for place, message in self.temporal():
                yield place, str(message)
                for payload in payloads(message):
                    yield f"payload in {place}", payload.data.decode(errors="replace")

    def temporal(self) -> list[tuple[str, Message]]:
        """What Temporal keeps of this test's workflows: descriptions (memo, search attributes) and histories."""
        assert self.running.temporal is not None
        with self.database.session() as session:
            jobs = set(session.execute(text("select 'sync-' || id from sync_job where engine = 'temporal'")).scalars())
        found: list[tuple[str, Message]] = []

        async def read() -> set[str]:
            client = await Client.connect(self.running.temporal.address)  # type: ignore[union-attr]
            found.clear()
            seen = set()
            async for execution in client.list_workflows():
                if execution.id not in jobs:
                    continue
                seen.add(execution.id)
                handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
                found.append((f"description of {execution.id}", (await handle.describe()).raw_description))
                found.extend((f"history of {execution.id}", event) for event in (await handle.fetch_history()).events)
            return seen

        self.server.wait_for(lambda: asyncio.run(read()), lambda seen: seen == jobs)  # what is listed comes a bit later
        return found


def payloads(message: Message) -> Iterator[Payload]:
    """Every payload in a message, however deep."""
    if isinstance(message, Payload):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            inner = [part for part in value.values() if isinstance(part, Message)]
        else:
            inner = list(value) if descriptor.is_repeated else [value]
        for part in inner:
            yield from payloads(part)


@pytest.fixture
def scene(apart: Running) -> Iterator[Scene]:
    """On a database of its own: what leaks in another test is not found here."""
    yield from begun(apart)


@pytest.fixture(scope="module")
def shared(running: Running) -> Iterator[Scene]:
    """For tests that each look for canaries of their own."""
    yield from begun(running)


def begun(running: Running) -> Iterator[Scene]:
    canaries = Canaries()
    key = os.urandom(32)
    encoded = base64.b64encode(key).decode()
    canaries.planted["VAULT_KEY"] = encoded
    canaries.sought[encoded[:-1]] = "VAULT_KEY (as given)"
    canaries.sought[key.hex()] = "VAULT_KEY (hex)"
    database = Database(running.database_url)
    with database.session() as session:
        _, plain = keys.create(session, collections.organization(session).id, name="a test's", days=1)
    canaries.planted["API key"] = plain
    canaries.seek("API key", plain)
    server = running.start(VAULT_KEY=encoded, AUTH_ENABLED="true", LOG_LEVEL="debug")
    server.http.headers["X-API-Key"] = plain
    yield Scene(running, server, database, canaries)
    database.close()


@pytest.fixture
def source(source: ScriptedServer) -> ScriptedServer:
    source.partitions["a"] = items(12)
    return source


@pytest.fixture
def echoing() -> Iterator[ScriptedServer]:
    """Answers each listing of items with 500, and what Authorization it was sent."""
    with ScriptedServer() as started:
        started.partitions["a"] = items(12)
        started.fault("status", status=500, path="/items")
        yield started


@pytest.fixture
def refusing() -> Iterator[ScriptedServer]:
    """Answers 401, and what Authorization it was sent."""
    with ScriptedServer() as started:
        started.partitions["a"] = items(12)
        started.token = "another"
        yield started


def bearers(source: ScriptedServer) -> set[str]:
    return {entry["headers"].get("authorization", "").removeprefix("Bearer ") for entry in source.log}


def deep(canaries: Canaries, place: str) -> dict[str, Any]:
    """Credentials for ``telltale_direct``: secrets at the top and below, in a list and in a mapping."""
    return {
        "token": canaries.new(f"{place}: token"),
        "account": {"password": canaries.new(f"{place}: password"), "keys": [canaries.new(f"{place}: key of a list")]},
        "named": {"one": canaries.new(f"{place}: key of a mapping")},
    }


@pytest.mark.fault("F32", on="temporal")
def test_no_secret_is_found_anywhere_but_as_ciphertext(
    scene: Scene,
    source: ScriptedServer,
    echoing: ScriptedServer,
    refusing: ScriptedServer,
    say: Callable[[str], None],
) -> None:
    server, canaries = scene.server, scene.canaries
    jobs: dict[str, tuple[str, str]] = {}

    def run(place: str, connection: str, **body: Any) -> None:
        jobs[place] = connection, server.run(connection, **body)

    def direct(place: str) -> dict[str, Any]:
        return {"credentials": {"token": canaries.new(place)}}

    # every form of credentials there is, each field a canary
    for kind in server.get("/sources"):
        named = [one["name"] for one in (kind["auth_fields"] or {"fields": []})["fields"] if one["is_secret"]]
        if not named or kind["short_name"].startswith(("telltale", "oauth")):
            continue
        takes = {one["name"] for one in kind["config_fields"]["fields"]}
        config = {"url": source.url} if "url" in takes else {}
        given = {"credentials": {name: canaries.new(f"{kind['short_name']}: {name}") for name in named}}
        well = "fails" if kind["short_name"] == "exception_stub" else "ok"
        run(f"{well} {kind['short_name']}", scene.connect(kind["short_name"], config, given))
    assert len(jobs) >= 7, jobs
    run("ok deep", scene.connect("telltale_direct", {"url": source.url}, {"credentials": deep(canaries, "ok")}))
    stored = {"access_token": canaries.new("access_token")}
    bearer = scene.connect("telltale", {"url": source.url}, stored)
    run("ok access_token", bearer)
    of_a_run = scene.connect("telltale", {"url": source.url}, stored)
    run("ok access_token of a run", of_a_run, access_token=canaries.new("access_token of a run"))

    # a webhook that signs with a secret, to a receiver that fails, and some that are refused
    hook = {"url": f"{source.url}/hook", "event_types": ["collection.created", "sync.completed"]}
    secret = canaries.new("secret of a webhook")
    made = server.post("/webhooks/subscriptions", {**hook, "secret": secret + secret})
    scene.refused(
        "/webhooks/subscriptions",
        {**hook, "event_types": [], "secret": 3 * canaries.new("secret of a refused webhook")},
        status={422},
    )
    server.collection()
    path = f"/webhooks/subscriptions/{made['id']}"
    server.wait_for(lambda: server.get(path)["delivery_attempts"], bool)

    # sources that refuse, that fail and echo
    for place, place_of in (("401", refusing), ("500", echoing)):
        body = {"url": place_of.url, **PATIENCE}
        run(place, scene.connect("scripted", body, direct(place)))
        run(f"{place} deep", scene.connect("telltale_direct", body, {"credentials": deep(canaries, place)}))

    # connectors that tell it in what they raise and in the reasons they give
    for way in ("auth", "config", "unavailable", "runtime", "partitions", "reasons"):
        config = {"url": source.url, "way": way, **PATIENCE}
        run(way, scene.connect("telltale", config, {"access_token": canaries.new(way)}))
    for way in ("check_auth", "check_config"):
        given = {"access_token": canaries.new(f"{way} at the door")}
        body = {"short_name": "telltale", "readable_collection_id": server.collection(), "authentication": given}
        scene.refused("/source-connections", {**body, "config": {"url": source.url, "way": way}}, status={400, 422})
        late = scene.connect("telltale", {"url": source.url}, {"access_token": canaries.new(way)})
        scene.change(late, way=way)
        run(way, late)

    at_the_door(scene, source.url, bearer)
    ended = {place: server.finish(*ids, 120) for place, ids in jobs.items()}
    for place, job in ended.items():
        is_well = place.startswith("ok ") or place == "reasons"
        assert job["status"] == ("completed" if is_well else "failed"), (place, job["error"])
    for place in ("access_token", "access_token of a run", "scripted: token", "ok: token"):
        assert canaries.planted[place] in bearers(source), place  # it was used, and in clear
    assert canaries.planted["401"] in bearers(refusing)
    assert canaries.planted["500"] in bearers(echoing)
    reasons = [entry["reason"] for entry in server.ledger(jobs["reasons"][0]).values() if entry["reason"]]
    assert len(reasons) == 3
    assert all("**********" in reason for reason in reasons), reasons
    scene.look_around()
    scene.seek(canaries)
    say(f"{len(canaries.planted)} secrets, {len(jobs)} jobs, {len(scene.bodies)} answers")


def at_the_door(scene: Scene, url: str, connection: str) -> None:
    """Everything that can be wrong with a request that bears a secret; the answer does not repeat it."""
    new = scene.canaries.new
    collection = scene.server.collection()
    base = {"short_name": "scripted", "readable_collection_id": collection, "config": {"url": url}}
    wrong: list[Any] = [
        {"credentials": {"token": {"nested": new("door: nested")}}},
        {"credentials": {"token": [new("door: list")]}},
        {"credentials": new("door: credentials")},
        {"credentials": [new("door: credentials in a list")]},
        {"access_token": {"nested": new("door: access_token")}},
        {"access_token": new("door: nul") + "\x00"},
        {"refresh_token": new("door: refresh_token")},
        {"client_id": "x", "client_secret": new("door: client_secret")},
        {"consumer_key": new("door: consumer_key"), "consumer_secret": new("door: consumer_secret")},
        {"provider_readable_id": "p", "provider_config": {"api_key": new("door: provider_config")}},
        {"expires_at": new("door: expires_at"), "access_token": "x"},
        new("door: authentication"),
    ]
    refusals = {400, 404, 422}  # 404: an auth provider, of which this server has none
    for given in wrong:
        scene.refused("/source-connections", {**base, "authentication": given}, status=refusals)
        scene.refused(f"/source-connections/{connection}", {"authentication": given}, status=refusals, method="PATCH")
    good = {"credentials": {"token": new("door: with a bad config")}}
    scene.refused("/source-connections", {**base, "config": {}, "authentication": good}, status={422})
    deeper = {"credentials": {"token": new("door: deep"), "account": {"password": 1, "keys": new("door: keys")}}}
    scene.refused(
        "/source-connections", {**base, "short_name": "telltale_direct", "authentication": deeper}, status={422}
    )
    wrong_url = {**base, "config": {"url": "http://169.254.0.1:1"}, "authentication": good}
    assert scene.server.http.post("/source-connections", json=wrong_url).status_code in (200, 400, 422)
    broken = json.dumps({**base, "authentication": {"credentials": {"token": new("door: broken JSON")}}})[:-3]
    scene.refused("/source-connections", broken, status={422}, headers={"content-type": "application/json"})
    scene.refused("/source-connections", broken, status={422}, headers={"content-type": "text/plain"})
    for body in ({"access_token": [new("door: run")]}, new("door: run as a text"), [new("door: run as a list")]):
        scene.refused(f"/source-connections/{connection}/run", body, status={422})
    scene.refused(
        f"/source-connections/{UUID(int=0)}/run", {}, status={404}, params={"access_token": new("door: query")}
    )
    scene.refused("/collections", None, status={401}, method="GET", headers={"X-API-Key": new("door: wrong API key")})
    authorization = {"X-API-Key": "", "Authorization": f"Bearer {new('door: wrong bearer')}"}
    scene.refused("/collections", None, status={401}, method="GET", headers=authorization)


@pytest.mark.fault("F32", on="temporal")
def test_renewed_tokens_are_found_nowhere_but_as_ciphertext(shared: Scene, say: Callable[[str], None]) -> None:
    server, canaries = shared.server, Canaries()
    with OAuthServer() as provider:
        body = {
            "short_name": "oauth",
            "readable_collection_id": server.collection(),
            "config": {"url": provider.url},
            "authentication": provider.sign_in(),
            "sync_immediately": False,
            "schedule": {"cron": None},
        }
        provider.expire()
        shared.refused("/source-connections/preview", body, status={400})
        provider.api_status = 403
        shared.refused("/source-connections", body, status={400})
        provider.api_status = None
        connection = server.post("/source-connections", body)["id"]
        place = f"/source-connections/{connection}"
        provider.expire()
        assert server.sync(connection)["status"] == "completed"
        provider.expire()
        provider.echoes = True
        job = server.sync(connection)
        assert job["status"] == "failed"
        assert "this is no list: {'items': '" in job["error"]
        assert "**********" in job["error"]
        provider.echoes = False
        provider.expire()
        provider.api_status = 500
        shared.refused(place, {"config": {"url": provider.url, "note": "new"}}, status={400}, method="PATCH")
        shared.refused(place, {"authentication": provider.sign_in()}, status={400}, method="PATCH")
        provider.api_status = None
        provider.expire()
        provider.token_answers = [(500, {}, provider.issued[-1].encode()), (200, {}, provider.issued[-1].encode())]
        assert server.sync(connection)["status"] == "completed"
        once = provider.sign_in()
        assert server.sync(connection, access_token=once["access_token"])["status"] == "completed"
        provider.revoke()
        assert server.sync(connection)["status"] == "failed"  # the provider says the refresh token in its error
        assert (provider.refreshes, provider.reused) == (5, 0)
        for number, token in enumerate((*provider.issued, CLIENT_SECRET)):
            canaries.seek(f"token {number}", token)
    shared.look_at(connection)
    shared.seek(canaries)
    say(f"{len(provider.issued)} tokens, {len(shared.bodies)} answers")


@pytest.mark.fault("F32", on="temporal", only="temporal")
def test_nothing_but_ids_and_steps_goes_through_temporal(scene: Scene, source: ScriptedServer) -> None:
    server = scene.server
    source.partitions["b"] = items(30, prefix="b")
    done = scene.connect("scripted", {"url": source.url}, {"credentials": {"token": scene.canaries.new("ok")}})
    assert server.sync(done)["status"] == "completed"
    source.latency_s = 0.5
    cancelled = server.run(done)
    server.wait_for(lambda: server.job(done, cancelled), lambda job: job["status"] == "running")
    server.post(f"/source-connections/{done}/jobs/{cancelled}/cancel")
    assert server.finish(done, cancelled)["status"] == "cancelled"
    source.latency_s = 0
    source.fault("status", status=401, path="/items")
    assert server.sync(done)["status"] == "failed"
    with scene.database.session() as session:
        ids = {str(id) for id in session.execute(text("select id from sync_job")).scalars()}
        organizations = {str(id) for id in session.execute(text("select id from organization")).scalars()}
        told = session.execute(
            text("""
                select s.short_name, c.readable_id, s.id::text, j.trigger from sync_job j
                join source_connection s on s.id = j.connection_id join collection c on c.id = j.collection_id
            """)
        ).all()
    of_people = {word for row in told for word in row}
    summaries = {f"{source} into {collection} ({trigger})" for source, collection, _, trigger in told}
    place_of = re.compile(r"partition \d+ of \d+, [\d,]+ entities")

    steps = {one.name for one in fields(Step)}
    kinds = dict.fromkeys(("id", "step", "status", "search attribute", "told", "summary", "place"), 0)
    for place, message in scene.temporal():
        for payload in payloads(message):
            value = json.loads(payload.data) if payload.data else None
            if isinstance(value, dict):
                assert set(value) == steps, (place, value)
                assert value["ended"] in {None, *TERMINAL}, (place, value)
                assert all(isinstance(value[name], bool | int | float | None) for name in steps - {"ended"}), value
                kinds["step"] += 1
            elif place.startswith("description") and payload.metadata.get("type", b"") == b"KeywordList":
                kinds["search attribute"] += 1  # the server's own: which builds of a worker ran it
                assert all("version" in build for build in value), value
            elif value in ids:
                kinds["id"] += 1
            elif value in of_people:
                kinds["told"] += 1
            elif value in summaries:
                kinds["summary"] += 1
            elif isinstance(value, str) and place_of.fullmatch(value):
                kinds["place"] += 1
            else:
                assert value in TERMINAL | OF_THE_SERVER, (place, value)
                kinds["status"] += 1
    assert kinds["id"] >= 9, kinds
    assert kinds["step"] >= 9, kinds
    assert all(kinds[kind] for kind in ("told", "summary", "place")), kinds
    for place, message in scene.temporal():
        said = str(message)
        assert source.url not in said, place
        assert all(word not in said for word in ("item-0", "tells of", "number 1", "Authorization")), place
        assert server.get(f"/source-connections/{done}")["name"] not in said, place
    assert len(organizations) == 1


@pytest.mark.fault("F32", on="temporal")
@pytest.mark.parametrize(
    "way",
    [
        "validation",
        "repr",
        "quoted",
        "basic",
        "malformed",
        "constructor",
    ],
)
def test_a_careless_connector_does_not_leak(shared: Scene, source: ScriptedServer, way: str) -> None:
    canaries = Canaries()
    config = {"url": source.url, "way": "" if way == "constructor" else way, **PATIENCE}
    connection = shared.connect("telltale", config, {"access_token": canaries.new(way)})
    shared.change(connection, way=way)
    shared.server.sync(connection)
    shared.look_at(connection)
    shared.seek(canaries)


@pytest.mark.fault("F32", on="temporal")
@pytest.mark.parametrize(
    "way",
    [
        "check_runtime",
        "constructor",
    ],
)
def test_a_connector_that_breaks_at_the_door_does_not_leak(shared: Scene, source: ScriptedServer, way: str) -> None:
    canaries = Canaries()
    body = {
        "short_name": "telltale", "readable_collection_id": shared.server.collection(),
        "authentication": {"access_token": canaries.new(way)}, "config": {"url": source.url, "way": way},
    }  # fmt: skip
    shared.refused("/source-connections", body, status={400, 422, 500})
    shared.seek(canaries)


@pytest.mark.fault("F32", on="temporal")
def test_secrets_in_lists_and_mappings_do_not_leak(shared: Scene, source: ScriptedServer) -> None:
    canaries = Canaries()
    config = {"url": source.url, "way": "config", **PATIENCE}
    connection = shared.connect("telltale_direct", config, {"credentials": deep(canaries, "deep")})
    assert shared.server.sync(connection)["status"] == "failed"
    shared.look_at(connection)
    shared.seek(canaries)


def test_what_looks_for_secrets_finds_them() -> None:
    canaries = Canaries()
    secret = canaries.new("here")
    for said in (
        secret,
        json.dumps(secret),
        httpx.URL("http://h", params={"k": secret}).raw_path.decode(),
        *(base64.b64encode(b"u" * width + secret.encode() + b"vw").decode() for width in range(4)),
        base64.urlsafe_b64encode(b"user:" + secret.encode()).decode(),
        secret.encode().hex(),
        f"...{secret[-HALF:]}",
        f"{secret[:HALF]}...",
    ):
        assert canaries.in_(f"before {said} after"), said
    assert canaries.in_("nothing of the kind") == set()
