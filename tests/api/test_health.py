"""Health, liveness and readiness: they answer whatever hangs, and tell strangers nothing of the place."""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text

from airweave_server.api.lanes import Lanes
from airweave_server.db import collections, keys
from airweave_server.db.session import Database
from running import TEMPORAL, Running, Server

ANSWER_S = 2.0


@contextmanager
def suspended(database: Database) -> Iterator[None]:
    """Postgres with all its processes stopped, as if its disk or machine hung."""
    with database.session() as session:
        backend = session.execute(text("select pg_backend_pid()")).scalar_one()
    postmaster = psutil.Process(backend).parent()
    assert postmaster is not None
    stopped = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def timed(server: Server, path: str, **headers: str) -> tuple[int, Any]:
    began_at = time.monotonic()
    answer = httpx.get(server.url + path, headers=headers, timeout=30)
    assert time.monotonic() - began_at < ANSWER_S, path
    return answer.status_code, answer.json()


@pytest.mark.fault("F47", only="in_process")
def test_health_answers_with_what_it_knows_while_postgres_hangs(server: Server, fresh_database: Database) -> None:
    server.collection()
    before = server.wait_for(lambda: server.get("/health"), lambda seen: seen["keeper"])
    assert (before["status"], before["database"], before["seen_s_ago"]) == ("healthy", "up", 0)
    places = Lanes().common.places
    with ThreadPoolExecutor(2 * places) as pool:
        with suspended(fresh_database):
            for _ in range(2):
                status, seen = timed(server, "/health")
                assert (status, seen["status"], seen["database"]) == (200, "degraded", "hanging")
                assert (seen["keeper"], seen["engine"]) == (before["keeper"], before["engine"])
                assert seen["seen_s_ago"] > 1
                status, seen = timed(server, "/health/ready")
                assert (status, seen["status"]) == (503, "not_ready")
                assert "no answer within" in seen["checks"]["database"]["error"]
                assert timed(server, "/health/live") == (200, {"status": "alive"})
            asked = [pool.submit(httpx.get, f"{server.url}/collections", timeout=30) for _ in range(2 * places)]
            time.sleep(ANSWER_S)
            refused = [each.result() for each in asked if each.done()]
            assert len(refused) >= places
            assert {(each.status_code, each.headers["retry-after"]) for each in refused} == {(503, "1")}
            assert timed(server, "/health/live") == (200, {"status": "alive"})
        assert {each.result().status_code for each in asked} <= {200, 503}
    server.wait_for(lambda: server.get("/health")["database"], lambda seen: seen == "up", 5)
    assert timed(server, "/health/ready")[1]["status"] == "ready"
    assert timed(server, "/collections")[0] == 200
    assert "request_failed" not in server.troubles()


@pytest.mark.parametrize("driver", [TEMPORAL], indirect=True)
def test_only_who_may_see_them_is_shown_host_names_process_ids_and_addresses(
    running: Running, fresh_database: Database
) -> None:
    with fresh_database.session() as session:
        _, key = keys.create(session, collections.organization(session).id, name="a test's", days=1)
    on_loopback = running.start(worker=False)
    shut = running.start(AUTH_ENABLED="true", worker=False)
    for_all = running.start(API_HOST="0.0.0.0", ALLOW_NO_AUTH="true", worker=False)
    places = [socket.gethostname(), str(running.temporal.port) if running.temporal else "", running.task_queue]
    on_loopback.wait_for(lambda: on_loopback.get("/health")["keeper"], bool)

    def shown(server: Server, **headers: str) -> list[str]:
        answer = httpx.get(f"{server.url}/health", headers=headers)
        assert answer.status_code == 200
        assert answer.json()["temporal"]["reachable"] is True
        assert answer.json()["keeper"]
        return [place for place in places if place in answer.text]

    assert shown(on_loopback) == places
    assert shown(shut) == shown(for_all) == shown(shut, **{"X-API-Key": "aw_guess"}) == []
    assert shown(shut, **{"X-API-Key": key}) == shown(shut, Authorization=f"Bearer {key}") == places
    for server in (shut, for_all):
        assert timed(server, "/health/live") == (200, {"status": "alive"})
        assert timed(server, "/health/ready")[0] == 200
