"""Searches beside other work: while a sync rewrites documents, and beside other clients."""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from . import corpus, processes
from .corpus import queries_of
from .lab import Lab
from .report import Table, number, percentile
from .server import Server, Unfit, serving

COLLECTION = "bench"
SIZES = (6_000, 60_000)  # chunks
CHUNK_BYTES = 1_330  # of a document for each chunk: the mean of the corpus
SEARCHES, SEARCHES_QUICK = 1_000, 60  # by each strategy
STRATEGIES = ("hybrid", "keyword")
MARKED, PLAIN_MARKS = 24, 6
MOST_SYNCS = 500
LIMIT = 10
MISSES_SHOWN = 3
CLIENTS = (1, 4, 16, 64)
MANY_S, MANY_QUICK_S, WARM_UP_S = 15.0, 1.5, 2.0
QUERIES = 2_000
ANSWER_S = 60.0


@dataclass(slots=True)
class Beside:
    """What searches by one strategy found during syncs."""

    times_ms: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    not_first: int = 0


@dataclass(slots=True)
class Load:
    """What the searches of all clients took until the deadline. ``failures``: how often each kind of answer came that
    is no result."""

    times_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def run(lab: Lab) -> list[Table]:
    syncing, many = while_syncing_table("4c. Search while a sync runs"), _many_table()
    sizes = SIZES[:1] if lab.quick else SIZES
    for size in sizes:
        folder = lab.place / f"busy-{size}"
        files = lab.corpus.copy(folder, lab.usual if lab.quick else _documents_for(lab, size))
        where = plant(files)
        lab.say(f"search over {len(files):,} documents while a sync runs")
        with serving(lab.place) as server:
            connection = server.connect(COLLECTION, folder)
            server.sync(connection)
            server.wait_for_index()
            server.vacuum()
            if size == sizes[-1]:
                _many(lab, server, files, f"{server.chunks(connection):,}", many)
            beside_syncs(lab, server, connection, files, where, syncing, rewritten=files)
    syncing.notes.append("Each sync finds every document changed.")
    syncing.notes.append(HOW)
    return [syncing, many]


HOW = (
    f"One client searches by both strategies in turn, limit {LIMIT}, until each sync ends, and another sync begins "
    f"until there were enough searches. {MARKED} documents hold a mark that no other has: identifiers of several "
    "shapes and plain words. A third of the searches is for a mark alone, the others are for a mark and words of a "
    "random document. *Missed*: the document with the mark is not among the hits. *Not first*: it is, behind others."
)


def while_syncing_table(title: str) -> Table:
    return Table(
        title,
        ("chunks", "strategy", "searches", "p50 ms", "p95 ms", "missed", "not first", "bounded by"),
    )


def plant(files: Sequence[Path]) -> dict[str, Path]:
    """Write the marks into documents of their own, and return where each is."""
    return corpus.plant(files, [*corpus.identifiers(MARKED - PLAIN_MARKS), *corpus.plain_words(PLAIN_MARKS)])


