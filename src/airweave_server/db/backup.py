"""Backups: all our data in a database, from one snapshot into one file, and back in one transaction.

The file is a tar, so that it can be inspected:

    tables/NAME.copy.gz   the rows of a table: Postgres' binary COPY, gzipped
    vault.key             the keys that open credentials, only if requested
    manifest.json         the content of the file and its schema revision
    sha256                the digest of every byte before this member

It contains rows but no schema: the migrations up to the revision in the manifest create that. So no Postgres program as
new as the server is needed, nothing in the file is executed, and data of others in the database is left out.
"""

import fcntl
import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import IO, Annotated, BinaryIO, Self

import psycopg
from psycopg import sql
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import DateTime, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from .. import vault
from ..errors import Unstartable
from ..version import __version__
from ..wire import LANGUAGES
from . import leases
from .languages import configuration
from .models import IS_ACTIVE, Base
from .session import Database, first_line, known_revisions, lock_schema, now, raw, upgrade

FORMAT = 1
OF_PROCESSES = {"lease"}  # not backed up: these describe running processes
FUNCTIONS = (
    "chunk_words()",
    "airweave_words(text, text)",
    "airweave_search_form(text)",
    "airweave_unaccented(text)",
)
DERIVED = {"chunk": ["ts"]}  # not backed up: a trigger sets these when rows are inserted
ALL = [table.name for table in Base.metadata.sorted_tables]  # a table comes after the tables that it refers to
KEY, MANIFEST, DIGEST = "vault.key", "manifest.json", "sha256"
BLOCK_BYTES = tarfile.BLOCKSIZE
PORTION_BYTES = 1 << 18
MAX_MANIFEST_BYTES = 1_000_000  # and of the member with the vault keys
LARGE = {"entity", "chunk"}  # tables that are not read again after they were restored
GZIP_LEVEL = 1  # vectors do not shrink at any level, and text shrinks at every level


Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}$")]
Place = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,60}\.[a-z0-9_]{1,60}$")]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Version = Annotated[str, Field(pattern=r"^[ -~]{1,100}$")]
Number = Annotated[int, Field(ge=0, lt=1 << 63)]


class Rows(BaseModel):
    """One table of a backup."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: Name
    columns: list[Name] = Field(min_length=1)
    rows: Number


class Manifest(BaseModel):
    """The content of a backup. ``key_ids``: the ids of the vault keys in it. ``sealed_with``: for each key, the number
    of connections and webhook subscriptions whose credentials are sealed with it. ``sequences``: the last value of each
    TABLE.COLUMN."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: int = Field(ge=1)
    product: Version
    schema_revision: str = Field(pattern=r"^[0-9a-z]{1,32}$")
    postgres: Version
    created_at: AwareDatetime
    key_ids: tuple[KeyId, ...]
    sealed_with: dict[KeyId, Number]
    tables: list[Rows]
    sequences: dict[Place, Number]

    @model_validator(mode="after")
    def _must_name_each_table_once(self) -> Self:
        if len({table.name for table in self.tables}) < len(self.tables):
            raise ValueError("it names a table twice")
        return self

    def members(self) -> list[str]:
        """The names of the members of its tar, in order."""
        tables = [_member_name(table.name) for table in self.tables]
        return [*tables, *([KEY] if self.key_ids else []), MANIFEST, DIGEST]

    def rows(self, name: str) -> int:
        return next((table.rows for table in self.tables if table.name == name), 0)


@dataclass(frozen=True)
class Archive:
    """A backup whose digest has been verified. Created by ``open_archive``."""

    path: Path
    manifest: Manifest
    tar: tarfile.TarFile

    def member(self, name: str) -> IO[bytes]:
        found = self.tar.extractfile(name)
        assert found is not None, "our members are files"
        return found

    def keys(self) -> str | None:
        """The vault keys in it, in the form of VAULT_KEY; None if it has none."""
        return self.member(KEY).read().decode().strip() if self.manifest.key_ids else None


