"""Agents for tests: the official MCP client, over standard streams and over HTTP."""

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from airweave_server.mcp_tools import NOTICE, UNTRUSTED
from running import Running, Server

CALL_S = 60.0
WAYS = ("stdio", "http", "http with a handshake")  # clients from before July 2026 shake hands
MARKED = re.compile(r'<untrusted-content id="([0-9a-f]{12})">\n.*?</untrusted-content id="\1">', re.DOTALL)


class Agent:
    """A connected client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def tell(self, tool: str, /, **given: Any) -> CallToolResult:
        return await self.client.call_tool(tool, given, read_timeout_seconds=CALL_S)

    async def use(self, tool: str, /, **given: Any) -> dict[str, Any]:
        """The result of a tool that must not fail. The client has checked it against the tool's schema."""
        result = await self.tell(tool, **given)
        assert not result.is_error, text_of(result)
        assert isinstance(result.structured_content, dict)
        assert NOTICE in text_of(result)
        return result.structured_content

    async def error(self, tool: str, /, **given: Any) -> str:
        """The error of a tool that must fail."""
        result = await self.tell(tool, **given)
        assert result.is_error, text_of(result)
        return text_of(result)


def act(running: Running, server: Server, way: str, script: Callable[[Agent], Awaitable[None]], key: str = "") -> None:
    """Run the script of an agent that is connected in this way."""

    async def run() -> None:
        with anyio.fail_after(180):
            async with connected(running, server, way, key) as agent:
                await script(agent)

    try:
        anyio.run(run)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


@asynccontextmanager
async def connected(running: Running, server: Server, way: str, key: str = "") -> AsyncIterator[Agent]:
    if way == "stdio":
        environment = running.environment(API_URL=server.url, API_KEY=key)
        command = StdioServerParameters(command=sys.executable, args=["-m", "airweave_server", "mcp"], env=environment)
        async with Client(command) as client:
            yield Agent(client)
        return
    headers = {"X-API-Key": key} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=CALL_S) as http,
        Client(
            streamable_http_client(f"{server.url}/mcp", http_client=http), mode="auto" if way == "http" else "legacy"
        ) as client,
    ):
        yield Agent(client)


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if part.type == "text")


def outside(value: Any) -> str:
    """All that a result says outside of what it marks as untrusted."""
    if isinstance(value, str):
        return MARKED.sub("", value)
    if isinstance(value, dict):
        return " ".join(f"{name} {outside(each)}" for name, each in value.items() if name != UNTRUSTED)
    return " ".join(map(outside, value)) if isinstance(value, list) else str(value)
