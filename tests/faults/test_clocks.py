"""F25: every process has a wall clock of its own, hours off, through a change of daylight saving time, and the source
tells times of the future. Only the database's clock counts. And that clock steps back by an hour, just as the process
dies that keeps house and drives the job."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from airweave_server.db.embedded import EmbeddedPostgres
from airweave_server.db.session import Database
from faults.readers import asked_again, until
from invariants import Followed, agree, hold, settled
from running import Running, plain
from servers.scripted_server import ScriptedServer, items

AHEAD_S, BEHIND_S = 7_200, -7_200
CALM = {"LEASE_S": "20", "TEMPORAL_HEARTBEAT_S": "12"}  # so that only a clock could make a lease lapse
BACK_S = 3_600
CHANGE_AFTER_S = 15.0  # of daylight saving time: the servers are up by then, and the job is under way


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that shifts a process' clock."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD and its clocks are Linux'")
    if (compiler := shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")) is None:
        pytest.skip("there is no C compiler here to make the shifted clock with")
    made = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    code = Path(__file__).with_name("shifted_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, code], check=True, capture_output=True)
    return str(made)


def shifted(shim: str, shift_s: int, change_at: float) -> dict[str, str]:
    """What shifts a process' clock, with the clocks going forward in its time zone at ``change_at``."""
    change = datetime.fromtimestamp(change_at + shift_s, UTC)
    is_leap = change.year % 4 == 0 and (change.year % 100 != 0 or change.year % 400 == 0)
    day = change.timetuple().tm_yday - (is_leap and change.month > 2)  # J counts no 29 February
    back = day % 365 + 1
    return {
        "LD_PRELOAD": shim,
        "CLOCK_SHIFT_S": str(shift_s),
        "TZ": f"STD0DST-1,J{day}/{change:%H:%M:%S},J{back}/12:00:00",
    }


def clock_of(environment: dict[str, str]) -> tuple[float, int]:
    """What Python sees under it: the time, and whether daylight saving time is on."""
    program = "import time; print(time.time(), time.localtime().tm_isdst)"
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    now, is_dst = said.stdout.split()
    return float(now), int(is_dst)


def of_the_future(count: int, *, version: str, start: int = 0) -> list[dict[str, Any]]:
    made = items(count, start=start, version=version)
    for place, item in enumerate(made):
        times = {"created_at": timedelta(days=365), "updated_at": timedelta(days=365 * (2 - place % 4))}
        item.update({name: (datetime.now(UTC) + ahead).isoformat() for name, ahead in times.items()})
    return made


@pytest.mark.fault("F25", on="temporal")
@pytest.mark.parametrize("kind", ["scripted_incremental", "scripted"])
def test_clocks_that_are_hours_off_cost_nothing(
    apart: Running, database: Database, source: ScriptedServer, shim: str, say: Callable[[str], None], kind: str
) -> None:
    change_at = time.time() + CHANGE_AFTER_S
    ahead, behind = shifted(shim, AHEAD_S, change_at), shifted(shim, BEHIND_S, change_at)
    for shift_s, environment in ((AHEAD_S, ahead), (BEHIND_S, behind)):
        assert abs(clock_of(environment)[0] - time.time() - shift_s) < 30, "the shim shifts nothing"
    server = apart.start(worker=False, **ahead, **CALM)
    if apart.temporal is not None:
        apart.ready_worker(**behind, **CALM)
    else:
        apart.start(**behind, **CALM)  # it looks for jobs whose lease has lapsed, by whatever clock
    source.partitions["a"] = of_the_future(120, version="1")
    source.page_size, source.latency_s = 4, 0.5
    connection = server.connect_to(source, kind)
    job = server.run(connection)
    with Followed(server, connection, job) as watch:
        until(lambda: time.time() > change_at, 60, "the change of time")
        under_way = server.job(connection, job)["status"]
        source.latency_s = 0.02
        first = server.finish(connection, job, 90)
    assert all((seen["duration_seconds"] or 0) >= 0 for seen in watch.seen)
    assert [clock_of(environment)[1] for environment in (ahead, behind)] == [1, 1], "no daylight saving time came"
    say(f"the time changed while the job was {under_way}, it took {first['duration_seconds']:.1f} s")
    assert (first["status"], first["entities_inserted"], first["attempts"]) == ("completed", 120, 1)
    assert asked_again(source) == 0
    assert 0 < first["duration_seconds"] < 120
    settled(server, connection, first)
    hold(apart, first)
    agree(apart, connection, source.listed())

    source.partitions["a"][10:20] = of_the_future(10, start=10, version="2")
    source.partitions["a"][30]["text"] += " And it was changed long ago."
    source.partitions["a"][30] |= {"version": "2", "updated_at": "2001-01-01T00:00:00+00:00"}
    source.partitions["a"] += of_the_future(5, start=120, version="1")
    source.remove("a", "item-0007")
    source.log.clear()
    second = server.sync(connection, 60)
    assert (second["status"], second["attempts"]) == ("completed", 1)
    assert (second["entities_updated"], second["entities_inserted"], second["entities_deleted"]) == (11, 5, 1)
    settled(server, connection, second, jobs=2)
    hold(apart, second)
    agree(apart, connection, source.listed())


