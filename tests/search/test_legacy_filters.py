"""Filters in the style of Qdrant, written out as groups: they leave what the filter leaves, however it nests."""

from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from airweave_server.db.search import Condition
from airweave_server.errors import BadInput
from airweave_server.search.legacy_filters import FIELDS, narrow_to_connections, to_groups
from airweave_server.wire import MOST_CONDITIONS

NAMES = ("a", "b", "c")
SYNC_ID = "airweave_system_metadata.sync_id"


def named(*names: str) -> dict[str, Any]:
    return {"key": "name", "match": {"any": list(names)}}


def fits(asked: dict[str, Any], name: str) -> bool:
    """Whether a filter on names leaves this one: as Qdrant defines it, clause by clause."""
    if "key" in asked:
        return name in asked["match"]["any"]
    shoulds, least = asked.get("should", []), asked.get("min_should")
    return (
        all(fits(each, name) for each in asked.get("must", []))
        and (not shoulds or any(fits(each, name) for each in shoulds))
        and not any(fits(each, name) for each in asked.get("must_not", []))
        and (least is None or sum(fits(each, name) for each in least["conditions"]) >= least["min_count"])
    )


def is_left(groups: list[tuple[Condition, ...]], name: str) -> bool:
    """Whether the groups leave this name, as a search applies them."""
    held = [[(name in each.values) is (each.operator == "in") for each in group] for group in groups]
    return not groups or any(all(group) for group in held)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=3)
    least = st.fixed_dictionaries({"conditions": lists, "min_count": st.integers(0, 3)})
    return st.fixed_dictionaries(
        {}, optional={"must": lists, "should": lists, "must_not": lists, "min_should": least}
    ).filter(bool)


FILTERS = nested(st.recursive(st.sets(st.sampled_from(NAMES)).map(lambda some: named(*some)), nested, max_leaves=8))


@settings(max_examples=60)
@given(FILTERS)
def test_the_groups_leave_what_the_filter_leaves(asked: dict[str, Any]) -> None:
    try:
        groups = to_groups(asked, place="filter")
    except BadInput as error:
        if "too long" not in str(error):
            raise
        reject()
    assert all(groups)  # a group without conditions is no SQL
    for name in NAMES:
        assert is_left(groups, name) is fits(asked, name)


def test_a_filter_that_leaves_nothing_is_not_taken_for_none() -> None:
    for asked in (
        {"must": [{"has_id": []}]},
        {"must": [{"key": "name", "match": {"any": []}}]},
        {"must": [{"is_null": {"key": "name"}}]},
        {"must_not": [{"must": []}]},
        {"min_should": {"conditions": [named("a")], "min_count": 2}},
    ):
        groups = to_groups(asked, place="filter")
        assert groups
        assert not is_left(groups, "a")
        assert not is_left(narrow_to_connections(groups, ["1"]), "a")
    assert to_groups({}, place="filter") == []
    assert narrow_to_connections([], []) == [(Condition(SYNC_ID, "in", ()),)]


def test_a_field_has_the_name_of_every_form_of_a_result() -> None:
    assert len(set(FIELDS.values())) == 13
    for name in ("source_name", "system_metadata.source_name", "airweave_system_metadata.source_name"):
        [(condition,)] = to_groups({"must": {"key": name, "match": {"value": "folder"}}}, place="filter")
        assert condition == Condition("airweave_system_metadata.source_name", "equals", ("folder",))


def test_what_is_said_of_a_field_without_a_value_is_false_and_its_negation_true() -> None:
    since = {"key": "created_at", "range": {"gte": "2024-01-01T00:00:00Z"}}
    [(condition,)] = to_groups({"must_not": [since]}, place="filter")
    assert condition.operator == "not_greater_than_or_equal"
    [(other, present)] = to_groups({"must": [{"key": "created_at", "match": {"except": ["2024-01-01"]}}]}, place="f")
    assert (other.operator, present.operator) == ("not_in", "greater_than_or_equal")


def test_a_filter_that_is_too_long_written_out_is_refused() -> None:
    pairs = [{"should": [named("a"), named("b")]} for _ in range(12)]
    many = [named("a")] * (MOST_CONDITIONS + 1)
    for asked in (
        {"must": pairs},
        {"should": many},
        {"must": many},
        {"should": [{"must": many[:600]}, {"must": many[:600]}]},
        {"min_should": {"conditions": many[:30], "min_count": 15}},
    ):
        with pytest.raises(BadInput, match="too long"):
            to_groups(asked, place="filter")
    assert len(to_groups({"should": many[:-1]}, place="filter")) == MOST_CONDITIONS
