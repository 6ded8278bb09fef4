"""The parts of an Excel workbook that may be large, read as streams: shared strings and sheets (ECMA-376-1, 18)."""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from . import xml
from .celldate import serial_of
from .cellformat import GENERAL, CellFormat
from .grid import MAX_COLUMNS, MAX_ROWS, Row, parse_column

_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
_HIDDEN = str.maketrans({"\u00ad": None, "\u2011": "-", "\ufffe": None, "\uffff": None})
_FRIENDLY = re.compile(r'HYPERLINK\(\s*"[^"]*"\s*,\s*"((?:[^"]|"")*)"', re.I)
_CODE = re.compile(r'&(?:"[^"]*"|\d+|K[0-9A-Fa-f]{2}(?:[0-9A-Fa-f]{4}|[-+]\d{3})|(&)|([LCR])|[PN][-+]\d+|.)', re.S)
_HEADERS = ("oddHeader", "oddFooter", "evenHeader", "evenFooter", "firstHeader", "firstFooter")
_TEXTS = frozenset({"v", "t", "f", *_HEADERS})
MAX_NAMES = 1_000  # of elements; a sheet has fewer than a hundred
_NOT_READ = ("extLst", "rPh", "conditionalFormatting", "dataValidations", "scenarios", "protectedRanges")


def decode(text: str) -> str:
    """A string of the file as it reads: ``_x000D_`` stands for a character there."""
    return visible(_ESCAPED.sub(_unescape, text) if "_x" in text else text)


def visible(text: str) -> str:
    """A text with plain hyphens, and without the soft ones, which do not show."""
    return text if text.isascii() else text.translate(_HIDDEN)


