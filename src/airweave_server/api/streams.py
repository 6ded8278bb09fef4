"""Responses that last: each ends soon after its API key was revoked or has expired, whatever route sends it."""

import asyncio
import json
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message, Send

from ..db import keys
from ..db.session import Database, first_line

LOOK_S = 0.4  # between two looks at the keys of the responses that last
OVER = "the API key was revoked or has expired"

log = structlog.get_logger(__name__)


class Streams:
    """The responses under way, and the task that looks at their keys, which runs only while there are any. One query
    serves all of them. Use it on the server's event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: set[Response] = set()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def add(self, response: "Response") -> None:
        self._open.add(response)
        if self._task is None:
            self._task = asyncio.create_task(self._keep_looking(), name="watch-keys")

    def discard(self, response: "Response") -> None:
        self._open.discard(response)

    async def _keep_looking(self) -> None:
        while self._open:
            await asyncio.sleep(LOOK_S)
            asked = {response.key_id for response in self._open}
            try:
                # not on the threads of the API, which may all be busy
                dead = await asyncio.to_thread(self._look, asked)
            except SQLAlchemyError as error:  # without a database nothing new is sent, and the next look may work
                log.warning("keys_unknown", error=first_line(error))
                continue
            except Exception as error:  # the outermost loop of this task: it must not end
                log.error("unexpected_error", exc_info=error)
                continue
            for response in [each for each in self._open if each.key_id in dead]:
                self.discard(response)
                task = asyncio.create_task(response.end(), name="end-response")  # a slow client delays only itself
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        self._task = None

    def _look(self, asked: set[UUID]) -> set[UUID]:
        with self._database.session() as session:
            return keys.find_dead(session, asked)


class Response:
    """One response, between the application and the client."""

    def __init__(self, send: Send, streams: Streams, key_id: UUID) -> None:
        self.key_id = key_id
        self._send = send
        self._streams = streams
        self._lock = asyncio.Lock()  # the end does not cut a part in two
        self._is_over = False
        self._has_length = False
        self._has_events = False

    async def send(self, message: Message) -> None:
        """Pass a part on; nothing, once the response was ended."""
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            self._has_length = b"content-length" in headers
            self._has_events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        elif message.get("more_body") and not self._has_length:
            self._streams.add(self)
        async with self._lock:
            if not self._is_over:
                await self._send(message)

    async def end(self) -> None:
        """End the response now, and tell the client why if it is a stream of events. The application sees a client that
        has left."""
        self._is_over = True
        said = f"data: {json.dumps({'type': 'error', 'message': OVER})}\n\n" if self._has_events else ""
        async with self._lock:
            with suppress(OSError, RuntimeError):  # it has just ended by itself
                await self._send({"type": "http.response.body", "body": said.encode(), "more_body": False})
