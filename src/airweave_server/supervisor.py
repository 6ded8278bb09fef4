"""Puts a server process together, runs it in the foreground and takes it down again, Postgres included."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

import structlog
import uvicorn

from . import devserver, plugins, vault
from .api.app import create_app, is_loopback, loopback_names
from .api.deps import Parts
from .background import InProcessDriver
from .children import Child, command
from .db import backup, embedded
from .db.embedded import EmbeddedPostgres, attach
from .db.session import Database
from .errors import Unstartable
from .keeper import Keeper
from .services.connections import Connections
from .settings import Settings
from .sync.sync_service import SyncService
from .temporal import worker as temporal_worker
from .temporal.client import Temporal, TemporalDriver

STOP_GRACE_S = 15.0
CHILD_GRACE_S = 8.0
HTTP_GRACE_S = 5
POSTGRES_LOOK_S = 1.0

Say = Callable[[str], None]

log = structlog.get_logger(__name__)


def up(settings: Settings, *, say: Say, with_temporal: bool = False) -> None:
    """Run everything that is needed, the embedded Postgres too where there is no ``DATABASE_URL``, and where Temporal
    is enabled a worker, until SIGINT or SIGTERM. Raises ``Unstartable``."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        if with_temporal:
            settings = settings.model_copy(update={"temporal_enabled": True, "temporal_host": devserver.IP})
            devserver.check(settings)
        if settings.vault_key is not None:
            open_vault(settings)  # a key that is none is known before anything is started
        if settings.database_url is None:
            url = stack.enter_context(_postgres(settings, say))
        else:
            url = settings.database_url.get_secret_value()
        database = stack.enter_context(open_database(url))
        database.migrate()
        children: list[Child] = []
        if with_temporal:
            children.append(stack.enter_context(_child("temporal", settings, devserver.GRACE_S + CHILD_GRACE_S)))
            devserver.wait(settings)
            say(
                f"Temporal  {devserver.IP}:{settings.temporal_port}  (UI at http://localhost:{settings.temporal_ui_port})"
            )
        if settings.temporal_enabled:
            children.append(stack.enter_context(_child("worker", settings, settings.worker_grace_s + CHILD_GRACE_S)))
        _serve(settings, database, listener, say, children)
    say("Stopped.")


def worker(settings: Settings) -> None:
    """Take steps of the jobs that Temporal drives, until SIGINT or SIGTERM. Raises ``Unstartable``."""
    is_open = settings.metrics_port is not None and not is_loopback(settings.metrics_host)
    if is_open and settings.metrics_token is None and not settings.allow_no_auth:
        raise Unstartable(f"METRICS_HOST={settings.metrics_host} is reachable from other machines: set METRICS_TOKEN")
    if settings.database_url is None:
        _forget_libpq_variables()
    with open_database(database_url(settings)) as database:
        database.migrate()
        _loaded_embedder(settings)
        temporal_worker.run(database, sync_service(settings, database), settings)


def api(settings: Settings, *, say: Say) -> None:
    """Run one more API process on a database that is up already. Raises ``Unstartable``."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        database = stack.enter_context(open_database(database_url(settings)))
        database.migrate()
        _serve(settings, database, listener, say)
    say("Stopped.")


def database_url(settings: Settings) -> str:
    """``DATABASE_URL``, or the embedded Postgres of the data directory, which must be up."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    _forget_libpq_variables()
    return attach(settings.place())


