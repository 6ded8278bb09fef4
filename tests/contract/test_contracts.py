"""The public clients of Airweave, unmodified, against a running server with authentication on, on both drivers.

``docs/compatibility.md`` is made of what these tests find: ``make compatibility`` writes it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import public_clients as clients
import pytest

import compatibility
from compatibility import ABSENT, FAILS, WORKS, Finding, Row
from running import IN_PROCESS, TEMPORAL, Running, Server, on_a_terminal
from servers.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")

# of the older API that the TypeScript SDK 0.7.20 was generated from; the public server has them no more
GONE = {"Source": ["created_at", "id", "modified_at", "output_entity_definition_ids"]}
HERE = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
ENTRY = "airweave_cli.main"
MODES = ("instant", "classic", "agentic")


@dataclass
class Scene:
    """A server with authentication on, a key to it, and what its OpenAPI schema describes."""

    running: Running
    server: Server
    driver: str
    key: str
    routes: list[tuple[str, str]]

    def route_of(self, request: str) -> str | None:
        """The route that a request reaches, as ``GET /collections/{readable_id}``; None if there is none."""
        method, _, path = request.partition(" ")
        path = path.rstrip("/")
        fitting = [
            route
            for route in self.routes
            if route[0] == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route[1]), path)
        ]
        return None if not fitting else " ".join(min(fitting, key=lambda route: route[1].count("{")))

    def row(self, client: str, operation: str, requests: list[str], error: str | None, templates: list[str]) -> Row:
        """Judge an operation: an error counts as absence if one of its requests reaches no route."""
        routes = {request: self.route_of(request) for request in requests}
        shown = sorted({routes[request] or template for request, template in zip(requests, templates, strict=True)})
        result = WORKS if error is None else ABSENT if not all(routes.values()) else FAILS
        note = "" if error is None or result == ABSENT else error
        return Row(client, operation, ", ".join(shown), self.driver, result, note)


@pytest.fixture(scope="module")
def scene(running: Running, driver: str) -> Scene:
    server = running.start(AUTH_ENABLED="true")
    created = running.command("keys", "create", "--name", "contract")
    key = re.search(r"aw_\S+", created.stdout)
    assert key is not None, created.stdout + created.stderr
    described = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, ways in described.items() for method in ways]
    server.http.headers["x-api-key"] = key[0]
    return Scene(running, server, driver, key[0], routes)


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


def given(scene: Scene, receiver: WebhookReceiver, **more: Any) -> dict[str, Any]:
    folder = scene.server.folder()
    return {
        "url": scene.server.url,
        "key": scene.key,
        "folder": str(folder),
        "receiver": receiver.url(f"/{folder.name}"),
        **more,
    }


def template_of(request: str) -> str:
    """A request that reaches no route, with names in place of what stands for one collection."""
    return re.sub(r"(/collections/)[^/]+(/search)", r"\1{readable_id}\2", request)


def judge(scene: Scene, client: str, found: dict[str, Any]) -> list[Row]:
    rows = []
    for method in found["methods"]:
        called = found["calls"].get(method, {"requests": [], "error": f"was not called: {found['stopped']}"})
        requests = called["requests"]
        error = called["error"] or (None if requests else "sent no request")
        rows.append(scene.row(client, method, requests, error, [template_of(request) for request in requests]))
    return rows


def failures(rows: list[Row]) -> dict[str, str]:
    return {row.operation: row.note for row in rows if row.result == FAILS}


def describe_models(found: dict[str, Any]) -> str:
    """What was seen of the client's models."""
    text = f"{len(found['seen'])} of its models were seen in answers. They had every field that it declares"
    if found["missing"]:
        lacking = [
            f"{', '.join(f'`{each}`' for each in names)} of `{kind}`" for kind, names in found["missing"].items()
        ]
        text += f", but for {'; '.join(lacking)}"
    if found.get("unseen"):
        text += f". Not seen: {', '.join(f'`{kind}`' for kind in sorted(found['unseen']))}"
    return f"{text}."


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_every_method_of_the_python_sdk_works(
    request: pytest.FixtureRequest, scene: Scene, receiver: WebhookReceiver, is_async: bool
) -> None:
    package, version = clients.PYTHON_SDK
    python = clients.python_of(clients.PYTHON_SDK)
    found = clients.walk(
        [str(python), "-W", "ignore", str(clients.HERE / "python_client.py")],
        given(scene, receiver, is_async=is_async),
    )
    name = f"Python SDK, {package} {version}{', asynchronous' if is_async else ''}"
    rows = judge(scene, name, found)
    agentic = {row.operation for row in rows if row.result == ABSENT}
    # models that only an answer that is not there yet has, or that only a language model makes
    unseen = {kind: [] for kind, methods in found["unseen"].items() if not set(methods) <= agentic}
    optional = {kind for kind, methods in found["unseen"].items() if methods == ["collections.search.stream_agentic"]}
    compatibility.keep(request.node, [*rows, Finding(name, describe_models(found))])
    assert len(rows) == 27
    assert failures(rows) == {}
    assert found["missing"] == {}, "an answer lacks fields that the SDK declares"
    assert unseen.keys() <= optional, "no answer had these models"
    assert found["stopped"] is None


