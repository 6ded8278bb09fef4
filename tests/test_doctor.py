"""``doctor`` says nothing of what is well, names what is not, and says of each what to do."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from faults.readers import until
from running import Running, plain, write
from servers.scripted_server import ScriptedServer, items

OTHER_KEY = base64.b64encode(b"o" * 32).decode()


def examined(running: Running, **more: str) -> dict[str, Any]:
    """What it finds; the exit code says whether it is anything."""
    done = running.command("doctor", "--json", **more)
    report = dict(json.loads(done.stdout))
    assert done.returncode == (0 if report["ok"] else 1), done.stderr
    assert report["ok"] is (report["findings"] == [])
    assert all(finding["what"] for finding in report["findings"])
    return report


def found(running: Running, *words: str, **more: str) -> str:
    """What to do about the one finding that has all of these words."""
    findings = examined(running, **more)["findings"]
    dos = [str(one["do"]) for one in findings if all(word in one["what"] for word in words)]
    assert len(dos) == 1, findings
    return dos[0]


def run(running: Running, *statements: str) -> None:
    with psycopg.connect(plain(running.database_url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def test_what_is_well_is_shown_by_collection_and_needs_nothing(apart: Running, source: ScriptedServer) -> None:
    server = apart.start()
    folder = server.folder()
    write(folder, range(90), version=1)
    server.sync(
        server.connect(server.collection("large"), "folder", {"path": str(folder)}, schedule={"cron": "0 3 * * *"})
    )
    small = server.collection("small")
    source.partitions = {"a": items(9)}
    server.sync(server.connect_to(source, collection=small, cron="0 3 1 * *"))
    server.collection("empty")
    report = examined(apart)
    assert report["findings"] == []
    shown = {one.pop("readable_id"): one for one in report["collections"]}
    assert list(shown) == ["large", "small", "empty"]
    sizes = [one.pop("size_bytes") for one in shown.values()]
    assert sizes[0] > 5 * sizes[1] > 0
    assert sizes[2] == 0
    near = "all compared"
    assert shown["large"] == {"is_leaving": False, "connections": 1, "entities": 90, "chunks": 90, "vectors": near}
    assert shown["empty"] == {"is_leaving": False, "connections": 0, "entities": 0, "chunks": 0, "vectors": near}
    for words in (f"api:{os.uname().nodename}:{server.process.pid}", "keeper:"):
        assert words in report["facts"]["alive"]
    if sys.platform == "linux":
        assert report["facts"]["server"].startswith("hidden")
        assert report["facts"]["parsers"].endswith("gain no privileges; open no files, connections or programs")
    done = apart.command("doctor")
    assert done.returncode == 0
    for words in ("Nothing needs attention.", "large", "│ small", "answers"):
        assert words in done.stdout


def test_what_waits_for_a_person_is_named(apart: Running, source: ScriptedServer) -> None:
    server = apart.start()
    source.token, source.partitions = "first", {"a": items(40)}
    connection = server.connect(
        server.collection(),
        "scripted",
        {"url": source.url, "attempts": 1},
        name="Guarded",
        authentication={"credentials": {"token": "first"}},
        schedule={"cron": "0 3 * * *"},
    )
    server.sync(connection)
    source.partitions["a"] = items(10)
    assert server.sync(connection)["held_deletes"] == 30
    assert "held-deletes" in found(apart, "'Guarded'", "30 deletes")
    shown = apart.command("doctor")
    assert shown.returncode == 1
    assert "! connection 'Guarded' holds 30 deletes" in shown.stdout
    assert f"→ GET /source-connections/{connection}/held-deletes" in shown.stdout

    source.token = "second"
    assert server.sync(connection)["status"] == "failed"
    assert connection in found(apart, "'Guarded'", "needs new credentials")
    assert "VAULT_KEY takes several" in found(apart, "'Guarded'", "sealed with key", VAULT_KEY=OTHER_KEY)
    key = Path(apart.environment()["AIRWEAVE_DATA_DIR"], "vault.key")
    key.rename(key.with_name("elsewhere"))
    assert str(connection) in found(apart, "'Guarded'", "sealed with key", str(key))
    assert not key.exists(), "looking makes no key"
    key.with_name("elsewhere").rename(key)

    run(apart, "update source_connection set last_full_at = now() - interval '5 days'")
    assert f"sync {connection} --full" in found(apart, "'Guarded'", "has not been listed in full since 2")
    run(apart, "update source_connection set cron = '0 3 1 * *'")
    assert not [one for one in examined(apart)["findings"] if "in full" in one["what"]]


def test_jobs_that_nobody_takes_are_named(apart: Running) -> None:
    server = apart.start()
    folder = server.folder()
    write(folder, range(5), version=1)
    connection = server.connect(server.collection(), "folder", {"path": str(folder)}, name="Files")
    run(apart, "update source_connection set host = 'the-old-one'")
    job = server.run(connection)
    server.wait_for(lambda: server.job(connection, job)["waiting_for"], lambda seen: seen == "worker")
    assert "on host the-old-one" in found(apart, "'Files'", "waits for worker")
    run(apart, "update sync_job set waiting_for = 'storage'")
    assert "free space" in found(apart, "'Files'", "waits for storage")
    run(apart, "update sync_job set waiting_for = 'source'")
    assert examined(apart)["ok"], "that passes by itself"
    assert "airweave-server worker" in found(apart, "no worker of task queue", TEMPORAL_ENABLED="true")
    server.kill()
    until(lambda: examined(apart)["facts"]["alive"] == "no server and no worker", 40, "no lease holds")
    assert "airweave-server up" in found(apart, "a job is under way", "no server does the housekeeping")


def test_trouble_of_the_database_is_named(apart: Running) -> None:
    run(
        apart,
        "insert into organization (id, name) select gen_random_uuid(), 'the same' from generate_series(1, 2)",
        "alter table lease set (autovacuum_enabled = false)",
        "insert into lease select n, '', now() from generate_series(1, 60000) n",
        "delete from lease",
        "select pg_stat_force_next_flush()",
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(apart, "create unique index concurrently half_made on organization (name)")
    assert "vacuum (analyze) lease" in until(lambda: dead_rows(apart), 30, "the statistics know it")
    assert "reindex index concurrently half_made" in found(apart, "half_made", "invalid")
    older = "update pg_extension set extversion = '0.8.0' where extname = 'vector'"
    run(apart, "set allow_system_table_mods = on", older)
    do = found(apart, "pgvector is 0.8.0")
    run(apart, do.removeprefix("run in SQL: "), "vacuum lease", "drop index half_made")
    assert examined(apart)["ok"]

    run(apart, "update alembic_version set version_num = '0001'")
    assert "airweave-server migrate" in found(apart, "the schema is 0001")
    run(apart, "update alembic_version set version_num = 'ffff_from_the_future'")
    assert "install the newer version" in found(apart, "schema ffff_from_the_future")
    run(apart, "drop table alembic_version")
    assert "airweave-server migrate" in found(apart, "no schema")


def dead_rows(running: Running) -> str | None:
    found = [one["do"] for one in examined(running)["findings"] if "table lease has 60,000 dead rows" in one["what"]]
    return found[0] if found else None


def test_a_database_that_cannot_be_reached_is_a_finding_too(apart: Running) -> None:
    nowhere = apart.place / "nowhere"
    assert "airweave-server up" in found(apart, str(nowhere), DATABASE_URL="", AIRWEAVE_DATA_DIR=str(nowhere))
    gone = "postgresql://me:canary-password@127.0.0.1:1/x"
    assert "canary" not in json.dumps(examined(apart, DATABASE_URL=gone))


@pytest.fixture
def small_disk(scratch: Path) -> Iterator[Running]:
    """What runs on a data directory on a file system of 600 MB."""
    place = Path(tempfile.mkdtemp(prefix="small-", dir=scratch))
    place.chmod(0o711)
    running = Running(place, "")
    (place / "data").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600m,mode=711", "tmpfs", str(place / "data")], check=False
    )
    if os.geteuid() != 0 or mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield running
    running.stop_all()
    subprocess.run(["umount", "--lazy", str(place / "data")], check=True)


def test_a_disk_that_is_nearly_full_is_named_with_the_largest_collection(small_disk: Running) -> None:
    server = small_disk.start(verb="up")
    server.collection("the-largest")
    do = found(small_disk, "the disk of", str(small_disk.place / "data"), "left")
    assert "the-largest" in do
