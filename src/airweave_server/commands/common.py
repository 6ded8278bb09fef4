"""What all commands share: everything that writes to the terminal, common options, and the settings.

Names, texts and errors come from elsewhere, and may hold what controls a terminal or forges lines. Commands print them
through this module alone, which shows such characters (see ``terminal``); a test walks their code.
"""

from collections.abc import Iterable, Sequence
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from .. import log
from ..errors import Unstartable
from ..settings import Settings
from ..terminal import visible


class Screen(Console):
    """A console on which no text, in tables and other things too, controls the terminal."""

    def render_str(self, text: str, **given: Any) -> Text:
        return super().render_str(visible(text, lines=True), **given)


class Words(TextColumn):
    """A text beside a progress bar, in one line and without markup."""

    def render(self, task: Task) -> Text:
        return Text(visible(self.text_format.format(task=task)))


out = Screen(highlight=False, emoji=False)
err = Screen(stderr=True, highlight=False, emoji=False)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="AIRWEAVE_DATA_DIR", help="The folder of the embedded Postgres.")
]


def read_settings(**given: Any) -> Settings:
    """Read the settings from the environment; options that are not None override them. Raises ``Unstartable``."""
    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:  # its own message shows the value, which may be a secret
        first = error.errors(include_input=False, include_url=False)[0]
        raise Unstartable(f"{str(first['loc'][0]).upper()}: {first['msg']}") from None
    log.configure(level=settings.log_level, style=settings.log_format, to=settings.log_to)
    return settings


def inline(value: object) -> str:
    """A value from elsewhere as a part of markup, in one line."""
    return escape(visible(str(value)))


def say(text: str) -> None:
    """Print a line of plain text."""
    out.print(inline(text), soft_wrap=True)


def show(text: str) -> None:
    """Print a line of markup without wrapping it, so that ids can be copied from a narrow terminal."""
    out.print(visible(text), soft_wrap=True)


def show_error(text: str) -> None:
    """Print an error as one line on standard error."""
    err.print(f"[bold red]airweave-server:[/] {inline(text)}", soft_wrap=True)


def show_table(columns: Sequence[str | Column], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of plain texts."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(inline, row))
    out.print(table)


def show_json(data: Any) -> None:
    """Print one JSON object, in ASCII."""
    out.print_json(data=data, ensure_ascii=True)


def note(text: str) -> None:
    """Print a line of plain text on standard error, beside the result."""
    err.print(inline(text), soft_wrap=True)


def print_result(text: str) -> None:
    """Print a result that ``$(...)`` captures, without any style."""
    print(visible(text))  # noqa: T201


def ask(label: str, **given: Any) -> str:
    """Ask for a text."""
    return str(typer.prompt(visible(label), **given))


def confirm(label: str, *, abort: bool = False) -> bool:
    """Ask yes or no."""
    return typer.confirm(visible(label), abort=abort)


def ask_secret(label: str) -> str:
    """Ask for a text that is not shown."""
    # typer's own prompt shows the question before it hides what is typed
    while not (text := getpass(f"{visible(label)}: ")):
        pass
    return text
