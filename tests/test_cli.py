"""The command line against a running server, and what it says when something is wrong: one line, and exit 1."""

import base64
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from airweave_server.db.session import Database
from airweave_server.settings import Settings
from airweave_server.temporal.client import connection_options
from airweave_server.version import __version__
from running import Finished, Running, Server, free_port, ok, on_a_terminal, refusal
from servers.scripted_server import ScriptedServer, items

pytestmark = pytest.mark.cold_starts

COMMANDS = (
    "", "up", "api", "migrate", "doctor", "keys", "keys create", "keys list", "keys revoke",
    "organizations", "organizations create", "organizations list", "add", "sync", "search",
    "status", "connect", "reembed", "sources", "sources show", "sources new", "sources check", "demo",
    "audit", "backup", "restore", "reset", "preview", "evaluate",
)  # fmt: skip
KEY = base64.b64encode(b"k" * 32).decode()


def command(running: Running, server: Server, *arguments: str, **more: str) -> Finished:
    return running.command(*arguments, **{"API_URL": server.url, "COLUMNS": "200", **more})


@pytest.fixture(scope="module")
def folder(server: Server) -> Path:
    path = server.folder("meadow [notes]")
    (path / "bees.md").write_text("# Bees\n\nBees return to their hive at dusk. [bold]They[/bold] dance.")
    (path / "ants.txt").write_text("Ants store seeds below the ground.")
    return path


def test_a_folder_is_added_synced_searched_and_shown(running: Running, server: Server, folder: Path) -> None:
    added = ok(command(running, server, "add", str(folder), "--collection", "meadow", "--exclude", "*.log"))
    assert str(folder) in added
    assert "completed: 2 inserted, 0 updated, 0 deleted" in added

    (folder / "wasps.txt").write_text("Wasps build their nests of paper.")
    (folder / "ants.txt").unlink()
    synced = ok(command(running, server, "sync"))
    assert "meadow [notes]" in synced
    assert "1 inserted, 0 updated, 1 deleted, 1 kept" in synced
    assert "2 kept" in ok(command(running, server, "sync", "meadow [notes]", "--full", "-c", "meadow"))

    found = ok(command(running, server, "search", "hive at dusk", "-c", "meadow", "--limit", "1"))
    assert re.match(r"1\. bees\.md +\d", found)
    assert "[bold]They[/bold] dance" in found
    assert "2." not in found

    found = ok(command(running, server, "search", "when is the hive full", "-c", "meadow", "--tier", "classic"))
    assert "1. bees.md" in found
    found = ok(command(running, server, "search", "hive at dusk", "-c", "meadow", "--tier", "agentic"))
    assert re.match(r"search, \d+ ms\nread, \d+ ms\n", found)
    assert "1. bees.md" in found

    shown = ok(command(running, server, "status"))
    assert f"{server.url} is healthy; engine in_process" in shown
    assert "meadow [notes] in meadow: folder, active, 2 entities" in shown
    assert re.search(r"id +[0-9a-f-]{36}\n", shown)
    assert "completed: 0 inserted" in shown


def test_a_collection_with_nothing_that_fits_says_so(running: Running, server: Server) -> None:
    server.collection("empty")
    assert ok(command(running, server, "search", "anything", "-c", "empty")).strip() == "Nothing found."


def test_added_without_waiting_it_is_synced_in_the_background(running: Running, server: Server, folder: Path) -> None:
    added = ok(command(running, server, "add", str(folder), "-c", "later", "--name", "Later", "--no-wait"))
    connection = re.search(r" as ([0-9a-f-]{36})", added)
    assert connection is not None
    [job] = server.get(f"/source-connections/{connection[1]}/jobs")
    assert server.finish(connection[1], job["id"])["status"] == "completed"
    assert ok(command(running, server, "sync", connection[1])).count("completed") == 1


def test_the_sources_that_are_installed_are_listed(running: Running, server: Server) -> None:
    shown = ok(command(running, server, "sources"))
    assert "folder" in shown
    assert "timed" in shown
    without = ok(command(running, server, "sources", ENABLE_INTERNAL_SOURCES="false"))
    assert "folder" in without
    assert "timed" not in without


def test_doctor_says_which_database_answers_and_migrate_that_it_is_up_to_date(running: Running, server: Server) -> None:
    assert "answers" in ok(command(running, server, "doctor"))
    assert "up to date" in ok(command(running, server, "migrate"))


