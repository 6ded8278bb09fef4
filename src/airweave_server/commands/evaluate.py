"""``airweave-server evaluate``: how well a running server answers a person's own golden queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn

from .. import wire
from ..client import Client, fill
from ..errors import ClientError
from ..search.measures import Interval, ndcg, paired_bootstrap, recall, reciprocal_rank
from .common import Words, inline, out, read_settings, say, show, show_json, show_table
from .golden import Golden, fits, name_hits, read

MOST_SHOWN = 20  # losses of each kind; --json has all
QUERY_CHARS = 240
IDS_SHOWN = 3  # right ids of a loss
MOST_LISTED = 50_000  # entities of a collection that are listed to find right ids that it does not have

app = typer.Typer(rich_markup_mode=None)


class Strategy(StrEnum):
    HYBRID = "hybrid"
    KEYWORD = "keyword"
    SEMANTIC = "semantic"


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a search found, and how good that is. ``names``: the ids that were found, each by the right id it fits.
    ``is_doubted``: search said that nothing relevant was found."""

    found: Sequence[str]
    names: Sequence[str]
    ndcg: float
    recall: float
    reciprocal_rank: float
    first_is_right: bool
    is_doubted: bool

    def rank(self, right: str) -> int | None:
        return self.names.index(right) + 1 if right in self.names else None


@dataclass(frozen=True, slots=True)
class Side:
    """A collection and a strategy, and what they found for each query."""

    collection: wire.Collection
    strategy: Strategy
    rankings: Sequence[Ranking]

    @property
    def label(self) -> str:
        return f"{self.strategy.value} in {self.collection.readable_id} ({self.collection.embedding_model_name})"

    def mean(self, measure: str) -> float:
        return sum(float(getattr(one, measure)) for one in self.rankings) / len(self.rankings)

    def first_right(self) -> int:
        return sum(one.first_is_right for one in self.rankings)

    def without_hit(self) -> int:
        return sum(not one.found for one in self.rankings)

    def doubted(self) -> int:
        return sum(one.is_doubted for one in self.rankings)


@dataclass(frozen=True, slots=True)
class Loss:
    """A query whose first hit is wrong, or that is worse than on the other side."""

    golden: Golden
    ranking: Ranking
    other: Ranking | None

    @property
    def is_worse(self) -> bool:
        return self.other is not None and self.ranking.ndcg < self.other.ndcg

    @property
    def is_loss(self) -> bool:
        return self.is_worse or not self.ranking.first_is_right

    @property
    def gain(self) -> float:
        return self.ranking.ndcg - (self.other.ndcg if self.other is not None else 0.0)

    def right(self) -> list[tuple[str, float]]:
        """The right ids with their grades, in the order in which either side found them, and then by grade."""

        def place(pair: tuple[str, float]) -> tuple[float, float]:
            rankings = [one for one in (self.ranking, self.other) if one is not None]
            return min(one.rank(pair[0]) or math.inf for one in rankings), -pair[1]

        return sorted((pair for pair in self.golden.grades.items() if pair[1]), key=place)


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="Golden queries: JSON Lines, or a table in .csv or .tsv.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection's readable id.")] = "default",
    strategy: Annotated[Strategy, typer.Option(help="How to search.")] = Strategy.HYBRID,
    against: Annotated[Strategy | None, typer.Option(help="Compare with this strategy.")] = None,
    against_collection: Annotated[
        str | None, typer.Option(help="Compare with this collection, which may have another embedder.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The number of results that count.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with all losses.")] = False,
) -> None:
    """Measure how well search answers your own queries, and show those that it does not. A line of FILE is
    {"query": "how long is a lease", "right": ["dhcp.md"]}."""
    queries = read(file)
    sides = [(collection, strategy)]
    if against is not None or against_collection is not None:
        sides.append((against_collection or collection, against or strategy))
        if sides[0] == sides[1]:
            raise ClientError("both sides are the same: name another strategy or another collection")
    with Client.from_settings(read_settings()) as client:
        known = [client.collection(readable_id) for readable_id, _ in sides]
        found = [
            Side(one, how, _search(client, one.readable_id, how, queries, limit))
            for one, (_, how) in zip(known, sides, strict=True)
        ]
        absent = {side.collection.readable_id: _absent(client, side, queries) for side in found}
    losses = _losses(queries, found)
    if as_json:
        show_json(_describe(queries, found, losses, absent, limit))
        return
    _show_figures(queries, found, limit)
    for readable_id, missing in absent.items():
        if missing:
            some = ", ".join(f"{right} (line {one.line})" for one, right in missing[:IDS_SHOWN])
            more = "" if len(missing) <= IDS_SHOWN else f", and {len(missing) - IDS_SHOWN:,} more"
            say(f"Not indexed in {readable_id}, so no search can find them: {some}{more}")
    _show_losses(losses, found, limit)


