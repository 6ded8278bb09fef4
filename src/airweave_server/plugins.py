"""Finds sources and embedders by their entry points, ours like a stranger's; the only place that imports by name."""

import json
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from .errors import Unstartable
from .sdk import ConfigError, Embedder, EmbedderError, Endpoint, Source
from .settings import Settings

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


def embedder(name: str, settings: Settings) -> Embedder:
    """The installed embedder of this entry point name, made once a process. Raises ``ConfigError``."""
    return _made(
        name,
        Endpoint(
            settings.embeddings_url, settings.embeddings_model, settings.embeddings_key, settings.embeddings_dimensions
        ),
    )


def try_embedder(settings: Settings) -> None:
    """Try the embedder of new collections when a process starts. Raises ``Unstartable`` when it cannot work; that it
    cannot now is only said, since it is needed for some things only."""
    try:
        model = embedder(settings.embedder, settings)
        model.check()
        log.info("embedder", name=model.name, dimensions=model.dimensions)
    except ConfigError as error:
        raise Unstartable(f"EMBEDDER: {error}") from None
    except EmbedderError as error:
        log.warning("embedder_unreachable", error=str(error))


def embedder_names() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="airweave_server.embedders")})


@cache
def _made(name: str, endpoint: Endpoint) -> Embedder:
    for entry in entry_points(group="airweave_server.embedders"):
        if entry.name == name:
            kind: type[Embedder] = entry.load()
            return kind.configured(endpoint)
    raise ConfigError(f"no embedder {name!r} is installed; there are: {', '.join(embedder_names())}")
