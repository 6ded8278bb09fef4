"""Use cases of source connections: create one after checking everything, preview, change and delete it."""

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
from ..db import collections, connections, events, jobs, plans
from ..db.credentials import OfConnection
from ..db.models import DeletePlan, SourceConnection, Status, SyncJob, Trigger
from ..db.session import clock, give_back
from ..errors import BadInput, InvalidState, NotFound, TooMany
from ..sdk import AuthError, ConfigError, Source, SourceError, Traits
from ..settings import Settings
from ..sync.connector import ConfiguredSource, Connectors, Kind, Place, Rejected, traits_of
from ..sync.preview import Preview, preview
from ..sync.scrub import scrub
from ..text.parsers import Parsers
from ..vault import Vault
from .jobs import EngineChoice, JobRequest, create

MIN_INTERVAL_S = 3600
CONTINUOUS = "*/5 * * * *"
PREVIEWS = 2  # at once in one process
PREVIEW_AGAIN_S = 10  # after which a client may try again

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewConnection:
    """A request to connect a source.

    ``authentication``: as in the request, without nulls. ``cron``: "" for the source's default, None for no schedule.
    ``continuous``: sync changes every few minutes, if the source can tell changes. ``source_wait_max_s``: how long a
    job waits for the source; None for the setting of the server.
    """

    short_name: str
    readable_collection_id: str
    name: str | None = None
    description: str | None = None
    config: Mapping[str, Any] | None = None
    authentication: Mapping[str, Any] | None = None
    cron: str | None = ""
    continuous: bool = False
    source_wait_max_s: float | None = None


