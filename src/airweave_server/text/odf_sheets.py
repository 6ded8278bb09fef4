"""Spreadsheets of OpenDocument: the rows of each sheet, with each cell as it is shown."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

from .cellformat import plain_number
from .odf_names import name, number
from .odf_shapes import SHAPES, add_controls
from .odf_tables import COLUMNS, MAX_REPEATS, ROWS, read_cell, read_row, read_table, value_of
from .odf_text import TEXT, page_field, read_paragraph
from .odf_walk import End, Handler, Handlers, Sheet, Sink, Walker

MAX_COLUMNS = 16_384
MAX_TITLE_CHARS = 200
A_YEAR = 24 * 366  # hours


def _sheet(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A sheet; within one, a table like those of texts."""
    close = walker.open_sink() if walker.sheet is None else None
    if close is None:
        return read_table(walker, attributes)
    sheet = walker.sheet = Sheet(attributes.get(_NAME, "")[:MAX_TITLE_CHARS], walker.sink)
    was, walker.place = walker.place, (f"Sheet {sheet.title}",)
    walker.sheets.append(sheet)

    def end() -> None:
        add_controls(walker)
        close()
        sheet.is_complete, walker.sheet, walker.place = True, None, was

    return end


def _row(walker: Walker, attributes: dict[str, str]) -> End | None:
    sheet = walker.sheet
    if sheet is None or walker.tables:
        return read_row(walker, attributes)
    sheet.row, sheet.gap = [], 0

    def close() -> None:
        if sheet.row:
            times = number(attributes.get(ROWS), 1, 1, MAX_REPEATS)
            if times > 1:
                times = walker.repeats(times, sum(map(len, sheet.row)), cells=len(sheet.row))
            sheet.rows.append((sheet.row, times))
            sheet.row = []

    return close


def _cell(walker: Walker, attributes: dict[str, str]) -> End | None:
    sheet = walker.sheet
    if sheet is None or walker.tables or sheet.cell is not None:
        return read_cell(walker, attributes)
    close = walker.open_sink(sheet.spare)
    if close is None:
        return None
    sheet.cell = sheet.spare

    def end() -> None:
        sink = close()
        sheet.cell = None
        text = _show_cell(sink, attributes)
        sink.blocks.clear()
        times = number(attributes.get(COLUMNS), 1, 1, MAX_COLUMNS)
        if not text:
            sheet.gap += times
            return
        if sheet.gap:
            sheet.row.extend([""] * walker.gaps(min(sheet.gap, MAX_COLUMNS)))
            sheet.gap = 0
        if times == 1:
            sheet.row.append(text)
        else:
            sheet.row.extend([text] * walker.repeats(times, len(text)))

    return end


def _paragraph(walker: Walker, attributes: dict[str, str]) -> End | None:
    """A line of a cell, which is no heading or item of a list; elsewhere a paragraph like those of texts."""
    sink, sheet = walker.sink, walker.sheet
    if sheet is None or sink is not sheet.cell or sink.paragraphs or sink.lists:
        return read_paragraph(walker, attributes)
    sink.paragraphs.append([])
    return sink.end_line


def _beside_cells(handler: Handler | None) -> Handler:
    """The handler of a shape, which lies above the cells and is no part of the value of the one that anchors it."""

    def start(walker: Walker, attributes: dict[str, str]) -> End | None:
        sheet = walker.sheet
        close = walker.open_sink() if sheet is not None and walker.sink is sheet.cell else None
        inner = handler(walker, attributes) if handler is not None else None
        return inner if close is None or sheet is None else partial(_end_shape, sheet.shapes, close, inner)

    return start


def _end_shape(shapes: Sink, close: Callable[[], Sink], inner: End | None) -> None:
    if inner is not None:
        inner()
    shapes.blocks.extend(close().blocks)


def _show_cell(sink: Sink, attributes: dict[str, str]) -> str:
    """The text of a cell as a person sees it, and its value in brackets if the text hides a part of that."""
    blocks = sink.blocks
    if len(blocks) == 1 and not blocks[0].is_comment:
        return with_value(blocks[0].text, attributes)
    shown = "\n".join(block.text for block in blocks if not block.is_comment)
    comments = [block.text for block in blocks if block.is_comment]
    return "\n".join(filter(None, (with_value(shown, attributes), *comments)))


def with_value(shown: str, attributes: dict[str, str]) -> str:
    """``1,234 (1234)``, but ``5.00 €``."""
    if not shown:
        return value_of(attributes)
    if not attributes or attributes.get(_TYPE) == "string":
        return shown
    if (value := attributes.get(_VALUE)) is not None and attributes.get(_TYPE) != "boolean":
        if value == shown:
            return shown
        value = plain_number(value)
        is_shown = any(_shorten(one) == value.lstrip("-") for one in _NUMBER.findall(shown))
        is_shown = is_shown or (value in ("0", "1") and not _NUMBER.search(shown))  # TRUE, whose value is 1
    elif (value := attributes.get(_DATE)) is not None:
        value = value.removesuffix("T00:00:00")
        is_shown = value in shown or value.replace("T", " ") in shown
    elif (found := _DURATION.fullmatch(attributes.get(_TIME, ""))) is not None:
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        value = f"{hours}:{minutes:02}:{seconds:02}"
        is_shown = value in shown or (not seconds and value[:-3] in shown)
        if not is_shown and (day := _day_of(hours)):
            value = f"{day} {hours % 24:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")
    else:
        return shown
    return shown if is_shown else f"{shown} ({value})"


def _day_of(hours: int) -> str:
    """The day, if a time of so many hours is a moment of which only the time is shown."""
    if not A_YEAR <= hours < A_YEAR * 8_000:
        return ""
    return (date(1899, 12, 30) + timedelta(days=hours // 24)).isoformat()


def _shorten(shown: str) -> str:
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:E[+-]?\d+)?")
_DURATION = re.compile(r"-?PT(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:[.,]\d*)?S)?")
_NAME, _TYPE, _VALUE = name("table:name"), name("office:value-type"), name("office:value")
_DATE, _TIME = name("office:date-value"), name("office:time-value")
_SHAPES = (
    "caption",
    "circle",
    "connector",
    "control",
    "custom-shape",
    "ellipse",
    "frame",
    "g",
    "line",
    "measure",
    "path",
    "polygon",
    "polyline",
    "rect",
    "regular-polygon",
)

SHEETS: Handlers = {
    **TEXT,
    **SHAPES,
    name("text:p"): _paragraph,
    name("table:table"): _sheet,
    name("table:table-row"): _row,
    name("table:table-cell"): _cell,
    name("table:covered-table-cell"): _cell,
    # every spreadsheet has these in a header that nobody wrote
    **{name(f"text:{field}"): page_field for field in ("date", "sheet-name", "time", "title")},
    **{name(f"draw:{shape}"): _beside_cells(SHAPES.get(name(f"draw:{shape}"))) for shape in _SHAPES},
}
