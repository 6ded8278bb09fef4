"""What search is fast by: an index over the vectors of a large collection, and the counts of its words."""

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from search_library import WORDLLAMA, Library
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airweave_server.db import indexes
from airweave_server.db import search as sql
from airweave_server.db.models import Collection
from airweave_server.db.session import Database
from airweave_server.search.filters import lower
from airweave_server.wire import FilterGroup
from running import Running, plain
from servers.scripted_server import ScriptedServer, items

SENTENCE = "river boat water stone light paper music garden engine winter silver market doctor window copper summer"
WORDS = SENTENCE.split()
DEADLINE_S = 60.0
LEAST = 1_000
MARKED = {"field": "name", "operator": "equals", "value": "marked"}


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def tended(library: Library, *, least_chunks: int = LEAST) -> list[indexes.Task]:
    """One round of what the keeper does; returns what was due for this library."""
    with library.database.session() as session:
        indexes.count(session, library.collection.id)
    due = tasks(library, least_chunks=least_chunks)
    with indexes.builder(library.database, memory_mb=64) as builder:
        assert builder is not None
        for task in due:
            builder.carry_out(task)
    return due


def tasks(library: Library, *, least_chunks: int = LEAST) -> list[indexes.Task]:
    with library.database.session() as session:
        due = indexes.list_due(session, least_chunks=least_chunks)
    return [task for task in due if task.name == indexes.name(library.collection.id)]


def is_whole(library: Library) -> bool | None:
    """Whether the index can be used; None where there is none."""
    with library.database.session() as session:
        found: bool | None = session.execute(
            text("select indisvalid from pg_index where indexrelid = to_regclass(:name)"),
            {"name": indexes.name(library.collection.id)},
        ).scalar_one_or_none()
    return found


def scans(library: Library) -> int:
    """How many queries were answered by the index, as Postgres counts them."""
    with library.database.session() as session:
        session.execute(text("select pg_stat_clear_snapshot()"))
        found: int = session.execute(
            text("select idx_scan from pg_stat_user_indexes where indexrelname = :name"),
            {"name": indexes.name(library.collection.id, library.collection.slot)},
        ).scalar_one()
    return found


@pytest.fixture(scope="module")
def large(fresh_database: Database) -> Library:
    """1,200 entities of one chunk, of which a tenth is marked."""
    made = Library(fresh_database)
    dice = random.Random(5)
    made.put_many({f"{n:04}": " ".join(dice.choices(WORDS, k=9)) for n in range(1_200)}, marked=10)
    return made


def test_a_large_collection_gets_an_index_that_queries_use_and_that_finds_what_all_vectors_would(
    large: Library,
) -> None:
    questions = [" ".join(random.Random(n).choices(WORDS, k=3)) for n in range(10)]
    before = [large.ids(one, strategy="semantic", limit=10) for one in questions]
    assert [task.dimensions for task in tended(large)] == [WORDLLAMA.dimensions]
    assert is_whole(large)
    assert tasks(large) == []
    after = [large.ids(one, strategy="semantic", limit=10) for one in questions]
    found = sum(len(set(one) & set(other)) for one, other in zip(before, after, strict=True))
    assert found >= 0.95 * 10 * len(questions)
    until(lambda: scans(large) >= len(questions), "the planner passes the index over")


def test_an_index_that_ends_too_early_is_not_the_last_word(large: Library) -> None:
    tended(large)
    assert len(large.ids("river boat", strategy="semantic", limit=1_000)) == 1_000
    everyone = large.ids("river boat", strategy="semantic", limit=1_000, offset=1_000)
    assert len(everyone) == 200
    marked = {"conditions": [MARKED]}
    for strategy in ("semantic", "hybrid"):
        assert len(large.ids("river boat", strategy=strategy, filter=[marked], limit=500)) == 120


def test_what_a_filter_leaves_is_the_same_however_it_is_looked_for(large: Library) -> None:
    tended(large)
    marked = lower([FilterGroup.model_validate({"conditions": [MARKED]})])
    river = sql.Term("river", ())
    found = []
    with large.database.snapshot() as session:
        whole, size = sql.whole(session, large.collection)
        vector = WORDLLAMA.embed_query("river boat")
        measure = sql.Measure([river], 1.0, size.mean_bytes, vector, trust=1.0)
        for few, about in ((0, None), (1, None), (LEAST, 120)):  # by a join, as a list, chunk by chunk
            seen = sql.narrow(session, large.collection, whole, marked, few=few)
            assert seen.about == about
            near = sql.find_nearest(
                session,
                seen,
                measure,
                limit=120,
                by_index=few < LEAST,
                chunks=size.chunks,
                is_alone=False,
            )
            words, _ = sql.find_matching(
                session,
                seen,
                [sql.any_of([river])],
                measure,
                wanted=1,
                budget=LEAST,
                limit=LEAST,
            )
            found.append([{(one.entity_row, one.ordinal) for one in each} for each in (near, words)])
    near_ids, word_ids = found[0]
    assert (len(near_ids), found[1], found[2]) == (120, found[0], found[0])
    assert 0 < len(word_ids) < 120
    assert word_ids < near_ids


def test_a_filter_on_a_passage_finds_it_among_many(large: Library) -> None:
    tended(large)
    one = {"conditions": [{"field": "entity_id", "operator": "equals", "value": "0007__chunk_0"}]}
    number = {"conditions": [{"field": "airweave_system_metadata.chunk_index", "operator": "equals", "value": 0}]}
    for strategy in ("semantic", "hybrid"):
        assert large.ids("silver market", strategy=strategy, filter=[one]) == ["0007"]
        assert len(large.ids("silver market", strategy=strategy, filter=[number], limit=1_000)) == 1_000


