"""Tables to lines of ``column: value``: finds the delimiter, and the rows that name the columns."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from .labels import MAX_KEY_CHARS, Growth, clip

MAX_TEXT_CHARS = 40_000_000  # of the resulting text; more would exceed the chunks that an entity may have
SNIFF_CHARS = 65_536  # enough to recognize the columns
SNIFF_ROWS = 50
LOOKAHEAD_ROWS = 50  # by which the row that names the columns is told from a title above it and from values
MAX_PREAMBLE_ROWS = 20  # titles and comments above the names
MAX_NAME_CHARS = 100  # of a cell that may be one of the names in the middle of a table
MAX_ONE_NAME_CHARS = 40  # of the cell that may name the only column
MAX_RECOVERIES = 3  # rows with a quote that is never closed; after that a quote is a character like others

_DELIMITERS = ",\t;|"
_SEP_LINE = re.compile(r'[ \t]*"?sep=(.)"?[ \t]*(?:\n|\Z)', re.I)  # by which Excel is told the delimiter
_NUMBER = re.compile(r"[-+]?[$€£]?[\d.,:/ -]*\d(?:[eE][-+]?\d{1,4}| ?[%€$£])?")
_WITH_VALUE = re.compile(r"([^()]*\d[^()]*) \((?:(-?\d[\d.E+-]*)|\d{4}-\d\d-\d\d(?: [\d:]+)?)\)")  # 12.25% (0.1225)
_VALUE = re.compile(
    r"[^\s@]+@[^\s@]+\.[a-z]{2,}|(?:https?|ftp)://\S+|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[T ]\d{1,2}:\d\d\S*", re.I
)
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}(?:[./-]\d{1,4})?")
_YEAR = re.compile(r"(?:19|20)\d\d")
_SHAPES = (re.compile(r"\d+"), re.compile(r"[^\W\d_]+"))
_DECIMAL_COMMA = re.compile(r"\d,\d")


class Columns(NamedTuple):
    """How the columns of a text are divided. ``start``: where its first row begins, after a ``sep=`` line."""

    delimiter: str
    start: int = 0


def find_columns(text: str, *, strict: bool) -> Columns | None:
    """The columns of a text, told by its beginning, or None if there seem to be none. ``strict``: the file name does
    not say that it is CSV."""
    if sep := _SEP_LINE.match(text):
        return Columns(sep[1], sep.end())
    sample = text[:SNIFF_CHARS]
    if len(text) > len(sample):
        sample = sample[: sample.rfind("\n") + 1] or sample
    best: tuple[float, int] | None = None
    found: str | None = None
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in islice(_parse(sample, delimiter, strict=strict), SNIFF_ROWS) if any(row)]
        except csv.Error:
            continue
        share, width = _regularity([len(row) for row in rows], strict=strict)
        if width < 2 or (strict and not _is_surely_csv(rows, share, delimiter)):
            continue
        if found == "," and _has_decimal_commas_only(sample) and share == 1:
            best = None  # 1,5;2,5
        if best is None or (share, width) > best:
            best, found = (share, width), delimiter
    return Columns(found) if found else None


def _regularity(widths: list[int], *, strict: bool) -> tuple[float, int]:
    """The share of the rows that have the usual width, and that width; (0, 0) if there is none. Titles above the first
    row of that width do not count."""
    width = max(set(widths), key=lambda w: (widths.count(w), w), default=0)
    if width < 2 and not strict:  # a long preamble
        wide = [w for w in widths if w > 1]
        width = max(set(wide), key=lambda w: (wide.count(w), w), default=0)
    if width < 2:
        return 0, 0
    first = widths.index(width)
    below = widths if strict or first > MAX_PREAMBLE_ROWS else widths[first:]
    share = below.count(width) / len(below)
    if share >= 0.5 and (2 * below.count(width) >= len(widths) or len(below) >= 3):
        return share, width
    is_ragged = not strict and sum(w > 1 for w in widths) >= 0.8 * len(widths)
    return (share / 2, width) if is_ragged else (0, 0)


def _has_decimal_commas_only(sample: str) -> bool:
    return sample.count(",") == len(_DECIMAL_COMMA.findall(sample)) > 0


def _is_surely_csv(rows: list[list[str]], share: float, delimiter: str) -> bool:
    header = rows[0]
    return (
        share == 1
        and len(rows) >= 4
        and len(header) >= (2 if delimiter == "\t" else 3)
        and len(set(header)) == len(header)
        and all(cell and cell == cell.strip() and len(cell) <= 40 for cell in header)
        and not any(map(_is_number, header))
    )


def _parse(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """``strict``: keep a space after a comma, because it may belong to a sentence."""
    return csv.reader(split_lines(text), delimiter=delimiter, skipinitialspace=not strict)


def split_lines(text: str, start: int = 0) -> Iterator[str]:
    """The lines with their ends, without copying the whole text."""
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def parse_rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The rows of CSV. A line with a quote that is never closed is a row of its own, and the lines after it are rows
    like others."""
    feed = _Feed(lines)
    for _ in range(MAX_RECOVERIES):
        try:
            for row in csv.reader(feed, delimiter=delimiter, skipinitialspace=True):
                if feed.has_ended and len(feed.taken) > 1:
                    break
                feed.taken.clear()
                yield row
            else:
                return
        except csv.Error:  # a field of more than 131,072 characters
            pass
        yield feed.back_up().rstrip("\n").split(delimiter)
    for line in feed:
        feed.taken.clear()
        yield line.rstrip("\n").split(delimiter)


