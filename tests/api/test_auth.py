"""API keys and organizations: who may come in, and that nobody sees what belongs to others."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

from airweave_server.api import roles
from airweave_server.db import collections, keys
from airweave_server.db.models import ApiKey, Organization
from airweave_server.db.session import Database
from running import Running, Server

GUESSERS = 16
IDS = (
    *("readable_id", "connection_id", "job_id", "plan_id"),
    *("subscription_id", "message_id", "key_id", "organization_id"),
)
STUB = {"authentication": {"credentials": {"stub_key": "k"}}}


@dataclass
class Tenant:
    """One organization's side of the API."""

    organization: UUID
    key: str
    http: httpx.Client

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(AUTH_ENABLED="true")


@pytest.fixture(scope="module")
def first(server: Server, fresh_database: Database) -> Iterator[Tenant]:
    """The organization that is made at first use."""
    with fresh_database.session() as session:
        organization = collections.organization(session).id
    yield from tenant(server, fresh_database, organization)


@pytest.fixture(scope="module")
def second(server: Server, fresh_database: Database, first: Tenant) -> Iterator[Tenant]:
    """Another organization, and a key of its own."""
    with fresh_database.session() as session:
        organization = Organization(name="other")
        session.add(organization)
        session.flush()
    yield from tenant(server, fresh_database, organization.id)


def tenant(server: Server, database: Database, organization: UUID) -> Iterator[Tenant]:
    plain = key_of(database, organization)
    with httpx.Client(base_url=server.url, headers={"X-API-Key": plain}, timeout=60) as client:
        yield Tenant(organization, plain, client)


def key_of(database: Database, organization: UUID, **values: Any) -> str:
    with database.session() as session:
        key, plain = keys.create(session, organization, name="a test's", days=1)
        for name, value in values.items():
            setattr(key, name, value)
    return plain