def _search(
    client: Client, collection: str, strategy: Strategy, queries: Sequence[Golden], limit: int
) -> list[Ranking]:
    columns = (SpinnerColumn(), Words("{task.description}"), BarColumn(), MofNCompleteColumn())
    rankings = []
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task(f"{strategy.value} in {collection}", total=len(queries))
        for golden in queries:
            body = fill(wire.SearchRequest, query=golden.query, limit=limit, retrieval_strategy=strategy.value)
            rankings.append(_rank(client.answer(collection, body), golden, limit))
            progress.advance(bar)
    return rankings


def _rank(answer: wire.SearchResponse, golden: Golden, limit: int) -> Ranking:
    found = [hit.airweave_system_metadata.original_entity_id for hit in answer.results]
    names = name_hits(found, golden.grades)
    return Ranking(
        found,
        names,
        ndcg(names, golden.grades, limit),
        recall(names, golden.grades, limit),
        reciprocal_rank(names, golden.grades, limit),
        first_is_right=bool(names) and golden.grades.get(names[0], 0.0) > 0,
        is_doubted=answer.nothing_relevant,
    )


def _absent(client: Client, side: Side, queries: Sequence[Golden]) -> list[tuple[Golden, str]]:
    """The right ids that the collection does not have, as far as it is small enough to be listed."""
    lost = [
        (golden, right)
        for golden, ranking in zip(queries, side.rankings, strict=True)
        for right, grade in golden.grades.items()
        if grade and ranking.rank(right) is None
    ]
    connections = client.connections(side.collection.readable_id)
    if not lost or sum(one.entity_count for one in connections) > MOST_LISTED:
        return []
    every = {entry.entity_id for one in connections for entry in client.entities(one.id, "indexed")}
    return [(golden, right) for golden, right in lost if not any(fits(right, one) for one in _near(right, every))]


def _near(right: str, every: set[str]) -> set[str]:
    """The ids that the right one may fit."""
    return every if "*" in right else {right} & every


def _losses(queries: Sequence[Golden], sides: Sequence[Side]) -> list[Loss]:
    """The losses of the first side, the greatest first."""
    others: Sequence[Ranking | None] = sides[1].rankings if len(sides) > 1 else [None] * len(queries)
    every = [Loss(*one) for one in zip(queries, sides[0].rankings, others, strict=True)]
    return sorted((one for one in every if one.is_loss), key=lambda one: (not one.is_worse, one.gain))


def _differences(sides: Sequence[Side]) -> dict[str, Interval]:
    if len(sides) < 2:
        return {}
    one, other = (side.rankings for side in sides)
    return {
        measure: paired_bootstrap([getattr(r, measure) for r in one], [getattr(r, measure) for r in other])
        for measure in ("ndcg", "recall")
    }


