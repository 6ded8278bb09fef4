"""The HTTP client for connectors: it guards addresses, keeps the rate, retries, and limits time and size. Knows no
vendor.

Errors are sorted by how they are handled (see ``errors``). No message holds a query string, a header or a body, since
these may hold secrets.

    response                         of a listing    of one entity
    401, after one refresh           AuthError       AuthError
    if the auth can refresh
    403                              AuthError       Unreadable
    404, 410                         ConfigError     Unreadable
    other 4xx                        ConfigError     ConfigError
    429; 503, 403 with Retry-After   waits for up to ``patience_s``, then RateLimited
    408, 425, 5xx, network errors,   retried up to ``attempts`` times, then Unavailable
    truncated, not JSON
    larger than ``max_bytes``        Unavailable     Unreadable
    address that is not public       ConfigError     ConfigError
"""

import io
import json
import os
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

import httpcore
import httpx
from pydantic import BaseModel, SecretStr

from .auth import Auth
from .context import Context, Patience, Rate
from .errors import AuthError, ConfigError, RateLimited, Stalled, Unavailable, Unreadable
from .guard import Deadline, Guard
from .pages import Answer, Ask, Page, PageState, Paging, Params, walk
from .xml import parse as parse_xml

REDIRECTS = 5
BACKOFF_LIMIT_S = 20.0
RETRY_AFTER_LIMIT_S = 86_400.0
RETRY_AFTER_FLOOR_S = 1.0
RETRY_AFTER_S = 30.0  # if a source says "too many requests" but not for how long
MAX_BYTES = 50_000_000
CONNECTIONS = 10
SHOWN_URL = 200  # characters of a URL in an error
RENEWALS = 3  # of a token per request: one is a refresh, the others take a token that was stored meanwhile
TOKEN_BYTES = 1_000_000  # of the response of a token endpoint
RETRIED = {408, 425}
REDIRECTED = {301, 302, 303, 307, 308}
CONDITIONS = {"if-none-match", "if-modified-since"}
HARMLESS_HEADERS = {"accept", "accept-encoding", "accept-language", "content-type", "user-agent", *CONDITIONS}

T = TypeVar("T")
Headers = Mapping[str, str | SecretStr]


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. Its status is 2xx, or 304 if the request was conditional.

    ``url`` is the address that answered, after redirects and without what signed the request.
    """

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(repr=False)

    @property
    def text(self) -> str:
        """The body as UTF-8; invalid bytes become the replacement character."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Whatever a server answered: any status, and the beginning of the body."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """How long it asks to be left alone; None if it does not, or not in a way that can be read."""
        return _retry_after(self.headers) if "retry-after" in self.headers else None


