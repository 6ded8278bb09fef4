"""Records of PowerPoint before 2007 (MS-PPT 2.3.1) and of drawings (MS-ODRAW 2.2.1)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DEPTH = 50  # of records in records
_CONTAINER = 0xF
WORD_ART = 0x00C0  # the property gtextUNICODE
_COMPLEX = 0x8000


@dataclass(frozen=True, slots=True)
class Record:
    """``kind``: recType; ``instance``: recInstance. The record has the bytes ``start`` to ``end`` of ``data``."""

    data: bytes
    kind: int
    instance: int
    start: int
    end: int
    is_container: bool

    def content(self) -> bytes:
        return self.data[self.start : self.end]

    def children(self) -> Iterator["Record"]:
        return records(self.data, self.start, self.end)

    def child(self, kind: int) -> "Record | None":
        return next((one for one in self.children() if one.kind == kind), None)

    def walk(self, depth: int = MAX_DEPTH) -> Iterator["Record"]:
        """All records inside, in order, each before those in it."""
        for one in self.children():
            yield one
            if one.is_container and depth:
                yield from one.walk(depth - 1)

    def text(self) -> str:
        content = self.content()
        return content[: len(content) // 2 * 2].decode("utf-16-le", "replace")


def records(data: bytes, start: int, end: int) -> Iterator[Record]:
    """The records that follow each other. The last one may be cut short."""
    while start + 8 <= end:
        head, kind, size = struct.unpack_from("<HHI", data, start)
        after = min(end, start + 8 + size)
        yield Record(data, kind, head >> 4, start + 8, after, head & 0xF == _CONTAINER)
        start = after


def property_of(table: Record, number: int) -> bytes | None:
    """The value of a property of a shape (MS-ODRAW 2.3.1), if it has it: four bytes, or more if it is complex."""
    content = table.content()
    place = 6 * table.instance
    for at in range(0, min(place, len(content) - 5), 6):
        code, value = struct.unpack_from("<HI", content, at)
        if code & 0x3FFF == number:
            return content[place : place + value] if code & _COMPLEX else content[at + 2 : at + 6]
        if code & _COMPLEX:
            place += value
    return None


def word_art(drawings: bytes) -> list[str]:
    """The texts of WordArt in the drawings of a Word document (MS-DOC 2.9.172)."""
    found: list[str] = []
    at = 0
    while (one := next(records(drawings, at, len(drawings)), None)) is not None:
        for table in one.walk():
            if table.kind == _PROPERTIES and (text := property_of(table, WORD_ART)):
                found.append(text.decode("utf-16-le", "replace").rstrip("\0"))
        at = one.end + 1  # the byte after it tells which text the next drawing belongs to
    return found


_PROPERTIES = 0xF00B
