"""The cells of a sheet to lines of ``column: value``, with the comments on them. Knows no file format."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .package import PART_ERRORS
from .parts import Deadline, LeftOut, Part, Text, Unparseable
from .tables import join_lines, rows_to_lines

FREE_PADDING = 64  # empty cells of a row that cost next to nothing
MAX_PADDING = 2_000_000  # more of them, in all rows of a sheet; after that, values stand without their columns
MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384

_DAMAGE = (struct.error, IndexError, *PART_ERRORS)

Row = tuple[int, list[tuple[int, str]]]  # its number and its cells that have text: (column, text), from 0 and in order
Comments = dict[int, list[tuple[int, str]]]  # (column, text) by row


class Place(NamedTuple):
    row: int
    column: int


def to_lines(rows: Iterable[Row], comments: Comments, *, chars: int) -> Iterator[str]:
    """A line for each row, and one for each comment after the row of its cell. ``chars``: the approximate size of the
    sheet. Takes memory for a few rows and for the comments."""
    padding = _Padding()
    source = _with_comments(rows, comments)
    yield from rows_to_lines(padding.pad(source), chars=chars)
    for cells in padding.rest(source):
        yield "; ".join(" ".join(text.split()) for _, text in cells)


def read_rows(
    rows: Iterable[Row], comments: Comments, left_out: list[LeftOut], label: str, deadline: Deadline, *, chars: int
) -> Iterator[Part]:
    """The text of a sheet, and what is left out of it: what it had before, the rest after damage, and what comes after
    the deadline."""

    def kept() -> Iterator[Row]:
        try:
            for row in rows:
                if deadline.is_over():
                    left_out.append(deadline.left_out(label))
                    return
                yield row
        except _DAMAGE as error:
            left_out.append(LeftOut("damaged", (label,), note=str(error) if isinstance(error, Unparseable) else ""))

    yield Text(label, join_lines(to_lines(kept(), comments, chars=chars)), "csv")
    yield from left_out


def parse_reference(reference: str) -> Place | None:
    """The place that "B12" names, or the first of "B12:C14"; None if it is none."""
    reference = reference.partition(":")[0].replace("$", "")
    letters = reference.rstrip("0123456789")
    row, column = reference[len(letters) :], parse_column(letters)
    if not row or len(row) > 7 or column is None or not 0 < int(row) <= MAX_ROWS:
        return None
    return Place(int(row) - 1, column)


def parse_column(letters: str) -> int | None:
    column = 0
    if not 0 < len(letters) < 4:
        return None
    for letter in letters.upper():
        if not "A" <= letter <= "Z":
            return None
        column = 26 * column + ord(letter) - 64
    return column - 1 if column <= MAX_COLUMNS else None


def describe_comment(author: str, text: str) -> str:
    """A comment as it stands in a text. Spreadsheets begin it with its author, who is said once."""
    text = " ".join(text.split())
    author = " ".join(author.split())
    if author and text.startswith(f"{author}:"):
        text = text[len(author) + 1 :].lstrip()
    return f"[Comment by {author}: {text}]" if author else f"[Comment: {text}]"


def _with_comments(rows: Iterable[Row], comments: Comments) -> Iterator[Row]:
    """The rows, and after each the comments on it as rows of their own, so that they stand under its columns."""
    waiting = sorted(comments, reverse=True)
    for number, cells in rows:
        while waiting and waiting[-1] < number:
            yield from _comment_rows(waiting[-1], comments[waiting.pop()])
        yield number, cells
        if waiting and waiting[-1] == number:
            yield from _comment_rows(number, comments[waiting.pop()])
    while waiting:
        yield from _comment_rows(waiting[-1], comments[waiting.pop()])


def _comment_rows(number: int, comments: list[tuple[int, str]]) -> Iterator[Row]:
    for column, text in comments:
        yield number, [(column, text)]


class _Padding:
    """Puts the values of rows into their columns, until that has taken ``MAX_PADDING`` empty cells."""

    def __init__(self) -> None:
        self._left = MAX_PADDING
        self._held: list[tuple[int, str]] = []

    def pad(self, rows: Iterable[Row]) -> Iterator[list[str]]:
        last = -1
        for number, cells in rows:
            width = cells[-1][0] + 1 if cells else 0
            self._left -= max(0, width - len(cells) - FREE_PADDING)
            if self._left < 0:
                self._held = cells
                return
            if number > last + 1 and last >= 0:
                yield []  # tables stand apart by empty rows
            last = number
            row = [""] * width
            for column, text in cells:
                row[column] = text
            yield row

    def rest(self, rows: Iterable[Row]) -> Iterator[list[tuple[int, str]]]:
        if self._held:
            yield self._held
            for _, cells in rows:
                if cells:
                    yield cells