def _show_figures(queries: Sequence[Golden], sides: Sequence[Side], limit: int) -> None:
    count = len(queries)
    say(f"{count:,} {'query' if count == 1 else 'queries'}")
    show_table(
        (
            "",
            f"nDCG@{limit}",
            f"recall@{limit}",
            "reciprocal rank",
            "first is right",
            "without a hit",
            "said irrelevant",
        ),
        (
            (
                side.label,
                *(f"{side.mean(measure):.3f}" for measure in ("ndcg", "recall", "reciprocal_rank")),
                f"{side.first_right():,}",
                f"{side.without_hit():,}",
                f"{side.doubted():,}",
            )
            for side in sides
        ),
    )
    for measure, found in _differences(sides).items():
        name = {"ndcg": f"nDCG@{limit}", "recall": f"recall@{limit}"}[measure]
        chance = "" if found.is_certain else "; this may be chance"
        say(f"{name}: {found.mean:+.3f} (95 % between {found.low:+.3f} and {found.high:+.3f}{chance})")


def _show_losses(losses: Sequence[Loss], sides: Sequence[Side], limit: int) -> None:
    worse = [one for one in losses if one.is_worse]
    wrong = [one for one in losses if not one.is_worse]
    for title, some in (
        (f"Worse than {sides[-1].label}", worse),
        ("The first hit is wrong" + (", but no worse" if len(sides) > 1 else ""), wrong),
    ):
        if not some:
            continue
        say("")
        show(f"[bold]{inline(title)}: {len(some):,}[/]")
        for loss in some[:MOST_SHOWN]:
            say(f"line {loss.golden.line}: {_shortened(loss.golden.query)}")
            for right, _ in loss.right()[:IDS_SHOWN]:
                say(f"   {right} is {_place(loss.ranking, right, limit)}{_beside(loss.other, right, limit)}")
            if len(loss.right()) > IDS_SHOWN:
                say(f"   and {len(loss.right()) - IDS_SHOWN:,} more right ids")
            if not loss.ranking.first_is_right:
                doubt = ", and search says that nothing is relevant" if loss.ranking.is_doubted else ""
                say(f"   first is {loss.ranking.found[0]}{doubt}" if loss.ranking.found else "   nothing was found")
        if len(some) > MOST_SHOWN:
            say(f"and {len(some) - MOST_SHOWN:,} more; --json has all")


def _shortened(query: str) -> str:
    return query if len(query) <= QUERY_CHARS else query[: QUERY_CHARS - 1] + "…"


def _place(ranking: Ranking, right: str, limit: int) -> str:
    rank = ranking.rank(right)
    return f"not in the first {limit}" if rank is None else f"at place {rank}"


def _beside(other: Ranking | None, right: str, limit: int) -> str:
    return "" if other is None else f", there {_place(other, right, limit)}"


def _describe(
    queries: Sequence[Golden],
    sides: Sequence[Side],
    losses: Sequence[Loss],
    absent: dict[str, list[tuple[Golden, str]]],
    limit: int,
) -> dict[str, Any]:
    return {
        "queries": len(queries),
        "limit": limit,
        "sides": [
            {
                "collection": side.collection.readable_id,
                "embedder": side.collection.embedding_model_name,
                "strategy": side.strategy.value,
                "ndcg": side.mean("ndcg"),
                "recall": side.mean("recall"),
                "reciprocal_rank": side.mean("reciprocal_rank"),
                "first_is_right": side.first_right(),
                "without_hit": side.without_hit(),
                "nothing_relevant": side.doubted(),
            }
            for side in sides
        ],
        "differences": {
            measure: {"mean": found.mean, "low": found.low, "high": found.high}
            for measure, found in _differences(sides).items()
        },
        "absent": [
            {"collection": readable_id, "line": golden.line, "right": right}
            for readable_id, missing in absent.items()
            for golden, right in missing
        ],
        "losses": [_describe_loss(one) for one in losses],
    }


def _describe_loss(loss: Loss) -> dict[str, Any]:
    rankings = [one for one in (loss.ranking, loss.other) if one is not None]
    return {
        "line": loss.golden.line,
        "query": loss.golden.query,
        "is_worse": loss.is_worse,
        "ndcg": [one.ndcg for one in rankings],
        "first": [next(iter(one.found), None) for one in rankings],
        "nothing_relevant": [one.is_doubted for one in rankings],
        "right": [
            {"id": right, "grade": grade, "ranks": [one.rank(right) for one in rankings]}
            for right, grade in loss.right()
        ],
    }
