"""One organization's many syncs do not make another's wait."""

from collections.abc import Callable, Iterator
from datetime import datetime

import httpx
import pytest
from sqlalchemy import text

from airweave_server.db import collections, keys
from airweave_server.db.models import Organization
from airweave_server.db.session import Database
from running import Running, Server

MANY = 60
AT_ONCE = 4
TAKES_S = 0.3
A_FEW = 2 * AT_ONCE


@pytest.fixture
def server(apart: Running) -> Server:
    return apart.start(AUTH_ENABLED="true", JOB_THREADS="2", TEMPORAL_JOBS=str(AT_ONCE))


@pytest.fixture
def database(apart: Running) -> Iterator[Database]:
    database = Database(apart.database_url)
    yield database
    database.close()


def key_of(database: Database, name: str) -> str:
    with database.session() as session:
        organization = collections.organization(session)
        if name != organization.name:
            organization = Organization(name=name)
            session.add(organization)
            session.flush()
        return keys.create(session, organization.id, name="a test's", days=1)[1]


def timed(http: httpx.Client, count: int) -> list[str]:
    """Connections whose syncs take ``TAKES_S`` each."""
    collection = {"name": "Queue", "readable_id": f"queue-{count}"}
    assert http.post("/collections", json=collection).status_code == 200
    made = []
    for number in range(count):
        body = {
            "short_name": "timed", "readable_collection_id": collection["readable_id"], "sync_immediately": False,
            "schedule": {"cron": None}, "authentication": {"credentials": {"timed_key": "k"}},
            "config": {"entity_count": 1, "duration_seconds": TAKES_S, "seed": number},
        }  # fmt: skip
        answer = http.post("/source-connections", json=body)
        assert answer.status_code == 200, answer.text
        made.append(str(answer.json()["id"]))
    return made


@pytest.mark.fault("F36", on="temporal")
def test_one_sync_behind_sixty_of_another_organization_starts_among_the_first(
    server: Server, database: Database, say: Callable[[str], None]
) -> None:
    with (
        httpx.Client(base_url=server.url, headers={"X-API-Key": key_of(database, "default")}, timeout=60) as of_a,
        httpx.Client(base_url=server.url, headers={"X-API-Key": key_of(database, "b")}, timeout=60) as of_b,
    ):
        queue, (single,) = timed(of_a, MANY), timed(of_b, 1)
        for connection in queue:
            assert of_a.post(f"/source-connections/{connection}/run").status_code == 200
        assert of_b.post(f"/source-connections/{single}/run").status_code == 200
    left = text("select count(*) from sync_job where status not in ('completed', 'failed', 'cancelled')")

    def waiting() -> int:
        with database.session() as session:
            return int(session.execute(left).scalar_one())

    server.wait_for(waiting, lambda count: count == 0, 150)
    with database.session() as session:
        rows = session.execute(
            text("select connection_id::text, status, created_at, started_at from sync_job order by started_at")
        ).all()
    assert len(rows) == MANY + 1
    assert {row.status for row in rows} == {"completed"}
    b = next(row for row in rows if row.connection_id == single)
    others = [row.started_at for row in rows if row is not b]
    ahead = begun_between(others, b.created_at, b.started_at)
    behind = begun_between(others, b.started_at, rows[-1].started_at)
    say(f"{ahead} of {MANY} started between its asking and its start, {behind} after it")
    assert ahead <= A_FEW
    assert behind > 0, "nothing was left in the queue: too slow a start to show anything"


def begun_between(moments: list[datetime], begin: datetime, end: datetime) -> int:
    return sum(begin <= moment <= end for moment in moments)
