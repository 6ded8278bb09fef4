"""Excel files before 2007 (.xls, from Excel 5 on; [MS-XLS]) to text: the rows of each sheet, then what is on it."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import olefile

from . import biff, ole, unlock
from .cellformat import GENERAL, CellFormat, formats
from .grid import Comments, Row, describe_comment, read_rows
from .parts import Deadline, LeftOut, Member, Part, Refused, Text, Unparseable
from .shapes import tidy
from .worksheet import Strings, header_text, visible

STREAMS = ("Workbook", "Book")
_DAMAGE = (struct.error, IndexError, ValueError, Unparseable)
_PICTURE, _NOTE = 0x08, 0x19  # types of objects
_CHART = 2  # the type of a sheet
_FORMULAS = (0x06, 0x206, 0x406)  # some programs write those of earlier versions
_CELLS = (*_FORMULAS, 0xD6, 0xBD, 0xFD, 0x203, 0x204, 0x205, 0x207, 0x27E)


@dataclass
class _Sheet:
    name: str
    offset: int
    is_chart: bool


@dataclass
class _Found:
    """What is on a sheet beside its cells. ``notes``: (row, column, author, number of its object or its text)."""

    notes: list[tuple[int, int, str, int | str]] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)  # of objects, by number
    kinds: dict[int, int] = field(default_factory=dict)
    chart_texts: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)


def read(file: olefile.OleFileIO, deadline: Deadline) -> Iterator[Part]:
    stream = next((name for name in STREAMS if file.exists(name)), None)
    if stream is None:
        raise Unparseable("it is damaged: it has no workbook")
    yield from _Workbook(_unlocked(file.openstream(stream).read()), deadline).read()
    yield from _read_objects(file)


def _unlocked(stream: bytes) -> bytes:
    """The stream, decrypted if Excel opens it for everybody. Raises ``Refused`` if it does not."""
    if not biff.is_locked(stream):
        return stream
    plain = unlock.unlock_stream(stream)
    if plain is None:
        raise Refused("encrypted")
    return plain


def _read_objects(file: olefile.OleFileIO) -> Iterator[Part]:
    """The documents that are embedded: each has a storage of its own."""
    streams = [path for path in file.listdir() if len(path) > 1 and path[0].upper().startswith("MBD")]
    for name in dict.fromkeys(path[0] for path in streams):
        if any(path[0] == name and path[1] in ole.DOCUMENT_STREAMS for path in streams):
            yield Member(name, partial(ole.open_storage, file, [name]))
        else:
            yield LeftOut("object", (name,))


class _Workbook:
    def __init__(self, stream: bytes, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._sheets: list[_Sheet] = []
        self._strings = Strings()
        self._formats: list[CellFormat] = []
        self._is_1904 = False
        self._is_wide = True  # BIFF8
        self._encoding = "cp1252"
        self._said: set[str] = set()

    def read(self) -> Iterator[Part]:
        yield from self._read_globals()
        for sheet in self._sheets:
            yield from self._read_sheet(sheet)

    def _read_globals(self) -> Iterator[Part]:
        codes: dict[int, str] = {}
        ids: list[int] = []
        long: list[bytes] = []
        is_in_strings = False
        for kind, data, _ in biff.records(self._stream, 0):
            if kind == biff.CONTINUE:
                if is_in_strings:
                    long.append(data)
                continue
            is_in_strings = kind == 0xFC
            if kind == biff.BOF:
                self._is_wide = data[1:2] == b"\6"
                if data[1:2] not in (b"\6", b"\5"):
                    raise Refused("unsupported_format: Excel before version 5")
            elif kind == 0x42:
                self._encoding = biff.encoding_of(int.from_bytes(data[:2], "little"))
            elif kind == 0x22:
                self._is_1904 = data[:1] == b"\1"
            elif kind == 0x85 and len(data) > 7 and data[5] != 6:  # not a module of code
                name, offset = self._string(data, 6, 1), int.from_bytes(data[:4], "little")
                self._sheets.append(_Sheet(name, offset, is_chart=data[5] == _CHART))
            elif kind == 0x41E and len(data) > 3:
                codes[int.from_bytes(data[:2], "little")] = self._string(data, 2, 2 if self._is_wide else 1)
            elif kind == 0xE0:
                ids.append(int.from_bytes(data[2:4], "little"))
            elif is_in_strings:
                long = [data]
        self._formats = formats(codes, ids)
        try:
            biff.read_shared_strings(long, self._strings)
        except _DAMAGE:
            yield LeftOut("damaged", note="its shared strings are damaged")

    def _string(self, data: bytes, offset: int, size_bytes: int) -> str:
        """A string whose length takes ``size_bytes``."""
        if self._is_wide:
            return biff.wide_string(data, offset, size_bytes=size_bytes)[0]
        count = int.from_bytes(data[offset : offset + size_bytes], "little")
        return data[offset + size_bytes : offset + size_bytes + count].decode(self._encoding, "replace")

    def _read_sheet(self, sheet: _Sheet) -> Iterator[Part]:
        label = f"Sheet {sheet.name}"
        found = _Found()
        with suppress(*_DAMAGE):  # that is said below, where the cells end
            self._look_around(sheet.offset, found)
        comments: Comments = {}
        for row, column, author, said in found.notes:
            text = said if isinstance(said, str) else found.texts.get(said, "")
            if text := tidy(text):
                comments.setdefault(row, []).append((column, describe_comment(author, text)))

        size = len(self._stream) // max(1, len(self._sheets)) * 4
        rows = iter(()) if sheet.is_chart else self._rows(sheet.offset)  # what a chart has are copies of cells
        yield from read_rows(rows, comments, [], label, self._deadline, chars=size)
        boxes = [tidy(text) for id, text in found.texts.items() if found.kinds.get(id) != _NOTE]
        headers = [text for text in dict.fromkeys(found.headers) if text and text not in self._said]
        self._said.update(headers)
        yield Text(label, "\n\n".join(filter(None, [*boxes, *dict.fromkeys(found.chart_texts), *headers])), "markdown")
        if pictures := sum(kind == _PICTURE for kind in found.kinds.values()):
            yield LeftOut("image", (label,), pictures)

    def _look_around(self, offset: int, found: _Found) -> None:
        """Read all but the cells of a sheet."""
        number = 0
        box: tuple[int, int] | None = None  # the object whose text continues the record, and its length
        for kind, data, _ in biff.records(self._stream, offset):
            if kind == 0x100D and len(data) > 4:
                found.chart_texts.append(tidy(self._string(data, 2, 1)))
            elif kind == 0x5D and len(data) > 8 and self._is_wide:
                number = int.from_bytes(data[6:8], "little")
                found.kinds[number] = int.from_bytes(data[4:6], "little")
            elif kind == 0x1B6 and len(data) > 11:
                box = (number, int.from_bytes(data[10:12], "little"))
                continue
            elif kind == biff.CONTINUE and box is not None and data:
                text = data[1:].decode("utf-16-le" if data[0] & 1 else "latin-1", "replace")[: box[1]]
                found.texts[box[0]] = found.texts.get(box[0], "") + text
                box = (box[0], box[1] - len(text)) if box[1] > len(text) else None
                continue
            elif kind == 0x1C and len(data) > 7:
                self._take_note(data, found)
            elif kind in (0x14, 0x15) and len(data) > 1:
                found.headers.append(header_text(self._string(data, 0, 2 if self._is_wide else 1)))
            if kind != biff.CONTINUE and kind != 0xEC:
                box = None

    def _take_note(self, data: bytes, found: _Found) -> None:
        row, column, size = struct.unpack_from("<HHH", data)
        if self._is_wide:
            id = int.from_bytes(data[6:8], "little")
            found.notes.append((row, column, self._string(data, 8, 2) if len(data) > 10 else "", id))
        elif row == 0xFFFF and found.notes:  # it continues the one before
            row, column, author, text = found.notes[-1]
            found.notes[-1] = (row, column, author, str(text) + data[6 : 6 + size].decode(self._encoding, "replace"))
        else:
            found.notes.append((row, column, "", data[6 : 6 + size].decode(self._encoding, "replace")))

    def _rows(self, offset: int) -> Iterator[Row]:
        present, cells = -1, dict[int, str]()
        for row, column, text in self._cells(offset):
            if row != present:
                if cells:
                    yield present, sorted(cells.items())
                present, cells = row, {}
            if text and not text.isspace():
                cells[column] = text
        if cells:
            yield present, sorted(cells.items())

    def _cells(self, offset: int) -> Iterator[tuple[int, int, str]]:
        """The (row, column, text) of each cell of a sheet."""
        depth = 0
        waiting: tuple[int, int, CellFormat] | None = None  # the cell of a formula whose text follows
        for kind, data, _ in biff.records(self._stream, offset):
            if kind == biff.BOF:
                depth += 1
            elif kind == biff.EOF:
                depth -= 1
            elif depth != 1 or kind not in _CELLS:
                continue
            elif kind == 0x207:
                if waiting is not None:
                    yield waiting[0], waiting[1], waiting[2].show_text(visible(self._string(data, 0, 2)))
                waiting = None
            else:
                row, column, style = struct.unpack_from("<HHH", data)
                if kind == 0xBD:
                    for place in range(4, len(data) - 7, 6):
                        style, packed = struct.unpack_from("<HI", data, place)
                        yield row, column, self._show(biff.rk_number(packed), style)
                        column += 1
                elif kind in _FORMULAS and data[12:14] == b"\xff\xff" and data[6] == 0:
                    waiting = row, column, self._format(style)
                else:
                    yield row, column, self._cell_text(kind, data, style)

    def _cell_text(self, kind: int, data: bytes, style: int) -> str:
        if kind == 0xFD:
            return self._format(style).show_text(visible(self._strings.get(int.from_bytes(data[6:10], "little"))))
        if kind in (0xD6, 0x204):
            return self._format(style).show_text(visible(self._string(data, 6, 2)))
        if kind == 0x27E:
            return self._show(biff.rk_number(int.from_bytes(data[6:10], "little")), style)
        if kind == 0x205:
            return biff.error_text(data[6]) if data[7] else ("FALSE", "TRUE")[data[6] != 0]
        if kind in _FORMULAS and data[12:14] == b"\xff\xff":
            return {1: ("FALSE", "TRUE")[data[8] != 0], 2: biff.error_text(data[8])}.get(data[6], "")
        return self._show(repr(struct.unpack_from("<d", data, 6)[0]), style)

    def _show(self, number: str, style: int) -> str:
        return self._format(style).show(number, is_1904=self._is_1904)

    def _format(self, style: int) -> CellFormat:
        return self._formats[style] if style < len(self._formats) else GENERAL
