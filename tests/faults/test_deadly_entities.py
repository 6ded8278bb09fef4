"""F13: an entity that ends or holds up every process that reads it: all others are indexed, and it is set aside."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from faults.readers import Kept, ended_in, pages, reader_of, readers, until
from invariants import content, hold, settled
from running import Running, Server, wait_until_ready
from servers.scripted_server import ScriptedServer, items

TOTAL, PAGE_SIZE = 80, 20
DEADLY = 31  # on the second page: what comes before it on the page is read again each time
STUCK_EXIT, KILLED = 70, -9
MOST_DEATHS = 7


def made_deadly(source: ScriptedServer, word: str) -> None:
    source.partitions = {"a": items(TOTAL // 2), "b": items(TOTAL // 2, prefix="other")}
    source.partitions["a"][DEADLY]["text"] += f" {word}"
    source.page_size, source.latency_s = PAGE_SIZE, 0.1


def others_finish(
    running: Running,
    database: Database,
    source: ScriptedServer,
    kind: str,
    say: Callable[[str], None],
    **settings: str,
) -> tuple[dict[str, Any], list[int]]:
    """Let the job come to its end while whoever dies is started again; returns it, and how processes ended."""
    server, processes, start = readers(running, 2, **settings)
    connection = server.connect_to(source, kind)
    with Kept(start, processes) as kept:
        job = server.run(connection)
        status = ended_in(database, job, 240, most_deaths=MOST_DEATHS)
        running_servers = [one for one in kept.processes if isinstance(one, Server) and one.process.poll() is None]
        for one in running_servers[:1]:
            wait_until_ready(one)
            server = one
        ended = server.job(connection, job)
        assert (status, ended["status"]) == ("completed", "completed"), ended["error"]
        say(f"attempts {ended['attempts']}, processes ended with {kept.exit_codes}")
        assert (ended["entities_inserted"], ended["entities_failed"]) == (TOTAL - 1, 1)
        settled(server, connection, ended)
        hold(running, ended, listed=TOTAL)
        deadly = f"item-{DEADLY:04}"
        entry = server.ledger(connection)[deadly]
        assert (entry["state"], entry["chunks"]) == ("failed", 0)
        assert "quarantined" in entry["reason"]
        found = content(running, connection)
        assert found.keys() == {item["id"] for item in source.listed()}
        assert [id for id, held in found.items() if held.state != "indexed" or not held.text] == [deadly]
    for one in {*kept.processes, server}:
        one.process.kill()
    return ended, kept.exit_codes


@pytest.mark.fault("F13", on="temporal")
@pytest.mark.parametrize("kind", ["opened", "embedded"])
def test_an_entity_that_ends_the_process_is_set_aside(
    apart: Running, database: Database, source: ScriptedServer, say: Callable[[str], None], kind: str
) -> None:
    made_deadly(source, "deadlykill")
    if kind == "opened":
        ended, codes = others_finish(apart, database, source, "deadly", say)
    else:
        ended, codes = others_finish(apart, database, source, "scripted", say, EMBEDDER="test-deadly")
    assert codes == [KILLED] * 5  # twice in a batch, and three times alone
    assert ended["attempts"] >= 6  # more if a heartbeat was late on a busy machine


@pytest.mark.fault("F13", on="temporal")
def test_an_entity_that_is_embedded_for_ever_is_set_aside(
    apart: Running, database: Database, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    made_deadly(source, "deadlyloop")
    times = {"STUCK_S": "3", "SOURCE_STALL_S": "10", "EMBEDDER": "test-deadly"}
    _, codes = others_finish(apart, database, source, "scripted", say, **times)
    assert codes == ([STUCK_EXIT] * 5 if apart.temporal is not None else [])


@pytest.mark.fault("F13")
def test_an_entity_that_was_read_well_is_not_set_aside_for_what_ends_its_reader_later(
    apart: Running, database: Database, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    source.partitions["a"] = [item | {"version": None} for item in items(300)]
    source.page_size, source.latency_s = PAGE_SIZE, 1.0
    server, processes, start = readers(apart, 2)
    connection = server.connect_to(source)

    def seen() -> tuple[int, int]:
        with database.session() as session:
            found = session.execute(text("select reads, inserted from sync_partition")).one_or_none()
        return (found.reads, found.inserted) if found is not None else (0, 0)

    def waits_for_the_source() -> bool:
        before = seen()
        time.sleep(0.7)  # entities take some hundredths of a second each
        return before[1] > 0 and seen() == before

    def asks_for_a_page() -> None:
        asked = len(pages(source))
        until(lambda: len(pages(source)) > asked, 20, "a page is asked for")

    with Kept(start, processes) as kept:
        job = server.run(connection)
        asks_for_a_page()
        reader_of(source, kept.processes).process.kill()
        until(waits_for_the_source, 90, "read one by one, and on to the next pages")
        for reads in (seen()[0] + 1, seen()[0] + 2):
            reader_of(source, kept.processes).process.kill()
            until(lambda reads=reads: seen()[0] == reads, 90, "another reader")  # type: ignore[misc]
            asks_for_a_page()
        source.latency_s = 0.05
        assert ended_in(database, job, 120) == "completed"
        asked = (server, *kept.processes)
        alive = next(one for one in asked if isinstance(one, Server) and one.process.poll() is None)
        wait_until_ready(alive)
        ended = alive.job(connection, job)
        failed = {id: entry["reason"] for id, entry in alive.ledger(connection).items() if entry["state"] != "indexed"}
    say(f"{kept.exit_codes}, attempts {ended['attempts']}")
    assert failed == {}
    assert ended["entities_inserted"] == 300
