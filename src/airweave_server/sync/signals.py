"""What a step tells whoever watches it, and what it is told: that it works, that it waits, that it should stop."""

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

    ``source_since``: monotonic time when it started waiting for the source; None if not waiting. ``busy_since``:
    monotonic time when it began the thing that it is doing itself; None if not working.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    source_since: float | None = None
    busy_since: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around work that must advance."""
        self.advance()
        try:
            yield
        finally:
            self.busy_since = None

    def advance(self) -> None:
        """Work advances: the next thing begins."""
        self.busy_since = time.monotonic()

    def beat(self) -> None:
        """One thing takes its time, within a limit of its own. Raises ``Stopped`` if the step should stop."""
        self.advance()
        if self.stop.is_set():
            raise Stopped("asked to stop")

    def waiting(self) -> "Waiting":
        """Around a call that may wait for the source."""
        return Waiting(self)

    def watch(self, items: Iterator[Any]) -> Generator[Any]:
        """Yield what the source yields, noting each wait for it; raises ``Stopped`` if the step should stop."""
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
    """Notes in ``signals`` since when the source keeps us waiting. A class, since it is entered for every item."""

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
