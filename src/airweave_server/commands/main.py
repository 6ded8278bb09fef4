"""The command ``airweave-server``: which commands there are, and in which module. A module is loaded only when one of
its commands is called, so that nobody waits for what another command needs."""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from ..errors import ClientError, Unstartable
from ..version import __version__
from .common import err, out


def _start() -> typer.Typer:
    from . import start

    return start.app


def _installation() -> typer.Typer:
    from . import installation

    return installation.app


def _remote() -> typer.Typer:
    from . import remote

    return remote.app


def _sources() -> typer.Typer:
    from . import sources

    return sources.app


# Each command in the order of the list that --help prints, with the module that has it and its line in that list.
COMMANDS = {
    "up": (_start, "Run the server, with all that it needs."),
    "api": (_start, "Run one more API process on the same database."),
    "worker": (_start, "Run one more worker for the jobs that Temporal drives."),
    "temporal": (_start, "Run the Temporal dev server alone, with its UI."),
    "migrate": (_installation, "Bring the schema, or the embedded data, up to date."),
    "backup": (_installation, "Write everything to one file, as of one moment."),
    "restore": (_installation, "Bring back what a backup holds."),
    "reset": (_installation, "Remove everything that is held."),
    "doctor": (_installation, "Say which database this is, and what needs doing."),
    "audit": (_installation, "Prove that what the ledger declares is found by search."),
    "preview": (_remote, "Say what a first sync of a folder would do."),
    "add": (_remote, "Connect a folder to a collection and sync it."),
    "connect": (_remote, "Connect any source to a collection and sync it."),
    "sync": (_remote, "Sync connections and show what was done."),
    "search": (_remote, "Search a collection and show the passages that match."),
    "reembed": (_remote, "Move a collection to another embedder."),
    "status": (_remote, "Show the server's health, connections and last syncs."),
    "sources": (_sources, "List the sources that are installed here."),
    "demo": (_start, "Show the whole thing in a throw-away server."),
    "keys": (_installation, "API keys, for a server with AUTH_ENABLED=true."),
}


class Commands(TyperGroup):
    """The commands of ``COMMANDS``, each no more than its line until it is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """The command itself; loads the module that has it."""
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
    """The entry point: one clear line and exit 1 for whatever a person can mend."""
    code: str | int | None = 0
    try:
        app()
    except SystemExit as left:
        code = left.code
    except (Unstartable, ClientError) as error:
        err.print(f"[bold red]airweave-server:[/] {escape(str(error))}", soft_wrap=True)
        code = 1
    # not the ordinary way out: native threads, as Temporal's and the tokenizer's, can abort an interpreter on it
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"airweave-server {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say which version this is, and end.")
    ] = False,
) -> None:
    """Keeps the knowledge of AI agents fresh: syncs sources into collections that agents search."""
