"""Files of golden queries: what is read, what is refused and at which line."""

from pathlib import Path

import pytest

from airweave_server.commands.golden import MOST_BYTES, Golden, fits, name_hits, read
from airweave_server.errors import ClientError


def written(folder: Path, content: str | bytes, name: str = "golden.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_right_ids_are_one_several_or_graded(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '\ufeff{"query": " how long is a lease ", "right": "dhcp.md"}\r\n'
        "\r\n"
        '{"query": "vpn", "right": ["a.md", "b/*.md"]}\n'
        '{"query": "graded \\u2028 ü", "right": {"a.md": 2, "b.md": 0.5, "c.md": 0}}',
    )
    assert read(path) == [
        Golden(1, "how long is a lease", {"dhcp.md": 1.0}),
        Golden(3, "vpn", {"a.md": 1.0, "b/*.md": 1.0}),
        Golden(4, "graded \u2028 ü", {"a.md": 2.0, "b.md": 0.5, "c.md": 0.0}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_has_a_row_for_each_right_id(tmp_path: Path, delimiter: str) -> None:
    rows = ["Query,right,GRADE", "vpn,a.md,2", '"two', 'lines",b.md,', "", "vpn,c.md,1"]
    path = written(tmp_path, "\r\n".join(rows).replace(",", delimiter), "golden.csv")
    assert read(path) == [Golden(2, "vpn", {"a.md": 2.0, "c.md": 1.0}), Golden(3, "two\r\nlines", {"b.md": 1.0})]
    assert read(written(tmp_path, "right\tquery\na.md\tvpn\n", "golden.TSV")) == [Golden(2, "vpn", {"a.md": 1.0})]


GOOD = '{"query": "q", "right": "a"}\n'


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (GOOD + "nonsense", 2, "not JSON"),
        (GOOD + "[" * 100_000, 2, "not JSON"),
        (GOOD + '{"query": "r", "right": {"a": ' + "9" * 5_000 + "}}", 2, "not JSON"),
        (GOOD + '["q"]', 2, "an object such as"),
        ('{"right": "a"}', 1, "query must be a text"),
        ('{"query": 3, "right": "a"}', 1, "query must be a text"),
        ('{"query": "q"}', 1, "right must be an id"),
        ('{"query": "q", "right": 3}', 1, "right must be an id"),
        ('{"query": "q", "right": [3]}', 1, "an id must be a text"),
        ('{"query": "q", "right": []}', 1, "no document is right"),
        ('{"query": "q", "right": {"a": 0}}', 1, "no document is right"),
        ('{"query": "q", "right": {"a": "2"}}', 1, "a grade must be a number"),
        ('{"query": "q", "right": {"a": true}}', 1, "a grade must be a number"),
        ('{"query": "q", "right": {"a": -1}}', 1, "a grade must be from 0 to 1000"),
        ('{"query": "q", "right": {"a": NaN}}', 1, "a grade must be from 0 to 1000"),
        ('{"query": "q", "right": {"a": Infinity}}', 1, "a grade must be from 0 to 1000"),
        ('{"query": "q", "right": ""}', 1, "right is empty"),
        ('{"query": " ", "right": "a"}', 1, "query is empty"),
        ('{"query": "q", "right": ["a", "a"]}', 1, "'a' stands there twice"),
        ('{"query": "q", "right": {"a": 1, "a": 2}}', 1, "'a' stands there twice"),
        ('{"query": "q", "query": "r", "right": "a"}', 1, "'query' stands there twice"),
        ('{"query": "q", "wrong": "a"}', 1, "no field 'wrong'"),
        (GOOD + "\n" + GOOD, 3, "the query of line 1 again"),
        (GOOD + '{"query": "a\\u0000b", "right": "a"}', 2, "must not contain NUL"),
        (GOOD + '{"query": "q2", "right": "\\ud800"}', 2, "must not contain NUL characters or lone surrogates"),
        (GOOD + '{"query": "' + "x" * 10_001 + '", "right": "a"}', 2, "more than 10,000 characters"),
        (GOOD.encode() + b"\n\0", 3, "NUL"),
        (GOOD.encode() + b'{"query": "\xe4", "right": "a"}', 2, "not UTF-8"),
        (GOOD.encode("utf-16"), 1, "save it as UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str | bytes, line: int, what: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ClientError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert what in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("vpn,a.md", 1, "must name the columns"),
        ("query,right,right", 1, "must name the columns"),
        ("query,right,note\nvpn,a.md,x", 1, "must name the columns"),
        ("query,right\nvpn", 2, "1 cells under 2 columns"),
        ("query,right\nvpn,a.md,1", 2, "3 cells under 2 columns"),
        ("query,right\n\nvpn,", 3, "right is empty"),
        ("query,right,grade\nvpn,a.md,much", 2, "'much' is not a number"),
        ("query,right,grade\nvpn,a.md,nan", 2, "from 0 to 1000"),
        ("query,right,grade\nvpn,a.md,0\n", 2, "no document is right"),
        ("query,right\nvpn,a.md\nvpn,b.md\nvpn,a.md", 4, "'a.md' is given for this query"),
        ('query,right\n"vpn,a.md', 2, "no row of a table"),
        ('query,right\n"' + "x" * 140_000 + '",a.md', 2, "no row of a table"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: str, line: int, what: str) -> None:
    path = written(tmp_path, content, "golden.csv")
    with pytest.raises(ClientError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert what in str(raised.value)


def test_a_file_that_holds_no_queries_or_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for content, name in (("", "a.jsonl"), ("\n \n", "b.jsonl"), ("query,right\n", "c.csv"), ("", "d.csv")):
        with pytest.raises(ClientError, match="holds no queries"):
            read(written(tmp_path, content, name))
    with pytest.raises(ClientError, match="No such file"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(ClientError, match="Is a directory"):
        read(tmp_path)
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ClientError, match="larger than 64 MB"):
        read(large)


@pytest.mark.parametrize(
    ("right", "found", "expected"),
    [
        ("a.md", "a.md", True),
        ("a.md", "b/a.md", False),
        ("*/a.md", "b/a.md", True),
        ("*/a.md", "a.md", False),
        ("*a.md", "a.md", True),
        ("b/*", "b/c/a.md", True),
        ("b*c*d", "bcd", True),
        ("b*c*d", "bxcxcyd", True),
        ("b*c*d", "bd", False),
        ("ab*ba", "aba", False),
        ("a*b*b", "ab", False),
        ("*", "anything", True),
        ("a?.md", "ab.md", False),
        ("a[b].md", "a[b].md", True),
        ("*" * 1_000 + "x", "y" * 10_000, False),
    ],
)
def test_an_id_with_a_star(right: str, found: str, expected: bool) -> None:
    assert fits(right, found) is expected


def test_hits_are_named_by_the_right_id_that_they_fit() -> None:
    grades = {"docs/*": 1.0, "docs/a.md": 2.0, "b.md": 1.0}
    assert name_hits(["x.md", "docs/c.md", "docs/a.md", "b.md"], grades) == ["x.md", "docs/*", "docs/a.md", "b.md"]
