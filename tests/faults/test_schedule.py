"""Schedules over an outage of Temporal: one job catches up, however many times were missed."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from running import Running, Server, TemporalServer, plain
from servers.scripted_server import ScriptedServer, items

HOURLY = "7 * * * *"
MISSED = 50  # hours


@pytest.fixture
def own_temporal(scratch: Path, apart: Running) -> Iterator[TemporalServer]:
    """A Temporal server of this test's own, to be taken down."""
    server = TemporalServer(scratch / f"temporal-{apart.task_queue}")
    apart.temporal = server
    yield server
    server.stop()


class NotInUtc(AssertionError):
    """A time that is right in another zone."""


def move_back(running: Running, connection: str, hours: int) -> None:
    with psycopg.connect(plain(running.database_url)) as database:
        database.execute(
            "update source_connection set next_run_at = now() - make_interval(hours => %s) where id = %s",
            (hours, connection),
        )


def jobs_of(server: Server, connection: str) -> list[dict[str, Any]]:
    return list(server.get(f"/source-connections/{connection}/jobs"))


def fires_next(server: Server, connection: str) -> datetime:
    return datetime.fromisoformat(server.get(f"/source-connections/{connection}")["schedule"]["next_run"])


def correct(fires: datetime) -> None:
    """In the future, in UTC, at the next minute 7, and no later."""
    assert fires.utcoffset() == timedelta(0)
    assert (fires.minute, fires.second, fires.microsecond) == (7, 0, 0)
    ahead = fires - datetime.now(UTC)
    assert timedelta(seconds=-1) < ahead <= timedelta(hours=1), ahead


@pytest.mark.fault("F39", on="temporal", only="temporal")
def test_many_missed_times_are_caught_up_by_one_job_when_temporal_is_back(
    apart: Running, own_temporal: TemporalServer, source: ScriptedServer, by_times: Callable[[float, float], float]
) -> None:
    server = apart.start(TEMPORAL_REQUIRED="true")
    source.partitions["a"] = items(20)
    connection = server.connect_to(source, cron=HOURLY)
    correct(fires_next(server, connection))
    own_temporal.kill()
    move_back(apart, connection, MISSED)
    moved = fires_next(server, connection)
    time.sleep(by_times(3, 25))  # many looks at the schedules
    assert jobs_of(server, connection) == []
    assert fires_next(server, connection) == moved  # it is still due
    assert server.http.post(f"/source-connections/{connection}/run").status_code == 503
    assert server.http.get("/health").status_code == 200

    own_temporal.start()
    (job,) = server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) > 0, 60)
    done = server.finish(connection, job["id"], 90)
    assert (done["status"], done["trigger"], done["engine"]) == ("completed", "schedule", "temporal")
    assert done["entities_inserted"] == 20
    correct(fires_next(server, connection))
    time.sleep(by_times(2, 12))
    assert [one["id"] for one in jobs_of(server, connection)] == [job["id"]]


@pytest.mark.fault("F39", on="temporal", only="temporal")
def test_a_schedule_fires_in_process_while_temporal_is_away(
    apart: Running, own_temporal: TemporalServer, source: ScriptedServer, by_times: Callable[[float, float], float]
) -> None:
    server = apart.start()
    source.partitions["a"] = items(20)
    connection = server.connect_to(source, cron=HOURLY)
    own_temporal.kill()
    move_back(apart, connection, MISSED)
    (job,) = server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) > 0, 60)
    done = server.finish(connection, job["id"], 90)
    assert (done["status"], done["trigger"], done["engine"]) == ("completed", "schedule", "in_process")
    assert "Temporal" in done["engine_reason"]
    correct(fires_next(server, connection))

    own_temporal.start()  # nothing of the outage comes after it, and the next time is Temporal's again
    time.sleep(by_times(2, 12))
    assert [one["id"] for one in jobs_of(server, connection)] == [job["id"]]
    server.wait_for(lambda: server.get("/health"), lambda health: health["engine"] == "temporal", 30)
    move_back(apart, connection, 1)
    newest, _ = server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 2, 60)
    assert server.finish(connection, newest["id"], 90)["status"] == "completed"
    assert server.job(connection, newest["id"])["engine"] == "temporal"


@pytest.mark.fault("F39", on="temporal", only="temporal")
def test_a_schedule_is_in_utc_whatever_zone_the_server_and_the_database_are_in(
    apart: Running, source: ScriptedServer
) -> None:
    zone = "America/St_Johns"  # half an hour off, and its clocks change
    with psycopg.connect(plain(apart.database_url), autocommit=True) as database:
        name = database.execute("select current_database()").fetchone()
        assert name is not None
        database.execute(f"alter database {name[0]} set timezone = '{zone}'")
    server = apart.start(TZ=zone, worker=False)
    source.partitions["a"] = items(5)
    connection = server.connect_to(source, cron="30 2 * * *")
    fires = fires_next(server, connection)
    assert (fires.astimezone(UTC).hour, fires.astimezone(UTC).minute) == (
        2,
        30,
    )  # an hour that a change of clocks skips
    move_back(apart, connection, 1)
    server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 1)
    fires = fires_next(server, connection).astimezone(UTC)
    if (fires.hour, fires.minute) != (2, 30):
        raise NotInUtc(str(fires))
    assert timedelta(0) < fires - datetime.now(UTC) <= timedelta(hours=24)
