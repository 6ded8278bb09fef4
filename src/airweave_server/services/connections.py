"""Use cases of source connections: connect with everything checked at the door, change, hide and purge."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from cronsim import CronSim, CronSimError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import collections, connections, jobs, plans
from ..db.credentials import OfConnection
from ..db.models import DeletePlan, SourceConnection, Status, SyncJob, Trigger
from ..db.session import disable_idle_limit
from ..errors import BadInput, InvalidState, NotFound, TooMany
from ..sdk import AuthError, ConfigError, Source, SourceError, Traits
from ..settings import Settings
from ..sync.connector import Configured, Connectors, Kind, Place, Rejected, traits_of
from ..sync.preview import Preview, preview
from ..sync.scrub import scrub
from ..text.parsers import Parsers
from ..vault import Vault
from .jobs import EngineChoice, JobRequest, create

MIN_INTERVAL_S = 3600
CONTINUOUS = "*/5 * * * *"
PREVIEWS = 2  # at once in one process
PREVIEW_AGAIN_S = 10  # after which one more may be tried

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewConnection:
    """What a person asks to connect.

    ``authentication``: what the request brought of it, without nulls. ``cron``: "" for the source's default, None for
    no schedule. ``continuous``: sync changes every few minutes, where the source can tell them.
    """

    short_name: str
    readable_collection_id: str
    name: str | None = None
    description: str | None = None
    config: Mapping[str, Any] | None = None
    authentication: Mapping[str, Any] | None = None
    cron: str | None = ""
    continuous: bool = False


class Connections:
    """Connecting and changing; reads no HTTP and starts no job by itself."""

    def __init__(self, connectors: Connectors, vault: Vault, settings: Settings) -> None:
        self._connectors = connectors
        self._vault = vault
        self._settings = settings
        self._previews = threading.BoundedSemaphore(PREVIEWS)
        self._parsers = Parsers(seconds=settings.parse_s, memory_mb=settings.parse_memory_mb)

    def source(self, short_name: str) -> type[Source[Any, Any]]:
        """The source of this name, if it is offered here. Raises ``NotFound``."""
        kind = plugins.sources().get(short_name)
        if kind is None or (kind.internal and not self._settings.enable_internal_sources):
            raise NotFound(f"Source {short_name!r} not found; GET /sources lists those there are")
        return kind

    def sources(self) -> list[type[Source[Any, Any]]]:
        return [
            kind for kind in plugins.sources().values() if self._settings.enable_internal_sources or not kind.internal
        ]

    def create(self, session: Session, organization_id: UUID, new: NewConnection) -> SourceConnection:
        """Raises ``NotFound`` or ``BadInput`` that names the field."""
        kind = self.source(new.short_name)
        collection = collections.find(session, organization_id, new.readable_collection_id)
        if collection is None:
            raise NotFound("Collection not found")
        made, place = self._accepted(kind, new.config or {}, new.authentication, organization_id)
        disable_idle_limit(session)
        with self._tried(made, place):
            pass
        cron = _cron(new.cron, source=kind.name, traits=made.traits, continuous=new.continuous)
        connection = SourceConnection(
            id=uuid4(),
            organization_id=organization_id,
            collection_id=collection.id,
            short_name=kind.name,
            name=new.name or f"{kind.title} Connection",
            description=new.description,
            config=_plain(made),
            host=socket.gethostname() if made.traits.local else None,
            cron=cron,
            next_run_at=next_run(cron, source=kind.name, traits=made.traits) if cron else None,
        )
        connection.credentials = self._connectors.seal(made, owner=connection.id)
        session.add(connection)
        session.flush()
        session.refresh(connection)
        return connection

    def preview(self, session: Session, organization_id: UUID, new: NewConnection) -> Preview:
        """What a first sync of this would do; nothing is stored, and the collection need not be there yet. Ends the
        session's transaction. Raises what ``create`` raises, and ``TooMany``."""
        kind = self.source(new.short_name)
        collection = collections.find(session, organization_id, new.readable_collection_id)
        made, _ = self._accepted(kind, new.config or {}, new.authentication, organization_id)
        cron = _cron(new.cron, source=kind.name, traits=made.traits, continuous=new.continuous)
        if cron is not None:
            next_run(cron, source=kind.name, traits=made.traits)
        name = collection.embedder if collection is not None else self._settings.embedder
        try:
            embedder = plugins.embedder(name, self._settings)
        except ConfigError as error:
            raise InvalidState(str(error)) from None
        session.commit()  # what follows takes seconds: others must not wait for this transaction's locks
        if not self._previews.acquire(blocking=False):
            raise TooMany(f"{PREVIEWS} previews are being made here; try again", retry_after_s=PREVIEW_AGAIN_S)
        try:
            with self._tried(made) as source:
                return preview(source, embedder, self._parsers, made.secrets)
        finally:
            self._previews.release()

    def update(
        self,
        session: Session,
        connection: SourceConnection,
        *,
        engine: Callable[[], EngineChoice],
        changes: Mapping[str, Any],
    ) -> SyncJob | None:
        """Apply ``changes`` (name, description, config, authentication, cron, continuous).

        Another configuration ends the active job, from this commit on without a further write, and starts a new one,
        which is returned.
        """
        made = self._tried_changes(session, connection, changes)
        if not connections.lock(session, connection.id):
            raise NotFound("Source connection not found")
        tried = connection.config_version
        session.refresh(connection)
        if made is not None and connection.config_version != tried:
            raise InvalidState("the connection was changed meanwhile; look at it, and try again")
        if "name" in changes:
            connection.name = changes["name"]
        if "description" in changes:
            connection.description = changes["description"]
        if "cron" in changes:
            traits = made.traits if made is not None else traits_of(connection) or Traits()
            source = connection.short_name
            cron = _cron(changes["cron"], source=source, traits=traits, continuous=changes.get("continuous", False))
            connection.cron = cron
            connection.next_run_at = next_run(cron, source=source, traits=traits) if cron else None
        connection.modified_at = datetime.now(UTC)
        if made is None or (_plain(made) == connection.config and "authentication" not in changes):
            return None
        connection.config = _plain(made)
        if "authentication" in changes:
            connection.credentials = self._connectors.seal(made, owner=connection.id)
        connection.config_version += 1
        active = jobs.find_active(session, connection.id)
        session.flush()
        if active is None or active.trigger == Trigger.REEMBED:
            return None
        jobs.lock(session, active.id)
        jobs.end(session, active.id, status=Status.CANCELLED, error="configuration changed")
        return create(
            session, self._vault, connection, engine(), JobRequest(Trigger.CONFIG_CHANGE, force_full=active.force_full)
        )

    def _tried_changes(
        self, session: Session, connection: SourceConnection, changes: Mapping[str, Any]
    ) -> Configured | None:
        """What changes of configuration or credentials make of the connection's source, tried before anything is
        locked; None where nothing of that changes."""
        if "config" not in changes and "authentication" not in changes:
            return None
        kind = self.source(connection.short_name)
        config = changes.get("config", connection.config)
        place: Place | None = OfConnection(connection.id)
        if "authentication" in changes:
            made, place = self._accepted(kind, config, changes["authentication"], connection.organization_id)
        else:
            try:
                made = self._connectors.stored(connection, config=config)
            except AuthError as error:
                raise InvalidState(f"the stored credentials cannot be used: {error}; send new ones") from None
            except ConfigError as error:
                raise BadInput(str(error), field="body.config") from None
        disable_idle_limit(session)
        with self._tried(made, place):
            return made

    def delete(self, session: Session, connection: SourceConnection) -> UUID | None:
        """Hide it at once and end its job, which is returned; the keeper purges what it held."""
        connections.lock(session, connection.id)
        active = jobs.find_active(session, connection.id)
        if active is not None:
            jobs.lock(session, active.id)
            jobs.end(session, active.id, status=Status.CANCELLED, error="the connection was deleted")
        connection.deleted_at = datetime.now(UTC)
        connection.next_run_at = None
        connection.credentials = None
        session.flush()
        return active.id if active is not None else None

    def approve(
        self, session: Session, connection: SourceConnection, plan: DeletePlan, engine: EngineChoice
    ) -> SyncJob:
        """Start the job that re-checks the held deletes and carries out what still holds of them."""
        if plan.state != "held":
            raise InvalidState(f"these deletes are {plan.state}, not held")
        job = create(session, self._vault, connection, engine, JobRequest(Trigger.APPROVAL, approves=plan.id))
        plan.state, plan.decided_at = "approved", datetime.now(UTC)
        return job

    def dismiss(self, plan: DeletePlan) -> None:
        if plan.state != "held":
            raise InvalidState(f"these deletes are {plan.state}, not held")
        plan.state, plan.decided_at = "dismissed", datetime.now(UTC)

    def _accepted(
        self, kind: Kind, config: Mapping[str, Any], authentication: Mapping[str, Any] | None, organization_id: UUID
    ) -> tuple[Configured, Place | None]:
        try:
            return self._connectors.accept(kind, config, authentication, organization_id)
        except Rejected as flaw:
            raise BadInput(str(flaw), field=flaw.field) from None

    @contextmanager
    def _tried(self, made: Configured, place: Place | None = None) -> Iterator[Source[Any, Any]]:
        """A source that is good to be read; what it raises becomes what a person may see."""
        try:
            with self._connectors.trying(made, place) as source:
                yield source
        except SourceError as error:
            said = scrub(str(error), made.secrets)
            if isinstance(error, ConfigError):
                raise BadInput(said, field="body.config") from None
            if isinstance(error, AuthError):
                raise InvalidState(said) from None
            raise InvalidState(f"the source cannot be read now: {said}") from None
        except Exception as error:  # a connector's own fault, whose words may hold anything
            said = scrub(f"{type(error).__name__}: {error}", made.secrets)
            log.error("source_failed", source=made.kind.name, error=said)
            raise InvalidState(f"the source {made.kind.name} failed: {said}") from None


