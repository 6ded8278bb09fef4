"""Plans by rules: the filter that a query implies, and its other phrasings."""

from datetime import UTC, datetime

import pytest

from airweave_server.db.search import Condition
from airweave_server.search.planning import Facts, infer_filter, join_filters, plan_by_rules, strip_frame
from airweave_server.wire import FilterGroup

NOW = datetime(2024, 3, 13, 15, 30, tzinfo=UTC)  # a Wednesday
FACTS = Facts(sources=("folder", "github", "web_page"), now=NOW)


def period(text: str) -> tuple[str | None, str | None]:
    """The bounds of the dates that the text implies."""
    groups = infer_filter(text, FACTS)
    if not groups:
        return None, None
    assert [{one.field for one in group.conditions} for group in groups] == [{"updated_at"}, {"created_at"}]
    bounds = {one.operator: str(one.value)[:10] for one in groups[0].conditions}
    assert bounds == {one.operator: str(one.value)[:10] for one in groups[1].conditions}
    return bounds.get("greater_than_or_equal"), bounds.get("less_than")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("the decision of 2023-11-05", "2023-11-05", "2023-11-06"),
        ("what changed in 2023-11", "2023-11-01", "2023-12-01"),
        ("notes from December 2023", "2023-12-01", "2024-01-01"),
        ("minutes of the 5th of Nov 2023", "2023-11-05", "2023-11-06"),
        ("minutes of Nov. 5, 2023", "2023-11-05", "2023-11-06"),
        ("sales in 2022", "2022-01-01", "2023-01-01"),
        ("releases since May 2022", "2022-05-01", None),
        ("releases after 2022", "2023-01-01", None),
        ("releases before 2022", None, "2022-01-01"),
        ("what happened yesterday", "2024-03-12", "2024-03-13"),
        ("what happened today", "2024-03-13", "2024-03-14"),
        ("the mails of last week", "2024-03-04", "2024-03-11"),
        ("the mails of this week", "2024-03-11", "2024-03-18"),
        ("the mails of last month", "2024-02-01", "2024-03-01"),
        ("the mails of this year", "2024-01-01", "2025-01-01"),
        ("the mails of last year", "2023-01-01", "2024-01-01"),
        ("the mails of the last 3 days", "2024-03-10", "2024-03-14"),
        ("the decision of 2023-13-45", None, None),
        ("the 31 February 2023", None, None),
        ("may 20 guests come", None, None),
        ("error 2022 of the printer", None, None),
        ("RFC-2022 and 2022-style", None, None),
        ("version 2022.1", None, None),
        ("in 9999-12", None, None),
        ("the mails of the last 2 weeks", "2024-02-28", "2024-03-14"),
        ("march of the penguins", None, None),
    ],
)
def test_a_date_in_a_query_is_a_period(text: str, start: str | None, end: str | None) -> None:
    assert period(text) == (start, end)


def values(text: str, facts: Facts = FACTS) -> list[tuple[str, str, object]]:
    return [(one.field, one.operator, one.value) for group in infer_filter(text, facts) for one in group.conditions]


def test_sources_and_files_that_a_query_names() -> None:
    source = "airweave_system_metadata.source_name"
    assert values("the login bug on GitHub") == [(source, "in", ["github"])]
    assert values("prices from the web page") == [(source, "in", ["web_page"])]
    assert values("the folder of prices") == []
    assert values("the login bug on github", Facts(sources=("github",))) == []
    assert values("what does report-2.pdf say") == [("name", "contains", "report-2.pdf")]
    assert values("the pdf about bees") == [("name", "contains", ".pdf")]
    assert [one[2] for one in values("the spreadsheet of costs")] == [".xlsx", ".xls", ".xlsb", ".ods", ".csv"]
    assert values("e.g. the U.S. and src/app/main.py or a@example.org") == []
    both = infer_filter("the pdf from github of May 2023", FACTS)
    assert [[one.field for one in group.conditions] for group in both] == [
        ["updated_at", "updated_at", source, "name"],
        ["created_at", "created_at", source, "name"],
    ]


def test_a_question_loses_what_it_is_not_about() -> None:
    assert strip_frame("Can you tell me how the boundary layer grows?") == "the boundary layer grows"
    assert strip_frame("are there any papers on flutter of wings") == "flutter of wings"
    assert strip_frame("boundary layer growth") is None
    assert strip_frame("what is it?") is None
    assert plan_by_rules("what is shock wave drag", FACTS).phrasings == ("what is shock wave drag", "shock wave drag")
    assert plan_by_rules("what is shock wave drag", Facts(language="german")).phrasings == ("what is shock wave drag",)


def test_joined_filters_keep_every_condition_of_the_request() -> None:
    given = [
        FilterGroup.model_validate({"conditions": [{"field": "name", "operator": "equals", "value": name}]})
        for name in ("a", "b")
    ]
    inferred = infer_filter("the spreadsheet of costs", FACTS)
    joined = join_filters(given, inferred)
    assert len(joined) == 10
    own = {Condition("name", "equals", ("a",)), Condition("name", "equals", ("b",))}
    assert all(own & set(group) for group in joined)
    assert len(join_filters((), inferred)) == 5
