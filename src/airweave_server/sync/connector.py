"""The one desk where a stored row, or what a person sent, becomes a readable source: configuration, credentials,
context and traits. Steps, preview, audit and the check on create all come here."""

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
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .. import plugins
from ..db import connections
from ..db.credentials import OfConnection, Successor, try_lock
from ..db.models import SourceConnection, SyncJob
from ..db.session import Database, first_line
from ..sdk import AuthError, ConfigError, Context, Rate, Source, Stopped, Traits, Unavailable
from ..settings import Settings
from ..vault import Vault, VaultError
from .scrub import secrets_of
from .signals import Signals
from .trouble import KEY_REFUSED, SIGN_IN_REFUSED, TOKEN_OF_RUN_REFUSED

LOOK_S = 0.2  # between two looks whether another process has renewed the credentials
WAIT_S = 180.0  # for it at most; it gives its lock up before that
STORES = 3  # tries to store what was renewed: the former token may be used up by then
STORE_AGAIN_S = 1.0

log = structlog.get_logger(__name__)

Kind = type[Source[Any, Any]]


@dataclass(slots=True)
class Configured:
    """A source that can be made. ``secrets`` must not show in anything that is said about it; renewed credentials add
    theirs."""

    kind: Kind
    config: BaseModel
    credentials: BaseModel | None
    secrets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.secrets += secrets_of(self.config, self.credentials)

    @property
    def traits(self) -> Traits:
        """What the engine may rely on, for this configuration."""
        return self.kind.traits(self.config)

    def adopt(self, renewed: BaseModel) -> BaseModel:
        """Take renewed credentials in the place of the present ones."""
        self.credentials = renewed
        self.secrets += [secret for secret in secrets_of(renewed) if secret not in self.secrets]
        return renewed


Place = OfConnection | Successor


