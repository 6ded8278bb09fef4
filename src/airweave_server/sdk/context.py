"""What the engine gives to a source: which hosts it may reach, how fast, how long it may wait, and when to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import BaseModel

from .errors import Stopped


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``requests`` in any ``per_s`` seconds."""

    requests: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Patience:
    """Upper bounds on how long every ``Http`` of a source waits; each field limits the argument of the same name."""

    timeout_s: float = 30
    total_s: float = 120
    attempts: int = 4
    patience_s: float = 60
    backoff_s: float = 0.5


# A hook between every ``Http`` of a source and the network. It gets the request as it would be sent, and a function
# that sends it and reads the whole response. It returns the response that the source gets.
Between = Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]
Renew = Callable[[BaseModel, Callable[[BaseModel], BaseModel]], BaseModel]


@dataclass(frozen=True, slots=True)
class Context:
    """What the engine gives to a source.

    ``allowed_hosts``: private host names and networks (CIDR) that the HTTP client may reach.
    ``hidden_paths``: the server's own folders, which are never read as content.
    ``pace``: reserves the next request within a rate and returns the seconds until it may start. All readers of the
    connection share it, in every process.
    ``rate``: the rate of every ``Http`` that does not set its own.
    ``renew(used, refresh)``: replaces expired credentials. The engine locks the connection's credentials and reads
    them again. If they differ from ``used``, it returns them. Otherwise it calls ``refresh`` with them, stores the
    result and returns it. None if there is nowhere to store new credentials.
    ``patience``: limits the waits of every ``Http``; for tests and previews.
    ``between``: sees every request of every ``Http`` and may answer in place of the vendor; for ``sources check``.
    ``alive``: call it now and then during a long look at the source that yields nothing: otherwise the engine takes
    the source for silent after a while.
    ``is_connecting``: a person connects, changes or previews the source now; False in jobs. ``check`` may then look
    more closely than it should before each job.
    """

    folder_roots: tuple[Path, ...] = ()
    hidden_paths: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    stop: threading.Event = field(default_factory=threading.Event)
    pace: Callable[[Rate], float] | None = None
    rate: Rate | None = None
    renew: Renew | None = None
    patience: Patience | None = None
    between: Between | None = None
    alive: Callable[[], None] = lambda: None
    is_connecting: bool = False

    def sleep(self, seconds: float) -> None:
        """Sleep. Raises ``Stopped`` as soon as the engine asks the read to stop."""
        if self.stop.wait(seconds):
            raise Stopped("asked to stop")

    def check(self) -> None:
        """Raise ``Stopped`` if the engine asks the read to stop."""
        if self.stop.is_set():
            raise Stopped("asked to stop")
