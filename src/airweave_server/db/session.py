"""Engines, sessions and the schema: access to Postgres for everything above."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

import psycopg
import structlog
from pydantic_core import from_json
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ..errors import Unstartable
from ..version import __version__
from .room import Room, is_storage_full

POOL_SIZE = 10  # pooled connections that stay open
CONNECTIONS = 30  # pooled connections at most; those above POOL_SIZE are closed after use
CONCURRENT_READS = 4  # requests that may hold a second pooled connection at a time; few enough not to starve the others
CONNECT_TIMEOUT_S = 10
POOL_TIMEOUT_S = 10  # how long a session waits for a pooled connection
LOCK_S = 4  # how long a pooled session waits for a lock
IDLE_S = 10  # how long a transaction may stay idle; after that the locks of a stopped process are released
LOCKED = "55P03"  # SQLSTATE lock_not_available
TIMED_OUT = "57014"  # SQLSTATE query_canceled, by statement_timeout
DUPLICATE = "23505"  # SQLSTATE unique_violation
ORPHAN = "23503"  # SQLSTATE foreign_key_violation
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x41_57_53  # an arbitrary advisory lock key, the same for all our processes
MIN_POSTGRES = 15
MIN_PGVECTOR = (0, 8)
_GROWS_WITHIN = f"airweave-server {'.'.join(__version__.split('.')[:2])}"

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Database:
    """One database, reached through a pool of at most ``connections``. Each step has its own connection, and its
    backend ends with it. ``statement_s``: seconds after which Postgres ends a statement of a pooled connection; without
    it there is no limit."""

    def __init__(
        self, url: str | URL, room: Room | None = None, *, connections: int = CONNECTIONS, statement_s: int = 0
    ) -> None:
        self.url = parsed = _parse_url(url) if isinstance(url, str) else url
        self.room = room or Room()
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "airweave-server"}
        self.engine: Engine = create_engine(
            parsed,
            pool_size=min(POOL_SIZE, connections),
            max_overflow=max(connections - POOL_SIZE, 0),
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            connect_args=arguments,
            pool_use_lifo=True,  # a backend in frequent use has its plans and caches warm
            use_native_hstore=False,
            hide_parameters=True,
            json_deserializer=from_json,  # several times as fast as json
        )
        event.listen(self.engine, "connect", partial(_set_up, statement_s=statement_s))
        self._readers = ThreadPoolExecutor(CONCURRENT_READS, thread_name_prefix="read")
        self._free_readers = BoundedSemaphore(CONCURRENT_READS)
        # no pool: the backend recorded as a partition's owner must never serve another session
        self._steps: Engine = create_engine(
            parsed, poolclass=NullPool, connect_args=arguments, use_native_hstore=False, hide_parameters=True
        )
        for engine in (self.engine, self._steps):
            event.listen(engine, "handle_error", lambda context: self.room.report(context.original_exception))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A pooled session in one transaction, which is committed at the end and rolled back on an error. It takes a
        connection at its first statement."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session
            session.commit()

    @contextmanager
    def step(self) -> Iterator[Session]:
        """A session on a backend of its own. The caller commits."""
        # bound to the connection, not to the engine: otherwise each commit would release the backend
        with self._steps.connect() as connection, Session(connection, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def dedicated(self) -> Iterator[Connection]:
        """An unpooled connection in autocommit mode, without timeouts."""
        with self._steps.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A read-only session that sees the database as of one moment."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        connection = self.engine.connect().execution_options(**options)
        with connection, Session(connection) as session, session.begin():
            yield session

    def read_concurrently(self, snapshot: Session, read: Callable[[Session], T]) -> Callable[[], T]:
        """Start ``read`` on another connection that sees the same snapshot. Returns a function that awaits the result.

        If ``CONCURRENT_READS`` are under way already, ``read`` runs on the snapshot's own connection, when the returned
        function is called.
        """
        if not self._free_readers.acquire(blocking=False):
            return lambda: read(snapshot)
        try:
            snapshot_id = snapshot.execute(text("select pg_export_snapshot()")).scalar_one()
            return self._readers.submit(self._read_in_snapshot, snapshot_id, read).result
        except BaseException:
            self._free_readers.release()
            raise

    def _read_in_snapshot(self, snapshot_id: str, read: Callable[[Session], T]) -> T:
        try:
            with self.snapshot() as session:
                session.execute(text(f"set transaction snapshot '{snapshot_id}'"))
                return read(session)
        finally:
            self._free_readers.release()

    def check(self) -> None:
        """Raise ``Unstartable`` unless the database can be reached and its Postgres and pgvector are new enough."""
        try:
            with self.engine.connect() as connection:
                _check_versions(connection)
        except OperationalError as error:
            raise Unstartable(f"the database at {self.address()} cannot be reached: {first_line(error)}") from None

    def lacks_room(self, error: BaseException) -> bool:
        """Whether this error of the database means that its disk is full, as far as can be told."""
        return is_storage_full(error) or (is_outage(error) and self.room.trouble() is not None)

    def ping(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("select 1"))

    def migrate(self) -> None:
        """Bring the schema up to date. Of several processes that call this at once, one does it.

        Within a minor version the schema only grows, so one made by a later patch release is left as it is. Raises
        ``Unstartable`` for the schema of a later minor version.
        """
        with self.engine.begin() as connection:
            lock_schema(connection)
            current = _revision(connection)
            if current is not None and current not in known_revisions():
                made_by = connection.execute(text("select obj_description('alembic_version'::regclass)")).scalar_one()
                if made_by == _GROWS_WITHIN:
                    log.warning("schema_is_newer", schema=current)
                    return
            self.revision(connection)
            upgrade(connection)

    def revision(self, connection: Connection) -> str | None:
        """The revision of the schema, or None if there is no schema. Raises ``Unstartable`` for a revision that this
        program does not know: it may have tables that this program does not know either."""
        current = _revision(connection)
        if current is not None and current not in known_revisions():
            raise Unstartable(
                f"the database at {self.address()} has schema {current}, newer than this program knows; "
                "install the newer version of airweave-server"
            )
        return current

    def address(self) -> str:
        """The URL of the database without its password, for messages."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._readers.shutdown()
        self.engine.dispose()
        self._steps.dispose()