class _Feed:
    """The lines of which rows are made. ``taken``: those that the present row consists of. ``has_ended``: a line was
    asked for after the last."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.taken: list[str] = []
        self.has_ended = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.has_ended = True
            raise StopIteration
        self.taken.append(line)
        return line

    def back_up(self) -> str:
        """The first line of the present row. The others come again."""
        first, *others = self.taken
        self._lines, self.taken, self.has_ended = chain(others, self._lines), [], False
        return first


def rows_to_lines(all_rows: Iterable[Sequence[str]], *, chars: int | Growth) -> Iterator[str]:
    """A table as lines of ``column: value``, if one of its first rows names the columns. ``chars``: its approximate
    size; the names may add at most ``MAX_GROWTH`` times that.

    Titles and comments above the names are lines of their own. A row that repeats the names is left out, or begins
    another table with them; one that names other columns holds from there. Takes memory for ``LOOKAHEAD_ROWS`` rows.
    """
    table = _Table(chars if isinstance(chars, Growth) else Growth(chars))
    rows = _filled_rows(all_rows)
    ahead = list(islice(rows, LOOKAHEAD_ROWS))
    header = _find_header([row.cells for row in ahead])
    if header is not None:
        yield from ("; ".join(filter(None, row.cells)) for row in ahead[:header])
        yield from table.rename(ahead[header].cells)
        del ahead[: header + 1]
    elif ahead:
        ahead[0] = ahead[0]._replace(is_apart=False)
    rest: Iterator[_Row | None] = chain(ahead, rows, (None,))
    row = next(rest)
    while row is not None:
        following = next(rest)
        if table.is_repeated(row):
            if row.is_apart or not table.has_values:
                yield from table.rename(row.cells)
        elif table.is_renamed(row, following):
            yield from table.rename(row.cells)
        elif line := table.to_line(row):
            yield line
        row = following
    yield from table.close()


class _Row(NamedTuple):
    """A row with text in it. ``is_apart``: it follows an empty row or a title, or it is the first."""

    cells: list[str]
    is_apart: bool


def _filled_rows(rows: Iterable[Sequence[str]]) -> Iterator[_Row]:
    is_apart = True
    for row in rows:
        cells = [clean_cell(cell) if cell else "" for cell in row]
        filled = len(cells) - cells.count("")
        if filled:
            yield _Row(cells, is_apart)
            is_apart = is_apart and filled == 1
        else:
            is_apart = True


def clean_cell(cell: str) -> str:
    """The text of a cell in one line."""
    if cell.isalnum():  # the common case, first
        return cell
    return " ".join(cell.replace("\ufeff", "").split())


class _Table:
    """The names of the columns, and what of them has been said."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._names: list[str] = []
        self._header: list[str] = []
        self.has_values = False  # since the names of its columns
        self._known: set[str] = set()
        self._unsaid: set[int] = set()  # columns whose name is not in the text yet

    def rename(self, cells: list[str]) -> Iterator[str]:
        yield from self.close()
        self._header = _trim(cells)
        self._names = [clip(cell).rstrip(": ") for cell in self._header]
        self._known = set(filter(None, cells))
        self._unsaid = {i for i, name in enumerate(self._names) if name}
        self.has_values = False
        if any(len(cell) > MAX_KEY_CHARS for cell in cells):
            yield "; ".join(filter(None, cells))

    def close(self) -> Iterator[str]:
        """The names of the columns that had no value."""
        if self._unsaid:
            yield "; ".join(self._names[i] for i in sorted(self._unsaid))
        self._unsaid = set()

    def to_line(self, row: _Row) -> str:
        cells, names, growth = row.cells, self._names, self._growth
        self.has_values = True
        if row.is_apart and len(names) > 2 and len(cells) - cells.count("") == 1:
            return next(filter(None, cells))  # a title
        parts = []
        for i, value in enumerate(cells):
            if value:
                parts.append(growth.add_label(names[i], value) if i < len(names) else value)
                if self._unsaid:
                    self._unsaid.discard(i)
        return "; ".join(parts)

    def is_repeated(self, row: _Row) -> bool:
        header = self._header
        return len(header) > 1 and header[0] == row.cells[0] and header == _trim(row.cells)

    def is_renamed(self, row: _Row, following: _Row | None) -> bool:
        """Whether the row names other columns than before: many of its cells are names, or it stands apart and what
        follows is unlike it."""
        cells = row.cells
        if following is None or not (row.is_apart or not self._known.isdisjoint(cells)):
            return False
        filled = [cell for cell in cells if cell]
        if len(filled) < 2 or len(set(filled)) < len(filled) or max(map(len, filled)) > MAX_NAME_CHARS:
            return False
        if not _are_names(cells, [following.cells]):
            return False
        if 2 * sum(cell in self._known for cell in filled) >= len(filled):
            return 2 * sum(cell in self._known for cell in following.cells if cell) < len(filled)
        if not row.is_apart or following.is_apart:
            return False
        width = len(_trim(cells))
        is_other_width = width == len(_trim(following.cells)) != len(self._header)
        return is_other_width or any(
            _is_value(below) and cell for cell, below in zip(cells, following.cells, strict=False)
        )


