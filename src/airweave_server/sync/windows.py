"""Cut what a source yields into windows of bounded size. Knows neither the database nor HTTP."""

import time
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ..sdk import Entity
from .batch import BATCH_CHARS, BATCH_ITEMS, BATCH_S, Item, YieldedCursor


class Windows:
    """The items of a source in windows, bounded in number, text and time.

    An exception of the source ends the iteration and is kept in ``trouble``, so that the items before it can be written
    first.
    """

    def __init__(self, items: Iterator[Any], cursor_model: type[BaseModel]) -> None:
        self._items = items
        self._cursor_model = cursor_model
        self.trouble: Exception | None = None

    def __iter__(self) -> Iterator[list[Item | YieldedCursor]]:
        while window := self._next():
            yield window

    def _next(self) -> list[Item | YieldedCursor]:
        window: list[Item | YieldedCursor] = []
        chars, began_at = 0, time.monotonic()
        while self.trouble is None and len(window) < BATCH_ITEMS and chars < BATCH_CHARS:
            try:
                item = next(self._items, None)
            except Exception as error:
                self.trouble = error
                break
            if item is None:
                break
            if isinstance(item, Entity):
                chars += len(item.text) if isinstance(item.text, str) else 0
            elif isinstance(item, self._cursor_model):
                item = YieldedCursor(item.model_dump(mode="json"))
            window.append(item)
            if time.monotonic() - began_at > BATCH_S:
                break
        return window
