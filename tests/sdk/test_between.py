"""What stands between a source and the network sees each request, may answer itself, and costs the source nothing."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import httpx
import pytest
from pydantic import SecretStr
from scripted_server import ScriptedServer, items

from airweave_server.sdk import AuthError, Bearer, BearerCredentials, Context, Patience, Stalled, Stopped, Unavailable
from airweave_server.sdk.http import Http

Send = Callable[[], httpx.Response]
HASTE = Patience(timeout_s=2, total_s=5, attempts=2, patience_s=0.5, backoff_s=0.01)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.partitions["a"] = items(25)
        yield server


def client(url: str, between: Callable[[httpx.Request, Send], httpx.Response], **options: int) -> Http:
    context = Context(allowed_hosts=("127.0.0.1",), patience=HASTE, between=between)
    credentials = BearerCredentials(access_token=SecretStr("a-token"))
    return Http(url, context=context, auth=Bearer(), credentials=credentials, **options)  # type: ignore[arg-type]


def test_it_sees_each_request_as_it_is_sent_and_each_answer_whole(server: ScriptedServer) -> None:
    seen: list[tuple[str, str, int]] = []

    def watch(request: httpx.Request, send: Send) -> httpx.Response:
        answer = send()
        seen.append((str(request.url), request.headers["authorization"], answer.status_code))
        assert answer.content
        return answer

    server.fault("status", status=500, page=1, times=1)
    with client(server.url, watch) as http:
        for page in (0, 1):
            assert len(http.json("/items", params={"partition": "a", "page": page})["items"]) == 10
    first, second = (f"{server.url}/items?partition=a&page={page}" for page in (0, 1))
    assert seen == [(url, "Bearer a-token", status) for url, status in ((first, 200), (second, 500), (second, 200))]
    assert server.requests == 3


def test_it_may_answer_in_place_of_the_vendor(server: ScriptedServer) -> None:
    replies = iter([httpx.Response(401), httpx.Response(200, json={"made": "up"})])
    with client(server.url, lambda request, send: next(replies)) as http:
        with pytest.raises(AuthError):
            http.json("/items")
        assert http.json("/items") == {"made": "up"}
    assert server.requests == 0


@pytest.mark.parametrize(("raised", "error"), [(httpcore.ReadTimeout, Stalled), (httpcore.ReadError, Unavailable)])
def test_trouble_of_its_own_is_trouble_of_the_way(
    server: ScriptedServer, raised: type[Exception], error: type[Exception]
) -> None:
    asked = 0

    def fail(request: httpx.Request, send: Send) -> httpx.Response:
        nonlocal asked
        asked += 1
        raise raised

    with client(server.url, fail) as http, pytest.raises(error, match="2 attempts"):
        http.json("/items")
    assert (asked, server.requests) == (2, 0)


def test_a_stop_of_its_own_ends_the_read(server: ScriptedServer) -> None:
    def stop(request: httpx.Request, send: Send) -> httpx.Response:
        raise Stopped("enough")

    with client(server.url, stop) as http, pytest.raises(Stopped, match="enough"):
        http.json("/items")


def test_a_packed_answer_is_unpacked_once_and_a_large_one_refused() -> None:
    class Packed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = gzip.compress(json.dumps({"text": "x" * 5_000}).encode())
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Packed)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{served.server_port}"
    try:
        with client(url, lambda request, send: send()) as http:
            assert http.json("/")["text"] == "x" * 5_000
        with client(url, lambda request, send: send(), max_bytes=20) as http, pytest.raises(Unavailable, match="20"):
            http.json("/")
    finally:
        served.shutdown()
        thread.join()
        served.server_close()
