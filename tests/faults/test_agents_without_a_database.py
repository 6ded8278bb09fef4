"""An agent whose server has lost its database gets one clear error, soon, and goes on when the database is back."""

import time

import pytest
from mcp import MCPError

from agents import WAYS, Agent, act, text_of
from airweave_server.db.embedded import EmbeddedPostgres
from running import Running

SOON_S = 30.0


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_call_while_the_database_is_away(on_frail: Running, frail: EmbeddedPostgres, way: str) -> None:
    server = on_frail.start()
    collection = server.collection()

    async def script(agent: Agent) -> None:
        assert (await agent.use("search", collection=collection, query="bees"))["hits"] == []
        frail.stop()
        for _ in range(3):
            began_at = time.monotonic()
            try:
                said = text_of(await agent.tell("search", collection=collection, query="bees"))
            except MCPError as error:
                said = str(error)
            assert "the database cannot be reached; try again" in said
            assert time.monotonic() - began_at < SOON_S
        frail.start()
        server.wait_for(lambda: server.http.get("/health/ready").status_code, lambda status: status == 200, 60)
        assert (await agent.use("search", collection=collection, query="bees"))["hits"] == []

    act(on_frail, server, way, script)
