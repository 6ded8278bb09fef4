"""The order and the score of candidates: what counts how much. Knows neither HTTP nor SQL.

[docs/search.md](../../../docs/search.md) says how the constants were found.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.search import Candidate, Gate, Measure, Scope
from ..sdk import Vectors
from . import passages, terms
from .passages import Seeker
from .terms import Terms

NEAR_WEIGHT = 0.4  # of words that stand together as asked, beside the words themselves
LOOKED_AT = 30  # candidates whose text is read
FEEDBACK, FEEDBACK_WEIGHT = 5, 0.5  # the best of these move the vector of the query by this much (Rocchio 1971)
SECURED = 10  # the last place that a word secures which hardly any other chunk holds

WEAKER = 60  # scores of hits beyond those that were measured fall slowly

# A score is the probability that a first hit like this one answers the query, as a logistic function of what was found:
# where it is 1/2, and how steep it is there. Fitted to questions of two collections, half of them put to the other.
HALVES = {"hybrid": (1.02, 10.0), "keyword": (0.40, 12.5), "semantic": (0.34, 22.0)}
CLOSENESS_WEIGHT = 2.0
ENOUGH = 0.5  # of the rarest word, that must be held for half of what is covered to count
IDENTIFIER_CERTAINTY = 1.0  # what an identifier that a single chunk holds adds to what is covered
VERBATIM_CERTAINTY = 0.7  # what a hit adds that holds the query, or what is in quotation marks, as it is
RELEVANT = 0.25  # without a score of at least this, nothing relevant was found
WITHOUT_IDENTIFIER = 0.49  # the most for a hit that holds none of the identifiers asked for


Answer = Callable[[], Sequence[Candidate]]  # a call waits for the result


@dataclass(frozen=True, slots=True)
class Question:
    """A query in the terms of the database, on the chunks ``seen`` in one snapshot.

    ``nearest`` starts the search for so many vectors at its first call with that number; None if vectors propose no
    candidates. ``by_entity``: only the best chunk of each entity is a place. ``is_quoted``: all candidates hold what
    stands in quotation marks. ``is_capped``: it stands nowhere, so no hit is good. ``looked_at``: candidates whose text
    is read.
    """

    session: Session
    seen: Scope
    asked: Terms
    gates: Sequence[Gate]
    measure: Measure
    nearest: Callable[[int], Answer] | None
    seeker: Seeker
    strategy: str
    by_entity: bool
    is_quoted: bool
    is_capped: bool
    looked_at: int = LOOKED_AT


class Place(NamedTuple):
    """A passage, its rank (the more, the better), and what it was measured as; None if it was only listed."""

    entity_row: int
    ordinal: int
    rank: float
    measured: Candidate | None


def order(question: Question, candidates: Sequence[Candidate]) -> list[Place]:
    """The candidates as places, best first. A chunk that holds a word which hardly any other has stands for its entity,
    though another one ranks higher."""
    first: dict[Any, Candidate] = {}
    for one in sorted(candidates, key=lambda one: (not one.lonely, *_by_rank(one))):
        first.setdefault(key_of(question, one.entity_row, one.ordinal), one)
    return [Place(one.entity_row, one.ordinal, one.rank, one) for one in sorted(first.values(), key=_by_rank)]


def key_of(question: Question, entity_row: int, ordinal: int) -> int | tuple[int, int]:
    """What occurs once among the places."""
    return entity_row if question.by_entity else (entity_row, ordinal)


def look_closer(question: Question, places: Sequence[Place]) -> list[Place]:
    """The places in their final order. The text of the first ``looked_at`` is read. A word that few chunks hold secures
    them a place among the first."""
    looked = [(place, place.measured) for place in places[: question.looked_at] if place.measured is not None]
    ordered = list(places)
    if looked and question.strategy != "semantic":
        read = sql.read_candidates(
            question.session, question.seen, [(place.entity_row, place.ordinal) for place, _ in looked]
        )
        flat = [passages.flatten(f"{one.heading}\n{one.text}") for one in read]
        near = _nearness(question, flat, [one.heading + one.text for one in read])
        close = _feed_back(question, [one.vector for one in read], [one.closeness for _, one in looked])
        again = [
            place._replace(
                rank=_cover(one.coverage + NEAR_WEIGHT * beside)
                + one.bonus
                + sql.VERBATIM_BONUS * (2 if one.verbatim and _is_literal(question, text) else one.verbatim)
                + question.measure.trust * closeness
            )
            for (place, one), text, beside, closeness in zip(looked, flat, near, close, strict=True)
        ]
        ordered[: len(again)] = sorted(again, key=_by_rank)
    secured = [place for place in ordered[SECURED:] if place.measured and place.measured.lonely][: SECURED // 2]
    if not secured:
        return ordered
    others = [place for place in ordered if place not in secured]
    first = SECURED - len(secured)
    return [*others[:first], *secured, *others[first:]]


def scores(question: Question, places: Sequence[Place]) -> list[float]:
    """The scores of these places, the first ones of all. They do not increase from place to place."""
    found: list[float] = []
    least, listed = 1.0, 0
    for place in places:
        if place.measured is not None:
            least = min(least, _score(question, place.measured))
            found.append(least)
        else:
            listed += 1
            found.append(least * WEAKER / (WEAKER + listed))
    return found


def _by_rank(one: Place | Candidate) -> tuple[float, int, int]:
    return -one.rank, one.entity_row, one.ordinal


def _cover(coverage: float) -> float:
    return 2 * coverage / (1 + coverage)


def _score(question: Question, one: Candidate) -> float:
    held = one.held / question.asked.unit
    covered = one.coverage * held / (held + ENOUGH)
    close = one.closeness if question.strategy == "semantic" else CLOSENESS_WEIGHT * one.closeness
    half, steepness = HALVES[question.strategy if question.measure.vector is not None else "keyword"]
    certain = IDENTIFIER_CERTAINTY * one.bonus / terms.IDENTIFIER_BONUS
    is_verbatim = one.verbatim > 1 or (one.verbatim and len(question.asked.known) > 1)
    certain += VERBATIM_CERTAINTY if question.is_quoted or is_verbatim else 0.0
    score = 1 / (1 + math.exp(-min(max(steepness * (covered + close + certain - half), -30.0), 30.0)))
    lacks_identifier = question.asked.exact > 0 and not one.exact
    return min(score, WITHOUT_IDENTIFIER) if lacks_identifier or question.is_capped else score


def _is_literal(question: Question, flat: str) -> bool:
    pattern = question.seeker.verbatim
    return pattern is not None and pattern.search(flat) is not None


def _nearness(question: Question, flat: Sequence[str], texts: Sequence[str]) -> list[float]:
    """How much of the query stands together in each text, in the unit of coverage."""
    known, mean = question.asked.known, question.measure.mean_bytes
    found = question.seeker.find(flat)
    return [
        passages.proximity(spans, question.seeker.order, known, len(text.encode()) / mean) / question.measure.total
        for spans, text in zip(found, texts, strict=True)
    ]


def _feed_back(question: Question, vectors: Sequence[Vectors | None], closeness: Sequence[float]) -> Sequence[float]:
    """How close each is to a query that has moved toward the best of them."""
    asked = question.measure.vector
    best = [vector for vector in vectors[:FEEDBACK] if vector is not None]
    if asked is None or not best:
        return closeness
    moved = asked + FEEDBACK_WEIGHT * np.mean(best, axis=0)
    moved = moved / np.linalg.norm(moved)
    nothing = np.zeros_like(asked)
    close = np.stack([nothing if vector is None else vector for vector in vectors]) @ moved
    found: list[float] = np.nan_to_num(close).tolist()
    return found