def next_run(cron: str, *, source: str, traits: Traits, after: datetime | None = None) -> datetime:
    """When the schedule fires next, in UTC. Raises ``BadInput`` if it is no cron expression, and ``InvalidState`` if
    it fires more often than the source allows."""
    try:
        fires = CronSim(cron, after or datetime.now(UTC))
        first, second, third = next(fires), next(fires), next(fires)
    except (CronSimError, StopIteration):
        raise BadInput(f"{cron!r} is no cron expression that ever fires", field="body.schedule.cron") from None
    # of any three fires two are in the same hour, if there is an hour with two
    if not traits.tells_changes and min(second - first, third - second).total_seconds() < MIN_INTERVAL_S:
        raise _TooOften(source)
    return first


def held(session: Session, connection_id: UUID) -> list[DeletePlan]:
    return plans.of_connection(session, connection_id, states=("held",))


def is_continuous(connection: SourceConnection) -> bool:
    """Whether the connection's schedule syncs its changes every few minutes."""
    traits = traits_of(connection) if connection.cron == CONTINUOUS else None
    return traits is not None and traits.tells_changes


class _TooOften(InvalidState):
    def __init__(self, source: str) -> None:
        super().__init__(f"Source {source} does not support continuous syncs. Minimum schedule interval is 1 hour")


def _cron(cron: str | None, *, source: str, traits: Traits, continuous: bool) -> str | None:
    """The schedule that is stored: of what was asked for, or the default where ``cron`` is empty."""
    if continuous and not traits.tells_changes:
        raise _TooOften(source)
    if continuous and not cron:
        return CONTINUOUS
    if cron != "":
        return cron
    now = datetime.now(UTC)
    return CONTINUOUS if traits.tells_changes else f"{now.minute} {now.hour} * * *"


def _plain(made: Configured) -> dict[str, Any]:
    """The configuration as JSON values; it holds no secrets."""
    return made.config.model_dump(mode="json")
