"""Schedules: what is due runs once, what changes counts from the next look, and refused credentials make it wait."""

import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from invariants import agree, hold
from running import Running, Server, plain
from servers.scripted_server import ScriptedServer, items

HOURLY = "7 * * * *"
MANY_LOOKS_S = 2.5  # five ticks


def is_due(running: Running, connection: str) -> None:
    """Move the time it fires next into the past."""
    with psycopg.connect(plain(running.database_url)) as database:
        database.execute(
            "update source_connection set next_run_at = now() - interval '1 hour' where id = %s", (connection,)
        )


def jobs_of(server: Server, connection: str) -> list[dict[str, Any]]:
    return list(server.get(f"/source-connections/{connection}/jobs"))


def moment(shown: str) -> datetime:
    return datetime.fromisoformat(shown)


def schedule_of(server: Server, connection: str) -> Any:
    return server.get(f"/source-connections/{connection}")["schedule"]


def test_refused_credentials_pause_the_schedule_and_new_ones_catch_up_once(
    running: Running, server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(20)
    connection = server.connect_to(source, cron=HOURLY)
    source.token = "another-token"
    is_due(running, connection)
    (job,) = server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 1)
    refused = server.finish(connection, job["id"])
    assert (refused["status"], refused["trigger"]) == ("failed", "schedule")

    shown = server.get(f"/source-connections/{connection}")
    assert (shown["status"], shown["auth"]["authenticated"]) == ("needs_reauth", False)
    assert (shown["schedule"]["cron"], shown["schedule"]["next_run"]) == (HOURLY, None)
    assert "credentials were refused" in shown["schedule"]["paused_reason"]
    listed = next(one for one in server.get("/source-connections", limit=1000) if one["id"] == connection)
    assert (listed["status"], listed["is_authenticated"]) == ("needs_reauth", False)
    is_due(running, connection)
    time.sleep(MANY_LOOKS_S)
    assert len(jobs_of(server, connection)) == 1

    body = {"authentication": {"credentials": {"token": "another-token"}}}
    patched = server.http.patch(f"/source-connections/{connection}", json=body)
    assert patched.status_code == 200, patched.text
    assert patched.json()["schedule"]["paused_reason"] is None
    newest, _ = server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 2)
    done = server.finish(connection, newest["id"])
    assert (done["status"], done["trigger"], done["entities_inserted"]) == ("completed", "schedule", 20)
    assert schedule_of(server, connection)["next_run"] is not None
    time.sleep(MANY_LOOKS_S)
    assert len(jobs_of(server, connection)) == 2
    hold(running, refused, done)
    agree(running, connection, source.listed())


def test_a_sync_that_works_again_takes_the_pause_away(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(5)
    connection = server.connect_to(source, cron=HOURLY)
    with ScriptedServer() as other_source:
        other_source.partitions["a"] = items(5)
        other = server.connect_to(other_source, cron=HOURLY)
        assert server.sync(other)["status"] == "completed"
    source.token = "another-token"
    assert server.sync(connection)["status"] == "failed"
    assert schedule_of(server, connection)["paused_reason"] is not None
    assert schedule_of(server, other)["paused_reason"] is None  # the refusal is of the one alone
    source.token = None
    assert server.sync(connection)["status"] == "completed"
    assert schedule_of(server, connection)["paused_reason"] is None
    is_due(running, connection)
    server.wait_for(lambda: jobs_of(server, connection), lambda found: len(found) == 3)


@pytest.mark.parametrize("how", ["changed", "taken away", "deleted"])
def test_what_becomes_of_a_schedule_counts_from_the_next_look(
    running: Running, server: Server, source: ScriptedServer, how: str
) -> None:
    source.partitions["a"] = items(5)
    connection = server.connect_to(source, cron=HOURLY)
    place = f"/source-connections/{connection}"
    if how == "deleted":
        assert server.http.delete(place).status_code == 200
    else:
        cron = "0 0 29 2 *" if how == "changed" else None
        assert server.http.patch(place, json={"schedule": {"cron": cron}}).status_code == 200
    with psycopg.connect(plain(running.database_url)) as database:
        query = "select count(*) from source_connection where id = %s and next_run_at < now() + interval '1 day'"
        assert database.execute(query, (connection,)).fetchone() == (0,)
    time.sleep(MANY_LOOKS_S)
    if how != "deleted":
        assert jobs_of(server, connection) == []


def test_continuous_is_every_few_minutes_where_the_source_tells_its_changes(
    server: Server, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(5)
    connection = server.connect_to(source, "scripted_incremental", cron=HOURLY)
    assert schedule_of(server, connection)["continuous"] is False
    place = f"/source-connections/{connection}"
    patched = server.http.patch(place, json={"schedule": {"cron": None, "continuous": True}}).json()["schedule"]
    assert (patched["cron"], patched["continuous"]) == ("*/5 * * * *", True)

    cannot = server.connect_to(source, cron=HOURLY)
    answer = server.http.patch(f"/source-connections/{cannot}", json={"schedule": {"continuous": True}})
    assert answer.status_code == 400
    assert "does not support continuous syncs" in answer.json()["detail"]
    assert schedule_of(server, cannot)["cron"] == HOURLY


def test_a_job_that_runs_is_not_started_beside_itself(running: Running, server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(40)
    source.latency_s = 0.6
    connection = server.connect_to(source, cron=HOURLY)
    job, now = server.run(connection), datetime.now(UTC)
    is_due(running, connection)
    fires_next = server.wait_for(lambda: schedule_of(server, connection)["next_run"], lambda at: moment(at) > now, 20)
    assert moment(fires_next).minute == 7
    time.sleep(MANY_LOOKS_S)
    assert [one["id"] for one in jobs_of(server, connection)] == [job]
    assert server.finish(connection, job)["status"] == "completed"
