"""A fake vendor for testing a connector: a local HTTP server that fails the way vendors do.

    class Kitchen(Vendor):
        def answer(self, request: Asked) -> Reply:
            if request.path != "/recipes":
                return Reply(status=404)
            page = int(request.params.get("page", 0))
            return Reply({"items": RECIPES[page * 10 : page * 10 + 10], "total": len(RECIPES)})

    with Kitchen() as vendor:
        source = Recipes(Config(url=vendor.url), None, vendor.context())

``SourceSuite`` plays every ``Fault`` at one request after another. A page is recognized by its JSON: a list, or an
object that holds a list beside a link, a cursor, a total or a "has more" flag. For another shape, override ``shape``.
"""

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from .context import Context, Patience
from .pages import find

POLL_S = 0.005  # how soon the server notices that it should stop
HANG_S = 30.0  # how long a hang lasts, unless the client leaves first
HASTE_S = 0.1  # how long a client waits for a vendor that hangs
WAIT_S = 10.0  # how long it waits otherwise
DEPTH = 4  # of nested objects around a list
MARK = "vendor_page"  # a query parameter in links that a fault invents
NUMBER = 1_000_000_000  # page numbers that a fault invents begin here

NEXT = {  # names of a link or cursor to the next page, in lower case, letters only
    *("next", "nexturl", "nextlink", "odatanextlink", "nextpage", "nextpagetoken", "nextpageurl", "nextcursor"),
    *("nexttoken", "cursor", "endcursor", "continuation", "continuationtoken", "nextpagecursor", "nextmarker"),
}
TOTAL = {"total", "totalcount", "totalitems", "totalresults", "totalrecords", "totalsize"}
MORE = {"more", "hasmore", "hasnext", "hasnextpage", "hasmoreitems"}

