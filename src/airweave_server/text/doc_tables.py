"""Where the parts of a Word document before 2007 (MS-DOC) are, and the properties of its characters and paragraphs."""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from . import fonts
from .parts import Refused, Unparseable

WORD_97 = 0xC1  # the first nFib of this layout
PAGE = 512  # bytes of a page of properties (FKP)
# Pairs of place and length in the FIB (MS-DOC 2.5.6), by number.
STYLES, FOOTNOTE_REFS, FOOTNOTES, COMMENT_REFS, COMMENTS = 1, 2, 3, 4, 5
HEADERS, CHARACTERS, PARAGRAPHS, FONTS, PIECES, AUTHORS = 11, 12, 13, 15, 33, 36
ENDNOTE_REFS, ENDNOTES, BOXES, HEADER_BOXES, LISTS, LIST_USES = 46, 47, 56, 58, 73, 74
DRAWINGS = 50
_FAST_SAVED, _ENCRYPTED, _TABLE_1 = 0x0004, 0x0100, 0x0200


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters ``start`` to ``end`` are at the byte ``place`` of the stream, each in ``width`` bytes."""

    start: int
    end: int
    place: int
    width: int
    properties: bytes  # that hold for all of it, of a file that was saved fast


class Fib:
    """The head of the document (MS-DOC 2.5.1), or that of Word 6 and 95, which is shorter.

    ``counts``: of the characters in the main text, footnotes, headers, macros, comments, endnotes, boxes, and boxes in
    headers, which follow each other. ``table``: the name of the stream of all tables, or "" if that is the text's.
    ``is_old``: it is of Word 6 or 95. ``is_plain``: the text is in one piece, at the bytes ``text_at``.
    ``encoding``: of characters of one byte.
    """

    def __init__(self, stream: bytes) -> None:
        if len(stream) < 0x1AA:
            raise Unparseable("it is damaged or cut short")
        ident, version = struct.unpack_from("<HH", stream)
        (language,) = struct.unpack_from("<H", stream, 6)
        (flags,) = struct.unpack_from("<H", stream, 0x0A)
        if ident not in _IDENTS:
            raise Unparseable("it is damaged: it does not start like a Word document")
        if flags & _ENCRYPTED:
            raise Refused("encrypted")
        self._stream = stream
        self.text_at: tuple[int, int] = struct.unpack_from("<II", stream, 0x18)
        if version >= WORD_97:
            self.table = "1Table" if flags & _TABLE_1 else "0Table"
            counts, self._first_pair, self._pairs = 0x4C, 0x9A, struct.unpack_from("<H", stream, 0x98)[0]
            self.encoding = fonts.LATIN
        else:
            self.table = ""
            counts, self._first_pair, self._pairs = 0x34, 0x58, 48
            self.encoding = _LANGUAGES.get(language & 0x3FF, fonts.LATIN)
        self.is_old = version < WORD_97
        self.is_plain = self.is_old and not flags & _FAST_SAVED
        self.counts = [max(0, count) for count in struct.unpack_from("<8i", stream, counts)]

    def part(self, number: int, table: bytes) -> bytes:
        """The bytes of a part of the table stream; none if the document has no such part."""
        at = self._first_pair + 8 * number
        if number >= self._pairs or at + 8 > len(self._stream):
            return b""
        place, size = struct.unpack_from("<II", self._stream, at)
        if number == LISTS and size:
            return table[place:]  # what follows belongs to it
        return table[place : place + size]


_IDENTS = (0xA5EC, 0xA5DC, 0xA5DB)
# The code pages of Windows that are not the Western one, by the language of the program (ten bits of its number).
_LANGUAGES = (
    {0x01: "cp1256", 0x02: "cp1251", 0x04: "gb18030", 0x05: "cp1250", 0x08: "cp1253", 0x0D: "cp1255", 0x0E: "cp1250"}
    | {0x11: "cp932", 0x12: "cp949", 0x15: "cp1250", 0x18: "cp1250", 0x19: "cp1251", 0x1A: "cp1250", 0x1B: "cp1250"}
    | {0x1E: "cp874", 0x1F: "cp1254", 0x22: "cp1251", 0x23: "cp1251", 0x24: "cp1250", 0x25: "cp1257", 0x26: "cp1257"}
    | {0x27: "cp1257"}
)


def read_pieces(clx: bytes, stream: bytes) -> list[Piece]:
    """The pieces of the text in order (MS-DOC 2.4.1). Together they are no longer than the stream is."""
    prepared: list[bytes] = []
    at = 0
    while at + 3 <= len(clx) and clx[at] == 1:
        (size,) = struct.unpack_from("<H", clx, at + 1)
        prepared.append(clx[at + 3 : at + 3 + size])
        at += 3 + size
    if at + 5 > len(clx) or clx[at] != 2:
        raise Unparseable("it is damaged: the order of its text is missing")
    table = clx[at + 5 : at + 5 + struct.unpack_from("<I", clx, at + 1)[0]]
    count = (len(table) - 4) // 12
    if count < 1:
        return []
    places = struct.unpack_from(f"<{count + 1}I", table)
    found: list[Piece] = []
    room = len(stream)
    for number in range(count):
        _, coded, modifier = struct.unpack_from("<HIH", table, 4 * (count + 1) + 8 * number)
        is_narrow = bool(coded & 0x40000000)
        place = (coded & 0x3FFFFFFF) // 2 if is_narrow else coded & 0x3FFFFFFF
        width = 1 if is_narrow else 2
        start, end = places[number], places[number + 1]
        room -= (end - start) * width
        if end < start or room < 0:
            break
        found.append(Piece(start, end, place, width, _modify(modifier, prepared)))
    return found


def _modify(modifier: int, prepared: list[bytes]) -> bytes:
    """The properties of a piece (MS-DOC 2.9.213, 2.9.214)."""
    if not modifier & 1:
        # the one short form that matters here: deleted, while changes were tracked
        return struct.pack("<HB", DELETED, modifier >> 8) if modifier >> 1 & 0x7F == _SHORT_DELETED else b""
    number = modifier >> 1
    return prepared[number] if number < len(prepared) else b""


# Properties (MS-DOC 2.6).
DELETED, SPECIAL, SYMBOL, FONT, PICTURE = 0x0800, 0x0855, 0x6A09, 0x4A4F, 0x6A03
IN_TABLE, ROW_END, DEPTH, INNER_CELL, INNER_ROW_END = 0x2416, 0x2417, 0x6649, 0x244B, 0x244C
LIST_LEVEL, LIST_USE, OUTLINE = 0x260A, 0x460B, 0x2640
_SHORT_DELETED = 0x41
_OPERAND_BYTES = (1, 1, 2, 4, 2, 2, 0, 3)  # by the three highest bits; 0: the first byte tells
_TABLE_DEFINITION, _TABS = 0xD608, 0xC615


def properties(changes: bytes) -> dict[int, bytes]:
    """Properties by number (Sprm), as the bytes of their operand."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(changes):
        (sprm,) = struct.unpack_from("<H", changes, at)
        at += 2
        size = _OPERAND_BYTES[sprm >> 13]
        if size == 0:
            if sprm == _TABLE_DEFINITION:
                size = int.from_bytes(changes[at : at + 2], "little") + 1
            else:
                size = changes[at] + 1 if at < len(changes) else 1
            if sprm == _TABS and size == 256:
                break  # its length is not told
        found[sprm] = changes[at : at + size]
        at += size
    return found


