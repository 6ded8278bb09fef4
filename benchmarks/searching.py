"""The latency of searches through HTTP, one at a time; and, by ``busy``, beside other work."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airweave_server.embedders.local import WordLlama

from . import busy
from .corpus import mtime, queries_of
from .lab import Lab
from .report import Table, number, percentile
from .server import Server, Unfit, serving

QUERIES, QUERIES_WHOLE, QUERIES_QUICK = 200, 100, 20
WARM_UP = 10
COLLECTION = "bench"
LIMITS = (10, 100)
KEPT_BY_FILTER = 0.1
RECALL_AT, RECALL_QUERIES = 10, 100
MILLION, MILLION_MEMORY_MB = 1_000_000, 2_048
HOW = (
    "The tables are vacuumed first, as Postgres does by itself soon, and as many other queries asked. "
    "One client on the same cores, one request at a time over a kept connection, timed by the client; queries are half "
    "4 random words of a random document, half 8 words of it in their order. The filter keeps the documents with "
    f"updated_at in the last {KEPT_BY_FILTER:.0%}."
)
BOUNDS = {
    "hybrid": "the sum of the two",
    "keyword": "reading the chunks that hold the rarest words, then BM25 over some hundred of them",
    "semantic": "the way through the index, wide enough for recall; below 20,000 chunks the scan over all vectors",
}


def run(lab: Lab) -> list[Table]:
    table, recall = _table("4. Search"), _recall_table("4a. Of the nearest vectors, how many search finds")
    for count in lab.sizes():
        folder = lab.place / f"search-{count}"
        files = lab.corpus.copy(folder, count)
        lab.say(f"search over {count:,} documents")
        with serving(lab.place) as server:
            connection = server.connect(COLLECTION, folder)
            server.sync(connection)
            waited_s = server.wait_for_index()
            server.vacuum()
            chunks = f"{server.chunks(connection):,}"
            _one_size(lab, server, files, chunks, table)
            _write_recall(server, queries_of(files, RECALL_QUERIES), chunks, recall)
            table.notes.append(
                f"{count:,} documents: indexes are {server.indexes()}, the last one {waited_s:.1f} s after the job."
            )
    table.notes.append(HOW)
    return [table, recall, *busy.run(lab)]


def run_million(lab: Lab) -> list[Table]:
    """The same on a collection that is filled directly in the database: the whole corpus, and copies in which each
    chunk is composed of two."""
    table, recall = _table("4b. Search over a million chunks"), _recall_table("4d. The same over a million chunks")
    folder = lab.place / "search-million"
    files = lab.corpus.copy(folder, lab.whole)
    copies = lab.place / "search-copies"
    copies.mkdir(mode=0o755)
    beside = busy.while_syncing_table("4f. Search over a million chunks while a sync runs")
    wanted = 5_000 if lab.quick else MILLION
    # no index during the fill: building it row by row takes far longer
    settings = {"VECTOR_INDEX_MEMORY_MB": str(MILLION_MEMORY_MB), "VECTOR_INDEX_CHUNKS": str(wanted // 2)}
    with serving(lab.place, **settings) as server:
        connection = server.connect(COLLECTION, folder)
        server.sync(connection)
        lab.say(f"filling up to {wanted:,} chunks")
        began_at = time.perf_counter()
        _multiply(server, wanted, server.connect(COLLECTION, copies))
        filled_s = time.perf_counter() - began_at
        waited_s = server.wait_for_index()
        server.vacuum()
        with server.database() as database:
            row = database.execute("select sum(chunks) from entity").fetchone()
        assert row is not None
        chunks = f"{int(row[0]):,}"
        _one_size(lab, server, files, chunks, table)
        _write_recall(server, queries_of(files, RECALL_QUERIES), chunks, recall)
        table.notes.append(
            f"Synthetic: rows made by SQL straight into the database in {filled_s:,.0f} s, each of the first half of "
            "one chunk's text, the second half of another's, and the mean of their vectors. The index over vectors was "
            f"built by the keeper in {waited_s:,.0f} s, with VECTOR_INDEX_MEMORY_MB={MILLION_MEMORY_MB}."
        )
        where = busy.plant(files)  # only now: a copied mark would not be the only one
        server.sync(connection)
        marked = list(where.values())
        busy.beside_syncs(lab, server, connection, files, where, beside, rewritten=marked, chunks=chunks)
    table.notes.append(HOW)
    beside.notes.append(f"Each sync finds only the {len(where)} documents changed that hold a mark.")
    beside.notes.append(busy.HOW)
    return [table, recall, beside]


def _table(title: str) -> Table:
    return Table(
        title,
        (
            "documents",
            "chunks",
            "strategy",
            "limit",
            "filter",
            "p50 ms",
            "p95 ms",
            "mean hits",
            "bounded by",
        ),
    )


def _recall_table(title: str) -> Table:
    return Table(title, ("chunks", "recall@10", "queries", "bounded by"))


def _write_recall(server: Server, queries: Sequence[str], chunks: str, table: Table) -> None:
    """Compare semantic search through HTTP with an exact search over all vectors. A result as near as the tenth counts
    as right, since chunks are often identical."""
    embedder, found = WordLlama(), 0
    with server.database() as database:
        for query, vector in zip(queries, embedder.embed(queries), strict=True):
            hits = server.search(COLLECTION, query, limit=RECALL_AT, retrieval_strategy="semantic", group="chunk")
            places = [hit.airweave_system_metadata for hit in hits]
            row = database.execute(
                """
                with asked as (select cast(%(vector)s as halfvec) as vector),
                tenth as (
                    select c.embedding <=> asked.vector as distance from chunk c, asked
                    order by 1 offset %(at)s - 1 limit 1
                )
                select count(*) from unnest(cast(%(ids)s as text[]), cast(%(ordinals)s as bigint[])) as h(id, ordinal)
                join entity e on e.entity_id = h.id
                join chunk c on c.entity_row = e.row and c.ordinal = h.ordinal
                cross join asked cross join tenth where c.embedding <=> asked.vector <= tenth.distance + 1e-6
                """,
                {
                    "vector": str(vector.tolist()),
                    "at": RECALL_AT,
                    "ids": [place.original_entity_id for place in places],
                    "ordinals": [place.chunk_index for place in places],
                },
            ).fetchone()
            assert row is not None
            found += int(row[0])
    has_index = "hnsw" in server.indexes()
    table.add(
        chunks,
        number(found / (RECALL_AT * len(queries)), 3),
        str(len(queries)),
        "how widely the index is searched" if has_index else "nothing: all vectors are compared",
    )


def _multiply(server: Server, wanted: int, connection: str) -> None:
    """Fill the collection up to this many chunks. The copies belong to a connection of their own that is never synced:
    its source does not have them."""
    with server.database() as database:
        database.execute(
            "create temp table one as select row_number() over (order by random()) - 1 as n, entity_row, ordinal "
            "from chunk"
        )
        database.execute("create unique index on pg_temp.one (n)")
        row = database.execute("select count(*) from one").fetchone()
        assert row is not None
        there = int(row[0])
        for copy in range(1, (wanted - 1) // there + 1):
            share = min(1.0, (wanted - copy * there) / there)
            values = {
                "connection": connection,
                "copy": copy,
                "apart": copy * 100_000_000,
                "shift": copy * 7919,
                "all": there,
                "share": share,
            }
            database.execute(
                """
                insert into chunk
                    (entity_row, ordinal, collection_id, connection_id, heading, text, hash, embedding, ident)
                select a.entity_row + %(apart)s, a.ordinal, a.collection_id, cast(%(connection)s as uuid), a.heading,
                       left(a.text, length(a.text) / 2) || ' ' || right(b.text, length(b.text) / 2), a.hash,
                       l2_normalize(a.embedding + b.embedding), a.ident
                from one x join one y on y.n = (x.n + %(shift)s) %% %(all)s
                join chunk a on a.entity_row = x.entity_row and a.ordinal = x.ordinal
                join chunk b on b.entity_row = y.entity_row and b.ordinal = y.ordinal
                join entity e on e.row = a.entity_row
                where hashint8(a.entity_row) %% 1000 between -1000 * %(share)s and 1000 * %(share)s
                """,
                values,
            )
            database.execute(
                """
                insert into entity (row, organization_id, collection_id, connection_id, entity_id, name, type, scope,
                    state, fingerprint, metadata_fingerprint, chunks, truncated, retries_left, missing, breadcrumbs,
                    fields, created_at, updated_at, job_id)
                overriding system value
                select row + %(apart)s, organization_id, collection_id, cast(%(connection)s as uuid),
                    entity_id || '#' || %(copy)s,
                    name, type, scope, state, fingerprint, metadata_fingerprint, chunks, truncated, retries_left,
                    missing, breadcrumbs, fields, created_at, updated_at, job_id
                from entity where row < 100000000 and state = 'indexed'
                  and hashint8(row) %% 1000 between -1000 * %(share)s and 1000 * %(share)s
                """,
                values,
            )
        database.execute("update collection_size set looked_at = '-infinity'")
        database.execute("vacuum analyze chunk")
        database.execute("vacuum analyze entity")


def _one_size(lab: Lab, server: Server, files: Sequence[Path], chunks: str, table: Table) -> None:
    count = QUERIES_QUICK if lab.quick else QUERIES if len(files) == lab.usual else QUERIES_WHOLE
    queries = queries_of(files, count)
    since = datetime.fromtimestamp(mtime(round(len(files) * (1 - KEPT_BY_FILTER))), UTC).isoformat()
    condition = {"field": "updated_at", "operator": "greater_than_or_equal", "value": since}
    for query in queries_of(files, count, seed=8):  # otherwise only the first row would measure a cold cache
        server.search(COLLECTION, query)
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
                    f"{len(files):,}",
                    chunks,
                    strategy,
                    str(limit),
                    "yes" if filtered else "no",
                    number(percentile(times_ms, 50)),
                    number(percentile(times_ms, 95)),
                    number(hits / count),
                    bound,
                )
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
        server.client.ready()
        asked.append((time.perf_counter() - began_at) * 1000)
        began_at = time.perf_counter()
        embedder.embed([query])
        embedded.append((time.perf_counter() - began_at) * 1000)
    for what, times_ms in (("a request with one trivial SQL", asked), ("embedding the query", embedded)):
        table.add(
            documents,
            chunks,
            f"limit: {what}",
            "-",
            "-",
            number(percentile(times_ms, 50), 2),
            number(percentile(times_ms, 95), 2),
            "-",
            "-",
        )
