"""What the order and the score of hits say, over real Postgres with the real offline embedder."""

import random
import unicodedata

import pytest
from search_library import Library

from airweave_server.db.session import Database
from airweave_server.search.hybrid import Query

SENTENCE = "river boat water stone light paper music garden engine winter silver market doctor window copper summer"
WORDS = SENTENCE.split()
STRATEGIES = ["hybrid", "keyword"]


@pytest.fixture
def library(fresh_database: Database) -> Library:
    return Library(fresh_database)


@pytest.fixture(scope="module")
def many(fresh_database: Database) -> Library:
    """5,100 chunks of 1 kB, so that not all of them are ranked. ``CPUFreq`` and ``vger`` stand in many."""
    made = Library(fresh_database)
    dice = random.Random(11)
    texts = {}
    for n in range(5_100):
        words = dice.choices(WORDS, k=150)
        if n % 40 == 0:
            words += ["http vger CPUFreq Brodowski"]
        texts[f"{n:04}"] = " ".join(words)
    texts["1234"] += " and ZQMARK18"
    texts["2345"] += " and a lonely bramblefinch"
    texts["0777"] += " said the old lamplighter of our street"
    made.put_many(texts, marked=10)
    made.put("two", "river boat water stone " * 30, " ".join([*dice.choices(WORDS, k=150), "tanglewick"]))
    return made


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "query", ["ZQMARK18", "http vger CPUFreq Brodowski ZQMARK18", "what does zqmark18 do to a river"]
)
def test_the_rarest_identifier_outweighs_what_is_in_many(many: Library, query: str, strategy: str) -> None:
    assert many.ids(query, strategy=strategy, limit=10)[0] == "1234"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_word_that_one_document_alone_has_is_among_the_first_ten(many: Library, strategy: str) -> None:
    asked = "http vger CPUFreq Brodowski river boat water stone bramblefinch"
    assert "2345" in many.ids(asked, strategy=strategy, limit=10)
    # another part of the same document ranks higher, and is none of the first ten
    asked = "http vger CPUFreq Brodowski river boat water stone tanglewick"
    assert "two" in many.ids(asked, strategy=strategy, limit=10)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_verbatim_phrase_comes_first_and_one_in_quotes_must_be_there(many: Library, strategy: str) -> None:
    assert many.ids("old lamplighter of our street", strategy=strategy, limit=5)[0] == "0777"
    (quoted,) = many.search('"the old lamplighter of our street"', strategy=strategy)
    assert (quoted.entity_id, quoted.score > 0.5) == ("0777", True)
    assert many.ids('river "old lamplighter"', strategy=strategy) == ["0777"]
    assert many.ids('a 5" river and a 3" boat', strategy=strategy, limit=3)  # inches
    absent = many.search('"river lamplighter of boats"', strategy=strategy, limit=5)
    assert all(hit.score < 0.5 for hit in absent)
    assert many.ids('"old lamplighters of our street"', strategy=strategy, limit=1) == ["0777"]  # as nobody wrote it
    assert many.search('"old lamplighters of our street"', strategy=strategy, limit=1)[0].score < 0.5


def test_a_phrase_in_quotes_must_be_there_by_meaning_too(many: Library) -> None:
    (quoted,) = many.search('"the old lamplighter of our street"', strategy="semantic")
    assert (quoted.entity_id, quoted.score > 0.5) == ("0777", True)
    assert many.ids('river "old lamplighter"', strategy="semantic") == ["0777"]
    absent = many.search('"river lamplighter of boats"', strategy="semantic", limit=5)
    assert [hit.score <= 0.5 for hit in absent] == [True] * 5


def test_scores_fall_where_relevance_ends(library: Library) -> None:
    library.put("tea", "Green tea is brewed with water of eighty degrees for two minutes.")
    library.put("ship", "The captain of the container ship asked the harbour for a pilot.")
    for n in range(60):
        library.put(f"{n}", " ".join(random.Random(n).choices(WORDS, k=40)))
    first, second = library.search("how is green tea brewed", limit=2)
    assert first.entity_id == "tea"
    assert first.score > 0.8 > 0.3 > second.score
    found = library.found(Query("xyzzy quux flobnar"))
    assert found.nothing_relevant
    assert max(hit.score for hit in found.hits) < 0.1
    assert not library.found(Query("how is green tea brewed")).nothing_relevant


