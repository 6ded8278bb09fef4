"""F25: every process has a wall clock of its own, hours off, through a change of daylight saving time, and the source
tells times of the future. Only the database's clock counts."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airweave_server.db.session import Database
from faults.readers import asked_again, until
from invariants import Followed, agree, hold, settled
from running import Running
from servers.scripted_server import ScriptedServer, items

AHEAD_S, BEHIND_S = 7_200, -7_200
CALM = {"LEASE_S": "20", "TEMPORAL_HEARTBEAT_S": "12"}  # so that only a clock could make a lease lapse
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
