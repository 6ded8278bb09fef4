"""The measures of search quality, against values that were worked out by hand."""

import math

import pytest

from airweave_server.search.measures import auc, ndcg, paired_bootstrap, recall, reciprocal_rank

LOG2_3 = math.log2(3)


def binary(*right: str) -> dict[str, float]:
    return dict.fromkeys(right, 1.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["a", "b", "x"], 1.0),
        (["b", "a"], 1.0),
        # 1/log2(2) of the first place is missing: (1/log2 3 + 1/log2 4) / (1 + 1/log2 3)
        (["x", "a", "b"], (1 / LOG2_3 + 0.5) / (1 + 1 / LOG2_3)),
        (["x", "y", "a"], 0.5 / (1 + 1 / LOG2_3)),
        (["x", "y", "z", "a"], 0.0),  # the fourth place is beyond the depth
        ([], 0.0),
    ],
)
def test_ndcg_of_right_and_wrong(found: list[str], expected: float) -> None:
    assert ndcg(found, binary("a", "b"), 3) == pytest.approx(expected)


def test_ndcg_of_grades() -> None:
    grades = {"a": 3.0, "b": 2.0, "c": 0.0}
    # DCG = 2/1 + 0 + 3/2; ideal = 3/1 + 2/log2 3
    assert ndcg(["b", "c", "a"], grades, 10) == pytest.approx((2 + 1.5) / (3 + 2 / LOG2_3))
    assert ndcg(["a", "b", "c"], grades, 10) == pytest.approx(1.0)


def test_the_ideal_has_no_more_places_than_the_depth() -> None:
    assert ndcg(["a", "b"], binary("a", "b", "c", "d"), 2) == 1.0
    assert recall(["a", "b"], binary("a", "b", "c", "d"), 2) == 0.5


def test_an_id_that_is_found_twice_counts_once() -> None:
    assert ndcg(["a", "a", "a"], binary("a", "b"), 3) == pytest.approx(1 / (1 + 1 / LOG2_3))
    assert recall(["a", "a", "a"], binary("a", "b"), 3) == 0.5


def test_where_nothing_is_right_every_measure_is_zero() -> None:
    for measure in (ndcg, recall, reciprocal_rank):
        assert measure(["a"], {}, 10) == 0.0
        assert measure(["a"], {"a": 0.0}, 10) == 0.0


def test_recall_counts_right_ids_only() -> None:
    grades = {"a": 1.0, "b": 2.0, "c": 0.0, "d": 1.0}
    assert recall(["c", "x", "b"], grades, 10) == pytest.approx(1 / 3)
    assert recall(["c", "x", "b"], grades, 2) == 0.0


def test_reciprocal_rank() -> None:
    assert reciprocal_rank(["a", "b"], binary("a"), 10) == 1.0
    assert reciprocal_rank(["x", "y", "z", "a"], binary("a", "b"), 10) == 0.25
    assert reciprocal_rank(["x", "y", "z", "a"], binary("a", "b"), 3) == 0.0


def test_auc() -> None:
    assert auc([3, 4], [1, 2]) == 1.0
    assert auc([1, 2], [3, 4]) == 0.0
    assert auc([1, 1], [1, 1, 1]) == 0.5
    # of 2 * 3 pairs 0.9 wins three, and 0.4 one and ties one
    assert auc([0.9, 0.4], [0.1, 0.4, 0.8]) == pytest.approx(4.5 / 6)
    with pytest.raises(ValueError, match="positive and negative"):
        auc([], [1.0])


def test_the_bootstrap_of_a_constant_difference_has_no_width() -> None:
    found = paired_bootstrap([0.5, 0.75, 1.0], [0.25, 0.5, 0.75])
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.is_certain


def test_the_bootstrap_of_few_values_is_what_counting_gives() -> None:
    # the mean of two values drawn from {0, 1} is 0, 0.5 or 1 with the chances 1/4, 1/2, 1/4
    found = paired_bootstrap([1.0, 0.0], [0.0, 0.0])
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    assert not found.is_certain


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    differences = [math.sin(n) for n in range(2_000)]
    found = paired_bootstrap(differences, [0.0] * len(differences))
    mean = sum(differences) / len(differences)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in differences) / len(differences))
    half = 1.96 * deviation / math.sqrt(len(differences))
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_the_same_values_give_the_same_interval_and_pairs_matter() -> None:
    one, other = [0.1, 0.9, 0.4, 0.6], [0.2, 0.7, 0.4, 0.1]
    assert paired_bootstrap(one, other) == paired_bootstrap(one, other)
    turned = paired_bootstrap(other, one)
    assert turned.mean == pytest.approx(-paired_bootstrap(one, other).mean)
    # the same means, in another order: the differences vary more
    assert paired_bootstrap(one, other[::-1]).high - paired_bootstrap(one, other[::-1]).low > 0.3


def test_a_bootstrap_needs_pairs() -> None:
    for one, other in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="as many values"):
            paired_bootstrap(one, other)
