"""Credentials that expire: renewed once however many meet them, and never lost. The provider revokes a sign-in when one
of its refresh tokens is used twice, so every test that ends well has used none twice."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

import renewing
from airweave_server.vault import from_setting
from running import IN_PROCESS, TEMPORAL, Running, Server, plain
from servers.oauth_server import OAuthServer

PROCESSES = 8
HEEDED_S = 10.0  # in which a process ends that need not wait for its grace to be over
AT_ONCE_S = 2.0  # in which what does not wait for a source answers, on a busy machine
KEY = base64.b64encode(os.urandom(32)).decode()
VAULT = from_setting(KEY)
NEW_KEY = base64.b64encode(os.urandom(32)).decode()
BOTH = pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")
LONG_AGO = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


@pytest.fixture
def provider() -> Iterator[OAuthServer]:
    with OAuthServer() as started:
        yield started


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(VAULT_KEY=KEY)


def connect(server: Server, provider: OAuthServer, **config: Any) -> str:
    return server.connect(
        server.collection(), "oauth", {"url": provider.url, **config}, authentication=provider.sign_in()
    )


def request_of(server: Server, provider: OAuthServer, *, kind: str = "oauth", **changes: Any) -> dict[str, Any]:
    """What connects the provider with a new sign-in."""
    return {
        "short_name": kind,
        "readable_collection_id": server.collection(),
        "config": {"url": provider.url},
        "authentication": provider.sign_in() | changes,
        "sync_immediately": False,
        "schedule": {"cron": None},
    }


def rows(running: Running, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(plain(running.database_url), autocommit=True) as connection:
        return connection.execute(query, values).fetchall()


def stored(running: Running, connection: str) -> dict[str, Any]:
    """The credentials of a connection."""
    ((sealed,),) = rows(running, "select credentials from source_connection where id = %s", connection)
    return dict(json.loads(VAULT.open(sealed, owner=connection)))


def holds_the_newest(running: Running, connection: str, provider: OAuthServer) -> bool:
    return provider.is_newest(stored(running, connection)["refresh_token"])


def test_eight_processes_that_meet_an_expired_token_make_one_refresh(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    with ExitStack() as stack, ThreadPoolExecutor(PROCESSES) as threads:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, renewing.__file__, connection],
                    env=running.environment(VAULT_KEY=KEY),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for _ in range(PROCESSES)
        ]
        assert [said(process) for process in processes] == ["ready"] * PROCESSES
        for turn in (1, 2):
            provider.expire()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("read\n")
                process.stdin.flush()
            assert list(threads.map(said, processes)) == [str(len(provider.items))] * PROCESSES
            assert (provider.refreshes, provider.reused) == (turn, 0)
        assert provider.refused >= PROCESSES, "most of them met the expired token"
    assert holds_the_newest(running, connection, provider)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@BOTH
def test_a_slice_outlives_its_tokens(
    running: Running,
    server: Server,
    by_times: Callable[[float, float], float],
    say: Callable[[str], None],
    driver: str,
) -> None:
    slice_s, lifetime_s = by_times(6, 30), by_times(2, 5)
    with OAuthServer(items=300, lifetime_s=lifetime_s, latency_s=slice_s / 30) as provider:
        connection = connect(server, provider)
        job = server.sync(connection)
        assert (job["status"], job["entities_inserted"], job["error"]) == ("completed", 300, None)
        assert job["duration_seconds"] >= slice_s
        assert provider.reused == 0
        assert slice_s / lifetime_s - 1 <= provider.refreshes <= slice_s / (lifetime_s - 1) + 3
        assert holds_the_newest(running, connection, provider)
        say(f"{driver}: {provider.refreshes} refreshes in a slice of {job['duration_seconds']:.1f} s, 300 entities")


@pytest.mark.parametrize("driver", [TEMPORAL], indirect=True, scope="module")
def test_workers_that_share_a_job_share_its_tokens(
    running: Running, server: Server, say: Callable[[str], None]
) -> None:
    extra = [running.ready_worker(VAULT_KEY=KEY) for _ in range(2)]
    with OAuthServer(items=100, latency_s=0.1, lifetime_s=2) as provider:
        connection = connect(server, provider, parts=8)
        provider.expire()
        job = server.sync(connection)
        assert (job["status"], job["entities_inserted"]) == ("completed", 800)
        assert provider.reused == 0
        assert provider.refreshes <= job["duration_seconds"] + 2, "each token serves all of them for a second"
        say(f"{provider.refreshes} refreshes in {job['duration_seconds']:.1f} s of {1 + len(extra)} workers")
    for worker in extra:
        assert worker.terminate() == 0


@pytest.mark.parametrize("known", [True, False], ids=["by the clock", "by a 401"])
def test_a_token_renewed_by_a_create_that_fails_is_not_lost(
    running: Running, server: Server, provider: OAuthServer, known: bool
) -> None:
    body = request_of(server, provider, **({"expires_at": LONG_AGO} if known else {}))
    provider.expire()
    for status, refreshes in ((403, 1), (500, 1), (None, 1)):
        provider.api_status = status
        answer = server.http.post("/source-connections", json=body)
        assert (answer.status_code, provider.refreshes) == (200 if status is None else 400, refreshes), answer.text
    connection = answer.json()["id"]
    assert holds_the_newest(running, connection, provider)
    provider.expire()
    assert server.sync(connection)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (2, 0)
    assert holds_the_newest(running, connection, provider)


def test_a_token_renewed_by_a_create_that_is_killed_is_not_lost(apart: Running, provider: OAuthServer) -> None:
    server = apart.start(VAULT_KEY=KEY)
    body = request_of(server, provider, expires_at=LONG_AGO)
    provider.latency_s = 20
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(httpx.post, f"{server.url}/source-connections", json=body, timeout=60)
        server.wait_for(lambda: rows(apart, "select 1 from renewed_credentials"), bool)
        server.kill()
        with pytest.raises(httpx.TransportError):
            answer.result()
    provider.latency_s = 0
    server = apart.start(VAULT_KEY=KEY)
    connection = server.post("/source-connections", body)["id"]
    assert (provider.refreshes, provider.reused) == (1, 0)
    assert holds_the_newest(apart, connection, provider)


def test_a_token_renewed_by_a_change_that_fails_is_stored(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    place = f"/source-connections/{connection}"
    changed = {"config": {"url": provider.url, "note": "new"}}
    provider.expire()
    provider.api_status = 403
    assert server.http.patch(place, json=changed).status_code == 400
    assert (provider.refreshes, provider.reused) == (1, 0)
    assert holds_the_newest(running, connection, provider)
    assert "note" not in server.get(place)["config"] or server.get(place)["config"]["note"] == ""
    provider.api_status = None
    assert server.http.patch(place, json=changed).json()["config"]["note"] == "new"
    assert holds_the_newest(running, connection, provider)
    assert server.sync(connection)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (1, 0)


def test_new_credentials_renewed_by_a_change_that_fails_are_not_lost(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    before = stored(running, connection)
    sent = {"authentication": provider.sign_in()}
    provider.expire()
    provider.api_status = 500
    assert server.http.patch(f"/source-connections/{connection}", json=sent).status_code == 400
    assert stored(running, connection) == before
    provider.api_status = None
    assert server.http.patch(f"/source-connections/{connection}", json=sent).status_code == 200
    assert (provider.refreshes, provider.reused) == (1, 0)
    assert holds_the_newest(running, connection, provider)
    assert stored(running, connection)["refresh_token"] != before["refresh_token"]


def test_what_given_credentials_were_renewed_to_outlives_a_key_but_not_a_day(
    apart: Running, provider: OAuthServer
) -> None:
    server = apart.start(VAULT_KEY=KEY)
    body = request_of(server, provider, expires_at=LONG_AGO)
    provider.api_status = 403
    assert server.http.post("/source-connections", json=body).status_code == 400
    assert key_ids(apart) == [VAULT.key_id]
    age = "update renewed_credentials set created_at = now() - make_interval(hours => %s) returning 1"
    rows(apart, age, 23)
    assert server.terminate() == 0

    server = apart.start(VAULT_KEY=f"{NEW_KEY},{KEY}")
    server.wait_for(lambda: key_ids(apart), lambda seen: seen == [from_setting(NEW_KEY).key_id], 10)
    provider.api_status = None
    server.post("/source-connections", body)
    assert (provider.refreshes, provider.reused) == (1, 0)
    rows(apart, age, 25)
    assert server.terminate() == 0
    server = apart.start(VAULT_KEY=NEW_KEY)  # whose keeper looks at once
    server.wait_for(lambda: key_ids(apart), lambda left: not left)


def key_ids(running: Running) -> list[bytes]:
    """Of the keys that renewed credentials without a connection are sealed with."""
    return [VAULT.key_id_of(bytes(sealed)) for (sealed,) in rows(running, "select sealed from renewed_credentials")]


def test_a_preview_leaves_a_rotating_token_alone(running: Running, server: Server, provider: OAuthServer) -> None:
    body = request_of(server, provider)
    before = rows(running, "select count(*) from renewed_credentials")
    assert server.post("/source-connections/preview", body)["entities"] == len(provider.items)
    provider.expire()
    answer = server.http.post("/source-connections/preview", json=body)
    assert answer.status_code == 400
    assert "would use up" in answer.text
    assert "connect the source" in answer.text
    assert (provider.asked, provider.reused) == (0, 0)
    assert rows(running, "select count(*) from renewed_credentials") == before
    server.post("/source-connections", body)
    assert (provider.refreshes, provider.reused) == (1, 0)


def test_a_preview_renews_a_token_that_does_not_rotate_in_memory_only(running: Running, server: Server) -> None:
    with OAuthServer(rotates=False) as provider:
        body = request_of(server, provider, kind="oauth_static")
        before = rows(running, "select count(*) from renewed_credentials")
        provider.expire()
        assert server.post("/source-connections/preview", body)["entities"] == len(provider.items)
        assert provider.refreshes == 1
        assert rows(running, "select count(*) from renewed_credentials") == before


def test_the_token_of_a_run_is_neither_renewed_nor_stored(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    of_row = """
        select credentials, config_version, (select count(*) from renewed_credentials)
        from source_connection where id = %s
    """
    before = rows(running, of_row, connection)
    job = server.sync(connection, access_token=provider.sign_in()["access_token"])
    assert (job["status"], job["entities_inserted"]) == ("completed", len(provider.items))

    provider.latency_s = 0.5
    job_id = server.run(connection, access_token=provider.sign_in()["access_token"], force_full_sync=True)
    seen = len(provider.log)
    server.wait_for(lambda: len(provider.log) >= seen + 2, bool)
    provider.expire()
    job = server.finish(connection, job_id)
    assert (job["status"], job["error_kind"]) == ("failed", "access_token_refused")
    assert provider.asked == 0
    assert rows(running, of_row, connection) == before
    shown = server.get(f"/source-connections/{connection}")
    assert (shown["status"], shown["auth"]["authenticated"]) == ("error", True)

    provider.latency_s = 0
    assert server.sync(connection)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (1, 0)


@BOTH
def test_a_cancel_in_the_middle_of_a_token_request_loses_no_token(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    provider.expire()
    provider.slow_s = 3
    job = server.run(connection)
    server.wait_for(lambda: provider.refreshes, bool)  # the former one is used up, the new one not answered
    server.post(f"/source-connections/{connection}/jobs/{job}/cancel")
    assert server.finish(connection, job)["status"] == "cancelled"
    provider.slow_s = 0
    assert server.sync(connection)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (1, 0)
    assert holds_the_newest(running, connection, provider)


@pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")
def test_the_end_of_a_process_in_the_middle_of_a_token_request_loses_no_token(
    apart: Running, provider: OAuthServer
) -> None:
    server = apart.start(VAULT_KEY=KEY)
    connection = connect(server, provider)
    provider.expire()
    provider.slow_s = 2
    job = server.run(connection)
    server.wait_for(lambda: provider.refreshes, bool)
    assert server.terminate() == 0
    provider.slow_s = 0
    server = apart.start(VAULT_KEY=KEY)
    assert server.finish(connection, job)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (1, 0)
    assert holds_the_newest(apart, connection, provider)


def test_one_that_waits_for_another_to_renew_may_be_stopped_or_killed(apart: Running, provider: OAuthServer) -> None:
    server = apart.start(VAULT_KEY=KEY, WORKER_GRACE_S="30")
    connection = connect(server, provider)
    provider.expire()
    with psycopg.connect(plain(apart.database_url)) as other:
        name = f"credentials {connection}"
        other.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))
        job = server.run(connection)
        server.wait_for(lambda: provider.refused, bool)
        began_at = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began_at < HEEDED_S
        refused = provider.refused
        server = apart.start(VAULT_KEY=KEY)
        server.wait_for(lambda: provider.refused > refused, bool)
        server.kill()
    server = apart.start(VAULT_KEY=KEY)
    assert server.finish(connection, job)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (1, 0)


def test_a_provider_that_is_down_is_tried_again(server: Server, provider: OAuthServer) -> None:
    connection = connect(server, provider, timeout_s=1)
    provider.expire()
    provider.token_answers = [(500, {}, b""), (503, {}, b"")]
    job = server.sync(connection)
    assert (job["status"], provider.asked, provider.refreshes) == ("completed", 3, 1)
    provider.expire()
    provider.hang_s = 3
    job_id = server.run(connection)
    server.wait_for(lambda: provider.asked, lambda asked: asked == 4)
    provider.hang_s = 0
    assert server.finish(connection, job_id)["status"] == "completed"
    assert (provider.refreshes, provider.reused) == (2, 0)


def test_a_sign_in_that_was_revoked_asks_for_a_person(running: Running, server: Server, provider: OAuthServer) -> None:
    connection = connect(server, provider)
    provider.revoke()
    job = server.sync(connection)
    assert (job["status"], job["error_category"]) == ("failed", "oauth_credentials_expired")
    assert "(invalid_grant): sign in again" in job["error"]
    assert provider.asked == 1, "no other try"
    shown = server.get(f"/source-connections/{connection}")
    assert (shown["status"], shown["auth"]["authenticated"]) == ("needs_reauth", False)
    answer = server.http.patch(f"/source-connections/{connection}", json={"authentication": provider.sign_in()})
    assert answer.status_code == 200
    assert server.sync(connection)["status"] == "completed"
    assert server.get(f"/source-connections/{connection}")["status"] == "active"


def test_a_change_that_waits_for_the_source_keeps_nobody_waiting(server: Server, provider: OAuthServer) -> None:
    connection = connect(server, provider)
    place = f"/source-connections/{connection}"
    provider.latency_s = 4
    with ThreadPoolExecutor(1) as thread:
        seen = len(provider.log)
        began_at = time.monotonic()
        change = thread.submit(
            httpx.patch, server.url + place, json={"config": {"url": provider.url, "note": "new"}}, timeout=60
        )
        threading.Event().wait(0.5)
        assert len(provider.log) == seen, "the source keeps the change waiting"
        for ask in (
            lambda: server.get("/source-connections"),
            lambda: server.get(place),
            lambda: server.http.patch(place, json={"name": "renamed"}).raise_for_status(),
            lambda: server.run(connection),
        ):
            asked_at = time.monotonic()
            ask()
            assert time.monotonic() - asked_at < AT_ONCE_S
        assert not change.done()
        assert change.result().status_code == 200
        assert time.monotonic() - began_at > 3.5
        provider.latency_s = 0
    shown = server.get(place)
    assert (shown["name"], shown["config"]["note"]) == ("renamed", "new")
    former, latest = sorted(server.get(f"{place}/jobs"), key=lambda job: job["created_at"])
    assert server.finish(connection, former["id"])["status"] == "cancelled"
    assert server.finish(connection, latest["id"])["status"] == "completed"


def test_of_two_changes_at_once_none_is_mixed_with_the_other(
    running: Running, server: Server, provider: OAuthServer
) -> None:
    connection = connect(server, provider)
    provider.latency_s = 1
    sent = {name: provider.sign_in() for name in ("a", "b")}

    def change(name: str) -> httpx.Response:
        body = {"config": {"url": provider.url, "note": name}, "authentication": sent[name]}
        return httpx.patch(f"{server.url}/source-connections/{connection}", json=body, timeout=60)

    with ThreadPoolExecutor(2) as threads:
        answers = dict(zip(sent, threads.map(change, sent), strict=True))
    (won,) = [name for name, answer in answers.items() if answer.status_code == 200]
    (lost,) = [answer for answer in answers.values() if answer.status_code != 200]
    assert lost.status_code == 400
    assert "was changed meanwhile; look at it, and try again" in lost.text
    note = server.get(f"/source-connections/{connection}")["config"]["note"]
    assert (note, stored(running, connection)["refresh_token"]) == (won, sent[won]["refresh_token"])
