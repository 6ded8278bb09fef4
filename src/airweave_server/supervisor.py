"""Assembles a server process, runs it in the foreground and shuts it down, embedded Postgres included."""

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvicorn

from . import devserver, mcp_endpoint, plugins
from .api.answers import STATEMENT_S
from .api.app import Mount, create_app
from .api.deps import Parts
from .api.lanes import Lanes
from .api.protocol import LimitedProtocol
from .api.watches import Watches
from .background import InProcessDriver
from .children import Child, command, system_variables
from .db.embedded import EmbeddedPostgres
from .db.session import Database
from .errors import Unstartable
from .installation import (
    Say,
    database_url,
    forget_libpq_variables,
    open_database,
    open_vault,
    room_of,
    settle_garbage,
)
from .keeper import Keeper
from .services import deliveries
from .services.connections import Connections
from .settings import Settings, is_loopback
from .sync.connector import Connectors
from .sync.sync_service import SyncService

if TYPE_CHECKING:
    from .temporal.client import TemporalDriver

STOP_GRACE_S = 15.0
CHILD_GRACE_S = 8.0
HTTP_GRACE_S = 5
FILES = 4_096  # open files, sockets included; many systems permit 1,024 to a process that does not ask for more
POSTGRES_LOOK_S = 1.0
SWITCH_S = 0.001  # after which a thread that computes lets the event loop go on; 5 ms by default, at each of its calls
# use the database for housekeeping, leases, progress, health, and what sources ask during a request
HOUSE_THREADS = 20 + deliveries.THREADS

log = structlog.get_logger(__name__)


def up(settings: Settings, *, say: Say, with_temporal: bool = False) -> None:
    """Run a whole server until SIGINT or SIGTERM: the API, the embedded Postgres unless ``DATABASE_URL`` is set, and a
    worker if Temporal is enabled. ``with_temporal`` also runs Temporal's dev server. Raises ``Unstartable``."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        if with_temporal:
            settings = settings.model_copy(update={"temporal_enabled": True, "temporal_host": devserver.IP})
            devserver.check(settings)
        if settings.vault_key is not None:
            open_vault(settings)  # so that an invalid key is reported before anything starts
        if settings.database_url is None:
            url = stack.enter_context(_postgres(settings, say))
        else:
            url = settings.database_url.get_secret_value()
        connections = _house_connections(settings)
        database = stack.enter_context(open_database(url, room_of(settings), connections=connections))
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
    """Run another API process on a database that is already running. Raises ``Unstartable``."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(settings))
        url, connections = database_url(settings), _house_connections(settings)
        database = stack.enter_context(open_database(url, room_of(settings), connections=connections))
        database.migrate()
        _serve(settings, database, listener, say)
    say("Stopped.")


def _house_connections(settings: Settings) -> int:
    """The pooled connections of what keeps house, and of the jobs: one for each of its threads."""
    return HOUSE_THREADS + settings.job_threads


