"""F2, F3: the Temporal server is killed, comes back, loses its data, or is not there when a job is asked for."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from airweave_server.db.session import Database
from faults.readers import asked_again, pages, until
from invariants import Followed, agree, hold, settled
from running import Running, TemporalServer
from servers.scripted_server import ScriptedServer, items

TOTAL, PAGE_SIZE = 1_200, 15
TEMPORAL, IN_PROCESS = "temporal", "in_process"

ByTimes = Callable[[float, float], float]


@pytest.fixture
def temporal_server(scratch: Path) -> Iterator[TemporalServer]:
    """A server of the test's own, to be killed."""
    server = TemporalServer(Path(tempfile.mkdtemp(prefix="temporal-", dir=scratch)))
    yield server
    server.stop()


@pytest.fixture
def slow(source: ScriptedServer, by_times: ByTimes) -> ScriptedServer:
    """A source of two partitions whose read takes a good while longer than the leases: 12 s, or 80 s."""
    source.partitions = {"a": items(TOTAL // 2), "b": items(TOTAL // 2, prefix="other")}
    source.page_size, source.latency_s = PAGE_SIZE, by_times(0.3, 2.0)
    return source


@pytest.mark.fault("F2", on="temporal", only="temporal")
def test_temporal_is_killed_and_comes_back_on_its_data(
    apart: Running,
    temporal_server: TemporalServer,
    database: Database,
    slow: ScriptedServer,
    by_times: ByTimes,
    say: Callable[[str], None],
) -> None:
    server = apart.start()
    connection = server.connect_to(slow)
    job = server.run(connection)
    until(lambda: len(pages(slow)) > 16, 60, "the middle of the job")
    with Followed(server, connection, job) as watch:
        temporal_server.kill()
        time.sleep(by_times(5, 60))
        down = len(watch.seen)
        temporal_server.start()
        ended = server.finish(connection, job, 240)
    assert down > by_times(10, 100), "the API answered while Temporal was down"
    assert (ended["status"], ended["entities_inserted"]) == ("completed", TOTAL)
    say(f"ended {ended['engine']}, attempts {ended['attempts']}, {asked_again(slow)} of 80 pages read again")
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, slow.listed())
    assert server.finish(connection, server.run(connection), 120)["engine"] == TEMPORAL


@pytest.mark.fault("F2", on="temporal", only="temporal")
def test_temporal_comes_back_without_its_data(
    apart: Running,
    temporal_server: TemporalServer,
    database: Database,
    slow: ScriptedServer,
    by_times: ByTimes,
    say: Callable[[str], None],
) -> None:
    server = apart.start()
    connection = server.connect_to(slow)
    job = server.run(connection)
    until(lambda: len(pages(slow)) > 16, 60, "the middle of the job")
    with Followed(server, connection, job):
        temporal_server.kill()
        temporal_server.forget()
        time.sleep(by_times(1, 10))
        temporal_server.start()
        ended = server.finish(connection, job, 240)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", TOTAL)
    say(f"ended {ended['engine']}, attempts {ended['attempts']}, {asked_again(slow)} of 80 pages read again")
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, slow.listed())


@pytest.mark.fault("F2", on="temporal", only="temporal")
def test_temporal_and_the_worker_die_and_the_job_goes_on_in_process(
    apart: Running,
    temporal_server: TemporalServer,
    database: Database,
    slow: ScriptedServer,
    say: Callable[[str], None],
) -> None:
    server = apart.start()
    connection = server.connect_to(slow)
    job = server.run(connection)
    until(lambda: len(pages(slow)) > 16, 60, "the middle of the job")
    with Followed(server, connection, job):
        temporal_server.kill()
        assert server.worker is not None
        server.worker.kill()
        killed_at = time.monotonic()
        server.wait_for(lambda: server.job(connection, job), lambda seen: seen["engine"] == IN_PROCESS, 120)
        say(f"in process after {time.monotonic() - killed_at:.1f} s")
        temporal_server.start()
        apart.ready_worker()
        ended = server.finish(connection, job, 240)
    assert (ended["status"], ended["engine"], ended["entities_inserted"]) == ("completed", IN_PROCESS, TOTAL)
    assert str(temporal_server.port) in ended["engine_reason"]
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, slow.listed())


