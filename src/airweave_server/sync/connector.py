"""Build a readable source from a stored connection or from a request: configuration, credentials, context, traits.

The only place that does; steps, previews, audits and the check on create all use it."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog
from pydantic import BaseModel, ValidationError
from pyroaring import BitMap64
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import connections, ledger, organizations, rate_limits
from ..db.credentials import OfConnection, Successor, try_lock
from ..db.models import SourceConnection, SyncJob
from ..db.session import Database, first_line
from ..sdk import AuthError, ConfigError, Context, Rate, RateLimited, Source, Stopped, Traits, Unavailable
from ..settings import Settings
from ..vault import Vault, VaultError
from .scrub import secrets_of
from .signals import Signals
from .trouble import KEY_REFUSED, SIGN_IN_REFUSED, TOKEN_OF_RUN_REFUSED

PACE_PATIENCE_S = 30.0  # for which a thread waits for its turn under the limit of an organization
LOCK_POLL_S = 0.2  # between two tries for the lock while another process renews the credentials
LOCK_WAIT_S = 180.0  # for that lock in all; its holder gives it up sooner
STORE_ATTEMPTS = 3  # at storing renewed credentials: the token they replace may be used up by then
STORE_RETRY_S = 1.0

log = structlog.get_logger(__name__)

Kind = type[Source[Any, Any]]


@dataclass(slots=True)
class ConfiguredSource:
    """A source type with its configuration and credentials, of an organization. ``secrets`` must appear in no message
    about it; renewed credentials add theirs."""

    organization_id: UUID
    kind: Kind
    config: BaseModel
    credentials: BaseModel | None
    secrets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.secrets += secrets_of(self.config, self.credentials)

    @property
    def traits(self) -> Traits:
        """What the engine may rely on with this configuration."""
        return self.kind.traits(self.config)

    def adopt(self, renewed: BaseModel) -> BaseModel:
        """Replace the credentials by renewed ones, and return these."""
        self.credentials = renewed
        self.secrets += [secret for secret in secrets_of(renewed) if secret not in self.secrets]
        return renewed


Place = OfConnection | Successor


class Connectors:
    """Builds the sources of the connections in one database."""

    def __init__(self, database: Database, vault: Vault, settings: Settings) -> None:
        self._database = database
        self._vault = vault
        self._settings = settings

    def accept(
        self, kind: Kind, config: Mapping[str, Any], authentication: Mapping[str, Any] | None, organization_id: UUID
    ) -> tuple[ConfiguredSource, Successor | None]:
        """Validate a new connection's configuration and authentication. Returns them with the key under which renewed
        credentials are kept until the connection is stored, None if they cannot be renewed. Raises ``Rejected``, which
        names the field."""
        try:
            validated = kind.config_model.model_validate(dict(config))
        except ValidationError as error:
            raise Rejected("body.config", *_first_error(error)) from None
        try:
            accepted = kind.auth.accept(authentication or {})
        except ConfigError as error:
            raise Rejected("body.authentication", "", f"source {kind.name}: {error}") from None
        except ValidationError as error:
            place = "body.authentication" + (".credentials" if "credentials" in (authentication or {}) else "")
            raise Rejected(place, *_first_error(error)) from None
        configured = ConfiguredSource(organization_id, kind, validated, accepted)
        if accepted is None or not kind.auth.can_refresh(accepted):
            return configured, None
        successor = Successor(organization_id, hashlib.sha256(_to_json(kind, accepted)).digest())
        with self._database.session() as session:
            sealed = successor.read(session)
        if sealed is not None:
            try:
                configured.adopt(self._unseal(kind, sealed, owner=successor.owner))
            except AuthError as error:  # its key is gone: only the credentials that were sent are left
                log.warning("renewed_credentials_unreadable", source=kind.name, error=str(error))
        return configured, successor

    def load(
        self, connection: SourceConnection, job: SyncJob | None = None, *, config: Mapping[str, Any] | None = None
    ) -> ConfiguredSource:
        """Load the stored source of a connection. ``config`` replaces the stored configuration; the access token of
        ``job``, if it has one, replaces the stored credentials.

        Raises ``ConfigError`` and ``AuthError``.
        """
        kind = plugins.sources().get(connection.short_name)
        if kind is None:
            raise ConfigError(f"source {connection.short_name!r} is not installed here")
        try:
            validated = kind.config_model.model_validate(connection.config if config is None else dict(config))
        except ValidationError as error:
            raise ConfigError("the configuration does not fit the source: " + ": ".join(_first_error(error))) from None
        credentials = self._load_credentials(kind, connection, job)
        return ConfiguredSource(connection.organization_id, kind, validated, credentials)

    @contextmanager
    def reading(
        self,
        configured: ConfiguredSource,
        connection: SourceConnection,
        signals: Signals,
        *,
        job: SyncJob | None = None,
    ) -> Iterator[Source[Any, Any]]:
        """Open a source to read a connection's entities. All readers of the connection share its rate limit and the
        credentials that it renews; all of the organization share the limit that it has set for the source. The access
        token of a single run is neither renewed nor stored. Raises ``ConfigError`` if the organization may not read
        this source."""
        renew = None
        if job is None or job.access_token is None:
            renew = partial(self._renew, configured, OfConnection(connection.id), signals.stop)
        context = self._make_context(configured, signals.stop)
        limited = (connection.organization_id, connection.short_name)
        with self._database.session() as session:
            limit = rate_limits.find(session, *limited)
        if limit is not None and configured.kind.rate is None:
            context = replace(context, rate=Rate(limit.limit, limit.window_seconds))
        pace = partial(self._pace, connection.id, limited, signals)
        context = replace(context, pace=pace, renew=renew, alive=signals.hear_source)
        with closing(configured.kind(configured.config, configured.credentials, context)) as source:
            yield source

    @contextmanager
    def trying(self, configured: ConfiguredSource, place: Place | None = None) -> Iterator[Source[Any, Any]]:
        """Open a source and check it: for previews, and for the check when a connection is created or changed.

        Credentials that it renews are stored in ``place`` at once, even if the check fails. Without a place, as in a
        preview, a token is not renewed if that would use up the stored one. Raises ``ConfigError`` if the organization
        may not read this source.
        """
        stop = threading.Event()
        renew = partial(self._renew, configured, place, stop) if place is not None else None
        context = replace(self._make_context(configured, stop), is_connecting=True, renew=renew)
        with closing(configured.kind(configured.config, configured.credentials, context)) as source:
            source.check()
            yield source

    def seal(self, configured: ConfiguredSource, *, owner: UUID) -> bytes | None:
        """Encrypt the credentials for storage; None if there are none."""
        if configured.credentials is None:
            return None
        return self._vault.seal(_to_json(configured.kind, configured.credentials), owner=str(owner))

    def _make_context(self, configured: ConfiguredSource, stop: threading.Event) -> Context:
        """What this source is given. Raises ``ConfigError`` if it reads this machine and its organization has no folder
        here."""
        with self._database.session() as session:
            is_first = organizations.is_first(session, configured.organization_id)
        roots = self._settings.roots_of(configured.organization_id, is_first=is_first)
        if configured.traits.local and not is_first and not roots:
            raise ConfigError(
                f"source {configured.kind.name} reads the machine of the server, and this organization has no folders "
                "there: the operator names them in AIRWEAVE_ORGANIZATION_ROOTS"
            )
        return replace(make_context(self._settings, stop), folder_roots=roots)

    def _load_credentials(self, kind: Kind, connection: SourceConnection, job: SyncJob | None) -> BaseModel | None:
        if job is not None and job.access_token is not None:
            try:
                token = self._vault.open(job.access_token, owner=str(job.id)).decode()
            except VaultError as error:
                raise AuthError(f"the access token of this run cannot be used: {error}") from None
            if (once := kind.auth.takes_token(token)) is not None:
                return once
        if connection.credentials is None or kind.auth.form is None:
            return None
        return self._unseal(kind, connection.credentials, owner=str(connection.id))

    def _unseal(self, kind: Kind, sealed: bytes, *, owner: str) -> BaseModel:
        try:
            credentials = kind.auth.from_stored(json.loads(self._vault.open(sealed, owner=owner)))
        except VaultError as error:
            raise AuthError(f"the credentials cannot be used: {error}") from None
        except ValidationError:
            raise AuthError("the credentials cannot be used: they do not have the form the source expects") from None
        assert credentials is not None, "an auth that stores credentials has a form"
        return credentials

    def _pace(self, connection_id: UUID, limited: tuple[UUID, str], signals: Signals, rate: Rate) -> float:
        """Book a request in the rate of the connection and in the limit of its organization for the source
        (``limited``), if there is one. Returns the seconds until it may start. Raises ``RateLimited`` if the limit is
        used up for longer than a thread should wait."""
        limit_s = 0.0
        with self._database.session() as session:
            if (limit := rate_limits.find(session, *limited)) is not None:
                limit_s = rate_limits.book_request(session, limit, at_most_s=PACE_PATIENCE_S)
                if limit_s > PACE_PATIENCE_S:
                    text = f"the limit of {limit.limit} requests in {limit.window_seconds} s that is set is used up"
                    raise RateLimited(text, retry_after_s=limit_s)
            wait_s = connections.book_request(session, connection_id, requests=rate.requests, per_s=rate.per_s)
        wait_s = max(wait_s, limit_s)
        if signals.source_since is not None:
            signals.source_since = time.monotonic() + wait_s  # this wait is ours, not the source's
        return wait_s

    def _renew(
        self,
        configured: ConfiguredSource,
        place: Place,
        stop: threading.Event,
        used: BaseModel,
        refresh: Callable[[BaseModel], BaseModel],
    ) -> BaseModel:
        """Renew credentials once, however many readers find them expired: locked, reread first, stored before use.

        Raises ``Stopped`` only while another process holds the lock, never after the token endpoint was asked: the
        token being replaced may be used up.
        """
        deadline = time.monotonic() + LOCK_WAIT_S
        while time.monotonic() < deadline:
            fresh: BaseModel | None = None
            try:
                with self._database.session() as session:
                    if not try_lock(session, place):
                        raise _LockHeld
                    sealed = place.read(session)
                    current = self._unseal(configured.kind, sealed, owner=place.owner) if sealed is not None else used
                    if current != used:
                        return configured.adopt(current)
                    fresh = refresh(current)
                    kept = self._store(session, configured.kind, place, fresh, instead_of=current)
            except SQLAlchemyError as error:
                if fresh is None:
                    raise
                log.warning("renewed_credentials_not_stored", source=configured.kind.name, error=first_line(error))
                kept = self._store_late(configured.kind, place, fresh, instead_of=current)
            except _LockHeld:
                if stop.wait(LOCK_POLL_S):
                    raise Stopped("asked to stop") from None
                continue
            log.info("credentials_renewed", source=configured.kind.name)
            return configured.adopt(kept)
        raise Unavailable("another process is renewing the credentials and has not finished; try again")

    def _store(
        self, session: Session, kind: Kind, place: Place, fresh: BaseModel, *, instead_of: BaseModel
    ) -> BaseModel:
        """Store renewed credentials and return them; if a person has sent others meanwhile, return those instead."""
        after = self._vault.seal(_to_json(kind, fresh), owner=place.owner)
        while True:
            sealed = place.read(session)
            if sealed is not None and (now := self._unseal(kind, sealed, owner=place.owner)) != instead_of:
                return now
            if place.replace(session, before=sealed, after=after):
                return fresh

    def _store_late(self, kind: Kind, place: Place, fresh: BaseModel, *, instead_of: BaseModel) -> BaseModel:
        """Store renewed credentials after the database went away: the token they replace may be used up by now."""
        for left in reversed(range(STORE_ATTEMPTS)):
            time.sleep(STORE_RETRY_S)
            try:
                with self._database.session() as session:
                    return self._store(session, kind, place, fresh, instead_of=instead_of)
            except SQLAlchemyError:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")


def make_context(settings: Settings, stop: threading.Event, *, is_connecting: bool = False) -> Context:
    """What every source is given: where it may read and connect, and when to stop."""
    return Context(
        folder_roots=settings.roots(),
        hidden_paths=(settings.place(),),
        allowed_hosts=settings.allowed_private_hosts,
        stop=stop,
        is_connecting=is_connecting,
    )


class _Configuration(Protocol):
    """A row with a source's name and its configuration."""

    @property
    def short_name(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...


def traits_of(connection: _Configuration) -> Traits | None:
    """The traits of a connection's source; None if it is not installed or its configuration does not fit."""
    kind = plugins.sources().get(connection.short_name)
    if kind is None:
        return None
    try:
        return kind.traits(kind.config_model.model_validate(connection.config))
    except ValidationError:
        return None


def find_never_read(session: Session, connection: SourceConnection, rows: BitMap64) -> BitMap64:
    """The ledger rows among these whose entities the source never reads; an earlier version of it may have."""
    kind = plugins.sources().get(connection.short_name)
    if kind is None or kind.never_reads.__func__ is Source.never_reads.__func__:  # type: ignore[attr-defined]
        return BitMap64()
    return BitMap64(row for row, entity_id in ledger.ids_of(session, rows) if kind.never_reads(entity_id))


def notices_moves(connection: _Configuration) -> bool:
    """Whether the source of a connection can tell that entities moved while it was read."""
    kind = plugins.sources().get(connection.short_name)
    return kind is not None and kind.changed_since is not Source.changed_since


def refusal_of(connection: SourceConnection, job: SyncJob) -> str:
    """The error category for when the source refuses this job's credentials."""
    kind = plugins.sources().get(connection.short_name)
    if kind is None or kind.auth.wire_method != "oauth_token":
        return KEY_REFUSED
    return SIGN_IN_REFUSED if job.access_token is None else TOKEN_OF_RUN_REFUSED


class _LockHeld(Exception):
    """Another process is renewing these credentials."""


class Rejected(Exception):
    """A request does not fit the source. ``field`` names the place in it, such as ``body.config.url``."""

    def __init__(self, place: str, path: str, message: str) -> None:
        super().__init__(message)
        self.field = f"{place}.{path}" if path else place


def _first_error(error: ValidationError) -> tuple[str, str]:
    """The path and the message of the first error."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")


def _to_json(kind: Kind, accepted: BaseModel) -> bytes:
    """Serialize credentials for sealing."""
    return json.dumps(kind.auth.to_stored(accepted)).encode()
