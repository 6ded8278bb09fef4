"""What turns texts into vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(ABC):
    """One embedding model. Instances are shared between threads.

    ``name`` names the model and its version: vectors of different names are never compared.
    """

    name: str
    dimensions: int

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, shape ``(len(texts), dimensions)``, in order.

        A text without any known token gives a zero vector. Raises ``EmbedderError`` when it should be tried again.
        """
