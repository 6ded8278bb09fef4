"""Content that ends whoever opens or embeds it, or never lets go of it."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from airweave_server.sdk import Deleted, Embedder, Entity, Seen, Skipped, Vectors

from .embedders import DIMENSIONS, hashed
from .scripted import Scripted

KILLS, LOOPS = "deadlykill", "deadlyloop"


class Deadly(Scripted):
    """Text with the word ``deadlykill`` ends the process that opens it, with ``deadlyloop`` it is opened for ever."""

    name = "deadly"
    title = "Deadly"

    def _item(self, item: Any) -> Entity | Seen | Deleted | Skipped:
        made = super()._item(item)
        if isinstance(made, Entity) and isinstance(made.text, str):
            return replace(made, text=None, open=partial(_opened, made.text), filename=f"{made.id}.txt")
        return made


class DeadlyEmbedder(Embedder):
    """Does the same to who embeds such a text."""

    name = "test-deadly"
    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, or not."""
        for text in texts:
            _meet(text)
        return hashed(texts)


@contextmanager
def _opened(text: str) -> Iterator[BinaryIO]:
    _meet(text)
    yield BytesIO(text.encode())


def _meet(text: str) -> None:
    if KILLS in text:
        os.kill(os.getpid(), signal.SIGKILL)
    while LOOPS in text:
        time.sleep(0.01)