@dataclass(frozen=True, slots=True)
class Run:
    """The properties of the bytes ``start`` to ``end`` of the stream. ``style``: of a paragraph."""

    start: int
    end: int
    changes: bytes
    style: int = 0


class Runs:
    """The properties of characters, or of paragraphs, by their place in the stream. ``entry_bytes``: of a run in its
    page, by which the kind of the pages is known."""

    def __init__(self, table: bytes, stream: bytes, entry_bytes: int) -> None:
        found = sorted(_read_runs(table, stream, entry_bytes), key=lambda run: run.start)
        self._runs = found
        self._starts = [run.start for run in found]

    def at(self, place: int) -> Run | None:
        number = bisect_right(self._starts, place) - 1
        return self._runs[number] if number >= 0 and place < self._runs[number].end else None

    def between(self, start: int, end: int) -> Iterator[Run]:
        number = max(0, bisect_right(self._starts, start) - 1)
        while number < len(self._runs) and self._runs[number].start < end:
            if self._runs[number].end > start:
                yield self._runs[number]
            number += 1


OF_CHARACTERS, OF_PARAGRAPHS, OF_OLD_PARAGRAPHS = 1, 13, 7


def _read_runs(table: bytes, stream: bytes, entry: int) -> Iterator[Run]:
    count = (len(table) - 4) // 8
    seen: set[int] = set()
    for number in range(count):
        page = struct.unpack_from("<I", table, 4 * (count + 1) + 4 * number)[0] & 0x3FFFFF
        data = stream[page * PAGE : page * PAGE + PAGE]
        if page in seen or len(data) < PAGE:
            continue
        seen.add(page)
        runs = min(data[PAGE - 1], (PAGE - 5) // (4 + entry))
        bounds = struct.unpack_from(f"<{runs + 1}I", data)
        for run in range(runs):
            at = 2 * data[4 * (runs + 1) + entry * run]
            if bounds[run + 1] <= bounds[run]:
                continue
            if not at:
                yield Run(bounds[run], bounds[run + 1], b"")
            elif entry != OF_CHARACTERS:
                if entry == OF_OLD_PARAGRAPHS:
                    size = 2 * data[at]
                else:
                    size = 2 * data[at] - 1 if data[at] else 2 * data[at + 1] if at + 1 < PAGE else 0
                start = at + 1 if data[at] else at + 2
                changes = data[start : start + max(0, size)]
                yield Run(bounds[run], bounds[run + 1], changes[2:], int.from_bytes(changes[:2], "little"))
            else:
                yield Run(bounds[run], bounds[run + 1], data[at + 1 : at + 1 + data[at]])


@dataclass(frozen=True, slots=True)
class Style:
    """``heading``: its level, 0 if it is none. ``changes``: the properties of its paragraphs."""

    heading: int
    changes: dict[int, bytes]


def read_styles(sheet: bytes) -> dict[int, Style]:
    """The styles of paragraphs that are headings or lists, or made from one (MS-DOC 2.9.271), by number."""
    found = {number: Style(number, {}) for number in range(1, 10)}  # these numbers are those of the nine headings
    if len(sheet) < 6:
        return found
    at = 2 + struct.unpack_from("<H", sheet)[0]
    count, base_size = struct.unpack_from("<HH", sheet, 2)
    for number in range(min(count, MAX_STYLES)):
        if at + 2 > len(sheet):
            break
        size = struct.unpack_from("<H", sheet, at)[0]
        style = sheet[at + 2 : at + 2 + size]
        at += 2 + size + size % 2
        if len(style) < 6:
            continue
        kind, base, _ = struct.unpack_from("<HHH", style)
        if base & 0xF != _OF_PARAGRAPHS:
            continue
        above = found.get(base >> 4, Style(0, {})) if base >> 4 != number else Style(0, {})
        kind &= 0xFFF
        heading = kind if 1 <= kind <= 9 else 1 if kind == _TITLE else above.heading
        own = _style_changes(style, base_size)
        listed = {key: own[key] for key in (LIST_USE, LIST_LEVEL, OUTLINE) if key in own}
        found[number] = Style(heading, {**above.changes, **listed})
    return found


def _style_changes(style: bytes, base_size: int) -> dict[int, bytes]:
    if base_size + 2 > len(style):
        return {}
    name = struct.unpack_from("<H", style, base_size)[0]
    at = base_size + 2 + 2 * name + 2
    size = int.from_bytes(style[at : at + 2], "little")
    return properties(style[at + 4 : at + 2 + size])


MAX_STYLES = 4_096
_OF_PARAGRAPHS = 1
_TITLE = 62


def font_names(table: bytes) -> dict[int, str]:
    """The names of the fonts, by number (MS-DOC 2.9.286, 2.9.79)."""
    names: dict[int, str] = {}
    if len(table) < 4:
        return names
    count, at = struct.unpack_from("<H", table)[0], 4
    for number in range(count):
        if at >= len(table):
            break
        size = table[at]
        name = table[at + 40 : at + 1 + size]
        names[number] = name[: len(name) // 2 * 2].decode("utf-16-le", "replace").partition("\0")[0]
        at += 1 + size
    return names


def read_names(group: bytes, *, most: int = 10_000) -> list[str]:
    """Names that follow each other, each after its length (MS-DOC 2.9.338)."""
    names: list[str] = []
    at = 0
    while at + 2 <= len(group) and len(names) < most:
        end = at + 2 + 2 * struct.unpack_from("<H", group, at)[0]
        name = group[at + 2 : end]
        names.append(name[: len(name) // 2 * 2].decode("utf-16-le", "replace"))
        at = end
    return names


def chosen_entry(data: bytes, at: int) -> str:
    """The entry that is chosen from a list in a form (MS-DOC 2.9.78), at a place in the data stream; "" if none is."""
    try:
        (head,) = struct.unpack_from("<H", data, at + 4)
        at += head
        mark, bits = struct.unpack_from("<IH", data, at)
        if mark != 0xFFFFFFFF or bits & 3 != _CHOICE:
            return ""
        at = _after_string(data, at + 10)
        preset = struct.unpack_from("<H", data, at)[0]
        at += 2
        for _ in range(5):  # the format, the help, the line of status, two macros
            at = _after_string(data, at)
        entries = read_names(data[at + 6 : at + MAX_ENTRIES_BYTES], most=_UNCHOSEN)
        chosen = bits >> 2 & 0x1F
        chosen = preset if chosen == _UNCHOSEN else chosen
        return entries[chosen] if chosen < min(len(entries), struct.unpack_from("<H", data, at + 2)[0]) else ""
    except struct.error:
        return ""


def shape_at(data: bytes, at: int) -> bytes:
    """The drawing at a place in the data stream (MS-DOC 2.9.190); nothing if a picture is there."""
    try:
        size, head, kind = struct.unpack_from("<IHH", data, at)
    except struct.error:
        return b""
    return data[at + head : at + size][:MAX_SHAPE_BYTES] if kind == _SHAPE else b""


_SHAPE = 0x64
MAX_SHAPE_BYTES = 16_384


def _after_string(data: bytes, at: int) -> int:
    return at + 4 + 2 * int(struct.unpack_from("<H", data, at)[0])


_CHOICE, _UNCHOSEN = 2, 25
MAX_ENTRIES_BYTES = 16_384


def cps(plc: bytes, size: int) -> tuple[list[int], int]:
    """The places in a list of places with ``size`` bytes of data for each (PLC), and where that data starts."""
    count = max(0, (len(plc) - 4) // (4 + size))
    return list(struct.unpack_from(f"<{count + 1}I", plc)) if len(plc) >= 4 else [], 4 * (count + 1)
