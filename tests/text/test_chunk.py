import time
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airweave_server.text.chunk import CHUNK_CHARS, TAIL_CHARS, Chunk, chunks

KINDS = ["text", "markdown", "html", "json", "csv", "code"]


def bare(text: str) -> str:
    return "".join(text.split())


def check(text: str, kind: str) -> list[Chunk]:
    """What holds of any text."""
    found = list(chunks(text, kind))
    assert all(0 < len(chunk.text.rstrip()) <= CHUNK_CHARS for chunk in found)
    assert all(not chunk.text.isspace() for chunk in found)
    assert bare("".join(chunk.text for chunk in found)) == bare(text)
    assert found == list(chunks(text, kind))
    return found


MARKUP = "# Title;## Sub;Setext\n===;Under\n---;```py;```;~~~;- item;| a | b |;|---|---|;\t ;;\n;A sentence. Another!"
CODE = "def f(x):;    return 1;class A:;};@decorator;// comment;if x {;"
LONG = ("word " * 150 + "\n", "x" * 700, "日本語。" * 200, " " * 500, "é\u0301" * 300)
LINES = st.sampled_from([*(line + "\n" for line in f"{MARKUP};{CODE}".split(";")), *LONG])


@given(st.lists(LINES | st.text(max_size=50), max_size=40).map("".join), st.sampled_from(KINDS))
def test_no_chunk_is_empty_or_too_long_and_nothing_is_lost(text: str, kind: str) -> None:
    check(text, kind)


