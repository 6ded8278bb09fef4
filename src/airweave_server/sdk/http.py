"""The one HTTP client of connectors: guarded, paced, patient, and ended in time. Knows no vendor.

What went wrong is raised by what is to be done about it (see ``errors``); no text of it holds a query string, a
header or a body, since these are where secrets are.

    answer                           at a listing    around one entity
    401                              AuthError       AuthError
    403                              AuthError       Unreadable
    404, 410                         ConfigError     Unreadable
    other 4xx                        ConfigError     ConfigError
    429; 503, 403 with Retry-After   waited for up to ``patience_s``, then RateLimited
    408, 425, 5xx, trouble on the    tried again up to ``attempts`` times, then Unavailable
    way, truncated, not JSON
    larger than ``max_bytes``        Unavailable     Unreadable
    address that is not public       ConfigError     ConfigError
"""

import io
import ipaddress
import json
import os
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, BinaryIO, TypeVar

import httpcore
import httpx
from pydantic import SecretStr

from .errors import AuthError, ConfigError, RateLimited, Stalled, Unavailable, Unreadable
from .source import Context, Rate

CONNECT_S = 5.0  # to one address
ADDRESSES = 3  # of one host that are tried
POLL_S = 0.25  # how soon a waiting read notices that it should stop
REDIRECTS = 5
BACKOFF_LIMIT_S = 20.0
RETRY_AFTER_LIMIT_S = 86_400.0
RETRY_AFTER_FLOOR_S = 1.0
RETRY_AFTER_S = 30.0  # where a source says "too many requests" but not for how long
MAX_BYTES = 50_000_000
CONNECTIONS = 10
MAX_WAIT_S = 3_600.0
SHOWN_URL = 200  # characters of an address in an error
RETRIED = {408, 425}
REDIRECTED = {301, 302, 303, 307, 308}
HARMLESS_HEADERS = {"accept", "accept-encoding", "accept-language", "content-type", "user-agent"}
UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")

T = TypeVar("T")
Params = Mapping[str, str | int | float | bool | None]
Headers = Mapping[str, str | SecretStr]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read to its end."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none become the replacement character."""
        return self.body.decode("utf-8", "replace")


