"""Search over real Postgres with the real offline embedder."""

import random
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from search_library import Library

from airweave_server.db import indexes
from airweave_server.db.models import Organization, SourceConnection
from airweave_server.db.session import Database
from airweave_server.errors import BadInput
from airweave_server.search.hybrid import Query

STRATEGIES = ["hybrid", "semantic", "keyword"]
SENTENCE = "river boat water stone light paper music garden engine winter silver market doctor window copper summer"
WORDS = SENTENCE.split()


@pytest.fixture
def library(fresh_database: Database) -> Library:
    return Library(fresh_database)


@pytest.fixture(scope="module", params=["plain", "tended"])
def big(request: pytest.FixtureRequest, fresh_database: Database) -> Library:
    """600 entities of one to four chunks, half of which hold ``common``; as it is, and with what makes search fast."""
    made = Library(fresh_database)
    dice = random.Random(7)
    for n in range(600):
        texts = [" ".join(dice.choices(WORDS, k=8)) + " common" * (n % 2) for _ in range(dice.randint(1, 4))]
        made.put(f"{n:03}", *texts, name="even" if n % 10 == 0 else "odd")
    if request.param == "tended":
        with fresh_database.session() as session:
            indexes.count(session, made.collection.id)
        with fresh_database.session() as session:
            (task,) = indexes.list_due(session, least_chunks=1_000)
        with indexes.builder(fresh_database, memory_mb=64) as builder:
            assert builder is not None
            builder.carry_out(task)
    return made


def test_a_hit_tells_all_about_its_passage_and_its_entity(library: Library) -> None:
    job, crumb = uuid4(), {"entity_id": "docs", "name": "Docs", "entity_type": "Folder"}
    day = datetime(2024, 2, 3, tzinfo=UTC)
    library.put(
        "docs/tea.md",
        "Coffee is roasted.",
        "Tea is brewed from leaves.",
        name="tea.md",
        type="FileEntity",
        job_id=job,
        heading="Drinks",
        breadcrumbs=[crumb],
        created_at=day,
        updated_at=day,
        web_url="file:///tea",
        fields={"size": 5},
    )
    (hit,) = library.search("how to brew tea leaves")
    assert (hit.entity_id, hit.chunk_id, hit.ordinal) == ("docs/tea.md", "docs/tea.md__chunk_1", 1)
    assert (hit.name, hit.type, hit.source_name) == ("tea.md", "FileEntity", "folder")
    assert (hit.connection_id, hit.job_id) == (library.connection.id, job)
    assert (hit.heading, hit.text) == ("Drinks", "Tea is brewed from leaves.")
    assert (hit.breadcrumbs, hit.fields) == ([crumb], {"size": 5})
    assert (hit.created_at, hit.updated_at, hit.web_url, hit.url) == (day, day, "file:///tea", None)
    assert 0 < hit.score <= 1


def test_an_entity_comes_once_with_its_best_passage_or_with_all(library: Library) -> None:
    library.put("a", "nothing of interest", "the violin concerto", "a violin, a violin maker and his violin")
    library.put("b", "an oboe")
    assert [(hit.entity_id, hit.ordinal) for hit in library.search("violin", strategy="keyword")] == [("a", 2)]
    by_chunk = library.search("violin", strategy="keyword", group="chunk")
    assert [(hit.entity_id, hit.ordinal) for hit in by_chunk] == [("a", 2), ("a", 1)]
    assert len(library.search("violin", group="chunk")) == 4


def test_stemmed_words_and_headings_are_found_by_keyword(library: Library) -> None:
    library.put("a", "she was sailing", heading="Regattas")
    library.put("b", "he was walking")
    assert library.ids("sails", strategy="keyword") == ["a"]
    assert library.ids("regatta", strategy="keyword") == ["a"]