class Http:
    """A client for one API.

        http = Http(config.url, context=context, auth=Bearer(), credentials=credentials)
        page = http.json("/items", params={"page": 2})

    ``auth`` signs each request with ``credentials``, unless the call passes a header of that name. The signature and
    ``headers`` are sent to the origin of ``base_url`` only, wherever a link or a redirect leads.

    An expired token, by the clock or by a 401, is replaced through ``context.renew``, and the request is sent once
    more. Without ``context.renew`` the new token is kept in this client, unless ``auth`` rotates its refresh tokens:
    that would use up the stored one.

    ``timeout_s`` limits each wait for the source, ``total_s`` the whole response; ``context.patience`` limits all of
    them. ``rate`` defaults to the context's. A connector only reads, so a POST is a query and is retried like a GET.
    Threads may share a client; they then share its rate and its token.
    """

    def __init__(
        self,
        base_url: str,
        *,
        context: Context,
        auth: Auth | None = None,
        credentials: BaseModel | None = None,
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
            raise ConfigError("the address holds a user name or password: remove it, and give it as a credential")
        self._context = context
        self._headers = _headers(headers or {})
        self._auth = auth
        self._credentials = credentials
        self._renewing = threading.Lock()
        rate = rate or context.rate
        self._pace = _Pace(rate) if rate else None
        bounds = context.patience or Patience(timeout_s, total_s, attempts, patience_s, backoff_s)
        self._timeout_s = min(timeout_s, bounds.timeout_s)
        self._total_s = min(total_s, bounds.total_s)
        self._attempts = min(attempts, bounds.attempts)
        self._patience_s = min(patience_s, bounds.patience_s)
        self._backoff_s = min(backoff_s, bounds.backoff_s)
        self._max_bytes = max_bytes
        self._deadline = Deadline()
        self._guard = Guard(context, self._deadline)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            max_connections=CONNECTIONS,
            network_backend=self._guard,
        )

    def __repr__(self) -> str:
        return f"Http({_display(self._base)!r})"

    def get(
        self, target: str, *, params: Params | None = None, headers: Headers | None = None, one_entity: bool = False
    ) -> Response:
        """Fetch ``target``, a path below ``base_url`` or a URL. ``headers`` passed here are sent to any origin.

        ``one_entity``: a response that is refused or missing raises ``Unreadable``; turn it into ``Skipped``.
        """
        return self._fetch(self._request("GET", target, params, headers, None), one_entity, _identity)

    def post(
        self,
        target: str,
        body: object,
        *,
        params: Params | None = None,
        headers: Headers | None = None,
        one_entity: bool = False,
    ) -> Response:
        """Send a query with ``body`` as JSON."""
        return self._fetch(self._request("POST", target, params, headers, body), one_entity, _identity)

    def json(
        self,
        target: str,
        *,
        body: object = None,
        params: Params | None = None,
        headers: Headers | None = None,
        one_entity: bool = False,
    ) -> Any:
        """Fetch JSON, with POST if there is a ``body``. A response that is not JSON is retried."""
        method = "GET" if body is None else "POST"
        return self._fetch(self._request(method, target, params, headers, body), one_entity, _parse_json)

    def xml(
        self, target: str, *, params: Params | None = None, headers: Headers | None = None, one_entity: bool = False
    ) -> Element:
        """Fetch XML and return its root; see ``sdk.xml`` for what is refused. A response that is not XML is retried."""

        def read(response: Response) -> Element:
            try:
                return parse_xml(response.body, one_entity=one_entity)
            except Unavailable as error:
                raise _PassingTrouble(f"answers with {error}") from None

        return self._fetch(self._request("GET", target, params, headers, None), one_entity, read)

    def pages(
        self,
        target: str,
        paging: Paging,
        *,
        params: Params | None = None,
        body: object = None,
        headers: Headers | None = None,
        one_entity: bool = False,
        start: PageState | None = None,
    ) -> Iterator[Page]:
        """Yield the pages of a list.

        ``start``: the ``next`` of an earlier page, to resume after it. It is JSON and holds no credentials.
        ``headers`` are sent to the origin of ``target`` only.

        Raises ``Unavailable`` if the list leads back to itself, ends too early, or is not a list.
        """
        first = self._request("GET", target, None, None, None).url
        secret = self._auth.sign(self._credentials).params if self._auth and self._credentials else {}

        def fetch(ask: Ask) -> Answer:
            method = "GET" if ask.body is None else "POST"
            request = self._request(method, ask.target, ask.params, None, ask.body)
            if _origin(request.url) == _origin(first):
                request.headers.update(_headers(headers or {}))
            return self._fetch(
                request,
                one_entity,
                lambda response: Answer(_parse_json(response), response.headers, str(request.url)),
            )

        def clean(address: str) -> str:
            return _strip_params(address, secret)

        return walk(fetch, paging, Ask(target, params, body), where=_display(first), start=start, clean=clean)

    def open(self, target: str, *, params: Params | None = None, headers: Headers | None = None) -> BinaryIO:
        """Fetch the content of one entity; for ``Entity.open``."""
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
        """Fetch something large in pieces, without the limit of ``max_bytes``.

        There are no retries once the response has begun: a failure raises ``Unavailable``.
        """
        request = self._request("GET", target, params, headers, None)
        with ExitStack() as stack:
            opened = self._opener(request, one_entity, total_s or self._total_s)
            response = self._retry(request, lambda: stack.enter_context(opened()))
            yield self._stream_pieces(request, response)

    def exchange(self, method: str, content: bytes = b"", *, headers: Headers, most_bytes: int) -> Exchanged:
        """Send one request to ``base_url`` itself, once: no retries, no redirects, no judgement of the status. Reads up
        to ``most_bytes`` of the body; a body that breaks off or trickles in counts as far as it came.

        Raises ``ConfigError`` for an address that is not permitted, and ``Unavailable``. No message holds the path.
        """
        sent = {"user-agent": "airweave-server", "accept": "*/*", "accept-encoding": "identity"}
        request = httpx.Request(method, self._base, headers=sent | _headers(headers), content=content or None)
        body = bytearray()
        try:
            with self._deadline.in_force(self._total_s), self._send_to_network(request) as response:
                with suppress(_PassingTrouble):
                    for piece in self._pieces(response):
                        body += piece
                        if len(body) >= most_bytes:
                            break
                return Exchanged(response.status_code, response.headers, bytes(body[:most_bytes]))
        except _PassingTrouble as trouble:
            raise trouble.kind(f"{self._base.host} {trouble}") from None

    def leads_to(self, host: str, port: int) -> bool:
        """Whether ``base_url`` has this host, by its name, and this port."""
        return self._base.host.rstrip(".") == host.lower().rstrip(".") and _origin(self._base)[2] == port

    def check_address(self) -> None:
        """Raise ``ConfigError`` if the host of ``base_url`` has an address that is not permitted. A name that does not
        resolve passes: it may later."""
        with suppress(httpcore.ConnectError):
            self._guard.resolve(self._base.host, _origin(self._base)[2])

    def close(self) -> None:
        """Close the connections."""
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

    def _fetch(self, request: httpx.Request, one_entity: bool, parse: Callable[[Response], T]) -> T:
        def fetch() -> T:
            with self._opener(request, one_entity, self._total_s)() as response:
                body = bytearray()
                for piece in self._pieces(response):
                    body += piece
                    if len(body) > self._max_bytes:
                        limit = f"too_large: the limit is {self._max_bytes / 1_000_000:g} MB"
                        raise (Unreadable(limit) if one_entity else Unavailable(f"{_display(request.url)}: {limit}"))
            return parse(Response(response.status_code, response.headers, bytes(body), str(response.request.url)))

        return self._retry(request, fetch)

    def _retry(self, request: httpx.Request, work: Callable[[], T]) -> T:
        """Repeat ``work`` until it succeeds, its error is final, or patience ends."""
        failures, waited_s, renewals = 0, 0.0, 0
        where = _display(request.url)
        while True:
            try:
                return work()
            except _TokenRefused as refused:
                if renewals >= RENEWALS:
                    raise AuthError(f"{where} does not accept the credentials (401), nor a new token") from None
                _, is_fresh = self._renew(refused.used)
                renewals = RENEWALS if is_fresh else renewals + 1
                continue
            except _ToldToWait as refusal:
                if refusal.wait_s is None:
                    failures += 1
                    wait_s = self._backoff(failures)
                    if failures >= self._attempts:
                        raise RateLimited(f"{where} answers {refusal.status}", retry_after_s=RETRY_AFTER_S) from None
                else:
                    wait_s = refusal.wait_s
                    waited_s += wait_s
                    if waited_s > self._patience_s:
                        raise RateLimited(
                            f"{where} answers {refusal.status}: wait {wait_s:g} s", retry_after_s=wait_s
                        ) from None
            except _PassingTrouble as trouble:
                failures += 1
                wait_s = self._backoff(failures)
                if failures >= self._attempts:
                    raise trouble.kind(f"{where} {trouble} ({failures} attempts)") from None
            self._context.sleep(wait_s)

    def _backoff(self, failures: int) -> float:
        return min(self._backoff_s * 2.0 ** (failures - 1), BACKOFF_LIMIT_S) * random.uniform(0.5, 1.0)

    def _opener(
        self, request: httpx.Request, one_entity: bool, total_s: float
    ) -> Callable[[], AbstractContextManager[httpx.Response]]:
        """A function that sends the request, follows redirects, and holds a good response open."""

        @contextmanager
        def opened() -> Iterator[httpx.Response]:
            hop = request
            for _ in range(REDIRECTS + 1):
                self._context.check()
                if self._pace is not None:
                    self._pace.wait(self._context)
                signed, used = self._sign(hop)
                with self._deadline.in_force(total_s), self._send(signed) as response:
                    location = response.headers.get("location")
                    if response.status_code not in REDIRECTED or location is None:
                        if response.status_code == 401 and used is not None:
                            raise _TokenRefused(used)
                        _judge(hop, response, one_entity)
                        response.request = hop  # without the signature
                        yield response
                        return
                hop = _redirect(hop, response.status_code, location)
            raise Unavailable(f"{_display(request.url)} redirects more than {REDIRECTS} times")

        return opened

    def _sign(self, request: httpx.Request) -> tuple[httpx.Request, BaseModel | None]:
        """The signed request, and the credentials that sign it if those can be renewed."""
        auth, credentials = self._auth, self._credentials
        if auth is None or credentials is None or _origin(request.url) != _origin(self._base):
            return request, None
        can_refresh = auth.can_refresh(credentials)
        if can_refresh and auth.is_expired(credentials, datetime.now(UTC)) and self._may_renew(auth):
            credentials, _ = self._renew(credentials)
        signature = auth.sign(credentials)
        headers = _headers(signature.headers) | dict(request.headers)
        params = {name: value.get_secret_value() for name, value in signature.params.items()}
        url = request.url.copy_merge_params(params) if params else request.url
        signed = httpx.Request(request.method, url, headers=headers, content=request.content or None)
        return signed, credentials if can_refresh else None

    def _may_renew(self, auth: Auth) -> bool:
        return self._context.renew is not None or not auth.rotates

    def _renew(self, used: BaseModel) -> tuple[BaseModel, bool]:
        """Replace credentials, once for all threads that used them.

        Also returns whether this call refreshed them: those that another thread or process stored meanwhile may have
        expired as well.
        """
        auth = self._auth
        assert auth is not None
        with self._renewing:
            if self._credentials is not None and self._credentials is not used:
                return self._credentials, False
            if not self._may_renew(auth):
                raise AuthError(
                    "the access token has expired, and renewing it here would use up its refresh token: connect the "
                    "source or sync its connection, which both store the new token, or sign in again"
                )

            is_fresh = False

            def refresh(stored: BaseModel) -> BaseModel:
                nonlocal is_fresh
                is_fresh = True
                return auth.refresh(stored, self._post_form)

            renew = self._context.renew
            self._credentials = refresh(used) if renew is None else renew(used, refresh)
            return self._credentials, is_fresh

    def _post_form(self, url: str, form: Headers, headers: Headers) -> tuple[int, bytes]:
        """Send a form to a token endpoint; see ``auth.Post``.

        It is sent once, and a request to stop does not cut the wait short: the old refresh token may be used up.
        """
        clear = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in form.items()
        }
        sent = {"user-agent": "airweave-server", "accept": "application/json"} | _headers(headers)
        request = httpx.Request("POST", _url(url), headers=sent, data=clear)
        where, body = _display(request.url), bytearray()
        try:
            with self._deadline.in_force(self._total_s, heeds_stop=False), self._send(request) as response:
                for piece in self._pieces(response):
                    body += piece
                    if len(body) > TOKEN_BYTES:
                        raise Unavailable(f"{where} answers with more than a token")
        except _PassingTrouble as trouble:
            raise trouble.kind(f"{where} {trouble}") from None
        status = response.status_code
        if 300 <= status < 400:
            raise ConfigError(f"{where} redirects ({status}), and credentials do not follow it: correct the address")
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            wait_s = _retry_after(response.headers) or RETRY_AFTER_S
            raise RateLimited(f"{where} answers {status}", retry_after_s=wait_s)
        if status >= 500 or status in RETRIED:
            raise Unavailable(f"{where} answers {status}")
        return status, bytes(body)

    @contextmanager
    def _send(self, request: httpx.Request) -> Iterator[httpx.Response]:
        between = self._context.between
        if between is None:
            with self._send_to_network(request) as response:
                yield response
            return

        def send() -> httpx.Response:
            with self._send_to_network(request) as response:
                body = bytearray()
                for piece in response.iter_raw():
                    body += piece
                    if len(body) > self._max_bytes:
                        raise Unavailable(f"{_display(request.url)} answers with more than {self._max_bytes:,} bytes")
                return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))

        with _translate_errors():
            answer = between(request, send)
        yield answer

    @contextmanager
    def _send_to_network(self, request: httpx.Request) -> Iterator[httpx.Response]:
        url = request.url
        timeouts = {"connect": self._timeout_s, "read": self._timeout_s, "write": self._timeout_s}
        with _translate_errors():
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
        with _translate_errors():
            for piece in response.iter_bytes():
                self._deadline.check(self._context)
                if self._deadline.left_s() <= 0:
                    raise _Silence("answers too slowly")
                yield piece

    def _stream_pieces(self, request: httpx.Request, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from self._pieces(response)
        except _PassingTrouble as trouble:
            raise trouble.kind(f"{_display(request.url)} {trouble}") from None


class _PassingTrouble(Exception):
    """A failure that a retry may cure. Its message continues the URL; ``kind`` is raised when retries run out."""

    kind: type[Unavailable] = Unavailable


class _Silence(_PassingTrouble):
    """No response, or one that does not finish."""

    kind = Stalled


class _TokenRefused(Exception):
    """The source does not accept a token that can be renewed."""

    def __init__(self, used: BaseModel) -> None:
        super().__init__("401")
        self.used = used


class _ToldToWait(Exception):
    """The source says wait. ``wait_s`` is None if it does not say for how long."""

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


class _Pace:
    """Starts at most ``rate.requests`` requests in any ``rate.per_s`` seconds.

    The engine counts them if it keeps the pace for all readers of a connection; otherwise they are counted here.
    """

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


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn network errors into errors of this module."""
    try:
        yield
    except httpcore.LocalProtocolError:
        raise ConfigError("the request holds characters that HTTP does not allow") from None
    except httpcore.TimeoutException:
        raise _Silence("does not answer in time") from None
    except httpcore.ConnectError:
        raise _PassingTrouble("cannot be reached") from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise _PassingTrouble("broke off its answer") from None
    except httpx.DecodingError:
        raise _PassingTrouble("answers with a damaged body") from None


def _judge(request: httpx.Request, response: httpx.Response, one_entity: bool) -> None:
    """Raise the error that the status means, if it means one."""
    status, where = response.status_code, _display(request.url)
    if 200 <= status < 300:
        return
    if status == 304 and not request.headers.keys().isdisjoint(CONDITIONS):
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
            raise Unreadable(f"the source no longer has it ({status})")
        raise ConfigError(f"{where} does not exist ({status})")
    if 400 <= status < 500 and status not in RETRIED:
        raise ConfigError(f"{where} does not accept the request ({status})")
    raise _PassingTrouble(f"answers {status}")


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait, given as seconds or as a date by the source's own clock."""
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


def _redirect(request: httpx.Request, status: int, location: str) -> httpx.Request:
    """The request that a redirect asks for. Credentials are not sent to another origin."""
    try:
        url = _url(str(request.url.join(location)))
    except (httpx.InvalidURL, ConfigError):
        raise ConfigError(f"{_display(request.url)} redirects to something that is not a web address") from None
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
    """The trusted certificates, which httpx finds through these variables. Loading them takes 0.1 s."""
    return httpx.create_ssl_context()


def _identity(response: Response) -> Response:
    return response


def _parse_json(response: Response) -> Any:
    try:
        return json.loads(response.body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        raise _PassingTrouble("answers with something that is not JSON") from None


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


def _display(url: httpx.URL) -> str:
    """The URL without the parts that may be secret."""
    text = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.raw_path.split(b'?')[0].decode('ascii')}"
    return text if len(text) <= SHOWN_URL else text[:SHOWN_URL] + "…"


def _strip_params(address: str, names: Container[str]) -> str:
    """The address without the query parameters of these names; other texts are returned unchanged."""
    if "?" not in address:
        return address
    path, _, query = address.partition("?")
    kept = [one for one in query.split("&") if unquote_plus(one.partition("=")[0]) not in names]
    return f"{path}?{'&'.join(kept)}" if kept else path


def _headers(headers: Headers) -> dict[str, str]:
    """Headers in clear text with lower-case names. Raises ``AuthError`` for a value that cannot be sent."""
    clear = {}
    for name, value in headers.items():
        text = (value.get_secret_value() if isinstance(value, SecretStr) else value).strip()
        if not text.isascii() or any(ord(char) < 32 or ord(char) == 127 for char in text):
            raise AuthError(f"the value of {name} holds characters that HTTP does not allow")
        clear[name.lower()] = text
    return clear