def test_a_word_that_came_after_the_words_were_counted_is_found(large: Library) -> None:
    tended(large)
    with large.database.session() as session:
        known = session.execute(
            text("select word, chunks from collection_word where collection_id = :id and not is_ident"),
            {"id": large.collection.id},
        ).all()
        whole, _ = sql.whole(session, large.collection)
        terms = [sql.Term(word, ()) for word in ("river", "zyzzyva")]
        counts = sql.count_occurrences(session, large.collection, whole, terms, LEAST, at_most=5)
    assert {row.word for row in known} >= {"river", "boat", "copper"}
    assert counts == [({row.word: row.chunks for row in known}["river"], False), (0, True)]
    large.put("new", "a river and the zyzzyva, as in ERR_4711")
    for query in ("zyzzyva", "the river of the zyzzyva", "boat ERR_4711", "river err"):
        assert large.ids(query, strategy="keyword")[0] == "new", query


def test_a_build_that_was_killed_is_found_and_begun_anew_and_search_is_right_meanwhile(
    fresh_database: Database, large: Library
) -> None:
    name = indexes.name(large.collection.id)
    with fresh_database.dedicated() as connection:
        connection.execute(text(f"drop index if exists {name}"))
    before = large.ids("silver market", limit=50)
    failed: list[BaseException] = []

    def build() -> None:
        with indexes.builder(fresh_database, memory_mb=64) as builder:
            assert builder is not None
            try:
                builder.carry_out(tasks(large)[0])
            except DBAPIError as error:
                failed.append(error)

    with psycopg.connect(plain(fresh_database.url.render_as_string(hide_password=False))) as writer:
        writer.execute("update chunk set hash = hash where entity_row = -1")  # a build waits for those who may write
        building = threading.Thread(target=build)
        building.start()
        until(lambda: is_whole(large) is False, "the index is being built")
        with indexes.builder(fresh_database, memory_mb=64) as second:
            assert second is None
        assert large.ids("silver market", limit=50) == before
        with fresh_database.session() as session:
            session.execute(
                text(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_progress_create_index where index_relid = "
                    "to_regclass(:name)"
                ),
                {"name": name},
            )
        building.join(DEADLINE_S)
    assert failed
    assert is_whole(large) is False
    assert large.ids("silver market", limit=50) == before
    tended(large)
    assert is_whole(large)


def test_a_collection_that_moved_to_another_embedder_gets_an_index_over_its_new_vectors(
    fresh_database: Database, large: Library
) -> None:
    tended(large)
    old, new = (indexes.name(large.collection.id, slot) for slot in (1, 2))
    with fresh_database.session() as session:
        session.execute(text("update chunk set embedding_2 = embedding, embedding = null"))
        session.execute(text("update collection set slot = 2 where id = :id"), {"id": large.collection.id})
        due = indexes.list_due(session, least_chunks=LEAST)
    assert {(task.name, task.dimensions) for task in due} == {(old, None), (new, WORDLLAMA.dimensions)}
    with indexes.builder(fresh_database, memory_mb=64) as builder:
        assert builder is not None
        for task in due:
            builder.carry_out(task)
    large.collection.slot = 2
    assert len(large.ids("silver market", strategy="semantic", limit=20)) == 20
    until(lambda: scans(large) > 0, "the new index is used")
    with fresh_database.session() as session:
        assert indexes.list_due(session, least_chunks=LEAST) == []
        session.execute(text("update chunk set embedding = embedding_2"))
        session.execute(text("update collection set slot = 1 where id = :id"), {"id": large.collection.id})
    large.collection.slot = 1


def test_a_collection_that_shrinks_or_goes_loses_its_index(fresh_database: Database) -> None:
    library = Library(fresh_database)
    library.put_many({f"{n}": " ".join(WORDS[n % 5 :]) for n in range(1_100)}, marked=10)
    tended(library)
    assert is_whole(library)
    assert tasks(library, least_chunks=2_100) == []  # it stays until half are gone
    (dropped,) = tended(library, least_chunks=2_300)
    assert dropped.dimensions is None
    assert is_whole(library) is None
    tended(library)
    with fresh_database.session() as session:
        session.get_one(Collection, library.collection.id).deleted_at = datetime.now(UTC)
    assert [task.dimensions for task in tended(library)] == [None]
    assert is_whole(library) is None


def test_the_server_builds_the_index_after_a_first_load_and_drops_it_with_the_collection(
    apart: Running, source: ScriptedServer
) -> None:
    server = apart.start(VECTOR_INDEX_CHUNKS=str(LEAST))
    source.partitions["a"] = items(LEAST + 100)
    source.page_size = 200
    collection = server.collection()
    connection = server.connect_to(source, collection=collection)

    def whole() -> list[bool]:
        with psycopg.connect(plain(apart.database_url)) as database:
            rows = database.execute(
                "select i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname like "
                "'chunk\\_near\\_%'"
            ).fetchall()
        return [row[0] for row in rows]

    assert server.sync(connection)["entities_inserted"] == LEAST + 100
    until(lambda: whole() == [True], "the keeper builds an index")
    assert server.found(collection, "item-0021")[0] == "item-0021"
    server.http.delete(f"/collections/{collection}").raise_for_status()
    until(lambda: whole() == [], "the keeper drops the index")
