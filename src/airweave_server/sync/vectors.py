"""The embedders of a collection, and the vectors that they make. Knows neither drivers nor HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import plugins
from ..db.models import VECTORS, Collection
from ..sdk import ConfigError, Embedder, EmbedderError, Vectors
from ..settings import Settings
from ..text.normal import calm


@dataclass(frozen=True, slots=True)
class Models:
    """The embedders of a chunk's two vector columns; None for a column that is not written.

    ``stale``: index of the column whose stored vectors may come from another model and must not be reused.
    """

    of: tuple[Embedder | None, Embedder | None]
    stale: int | None = None


def embedder_of(collection: Collection, settings: Settings) -> Embedder:
    """The embedder whose vectors are searched. Raises ``ConfigError`` if its settings now give another model, and
    ``EmbedderError`` if only a service can tell and it does not answer."""
    return _load_embedder(collection, collection.embedder, collection.embedder_name, collection.dimensions, settings)


def next_embedder_of(collection: Collection, settings: Settings) -> Embedder | None:
    """The embedder of the move in progress, None without one. Raises as ``embedder_of`` does."""
    if collection.next_embedder is None or collection.next_name is None or collection.next_dimensions is None:
        return None
    return _load_embedder(
        collection, collection.next_embedder, collection.next_name, collection.next_dimensions, settings
    )


def models_of(collection: Collection, settings: Settings) -> Models:
    """The embedders a writer to this collection must use. Raises as ``embedder_of`` does."""
    now, then = embedder_of(collection, settings), next_embedder_of(collection, settings)
    of = (now, then) if collection.slot == 1 else (then, now)
    return Models(of, stale=VECTORS.index(collection.other) if then is not None and overwrites(collection) else None)


def overwrites(collection: Collection) -> bool:
    """Whether the move in progress overwrites the vectors in its column, which may come from another model."""
    return (collection.other_name, collection.other_dimensions) != (collection.next_name, collection.next_dimensions)


def embed(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Embed the texts and check the vectors. Raises as the embedder does, and ``EmbedderError`` if the shape is wrong
    or a value is not finite."""
    vectors = embedder.embed([calm(text) for text in texts])
    expected = (len(texts), embedder.dimensions)
    if vectors.shape != expected:
        raise EmbedderError(f"the embedder returned vectors of shape {vectors.shape}, not {expected}")
    if not np.isfinite(vectors).all():
        raise EmbedderError("the embedder returned NaN or infinite numbers")
    return vectors


def _load_embedder(collection: Collection, key: str, name: str, dimensions: int, settings: Settings) -> Embedder:
    embedder = plugins.embedder(key, settings)
    if (embedder.name, embedder.dimensions) != (name, dimensions):
        raise ConfigError(
            f"collection {collection.readable_id} has vectors of {name} ({dimensions} dimensions), but embedder {key} "
            f"is now {embedder.name} ({embedder.dimensions}): set it back, or run airweave-server reembed "
            f"{collection.readable_id} --to {key}"
        )
    return embedder
