"""Reads golden queries: a person's own questions, each with the ids of the documents that answer it.

JSON Lines, an object a line: ``{"query": "...", "right": "a.md"}``, where ``right`` is an id, a list of ids, or an
object that gives each id its grade. A file that ends in ``.csv`` or ``.tsv`` is a table with the columns query, right
and, if wanted, grade: one right id a row, and a query may have several rows. An id is that of an entity
(``original_entity_id``). With ``*`` in it, it fits every id of this form, and stands for one right document.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from .. import wire
from ..errors import ClientError

MOST_BYTES = 64 * 2**20
MOST_GRADE = 1_000.0
TABLES = (".csv", ".tsv")
DELIMITERS = (",", ";", "\t")  # spreadsheets write what is usual in their country
WILD = "*"
COLUMNS = ("query", "right", "grade")
FORM = 'an object such as {"query": "how long is a lease", "right": ["dhcp.md"]}'


@dataclass(frozen=True, slots=True)
class Golden:
    """A query, the line where it stands, and the grade of each right id; 0 marks an id as wrong."""

    line: int
    query: str
    grades: dict[str, float] = field(default_factory=dict)


class Flaw(Exception):
    """What is wrong at a line of the file."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")


def read(path: Path) -> list[Golden]:
    """Read and check a file. Raises ``ClientError`` with the first line that is wrong, and what is."""
    try:
        text = _decode(_bytes(path))
        rows = _table_rows(text) if path.suffix.lower() in TABLES else _object_rows(text)
        queries = list(_merged(rows, may_repeat=path.suffix.lower() in TABLES))
    except Flaw as flaw:
        raise ClientError(f"{path}, {flaw}") from None
    if not queries:
        raise ClientError(f"{path} holds no queries; each line is {FORM}")
    return queries


def fits(right: str, found: str) -> bool:
    """Whether a right id stands for the id that was found."""
    if right == found or WILD not in right:
        return right == found
    first, *inner, last = right.split(WILD)
    if len(found) < len(first) + len(last) or not (found.startswith(first) and found.endswith(last)):
        return False
    at, end = len(first), len(found) - len(last)
    for part in inner:
        at = found.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def name_hits(found: Sequence[str], grades: dict[str, float]) -> list[str]:
    """The ids that were found, each replaced by the right id that it fits: an equal one before one with ``*``."""
    wild = [right for right in grades if WILD in right]
    return [one if one in grades else next((right for right in wild if fits(right, one)), one) for one in found]


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise ClientError(f"{path} is larger than {MOST_BYTES // 2**20} MB")
    return data


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Flaw(1, "the file is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise Flaw(data.count(b"\n", 0, data.index(b"\0")) + 1, "there is a NUL character")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Flaw(error.object.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from None


def _object_rows(text: str) -> Iterator[Golden]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except Flaw as flaw:
            raise Flaw(number, flaw.args[0].removeprefix("line 0: ")) from None
        except (ValueError, RecursionError):
            raise Flaw(number, f"this is not JSON; a line is {FORM}") from None
        if not isinstance(value, dict):
            raise Flaw(number, f"this is not {FORM}")
        unknown = [key for key in value if key not in COLUMNS[:2]]
        if unknown:
            raise Flaw(number, f"there is no field {unknown[0]!r}; the fields are query and right")
        query, right = value.get("query"), value.get("right")
        if not isinstance(query, str):
            raise Flaw(number, "query must be a text")
        if isinstance(right, str):
            right = [right]
        if isinstance(right, list):
            right = _object([(one, 1) if isinstance(one, str) else (None, 1) for one in right], number)
        if not isinstance(right, dict):
            raise Flaw(number, "right must be an id, a list of ids, or an object of ids and grades")
        yield Golden(number, query, {one: _grade(grade, number) for one, grade in right.items()})


def _object(pairs: Sequence[tuple[Any, Any]], line: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise Flaw(line, "an id must be a text")
        if key in made:
            raise Flaw(line, f"{key!r} stands there twice")
        made[key] = value
    return made


def _table_rows(text: str) -> Iterator[Golden]:
    head = text.lstrip("\r\n ").partition("\n")[0]
    delimiter = next((one for one in DELIMITERS if one in head), DELIMITERS[0])
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if columns is None:
                    columns = _columns(cells, line)
                else:
                    yield _table_row(cells, columns, line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise Flaw(line, f"this is no row of a table: {error}") from None


def _columns(cells: Sequence[str], line: int) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if sorted(names) not in (sorted(COLUMNS), sorted(COLUMNS[:2])):
        raise Flaw(line, "the first row must name the columns query, right and, if wanted, grade")
    return names


def _table_row(cells: Sequence[str], columns: Sequence[str], line: int) -> Golden:
    if len(cells) != len(columns):
        raise Flaw(line, f"there are {len(cells)} cells under {len(columns)} columns")
    row = dict(zip(columns, cells, strict=True))
    grade: Any = row.get("grade", "").strip() or 1
    try:
        grade = float(grade)
    except ValueError:
        raise Flaw(line, f"the grade {grade!r} is not a number") from None
    return Golden(line, row["query"], {row["right"].strip(): _grade(grade, line)})


def _grade(grade: Any, line: int) -> float:
    if isinstance(grade, bool) or not isinstance(grade, int | float):
        raise Flaw(line, "a grade must be a number")
    if not 0 <= grade <= MOST_GRADE or math.isnan(grade):
        raise Flaw(line, f"a grade must be from 0 to {MOST_GRADE:g}")
    return float(grade)


def _merged(rows: Iterator[Golden], *, may_repeat: bool) -> Iterator[Golden]:
    """Check the queries, and join those that have several rows."""
    every: dict[str, Golden] = {}
    for row in rows:
        query = row.query.strip()
        _check_text("query", query, row.line)
        if len(query) > wire.LONGEST_QUERY:
            raise Flaw(row.line, f"the query has more than {wire.LONGEST_QUERY:,} characters")
        for right in row.grades:
            _check_text("right", right, row.line)
        known = every.setdefault(query, Golden(row.line, query))
        if known.line != row.line and not may_repeat:
            raise Flaw(row.line, f"this is the query of line {known.line} again")
        for right, grade in row.grades.items():
            if right in known.grades:
                raise Flaw(row.line, f"{right!r} is given for this query at line {known.line} or below already")
            known.grades[right] = grade
    for golden in every.values():
        if not any(golden.grades.values()):
            raise Flaw(golden.line, "no document is right for this query")
        yield golden


def _check_text(name: str, text: str, line: int) -> None:
    if not text.strip():
        raise Flaw(line, f"{name} is empty")
    if flaw := wire.find_text_flaw(text):
        raise Flaw(line, f"{name} {flaw}")