@contextmanager
def open_database(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        database.check()
        yield database
    finally:
        database.close()


def sync_service(settings: Settings, database: Database) -> SyncService:
    return SyncService(database, open_vault(settings), settings, hidden_paths=(settings.place(),))


@contextmanager
def any_database(settings: Settings, *, say: Say, alone: bool = False) -> Iterator[Database]:
    """The database, whether or not a server is up: the embedded Postgres is started where it does not run, and stopped
    in the end. ``alone``: nobody else may own it meanwhile, and it is made where there is none."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what is begun is taken back
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value()) as database:
            yield database
        return
    _forget_libpq_variables()
    place = settings.place()
    was_running = embedded.is_running(place)
    if was_running and not alone:
        with open_database(attach(place)) as database:
            yield database
        return
    if not alone and not embedded.has_data(place):
        raise Unstartable(f"there is no data in {place}; name its directory with --data-dir, or set DATABASE_URL")
    postgres = EmbeddedPostgres(place)
    url = postgres.start()
    try:
        for line in postgres.notes:
            say(line)
        with open_database(url) as database:
            yield database
    finally:
        if was_running:
            postgres.release()
        else:
            postgres.stop()


def reset(settings: Settings, *, with_key: bool) -> None:
    """Remove all that we hold: with ``DATABASE_URL`` our tables, else the data of the embedded Postgres; the vault
    key only if asked for. Raises ``Unstartable`` when somebody uses it."""
    if settings.database_url is not None:
        with open_database(settings.database_url.get_secret_value()) as database:
            backup.drop(database)
    else:
        _forget_libpq_variables()
        embedded.erase(settings.place(), look=_check_unused)
    if with_key:
        settings.key_file().unlink(missing_ok=True)


def what_is_held(settings: Settings) -> str:
    """What ``reset`` removes, for a person who is asked."""
    if settings.database_url is not None:
        return f"our tables in {Database(settings.database_url.get_secret_value()).where()}"
    return f"the data of the embedded Postgres in {settings.place()}"


def _check_unused(url: str) -> None:
    with open_database(url) as database:
        backup.check_unused(database)


def open_vault(settings: Settings) -> vault.Vault:
    if settings.vault_key is not None:
        return vault.from_setting(settings.vault_key.get_secret_value())
    place = settings.place()
    try:
        place.mkdir(mode=0o711, parents=True, exist_ok=True)
        return vault.from_file(settings.key_file())
    except OSError as error:
        raise Unstartable(f"{settings.key_file()} cannot be used ({error.strerror}); set VAULT_KEY") from None


def _loaded_embedder(settings: Settings) -> None:
    try:
        plugins.embedder(settings.embedder)
    except LookupError as error:
        raise Unstartable(f"EMBEDDER: {error}") from None


def _serve(
    settings: Settings, database: Database, listener: socket.socket, say: Say, children: Sequence[Child] = ()
) -> None:
    sealed = open_vault(settings)
    _loaded_embedder(settings)
    hidden = (settings.place(),)
    service = SyncService(database, sealed, settings, hidden_paths=hidden)
    in_process = InProcessDriver(database, service, settings)
    driver: TemporalDriver | InProcessDriver = in_process
    if settings.temporal_enabled:
        driver = TemporalDriver(database, Temporal(settings), in_process, settings)
    keeper = Keeper(database, sealed, driver, settings)
    connections = Connections(sealed, settings, hidden_paths=hidden)
    parts = Parts(settings, database, sealed, connections, driver, keeper, children)
    app = create_app(parts, own_hosts=loopback_names(settings.api_host, settings.allowed_hosts))
    server = _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=HTTP_GRACE_S, server_header=False
        )
    )

    def end(_: int, __: FrameType | None) -> None:
        server.force_exit, server.should_exit = server.should_exit, True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    in_process.start()
    if isinstance(driver, TemporalDriver):
        driver.start()
    keeper.start()
    try:
        url = _shown_url(listener)
        say(f"API       {url}  (docs at {url}/docs)")
        engine = "Temporal, while it can be reached" if settings.temporal_enabled else "in process"
        say(f"Engine    {engine}" + ("" if settings.auth_enabled else ", no authentication"))
        server.run(sockets=[listener])
    finally:
        say("Stopping: jobs are checkpointed and go on at the next start.")
        for child in children:
            child.start_no_more()
            if child.name == "worker":
                child.ask_to_end()
        keeper.stop()
        if isinstance(driver, TemporalDriver):
            driver.stop()
        in_process.stop(grace_s=STOP_GRACE_S)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it is done, and we are not done then."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """The bound socket; first of all, so that a port in use is known before anything is started."""
    host, port = settings.api_host, settings.api_port
    if not is_loopback(host) and not settings.auth_enabled and not settings.allow_no_auth:
        raise Unstartable(
            f"API_HOST={host} is reachable from other machines: set AUTH_ENABLED=true (and make a key with "
            "airweave-server keys create), or ALLOW_NO_AUTH=true if everybody who reaches it may do everything"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # with its protocol named: asyncio sends small answers at once (TCP_NODELAY) only on what it knows to be TCP
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise Unstartable(f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port") from None
    with listener:
        yield listener


@contextmanager
def _postgres(settings: Settings, say: Say) -> Iterator[str]:
    _forget_libpq_variables()
    place = settings.place()
    postgres = EmbeddedPostgres(place)
    url = postgres.start()
    for line in (*postgres.notes, f"Postgres  {place}"):
        say(line)
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(POSTGRES_LOOK_S):
            try:
                if postgres.ensure():
                    log.warning("postgres_restarted", data_dir=str(place))
            except Unstartable as error:
                log.error("postgres_down", error=str(error))

    watcher = threading.Thread(target=watch, name="watch-postgres", daemon=True)
    watcher.start()
    try:
        yield url
    finally:
        stopping.set()
        watcher.join()
        postgres.stop()


@contextmanager
def _child(verb: str, settings: Settings, grace_s: float) -> Iterator[Child]:
    told = {
        "AIRWEAVE_DATA_DIR": str(settings.place()),
        "TEMPORAL_ENABLED": "true",
        "TEMPORAL_HOST": settings.temporal_host,
    }
    child = Child(verb, command(verb), {**os.environ, **told}, grace_s=grace_s)
    child.start()
    try:
        yield child
    finally:
        child.ask_to_end()
        child.wait()


def _forget_libpq_variables() -> None:
    """PGHOSTADDR, PGSERVICE and their like would lead connections away from the embedded Postgres."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _shown_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
