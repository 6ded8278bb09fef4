"""Measures of the quality of search. Pure functions over ids and grades; they know no database and no server.

A ranking is the list of ids that a search returned, best first. Only the first place of an id counts. Grades say how
right an id is: greater is better, and 0 is wrong, like an id without a grade.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEED, RESAMPLES = 16, 10_000
CONFIDENCE = 0.95
DRAWN_AT_ONCE = 1_000_000  # numbers; bounds the memory of a bootstrap


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the bounds between which it lies with the confidence of ``CONFIDENCE``."""

    mean: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves zero out, so that the sign of the mean is no chance."""
        return self.low > 0 or self.high < 0


def ndcg(found: Sequence[str], grades: Mapping[str, float], depth: int) -> float:
    """Normalized discounted cumulative gain of the first ``depth`` places; 0.0 if nothing is right.

    The gain of a place is the grade of its id, discounted by log2(place + 1), as in Järvelin and Kekäläinen, "Cumulated
    gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002, with base 2, but discounting the second place too as
    trec_eval does. The ideal ranking is all graded ids, best first.
    """
    gain = sum(grades[one] / math.log2(rank + 1) for rank, one in _right(found, grades, depth))
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:depth]
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, start=1))
    return gain / ideal if ideal else 0.0


def recall(found: Sequence[str], grades: Mapping[str, float], depth: int) -> float:
    """The share of the right ids that are in the first ``depth`` places; 0.0 if nothing is right.

    Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, chapter 8.
    """
    right = sum(grade > 0 for grade in grades.values())
    return sum(1 for _ in _right(found, grades, depth)) / right if right else 0.0


def reciprocal_rank(found: Sequence[str], grades: Mapping[str, float], depth: int) -> float:
    """1 / the place of the first right id; 0.0 if there is none in the first ``depth`` places.

    Voorhees, "The TREC-8 question answering track report", 1999.
    """
    return next((1 / rank for rank, _ in _right(found, grades, depth)), 0.0)


def paired_bootstrap(one: Sequence[float], other: Sequence[float], *, seed: int = SEED) -> Interval:
    """The mean of ``one - other``, query by query, and its percentile interval over ``RESAMPLES`` samples of the
    queries, drawn with replacement. The same values give the same interval. Raises ``ValueError`` if there are no
    values, or if the two are not of one length.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; for rankings Sakai, "Evaluating
    evaluation metrics based on the bootstrap", SIGIR 2006.
    """
    if not one or len(one) != len(other):
        raise ValueError("a paired bootstrap needs as many values of the one as of the other, and at least one")
    differences = np.subtract(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
    means = np.concatenate(list(_resampled(differences, seed)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(differences.mean()), float(low), float(high))


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The area under the ROC curve: how often a positive score is greater than a negative one, where a tie counts half.
    Raises ``ValueError`` if either has no scores.

    This is the statistic of Mann and Whitney: Hanley and McNeil, "The meaning and use of the area under a receiver
    operating characteristic (ROC) curve", Radiology 143, 1982.
    """
    if not positive or not negative:
        raise ValueError("an AUC needs positive and negative scores")
    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    scores = np.asarray(positive, dtype=np.float64)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return float((below + not_above).sum() / 2 / (len(positive) * len(negative)))


def _right(found: Sequence[str], grades: Mapping[str, float], depth: int) -> Iterator[tuple[int, str]]:
    """The right ids of the first ``depth`` places, each once, with their places from 1 on."""
    seen = set()
    for rank, one in enumerate(found[:depth], start=1):
        if grades.get(one, 0.0) > 0 and one not in seen:
            seen.add(one)
            yield rank, one


def _resampled(values: NDArray[np.float64], seed: int) -> Iterator[NDArray[np.float64]]:
    chance = np.random.default_rng(seed)
    at_once = max(DRAWN_AT_ONCE // len(values), 1)
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        yield values[chance.integers(len(values), size=(rows, len(values)))].mean(axis=1)
