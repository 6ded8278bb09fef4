"""Puts a server process together, runs it in the foreground and takes it down again, Postgres included."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvicorn

from . import devserver, plugins
from .api.app import create_app, loopback_names
from .api.deps import Parts
from .api.watches import Watches
from .background import InProcessDriver
from .children import Child, command
from .db.embedded import EmbeddedPostgres
from .db.session import Database
from .errors import Unstartable
from .installation import Say, database_url, forget_libpq_variables, loaded, open_database, open_vault
from .keeper import Keeper
from .services.connections import Connections
from .settings import Settings, is_loopback
from .sync.connector import Connectors
from .sync.sync_service import SyncService

if TYPE_CHECKING:
    from .temporal.client import TemporalDriver

STOP_GRACE_S = 15.0
CHILD_GRACE_S = 8.0
HTTP_GRACE_S = 5
POSTGRES_LOOK_S = 1.0

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


def api(settings: Settings, *, say: Say) -> None:
    """Run one more API process on a database that is up already. Raises ``Unstartable``."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        database = stack.enter_context(open_database(database_url(settings)))
        database.migrate()
        _serve(settings, database, listener, say)
    say("Stopped.")


def _serve(
    settings: Settings, database: Database, listener: socket.socket, say: Say, children: Sequence[Child] = ()
) -> None:
    sealed = open_vault(settings)
    plugins.try_embedder(settings)
    connectors = Connectors(database, sealed, settings)
    service = SyncService(database, connectors, settings)
    in_process = InProcessDriver(database, service, settings)
    durable = _durable(database, in_process, settings) if settings.temporal_enabled else None
    driver = durable or in_process
    keeper = Keeper(database, sealed, driver, settings)
    in_process.job_ended = keeper.kick  # a first load gets its indexes at once
    connections = Connections(connectors, sealed, settings)
    watches = Watches(database)
    parts = Parts(settings, database, sealed, connections, driver, keeper, watches, children)
    app = create_app(parts, own_hosts=loopback_names(settings.api_host, settings.allowed_hosts))
    server = _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=HTTP_GRACE_S, server_header=False
        ),
        watches,
    )

    def end(_: int, __: FrameType | None) -> None:
        server.force_exit, server.should_exit = server.should_exit, True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    in_process.start()
    if durable is not None:
        durable.start()
    keeper.start()
    try:
        url = _shown_url(listener)
        say(f"API       {url}  (docs at {url}/docs)")
        engine = "Temporal, while it can be reached" if settings.temporal_enabled else "in process"
        say(f"Engine    {engine}" + ("" if settings.auth_enabled else ", no authentication"))
        loaded()
        server.run(sockets=[listener])
    finally:
        say("Stopping: jobs are checkpointed and go on at the next start.")
        for child in children:
            child.start_no_more()
            if child.name == "worker":
                child.ask_to_end()
        keeper.stop()
        if durable is not None:
            durable.stop()
        in_process.stop(grace_s=STOP_GRACE_S)


def _durable(database: Database, in_process: InProcessDriver, settings: Settings) -> "TemporalDriver":
    from .temporal.client import Temporal, TemporalDriver  # slow to load: only who uses it waits for it

    return TemporalDriver(database, Temporal(settings), in_process, settings)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again when it is done, and we are not done then. Ends the streams
    first, which would else keep it waiting."""

    def __init__(self, config: uvicorn.Config, watches: Watches) -> None:
        super().__init__(config)
        self._watches = watches

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watches.close()
        await super().shutdown(sockets)

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
    forget_libpq_variables()
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


def _shown_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
