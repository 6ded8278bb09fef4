"""How the benchmark of documents compares texts, and what its references are."""

from collections import Counter
from pathlib import Path

import pytest
from benchmarks.likeness import Bag, bag, compare, order, subsequence, words
from benchmarks.reference import read_mail, read_text, torn


def test_words_have_one_form() -> None:
    assert words("The ﬁrst co\u00adoperation, CAFE\u0301 _so_ zero\u200bwidth") == [
        *("the", "first", "cooperation", "café", "so", "zerowidth"),
    ]


def test_recall_and_precision_count_each_time_that_a_word_stands() -> None:
    found = compare(bag("a b b c"), bag("a b c c c"))
    assert (found.found, found.expected, found.right, found.written) == (3, 4, 3, 5)
    assert (found.missing, found.surplus) == ((("b", 1),), (("c", 2),))
    assert (found.recall, found.precision) == (0.75, 0.6)


def test_a_doubled_text_has_half_the_precision() -> None:
    found = compare(bag("one two three"), bag("one two three one two three"))
    assert (found.recall, found.precision) == (1.0, 0.5)


def test_allowed_words_count_neither_way() -> None:
    found = compare(bag("a b"), bag("a b 1"), Counter({"1": 1}))
    assert (found.recall, found.precision) == (1.0, 1.0)
    assert compare(bag("a b"), bag("a b"), Counter({"1": 1})).recall == 1.0


@pytest.mark.parametrize("text", ["the dualencoder runs", "the dual-encoder runs", "the dual-\nencoder runs"])
@pytest.mark.parametrize("reference", ["the dualencoder runs", "the dual-encoder runs", "the dual-\nencoder runs"])
def test_a_word_that_the_end_of_a_line_parts_may_be_one_or_two(reference: str, text: str) -> None:
    found = compare(bag(reference), bag(text))
    is_same = "\n" in reference + text or reference == text
    assert (found.recall == 1.0) == (found.precision == 1.0) == is_same


def test_a_number_may_stand_with_all_of_its_digits() -> None:
    reference = Bag(Counter(["0", "3333333333"]), ((("0", "3333333333"), ("0", "333333333333333")),))
    assert compare(reference, bag("0.3333333333")).recall == 1.0
    assert compare(reference, bag("0.333333333333333")).recall == 1.0
    assert compare(reference, bag("0.25")).recall == 0.5


def test_the_longest_common_subsequence() -> None:
    assert subsequence(["a", "b", "c", "d", "e"], ["a", "x", "c", "b", "d", "e"]) == 4
    assert subsequence([], ["a"]) == subsequence(["a"], []) == 0
    assert subsequence(["a"] * 300, ["a"] * 200) == 200


def test_order_is_that_within_paragraphs() -> None:
    first, second = list("abcdef"), list("ghijkl")
    assert order([first, second], [*first, *second]) == (12, 12)
    assert order([first, second], [*second, *first]) == (12, 12)
    assert order([first], list("abdcef")) == (5, 6)
    assert order([first], [*first[:2], *first[4:]]) == (4, 4)  # what is missing is no matter of order
    assert order([["too", "short"]], ["short", "too"]) == (0, 0)


def test_a_doubled_text_has_half_the_precision_whoever_read_the_reference() -> None:
    one, other = read_text("one two three", "one"), read_text("one two three 4", "other", "page")
    for reference in (one, one | other, other | one):
        found = compare(reference.required, bag("one two three " * 2), reference.allowed)
        assert (found.recall > 0.7, found.precision) == (True, 0.5)
    both = one | other
    assert compare(both.required, bag("page one two three 4"), both.allowed).precision == 1.0


def test_a_raw_message_has_not_the_precision_of_its_words(tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    head = "Received: from a.org by b.org\r\nX-Mailer: Some Program 7\r\nFrom: ann@x.org (Ann)\r\nSubject: Hi\r\n"
    path.write_text(f"{head}\r\nThe body, of six words altogether.\r\n", newline="")
    reference = read_mail(path)
    wanted = "Subject: Hi\nFrom: ann@x.org (Ann)\n\nThe body, of six words altogether."
    assert compare(reference.required, bag(wanted), reference.allowed).precision == 1.0
    assert compare(reference.required, bag(path.read_text()), reference.allowed).precision < 0.7


def test_letters_that_are_set_apart_may_be_words_by_the_gaps_between_them() -> None:
    places = (("N", 0), ("o", 8), ("r", 16), ("t", 24), ("h", 32), ("S", 46), ("e", 54), ("a", 62))
    boxes = "".join(_box(letter, left, left + 6) for letter, left in places)
    page = f'<page width="9" height="9">{boxes}{_box("all", 80, 99)}{_box("x", 105, 109)}</page>'
    assert list(torn(page)) == [(tuple("north"), ("north",)), (tuple("sea"), ("sea",))]
    reference = Bag(Counter(words("N o r t h S e a all x")), tuple(torn(page)))
    for text in ("North Sea all x", "N o r t h S e a all x", "North S e a all x"):
        found = compare(reference, bag(text))
        assert (found.recall, found.precision) == (1.0, 1.0)


def _box(word: str, left: int, right: int) -> str:
    return f'<word xMin="{left}.0" yMin="10.0" xMax="{right}.0" yMax="20.0">{word}</word>'
