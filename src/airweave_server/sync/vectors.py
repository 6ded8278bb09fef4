"""Which embedders the vectors of a collection are made by. Knows neither drivers nor HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import plugins
from ..db.models import VECTORS, Collection
from ..sdk import ConfigError, Embedder, EmbedderError, Vectors
from ..settings import Settings


@dataclass(frozen=True, slots=True)
class Models:
    """The embedder of each of a chunk's two vectors that is to be written, None for one that is not. ``stale``: the
    one whose stored vectors may be another model's, and are not to be taken over."""

    of: tuple[Embedder | None, Embedder | None]
    stale: int | None = None


def embedder_of(collection: Collection, settings: Settings) -> Embedder:
    """The embedder whose vectors are searched. Raises ``ConfigError`` when it has become another one, and
    ``EmbedderError`` where only a service knows, and it cannot be asked now."""
    return _same(collection, collection.embedder, collection.embedder_name, collection.dimensions, settings)


def next_embedder_of(collection: Collection, settings: Settings) -> Embedder | None:
    """The embedder that a move under way leads to; raises as ``embedder_of`` does."""
    if collection.next_embedder is None or collection.next_name is None or collection.next_dimensions is None:
        return None
    return _same(collection, collection.next_embedder, collection.next_name, collection.next_dimensions, settings)


def models_of(collection: Collection, settings: Settings) -> Models:
    """What whoever writes for the collection writes; raises as ``embedder_of`` does."""
    now, then = embedder_of(collection, settings), next_embedder_of(collection, settings)
    of = (now, then) if collection.slot == 1 else (then, now)
    return Models(of, stale=VECTORS.index(collection.other) if then is not None and is_anew(collection) else None)


def is_anew(collection: Collection) -> bool:
    """Whether the move under way overwrites what stands in its column, as that may be of another model."""
    return (collection.other_name, collection.other_dimensions) != (collection.next_name, collection.next_dimensions)


def embed(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """The vectors, checked; raises as the embedder does, and ``EmbedderError`` for what they cannot be."""
    vectors = embedder.embed(texts)
    expected = (len(texts), embedder.dimensions)
    if vectors.shape != expected:
        raise EmbedderError(f"the embedder answered {vectors.shape} for {expected}")
    if not np.isfinite(vectors).all():
        raise EmbedderError("the embedder answered numbers that are none")
    return vectors


def _same(collection: Collection, key: str, name: str, dimensions: int, settings: Settings) -> Embedder:
    embedder = plugins.embedder(key, settings)
    if (embedder.name, embedder.dimensions) != (name, dimensions):
        raise ConfigError(
            f"collection {collection.readable_id} has vectors of {name} ({dimensions} dimensions), and embedder {key} "
            f"is {embedder.name} ({embedder.dimensions}) now: set it back, or run airweave-server reembed "
            f"{collection.readable_id} --to {key}"
        )
    return embedder
