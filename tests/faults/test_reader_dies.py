"""F1: whoever reads is killed in the middle of a job, and another goes on from the last batch."""

import random
import time
from collections.abc import Callable

import pytest

from airweave_server.db.session import Database
from faults.readers import Process, asked_again, pages, reader_of, readers, until
from invariants import Followed, agree, hold, settled
from running import Running, Server
from servers.scripted_server import ScriptedServer, items

LATENCY_S = 0.2
WINDOW_S = 2.0  # of reading at a time; what it holds is written in batches
BATCH_ITEMS = 1_000
UNDER_WAY = 2  # pages: the one that was asked for last, and one that a batch ended in
TAKEOVER_S = 30.0


def killed_at_page(page: int, source: ScriptedServer, processes: list[Process]) -> tuple[Process, float]:
    """Kill whoever reads once this page was asked for. Returns who is left, and how long it took to go on."""
    until(lambda: len(pages(source)) > page, 60, f"page {page}")
    reader = reader_of(source, processes)
    reader.process.kill()
    killed_at = time.monotonic()
    reader.process.wait()
    asked = len(pages(source))
    until(lambda: len(pages(source)) > asked, 90, "somebody else goes on")
    return next(one for one in processes if one is not reader), time.monotonic() - killed_at


@pytest.mark.fault("F1", on="temporal")
def test_another_process_goes_on_where_a_killed_one_was(
    running: Running, fresh_database: Database, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    page = random.Random(seed).randrange(8, 14)
    server, processes, _ = readers(running, 2)
    source.partitions["a"] = items(2_000)
    source.page_size, source.latency_s = 80, LATENCY_S
    connection = server.connect_to(source)
    job = server.run(connection)
    stays, took_s = killed_at_page(page, source, processes)
    server = stays if isinstance(stays, Server) else server
    with Followed(server, connection, job):
        ended = server.finish(connection, job, 120)
    again = asked_again(source)
    say(
        f"seed {seed}: killed at page {page} of 25, another went on after {took_s:.1f} s and read {again} pages "
        f"({again * source.page_size} entities, {again * LATENCY_S:.1f} s) again"
    )
    assert took_s < TAKEOVER_S
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 2_000)
    takeovers = ended["attempts"] - 1
    assert takeovers >= 1  # more if a heartbeat was late on a busy machine
    assert again * source.page_size <= takeovers * BATCH_ITEMS
    assert again * LATENCY_S <= takeovers * (WINDOW_S + UNDER_WAY * LATENCY_S)
    settled(server, connection, ended)
    hold(running, ended, listed=2_000)
    agree(running, connection, source.listed())
    for one in {server, *processes} - {stays}:
        one.terminate() if one.process.poll() is None else None


@pytest.mark.fault("F1")
def test_no_more_than_a_batch_is_read_again(apart: Running, source: ScriptedServer, say: Callable[[str], None]) -> None:
    server, processes, _ = readers(apart, 2)
    source.partitions["a"] = items(300)
    source.page_size, source.latency_s = 15, LATENCY_S  # 150 entities in 2 s: fewer than fill a batch
    connection = server.connect_to(source)
    job = server.run(connection)
    stays, _ = killed_at_page(14, source, processes)
    server = stays if isinstance(stays, Server) else server
    ended = server.finish(connection, job, 120)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 300)
    again = asked_again(source)
    takeovers = max(1, ended["attempts"] - 1)  # more than one if a lease lapsed on a busy machine
    say(f"{again} pages, {again * LATENCY_S:.1f} s of reading, were read again")
    assert again * LATENCY_S <= takeovers * (WINDOW_S + UNDER_WAY * LATENCY_S)
