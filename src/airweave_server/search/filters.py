"""Filters of a search as the API takes them: groups OR-ed, the conditions of a group AND-ed. Knows no SQL.

The models are body parts: what breaks a rule is pydantic's ``ValidationError``, whose location names the part, as in
``body.filter.0.conditions.1.operator``, and whose message names the rule.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..db.search import Condition

DateField = Literal["created_at", "updated_at"]
NumericField = Literal["airweave_system_metadata.chunk_index"]
UuidField = Literal["airweave_system_metadata.sync_id", "airweave_system_metadata.sync_job_id"]
TextField = Literal[
    "entity_id",
    "name",
    "breadcrumbs.entity_id",
    "breadcrumbs.name",
    "breadcrumbs.entity_type",
    "airweave_system_metadata.entity_type",
    "airweave_system_metadata.source_name",
    "airweave_system_metadata.original_entity_id",
    UuidField,
]
Ordering = Literal["greater_than", "less_than", "greater_than_or_equal", "less_than_or_equal"]
Operator = Literal["equals", "not_equals", "contains", Ordering, "in", "not_in"]

DATES, NUMBERS, UUIDS = get_args(DateField), get_args(NumericField), get_args(UuidField)
LISTS = ("in", "not_in")
FOR_TEXT = ("equals", "not_equals", "contains", *LISTS)
FOR_ORDERED = ("equals", "not_equals", *get_args(Ordering), *LISTS)
MAX_DIGITS = 100
INTEGER = re.compile(rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*")


class FilterCondition(BaseModel):
    """One field compared with a value, or with a list of values for ``in`` and ``not_in``."""

    model_config = ConfigDict(frozen=True)

    field: Literal[TextField, DateField, NumericField] = Field(description="What to compare; nested fields with dots.")
    operator: Operator = Field(
        description="Text: equals, not_equals, contains (any case), in, not_in. Dates and numbers: all but contains."
    )
    value: str | bool | int | list[str] | list[int] = Field(
        description="Dates in ISO-8601; without a zone they are UTC. A list for in and not_in."
    )

    @field_validator("operator")
    @classmethod
    def _fits_the_field(cls, operator: str, info: ValidationInfo) -> str:
        field = info.data.get("field")
        allowed = FOR_ORDERED if field in DATES or field in NUMBERS else FOR_TEXT
        if field is not None and operator not in allowed:
            raise ValueError(f"{operator} cannot be used with {field}; use one of {', '.join(allowed)}")
        return operator

    @field_validator("value", mode="before")
    @classmethod
    def _fits_both(cls, value: Any, info: ValidationInfo) -> Any:
        """The value as it came, but for a lone text where a list is due."""
        operator, field = info.data.get("operator"), info.data.get("field")
        if operator is None or field is None:  # said already
            return ""
        if operator in LISTS and isinstance(value, str):
            value = [value]
        if operator in LISTS and not isinstance(value, list):
            raise ValueError(f"{operator} takes a list")
        if operator not in LISTS and isinstance(value, list):
            raise ValueError(f"{operator} takes a single value, not a list")
        values = value if isinstance(value, list) else [value]
        kinds = {type(one) for one in values}
        if not kinds <= {str, int, bool} or (isinstance(value, list) and (len(kinds) > 1 or bool in kinds)):
            raise ValueError("the value must be a text, an integer, true or false, or a list of texts or of integers")
        for one in values:
            _exchanged(field, one)
        return value

    def lowered(self) -> Condition:
        """The condition as the database side takes it: dates are dates, numbers numbers."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return Condition(self.field, self.operator, tuple(_exchanged(self.field, value) for value in values))


class FilterGroup(BaseModel):
    """Conditions that must all hold."""

    model_config = ConfigDict(frozen=True)

    conditions: list[FilterCondition] = Field(min_length=1)


def lowered(groups: Sequence[FilterGroup]) -> list[list[Condition]]:
    return [[condition.lowered() for condition in group.conditions] for group in groups]


def clean(text: str) -> str:
    """Text as Postgres takes it. What it does not take is in no text it holds, so a stand-in must not match either."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _exchanged(field: str, value: str | int) -> str | int | datetime:
    if field in NUMBERS:
        return _number(value)
    if field in DATES:
        return _date(value)
    text = clean(str(value).lower() if isinstance(value, bool) else str(value))
    return _uuid(text) if field in UUIDS else text


def _number(value: str | int) -> int:
    if isinstance(value, bool) or not INTEGER.fullmatch(str(value)):
        raise ValueError(f"the value must be an integer of at most {MAX_DIGITS} digits")
    return int(value)


def _date(value: str | int) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value).strip()) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("the value must be a date in ISO-8601, as 2024-01-31T12:00:00Z")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _uuid(text: str) -> str:
    """The usual form of a UUID; what is none stays, and matches nothing."""
    try:
        return str(UUID(text))
    except ValueError:
        return text
