"""``backup``, ``restore`` and ``reset`` as a person runs them: what was held is there again when its place is
destroyed, a file that is not whole changes nothing, and what is not ours stays."""

import base64
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from airweave_server import vault
from airweave_server.db import backup, embedded
from airweave_server.db.session import Database, known_revisions, upgrade
from airweave_server.errors import Unstartable
from faults.readers import pages, until
from forking import Forker
from invariants import agree, hold, watch
from running import Running, Server, in_folder, ok, plain, refusal, write
from servers.scripted_server import ScriptedServer, items

TOKEN = "canary-token-4c1d9a"
PASSWORD = "canary-password-77ab02"
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
ENDING_BYTES = 2048
BETWEEN_LOOKS_S = 0.05


@pytest.fixture
def home(scratch: Path, forker: Forker | None) -> Iterator[Running]:
    """What runs on a data directory of its own, ``data`` in its place, with an embedded Postgres."""
    place = Path(tempfile.mkdtemp(prefix="home ", dir=scratch))
    place.chmod(0o711)
    running = Running(place, "", forker=forker)
    yield running
    running.stop_all()
    if (process := postmaster(running)) is not None:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture
def guarded(source: ScriptedServer) -> ScriptedServer:
    """A source that wants a token."""
    source.token = TOKEN
    source.partitions["a"] = items(30)
    return source


def data_of(home: Running) -> Path:
    return home.place / "data"


def postmaster(home: Running) -> psutil.Process | None:
    try:
        return psutil.Process(int((data_of(home) / "postgres" / "postmaster.pid").read_text().splitlines()[0]))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def destroy(home: Running, *servers: Server) -> None:
    """Kill everything that runs on the data directory, and remove it."""
    for server in servers:
        if server.process.poll() is None:
            server.kill()
    if (process := postmaster(home)) is not None:
        process.kill()
        process.wait(30)
    shutil.rmtree(data_of(home))


def connect_to(server: Server, source: ScriptedServer, collection: str, *, token: str = TOKEN, **more: Any) -> str:
    authentication = {"credentials": {"token": token}}
    config = {"url": source.url, "attempts": 2, "backoff_s": 0.02}
    return server.connect(collection, "scripted", config, authentication=authentication, **more)


def manifest_of(file: Path) -> dict[str, Any]:
    with tarfile.open(file) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        return dict(json.load(member))


def forged(file: Path, old: bytes, new: bytes) -> Path:
    """A copy with other words in its manifest, and a digest that fits them."""
    content = file.read_bytes()
    assert content.count(old) == 1
    assert len(old) == len(new)
    content = content.replace(old, new)
    body, ending = content[:-ENDING_BYTES], content[-ENDING_BYTES:]
    made = file.with_name(f"forged-{uuid4().hex}.tar")
    made.write_bytes(body + ending[:512] + hashlib.sha256(body).hexdigest().encode() + ending[576:])
    return made


@contextmanager
def looked_at(home: Running) -> Iterator[Running]:
    """The database of the server that is up, for ``hold`` and ``agree``, watched from now on."""
    place = home.place / uuid4().hex
    place.mkdir()
    running = Running(place, embedded.attach(data_of(home)))
    database = Database(running.database_url)
    watch(database)
    yield running
    database.close()


