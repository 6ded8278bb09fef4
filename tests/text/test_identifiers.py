import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airweave_server.text.identifiers import _TOKEN, MAX_BYTES, exact_terms, index_terms, query_terms

IDENTIFIERS = [
    "ERR_1234",
    "v1.9.2",
    "steps.py",
    "C++",
    "C#",
    ".NET",
    "foo/bar.md",
    "parseHttpResponse",
    "GH-123",
    "0x7f",
    "user@example.com",
    "std::vector",
    "kebab-case-name",
    "__init__",
    "HTTPServer",
    "utf8",
    "$HOME",
    "@scope/pkg",
    "#42",
    "c++17",
    "ptr->field",
    "C:\\Users\\x.txt",
    "https://example.com/a/b.html",
    "2024-01-15",
    "src/.github/workflows/ci.yml",
    "ASP.NET",
    "straßenName",
]
SENTENCES = [
    "See {}.",
    "({})",
    "'{}'",
    '"{}", then',
    "`{}`",
    "**{}**",
    "why does {} fail?",
    "{}",
    "[{}]",
    "first\n{}\nlast",
    "x = {};",
    "日本語 {} です。",
]


BITS = [*"ab1Zß_.:/\\#@$-+><()[]{}\"'`*,;&=|~!?%^ \t\n\x1f\x7f\0\u3000中é", "::", "->", "://", "++", "Foo", "e.g", "C#"]


@given(st.lists(st.sampled_from(BITS), max_size=12).map("".join))
@example("`core::iter::Rev`</a><I>(#c.V4L)")
def test_a_text_has_the_lexemes_of_its_identifiers_whatever_stands_between_them(text: str) -> None:
    alone = dict.fromkeys(lexeme for token in _TOKEN.findall(text) for lexeme in index_terms(token))
    assert index_terms(text) == list(alone)
    assert index_terms(text) == list(alone)  # from the cache


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_in_a_sentence_is_one_exact_term_and_is_stored(identifier: str) -> None:
    assert exact_terms(identifier) == [identifier.lower()]
    for sentence in SENTENCES:
        text = sentence.format(identifier)
        assert identifier.lower() in exact_terms(text), text
        assert identifier.lower() in query_terms(text), text
        assert identifier.lower() in index_terms(text), text


@pytest.mark.parametrize(
    ("identifier", "parts"),
    [
        ("sync/steps.py", {"sync", "steps", "steps.py", "py"}),
        ("src/app/sync/steps.py", {"sync/steps.py", "app/sync/steps.py", "steps.py", "src", "app"}),
        ("parseHttpResponse", {"parse", "http", "response"}),
        ("HTTPServerError2", {"http", "server", "error"}),
        ("max_retry_count", {"max", "retry", "count"}),
        ("v1.9.2", {"1.9.2", "v1"}),
        ("airweave.sync.steps", {"airweave", "sync.steps", "steps"}),
        ("std::vector", {"std", "vector"}),
        ("user@example.com", {"user", "example.com", "example"}),
        ("https://example.com/a/guide.html", {"example.com", "guide.html", "guide"}),
        ("mailto:user@example.com", {"user@example.com"}),
        ("_steps.py_", {"steps.py"}),
        ("ERR1234", {"err", "1234"}),
        ("c++17", {"c++"}),
        (".gitignore", {"gitignore"}),
        ("C:\\Users\\notes.txt", {"users", "notes.txt", "notes"}),
        ("ÜberSchrift", {"über", "schrift"}),
    ],
)
def test_the_parts_of_an_identifier_are_stored_too(identifier: str, parts: set[str]) -> None:
    assert parts <= set(index_terms(f"see {identifier}, please"))


def test_plain_words_are_left_to_the_english_index() -> None:
    assert index_terms("The HTTP API of the server returns URLs and IDs, e.g. in the U.S., for 42 users. Don't!") == []


def test_plain_words_of_a_query_find_parts_but_stop_words_are_left_out() -> None:
    assert query_terms("What is the HTTP response?") == ["http", "response"]
    assert set(query_terms("http response")) <= set(index_terms("calls parseHttpResponse(data)"))
    assert exact_terms("What is the HTTP response of 2024?") == []


def test_scripts_without_spaces_become_bigrams() -> None:
    assert index_terms("日本語") == ["日本", "本語"]
    assert index_terms("本 と") == ["本", "と"]
    assert index_terms("한국어") == ["한국", "국어"]
    assert "ไท" in index_terms("ภาษาไทย")
    assert query_terms("東京タワー API") == ["東京", "京タ", "タワ", "ワー", "api"]
    assert exact_terms("東京タワー") == []
    assert set(query_terms("データ")) <= set(index_terms("ﾃﾞｰﾀベースの設計"))


def test_a_bigram_over_the_border_of_two_windows_is_kept() -> None:
    run = "".join(chr(0x4E00 + i) for i in range(3_000))
    assert set(index_terms(run, limit=10_000)) == {run[i : i + 2] for i in range(2_999)}


def test_width_and_composition_do_not_matter() -> None:
    assert exact_terms("ＥＲＲ_１２") == exact_terms("err_12") == ["err_12"]
    assert exact_terms("cafe\u0301_bar") == exact_terms("caf\u00e9_bar")


def test_terms_are_distinct_in_order_and_limited() -> None:
    text = " ".join(f"item_{i}" for i in range(5_000)) + " item_1"
    terms = index_terms(text)
    assert len(terms) == len(set(terms)) == 2_000
    assert terms[:3] == ["item_0", "item", "item_1"]
    assert len(index_terms(text, limit=7)) == 7
    assert index_terms("日本" * 3_000, limit=1) == ["日本"]


def test_long_identifiers_are_cut_alike_on_both_sides() -> None:
    for long in ("x1" * 1_000, "é1" * 1_000, "a/" * 3_000 + "b"):
        (term,) = exact_terms(long)
        assert len(term.encode()) <= MAX_BYTES
        assert term in index_terms(f"see {long}.")


WORDS = st.text(min_size=1, max_size=40)
NASTY = st.text(alphabet="aZé1_.:/\\-+#@$> 日\u0301\0", max_size=40)


@given(WORDS | NASTY | st.sampled_from(IDENTIFIERS))
@example("a\u0301b_c")
def test_exact_terms_of_a_query_are_stored_for_a_text_that_holds_it(query: str) -> None:
    for sentence in ("see {} now", "({})", "'{}'", "first\n{}\nlast"):
        assert set(exact_terms(query)) <= set(index_terms(sentence.format(query), limit=10_000))
    assert set(exact_terms(query)) <= set(query_terms(query))


@given(st.text(max_size=300) | NASTY)
def test_lexemes_are_short_lowercase_and_storable(text: str) -> None:
    for term in [*index_terms(text), *query_terms(text), *exact_terms(text)]:
        assert term
        assert "\0" not in term
        assert len(term.encode()) <= MAX_BYTES


HUGE = {
    "letters": "a" * 10**6,
    "dots": "." * 10**6,
    "dotted": "a." * 500_000,
    "base64": "aB3/" * 250_000,
    "han": "日本語文" * 250_000,
    "pluses": "a++" * 300_000,
    "hyphens": "a" + "-" * 10**6,
    "camels": "aB " * 300_000,
    "accents": "a" + "\u0301\u0323" * 500_000,
    "thai marks": "\u0e38\u0e48" * 500_000,
    "underscores": "_" * 10**6,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_a_megabyte_of_anything_is_quick(text: str) -> None:
    start = time.process_time()
    index_terms(text)
    exact_terms(text)
    query_terms(text)
    assert time.process_time() - start < 5
