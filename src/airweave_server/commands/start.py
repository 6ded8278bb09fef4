"""The commands that run processes: a server, one more of its processes, or the demo."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from .common import DataDir, out, read_settings, say

Host = Annotated[
    str | None, typer.Option("--host", envvar="API_HOST", help="Address to listen on. [default: 127.0.0.1]")
]
Port = Annotated[
    int | None, typer.Option("--port", envvar="API_PORT", help="Port to listen on; 0 is any. [default: 8001]")
]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True, help="End when standard input is closed.")]

app = typer.Typer(rich_markup_mode=None)


@contextmanager
def _loading() -> Iterator[None]:
    """For imports that take long: nothing of what they make is garbage, and looking for it takes a tenth of them."""
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
        bool, typer.Option("--temporal", help="Start the Temporal dev server too, and let it drive jobs.")
    ] = False,
) -> None:
    """Run the server in the foreground, with an embedded Postgres unless DATABASE_URL is set, and a worker where
    TEMPORAL_ENABLED=true."""
    with _loading():
        from .. import supervisor  # the slow part of starting: only the commands that need it load it

    settings = read_settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.up(settings, say=say, with_temporal=temporal)


@app.command()
def api(host: Host = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Run one more API process on DATABASE_URL, or on the embedded Postgres of a server that is up."""
    with _loading():
        from .. import supervisor

    settings = read_settings(api_host=host, api_port=port, data_dir=data_dir)
    supervisor.api(settings, say=say)


@app.command()
def worker(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run one more worker: takes steps of the jobs that Temporal drives, wherever it reaches Postgres and Temporal."""
    with _loading():
        from .. import children
        from ..temporal import worker as of_temporal

    settings = read_settings(data_dir=data_dir)
    if with_parent:
        children.end_with_parent()
    of_temporal.run(settings)


@app.command()
def temporal(data_dir: DataDir = None, with_parent: WithParent = False) -> None:
    """Run the Temporal dev server in the foreground, its database in the data directory, with its UI."""
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
        bool, typer.Option("--durable", help="Kill worker, Temporal and Postgres in the middle of a sync instead.")
    ] = False,
) -> None:
    """Show the whole thing in a throw-away server: sync two real folders, search, change, sync again."""
    from . import demo as show
    from . import demo_durable

    if durable:
        demo_durable.run(out)
    else:
        show.run(out)
