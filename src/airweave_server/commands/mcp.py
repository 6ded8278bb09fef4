"""The command that gives agents the tools of MCP, and what connects agents to it."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .. import mcp_server
from ..client import Client
from .common import print_result, read_settings

NAME = "airweave-server"
NEEDLESS = "A server without AUTH_ENABLED=true needs no key, and ignores one."

CLAUDE = """\
{
  "mcpServers": {
    "airweave": {
      "command": "COMMAND",
      "args": ["mcp"],
      "env": {
        "API_URL": "URL",
        "API_KEY": "YOUR_API_KEY"
      }
    }
  }
}"""
CURSOR = """\
{
  "mcpServers": {
    "airweave": {
      "url": "URL/mcp",
      "headers": {
        "X-API-Key": "${env:AIRWEAVE_API_KEY}"
      }
    }
  }
}"""
VS_CODE = """\
{
  "inputs": [
    {
      "type": "promptString",
      "id": "airweave-api-key",
      "description": "API key of the Airweave Server",
      "password": true
    }
  ],
  "servers": {
    "airweave": {
      "type": "http",
      "url": "URL/mcp",
      "headers": {
        "X-API-Key": "${input:airweave-api-key}"
      }
    }
  }
}"""
PYTHON = """\
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    headers = {"X-API-Key": os.environ.get("AIRWEAVE_API_KEY", "")}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        async with Client(streamable_http_client("URL/mcp", http_client=http)) as airweave:
            found = await airweave.call_tool("list_collections", {})
            for each in found.structured_content["collections"]:
                answer = await airweave.call_tool(
                    "search", {"collection": each["collection"], "query": "ERR_1234", "limit": 3}
                )
                print(answer.content[0].text)


asyncio.run(main())"""
SNIPPETS = (
    ("Claude: .mcp.json of a project, or claude_desktop_config.json", "json", CLAUDE),
    ("Cursor: .cursor/mcp.json of a project, or of your home", "json", CURSOR),
    ("VS Code: .vscode/mcp.json of a workspace", "json", VS_CODE),
    ("A Python agent, with the packages mcp and httpx2", "python", PYTHON),
)

app = typer.Typer(rich_markup_mode=None)


@app.command()
def mcp(
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Instead, print what connects Claude, Cursor, VS Code or a Python agent."),
    ] = False,
) -> None:
    """Give an agent the tools of MCP, on standard input and output: list collections, search, read, and sync. They
    work on the server at API_URL, with the key in API_KEY."""
    settings = read_settings(log_to="stderr")  # standard output belongs to the protocol
    with Client.from_settings(settings) as client:
        if print_config:
            for line in format_snippets(client.url, command=_own_command()):
                print_result(line)
            return
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread that waits for input would hold the end up
        mcp_server.serve_streams(client)


def _own_command() -> str:
    """The program of this installation: agents have another PATH than the shell of a person."""
    own = Path(sys.executable).with_name(NAME)
    return str(own) if own.exists() else NAME


def format_snippets(url: str, *, command: str = NAME) -> Iterator[str]:
    """The snippets for a server at ``url``, as lines of Markdown. ``command``: how an agent starts this program."""
    yield NEEDLESS
    for title, language, snippet in SNIPPETS:
        text = snippet.replace("URL/", f"{url}/").replace('"URL"', json.dumps(url))
        lines = text.replace('"COMMAND"', json.dumps(command)).splitlines()
        yield from ("", title, "", f"```{language}", *lines, "```")