class Connectors:
    """Makes sources, for the connections of one database."""

    def __init__(self, database: Database, vault: Vault, settings: Settings) -> None:
        self._database = database
        self._vault = vault
        self._settings = settings

    def accept(
        self, kind: Kind, config: Mapping[str, Any], authentication: Mapping[str, Any] | None, organization_id: UUID
    ) -> tuple[Configured, Successor | None]:
        """Check what a person sent. Raises ``Rejected`` that names the field."""
        try:
            configured = kind.config_model.model_validate(dict(config))
        except ValidationError as error:
            raise Rejected("body.config", *_first_of(error)) from None
        try:
            accepted = kind.auth.accept(authentication or {})
        except ConfigError as error:
            raise Rejected("body.authentication", "", f"source {kind.name}: {error}") from None
        except ValidationError as error:
            place = "body.authentication" + (".credentials" if "credentials" in (authentication or {}) else "")
            raise Rejected(place, *_first_of(error)) from None
        made = Configured(kind, configured, accepted)
        if accepted is None or not kind.auth.can_refresh(accepted):
            return made, None
        given = Successor(organization_id, hashlib.sha256(_plain(kind, accepted)).digest())
        with self._database.session() as session:
            sealed = given.read(session)
        if sealed is not None:
            try:
                made.adopt(self._opened(kind, sealed, owner=given.owner))
            except AuthError as error:  # a key that is gone: the ones that were sent are all there is
                log.warning("renewed_credentials_unreadable", source=kind.name, error=str(error))
        return made, given

    def stored(
        self, connection: SourceConnection, job: SyncJob | None = None, *, config: Mapping[str, Any] | None = None
    ) -> Configured:
        """What a connection has stored: with another ``config`` where one is given, with the access token of this one
        ``job`` where it brought one.

        Raises ``ConfigError`` and ``AuthError``.
        """
        kind = plugins.sources().get(connection.short_name)
        if kind is None:
            raise ConfigError(f"no source {connection.short_name!r} is installed here")
        try:
            configured = kind.config_model.model_validate(connection.config if config is None else dict(config))
        except ValidationError as error:
            raise ConfigError("the configuration does not fit: " + ": ".join(_first_of(error))) from None
        return Configured(kind, configured, self._credentials(kind, connection, job))

    @contextmanager
    def reading(
        self, made: Configured, connection: SourceConnection, signals: Signals, *, job: SyncJob | None = None
    ) -> Iterator[Source[Any, Any]]:
        """A source that a connection's entities are read from. Its rate is shared by all who read the connection, and
        so are credentials that it renews; the token of one run is never renewed nor stored."""
        renew = None
        if job is None or job.access_token is None:
            renew = partial(self._renew, made, OfConnection(connection.id), signals.stop)
        context = self._context(signals.stop)
        context = replace(context, pace=partial(self._pace, connection.id, signals), renew=renew)
        with closing(made.kind(made.config, made.credentials, context)) as source:
            yield source

    @contextmanager
    def trying(self, made: Configured, place: Place | None = None) -> Iterator[Source[Any, Any]]:
        """A source that is tried, and is good to be read: for previews and for the check on create and on change.

        Credentials that it renews are stored in ``place`` at once, whatever becomes of the try. Without a place, as in
        a preview, a token is not renewed where that would use up the stored one.
        """
        stop = threading.Event()
        renew = partial(self._renew, made, place, stop) if place is not None else None
        context = replace(self._context(stop), renew=renew, is_connecting=True)
        with closing(made.kind(made.config, made.credentials, context)) as source:
            source.check()
            yield source

    def seal(self, made: Configured, *, owner: UUID) -> bytes | None:
        """The credentials as they are stored, None where there are none."""
        if made.credentials is None:
            return None
        return self._vault.seal(_plain(made.kind, made.credentials), owner=str(owner))

    def _credentials(self, kind: Kind, connection: SourceConnection, job: SyncJob | None) -> BaseModel | None:
        if job is not None and job.access_token is not None:
            try:
                token = self._vault.open(job.access_token, owner=str(job.id)).decode()
            except VaultError as error:
                raise AuthError(f"the access token of this run cannot be used: {error}") from None
            if (once := kind.auth.takes_token(token)) is not None:
                return once
        if connection.credentials is None or kind.auth.form is None:
            return None
        return self._opened(kind, connection.credentials, owner=str(connection.id))

    def _opened(self, kind: Kind, sealed: bytes, *, owner: str) -> BaseModel:
        try:
            opened = kind.auth.from_stored(json.loads(self._vault.open(sealed, owner=owner)))
        except VaultError as error:
            raise AuthError(f"the credentials cannot be used: {error}") from None
        except ValidationError:
            raise AuthError("the credentials cannot be used: they do not have the form the source expects") from None
        assert opened is not None, "a kind of sign-in that stores credentials has a form"
        return opened

    def _context(self, stop: threading.Event) -> Context:
        return Context(
            folder_roots=self._settings.roots(),
            hidden_paths=(self._settings.place(),),
            allowed_hosts=self._settings.allowed_private_hosts,
            stop=stop,
        )

    def _pace(self, connection_id: UUID, signals: Signals, rate: Rate) -> float:
        with self._database.session() as session:
            wait_s = connections.book_request(session, connection_id, requests=rate.requests, per_s=rate.per_s)
        if signals.source_since is not None:
            signals.source_since = time.monotonic() + wait_s  # we keep the source waiting, not it us
        return wait_s

    def _renew(
        self,
        made: Configured,
        place: Place,
        stop: threading.Event,
        used: BaseModel,
        refresh: Callable[[BaseModel], BaseModel],
    ) -> BaseModel:
        """Replace credentials once, however many find them expired: under a lock, read again, stored before use.

        Raises ``Stopped`` while another process holds the lock, never once the token endpoint was asked: the token
        that it replaces may be used up.
        """
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            fresh: BaseModel | None = None
            try:
                with self._database.session() as session:
                    if not try_lock(session, place):
                        raise _Held
                    sealed = place.read(session)
                    current = self._opened(made.kind, sealed, owner=place.owner) if sealed is not None else used
                    if current != used:
                        return made.adopt(current)
                    fresh = refresh(current)
                    kept = self._keep(session, made.kind, place, fresh, instead_of=current)
            except SQLAlchemyError as error:
                if fresh is None:
                    raise
                log.warning("renewed_credentials_not_stored", source=made.kind.name, error=first_line(error))
                kept = self._keep_late(made.kind, place, fresh, instead_of=current)
            except _Held:
                if stop.wait(LOOK_S):
                    raise Stopped("asked to stop") from None
                continue
            log.info("credentials_renewed", source=made.kind.name)
            return made.adopt(kept)
        raise Unavailable("another process renews the credentials, and does not come to an end")

    def _keep(
        self, session: Session, kind: Kind, place: Place, fresh: BaseModel, *, instead_of: BaseModel
    ) -> BaseModel:
        """Store renewed credentials, unless a person has sent others meanwhile: those count, and are returned."""
        after = self._vault.seal(_plain(kind, fresh), owner=place.owner)
        while True:
            sealed = place.read(session)
            if sealed is not None and (now := self._opened(kind, sealed, owner=place.owner)) != instead_of:
                return now
            if place.replace(session, before=sealed, after=after):
                return fresh

    def _keep_late(self, kind: Kind, place: Place, fresh: BaseModel, *, instead_of: BaseModel) -> BaseModel:
        """Store what a database that went away did not take: the former token may be used up by now."""
        for left in reversed(range(STORES)):
            time.sleep(STORE_AGAIN_S)
            try:
                with self._database.session() as session:
                    return self._keep(session, kind, place, fresh, instead_of=instead_of)
            except SQLAlchemyError:
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")


class _Configuration(Protocol):
    """A row that names a source and its configuration."""

    @property
    def short_name(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...


def traits_of(connection: _Configuration) -> Traits | None:
    """The traits of a connection's source; None if it is not installed, or its configuration does not fit it."""
    kind = plugins.sources().get(connection.short_name)
    if kind is None:
        return None
    try:
        return kind.traits(kind.config_model.model_validate(connection.config))
    except ValidationError:
        return None


def refusal_of(connection: SourceConnection, job: SyncJob) -> str:
    """The category of an error by which the source refuses the credentials that this job reads with."""
    kind = plugins.sources().get(connection.short_name)
    if kind is None or kind.auth.wire_method != "oauth_token":
        return KEY_REFUSED
    return SIGN_IN_REFUSED if job.access_token is None else TOKEN_OF_RUN_REFUSED


class _Held(Exception):
    """Another process renews these credentials now."""


class Rejected(Exception):
    """What a person sent does not fit the source. ``field`` names the place, as ``body.config.url``."""

    def __init__(self, place: str, path: str, message: str) -> None:
        super().__init__(message)
        self.field = f"{place}.{path}" if path else place


def _first_of(error: ValidationError) -> tuple[str, str]:
    """The first flaw: where, and what."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")


def _plain(kind: Kind, accepted: BaseModel) -> bytes:
    """Credentials as they are sealed."""
    return json.dumps(kind.auth.to_stored(accepted)).encode()