def _trim(cells: list[str]) -> list[str]:
    """The cells without the empty ones at the end."""
    if cells and cells[-1]:
        return cells
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _find_header(rows: list[list[str]]) -> int | None:
    """The index of the row that names the columns, None if the rows are values only."""
    if not rows:
        return None
    widths = Counter(len(_trim(row)) for row in rows)
    if 2 * (widths[0] + widths[1]) < len(rows):  # titles between the parts of a table
        widths[1] = 0
    width = max(widths, key=lambda w: (widths[w], w))
    if width == 1 and len(rows[0][0]) > MAX_ONE_NAME_CHARS:  # lines of prose
        return None
    for i, row in enumerate(rows[: MAX_PREAMBLE_ROWS + 1]):
        below = rows[i + 1 :]
        if not (below and _is_preamble(row, below, width)):
            return i if _are_names(row, below) else None
    return 0 if _are_names(rows[0], rows[1:]) else None


def _is_preamble(row: list[str], below: list[list[str]], width: int) -> bool:
    """Whether it is a title or a comment above the row that names the columns."""
    filled = len(row) - row.count("")
    if width < 2:
        return False
    if 2 * filled <= width:
        if len(_trim(row)) >= width and not _are_names(below[0], below[1:]):  # the first columns have no name
            return False
        return len(_trim(below[0])) > 1 or not _is_value(next(filter(None, row)))
    if row[0].startswith("#"):
        return below[0][0].startswith("#") or _are_names(below[0], below[1:])
    if len(_trim(row)) >= width or below[0].count("") or len(below[0]) < width or len(below) < 2:
        return False
    return _are_names(below[0], below[1:]) and any(
        _is_value(cell) and not _is_value(name) for name, cell in zip(below[0], below[1], strict=False)
    )


