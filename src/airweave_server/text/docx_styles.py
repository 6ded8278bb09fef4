"""Styles and lists of Word documents: which paragraphs are headings, and which number each one shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from . import numerals, xml
from .docx_names import PREFIXES

MAX_STYLES = 20_000
MAX_BASES = 50  # styles that one style is based on, one after the other
MAX_LISTS = 50_000
LEVELS = 9  # of a list
BODY = 9  # the outline level of paragraphs that are no heading
_HEADING = re.compile(r"heading ([1-9])")
_PLACE = re.compile(r"%([1-9])")


@dataclass(slots=True)
class Style:
    """``outline``: 0 for the highest heading, ``BODY`` for none, None if it is that of ``base``."""

    name: str = ""
    base: str = ""
    outline: int | None = None
    list_id: str | None = None
    level: int | None = None


class Styles:
    def __init__(self) -> None:
        self.placeholders: set[str] = set()  # the character styles of placeholders
        self.default = ""
        self._styles: dict[str, Style] = {}
        self._resolved: dict[str, Style] = {}

    def read(self, file: IO[bytes]) -> None:
        style = Style()

        def open_style(attributes: dict[str, str]) -> None:
            nonlocal style
            style = Style()
            kind, id = attributes.get("w:type") or "paragraph", attributes.get("w:styleId") or ""
            if kind == "table":
                stream.pass_over("w:style")
            elif len(self._styles) < MAX_STYLES:
                self._styles[id] = style
            if kind == "paragraph" and attributes.get("w:default") in ("1", "true", "on"):
                self.default = id

        def set_name(attributes: dict[str, str]) -> None:
            style.name = style.name or (attributes.get("w:val") or "").lower()

        def set_base(attributes: dict[str, str]) -> None:
            style.base = attributes.get("w:val") or ""

        def set_outline(attributes: dict[str, str]) -> None:
            style.outline = number(attributes.get("w:val") or "")

        def set_list(attributes: dict[str, str]) -> None:
            style.list_id = attributes.get("w:val")

        def set_level(attributes: dict[str, str]) -> None:
            style.level = number(attributes.get("w:val") or "")

        handlers = {
            "w:style": open_style,
            "w:name": set_name,
            "w:basedOn": set_base,
            "w:outlineLvl": set_outline,
            "w:numId": set_list,
            "w:ilvl": set_level,
        }

        def start(name: str, attributes: dict[str, str]) -> None:
            if (handler := handlers.get(name)) is not None:
                handler(attributes)
            elif name in _PASSED:
                stream.pass_over(name)

        stream = xml.Stream(PREFIXES, start)
        stream.read(file)
        self.placeholders = {id for id, one in self._styles.items() if one.name == "placeholder text"}

    def resolve(self, id: str) -> Style:
        """The style with what it takes from those it is based on."""
        id = id or self.default
        found = self._resolved.get(id)
        if found is None:
            if id not in self._styles:
                return _NO_STYLE
            found = self._resolved[id] = self._resolve(id)
        return found

    def _resolve(self, id: str) -> Style:
        resolved = Style()
        for base in self._bases(id):
            style = self._styles[base]
            named = _HEADING.fullmatch(style.name)
            outline = int(named[1]) - 1 if named and style.outline is None else style.outline
            if style.name == "title":
                outline = 0
            resolved.outline = outline if resolved.outline is None else resolved.outline
            if resolved.list_id is None and style.list_id is not None:
                resolved.list_id, resolved.name = style.list_id, base  # the name: of the style that is in the list
            resolved.level = style.level if resolved.level is None else resolved.level
        return resolved

    def _bases(self, id: str) -> Iterator[str]:
        for _ in range(MAX_BASES):
            if id not in self._styles:
                return
            yield id
            id = self._styles[id].base


_NO_STYLE = Style()


@dataclass(slots=True)
class Level:
    form: str = "decimal"
    text: str = ""
    start: int = 1
    restart: int | None = None  # the level, counted from 1, that starts it anew; 0 for none
    is_legal: bool = False  # all numbers in figures
    style: str = ""


@dataclass(slots=True)
class _Kind:
    """An abstract list. ``counts``: the number of the last paragraph of each level."""

    levels: dict[int, Level] = field(default_factory=dict)
    style: str = ""  # the list style that it is
    link: str = ""  # the list style that it uses
    counts: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _List:
    kind: str = ""
    starts: dict[int, int] = field(default_factory=dict)
    levels: dict[int, Level] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)  # levels that have been started


class Lists:
    """The lists of a document. It counts: ask once for each paragraph, in order."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._lists: dict[str, _List] = {}

    def read(self, file: IO[bytes]) -> None:
        reader = _Reader(self._kinds, self._lists)
        reader.stream.read(file)
        styles = {one.style: one for one in self._kinds.values() if one.style}
        for kind in self._kinds.values():
            if not kind.levels and kind.link in styles:
                kind.levels, kind.counts = styles[kind.link].levels, styles[kind.link].counts

    def level_of(self, list_id: str, style: str) -> int | None:
        """The level of a list that belongs to a paragraph style."""
        one = self._lists.get(list_id)
        kind = self._kinds.get(one.kind) if one is not None else None
        found = kind.levels.items() if kind is not None else ()
        return next((index for index, level in found if level.style == style), None)

    def advance(self, list_id: str, index: int) -> str | None:
        """The number or sign that the next paragraph of a list shows, "-" for any bullet; None if there is none."""
        one = self._lists.get(list_id)
        kind = self._kinds.get(one.kind) if one is not None else None
        if one is None or kind is None or not 0 <= index < LEVELS:
            return None
        levels = {**kind.levels, **one.levels} if one.levels else kind.levels
        level = levels.get(index)
        if level is None:
            return None
        self._count(one, kind, levels, index)
        if level.form == "bullet":
            return "-"

        def place(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            other = levels.get(at) or Level()
            form = "decimal" if level.is_legal and other.form not in numerals.NO_BULLET else other.form
            return numerals.format_number(kind.counts.get(at, other.start), form)

        return _PLACE.sub(place, level.text).strip() or None

    def _count(self, one: _List, kind: _Kind, levels: dict[int, Level], index: int) -> None:
        counts = kind.counts
        first = levels[index].start
        if index in one.starts and index not in one.used:
            counts.pop(index, None)
            first = one.starts[index]
        one.used.add(index)
        for above in range(index):
            if above not in counts and above in levels:
                counts[above] = one.starts.get(above, levels[above].start)
        counts[index] = counts[index] + 1 if index in counts else one.starts.get(index, first)
        for below in range(index + 1, LEVELS):
            restart = levels[below].restart if below in levels else None
            if restart is None or index < restart:
                counts.pop(below, None)


class _Reader:
    """Handles the elements of the numbering part."""

    def __init__(self, kinds: dict[str, _Kind], lists: dict[str, _List]) -> None:
        self.stream = xml.Stream(PREFIXES, self.start, self.end)
        self._kinds, self._lists = kinds, lists
        self._kind: _Kind | None = None
        self._list: _List | None = None
        self._level: Level | None = None
        self._override = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in _PASSED_IN_LISTS:
            self.stream.pass_over(name)
            return
        local = name.removeprefix("w:")
        value = attributes.get("w:val") or ""
        if local == "abstractNum" and len(self._kinds) < MAX_LISTS:
            self._kind = self._kinds[attributes.get("w:abstractNumId") or ""] = _Kind()
        elif local == "num" and len(self._lists) < MAX_LISTS:
            self._list = self._lists[attributes.get("w:numId") or ""] = _List()
        elif local == "lvl":
            self._level = Level()
            at = number(attributes.get("w:ilvl") or "")
            if self._list is not None:
                self._list.levels[at] = self._level
            elif self._kind is not None:
                self._kind.levels[at] = self._level
        elif self._level is not None:
            self._set(self._level, local, value, attributes)
        elif self._list is not None:
            if local == "abstractNumId":
                self._list.kind = value
            elif local == "lvlOverride":
                self._override = number(attributes.get("w:ilvl") or "")
            elif local == "startOverride":
                self._list.starts[self._override] = number(value)
        elif self._kind is not None:
            if local == "styleLink":
                self._kind.style = value
            elif local == "numStyleLink":
                self._kind.link = value

    def _set(self, level: Level, local: str, value: str, attributes: dict[str, str]) -> None:
        if local == "start":
            level.start = number(value)
        elif local == "numFmt":
            level.form = value
            shown = attributes.get("w:format") or ""
            if value == "custom" and shown.startswith("0"):
                level.form = "decimalZero" if shown.startswith("01") else "decimal"
        elif local == "lvlText":
            level.text = value
        elif local == "lvlRestart":
            level.restart = number(value)
        elif local == "isLgl":
            level.is_legal = value not in ("0", "false", "off")
        elif local == "pStyle":
            level.style = value

    def end(self, name: str) -> None:
        local = name.removeprefix("w:")
        if local == "lvl":
            self._level = None
        elif local == "num":
            self._list = None
        elif local == "abstractNum":
            self._kind = None


_PASSED = {
    f"w:{local}"
    for local in ("latentStyles", "docDefaults", "rPr", "tblPr", "trPr", "tcPr", "tblStylePr", "pBdr", "tabs")
}
_PASSED_IN_LISTS = ("w:pPr", "w:rPr", "w:numPicBullet")


def number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 8 else 0
