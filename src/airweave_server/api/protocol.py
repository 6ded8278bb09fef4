"""HTTP/1.1 connections with the limits that uvicorn leaves to a proxy: on time, on the size of a head, on their number.
Bodies have their limits in ``gate.py``."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .gate import MAX_HEADER_BYTES

HEAD_S = 10.0  # from the first byte of a request, or the opening of a connection, to the end of the head
STALL_S = 30.0  # for which a client may take less of its response than LEAST_BYTES
LEAST_BYTES = 16 * 1024
MOST_CONNECTIONS = 2_000  # beyond it, the one that has been without a request for longest is closed for a new one

_LATE = b"408 Request Timeout", b"the head of the request did not arrive in time"
_LARGE = b"431 Request Header Fields Too Large", b"the head of the request is too large"
_FULL = b"503 Service Unavailable", b"too many connections; try again"


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    most_connections: ClassVar[int] = MOST_CONNECTIONS
    _idle: ClassVar[dict["LimitedProtocol", None]] = {}  # without a request, longest first

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # received since the head began
        self._header_bytes = 0  # of the headers parsed so far
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                self._refuse(_FULL, retry_after=True)
                return
            oldest._forget()
            oldest.transport.abort()
        self._idle[self] = None
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._begin_head()  # the rest of a body that was refused has as long to come, and is dropped
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEADER_BYTES and not self._drops_body():
            self._refuse(_LARGE)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check_size(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        self._check_size(self._header_bytes)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._forget()
        self._unset_keepalive_if_required()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.cycle.more_body = False
        if self.cycle.response_complete:  # the last of a body that was refused: what follows is a new request
            self._forget()
            self._idle[self] = None
            self._head_bytes = 0
            if not self.transport.is_closing():
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def on_response_complete(self) -> None:
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle.body = bytearray()  # what came of a body that nobody will read
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_S, self._refuse, _LATE)

    def _forget(self) -> None:
        """Not idle any more: a request has begun, or the connection ends."""
        self._idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drops_body(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _check_size(self, size: int) -> None:
        if size > MAX_HEADER_BYTES:
            raise ValueError("the head of the request is too large")  # the parser stops, and uvicorn answers 400

    def _refuse(self, answer: tuple[bytes, bytes], *, retry_after: bool = False) -> None:
        self._forget()
        if self.transport.is_closing():
            return
        status, detail = answer
        body = b'{"detail": "%s"}' % detail
        again = b"Retry-After: 1\r\n" if retry_after else b""
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n"
        if self.cycle is None or (self.cycle.response_complete and not self._drops_body()):
            self.transport.write(head % (status, len(body), again) + body)
        self.transport.close()

    def _watch_reader(self, before: int) -> None:
        self._stall_timer = self.loop.call_later(STALL_S, self._check_reader, before)

    def _check_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < LEAST_BYTES:
            self.transport.abort()
        else:
            self._watch_reader(left)
