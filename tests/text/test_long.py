"""Tables that are too long for memory: each row is in the text, and the same text results as of a short one."""

import io
import json
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from airweave_server.sdk import Entity, Unavailable
from airweave_server.text import reading
from airweave_server.text.extract import extract
from airweave_server.text.long import LONG_BYTES, read_long
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted
from airweave_server.text.reading import Reader, cut

ROWS = 2_000
HEAD = 10_000


def rows() -> Iterator[tuple[int, str, str, str]]:
    return ((n, f"Name{n % 977}", f"QX-{n:07d}", f"{n % 1000 / 7:.2f}") for n in range(ROWS))


def csv() -> str:
    return "id;name;sku;price\n" + "".join(f"{';'.join(map(str, row))} more words\n" for row in rows())


def json_lines() -> str:
    return "".join(json.dumps({"id": n, "of": {"sku": sku}, "price": price}) + "\n" for n, _, sku, price in rows())


def read(data: bytes, name: str, *, head: int = HEAD) -> Extracted:
    pieces = (data[start : start + 7_001] for start in range(head, len(data), 7_001))
    found = read_long(data[:head], pieces, filename=name)
    assert found is not None
    assert found.text == ""
    return found


SHAPES: dict[str, tuple[str, Callable[[], str], str]] = {
    "csv": ("a.csv", csv, "csv"),
    "a line for Excel": ("a.csv", lambda: "sep=;\n" + csv(), "csv"),
    "a title": ("a.csv", lambda: "Prices\n\n" + csv(), "csv"),
    "csv called text": ("a.txt", csv, "csv"),
    "line ends of Windows": ("a.csv", lambda: csv().replace("\n", "\r\n"), "csv"),
    "line ends of old Macs": ("a.csv", lambda: csv().replace("words\n", "words\r"), "csv"),
    "json lines": ("a.jsonl", json_lines, "json"),
    "json lines called json": ("a.json", lambda: json_lines() + "{broken\n\n[1, 2]", "json"),
}


@pytest.mark.parametrize(("name", "make", "kind"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_long_table_is_read_as_a_short_one(name: str, make: Callable[[], str], kind: str, encoding: str) -> None:
    data = make().encode(encoding)
    found = read(data, name)
    assert (found.kind, found.left_out) == (kind, ())
    whole = extract(data, filename=name)
    assert isinstance(whole, Extracted)
    text = "".join(found.pieces())
    assert text.rstrip("\n") == whole.text
    assert found.chars == len(text)
    assert found.formats == whole.formats
    assert [chunk.text.rstrip() for chunk in cut(found)] == [chunk.text.rstrip() for chunk in cut(whole)]
    for number in (0, ROWS // 2, ROWS - 1):
        assert f"QX-{number:07d}" in text


def test_letters_after_much_ascii_are_read() -> None:
    text = csv() + "1;Jürgen;Größe;8\n2;Müller;Straße;9\n" * 20
    found = read(text.encode("latin-1"), "a.csv")
    assert "".join(found.pieces()).endswith("name: Müller; sku: Straße; price: 9\n")
    assert "charset" in found.formats
    damaged = csv().replace("more", "größer").encode() + b"1;J\xff;x;8\n"
    assert "name: J\ufffd; sku: x" in "".join(read(damaged, "a.csv").pieces())


def test_long_texts_and_pages_are_no_tables() -> None:
    for name, text in (("a.txt", "just words\n"), ("a.md", "a,b\n1,2\n"), ("a.json", "[\n1,\n2\n"), ("a.log", "x;y\n")):
        assert read_long((text * 1_000).encode(), iter([b"more"]), filename=name) is None


def test_memory_stays_the_same_however_long_the_table_is() -> None:
    block = csv().encode().partition(b"\n")[2]

    def peak_of(times: int) -> int:
        tracemalloc.start()
        try:
            found = read_long(b"id;name;sku;price\n" + block, iter([block] * times), filename="a.csv")
            assert found is not None
            assert found.chars > times * len(block)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_of(20) < 1.2 * peak_of(5)


def test_a_long_file_is_read_to_its_end_and_errors_of_its_source_pass() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > LONG_BYTES + reading.READ_BYTES:
                raise Unavailable("gone")
            return super().read(size)

    data = csv().encode() * (LONG_BYTES // len(csv()) + 20) + b"7;Last;QX-9;1\n"
    reader = Reader(Parsers(seconds=1, memory_mb=400))
    whole = Entity(id="a", name="a.csv", type="File", filename="a.csv", open=lambda: io.BytesIO(data))
    found = reader.read(whole)
    assert isinstance(found, Extracted)
    assert "".join(found.pieces()).endswith("id: 7; name: Last; sku: QX-9; price: 1\n")
    broken = Entity(id="a", name="a.csv", type="File", filename="a.csv", open=lambda: Broken(data))
    with pytest.raises(Unavailable, match="gone"):
        reader.read(broken)