def rows(database_url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        return connection.execute(query, values).fetchall()  # type: ignore[arg-type]


def everything(database_url: str) -> dict[str, list[str]]:
    """Every row of every table of ours, as text; who is alive, and what a server counts anew, is left out."""
    tables = sorted(set(backup.ALL) - backup.OF_PROCESSES - {"collection_size", "collection_word"})
    return {name: sorted(row[0] for row in rows(database_url, f"select t::text from {name} t")) for name in tables}


@contextmanager
def alive_elsewhere(database_url: str) -> Iterator[None]:
    """A worker on another host shows that it lives."""
    with psycopg.connect(plain(database_url), autocommit=True) as session:
        name = "worker:queue:elsewhere:1:abcd"
        session.execute("insert into lease values (%s, %s, now() + interval '1 hour')", (name, name))
        yield
        session.execute("delete from lease where name = %s", (name,))


def nobody_is_alive(database_url: str) -> None:
    """Wait until the leases of what was killed have lapsed."""
    until(lambda: not rows(database_url, "select 1 from lease where until >= now()"), 30, "no lease holds")


def test_what_a_destroyed_data_directory_held_is_there_again_with_a_sync_that_was_under_way(
    home: Running, guarded: ScriptedServer
) -> None:
    server = home.start(verb="up")
    folder, collection = server.folder("notes"), server.collection("kept")
    write(folder, range(300), version=1)
    notes = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(notes)
    sealed = connect_to(server, guarded, collection)
    server.sync(sealed)
    api_key = ok(home.command("keys", "create")).strip()
    questions = ("word17x1", "what does file 250 tell of", "worditem7", "number version")
    answers = [server.search(collection, question) for question in questions]

    with ScriptedServer() as slow:
        slow.token, slow.latency_s = TOKEN, 0.25
        slow.partitions = {"a": items(150), "b": items(150, prefix="other")}
        under_way = connect_to(server, slow, server.collection("under-way"))
        job = server.run(under_way)
        server.wait_for(lambda: server.job(under_way, job), lambda seen: seen["entities_inserted"] >= 30)
        slow.latency_s = 2.0  # so that it is under way for as long as a backup takes
        file = home.place / "all of it.tar"
        said = ok(home.command("backup", str(file), "--with-key"))
        assert server.job(under_way, job)["status"] == "running"
        key_id = vault.from_setting((data_of(home) / "vault.key").read_text()).key_id.hex()
        assert f"The vault key {key_id} is in it" in said
        assert str(file) in said
        assert file.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in home.place.glob("all*")] == [file.name]
        manifest = manifest_of(file)
        assert manifest["sealed_with"] == {key_id: 2}
        held = {table["name"]: table["rows"] for table in manifest["tables"]}
        assert held["source_connection"] == 3
        assert 360 <= held["entity"] < 630
        assert "lease" not in held

        destroy(home, server)
        said = ok(home.command("restore", str(file)))
        assert f"{held['entity']} entities" in said
        assert "Syncs running at that time: 1." in said
        assert f"vault key {key_id} is now in" in said
        assert (data_of(home) / "vault.key").stat().st_mode & 0o777 == 0o600
        assert postmaster(home) is None, "what was started for it is stopped"

        slow.log.clear()
        slow.latency_s = 0.25
        again = home.start(verb="up")
        with looked_at(home) as running:
            ended = again.finish(under_way, job)
            assert (ended["status"], ended["entities_inserted"], ended["error"]) == ("completed", 300, None)
            assert ("a", 0) not in pages(slow), "it went on from its cursor"
            assert pages(slow)
            assert [again.search(collection, question) for question in questions] == answers
            assert "expires" in ok(home.command("keys", "list"))
            assert api_key[-4:] in ok(home.command("keys", "list"))
            for connection, count in ((notes, 300), (sealed, 30), (under_way, 300)):
                done = again.sync(connection)
                assert (done["status"], done["entities_kept"], done["entities_deleted"]) == ("completed", count, 0), (
                    done
                )
                hold(running, done, listed=count)
            agree(running, notes, in_folder(folder))
            agree(running, sealed, guarded.listed())
            agree(running, under_way, slow.listed())
            ok(home.command("audit", "--all"))
            guarded.partitions["a"] = items(29)
            assert again.sync(sealed)["entities_deleted"] == 1
            (folder / "d0" / "f0.txt").unlink()
            assert again.sync(notes)["entities_deleted"] == 1
            hold(running)
    assert TOKEN not in again.log.read_text() + said


