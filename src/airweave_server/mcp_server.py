"""The MCP server: the tools of agents on standard streams and over HTTP."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import anyio
import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from .client import Client, check
from .errors import ClientError
from .mcp_tools import NOTICE, TOOLS, UNTRUSTED, AgentTool
from .version import __version__

STDIO_THREADS = 4
CALLER = "airweave.mcp.caller"  # in the scope of a request
INSTRUCTIONS = (
    "Collections hold what sources, such as folders and feeds, held when they were last synced. Find a collection with "
    "list_collections, search it, and read whole entities with read_entity. A result says when its source was synced "
    f"and whether that is stale; start_sync reads the source again, and sync_status shows how far it is. {NOTICE}"
)

log = structlog.get_logger(__name__)


class Caller:
    """Uses tools for one agent, each on a thread of ``threads``."""

    def __init__(self, client: Client, threads: ThreadPoolExecutor) -> None:
        self._client = client
        self._threads = threads
        self._running: set[Future[CallToolResult]] = set()

    async def use(self, name: str, given: dict[str, Any]) -> CallToolResult:
        running = self._threads.submit(_use, self._client, name, given)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(running)

    async def finish(self) -> None:
        """Wait until no tool runs any more."""
        while running := [asyncio.wrap_future(each) for each in list(self._running)]:
            await asyncio.wait(running)


def _use(client: Client, name: str, given: dict[str, Any]) -> CallToolResult:
    """Use a tool. An error is a result too, so that the agent reads it and can correct itself."""
    tool = TOOLS.get(name)
    if tool is None:
        return _fail(f"there is no tool of this name; the tools are {', '.join(TOOLS)}")
    try:
        told = tool.work(client, check(tool.asks, given))
    except ClientError as error:
        text = error.refusal or str(error)
        return _fail(f"{text.rstrip('.')}; {tool.hint}" if error.status == 404 else text)
    except Exception as error:
        log.error("tool_failed", tool=name, exc_info=error)
        return _fail(f"an error of the server in {name}; its log has it as tool_failed")
    values = told.model_dump(mode="json")
    return CallToolResult(content=[TextContent(text=to_text(values))], structured_content=values)


def _fail(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def to_text(values: dict[str, Any]) -> str:
    """A result as text. What is untrusted stands between two lines with an id that nobody can know beforehand."""
    return "\n".join(_lines(values, secrets.token_hex(6)))


def _lines(values: dict[str, Any], mark: str, indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if name == UNTRUSTED:
            yield f'{indent}<untrusted-content id="{mark}">'
            yield from _lines(value, mark, indent)
            yield f'{indent}</untrusted-content id="{mark}">'
        elif isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, mark, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, each in enumerate(value, start=1):
                yield f"{indent}{name} {number}:"
                yield from _lines(each, mark, indent + "  ")
        elif value is not None:
            yield f"{indent}{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"


def _describe(name: str, tool: AgentTool) -> Tool:
    return Tool(
        name=name,
        title=tool.title,
        description=tool.line,
        input_schema=tool.asks.model_json_schema(),
        output_schema=tool.tells.model_json_schema(mode="serialization"),
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.is_read_only,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=True,  # others wrote what the tools tell
        ),
    )


def make_server(find_caller: Callable[[Any], Caller]) -> Server[Any]:
    """The MCP server. ``find_caller``: by the HTTP request that a message came with, None on standard streams."""

    described = [_describe(name, tool) for name, tool in TOOLS.items()]
    schemas = {tool.name: tool.input_schema for tool in described}

    async def list_tools(_: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=described)

    async def call_tool(context: ServerRequestContext[Any, Any], asked: CallToolRequestParams) -> CallToolResult:
        return await find_caller(context.request).use(asked.name, asked.arguments or {})

    return Server(
        "airweave-server",
        version=__version__,
        title="Airweave Server",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def serve_streams(client: Client) -> None:
    """Serve one agent on standard input and output, until the input ends."""
    caller = Caller(client, ThreadPoolExecutor(STDIO_THREADS))
    server = make_server(lambda _: caller)

    async def serve() -> None:
        async with stdio_server() as (source, sink):
            await server.run(source, sink, server.create_initialization_options())

    anyio.run(serve)


class Sessionless:
    """Serves requests of streamable HTTP, each on its own; tools run on ``threads``."""

    def __init__(self, threads: ThreadPoolExecutor, most_bytes: int) -> None:
        self._threads = threads
        self._manager = StreamableHTTPSessionManager(
            make_server(lambda request: request.scope[CALLER]),
            json_response=True,
            stateless=True,
            max_request_body_size=most_bytes,
        )
        self._ended = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        started = asyncio.Event()

        async def run() -> None:  # in one task: the library must be left where it was entered
            async with self._manager.run():
                started.set()
                await self._ended.wait()

        self._running = asyncio.create_task(run())
        await started.wait()

    async def stop(self) -> None:
        self._ended.set()
        if self._running is not None:
            await self._running

    async def serve(self, client: Client, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request of the agent whose ``client`` it is. Ends when nothing of it runs any more, also if it is
        cancelled: a request without a thread leaves its thread to the next one."""
        caller = scope[CALLER] = Caller(client, self._threads)
        try:
            await self._manager.handle_request(scope, receive, send)
        finally:
            await caller.finish()