def lock_schema(connection: Connection) -> None:
    """Lock the schema against changes by others until this transaction ends. Waits as long as another has the lock."""
    connection.execute(text("set local lock_timeout = 0"))
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Upgrade the schema to this revision, in the connection's transaction, which must have locked the schema."""
    if _revision(connection) != known_revisions()[0]:
        from alembic import command  # slow to load, and rarely needed
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    if revision == "head":
        connection.execute(text(f"comment on table alembic_version is '{_GROWS_WITHIN}'"))


def known_revisions() -> list[str]:
    """The schema revisions that this program knows, newest first. Read from the file names, without loading Alembic."""
    return sorted((path.name.split("_")[0] for path in MIGRATIONS.glob("versions/*.py")), reverse=True)


def give_back(session: Session) -> None:
    """Commit, and return the connection to the pool, before waiting for something else, such as a source. The next
    statement takes a connection again, in a new transaction."""
    session.commit()


def _set_up(connection: psycopg.Connection[Any], _: object, *, statement_s: int) -> None:
    with connection.cursor() as cursor:  # not as options of the connection: poolers refuse those
        if statement_s:
            cursor.execute(f"set statement_timeout = '{statement_s}s'")
        cursor.execute(f"set lock_timeout = '{LOCK_S}s'")
        cursor.execute(f"set idle_in_transaction_session_timeout = '{IDLE_S}s'")
        cursor.execute("set synchronize_seqscans = off")  # the same query finds the same rows first, page after page
    connection.commit()


def now(session: Session) -> datetime:
    """The database's clock, the only one used for schedules and leases."""
    return session.execute(select(func.now())).scalar_one()


def clock(session: Session) -> datetime:
    """The database's clock as it is, where ``now`` may be minutes old: a transaction may try a source."""
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment


def raw(session: Session) -> psycopg.Connection[Any]:
    """The driver connection under a session, for COPY and for very frequent queries."""
    connection: Any = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection


@contextmanager
def driver_errors(statement: str) -> Iterator[None]:
    """Turn errors of the driver into ``DBAPIError``. Wraps statements that bypass SQLAlchemy."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError(statement, None, error) from error


def is_outage(error: BaseException) -> bool:
    """Whether the database went away, terminated this session or timed out, so that trying again may work."""
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error.orig, psycopg.InterfaceError):
            return True
        error = error.orig if isinstance(error.orig, psycopg.Error) else error
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # no answer from the server: it is gone, unless the driver itself refused a value
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(("08", "57P", "40", LOCKED))


def first_line(error: BaseException) -> str:
    """The first line of the database's or driver's error message, or the error's type if there is no message."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_locked(error: BaseException) -> bool:
    """Whether a lock could not be acquired in time."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == LOCKED


def is_timed_out(error: BaseException) -> bool:
    """Whether Postgres ended the statement because it took too long."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == TIMED_OUT


def is_out_of_resources(error: BaseException) -> bool:
    """Whether Postgres ran out of disk, memory, shared memory or another resource."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and (original.sqlstate or "").startswith("53")


def is_refused_data(error: BaseException) -> bool:
    """Whether Postgres rejected the values themselves, so that trying again is of no use."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and (original.sqlstate or "").startswith(("22", "23", "54"))


def is_orphan(error: BaseException) -> bool:
    """Whether a foreign key was violated: the row that the new one refers to no longer exists."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == ORPHAN


def is_duplicate(error: BaseException) -> bool:
    """Whether a unique constraint was violated."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == DUPLICATE


def _parse_url(text: str) -> URL:
    """Raises ``Unstartable`` without quoting the text: any part of it may be a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise Unstartable(
            "DATABASE_URL is not a Postgres URL: it should look like postgresql://user:password@host/database"
        )
    return url.set(drivername="postgresql+psycopg")


def _revision(connection: Connection) -> str | None:
    """The revision that Alembic recorded, read without loading Alembic."""
    if connection.execute(text("select to_regclass('alembic_version')")).scalar_one() is None:
        return None
    found: str | None = connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()
    return found


def _check_versions(connection: Connection) -> None:
    version = int(connection.execute(text("show server_version_num")).scalar_one()) // 10000
    if version < MIN_POSTGRES:
        raise Unstartable(f"the database is Postgres {version}; {MIN_POSTGRES} or newer is needed")
    found = connection.execute(
        text(
            "select coalesce((select extversion from pg_extension where extname = 'vector'),"
            " (select default_version from pg_available_extensions where name = 'vector'))"
        )
    ).scalar_one()
    needed = ".".join(map(str, MIN_PGVECTOR))
    if found is None:
        raise Unstartable(f"the database has no extension vector; install pgvector {needed} or newer on its server")
    if tuple(int(part) for part in found.split(".")[:2]) < MIN_PGVECTOR:
        raise Unstartable(
            f"the database has pgvector {found}; {needed} or newer is needed (alter extension vector update)"
        )
