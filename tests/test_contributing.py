"""What CONTRIBUTING.md says of the tree is true of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
ROWS = re.findall(r"^\| (an? [^|]+?) \| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
MUST_HAVE = {
    "a file format", "a filter operator", "a field of a job", "a status of a job", "an embedder", "a source",
    "a keeper duty", "a route", "a page of docs",
}  # fmt: skip


def paths(text: str) -> list[str]:
    """The files and folders that a text names."""
    return [
        name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name or name in ("pyproject.toml", "README.md")
    ]


def test_the_table_has_the_rows_that_people_look_for() -> None:
    assert {name for name, _, _ in ROWS} >= MUST_HAVE


@pytest.mark.parametrize(("name", "example", "touch"), ROWS, ids=[name for name, _, _ in ROWS])
def test_each_file_of_a_row_mentions_its_example(name: str, example: str, touch: str) -> None:
    found = paths(touch)
    assert found, f"the row of {name} names no file"
    for path in found:
        place = ROOT / path
        assert place.exists(), f"{name}: {path} is gone"
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        pattern = re.compile(rf"(?<!\w){re.escape(example)}(?!\w)", re.IGNORECASE)
        assert any(pattern.search(file.read_text()) for file in files), f"{name}: {path} says nothing of {example}"


def test_every_path_on_the_page_is_there() -> None:
    missing = [path for path in paths(PAGE) if not any((base / path).exists() for base in places())]
    assert not missing


def places() -> tuple[Path, ...]:
    """Where a path on the page may begin."""
    return ROOT, ROOT / "src/airweave_server"