def _unescape(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return " " if number < 32 else "" if 0xD800 <= number < 0xE000 else chr(number)


def header_text(codes: str) -> str:
    """The text of a page header or footer. What changes from page to page and day to day is left out."""
    text = _CODE.sub(lambda match: "&" if match[1] else " " if match[2] else "", codes)
    return " ".join(decode(text).split())


class Strings:
    """The strings that cells refer to by their number, in little more memory than their text."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("Q")

    def add(self, text: str) -> None:
        self._text += text.encode("utf-8", "ignore")
        self._ends.append(len(self._text))

    def get(self, number: int) -> str:
        """The string of that number, "" if there is none."""
        if not 0 <= number < len(self._ends):
            return ""
        start = self._ends[number - 1] if number else 0
        return self._text[start : self._ends[number]].decode()

    @classmethod
    def read(cls, file: IO[bytes], into: "Strings") -> None:
        """Add the strings of a sharedStrings part."""
        held: list[str] = []
        depth = is_text = 0

        def start(name: str, _: dict[str, str]) -> None:
            nonlocal depth, is_text
            if depth or name.endswith(" rPh"):
                depth += 1
            elif name.endswith(" t"):
                is_text = 1

        def end(name: str) -> None:
            nonlocal depth, is_text
            if depth:
                depth -= 1
            elif name.endswith(" t"):
                is_text = 0
            elif name.endswith(" si"):
                into.add(decode("".join(held)))
                held.clear()

        def characters(text: str) -> None:
            if is_text:
                held.append(text)

        xml.parse(file, start, end, characters)


class Worksheet:
    """Reads one sheet. After the last row, ``headers`` has the texts of its page headers and footers, and
    ``uncalculated`` the number of formulas whose value the file does not have."""

    def __init__(self, strings: Strings, formats: Sequence[CellFormat], *, is_1904: bool) -> None:
        self.headers: list[str] = []
        self.uncalculated = 0
        self._strings = strings
        self._formats = formats
        self._is_1904 = is_1904
        self._rows: list[Row] = []
        self._cells: list[tuple[int, str]] = []
        self._columns: dict[str, int] = {}
        self._locals: dict[str, str] = {}
        self._row = self._column = -1
        self._type: str | None = None
        self._style: str | None = None
        self._held: list[str] = []
        self._is_text = False
        self._value = self._inline = self._formula = ""
        self._has_formula = False
        self._skipped = 0  # open elements of a part that is not read
        self._ends: dict[str, Callable[[], None]] = {
            "c": self._end_cell,
            "v": self._end_value,
            "t": self._end_inline,
            "f": self._end_formula,
            "row": self._end_row,
            **dict.fromkeys(_HEADERS, self._end_header),
        }

    def rows(self, file: IO[bytes]) -> Iterator[Row]:
        """The rows with text, as they are parsed. Raises ``Unparseable`` where the sheet is damaged, after the rows
        before."""
        for _ in self._parse(file):
            rows, self._rows = self._rows, []
            yield from rows

    def _parse(self, file: IO[bytes]) -> Iterator[None]:
        try:
            yield from xml.parse_in_pieces(file, self._start, self._end, self._characters)
        except Exception:  # whatever it is goes on, after what was read before the damage
            yield
            raise

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = self._locals.get(name) or self._learn(name)
        if self._skipped:
            self._skipped += 1
        elif local == "c":
            self._start_cell(attributes)
        elif local in _TEXTS:
            self._held.clear()
            self._is_text = True
        elif local == "row":
            number = attributes.get("r", "")
            is_valid = number.isdecimal() and len(number) < 8 and 0 < int(number) <= MAX_ROWS
            self._row = int(number) - 1 if is_valid else self._row + 1
            self._column = -1
        elif local in _NOT_READ:
            self._skipped = 1

    def _start_cell(self, attributes: dict[str, str]) -> None:
        reference = attributes.get("r")
        if reference is None:
            self._column += 1
        else:
            letters = reference.rstrip("0123456789")
            column = self._columns.get(letters)
            if column is None:
                column = parse_column(letters)
                if column is None:
                    column = min(self._column + 1, MAX_COLUMNS - 1)
                else:
                    self._columns[letters] = column
            self._column = column
        self._type = attributes.get("t")
        self._style = attributes.get("s")
        self._value = self._inline = self._formula = ""
        self._has_formula = False

    def _end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        act = self._ends.get(self._locals.get(name, ""))
        if act is not None:
            act()

    def _learn(self, name: str) -> str:
        """The local name of an element, which is looked up for each cell."""
        local = xml.local_name(name)
        if len(self._locals) < MAX_NAMES:
            self._locals[name] = local
        return local

    def _characters(self, text: str) -> None:
        if self._is_text and not self._skipped:
            self._held.append(text)

    def _take(self) -> str:
        self._is_text = False
        return self._held[0] if len(self._held) == 1 else "".join(self._held)

    def _end_value(self) -> None:
        self._value = self._take()

    def _end_inline(self) -> None:
        self._inline += self._take()

    def _end_formula(self) -> None:
        self._formula = self._take()
        self._has_formula = True

    def _end_header(self) -> None:
        if text := header_text(self._take()):
            self.headers.append(text)

    def _end_row(self) -> None:
        cells, self._cells = self._cells, []
        if cells:
            if any(cells[i][0] >= cells[i + 1][0] for i in range(len(cells) - 1)):
                cells = sorted(dict(cells).items())
            self._rows.append((self._row, cells))

    def _end_cell(self) -> None:
        if (text := self._shown()) and not text.isspace():
            self._cells.append((self._column, text))

    def _shown(self) -> str:
        """What a person sees in the present cell."""
        kind, value = self._type, self._value
        if kind == "s":
            text = self._strings.get(int(value)) if value.isdecimal() and len(value) < 10 else ""
            return self._format().show_text(text)
        if kind == "inlineStr":
            return self._format().show_text(decode(self._inline or value))
        if kind == "str":
            return self._format().show_text(decode(value))
        if not value:
            return self._uncalculated() if self._has_formula else decode(self._inline)
        if kind == "b":
            return "FALSE" if value.strip() in ("0", "false") else "TRUE"
        if kind == "e":
            return value
        if kind == "d":
            value = serial_of(value, is_1904=self._is_1904)
        return self._format().show(value, is_1904=self._is_1904)

    def _format(self) -> CellFormat:
        style = self._style
        number = int(style) if style and style.isdecimal() and len(style) < 8 else 0
        return self._formats[number] if number < len(self._formats) else GENERAL

    def _uncalculated(self) -> str:
        if friendly := _FRIENDLY.search(self._formula):
            return friendly[1].replace('""', '"')
        self.uncalculated += 1
        return ""
