"""The delete plan and the door, without I/O: what holds for every ledger and every read."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from airweave_server.db.partitions import Progress
from airweave_server.sdk import Entity
from airweave_server.sync import diff

ROWS = st.sets(st.integers(0, 60), max_size=40)
SCOPES = st.sampled_from(["a", "b", "c", "gone"])
LEDGER = st.dictionaries(st.integers(0, 60), SCOPES, max_size=50)
PART = st.builds(
    lambda scope, done, met, deleted: Progress(scope, done, BitMap64(met), BitMap64(deleted - met)),
    st.sampled_from(["a", "b", "c"]),
    st.booleans(),
    ROWS,
    ROWS,
)


def by_scope(ledger: dict[int, str]) -> dict[str, BitMap64]:
    scopes: dict[str, BitMap64] = {}
    for row, scope in ledger.items():
        scopes.setdefault(scope, BitMap64()).add(row)
    return scopes


@given(LEDGER, st.lists(PART, max_size=5), st.booleans(), ROWS, st.booleans(), ROWS)
def test_nothing_that_was_met_or_lies_under_a_skipped_subtree_is_ever_deleted(
    ledger: dict[int, str], parts: list[Progress], full: bool, below: set[int], may_skip: bool, missed: set[int]
) -> None:
    plan = diff.plan_deletes(
        by_scope(ledger),
        parts,
        full=full,
        below_skipped=BitMap64(below),
        may_skip=may_skip,
        missed_before=BitMap64(missed),
    )
    met = {row for part in parts for row in part.met}
    declared = {row for part in parts for row in part.deleted}
    assert not met & set(plan.rows)
    assert set(plan.rows) <= set(ledger)
    assert not (set(plan.rows) - declared) & below
    assert not set(plan.missed) & set(plan.rows)


@given(LEDGER, st.lists(PART, max_size=5), ROWS)
def test_what_was_not_declared_goes_only_from_scopes_that_were_read_to_their_end(
    ledger: dict[int, str], parts: list[Progress], missed: set[int]
) -> None:
    plan = diff.plan_deletes(
        by_scope(ledger), parts, full=True, below_skipped=BitMap64(), may_skip=False, missed_before=BitMap64(missed)
    )
    declared = {row for part in parts for row in part.deleted}
    unfinished = {part.scope for part in parts if not part.done}
    listed = {part.scope for part in parts}
    for row in set(plan.rows) - declared:
        assert ledger[row] not in unfinished
        assert ledger[row] in listed or not unfinished


@given(LEDGER, st.lists(PART, max_size=5))
def test_an_incremental_read_deletes_only_what_was_declared(ledger: dict[int, str], parts: list[Progress]) -> None:
    plan = diff.plan_deletes(
        by_scope(ledger), parts, full=False, below_skipped=BitMap64(), may_skip=False, missed_before=BitMap64()
    )
    assert set(plan.rows) <= {row for part in parts for row in part.deleted}


@given(LEDGER, st.lists(PART, max_size=5))
def test_a_source_that_may_skip_deletes_only_what_two_full_jobs_missed(
    ledger: dict[int, str], parts: list[Progress]
) -> None:
    first = diff.plan_deletes(
        by_scope(ledger), parts, full=True, below_skipped=BitMap64(), may_skip=True, missed_before=BitMap64()
    )
    second = diff.plan_deletes(
        by_scope(ledger), parts, full=True, below_skipped=BitMap64(), may_skip=True, missed_before=first.missed
    )
    once = diff.plan_deletes(
        by_scope(ledger), parts, full=True, below_skipped=BitMap64(), may_skip=False, missed_before=BitMap64()
    )
    declared = {row for part in parts for row in part.deleted}
    assert set(first.rows) <= declared
    assert second.rows == once.rows


@given(LEDGER)
def test_a_complete_read_leaves_exactly_what_it_met(ledger: dict[int, str]) -> None:
    scopes = by_scope(ledger)
    met = BitMap64(row for row in ledger if row % 2)
    parts = [Progress(scope, True, met & rows, BitMap64()) for scope, rows in scopes.items()]
    plan = diff.plan_deletes(
        scopes, parts, full=True, below_skipped=BitMap64(), may_skip=False, missed_before=BitMap64()
    )
    assert set(ledger) - set(plan.rows) == set(met)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_guard_holds_what_is_over_the_share_and_over_the_minimum(asked: int, total: int) -> None:
    reason = diff.guard(BitMap64(range(asked)), (), total=total, ratio=0.15, minimum=10)
    assert (reason is not None) == (asked > 10 and asked > 0.15 * total)


def planned(ledger: dict[int, str], parts: list[Progress], absence: diff.Absence, **more: Any) -> diff.DeletePlan:
    options: dict[str, Any] = {"may_skip": False, "missed_before": BitMap64(), "below_skipped": BitMap64()} | more
    return diff.plan_deletes(by_scope(ledger), parts, full=True, absence=absence, **options)


@given(LEDGER, st.lists(PART, max_size=5), ROWS, st.booleans(), ROWS)
def test_what_stays_when_it_is_absent_goes_only_declared_or_approved(
    ledger: dict[int, str], parts: list[Progress], approved: set[int], may_skip: bool, missed: set[int]
) -> None:
    asked_for = BitMap64(approved)
    plan = planned(
        ledger, parts, diff.Absence.STAYS, asked_for=asked_for, may_skip=may_skip, missed_before=BitMap64(missed)
    )
    met = {row for part in parts for row in part.met}
    declared = {row for part in parts for row in part.deleted} - met
    assert set(plan.rows) <= declared | approved
    assert not plan.doubted
    if all(part.done for part in parts):
        assert set(plan.rows) == (declared | (approved - met)) & set(ledger)
    held, _ = diff.hold(plan, approved=plan.rows & asked_for, total=len(ledger), ratio=1.0, minimum=0)
    assert not set(held) & approved


@given(LEDGER, st.lists(PART, max_size=5), ROWS, st.booleans(), ROWS, st.floats(0, 1), st.integers(0, 60))
def test_what_is_doubted_goes_only_with_a_persons_word(
    ledger: dict[int, str],
    parts: list[Progress],
    approved: set[int],
    may_skip: bool,
    missed: set[int],
    ratio: float,
    minimum: int,
) -> None:
    plan = planned(ledger, parts, diff.Absence.DOUBTED, may_skip=may_skip, missed_before=BitMap64(missed))
    met = {row for part in parts for row in part.met}
    declared = {row for part in parts for row in part.deleted} - met
    unsaid = set(plan.rows) - declared
    assert set(plan.doubted) == unsaid
    if all(part.done for part in parts):
        assert unsaid == set(ledger) - met - declared
    held, reason = diff.hold(
        plan, approved=plan.rows & BitMap64(approved), total=len(ledger), ratio=ratio, minimum=minimum
    )
    assert unsaid - approved <= set(held) <= set(plan.rows) - approved
    assert bool(held) == (reason is not None)


@given(LEDGER, st.lists(PART, max_size=5), ROWS, st.sampled_from(diff.Absence))
def test_whatever_its_absence_means_what_was_met_stays(
    ledger: dict[int, str], parts: list[Progress], approved: set[int], absence: diff.Absence
) -> None:
    plan = planned(ledger, parts, absence, asked_for=BitMap64(approved))
    assert not {row for part in parts for row in part.met} & set(plan.rows)
    assert plan.doubted <= plan.rows <= BitMap64(ledger)
    if absence is diff.Absence.GONE:
        assert plan == planned(ledger, parts, absence)
        assert not plan.doubted


def test_what_a_person_approved_goes_though_one_listing_alone_proves_nothing() -> None:
    plan = diff.plan_deletes(
        {"tree": BitMap64([1, 2, 3])},
        [Progress("tree", True, BitMap64([3]), BitMap64())],
        full=True,
        below_skipped=BitMap64(),
        may_skip=True,
        missed_before=BitMap64(),
        asked_for=BitMap64([1, 3]),
    )
    assert (set(plan.rows), set(plan.missed)) == ({1}, {2})


def test_many_small_scopes_that_vanish_together_meet_the_guard_together() -> None:
    scopes = {f"folder-{n}": BitMap64(range(n * 8, n * 8 + 8)) for n in range(500)}
    kept = BitMap64([10**6])
    plan = diff.plan_deletes(
        {**scopes, "rest": kept}, [Progress("rest", True, kept, BitMap64())], full=True, below_skipped=BitMap64(),
        may_skip=False, missed_before=BitMap64(),
    )  # fmt: skip
    assert len(plan.rows) == 4000
    assert "4,000 of 4,001" in str(diff.guard(plan.rows, plan.emptied, total=4001, ratio=0.15, minimum=10))


def test_a_scope_that_would_be_emptied_is_held_however_small_it_is() -> None:
    plan = diff.plan_deletes(
        {"a": BitMap64([1]), "b": BitMap64(range(10, 1000))},
        [Progress("a", True, BitMap64(), BitMap64()), Progress("b", True, BitMap64(range(10, 1000)), BitMap64())],
        full=True,
        below_skipped=BitMap64(),
        may_skip=False,
        missed_before=BitMap64(),
    )
    assert "nothing would be left of scope 'a'" in str(
        diff.guard(plan.rows, plan.emptied, total=991, ratio=0.15, minimum=10)
    )


@given(st.text(), st.text())
def test_ids_stay_apart_and_are_always_storable(one: str, other: str) -> None:
    assert (diff.clean_id(one) == diff.clean_id(other)) == (one == other)
    assert "\x00" not in diff.clean_id(one)
    diff.clean_id(one).encode()


@pytest.mark.parametrize("one", ["x" * 5000, "\ud800", "a\x00b", "é" * 3000])
def test_odd_ids_are_cut_to_what_the_ledger_takes(one: str) -> None:
    assert len(diff.clean_id(one).encode()) <= diff.MAX_ID_BYTES
    assert diff.clean_id(one) == diff.clean_id(one)
    assert diff.clean_id(one) != diff.clean_id(one + "!")


@pytest.mark.parametrize(
    "bad",
    [
        {"id": None},
        {"id": ""},
        {"id": 7},
        {"text": 3.5},
        {"version": 9},
        {"fields": ["no", "mapping"]},
        {"updated_at": "yesterday"},
        {"breadcrumbs": ["no breadcrumb"]},
        {"fields": {"n": 10**5000}},
        {"text": "x", "format": "rtf"},
        {"text": "x", "format": ["html"]},
    ],
)
def test_what_is_no_entity_is_told_with_its_reason(bad: dict[str, object]) -> None:
    values: dict[str, object] = {"id": "x", "name": "x", "type": "Thing", **bad}
    seen = diff.sanitize(Entity(**values))  # type: ignore[arg-type]
    assert isinstance(seen, diff.Malformed)
    assert seen.reason.startswith("malformed: ")
    assert seen.entity_id


def test_fields_that_json_has_no_word_for_are_stored_as_text() -> None:
    seen = diff.sanitize(
        Entity(id="x", name="x", type="T", fields={"n": float("nan"), "d": datetime(2024, 1, 1), "z": "\0"})
    )
    assert isinstance(seen, Entity)
    assert seen.fields == {"n": "nan", "d": "2024-01-01 00:00:00", "z": ""}
