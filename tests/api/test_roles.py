"""Roles of API keys, organizations made by the command, and keys over HTTP: on a real server with authentication."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from airweave_server.api import app as application
from airweave_server.api import roles
from airweave_server.api.gate import KEYLESS, is_open
from airweave_server.api.streams import OVER
from airweave_server.db import collections, keys, organizations
from airweave_server.db.models import ApiKey, Organization, Role
from airweave_server.db.session import Database, upgrade
from airweave_server.errors import Forbidden
from airweave_server.settings import Settings
from running import Finished, Running, Server

ORDER = list(Role)


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(AUTH_ENABLED="true", PROGRESS_HEARTBEAT_S="60")


@pytest.fixture(scope="module")
def by_role(running: Running, server: Server) -> Iterator[dict[Role, httpx.Client]]:
    """A client for each role, with a key that the command has made."""
    with ExitStack() as stack:
        yield {
            role: stack.enter_context(client(server, made(running, "keys", "create", "--role", role))) for role in Role
        }


def made(running: Running, *arguments: str) -> str:
    """The only line that the command prints on standard output."""
    done = running.command(*arguments)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    return line


def client(server: Server, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def refusal(done: Finished) -> str:
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    return line


def routes_of(served: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in served:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes)
        else:
            for method in getattr(route, "methods", None) or {roles.ANY}:
                yield str(method), str(getattr(route, "path", ""))


def every_route() -> list[tuple[str, str]]:
    """Each route of the application, also those that are not described."""
    whole = FastAPI(docs_url=None, redoc_url=None)
    for module in application.ROUTES:
        whole.include_router(module.router)
    return sorted(set(routes_of(whole.routes)))


# Roles


def test_every_route_has_a_role_or_needs_no_key() -> None:
    served = every_route()
    missing = [
        f"{method} {path}"
        for method, path in served
        if not (is_open(path) or path in KEYLESS or f"{method} {path}" in roles.NEEDED)
    ]
    assert missing == [], "say in api/roles.py which role these need"
    assert len(served) > 60


def test_what_the_table_lacks_needs_admin_and_what_is_not_there_needs_nothing() -> None:
    def answer() -> PlainTextResponse:
        return PlainTextResponse("")

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/forgotten/{id}")(answer)
    app.router.routes += [Route("/plain", answer), Mount("/mounted", app=FastAPI())]

    def scope(method: str, path: str) -> dict[str, Any]:
        return {"type": "http", "method": method, "path": path, "headers": [], "app": app, "root_path": ""}

    for path in ("/forgotten/1", "/plain", "/mounted/deep/down"):
        for role in (Role.READER, Role.EDITOR):
            with pytest.raises(Forbidden, match=f"has the role {role}; GET {path} needs the role admin$"):
                roles.check(scope("GET", path), role)
        roles.check(scope("GET", path), Role.ADMIN)
    for method, path in (("GET", "/nowhere"), ("PUT", "/forgotten/1"), ("POST", "/forgotten/1/more")):
        roles.check(scope(method, path), Role.READER)


def test_of_routes_that_fit_the_same_path_the_strictest_decides() -> None:
    assert roles._find("GET", "/collections/count") == Role.READER
    assert roles._find("DELETE", "/collections/count") == Role.EDITOR
    assert roles._find("HEAD", "/api-keys") == Role.ADMIN
    assert roles._find("POST", "/mcp") == roles._find("GET", "/mcp") == Role.READER


@pytest.mark.parametrize("role", Role)
def test_a_key_may_do_what_its_role_says_and_the_refusal_names_the_role(
    by_role: dict[Role, httpx.Client], role: Role
) -> None:
    tried = dict.fromkeys(("let in", "refused"), 0)
    for method, template in every_route():
        needed = roles.NEEDED.get(f"{method} {template}")
        if needed is None:
            continue
        names = ("connection_id", "job_id", "plan_id", "key_id", "organization_id", "message_id", "subscription_id")
        path = template.replace("{rest:path}", "a/b").replace("{readable_id}", "no-such").replace("{short_name}", "no")
        for name in names:
            path = path.replace(f"{{{name}}}", str(uuid4()))
        may = ORDER.index(role) >= ORDER.index(needed)
        for place in (path, f"/api/v1{path}/"):
            answer = by_role[role].request(method, place, content="{" if method != "GET" else None)
            if may:
                assert answer.status_code not in (401, 403), f"{method} {place}: {answer.text}"
            else:
                enough = " or ".join(ORDER[ORDER.index(needed) :])
                said = f"this API key has the role {role}; {method} {path} needs the role {enough}"
                assert (answer.status_code, answer.json()) == (403, {"detail": said}), f"{method} {place}"
        tried["let in" if may else "refused"] += 1
    assert tried["let in"] >= 30
    assert (tried["refused"] > 0) == (role != Role.ADMIN)


def test_there_is_no_way_around_a_role(by_role: dict[Role, httpx.Client]) -> None:
    reader = by_role[Role.READER]
    body = {"name": "Not by a reader"}
    for path in ("/collections", "/collections/", "/collections//", "/api/v1/collections", "/%63ollections"):
        assert reader.post(path, json=body).status_code == 403, path
    for path in ("//collections", "/collections%2F..", "/Collections", "/api/v1/api/v1/collections", "/collections;x"):
        assert reader.post(path, json=body).status_code in (403, 404, 405), path
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert reader.get("/collections", headers={name: "POST"}).status_code == 200
    for name, value in (("X-Role", "admin"), ("X-Organization-ID", str(uuid4()))):
        assert reader.post("/collections", json=body, headers={name: value}).status_code == 403
    assert by_role[Role.ADMIN].get("/collections", params={"search": "Not by a reader"}).json() == []


def test_a_reader_searches_an_editor_connects_and_an_admin_approves(
    server: Server, by_role: dict[Role, httpx.Client]
) -> None:
    reader, editor, admin = by_role[Role.READER], by_role[Role.EDITOR], by_role[Role.ADMIN]
    assert editor.post("/collections", json={"name": "Shared", "readable_id": "shared"}).status_code == 200
    folder = server.folder()
    for number in range(30):
        (folder / f"{number}.md").write_text(f"note {number} about herons")
    wanted = {"short_name": "folder", "readable_collection_id": "shared", "config": {"path": str(folder)}}
    assert reader.post("/source-connections", json=wanted).status_code == 403
    connection = editor.post("/source-connections", json={**wanted, "sync_immediately": False}).json()["id"]

    def sync() -> None:
        job = editor.post(f"/source-connections/{connection}/run").json()["id"]
        place = f"/source-connections/{connection}/jobs/{job}"
        server.wait_for(lambda: reader.get(place).json()["status"], lambda seen: seen == "completed")

    sync()
    assert len(reader.post("/collections/shared/search/instant", json={"query": "herons"}).json()["results"]) == 30
    for number in range(20):
        (folder / f"{number}.md").unlink()
    sync()
    [plan] = reader.get(f"/source-connections/{connection}/held-deletes").json()
    approve = f"/source-connections/{connection}/held-deletes/{plan['id']}/approve"
    assert [each.post(approve).status_code for each in (reader, editor, admin)] == [403, 403, 200]


# Keys over HTTP


def test_an_admin_makes_lists_and_revokes_keys_of_its_own_organization(
    server: Server, running: Running, by_role: dict[Role, httpx.Client]
) -> None:
    admin = by_role[Role.ADMIN]
    answer = admin.post("/api-keys/", json={"expiration_days": 3, "role": "reader", "name": "for a robot"})
    key = answer.json()
    assert answer.status_code == 200
    assert (key["role"], key["name"], key["hint"]) == ("reader", "for a robot", key["decrypted_key"][-4:])
    with client(server, key["decrypted_key"]) as robot:
        assert robot.get("/organizations").json()[0]["key_role"] == "reader"
        assert robot.post("/api-keys", json={}).status_code == 403
        seen = admin.get(f"/api-keys/{key['id']}").json()
        assert seen["decrypted_key"] is None
        assert seen["last_used_date"] is not None
        assert admin.get("/api-keys").json()[0]["id"] == key["id"]
        assert key["decrypted_key"] not in admin.get("/api-keys").text

        with client(server, made(running, "keys", "create", "--organization", new(running))) as stranger:
            nowhere = stranger.get(f"/api-keys/{uuid4()}")
            assert (nowhere.status_code, nowhere.json()) == (404, {"detail": "API key not found"})
            for answer in (
                stranger.get(f"/api-keys/{key['id']}"),
                stranger.delete("/api-keys", params={"id": key["id"]}),
            ):
                assert (answer.status_code, answer.text) == (404, nowhere.text)
            assert len(stranger.get("/api-keys").json()) == 1
        assert robot.get("/collections").status_code == 200

        assert admin.delete("/api-keys/", params={"id": key["id"]}).json()["revoked_at"] is not None
        revoked_at = time.monotonic()
        server.wait_for(lambda: robot.get("/collections").status_code, lambda seen: seen == 401, 1)
        assert time.monotonic() - revoked_at < 1
    for body in ({"expiration_days": 0}, {"expiration_days": 366}, {"role": "owner"}, {"name": "x\0"}):
        assert admin.post("/api-keys", json=body).status_code == 422


def test_an_open_stream_ends_within_a_second_of_its_keys_end(
    server: Server, running: Running, by_role: dict[Role, httpx.Client], fresh_database: Database
) -> None:
    admin = by_role[Role.ADMIN]
    admin.post("/collections", json={"name": "Watched", "readable_id": "watched"})
    wanted = {
        "short_name": "timed", "readable_collection_id": "watched", "sync_immediately": False,
        "schedule": {"cron": None}, "authentication": {"credentials": {"timed_key": "k"}},
        "config": {"entity_count": 1, "duration_seconds": 60, "seed": 1},
    }  # fmt: skip
    connection = admin.post("/source-connections", json=wanted).json()["id"]
    job = admin.post(f"/source-connections/{connection}/run").json()["id"]
    keys_of = [admin.post("/api-keys", json={"role": "reader"}).json() for _ in range(3)]
    ends: dict[str, tuple[float, list[dict[str, Any]]]] = {}
    begun = threading.Barrier(4)

    def watch(key: dict[str, Any], what: str) -> None:
        events = []
        with (
            client(server, key["decrypted_key"]) as http,
            http.stream("GET", f"/sync/job/{job}/{what}") as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if len(events) == 1:
                        begun.wait(20)
        ends[key["id"]] = (time.monotonic(), events)

    watching = [
        threading.Thread(target=watch, args=(key, what))
        for key, what in zip(keys_of, ("subscribe", "subscribe-state", "subscribe"), strict=True)
    ]
    for thread in watching:
        thread.start()
    begun.wait(20)
    time.sleep(1)
    assert not ends
    revoked_at = time.monotonic()
    assert admin.delete("/api-keys", params={"id": keys_of[0]["id"]}).status_code == 200
    with fresh_database.session() as session:  # this one expires
        session.execute(
            text("update api_key set expires_at = clock_timestamp() where id = :id"), {"id": keys_of[1]["id"]}
        )
    for thread in watching[:2]:
        thread.join(10)
    for key in keys_of[:2]:
        ended_at, events = ends[key["id"]]
        assert events[-1] == {"type": "error", "message": OVER}
        assert ended_at - revoked_at < 1
    assert keys_of[2]["id"] not in ends  # which has done nothing
    assert admin.post(f"/source-connections/{connection}/jobs/{job}/cancel").status_code == 200
    watching[2].join(30)
    assert ends[keys_of[2]["id"]][1][-1]["type"] == "end"
    assert '"level": "error"' not in server.log.read_text()


# Organizations


def new(running: Running) -> str:
    return made(running, "organizations", "create", f"Tenant {uuid4().hex[:8]}")


def test_the_command_makes_and_lists_organizations(running: Running, server: Server) -> None:
    name = "Söme 'body' else"
    id = made(running, "organizations", "create", f"  {name} ")
    assert UUID(id)
    listed = running.command("organizations", "list", COLUMNS="200").stdout.splitlines()
    assert listed[0].endswith(", the first")
    assert sum("the first" in line for line in listed) == 1
    [row] = [line for line in listed if id in line]
    assert name in row
    assert "already" in refusal(running.command("organizations", "create", name))
    assert "already" in refusal(running.command("organizations", "create", id))  # nobody shall be taken for it
    for bad in ("", "abc", "x" * 101, "   abc   "):
        assert "4 to 100 characters" in refusal(running.command("organizations", "create", bad))

    key = made(running, "keys", "create", "--organization", name, "--role", "editor")
    same = made(running, "keys", "create", "--organization", id)
    listed = running.command("keys", "list", COLUMNS="250").stdout.splitlines()
    [row] = [line for line in listed if key[-4:] in line]
    assert "editor" in row
    assert name in row
    assert "there is no organization 'Nobody'" in refusal(running.command("keys", "create", "--organization", "Nobody"))
    assert running.command("keys", "create", "--role", "owner").returncode == 2
    with client(server, key) as http:
        [seen] = http.get("/organizations/").json()
        assert (seen["id"], seen["name"], seen["role"], seen["key_role"]) == (id, name, "member", "editor")
        assert (seen["is_primary"], seen["is_first"], seen["enabled_features"]) == (True, False, [])
        assert http.get("/users/me/organizations").json() == [seen]
        assert http.get(f"/organizations/{id}").json() == seen
    with client(server, same) as http:
        assert http.get("/organizations").json()[0]["role"] == "admin"


def test_without_authentication_one_acts_as_admin_of_the_first_organization(running: Running, server: Server) -> None:
    new(running)
    [seen] = running.start().get("/organizations")
    assert (seen["role"], seen["key_role"], seen["is_first"]) == ("admin", "admin", True)


def test_the_first_organization_stays_the_first_if_the_clock_steps_back(fresh_database: Database) -> None:
    with fresh_database.session() as session:
        first = collections.organization(session).id
        session.add(Organization(name="from the past", created_at="1999-01-01T00:00:00Z"))
        session.flush()
        assert collections.organization(session).id == first
        assert [each.is_first for each in organizations.list_all(session)][:2] == [True, False]
        session.rollback()


def test_local_sources_belong_to_the_first_organization_and_to_those_that_have_roots(
    apart: Running,
) -> None:
    without, with_roots = new(apart), new(apart)
    given = {"AUTH_ENABLED": "true", "AIRWEAVE_ORGANIZATION_ROOTS": f"{with_roots}={apart.folders / 'own'}"}
    server = apart.start(**given)
    own, ours = server.folder("own"), server.folder("ours")
    for place, word in ((own, "curlews"), (ours, "herons")):
        (place / "note.md").write_text(f"a note about {word}")

    def wanted(path: Any, name: str) -> dict[str, Any]:
        return {
            "short_name": "folder", "readable_collection_id": name, "config": {"path": str(path)},
            "sync_immediately": False, "schedule": {"cron": None},
        }  # fmt: skip

    as_key = {each: made(apart, "keys", "create", "--organization", each) for each in (without, with_roots)}
    with client(server, as_key[without]) as http:
        assert http.post("/collections", json={"name": "Roots", "readable_id": "roots"}).status_code == 200
        for path in (own, ours, "/nowhere"):  # alike, whatever is there
            for route in ("/source-connections", "/source-connections/preview"):
                answer = http.post(route, json=wanted(path, "roots"))
                assert answer.status_code == 422, answer.text
                assert "this organization has no folders there" in answer.json()["detail"]
    with client(server, as_key[with_roots]) as http:
        assert http.post("/collections", json={"name": "Roots", "readable_id": "roots"}).status_code == 200
        for path in (ours, "/nowhere", own.parent):
            answer = http.post("/source-connections", json=wanted(path, "roots"))
            assert answer.status_code == 422
            assert "is outside the folders that this server may read" in answer.json()["detail"]
        connection = http.post("/source-connections", json=wanted(own, "roots")).json()["id"]
        assert http.patch(
            f"/source-connections/{connection}", json={"config": {"path": str(ours)}}
        ).status_code == 422  # fmt: skip

        def sync(http: httpx.Client) -> dict[str, Any]:
            job = http.post(f"/source-connections/{connection}/run").json()["id"]
            place = f"/source-connections/{connection}/jobs/{job}"
            over = ("completed", "failed", "cancelled")
            ended: dict[str, Any] = server.wait_for(lambda: http.get(place).json(), lambda seen: seen["status"] in over)
            return ended

        assert sync(http)["status"] == "completed"
        assert len(http.post("/collections/roots/search/instant", json={"query": "curlews"}).json()["results"]) == 1
    assert server.terminate() == 0
    server = apart.start(AUTH_ENABLED="true")
    with client(server, as_key[with_roots]) as http:  # they were taken away
        job = sync(http)
        assert job["status"] == "failed"
        assert "this organization has no folders there" in job["error"]
        assert len(http.post("/collections/roots/search/instant", json={"query": "curlews"}).json()["results"]) == 1


# An upgrade


def test_an_upgrade_makes_every_key_an_admin_and_the_oldest_organization_the_first(apart: Running) -> None:
    database = Database(apart.database_url)
    with database.engine.begin() as connection:
        upgrade(connection, "0012")
        for name, at in (("younger", "2026-02-01"), ("oldest", "2026-01-01")):
            id = connection.execute(
                text("insert into organization values (gen_random_uuid(), :name, :at, :at) returning id"),
                {"name": name, "at": at},
            ).scalar_one()
            connection.execute(
                text(
                    "insert into api_key (id, organization_id, name, hint, key_hash, expires_at) "
                    "values (gen_random_uuid(), :of, :name, 'abcd', :hash, now() + interval '1 day')"
                ),
                {"of": id, "name": name, "hash": keys.digest(f"aw_{name}")},
            )
    database.migrate()
    with database.session() as session:
        assert {key.name: key.role for key in session.query(ApiKey)} == {"younger": "admin", "oldest": "admin"}
        assert collections.organization(session).name == "oldest"
    database.close()
    server = apart.start(AUTH_ENABLED="true")
    for name, first in (("oldest", True), ("younger", False)):
        with client(server, f"aw_{name}") as http:
            [seen] = http.get("/organizations").json()
            assert (seen["name"], seen["key_role"], seen["is_first"]) == (name, "admin", first)
            assert http.get("/api-keys").status_code == 200


# The setting


def test_roots_of_organizations_that_cannot_be_read_are_one_line(running: Running) -> None:
    one, other = uuid4(), uuid4()
    for value in ("/srv/a", "default=/srv/a", f"{one}", f"{one}=/a;{one}=/b", f"{one}=/a;nobody=/b", '{"a": "/b"}'):
        line = refusal(running.command("status", AIRWEAVE_ORGANIZATION_ROOTS=value))
        assert line.startswith("airweave-server: AIRWEAVE_ORGANIZATION_ROOTS: entry "), line
        assert "is not ID=FOLDERS" in line
    read = Settings(organization_roots=f" {one}=/srv/a:/srv/b ; {other}= ;")  # type: ignore[arg-type]
    assert read.roots_of(one, is_first=False) == (Path("/srv/a"), Path("/srv/b"))
    assert read.roots_of(one, is_first=True) == (Path("/srv/a"), Path("/srv/b"))
    assert read.roots_of(other, is_first=True) == ()
    assert read.roots_of(uuid4(), is_first=False) == ()
    assert read.roots_of(uuid4(), is_first=True) == read.roots()
