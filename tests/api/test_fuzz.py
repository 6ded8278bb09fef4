"""Requests of every kind to every operation of the API: no answer is a 5xx, and none takes longer than 30 s."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from airweave_server.db import collections, keys
from airweave_server.db import organizations as service
from airweave_server.db.models import Organization
from airweave_server.db.session import Database
from fuzzing import Fuzz, Places, cases_for
from running import Running, Server

SHOWN = 20  # failed requests
SHUT_OUT = 0.1  # of the requests with authentication, without a key, and as many with a bad one

Judge = Callable[[Server, Fuzz, str], None]

pytestmark = pytest.mark.fault("F50", on="in_process")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--fuzz-seed")
    return random.SystemRandom().randrange(10**6) if given is None else given


@pytest.fixture
def requests(by_times: Callable[[float, float], float]) -> int:
    """How many each test sends; there are two."""
    return int(by_times(500, 5_000))


@pytest.fixture
def judge(request: pytest.FixtureRequest, say: Callable[[str], None], seed: int, requests: int) -> Judge:
    def judge(server: Server, fuzz: Fuzz, kind: str) -> None:
        fuzz.close()
        statuses = dict(sorted(fuzz.statuses().items()))
        name, took_s = fuzz.slowest()
        say(f"seed {seed}: {requests} requests: {statuses}; the slowest: {name}, {took_s:.2f} s")
        title = f"The slowest of {requests:,} requests {kind} authentication"
        request.node.user_properties.append(("table", "\n".join([title, *fuzz.table()])))
        failed = [line for line in server.log.read_text(errors="replace").splitlines() if "request_failed" in line]
        if fuzz.wrong or failed:
            shown = "\n".join([*fuzz.wrong[:SHOWN], *failed[:SHOWN]])
            pytest.fail(f"seed {seed}: {len(fuzz.wrong)} wrong:\n{shown}", pytrace=False)
        assert server.http.get("/health").json()["status"] == "healthy"
        assert fuzz.requests() == requests
        assert statuses[200] > requests / 10

    return judge


def test_without_authentication_nothing_fails_or_hangs(apart: Running, seed: int, requests: int, judge: Judge) -> None:
    server, chance = apart.start(), random.Random(seed)
    fuzz, places = Fuzz(server, chance), Places(server, {}, chance)
    fuzz.run(cases_for(server, requests, seed), places, {})
    judge(server, fuzz, "without")


def test_with_authentication_nothing_fails_hangs_or_is_given_to_others(
    apart: Running, seed: int, requests: int, judge: Judge
) -> None:
    (own, other), chance = organizations(apart), random.Random(seed)
    roots = f"{organization_of(apart, 'other')}={apart.folders}"
    server = apart.start(AUTH_ENABLED="true", AIRWEAVE_ORGANIZATION_ROOTS=roots)
    fuzz, places, foreign = Fuzz(server, chance), Places(server, own, chance), Places(server, other, chance)
    before = contents(server, other)
    cases, each = cases_for(server, requests, seed), int(requests * SHUT_OUT)
    fuzz.run(cases[: -2 * each], places, own, foreign=foreign)
    fuzz.run(cases[-2 * each : -each], places, {}, is_let_in=False)
    fuzz.run(cases[-each:], places, {"X-API-Key": "aw_" + "x" * 43}, is_let_in=False)
    judge(server, fuzz, "with")
    assert contents(server, other) == before


def organizations(running: Running) -> list[dict[str, str]]:
    """The headers of the organization that is made at first use, and of another."""
    database = Database(running.database_url)
    database.migrate()
    with database.session() as session:
        first, other = collections.organization(session), Organization(name="other")
        session.add(other)
        session.flush()
        made = [keys.create(session, each.id, name="a test's", days=1)[1] for each in (first, other)]
    database.close()
    return [{"X-API-Key": plain} for plain in made]


def organization_of(running: Running, name: str) -> str:
    """The id of the organization with this name."""
    database = Database(running.database_url)
    with database.session() as session:
        [found] = service.find(session, name)
    database.close()
    return str(found.id)


def contents(server: Server, headers: dict[str, str]) -> dict[str, Any]:
    """What an organization has, by path; without what its own jobs change."""

    def ids(path: str, *names: str) -> list[tuple[str, ...]]:
        answer = server.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return [tuple(each[name] for name in names) for each in answer.json()]

    found = {
        "/collections": ids("/collections", "readable_id", "name", "modified_at"),
        "/source-connections": ids("/source-connections", "id", "name", "modified_at"),
    }
    for connection, *_ in found["/source-connections"]:
        for kind in ("jobs", "held-deletes"):
            path = f"/source-connections/{connection}/{kind}"
            found[path] = ids(path, "id")
    return found
