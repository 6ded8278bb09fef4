"""The form of a source, derived from its models: what the API, the command line and people are shown."""

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr

from airweave_server.sdk import ApiKey, Items, NoAuth, Partition, Source
from airweave_server.services.sources import describe
from airweave_server.wire import ConfigField


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Inner(BaseModel):
    key: str


class Config(BaseModel):
    url: str = Field(title="Address", description="Where it is.")
    depth: int | None = None
    ratio: Annotated[float, Field(gt=0)] = 0.5
    is_deep: bool = False
    order: Literal["up", "down"] | None = "up"
    level: Level = Level.LOW
    labels: list[str] = Field(default_factory=list)
    numbers: tuple[int, ...] = (1, 2)
    orders: list[Literal["a", "b"]] = []
    headers: dict[str, str] = {}
    inner: Inner | None = None
    inners: list[Inner]


class Cursor(BaseModel):
    pass


class Everything(Source[Config, Cursor]):
    name = "everything"
    title = "Everything"
    auth = ApiKey(header="X-Key")

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        return iter(())


class Open(Everything):
    auth = NoAuth()  # type: ignore[assignment]


def test_each_type_has_its_word_its_choices_and_its_default() -> None:
    found = {field.name: field for field in describe(Everything).config_fields.fields}
    shown: dict[str, tuple[Any, ...]] = {
        name: (one.type, one.items_type, one.required, one.enum_values, one.default) for name, one in found.items()
    }
    assert shown == {
        "url": ("string", None, True, None, None),
        "depth": ("number", None, False, None, None),
        "ratio": ("number", None, False, None, 0.5),
        "is_deep": ("boolean", None, False, None, False),
        "order": ("string", None, False, ["up", "down"], "up"),
        "level": ("string", None, False, ["low", "high"], "low"),
        "labels": ("array", "string", False, None, []),
        "numbers": ("array", "number", False, None, [1, 2]),
        "orders": ("array", "string", False, ["a", "b"], []),
        "headers": ("object", None, False, None, {}),
        "inner": ("object", None, False, None, None),
        "inners": ("array", "object", True, None, None),
    }
    assert (found["url"].title, found["url"].description) == ("Address", "Where it is.")
    assert found["is_deep"].title == "Is deep"


def test_credentials_are_a_form_too_and_no_default_of_a_secret_is_shown() -> None:
    class Given(BaseModel):
        token: SecretStr = SecretStr("canary-4711")
        user: str = "me"

    class Direct(ApiKey):
        @property
        def form(self) -> type[BaseModel]:
            return Given

    class Other(Everything):
        auth = Direct(header="X-Key")

    fields = describe(Other).auth_fields
    assert fields is not None
    assert fields.fields == [
        ConfigField(name="token", title="Token", type="string", is_secret=True),
        ConfigField(name="user", title="User", type="string", default="me"),
    ]
    assert "canary" not in describe(Other).model_dump_json()
    assert describe(Open).auth_fields is None