class Connections:
    """Creates and changes connections. Knows no HTTP; only ``update`` and ``approve`` start a job."""

    def __init__(self, connectors: Connectors, vault: Vault, settings: Settings) -> None:
        self._connectors = connectors
        self._vault = vault
        self._settings = settings
        self._previews = threading.BoundedSemaphore(PREVIEWS)
        self._parsers = Parsers(
            seconds=settings.parse_s, memory_mb=settings.parse_memory_mb, ocr_languages=settings.languages_for_ocr()
        )

    def source(self, short_name: str) -> type[Source[Any, Any]]:
        """Return the source with this name, if this server offers it. Raises ``NotFound``."""
        kind = plugins.sources().get(short_name)
        if kind is None or (kind.internal and not self._settings.enable_internal_sources):
            raise NotFound(f"Source {short_name!r} not found; GET /sources lists the sources")
        return kind

    def sources(self) -> list[type[Source[Any, Any]]]:
        return [
            kind for kind in plugins.sources().values() if self._settings.enable_internal_sources or not kind.internal
        ]

    def create(self, session: Session, organization_id: UUID, new: NewConnection) -> SourceConnection:
        """Create a connection after trying the source. Raises ``NotFound``, ``InvalidState``, or ``BadInput`` that
        names the field."""
        kind = self.source(new.short_name)
        collection = collections.find(session, organization_id, new.readable_collection_id)
        if collection is None:
            raise NotFound("Collection not found")
        configured, place = self._accept(kind, new.config or {}, new.authentication, organization_id)
        give_back(session)
        with self._try(configured, place):
            pass
        if collections.find(session, organization_id, new.readable_collection_id) is not collection:
            raise NotFound("Collection not found")  # it was deleted meanwhile
        traits = configured.traits
        cron = _choose_cron(new.cron, source=kind.name, traits=traits, continuous=new.continuous)
        moment = clock(session)
        connection = SourceConnection(
            id=uuid4(),
            organization_id=organization_id,
            collection_id=collection.id,
            short_name=kind.name,
            name=new.name or f"{kind.title} Connection",
            description=new.description,
            config=_dump(configured),
            host=socket.gethostname() if traits.local else None,
            cron=cron,
            next_run_at=next_run(cron, source=kind.name, traits=traits, after=moment) if cron else None,
            planned_at=moment,
            source_wait_max_s=new.source_wait_max_s,
            has_sync=cron is not None,
        )
        connection.credentials = self._connectors.seal(configured, owner=connection.id)
        session.add(connection)
        session.flush()
        session.refresh(connection)
        events.record_connection(session, connection, "created", is_authenticated=True)
        return connection

    def preview(self, session: Session, organization_id: UUID, new: NewConnection) -> Preview:
        """Return what a first sync would do. Stores nothing; the collection need not exist.

        Ends the session's transaction. Raises the errors of ``create``, and ``TooMany``.
        """
        kind = self.source(new.short_name)
        collection = collections.find(session, organization_id, new.readable_collection_id)
        configured, _ = self._accept(kind, new.config or {}, new.authentication, organization_id)
        cron = _choose_cron(new.cron, source=kind.name, traits=configured.traits, continuous=new.continuous)
        if cron is not None:
            next_run(cron, source=kind.name, traits=configured.traits)
        name = collection.embedder if collection is not None else self._settings.embedder
        try:
            embedder = plugins.embedder(name, self._settings)
        except ConfigError as error:
            raise InvalidState(str(error)) from None
        give_back(session)
        if not self._previews.acquire(blocking=False):
            raise TooMany(f"{PREVIEWS} previews are already running here; try again", retry_after_s=PREVIEW_AGAIN_S)
        try:
            with self._try(configured) as source:
                return preview(source, embedder, self._parsers, configured.secrets)
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
        """Apply ``changes`` (name, description, config, authentication, cron, continuous, source_wait_max_s).

        A new configuration ends the active job, which writes nothing after this commit, and starts a new one, which is
        returned.
        """
        configured = self._try_changes(session, connection, changes)
        if not connections.lock(session, connection.id):
            raise NotFound("Source connection not found")
        tried = connection.config_version
        session.refresh(connection)
        if configured is not None and connection.config_version != tried:
            raise InvalidState("the connection was changed meanwhile; look at it, and try again")
        if "name" in changes:
            connection.name = changes["name"]
        if "description" in changes:
            connection.description = changes["description"]
        if "source_wait_max_s" in changes:
            connection.source_wait_max_s = changes["source_wait_max_s"]
        if "cron" in changes:
            traits = configured.traits if configured is not None else traits_of(connection) or Traits()
            source, continuous = connection.short_name, changes.get("continuous", False)
            cron = _choose_cron(changes["cron"], source=source, traits=traits, continuous=continuous)
            connection.cron, connection.planned_at = cron, (moment := clock(session))
            connection.next_run_at = next_run(cron, source=source, traits=traits, after=moment) if cron else None
            connection.has_sync |= cron is not None
        connection.modified_at = datetime.now(UTC)
        if configured is None or (_dump(configured) == connection.config and "authentication" not in changes):
            return None
        connection.config = _dump(configured)
        if "authentication" in changes:
            connection.credentials = self._connectors.seal(configured, owner=connection.id)
            events.record_connection(session, connection, "auth_completed", is_authenticated=True)
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

    def _try_changes(
        self, session: Session, connection: SourceConnection, changes: Mapping[str, Any]
    ) -> ConfiguredSource | None:
        """Try the source with the changed configuration or credentials, before anything is locked. None if neither
        changes."""
        if "config" not in changes and "authentication" not in changes:
            return None
        kind = self.source(connection.short_name)
        config = changes.get("config", connection.config)
        place: Place | None = OfConnection(connection.id)
        if "authentication" in changes:
            configured, place = self._accept(kind, config, changes["authentication"], connection.organization_id)
        else:
            try:
                configured = self._connectors.load(connection, config=config)
            except AuthError as error:
                raise InvalidState(f"the stored credentials cannot be used: {error}; send new ones") from None
            except ConfigError as error:
                raise BadInput(str(error), field="body.config") from None
        give_back(session)
        with self._try(configured, place):
            return configured

    def delete(self, session: Session, connection: SourceConnection, *, with_collection: bool = False) -> UUID | None:
        """Hide the connection and end its job. Returns the job; the keeper deletes the data. ``with_collection``: its
        collection is deleted too, which tells all there is to tell."""
        connections.lock(session, connection.id)
        active = jobs.find_active(session, connection.id)
        if active is not None:
            jobs.lock(session, active.id)
            jobs.end(session, active.id, status=Status.CANCELLED, error="the connection was deleted")
        if not with_collection:
            is_authenticated = not connections.signed_out_ids(session, [connection.id])
            events.record_connection(session, connection, "deleted", is_authenticated=is_authenticated)
        connection.deleted_at = datetime.now(UTC)
        connection.next_run_at = None
        connection.credentials = None
        session.flush()
        return active.id if active is not None else None

    def approve(
        self, session: Session, connection: SourceConnection, plan: DeletePlan, engine: EngineChoice
    ) -> SyncJob:
        """Start the job that checks the held deletes again and carries out those that still apply."""
        if plan.state != "held":
            raise InvalidState(f"these deletes are {plan.state}, not held")
        job = create(session, self._vault, connection, engine, JobRequest(Trigger.APPROVAL, approves=plan.id))
        plan.state, plan.decided_at = "approved", datetime.now(UTC)
        return job

    def dismiss(self, plan: DeletePlan) -> None:
        if plan.state != "held":
            raise InvalidState(f"these deletes are {plan.state}, not held")
        plan.state, plan.decided_at = "dismissed", datetime.now(UTC)

    def _accept(
        self, kind: Kind, config: Mapping[str, Any], authentication: Mapping[str, Any] | None, organization_id: UUID
    ) -> tuple[ConfiguredSource, Place | None]:
        try:
            return self._connectors.accept(kind, config, authentication, organization_id)
        except Rejected as flaw:
            raise BadInput(str(flaw), field=flaw.field) from None

    @contextmanager
    def _try(self, configured: ConfiguredSource, place: Place | None = None) -> Iterator[Source[Any, Any]]:
        """A source that has passed its check. Its errors become errors that a person may see."""
        try:
            with self._connectors.trying(configured, place) as source:
                yield source
        except SourceError as error:
            message = scrub(str(error), configured.secrets)
            if isinstance(error, ConfigError):
                raise BadInput(message, field="body.config") from None
            if isinstance(error, AuthError):
                raise InvalidState(message) from None
            raise InvalidState(f"the source cannot be read now: {message}") from None
        except Exception as error:  # a bug in the connector, whose message may hold anything
            message = scrub(f"{type(error).__name__}: {error}", configured.secrets)
            log.error("source_failed", source=configured.kind.name, error=message)
            raise InvalidState(f"the source {configured.kind.name} failed: {message}") from None


