"""The ways to sign in to a source. Each class knows which credentials it takes, how to sign a request, and whether it
can replace an expired token."""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from .errors import AuthError, ConfigError, Unavailable

LEEWAY = timedelta(seconds=1)  # a token is replaced this long before it expires
LIFETIME_LIMIT_S = 10 * 365 * 86_400.0  # a token with a longer lifetime is taken as never expiring
OAUTH_ERRORS = {  # RFC 6749, section 5.2; any other text from a provider may hold a secret and is not shown
    *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
    "invalid_scope",
}

# Sends a form with headers to a URL, once and without following redirects; returns status and body.
# Raises ``Unavailable``, ``RateLimited`` or ``ConfigError`` if there is no usable answer.
Post = Callable[[str, Mapping[str, str | SecretStr], Mapping[str, str | SecretStr]], tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Signature:
    """The headers and query parameters that sign a request."""

    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    params: Mapping[str, SecretStr] = field(default_factory=dict)


class Auth(ABC):
    """A way to sign in. Instances hold no credentials and are shared.

    ``wire_method`` and ``oauth_type`` are values of the HTTP API: "direct" or "oauth_token", and for OAuth
    "access_only", "with_refresh" or "with_rotating_refresh".
    """

    wire_method: ClassVar[str] = "direct"
    rotates: bool = False  # a refresh token works once: the new one must be stored

    @property
    def oauth_type(self) -> str | None:
        return None

    @property
    @abstractmethod
    def form(self) -> type[BaseModel] | None:
        """The model of the credentials; None if there are none."""

    def configured(self, config: BaseModel) -> "Auth":
        """Return a copy with everything filled in that depends on the source's configuration."""
        return self

    def accept(self, given: Mapping[str, Any]) -> BaseModel | None:
        """Build credentials from what a person sent: ``credentials`` (a mapping), ``access_token``, ``refresh_token``,
        ``expires_at``, ``client_id``, ``client_secret``, each only if it was sent.

        Raises ``ConfigError`` if something required is missing, ``pydantic.ValidationError`` if it is malformed.
        """
        if self.form is None:
            return None
        if given.get("credentials") is None:
            raise ConfigError(f"credentials are needed: {', '.join(self.form.model_fields)}")
        return self.form.model_validate(given["credentials"])

    def takes_token(self, access_token: str) -> BaseModel | None:
        """Build credentials from an access token alone; None if this kind does not take one."""
        return None

    def from_stored(self, opened: Mapping[str, Any]) -> BaseModel | None:
        """Build credentials from what ``to_stored`` returned. Raises ``pydantic.ValidationError``."""
        return None if self.form is None else self.form.model_validate(dict(opened))

    def to_stored(self, credentials: BaseModel) -> dict[str, Any]:
        """Return the credentials as JSON values with secrets in the clear; only for a vault."""
        stored: dict[str, Any] = json.loads(json.dumps(credentials.model_dump(), default=_clear))
        return stored

    @abstractmethod
    def sign(self, credentials: BaseModel) -> Signature:
        """Return the signature for a request. Raises ``AuthError`` if the credentials are incomplete."""

    def can_refresh(self, credentials: BaseModel) -> bool:
        """Whether the credentials can be refreshed."""
        return False

    def is_expired(self, credentials: BaseModel, now: datetime) -> bool:
        """Whether the token is known to have expired or to expire within a second."""
        return False

    def refresh(self, credentials: BaseModel, post: Post) -> BaseModel:
        """Return credentials with a new token.

        Raises ``AuthError`` if a person must sign in again, ``Unavailable`` or ``RateLimited`` if it may work later.
        """
        raise AuthError("these credentials cannot be renewed: sign in again")


@dataclass(frozen=True)
class NoAuth(Auth):
    """Needs no credentials; any that are sent are ignored."""

    @property
    def form(self) -> None:
        return None

    def sign(self, credentials: BaseModel) -> Signature:
        return Signature()


@dataclass(frozen=True)
class Direct(Auth):
    """Takes credentials as defined by ``model``, whose secret fields are ``SecretStr``. Does not sign requests."""

    model: type[BaseModel]

    @property
    def form(self) -> type[BaseModel]:
        return self.model

    def sign(self, credentials: BaseModel) -> Signature:
        return Signature()


class ApiKeyCredentials(BaseModel):
    """An API key."""

    model_config = ConfigDict(hide_input_in_errors=True)

    api_key: SecretStr


@dataclass(frozen=True)
class ApiKey(Auth):
    """Takes an API key and sends it in the named header or query parameter: ``ApiKey(header="X-Api-Key")``."""

    header: str | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        if (self.header is None) == (self.query is None):
            raise TypeError("an API key is sent in a header or in a query parameter: name exactly one")

    @property
    def form(self) -> type[BaseModel]:
        return ApiKeyCredentials

    def sign(self, credentials: BaseModel) -> Signature:
        key = SecretStr(_value(credentials, "api_key"))
        if self.header is not None:
            return Signature(headers={self.header: key})
        return Signature(params={str(self.query): key})


class BasicCredentials(BaseModel):
    """A user name and a password."""

    model_config = ConfigDict(hide_input_in_errors=True)

    username: str
    password: SecretStr


@dataclass(frozen=True)
class Basic(Auth):
    """Takes a user name and a password (RFC 7617)."""

    @property
    def form(self) -> type[BaseModel]:
        return BasicCredentials

    def sign(self, credentials: BaseModel) -> Signature:
        return Signature(
            headers=_basic(_value(credentials, "username"), _value(credentials, "password", or_empty=True))
        )


class BearerCredentials(BaseModel):
    """An access token sent as ``Authorization: Bearer``."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: SecretStr


@dataclass(frozen=True)
class Bearer(Auth):
    """Takes an access token (RFC 6750)."""

    wire_method: ClassVar[str] = "oauth_token"
    model: type[BaseModel] = BearerCredentials

    @property
    def oauth_type(self) -> str | None:
        return "access_only"

    @property
    def form(self) -> type[BaseModel]:
        return self.model

    def accept(self, given: Mapping[str, Any]) -> BaseModel | None:
        if given.get("access_token") is not None:
            return self.form.model_validate({"access_token": given["access_token"]})
        return super().accept(given)

    def takes_token(self, access_token: str) -> BaseModel | None:
        return self.form.model_validate({"access_token": access_token})

    def sign(self, credentials: BaseModel) -> Signature:
        return Signature(headers=_bearer(credentials))


class OAuth2Credentials(BaseModel):
    """An access token, and what is needed to refresh it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    expires_at: datetime | None = None  # of the access token; naive times are UTC
    client_id: str | None = None
    client_secret: SecretStr | None = None

    @field_validator("expires_at")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


@dataclass(frozen=True)
class OAuth2(Auth):
    """Takes an access token and refreshes it with a refresh token (RFC 6749, section 6).

    ``token_url`` is a URL, or a function that derives it from the source's configuration. ``rotates``: each refresh
    also replaces the refresh token, and using one twice may revoke them all. ``client_secret_in``: where the token
    endpoint expects the client secret.
    """

    wire_method: ClassVar[str] = "oauth_token"
    token_url: str | Callable[[Any], str]
    rotates: bool = True
    client_secret_in: Literal["body", "header"] = "body"

    @property
    def oauth_type(self) -> str | None:
        return "with_rotating_refresh" if self.rotates else "with_refresh"

    @property
    def form(self) -> type[OAuth2Credentials]:
        return OAuth2Credentials

    def configured(self, config: BaseModel) -> "OAuth2":
        return self if isinstance(self.token_url, str) else replace(self, token_url=self.token_url(config))

    def accept(self, given: Mapping[str, Any]) -> BaseModel | None:
        sent = {name: given[name] for name in self.form.model_fields if given.get(name) is not None}
        if not sent:
            return super().accept(given)
        inner = given.get("credentials")
        return self.form.model_validate({**(inner if isinstance(inner, Mapping) else {}), **sent})

    def takes_token(self, access_token: str) -> BaseModel | None:
        return OAuth2Credentials(access_token=SecretStr(access_token))

    def sign(self, credentials: BaseModel) -> Signature:
        return Signature(headers=_bearer(credentials))

    def can_refresh(self, credentials: BaseModel) -> bool:
        return getattr(credentials, "refresh_token", None) is not None

    def is_expired(self, credentials: BaseModel, now: datetime) -> bool:
        expires_at = getattr(credentials, "expires_at", None)
        return expires_at is not None and now >= expires_at - LEEWAY

    def refresh(self, credentials: BaseModel, post: Post) -> BaseModel:
        if not isinstance(self.token_url, str):
            raise ConfigError("the token endpoint is derived from the configuration: call configured(config) first")
        form: dict[str, str | SecretStr] = {
            "grant_type": "refresh_token",
            "refresh_token": _value(credentials, "refresh_token"),
        }
        headers: dict[str, str | SecretStr] = {}
        client_id = getattr(credentials, "client_id", None)
        client_secret = getattr(credentials, "client_secret", None)
        if client_id is not None and client_secret is not None and self.client_secret_in == "header":
            headers |= _basic(client_id, _value(credentials, "client_secret"))
        else:
            form |= {"client_id": client_id} if client_id is not None else {}
            form |= {"client_secret": client_secret} if client_secret is not None else {}
        now = datetime.now(UTC)
        return credentials.model_copy(update=_read_tokens(*post(self.token_url, form, headers), now=now))


def _read_tokens(status: int, body: bytes, *, now: datetime) -> dict[str, Any]:
    """Parse the response of a token endpoint (RFC 6749, sections 5.1 and 5.2)."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    error = answer.get("error")
    token = answer.get("access_token")
    if not (200 <= status < 300 and isinstance(token, str)):
        token = ""
    if status in (400, 401) or (error is not None and not token and status < 500):
        code = f" ({error})" if isinstance(error, str) and error in OAUTH_ERRORS else ""
        raise AuthError(f"the sign-in has expired or was revoked{code}: sign in again")
    if not token:
        raise Unavailable(f"the token endpoint answered {status} without a token")
    tokens: dict[str, Any] = {"access_token": SecretStr(token), "expires_at": _expiry(answer.get("expires_in"), now)}
    refresh_token = answer.get("refresh_token")
    if isinstance(refresh_token, str) and refresh_token:
        tokens["refresh_token"] = SecretStr(refresh_token)
    return tokens


def _expiry(expires_in: object, now: datetime) -> datetime | None:
    """The time of expiry. ``expires_in`` is in seconds, which some providers send as text. None if not known."""
    try:
        lifetime_s = float(expires_in)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return now + timedelta(seconds=lifetime_s) if 0 <= lifetime_s <= LIFETIME_LIMIT_S else None


def _value(credentials: BaseModel, name: str, *, or_empty: bool = False) -> str:
    value = getattr(credentials, name, None)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str) or not (value or or_empty):
        raise AuthError(f"the credentials have no {name}: sign in again")
    return value


def _bearer(credentials: BaseModel) -> dict[str, SecretStr]:
    return {"Authorization": SecretStr(f"Bearer {_value(credentials, 'access_token')}")}


def _basic(user: str, password: str) -> dict[str, SecretStr]:
    return {"Authorization": SecretStr("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii"))}


def _clear(value: object) -> object:
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