def test_without_the_identifier_that_is_asked_for_no_hit_scores_above_half(library: Library) -> None:
    library.put("near", "The part ZX-4819-RAG is out of stock; ZX-4819-RAG is ordered.")
    library.put("other", "Parts are ordered on Mondays.")
    hits = library.search("ZX-49-RAG")
    assert hits
    assert max(hit.score for hit in hits) < 0.5
    assert library.search("ZX-4819-RAG")[0].score > 0.5


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (unicodedata.normalize("NFD", "Die Prüfstände sind frei"), "Prüfstände"),
        ("Die Prüfstände sind frei", unicodedata.normalize("NFD", "Prüfstände")),
        ("re\u00adli\u00ada\u00adbil\u00adity counts", "reliability"),
        ("the o\ufb03ce is open", "office"),
        ("main\u200btenance is due", "maintenance"),
        ("part \uff21\uff22\uff23\uff0d\uff11\uff12\uff13\uff14 is here", "ABC-1234"),
        ("part ABC-1234 is here", "\uff21\uff22\uff23\uff0d\uff11\uff12\uff13\uff14"),
        ("乘坐铁路12306购票", "12306"),
        ("乘坐12306铁路", "铁路"),
        ("東京systems株式会社", "system"),
        ("un café noir", "cafe"),
        ("un cafe noir", "café"),
        ("Straße und Fluß", "strasse"),
        ("Ångström units", "angstrom"),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_looks_the_same_is_found(library: Library, text: str, query: str, strategy: str) -> None:
    library.put("it", text)
    library.put("other", "something else entirely")
    assert library.ids(query, strategy=strategy)[0] == "it"
    assert library.ids(query, strategy="keyword") == ["it"]


def test_the_exact_form_of_a_word_comes_before_the_one_without_its_accents(library: Library) -> None:
    library.put("plain", "un cafe noir")
    library.put("accented", "un café noir")
    assert library.ids("café", strategy="keyword") == ["accented", "plain"]
    assert library.ids("cafe", strategy="keyword") == ["plain", "accented"]


def test_a_word_that_is_nowhere_is_taken_for_the_nearest(library: Library) -> None:
    library.put("it", "Regular maintenance of the turbines keeps them alive.")
    library.put("other", "Mountains are high.")
    found = library.found(Query("maintenance of turbnies", strategy="keyword"))
    assert [hit.entity_id for hit in found.hits] == ["it"]
    assert found.did_you_mean == "maintenance of turbines"
    assert library.found(Query("maintenance of turbines")).did_you_mean is None
    assert library.found(Query("maintnance", strategy="keyword")).did_you_mean == "maintenance"
    assert library.found(Query("xyzzyqux", strategy="keyword")).did_you_mean is None
    library.put("exact", "turbnies is how some write it")
    found = library.found(Query("turbnies", strategy="keyword"))
    assert ([hit.entity_id for hit in found.hits], found.did_you_mean) == (["exact"], None)


@pytest.mark.parametrize(("query", "meant"), [("Pruefstaende", "prüfstände"), ("kuehlung", "wasserkühlung")])
def test_transliterations_and_parts_of_compounds_are_near(library: Library, query: str, meant: str) -> None:
    library.put("it", "Die Prüfstände haben Wasserkühlung")
    found = library.found(Query(query, strategy="keyword"))
    assert [hit.entity_id for hit in found.hits] == ["it"]
    assert found.did_you_mean == meant


def test_hits_show_the_best_passage_and_where_the_words_stand(library: Library) -> None:
    filler = "Nothing that matters is said in this sentence. " * 20
    library.put(
        "it", f"{filler}22033 is a full disk.\n{filler}Error 23505 is a unique violation, raised on duplicates."
    )
    (hit,) = library.search("what is 23505, a violation", strategy="keyword")
    shown = hit.text[slice(*hit.passage)]
    assert "Error 23505 is a unique violation" in shown
    assert len(shown) <= 320
    assert {hit.text[start:end] for start, end in hit.highlights} == {"23505", "violation"}


def test_what_is_found_by_meaning_shows_the_words_that_mean_it(library: Library) -> None:
    filler = "Nothing of interest is said here, and the weather is fine. " * 15
    library.put("it", f"{filler}The physician saw the automobile. {filler}")
    (hit,) = library.search("car doctor", strategy="semantic")
    assert [hit.text[start:end] for start, end in hit.highlights] == ["physician", "automobile"]
    assert "The physician saw" in hit.text[slice(*hit.passage)]


def test_highlights_stand_where_they_are_also_beyond_ascii(library: Library) -> None:
    text = unicodedata.normalize("NFD", "Über die Prüfstände: o\ufb03ces sind frei, die Prüfstände auch.")
    library.put("it", text)
    (hit,) = library.search("Prüfstände offices", strategy="keyword")
    marked = [unicodedata.normalize("NFKC", hit.text[start:end]) for start, end in hit.highlights]
    assert marked == ["Prüfstände", "offices", "Prüfstände"]
