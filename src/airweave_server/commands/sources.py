"""The commands that list, show, create and check the sources installed here. They need no server."""

import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from .. import plugins, wire
from ..errors import ClientError
from ..sdk import ConfigError, Context, Source
from ..services.sources import describe
from ..settings import Settings
from . import forms
from .common import inline, read_settings, say, show, show_table
from .forms import Config, Secret
from .scaffold import write_package

REQUESTS = 20
MARKS = {True: "[green]ok[/]     ", False: "[red]wrong[/]  ", None: "       "}

app = typer.Typer(rich_markup_mode=None)
sources_app = typer.Typer()
app.add_typer(sources_app, name="sources")


@sources_app.callback(invoke_without_command=True)
def sources(context: typer.Context) -> None:
    """List the installed sources. The commands below show one source, create a new one, or check one."""
    if context.invoked_subcommand is not None:
        return
    rows = []
    for kind in _installed(read_settings()).values():
        source = describe(kind)
        settings, credentials = forms.fields_of(source)
        fields = (f"{one.name}{'' if one.required else '?'}" for one in (*settings.values(), *credentials.values()))
        rows.append((source.short_name, source.name, source.description or "", ", ".join(fields)))
    show_table(("name", "title", "description", "fields"), rows)


@sources_app.command("show", short_help="Show a source and its fields.")
def show_source(name: Annotated[str, typer.Argument(help="The source.")]) -> None:
    """Show a source and the fields of its configuration and its credentials."""
    source = describe(_find(name, read_settings()))
    show(f"[bold]{inline(source.short_name)}[/]: {inline(source.name)}. {inline(source.description or '')}")
    settings, credentials = forms.fields_of(source)
    rows = (
        (
            one.name,
            _describe_type(one),
            "required" if one.required else "" if one.default is None else str(one.default),
            one.description or one.title,
            f"--secret {one.name}=-" if one.is_secret else f"--config {one.name}=…",
        )
        for one in (*settings.values(), *credentials.values())
    )
    show_table(("field", "type", "default", "description", "option"), rows)


@sources_app.command("new", short_help="Create the package of a new source.")
def new_source(
    name: Annotated[str, typer.Argument(help="The source's name: lower-case letters, digits and _.")],
    folder: Annotated[Path | None, typer.Option(help="Where to write it. [default: airweave-source-NAME]")] = None,
) -> None:
    """Create a package with a source for a paginated API with a token. It passes its own tests as it is."""
    if name in plugins.sources():
        raise ClientError(f"there is already a source {name}: choose another name")
    place = folder or Path(f"airweave-source-{name.replace('_', '-')}")
    for path in write_package(name, place):
        say(f"  {path}")
    say(f"Next: pip install -e {place}, python -m pytest {place}, and airweave-server sources check {name}")


@sources_app.command("check", short_help="Try a source with your configuration.")
def check_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    config: Config = None,
    secret: Secret = None,
    requests: Annotated[int, typer.Option(min=2, max=1_000, help="The maximum number of requests.")] = REQUESTS,
) -> None:
    """Try a source with your configuration: read a little, simulate failed requests, and report whether a job would
    lose or delete anything. Writes nothing. Exit 1 if anything is wrong."""
    from ..services import checking  # slow to load, and not needed to list sources
    from ..sync.connector import make_context
    from ..sync.scrub import secrets_of

    settings = read_settings()
    kind = _find(name, settings)
    source = describe(kind)
    answers = forms.read_options(source, config, secret)
    missing = forms.missing_credentials(source, answers)
    forms.ask_for(source, forms.missing_settings(source, answers), answers.config, *missing)
    forms.ask_for(source, missing, answers.credentials)
    read, credentials = _accept(kind, answers)
    context = make_context(settings, threading.Event(), is_connecting=True)

    def make(context: Context) -> Source[Any, Any]:
        return kind(read, credentials, context)

    is_good = True
    for line in checking.check(make, context, secrets_of(read, credentials), requests=requests):
        show(MARKS[line.is_good] + inline(line.text))
        is_good = is_good and line.is_good is not False
    raise typer.Exit(0 if is_good else 1)


def _installed(settings: Settings) -> dict[str, type[Source[Any, Any]]]:
    offered = plugins.sources().items()
    return {name: kind for name, kind in offered if not kind.internal or settings.enable_internal_sources}


def _find(name: str, settings: Settings) -> type[Source[Any, Any]]:
    known = _installed(settings)
    if name not in known:
        raise ClientError(f"there is no source {name!r} here; the sources are {', '.join(known)}")
    return known[name]


def _accept(kind: type[Source[Any, Any]], answers: forms.Answers) -> tuple[BaseModel, BaseModel | None]:
    try:
        config = kind.config_model.model_validate(answers.config)
        given = {**answers.credentials, "credentials": answers.credentials or None}
        return config, kind.auth.accept(given)
    except ValidationError as error:  # its own message shows values, which may be secret
        first = error.errors(include_input=False, include_url=False)[0]
        raise ClientError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ConfigError as error:
        raise ClientError(str(error)) from None


def _describe_type(one: wire.ConfigField) -> str:
    if one.enum_values:
        return " | ".join(one.enum_values)
    return f"array of {one.items_type}" if one.type == "array" else "secret" if one.is_secret else one.type
