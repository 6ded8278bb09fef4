"""Office documents that are a single XML file: XML Spreadsheet 2003, Word 2003 XML, and Flat OPC."""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from . import xml
from .celldate import serial_of
from .cellformat import CellFormat
from .grid import MAX_COLUMNS, MAX_ROWS, Comments, Row, describe_comment, to_lines
from .parts import LeftOut, Part, Text, Unparseable
from .tables import join_lines

_SS = "urn:schemas-microsoft-com:office:spreadsheet "
_W = "http://schemas.microsoft.com/office/word/2003/wordml "
_AML = "http://schemas.microsoft.com/aml/2001/core "
_PKG = "http://schemas.microsoft.com/office/2006/xmlPackage "
_NAMED_FORMATS = {
    "General Number": "General",
    "General Date": "yyyy-mm-dd hh:mm:ss",
    "Long Date": "yyyy-mm-dd",
    "Medium Date": "yyyy-mm-dd",
    "Short Date": "yyyy-mm-dd",
    "Long Time": "hh:mm:ss",
    "Medium Time": "hh:mm",
    "Short Time": "hh:mm",
    "Fixed": "0.00",
    "Standard": "#,##0.00",
    "Currency": "#,##0.00",
    "Euro Currency": "#,##0.00",
    "Percent": "0.00%",
    "Scientific": "0.00E+00",
}
MAX_SPAN = 1_000  # columns of one merged cell
MAX_HEADING = 6


def read_spreadsheet(file: IO[bytes], *, size_bytes: int) -> Iterator[Part]:
    """The rows of each sheet of an XML Spreadsheet 2003."""
    reading = _Sheets()
    xml.parse(file, reading.start, reading.end, reading.characters)
    for name, rows, comments in reading.sheets:
        yield Text(f"Sheet {name}", join_lines(to_lines(rows, comments, chars=size_bytes)), "csv")


class _Sheets:
    """The sheets read so far, with the cells that have text."""

    def __init__(self) -> None:
        self.sheets: list[tuple[str, list[Row], Comments]] = []
        self._formats: dict[str, CellFormat] = {}
        self._style = self._cell_style = self._type = self._author = ""
        self._row = self._column = -1
        self._span = 0
        self._cells: list[tuple[int, str]] = []
        self._text: list[str] | None = None
        self._data: list[str] = []
        self._in_comment = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == f"{_SS}Data":
            self._text = []
            self._type = attributes.get(f"{_SS}Type", "")
        elif name == f"{_SS}Cell":
            self._column = _index(attributes, self._column, MAX_COLUMNS)
            self._cell_style = attributes.get(f"{_SS}StyleID", "")
            self._span = min(_int(attributes.get(f"{_SS}MergeAcross")), MAX_SPAN)
            self._data = []
        elif name == f"{_SS}Row":
            self._row = _index(attributes, self._row, MAX_ROWS)
            self._column = -1
            self._cells = []
        elif name == f"{_SS}Comment":
            self._in_comment = True
            self._author = attributes.get(f"{_SS}Author", "")
        elif name == f"{_SS}Worksheet":
            self.sheets.append((attributes.get(f"{_SS}Name", ""), [], {}))
            self._row = -1
        elif name == f"{_SS}Style":
            self._style = attributes.get(f"{_SS}ID", "")
        elif name == f"{_SS}NumberFormat":
            code = attributes.get(f"{_SS}Format", "")
            self._formats[self._style] = CellFormat(_NAMED_FORMATS.get(code, code))

    def characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, name: str) -> None:
        if name == f"{_SS}Data":
            text = "".join(self._text or ())
            self._text = None
            if self._in_comment:
                if self.sheets and (said := describe_comment(self._author, text)):
                    self.sheets[-1][2].setdefault(self._row, []).append((self._column, said))
            else:
                self._data.append(self._show(text))
        elif name == f"{_SS}Comment":
            self._in_comment = False
        elif name == f"{_SS}Cell":
            if self._data and (value := " ".join(self._data)) and self._column < MAX_COLUMNS:
                self._cells.append((self._column, value))
            self._column += self._span
        elif name == f"{_SS}Row" and self.sheets and self._cells and self._row < MAX_ROWS:
            self.sheets[-1][1].append((self._row, self._cells))

    def _show(self, text: str) -> str:
        form = self._formats.get(self._cell_style)
        if self._type == "Boolean":
            return {"1": "TRUE", "0": "FALSE"}.get(text.strip(), text)
        if form is not None and self._type == "Number":
            return form.show(text.strip())
        if self._type == "DateTime":
            serial = serial_of(text)
            if form is not None and serial != text:
                return form.show(serial)
            return text.strip().removesuffix(".000").removesuffix("T00:00:00")
        return text


