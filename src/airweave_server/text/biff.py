"""The records of Excel files before 2007 (BIFF5 and BIFF8, [MS-XLS]): frames, numbers and strings."""

import codecs
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from .parts import Unparseable
from .worksheet import Strings

BOF, EOF, CONTINUE, FILE_PASS = 0x0809, 0x000A, 0x003C, 0x002F

_ERRORS = {
    0: "#NULL!",
    7: "#DIV/0!",
    15: "#VALUE!",
    23: "#REF!",
    29: "#NAME?",
    36: "#NUM!",
    42: "#N/A",
    43: "#GETTING_DATA",
}
_MAC_ROMAN = (10000, 32768)


class Record(NamedTuple):
    """``end``: the offset of the next record."""

    kind: int
    data: bytes
    end: int


def records(stream: bytes, offset: int) -> Iterator[Record]:
    """The records from an offset to the end of what begins there, with all that is nested in it. Raises
    ``Unparseable`` if it is cut short."""
    depth = 0
    while True:
        if offset + 4 > len(stream):
            raise Unparseable("it is damaged or cut short")
        kind, size = struct.unpack_from("<HH", stream, offset)
        end = offset + 4 + size
        if end > len(stream):
            raise Unparseable("it is damaged or cut short")
        yield Record(kind, stream[offset + 4 : end], end)
        offset = end
        depth += (kind == BOF) - (kind == EOF)
        if depth <= 0:
            return


def is_locked(stream: bytes) -> bool:
    """Whether a workbook is encrypted."""
    with suppress(Unparseable):
        return any(one.kind == FILE_PASS for one in records(stream, 0))
    return False


def error_text(code: int) -> str:
    return _ERRORS.get(code, "#N/A")


def rk_number(value: int) -> str:
    """A number that is packed into 30 bits."""
    if value & 2:
        number: float = (value - (1 << 32) if value & 0x80000000 else value) >> 2
    else:
        number = struct.unpack("<d", struct.pack("<II", 0, value & 0xFFFFFFFC))[0]
    return repr(number / 100 if value & 1 else number)


def encoding_of(codepage: int) -> str:
    """Python's name of a code page; Western Windows if it is none."""
    name = "utf-16-le" if codepage == 1200 else "mac_roman" if codepage in _MAC_ROMAN else f"cp{codepage}"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"


def wide_string(data: bytes, offset: int, *, size_bytes: int) -> tuple[str, int]:
    """A string of BIFF8 whose length takes ``size_bytes``, and the offset after it. Not one that goes on in the next
    record."""
    count = int.from_bytes(data[offset : offset + size_bytes], "little")
    flags = data[offset + size_bytes] if offset + size_bytes < len(data) else 0
    place = offset + size_bytes + 1
    place += (2 if flags & 8 else 0) + (4 if flags & 4 else 0)
    width = 2 if flags & 1 else 1
    text = data[place : place + width * count].decode("utf-16-le" if flags & 1 else "latin-1", "replace")
    return text, place + width * count


def read_shared_strings(pieces: list[bytes], into: Strings) -> None:
    """The strings of an SST record and those that continue it. Where a string goes on in the next piece, that begins
    with how its characters are stored."""
    if not pieces or len(pieces[0]) < 8:
        return
    reader = _Pieces(pieces, 8)
    total = int.from_bytes(pieces[0][4:8], "little")
    for _ in range(total):
        if reader.is_at_end():
            return
        count, flags = struct.unpack("<HB", reader.take(3))
        runs = struct.unpack("<H", reader.take(2))[0] if flags & 8 else 0
        extra = struct.unpack("<I", reader.take(4))[0] if flags & 4 else 0
        into.add(reader.take_text(count, is_wide=bool(flags & 1)))
        reader.skip(4 * runs + extra)


class _Pieces:
    """Reads on through the pieces of a long record."""

    def __init__(self, pieces: list[bytes], offset: int) -> None:
        self._pieces = pieces
        self._number = 0
        self._offset = offset

    def is_at_end(self) -> bool:
        while self._number < len(self._pieces) and self._offset >= len(self._pieces[self._number]):
            self._number += 1
            self._offset = 0
        return self._number >= len(self._pieces)

    def take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            if self.is_at_end():
                raise Unparseable("its shared strings are cut short")
            piece = self._pieces[self._number]
            part = piece[self._offset : self._offset + size - len(taken)]
            taken += part
            self._offset += len(part)
        return taken

    def take_text(self, count: int, *, is_wide: bool) -> str:
        made: list[str] = []
        while count > 0:
            if self._offset >= len(self._pieces[self._number]):
                if self.is_at_end():
                    raise Unparseable("its shared strings are cut short")
                is_wide = bool(self._pieces[self._number][0] & 1)
                self._offset = 1
            width = 2 if is_wide else 1
            left = len(self._pieces[self._number]) - self._offset
            taken = min(count, left // width)
            if taken == 0:
                self._offset += left
                continue
            data = self._pieces[self._number][self._offset : self._offset + taken * width]
            made.append(data.decode("utf-16-le" if is_wide else "latin-1", "replace"))
            self._offset += taken * width
            count -= taken
        return "".join(made)

    def skip(self, size: int) -> None:
        while size > 0 and not self.is_at_end():
            part = min(size, len(self._pieces[self._number]) - self._offset)
            self._offset += part
            size -= part
