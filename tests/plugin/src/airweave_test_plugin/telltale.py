"""A source that is careless with its secret: it says it in whatever a connector can say something in."""

import base64
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

from airweave_server.sdk import (
    AuthError,
    Bearer,
    ConfigError,
    Context,
    Direct,
    Entity,
    Items,
    Partition,
    Skipped,
    Unavailable,
    Unreadable,
)

from .scripted import Scripted, ScriptedConfig, ScriptedCursor


class TelltaleConfig(ScriptedConfig):
    """``way`` names where the secret slips out; empty: nowhere."""

    way: str = ""


class Deep(BaseModel):
    """Secrets below the top of a form."""

    password: SecretStr
    keys: list[SecretStr] = []


class DeepCredentials(BaseModel):
    """A form with secrets at every depth."""

    token: SecretStr
    account: Deep
    named: dict[str, SecretStr] = {}


class _Number(BaseModel):
    number: int


class Telltale(Scripted):
    """Reads the scripted server with an access token."""

    name = "telltale"
    title = "Telltale"
    auth = Bearer()

    def __init__(
        self, config: TelltaleConfig, credentials: BaseModel | None = None, context: Context | None = None
    ) -> None:
        super().__init__(config, credentials, context)
        self.secrets = list(_secrets(credentials))
        self.http.close()
        self.http = type(self.http)(
            config.url,
            context=self.context,
            headers={"Authorization": SecretStr(f"Bearer {self.secrets[0]}")},
            timeout_s=config.timeout_s,
            total_s=config.total_s,
            attempts=config.attempts,
            backoff_s=config.backoff_s,
        )
        if config.way == "constructor":
            raise RuntimeError(f"cannot sign in with {self.secrets}")

    @property
    def way(self) -> str:
        return str(getattr(self.config, "way", ""))

    def check(self) -> None:
        if self.way.startswith("check_"):
            self._tell(self.way.removeprefix("check_"))

    def partitions(self) -> Iterator[Partition]:
        if self.way == "partitions":
            self._tell("runtime")
        yield from super().partitions()

    def read(self, partition: Partition, cursor: ScriptedCursor | None) -> Items[ScriptedCursor]:
        told = " and ".join(self.secrets)
        if self.way == "reasons":
            yield Skipped("skipped", f"403 Forbidden for {told}")
            yield Entity("unreadable", "unreadable", "TelltaleEntity", open=self._unreadable)
            yield Entity("unparseable", "unparseable", "TelltaleEntity", filename="x.pdf", open=lambda: _Broken(told))
        elif self.way == "malformed":
            yield Entity([told], "malformed", "TelltaleEntity", text="no id")  # type: ignore[arg-type]
        elif self.way:
            self._tell(self.way)
        yield from super().read(partition, cursor)

    def _unreadable(self) -> io.BytesIO:
        raise Unreadable(f"404 for {' and '.join(self.secrets)}")

    def _tell(self, way: str) -> None:
        told = " and ".join(self.secrets)
        match way:
            case "auth":
                raise AuthError(f"the token {told} was refused")
            case "config":
                raise ConfigError(f"the token {told} does not fit")
            case "unavailable":
                raise Unavailable(f"GET https://host/?access_token={told} timed out")
            case "runtime":
                try:
                    raise ValueError(told)
                except ValueError as error:
                    raise RuntimeError(f"no answer to {told}") from error
            case "validation":
                _Number.model_validate({"number": self.secrets[0]})
            case "repr":
                raise ConfigError(f"no answer to {told!r}")
            case "quoted":
                raise ConfigError(f"GET https://host/?access_token={quote(self.secrets[0], safe='')} timed out")
            case "basic":
                basic = base64.b64encode(f"user:{self.secrets[0]}".encode()).decode()
                raise ConfigError(f"sent Authorization: Basic {basic}")


class TelltaleDirect(Telltale):
    """The same, signed in to with a form."""

    name = "telltale_direct"
    title = "Telltale, direct"
    auth = Direct(DeepCredentials)


Telltale.config_model = TelltaleDirect.config_model = TelltaleConfig  # a class body cannot say so: see Source


class _Broken(io.BytesIO):
    """A stream that says the secret as it breaks."""

    def __init__(self, told: str) -> None:
        super().__init__()
        self._told = told

    def read(self, size: int | None = -1, /) -> bytes:
        raise Unreadable(f"the stream of {self._told} broke")


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _secrets(inner)
