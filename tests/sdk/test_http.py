"""The guarded client against real servers: what it withstands, what it refuses, what it never tells."""

import contextlib
import datetime
import gzip
import ipaddress
import itertools
import json
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from scripted_server import ScriptedServer, items

from airweave_server.sdk import (
    ApiKey,
    ApiKeyCredentials,
    AuthError,
    ConfigError,
    Context,
    Patience,
    Rate,
    RateLimited,
    Stopped,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.http import Http
from airweave_server.sdk.vendor import Asked, Reply, Vendor

CANARY = "canary-7f3a"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.partitions["a"] = items(25)
        yield server


@pytest.fixture
def open_http() -> Iterator[Callable[..., Http]]:
    with contextlib.ExitStack() as stack:

        def make(url: str, **options: Any) -> Http:
            allowed = options.pop("allowed", ("127.0.0.1",))
            context = options.pop("context", None) or Context(allowed_hosts=allowed)
            return stack.enter_context(Http(url, context=context, **{"backoff_s": 0.01, **options}))

        yield make


@contextlib.contextmanager
def answering(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does with each connection what it is told to; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    hits: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return

            def play(connection: socket.socket = connection) -> None:
                with connection, contextlib.suppress(OSError):
                    serve(connection)

            hits.append(threading.Thread(target=play, daemon=True))
            hits[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def pages(http: Http) -> list[str]:
    found, page = [], 0
    while page is not None:
        answer = http.json("/items", params={"partition": "a", "page": page})
        found += [item["id"] for item in answer["items"]]
        page = answer["next"]
    return found


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "cut"},
        {"kind": "garbage"},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_passing_trouble_is_tried_again(server: ScriptedServer, open_http: Any, fault: dict[str, Any]) -> None:
    server.fault(**fault, page=1, times=2)
    assert len(pages(open_http(server.url))) == 25
    assert [request["page"] for request in server.log] == [0, 1, 1, 1, 2]


def test_trouble_that_stays_is_raised_after_a_bounded_number_of_attempts(
    server: ScriptedServer, open_http: Any
) -> None:
    server.fault("status", status=500, page=1)
    with pytest.raises(Unavailable, match=r"/items answers 500 \(4 attempts\)"):
        pages(open_http(server.url))
    assert len(server.log) == 5


def test_a_third_of_errors_resets_and_truncations_lose_nothing(server: ScriptedServer, open_http: Any) -> None:
    server.partitions["a"] = items(200)
    for kind in ("status", "reset", "truncate"):
        server.fault(kind, probability=0.1, **({"status": 500} if kind == "status" else {}))
    assert pages(open_http(server.url, attempts=10)) == [item["id"] for item in items(200)]


def test_retry_after_is_waited_for(server: ScriptedServer, open_http: Any) -> None:
    server.fault("status", status=503, retry_after=2, page=1, times=1)
    assert len(pages(open_http(server.url))) == 25
    first, second = (request["at"] for request in server.log if request["page"] == 1)
    assert 2.0 <= second - first < 4


def test_retry_after_may_be_a_date(server: ScriptedServer, open_http: Any) -> None:
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=5)
    server.fault("status", status=429, retry_after=format_datetime(when, usegmt=True), page=0)
    with pytest.raises(RateLimited) as caught:
        pages(open_http(server.url))
    assert 17_900 < caught.value.retry_after_s < 18_100


def test_a_longer_wait_than_patience_is_left_to_the_engine(server: ScriptedServer, open_http: Any) -> None:
    server.fault("status", status=429, retry_after=30)
    with pytest.raises(RateLimited) as caught:
        pages(open_http(server.url, patience_s=5))
    assert caught.value.retry_after_s == 30
    assert len(server.log) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "1e9", "9" * 400, "Thu, 99 Foo 2024"])
def test_a_senseless_retry_after_is_a_passing_trouble(server: ScriptedServer, open_http: Any, value: str) -> None:
    server.fault("status", status=429, retry_after=value, times=1)
    assert len(pages(open_http(server.url))) == 25


