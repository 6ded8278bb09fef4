"""Sources whose listing is no proof: what is not met is kept, or waits for a person."""

from typing import Any

import pytest

from running import IN_PROCESS, TEMPORAL, Server
from servers.scripted_server import ScriptedServer, items

BOTH = pytest.mark.parametrize("driver", [IN_PROCESS, TEMPORAL], indirect=True, scope="module")


def reconfigure(server: Server, connection: str, source: ScriptedServer, timeout_s: int) -> None:
    """Change the configuration, in a way that changes nothing for the source."""
    config = {"url": source.url, "timeout_s": timeout_s}
    server.http.patch(f"/source-connections/{connection}", json={"config": config}).raise_for_status()


def held(server: Server, connection: str) -> list[dict[str, Any]]:
    return list(server.get(f"/source-connections/{connection}/held-deletes"))


def full(server: Server, connection: str) -> tuple[str, int, int]:
    """How a full job ended, what it deleted and what it held."""
    job = server.sync(connection, force_full_sync=True)
    return job["status"], job["entities_deleted"], job["held_deletes"]


def roll(source: ScriptedServer, start: int, count: int = 30) -> set[str]:
    """Let the feed show these items only; returns their ids."""
    source.partitions["a"] = items(count, start=start)
    return {item["id"] for item in source.partitions["a"]}


def test_what_rolls_off_a_feed_stays(server: Server, source: ScriptedServer) -> None:
    roll(source, 0)
    connection = server.connect_to(source, "scripted_window")
    assert server.sync(connection)["entities_inserted"] == 30
    for start in (20, 40):
        roll(source, start)
        assert full(server, connection) == ("completed", 0, 0)
    source.partitions["a"] = []
    assert full(server, connection) == ("completed", 0, 0)
    assert len(server.ledger(connection)) == 70
    assert held(server, connection) == []

    source.partitions["a"] = [{"id": "item-0003", "deleted": True}, *items(5, start=65)]
    assert full(server, connection) == ("completed", 1, 0), "the source itself says that it is gone"
    assert set(server.ledger(connection)) == {f"item-{number:04}" for number in range(70)} - {"item-0003"}


@BOTH
def test_what_a_changed_configuration_leaves_of_a_feed_waits_for_a_person(
    server: Server, source: ScriptedServer
) -> None:
    roll(source, 0)
    connection = server.connect_to(source, "scripted_window")
    server.sync(connection)
    roll(source, 20)
    reconfigure(server, connection, source, 31)
    assert full(server, connection) == ("completed", 0, 20)
    (plan,) = held(server, connection)
    assert "20 of 50 entities were not met, which does not prove that they are gone" in plan["reason"]

    for start in (30, 35):
        roll(source, start)
        assert full(server, connection) == ("completed", 0, 0)
    assert [one["id"] for one in held(server, connection)] == [plan["id"]], "later jobs know no better"

    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    done = server.finish(connection, approval["id"])
    assert (done["status"], done["entities_deleted"], done["held_deletes"]) == ("completed", 20, 0)
    assert set(server.ledger(connection)) == {f"item-{number:04}" for number in range(20, 65)}
    assert held(server, connection) == []


def test_what_is_there_again_is_not_deleted_by_an_approval(server: Server, source: ScriptedServer) -> None:
    roll(source, 0)
    connection = server.connect_to(source, "scripted_window")
    server.sync(connection)
    roll(source, 20)
    reconfigure(server, connection, source, 31)
    full(server, connection)
    (plan,) = held(server, connection)
    shown = roll(source, 10, 5)
    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    assert server.finish(connection, approval["id"])["entities_deleted"] == 15
    assert shown < set(server.ledger(connection))


def test_held_deletes_of_a_feed_may_be_dismissed(server: Server, source: ScriptedServer) -> None:
    roll(source, 0)
    connection = server.connect_to(source, "scripted_window")
    server.sync(connection)
    roll(source, 20)
    reconfigure(server, connection, source, 31)
    full(server, connection)
    (plan,) = held(server, connection)
    server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/dismiss")
    assert full(server, connection) == ("completed", 0, 0)
    assert held(server, connection) == []
    assert len(server.ledger(connection)) == 50


def test_a_feed_that_was_changed_before_its_first_job_ended_holds_what_that_brought(
    server: Server, source: ScriptedServer
) -> None:
    source.page_size = 10
    roll(source, 0)
    source.fault("status", status=404, page=2)
    connection = server.connect_to(source, "scripted_window")
    assert server.sync(connection)["status"] == "failed"
    brought = len(server.ledger(connection))
    assert brought == 20
    source.faults.clear()
    reconfigure(server, connection, source, 31)
    roll(source, 100)
    assert full(server, connection) == ("completed", 0, brought)


def test_a_listing_that_proves_nothing_deletes_nothing_by_itself(server: Server, source: ScriptedServer) -> None:
    roll(source, 0)
    connection = server.connect_to(source, "scripted_unproven")
    server.sync(connection)
    source.remove("a", "item-0007")
    for _ in range(2):
        assert full(server, connection) == ("completed", 0, 1)
        (plan,) = held(server, connection)
        assert "1 of 30 entities were not met" in plan["reason"]
    source.partitions["a"].append({"id": "item-0008", "deleted": True})
    source.remove("a", "item-0008")
    assert full(server, connection) == ("completed", 1, 1), "the source itself says that one is gone"
    (plan,) = held(server, connection)
    approval = server.post(f"/source-connections/{connection}/held-deletes/{plan['id']}/approve")
    assert server.finish(connection, approval["id"])["entities_deleted"] == 1
    assert len(server.ledger(connection)) == 28
    assert full(server, connection) == ("completed", 0, 0)
