"""Filters in the style of Qdrant, which the legacy search takes, written out as groups of conditions. Knows no SQL.

``must``, ``should`` and ``must_not`` nest, and what a condition says of a field without a value is false, so that
``must_not`` of it is true. Whatever cannot be kept exactly is refused: a filter that is ignored in part finds more than
it should.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from math import comb
from typing import Any, Final, TypeAlias, get_args

from pydantic import ValidationError

from ..db.search import Condition
from ..errors import BadInput
from ..wire import DATES, EARLIEST, MOST_CONDITIONS, NUMBERS, DateField, FilterCondition, NumericField, TextField
from .filters import lower_one

# Any of the groups, and all conditions of it. No group: nothing fits. A group without conditions: everything fits.
Groups: TypeAlias = list[tuple[Condition, ...]]

SHOWN_CHARS = 100  # of what is refused
CLAUSES = ("must", "should", "must_not", "min_should")
RANGES = {"gt": "greater_than", "gte": "greater_than_or_equal", "lt": "less_than", "lte": "less_than_or_equal"}
MATCHES = {"value": "equals", "text": "contains", "any": "in", "except": "not_in"}
TESTS = ("match", "range", "is_null", "is_empty")
BREADCRUMBS = "breadcrumbs."
_METADATA = "airweave_system_metadata."


def _name_fields() -> dict[str, str]:
    names = {}
    for field in (*_texts(get_args(TextField)), *get_args(DateField), *get_args(NumericField)):
        names[field] = field
        if field.startswith(_METADATA):
            bare = field.removeprefix(_METADATA)
            names |= {bare: field, f"system_metadata.{bare}": field}
    return names


def _texts(listed: Sequence[Any]) -> list[str]:
    return [name for each in listed for name in (get_args(each) or (each,))]


# The fields by the names that a filter may use: those of a legacy result, of any other result, and short ones.
FIELDS: Final = _name_fields()
HOW = "a filter is an object with must, should or must_not: lists of conditions such as " + (
    '{"key": "source_name", "match": {"value": "folder"}}'
)


def to_groups(given: Mapping[str, Any], *, place: str) -> Groups:
    """The filter as groups, of which a result must fit one; none if everything fits. Raises ``BadInput``, which names
    the part of the filter below ``place``."""
    groups = _read_filter(given, place, False)
    if any(not group for group in groups):
        return []
    return groups or [(Condition("entity_id", "in", ()),)]  # without a group, it would be no filter at all


def narrow_to_connections(groups: Groups, connection_ids: Sequence[str]) -> Groups:
    """The groups, for what these connections have read."""
    read_by = Condition(f"{_METADATA}sync_id", "in", tuple(connection_ids))
    return [(*group, read_by) for group in groups or [()]]


def _read_filter(given: Any, place: str, negated: bool) -> Groups:
    if not isinstance(given, dict):
        raise BadInput(HOW, field=place)
    for name in given:
        if name not in CLAUSES:
            raise BadInput(f"{_shorten(name)} is unknown here: {HOW}", field=place)
    # the negation of "all of" is "any of" the negations, and the other way round
    together, either = (_any_of, _all_of) if negated else (_all_of, _any_of)
    parts = _read_list(given.get("must"), f"{place}.must", negated)
    if shoulds := _read_list(given.get("should"), f"{place}.should", negated):
        parts.append(either(shoulds, place))
    parts += _read_list(given.get("must_not"), f"{place}.must_not", not negated)
    if (least := given.get("min_should")) is not None:
        parts.append(_read_min_should(least, f"{place}.min_should", negated))
    # without a clause everything fits
    return together(parts, place) if parts else ([] if negated else [()])


def _read_list(given: Any, place: str, negated: bool) -> list[Groups]:
    if given is None:
        return []
    if not isinstance(given, list):
        return [_read_condition(given, place, negated)]
    if len(given) > MOST_CONDITIONS:
        raise _too_long(place)
    return [_read_condition(each, f"{place}.{n}", negated) for n, each in enumerate(given)]


def _read_min_should(given: Any, place: str, negated: bool) -> Groups:
    if not isinstance(given, dict) or given.keys() != {"conditions", "min_count"}:
        raise BadInput("min_should has conditions and min_count", field=place)
    least, listed = given["min_count"], given["conditions"]
    if not isinstance(least, int) or isinstance(least, bool) or least < 0:
        raise BadInput("must be an integer of at least 0", field=f"{place}.min_count")
    if not isinstance(listed, list):
        raise BadInput("must be a list of conditions", field=f"{place}.conditions")
    parts = _read_list(listed, f"{place}.conditions", negated)
    count = len(parts) - least + 1 if negated else least  # fewer than that many fit: so many do not
    if count <= 0:
        return [()]
    if count > len(parts):
        return []
    if comb(len(parts), count) > MOST_CONDITIONS:
        raise _too_long(place)
    return _any_of([_all_of(chosen, place) for chosen in combinations(parts, count)], place)


def _read_condition(given: Any, place: str, negated: bool) -> Groups:
    if not isinstance(given, dict):
        raise BadInput(HOW, field=place)
    given = {name: value for name, value in given.items() if value is not None}  # as a client sends what is not set
    if not given.keys().isdisjoint(CLAUSES):
        return _read_filter(given, place, negated)
    if given.keys() == {"has_id"}:
        return _of_all([_read_ids(given["has_id"], f"{place}.has_id")], negated)
    for name in ("is_null", "is_empty"):
        if given.keys() == {name}:
            asked = given[name]
            if not isinstance(asked, dict) or asked.keys() != {"key"}:
                raise BadInput('must be an object such as {"key": "created_at"}', field=f"{place}.{name}")
            return _read_absence(_read_field(asked["key"], f"{place}.{name}.key"), name, negated)
    if "key" not in given:
        name = next(iter(given), "an empty object")
        raise BadInput(
            f"{_shorten(name)} cannot be used: a condition has key, and match or range, or it is has_id", field=place
        )
    field = _read_field(given.pop("key"), f"{place}.key")
    for name in given:
        if name not in TESTS:
            raise BadInput(f"{_shorten(name)} cannot be used; use one of {', '.join(TESTS)}", field=place)
    if len(given) != 1:
        raise BadInput(f"a condition has exactly one of {', '.join(TESTS)}", field=place)
    [(name, asked)] = given.items()
    if name == "match":
        return _read_match(field, asked, f"{place}.match", negated)
    if name == "range":
        return _read_range(field, asked, f"{place}.range", negated)
    if not isinstance(asked, bool):
        raise BadInput("must be true or false", field=f"{place}.{name}")
    return _read_absence(field, name, negated is asked)


def _read_field(key: Any, place: str) -> str:
    field = FIELDS.get(str(key).replace("[]", ""))
    if field is None:
        known = ", ".join(sorted(FIELDS))
        raise BadInput(f"{_shorten(key)} is not a field that can be filtered; use one of {known}", field=place)
    return field


def _read_ids(given: Any, place: str) -> Condition:
    if not isinstance(given, list) or not all(type(each) in (str, int) for each in given):
        raise BadInput("must be a list of ids", field=place)
    return Condition("entity_id", "in", tuple(map(str, given)))


def _read_match(field: str, given: Any, place: str, negated: bool) -> Groups:
    asked = {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else {}
    if len(asked) != 1 or not asked.keys() <= MATCHES.keys():
        raise BadInput(f"match has exactly one of {', '.join(MATCHES)}", field=place)
    [(name, value)] = asked.items()
    if name in ("any", "except") and not isinstance(value, list):
        raise BadInput("must be a list", field=f"{place}.{name}")
    condition = _check(field, MATCHES[name], value, f"{place}.{name}")
    if name != "except":
        return _of_all([condition], negated)
    if field.startswith(BREADCRUMBS):
        raise BadInput(f"except cannot be used with {field}; use must_not and any", field=f"{place}.except")
    # a field without a value has no other value either
    return _of_all([condition, *_presence(field)], negated)


def _read_range(field: str, given: Any, place: str, negated: bool) -> Groups:
    asked = {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else {}
    if not asked or not asked.keys() <= RANGES.keys():
        raise BadInput(f"range has one or more of {', '.join(RANGES)}", field=place)
    if field not in DATES and field not in NUMBERS:
        raise BadInput(f"range cannot be used with {field}; use match", field=place)
    return _of_all([_check(field, RANGES[name], asked[name], f"{place}.{name}") for name in asked], negated)


def _read_absence(field: str, name: str, negated: bool) -> Groups:
    """That the field has no value; with ``is_null`` a list counts as one, also if it is empty."""
    if name == "is_null" and field.startswith(BREADCRUMBS):
        return [()] if negated else []
    return _of_all(_presence(field), not negated)


def _presence(field: str) -> list[Condition]:
    """What holds where the field has a value; nothing for a field that always has one."""
    if field in DATES:
        return [Condition(field, "greater_than_or_equal", (EARLIEST,))]
    return [Condition(field, "contains", ("",))] if field.startswith(BREADCRUMBS) else []


def _check(field: str, operator: str, value: Any, place: str) -> Condition:
    listed = value if isinstance(value, list) else [value]
    whole = [int(each) if isinstance(each, float) and each.is_integer() else each for each in listed]
    try:
        checked = FilterCondition.model_validate(
            {"field": field, "operator": operator, "value": whole if isinstance(value, list) else whole[0]}
        )
    except ValidationError as error:
        said = str(error.errors(include_url=False, include_context=False)[0]["msg"])
        raise BadInput(said.removeprefix("Value error, "), field=place) from None
    return lower_one(checked)


def _of_all(conditions: Sequence[Condition], negated: bool) -> Groups:
    return [(_negate(each),) for each in conditions] if negated else [tuple(conditions)]


def _negate(condition: Condition) -> Condition:
    operator = condition.operator
    inverse = operator.removeprefix("not_") if operator.startswith("not_") else f"not_{operator}"
    return Condition(condition.field, inverse, condition.values)


def _all_of(parts: Sequence[Groups], place: str) -> Groups:
    def join(left: Groups, right: Groups) -> Groups:
        size = len(right) * sum(map(len, left)) + len(left) * sum(map(len, right))
        if size > MOST_CONDITIONS or len(left) * len(right) > MOST_CONDITIONS:
            raise _too_long(place)
        return [(*one, *other) for one in left for other in right]

    return reduce(join, parts, [()])


def _any_of(parts: Sequence[Groups], place: str) -> Groups:
    groups = [group for part in parts for group in part]
    if any(not group for group in groups):
        return [()]
    if sum(map(len, groups)) > MOST_CONDITIONS:
        raise _too_long(place)
    return groups


def _shorten(given: Any) -> str:
    text = str(given)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _too_long(place: str) -> BadInput:
    return BadInput(
        f"the filter is too long: written out as alternatives, it has more than {MOST_CONDITIONS:,} conditions; "
        "a list of values is one condition with any",
        field=place,
    )


def _schema() -> dict[str, Any]:
    key = {"type": "string", "enum": sorted(FIELDS), "description": "The field to look at."}
    scalar: dict[str, Any] = {"type": ["string", "integer", "boolean"]}
    values: dict[str, Any] = {"type": "array", "items": {"type": ["string", "integer"]}}
    bound: dict[str, Any] = {"type": ["string", "integer"], "description": "A date in ISO-8601, or a chunk number."}

    def absence(name: str) -> dict[str, Any]:
        of_key = {"type": "object", "properties": {"key": key}, "required": ["key"], "additionalProperties": False}
        return {"type": "object", "properties": {name: of_key}, "required": [name], "additionalProperties": False}

    match = [
        {"properties": {name: schema}, "required": [name], "type": "object", "additionalProperties": False}
        for name, schema in (("value", scalar), ("text", {"type": "string"}), ("any", values), ("except", values))
    ]
    tests: dict[str, dict[str, Any]] = {
        "match": {"oneOf": match, "description": "text ignores case; except: a value, and none of these."},
        "range": {
            "type": "object",
            "properties": dict.fromkeys(RANGES, bound),
            "minProperties": 1,
            "additionalProperties": False,
            "description": "For created_at, updated_at and chunk_index.",
        },
        "is_null": {"type": "boolean"},
        "is_empty": {"type": "boolean"},
    }
    listed = {"type": "array", "items": {"$ref": "#/$defs/Condition"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Filter",
        "$ref": "#/$defs/Filter",
        "$defs": {
            "Filter": {
                "type": "object",
                "description": "All of must, at least one of should, and none of must_not.",
                "properties": {
                    **{
                        name: {"anyOf": [listed, {"$ref": "#/$defs/Condition"}, {"type": "null"}]}
                        for name in ("must", "should", "must_not")
                    },
                    "min_should": {
                        "type": "object",
                        "description": "At least min_count of the conditions.",
                        "properties": {"conditions": listed, "min_count": {"type": "integer", "minimum": 0}},
                        "required": ["conditions", "min_count"],
                        "additionalProperties": False,
                    },
                },
                "additionalProperties": False,
            },
            "Condition": {
                "anyOf": [
                    *(
                        {
                            "type": "object",
                            "properties": {"key": key, name: test},
                            "required": ["key", name],
                            "additionalProperties": False,
                        }
                        for name, test in tests.items()
                    ),
                    {
                        "type": "object",
                        "properties": {"has_id": {"type": "array", "items": {"type": ["string", "integer"]}}},
                        "required": ["has_id"],
                        "additionalProperties": False,
                    },
                    absence("is_null"),
                    absence("is_empty"),
                    {"$ref": "#/$defs/Filter", "minProperties": 1},
                ]
            },
        },
    }


SCHEMA: Final = _schema()
