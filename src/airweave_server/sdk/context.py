"""What the engine lends to a source: where it may go, how fast and how long, and word that it should stop."""

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
    """Upper bounds on how long any ``Http`` of a source waits, whatever the connector asks for; fields as there."""

    timeout_s: float = 30
    total_s: float = 120
    attempts: int = 4
    patience_s: float = 60
    backoff_s: float = 0.5


# Stands between every ``Http`` of a source and the network: is given a request as it would be sent, and what sends it
# and reads the answer whole; returns the answer that the source gets.
Between = Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]
Renew = Callable[[BaseModel, Callable[[BaseModel], BaseModel]], BaseModel]


@dataclass(frozen=True, slots=True)
class Context:
    """What the engine lends to a source.

    ``allowed_hosts``: host names and networks (CIDR) that a guarded HTTP client may reach although they are private.
    ``hidden_paths``: folders of our own that are never read as content. ``pace`` books the next request within a
    rate and returns the seconds until it may begin; it is shared by all who read the connection, wherever they run.
    ``rate`` is the rate of every ``Http`` made with this context that has no other.

    ``renew(used, refresh)`` replaces credentials that have expired: the engine locks those of the connection and
    reads them again. If they are no longer ``used``, it returns them; otherwise it calls ``refresh`` with them and
    stores what that returns before it returns it. None: there is no place to store new credentials.
    ``patience`` bounds the waits of every ``Http``; for tests and previews.
    ``between`` sees every request of every ``Http``, and may answer in place of the vendor; for ``sources check``.
    ``is_connecting``: a person connects, changes or previews the source now; False in jobs. ``check`` may then look
    closer than would be right before each job.
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
    is_connecting: bool = False

    def sleep(self, seconds: float) -> None:
        """Wait; raises ``Stopped`` at once when the engine asks the read to stop."""
        if self.stop.wait(seconds):
            raise Stopped("asked to stop")

    def check(self) -> None:
        """Raise ``Stopped`` when the engine asks the read to stop."""
        if self.stop.is_set():
            raise Stopped("asked to stop")
