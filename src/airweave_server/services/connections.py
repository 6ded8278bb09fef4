"""Use cases of source connections: connect with everything checked at the door, change, hide and purge."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import collections, connections, jobs, plans
from ..db.models import DeletePlan, SourceConnection, Status, SyncJob, Trigger
from ..db.session import be_patient
from ..errors import BadInput, InvalidState, NotFound, TooMany
from ..sdk import AuthError, Bearer, ConfigError, Context, Direct, Source, SourceError
from ..settings import Settings
from ..sync.preview import Preview, preview
from ..sync.scrub import scrub, secrets_of
from ..text.parsers import Parsers
from ..vault import Vault, VaultError
from .jobs import Ask, EngineChoice, create

MIN_INTERVAL_S = 3600
CONTINUOUS = "*/5 * * * *"
PREVIEWS = 2  # at once in one process
PREVIEW_AGAIN_S = 10  # after which one more may be tried

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks to connect. ``cron``: "" for the source's default, None for no schedule. ``continuous``: every
    few minutes, where the source can tell its changes."""

    short_name: str
    readable_collection_id: str
    name: str | None = None
    description: str | None = None
    config: Mapping[str, Any] | None = None
    credentials: Mapping[str, Any] | None = None
    access_token: str | None = None
    cron: str | None = ""
    continuous: bool = False


class Connections:
    """Connecting and changing; reads no HTTP and starts no job by itself."""

    def __init__(self, vault: Vault, settings: Settings, *, hidden_paths: tuple[Any, ...] = ()) -> None:
        self._vault = vault
        self._settings = settings
        self._hidden_paths = hidden_paths
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

    def create(self, session: Session, organization_id: UUID, wanted: Wanted) -> SourceConnection:
        """Raises ``NotFound`` or ``BadInput`` that names the field."""
        kind = self.source(wanted.short_name)
        collection = collections.find(session, organization_id, wanted.readable_collection_id)
        if collection is None:
            raise NotFound("Collection not found")
        config = self._config(kind, wanted.config or {})
        credentials = self._credentials(kind, wanted.credentials, wanted.access_token)
        be_patient(session)
        with self._tried(kind, config, credentials):
            pass
        cron = _cron(kind, wanted.cron, continuous=wanted.continuous)
        connection = SourceConnection(
            id=uuid4(),
            organization_id=organization_id,
            collection_id=collection.id,
            short_name=kind.name,
            name=wanted.name or f"{kind.title} Connection",
            description=wanted.description,
            config=_plain(config),
            host=socket.gethostname() if kind.local else None,
            cron=cron,
            next_run_at=next_run(cron, kind) if cron else None,
        )
        if credentials is not None:
            connection.credentials = self._seal(connection.id, credentials)
        session.add(connection)
        session.flush()
        session.refresh(connection)
        return connection

    def preview(self, session: Session, organization_id: UUID, wanted: Wanted) -> Preview:
        """What a first sync of this would do; nothing is stored, and the collection need not be there yet. Ends the
        session's transaction. Raises what ``create`` raises, and ``TooMany``."""
        kind = self.source(wanted.short_name)
        collection = collections.find(session, organization_id, wanted.readable_collection_id)
        config = self._config(kind, wanted.config or {})
        credentials = self._credentials(kind, wanted.credentials, wanted.access_token)
        if (cron := _cron(kind, wanted.cron, continuous=wanted.continuous)) is not None:
            next_run(cron, kind)
        name = collection.embedder if collection is not None else self._settings.embedder
        try:
            embedder = plugins.embedder(name, self._settings)
        except ConfigError as error:
            raise InvalidState(str(error)) from None
        session.commit()  # what follows takes seconds: others must not wait for this transaction's locks
        if not self._previews.acquire(blocking=False):
            raise TooMany(f"{PREVIEWS} previews are being made here; try again", retry_after_s=PREVIEW_AGAIN_S)
        try:
            with self._tried(kind, config, credentials) as source:
                return preview(source, embedder, self._parsers, secrets_of(config, credentials))
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
        """Apply ``changes`` (name, description, config, credentials, cron, continuous). Another configuration ends the
        active job, from this commit on without a further write, and starts a new one, which is returned."""
        kind = self.source(connection.short_name)
        if not connections.locked(session, connection.id):
            raise NotFound("Source connection not found")
        if "name" in changes:
            connection.name = changes["name"]
        if "description" in changes:
            connection.description = changes["description"]
        if "cron" in changes:
            cron = _cron(kind, changes["cron"], continuous=changes.get("continuous", False))
            connection.cron = cron
            connection.next_run_at = next_run(cron, kind) if cron else None
        connection.modified_at = datetime.now(UTC)
        if "config" not in changes and "credentials" not in changes:
            return None
        config = self._config(kind, changes.get("config", connection.config))
        if "credentials" in changes:
            credentials = self._credentials(kind, changes["credentials"], None)
        else:
            credentials = self._stored_credentials(kind, connection)
        be_patient(session)
        with self._tried(kind, config, credentials):
            pass
        if _plain(config) == connection.config and "credentials" not in changes:
            return None
        connection.config = _plain(config)
        if credentials is not None:
            connection.credentials = self._seal(connection.id, credentials)
        connection.config_version += 1
        active = jobs.active(session, connection.id)
        session.flush()
        if active is None or active.trigger == Trigger.REEMBED:
            return None
        jobs.lock(session, active.id)
        jobs.end(session, active.id, status=Status.CANCELLED, error="configuration changed")
        return create(
            session, self._vault, connection, engine(), Ask(Trigger.CONFIG_CHANGE, force_full=active.force_full)
        )

    def delete(self, session: Session, connection: SourceConnection) -> UUID | None:
        """Hide it at once and end its job, which is returned; the keeper purges what it held."""
        connections.locked(session, connection.id)
        active = jobs.active(session, connection.id)
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
        job = create(session, self._vault, connection, engine, Ask(Trigger.APPROVAL, approves=plan.id))
        plan.state, plan.decided_at = "approved", datetime.now(UTC)
        return job

    def dismiss(self, plan: DeletePlan) -> None:
        if plan.state != "held":
            raise InvalidState(f"these deletes are {plan.state}, not held")
        plan.state, plan.decided_at = "dismissed", datetime.now(UTC)

    def _config(self, kind: type[Source[Any, Any]], config: Mapping[str, Any]) -> BaseModel:
        try:
            return kind.config_model.model_validate(dict(config))
        except ValidationError as error:
            raise _bad("body.config", error) from None

    def _credentials(
        self, kind: type[Source[Any, Any]], given: Mapping[str, Any] | None, access_token: str | None
    ) -> BaseModel | None:
        if not isinstance(kind.auth, Bearer | Direct):
            return None
        if isinstance(kind.auth, Bearer) and access_token is not None:
            given = {"access_token": access_token}
        if given is None:
            wanted = ", ".join(kind.auth.model.model_fields)
            raise BadInput(f"source {kind.name} needs credentials: {wanted}", field="body.authentication")
        try:
            return kind.auth.model.model_validate(dict(given))
        except ValidationError as error:
            raise _bad("body.authentication.credentials", error) from None

    def _stored_credentials(self, kind: type[Source[Any, Any]], connection: SourceConnection) -> BaseModel | None:
        if connection.credentials is None or not isinstance(kind.auth, Bearer | Direct):
            return None
        try:
            opened = json.loads(self._vault.open(connection.credentials, owner=str(connection.id)))
            return kind.auth.model.model_validate(opened)
        except (VaultError, ValidationError) as error:
            said = str(error) if isinstance(error, VaultError) else "they do not have the form the source expects"
            raise InvalidState(f"the stored credentials cannot be used: {said}; send new ones") from None

    def _seal(self, connection_id: UUID, credentials: BaseModel) -> bytes:
        return self._vault.seal(json.dumps(_plain(credentials)).encode(), owner=str(connection_id))

    @contextmanager
    def _tried(
        self, kind: type[Source[Any, Any]], config: BaseModel, credentials: BaseModel | None
    ) -> Iterator[Source[Any, Any]]:
        """A source that is good to be read; what it raises becomes what a person may see."""
        context = Context(
            folder_roots=self._settings.roots(),
            hidden_paths=self._hidden_paths,
            allowed_hosts=self._settings.allowed_private_hosts,
        )
        secrets = secrets_of(config, credentials)
        try:
            with closing(kind(config, credentials, context)) as source:
                source.check()
                yield source
        except SourceError as error:
            said = scrub(str(error), secrets)
            if isinstance(error, ConfigError):
                raise BadInput(said, field="body.config") from None
            if isinstance(error, AuthError):
                raise InvalidState(said) from None
            raise InvalidState(f"the source cannot be read now: {said}") from None
        except Exception as error:  # a connector's own fault, whose words may hold anything
            said = scrub(f"{type(error).__name__}: {error}", secrets)
            log.error("source_failed", source=kind.name, error=said)
            raise InvalidState(f"the source {kind.name} failed: {said}") from None