def test_meaning_is_found_without_a_common_word(library: Library) -> None:
    library.put("cats", "the kitten purrs and drinks milk")
    library.put("law", "the court decided upon the appeal of the tax authority")
    assert library.ids("cat", strategy="keyword") == []
    assert library.ids("cat", strategy="semantic") == ["cats", "law"]
    assert library.ids("cat")[0] == "cats"


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("ERR_1234", "on ERR_1234 call the hotline"),
        ("err_1234", "on ERR_1234 call the hotline"),
        ("v1.9.2", "released as v1.9.2, at last"),
        ("steps.py", "the file is src/sync/steps.py, near the end"),
        ("C++", "some knowledge of C++ helps"),
        ("getUserName", "call getUserName() first"),
        ("JIRA-4711", "see JIRA-4711 for it"),
        (".env", "put it into .env and go on"),
    ],
)
@pytest.mark.parametrize("strategy", ["hybrid", "keyword"])
def test_an_exact_identifier_comes_first_whatever_the_words_say(
    library: Library, identifier: str, text: str, strategy: str
) -> None:
    for n in range(30):
        library.put(f"near{n}", f"an error happened in the program file and version {n}: an error, what does it mean")
    library.put("exact", "a long list of other things " * 20 + text)
    library.put("like", "ERR_1235 v1.9.3 step.py C getUserNames JIRA-471 .envrc what does it mean, this error")
    assert library.ids(f"what does the error {identifier} in the program mean", strategy=strategy)[0] == "exact"


def test_a_passage_with_both_identifiers_comes_before_one_with_either(library: Library) -> None:
    library.put("first", "ERR_1 ERR_1 ERR_1 in short")
    library.put("both", "a very long text " * 30 + "with ERR_1 in worker.py")
    library.put("second", "worker.py worker.py")
    library.put("none", "in a short text")
    ids = library.ids("ERR_1 in worker.py")
    assert ids[0] == "both"
    assert ids[-1] == "none"


def test_plain_words_find_the_parts_of_identifiers(library: Library) -> None:
    library.put("code", "def parseHttpRequest(): ...")
    library.put("other", "def close(): ...")
    assert library.ids("parse a request", strategy="keyword") == ["code"]


def test_a_hyphenated_word_is_language_not_an_identifier(library: Library) -> None:
    library.put("better", "a boundary layer of air: the boundary layer in turbulent flow")
    library.put("worse", "boundary-layer " + "and many other things that have nothing to do with it " * 10)
    assert library.ids("boundary-layer in turbulent flow", strategy="keyword") == ["better", "worse"]


def test_scripts_without_spaces_are_found(library: Library) -> None:
    library.put("ja", "私は東京都に住んでいます")
    library.put("other", "今日は雨です")
    assert library.ids("東京都", strategy="keyword") == ["ja"]


@pytest.mark.parametrize(
    ("language", "text", "query"),
    [
        ("german", "Die Katzen schliefen auf den Häusern", "Katze und Haus"),
        ("french", "Les chevaux mangeaient des pommes vertes", "la pomme verte"),
        ("russian", "Кошки спали на крышах домов", "кошка на крыше"),
        ("turkish", "Kediler evlerin çatılarında uyuyordu", "kedi evler"),
        ("simple", "Ceci n'est pas une pipe, sagt er", "pipe"),
    ],
)
def test_words_are_found_in_the_forms_of_the_language(
    fresh_database: Database, language: str, text: str, query: str
) -> None:
    library = Library(fresh_database, language=language)
    english = Library(fresh_database)
    for one in (library, english):
        one.put("it", text + " (see ERR_1234)")
        one.put("other", "etwas ganz anderes, quelque chose, что-то другое: und, la, на, auf")
    assert library.ids(query, strategy="keyword") == ["it"]
    assert library.ids("ERR_1234", strategy="keyword") == ["it"]
    if language == "german":  # whose stop words are words elsewhere
        assert library.ids("und auf der", strategy="keyword") == []
        assert english.ids("schlief", strategy="keyword") == []


def test_other_collections_organizations_and_deleted_connections_are_not_seen(
    fresh_database: Database, library: Library
) -> None:
    with fresh_database.session() as session:
        stranger = Organization(name="stranger")
        session.add(stranger)
    Library(fresh_database).put("neighbour", "a zeppelin")
    Library(fresh_database, organization_id=stranger.id).put("stranger", "a zeppelin")
    leaving = library.connect("web")
    library.put("mine", "a zeppelin")
    library.put("leaving", "a zeppelin", to=leaving)
    assert sorted(library.ids("zeppelin")) == ["leaving", "mine"]
    with fresh_database.session() as session:
        session.get_one(SourceConnection, leaving.id).deleted_at = datetime.now(UTC)
    for strategy in STRATEGIES:
        assert library.ids("zeppelin", strategy=strategy) == ["mine"]


def test_a_collection_without_connections_or_chunks_has_no_hits(fresh_database: Database, library: Library) -> None:
    for strategy in STRATEGIES:
        assert library.ids("anything", strategy=strategy) == []
    with fresh_database.session() as session:
        session.get_one(SourceConnection, library.connection.id).deleted_at = datetime.now(UTC)
    assert library.ids("anything") == []


