"""Signals between a step and its driver: the step is working, is waiting, should stop."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..sdk import Stopped


@dataclass(slots=True)
class Signals:
    """``stop`` asks the step to end at the next safe place.

    ``source_since``: monotonic time when the step started waiting for the source; None if not waiting. ``busy_since``:
    monotonic time when it began its current piece of work; None if not working.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    source_since: float | None = None
    busy_since: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Surround work that must call ``advance`` as it goes on."""
        self.advance()
        try:
            yield
        finally:
            self.busy_since = None

    def advance(self) -> None:
        """Report progress: the next piece of work begins."""
        self.busy_since = time.monotonic()

    def beat(self) -> None:
        """Report progress within work that has its own time limit. Raises ``Stopped`` if the step should stop."""
        self.advance()
        if self.stop.is_set():
            raise Stopped("asked to stop")

    def hear_source(self) -> None:
        """Note a sign of life of a source that has nothing to yield yet."""
        if self.source_since is not None:
            self.source_since = time.monotonic()

    def waiting(self) -> "Waiting":
        """Surround a call that may wait for the source."""
        return Waiting(self)

    def watch(self, items: Iterator[Any]) -> Generator[Any]:
        """Yield the source's items, noting each wait for one. Raises ``Stopped`` if the step should stop."""
        waiting = self.waiting()
        with closing(items):  # type: ignore[type-var]  # a source yields from a generator
            while True:
                with waiting:
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item
                if self.stop.is_set():
                    raise Stopped("asked to stop")


class Waiting:
    """Records in ``signals`` when waiting for the source began. A class because it is cheap to enter once per item."""

    __slots__ = ("_busy_since", "_signals")

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._busy_since: float | None = None

    def __enter__(self) -> None:
        self._busy_since, self._signals.busy_since = self._signals.busy_since, None
        self._signals.source_since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._signals.source_since = None
        if self._busy_since is not None:
            self._signals.advance()
