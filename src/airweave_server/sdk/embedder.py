"""What turns texts into vectors."""

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
    """The embedding service that the operator set; ``dimensions`` None: as many as it answers."""

    url: str = ""
    model: str = ""
    key: SecretStr | None = None
    dimensions: int | None = None


class Embedder(ABC):
    """One embedding model. Instances are shared between threads.

    ``name`` names the model and its version: vectors of different names are never compared.
    """

    name: str
    dimensions: int

    @classmethod
    def configured(cls, endpoint: Endpoint) -> Self:
        """Make one; an embedder that asks a service takes from ``endpoint`` which. Raises ``ConfigError``."""
        return cls()

    def check(self) -> None:  # noqa: B027 - most have nothing to try
        """Try whether it can work here. Raises ``ConfigError``, or ``EmbedderError`` when it may work later."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, shape ``(len(texts), dimensions)``, in order.

        A text without any known token gives a zero vector. Raises ``EmbedderError`` when it should be tried again,
        and ``Unembeddable`` when only some of the texts are at fault.
        """

    def embed_query(self, text: str) -> Vectors:
        """Return the vector of what somebody asks and waits for, shape ``(dimensions,)``; raises as ``embed`` does."""
        vector: Vectors = self.embed([text])[0]
        return vector