def test_every_method_of_the_typescript_sdk_works(
    request: pytest.FixtureRequest, scene: Scene, receiver: WebhookReceiver
) -> None:
    package, version = clients.TYPESCRIPT_SDK
    modules = clients.node_modules_of(clients.TYPESCRIPT_SDK)
    script = str(clients.HERE / "typescript_client.cjs")
    found = clients.walk(["node", script], given(scene, receiver), NODE_PATH=str(modules))
    name = f"TypeScript SDK, {package} {version}"
    rows = judge(scene, name, found)
    compatibility.keep(request.node, [*rows, Finding(name, describe_models(found))])
    assert len(rows) == 17
    assert failures(rows) == {}
    assert found["missing"] == GONE, "an answer lacks fields that the SDK declares"
    assert found["stopped"] is None


class CommandLine:
    """The public command line in an environment of its own, with a home of its own."""

    def __init__(self, scene: Scene, home: Path) -> None:
        self.python = str(clients.python_of(clients.COMMAND_LINE))
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")},
            "HOME": str(home),
            "AIRWEAVE_BASE_URL": scene.server.url,
            "AIRWEAVE_API_KEY": scene.key,
        }
        self.results: dict[str, str | None] = {}

    def list_commands(self) -> set[str]:
        code = (
            f"import json, typer, {ENTRY} as m\n"
            "def leaves(one, path):\n"
            "    under = getattr(one, 'commands', None)\n"
            "    if under is None: return [' '.join(path)]\n"
            "    return [leaf for name, each in under.items() for leaf in leaves(each, [*path, name])]\n"
            "print(json.dumps(leaves(typer.main.get_command(m.app), [])))"
        )
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        return set(json.loads(done.stdout))

    def run(self, operation: str, *arguments: str) -> Any:
        """Run a command and return the JSON that it prints; keep its error under the name of the operation."""
        done = subprocess.run(
            [self.python, "-m", ENTRY, "--json", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        is_bad = done.returncode != 0
        self.results[operation] = self.results.get(operation) or (done.stderr.strip()[-500:] if is_bad else None)
        return None if is_bad else json.loads(done.stdout)

    def expect(self, operation: str, is_met: bool, what: str) -> None:
        if not is_met:
            self.results[operation] = self.results.get(operation) or f"not as expected: {what}"

    def on_a_terminal(self, operation: str, *arguments: str, answers: list[tuple[str, str]]) -> str:
        """Run a command on a terminal, and type these answers."""
        code, shown = on_a_terminal(arguments, self.environment, answers, command=[self.python, "-m", ENTRY])
        self.results[operation] = None if code == 0 else shown[-500:]
        return shown


REQUESTS = {
    "auth login --api-key": ["GET /collections"],
    "auth status": [],
    "auth logout": [],
    "collections list": ["GET /collections"],
    "collections create": ["POST /collections"],
    "collections get": ["GET /collections/a"],
    "sources add": ["POST /source-connections"],
    "sources list": ["GET /collections/a/source-connections"],
    "sources sync": ["POST /source-connections/a/run"],
    **{f"search --mode {mode}": [f"POST /collections/a/search/{mode}"] for mode in MODES if mode != "agentic"},
    "search --mode agentic": ["POST /collections/a/search/agentic/stream"],
}


def test_every_command_of_the_command_line_works(request: pytest.FixtureRequest, scene: Scene, tmp_path: Path) -> None:
    package, version = clients.COMMAND_LINE
    line = CommandLine(scene, tmp_path)
    own = f"by-command-{uuid4().hex[:8]}"
    made = line.run("collections create", "collections", "create", "--name", "By command", "--readable-id", own)
    line.expect("collections create", made["readable_id"] == own, "the readable id")
    listed = line.run("collections list", "collections", "list")
    line.expect("collections list", own in {one["readable_id"] for one in listed}, "the new collection")
    line.expect("collections get", line.run("collections get", "collections", "get", own) == made, "the same")
    credentials, few = json.dumps({"stub_key": "k"}), json.dumps({"entity_count": 5})
    options = ["-c", own, "--name", "A stub", "--credentials", credentials, "--config", few, "--no-sync"]
    added = line.run("sources add", "sources", "add", "stub", *options)
    shown = line.run("sources list", "sources", "list", "-c", own)
    line.expect("sources list", [one["id"] for one in shown] == [added["id"]], "the new connection")
    for options in ([], ["--force"]):
        job = line.run("sources sync", "sources", "sync", added["id"], *options)
        line.expect("sources sync", scene.server.finish(added["id"], job["id"])["status"] == "completed", "a sync")
    for mode in MODES:
        operation = f"search --mode {mode}"
        found = line.run(operation, "search", "stub container", "-c", own, "--mode", mode, "--top-k", "3")
        line.expect(operation, bool(found and 1 <= len(found["results"]) <= 3), "up to three results")
    for strategy in ("hybrid", "neural", "keyword"):
        line.run("search --mode instant", "search", "stub", "-c", own, "-m", "instant", "-s", strategy)
    condition = {"field": "airweave_system_metadata.source_name", "operator": "equals", "value": "nothing"}
    narrow = ["--filter", json.dumps({"conditions": [condition]})]
    none = line.run("search --mode classic", "search", "stub container", "-c", own, *narrow)
    line.expect("search --mode classic", none is not None and none["results"] == [], "nothing by that filter")

    del line.environment["AIRWEAVE_API_KEY"], line.environment["AIRWEAVE_BASE_URL"]
    answers = [("API key", scene.key), ("Base URL", scene.server.url), ("Default collection", own)]
    line.on_a_terminal("auth login --api-key", "auth", "login", "--api-key", answers=answers)
    status = line.run("auth status", "auth", "status")
    line.expect("auth status", status["authenticated"] and status["collection"] == own, "signed in")
    line.expect("auth login --api-key", bool(line.run("collections list", "collections", "list")), "a stored key")
    line.on_a_terminal("auth logout", "auth", "logout", answers=[("log out", "y")])
    signed_out = line.run("auth status", "auth", "status")
    line.expect("auth logout", not signed_out["authenticated"], "signed out")

    name = f"Command line, {package} {version}"
    rows = []
    for operation, error in line.results.items():
        requests = REQUESTS[operation]
        row = scene.row(
            name, operation, requests, error, [re.sub(r"/a(?=/|$)", "/{readable_id}", request) for request in requests]
        )
        rows.append(row if requests else Row(name, operation, "none", scene.driver, row.result, row.note))
    compatibility.keep(request.node, rows)
    assert failures(rows) == {}
    named = {re.sub(r" --.*", "", operation) for operation in line.results}
    assert named == line.list_commands()
    assert line.results.keys() == REQUESTS.keys()


def test_the_requests_of_the_public_mcp_server_are_answered(request: pytest.FixtureRequest, scene: Scene) -> None:
    """Its package cannot be had; these are its requests, with its headers and its only way to sign in."""
    server = scene.server
    collection = server.collection()
    connection = server.connect(
        collection, "stub", {"entity_count": 5}, authentication={"credentials": {"stub_key": "k"}}
    )
    assert server.sync(connection)["status"] == "completed"
    name = "MCP server, airweave-mcp-search 0.5.7, replayed"
    rows: list[Row] = []
    headers = {
        "Authorization": f"Bearer {scene.key}",
        "Content-Type": "application/json",
        "X-Client-Name": "airweave-mcp-search",
        "X-Client-Version": "0.5.7",
    }

    def ask(operation: str, method: str, path: str, *, body: Any = None, good: Any = bool, **more: str) -> Any:
        answer = client.request(method, path, json=body, headers=more)
        content = answer.json() if answer.headers.get("content-type") == "application/json" else None
        error = None if answer.status_code == 200 and good(content) else f"{answer.status_code}: {answer.text[:300]}"
        asked = f"{method} {path.partition('?')[0]}"
        rows.append(scene.row(name, operation, [asked], error, [template_of(asked)]))
        return content if error is None else None

    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        for mode in MODES:
            body: dict[str, Any] = {"query": "stub container", "limit": 100}
            body |= {"thinking": False} if mode == "agentic" else {"offset": 0}
            body |= {"retrieval_strategy": "hybrid"} if mode == "instant" else {}
            path = f"/collections/{collection}/search/{mode}"
            ask(f"search-{{collection}}, tier {mode}", "POST", path, body=body, good=lambda found: found["results"])
        condition = {"field": "name", "operator": "contains", "value": "no such name"}
        body = {"query": "stub", "filter": [{"conditions": [condition]}], "limit": 100, "offset": 0}
        path = f"/collections/{collection}/search/classic"
        ask("search-{collection}, filter", "POST", path, body=body, good=lambda found: found["results"] == [])
        organizations = ask("HTTP mode, organizations", "GET", "/organizations/", good=lambda found: found[0]["id"])
        own = {"X-Organization-ID": organizations[0]["id"]} if organizations else {}
        wanted = f"/collections/?search={collection}"
        ask("HTTP mode, find a collection", "GET", wanted, good=lambda found: len(found) == 1, **own)
        ask("HTTP mode, collections", "GET", "/collections", good=lambda found: found, **own)
    compatibility.keep(request.node, rows)
    assert failures(rows) == {}


@pytest.fixture(autouse=True)
def current(request: pytest.FixtureRequest) -> Iterator[None]:
    """The page must say of each operation what the test found, and no operation that the client has not."""
    yield
    if request.config.getoption("--compatibility") is not None:
        return
    found = [json.loads(str(value)) for name, value in request.node.user_properties if name == compatibility.PROPERTY]
    rows = [Row(**one["Row"]) for one in found if "Row" in one]
    findings = [Finding(**one["Finding"]) for one in found if "Finding" in one]
    if not rows:
        return  # the client could not be had
    page = PAGE.read_text()
    said = compatibility.read(page)
    shown = compatibility.read("\n".join([f"## {rows[0].client}", *compatibility.table(rows, rows[0].client)]))
    here = {key for key in said if key[0] == rows[0].client and key[2] == rows[0].driver}
    now = {key: value for key, value in shown.items() if key[2] == rows[0].driver}
    advice = "docs/compatibility.md is not what this client does: make compatibility"
    assert {key: said[key] for key in here} == now, advice
    assert all(finding.text in page for finding in findings), advice


def test_a_client_that_is_made_of_the_description_makes_a_round_trip(scene: Scene, tmp_path: Path) -> None:
    python = clients.python_of(clients.GENERATOR)
    described = tmp_path / "openapi.json"
    described.write_text(httpx.get(f"{scene.server.url}/openapi.json").text)
    made = ["generate", "--path", str(described), "--meta", "none", "--output-path", str(tmp_path / "made")]
    done = subprocess.run(
        [python.with_name("openapi-python-client"), *made], capture_output=True, text=True, timeout=120, check=False
    )
    assert (tmp_path / "made" / "client.py").exists(), done.stdout + done.stderr
    assert "unable to" not in (done.stdout + done.stderr).lower()
    given = {"url": scene.server.url, "key": scene.key, "folder": str(scene.server.folder())}
    found = clients.walk([str(python), str(HERE / "generated_client.py")], given, cwd=tmp_path)
    assert (found["inserted"], found["first"], found["deleted"]) == (1, "router.md", True)
    kinds = [kind for kind, _ in found["errors"]]
    assert kinds == ["InvalidInput", "Error", "Error"]
    assert "body.name" in found["errors"][0][1]
