"""Clients that send slowly, too much, or without end, over raw sockets: they cost little, and hold nothing for long."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import psutil
import pytest

from airweave_server.api.gate import BUFFERED_BYTES, MAX_HEADER_BYTES, SILENCE_S
from airweave_server.api.protocol import HEAD_S, MOST_CONNECTIONS
from airweave_server.db import collections, keys
from airweave_server.db.session import Database
from running import Running, Server

MB = 1024 * 1024
BODIES = 40
LATE_S = 5.0  # more than its time, on a machine with much else to do


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start(AUTH_ENABLED="true")


@pytest.fixture(scope="module")
def key(server: Server, fresh_database: Database) -> str:
    with fresh_database.session() as session:
        return keys.create(session, collections.organization(session).id, name="a test's", days=1)[1]


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as client:
        yield client


def post(length: int, *more: str) -> bytes:
    lines = ("POST /collections HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more)
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def answer(client: socket.socket) -> tuple[int, str]:
    """Status and text of the response, as far as it comes before the connection is closed."""
    received = b""
    with suppress(ConnectionError):
        while part := client.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body.decode()


def first_line(client: socket.socket) -> str:
    """The first line of one response, which is read to its end: head and body may come apart."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536) or b"\r\n\r\n"
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    with suppress(ConnectionError):
        while len(body) < length and (part := client.recv(65536)):
            body += part
    return head.split(b"\r\n")[0].decode()


def resident_mb(server: Server) -> float:
    return psutil.Process(server.process.pid).memory_info().rss / MB


def test_what_never_ends_is_closed_in_time(server: Server, key: str) -> None:
    with ExitStack() as stack:
        silent, head, dripping, refused, body = (stack.enter_context(connected(server)) for _ in range(5))
        began_at = time.monotonic()
        head.sendall(b"GET /collections HTTP/1.1\r\nHost: localhost\r\n")
        dripping.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first_line(dripping) == "HTTP/1.1 200 OK"
        dripping.sendall(b"GET /health/live HTTP/1.1\r\nX-Drop: ")
        refused.sendall(post(MB))
        assert first_line(refused) == "HTTP/1.1 401 Unauthorized"
        body.sendall(post(MB, f"X-API-Key: {key}") + b'{"name": ')
        while time.monotonic() - began_at < HEAD_S - 2:
            time.sleep(1)
            dripping.sendall(b"x")
            refused.sendall(b" ")
        assert answer(body)[0] == 408
        for client in (silent, head, dripping, refused):
            assert answer(client)[0] in (0, 408)
        assert HEAD_S - 2 < time.monotonic() - began_at < max(HEAD_S, SILENCE_S) + LATE_S
    with connected(server) as client:
        for _ in range(3):  # one connection, as long as each head comes in time
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert first_line(client) == "HTTP/1.1 200 OK"
            time.sleep(1)


@pytest.mark.parametrize("of_many", [True, False])
def test_a_head_larger_than_it_may_be_is_refused(server: Server, of_many: bool) -> None:
    line = b"X-Filler: " + b"x" * (1000 if of_many else MAX_HEADER_BYTES) + b"\r\n"
    with connected(server) as client:
        with suppress(ConnectionError):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + line * (MAX_HEADER_BYTES // 900))
        assert answer(client)[0] in (0, 400, 431)
    with connected(server) as client:
        client.sendall(b"GET /" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer(client)[0] == 401


def test_the_key_comes_before_the_body_and_what_is_refused_is_not_kept(server: Server, key: str) -> None:
    with connected(server) as client:
        client.sendall(post(9 * MB, "X-API-Key: aw_guess"))  # and nothing of the body
        assert first_line(client) == "HTTP/1.1 401 Unauthorized"
    with connected(server) as client:
        client.sendall(post(9 * MB, "Expect: 100-continue"))
        assert first_line(client) == "HTTP/1.1 401 Unauthorized"  # instead of 100 Continue
    before_mb = resident_mb(server)
    with ExitStack() as stack:
        clients = []
        for _ in range(BODIES):
            clients.append(client := stack.enter_context(connected(server)))
            client.settimeout(1)
            with suppress(TimeoutError, ConnectionError):
                client.sendall(post(10 * MB) + b" " * 9 * MB)
        assert resident_mb(server) - before_mb < 60
        assert {first_line(client) for client in clients} == {"HTTP/1.1 401 Unauthorized"}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_connection_goes_on_after_a_body_that_was_refused(server: Server, at_once: bool) -> None:
    alive = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(server) as client:
        for _ in range(3):
            client.sendall(post(MB))  # no key: refused before its body
            assert first_line(client) == "HTTP/1.1 401 Unauthorized"
            client.sendall(b" " * MB + alive * at_once)
            if not at_once:
                time.sleep(0.3)
                client.sendall(alive)
            assert first_line(client) == "HTTP/1.1 200 OK"


def test_unfinished_bodies_with_a_key_are_bounded_together(server: Server, key: str) -> None:
    before_mb = resident_mb(server)
    with ExitStack() as stack:
        clients = []
        for _ in range(BODIES):
            clients.append(client := stack.enter_context(connected(server)))
            client.settimeout(1)
            with suppress(TimeoutError, ConnectionError):
                client.sendall(post(10 * MB, f"X-API-Key: {key}") + b" " * 9 * MB)
        assert resident_mb(server) - before_mb < 200
        with connected(server) as other:  # a small one is taken all the same
            body = json.dumps({"name": "Small"}).encode()
            other.sendall(post(len(body), f"X-API-Key: {key}", "Connection: close") + body)
            assert answer(other)[0] == 200
        held = 0
        for client in clients:
            client.settimeout(0.2)
            try:
                assert first_line(client) == "HTTP/1.1 503 Service Unavailable"
            except TimeoutError:
                held += 1
        assert held <= BUFFERED_BYTES // (9 * MB) + 1
    time.sleep(0.5)
    with connected(server) as client:  # and the room is free again
        body = json.dumps({"name": "Large", "unknown": "x" * 9 * MB}).encode()
        client.sendall(post(len(body), f"X-API-Key: {key}", "Connection: close") + body)
        assert answer(client)[0] == 200


def test_idle_connections_make_room_for_new_ones(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4_096)), hard))
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(MOST_CONNECTIONS + 20)]
        for _ in range(3):
            with connected(server) as client:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert answer(client)[0] == 200
        idle[0].settimeout(1)
        assert answer(idle[0])[0] == 0  # the oldest made room
    assert psutil.Process(server.process.pid).num_fds() < MOST_CONNECTIONS + 100