class Clock:
    """The clock of a Postgres, which can step."""

    def __init__(self, shim: str, place: Path) -> None:
        self._file = place / "shift"
        self.set(0)
        self._file.chmod(0o644)
        self.environment = {"LD_PRELOAD": shim, "CLOCK_SHIFT_FILE": str(self._file)}

    def set(self, shift_s: int) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", shift_s))


def with_clock(url: str, clock: Clock) -> "subprocess.Popen[bytes]":
    """Start the running Postgres anew with this clock."""
    with psycopg.connect(plain(url)) as session:
        (folder,) = session.execute("show data_directory").fetchone() or ("",)
    running = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    command, cwd, uid, gid = running.cmdline(), running.cwd(), running.uids().real, running.gids().real
    environment = running.environ() | clock.environment
    running.send_signal(2)
    running.wait(20)
    user = {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}
    quiet = subprocess.DEVNULL
    started = subprocess.Popen(command, cwd=cwd, env=environment, umask=0o077, stdout=quiet, stderr=quiet, **user)  # type: ignore[call-overload]

    def answers() -> bool:
        try:
            with psycopg.connect(plain(url)):
                return True
        except psycopg.OperationalError:
            return False

    until(answers, 20, "Postgres answers")
    return started


@pytest.fixture
def clock(shim: str, scratch: Path) -> Clock:
    place = Path(tempfile.mkdtemp(prefix="clock-", dir=scratch))
    place.chmod(0o711)
    shutil.copy(shim, place / "clock.so")  # where the OS user of Postgres can read it
    (place / "clock.so").chmod(0o755)
    return Clock(str(place / "clock.so"), place)


@pytest.fixture
def on_clock(request: pytest.FixtureRequest, scratch: Path, clock: Clock, driver: str) -> Iterator[Running]:
    """Servers on a Postgres with that clock."""
    temporal = request.getfixturevalue("temporal_server") if driver == "temporal" else None
    place = Path(tempfile.mkdtemp(prefix="steps-", dir=scratch))
    place.chmod(0o711)
    postgres = EmbeddedPostgres(place / "postgres")
    url = postgres.start()
    anew = with_clock(url, clock)
    (place / "servers").mkdir(mode=0o711)
    times = request.config.getoption("--default-times")
    started = Running(place / "servers", url, temporal=temporal, default_times=times)
    yield started
    started.stop_all()
    postgres.stop()
    anew.wait(20)


@pytest.mark.fault("F25")
def test_the_database_steps_back_an_hour_as_the_keeper_dies(
    on_clock: Running, clock: Clock, source: ScriptedServer, say: Callable[[str], None]
) -> None:
    def query(statement: str) -> Any:
        with psycopg.connect(plain(on_clock.database_url)) as session:
            (value,) = session.execute(statement).fetchone() or (None,)  # type: ignore[arg-type]
            return value

    dying = on_clock.start()
    dead = dying.wait_for(lambda: dying.get("/health")["keeper"], bool)
    source.partitions["a"] = items(60, prefix="a")
    source.partitions["b"] = items(60, prefix="b")
    source.page_size, source.latency_s = 4, 0.4
    paced = dying.connect_to(source)
    scheduled = dying.connect_to(source, cron="* * * * *", kind="scripted_incremental")
    source.fault("status", status=429, retry_after=600, partition="a", page=1, times=1)
    job = dying.run(paced)
    dying.wait_for(lambda: dying.job(paced, job), lambda seen: seen["entities_encountered"] >= 8)
    if on_clock.temporal is not None:
        on_clock.ready_worker()
    before = query("select clock_timestamp()")
    clock.set(-BACK_S)
    assert (before - query("select clock_timestamp()")).total_seconds() > BACK_S - 60, "the clock did not step"
    began = time.monotonic()
    dying.kill()
    if dying.worker is not None:
        dying.worker.kill()

    server = on_clock.start(worker=False)
    keeper = server.wait_for(lambda: server.get("/health")["keeper"], bool, 20)
    assert keeper != dead
    kept_s = time.monotonic() - began
    ended = server.finish(paced, job, 120)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 120), ended
    say(f"the next process kept house after {kept_s:.1f} s, the job ended {time.monotonic() - began:.1f} s later")

    def planned() -> bool:
        """Whether the schedule fires within a minute by the clock as it is now, or has fired."""
        statement = (
            f"select next_run_at <= clock_timestamp() + interval '61 s' from source_connection where id = '{scheduled}'"
        )
        return bool(query(statement))

    until(planned, 20, "the schedule is planned by the new clock")
    later = server.sync(paced, 60)
    shown = server.get(f"/source-connections/{paced}/jobs")
    assert [one["id"] for one in shown][:2] == [later["id"], job]
    assert server.get(f"/source-connections/{paced}")["sync"]["last_job"]["id"] == later["id"]
    assert later["created_at"] < ended["created_at"], "the clock did not step"
    settled(server, paced, later, jobs=2)
    agree(on_clock, paced, source.listed())
