"""Text formats that come under the name of another format: pages called spreadsheets, tables called workbooks, Office
documents that are a single XML file."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Literal

from . import html
from .labels import Growth
from .tables import join_lines, rows_to_lines

Form = Literal["spreadsheetml", "wordml", "opc"]

_START = rb"(?:\xef\xbb\xbf)?\s*+(?:<\?[^>]{0,300}>\s*+)*+(?:<!--.{0,2000}?-->\s*+)?(?:<\?[^>]{0,300}>\s*+)*+"
_ROOT = re.compile(_START + rb"<(?:[A-Za-z]\w{0,20}:)?(Workbook|wordDocument|package)\s([^>]{0,8000})", re.S)
_NAMESPACES: dict[bytes, tuple[bytes, Form]] = {
    b"Workbook": (b"urn:schemas-microsoft-com:office:spreadsheet", "spreadsheetml"),
    b"wordDocument": (b"schemas.microsoft.com/office/word/2003/wordml", "wordml"),
    b"package": (b"schemas.microsoft.com/office/2006/xmlPackage", "opc"),
}
SHEETS = frozenset({".xls", ".xlsx", ".xlsm", ".xlsb", ".xlt", ".xltx", ".ods"})
DOCUMENTS = frozenset({".doc", ".docx", ".docm", ".dot", ".dotx", ".rtf", ".odt", ".pdf", ".ppt", ".pptx", ".odp"})
MAX_SPAN = 1_000  # columns of one cell
MAX_COLUMNS = 16_384  # of a row
_PAGE_START = re.compile(r"\s*+<[a-zA-Z!?]")
_TABLE = re.compile(r"<table[\s>]", re.I)
_HAS_BODY = re.compile(r"<(?:body|head|/html)[\s>]", re.I)
_SPAN = re.compile(r"\bcolspan\s*=\s*[\"']?(\d{1,5})", re.I)
_PARTS = frozenset({"table", "tr", "td", "th", "caption"})


def form_of(head: bytes) -> Form | None:
    """The form of a file, from its beginning; None for any other."""
    if (root := _ROOT.match(head)) is None:
        return None
    namespace, form = _NAMESPACES[root[1]]
    return form if namespace in root[2] else None


def is_page(text: str, suffix: str, *, sniff_chars: int) -> bool:
    """Whether a text is HTML whatever it is called: it begins as a page does, or with a tag where the name says that it
    is another kind of document."""
    if html.START.match(text):
        return True
    is_coat = suffix in SHEETS or suffix in DOCUMENTS
    return is_coat and _PAGE_START.match(text) is not None and html.TAG.search(text, 0, sniff_chars) is not None


def is_whole_page(text: str, *, sniff_chars: int) -> bool:
    """Whether a text is a page beyond doubt, so that not even the name of a Markdown file counts."""
    return html.START.match(text) is not None and _HAS_BODY.search(text, 0, sniff_chars) is not None


def has_rows(text: str, suffix: str) -> bool:
    """Whether a page stands for a spreadsheet."""
    return suffix in SHEETS | {".csv", ".tsv"} and _TABLE.search(text) is not None


def rows_to_text(page: str) -> str:
    """The rows of the tables of a page as lines of ``column: value``, and what stands around them."""
    growth = Growth(len(page))
    lines: list[str] = []
    rows: list[list[str]] = []
    for row in _rows(page):
        if row is None or (len(row) == 1 and row[0].startswith("\n")):
            lines.extend(rows_to_lines(rows, chars=growth))
            rows = []
            if row is not None:
                lines.append(row[0][1:])
        else:
            rows.append(row)
    lines.extend(rows_to_lines(rows, chars=growth))
    return join_lines(lines)


def _rows(page: str) -> Iterator[list[str] | None]:
    """The rows, None at the end of each table, and of the text outside of them a row of one cell that begins with a
    line end."""
    table = _Rows()
    for name, text in html.tokens(page):
        tag = name.lstrip("/")
        if not name:
            table.text.append(text)
        elif tag not in _PARTS or (table.depth > 1 and tag != "table"):  # in a table in a cell too
            table.text.append("" if tag in html.INLINE else " ")
        else:
            yield from table.take_text()
            if tag == "table":
                table.depth = max(0, table.depth - 1) if name[0] == "/" else table.depth + 1
                if table.depth == (0 if name[0] == "/" else 1):
                    yield from table.take_row()
                    yield None
            elif tag == "tr":
                yield from table.take_row()
            elif name in ("td", "th"):
                span = _SPAN.search(text)
                table.open_cell(min(int(span[1]), MAX_SPAN) if span else 1)
    yield from table.take_text()
    yield from table.take_row()


class _Rows:
    """The row that is being read. ``depth``: of tables in tables. ``text``: what was read since the last cell began."""

    def __init__(self) -> None:
        self.depth = 0
        self.text: list[str] = []
        self._cells: list[list[str]] = []
        self._span = 1  # columns of the last cell

    def open_cell(self, span: int) -> None:
        if self._cells:
            room = max(0, MAX_COLUMNS - len(self._cells))
            self._cells.extend([] for _ in range(min(self._span - 1, room)))
        if len(self._cells) < MAX_COLUMNS:
            self._cells.append([])
        self._span = span

    def take_text(self) -> Iterator[list[str]]:
        text = " ".join(unescape("".join(self.text)).split())
        self.text = []
        if text and self._cells:
            self._cells[-1].append(text)
        elif text:
            yield [f"\n{text}"]

    def take_row(self) -> Iterator[list[str]]:
        if self._cells:
            yield [" ".join(texts) for texts in self._cells]
        self._cells = []