@pytest.mark.parametrize("meanwhile", ["completed", "killed"])
@pytest.mark.parametrize("driver", ["in_process", "temporal"], indirect=True, scope="module")
def test_a_job_that_was_under_way_goes_on_whatever_became_of_it_since(
    apart: Running, source: ScriptedServer, meanwhile: str, driver: str
) -> None:
    source.page_size = 10
    source.partitions = {"a": items(200), "b": items(200, prefix="other")}
    server = apart.start()
    connection = server.connect_to(source)
    server.sync(connection)
    source.latency_s = 0.3
    for item in source.listed():
        item["version"] = "2"
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_encountered"] >= 40)
    source.latency_s = 2.0  # so that it is under way for as long as a backup takes
    file = apart.place / "under-way.tar"
    ok(apart.command("backup", str(file)))
    if meanwhile == "completed":
        source.latency_s = 0
        assert server.finish(connection, job)["status"] == "completed"
        assert server.terminate() == 0
    else:
        assert server.job(connection, job)["status"] == "running"
        server.kill()
    nobody_is_alive(apart.database_url)
    assert "already" in refusal(apart.command("restore", str(file)))
    assert "running at that time: 1." in ok(apart.command("restore", str(file), "--replace"))
    job_row = "select status, driver, driven_until, backend_pid from sync_job where id = %s"
    assert rows(apart.database_url, job_row, job) == [("running", None, None, None)]
    assert not rows(apart.database_url, "select 1 from sync_partition where owner is not null or crashes > 0")
    [last] = rows(apart.database_url, "select last_value from entity_row_seq")
    assert last == (manifest_of(file)["sequences"]["entity.row"],)
    assert last >= rows(apart.database_url, "select max(row) from entity")[0]

    # what moves meanwhile from what is still to be read to what was read is met in neither, and is there all the same
    source.partitions["a"].insert(0, source.remove("b", "other-0199"))
    source.log.clear()
    source.latency_s = 0
    again = apart.start()
    ended = again.finish(connection, job)
    assert (ended["status"], ended["engine"], ended["entities_deleted"]) == ("completed", driver, 0), ended
    assert (ended["entities_encountered"], ended["held_deletes"]) == (399, 0)
    assert pages(source)
    assert {page for partition, page in pages(source) if partition == "a"}.isdisjoint({0, 1})
    hold(apart, ended)
    done = again.sync(connection)
    assert (done["status"], done["entities_deleted"]) == ("completed", 0)
    hold(apart, done, listed=400)
    agree(apart, connection, source.listed())


def test_who_was_stopped_meanwhile_writes_nothing_of_what_it_held(apart: Running) -> None:
    server = apart.start(EMBEDDER="test-slow", TEST_EMBEDDER_DELAY_S="0.3")
    folder = server.folder()
    write(folder, range(600), version=1)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)})
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job), lambda seen: seen["entities_inserted"] > 0)
    file = apart.place / "b.tar"
    ok(apart.command("backup", str(file)))
    server.process.send_signal(signal.SIGSTOP)
    nobody_is_alive(apart.database_url)
    ok(apart.command("restore", str(file), "--replace"))
    server.process.send_signal(signal.SIGCONT)
    ended = server.finish(connection, job)
    assert (ended["status"], ended["entities_inserted"]) == ("completed", 600)
    hold(apart, ended, listed=600)
    agree(apart, connection, in_folder(folder))


def test_without_the_key_it_is_said_and_new_credentials_mend_it(home: Running, guarded: ScriptedServer) -> None:
    server = home.start(verb="up")
    connection = connect_to(server, guarded, server.collection("sealed"), name="The sealed one")
    server.sync(connection)
    assert server.terminate() == 0
    key_file = data_of(home) / "vault.key"
    key_id = vault.from_setting(key_file.read_text()).key_id.hex()
    bare, keyed = home.place / "bare.tar", home.place / "keyed.tar"
    said = ok(home.command("backup", str(bare)))  # no server is up
    assert postmaster(home) is None
    assert f"The vault key {key_id} is NOT in it, but in {key_file}" in said
    assert "1 connection must be entered again" in said
    key = key_file.read_text().strip()
    assert key.encode() not in bare.read_bytes()
    ok(home.command("backup", str(keyed), "--with-key"))
    destroy(home)

    said = ok(home.command("restore", str(bare)))
    for words in ("1 connection sealed with a missing key", key_id, "The sealed one", str(key_file), "PATCH"):
        assert words in said
    assert not key_file.exists()
    again = home.start(verb="up")
    failed = again.sync(connection)
    assert failed["status"] == "failed"
    assert key_id in failed["error"]
    assert again.get(f"/source-connections/{connection}")["status"] == "needs_reauth"
    body = {"authentication": {"credentials": {"token": TOKEN}}}
    assert again.http.patch(f"/source-connections/{connection}", json=body).status_code == 200
    assert again.sync(connection)["entities_kept"] == 30
    assert again.terminate() == 0

    # there is another key here by now, and the backup has the one that is needed: what it says to do, works
    said = ok(home.command("restore", str(keyed), "--replace"))
    assert "The sealed one" in said
    assert key_file.read_text().strip() != key
    told = re.search(r'VAULT_KEY=".*"', said)
    assert told is not None
    both = subprocess.run(["bash", "-c", f'{told[0]}; echo "$VAULT_KEY"'], capture_output=True, text=True, check=True)
    with_both = home.start(verb="up", VAULT_KEY=both.stdout.strip())
    assert with_both.sync(connection)["entities_kept"] == 30
    assert key not in said


