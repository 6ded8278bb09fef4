"""Keeps foreign web pages out: what a browser sends for them is refused, if only their port differs from ours."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from ..services.webhooks import LOOP
from ..settings import is_loopback
from .answers import to_json

DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OWN_SITES = ("same-origin", "none")  # of Sec-Fetch-Site: our own pages, and the address bar
SHOWN_CHARS = 100


@dataclass(frozen=True, slots=True)
class Names:
    """Host names of this server: ``own`` by the address it listens on, ``allowed`` by ``ALLOWED_HOSTS``."""

    own: frozenset[str]
    allowed: frozenset[str]

    @classmethod
    def of(cls, host: str, allowed: tuple[str, ...]) -> Self | None:
        """The names of a server on this address. None, which allows any, if it is not loopback and none is allowed."""
        if is_loopback(host):
            return cls(LOOPBACK_NAMES | {host}, frozenset(allowed))
        return cls(frozenset(), frozenset(allowed)) if allowed else None


class OwnOrigin:
    """Refuses a request whose ``Host`` is not one of ``names``, whose ``Origin`` is not its ``Host``, or that a browser
    marks as sent by another site."""

    def __init__(self, app: ASGIApp, names: Names | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._check(scope)) is not None:
            await to_json({"detail": refusal[1]}, refusal[0])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the text of the refusal; None if the request is let through."""
        hosts, origins, sites = (_values(scope, name) for name in (b"host", b"origin", b"sec-fetch-site"))
        if len(hosts) > 1 or len(origins) > 1:
            return 400, "send one Host header, and at most one Origin header"
        host = hosts[0] if hosts else ""
        here = _parse(host)
        if self._names is not None and (here is None or here[0] not in self._names.own | self._names.allowed):
            return 403, f"Host {host[:SHOWN_CHARS]!r} is not this server's; see ALLOWED_HOSTS"
        if origins and not self._is_own(origins[0], here, scope["scheme"]):
            text = f"Origin {origins[0][:SHOWN_CHARS]!r} is not this server's, which is {host[:SHOWN_CHARS]!r}"
            return 403, f"{text}; see ALLOWED_HOSTS"
        if any(site not in OWN_SITES for site in sites) and not _is_navigation(scope):
            return 403, f"a page of another site sent this request (Sec-Fetch-Site: {sites[0][:SHOWN_CHARS]})"
        return None

    def _is_own(self, origin: str, here: tuple[str, int | None] | None, scheme: str) -> bool:
        """Whether name and port of the origin are those of ``Host``. Its scheme counts only where a trusted proxy has
        said that the request came by https."""
        kind, separator, place = origin.partition("://")
        there = _parse(place)
        if not separator or kind not in DEFAULT_PORTS or there is None or here is None:
            return False
        if scheme == "https" and kind != "https":
            return False
        if there[0] == here[0] and (there[1] or DEFAULT_PORTS[kind]) == (here[1] or DEFAULT_PORTS[kind]):
            return True
        # a proxy with TLS that sends, as Host, the name and port by which it reaches us
        by_proxy = here[1] is not None and self._names is not None and there[0] in self._names.allowed - LOOPBACK_NAMES
        return by_proxy and kind == "https" and there[1] in (None, DEFAULT_PORTS["https"])


class NoLoop:
    """Refuses what this installation's own webhooks send. ``mark``: the header by which it knows them."""

    def __init__(self, app: ASGIApp, mark: tuple[str, str]) -> None:
        self._app = app
        self._mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, value = self._mark
        if scope["type"] == "http" and value in _values(scope, name.encode()):
            text = "this is the server that sent the webhook; give the address of another receiver"
            await to_json({"detail": text}, LOOP)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _is_navigation(scope: Scope) -> bool:
    """Whether a person follows a link to here. The page with the link does not see the answer, and a GET changes
    nothing."""
    wanted = {b"sec-fetch-mode": "navigate", b"sec-fetch-dest": "document"}
    return scope["method"] == "GET" and all(_values(scope, name) == [value] for name, value in wanted.items())


def _parse(place: str) -> tuple[str, int | None] | None:
    """Name and port of a ``Host``; None if it is none."""
    if any(char in place for char in "/@?#\\ \t"):
        return None
    try:
        split = urlsplit(f"//{place}")
        return (split.hostname, split.port) if split.hostname else None
    except ValueError:
        return None
