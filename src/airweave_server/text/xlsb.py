"""Binary Excel workbooks (.xlsb; [MS-XLSB]) to text: as .xlsx, but workbook, styles, strings, sheets and comments are
records instead of XML."""

import struct
import zipfile
from collections.abc import Iterator
from typing import IO

from . import biff
from .cellformat import GENERAL, CellFormat, formats
from .grid import MAX_COLUMNS, MAX_ROWS, Comments, Place, Row, describe_comment, read_rows
from .package import PART_ERRORS, Package
from .parts import Deadline, LeftOut, Part, Unparseable
from .shapes import tidy
from .worksheet import Strings, header_text, visible
from .xlsx import Drawings, Threads

MAIN_PART = "xl/workbook.bin"
MAX_RECORD_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 1024 * 1024

_DAMAGE = (struct.error, IndexError, *PART_ERRORS)
_LAST_CELL = 11  # the types of cells are 1 to this


def read(archive: zipfile.ZipFile, deadline: Deadline) -> Iterator[Part]:
    package = Package(archive)
    main = package.main_part() or MAIN_PART
    workbook = _Workbook(package, main, deadline)
    yield from workbook.left_out
    for name, id in workbook.sheets:
        yield from workbook.read_sheet(name, id)


def _records(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The (type, data) of each record of a part."""
    with file:
        held, place = b"", 0
        while True:
            if len(held) - place < 6:  # the longest head
                held, place = held[place:] + file.read(PIECE_BYTES), 0
                if not held:
                    return
            kind = held[place]
            place += 1
            if kind & 0x80:
                kind = kind & 0x7F | (held[place] & 0x7F) << 7
                place += 1
            size = 0
            for shift in (0, 7, 14, 21):
                byte = held[place]
                place += 1
                size |= (byte & 0x7F) << shift
                if not byte & 0x80:
                    break
            if size > MAX_RECORD_BYTES:
                raise Unparseable("it is damaged: a record is too long")
            if len(held) - place < size:
                held, place = held[place:] + file.read(max(PIECE_BYTES, size)), 0
                if len(held) < size:
                    raise Unparseable("it is damaged or cut short")
            yield kind, held[place : place + size]
            place += size


def _string(data: bytes, offset: int) -> tuple[str, int]:
    """A string and the offset after it. A length of -1 stands for none."""
    (count,) = struct.unpack_from("<I", data, offset)
    if count == 0xFFFFFFFF:
        return "", offset + 4
    end = offset + 4 + 2 * count
    return visible(data[offset + 4 : end].decode("utf-16-le", "replace")), end


class _Workbook:
    def __init__(self, package: Package, main: str, deadline: Deadline) -> None:
        self.left_out: list[LeftOut] = []
        self.sheets: list[tuple[str, str]] = []  # name, id of the relation
        self._package = package
        self._deadline = deadline
        self._relations = package.relations(main)
        self._drawings = Drawings(package)
        self._strings = Strings()
        self._formats: list[CellFormat] = []
        self._is_1904 = False
        try:
            self._read_globals(package.open(main))
        except (struct.error, IndexError):
            raise Unparseable("it is damaged: its list of sheets cannot be read") from None
        self._threads = Threads(package, self._relations.values())
        for one in self._relations.values():
            try:
                if one.kind == "sharedStrings":
                    self._read_strings(package.open(one.target))
                elif one.kind == "styles":
                    self._formats = _read_formats(package.open(one.target))
            except _DAMAGE:
                self.left_out.append(LeftOut("damaged", (one.target.rpartition("/")[2],)))

    def _read_globals(self, file: IO[bytes]) -> None:
        for kind, data in _records(file):
            if kind == 156:
                id, end = _string(data, 8)
                self.sheets.append((_string(data, end)[0], id))
            elif kind == 153 and data:
                self._is_1904 = bool(data[0] & 1)

    def _read_strings(self, file: IO[bytes]) -> None:
        for kind, data in _records(file):
            if kind == 19:
                self._strings.add(_string(data, 1)[0])

    def read_sheet(self, name: str, id: str) -> Iterator[Part]:
        label = f"Sheet {name}"
        relation = self._relations.get(id)
        if relation is None or relation.is_external or not self._package.has(relation.target):
            yield LeftOut("damaged", (label,), note="a sheet is missing")
            return
        part = relation.target
        comments, left_out = self._read_comments(part, label)
        headers: list[str] = []
        rows = self._rows(part, headers)
        size = self._package.archive.getinfo(self._package.name(part)).file_size
        yield from read_rows(rows, comments, left_out, label, self._deadline, chars=size)
        yield from self._drawings.read(part, label, headers)

    def _rows(self, part: str, headers: list[str]) -> Iterator[Row]:
        row, cells = -1, dict[int, str]()
        for kind, data in _records(self._package.open(part)):
            if kind == 0:
                if cells:
                    yield row, sorted(cells.items())
                row, cells = min(struct.unpack_from("<I", data)[0], MAX_ROWS - 1), {}
            elif 1 < kind <= _LAST_CELL or kind == 62:
                column, style = struct.unpack_from("<II", data)
                text = self._cell_text(kind, data, style & 0xFFFFFF)
                if text and not text.isspace() and column < MAX_COLUMNS:
                    cells[column] = text
            elif kind == 479:
                place = 2
                while place < len(data):
                    codes, place = _string(data, place)
                    if text := header_text(codes):
                        headers.append(text)
        if cells:
            yield row, sorted(cells.items())

    def _cell_text(self, kind: int, data: bytes, style: int) -> str:
        format = self._formats[style] if style < len(self._formats) else GENERAL
        if kind == 7:
            return format.show_text(self._strings.get(struct.unpack_from("<I", data, 8)[0]))
        if kind in (6, 8):
            return format.show_text(_string(data, 8)[0])
        if kind == 62:
            return format.show_text(_string(data, 9)[0])
        if kind in (3, 11):
            return biff.error_text(data[8])
        if kind in (4, 10):
            return ("FALSE", "TRUE")[data[8] != 0]
        if kind == 2:
            number = biff.rk_number(struct.unpack_from("<I", data, 8)[0])
        else:
            number = repr(struct.unpack_from("<d", data, 8)[0])
        return format.show(number, is_1904=self._is_1904)

    def _read_comments(self, part: str, label: str) -> tuple[Comments, list[LeftOut]]:
        comments, in_threads, left_out = self._threads.read(part, label)
        authors: list[str] = []
        author, place = "", Place(0, 0)
        try:
            for one in self._package.relations(part).values():
                if one.kind != "comments" or one.is_external:
                    continue
                for kind, data in _records(self._package.open(one.target)):
                    if kind == 632:
                        authors.append(_string(data, 0)[0])
                    elif kind == 635:
                        number, row, _, column = struct.unpack_from("<IIII", data)
                        author, place = authors[number] if number < len(authors) else "", Place(row, column)
                    elif kind == 637 and place not in in_threads and (text := tidy(_string(data, 1)[0])):
                        said = describe_comment("" if author.startswith("tc=") else author, text)
                        comments.setdefault(place.row, []).append((place.column, said))
        except _DAMAGE:
            left_out.append(LeftOut("damaged", (label,), note="its comments cannot be read"))
        return comments, left_out


def _read_formats(file: IO[bytes]) -> list[CellFormat]:
    """The number format of each cell style."""
    codes: dict[int, str] = {}
    ids: list[int] = []
    is_cell = False
    for kind, data in _records(file):
        if kind == 44:
            codes[int.from_bytes(data[:2], "little")] = _string(data, 2)[0]
        elif kind in (617, 618):
            is_cell = kind == 617
        elif kind == 47 and is_cell:
            ids.append(int.from_bytes(data[2:4], "little"))
    return formats(codes, ids)