class Http:
    """A client for one API.

        self.http = Http(config.url, context=self.context, headers={"Authorization": f"Bearer {token}"})
        page = self.http.json("/items", params={"page": 2})

    ``headers`` go to the origin of ``base_url`` only, wherever a link or a redirect leads. ``timeout_s`` bounds each
    wait for the source, ``total_s`` each answer as a whole. A connector only reads: a POST is a query here, and is
    tried again like a GET. May be shared between threads, which then share ``rate``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        context: Context,
        headers: Headers | None = None,
        rate: Rate | None = None,
        timeout_s: float = 30,
        total_s: float = 120,
        attempts: int = 4,
        patience_s: float = 60,
        backoff_s: float = 0.5,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._base = _url(base_url)
        if self._base.userinfo:
            raise ConfigError("a user name or password does not belong into the address")
        self._context = context
        self._headers = _headers(headers or {})
        self._pace = _Pace(rate) if rate else None
        self._timeout_s = timeout_s
        self._total_s = total_s
        self._attempts = attempts
        self._patience_s = patience_s
        self._backoff_s = backoff_s
        self._max_bytes = max_bytes
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            max_connections=CONNECTIONS,
            network_backend=_Guard(context, self._deadline),
        )

    def __repr__(self) -> str:
        return f"Http({_shown(self._base)!r})"

    def get(
        self, target: str, *, params: Params | None = None, headers: Headers | None = None, one_entity: bool = False
    ) -> Response:
        """Fetch ``target``, a path below ``base_url`` or an address; ``headers`` given here go to it wherever it is.

        ``one_entity``: what is refused or missing raises ``Unreadable``, which the connector turns into a ``Skipped``.
        """
        return self._whole(self._request("GET", target, params, headers, None), one_entity, _as_it_is)

    def post(
        self,
        target: str,
        body: object,
        *,
        params: Params | None = None,
        headers: Headers | None = None,
        one_entity: bool = False,
    ) -> Response:
        """Send ``body`` as JSON, as a query."""
        return self._whole(self._request("POST", target, params, headers, body), one_entity, _as_it_is)

    def json(
        self,
        target: str,
        *,
        body: object = None,
        params: Params | None = None,
        headers: Headers | None = None,
        one_entity: bool = False,
    ) -> Any:
        """Fetch JSON, by POST where there is a ``body``. An answer that is none is tried again."""
        method = "GET" if body is None else "POST"
        return self._whole(self._request(method, target, params, headers, body), one_entity, _parsed)

    def open(self, target: str, *, params: Params | None = None, headers: Headers | None = None) -> BinaryIO:
        """Fetch the content of one entity; made for ``Entity.open``."""
        return io.BytesIO(self.get(target, params=params, headers=headers, one_entity=True).body)

    @contextmanager
    def stream(
        self,
        target: str,
        *,
        params: Params | None = None,
        headers: Headers | None = None,
        total_s: float | None = None,
        one_entity: bool = False,
    ) -> Iterator[Iterator[bytes]]:
        """Fetch something large piece by piece, without ``max_bytes``. Once the answer has begun nothing is tried
        again: trouble raises ``Unavailable``."""
        request = self._request("GET", target, params, headers, None)
        with ExitStack() as stack:
            opened = self._answered(request, one_entity, total_s or self._total_s)
            response = self._tried(request, lambda: stack.enter_context(opened()))
            yield self._until_trouble(request, response)

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.close()

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self, method: str, target: str, params: Params | None, headers: Headers | None, body: object
    ) -> httpx.Request:
        if target.startswith(("http://", "https://")):
            url = _url(target)
        else:
            base = f"{self._base.scheme}://{self._base.netloc.decode('ascii')}{self._base.path.rstrip('/')}"
            url = _url(f"{base}/{target.lstrip('/')}" if target else base)
        if params:
            url = url.copy_merge_params({name: value for name, value in params.items() if value is not None})
        sent = {"user-agent": "airweave-server", "accept": "*/*", "accept-encoding": "gzip, deflate"}
        if _origin(url) == _origin(self._base):
            sent |= self._headers
        sent |= _headers(headers or {})
        if body is None:
            return httpx.Request(method, url, headers=sent)
        return httpx.Request(method, url, headers=sent, json=body)

    def _whole(self, request: httpx.Request, one_entity: bool, parse: Callable[[Response], T]) -> T:
        def fetch() -> T:
            with self._answered(request, one_entity, self._total_s)() as response:
                body = bytearray()
                for piece in self._pieces(response):
                    body += piece
                    if len(body) > self._max_bytes:
                        limit = f"too_large: the limit is {self._max_bytes / 1_000_000:g} MB"
                        raise (Unreadable(limit) if one_entity else Unavailable(f"{_shown(request.url)}: {limit}"))
            return parse(Response(response.status_code, response.headers, bytes(body)))

        return self._tried(request, fetch)

    def _tried(self, request: httpx.Request, work: Callable[[], T]) -> T:
        """Do ``work`` until it succeeds, its trouble is final, or patience ends."""
        failures, waited_s = 0, 0.0
        where = _shown(request.url)
        while True:
            try:
                return work()
            except _ToldToWait as told:
                if told.wait_s is None:
                    failures += 1
                    wait_s = self._backoff(failures)
                    if failures >= self._attempts:
                        raise RateLimited(f"{where} answers {told.status}", retry_after_s=RETRY_AFTER_S) from None
                else:
                    wait_s = told.wait_s
                    waited_s += wait_s
                    if waited_s > self._patience_s:
                        raise RateLimited(
                            f"{where} answers {told.status}: wait {wait_s:g} s", retry_after_s=wait_s
                        ) from None
            except _PassingTrouble as trouble:
                failures += 1
                wait_s = self._backoff(failures)
                if failures >= self._attempts:
                    raise trouble.kind(f"{where} {trouble} ({failures} attempts)") from None
            self._context.sleep(wait_s)

    def _backoff(self, failures: int) -> float:
        return min(self._backoff_s * 2.0 ** (failures - 1), BACKOFF_LIMIT_S) * random.uniform(0.5, 1.0)

    def _answered(
        self, request: httpx.Request, one_entity: bool, total_s: float
    ) -> Callable[[], AbstractContextManager[httpx.Response]]:
        """Send a request, follow where it leads, and give an answer that is good, while it is open."""

        @contextmanager
        def opened() -> Iterator[httpx.Response]:
            hop = request
            for _ in range(REDIRECTS + 1):
                self._context.check()
                if self._pace is not None:
                    self._pace.wait(self._context)
                with self._deadline.in_force(total_s), self._sent(hop) as response:
                    location = response.headers.get("location")
                    if response.status_code not in REDIRECTED or location is None:
                        _judge(hop, response, one_entity)
                        yield response
                        return
                hop = _redirected(hop, response.status_code, location)
            raise Unavailable(f"{_shown(request.url)} redirects more than {REDIRECTS} times")

        return opened

    @contextmanager
    def _sent(self, request: httpx.Request) -> Iterator[httpx.Response]:
        url = request.url
        timeouts = {"connect": self._timeout_s, "read": self._timeout_s, "write": self._timeout_s}
        with _trouble_of_the_way():
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.content,
                    extensions={"timeout": timeouts | {"pool": self._timeout_s}},
                )
            )
        try:
            yield httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), request=request)
        finally:
            answer.close()

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        with _trouble_of_the_way():
            for piece in response.iter_bytes():
                self._context.check()
                if self._deadline.left_s() <= 0:
                    raise _Silence("answers too slowly")
                yield piece

    def _until_trouble(self, request: httpx.Request, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from self._pieces(response)
        except _PassingTrouble as trouble:
            raise trouble.kind(f"{_shown(request.url)} {trouble}") from None


class _PassingTrouble(Exception):
    """What may be gone at the next try; its text follows the address. ``kind``: what it is when it stays."""

    kind: type[Unavailable] = Unavailable


class _Silence(_PassingTrouble):
    """No answer, or one that does not come to its end."""

    kind = Stalled


class _ToldToWait(Exception):
    """``wait_s`` is None where the source does not say for how long."""

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(status, wait_s)
        self.status = status
        self.wait_s = wait_s


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Deadline(threading.local):
    """When the answer that this thread waits for must have ended, whatever drips in."""

    at = float("inf")

    @contextmanager
    def in_force(self, total_s: float) -> Iterator[None]:
        before = self.at
        self.at = time.monotonic() + total_s
        try:
            yield
        finally:
            self.at = before

    def left_s(self) -> float:
        return self.at - time.monotonic()


class _Pace:
    """At most ``rate.requests`` begin in any ``rate.per_s`` seconds: booked with the engine where it keeps the pace
    for all readers of a connection, else counted here."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._per_s = rate.per_s
        self._begun: deque[float] = deque(maxlen=rate.requests)
        self._lock = threading.Lock()

    def wait(self, context: Context) -> None:
        if context.pace is not None:
            context.sleep(context.pace(self._rate))
            return
        with self._lock:
            now = time.monotonic()
            is_full = len(self._begun) == self._begun.maxlen
            begins = max(now, self._begun[0] + self._per_s) if is_full else now
            self._begun.append(begins)
        if begins > now:
            context.sleep(begins - now)