HOSTILE = [
    "",
    "   ",
    "the of and is",
    "foo & | ! ( ) : * <->",
    "'quoted' \"words\" \\ back\\slash ''",
    "' | 'x",
    "%s %(name)s :limit {0} $1",
    "nul\x00nul",
    "lone \ud800 surrogate",
    "\x00",
    "🛥️ 🚤🏽‍♀️",
    "東京都の天気はどうですか",
    "a" * 10_000,
    "東" * 10_000,
    "' & " * 2_500,
    " ".join(f"word{n}" for n in range(2_000)),
    " ".join(f"some_name_{n}.py" for n in range(1_000)),
    "-" * 5_000 + ">" * 5_000,
    "https://example.org/a/b?c=d&e='f' user@example.org ../../etc/passwd",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("text", HOSTILE, ids=[f"{n}" for n in range(len(HOSTILE))])
def test_no_query_is_an_error(library: Library, text: str, strategy: str) -> None:
    library.put("a", "foo and a quoted 'word' of nul, word7")
    hits = library.search(text, strategy=strategy)
    assert len(hits) <= 1
    if "foo" in text and strategy != "semantic":
        assert [hit.entity_id for hit in hits] == ["a"]


def test_a_long_query_finds_by_its_rarest_words(library: Library) -> None:
    for n in range(40):
        library.put(f"{n}", " ".join(WORDS))
    library.put("rare", "a xylophone")
    assert library.ids(" ".join(WORDS * 20) + " xylophone", strategy="keyword")[0] == "rare"


def test_a_text_without_any_known_token_is_near_nothing(library: Library) -> None:
    library.put("empty", "")
    library.put("full", "a boat")
    assert library.ids("boat", strategy="semantic") == ["full"]
    assert library.ids("", strategy="semantic") == []


@pytest.mark.parametrize("how", [{"limit": 0}, {"limit": 1_001}, {"offset": -1}])
def test_limit_and_offset_have_bounds(how: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        Query("x", **how)
    assert caught.value.field == f"body.{next(iter(how))}"


@pytest.mark.parametrize("group", ["entity", "chunk"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pages_neither_repeat_nor_lose_nor_reorder(big: Library, strategy: str, group: str) -> None:
    at_once = big.search("common river boat", strategy=strategy, group=group, limit=1_000)
    paged, offset = [], 0
    while page := big.search("common river boat", strategy=strategy, group=group, limit=130, offset=offset):
        paged += page
        offset += 130
    keys = [hit.chunk_id if group == "chunk" else hit.entity_id for hit in paged]
    assert len(set(keys)) == len(keys)
    assert [(hit.chunk_id, hit.score) for hit in at_once] == [(hit.chunk_id, hit.score) for hit in paged[:1_000]]
    scores = [hit.score for hit in paged]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    if strategy != "keyword":
        assert len(paged) == (600 if group == "entity" else _count(big))


def test_the_limit_is_filled_with_all_that_match_a_common_word(big: Library) -> None:
    assert len(big.search("common", strategy="keyword", limit=1_000)) == 300


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_filter_comes_before_the_cut(big: Library, strategy: str) -> None:
    left = {"conditions": [{"field": "name", "operator": "equals", "value": "even"}]}
    hits = big.search("river boat water", strategy=strategy, filter=[left], limit=60)
    assert {hit.name for hit in hits} == {"even"}
    everyone = big.search("river boat water", strategy=strategy, limit=1_000)
    assert len(hits) == sum(hit.name == "even" for hit in everyone) > 40


def test_one_query_sees_one_moment(library: Library) -> None:
    library.put("a", "the old lighthouse")
    asked = Query("lighthouse")
    with library.database.snapshot() as session:
        before = library.search_in(session, asked)
        library.put("a", "the new lighthouse")
        library.put("b", "another lighthouse")
        during = library.search_in(session, asked)
    assert [hit.text for hit in before] == [hit.text for hit in during] == ["the old lighthouse"]
    assert {hit.text for hit in library.search("lighthouse")} == {"the new lighthouse", "another lighthouse"}


def _count(library: Library) -> int:
    return len(library.search("x", strategy="semantic", group="chunk", limit=1_000)) + len(
        library.search("x", strategy="semantic", group="chunk", limit=1_000, offset=1_000)
    )
