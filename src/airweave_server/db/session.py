"""Engines, sessions and the schema: how everything above reaches Postgres."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

import psycopg
import structlog
from pydantic_core import from_json
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from ..errors import Unstartable
from ..version import __version__

POOL_SIZE = 10
POOL_OVERFLOW = 20
BESIDE = 4  # requests at a time that may have a second connection of the pool; too few to keep all others waiting
CONNECT_TIMEOUT_S = 10
LOCK_S = 4  # that a pooled session waits for another's lock
IDLE_S = 10  # after which the transaction of a process that was stopped in the middle gives its locks back
LOCKED = "55P03"  # the SQLSTATE of a lock that was not got in time
DUPLICATE = "23505"  # and that of a key that is there already
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x41_57_53  # any number, the same for every process of ours
MIN_POSTGRES = 15
MIN_PGVECTOR = (0, 8)
_GROWS_WITHIN = f"airweave-server {'.'.join(__version__.split('.')[:2])}"

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Database:
    """One database. Requests share a pool; a step has a connection of its own, whose end is the end of its backend."""

    def __init__(self, url: str) -> None:
        made = _url(url)
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "airweave-server"}
        self.url = made
        self.engine: Engine = create_engine(
            made, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, pool_pre_ping=True, connect_args=arguments,
            pool_use_lifo=True,  # backends that are asked often have their plans and caches ready
            use_native_hstore=False, hide_parameters=True, json_deserializer=from_json,  # several times json's speed
        )  # fmt: skip
        event.listen(self.engine, "connect", _with_limits)
        self._readers = ThreadPoolExecutor(BESIDE, thread_name_prefix="read")
        self._beside = BoundedSemaphore(BESIDE)
        # no pool: the backend recorded as a partition's owner must never serve anybody else
        self._steps: Engine = create_engine(
            made, poolclass=NullPool, connect_args=arguments, use_native_hstore=False, hide_parameters=True
        )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A pooled session in one transaction: committed at the end, rolled back on an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def step(self) -> Iterator[Session]:
        """A session on a backend of its own; the step commits by itself."""
        # bound to the connection, not to the engine: at a commit the session would else give its backend back
        with self._steps.connect() as connection, Session(connection, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """A connection of its own, without limits and outside of any transaction."""
        with self._steps.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A read-only session that sees one moment of the database."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        connection = self.engine.connect().execution_options(**options)
        with connection, Session(connection) as session, session.begin():
            yield session

    def beside(self, snapshot: Session, read: Callable[[Session], T]) -> Callable[[], T]:
        """Begin to read what the snapshot sees on another connection, while its own is at work; what is returned waits
        for the end. Where all that may do so are taken, it is read on the snapshot's own, then."""
        if not self._beside.acquire(blocking=False):
            return lambda: read(snapshot)
        try:
            moment = snapshot.execute(text("select pg_export_snapshot()")).scalar_one()
            return self._readers.submit(self._read_beside, moment, read).result
        except BaseException:
            self._beside.release()
            raise

    def _read_beside(self, moment: str, read: Callable[[Session], T]) -> T:
        try:
            with self.snapshot() as session:
                session.execute(text(f"set transaction snapshot '{moment}'"))
                return read(session)
        finally:
            self._beside.release()

    def check(self) -> None:
        """Raise ``Unstartable`` unless this is a Postgres that we can use."""
        try:
            with self.engine.connect() as connection:
                _check_versions(connection)
        except OperationalError as error:
            raise Unstartable(f"the database at {self.where()} cannot be reached: {first_line(error)}") from None

    def ping(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("select 1"))

    def migrate(self) -> None:
        """Bring the schema up to date; of several processes one does it. Within a minor version the schema only grows:
        one that a later version of ours made is left as it is. That of a later minor version is ``Unstartable``."""
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
        """The revision of the schema, None where there is none. One that this program does not know, and so has tables
        that it does not know, is ``Unstartable``."""
        current = _revision(connection)
        if current is not None and current not in known_revisions():
            raise Unstartable(
                f"the database at {self.where()} has schema {current}, newer than this program knows; "
                "install the newer version of airweave-server"
            )
        return current

    def where(self) -> str:
        """The database's place, without a password, for messages."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._readers.shutdown()
        self.engine.dispose()
        self._steps.dispose()


def lock_schema(connection: Connection) -> None:
    """Wait for whoever changes the schema, and keep all others from it until this transaction ends."""
    connection.execute(text("set local lock_timeout = 0"))
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to this revision, in the transaction of the connection, which has locked it."""
    if _revision(connection) != known_revisions()[0]:
        from alembic import command  # slow to load, and seldom needed
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    if revision == "head":
        connection.execute(text(f"comment on table alembic_version is '{_GROWS_WITHIN}'"))


def known_revisions() -> list[str]:
    """The revisions of the schema that this program knows, newest first: by the names of their files, which are said
    without loading Alembic."""
    return sorted((path.name.split("_")[0] for path in MIGRATIONS.glob("versions/*.py")), reverse=True)


def be_patient(session: Session) -> None:
    """This transaction will wait for something outside of the database, such as a source that is tried."""
    session.execute(text("set local idle_in_transaction_session_timeout = 0"))


def _with_limits(connection: psycopg.Connection[Any], _: object) -> None:
    with connection.cursor() as cursor:  # not among the options of the connection: poolers refuse those
        cursor.execute(f"set lock_timeout = '{LOCK_S}s'")
        cursor.execute(f"set idle_in_transaction_session_timeout = '{IDLE_S}s'")
    connection.commit()


def now(session: Session) -> datetime:
    """The database's clock, the only one that schedules and leases go by."""
    return session.execute(select(func.now())).scalar_one()


def raw(session: Session) -> psycopg.Connection[Any]:
    """The driver's own connection under a session, for COPY and for what is asked very often."""
    connection: Any = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection


@contextmanager
def driver_errors(statement: str) -> Iterator[None]:
    """Around what goes past SQLAlchemy to the driver: its errors become those that everybody handles."""
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError(statement, None, error) from error


def is_outage(error: BaseException) -> bool:
    """Whether the database went away, ended this session or let it wait too long: the same again may work."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error.orig, psycopg.InterfaceError):
            return True
        error = error.orig if isinstance(error.orig, psycopg.Error) else error
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # the server said nothing: it is gone, unless the driver itself refused a value
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(("08", "57P", "40", LOCKED))


def first_line(error: BaseException) -> str:
    """What the database or its driver said about an error, in one line; its type when it said nothing."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def is_locked(error: BaseException) -> bool:
    """Whether somebody else held a lock for too long."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == LOCKED


def is_storage_full(error: BaseException) -> bool:
    """Whether Postgres ran out of disk, memory or another resource of the machine."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and (original.sqlstate or "").startswith("53")


def is_refused_data(error: BaseException) -> bool:
    """Whether Postgres refused the values themselves, so that the same again fails again."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and (original.sqlstate or "").startswith(("22", "23", "54"))


def is_duplicate(error: BaseException) -> bool:
    """Whether a key was there already."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate == DUPLICATE


def _url(text: str) -> URL:
    """What is said here must not show the password, nor what may be one."""
    try:
        made = make_url(text)
    except (ArgumentError, ValueError):
        made = None
    if made is None or made.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise Unstartable("DATABASE_URL is no URL of a Postgres, as postgresql://user:password@host/database")
    return made.set(drivername="postgresql+psycopg")


def _revision(connection: Connection) -> str | None:
    """What Alembic has noted, asked without loading it."""
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