@given(st.text(max_size=4_000), st.sampled_from(KINDS))
def test_any_characters_are_kept(text: str, kind: str) -> None:
    check(text, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_gives_no_chunks(kind: str) -> None:
    for text in ("", " ", "\n\n\n", " \t\n" * 1_000):
        assert list(chunks(text, kind)) == []


def test_a_short_text_is_one_chunk() -> None:
    assert list(chunks("\n\nOne line.\n\nTwo.\n", "text")) == [Chunk("One line.\n\nTwo.\n", "")]


def test_a_section_that_fills_half_a_chunk_has_its_own_and_leaves_the_path_of_its_headings() -> None:
    body = "A sentence of some words. " * 40 + "\n"
    text = f"# Guide\n\n## Install\n\n{body}\n### Docker\n\n{body}\nUsage\n-----\n\n{body}\n# End\n\nBye.\n"
    assert [(chunk.heading, chunk.text) for chunk in check(text, "markdown")] == [
        ("Guide > Install", f"# Guide\n\n## Install\n\n{body}\n"),
        ("Guide > Install > Docker", f"### Docker\n\n{body}\n"),
        ("Guide > Usage", f"Usage\n-----\n\n{body}\n"),
        ("End", "# End\n\nBye.\n"),
    ]


def test_short_sections_share_a_chunk_and_the_path_that_they_have_in_common() -> None:
    (chunk,) = check("# Guide\n\n## Install\n\n### Pip\n\nRun.\n\n### Docker\n\nCompose.\n", "markdown")
    assert chunk.heading == "Guide > Install"
    (chunk,) = check("# One\n\nFirst.\n\n# Two\n\nSecond.\n", "markdown")
    assert chunk.heading == "One"


@pytest.mark.parametrize("kind", KINDS)
def test_joined_the_chunks_are_the_text(kind: str) -> None:
    lines = [*f"{MARKUP};{CODE}".split(";"), *(line.strip("\n") for line in LONG[:3])]
    text = "\n".join(line + "\n" * (i % 3) for i, line in enumerate(lines * 20) if line.strip())
    assert "".join(chunk.text for chunk in check(text, kind)) == text


def test_the_heading_path_holds_for_a_section_of_any_length() -> None:
    text = "# Book\n\n## Chapter **One** ##\n\n" + "A sentence of some words. " * 20_000
    found = check(text, "markdown")
    assert len(found) > 300
    assert {chunk.heading for chunk in found} == {"Book > Chapter One"}


@pytest.mark.parametrize(
    "text",
    [
        "```\n# not a heading\n```\n\nText\n",
        "~~~sh\n# comment\n~~~\n",
        "#hashtag and #!shebang\n",
        "a paragraph\nof two lines\n---\n",
        "---\ntitle: x\n---\n\nText\n",
        "| a |\n---\n",
    ],
)
def test_what_only_looks_like_a_heading_is_none(text: str) -> None:
    assert {chunk.heading for chunk in check(text, "markdown")} == {""}


def test_a_fence_that_fits_is_not_cut() -> None:
    fence = "```python\n" + "print('line')\n" * 70 + "```"
    assert TAIL_CHARS < len(fence) < CHUNK_CHARS
    for words in (1, 20, 60, 100, 140, 200):
        found = check(f"# T\n\n{'word ' * words}\n\n{fence}\n\n{'more ' * words}\n", "markdown")
        assert sum(fence in chunk.text for chunk in found) == 1


def test_a_fence_too_long_for_a_chunk_is_cut_between_its_lines() -> None:
    lines = [f"line number {i} of the listing" for i in range(300)]
    text = "```\n" + "\n".join(lines) + "\n```\n\n# After\n\n" + "Text. " * 200 + "\n"
    found = check(text, "markdown")
    assert [line for chunk in found for line in chunk.text.split("\n") if line.startswith("line")] == lines
    assert found[-1].heading == "After"


def test_rows_of_a_table_stay_whole_and_its_head_keeps_its_first_row() -> None:
    rows = [f"| {i} | some value {i} | another value |" for i in range(200)]
    text = "word " * 200 + "\n\n| id | one | two |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    found = check(text, "markdown")
    assert {line for chunk in found for line in chunk.text.split("\n") if line.startswith("| ")} >= set(rows)
    (head,) = [chunk for chunk in found if "|---|" in chunk.text]
    assert "| id | one | two |\n|---|---|---|\n| 0 |" in head.text


def test_a_tiny_tail_joins_its_predecessor_but_not_another_section() -> None:
    body = "\n\n".join("word " * 50 for _ in range(7))
    found = check(f"# A\n\n{body}\n\nTail.\n\n# B\n\nTiny.\n", "markdown")
    assert found[-2].text.endswith("Tail.\n\n")
    assert len(found[-2].text) > TAIL_CHARS
    assert (found[-1].heading, found[-1].text) == ("B", "# B\n\nTiny.\n")


def test_long_lines_are_cut_at_sentences_then_at_words() -> None:
    found = check("This is a sentence of the text. " * 300, "text")
    assert all(chunk.text.rstrip().endswith(".") for chunk in found)
    found = check("word" + " word" * 2_000, "text")
    assert all(set(chunk.text.split()) == {"word"} for chunk in found)
    assert all(chunk.text.endswith("。") for chunk in check("これは日本語の文です。" * 500, "text"))


def test_a_hard_cut_does_not_part_a_letter_from_its_accent_or_an_emoji() -> None:
    for cluster in ("e\u0301", "👩\u200d👩\u200d👧"):
        for chunk in check(cluster * 2_000, "text"):
            assert chunk.text.startswith(cluster[0])
            assert chunk.text.endswith(cluster[-1])


def test_plain_text_prefers_paragraphs() -> None:
    paragraphs = [f"Paragraph {i}. " + "word " * 60 for i in range(40)]
    found = check("\n\n".join(paragraphs), "text")
    assert all(chunk.text.startswith("Paragraph") for chunk in found)


def test_code_is_cut_before_definitions_and_says_which() -> None:
    functions = [
        f"@decorated\ndef function_{i}(a, b):\n    '''Doc.'''\n\n" + "    a = a + b  # a line of code\n" * 24
        for i in range(12)
    ]
    text = "import os\nimport sys\n\n\n" + "\n\n".join(functions)
    found = check(text, "code")
    assert found[0].text.startswith("import os")
    for chunk in found[1:]:
        assert chunk.text.startswith("@decorated\ndef function_")
        assert chunk.heading == chunk.text.split("\n")[1].rstrip(":")


def test_a_definition_longer_than_a_chunk_keeps_its_name_in_all_of_its_chunks() -> None:
    text = "class Big(Base):\n" + "".join(
        f"    def method_{i}(self):\n        return {i}  # with a comment\n\n" for i in range(100)
    )
    found = check(text, "code")
    assert len(found) > 3
    assert {chunk.heading for chunk in found} == {"class Big(Base)"}
    assert all(chunk.text.lstrip().startswith(("class", "def method")) for chunk in found)


DEFINITIONS = (
    "export default async function main(args) {",
    "pub(crate) fn run<T>(x: T) -> Result<T> {",
    "func (s *Server) Run() {",
    "public final class Main {",
    "int main(int argc, char **argv) {",
    "const handler = async (event) => {",
    "impl<T> Foo for Bar<T> {",
    "create or replace table orders (",
    "module Foo",
    "defmodule Foo.Bar do",
)


@pytest.mark.parametrize("line", DEFINITIONS)
def test_definitions_of_many_languages_are_known(line: str) -> None:
    found = check("x = 1\n" * 200 + "\n" + line + "\n" + "    body();\n" * 400, "code")
    headings = [chunk.heading for chunk in found if "body" in chunk.text]
    assert headings == [line.rstrip("{").rstrip()] * len(headings)
    assert found[0].heading == ""


HUGE = {
    "no white space": "a" * 1_000_000,
    "spaces": "x" + " " * 20_000_000 + "y",
    "blank lines": "x" + "\n" * 1_000_000 + "y",
    "headings": "# a\n" * 30_000,
    "short lines": "x\n" * 50_000,
    "fences": "```\n" * 30_000,
    "open fence": "```\n" + "code line\n" * 50_000,
    "underlines": "a\n---\n\n" * 30_000,
    "pipes": "|a|b|\n" * 30_000,
    "hashes": "#" * 1_000_000,
    "ideographs": "日本語文" * 500_000,
    "backticks": "`" * 1_000_000,
}


@pytest.mark.parametrize("kind", ["text", "markdown", "code"])
@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_time_is_linear_whatever_the_text(text: str, kind: str) -> None:
    start = time.process_time()
    count = sum(1 for _ in chunks(text, kind))
    assert count >= 1
    assert time.process_time() - start < 3


@pytest.mark.parametrize("kind", ["text", "markdown", "code"])
def test_chunks_of_a_huge_text_come_at_once_and_hold_little_memory(kind: str) -> None:
    text = "Some words of a line that goes on.\n" * 800_000
    tracemalloc.start()
    try:
        first = list(islice(chunks(text, kind), 500))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(first) == 500
    assert peak < 5_000_000
