"""DrawingML (ECMA-376-1, part 21) to text: charts, SmartArt diagrams and shapes, which all Office formats share.

Each function returns blocks of Markdown in reading order. All take time and memory linear in the part.
"""

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from . import opc, xml
from .cellformat import GENERAL, CellFormat

MAX_POINTS = 50_000  # of a chart: values and categories of all its series
MAX_EMPTY_SHARE = 4  # a table of a chart may have so many cells for each value; otherwise each series is a line
_NUMBER = re.compile(r"-?\d[\d.]*(?:[eE][-+]?\d+)?")
MAX_LIST_DEPTH = 8  # of a diagram, as it is indented


def read_chart_part(archive: zipfile.ZipFile, part: str, *, with_values: bool = True) -> list[str]:
    """The text of a chart, and of the shapes that are drawn on it. Raises ``KeyError`` if the part is missing."""
    blocks = read_chart(archive.open(part), with_values=with_values)
    for one in opc.list_relations(archive, part):
        if one.kind == "chartUserShapes" and not one.is_external:
            with suppress(KeyError):
                blocks += read_shapes(archive.open(one.target))
    return blocks


def read_chart(file: IO[bytes], *, with_values: bool = True) -> list[str]:
    """The titles of a chart and of its axes, and its categories and values as a table with a column for each series.
    Without values, those that cells have too, the names of the series and the categories in a line each."""
    chart = _Chart()
    xml.parse(file, chart.start, chart.end, chart.characters)
    return [*chart.lines, *(_tables(chart.series) if with_values else _names(chart.series))]


def read_diagram(file: IO[bytes]) -> list[str]:
    """The texts of a diagram as a nested list, from its data part."""
    diagram = _Diagram()
    xml.parse(file, diagram.start, diagram.end, diagram.characters)
    lines = list(diagram.ordered())
    return ["\n".join(lines)] if lines else []


def read_shapes(file: IO[bytes]) -> list[str]:
    """The paragraphs of all shapes of a drawing."""
    shapes = _Paragraphs()
    xml.parse(file, shapes.start, shapes.end, shapes.characters)
    return shapes.lines


