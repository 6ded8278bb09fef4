"""Filters of a search, from the form of the wire to that of the database. Knows no SQL."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ..db.search import Condition
from ..wire import DATES, NUMBERS, UUIDS, FilterCondition, FilterGroup, to_date, to_integer


def lower(groups: Sequence[FilterGroup | Sequence[Condition]]) -> list[list[Condition]]:
    """The groups as the database takes them: dates are datetimes, numbers integers. A group that is of this form
    already stays as it is."""
    return [
        [lower_one(condition) for condition in group.conditions] if isinstance(group, FilterGroup) else list(group)
        for group in groups
    ]


def lower_one(condition: FilterCondition) -> Condition:
    """One condition, as ``lower`` does it."""
    values = condition.value if isinstance(condition.value, list) else [condition.value]
    return Condition(condition.field, condition.operator, tuple(_convert(condition.field, value) for value in values))


def clean(text: str) -> str:
    """Text as Postgres accepts it. Replaces NUL and lone surrogates with U+FFFD: no stored text contains them, so the
    replacement must not match either."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _convert(field: str, value: str | int) -> str | int | datetime:
    if field in NUMBERS:
        return to_integer(value)
    if field in DATES:
        return to_date(value)
    text = clean(str(value).lower() if isinstance(value, bool) else str(value))
    return _normalize_uuid(text) if field in UUIDS else text


def _normalize_uuid(text: str) -> str:
    """The usual form of a UUID. Any other text stays as it is, and matches nothing."""
    try:
        return str(UUID(text))
    except ValueError:
        return text
