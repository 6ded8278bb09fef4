"""What all commands share: the two consoles, common options, and the settings."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from .. import log
from ..errors import Unstartable
from ..settings import Settings

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

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


def say(line: str) -> None:
    """Print a line of plain text."""
    out.print(escape(line), soft_wrap=True)


def show(text: str) -> None:
    """Print a line of markup without wrapping it, so that ids can be copied from a narrow terminal."""
    out.print(text, soft_wrap=True)
