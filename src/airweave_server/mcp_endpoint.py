"""MCP over HTTP: what the API mounts. The MCP server itself, whose library takes a second to load, is loaded with the
first request."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from .client import Client

if TYPE_CHECKING:
    from .mcp_server import Sessionless

PATH = "/mcp"
MOST_BYTES = 1024 * 1024  # of a request
INVALID_REQUEST = -32600  # of JSON-RPC

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Endpoint:
    """Streamable HTTP as an ASGI application: each request stands alone, without a session, and is answered with JSON.
    It calls the application that it is mounted in, from threads of its own, so that a request that waits for such a
    call holds no thread that the call may need."""

    path = PATH

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="mcp")
        self._loading: asyncio.Task[Sessionless] | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        yield
        if self._loading is not None:
            await (await self._loading).stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # for the metrics
        if scope["method"] != "POST":
            await _refuse(send, 405, "send MCP messages with POST; this server has no stream to GET", {"allow": "POST"})
            return
        body = await receive()  # whole, as the gate passes it on
        if len(body.get("body", b"")) > MOST_BYTES:
            await _refuse(send, 413, f"the request is larger than {MOST_BYTES:,} bytes; send a smaller one")
            return
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        server = await asyncio.shield(self._loading)
        gone = asyncio.Event()
        client = Client("http://localhost", transport=_InProcess(scope, gone))
        leaving = asyncio.ensure_future(receive())  # what comes after the body is the end of the connection
        serving = asyncio.ensure_future(server.serve(client, scope, partial(_replay, [body], gone), send))
        try:
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.set()
            leaving.cancel()
            serving.cancel()
            await asyncio.wait({serving})
        if not serving.cancelled():
            serving.result()

    async def _load(self) -> "Sessionless":
        server = await asyncio.get_running_loop().run_in_executor(self._threads, _make_server, self._threads)
        await server.start()
        return server


def _make_server(threads: ThreadPoolExecutor) -> "Sessionless":
    from .mcp_server import Sessionless

    return Sessionless(threads, MOST_BYTES)


class _InProcess(httpx.BaseTransport):
    """Sends requests to the application that serves ``scope``, for the same caller: with its key, under the same host.
    Blocks the calling thread, which is not the one of the event loop. ``gone``: the caller has gone away."""

    def __init__(self, scope: Scope, gone: asyncio.Event) -> None:
        self._outer = scope
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._headers = [each for each in scope["headers"] if each[0] in (b"host", b"x-api-key", b"authorization")]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._send(request), self._loop).result()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        own = [(name.lower(), value) for name, value in request.headers.raw if name.lower() != b"host"]
        scope = {
            **{name: self._outer.get(name) for name in ("type", "asgi", "http_version", "scheme", "client", "server")},
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "root_path": "",
            "headers": [*own, *self._headers],
        }
        status, body = 0, bytearray()

        async def take(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            body.extend(message.get("body", b""))

        sent: list[Message] = [{"type": "http.request", "body": request.read(), "more_body": False}]
        try:
            await self._outer["app"](scope, partial(_replay, sent, self._gone), take)
        except Exception:
            if not status:  # else the application has answered, and logged it
                raise
        if not status:
            raise httpx.RemoteProtocolError("the client has gone away", request=request)
        return httpx.Response(status, content=bytes(body), request=request)


class Refusals:
    """Puts what refuses a request to ``PATH`` before the MCP server sees it into the form that MCP clients show."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        refused: Message | None = None
        body = bytearray()

        async def translate(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = message
            elif refused is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _pass_on(send, refused, bytes(body))

        await self._app(scope, receive, translate)


async def _pass_on(send: Send, start: Message, body: bytes) -> None:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and "detail" in said:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
        kept = {name: value for name, value in headers.items() if name not in ("content-length", "content-type")}
        await _refuse(send, start["status"], str(said["detail"]), kept)
        return
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": text}}
    body = json.dumps(error).encode()
    named = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _replay(messages: list[Message], gone: asyncio.Event) -> Message:
    """What an application receives: these messages, and the end of the connection once the client is gone."""
    if messages:
        return messages.pop(0)
    await gone.wait()
    return {"type": "http.disconnect"}
