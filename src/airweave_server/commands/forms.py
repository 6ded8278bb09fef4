"""The fields of a source on the command line: parses ``--config`` and ``--secret`` by field type, and asks for missing
fields on a terminal."""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import wire
from ..errors import ClientError
from .common import ask, ask_secret, confirm, inline, show

SECRET_BYTES = 1_000_000
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

Config = Annotated[
    list[str] | None,
    typer.Option("--config", metavar="FIELD=VALUE", help="A field of the source; repeat it to give a list."),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="FIELD=FROM",
        help="Where to read a credential: - (standard input), @FILE, or env:VARIABLE.",
    ),
]


@dataclass(slots=True)
class Answers:
    """The fields given for a source. ``credentials`` holds secrets in clear text and must not be shown."""

    config: dict[str, Any] = field(default_factory=dict)
    credentials: dict[str, Any] = field(default_factory=dict, repr=False)


def can_ask() -> bool:
    """Whether a person at a terminal can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def read_options(source: wire.Source, config: list[str] | None, secret: list[str] | None) -> Answers:
    """Parse the options. Raises ``ClientError``, which names the field but never shows a secret."""
    settings, credentials = fields_of(source)
    answers = Answers()
    for option in config or ():
        name, value = _split(option, "--config")
        if name in settings:
            _put(answers.config, settings[name], value)
        elif name in credentials and not credentials[name].is_secret:
            _put(answers.credentials, credentials[name], value)
        elif name in credentials:
            raise ClientError(f"{name} is a secret: {_explain_options(name)}")
        else:
            raise ClientError(_describe_unknown(source, name, [*settings, *credentials]))
    is_read = False
    for option in secret or ():
        name, origin = _split(option, "--secret")
        if name not in credentials:
            raise ClientError(_describe_unknown(source, name, credentials))
        if name in answers.credentials:
            raise ClientError(f"{name} is given twice")
        if origin == "-" and is_read and not sys.stdin.isatty():
            raise ClientError("standard input can hold only one secret: give the others as @FILE or env:VARIABLE")
        is_read = is_read or origin == "-"
        answers.credentials[name] = _read_secret(name, origin, credentials[name])
    return answers


def missing_settings(source: wire.Source, answers: Answers) -> list[wire.ConfigField]:
    return [one for one in source.config_fields.fields if one.required and one.name not in answers.config]


def missing_credentials(source: wire.Source, answers: Answers) -> list[wire.ConfigField]:
    """The required fields that are missing. If none is required and none is given, the secret ones."""
    fields = source.auth_fields.fields if source.auth_fields is not None else []
    required = [one for one in fields if one.required and one.name not in answers.credentials]
    return required if required or answers.credentials else [one for one in fields if one.is_secret]


def ask_for(
    source: wire.Source, missing: list[wire.ConfigField], into: dict[str, Any], *others: wire.ConfigField
) -> None:
    """Ask for these fields. Raises ``ClientError``, which names them and ``others``, if there is no terminal."""
    if missing and not can_ask():
        needed = "; ".join(f"{_describe(one)}: {_option(one)}" for one in (*missing, *others))
        raise ClientError(f"{source.short_name} needs {needed}")
    for one in missing:
        into[one.name] = _ask(one)


def fields_of(source: wire.Source) -> tuple[dict[str, wire.ConfigField], dict[str, wire.ConfigField]]:
    """The fields of the configuration and those of the credentials, by name."""
    credentials = source.auth_fields.fields if source.auth_fields is not None else []
    return {one.name: one for one in source.config_fields.fields}, {one.name: one for one in credentials}


def _split(option: str, flag: str) -> tuple[str, str]:
    name, mark, value = option.partition("=")
    if not mark or not name:
        form = f"{flag} FIELD=VALUE" if flag == "--config" else f"{flag} FIELD=-"
        raise ClientError(f"write the option as {form}")  # without showing the value, which may be a secret
    return name.strip(), value


def _put(into: dict[str, Any], one: wire.ConfigField, text: str) -> None:
    if one.type != "array":
        if one.name in into:
            raise ClientError(f"{one.name} is given twice, but it is not a list")
        into[one.name] = _value(one, one.type, text)
    else:
        values = _json_list(text)  # None for a glob such as [ab]*.md
        into.setdefault(one.name, []).extend(
            [_value(one, one.items_type or "string", text)] if values is None else values
        )


def _value(one: wire.ConfigField, kind: str, text: str) -> Any:
    if one.enum_values and text not in one.enum_values:
        raise ClientError(f"{one.name}: {text!r} is not one of {', '.join(one.enum_values)}")
    if kind == "boolean":
        if text.lower() not in (*YES, *NO):
            raise ClientError(f"{one.name}: {text!r} is neither true nor false")
        return text.lower() in YES
    if kind == "number":
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise ClientError(f"{one.name}: {text!r} is not a number") from None
    if kind != "object":
        return text
    value = _read_json(text)
    if not isinstance(value, dict):
        raise ClientError(f"{one.name}: give a JSON object")
    return value


def _json_list(text: str) -> list[Any] | None:
    value = _read_json(text) if text.startswith("[") else None
    return value if isinstance(value, list) else None


def _read_json(text: str) -> Any:
    """The value; None if the text is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_secret(name: str, origin: str, one: wire.ConfigField) -> str:
    if origin == "-":
        if sys.stdin.isatty():
            return str(_ask(one))
        text = sys.stdin.read(SECRET_BYTES)
    elif origin.startswith("@"):
        try:
            with Path(origin[1:]).expanduser().open(encoding="utf-8") as file:
                text = file.read(SECRET_BYTES)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ClientError(f"{name}: {origin[1:]} cannot be read: {reason}") from None
    elif origin.startswith("env:"):
        text = os.environ.get(origin.removeprefix("env:"), "")
    else:
        raise ClientError(
            f"{name}: a secret on the command line stays in the shell's history, and every user of this machine can "
            f"see it in the list of processes; {_explain_options(name)}"
        )
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ClientError(f"{name}: {'standard input' if origin == '-' else origin} is empty")
    return text


def _ask(one: wire.ConfigField) -> Any:
    about = f" ({one.description.rstrip('.')})" if one.description else ""
    if one.enum_values:
        about += f" [{', '.join(one.enum_values)}]"
    label = f"{one.title}{about}"
    while True:
        try:
            if one.type == "boolean":
                return confirm(label)
            if one.type == "array":
                return _ask_list(one, label)
            if one.is_secret:
                return ask_secret(label)
            return _value(one, one.type, ask(label))
        except ClientError as error:
            show(f"  {inline(str(error))}")


def _ask_list(one: wire.ConfigField, label: str) -> list[Any]:
    show(f"{inline(label)}: one per line, then an empty line")
    values: list[Any] = []
    while text := ask(" ", default="", show_default=False, prompt_suffix=" "):
        values.append(_value(one, one.items_type or "string", text))
    if not values:
        raise ClientError(f"{one.name}: give at least one")
    return values


def _describe(one: wire.ConfigField) -> str:
    return f"{one.name} ({one.description.rstrip('.')})" if one.description else one.name


def _option(one: wire.ConfigField) -> str:
    return f"--secret {one.name}=-" if one.is_secret else f"--config {one.name}=…"


def _explain_options(name: str) -> str:
    return f"give it as --secret {name}=- (standard input or a prompt), {name}=@FILE or {name}=env:VARIABLE"


def _describe_unknown(source: wire.Source, name: str, known: Iterable[str]) -> str:
    return f"{source.short_name} has no field {name!r}; it has {', '.join(known) or 'none'}"