def status(server: Server, path: str = "/collections", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(server.url + path, headers=named).status_code


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 401, answer.text
    assert answer.json().keys() == {"detail"}
    return str(answer.json()["detail"])


# Keys


def test_no_key_and_one_that_never_was_are_401(server: Server, first: Tenant) -> None:
    assert "X-API-Key" in refused(httpx.get(f"{server.url}/collections"))
    for given in ("garbage", "aw_" + "x" * 43, first.key[:-1], first.key + "x", first.key.upper(), "é", "x" * 5000):
        assert "revoked" in refused(httpx.get(f"{server.url}/collections", headers={"X-API-Key": given.encode()}))
    assert status(server, Authorization=f"Basic {first.key}") == 401
    assert status(server, Authorization=first.key) == 401


def test_a_key_is_taken_from_either_header_and_from_nowhere_else(server: Server, first: Tenant) -> None:
    assert status(server, X_API_Key=first.key) == 200
    assert status(server, x_api_key=first.key) == 200
    assert status(server, Authorization=f"Bearer {first.key}") == 200
    assert status(server, Authorization=f"bearer {first.key}") == 200
    for name in ("api_key", "key", "x-api-key", "X-API-Key", "token", "access_token", "authorization"):
        assert httpx.get(f"{server.url}/collections", params={name: first.key}).status_code == 401
    assert httpx.get(f"{server.url}/collections", cookies={"x-api-key": first.key}).status_code == 401


def test_every_route_but_health_wants_a_key(server: Server) -> None:
    open_ones = {"/health", "/health/live", "/health/ready", "/entities/definitions/by-source"}
    described = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    tried = 0
    for path, ways in described.items():
        for method in ways:
            place = path
            for name in ("connection_id", "job_id", "plan_id"):
                place = place.replace(f"{{{name}}}", str(uuid4()))
            body = {"name": "Name", "short_name": "stub", "readable_collection_id": "c", "query": "q"}
            sent = body if method in ("post", "patch", "put") else None
            answer = httpx.request(method, server.url + place, json=sent, params={"source_short_name": "stub"})
            assert (answer.status_code == 200) == (path in open_ones), f"{method} {path}: {answer.status_code}"
            assert answer.status_code in (200, 401)
            tried += 1
    assert tried >= 25
    assert open_ones <= described.keys()


def test_an_expired_key_is_401(server: Server, first: Tenant, fresh_database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    expiring = key_of(fresh_database, first.organization, expires_at=soon)
    expired = key_of(fresh_database, first.organization, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert status(server, X_API_Key=expired) == 401
    assert status(server, X_API_Key=expiring) == 200
    server.wait_for(lambda: status(server, X_API_Key=expiring), lambda seen: seen == 401, 10)
    assert datetime.now(UTC) >= soon


def test_the_command_makes_lists_and_revokes_keys(server: Server, running: Running, first: Tenant) -> None:
    made = running.command("keys", "create", "--name", "robot", "--days", "7")
    assert made.returncode == 0, made.stderr
    plain = made.stdout.strip()
    assert plain.startswith("aw_")
    assert len(plain) > 40
    key_id = made.stderr.split()[1].rstrip(",")
    assert f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}" in made.stderr
    assert status(server, X_API_Key=plain) == 200

    listed = running.command("keys", "list", COLUMNS="250")
    assert listed.returncode == 0, listed.stderr
    [row] = [line for line in listed.stdout.splitlines() if key_id in line]
    assert "robot" in row
    assert plain[-4:] in row
    assert plain not in listed.stdout

    revoked = running.command("keys", "revoke", key_id)
    assert revoked.returncode == 0, revoked.stderr
    assert status(server, X_API_Key=plain) == 401
    for id, words in ((key_id, "no valid key"), ("no-uuid", "is not a key id")):
        again = running.command("keys", "revoke", id)
        assert again.returncode == 1
        assert words in again.stderr
        assert len(again.stderr.strip().splitlines()) == 1


def test_a_revocation_holds_within_a_second(server: Server, first: Tenant, fresh_database: Database) -> None:
    plain = key_of(fresh_database, first.organization)
    assert status(server, X_API_Key=plain) == 200
    with fresh_database.session() as session:
        key = keys.find_valid(session, plain)
        assert key is not None
        assert keys.revoke(session, first.organization, key.id)
    revoked_at = time.monotonic()
    server.wait_for(lambda: status(server, X_API_Key=plain), lambda seen: seen == 401, 1)
    assert time.monotonic() - revoked_at < 1


def test_only_a_hash_of_a_key_is_in_the_database(first: Tenant, fresh_database: Database) -> None:
    with fresh_database.session() as session:
        rows = [str(row) for (row,) in session.execute(text("select t::text from api_key t"))]
        stored = {bytes(key.key_hash) for key in session.query(ApiKey)}
    assert keys.digest(first.key) in stored
    assert rows
    for form in (first.key, first.key.removeprefix("aw_"), first.key.encode().hex()):
        assert not any(form in row for row in rows)


# Organizations


@pytest.fixture(scope="module")
def theirs(first: Tenant, server: Server) -> dict[str, str]:
    """What the first organization has: ids by the names of the routes' parameters."""
    folder = server.folder()
    for number in range(30):
        (folder / f"secret-{number}.txt").write_text(f"The vault of the first organization holds note{number}.")
    collection = str(first.post("/collections", {"name": "Ours alone", "readable_id": "ours-alone"})["readable_id"])
    connection = str(
        first.post(
            "/source-connections",
            {
                "short_name": "folder",
                "readable_collection_id": collection,
                "config": {"path": str(folder)},
                "sync_immediately": False,
                "name": "Secret notes",
            },
        )["id"]
    )

    def sync() -> str:
        job = str(first.post(f"/source-connections/{connection}/run")["id"])
        place = f"/source-connections/{connection}/jobs/{job}"
        ended = server.wait_for(lambda: first.get(place), lambda seen: seen["status"] not in ("pending", "running"))
        assert ended["status"] == "completed", ended
        return job

    sync()
    for number in range(20):
        (folder / f"secret-{number}.txt").unlink()
    job = sync()
    [plan] = first.get(f"/source-connections/{connection}/held-deletes")
    assert plan["total"] == 20
    hook = first.post("/webhooks/subscriptions", {"url": "https://example.com/ours", "event_types": ["sync.completed"]})
    return {
        "readable_id": collection,
        "connection_id": connection,
        "job_id": job,
        "plan_id": str(plan["id"]),
        "subscription_id": str(hook["id"]),
        "message_id": str(first.get("/webhooks/messages")[0]["id"]),
        "key_id": str(first.post("/api-keys", {"name": "another of ours"})["id"]),
        "organization_id": str(first.organization),
    }


ROUTES = [
    (method, path)
    for method, _, path in (route.partition(" ") for route in roles.NEEDED)  # it is whole, see test_roles.py
    if any(f"{{{name}}}" in path for name in IDS)
] + [("DELETE", "/api-keys")]
PLAIN = [route.partition(" ")[2] for route in roles.NEEDED if route.startswith("GET ") and "{" not in route]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_is_anothers_answers_as_what_is_not_there(
    first: Tenant, second: Tenant, theirs: dict[str, str], method: str, path: str
) -> None:
    nowhere = {name: f"no-{uuid4().hex}" if name == "readable_id" else str(uuid4()) for name in theirs}
    bodies = {
        "PATCH": {"name": "Taken over", "disabled": True},
        "POST": {"query": "vault", "embedder": "minilm", "since": "2026-01-01T00:00:00"},
    }
    asked = {"entity_id": "secret-0.txt", "query": "vault", "include_secret": True, "include_attempts": True}
    for headers in (
        {},
        {"X-Organization-ID": str(first.organization)},
        {"X-Organization-ID": "1"},
        {"X-Organization-Id": str(first.organization), "X-Org": str(first.organization)},
    ):

        def ask(ids: dict[str, str], sent: dict[str, str] = headers) -> tuple[int, str]:
            answer = second.http.request(
                method,
                path.format(**ids),
                json=bodies.get(method),
                headers=sent,
                params={**asked, "id": ids["key_id"]},
            )
            said = answer.text
            for name, id in ids.items():
                said = said.replace(id, name)
            return answer.status_code, said

        seen = ask(theirs)
        assert seen[0] == 404, seen
        assert seen == ask(nowhere)


def test_what_one_organization_does_changes_no_answer_to_another(
    first: Tenant, second: Tenant, theirs: dict[str, str], server: Server
) -> None:
    def look() -> dict[str, Any]:
        """All that the other organization is told that is about no single thing."""
        seen: dict[str, Any] = {path: second.get(path) for path in PLAIN if path != "/files"}
        seen["health"] = {
            name: value
            for name, value in second.get("/health").items()
            if name not in ("seen_s_ago", "storage")  # which change by themselves
        }
        seen["counts"] = [second.get("/collections/count", search=part) for part in ("ours", "o", "%", "")]
        seen["anybody"] = httpx.get(f"{server.url}/health").json()["last_full_listing"]
        for key in seen["/api-keys"]:
            key["last_used_date"] = None
        return seen

    before = look()
    assert before["anybody"] == {"oldest": None, "newest": None}
    assert first.get("/health")["last_full_listing"]["newest"] is not None
    assert before["health"]["last_full_listing"] == {"oldest": None, "newest": None}
    first.post("/collections", {"name": "Ours again", "readable_id": "ours-again"})
    first.post("/api-keys", {"name": "ours"})
    wanted = {"short_name": "stub", "readable_collection_id": "ours-again", "config": {"entity_count": 2}, **STUB}
    connection = first.post("/source-connections", wanted)["id"]  # and it is synced
    limit = first.http.put("/source-rate-limits/scripted", json={"limit": 3, "window_seconds": 60})
    assert limit.status_code == 200, limit.text
    assert look() == before
    server.wait_for(
        lambda: first.get(f"/source-connections/{connection}/jobs")[0]["status"], lambda seen: seen == "completed"
    )
    time.sleep(2.5)  # a probe of health is as old
    assert look() == before
    for name in (*theirs.values(), str(first.organization), "Ours", "Secret notes"):
        assert name not in str(before)
    for path in ("/metrics", "/api/v1/metrics/"):  # they are about all
        assert second.http.get(path).status_code == 401


def test_ids_that_are_anothers_cannot_be_reached_through_ones_own(
    second: Tenant, theirs: dict[str, str], server: Server
) -> None:
    second.post("/collections", {"name": "Of the second", "readable_id": "second-own"})
    wanted = {
        "short_name": "stub", "readable_collection_id": "second-own", "config": {"entity_count": 2},
        "sync_immediately": False, **STUB,
    }  # fmt: skip
    own = second.post("/source-connections", wanted)["id"]
    for method, path in ROUTES:
        if "{job_id}" in path or "{plan_id}" in path:
            mixed = {**theirs, "connection_id": own}
            answer = second.http.request(method, path.format(**mixed))
            unknown = second.http.request(
                method, path.format(**{**mixed, "job_id": str(uuid4()), "plan_id": str(uuid4())})
            )
            assert (answer.status_code, answer.text) == (404, unknown.text), path
    into_theirs = second.http.post(
        "/source-connections", json={**wanted, "readable_collection_id": theirs["readable_id"]}
    )
    assert (into_theirs.status_code, into_theirs.json()) == (404, {"detail": "Collection not found"})


def test_lists_counts_and_searches_show_nothing_of_others(
    first: Tenant, second: Tenant, theirs: dict[str, str], server: Server
) -> None:
    for place, more in (
        ("/collections", {"search": "ours"}),
        ("/collections", {"search": theirs["readable_id"]}),
        ("/source-connections", {"collection": theirs["readable_id"]}),
    ):
        assert second.get(place, **more) == []
    assert second.get("/collections/count", search="ours") == 0
    for place in ("/collections", "/source-connections"):
        seen = second.http.get(place, headers={"X-Organization-ID": str(first.organization)}).text
        assert not any(id in seen for id in theirs.values())
        assert str(first.organization) not in seen

    # the same readable id may stand in both, and each sees its own
    assert second.post("/collections", {"name": "Same id", "readable_id": theirs["readable_id"]})["name"] == "Same id"
    body = {
        "query": "vault of the first organization",
        "filter": [
            {
                "conditions": [
                    {
                        "field": "airweave_system_metadata.sync_id", "operator": "in",
                        "value": [theirs["connection_id"]],
                    }
                ]
            }
        ],
    }  # fmt: skip
    place = f"/collections/{theirs['readable_id']}/search/instant"
    assert second.post(place, body)["results"] == []
    assert len(first.post(place, body)["results"]) == 30
    assert second.http.delete(f"/collections/{theirs['readable_id']}").status_code == 200
    assert first.get(f"/collections/{theirs['readable_id']}")["name"] == "Ours alone"


def test_after_all_that_nothing_of_the_first_has_changed(first: Tenant, theirs: dict[str, str]) -> None:
    assert first.get(f"/source-connections/{theirs['connection_id']}")["name"] == "Secret notes"
    assert len(first.get(f"/source-connections/{theirs['connection_id']}/jobs")) == 2
    [plan] = first.get(f"/source-connections/{theirs['connection_id']}/held-deletes")
    assert plan["total"] == 20
    hook = first.get(f"/webhooks/subscriptions/{theirs['subscription_id']}")
    assert (hook["url"], hook["disabled"]) == ("https://example.com/ours", False)
    assert first.get(f"/api-keys/{theirs['key_id']}")["revoked_at"] is None


# Addresses


def test_an_address_that_others_reach_wants_authentication(running: Running) -> None:
    done = running.command("api", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("airweave-server: API_HOST=0.0.0.0 ")
    for way_out in ("AUTH_ENABLED=true", "ALLOW_NO_AUTH=true"):
        assert way_out in line
    server = running.start(API_HOST="0.0.0.0", ALLOW_NO_AUTH="true")
    assert status(server) == 200
    assert server.terminate() == 0


def test_a_thousand_bad_keys_are_slowed_down_and_good_ones_are_not(running: Running, first: Tenant) -> None:
    server = running.start(AUTH_ENABLED="true", API_HOST="0.0.0.0")

    def guess(number: int) -> httpx.Response:
        return server.http.get("/sources", headers={"X-API-Key": f"aw_guess{number}"})

    with ThreadPoolExecutor(GUESSERS) as pool:
        answers = list(pool.map(guess, range(1_000)))
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert len(slowed) >= 1_000 - 20 - GUESSERS
    assert all(0 < int(answer.headers["Retry-After"]) <= 60 and answer.json()["detail"] for answer in slowed)
    for _ in range(25):  # as many users behind one address would: a good key works whatever others send
        assert guess(1).status_code == 429
        assert status(server, X_API_Key=first.key) == 200
    assert status(server, "/health") == status(server, "/health/ready") == 200
    assert "aw_guess" not in server.log.read_text()
