"""What a request passes before a route sees it, in this order: its API key, its body, and a place in a lane. Nothing
here holds a database connection while it waits."""

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..db import collections, keys
from ..db.models import Role
from ..db.session import Database
from ..errors import ServiceError, TooMany, Unauthorized
from . import roles
from .answers import AGAIN, answer_database_error, answer_error, to_json
from .lanes import OVERLOADED, Gone, Lanes, Place
from .streams import Response, Streams

ORGANIZATION = "airweave.organization"  # in the scope of a request: the organization that it acts for
CALLER = "airweave.caller"  # in the scope of a request: its ``Caller``
PLACE = "airweave.place"  # in the scope of a request: its place in a lane
BAD_KEYS_PER_MINUTE = 20
REMEMBERED_ADDRESSES = 10_000
REMEMBERED_KEYS = 10_000
KNOWN_S = 0.5  # for which a valid key is not looked up again; a revoked one works no longer than this
MAX_HEADER_BYTES = 64 * 1024
BODY_S = 60.0  # within which a body must have arrived
SILENCE_S = 10.0  # without a byte of the body
BUFFERED_BYTES = 64 * 1024 * 1024  # of all bodies together
SMALL_BODY_BYTES = 64 * 1024  # a body up to this size is taken even when the buffer is full
OPEN = ("/health", "/docs", "/openapi.json", "/entities/definitions")  # need no key and no place: they never wait
KEYLESS = ("/metrics",)  # has a token of its own


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request acts for, and what it may do. ``key_id``: its API key; None where authentication is off."""

    organization: UUID
    role: Role
    key_id: UUID | None


class BadKeys:
    """Counts bad API keys by client address, to slow down guessing."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def note(self, address: str) -> None:
        """Count one bad key from this address. Raises ``TooMany`` if it has sent too many within a minute."""
        with self._lock:
            recent = self._seen.get(address, deque())
            while recent and time.monotonic() - recent[0] > 60:
                recent.popleft()
            if len(recent) >= BAD_KEYS_PER_MINUTE:
                wait_s = max(1, round(60 - (time.monotonic() - recent[0])))
                raise TooMany("too many bad API keys from this address", retry_after_s=wait_s)
            if len(self._seen) >= REMEMBERED_ADDRESSES:
                self._seen.clear()
            self._seen.setdefault(address, recent).append(time.monotonic())


class Callers:
    """Finds whom a request acts for: the organization of its API key, or the first one where authentication is off. A
    valid key works from any address: behind one address there may be many users."""

    def __init__(self, database: Database, lanes: Lanes, *, needs_key: bool) -> None:
        self._database = database
        self._lanes = lanes
        self._needs_key = needs_key
        self._bad_keys = BadKeys()
        self._known: dict[bytes, tuple[Caller, float]] = {}

    async def find(self, scope: Scope) -> Caller:
        """The caller of this request. Raises ``Unauthorized``, ``TooMany`` and ``Unavailable``."""
        key = _read_key(scope) if self._needs_key else ""
        if key is None:
            raise Unauthorized(
                "an API key is required: send it in X-API-Key; create one with airweave-server keys create"
            )
        digest = keys.digest(key)
        if (known := self._recall(digest)) is not None:
            return known
        async with self._lanes.keys.place():
            if (known := self._recall(digest)) is not None:  # looked up by another request meanwhile
                return known
            asked_at = time.monotonic()
            found = await run_in_threadpool(self._look_up, key)
        if found is None:
            self._bad_keys.note(scope["client"][0] if scope.get("client") else "")
            raise Unauthorized("this API key is unknown, expired or revoked")
        if len(self._known) >= REMEMBERED_KEYS:
            self._known.clear()
        self._known[digest] = (found, asked_at + KNOWN_S)
        return found

    def _recall(self, digest: bytes) -> Caller | None:
        caller, until = self._known.get(digest, (None, 0.0))
        return caller if time.monotonic() < until else None

    def _look_up(self, key: str) -> Caller | None:
        with self._database.session() as session:
            if not self._needs_key:
                return Caller(collections.organization(session).id, Role.ADMIN, None)
            found = keys.find_valid(session, key)
            return Caller(found.organization_id, Role(found.role), found.id) if found is not None else None


class Gate:
    """Lets a request through to the routes once its key is known to be valid and to have the role that the route needs,
    its body has arrived, and it has a place in its lane. The place is free again when the response begins, unless the
    route keeps it: a client that reads slowly occupies none. A response that lasts ends when its key does."""

    def __init__(self, app: ASGIApp, callers: Callers, streams: Streams, lanes: Lanes, most_bytes: int) -> None:
        self._app = app
        self._callers = callers
        self._streams = streams
        self._lanes = lanes
        self._most_bytes = most_bytes
        self._buffer_bytes = max(BUFFERED_BYTES, 2 * most_bytes)
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        place = scope[PLACE] = Place(self._lanes.of(scope["method"], scope["path"]))

        async def send_freeing(message: Message) -> None:
            if message["type"] == "http.response.start":
                place.begin_response()
            await send(message)

        passing: Send = send_freeing
        response: Response | None = None
        try:
            if scope["path"] not in KEYLESS:
                caller = scope[CALLER] = await self._callers.find(scope)
                scope[ORGANIZATION] = caller.organization
                roles.check(scope, caller.role)
                if caller.key_id is not None:
                    response = Response(send_freeing, self._streams, caller.key_id)
                    passing = response.send
            await self._receive_body(receive, body)
            await place.take(receive)
            await self._app(scope, _replay(body, receive), passing)
        except Gone:
            return
        except _Refused as refused:
            await to_json({"detail": refused.detail}, refused.status, refused.headers)(scope, receive, send)
        except ServiceError as error:
            await answer_error(error)(scope, receive, send)
        except SQLAlchemyError as error:  # of the look-up of the key
            if (answer := answer_database_error(error)) is None:
                raise
            await answer(scope, receive, send)
        finally:
            if response is not None:
                self._streams.discard(response)
            place.free()
            self._buffered -= len(body)

    async def _receive_body(self, receive: Receive, body: bytearray) -> None:
        """Append the body to ``body``. Raises ``Gone`` and ``_Refused``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BODY_S
        more = True
        while more:
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + SILENCE_S)):
                    message = await receive()
            except TimeoutError:
                text = f"the body did not arrive within {BODY_S:.0f} s, or paused for {SILENCE_S:.0f} s"
                raise _Refused(408, text, {"Connection": "close"}) from None
            if message["type"] == "http.disconnect":
                raise Gone
            part, more = message.get("body", b""), message.get("more_body", False)
            body += part
            self._buffered += len(part)
            if len(body) > self._most_bytes:
                raise _Refused(413, f"the body is larger than {self._most_bytes:,} bytes (MAX_BODY_MB)")
            if self._buffered > self._buffer_bytes and len(body) > SMALL_BODY_BYTES:
                raise _Refused(503, OVERLOADED, AGAIN)


class _Refused(Exception):
    """The request is refused before a route sees it."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def is_open(path: str) -> bool:
    """Whether a route needs neither a key nor a place."""
    return any(path == each or path.startswith(each + "/") for each in OPEN)


def _read_key(scope: Scope) -> str | None:
    """The API key that the request sends, in ``X-API-Key`` or as a bearer token."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    scheme, _, token = headers.get(b"authorization", "").partition(" ")
    return headers.get(b"x-api-key") or (token.strip() if scheme.lower() == "bearer" else "") or None


def _replay(body: bytearray, receive: Receive) -> Receive:
    first: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replay() -> Message:
        nonlocal first
        message, first = first, None
        return message if message is not None else await receive()

    return replay