@pytest.mark.fault("F2", on="temporal", only="temporal")
def test_a_job_that_no_worker_took_yet_outlives_the_data_of_temporal(
    apart: Running, temporal_server: TemporalServer, database: Database, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(20)
    server = apart.start(worker=False)
    connection = server.connect_to(source)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["waiting_for"] == "worker", 60)
    temporal_server.kill()
    temporal_server.forget()
    temporal_server.start()
    apart.start_worker()
    ended = server.finish(connection, job, 120)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 20)
    assert asked_again(source) == 0
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, source.listed())


@pytest.mark.fault("F3", on="temporal", only="temporal")
def test_jobs_run_in_process_while_temporal_is_down_and_there_when_it_is_back(
    apart: Running, temporal_server: TemporalServer, database: Database, source: ScriptedServer
) -> None:
    source.partitions["a"] = items(40)
    server = apart.start()
    strict = apart.start(worker=False, TEMPORAL_REQUIRED="true")
    connection = server.connect_to(source)
    temporal_server.kill()

    refused = strict.http.post(f"/source-connections/{connection}/run")
    assert refused.status_code == 503, refused.text
    assert server.get(f"/source-connections/{connection}/jobs") == []
    with database.session() as session:
        assert session.execute(text("select count(*) from sync_job")).scalar_one() == 0

    answer = server.http.post(f"/source-connections/{connection}/run")
    assert answer.status_code == 200, answer.text
    assert answer.json()["engine"] == IN_PROCESS
    assert str(temporal_server.port) in answer.json()["engine_reason"]
    ended = server.finish(connection, answer.json()["id"], 60)
    assert (ended["status"], ended["engine"], ended["entities_inserted"]) == ("completed", IN_PROCESS, 40)
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, source.listed())

    temporal_server.start()
    back = server.sync(connection, 60)
    assert (back["status"], back["engine"], back["engine_reason"]) == ("completed", TEMPORAL, None)
    settled(server, connection, back, jobs=2)
    hold(apart, back)
    asked = strict.http.post(f"/source-connections/{connection}/run")
    assert asked.status_code == 200, asked.text
    assert server.finish(connection, asked.json()["id"], 60)["engine"] == TEMPORAL


@pytest.mark.fault("F3", on="temporal", only="temporal")
@pytest.mark.parametrize("comes_back", ["at once", "after it was lost"])
def test_a_job_is_taken_once_though_temporal_dies_right_after_its_row(
    apart: Running,
    temporal_server: TemporalServer,
    database: Database,
    source: ScriptedServer,
    by_times: ByTimes,
    say: Callable[[str], None],
    comes_back: str,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    source.partitions["a"] = items(200)
    source.latency_s = by_times(0.2, 1.0)
    server = apart.start(worker=False)
    connection = server.connect_to(source)
    job = server.run(connection)
    time.sleep(random.Random(seed).uniform(0, 0.05))
    temporal_server.kill()
    ready_at = time.monotonic()
    if comes_back == "after it was lost":  # in the middle of the read that goes on without it
        until(lambda: len(pages(source)) > 5, 120, "the job goes on in process")
    temporal_server.start()
    apart.ready_worker()
    with Followed(server, connection, job):
        ended = server.finish(connection, job, 180)
    say(f"seed {seed}: {ended['engine']}, ended {time.monotonic() - ready_at:.1f} s after Temporal died")
    assert (ended["status"], ended["entities_inserted"], ended["attempts"]) == ("completed", 200, 1)
    assert ended["engine"] == (TEMPORAL if comes_back == "at once" else IN_PROCESS)
    assert asked_again(source) == 0
    settled(server, connection, ended)
    hold(apart, ended)
    agree(apart, connection, source.listed())