def write(database: Database, path: Path, *, keys: str | None, key_ids: tuple[str, ...], overwrite: bool) -> Manifest:
    """Back up the database, as of one moment, to a new file that only its owner can read. The file appears only when it
    is complete. ``keys``: vault keys to include. Raises ``Unstartable``."""
    with _explain_errors(f"no backup was made to {path}"):
        with database.engine.connect() as connection:
            tables = _our_tables(Session(connection))
            if database.revision(connection) is None or not tables:
                raise Unstartable(
                    f"there is nothing to back up: the database at {database.address()} has no schema yet"
                )
        with _new_file(path, overwrite=overwrite) as file:
            with database.snapshot() as session:
                _lift_timeouts(session)
                # lock first: the first query takes the snapshot, and no migration may come in between
                session.execute(text(f"lock table {', '.join(tables)} in access share mode"))
                manifest = Manifest(
                    format=FORMAT,
                    product=__version__,
                    schema_revision=database.revision(session.connection()) or "",
                    postgres=session.execute(text("show server_version")).scalar_one(),
                    created_at=now(session).astimezone(UTC),
                    key_ids=key_ids if keys is not None else (),
                    sealed_with=_sealed_with(session),
                    tables=[_copy_out(session, file, name) for name in tables if name not in OF_PROCESSES],
                    sequences=_sequences(session, tables),
                )
            if keys is not None:
                with _member(file, KEY):
                    file.write(f"{keys}\n".encode())
            with _member(file, MANIFEST):
                file.write(manifest.model_dump_json(indent=1).encode())
            file.seek(0)
            file.write(_ending(hashlib.file_digest(file, "sha256").hexdigest()))
    return manifest


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a backup and verify its digest. Raises ``Unstartable`` if it is truncated or altered, or if a newer version
    made it."""
    with ExitStack() as stack:
        with _explain_errors(f"the backup {path} cannot be read"):
            archive = _verify(path, stack.enter_context(path.open("rb")))
        yield archive


def load(database: Database, archive: Archive, *, replace: bool, host: str | None) -> int:
    """Replace our data in the database with the backup, in one transaction. Returns the number of jobs that resume.

    ``host``: bind the connections that are bound to a host to this one. Raises ``Unstartable`` and changes nothing if
    the database is in use, or if it has data and ``replace`` is not set.
    """
    manifest, what = archive.manifest, f"{archive.path} was not restored, and nothing was changed"
    with _explain_damage(what), _explain_errors(what), database.session() as session:
        _take_over(database, session)
        if not replace and _has_data(session):
            raise Unstartable(
                f"the database at {database.address()} holds data already: restore into an empty one, or with --replace"
            )
        _drop_ours(session)
        upgrade(session.connection(), manifest.schema_revision)
        indexes = _drop_indexes(session)
        _check_tables(session, archive)
        for table in manifest.tables:
            _copy_in(session, archive, table)
        for made in indexes:  # building them once takes half the time of maintaining them
            session.execute(text(made))
        _check_sequences(session, archive)
        for place, value in manifest.sequences.items():
            _set_sequence(session, place, value)
        jobs = _release_jobs(session)
        if host is not None:
            _move_to(session, host)
        upgrade(session.connection())
        _check_rows(session, archive)
        for name in ("entity", "chunk"):
            session.execute(text(f"analyze {name}"))
        return jobs


def drop(database: Database) -> None:
    """Remove all our tables from the database, and nothing else. Raises ``Unstartable`` and changes nothing if the
    database is in use or if objects of others depend on our tables."""
    with _explain_errors("nothing was removed"), database.session() as session:
        _take_over(database, session)
        _drop_ours(session)


def check_unused(database: Database) -> None:
    """Raise ``Unstartable`` if a server, worker or keeper is running on the database."""
    with _explain_errors("who uses the database cannot be seen"), database.session() as session:
        _take_over(database, session)


def _take_over(database: Database, session: Session) -> None:
    """Take exclusive use of the database until the transaction ends: a process that starts now waits for us."""
    _lift_timeouts(session)
    lock_schema(session.connection())
    database.revision(session.connection())
    if "lease" in _our_tables(session) and (alive := leases.list_held(session)):
        named = ", ".join(name.rpartition(":")[0] for name in alive)
        raise Unstartable(
            f"the database at {database.address()} is in use by {named}: stop it first; "
            "a killed process still counts for about 20 s"
        )
    # sessions of stopped processes: their locks would block us, and their writes belong to the data that is replaced
    session.execute(
        text("""
            select pg_terminate_backend(pid, 5000) from pg_stat_activity
            where datname = current_database() and usename = current_user and application_name = 'airweave-server'
              and pid <> pg_backend_pid()
        """)
    )


def _lift_timeouts(session: Session) -> None:
    """Lift the timeouts of this transaction, which may take long."""
    for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        session.execute(text(f"set local {limit} = 0"))


def _our_tables(session: Session) -> list[str]:
    """Our tables that exist. Without our migrations none counts as ours: a table of others may have the same name."""
    found = set(
        session.execute(
            text("select table_name from information_schema.tables where table_schema = current_schema()")
        ).scalars()
    )
    return [name for name in ALL if name in found] if found >= {"alembic_version", "sync_job", "chunk"} else []


def _has_data(session: Session) -> bool:
    return any(
        session.execute(text(f"select exists (select 1 from {name})")).scalar_one()
        for name in {"collection", "api_key", "entity"} & set(_our_tables(session))
    )


def _drop_ours(session: Session) -> None:
    tables = _our_tables(session)
    if not tables:
        return
    try:
        with session.begin_nested():  # never cascade: views and the like belong to others
            session.execute(text(f"drop table {', '.join(tables)}, alembic_version"))
            for function in FUNCTIONS:
                session.execute(text(f"drop function if exists {function}"))
            for language in LANGUAGES:
                session.execute(text(f"drop text search configuration if exists {configuration(language)}"))
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.DependentObjectsStillExist):
            detail = (error.orig.diag.message_detail or "").replace("\n", "; ")
            raise Unstartable(f"objects that are not ours depend on our tables: {detail}; drop them first") from None
        raise


def _copy_out(session: Session, file: BinaryIO, name: str) -> Rows:
    columns = _columns(session, name)
    statement = sql.SQL("copy {} ({}) to stdout (format binary)").format(*_names(name, columns))
    with _member(file, _member_name(name)), raw(session).cursor() as cursor:
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0)
        with io.BufferedWriter(packed, PORTION_BYTES) as sink, cursor.copy(statement) as copy:
            for row in copy:
                sink.write(row)
        return Rows(name=name, columns=columns, rows=cursor.rowcount)


def _columns(session: Session, name: str) -> list[str]:
    """The columns of a table that a backup holds."""
    found = session.execute(
        text("""
            select column_name from information_schema.columns where table_schema = current_schema()
              and table_name = :name and is_generated = 'NEVER' and column_name <> all(:derived)
            order by ordinal_position
        """),
        {"name": name, "derived": DERIVED.get(name, [])},
    )
    return list(found.scalars())


def _check_tables(session: Session, archive: Archive) -> None:
    """Raise ``Unstartable`` if the backup does not have the tables and columns of its schema."""
    expected = {name: _columns(session, name) for name in _our_tables(session) if name not in OF_PROCESSES}
    given = {table.name: table.columns for table in archive.manifest.tables}
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            raise Unstartable(
                f"{archive.path} was not restored: its table {name} is not that of schema "
                f"{archive.manifest.schema_revision}; use another backup"
            )


def _check_sequences(session: Session, archive: Archive) -> None:
    """Raise ``Unstartable`` if a sequence of the backup would give a number a second time."""
    given, known = archive.manifest.sequences, _identities(session, _our_tables(session))
    if unknown := sorted(given.keys() - known):
        raise Unstartable(f"{archive.path} was not restored: there is no sequence {unknown[0]}; use another backup")
    for place in sorted(known):
        table, _, column = place.partition(".")
        largest = session.execute(text(f"select max({column}) from {table}")).scalar_one()
        if largest is not None and given.get(place, 0) < largest:
            raise Unstartable(
                f"{archive.path} was not restored: its manifest says that {place} has come to {given.get(place)}, but "
                f"it holds {largest}; use another backup"
            )


def _check_rows(session: Session, archive: Archive) -> None:
    """Raise an error if a value cannot be read as what it should be, or if the manifest names other vault keys than the
    credentials are sealed with."""
    for table in Base.metadata.sorted_tables:
        if table.name not in LARGE:
            for _ in session.execute(select(table).execution_options(yield_per=1_000)):
                pass
            continue
        moments = [column.name for column in table.columns if isinstance(column.type, DateTime)]
        beyond = " or ".join(f"{name} not between '0002-01-01' and '9998-12-31'" for name in moments)
        if beyond and session.execute(text(f"select exists (select 1 from {table.name} where {beyond})")).scalar_one():
            raise Unstartable(f"{archive.path} was not restored: {table.name} has times out of any calendar")
    if (sealed_with := _sealed_with(session)) != archive.manifest.sealed_with:
        raise Unstartable(
            f"{archive.path} was not restored: its manifest says that credentials are sealed with the keys "
            f"{_list_keys(archive.manifest.sealed_with)}, but they are with {_list_keys(sealed_with)}; use another "
            "backup"
        )


def _list_keys(sealed_with: dict[str, int]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in sealed_with.items()) or "none"


def _copy_in(session: Session, archive: Archive, table: Rows) -> None:
    statement = sql.SQL("copy {} ({}) from stdin (format binary, freeze)").format(*_names(table.name, table.columns))
    with gzip.open(archive.member(_member_name(table.name))) as rows, raw(session).cursor() as cursor:
        with cursor.copy(statement) as copy:
            while portion := rows.read(PORTION_BYTES):
                copy.write(portion)
        if cursor.rowcount != table.rows:
            raise Unstartable(
                f"{archive.path} has {cursor.rowcount} rows of {table.name}, but its manifest says {table.rows}"
            )


def _names(table: str, columns: list[str]) -> tuple[sql.Composable, sql.Composable]:
    return sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))


def _drop_indexes(session: Session) -> list[str]:
    """Drop the indexes that back no constraint. Returns the statements that recreate them."""
    found = session.execute(
        text("""
            select cast(i.indexrelid as regclass) as name, pg_get_indexdef(i.indexrelid) as made from pg_index i
            join pg_class c on c.oid = i.indrelid
            join pg_namespace n on n.oid = c.relnamespace and n.nspname = current_schema()
            where c.relname = any(:tables) and not exists (select 1 from pg_constraint where conindid = i.indexrelid)
        """),
        {"tables": ALL},
    ).all()
    for index in found:
        session.execute(text(f"drop index {index.name}"))
    return [index.made for index in found]


def _sequences(session: Session, tables: list[str]) -> dict[str, int]:
    """The current last value of each sequence, which is at least that of the snapshot. A number must never be given
    twice, even if it is free again: delete plans and job marks refer to rows by number."""
    rows = session.execute(
        text("""
            select table_name || '.' || column_name as place,
                   pg_sequence_last_value(cast(pg_get_serial_sequence(table_name, column_name) as regclass)) as value
            from information_schema.columns
            where table_schema = current_schema() and table_name = any(:tables) and is_identity = 'YES'
        """),
        {"tables": tables},
    )
    return {row.place: row.value for row in rows if row.value is not None}


def _identities(session: Session, tables: list[str]) -> set[str]:
    """The TABLE.COLUMN of each number that a sequence gives."""
    found = session.execute(
        text("""
            select table_name || '.' || column_name from information_schema.columns
            where table_schema = current_schema() and table_name = any(:tables) and is_identity = 'YES'
        """),
        {"tables": tables},
    )
    return set(found.scalars())


def _set_sequence(session: Session, place: str, value: int) -> None:
    table, _, column = place.partition(".")
    session.execute(
        text("select setval(cast(pg_get_serial_sequence(:table, :column) as regclass), :value)"),
        {"table": table, "column": column, "value": value},
    )


def _sealed_with(session: Session) -> dict[str, int]:
    sealed = "select credentials as value from source_connection where credentials is not null and deleted_at is null"
    if "webhook_subscription" in _our_tables(session):  # not in the schema of earlier releases
        sealed += " union all select secret from webhook_subscription"
    rows = session.execute(
        text(f"""
            select encode(substring(value, 2, 4), 'hex') as key_id, count(*) as total
            from ({sealed}) as sealed group by 1 order by 1
        """)
    )
    return {row.key_id: row.total for row in rows}


def _release_jobs(session: Session) -> int:
    """Release the active jobs, so that they resume from their last batch with the next free driver and reader, and no
    reader counts as crashed. Returns how many.

    Their listing is outdated, so they must not conclude from it that entities are gone. They count as resumed jobs,
    which never do; the next full job does.
    """
    session.execute(
        text("""
            update sync_partition set owner = null, lease_until = null, backend_pid = null, backend_start = null
            where owner is not null or lease_until is not null or backend_pid is not null
        """)
    )
    if "webhook_subscription" in _our_tables(session):
        session.execute(text("update webhook_subscription set sender = null, sending_until = null"))
    resumed = session.execute(
        text(f"""
            update sync_job set driver = null, driven_until = null, backend_pid = null, backend_start = null,
                   waiting_for = null, modified_at = now(),
                   resumed_from = case when phase = 'read' then coalesce(resumed_from, id) else resumed_from end
            where {IS_ACTIVE} returning id
        """)
    )
    return len(resumed.all())


def _move_to(session: Session, host: str) -> None:
    session.execute(text("update source_connection set host = :host where host is not null"), {"host": host})
    session.execute(text(f"update sync_job set host = :host where host is not null and {IS_ACTIVE}"), {"host": host})


@contextmanager
def _new_file(path: Path, *, overwrite: bool) -> Iterator[io.BufferedRandom]:
    """Create a file that gets its name only when it is complete and on disk. Overwrites the partial file of an
    interrupted attempt."""
    if path.exists() and not overwrite:
        raise Unstartable(f"{path} exists already: choose another file, or overwrite it with --force")
    partial = path.with_name(f"{path.name}.partial")
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unstartable(
                f"{partial} is being written by another backup: wait for it, or choose another file"
            ) from None
        if os.fstat(handle).st_uid != os.geteuid() or not os.path.samestat(os.fstat(handle), os.lstat(partial)):
            raise Unstartable(f"{partial} belongs to another user: choose another file")
        try:
            file.truncate()
            yield file
            file.flush()
            os.fsync(handle)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


@contextmanager
def _member(file: BinaryIO, name: str) -> Iterator[None]:
    """Write a member of the tar. Its header, which has the size, is filled in at the end."""
    start = file.tell()
    file.write(bytes(BLOCK_BYTES))
    yield
    end = file.tell()
    file.seek(start)
    file.write(_header(name, end - start - BLOCK_BYTES))
    file.seek(end)
    file.write(bytes(-end % BLOCK_BYTES))


def _member_name(table: str) -> str:
    return f"tables/{table}.copy.gz"


def _header(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o600
    return info.tobuf(tarfile.GNU_FORMAT)


def _ending(digest: str) -> bytes:
    """The end of a file whose preceding bytes have this digest."""
    return _header(DIGEST, len(digest)) + digest.encode().ljust(BLOCK_BYTES, b"\0") + bytes(2 * BLOCK_BYTES)


def _verify(path: Path, file: BinaryIO) -> Archive:
    damaged = Unstartable(f"{path} is not a backup of ours, or was truncated or altered: use another one")
    try:
        tar = tarfile.TarFile(fileobj=file)
        found = tar.extractfile(MANIFEST)
        content = b"" if found is None else found.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise damaged
        if json.loads(content)["format"] > FORMAT:  # the rest of the manifest may differ too
            raise Unstartable(f"{path} was made by a newer version of airweave-server: restore it with that version")
        manifest = Manifest.model_validate_json(content)
        members = tar.getmembers()
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError, RecursionError):
        raise damaged from None
    if not _is_whole(file):
        raise damaged
    if [member.name for member in members] != manifest.members() or not all(member.isreg() for member in members):
        raise Unstartable(f"{path} does not have the members that its manifest names: use another backup")
    if manifest.schema_revision not in known_revisions():
        raise Unstartable(
            f"{path} has schema {manifest.schema_revision}, newer than this program knows: "
            f"install airweave-server {manifest.product} or newer"
        )
    archive = Archive(path, manifest, tar)
    if _ids_of_keys(archive) != manifest.key_ids:
        raise Unstartable(f"the vault key in {path} is not the one that its manifest names: use another backup")
    return archive


def _ids_of_keys(archive: Archive) -> tuple[str, ...]:
    """The ids of the vault keys in a backup; none if they cannot be read."""
    try:
        text = archive.keys()
        return vault.ids_of(text) if text is not None else ()
    except (Unstartable, ValueError):
        return ()


def _is_whole(file: BinaryIO) -> bool:
    size_bytes = file.seek(0, os.SEEK_END) - len(_ending("0" * 64))
    file.seek(0)
    digest, left = hashlib.sha256(), size_bytes
    while left > 0 and (portion := file.read(min(left, PORTION_BYTES))):
        digest.update(portion)
        left -= len(portion)
    return left == 0 and file.read() == _ending(digest.hexdigest())


@contextmanager
def _explain_damage(what: str) -> Iterator[None]:
    """Turn what Python's readers raise for damaged content into one line."""
    try:
        yield
    except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile, LookupError, ValueError) as error:
        raise Unstartable(f"{what}: it is damaged inside ({type(error).__name__}); use another backup") from None


@contextmanager
def _explain_errors(what: str) -> Iterator[None]:
    """Turn an error of the database or the file system into one clear line, without values."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise Unstartable(f"{what}: {first_line(error)}") from None
    except OSError as error:
        raise Unstartable(
            f"{what}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        ) from None
