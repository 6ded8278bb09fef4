"""What grows, and how fast: files in one folder, entities in one connection, connections, and clients that search."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from airweave_server import wire
from airweave_server.client import fill

from . import corpus, processes
from .corpus import queries_of
from .lab import Lab
from .report import Table, number, percentile
from .server import Server, Unfit, serving

FEW = 2_000
FILES, ENTITIES, CONNECTIONS, CLIENTS = 300_000, 1_000_000, 1_000, 64
FEW_CONNECTIONS, FILES_EACH = 20, 2
QUICK = 2  # what is many in a quick run: so many times the few
PROBE_S = 0.25  # between two looks at /health
SAMPLE_S = 2.0
SEARCHES_EACH = 20
NO_INDEX = "1000000000"  # chunks: building the vector index of a million takes longer than all else here
HEALTH_S = 60.0
POLL_S = 0.5
JOBS_S = 3_600.0
COLLECTION = "bench"
COLUMNS = (
    "what",
    "initial s",
    "unchanged s",
    "start s",
    "peak MB, our processes",
    "peak MB, Postgres",
    "/health p95 ms",
    "/health most ms",
    "bounded by",
)


@dataclass(slots=True)
class Figures:
    """The figures of one size."""

    initial_s: float
    unchanged_s: float
    start_s: float
    memory: processes.Memory
    health_ms: Sequence[float]

    def cells(self) -> list[str]:
        return [
            number(self.initial_s, 1),
            number(self.unchanged_s, 2),
            number(self.start_s, 1),
            number(self.memory.server, 0),
            number(self.memory.postgres, 0),
            number(percentile(self.health_ms, 95), 0),
            number(max(self.health_ms), 0),
        ]


@dataclass(slots=True)
class Watch:
    """What was seen from outside during a block."""

    memory: processes.Memory = field(default_factory=processes.Memory)
    health_ms: list[float] = field(default_factory=list)


def run(lab: Lab) -> list[Table]:
    sizes = Table("9. Growth", COLUMNS)
    lists = Table(
        "9a. Requests at many connections",
        ("connections", "GET /source-connections?limit=1000, median ms", "/metrics, median ms", "/metrics kB"),
    )
    clients = Table(
        "9b. Clients that search at once", ("clients", "searches/s", "p50 ms", "p95 ms", "turned away", "bounded by")
    )
    _grow(
        sizes,
        "files in one folder",
        (FEW, _many(lab, FILES, FEW)),
        lambda count: _files(lab, count, folders=1),
        "the same work a file; the names of one folder are held at once",
    )
    _grow(
        sizes,
        "entities in one connection",
        (FEW, _many(lab, ENTITIES, FEW)),
        lambda count: _files(lab, count, folders=max(1, count // 1_000)),
        "the same work an entity; bitmaps of the ledger's rows",
    )
    _grow(
        sizes,
        f"connections of {FILES_EACH} files",
        (FEW_CONNECTIONS, _many(lab, CONNECTIONS, FEW_CONNECTIONS)),
        lambda count: _connections(lab, count, lists),
        "some ms of transactions a job, and JOB_THREADS jobs at once",
    )
    _search(lab, clients)
    sizes.notes.append(
        f"One run each. Memory is sampled every {SAMPLE_S:g} s or slower, and /health is asked every {PROBE_S:g} s, "
        "in the timed runs, initial and unchanged. No vector index is built here: the benchmark `million` does. The "
        "start is that of a server on this data, until it is ready."
    )
    return [sizes, lists, clients]


def _many(lab: Lab, many: int, few: int) -> int:
    return QUICK * few if lab.quick else many


def _grow(table: Table, what: str, counts: Sequence[int], measure: Callable[[int], Figures], bound: str) -> None:
    """Add a row a size, and one that compares the largest with the smallest."""
    found = [measure(count) for count in counts]
    for count, figures in zip(counts, found, strict=True):
        table.add(f"{count:,} {what}", *figures.cells(), bound)
    few, many = found[0], found[-1]
    table.add(
        f"{counts[-1] / counts[0]:,.0f} times as many",
        *(
            f"x {number(more / max(less, 1e-9), 1)}"
            for more, less in (
                (many.initial_s, few.initial_s),
                (many.unchanged_s, few.unchanged_s),
                (many.start_s, few.start_s),
                (many.memory.server, few.memory.server),
                (many.memory.postgres, few.memory.postgres),
                (percentile(many.health_ms, 95), percentile(few.health_ms, 95)),
                (max(many.health_ms), max(few.health_ms)),
            )
        ),
        "",
    )


def _files(lab: Lab, count: int, *, folders: int) -> Figures:
    folder = lab.place / f"growth-{count}-{folders}"
    corpus.tiny(folder, count, folders=folders)
    lab.say(f"{count:,} files in {folders:,} folders")
    with serving(lab.place, VECTOR_INDEX_CHUNKS=NO_INDEX) as server:
        connection = server.connect(COLLECTION, folder)
        with _watched(server) as watch:
            first = server.sync(connection, inserted=count)
            server.wait_for_index()
            same = server.sync(connection, kept=count)
        return Figures(first.wall_s, same.wall_s, server.restart(), watch.memory, watch.health_ms)


def _connections(lab: Lab, count: int, lists: Table) -> Figures:
    lab.say(f"{count:,} connections")
    place = lab.place / f"growth-connections-{count}"
    corpus.tiny(place, count * FILES_EACH, folders=count)
    with serving(lab.place) as server:
        for folder in sorted(place.iterdir()):
            server.connect(COLLECTION, folder)
        with _watched(server) as watch:
            first_s = _refresh(server, count)
            same_s = _refresh(server, count)
        with httpx.Client(base_url=str(server.client.url), timeout=HEALTH_S) as http:
            listed_ms = [_asked_ms(http, "/source-connections?limit=1000") for _ in range(SEARCHES_EACH)]
            scraped_ms = [_asked_ms(http, "/metrics") for _ in range(SEARCHES_EACH)]
        lists.add(
            f"{count:,}",
            number(statistics.median(listed_ms)),
            number(statistics.median(scraped_ms)),
            number(len(server.client.metrics().encode()) / 1_000),
        )
        return Figures(first_s, same_s, server.restart(), watch.memory, watch.health_ms)


def _refresh(server: Server, count: int) -> float:
    """Sync every connection of the collection. Returns the seconds until no job is active. Raises ``Unfit`` if a job
    did not complete."""
    began_at = time.perf_counter()
    jobs = server.client.refresh_all(COLLECTION)
    if len(jobs) != count:
        raise Unfit(f"{count} connections are there, {len(jobs)} jobs were started")
    with server.database() as database:
        while True:
            rows = database.execute("select status, count(*) from sync_job group by 1").fetchall()
            by_status = {str(status): int(jobs) for status, jobs in rows}
            if not by_status.keys() - {"completed"}:
                return time.perf_counter() - began_at
            if by_status.keys() & {"failed", "cancelled"} or time.perf_counter() - began_at > JOBS_S:
                raise Unfit(f"of {count} jobs not all completed: {by_status}")
            time.sleep(POLL_S)


def _search(lab: Lab, table: Table) -> None:
    folder = lab.place / "growth-search"
    files = lab.corpus.copy(folder, lab.usual)
    with serving(lab.place) as server:
        server.sync(server.connect(COLLECTION, folder))
        server.wait_for_index()
        server.vacuum()
        for query in queries_of(files, SEARCHES_EACH, seed=8):
            server.search(COLLECTION, query)
        for count in (1, CLIENTS):
            lab.say(f"{count} clients that search")
            queries = queries_of(files, SEARCHES_EACH * count)
            with ThreadPoolExecutor(count) as threads:
                began_at = time.perf_counter()
                found = list(threads.map(lambda part: _ask(server, part), _dealt(queries, count)))
                spent_s = time.perf_counter() - began_at
            times_ms = [one for times, _ in found for one in times]
            table.add(
                str(count),
                number(len(times_ms) / spent_s),
                number(percentile(times_ms, 50)),
                number(percentile(times_ms, 95)),
                str(sum(refused for _, refused in found)),
                "two cores, which the clients share" if count > 1 else "the steps of one search, one after the other",
            )
    table.notes.append(
        f"{lab.usual:,} documents, hybrid, limit 10, {SEARCHES_EACH} queries a client. A request that is turned away "
        "(503) is sent again after its Retry-After; its time counts from the first try."
    )


def _ask(server: Server, queries: Sequence[str]) -> tuple[list[float], int]:
    """Search as one client does. Returns milliseconds, and how many requests were turned away."""
    times_ms, refused = [], 0
    with httpx.Client(base_url=str(server.client.url), timeout=HEALTH_S) as http:
        for query in queries:
            body = fill(wire.SearchRequest, query=query, limit=10).model_dump(mode="json", exclude_unset=True)
            began_at = time.perf_counter()
            while True:
                answer = http.post(f"/collections/{COLLECTION}/search/instant", json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    break
                refused += 1
                time.sleep(float(answer.headers["Retry-After"]))
            times_ms.append((time.perf_counter() - began_at) * 1000)
            if answer.status_code != httpx.codes.OK:
                raise Unfit(f"a search beside others was answered {answer.status_code}")
    return times_ms, refused


def _dealt(queries: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(queries), len(queries) // count):
        yield queries[start : start + len(queries) // count]


def _asked_ms(http: httpx.Client, path: str) -> float:
    began_at = time.perf_counter()
    http.get(path).raise_for_status()
    return (time.perf_counter() - began_at) * 1000


@contextmanager
def _watched(server: Server) -> Iterator[Watch]:
    """Ask /health and sample memory during this block."""
    watch, done = Watch(), threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=str(server.client.url), timeout=HEALTH_S) as http:
            while not done.wait(PROBE_S):
                watch.health_ms.append(_asked_ms(http, "/health"))

    prober = threading.Thread(target=probe, name="health", daemon=True)
    with processes.sampled(server.pid, every_s=SAMPLE_S) as watch.memory:
        prober.start()
        try:
            yield watch
        finally:
            done.set()
            prober.join()