def beside_syncs(
    lab: Lab,
    server: Server,
    connection: str,
    files: Sequence[Path],
    where: Mapping[str, Path],
    table: Table,
    *,
    rewritten: Sequence[Path],
    chunks: str | None = None,
) -> None:
    """Search for the marks while syncs read ``rewritten``, which is changed before each. ``chunks``: their number, if
    the ledger does not know it."""
    chunks = chunks or f"{server.chunks(connection):,}"
    wanted = SEARCHES_QUICK if lab.quick else SEARCHES
    asked = _marked_queries(files, where)
    found = {strategy: Beside() for strategy in STRATEGIES}
    for round_of in range(MOST_SYNCS):
        if all(len(one.times_ms) >= wanted for one in found.values()):
            break
        for path in rewritten:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n\nChange {round_of}.\n")
        job = server.client.run(connection)
        while job.status in ("pending", "running"):
            for _ in range(MARKED // 2):
                query, name = next(asked)
                for strategy, one in found.items():
                    _search_marked(server, query, name, strategy, one)
            job = server.client.job(connection, job.id)
        if job.status != "completed" or job.entities_updated + job.entities_skipped < len(rewritten):
            raise Unfit(f"the sync that was to be searched beside {job.status}: {job.error}")
    else:
        raise Unfit(f"{MOST_SYNCS} syncs were too short for {wanted} searches")
    for strategy, one in found.items():
        table.add(
            chunks,
            strategy,
            f"{len(one.times_ms):,}",
            number(percentile(one.times_ms, 50)),
            number(percentile(one.times_ms, 95)),
            str(len(one.missed)),
            str(one.not_first),
            "the sync, which has the other core",
        )
        if one.missed:
            some = ", ".join(f"`{query}`" for query in one.missed[:MISSES_SHOWN])
            table.notes.append(f"Missed by {strategy} in {chunks} chunks: {some}.")


def _documents_for(lab: Lab, chunks: int) -> int:
    """The number of documents that have about this many chunks."""
    sizes = itertools.accumulate(path.stat().st_size for _, path in lab.corpus.files)
    return next((n for n, size in enumerate(sizes, start=1) if size >= chunks * CHUNK_BYTES), lab.whole)


def _marked_queries(files: Sequence[Path], where: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Endless queries, and the name of the document that each must find."""
    words = queries_of(files, 101)  # no multiple of the marks, so that each meets all
    for n, (mark, path) in enumerate(itertools.cycle(where.items())):
        yield (mark if n % 3 == 0 else f"{words[n % len(words)]} {mark}"), path.name


def _search_marked(server: Server, query: str, name: str, strategy: str, seen: Beside) -> None:
    began_at = time.perf_counter()
    hits = server.search(COLLECTION, query, limit=LIMIT, retrieval_strategy=strategy)
    seen.times_ms.append((time.perf_counter() - began_at) * 1000)
    names = [hit.airweave_system_metadata.original_entity_id for hit in hits]
    if name not in names:
        seen.missed.append(query)
    elif names[0] != name:
        seen.not_first += 1


def _many_table() -> Table:
    return Table(
        "4e. Many who search",
        (
            "chunks",
            "clients",
            "searches/s",
            "p50 ms",
            "p99 ms",
            "errors",
            "CPU ms a search: server",
            "Postgres",
            "clients",
            "bounded by",
        ),
    )


def _many(lab: Lab, server: Server, files: Sequence[Path], chunks: str, table: Table) -> None:
    queries = queries_of(files, QUERIES // 10 if lab.quick else QUERIES, seed=29)
    bodies = [json.dumps({"query": query, "limit": LIMIT}).encode() for query in queries]
    _load(server, bodies, 1, MANY_QUICK_S if lab.quick else WARM_UP_S)
    seconds = MANY_QUICK_S if lab.quick else MANY_S
    for clients in CLIENTS:
        lab.say(f"{clients} clients that search")
        random.Random(clients).shuffle(bodies)
        before, own_s, began_at = processes.cpu(server.pid), time.process_time(), time.perf_counter()
        load = _load(server, bodies, clients, seconds)
        spent_s = time.perf_counter() - began_at
        spent, own_s = processes.cpu(server.pid).since(before), time.process_time() - own_s
        count = len(load.times_ms)
        if not count:
            raise Unfit(f"{clients} clients got no answer at all: {dict(load.failures)}")
        table.add(
            chunks,
            str(clients),
            number(count / spent_s),
            number(percentile(load.times_ms, 50)),
            number(percentile(load.times_ms, 99)),
            str(load.failures.total()),
            *(number(seconds_of * 1000 / count) for seconds_of in (spent.server_s, spent.postgres_s, own_s)),
            "two cores, which the clients share" if clients > 1 else "the steps of one search, one after the other",
        )
        if load.failures:
            table.notes.append(f"{clients} clients: {', '.join(f'{n} {kind}' for kind, n in load.failures.items())}.")
    table.notes.append(
        f"Hybrid, limit {LIMIT}. Each client sends one request after another for {seconds:g} s over a kept "
        f"connection; together they cycle through {len(bodies):,} queries, made as in 4. Anything but hits is an "
        "error, also a request that is turned away (503)."
    )


def _load(server: Server, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Search with this many clients at once. The clients parse no answers, so that they take little of the cores."""
    left, load = itertools.cycle(bodies), Load()
    start, lock = threading.Barrier(clients), threading.Lock()

    def ask() -> None:
        times_ms, failures = [], Counter[str]()
        place = urlsplit(server.client.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ANSWER_S)
        start.wait()
        deadline = time.perf_counter() + seconds
        while (began_at := time.perf_counter()) < deadline:
            with lock:
                body = next(left)
            try:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/collections/{COLLECTION}/search/instant", body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                failures[type(error).__name__] += 1
                connection.close()
                continue
            if answer.status == http.client.OK and b'"results":[]' not in text:
                times_ms.append((time.perf_counter() - began_at) * 1000)
                continue
            failures[f"answers {answer.status}"] += 1
            time.sleep(float(answer.headers.get("Retry-After", 0)))
        connection.close()
        with lock:
            load.times_ms += times_ms
            load.failures += failures

    threads = [threading.Thread(target=ask, name=f"client-{n}", daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load
