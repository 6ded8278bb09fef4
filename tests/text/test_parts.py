"""What is left out of a text, as it is told."""

import re
from pathlib import Path

from airweave_server.text.parts import COMPLETE, MAX_PLACES, WHAT, LeftOut, describe, merge

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def test_what_may_be_left_out_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (yes|no) \|$", DOCS.read_text(), re.MULTILINE)
    assert {word for word, _ in rows} == WHAT.keys()
    assert {word for word, truncated in rows if truncated == "no"} == set(COMPLETE)


def test_what_differs_only_in_its_place_is_told_once() -> None:
    pages = [LeftOut("page_without_text", (f"page {number}",)) for number in range(1, 41)]
    found = merge([*pages, LeftOut("image"), LeftOut("image"), LeftOut("words", count=120)])
    assert [(one.what, one.count) for one in found] == [("page_without_text", 40), ("image", 2), ("words", 120)]
    assert len(found[0].where) == MAX_PLACES
    assert describe(found) == (
        "page 1, page 2, page 3 and 37 more: no text layer; an image is not read (2 times); about 120 words"
    )
    assert describe([LeftOut("page_without_text", ("page 2",))]) == "page 2: no text layer"