def test_every_command_explains_itself(running: Running) -> None:
    with ThreadPoolExecutor(2) as pool:
        asked = list(pool.map(lambda name: running.command(*name.split(), "--help"), COMMANDS))
    for name, done in zip(COMMANDS, asked, strict=True):
        shown = ok(done)
        assert re.search(rf"Usage: .*{name}", shown), name
        assert "--help" in shown


def test_a_preview_says_what_a_sync_would_do_and_adding_says_so_too(running: Running, server: Server) -> None:
    place = server.folder("heath")
    (place / "larks.md").write_text("# Larks\n\nLarks rise singing.")
    (place / "empty [x].md").write_text("")
    said = ok(command(running, server, "preview", str(place), "-c", "heath"))
    what, about, _ = said.splitlines()[0].partition(", in about ")
    assert (what, bool(about)) == ("2 files (28 bytes), 1 indexable: 1 chunk with wordllama-256", True)
    assert "skipped  1  empty: empty [x].md" in said
    assert server.http.get("/collections/heath").status_code == 404
    added = ok(command(running, server, "add", str(place), "-c", "heath")).splitlines()
    assert added[0].startswith(what)
    assert added[2].startswith("completed: 1 inserted")
    assert len(added) == 3
    assert str(place / "no") in refusal(command(running, server, "preview", str(place / "no")))


def test_on_a_terminal_pace_and_time_left_are_shown(running: Running, server: Server) -> None:
    with ScriptedServer() as source:
        source.partitions["a"] = items(80)
        connection = server.connect_to(source)
        server.sync(connection)
        source.latency_s = 0.5  # of each of eight pages; after 2 s the first batch is committed
        code, shown = on_a_terminal(["sync", connection, "--full"], running.environment(API_URL=server.url), [])
    assert code == 0, shown
    assert re.search(r"\d+/80 \d+/s, \d+ s left", shown)
    assert "80 updated" in shown or "80 kept" in shown


# One clear line


def test_a_server_that_is_not_there_is_named_with_the_way_to_start_one(running: Running) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for arguments in (("status",), ("sync",), ("search", "q"), ("add", str(running.folders))):
        line = refusal(running.command(*arguments, API_URL=nowhere))
        assert nowhere in line
        assert "airweave-server up" in line


@pytest.mark.parametrize("url", ["nonsense", "http://[::", "ftp://localhost", "http://localhost:99999999", "http:"])
def test_an_address_that_is_none_is_one_line_too(running: Running, url: str) -> None:
    assert url in refusal(running.command("status", API_URL=url))


def test_something_else_that_answers_is_no_server(running: Running) -> None:
    with ScriptedServer() as other:
        for arguments in (("status",), ("search", "q"), ("sync",)):
            assert other.url in refusal(running.command(*arguments, API_URL=other.url))


def test_what_the_server_refuses_is_said_in_its_words(running: Running, server: Server) -> None:
    line = refusal(command(running, server, "sync", "no such connection"))
    assert "no such connection" in line
    assert "airweave-server status" in line
    assert "Collection 'nothing' not found" in refusal(command(running, server, "search", "q", "-c", "nothing"))
    assert "blank" in refusal(command(running, server, "search", " ", "-c", server.collection()))
    missing = running.folders / "missing [red]folder"
    assert str(missing) in refusal(command(running, server, "add", str(missing)))
    assert "readable_id" in refusal(command(running, server, "add", str(running.folders), "-c", "Not An Id"))


def test_a_sync_that_fails_ends_the_command_with_its_reason(running: Running, server: Server) -> None:
    collection = server.collection("failing")
    config = {"exception_type": "source_auth_error", "error_message": "the [stub] says no"}
    server.connect(
        collection, "exception_stub", config, name="Failing", authentication={"credentials": {"stub_key": "some key"}}
    )
    done = command(running, server, "sync", "Failing")
    line = refusal(done)
    assert "the [stub] says no" in line
    assert "failed: " in done.stdout


def test_a_server_that_wants_a_key_is_given_one(running: Running) -> None:
    guarded = running.start(AUTH_ENABLED="true")
    assert "API key" in refusal(running.command("status", API_URL=guarded.url))
    assert "revoked" in refusal(running.command("status", API_URL=guarded.url, API_KEY="aw_wrong"))
    plain = ok(running.command("keys", "create")).strip()
    assert "is healthy" in ok(running.command("status", API_URL=guarded.url, API_KEY=plain))


