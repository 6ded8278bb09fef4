"""Filters: what is refused and where, and what each condition leaves of a real collection."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError
from search_library import Library

from airweave_server.db.session import Database
from airweave_server.wire import MOST_CONDITIONS, FilterCondition, FilterGroup, SearchRequest

SYSTEM = "airweave_system_metadata."
TEXTS = [
    "entity_id", "name", "breadcrumbs.entity_id", "breadcrumbs.name", "breadcrumbs.entity_type",
    *(SYSTEM + name for name in ("entity_type", "source_name", "original_entity_id", "sync_id", "sync_job_id")),
]  # fmt: skip
ORDERINGS = ["greater_than", "less_than", "greater_than_or_equal", "less_than_or_equal"]


class Body(BaseModel):
    filter: list[FilterGroup]


def condition(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"conditions": [{"field": field, "operator": operator, "value": value}]}


def refused(field: str, operator: str, value: Any) -> tuple[str, str]:
    """Where the one error is, and what it says."""
    good = {"field": "name", "operator": "equals", "value": "x"}
    bad = {"field": field, "operator": operator, "value": value}
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"filter": [{"conditions": [good, bad]}]})
    (error,) = caught.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_a_filter_has_an_end() -> None:
    one = condition("name", "equals", "x")
    most = {"query": "q", "filter": [one] * MOST_CONDITIONS}
    assert SearchRequest.model_validate(most).filter
    with pytest.raises(ValidationError, match="more than 1,000 conditions"):
        SearchRequest.model_validate({**most, "filter": [{"conditions": one["conditions"] * 500}] * 3})


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("operator", ORDERINGS)
def test_a_text_has_no_order(field: str, operator: str) -> None:
    where, what = refused(field, operator, "x")
    assert where == "filter.0.conditions.1.operator"
    assert f"{operator} cannot be used with {field}" in what


@pytest.mark.parametrize("field", ["created_at", "updated_at", SYSTEM + "chunk_index"])
def test_dates_and_numbers_contain_nothing(field: str) -> None:
    assert refused(field, "contains", "2")[0] == "filter.0.conditions.1.operator"


@pytest.mark.parametrize(
    ("field", "operator", "value", "says"),
    [
        ("name", "equals", ["a"], "single value"),
        ("name", "contains", ["a"], "single value"),
        ("name", "in", 3, "takes a list"),
        ("name", "not_in", True, "takes a list"),
        ("name", "in", ["a", 1], "a list of texts or of integers"),
        ("name", "equals", None, "must be a text"),
        ("name", "equals", {"a": 1}, "must be a text"),
        ("name", "equals", 1.5, "must be a text"),
        ("created_at", "equals", "yesterday", "ISO-8601"),
        ("created_at", "greater_than", 5, "ISO-8601"),
        ("updated_at", "in", ["2024-01-01", "x"], "ISO-8601"),
        (SYSTEM + "chunk_index", "equals", True, "integer"),
        (SYSTEM + "chunk_index", "equals", "1.5", "integer"),
        (SYSTEM + "chunk_index", "in", ["1", "b"], "integer"),
        (SYSTEM + "chunk_index", "equals", "9" * 5_000, "integer"),
        (SYSTEM + "chunk_index", "in", [True], "a list of texts or of integers"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(field: str, operator: str, value: Any, says: str) -> None:
    where, what = refused(field, operator, value)
    assert where == "filter.0.conditions.1.value"
    assert says in what


def test_unknown_fields_and_operators_are_refused_once() -> None:
    assert refused("colour", "equals", "red")[0] == "filter.0.conditions.1.field"
    assert refused("name", "like", ["x"])[0] == "filter.0.conditions.1.operator"


def test_a_group_has_a_condition() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        FilterGroup.model_validate({"conditions": []})


def test_a_lone_text_becomes_a_list_and_other_values_keep_their_type() -> None:
    assert FilterCondition(field="name", operator="in", value="a").value == ["a"]
    assert FilterCondition(field="name", operator="equals", value=True).value is True
    assert FilterCondition(field="airweave_system_metadata.chunk_index", operator="in", value=[1, 2]).value == [1, 2]


@pytest.fixture
def library(fresh_database: Database) -> Library:
    """``old`` and ``new`` of a folder, ``page`` of another source, with no dates, and two chunks in ``new``."""
    made = Library(fresh_database)
    made.put(
        "docs/old.md",
        "the boat sails",
        name="Old 100% done_now",
        type="FileEntity",
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
        updated_at=datetime(2020, 6, 1, tzinfo=UTC),
        breadcrumbs=[
            {"entity_id": "docs", "name": "Docs", "entity_type": "Folder"},
            {"entity_id": "docs/deep", "name": "Deep Engineering", "entity_type": "Folder"},
        ],
    )
    made.put(
        "docs/new.md",
        "the boat lands",
        "the boat sinks",
        name="New",
        type="FileEntity",
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        updated_at=datetime(2024, 6, 1, tzinfo=UTC),
        breadcrumbs=[{"entity_id": "docs", "name": "Docs", "entity_type": "Folder"}],
    )
    made.put("page", "the boat is a page", to=made.connect("web"), name="Page", type="PageEntity")
    return made


OLD, NEW, PAGE = "docs/old.md", "docs/new.md", "page"


@pytest.mark.parametrize(
    ("field", "operator", "value", "left"),
    [
        ("name", "equals", "New", {NEW}),
        ("name", "equals", "new", set()),
        ("name", "not_equals", "New", {OLD, PAGE}),
        ("name", "contains", "nEw", {NEW}),
        ("name", "contains", "100% DONE_", {OLD}),
        ("name", "contains", "%", {OLD}),
        ("name", "contains", "done%now", set()),
        ("name", "contains", "\\", set()),
        ("name", "contains", "", {OLD, NEW, PAGE}),
        ("name", "in", ["New", "Page"], {NEW, PAGE}),
        ("name", "in", "New", {NEW}),
        ("name", "in", [], set()),
        ("name", "not_in", ["New", "Page"], {OLD}),
        ("name", "not_in", [], {OLD, NEW, PAGE}),
        ("name", "equals", "New\x00", set()),
        ("name", "not_equals", "New\ud800", {OLD, NEW, PAGE}),
        ("name", "equals", "'; drop table chunk; --", set()),
        ("name", "contains", ":value_2 %s %(x)s", set()),
        ("entity_id", "equals", NEW, {NEW}),
        ("entity_id", "equals", NEW + "__chunk_1", {NEW}),
        ("entity_id", "equals", NEW + "__chunk_2", set()),
        ("entity_id", "not_equals", NEW, {OLD, PAGE}),
        ("entity_id", "in", [PAGE, OLD + "__chunk_0"], {PAGE, OLD}),
        ("entity_id", "contains", "DOCS/", {OLD, NEW}),
        (SYSTEM + "original_entity_id", "equals", NEW, {NEW}),
        (SYSTEM + "original_entity_id", "equals", NEW + "__chunk_1", set()),
        ("breadcrumbs.name", "equals", "Docs", {OLD, NEW}),
        ("breadcrumbs.name", "contains", "engineer", {OLD}),
        ("breadcrumbs.name", "not_equals", "Docs", {PAGE}),
        ("breadcrumbs.name", "in", ["Deep Engineering", "x"], {OLD}),
        ("breadcrumbs.name", "not_in", ["Deep Engineering"], {NEW, PAGE}),
        ("breadcrumbs.entity_id", "equals", "docs/deep", {OLD}),
        ("breadcrumbs.entity_type", "equals", "Folder", {OLD, NEW}),
        (SYSTEM + "entity_type", "equals", "PageEntity", {PAGE}),
        (SYSTEM + "source_name", "equals", "web", {PAGE}),
        (SYSTEM + "source_name", "not_in", ["web", "x"], {OLD, NEW}),
        (SYSTEM + "chunk_index", "equals", 1, {NEW}),
        (SYSTEM + "chunk_index", "equals", "1", {NEW}),
        (SYSTEM + "chunk_index", "less_than", 1, {OLD, NEW, PAGE}),
        (SYSTEM + "chunk_index", "greater_than_or_equal", 1, {NEW}),
        (SYSTEM + "chunk_index", "in", [1, 7], {NEW}),
        (SYSTEM + "chunk_index", "not_equals", 0, {NEW}),
        (SYSTEM + "chunk_index", "less_than", 10**40, {OLD, NEW, PAGE}),
        (SYSTEM + "chunk_index", "in", [1, 10**40], {NEW}),
        ("created_at", "greater_than", "2022-01-01T00:00:00Z", {NEW}),
        ("created_at", "less_than", "2022-01-01", {OLD}),
        ("created_at", "greater_than_or_equal", "2024-01-01T01:00:00+01:00", {NEW}),
        ("created_at", "less_than_or_equal", "2020-01-01T00:00:00", {OLD}),
        ("created_at", "equals", "2020-01-01", {OLD}),
        ("created_at", "not_equals", "2020-01-01", {NEW, PAGE}),
        ("updated_at", "in", ["2024-06-01T00:00:00Z"], {NEW}),
        ("updated_at", "not_in", ["2024-06-01T00:00:00Z"], {OLD, PAGE}),
        ("updated_at", "in", ["2024-06-01T16:00:00+16:00", "2024-06-01"], {NEW}),
        ("updated_at", "not_in", ["2024-05-31T00:01:00-23:59"], {OLD, PAGE}),
        ("updated_at", "equals", "2024-06-01T16:00:00+16:00", {NEW}),
        ("updated_at", "in", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-00:01"], set()),
        ("updated_at", "greater_than", "0001-01-01T00:00:00+14:00", {OLD, NEW}),
        ("updated_at", "less_than", "9999-12-31T23:59:59-14:00", {OLD, NEW}),
        (SYSTEM + "sync_id", "equals", "no uuid", set()),
        (SYSTEM + "sync_id", "not_equals", "no uuid", {OLD, NEW, PAGE}),
        (SYSTEM + "sync_job_id", "in", ["no uuid", str(uuid4())], set()),
    ],
)
@pytest.mark.parametrize("strategy", ["keyword", "semantic"])
def test_a_condition_leaves_what_it_says(
    library: Library, field: str, operator: str, value: Any, left: set[str], strategy: str
) -> None:
    assert set(library.ids("boat", filter=[condition(field, operator, value)], strategy=strategy)) == left


def test_a_sync_is_a_connection_and_a_job_its_last(library: Library) -> None:
    job = uuid4()
    library.put("jobbed", "a boat of a known job", job_id=job)
    of_connection = condition(SYSTEM + "sync_id", "equals", str(library.connection.id).upper())
    assert set(library.ids("boat", filter=[of_connection])) == {OLD, NEW, "jobbed"}
    assert library.ids("boat", filter=[condition(SYSTEM + "sync_job_id", "equals", job.hex)]) == ["jobbed"]


def test_groups_are_joined_by_or_and_conditions_by_and(library: Library) -> None:
    docs = condition("breadcrumbs.name", "equals", "Docs")["conditions"]
    recent = condition("created_at", "greater_than", "2022-01-01")["conditions"]
    both = {"conditions": docs + recent}
    assert library.ids("boat", filter=[both]) == [NEW]
    assert set(library.ids("boat", filter=[both, condition("name", "equals", "Page")])) == {NEW, PAGE}