@pytest.mark.parametrize(
    ("status", "listing", "entity"),
    [
        (401, AuthError, AuthError),
        (403, AuthError, Unreadable),
        (404, ConfigError, Unreadable),
        (410, ConfigError, Unreadable),
        (400, ConfigError, ConfigError),
    ],
)
def test_what_a_refusal_means_depends_on_what_was_asked_for(
    server: ScriptedServer, open_http: Any, status: int, listing: type[Exception], entity: type[Exception]
) -> None:
    server.fault("status", status=status)
    http = open_http(server.url)
    with pytest.raises(listing):
        http.json("/items")
    with pytest.raises(entity):
        http.open("/content/x")
    assert len(server.log) == 2, "a final refusal is not tried again"


def test_a_source_that_hangs_ends_in_time(server: ScriptedServer, open_http: Any) -> None:
    server.fault("hang")
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer in time"):
        pages(open_http(server.url, timeout_s=0.5, attempts=2))
    assert time.monotonic() - began < 4


def test_a_source_that_drips_ends_in_time(server: ScriptedServer, open_http: Any) -> None:
    server.fault("drip", every_s=0.1)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        pages(open_http(server.url, timeout_s=5, total_s=0.5, attempts=2))
    assert time.monotonic() - began < 5


def test_headers_that_drip_end_in_time(open_http: Any) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(10_000)
        for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX-Long: ", itertools.repeat(ord("a"))):
            connection.send(bytes([byte]))
            time.sleep(0.05)

    began = time.monotonic()
    with answering(drip) as url, pytest.raises(Unavailable, match="in time"):
        open_http(url, timeout_s=5, total_s=1, attempts=1).get("/")
    assert time.monotonic() - began < 4


def test_a_waiting_read_stops_when_it_is_told_to(server: ScriptedServer, open_http: Any) -> None:
    server.fault("hang")
    context = Context(allowed_hosts=("127.0.0.1",))
    timer = threading.Timer(0.3, context.stop.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        open_http(server.url, context=context).get("/items")
    timer.join()
    assert time.monotonic() - began < 2


def test_an_answer_that_is_too_large_is_cut_off(open_http: Any) -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65_536)

    with answering(flood) as url:
        http = open_http(url, max_bytes=1_000_000)
        with pytest.raises(Unavailable, match="too_large"):
            http.get("/")
        with pytest.raises(Unreadable, match="too_large: the limit is 1 MB"):
            http.open("/")


def test_a_compressed_answer_is_measured_unpacked(open_http: Any) -> None:
    bomb = gzip.compress(b"\0" * 30_000_000)

    def explode(connection: socket.socket) -> None:
        connection.recv(10_000)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        connection.sendall(head.encode() + bomb)
        connection.recv(1)

    with answering(explode) as url, pytest.raises(Unavailable, match="too_large"):
        open_http(url, max_bytes=1_000_000).get("/")


def test_a_stream_comes_piece_by_piece_and_breaks_loudly(server: ScriptedServer, open_http: Any) -> None:
    server.partitions["a"] = [{"id": "big", "text": "x" * 3_000_000}]
    http = open_http(server.url)
    server.fault("status", status=500, times=2)
    with http.stream("/content/big") as pieces:
        sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == 3_000_000
    assert max(sizes) < 1_000_000
    server.fault("cut")
    with pytest.raises(Unavailable, match="broke off"), http.stream("/content/big") as pieces:
        for _ in pieces:
            pass


def test_a_request_while_streaming_leaves_the_stream_its_time(server: ScriptedServer, open_http: Any) -> None:
    server.partitions["a"] = [{"id": "big", "text": "x" * 3_000_000}]
    http = open_http(server.url, total_s=0.5)
    with http.stream("/content/big", total_s=30) as pieces:
        size = len(next(pieces))
        http.get("/partitions")
        time.sleep(0.7)
        size += sum(map(len, pieces))
    assert size == 3_000_000


