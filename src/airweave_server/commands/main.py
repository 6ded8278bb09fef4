"""The command ``airweave-server``: its commands and their modules. A module is loaded only when one of its commands is
called, so that no command waits for what another one needs."""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from .. import sandbox
from ..errors import ClientError, Unstartable
from ..terminal import VisibleStream
from ..version import __version__
from .common import say, show_error


def _start() -> typer.Typer:
    from . import start

    return start.app


def _installation() -> typer.Typer:
    from . import installation

    return installation.app


def _remote() -> typer.Typer:
    from . import remote

    return remote.app


def _evaluate() -> typer.Typer:
    from . import evaluate

    return evaluate.app


def _mcp() -> typer.Typer:
    from . import mcp

    return mcp.app


def _sources() -> typer.Typer:
    from . import sources

    return sources.app


# Each command with its module and its line in --help, in the order of that list.
COMMANDS = {
    "up": (_start, "Run the server with everything it needs."),
    "api": (_start, "Run another API process on the same database."),
    "worker": (_start, "Run another worker for the jobs that Temporal drives."),
    "temporal": (_start, "Run only the Temporal dev server, with its UI."),
    "migrate": (_installation, "Update the schema or the embedded data."),
    "backup": (_installation, "Write a consistent backup of everything to one file."),
    "restore": (_installation, "Restore a backup."),
    "reset": (_installation, "Delete everything the server holds."),
    "doctor": (_installation, "Show which database this is, and what needs attention."),
    "audit": (_installation, "Check that everything the ledger declares is found by search."),
    "preview": (_remote, "Show what a first sync of a folder would do."),
    "add": (_remote, "Connect a folder to a collection and sync it."),
    "connect": (_remote, "Connect any source to a collection and sync it."),
    "sync": (_remote, "Sync connections and show the result."),
    "search": (_remote, "Search a collection and show the matching passages."),
    "evaluate": (_evaluate, "Measure how well search answers your own queries."),
    "mcp": (_mcp, "Give agents the tools of MCP, on standard input and output."),
    "reembed": (_remote, "Move a collection to another embedder."),
    "status": (_remote, "Show the server's health, connections and last syncs."),
    "sources": (_sources, "List, show, create or check sources."),
    "demo": (_start, "Show the whole system in a temporary server."),
    "keys": (_installation, "Manage API keys, for a server with AUTH_ENABLED=true."),
    "organizations": (_installation, "Manage organizations, which see nothing of each other."),
}


class Commands(TyperGroup):
    """The commands of ``COMMANDS``. Each is only its help line until it is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Return the command, and load its module."""
    module, _ = COMMANDS[name]
    return get_group(module()).commands[name]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point. An error that a person can fix is one line and exit 1."""
    code: str | int | None = 0
    sandbox.hide()  # the environment may hold keys
    sys.stdout, sys.stderr = VisibleStream(sys.stdout), VisibleStream(sys.stderr)
    try:
        app()
    except SystemExit as left:
        code = left.code
    except (Unstartable, ClientError) as error:
        show_error(str(error))
        code = 1
    # not a normal exit: native threads of Temporal and the tokenizer can abort the interpreter during it
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _version(is_asked: bool) -> None:
    if is_asked:
        say(f"airweave-server {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Keep the knowledge of AI agents fresh: sync sources into collections that agents search."""