class _Guard(httpcore.NetworkBackend):
    """Connects to public addresses, and to those that the operator allows.

    The address that was checked is the one connected to, so that a name which resolves differently a moment later
    leads nowhere; certificates are still checked against the name.
    """

    def __init__(self, context: Context, deadline: _Deadline) -> None:
        self._context = context
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()
        self._names = {name.lower().rstrip(".") for name in context.allowed_hosts}
        self._networks = [network for name in context.allowed_hosts if (network := _network(name)) is not None]

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        trouble: Exception = httpcore.ConnectError("no address")
        for address in self._checked(host, port)[:ADDRESSES]:
            self._context.check()
            timeout_s = max(0.001, min(timeout or CONNECT_S, CONNECT_S, self._deadline.left_s()))
            try:
                stream = self._backend.connect_tcp(address, port, timeout_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self._context, self._deadline)
        raise trouble

    def _checked(self, host: str, port: int) -> list[str]:
        """Resolve a host; raises ``ConfigError`` when any address of it is not to be reached."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("does not resolve") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        is_allowed = host.lower().rstrip(".") in self._names
        if not is_allowed and not all(map(self._may_be_reached, addresses)):
            raise ConfigError(
                f"{host} is not a public address: unless the operator of this server allows it, it is not connected to"
            )
        return addresses

    def _may_be_reached(self, address: str) -> bool:
        ip = _unmapped(ipaddress.ip_address(address.split("%")[0]))
        return _is_public(ip) or any(ip in network for network in self._networks)


class _Stream(httpcore.NetworkStream):
    """A connection that lets no wait outlast the deadline, nor the engine's word to stop."""

    def __init__(self, stream: httpcore.NetworkStream, context: Context, deadline: _Deadline) -> None:
        self._stream = stream
        self._context = context
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends = time.monotonic() + self._within(timeout)
        while True:
            self._context.check()
            left_s = ends - time.monotonic()
            if left_s <= 0:
                raise httpcore.ReadTimeout("no answer in time")
            try:
                return self._stream.read(max_bytes, min(left_s, POLL_S))
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._within(timeout))
        return _Stream(stream, self._context, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _within(self, timeout: float | None) -> float:
        return max(0.001, min(float("inf") if timeout is None else timeout, self._deadline.left_s(), MAX_WAIT_S))


@contextmanager
def _trouble_of_the_way() -> Iterator[None]:
    """Sort what can go wrong between here and the source."""
    try:
        yield
    except httpcore.LocalProtocolError:
        raise ConfigError("the request holds characters that may not be sent") from None
    except httpcore.TimeoutException:
        raise _Silence("does not answer in time") from None
    except httpcore.ConnectError:
        raise _PassingTrouble("cannot be reached") from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise _PassingTrouble("broke off its answer") from None
    except httpx.DecodingError:
        raise _PassingTrouble("answers with a damaged body") from None


def _judge(request: httpx.Request, response: httpx.Response, one_entity: bool) -> None:
    """Raise what the status of an answer means, if it means trouble."""
    status, where = response.status_code, _shown(request.url)
    if 200 <= status < 300:
        return
    if status == 401:
        raise AuthError(f"{where} does not accept the credentials (401)")
    if status == 429 or (status in (403, 503) and "retry-after" in response.headers):
        raise _ToldToWait(status, _retry_after(response.headers))
    if status == 403:
        if one_entity:
            raise Unreadable("the source refuses access to it (403)")
        raise AuthError(f"{where} may not be read with these credentials (403)")
    if status in (404, 410):
        if one_entity:
            raise Unreadable(f"the source does not have it any more ({status})")
        raise ConfigError(f"{where} does not exist ({status})")
    if 400 <= status < 500 and status not in RETRIED:
        raise ConfigError(f"{where} does not accept the request ({status})")
    raise _PassingTrouble(f"answers {status}")


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait, from seconds or from a date by the source's own clock."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        wait_s = float(text)
    else:
        try:
            now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
            wait_s = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return None
    return min(max(wait_s, RETRY_AFTER_FLOOR_S), RETRY_AFTER_LIMIT_S)


def _redirected(request: httpx.Request, status: int, location: str) -> httpx.Request:
    """The request that a redirect asks for; to another origin go no credentials."""
    try:
        url = _url(str(request.url.join(location)))
    except (httpx.InvalidURL, ConfigError):
        raise ConfigError(f"{_shown(request.url)} redirects to what is no web address") from None
    dropped = {"host", "content-length", "transfer-encoding"}
    becomes_get = status == 303 or (status in (301, 302) and request.method == "POST")
    if becomes_get:
        dropped.add("content-type")
    headers = {name: value for name, value in request.headers.items() if name not in dropped}
    if _origin(url) != _origin(request.url):
        headers = {name: value for name, value in headers.items() if name in HARMLESS_HEADERS}
    method, content = ("GET", None) if becomes_get else (request.method, request.content or None)
    return httpx.Request(method, url, headers=headers, content=content)


@cache
def _tls(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """The certificates to trust, which httpx finds by these variables; loading them takes 0.1 s."""
    return httpx.create_ssl_context()


def _as_it_is(response: Response) -> Response:
    return response


def _parsed(response: Response) -> Any:
    try:
        return json.loads(response.body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise _PassingTrouble("answers with what is no JSON") from None


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        raise ConfigError("the address is not a web address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError("the address must begin with http:// or https:// and name a host")
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    text = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.raw_path.split(b'?')[0].decode('ascii')}"
    return text if len(text) <= SHOWN_URL else text[:SHOWN_URL] + "…"


def _headers(headers: Headers) -> dict[str, str]:
    """Headers in the clear, in lower case; raises ``AuthError`` for a value that cannot be sent."""
    clear = {}
    for name, value in headers.items():
        text = (value.get_secret_value() if isinstance(value, SecretStr) else value).strip()
        if not text.isascii() or any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise AuthError(f"the value for {name} holds characters that may not be sent")
        clear[name.lower()] = text
    return clear


IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _unmapped(ip: IP) -> IP:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_public(ip: IP) -> bool:
    if isinstance(ip, ipaddress.IPv6Address) and (ip not in UNICAST or ip.sixtofour or ip.teredo):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
