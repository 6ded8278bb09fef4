"""Backups that are wrong inside although their digest is right: each is refused in one line, and nothing is changed."""

import base64
import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airweave_server.db import backup
from airweave_server.db.session import Database
from airweave_server.errors import Unstartable
from airweave_server.services import backup as service
from airweave_server.settings import Settings
from running import Running, Server, ok, plain, refusal, write
from servers.scripted_server import ScriptedServer, items

COPY_HEADER_BYTES, COPY_TRAILER = 19, b"\xff\xff"


@dataclass
class Parts:
    """A backup taken apart: its manifest, and the unpacked content of its other members in order."""

    manifest: dict[str, Any]
    members: dict[str, bytes]

    @classmethod
    def of(cls, file: Path) -> "Parts":
        with tarfile.open(file) as tar:
            found = {member.name: (tar.extractfile(member) or pytest.fail(member.name)).read() for member in tar}
        manifest = json.loads(found.pop(backup.MANIFEST))
        del found[backup.DIGEST]
        return cls(manifest, {name: gzip.decompress(data) if ".gz" in name else data for name, data in found.items()})

    def table(self, name: str) -> dict[str, Any]:
        return next(table for table in self.manifest["tables"] if table["name"] == name)

    def rows(self, name: str) -> bytes:
        return self.members[f"tables/{name}.copy.gz"]

    def put(self, name: str, data: bytes) -> None:
        self.members[f"tables/{name}.copy.gz"] = data

    def replace(self, name: str, old: bytes, new: bytes) -> None:
        assert old in self.rows(name)
        assert len(old) == len(new)
        self.put(name, self.rows(name).replace(old, new))

    def write(self, file: Path, *, packed: dict[str, bytes] | None = None, manifest: bytes | None = None) -> Path:
        """Put it together, with a digest that fits. ``packed``: members as they are."""
        members = {name: gzip.compress(data, 1) if ".gz" in name else data for name, data in self.members.items()}
        members |= packed or {}
        members[backup.MANIFEST] = json.dumps(self.manifest).encode() if manifest is None else manifest
        body = b"".join(
            backup._header(name, len(data)) + data + bytes(-len(data) % backup.BLOCK_BYTES)
            for name, data in members.items()
        )
        file.write_bytes(body + backup._ending(hashlib.sha256(body).hexdigest()))
        return file


def put(*path: str | int, value: Any) -> Callable[[Parts], None]:
    """A change that sets a value in the manifest."""

    def change(parts: Parts) -> None:
        place: Any = parts.manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def swap_columns(parts: Parts) -> None:
    columns = parts.table("collection")["columns"]
    columns[0], columns[1] = columns[1], columns[0]


def double_rows(parts: Parts) -> None:
    rows, table = parts.rows("collection"), parts.table("collection")
    parts.put("collection", rows[: -len(COPY_TRAILER)] + rows[COPY_HEADER_BYTES:])
    table["rows"] *= 2


def drop_table(parts: Parts) -> None:
    parts.manifest["tables"].remove(parts.table("chunk"))
    del parts.members["tables/chunk.copy.gz"]


def add_table(parts: Parts) -> None:
    parts.manifest["tables"].append({"name": "pg_class", "columns": ["oid"], "rows": 0})
    parts.put("pg_class", b"")


def name_twice(parts: Parts) -> None:
    parts.manifest["tables"].append(parts.table("collection"))


def empty_collections(parts: Parts) -> None:
    """Its connections then point nowhere."""
    parts.put("collection", parts.rows("collection")[:COPY_HEADER_BYTES] + COPY_TRAILER)
    parts.table("collection")["rows"] = 0


def outlast(table: str) -> Callable[[Parts], None]:
    """A change that sets a time of a table to infinity."""

    def change(parts: Parts) -> None:
        a_time = re.compile(rb"\0\0\0\x08\0[\x02-\x04].{6}", re.DOTALL)  # microseconds since 2000
        changed, count = a_time.subn(lambda _: b"\0\0\0\x08\x7f" + b"\xff" * 7, parts.rows(table), count=1)
        assert count
        parts.put(table, changed)

    return change


def reorder(parts: Parts) -> None:
    parts.members = dict(reversed(parts.members.items()))


