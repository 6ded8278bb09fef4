"""Finds installed sources and embedders by their entry points. No other module imports by name."""

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
    """All installed sources by short name. One that cannot be loaded is logged and left out."""
    found: dict[str, type[Source[Any, Any]]] = {}
    for entry in entry_points(group="airweave_server.sources"):
        try:
            kind = entry.load()
            if '"writeOnly": true' in json.dumps(kind.config_model.model_json_schema()):
                raise TypeError("configurations are shown to people; move the secret field to the credentials")
        except Exception as error:  # third-party code: one that cannot be loaded must not affect the others
            log.error("source_unusable", source=entry.name, error=f"{type(error).__name__}: {error}")
            continue
        found[entry.name] = kind
    return dict(sorted(found.items()))


def embedder(name: str, settings: Settings) -> Embedder:
    """The installed embedder with this name, made once per process. Raises ``ConfigError``."""
    return _make_embedder(
        name,
        Endpoint(
            settings.embeddings_url, settings.embeddings_model, settings.embeddings_key, settings.embeddings_dimensions
        ),
    )


def try_embedder(settings: Settings) -> None:
    """Try the embedder of new collections when a process starts. Raises ``Unstartable`` if it can never work. If it is
    only unreachable now, that is logged, since not everything needs it."""
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
def _make_embedder(name: str, endpoint: Endpoint) -> Embedder:
    for entry in entry_points(group="airweave_server.embedders"):
        if entry.name == name:
            kind: type[Embedder] = entry.load()
            return kind.configured(endpoint)
    raise ConfigError(f"no embedder {name!r} is installed; installed are: {', '.join(embedder_names())}")
