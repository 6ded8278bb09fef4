"""The tiers by rules alone: instant beside classic, on labelled collections."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airweave_server import wire
from airweave_server.client import fill
from airweave_server.search.measures import ndcg, paired_bootstrap

from . import labelled, made
from .lab import Lab
from .labelled import Labelled
from .quality import DEPTH
from .report import Table, number
from .server import Server, serving

EMBEDDERS = ("wordllama",)


@dataclass(frozen=True, slots=True)
class Asked:
    """Of each query, its nDCG; how many have a right hit among the first, and how long they took."""

    gains: Sequence[float]
    answered: int
    median_ms: float


def run(lab: Lab) -> list[Table]:
    table = Table(
        f"Search tiers by rules: nDCG@{DEPTH}",
        (
            "collection",
            "embedder",
            "instant",
            "classic",
            "difference (95 %)",
            f"with a right hit among the first {DEPTH}: instant",
            "classic",
            "median ms: instant",
            "classic",
        ),
    )
    sets = [*labelled.load(quick=lab.quick), *made.load(quick=lab.quick)]
    for one in sets:
        one.write(lab.place / f"tiers-{one.name}")
    for embedder in EMBEDDERS:
        with serving(lab.place, EMBEDDER=embedder) as server:
            lab.say(f"indexing {', '.join(one.name for one in sets)} with {embedder}")
            for one in sets:
                server.sync(server.connect(one.name, lab.place / f"tiers-{one.name}"))
            server.wait_for_index()
            for one in sets:
                instant, classic = (_ask(server, one, tier) for tier in ("instant", "classic"))
                found = paired_bootstrap(classic.gains, instant.gains)
                table.add(
                    one.name,
                    embedder,
                    number(statistics.mean(instant.gains), 4),
                    number(statistics.mean(classic.gains), 4),
                    f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})",
                    f"{instant.answered} of {len(one.queries)}",
                    f"{classic.answered} of {len(one.queries)}",
                    number(instant.median_ms),
                    number(classic.median_ms),
                )
    table.notes.append(
        "The rules were set on cranfield and on the collections that are made here (summaries, headings, constraints). "
        "CACM was only judged on. Differences are those of the means, with the interval of a paired bootstrap."
    )
    return [table]


def _ask(server: Server, one: Labelled, tier: str) -> Asked:
    ask = server.client.classic if tier == "classic" else server.client.answer
    gains, took_ms, answered = [], [], 0
    for query, grades in zip(one.queries, one.grades, strict=True):
        began_at = time.perf_counter()
        hits = ask(one.name, fill(wire.SearchRequest, query=query, limit=DEPTH)).results
        took_ms.append((time.perf_counter() - began_at) * 1_000)
        found = [Path(hit.airweave_system_metadata.original_entity_id).stem for hit in hits]
        gains.append(ndcg(found, grades, DEPTH))
        answered += any(grades.get(name, 0.0) > 0 for name in found)
    return Asked(gains, answered, statistics.median(took_ms))