def next_run(cron: str, *, source: str, traits: Traits, after: datetime | None = None) -> datetime:
    """Return when the schedule fires next, in UTC. Raises ``BadInput`` if it is not a cron expression that ever fires,
    and ``InvalidState`` if it fires more often than the source allows."""
    try:
        fires = CronSim(cron, (after or datetime.now(UTC)).astimezone(UTC))
        first, second, third = next(fires), next(fires), next(fires)
    except (CronSimError, StopIteration):
        raise BadInput(f"{cron!r} is not a cron expression that ever fires", field="body.schedule.cron") from None
    # three are needed: if any hour has two fires, two of any three consecutive ones are in the same hour
    if not traits.tells_changes and min(second - first, third - second).total_seconds() < MIN_INTERVAL_S:
        raise _TooOften(source)
    return first


def held_deletes(session: Session, connection_id: UUID) -> list[DeletePlan]:
    return plans.of_connection(session, connection_id, states=("held",))


def is_continuous(connection: SourceConnection) -> bool:
    """Whether the connection's schedule syncs its changes every few minutes."""
    traits = traits_of(connection) if connection.cron == CONTINUOUS else None
    return traits is not None and traits.tells_changes


class _TooOften(InvalidState):
    def __init__(self, source: str) -> None:
        super().__init__(f"Source {source} does not support continuous syncs. Minimum schedule interval is 1 hour")


def _choose_cron(cron: str | None, *, source: str, traits: Traits, continuous: bool) -> str | None:
    """The schedule to store: the requested one, or the source's default if ``cron`` is empty."""
    if continuous and not traits.tells_changes:
        raise _TooOften(source)
    if continuous and not cron:
        return CONTINUOUS
    if cron != "":
        return cron
    now = datetime.now(UTC)
    return CONTINUOUS if traits.tells_changes else f"{now.minute} {now.hour} * * *"


def _dump(configured: ConfiguredSource) -> dict[str, Any]:
    """The configuration as JSON values; it holds no secrets."""
    return configured.config.model_dump(mode="json")
