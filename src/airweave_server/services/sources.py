"""Descriptions of sources, derived from their models, for the API, the command line and forms."""

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from .. import wire
from ..sdk import Source

SIMPLE = {str: "string", SecretStr: "string", int: "number", float: "number", bool: "boolean"}


def describe(kind: type[Source[Any, Any]]) -> wire.Source:
    form = kind.auth.form
    return wire.Source(
        name=kind.title,
        short_name=kind.name,
        class_name=kind.__name__,
        description=kind.description,
        auth_methods=[kind.auth.wire_method],
        oauth_type=kind.auth.oauth_type,
        auth_config_class=form.__name__ if form is not None else None,
        config_class=kind.config_model.__name__,
        auth_fields=wire.Fields(fields=_fields(form)) if form is not None else None,
        config_fields=wire.Fields(fields=_fields(kind.config_model)),
        output_entity_definitions=list(kind.entity_types),
        labels=list(kind.labels),
        supports_continuous=kind.tells_changes,
        rate_limit_level=rate_limit_level(kind),
    )


def rate_limit_level(kind: type[Source[Any, Any]]) -> str | None:
    """Who shares a limit on the requests to this source; None if it is read where it is, without requests."""
    return None if kind.local else "org"


def define(kind: type[Source[Any, Any]]) -> list[wire.EntityDefinition]:
    """The types of entities that this source yields. Their fields beyond those that each entity has are the source's
    own, and are declared nowhere."""
    return [
        wire.EntityDefinition(
            short_name=name,
            name=name,
            description=None,
            class_name=name,
            module_name=kind.__module__.rpartition(".")[2],
            entity_type=entity_type(name),
            entity_schema={**wire.IndexedEntity.model_json_schema(mode="serialization"), "title": name},
        )
        for name in kind.entity_types
    ]


def entity_type(name: str) -> str:
    """Whether entities of this type are files. Sources say it by the names of their types."""
    return "file" if "File" in name else "json"


def _fields(model: type[BaseModel]) -> list[wire.ConfigField]:
    return [_field(name, field) for name, field in model.model_fields.items()]


def _field(name: str, field: FieldInfo) -> wire.ConfigField:
    kind = _bare(field.annotation)
    is_list = get_origin(kind) in (list, tuple, set, frozenset)
    inner = _bare(next(iter(get_args(kind)), str)) if is_list else None
    return wire.ConfigField(
        name=name,
        title=field.title or name.replace("_", " ").capitalize(),
        description=field.description,
        type="array" if is_list else _type(kind),
        required=field.is_required(),
        items_type=_type(inner) if is_list else None,
        is_secret=kind is SecretStr,
        enum_values=_choices(kind if inner is None else inner),
        default=None if field.is_required() or kind is SecretStr else _plain(field),
    )


def _bare(annotation: Any) -> Any:
    """The type without ``Annotated`` and ``None``; of several types, the first."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            annotation = next(one for one in get_args(annotation) if one is not NoneType)
        else:
            return annotation


def _type(kind: Any) -> str:
    if get_origin(kind) is dict or kind is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "object"
    return SIMPLE.get(kind, "string")


def _choices(kind: Any) -> list[str] | None:
    if get_origin(kind) is Literal and all(isinstance(one, str) for one in get_args(kind)):
        return list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(one.value) for one in kind]
    return None


def _plain(field: FieldInfo) -> Any:
    """The default as JSON; None if there is none that JSON can express."""
    value = field.get_default(call_default_factory=True, validated_data={})
    try:
        return to_jsonable_python(value)
    except (TypeError, ValueError):
        return None
