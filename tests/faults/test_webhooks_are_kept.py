"""F51: the server, the worker and Postgres are killed, and the receiver fails for a while: it gets every event, at
least once, signed and in sequence, and no event that never was."""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from invariants import hold, watch
from running import Running, Server, plain, wait_until_ready
from servers.scripted_server import ScriptedServer, items
from servers.webhook_receiver import WebhookReceiver

TYPES = [f"sync.{status}" for status in ("pending", "running", "cancelling", "completed", "failed", "cancelled")]
TYPES += ["collection.created", "collection.updated", "source_connection.created"]
PATH = "/all"


@pytest.mark.fault("F51", on="in_process")
def test_no_event_is_lost_or_invented_whatever_is_killed(
    on_frail: Running, frail: EmbeddedPostgres, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    source.partitions = {"a": items(60)}
    source.latency_s = 0.1
    with WebhookReceiver() as receiver:
        receiver.always[PATH] = 500
        server = on_frail.start()
        watched = Database(on_frail.database_url)
        watch(watched)
        watched.close()
        body = {"url": receiver.url(PATH), "event_types": TYPES}
        subscription = server.post("/webhooks/subscriptions", body)["id"]
        secret = server.get(f"/webhooks/subscriptions/{subscription}", include_secret=True)["secret"]
        collection = server.collection()
        connection = server.connect_to(source, collection=collection)
        jobs: list[str] = []

        def begin() -> str:
            """Start a job and cause other events beside it, and let it run for a moment."""
            jobs.append(server.run(connection, force_full_sync=True))
            assert server.http.post(f"/source-connections/{connection}/run").status_code == 400  # causes none
            named = {"name": f"Renamed {len(jobs)}"}
            assert server.http.patch(f"/collections/{collection}", json=named).status_code == 200
            time.sleep(chance.uniform(0, 0.7))
            return jobs[-1]

        job = begin()
        server.wait_for(lambda: receiver.got(PATH), bool)  # it fails meanwhile
        server.kill()
        server = on_frail.start()
        ended = [server.finish(connection, job)]

        receiver.always[PATH] = 200
        job = begin()
        kill_postgres(frail)
        wait_until_ready(server)
        ended.append(server.finish(connection, job))

        receiver.hanging.add(PATH)  # killed between its getting an event and the record of that
        job = begin()
        if server.worker is not None:
            server.worker.kill()
            on_frail.start_worker()
        count = len(receiver.got(PATH))
        server.wait_for(lambda: len(receiver.got(PATH)), lambda found: found > count)
        server.kill()
        receiver.hanging.discard(PATH)
        server = on_frail.start()
        ended.append(server.finish(connection, job))

        written = server.wait_for(lambda: messages(on_frail), lambda found: is_all_there(server, receiver, found), 60)
        got = receiver.got(PATH)
        firsts = {one.id: one for one in reversed(receiver.got(PATH, ok=True))}
    assert [each["status"] for each in ended] == ["completed"] * 3
    assert firsts.keys() == written
    assert [one.number for one in sorted(firsts.values(), key=got.index)] == list(range(1, len(written) + 1))
    assert all(one.is_signed_with(secret) for one in got)
    assert all(one.body == firsts[one.id].body for one in got)
    kinds = [one.payload["event_type"] for one in firsts.values()]
    assert (kinds.count("collection.updated"), kinds.count("sync.pending"), kinds.count("sync.completed")) == (3, 3, 3)
    hold(on_frail, *ended)
    say(f"seed {seed}: {len(written)} events, {len(got)} requests")


def is_all_there(server: Server, receiver: WebhookReceiver, written: set[str]) -> bool:
    return {one.id for one in receiver.got(PATH, ok=True)} >= written


def messages(running: Running) -> set[str]:
    """The ids of the messages of these types that were written."""
    with psycopg.connect(plain(running.database_url)) as database:
        rows: list[Any] = database.execute(
            "select id::text from webhook_message where event_type = any(%s)", (TYPES,)
        ).fetchall()
    return {row[0] for row in rows}


def kill_postgres(frail: EmbeddedPostgres) -> None:
    """Kill Postgres, and start it again."""
    pid = int((frail.layout.cluster / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not frail.ensure():
        assert time.monotonic() < deadline, f"Postgres (process {pid}) does not end"
        time.sleep(0.05)
