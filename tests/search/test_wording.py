"""Words that an earlier release stored are worded anew from the stored text: nothing is read or embedded again."""

import signal
import time
from typing import Any

import psycopg
import pytest
from search_library import Library

from airweave_server.db import wording
from airweave_server.db.models import INDEX_VERSION
from airweave_server.db.session import Database
from airweave_server.text.identifiers import index_terms
from running import Running, plain

TEXT = "Pru\u0308fsta\u0308nde {n}: o\ufb03ce \uff21\uff22\uff23\uff0d{n}, 铁路12306, straße"
FORMER = """
    alter table chunk disable trigger chunk_words;
    update chunk set ts = to_tsvector('public.airweave', heading || ' ' || text), ident = '';
    alter table chunk enable trigger chunk_words;
    update collection set index_version = 1, worded_row = null;
"""
KEPT = "select entity_row, ordinal, text, hash, cast(embedding as text) from chunk order by 1, 2"
STATE = "select index_version, worded_row from collection"


@pytest.fixture
def library(fresh_database: Database) -> Library:
    return Library(fresh_database)


def run(url: str, statement: str) -> list[Any]:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def former(library: Library, url: str, count: int) -> None:
    """Entities as an earlier release wrote them, and a plain one."""
    library.put_many({f"{n}": TEXT.format(n=n) for n in range(count)}, marked=2)
    library.put("plain", "a plain text, v1.9.2")
    run(url, FORMER)
    library.collection.index_version = 1


def test_words_are_worded_anew_in_batches_and_everything_else_stays(library: Library, database_url: str) -> None:
    count = wording.ENTITIES_AT_ONCE + 50
    former(library, database_url, count)
    before = run(database_url, KEPT)
    assert library.ids("office", strategy="keyword") == []
    assert len(library.ids("o\ufb03ce", strategy="keyword", limit=500)) == count  # asked in the former form too
    assert library.ids("ABC-7", strategy="keyword") == []
    for done, changed in ((False, wording.ENTITIES_AT_ONCE), (True, 50)):
        with library.database.session() as session:
            assert wording.list_due(session) == [library.collection.id]
            assert wording.word_anew(session, library.collection.id, index_terms) == (changed, done)
    with library.database.session() as session:
        assert wording.list_due(session) == []
    library.collection.index_version = INDEX_VERSION
    assert run(database_url, KEPT) == before
    for query in ("office", "Prüfstände", "prufstande", "12306", "strasse"):
        assert len(library.ids(query, strategy="keyword", limit=500)) == count, query
    assert library.ids("ABC-7", strategy="keyword")[0] == "7"
    assert library.ids("v1.9.2", strategy="keyword") == ["plain"]


def test_a_server_that_is_killed_while_it_words_anew_goes_on(apart: Running) -> None:
    database = Database(apart.database_url)
    count = 4_000
    former(Library(database), apart.database_url, count)
    server = apart.start(worker=False)
    wait_for(lambda: run(apart.database_url, STATE)[0][1] is not None)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    apart.start(worker=False)
    wait_for(lambda: run(apart.database_url, STATE)[0][0] == INDEX_VERSION)
    query = "select count(*) from chunk where ts @@ to_tsquery('simple', 'offic') and ident @@ '''abc'''"
    assert run(apart.database_url, query) == [(count,)]


def wait_for(good: Any, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.05)