def test_a_key_that_is_here_already_is_used(home: Running, guarded: ScriptedServer) -> None:
    server = home.start(verb="up", VAULT_KEY=OTHER_KEY)
    connection = connect_to(server, guarded, server.collection("sealed"))
    file = home.place / "b.tar"
    said = ok(home.command("backup", str(file), VAULT_KEY=OTHER_KEY))
    assert "but in VAULT_KEY" in said
    assert f"not in {data_of(home) / 'vault.key'} either" in ok(home.command("backup", str(file), "--force"))
    assert "no vault key" in refusal(home.command("backup", str(file), "--with-key", "--force"))
    destroy(home, server)
    assert "VAULT_KEY opens all" in ok(home.command("restore", str(file), VAULT_KEY=OTHER_KEY))
    again = home.start(verb="up", VAULT_KEY=OTHER_KEY)
    assert again.sync(connection)["status"] == "completed"
    assert OTHER_KEY not in said


def test_a_file_that_is_not_whole_or_newer_changes_nothing(
    home: Running, running: Running, server: Server, say: Callable[[str], None]
) -> None:
    folder = server.folder()
    write(folder, range(30), version=1)
    server.sync(server.connect(server.collection(), "folder", {"path": str(folder)}))
    file = home.place / "whole.tar"
    ok(running.command("backup", str(file)))
    content = file.read_bytes()
    other = home.place / "other.txt"
    other.write_text("no tar at all")
    wrong = {
        "empty": b"", "half": content[: len(content) // 2], "a byte less": content[:-1], "a byte more": content + b"\0",
        "without its end": content[:-ENDING_BYTES],
    }  # fmt: skip
    files = [other, home.place / "missing.tar", home.place]
    for name, body in wrong.items():
        (home.place / f"{name}.tar").write_bytes(body)
        files.append(home.place / f"{name}.tar")
    for path in files:
        assert str(path) in refusal(home.command("restore", str(path))), path
    newer = forged(file, b'"format": 1', b'"format": 2')
    assert "newer version of airweave-server" in refusal(home.command("restore", str(newer)))
    newer = forged(file, b'"schema_revision": "00', b'"schema_revision": "99')
    assert "schema 99" in refusal(home.command("restore", str(newer)))
    assert not data_of(home).exists()

    chance = random.Random(seed := random.randrange(10**6))
    say(f"seed {seed}")
    for place in [*range(0, 600, 40), *(chance.randrange(len(content)) for _ in range(150)), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        other.write_bytes(changed)
        with pytest.raises(Unstartable, match=r"altered|newer"), backup.open_archive(other):
            pytest.fail(f"a changed byte at {place} was not seen")
    with backup.open_archive(file) as archive:
        assert archive.manifest.rows("entity") == 30


def test_a_restore_that_fails_in_the_middle_leaves_what_was_there(apart: Running) -> None:
    server = apart.start()
    folder, collection = server.folder(), server.collection("first")
    write(folder, range(30), version=1)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    file = apart.place / "first.tar"
    ok(apart.command("backup", str(file)))
    then = everything(apart.database_url)
    write(folder, range(40), version=2)
    server.sync(connection)
    server.collection("second")
    assert "is in use by api:" in refusal(apart.command("restore", str(file), "--replace"))
    assert server.terminate() == 0
    before = everything(apart.database_url)
    with alive_elsewhere(apart.database_url):
        assert "is in use by worker:queue:elsewhere:1:" in refusal(apart.command("restore", str(file), "--replace"))
        assert "is in use by worker:queue:elsewhere:1:" in refusal(apart.command("reset", "--yes"))
    assert "--replace" in refusal(apart.command("restore", str(file)))
    manifest = manifest_of(file)
    last = manifest["tables"][-1]
    assert last["rows"] == 0
    listed = f'"columns": {json.dumps(last["columns"], indent=1)}'.replace("\n", "\n   ")
    keyed, nowhere = apart.place / "keyed.tar", apart.place / "nowhere"
    ok(apart.command("backup", str(keyed), "--with-key"))
    for whole in (file, keyed):
        wrong = forged(whole, f'{listed},\n   "rows": 0'.encode(), f'{listed},\n   "rows": 7'.encode())
        assert "its manifest says 7" in refusal(
            apart.command("restore", str(wrong), "--replace", AIRWEAVE_DATA_DIR=str(nowhere))
        )
        assert everything(apart.database_url) == before
        assert not (nowhere / "vault.key").exists()

    with psycopg.connect(plain(apart.database_url)) as stranger:
        stranger.execute("select count(*) from chunk")  # and stays in its transaction: the restore waits for it
        waits = """
            select 1 from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and starts_with(query, 'drop table')
        """
        with apart.under_way("restore", str(file), "--replace"):
            until(lambda: rows(apart.database_url, waits), 40, "the restore is under way")
    until(lambda: not rows(apart.database_url, waits), 20, "it is gone")
    assert everything(apart.database_url) == before

    ok(apart.command("restore", str(file), "--replace"))
    assert everything(apart.database_url) == then
    hold(apart)
    again = apart.start()
    assert again.found(collection, "word7x1")[0] == "d7/f7.txt"
    assert again.http.get("/collections/second").status_code == 404
    assert again.sync(connection)["entities_updated"] == 30


def test_a_schema_of_the_past_is_brought_up_to_date(empty: Running) -> None:
    database = Database(empty.database_url)
    with database.engine.begin() as connection:
        upgrade(connection, "0001")
        connection.execute(text("insert into organization (id, name) values (gen_random_uuid(), 'of old')"))
    database.close()
    file = empty.place / "old.tar"
    ok(empty.command("backup", str(file)))
    assert manifest_of(file)["schema_revision"] == "0001"
    ok(empty.command("restore", str(file)))
    assert rows(empty.database_url, "select version_num from alembic_version") == [(known_revisions()[0],)]
    assert rows(empty.database_url, "select name from organization") == [("of old",)]
    assert rows(empty.database_url, "select count(*) from source_pace") == [(0,)]
    assert empty.start().get("/collections") == []


def test_indexes_and_everything_else_of_the_schema_are_as_they_were(apart: Running) -> None:
    shape = """
        select 'index', c.relname, pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indexrelid
        join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public'
        union all select 'constraint', conname, pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'public'::regnamespace
        union all select 'column', table_name || '.' || column_name, data_type || is_nullable || is_generated
        from information_schema.columns where table_schema = 'public' order by 1, 2, 3
    """
    before = rows(apart.database_url, shape)
    assert len(before) > 100
    file = apart.place / "empty.tar"
    ok(apart.command("backup", str(file)))
    ok(apart.command("restore", str(file)))
    assert rows(apart.database_url, shape) == before


@pytest.fixture
def theirs(postgres: str, scratch: Path, forker: Forker | None) -> Iterator[Running]:
    """A database of a role that may not do everything, reached with a password."""
    name = f"r_{uuid4().hex}"
    head, _, tail = postgres.partition("@/airweave?")
    with psycopg.connect(plain(postgres), autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        connection.execute(sql.SQL("create database {0} owner {0}").format(sql.Identifier(name)))
    with psycopg.connect(plain(f"{head}@/{name}?{tail}"), autocommit=True) as connection:
        connection.execute("create extension vector")
    place = Path(tempfile.mkdtemp(prefix="theirs-", dir=scratch))
    place.chmod(0o711)
    url = f"{head.replace('postgres@', f'{name}@').rsplit('//', 1)[0]}//{name}:{PASSWORD}@/{name}?{tail}"
    running = Running(place, url, forker=forker)
    yield running
    running.stop_all()
    with psycopg.connect(plain(postgres), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def test_a_postgres_of_ones_own_keeps_what_is_not_ours_and_no_password_shows(theirs: Running) -> None:
    server = theirs.start()
    folder, collection = server.folder(), server.collection("mine")
    write(folder, range(40), version=1)
    connection = server.connect(collection, "folder", {"path": str(folder)})
    server.sync(connection)
    with psycopg.connect(plain(theirs.database_url), autocommit=True) as stranger:
        stranger.execute("create table notes (text text)")
        stranger.execute("insert into notes values ('keep me')")
        stranger.execute("create view names as select name from entity")
        file = theirs.place / "mine.tar"
        said, seen = watched(theirs, "backup", str(file))
        before = everything(theirs.database_url)
        assert server.terminate() == 0

        for arguments in (("restore", str(file), "--replace"), ("reset", "--yes")):
            line = refusal(theirs.command(*arguments))
            assert "view names" in line
            assert "drop them first" in line
            said += line
        assert everything(theirs.database_url) == before
        stranger.execute("drop view names")
        said += refusal(theirs.command("reset"))
        removed, seen_too = watched(theirs, "reset", "--yes")
        left = stranger.execute("select table_name from information_schema.tables where table_schema = 'public'")
        assert left.fetchall() == [("notes",)]
        assert "nothing to back up" in refusal(theirs.command("backup", str(theirs.place / "none.tar")))
        assert not list(theirs.place.glob("none*"))
        brought, seen_more = watched(theirs, "restore", str(file))
        assert stranger.execute("select text from notes").fetchall() == [("keep me",)]
    assert everything(theirs.database_url) == before
    said += removed + brought
    said += refusal(theirs.command("backup", "/nowhere/x.tar"))
    gone = theirs.database_url.replace("/r_", "/x_")
    said += refusal(theirs.command("backup", str(theirs.place / "no.tar"), DATABASE_URL=gone))
    assert PASSWORD not in said
    shown = "\n".join({*seen, *seen_too, *seen_more})
    assert "airweave_server" in shown
    assert PASSWORD not in shown
    assert PASSWORD.encode() not in file.read_bytes()
    hold_here = theirs.start()
    assert hold_here.sync(connection)["entities_kept"] == 40


def watched(running: Running, *arguments: str) -> tuple[str, set[str]]:
    """What a command says that does it, and how it and all that it starts show in the list of processes."""
    shown: set[str] = set()
    with running.under_way(*arguments) as process:
        while process.poll() is None:
            for one in psutil.process_iter():
                with suppress(psutil.Error):
                    shown.add(" ".join(one.cmdline()))
            with suppress(subprocess.TimeoutExpired):
                process.wait(BETWEEN_LOOKS_S)
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return said, shown


def test_a_table_of_somebody_elses_that_has_the_name_of_one_of_ours_is_left_alone(theirs: Running) -> None:
    with psycopg.connect(plain(theirs.database_url), autocommit=True) as stranger:
        stranger.execute("create table collection (stamp text)")
        stranger.execute("insert into collection values ('penny black')")
        assert "nothing to back up" in refusal(theirs.command("backup", str(theirs.place / "b.tar")))
        ok(theirs.command("reset", "--yes"))
        assert stranger.execute("select stamp from collection").fetchall() == [("penny black",)]


def test_a_file_that_is_there_is_kept_and_one_that_is_cut_short_has_no_name(apart: Running) -> None:
    apart.start()
    file = apart.place / "b.tar"
    ok(apart.command("backup", str(file)))
    first = file.read_bytes()
    assert "--force" in refusal(apart.command("backup", str(file)))
    assert file.read_bytes() == first
    partial = file.with_name("b.tar.partial")
    waits = """
        select 1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and starts_with(query, 'lock table')
    """
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        with psycopg.connect(plain(apart.database_url)) as other:
            other.execute("lock table sync_job in access exclusive mode")
            with apart.under_way("backup", str(file), "--force") as process:
                until(lambda: rows(apart.database_url, waits), 40, "the backup waits")
                assert partial.stat().st_mode & 0o777 == 0o600
                assert "another backup" in refusal(apart.command("backup", str(file), "--force"))
                process.send_signal(number)
                assert process.wait(20) != 0
        assert file.read_bytes() == first
        assert partial.exists() == (number == signal.SIGKILL)
    partial.write_bytes(b"left by one that was killed" * 100_000)
    assert f"Wrote {file}" in ok(apart.command("backup", str(file), "--force"))
    assert not partial.exists()
    with backup.open_archive(file):
        assert file.stat().st_size < 1_000_000


def test_a_backup_does_not_stop_a_postgres_that_another_process_runs(home: Running) -> None:
    server = home.start(verb="up")
    process = postmaster(home)
    assert process is not None
    ok(home.command("backup", str(home.place / "b.tar")))
    server.kill()
    ok(home.command("backup", str(home.place / "c.tar")))  # what survived its owner is left running too
    with alive_elsewhere(embedded.attach(data_of(home))):
        assert "in use by" in refusal(home.command("restore", str(home.place / "c.tar"), "--replace"))
    assert postmaster(home) == process
    nowhere = home.place / "nowhere"
    assert str(nowhere) in refusal(home.command("backup", str(home.place / "d.tar"), AIRWEAVE_DATA_DIR=str(nowhere)))
    assert not nowhere.exists()


def test_on_another_host_files_are_read_there_once_that_is_said(home: Running) -> None:
    server = home.start(verb="up")
    folder, collection = server.folder(), server.collection("files")
    write(folder, range(10), version=1)
    connection = server.connect(collection, "folder", {"path": str(folder)}, name="My files")
    server.sync(connection)
    url = embedded.attach(data_of(home))
    with psycopg.connect(plain(url), autocommit=True) as session:
        session.execute("update source_connection set host = 'the-old-one'")
    file = home.place / "old.tar"
    ok(home.command("backup", str(file)))
    destroy(home, server)
    said = ok(home.command("restore", str(file)))
    for words in ("My files on the-old-one", "--this-host"):
        assert words in said
    assert "the-old-one" not in ok(home.command("restore", str(file), "--replace", "--this-host"))
    again = home.start(verb="up")
    done = again.sync(connection)
    assert (done["status"], done["entities_kept"]) == ("completed", 10)


def test_reset_removes_the_data_and_keeps_the_key(home: Running) -> None:
    server = home.start(verb="up")
    server.collection("gone")
    data, other = data_of(home), data_of(home) / "mine.txt"
    other.write_text("mine")
    key = (data / "vault.key").read_text()
    assert "--yes" in refusal(home.command("reset"))
    assert str(server.process.pid) in refusal(home.command("reset", "--yes"))
    assert server.get("/collections/gone")["name"]
    server.kill()
    url = embedded.attach(data)
    with alive_elsewhere(url):
        assert "in use by" in refusal(home.command("reset", "--yes"))
    assert postmaster(home) is not None
    nobody_is_alive(url)
    assert str(data) in ok(home.command("reset", "--yes"))
    assert postmaster(home) is None
    assert {path.name for path in data.iterdir() if not path.name.startswith("programs-")} == {
        "vault.key",
        "owner.lock",
        "mine.txt",
    }
    assert (data / "vault.key").read_text() == key
    assert "no data" in refusal(home.command("reset", "--yes"))
    again = home.start(verb="up")
    assert again.get("/collections") == []
    assert again.terminate() == 0
    # cut short in the middle of removing, it is as good as removed
    (data / "airweave.json").unlink()
    (data / "postgres").rename(data / "postgres.new-1-postgres")
    assert home.start(verb="up").terminate() == 0
    ok(home.command("reset", "--yes", "--with-key"))
    assert not (data / "vault.key").exists()


def test_what_is_asked_at_a_terminal_is_asked(home: Running) -> None:
    assert home.start(verb="up").terminate() == 0
    for answer, removed in (("n", False), ("y", True)):
        main, side = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "airweave_server", "reset"],
            env=home.environment(),
            stdin=side,
            stdout=side,
            stderr=side,
        )
        os.close(side)
        os.write(main, f"{answer}\n".encode())
        said = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                said += os.read(main, 4096)
            except OSError:  # the other end is closed
                break
        os.close(main)
        assert process.wait(30) == (0 if removed else 1)
        assert str(data_of(home)).encode()[:20] in said.replace(b"\r\n", b"")
        assert (data_of(home) / "postgres").exists() is not removed
