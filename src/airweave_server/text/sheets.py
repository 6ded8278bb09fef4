"""Spreadsheets to text, by calamine: a line for each row."""

import io
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import IO

import python_calamine

from .extract import join_lines, rows_to_lines
from .parts import Part, Refused, Text, Unparseable


def read(file: IO[bytes]) -> Iterator[Part]:
    """The rows of each sheet."""
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(file)
    except python_calamine.PasswordError:
        raise Refused("encrypted") from None
    except python_calamine.CalamineError as error:
        raise Unparseable(f"it is damaged: {error}"[:300]) from None
    size = file.seek(0, io.SEEK_END)
    for name in workbook.sheet_names:
        with suppress(python_calamine.WorksheetNotFound):  # a chart sheet
            sheet = workbook.get_sheet_by_name(name)
            rows = ([_cell(value) for value in row] for row in sheet.iter_rows())
            yield Text(f"Sheet {name}", join_lines(rows_to_lines(rows, chars=4 * size)), "csv")


def _cell(value: int | float | str | bool | time | date | datetime | timedelta) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime) and not (value.hour or value.minute or value.second):
        return value.date().isoformat()
    return value if isinstance(value, str) else str(value)
