"""Sources, with forms derived from their models."""

from typing import Any, get_args

from fastapi import APIRouter
from pydantic import BaseModel, SecretStr

from .. import wire
from ..sdk import Source as SourceKind
from .deps import Organization, PartsOf

router = APIRouter(prefix="/sources", tags=["sources"])

TYPES = {str: "string", SecretStr: "string", int: "number", float: "number", bool: "boolean"}


@router.get("")
def list_sources(parts: PartsOf, _: Organization) -> list[wire.Source]:
    return [_to_wire(kind) for kind in parts.connections.sources()]


@router.get("/{short_name}")
def get_source(short_name: str, parts: PartsOf, _: Organization) -> wire.Source:
    return _to_wire(parts.connections.source(short_name))


def _to_wire(kind: type[SourceKind[Any, Any]]) -> wire.Source:
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
        auth_fields=wire.Fields(fields=_describe_fields(form)) if form is not None else None,
        config_fields=wire.Fields(fields=_describe_fields(kind.config_model)),
        output_entity_definitions=list(kind.entity_types),
        labels=list(kind.labels),
        supports_continuous=kind.tells_changes,
    )


def _describe_fields(model: type[BaseModel]) -> list[wire.ConfigField]:
    described = []
    for name, field in model.model_fields.items():
        kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)] or [field.annotation]
        kind: Any = kinds[0] if kinds else str
        is_list = getattr(field.annotation, "__origin__", None) in (list, tuple)
        described.append(
            wire.ConfigField(
                name=name,
                title=field.title or name.replace("_", " ").capitalize(),
                description=field.description,
                type="array" if is_list else TYPES.get(kind, "string"),
                required=field.is_required(),
                items_type=TYPES.get(kind, "string") if is_list else None,
                is_secret=kind is SecretStr,
                enum_values=[str(value) for value in kinds] if all(isinstance(k, str) for k in kinds) else None,
            )
        )
    return described