def test_a_port_in_use_is_named(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name in ("api", "up"):
            line = refusal(running.command(name, "--port", str(port)))
            assert f"127.0.0.1:{port}" in line
            assert "--port" in line
    assert "cannot listen on" in refusal(
        running.command("api", "--host", "192.0.2.1", "--port", "0", ALLOW_NO_AUTH="1")
    )


def test_a_database_that_cannot_be_reached_is_named_without_its_password(running: Running) -> None:
    url = f"postgresql://me:canary-password@127.0.0.1:{free_port()}/nothing"
    for arguments in (("up", "--port", "0"), ("keys", "list")):
        line = refusal(running.command(*arguments, DATABASE_URL=url))
        assert "cannot be reached" in line
        assert "canary-password" not in line
        assert "***" in line


def test_a_database_url_that_is_none_is_one_line_too(running: Running) -> None:
    for url in ("nonsense", "mysql://localhost/x", "postgresql://me:canary-password@localhost:port/x"):
        line = refusal(running.command("migrate", DATABASE_URL=url))
        assert "DATABASE_URL" in line
        assert "canary-password" not in line


def test_a_data_directory_without_a_server_is_named(running: Running) -> None:
    nowhere = running.place / "nothing here"
    for name in ("api", "doctor"):
        done = running.command(name, DATABASE_URL="", AIRWEAVE_DATA_DIR=str(nowhere))
        assert str(nowhere) in refusal(done)


def test_a_schema_that_is_newer_is_left_alone(running: Running, server: Server, fresh_database: Database) -> None:
    with fresh_database.session() as session:
        current = session.execute(text("select version_num from alembic_version")).scalar_one()
        made_by = session.execute(text("select obj_description('alembic_version'::regclass)")).scalar_one()
        session.execute(text("update alembic_version set version_num = 'ffff_from_the_future'"))
    assert made_by == f"airweave-server {'.'.join(__version__.split('.')[:2])}"
    told = running.command("migrate")
    assert told.returncode == 0  # a later one of the same minor version: it has only grown
    assert "schema_is_newer" in told.stderr
    assert "schema_is_newer" in running.command("migrate", LOG_TO="stdout").stdout
    with fresh_database.session() as session:
        session.execute(text("comment on table alembic_version is 'airweave-server 99.0'"))
    try:
        for arguments in (("migrate",), ("api", "--port", "0")):
            line = refusal(running.command(*arguments))
            assert "ffff_from_the_future" in line
            assert "newer" in line
    finally:
        with fresh_database.session() as session:
            session.execute(text("update alembic_version set version_num = :current"), {"current": current})
            session.execute(text(f"comment on table alembic_version is '{made_by}'"))


@pytest.mark.parametrize("key", [f"{KEY},c2hvcnQ=", ","])
def test_a_vault_key_that_is_none_is_refused_without_being_shown(running: Running, key: str) -> None:
    line = refusal(running.command("api", "--port", "0", VAULT_KEY=key))
    assert "VAULT_KEY" in line
    assert key == "," or key not in line


def test_a_setting_that_does_not_fit_is_named_without_its_value(running: Running, server: Server) -> None:
    for name, value in (("TICK_S", "soon"), ("LOG_LEVEL", "loud"), ("DELETE_GUARD_RATIO", "15"), ("API_PORT", "x")):
        line = refusal(command(running, server, "status", **{name: value}))
        assert line.startswith(f"airweave-server: {name}: ")
        assert value not in line
    assert "EMBEDDER" in refusal(running.command("api", "--port", "0", EMBEDDER="no-such-embedder"))


HOSTS = {
    "localhost": ("localhost",),
    "Weave.Example.": ("weave.example",),
    " a.example ,, b-2.example, ": ("a.example", "b-2.example"),
    "airweave_db": ("airweave_db",),
    "xn--bcher-kva.example": ("xn--bcher-kva.example",),
    "127.0.0.1,::1": ("127.0.0.1", "::1"),
    "2001:DB8:0::7": ("2001:db8::7",),
    "": (),
    ",": (),
}
NETWORKS = {
    "10.0.0.0/8": ("10.0.0.0/8",),
    "10.0.0.5/8, fd00::/8": ("10.0.0.0/8", "fd00::/8"),
    "127.0.0.0/255.0.0.0": ("127.0.0.0/8",),
}
NO_HOSTS = (
    '["127.0.0.1"]',
    "['a.example']",
    "[::1]",
    "localhost:8080",
    "127.0.0.1:80",
    "[::1]:80",
    "http://a.example",
    "a.example/path",
    "//a.example",
    "me@a.example",
    "*",
    "*.example",
    ".example",
    "a..example",
    "-a.example",
    "a-.example",
    "two words",
    "a.example;b.example",
    "300.0.0.1",
    "127.0.0",
    "010.0.0.1",
    "1",
    "10.0.0.0/33",
    "fe80::1%eth0",
    "::1::",
    "bücher.example",
    "a" * 64 + ".example",
    "a." * 127 + "a",
    '"a.example"',
    "a.example\n/",
)


@pytest.mark.parametrize(("value", "read"), [*HOSTS.items(), *NETWORKS.items()])
def test_hosts_and_networks_are_read_as_they_are_compared(
    value: str, read: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_PRIVATE_HOSTS", value)
    assert Settings().allowed_private_hosts == read
    if value in HOSTS:
        monkeypatch.setenv("ALLOWED_HOSTS", value)
        assert Settings().allowed_hosts == read


@pytest.mark.parametrize("value", [*NO_HOSTS, *NETWORKS])
def test_what_is_neither_a_host_nor_a_network_is_no_setting(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLOWED_HOSTS",) if value in NETWORKS else ("ALLOWED_HOSTS", "ALLOWED_PRIVATE_HOSTS"):
        monkeypatch.setenv(name, f"fine.example,{value}")
        with pytest.raises(ValidationError, match=r"entry [23] is not"):
            Settings()
        monkeypatch.delenv(name)


def test_no_process_starts_with_a_host_that_is_none(running: Running) -> None:
    for name in ("ALLOWED_HOSTS", "ALLOWED_PRIVATE_HOSTS"):
        for arguments in (("api", "--port", "0"), ("worker",), ("status",)):
            line = refusal(running.command(*arguments, **{name: '["127.0.0.1"]'}))
            assert line.startswith(f"airweave-server: {name}: entry 1 is not a host name")
            assert "without scheme, port" in line
            assert "127.0.0.1" not in line


@pytest.mark.parametrize(
    ("home", "here", "roots"),
    [
        *(("/", "/", ()), ("", "/etc", ()), ("/usr/share", "/var", ()), ("/var/log/x", "/bin", ()), ("x", "/home", ())),
        ("/var/lib/airweave", "/", ("/var/lib/airweave",)),
        ("/nonexistent", "/srv", ("/nonexistent",)),
    ],
)
def test_folders_of_the_system_are_no_roots_unless_they_are_named(
    home: str, here: str, roots: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(here)
    assert Settings().roots() == tuple(map(Path, roots))
    monkeypatch.setenv("AIRWEAVE_FOLDER_ROOTS", "")
    assert Settings().roots() == ()
    monkeypatch.setenv("AIRWEAVE_FOLDER_ROOTS", "/etc:/")
    assert Settings().roots() == (Path("/etc"), Path("/"))


def test_a_deleted_current_directory_is_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Settings().roots() == (tmp_path,)


def test_a_service_that_starts_in_the_root_folder_reads_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refusal(running.command("status", AIRWEAVE_FOLDER_ROOTS='["/a"]'))
    assert line == "airweave-server: AIRWEAVE_FOLDER_ROOTS: write folders separated by :, not a JSON list"
    monkeypatch.chdir("/")
    server = running.start(HOME="/", AIRWEAVE_FOLDER_ROOTS="")
    collection = server.collection()
    for path in ("/etc", "/", "/dev"):
        body = {"short_name": "folder", "readable_collection_id": collection, "config": {"path": path}}
        answer = server.http.post("/source-connections", json=body)
        assert answer.status_code == 422
        assert "this server may read no folder: name the folders in AIRWEAVE_FOLDER_ROOTS" in answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("TEMPORAL_NAMESPACE", "TEMPORAL_TASK_QUEUE") for value in ("", " ", "a ", "a\nb")),
        *((name, "\udcff") for name in ("TEMPORAL_NAMESPACE", "TEMPORAL_TASK_QUEUE")),  # bytes that are not UTF-8
        *((name, "x" * 1_001) for name in ("TEMPORAL_NAMESPACE", "TEMPORAL_TASK_QUEUE")),
        *(("TEMPORAL_HOST", value) for value in ("", " ", "a b", "http://a", "a:7233", "a/b", "a\nb", "x" * 254)),
        ("TEMPORAL_TASK_QUEUE", "/_sys/mine"),
        ("TEMPORAL_TASK_QUEUE", "é" * 400),  # with @HOST it would be longer than Temporal allows
    ],
)
def test_names_that_temporal_refuses_are_refused_at_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize("host", ["temporal", "temporal_1", "10.0.0.1", "::1", "[::1]", "Temporal.example."])
def test_the_host_of_temporal_may_be_a_name_or_an_address(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_HOST", host)
    target = connection_options(Settings())["target_host"]
    assert target == f"{'[::1]' if '::1' in host else host.lower().removesuffix('.')}:7233"