def test_requests_begin_no_faster_than_the_rate(server: ScriptedServer, open_http: Any) -> None:
    http = open_http(server.url, rate=Rate(requests=5, per_s=0.5))
    threads = [threading.Thread(target=http.get, args=("/partitions",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    begun = sorted(request["at"] for request in server.log)
    assert len(begun) == 16
    windows = [later - earlier for earlier, later in zip(begun, begun[5:], strict=False)]
    assert min(windows) > 0.35, "some 6 requests arrived in less than about 0.5 s"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "localhost", "0.0.0.0", "0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255"),
        *("240.0.0.1", "192.0.2.1", "198.18.0.1", "[ff0e::1]", "[2001:db8::1]", "[100::1]", "①②⑦.⓪.⓪.①"),
    ],
)
def test_an_address_that_is_not_public_gets_no_packet(host: str, open_http: Any) -> None:
    hits: list[socket.socket] = []
    with answering(hits.append) as url:
        port = url.rpartition(":")[2]
        with pytest.raises(ConfigError):
            open_http(f"http://{host}:{port}", allowed=()).get("/")
    assert not hits


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost", "LocalHost."])
def test_the_operator_may_allow_a_host_or_a_network(server: ScriptedServer, open_http: Any, allowed: str) -> None:
    host = "localhost" if "local" in allowed.lower() else "127.0.0.1"
    url = f"http://{host}:{server.url.rpartition(':')[2]}"
    assert open_http(url, allowed=(allowed,)).get("/partitions").status == 200


