"""How a source is signed in to: what credentials it takes, as values."""

from dataclasses import dataclass

from pydantic import BaseModel, SecretStr


@dataclass(frozen=True, slots=True)
class NoAuth:
    """Needs no credentials; any that are sent are ignored."""


@dataclass(frozen=True, slots=True)
class Direct:
    """Takes credentials of this form; secret fields are ``SecretStr``."""

    model: type[BaseModel]


class BearerCredentials(BaseModel):
    """An access token sent as ``Authorization: Bearer``."""

    access_token: SecretStr


@dataclass(frozen=True, slots=True)
class Bearer:
    """Takes an access token."""

    model: type[BaseModel] = BearerCredentials


Auth = NoAuth | Direct | Bearer