IN_MANIFEST: dict[str, Callable[[Parts], None]] = {
    **{
        f"{field} is {value!r}"[:60]: put(field, value=value)
        for field, values in {
            "format": (None, "1", -1, 0, 10**30, [1], {"a": 1}, True),
            "product": (None, 1, "", "x\x1b[2J", "x" * 10_000),
            "schema_revision": (None, 8, "", "head", "0001\n", "9999", "../0001"),
            "created_at": (None, "now", -1, "2026-01-01", [], 10**30),
            "key_ids": (None, "deadbeef", ["deadbeef"], [1], ["\x1b[2J"]),
            "sealed_with": (None, {}, {"deadbeef": 1}, {"x": 1}, {"deadbeef": -1}, {"deadbeef": "1"}),
            "tables": (None, [], {}, [None], [{"name": "chunk"}]),
            "sequences": (None, {}, {"entity.row": -1}, {"entity.row": 0}, {"entity.row": 1}, {"entity.row": 2**63}),
        }.items()
        for value in values
    },
    "a sequence that there is not": lambda parts: parts.manifest["sequences"].update({"pg_class.oid": 1}),
    "a negative number of rows": put("tables", 0, "rows", value=-1),
    "too many rows": put("tables", 0, "rows", value=10**9),
    "a column that is no name": put("tables", 0, "columns", 0, value='id") from stdin; --'),
    "a column that there is not": put("tables", 0, "columns", 0, value="nothing"),
    "columns in another order": swap_columns,
    "a table less": drop_table,
    "a table more": add_table,
    "a table twice": name_twice,
    "an older schema than its tables": put("schema_revision", value="0001"),
}
IN_MEMBERS: dict[str, Callable[[Parts], None]] = {
    "a member less": lambda parts: parts.members.pop("tables/entity.copy.gz") and None,
    "a member more": lambda parts: parts.members.update({"../outside": b"x"}),
    "members in another order": reorder,
    "another key": lambda parts: parts.members.update({"vault.key": base64.b64encode(b"k" * 32)}),
    "no key at all": lambda parts: parts.members.update({"vault.key": b"\xff\x00"}),
    "rows cut short": lambda parts: parts.put("chunk", parts.rows("chunk")[:-30]),
    "nothing": lambda parts: parts.put("chunk", b""),
    "no rows but text": lambda parts: parts.put("chunk", b"1\t2\t3\n"),
    "rows twice": double_rows,
    "rows that point nowhere": empty_collections,
    "NUL in a text": lambda parts: parts.replace("collection", b"Collection", b"Coll\0ction"),
    "another encoding": lambda parts: parts.replace("collection", b"Collection", b"Coll\xffction"),
    "an endless time in a collection": outlast("collection"),
    "an endless time in an entity": outlast("entity"),
    "JSON that is none": lambda parts: parts.replace("source_connection", b'{"url"', b'{"url '),
}


@pytest.fixture(scope="module")
def whole(running: Running) -> Path:
    """A good backup with its key, of a database that no server uses any more."""
    server: Server = running.start()
    folder = server.folder()
    write(folder, range(20), version=1)
    server.sync(server.connect(server.collection(), "folder", {"path": str(folder)}))
    with ScriptedServer() as source:
        source.partitions["a"] = items(5)
        server.sync(server.connect_to(source))
    assert server.terminate() == 0
    file = running.place / "whole.tar"
    ok(running.command("backup", str(file), "--with-key"))
    return file


def content(url: str) -> dict[str, Any]:
    """Which rows the database holds."""
    with psycopg.connect(plain(url)) as connection:
        return {
            name: connection.execute(f"select count(*), md5(string_agg(cast(t as text), '' order by t)) from {name} t")
            .fetchall()
            for name in ("organization", "collection", "source_connection", "entity", "sync_job", "alembic_version")
        }  # fmt: skip


@contextmanager
def refused(running: Running, file: Path) -> Iterator[None]:
    """The backup is refused in one line, and nothing is changed, neither in the database nor in a data directory."""
    nowhere, database = running.place / "nowhere", Database(running.database_url)
    settings = Settings(data_dir=nowhere)
    try:
        with pytest.raises(Unstartable) as caught, backup.open_archive(file) as archive:
            service.restore(database, settings, archive, replace=True, this_host=False)
    finally:
        database.close()
    line = str(caught.value)
    assert str(file) in line
    assert line.isprintable()
    assert len(line) < 500
    assert not settings.key_file().exists()
    yield


@pytest.mark.parametrize("change", [*IN_MANIFEST, *IN_MEMBERS])
def test_a_backup_that_is_wrong_inside_changes_nothing(running: Running, whole: Path, change: str) -> None:
    parts, before = Parts.of(whole), content(running.database_url)
    (IN_MANIFEST | IN_MEMBERS)[change](parts)
    with refused(running, parts.write(running.place / "wrong.tar")):
        assert content(running.database_url) == before


@pytest.mark.parametrize("field", ["format", "schema_revision", "key_ids", "tables", "sequences", "created_at"])
def test_a_manifest_without_a_field_is_refused(running: Running, whole: Path, field: str) -> None:
    parts = Parts.of(whole)
    del parts.manifest[field]
    with refused(running, parts.write(running.place / "wrong.tar")):
        pass


def test_what_is_no_manifest_and_no_gzip_is_refused(running: Running, whole: Path) -> None:
    parts, wrong = Parts.of(whole), running.place / "wrong.tar"
    for manifest in (
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1e999}',
        b'{"format":' + b"9" * 9_999,
    ):
        with refused(running, parts.write(wrong, manifest=manifest)):
            pass
    name = "tables/chunk.copy.gz"
    good = gzip.compress(parts.members[name])
    for packed in (b"", b"no gzip", good[:-12], good[:40], good + b"more", good[:50] + bytes(50) + good[100:]):
        with refused(running, parts.write(wrong, packed={name: packed})):
            pass


def test_the_command_line_says_one_line_and_a_good_backup_is_restored(running: Running, whole: Path) -> None:
    parts, wrong = Parts.of(whole), running.place / "wrong.tar"
    name = "tables/chunk.copy.gz"
    parts.write(wrong, packed={name: gzip.compress(parts.members[name])[:-12]})
    assert "it is damaged inside" in refusal(running.command("restore", str(wrong), "--replace"))
    put("key_ids", value=["deadbeef"])(parts)
    parts.write(wrong)
    assert "is not the one that its manifest names" in refusal(running.command("restore", str(wrong), "--replace"))
    Parts.of(whole).write(wrong)  # taken apart and put together, it is good
    before = content(running.database_url)
    ok(running.command("restore", str(wrong), "--replace"))
    assert content(running.database_url) == before
