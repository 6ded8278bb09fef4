"""Finds sources and embedders by their entry points, ours like a stranger's; the only place that imports by name."""

import json
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from .errors import Unstartable
from .sdk import Embedder, Source

log = structlog.get_logger(__name__)


@cache
def sources() -> dict[str, type[Source[Any, Any]]]:
    """Every installed source by its short name."""
    found: dict[str, type[Source[Any, Any]]] = {}
    for entry in entry_points(group="airweave_server.sources"):
        try:
            kind = entry.load()
            if '"writeOnly": true' in json.dumps(kind.config_model.model_json_schema()):
                raise TypeError("a configuration is shown to people; its secrets belong in credentials")
        except Exception as error:  # somebody else's code: one that cannot be loaded must not take the others with it
            log.error("source_unusable", source=entry.name, error=f"{type(error).__name__}: {error}")
            continue
        found[entry.name] = kind
    return dict(sorted(found.items()))


@cache
def embedder(name: str) -> Embedder:
    """The installed embedder of this entry point name, loaded once a process. Raises ``LookupError``."""
    for entry in entry_points(group="airweave_server.embedders"):
        if entry.name == name:
            made: Embedder = entry.load()()
            return made
    raise LookupError(f"no embedder {name!r} is installed; there are: {', '.join(embedder_names())}")


def load_embedder(name: str) -> None:
    """Load the embedder of new collections when a process starts, not at the first use. Raises ``Unstartable``."""
    try:
        embedder(name)
    except LookupError as error:
        raise Unstartable(f"EMBEDDER: {error}") from None


def embedder_names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="airweave_server.embedders")})
