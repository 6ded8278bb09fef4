"""Finds sources and embedders by their entry points, ours like a stranger's; the only place that imports by name."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from .sdk import Embedder, Source


@cache
def sources() -> dict[str, type[Source[Any, Any]]]:
    """Every installed source by its short name."""
    found = {entry.name: entry.load() for entry in entry_points(group="airweave_server.sources")}
    for name, kind in found.items():
        if any(SecretStr in (field.annotation, *get_args(field.annotation)) for field in _fields(kind)):
            raise TypeError(f"source {name!r}: a configuration is shown to people; its secrets belong in credentials")
    return dict(sorted(found.items()))


@cache
def embedder(name: str) -> Embedder:
    """The installed embedder of this entry point name, loaded once a process. Raises ``LookupError``."""
    for entry in entry_points(group="airweave_server.embedders"):
        if entry.name == name:
            made: Embedder = entry.load()()
            return made
    raise LookupError(f"no embedder {name!r} is installed; there are: {', '.join(embedder_names())}")


def _fields(kind: type[Source[Any, Any]]) -> Iterable[FieldInfo]:
    return kind.config_model.model_fields.values()


def embedder_names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="airweave_server.embedders")})
