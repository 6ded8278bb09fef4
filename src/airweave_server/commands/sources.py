"""The sources that are installed here."""

import typer
from rich.table import Table

from .. import plugins
from .common import out, read_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def sources() -> None:
    """List the sources that are installed here, with their configuration."""
    settings = read_settings()
    table = Table("name", "title", "what it reads", "configuration")
    for kind in plugins.sources().values():
        if not kind.internal or settings.enable_internal_sources:
            fields = (f"{name}{'' if f.is_required() else '?'}" for name, f in kind.config_model.model_fields.items())
            table.add_row(kind.name, kind.title, kind.description, ", ".join(fields))
    out.print(table)