class _Paragraphs:
    """Handles the elements of text in shapes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._held: list[str] = []
        self._is_text = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "t":
            self._is_text = True
        elif local in ("br", "tab"):
            self._held.append(" ")

    def end(self, name: str) -> None:
        local = xml.local_name(name)
        if local == "t":
            self._is_text = False
        elif local == "p":
            text = " ".join("".join(self._held).split())
            self._held.clear()
            if text:
                self.take(text)

    def characters(self, text: str) -> None:
        if self._is_text:
            self._held.append(text)

    def take(self, text: str) -> None:
        self.lines.append(text)


@dataclass(slots=True)
class _Series:
    name: str = ""
    categories: dict[int, str] = field(default_factory=dict)
    values: dict[int, list[str]] = field(default_factory=dict)  # more than one in a bubble chart


_CATEGORIES = frozenset({"cat", "xVal", "strDim"})
_VALUES = frozenset({"val", "yVal", "bubbleSize", "numDim"})
_PLACES = _CATEGORIES | _VALUES | {"tx", "datalabelsRange", "trendline", "title"}


class _Chart(_Paragraphs):
    """Handles the elements of a chart, in its form of 2007 and that of 2016 (chartex)."""

    def __init__(self) -> None:
        super().__init__()
        self.series: list[_Series] = []
        self._places: list[str] = []  # the open elements that say what a text is
        self._index = 0
        self._points = 0
        self._skipped = 0  # open elements of a series that is filtered out
        self._is_value = self._is_point = False
        self._is_in_series = False
        self._format = GENERAL  # of the numbers of the open cache
        self._own_format = ""  # of the open point, if it has another
        self._levels: list[dict[int, str]] = []  # of categories, innermost first
        self._data = _Series()  # of a chartex, which keeps its data apart from its series

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if self._skipped or local.startswith("filtered"):
            self._skipped += 1
            return
        if local in _PLACES:
            self._places.append(local)
            self._levels = []
        elif local == "ser":
            self.series.append(_Series())
            self._is_in_series = True
        elif local == "lvl":
            self._levels.append({})
        elif local == "pt":
            self._index = _number(attributes.get("idx", ""))
            self._own_format = attributes.get("formatCode", "")
            self._is_point = name.endswith("chartex pt")
        elif local in ("numCache", "numLit", "strCache", "strLit"):
            self._format = GENERAL
        elif local in ("v", "name", "formatCode"):
            self._is_value = True
        else:
            super().start(name, attributes)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        local = xml.local_name(name)
        if local in _PLACES:
            self._close_levels()
            self._places.pop()
        elif local == "ser":
            self._is_in_series = False
        elif local == "chartData":
            if self._data.categories or self._data.values:
                self.series.append(self._data)
        elif local == "formatCode":
            self._is_value = False
            self._format = CellFormat("".join(self._held).strip())
            self._held.clear()
        elif local in ("v", "name") or (local == "pt" and self._is_point):
            self._is_value = self._is_point = False
            text = " ".join("".join(self._held).split())
            self._held.clear()
            if text:
                self._take_value(text)
        else:
            super().end(name)

    def characters(self, text: str) -> None:
        if self._is_text or self._is_value or self._is_point:
            self._held.append(text)

    def _take_value(self, text: str) -> None:
        place = self._places[-1] if self._places else ""
        series = self.series[-1] if self._is_in_series else self._data
        self._points += 1
        if self._points > MAX_POINTS:
            return
        if place in _VALUES:
            series.values.setdefault(self._index, []).append(self._show(text))
        elif place in _CATEGORIES:
            text = self._show(text)
            if self._levels:
                self._levels[-1][self._index] = text
            else:
                series.categories[self._index] = text
        elif place == "tx" and self._is_in_series and "title" not in self._places:
            series.name = f"{series.name} {text}".strip()
        elif place:
            self.take(text)

    def _show(self, text: str) -> str:
        """A number as the chart shows it, for it is in the format of its cell."""
        form = CellFormat(self._own_format) if self._own_format else self._format
        return _shortest(text) if form is GENERAL or not _NUMBER.fullmatch(text) else form.show(_shortest(text))

    def _close_levels(self) -> None:
        """Join the levels of categories: an outer one is said once, at its first category."""
        series = self.series[-1] if self._is_in_series else self._data
        for level in self._levels if self._places[-1] in _CATEGORIES else ():
            for index, text in level.items():
                series.categories[index] = f"{text} {series.categories.get(index, '')}".strip()
        self._levels = []


def _names(series: list[_Series]) -> Iterator[str]:
    yield "; ".join(dict.fromkeys(one.name for one in series if one.name))
    categories = dict.fromkeys(said for one in series for _, said in sorted(one.categories.items()))
    yield "; ".join(said for said in categories if any(map(str.isalpha, said)))


def _tables(series: list[_Series]) -> Iterator[str]:
    """The data of a chart: one table if its series have the same categories, otherwise a line for each."""
    series = [one for one in series if one.name or one.categories or one.values]
    if not series:
        return
    categories = next((one.categories for one in series if one.categories), {})
    is_shared = all(one.categories in ({}, categories) for one in series)
    rows = sorted(categories.keys() | {index for one in series for index in one.values})
    known = sum(len(one.values) for one in series) + len(categories) + len(series)
    if not is_shared or len(rows) * len(series) > MAX_EMPTY_SHARE * known:
        for one in series:
            pairs = [
                " ".join(filter(None, (one.categories.get(i, ""), *one.values.get(i, ()))))
                for i in sorted(one.categories.keys() | one.values.keys())
            ]
            yield f"{one.name}: {', '.join(pairs)}" if one.name else ", ".join(pairs)
        return
    lines = [_row(["", *(one.name for one in series)])] if any(one.name for one in series) else []
    lines += [_row([categories.get(i, ""), *(" ".join(one.values.get(i, ())) for one in series)]) for i in rows]
    if len(lines) > 1:
        lines.insert(1, _row(["---"] * (len(series) + 1)))
    yield "\n".join(lines)


class _Diagram(_Paragraphs):
    """Handles the elements of the data of a diagram: points with text, and which is part of which."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[str, list[str]] = {}
        self._parts: dict[str, list[tuple[int, str]]] = {}
        self._roots: list[str] = []
        self._id = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "pt":
            self._id = attributes.get("modelId", "")
            if attributes.get("type") == "doc":
                self._roots.append(self._id)
        elif local == "cxn" and attributes.get("type", "parOf") == "parOf":
            place = _number(attributes.get("srcOrd", "")), attributes.get("destId", "")
            self._parts.setdefault(attributes.get("srcId", ""), []).append(place)
        else:
            super().start(name, attributes)

    def take(self, text: str) -> None:
        self._texts.setdefault(self._id, []).append(text)

    def ordered(self) -> Iterator[str]:
        """The text of each point, below that of the point it is part of."""
        parts = {part for found in self._parts.values() for _, part in found}
        first = [id for id in self._texts if id not in parts]
        open_points = [(id, 0) for id in reversed([*first, *self._texts])] + [(id, -1) for id in reversed(self._roots)]
        seen: set[str] = set()
        while open_points:
            id, depth = open_points.pop()
            if id in seen:
                continue
            seen.add(id)
            if text := " ".join(self._texts.get(id, ())):
                yield f"{'  ' * min(max(depth, 0), MAX_LIST_DEPTH)}- {text}"
            open_points.extend((part, depth + 1) for _, part in sorted(self._parts.get(id, ()), reverse=True))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _shortest(text: str) -> str:
    """A number without the digits that only its binary form has: 4.3 for 4.2999999999999998."""
    if len(text) > 8 and "." in text:
        try:
            return f"{float(text):.15g}"
        except ValueError:
            pass
    return text