def test_the_address_that_was_checked_is_the_one_connected_to(
    server: ScriptedServer, open_http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def flipping(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "flip.example":
            return real(host, *arguments, **options)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", flipping)
    url = f"http://flip.example:{server.url.rpartition(':')[2]}"
    assert open_http(url).get("/partitions").status == 200
    assert len(asked) == 1
    assert server.log[0]["headers"]["host"] == url.removeprefix("http://")
    with pytest.raises(ConfigError, match="not a public address"):
        open_http(url).get("/partitions")


def test_a_name_with_one_private_address_is_refused(open_http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: mixed)
    with pytest.raises(ConfigError, match="not a public address"):
        open_http("http://mixed.example").get("/")


def test_a_redirect_is_followed_and_checked(server: ScriptedServer, open_http: Any) -> None:
    server.fault("redirect", to="/partitions", path="/old")
    server.fault("redirect", to="http://127.0.0.5:1/secret", path="/private")
    server.fault("redirect", to="file:///etc/passwd", path="/file")
    server.fault("redirect", to="/round", path="/round")
    http = open_http(server.url)
    assert http.json("/old") == {"partitions": ["a"]}
    with pytest.raises(ConfigError, match="not a public address"):
        http.json("/private")
    with pytest.raises(ConfigError, match="not a web address"):
        http.json("/file")
    with pytest.raises(Unavailable, match="redirects more than 5 times"):
        http.json("/round")


def test_credentials_do_not_follow_to_another_origin(server: ScriptedServer, open_http: Any) -> None:
    headers = {"Authorization": SecretStr(f"Bearer {CANARY}"), "X-Api-Key": SecretStr(CANARY)}
    with ScriptedServer() as other:
        http = open_http(server.url, headers=headers)
        server.fault("redirect", to=f"{other.url}/partitions", path="/away")
        server.fault("redirect", to="/partitions", path="/here")
        http.json("/away")
        http.json("/here")
        http.json(f"{other.url}/partitions", params={"next": 1})
        assert CANARY not in json.dumps(other.log)
        assert len(other.log) == 2
    assert [request["headers"]["x-api-key"] for request in server.log] == [CANARY] * 3


def test_a_query_by_post_is_tried_again_and_redirected(server: ScriptedServer, open_http: Any) -> None:
    server.fault("status", status=500, path="/query", times=1)
    server.fault("redirect", to="/kept", status=307, path="/query", times=1)
    server.fault("redirect", to="/partitions", status=303, path="/kept")
    assert open_http(server.url).json("/query", body={"q": 1}) == {"partitions": ["a"]}
    sent = [(request["method"], request["path"], request["body"]) for request in server.log]
    assert sent == [
        *[("POST", "/query", '{"q":1}')] * 2,
        ("POST", "/kept", '{"q":1}'),
        ("GET", "/partitions", ""),
    ]


def test_odd_json_is_passed_on(server: ScriptedServer, open_http: Any) -> None:
    server.fault("raw", body='{"a": NaN, "b": "\\ud800", "c": "\\u0000"}', times=1)
    answer = open_http(server.url).json("/")
    assert answer["a"] != answer["a"]
    assert (answer["b"], answer["c"]) == ("\ud800", "\0")
    server.fault("raw", body="ImH//vBiIg==", base64=True, times=1)  # no UTF-8
    assert open_http(server.url).json("/") == "a\ufffd\ufffd\ufffdb"
    server.fault("raw", body="[" * 100_000, times=4)
    with pytest.raises(Unavailable, match="not JSON"):
        open_http(server.url).json("/")


@pytest.mark.parametrize(
    "url", ["ftp://example.com", "example.com", "http://", "http://[::1", "file:///etc/passwd", ""]
)
def test_only_web_addresses_are_taken(url: str, open_http: Any) -> None:
    with pytest.raises(ConfigError):
        open_http(url)


def test_no_error_tells_a_secret(server: ScriptedServer, open_http: Any, caplog: pytest.LogCaptureFixture) -> None:
    faults: list[dict[str, Any]] = [
        *({"kind": "status", "status": status} for status in (400, 401, 403, 404, 418, 429, 500, 503)),
        *({"kind": kind} for kind in ("reset", "truncate", "cut", "garbage")),
        {"kind": "redirect", "to": f"ftp://u:{CANARY}@h/?k={CANARY}"},
        {"kind": "redirect", "to": f"http://127.0.0.5:1/?k={CANARY}"},
    ]
    headers = {"Authorization": SecretStr(f"Bearer {CANARY}")}
    told = []
    with caplog.at_level("INFO"):
        for fault in faults:
            server.faults = [fault]
            http = open_http(server.url, headers=headers, attempts=1)
            with pytest.raises(Exception, match=r".+") as caught:
                http.json("/items", params={"key": CANARY})
            told.append("".join(traceback.format_exception(caught.value)))
            told.append(repr(http))
    for make in (
        lambda: open_http(f"http://user:{CANARY}@127.0.0.1"),
        lambda: open_http(f"nonsense://{CANARY}"),
        lambda: open_http(server.url, headers={"X-Key": f"{CANARY}\r\nX: 1"}),
        lambda: open_http(server.url, headers={"X-Key": f"{CANARY}é"}),
    ):
        with pytest.raises((ConfigError, AuthError)) as refused:
            make()
        told.append(str(refused.value))
    assert CANARY not in "\n".join(told) + caplog.text


def test_a_host_that_does_not_resolve_or_answer_is_unavailable(open_http: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot be reached"):
        open_http(f"http://127.0.0.1:{port}", attempts=2).get("/")
    with pytest.raises(Unavailable, match="cannot be reached"):
        open_http("http://no-such-host.invalid", attempts=1).get("/")


def test_certificates_are_checked_against_the_name(
    tmp_path: Path, open_http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def answer(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True) as secured:
            secured.recv(10_000)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with answering(answer) as url:
        port = url.rpartition(":")[2]
        assert open_http(f"https://localhost:{port}", allowed=("localhost",)).json("/") == {}
        with pytest.raises(Unavailable, match="cannot be reached"):
            open_http(f"https://127.0.0.1:{port}", attempts=1).json("/")


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    clear = serialization.NoEncryption()
    (folder / "cert").write_bytes(certificate.public_bytes(pem))
    (folder / "priv").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, clear))
    return folder / "cert", folder / "priv"


def test_a_conditional_request_may_be_answered_not_modified(open_http: Any) -> None:
    def unchanged(connection: socket.socket) -> None:
        while connection.recv(65_536):
            connection.sendall(b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\n\r\n")

    with answering(unchanged) as url:
        http = open_http(url, attempts=1)
        assert http.get("/items", headers={"If-None-Match": '"1"'}).status == 304
        assert http.get("/items", headers={"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}).body == b""
        with pytest.raises(Unavailable, match="304"):
            http.get("/items")


def test_the_rate_of_the_context_is_kept_unless_another_is_given(server: ScriptedServer, open_http: Any) -> None:
    booked: list[Rate] = []

    def pace(rate: Rate) -> float:
        booked.append(rate)
        return 0.0

    context = Context(allowed_hosts=("127.0.0.1",), rate=Rate(5, 1), pace=pace)
    open_http(server.url, context=context).get("/partitions")
    open_http(server.url, context=context, rate=Rate(7, 2)).get("/partitions")
    assert booked == [Rate(5, 1), Rate(7, 2)]


def test_the_patience_of_the_context_bounds_what_a_connector_asks_for(server: ScriptedServer, open_http: Any) -> None:
    context = Context(allowed_hosts=("127.0.0.1",), patience=Patience(timeout_s=0.2, attempts=2, backoff_s=0.01))
    server.fault("hang")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"2 attempts"):
        open_http(server.url, context=context, timeout_s=60, attempts=9, backoff_s=5).get("/items")
    assert time.monotonic() - began < 2


def test_xml_is_read_and_damaged_xml_tried_again(open_http: Any) -> None:
    bodies = [b"<feed><entry>one</entry", b"<feed><entry>one</entry></feed>", b"<!DOCTYPE feed><feed/>"]
    asked = itertools.count()

    def feed(connection: socket.socket) -> None:
        while connection.recv(65_536):
            body = bodies[min(next(asked), 2)]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with answering(feed) as url:
        http = open_http(url, attempts=2)
        assert http.xml("/feed").findtext("entry") == "one"
        with pytest.raises(Unavailable, match=r"/feed answers with XML with a document type .* \(2 attempts\)"):
            http.xml("/feed")
        with pytest.raises(Unreadable, match="document type"):
            http.xml("/feed", one_entity=True)


class Moved(Vendor):
    """Two vendors: an address that has moved, and where it is now."""

    def __init__(self, to: str | None = None) -> None:
        super().__init__()
        self.to = to

    def answer(self, request: Asked) -> Reply:
        if self.to is not None:
            return Reply(status=301, headers={"Location": f"{self.to}/new?page=1"})
        is_same = request.headers.get("if-none-match") == '"1"'
        return Reply(status=304) if is_same else Reply({}, headers={"ETag": '"1"'})


def test_an_answer_says_where_it_came_from_without_what_signed_it() -> None:
    with Moved() as new, Moved(new.url) as old:
        key = ApiKeyCredentials(api_key=SecretStr(CANARY))
        with Http(new.url, context=new.context(), auth=ApiKey(query="key"), credentials=key) as http:
            answer = http.get(old.url)
            direct = http.get("/new")
        assert (answer.url, direct.url) == (f"{new.url}/new?page=1", f"{new.url}/new")
        assert [request.params["key"] for request in new.log] == [CANARY] * 2


def test_conditions_are_kept_where_an_address_has_moved_to_another_origin() -> None:
    with Moved() as new, Moved(new.url) as old, Http(old.url, context=old.context()) as http:
        assert http.get("/old", headers={"If-None-Match": '"1"'}).status == 304
        assert http.get("/old").status == 200
        assert len(new.log) == 2
