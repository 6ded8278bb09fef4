"""The interface of an embedder, which turns texts into vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The embedding service that the operator configured. ``dimensions``: None for the service's own default."""

    url: str = ""
    model: str = ""
    key: SecretStr | None = None
    dimensions: int | None = None


class Embedder(ABC):
    """One embedding model. Instances are shared between threads.

    ``name`` identifies the model and its version: vectors with different names are never compared. ``trust``: how much
    its vectors count in hybrid search, where words count 1.
    """

    name: str
    dimensions: int
    trust: float = 2.0

    @classmethod
    def configured(cls, endpoint: Endpoint) -> Self:
        """Create one; an embedder that calls a service uses ``endpoint``. Raises ``ConfigError``."""
        return cls()

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Check that it works here. Raises ``ConfigError``, or ``EmbedderError`` if it may work later."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per text, in order, with shape ``(len(texts), dimensions)``.

        A text without any known token gives a zero vector. Raises ``EmbedderError`` if it should be retried, and
        ``Unembeddable`` if only some of the texts are at fault.
        """

    def embed_query(self, text: str) -> Vectors:
        """Return the vector of a query that a person waits for, shape ``(dimensions,)``; raises like ``embed``."""
        vector: Vectors = self.embed([text])[0]
        return vector