def _are_names(row: list[str], below: list[list[str]]) -> bool:
    """Whether a row names the columns of those below it: it has no values, and its cells are not like those below."""
    if not any(row):
        return False
    values = [i for i, cell in enumerate(row) if cell and _is_value(cell)]
    if values and not _are_periods(row, values, below):
        return False
    filled = sum(map(bool, row))
    # rows with most of the same cells are the names again
    others = [one for one in below if 2 * sum(a == b != "" for a, b in zip(one, row, strict=False)) <= filled]
    if 2 * len(others) < len(below) or 4 * len(set(row)) < filled:  # the same row, or the same cell, again and again
        return False
    again = 0
    for i, cell in enumerate(row):
        if not cell or i in values:
            continue
        column = [other[i] for other in others if i < len(other) and other[i]]
        if cell.endswith(":") and any(other.endswith(":") for other in column):  # a form, of labels before values
            return False
        if any(map(str.isdigit, cell)) and len(column) > 1:
            shape = _shape(cell)
            if sum(_shape(other) == shape for other in column) >= 0.6 * len(column):
                return False
        again += column.count(cell)
    return again < max(2, len(row))


def _are_periods(row: list[str], values: list[int], below: list[list[str]]) -> bool:
    """Whether the values in a row are years, dates or numbers that name the columns, such as the days of a month."""
    cells = [row[i] for i in values]
    if 0 in values or len(cells) < 2 or len(set(cells)) < len(cells) or not below:
        return False
    if all(map(_YEAR.fullmatch, cells)):
        kind = _YEAR
    elif all(map(_DATE.fullmatch, cells)):
        kind = _DATE
    else:
        is_counted = len(cells) > 3 and all(cell.isdecimal() and len(cell) < 4 for cell in cells)
        return is_counted and [int(cell) - int(cells[0]) for cell in cells] == list(range(len(cells)))
    return not any(i < len(other) and kind.fullmatch(other[i]) for other in below for i in values)


def _is_number(cell: str) -> bool:
    return len(cell) < 40 and _NUMBER.fullmatch(cell.strip()) is not None


def _is_value(cell: str) -> bool:
    if _is_number(cell) or (len(cell) < 300 and _VALUE.fullmatch(cell) is not None):
        return True
    match = _WITH_VALUE.fullmatch(cell[:100]) if cell.endswith(")") else None
    return match is not None and (match[2] is None or not any(map(str.isalpha, match[1])))


def _shape(cell: str) -> str:
    """The cell with its digits and its words alike: "QX-7781" becomes "a-0"."""
    digits, words = _SHAPES
    return digits.sub("0", words.sub("a", cell[:100]))


def csv_to_text(text: str, columns: Columns) -> str:
    rows = parse_rows(split_lines(text, columns.start), columns.delimiter)
    return join_lines(rows_to_lines(rows, chars=len(text)))


def join_lines(lines: Iterable[str]) -> str:
    """Join lines to a text, up to the line that exceeds ``MAX_TEXT_CHARS``."""
    kept: list[str] = []
    chars = 0
    for line in lines:
        kept.append(line)
        chars += len(line) + 1
        if chars > MAX_TEXT_CHARS:
            break
    return "\n".join(kept)
