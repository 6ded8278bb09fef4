"""Dependencies of the routes: the server's parts, a session, and the organization of the request."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from sqlalchemy.orm import Session

from .. import wire
from ..children import Child
from ..db import collections, connections, keys
from ..db.models import SourceConnection
from ..db.session import Database
from ..errors import BadInput, NotFound, TooMany, Unauthorized
from ..keeper import Keeper
from ..services.connections import Connections
from ..services.jobs import Driver
from ..settings import Settings
from ..vault import Vault
from .watches import Watches

BAD_KEYS_PER_MINUTE = 20
REMEMBERED_ADDRESSES = 10_000


class BadKeys:
    """Counts bad API keys by client address, to slow down guessing."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raise ``TooMany`` if this address has sent too many bad keys within a minute."""
        with self._lock:
            recent = self._recent(address)
            if len(recent) >= BAD_KEYS_PER_MINUTE:
                wait_s = max(1, round(60 - (time.monotonic() - recent[0])))
                raise TooMany("too many bad API keys from this address", retry_after_s=wait_s)

    def note(self, address: str) -> None:
        """Count one bad key from this address."""
        with self._lock:
            if len(self._seen) >= REMEMBERED_ADDRESSES:
                self._seen.clear()
            self._seen.setdefault(address, deque()).append(time.monotonic())

    def _recent(self, address: str) -> deque[float]:
        recent = self._seen.get(address, deque())
        while recent and time.monotonic() - recent[0] > 60:
            recent.popleft()
        return recent


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server, built by the process that starts it."""

    settings: Settings
    database: Database
    vault: Vault
    connections: Connections
    driver: Driver
    keeper: Keeper
    watches: Watches
    children: Sequence[Child] = ()
    bad_keys: BadKeys = field(default_factory=BadKeys)


async def get_parts(request: Request) -> Parts:  # async, so that it needs no thread: it never waits
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(get_parts)]


async def check_parameters(request: Request) -> None:
    """Raise ``BadInput`` for a path or query parameter that Postgres cannot store, before it is used in a lookup."""
    for part, given in (("path", request.path_params.items()), ("query", request.query_params.multi_items())):
        for name, value in given:
            if (flaw := wire.find_text_flaw(str(value))) is not None:
                raise BadInput(flaw, field=f"{part}.{name}")


def open_session(parts: PartsOf) -> Iterator[Session]:
    """One transaction for each request, committed before the response is sent."""
    with parts.database.session() as session:
        yield session


SessionOf = Annotated[Session, Depends(open_session, scope="function")]


def find_organization(request: Request, response: Response, parts: PartsOf, session: SessionOf) -> UUID:
    """The organization of the API key; the only one if authentication is off."""
    response.headers.update({f"RateLimit-{name}": "9999" for name in ("Limit", "Remaining", "Reset")})
    if not parts.settings.auth_enabled:
        return collections.organization(session).id
    address = request.client.host if request.client else ""
    given = request.headers.get("x-api-key") or _read_bearer(request)
    if not given:
        raise Unauthorized("an API key is required: send it in X-API-Key; create one with airweave-server keys create")
    key = keys.find_valid(session, given)
    if key is None:
        parts.bad_keys.check(address)
        parts.bad_keys.note(address)
        raise Unauthorized("this API key is unknown, expired or revoked")
    return key.organization_id


Organization = Annotated[UUID, Depends(find_organization)]


@dataclass(frozen=True, slots=True)
class Page:
    skip: int
    limit: int


async def read_page(
    skip: Annotated[int, Query(ge=0, le=2**31)] = 0, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> Page:
    return Page(skip, limit)


PageOf = Annotated[Page, Depends(read_page)]


def find_connection(session: Session, organization: UUID, connection_id: UUID) -> SourceConnection:
    """The connection with this id, if it belongs to the organization. Raises ``NotFound``."""
    connection = connections.find(session, organization, connection_id)
    if connection is None:
        raise NotFound("Source connection not found")
    return connection


def _read_bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
