"""F4: Postgres ends ten times in the middle of a job, in good order or by a kill, and is started again."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from faults.readers import asked_again, ended_in, until
from invariants import agree, hold, settled, watch
from running import Running, wait_until_ready
from servers.scripted_server import ScriptedServer, items

ByTimes = Callable[[float, float], float]

RESTARTS, TOTAL, PAGE_SIZE = 10, 2_000, 40
# one statement, one moment: what the job's counters say, what its ledger holds, and whose chunks are not as declared
MOMENT = """
    select (select coalesce(sum(p.inserted + p.updated + p.kept + p.skipped + p.failed), 0) from sync_partition p
              join sync_job j on j.id = p.job_id where j.connection_id = :id) as counted,
           (select count(*) from entity where connection_id = :id) as ledger,
           (select count(*) from entity e where connection_id = :id
              and e.chunks <> (select count(*) from chunk c where c.entity_row = e.row)) as torn
"""


@pytest.fixture
def database(frail: EmbeddedPostgres) -> Iterator[Database]:
    opened = Database(frail.start())
    yield opened
    opened.close()


def moment(database: Database, connection: str) -> int:
    """Looks at the database in the middle of a first job: no batch is there by half. Returns how many entities are."""
    with database.session() as session:
        counted, ledger, torn = session.execute(text(MOMENT), {"id": connection}).one()
    assert torn == 0, f"{torn} entities have not the chunks that the ledger declares"
    assert counted == ledger, f"the counters say {counted} entities, the ledger has {ledger}"
    return int(ledger)


class Looking:
    """Looks at what the job has written, at every moment that Postgres answers."""

    def __init__(self, database: Database, connection: str) -> None:
        self._database, self._connection = database, connection
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.entities: list[int] = []
        self.troubles: list[str] = []

    def __enter__(self) -> "Looking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _look(self) -> None:
        while not self._stopping.wait(0.05):
            with suppress(SQLAlchemyError):  # down at this moment
                try:
                    self.entities.append(moment(self._database, self._connection))
                except AssertionError as error:
                    self.troubles.append(str(error))


@pytest.mark.fault("F4", on="temporal")
def test_postgres_ends_ten_times_in_a_job(
    on_frail: Running,
    frail: EmbeddedPostgres,
    database: Database,
    source: ScriptedServer,
    by_times: ByTimes,
    say: Callable[[str], None],
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    server = on_frail.start()
    watch(database)
    source.partitions = {"a": items(TOTAL // 2), "b": items(TOTAL // 2, prefix="other")}
    source.page_size, source.latency_s = PAGE_SIZE, by_times(0.4, 5)
    connection = server.connect_to(source)
    job = server.run(connection)
    gap_s = by_times(2, 5), by_times(4, 40)
    middle = 0
    with Looking(database, connection) as looking:
        until(lambda: looking.entities and looking.entities[-1] > 0, 60, "the first batch")
        for number in range(RESTARTS):
            time.sleep(chance.uniform(*gap_s))
            seen = looking.entities[-1:]
            middle += bool(seen) and 0 < seen[0] < TOTAL
            pid = int((frail.layout.cluster / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL if number % 2 else signal.SIGINT)
            deadline = time.monotonic() + 60
            while not frail.ensure():
                assert time.monotonic() < deadline, f"Postgres (process {pid}) does not end"
                time.sleep(0.05)
        source.latency_s = 0.05
        status = ended_in(database, job, 180)
    wait_until_ready(server)
    ended = server.job(connection, job)
    say(
        f"seed {seed}: {RESTARTS} ends of Postgres, {middle} after the first batch, attempts {ended['attempts']}, "
        f"{asked_again(source)} of {TOTAL // PAGE_SIZE} pages read again, {len(looking.entities)} looks"
    )
    assert not looking.troubles, looking.troubles[:3]
    assert looking.entities == sorted(looking.entities), "what was committed is gone"
    assert middle >= by_times(RESTARTS / 2, 1)
    assert (status, ended["status"]) == ("completed", "completed"), ended["error"]
    assert ended["entities_inserted"] == TOTAL
    settled(server, connection, ended)
    hold(on_frail, ended, listed=TOTAL)
    agree(on_frail, connection, source.listed())