def _allow_files() -> int:
    """Let this process open as many files as the system permits, up to ``FILES``; returns how many it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS permits less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return FILES if soft == resource.RLIM_INFINITY else soft


def _serve(
    settings: Settings, database: Database, listener: socket.socket, say: Say, children: Sequence[Child] = ()
) -> None:
    vault = open_vault(settings)
    plugins.try_embedder(settings)
    connectors = Connectors(database, vault, settings)
    service = SyncService(database, connectors, settings)
    in_process = InProcessDriver(database, service, settings)
    durable = _make_durable(database, in_process, settings) if settings.temporal_enabled else None
    driver = durable or in_process
    keeper = Keeper(database, vault, driver, settings)
    in_process.job_ended = keeper.kick  # so that the indexes of a first sync are built at once
    connections = Connections(connectors, vault, settings)
    watches = Watches(database)
    lanes = Lanes()
    requests = Database(database.url, database.room, connections=lanes.connections, statement_s=STATEMENT_S)
    parts = Parts(settings, requests, database, vault, connections, driver, keeper, watches, children)
    agents = mcp_endpoint.Endpoint(threads=lanes.mcp.places)
    app = create_app(parts, lanes, [Mount(agents.path, agents, agents.run, mcp_endpoint.Refusals)])
    LimitedProtocol.most_connections = min(LimitedProtocol.most_connections, _allow_files() // 2)
    server = _Server(
        uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=HTTP_GRACE_S,
            server_header=False,
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
        url = _format_url(listener)
        say(f"API       {url}  (docs at {url}/docs)")
        engine = "Temporal, while it is reachable" if settings.temporal_enabled else "in process"
        say(f"Engine    {engine}" + ("" if settings.auth_enabled else ", no authentication"))
        settle_garbage()
        sys.setswitchinterval(SWITCH_S)
        server.run(sockets=[listener])
    finally:
        say("Stopping: jobs are checkpointed and continue at the next start.")
        for child in children:
            child.stop_restarting()
            if child.name == "worker":
                child.terminate()
        keeper.stop()
        if durable is not None:
            durable.stop()
        in_process.stop(grace_s=STOP_GRACE_S)
        requests.close()


def _make_durable(database: Database, in_process: InProcessDriver, settings: Settings) -> "TemporalDriver":
    from .temporal.client import Temporal, TemporalDriver  # slow to import, and needed only where Temporal is enabled

    return TemporalDriver(database, Temporal(settings), in_process, settings)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again once it has stopped, when the rest is still to be stopped. Closes
    the progress streams first, since uvicorn would wait for them."""

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
    """Bind the API's socket. It comes first, so that a port in use is reported before anything starts."""
    host, port = settings.api_host, settings.api_port
    if not is_loopback(host) and not settings.auth_enabled and not settings.allow_no_auth:
        raise Unstartable(
            f"API_HOST={host} is reachable from other machines: set AUTH_ENABLED=true (and make a key with "
            "airweave-server keys create), or ALLOW_NO_AUTH=true to give full access to everybody who can reach it"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # the protocol is named because asyncio sets TCP_NODELAY, which sends small answers at once, only on known TCP
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise Unstartable(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from None
    with listener:
        yield listener


@contextmanager
def _postgres(settings: Settings, say: Say) -> Iterator[str]:
    forget_libpq_variables()
    place = settings.place()
    postgres = EmbeddedPostgres(place)
    url = postgres.start()
    for line in (*postgres.notes, f"Postgres  {place}", f"Storage   {room_of(settings).describe()}"):
        say(line)
    stopping = threading.Event()

    def watch() -> None:
        told = ""
        while not stopping.wait(POSTGRES_LOOK_S):
            try:
                if postgres.ensure():
                    log.warning("postgres_restarted", data_dir=str(place))
                told = ""
            except Unstartable as error:
                if str(error) != told:  # the log may be on the disk that is full
                    log.error("postgres_down", error=str(error))
                told = str(error)

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
    environment = {
        **_variables(verb, settings),
        "AIRWEAVE_DATA_DIR": str(settings.place()),
        "TEMPORAL_ENABLED": "true",
        "TEMPORAL_HOST": settings.temporal_host,
    }
    child = Child(verb, command(verb), environment, grace_s=grace_s)
    child.start()
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def _variables(verb: str, settings: Settings) -> dict[str, str]:
    """The variables of ours that a child needs. A worker runs what we run, so it needs what settings, libraries and
    plug-ins are told there, but no key that only opens our own API and metrics."""
    if verb == "temporal":
        return system_variables() | {
            name: os.environ[name] for name in os.environ if name.upper() in devserver.SETTINGS
        }
    own = {"API_KEY"} if settings.metrics_port is not None else {"API_KEY", "METRICS_TOKEN"}
    return {name: value for name, value in os.environ.items() if name.upper() not in own}


def _format_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
