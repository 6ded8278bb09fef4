"""``airweave-server up`` as a person runs it: everything embedded, ended in every way, and started again."""

import base64
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from running import Running, Server, free_port

Up = Callable[..., Server]

# Processes of one OS user: if that is root, without root's rights over all others.
WITHOUT_RIGHTS = """
import ctypes, struct, sys
header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
assert ctypes.CDLL(None).capset(header, ctypes.create_string_buffer(24)) == 0
"""
OURS = """
from airweave_server.commands.main import main
sys.argv = ["airweave-server", "temporal", "--with-parent"]
main()
"""
ANOTHER = "sys.stdin.read()"
SPY = """
for pid in sys.argv[1:]:
    try:
        print("VAULT_KEY" in open(f"/proc/{pid}/environ").read())
    except PermissionError:
        print("hidden")
"""


@pytest.fixture
def up(scratch: Path) -> Iterator[Up]:
    """Starts servers with an embedded Postgres of their own; ends them, and what a kill left behind."""
    place = Path(tempfile.mkdtemp(prefix="up ", dir=scratch))  # with a space
    place.chmod(0o711)
    running = Running(place, "")
    homes: set[Path] = set()

    def start(name: str = "data", **more: str) -> Server:
        homes.add(place / name)
        return running.start(verb="up", AIRWEAVE_DATA_DIR=str(place / name), **more)

    yield start
    running.stop_all()
    for home in homes:
        if (process := postmaster(home)) is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def postmaster(home: Path) -> psutil.Process | None:
    try:
        return psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def home_of(server: Server) -> Path:
    return server.log.parent / "data"


def filled(server: Server, count: int = 40) -> tuple[str, str]:
    folder, collection = server.folder(), server.collection()
    for number in range(count):
        (folder / f"note{number}.md").write_text(f"# Note {number}\n\nIt tells of animal{number}.\n")
    return collection, server.connect(collection, "folder", {"path": str(folder)})


def test_it_stops_postgres_too_and_starts_again_with_what_it_had(up: Up) -> None:
    server = up()
    collection, connection = filled(server)
    server.sync(connection)
    home = home_of(server)
    assert postmaster(home) is not None
    assert server.terminate() == 0
    assert postmaster(home) is None
    said = server.log.read_text()
    assert str(home) in said
    assert "docs at" in said
    again = up()
    assert again.found(collection, "animal7")[0] == "note7.md"
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(30) == 0
    assert postmaster(home) is None


def test_killed_it_leaves_postgres_which_the_next_start_adopts_with_the_job(up: Up) -> None:
    server = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.3")
    collection, connection = filled(server, 1_000)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    home = home_of(server)
    process = postmaster(home)
    assert process is not None
    server.kill()
    assert process.is_running()
    again = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0")
    found = postmaster(home)
    assert found is not None
    assert found.pid == process.pid
    ended = again.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"], ended["attempts"]) == ("completed", 1_000, 2)
    assert again.found(collection, "animal777", retrieval_strategy="keyword") == ["note777.md"]


def test_a_killed_postmaster_is_restarted_and_the_job_goes_on(up: Up) -> None:
    server = up(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.3")
    _, connection = filled(server, 1_000)
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] > 0)
    process = postmaster(home_of(server))
    assert process is not None
    process.kill()
    server.wait_for(lambda: postmaster(home_of(server)), lambda found: found not in (None, process))
    server.wait_for(lambda: server.http.get("/health/ready").status_code, lambda code: code == 200)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 1_000)


def test_two_servers_live_side_by_side_and_a_second_owner_is_refused(up: Up, scratch: Path) -> None:
    one, other = up("data"), up("other")
    collection, connection = filled(one, 3)
    one.sync(connection)
    assert other.http.get(f"/collections/{collection}").status_code == 404
    third = Running(Path(tempfile.mkdtemp(dir=scratch)), "")
    began_at = time.monotonic()
    refused = third.start(verb="up", ready=False, AIRWEAVE_DATA_DIR=str(home_of(one)))
    assert refused.process.wait(60) == 1
    assert time.monotonic() - began_at < 60  # it takes 2 s at rest, and does not wait for the owner
    last = refused.log.read_text().strip().splitlines()[-1]
    assert str(one.process.pid) in last
    assert last.startswith("airweave-server: ")
    assert one.found(collection, "animal1")


def test_its_children_are_given_only_the_variables_they_need(up: Up) -> None:
    key = base64.b64encode(bytes(32)).decode()
    ports = {"TEMPORAL_PORT": str(free_port()), "TEMPORAL_UI_PORT": str(free_port())}
    secrets = {"VAULT_KEY": key, "METRICS_TOKEN": "hush", "API_KEY": "hush", "SOME_API_KEY": "hush"}
    server = up(options=("--temporal",), **ports, **secrets)

    def family() -> dict[str, psutil.Process]:
        """Its processes, by the word that tells them apart."""
        found = {"up": psutil.Process(server.process.pid)}
        for process in found["up"].children(recursive=True):
            words = process.cmdline()
            found |= {word: process for word in ("worker", "temporal", "start-dev") if word in words}
            found |= {"postgres": process} if words[0].endswith("/postgres") and "-D" in words else {}
        return found

    found = server.wait_for(family, lambda found: len(found) == 5)
    assert (home_of(server) / "temporal.db").stat().st_mode & 0o777 == 0o600
    given = {name: set(process.environ()) & set(secrets) for name, process in found.items()}
    assert given == {
        "up": set(secrets),
        "worker": {"VAULT_KEY", "SOME_API_KEY"},  # the latter may be of a plug-in
        "temporal": set(),
        "start-dev": set(),
        "postgres": set(),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hide processes")
def test_a_command_hides_its_environment_from_other_processes_of_its_user(scratch: Path) -> None:
    environment = {"VAULT_KEY": "hush", "AIRWEAVE_DATA_DIR": str(scratch / "hidden"), "TEMPORAL_PORT": str(free_port())}
    environment |= {"TEMPORAL_UI_PORT": str(free_port()), "LOG_FORMAT": "json"}
    processes = [
        subprocess.Popen([sys.executable, "-c", WITHOUT_RIGHTS + code], stdin=subprocess.PIPE, env=environment)
        for code in (OURS, ANOTHER)
    ]
    try:
        deadline = time.monotonic() + 30
        while not psutil.Process(processes[0].pid).children():  # Temporal runs, so it has started long ago
            assert time.monotonic() < deadline
            time.sleep(0.05)
        words = [sys.executable, "-c", WITHOUT_RIGHTS + SPY, *(str(process.pid) for process in processes)]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["hidden", "True"]
    finally:
        for process in processes:
            process.communicate(timeout=30)  # their input ends, and so do they
