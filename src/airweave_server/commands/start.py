"""The commands that run processes: a server, another of its processes, or the demo."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from .common import DataDir, read_settings, say

Host = Annotated[
    str | None, typer.Option("--host", envvar="API_HOST", help="Address to listen on. [default: 127.0.0.1]")
]
Port = Annotated[
    int | None, typer.Option("--port", envvar="API_PORT", help="Port to listen on; 0 for any. [default: 8001]")
]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True, help="Exit when standard input closes.")]

app = typer.Typer(rich_markup_mode=None)


@contextmanager
def _loading() -> Iterator[None]:
    """Run slow imports without garbage collection: they create no garbage, and the search for it takes a tenth of their
    time."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Also start the Temporal dev server, and let it drive jobs.")
    ] = False,
) -> None:
    """Run the server in the foreground, with an embedded Postgres unless DATABASE_URL is set, and with a worker if
    TEMPORAL_ENABLED=true."""
    with _loading():
        from .. import supervisor  # slow to load, and only these commands need it

    settings = read_settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.up(settings, say=say, with_temporal=temporal)


@app.command()
def api(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run another API process on DATABASE_URL, or on the embedded Postgres of a running server."""
    with _loading():
        from .. import supervisor

    settings = read_settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.api(settings, say=say)


@app.command()
def worker(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run another worker for the jobs that Temporal drives, on any machine that reaches Postgres and Temporal."""
    with _loading():
        from .. import children
        from ..temporal import worker as temporal_worker

    settings = read_settings(data_dir=data_dir)
    if with_parent:
        children.end_with_parent()
    temporal_worker.run(settings)


@app.command()
def temporal(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run the Temporal dev server with its UI in the foreground. Its database is in the data directory."""
    from .. import children, devserver

    settings = read_settings(data_dir=data_dir)
    if with_parent:
        children.end_with_parent()
    else:
        place = f"{devserver.IP}:{settings.temporal_port}"
        say(f"Temporal  {place}  (UI at http://localhost:{settings.temporal_ui_port})")
    sys.exit(devserver.run(settings))


@app.command()
def demo(
    durable: Annotated[
        bool, typer.Option("--durable", help="Instead, kill worker, Temporal and Postgres during a sync on Temporal.")
    ] = False,
) -> None:
    """Show the whole system in a temporary server: sync two real folders, search, change files, sync again."""
    from . import demo as show
    from . import demo_durable

    if durable:
        demo_durable.run()
    else:
        show.run()
