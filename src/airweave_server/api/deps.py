"""Dependencies of the routes: the server's parts, a session, and the organization of the request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from sqlalchemy.orm import Session

from .. import wire
from ..children import Child
from ..db import connections
from ..db.models import SourceConnection
from ..db.session import Database
from ..errors import BadInput, NotFound
from ..keeper import Keeper
from ..services.connections import Connections
from ..services.jobs import Driver, EngineChoice
from ..settings import Settings
from ..vault import Vault
from .gate import CALLER, ORGANIZATION, Caller
from .watches import Watches

# what stands in paths
ReadableId = Annotated[str, Path(description="The readable id of a collection.")]
ConnectionId = Annotated[UUID, Path(description="The id of a source connection.")]
JobId = Annotated[UUID, Path(description="The id of a job.")]
PlanId = Annotated[UUID, Path(description="The id of held deletes.")]
ShortName = Annotated[str, Path(description="The short name of a source.")]
MessageId = Annotated[str, Path(description="The id of a webhook message.")]
SubscriptionId = Annotated[str, Path(description="The id of a webhook subscription.")]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a server, built by the process that starts it. ``database`` serves requests, and nothing else:
    housekeeping and jobs have connections of their own, in ``house``."""

    settings: Settings
    database: Database
    house: Database
    vault: Vault
    connections: Connections
    driver: Driver
    keeper: Keeper
    watches: Watches
    children: Sequence[Child] = ()


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
    """One transaction for each request, committed before the response is sent. It takes a connection at its first
    statement."""
    with parts.database.session() as session:
        yield session


SessionOf = Annotated[Session, Depends(open_session, scope="function")]


async def find_organization(request: Request, response: Response) -> UUID:
    """The organization that the request acts for, which ``gate.py`` has found."""
    response.headers.update({f"RateLimit-{name}": "9999" for name in ("Limit", "Remaining", "Reset")})
    organization: UUID = request.scope[ORGANIZATION]
    return organization


Organization = Annotated[UUID, Depends(find_organization)]


async def find_caller(request: Request) -> Caller:
    """Whom the request acts for and what it may do, which ``gate.py`` has found."""
    caller: Caller = request.scope[CALLER]
    return caller


CallerOf = Annotated[Caller, Depends(find_caller)]


def choose_engine(parts: PartsOf) -> EngineChoice:
    """The engine of a job that starts now. Temporal is asked before the request holds a database connection."""
    return parts.driver.choose()


EngineOf = Annotated[EngineChoice, Depends(choose_engine)]


@dataclass(frozen=True, slots=True)
class Page:
    skip: int
    limit: int


async def read_page(
    skip: Annotated[int, Query(ge=0, le=2**31, description="How many to leave out at the beginning.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many to return, at most.")] = 100,
) -> Page:
    return Page(skip, limit)


PageOf = Annotated[Page, Depends(read_page)]


def find_connection(session: Session, organization: UUID, connection_id: UUID) -> SourceConnection:
    """The connection with this id, if it belongs to the organization. Raises ``NotFound``."""
    connection = connections.find(session, organization, connection_id)
    if connection is None:
        raise NotFound("Source connection not found")
    return connection