def next_run(cron: str, kind: type[Source[Any, Any]], after: datetime | None = None) -> datetime:
    """When the schedule fires next, in UTC. Raises ``BadInput`` for what is no cron expression and ``InvalidState``
    for one that fires more often than the source allows."""
    try:
        fires = CronSim(cron, after or datetime.now(UTC))
        first, second, third = next(fires), next(fires), next(fires)
    except (CronSimError, StopIteration):
        raise BadInput(f"{cron!r} is no cron expression that ever fires", field="body.schedule.cron") from None
    # of any three fires two are in the same hour, if there is an hour with two
    if not kind.tells_changes and min(second - first, third - second).total_seconds() < MIN_INTERVAL_S:
        raise InvalidState(f"Source {kind.name} does not support continuous syncs. Minimum schedule interval is 1 hour")
    return first


def held(session: Session, connection_id: UUID) -> list[DeletePlan]:
    return plans.of_connection(session, connection_id, states=("held",))


def is_continuous(cron: str | None, kind: type[Source[Any, Any]] | None) -> bool:
    return cron == CONTINUOUS and kind is not None and kind.tells_changes


def _cron(kind: type[Source[Any, Any]], cron: str | None, *, continuous: bool) -> str | None:
    if continuous and not kind.tells_changes:
        raise InvalidState(f"Source {kind.name} does not support continuous syncs. Minimum schedule interval is 1 hour")
    if continuous and not cron:
        return CONTINUOUS
    if cron != "":
        return cron
    now = datetime.now(UTC)
    return CONTINUOUS if kind.tells_changes else f"{now.minute} {now.hour} * * *"


def _plain(model: BaseModel) -> dict[str, Any]:
    """The model as JSON values, secrets in clear: a configuration holds none, credentials go into the vault."""
    plain: dict[str, Any] = json.loads(json.dumps(model.model_dump(), default=_reveal))
    return plain


def _reveal(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _bad(place: str, error: ValidationError) -> BadInput:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join([place, *map(str, first["loc"])])
    return BadInput(first["msg"].removeprefix("Value error, "), field=where)