Kind = Literal[
    "401",
    "403",
    "404",
    "410",
    "429",
    "429 with Retry-After",
    "500",
    "a cut body",
    "a hang",
    "an empty page",
    "the page before, again",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the vendor. Header names are in lower case."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON; None if there is no body."""
        return json.loads(self.body) if self.body else None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response: ``json``, or the bytes of ``body``."""

    json: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def content(self) -> bytes:
        return json.dumps(self.json).encode() if self.body is None else self.body


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the parts of a page are in its JSON, as dotted paths.

    ``items``: the list; empty if the response itself is the list. ``next``: the link, cursor or number of the next
    page. ``total``: the number of all items. ``more``: a boolean that says whether there is more.
    """

    items: str
    next: str | None = None
    total: str | None = None
    more: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of request number ``at``, counted from 1; if it ``lasts``, of every later one too."""

    kind: Kind
    at: int
    lasts: bool = False

    def strikes(self, number: int) -> bool:
        return number >= self.at if self.lasts else number == self.at

    def __str__(self) -> str:
        return f"{self.kind}{' from then on' if self.lasts else ', once'}"


class Vendor:
    """The server; override ``answer``.

    Since the last ``play``: ``requests`` is the number of requests, ``log`` holds them, and ``struck`` is the number of
    responses that the fault changed. An empty or repeated page can only be played in place of a page of a list.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self.stopped = threading.Event()
        self.play()

    def answer(self, request: Asked) -> Reply:
        """Return the vendor's response when nothing is wrong."""
        raise NotImplementedError

    def shape(self, request: Asked, reply: Reply) -> Shape | None:
        """Return the shape of a reply that is a page of a list; None if it is not one."""
        return _guess(reply.json)

    def play(self, fault: Fault | None = None, *, limit: int | None = None, on_limit: Callable[[], Any] = bool) -> None:
        """Reset, and play this fault from now on. ``on_limit`` is called at each request beyond ``limit``."""
        with self._lock:
            self.fault = fault
            self.requests = self.struck = 0
            self.log: list[Asked] = []
            self.broken: list[Exception] = []  # errors that ``answer`` raised
            self.is_over_limit = False
            self._limit, self._on_limit = limit, on_limit
            self._pages: list[tuple[Asked, Reply, Shape]] = []
            self._invented: dict[str, Asked] = {}  # the requests that invented pointers stand for

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("the vendor was not started; call start(), or use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def context(self) -> Context:
        """Return a context for a source that reads this vendor. Its waits are short enough for a test, and its rate is
        unlimited."""
        hangs = self.fault is not None and self.fault.kind == "a hang"
        patience = Patience(
            HASTE_S if hangs else WAIT_S, total_s=2 * WAIT_S, attempts=2, patience_s=0.5, backoff_s=0.01
        )
        return Context(allowed_hosts=("127.0.0.1",), patience=patience, pace=lambda _: 0.0)

    def start(self) -> None:
        """Start serving; does nothing if it already serves."""
        if self._server is None:
            self.stopped.clear()
            self._server = _Server(("127.0.0.1", 0), _Handler)
            self._server.vendor = self
            self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop serving within milliseconds, even if a request hangs."""
        if self._server is not None:
            self.stopped.set()
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def __enter__(self) -> "Vendor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reply_to(self, request: Asked) -> tuple[Reply, Kind | None]:
        """Return the reply to a request, and the fault to play while sending it."""
        with self._lock:
            self.requests += 1
            self.log.append(request)
            number, fault = self.requests, self.fault
            if self._limit is not None and number > self._limit:
                self.is_over_limit = True
                self._on_limit()
                return Reply({"error": "too many requests of this test"}, 500), None
            kind = fault.kind if fault is not None and fault.strikes(number) else None
            asked = self._resolve(request)
            if kind is not None and kind[0].isdigit():
                self.struck += 1
                return _refusal(kind, request), None
            reply = self._answer(asked)
            shape = self.shape(asked, reply) if reply.status == 200 and reply.body is None else None
            other: Reply | None = None
            if kind == "an empty page":
                other = self._empty_page(asked, reply, shape, number) if shape is not None else None
            elif kind == "the page before, again":
                other = self._page_before(asked) if shape is not None else None
            elif kind is not None:
                self.struck += 1
            if other is not None:
                self.struck += 1
                return other, None
            if shape is not None:
                self._pages.append((asked, reply, shape))
            return reply, kind

    def _answer(self, request: Asked) -> Reply:
        try:
            return self.answer(request)
        except Exception as error:
            self.broken.append(error)
            return Reply({"error": "the vendor of this test failed"}, 500)

    def _resolve(self, request: Asked) -> Asked:
        """The original request if this one follows an invented pointer; otherwise the request itself."""
        values = {*request.params.values(), *map(unquote, request.path.split("/"))}
        values |= {str(value) for _, value in _leaves(_json(request.body))}
        meant = next((self._invented[value] for value in values if value in self._invented), None)
        return request if meant is None else replace(meant, headers=request.headers)

    def _empty_page(self, request: Asked, reply: Reply, shape: Shape, number: int) -> Reply | None:
        """The page without its items, if it still says that there is more.

        If a link or a cursor gives the next page, it leads to the correct page.
        """
        answer = _put(reply.json, shape.items, [])
        pointer = find(reply.json, shape.next) if shape.next is not None else None
        link = _next_link(reply)
        if link is not None:
            headers = {name: value for name, value in reply.headers.items() if name.lower() != "link"}
            invented_link = f'<{self._invent_url(request, number)}>; rel="next"'
            return replace(reply, json=answer, headers={**headers, "Link": invented_link})
        if shape.more is not None and find(reply.json, shape.more) is not True:
            return None
        if shape.next is not None and pointer is not None:
            invented: str | int
            if isinstance(pointer, int):
                invented = NUMBER + number
            elif _is_url(pointer):
                invented = self._invent_url(request, number)
                if pointer.startswith(("http://", "https://")):
                    invented = f"{self.url}{invented}"
            else:
                invented = f"vendor-page-{number}"
            self._invented[str(invented)] = request
            return replace(reply, json=_put(answer, shape.next, invented))
        says_more = shape.next is None and (shape.more is not None or shape.total is not None)
        return replace(reply, json=answer) if says_more and not self._has_pointers(request) else None

    def _invent_url(self, request: Asked, number: int) -> str:
        self._invented[f"page-{number}"] = request
        return f"{quote(request.path)}?{urlencode({**request.params, MARK: f'page-{number}'})}"

    def _has_pointers(self, request: Asked) -> bool:
        """Whether an earlier page at this path gave the next one by a link or a cursor."""
        return any(
            asked.path == request.path and _pointer(reply, shape) is not None for asked, reply, shape in self._pages
        )

    def _page_before(self, request: Asked) -> Reply | None:
        """The page that this request follows; None if it begins a list."""
        for asked, reply, shape in reversed(self._pages):
            pointer = _pointer(reply, shape)
            if pointer is not None and _leads_to(pointer, request):
                return reply
            if asked.path == request.path:
                is_before = pointer is None and _counts_up(asked, request) and _may_have_more(reply, shape)
                return reply if is_before else None
        return None


class _Server(ThreadingHTTPServer):
    vendor: Vendor
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it ended just now

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore it: clients that disconnect are part of the play."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def do_GET(self) -> None:
        vendor: Vendor = self.server.vendor  # type: ignore[attr-defined]
        split = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        params = dict(parse_qsl(split.query, keep_blank_values=True))
        reply, kind = vendor.reply_to(Asked(self.command, unquote(split.path), params, headers, body))
        if kind == "a hang":
            self._hang(vendor)
            return
        content = b"" if reply.status in (204, 304) else reply.content
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        is_cut = kind == "a cut body"
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(content) + (10 if is_cut else 0)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if is_cut else content)
        self.close_connection = self.close_connection or is_cut

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _hang(self, vendor: Vendor) -> None:
        """Send nothing until the client disconnects."""
        self.close_connection = True
        waited_s = 0.0
        while waited_s < HANG_S and not vendor.stopped.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                return
            waited_s += 0.02

    def log_message(self, *_: object) -> None:
        pass


def _refusal(kind: str, request: Asked) -> Reply:
    """A refusal that echoes the request, as careless vendors do. None of it may be shown."""
    echo = {"error": "refused", "sent": {**request.headers, **request.params}}
    headers = {"Retry-After": "1"} if "Retry-After" in kind else {}
    return Reply(echo, int(kind[:3]), headers)


def _guess(answer: Any) -> Shape | None:
    if isinstance(answer, list):
        return Shape("")
    found = list(_below(answer, "", DEPTH)) if isinstance(answer, dict) else []
    lists = [path for path, value in found if isinstance(value, list)]
    full = [path for path in lists if any(isinstance(item, dict) for item in find(answer, path))]
    if not lists:
        return None

    def named(names: set[str], kind: type | tuple[type, ...]) -> str | None:
        paths = [path for path, value in found if _letters(path) in names and isinstance(value, kind)]
        return min(paths, key=lambda path: path.count("."), default=None)

    total, more = named(TOTAL, int), named(MORE, bool)
    following = named(NEXT, (str, int, type(None)))
    if following is None:  # {"next": {"href": "…"}}
        inner = (
            path for path, _ in found if path.endswith((".next.href", ".next.url")) or path in ("next.href", "next.url")
        )
        following = next(inner, None)
    if following is not None and (isinstance(find(answer, following), bool) or find(answer, following) == ""):
        following = None
    if (following, total, more) == (None, None, None) and len(answer) > 1:
        return None  # an entity with lists, not a page
    return Shape((full or lists)[0], following, total, more)


def _below(answer: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """All values in nested objects with their paths, outer ones first."""
    for key, value in answer.items():
        yield f"{path}{key}", value
    for key, value in answer.items():
        if isinstance(value, dict) and depth > 1:
            yield from _below(value, f"{path}{key}.", depth - 1)


def _letters(path: str) -> str:
    name = path.rpartition("@")[2] if "@" in path else path.rpartition(".")[2]
    return "".join(filter(str.isalpha, name.lower()))


def _put(answer: Any, path: str, value: Any) -> Any:
    """A copy of the JSON with another value at an existing path."""
    if not path:
        return value
    answer = deepcopy(answer)
    inner = answer
    while path not in inner:
        key, _, path = path.partition(".")
        inner = inner[key]
    inner[path] = value
    return answer


def _pointer(reply: Reply, shape: Shape) -> str | int | None:
    """How a page gives the next one: a link, a cursor or a number; None if it was the last."""
    link = _next_link(reply)
    if link is not None or shape.next is None:
        return link
    if shape.more is not None and find(reply.json, shape.more) is not True:
        return None
    found = find(reply.json, shape.next)
    return found if isinstance(found, str | int) else None


def _next_link(reply: Reply) -> str | None:
    links = next((value for name, value in reply.headers.items() if name.lower() == "link"), "")
    for link in links.split(","):
        target, _, parameters = link.partition(";")
        if 'rel="next"' in parameters or "rel=next" in parameters:
            return target.strip().strip("<>")
    return None


def _leads_to(pointer: str | int, request: Asked) -> bool:
    if isinstance(pointer, str) and _is_url(pointer):
        split = urlsplit(pointer)
        params = dict(parse_qsl(split.query, keep_blank_values=True))
        return unquote(split.path) in ("", request.path) and params.items() <= request.params.items()
    values = {*request.params.values(), *map(unquote, request.path.split("/"))}
    return str(pointer) in values | {str(value) for _, value in _leaves(_json(request.body))}


def _counts_up(earlier: Asked, later: Asked) -> bool:
    """Whether two requests differ only in one number, which is greater in the later one."""
    one, two = ({**asked.params, **dict(_leaves(_json(asked.body)))} for asked in (earlier, later))
    differing = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    numbers = [(str(one.get(key, 0)), str(two.get(key, 0))) for key in differing]
    return len(numbers) == 1 and all(a.isdigit() and b.isdigit() and int(a) < int(b) for a, b in numbers)


def _may_have_more(reply: Reply, shape: Shape) -> bool:
    """Whether another page may follow a page that does not give the next one."""
    count = len(find(reply.json, shape.items))
    if shape.more is not None:
        return find(reply.json, shape.more) is True
    if shape.next is not None:
        return False
    return count > 0 and (shape.total is None or find(reply.json, shape.total) > count)


def _is_url(pointer: str) -> bool:
    return isinstance(pointer, str) and pointer.startswith(("http://", "https://", "/", "?"))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{path}.{key}")
    else:
        yield path, value