def _index(attributes: dict[str, str], before: int, most: int) -> int:
    """The place of a row or a cell, from 0: after the one before, unless it says another."""
    number = _int(attributes.get(f"{_SS}Index"))
    return min(number - 1 if number > before + 1 else before + 1, most)


def _int(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 9 else 0


def read_word(file: IO[bytes]) -> Iterator[Part]:
    """The text of a Word 2003 XML document: paragraphs, headings, tables, notes and comments."""
    reading = _Word()
    xml.parse(file, reading.start, reading.end, reading.characters)
    yield Text("", "\n\n".join(reading.blocks), "markdown")
    if reading.images:
        yield LeftOut("image", count=reading.images)


class _Word:
    """The blocks read so far. A note or a comment interrupts its paragraph, and comes after it."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.images = 0
        self._headings: dict[str, int] = {}
        self._style = ""
        self._open: list[tuple[list[str], int]] = []  # paragraphs, with the level of a heading
        self._after: list[str] = []  # notes and comments of the present paragraph
        self._asides: list[tuple[str, list[str]]] = []  # those that are open: an author or the mark of a note
        self._annotations: list[bool] = []  # that are open: whether they are comments
        self._rows: list[list[list[list[str]]]] = []  # of tables that are open: the texts in each cell
        self._is_text = False
        self._dropped = 0  # depth in what is deleted
        self._notes = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._dropped:
            self._dropped += 1
            return
        space, _, local = name.rpartition(" ")
        if name == f"{_AML}annotation":
            kind = attributes.get(f"{_W}type", "")
            if kind in ("Word.Deletion", "Word.Formatting"):
                self._dropped = 1
            else:
                self._annotations.append(kind == "Word.Comment")
                if kind == "Word.Comment":
                    self._asides.append((attributes.get(f"{_AML}author", ""), []))
        if f"{space} " != _W:
            return
        value = attributes.get(f"{_W}val", "")
        if local == "t":
            self._is_text = True
        elif local == "p":
            self._open.append(([], 0))
        elif local == "pStyle" and self._open:
            self._open[-1] = (self._open[-1][0], self._headings.get(value, 0))
        elif local == "style":
            self._style = attributes.get(f"{_W}styleId", "")
        elif local == "name" and self._style and (found := re.fullmatch(r"heading(?: |_20_)([1-9])", value, re.I)):
            self._headings[self._style] = min(int(found[1]), MAX_HEADING)
        elif local in ("tab", "noBreakHyphen", "br", "cr") and self._open:
            self._open[-1][0].append({"tab": " ", "noBreakHyphen": "-"}.get(local, "\n"))
        elif local in ("footnote", "endnote") and self._open:
            self._notes += 1
            self._open[-1][0].append(f"[^{self._notes}]")
            self._asides.append((f"[^{self._notes}]", []))
        elif local == "tbl":
            self._rows.append([])
        elif local == "tr" and self._rows:
            self._rows[-1].append([])
        elif local == "tc" and self._rows and self._rows[-1]:
            self._rows[-1][-1].append([])
        elif local == "pict":
            self.images += 1
        elif local in ("instrText", "binData", "docPr"):
            self._dropped = 1

    def characters(self, text: str) -> None:
        if self._is_text and not self._dropped and self._open:
            self._open[-1][0].append(text.replace("\u00ad", "").replace("\u2011", "-").replace("\u00a0", " "))

    def end(self, name: str) -> None:
        if self._dropped:
            self._dropped -= 1
            return
        if name == f"{_AML}annotation":
            if self._annotations and self._annotations.pop() and self._asides:
                author, texts = self._asides.pop()
                self._after.append(describe_comment(author, " ".join(texts)))
            return
        if not name.startswith(_W):
            return
        local = name[len(_W) :]
        if local == "t":
            self._is_text = False
        elif local == "p" and self._open:
            parts, level = self._open.pop()
            lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
            self._add("\n".join(filter(None, lines)), level)
        elif local in ("footnote", "endnote") and self._asides:
            mark, texts = self._asides.pop()
            self._after.append(f"{mark}: {' '.join(texts)}")
        elif local == "style":
            self._style = ""
        elif local == "tbl" and self._rows:
            self._close_table()

    def _add(self, text: str, level: int) -> None:
        if not text:
            pass
        elif self._asides:
            self._asides[-1][1].append(" ".join(text.split("\n")))
        elif self._rows and self._rows[-1] and self._rows[-1][-1]:
            self._rows[-1][-1][-1].append(text)
        else:
            self.blocks.append(f"{'#' * level} {text}" if level else text)
        if not self._open and not self._rows and not self._asides:
            self.blocks.extend(self._after)
            self._after = []

    def _close_table(self) -> None:
        rows = [[" ".join(" ".join(texts).split()) for texts in row] for row in self._rows.pop()]
        if self._rows and self._rows[-1] and self._rows[-1][-1]:  # a table in a cell
            self._rows[-1][-1][-1].extend(filter(None, (cell for row in rows for cell in row)))
            return
        if filled := [row for row in rows if any(row)]:
            lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in filled]
            lines.insert(1, "|" + " --- |" * len(filled[0]))
            self.blocks.append("\n".join(lines))
        if not self._rows:
            self.blocks.extend(self._after)
            self._after = []


def to_package(data: bytes) -> bytes:
    """The zip file that a Flat OPC document stands for. Raises ``Unparseable`` if it is damaged."""
    file = io.BytesIO()
    types: list[tuple[str, str]] = []
    with zipfile.ZipFile(file, "w") as archive:
        for name, kind, content in _split_package(data):
            archive.writestr(name.lstrip("/"), content)
            types.append((name, kind))
        archive.writestr("[Content_Types].xml", _content_types(types))
    return file.getvalue()


def _split_package(data: bytes) -> Iterable[tuple[str, str, bytes]]:
    """The name, the type and the content of each XML part; other parts are images and the like."""
    parser = expat.ParserCreate(namespace_separator=" ")
    found: list[tuple[str, str, bytes]] = []
    part = ("", "")
    depth = 0
    begin = -1

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal part, depth, begin
        if name == f"{_PKG}part":
            part = attributes.get(f"{_PKG}name", ""), attributes.get(f"{_PKG}contentType", "")
        elif name == f"{_PKG}xmlData" and not depth:
            depth = 1
        elif depth:
            if depth == 1 and begin < 0:
                begin = parser.CurrentByteIndex
            depth += 1

    def end(name: str) -> None:
        nonlocal depth, begin
        if depth == 1 and name == f"{_PKG}xmlData":
            if part[0] and begin >= 0:
                found.append((*part, data[begin : parser.CurrentByteIndex]))
            begin = -1
        depth -= depth > 0

    def refuse(*_: object) -> None:
        raise Unparseable("it declares a document type, which no office document does")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unparseable(f"it is damaged: {error}") from None
    return found


def _content_types(types: list[tuple[str, str]]) -> str:
    overrides = "".join(f"<Override PartName={quoteattr(name)} ContentType={quoteattr(kind)}/>" for name, kind in types)
    space = "http://schemas.openxmlformats.org/package/2006/content-types"
    default = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    return f'<Types xmlns="{space}">{default}{overrides}</Types>'
