"""Embedders that take their time, or fail, as a control file says while they run.

``TEST_EMBEDDER_CONTROL`` names the file. Both give the same text the same vector, and texts that share words near ones.
"""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from airweave_server.sdk import Embedder, EmbedderError, Vectors

DIMENSIONS = 16


class Slow(Embedder):
    """Waits before each batch: the seconds in the control file, else those of ``TEST_EMBEDDER_DELAY_S``."""

    name = "test-slow"
    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, late."""
        try:
            delay_s = float(_control() or "")
        except ValueError:
            delay_s = float(os.environ.get("TEST_EMBEDDER_DELAY_S", "0"))
        time.sleep(delay_s)
        return hashed(texts)


class Failing(Embedder):
    """Fails while there is a control file that says anything but ``ok``: answers vectors that are too short
    (``short``), that are no numbers (``nan``), that are for a part of the texts only (``partial``), or none at all.

    ``TEST_EMBEDDER_DIMENSIONS``: how many it says its vectors have, and how many they have.
    """

    name = "test-failing"

    def __init__(self) -> None:
        self.dimensions = int(os.environ.get("TEST_EMBEDDER_DIMENSIONS", DIMENSIONS))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, wrong ones, or raise ``EmbedderError``."""
        vectors = hashed(texts)[:, : self.dimensions]
        match _control():
            case None | "ok":
                return vectors
            case "short":
                return vectors[:, :-1]
            case "nan":
                vectors[-1, 0] = np.nan
                return vectors
            case "partial":
                return vectors[: len(texts) // 2]
        raise EmbedderError("test-failing was told to fail: 500")


def hashed(texts: Sequence[str]) -> Vectors:
    """One unit vector a text, the sum of its words'; zeros for a text without words."""
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=DIMENSIONS).digest()
            vectors[row] += np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - 127.5
        length = float(np.linalg.norm(vectors[row]))
        if length:
            vectors[row] /= length
    return vectors


def _control() -> str | None:
    """What the control file says; None when there is none."""
    path = os.environ.get("TEST_EMBEDDER_CONTROL")
    if not path:
        return None
    try:
        return Path(path).read_text().strip()
    except FileNotFoundError:
        return None
