"""Live progress as server-sent events: real servers, real streams, clients that go away or do not read."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from airweave_server.api.watches import MOST_OF_ONE, STOPPING
from running import IN_PROCESS, TEMPORAL, Running, Server
from servers.scripted_server import ScriptedServer, items

PATIENCE_S = 60.0  # against hangs
Event = dict[str, Any]


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(PROGRESS_HEARTBEAT_S="0.2")


@contextmanager
def stream(url: str) -> Iterator[Iterator[Event]]:
    """The events of an open stream."""
    with httpx.stream("GET", url, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


def events(answer: httpx.Response) -> Iterator[Event]:
    for line in answer.iter_lines():
        assert not line or line.startswith("data: "), line
        if line:
            yield json.loads(line.removeprefix("data: "))


def whole(url: str) -> list[Event]:
    """All events to the end of the stream."""
    with stream(url) as opened:
        return list(opened)


def of(server: Server, job: str, what: str = "subscribe") -> str:
    return f"{server.url}/sync/job/{job}/{what}"


def half_read(server: Server, source: ScriptedServer) -> tuple[str, str, str]:
    """Collection, connection and job: the first page of two is in the index, and the source says wait."""
    source.partitions["a"] = items(20)
    source.fault("status", status=429, retry_after=1, page=1)
    collection = server.collection()
    connection = server.connect_to(source, collection=collection, patience_s=0)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_inserted"] == 10)
    return collection, connection, job


@pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True)
def test_who_watches_sees_the_state_at_once_then_a_heartbeat_what_changes_and_the_end(
    server: Server, source: ScriptedServer, driver: str
) -> None:
    _, connection, job = half_read(server, source)
    assert server.job(connection, job)["engine"] == driver
    with ExitStack() as stack:
        progress = stack.enter_context(stream(of(server, job)))
        state = stack.enter_context(stream(f"{server.url}/api/v1/sync/job/{job}/subscribe-state/"))
        for opened in (progress, state):
            assert next(opened) == {"type": "connected", "job_id": job}
        seen, held = next(progress), next(state)
        assert (seen["status"], seen["inserted"], seen["entities_encountered"]) == ("running", 10, {"all": 10})
        assert (held["type"], held["sync_id"], held["job_status"]) == ("entity_state", connection, "running")
        assert held["entity_counts"] == {"ScriptedEntity": 10}
        for opened in (progress, state):
            assert next(event for event in opened if event.get("type") == "heartbeat")
        source.faults.clear()
        *_, seen, end = progress
        *_, held, complete = state
    counts = {name: seen[name] for name in ("inserted", "updated", "deleted", "kept", "skipped", "failed")}
    assert counts == {"inserted": 20, "updated": 0, "deleted": 0, "kept": 0, "skipped": 0, "failed": 0}
    assert (seen["status"], seen["phase"], seen["entities_encountered"]) == ("completed", "done", {"all": 20})
    assert (seen["partitions_done"], seen["partitions_total"], seen["waiting_for"]) == (1, 1, None)
    assert end == {"type": "end", "job_id": job, "status": "completed", "error": None}
    assert (held["entity_counts"], held["job_status"]) == ({"ScriptedEntity": 20}, "completed")
    assert complete.pop("timestamp")
    assert complete == {
        "type": "sync_complete",
        "job_id": job,
        "sync_id": connection,
        "is_complete": True,
        "is_failed": False,
        "final_counts": {"ScriptedEntity": 20},
        "total_entities": 20,
        "total_operations": 20,
        "final_status": "completed",
        "error": None,
    }


def test_who_comes_late_sees_the_state_and_the_end(server: Server, source: ScriptedServer) -> None:
    source.partitions["a"] = items(3)
    source.fault("status", status=401, path="/items", times=1)
    connection = server.connect_to(source)
    failed, completed = server.sync(connection), server.sync(connection)
    for job, status in ((failed, "failed"), (completed, "completed")):
        connected, seen, end = whole(of(server, job["id"]) + "/")
        assert connected == {"type": "connected", "job_id": job["id"]}
        assert (seen["status"], seen["inserted"]) == (status, job["entities_inserted"])
        assert (end["type"], end["status"], end["error"]) == ("end", status, job["error"])
        assert [event["type"] for event in whole(of(server, job["id"], "subscribe-state"))] == [
            "connected",
            "entity_state",
            "sync_complete",
        ]
    assert failed["error"]
    for what in ("subscribe", "subscribe-state"):  # another organization's: tests/api/test_auth.py
        assert httpx.get(of(server, str(uuid4()), what)).json() == {"detail": "Job not found"}
        assert httpx.get(of(server, "no-uuid", what)).status_code == 422


def test_the_end_of_a_deleted_connection_is_told(server: Server, source: ScriptedServer) -> None:
    _, connection, job = half_read(server, source)
    with stream(of(server, job)) as opened:
        assert next(opened)["type"] == "connected"
        assert server.http.delete(f"/source-connections/{connection}").status_code == 200
        *_, last = opened
    # whether the purge or the look comes first is chance
    assert (last["type"], last.get("status")) == ("end", "cancelled") or "was deleted" in last["message"]
    assert httpx.get(of(server, job)).status_code == 404


def test_streams_are_bounded_and_those_that_nobody_reads_or_that_are_gone_keep_nobody_waiting(
    server: Server, source: ScriptedServer
) -> None:
    _, _, job = half_read(server, source)
    with ExitStack() as stack:
        opened = stack.enter_context(stream(of(server, job)))
        next(opened)
        deaf = [stack.enter_context(subscribed(server, job)) for _ in range(MOST_OF_ONE - 1)]
        refused = httpx.get(of(server, job))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert f"at most {MOST_OF_ONE} per organization" in refused.json()["detail"]
        deaf[0].close()  # with what it was sent unread: the connection is reset
        server.wait_for(lambda: status(of(server, job)), lambda code: code == 200)
        source.faults.clear()
        *_, last = opened
    assert (last["type"], last["status"]) == ("end", "completed")


@contextmanager
def subscribed(server: Server, job: str) -> Iterator[socket.socket]:
    """A client that asked and reads nothing."""
    place = urlsplit(of(server, job))
    with socket.create_connection((place.hostname, place.port)) as client:
        client.sendall(f"GET {place.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(1, socket.MSG_PEEK)  # it was answered
        yield client


def status(url: str) -> int:
    """What is answered to who comes and leaves at once."""
    with httpx.stream("GET", url, timeout=PATIENCE_S) as answer:
        return answer.status_code


def test_a_server_that_stops_ends_its_streams_and_says_so(running: Running, source: ScriptedServer) -> None:
    stopping = running.start(worker=False)
    _, _, job = half_read(stopping, source)
    with stream(of(stopping, job)) as opened:
        assert next(opened)["type"] == "connected"
        stopping.process.send_signal(signal.SIGTERM)
        *_, last = opened
    assert last == {"type": "error", "message": STOPPING}
    assert stopping.process.wait(PATIENCE_S) == 0
    assert "Cancel" not in stopping.tail()
