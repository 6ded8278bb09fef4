"""Latency of searches through HTTP, one at a time."""

import random
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airweave_server.embedders.local import WordLlama

from .corpus import mtime
from .lab import Lab
from .report import Table, number, percentile
from .server import Server, Unfit, serving

QUERIES, QUERIES_WHOLE, QUERIES_QUICK = 200, 100, 20
WARM_UP = 10
COLLECTION = "bench"
LIMITS = (10, 100)
KEPT_BY_FILTER = 0.1
BOUNDS = {
    "hybrid": "the sum of the two",
    "keyword": "counting each word, then BM25 over at most 1,000 chunks",
    "semantic": "the exact scan over all vectors of the collection, in one backend and its helpers",
}


def run(lab: Lab) -> list[Table]:
    table = Table("4. Search", (
        "documents", "chunks", "strategy", "limit", "filter", "p50 ms", "p95 ms", "mean hits", "bounded by",
    ))  # fmt: skip
    for count in lab.sizes():
        folder = lab.place / f"search-{count}"
        files = lab.corpus.copy(folder, count)
        lab.say(f"search over {count:,} documents")
        with serving(lab.place) as server:
            connection = server.connect(COLLECTION, folder)
            server.sync(connection)
            _one_size(lab, server, files, f"{server.chunks(connection):,}", table)
            table.notes.append(f"{count:,} documents: indexes are {server.indexes()}.")
    table.notes.append(
        "One client on the same cores, one request at a time over a kept connection, timed by the client; queries are "
        "half 4 random words of a random document, half 8 words of it in their order. The filter keeps the documents "
        f"with updated_at in the last {KEPT_BY_FILTER:.0%}."
    )
    return [table]


def _one_size(lab: Lab, server: Server, files: Sequence[Path], chunks: str, table: Table) -> None:
    count = QUERIES_QUICK if lab.quick else QUERIES if len(files) == lab.usual else QUERIES_WHOLE
    queries = _queries(files, count)
    since = datetime.fromtimestamp(mtime(round(len(files) * (1 - KEPT_BY_FILTER))), UTC).isoformat()
    condition = {"field": "updated_at", "operator": "greater_than_or_equal", "value": since}
    for strategy, bound in BOUNDS.items():
        for limit in LIMITS:
            for filtered in (False, True):
                body: dict[str, Any] = {"retrieval_strategy": strategy, "limit": limit}
                if filtered:
                    body["filter"] = [{"conditions": [condition]}]
                for query in queries[:WARM_UP]:
                    server.search(COLLECTION, query, **body)
                times_ms, hits = _timed(server, queries, body)
                if not hits:
                    raise Unfit(f"{count} {strategy} searches found nothing at all")
                table.add(
                    f"{len(files):,}", chunks, strategy, str(limit), "yes" if filtered else "no",
                    number(percentile(times_ms, 50)), number(percentile(times_ms, 95)), number(hits / count), bound,
                )  # fmt: skip
    _write_limits(server, queries, f"{len(files):,}", chunks, table)


def _timed(server: Server, queries: Sequence[str], body: dict[str, Any]) -> tuple[list[float], int]:
    times_ms, hits = [], 0
    for query in queries:
        began_at = time.perf_counter()
        found = server.search(COLLECTION, query, **body)
        times_ms.append((time.perf_counter() - began_at) * 1000)
        hits += len(found)
    return times_ms, hits


def _write_limits(server: Server, queries: Sequence[str], documents: str, chunks: str, table: Table) -> None:
    embedder = WordLlama()
    embedder.embed(["the weights are loaded at the first use"])
    asked, embedded = [], []
    for query in queries:
        began_at = time.perf_counter()
        server.client.get("/health/ready")
        asked.append((time.perf_counter() - began_at) * 1000)
        began_at = time.perf_counter()
        embedder.embed([query])
        embedded.append((time.perf_counter() - began_at) * 1000)
    for what, times_ms in (("a request with one trivial SQL", asked), ("embedding the query", embedded)):
        table.add(
            documents, chunks, f"limit: {what}", "-", "-", number(percentile(times_ms, 50), 2),
            number(percentile(times_ms, 95), 2), "-", "-",
        )  # fmt: skip


def _queries(files: Sequence[Path], count: int) -> list[str]:
    chance = random.Random(7)
    queries: list[str] = []
    while len(queries) < count:
        words = re.findall(r"[A-Za-z]{3,}", chance.choice(files).read_text(encoding="utf-8"))
        if len(words) < 20:
            continue
        if len(queries) % 2:
            start = chance.randrange(len(words) - 8)
            queries.append(" ".join(words[start : start + 8]))
        else:
            queries.append(" ".join(chance.sample(words, 4)))
    return queries
