"""Word documents before 2007 (.doc, MS-DOC) to text: the main text with its notes, comments, boxes and headers."""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import olefile

from . import doc_95, doc_tables, fields, fonts, ole
from .doc_lists import Lists
from .doc_tables import Fib, Piece, Run, Runs, cps, properties
from .flow import Flow, tidy
from .officeart import word_art
from .parts import LeftOut, Member, Part, Text, Unparseable

MAX_FIELDS = 100  # that are open at once; the marks of deeper ones are passed over
MAX_OBJECTS = 1_000
MAX_ART = 1_000  # drawings in lines of text; more of them are counted as pictures
_MAIN, _FOOTNOTES, _HEADERS, _MACROS, _COMMENTS, _ENDNOTES, _BOXES, _HEADER_BOXES = range(8)
_MARKS = re.compile("[\x00-\x1f]")
_WRITTEN = {"\t": "\t", "\x0b": "\n", "\x0c": "\n", "\x0e": "\n", "\x1e": "-"}
_PRIVATE = re.compile("[\uf000-\uf0ff]")
_PAIRS = re.compile("[\U00010000-\U0010ffff]")


def read(file: olefile.OleFileIO) -> Iterator[Part]:
    """The text of the document, then the documents that are embedded in it. Raises ``Refused`` if it is encrypted."""
    stream = file.openstream("WordDocument").read()
    fib = Fib(stream)
    if fib.table and not file.exists(fib.table):
        raise Unparseable("it is damaged: it has no table stream")
    table = file.openstream(fib.table).read() if fib.table else stream
    data = file.openstream("Data").read() if file.exists("Data") else b""
    document = _Document(fib, stream, table, data)
    text = document.read()
    if document.is_cut and not text:
        raise Unparseable("it is damaged or cut short")
    yield Text("", text, "markdown")
    if document.is_guess:
        yield LeftOut("encoding")
    if document.images:
        yield LeftOut("image", count=document.images)
    if document.is_cut:
        yield LeftOut("rest", note="the rest: it is damaged")
    yield from _read_objects(file)


def _read_objects(file: olefile.OleFileIO) -> Iterator[Part]:
    names = sorted({entry[1] for entry in file.listdir() if entry[0] == "ObjectPool" and len(entry) > 2})
    for name in names[:MAX_OBJECTS]:
        path = ["ObjectPool", name]
        streams = {entry[2] for entry in file.listdir() if entry[:2] == path}
        if "Equation Native" in streams:
            yield LeftOut("formula")
        elif streams & ole.DOCUMENT_STREAMS:
            yield Member("object", partial(ole.open_storage, file, path), is_named=ole.NATIVE not in streams)
        else:
            yield LeftOut("object")


class _Document:
    def __init__(self, fib: Fib, stream: bytes, table: bytes, data: bytes) -> None:
        self._fib, self._stream, self._table, self._data = fib, stream, table, data
        self._pieces = self._find_pieces()
        self._starts = [piece.start for piece in self._pieces]
        self._old = self._read_old() if fib.is_old else None
        self._characters = Runs(self._recent(doc_tables.CHARACTERS), stream, doc_tables.OF_CHARACTERS)
        if fib.is_old:
            pages = doc_95.widen(self._part(doc_tables.PARAGRAPHS))
            self._paragraphs = Runs(pages, stream, doc_tables.OF_OLD_PARAGRAPHS)
        else:
            self._paragraphs = Runs(self._part(doc_tables.PARAGRAPHS), stream, doc_tables.OF_PARAGRAPHS)
        self._styles = doc_tables.read_styles(self._recent(doc_tables.STYLES))
        self._lists = Lists(self._recent(doc_tables.LISTS), self._recent(doc_tables.LIST_USES))
        self._fonts = doc_tables.font_names(self._recent(doc_tables.FONTS))
        self._text = "".join(map(self._decode, self._pieces))
        self.images = self._shapes = 0
        self._art: dict[int, str] = {}  # by its place in the data stream
        self.is_guess = self._old is not None and self._old.is_guess
        self.is_cut = len(self._text) < sum(fib.counts)

    def read(self) -> str:
        """The whole text: headers first, footers last, notes and comments after their paragraph, boxes after all."""
        headers, footers = self._read_headers()
        events: dict[int, tuple[str, str]] = {}
        for kind, refs, texts, sign in (
            (_FOOTNOTES, doc_tables.FOOTNOTE_REFS, doc_tables.FOOTNOTES, ""),
            (_ENDNOTES, doc_tables.ENDNOTE_REFS, doc_tables.ENDNOTES, "e"),
        ):
            places, _ = cps(self._part(refs), 2)
            for number, (place, note) in enumerate(self._stories(kind, texts, places), 1):
                if note:
                    marker = f"[^{sign}{number}]"
                    events[place] = (marker, f"{marker}: {note}")
        self._add_comments(events)
        main = self._flow(0, self._fib.counts[_MAIN], events)
        boxes = [text for _, text in self._stories(_BOXES, doc_tables.BOXES, [], size=22)]
        boxes += [text for _, text in self._stories(_HEADER_BOXES, doc_tables.HEADER_BOXES, [], size=22)]
        art = word_art(self._part(doc_tables.DRAWINGS))
        self.images += max(0, self._shapes - len(boxes) - len(art))  # other shapes are mostly pictures
        boxes += dict.fromkeys(art)
        return "\n\n".join(filter(None, [*headers, main, *boxes, *(one for one in footers if one not in headers)]))

    def _part(self, number: int) -> bytes:
        return self._fib.part(number, self._table)

    def _recent(self, number: int) -> bytes:
        """A part that Word 6 and 95 have in another form, or not at all."""
        return b"" if self._fib.is_old else self._part(number)

    def _read_old(self) -> doc_95.Characters:
        texts = (self._stream[one.place : one.place + one.end - one.start] for one in self._pieces)
        return doc_95.Characters(self._fib, self._stream, b"".join(texts))

    def _find_pieces(self) -> list[Piece]:
        if self._fib.is_plain:
            start, end = self._fib.text_at
            return [Piece(0, max(0, end - start), start, 1, b"")]
        return doc_tables.read_pieces(self._part(doc_tables.PIECES), self._stream)

    def _decode(self, piece: Piece) -> str:
        """The characters of a piece, one for each place, with a NUL for each that is deleted."""
        data = self._stream[piece.place : piece.place + (piece.end - piece.start) * piece.width]
        if self._old is not None and piece.width == 1:
            text = self._old.decode(data, piece.place)
        elif piece.width == 1:
            text = data.decode(fonts.LATIN, "replace")
        else:
            text = _PAIRS.sub(_split, data.decode("utf-16-le", "surrogatepass") if len(data) % 2 == 0 else "")
        if _is_set(properties(piece.properties), doc_tables.DELETED):
            return "\0" * len(text)
        parts: list[str] = []
        done = 0
        for run in self._characters.between(piece.place, piece.place + len(data)):
            start = max(done, (run.start - piece.place) // piece.width)
            end = min(len(text), (run.end - piece.place) // piece.width)
            if run.changes and start < end and (shown := self._show_run(text, start, end, run)) is not None:
                parts += (text[done:start], shown)
                done = end
        return "".join([*parts, text[done:]])

    def _show_run(self, text: str, start: int, end: int, run: Run) -> str | None:
        """Characters whose properties make others of them, or None if they stay as they are."""
        found = properties(run.changes)
        if _is_set(found, doc_tables.DELETED):
            return "\0" * (end - start)
        if len(symbol := found.get(doc_tables.SYMBOL, b"")) == 4:
            font, code = struct.unpack("<HH", symbol)
            shown = fonts.sign(code, self._fonts.get(font, "")) if fonts.is_private(code) else chr(code)
            return shown * (end - start)
        if doc_tables.FONT in found and _PRIVATE.search(text, start, end):
            name = self._fonts.get(_number(found, doc_tables.FONT, 0), "")
            return _PRIVATE.sub(lambda one: fonts.sign(ord(one[0]), name), text[start:end])
        return None

    def _stories(self, kind: int, part: int, refs: list[int], *, size: int = 0) -> Iterator[tuple[int, str]]:
        """The (place of the reference, text) of each text of a kind, such as a footnote."""
        base, length = sum(self._fib.counts[:kind]), self._fib.counts[kind]
        places, _ = cps(self._part(part), size)
        if not length:
            return
        if len(places) < 2 or places[0] != 0:  # where each begins is lost
            yield self._fib.counts[_MAIN], self._flow(base, base + length, {})
            return
        for number, (start, end) in enumerate(pairwise(places)):
            if start < end <= length:
                place = refs[number] if number < len(refs) else self._fib.counts[_MAIN]
                yield place, self._flow(base + start, base + end, {})

    def _add_comments(self, events: dict[int, tuple[str, str]]) -> None:
        data = self._part(doc_tables.COMMENT_REFS)
        places, at = cps(data, 30)
        authors = doc_tables.read_names(self._part(doc_tables.AUTHORS))
        for number, (place, text) in enumerate(self._stories(_COMMENTS, doc_tables.COMMENTS, places)):
            entry = data[at + 30 * number : at + 30 * number + 30]
            author = int.from_bytes(entry[20:22], "little")
            name = authors[author] if len(entry) == 30 and author < len(authors) else ""
            if text:
                marker, before = events.get(place, ("", ""))
                comment = f"[Comment by {name}: {text}]" if name else f"[Comment: {text}]"
                events[place] = (marker, f"{before}\n\n{comment}" if before else comment)

    def _read_headers(self) -> tuple[list[str], list[str]]:
        """The different headers and footers of the sections, each once (MS-DOC 2.3.5)."""
        headers: dict[str, None] = {}
        footers: dict[str, None] = {}
        base = sum(self._fib.counts[:_HEADERS])
        places, _ = cps(self._part(doc_tables.HEADERS), 0)
        for number, (start, end) in enumerate(pairwise(places[6:])):
            if start < end <= self._fib.counts[_HEADERS]:  # the six before are lines between text and notes
                text = self._flow(base + start, base + end, {})
                (footers if number % 6 in (2, 3, 5) else headers).setdefault(text)
        return list(headers), list(footers)

    def _flow(self, start: int, end: int, events: dict[int, tuple[str, str]]) -> str:
        """The text between two places. ``events``: at a place, what to write there, and after the paragraph."""
        flow = Flow()
        showing = _Fields(flow)
        for place in sorted(place for place in events if start <= place < end):
            self._write(flow, showing, start, place)
            showing.write(events[place][0])
            flow.add_after(events[place][1])
            start = place
        self._write(flow, showing, start, end)
        showing.finish()
        for place in events:
            if place >= end:
                flow.add_after(events[place][1])
        return flow.finish()

    def _write(self, flow: Flow, showing: "_Fields", start: int, end: int) -> None:
        end = min(end, len(self._text))
        while start < end:
            found = _MARKS.search(self._text, start, end)
            stop = found.start() if found else end
            if stop > start:
                showing.write(self._text[start:stop])
            if found:
                self._mark(flow, showing, found[0], stop)
            start = stop + 1

    def _mark(self, flow: Flow, showing: "_Fields", mark: str, place: int) -> None:
        if mark in _WRITTEN:
            showing.write(_WRITTEN[mark])
        elif mark in "\r\x07":
            self._end(flow, mark, place)
        elif mark == "\x13":
            showing.open()
        elif mark == "\x14":
            showing.separate()
        elif mark == "\x15":
            showing.close()
        elif mark == "\x01" and showing.is_choice():
            flow.write(self._read_choice(place))
        elif mark in "\x01\x08" and showing.shows_pictures():
            art = self._read_art(place) if mark == "\x01" else ""
            flow.write(art)
            self.images += mark == "\x01" and not art
            self._shapes += mark == "\x08"

    def _place_of_data(self, place: int) -> int | None:
        """Where in the data stream is what the mark at a place stands for: a picture, or a list in a form."""
        run = self._characters.at(self._place_in_stream(place))
        at = properties(run.changes).get(doc_tables.PICTURE, b"") if run is not None else b""
        return int.from_bytes(at, "little") if len(at) == 4 else None

    def _read_choice(self, place: int) -> str:
        at = self._place_of_data(place)
        return doc_tables.chosen_entry(self._data, at) if at is not None else ""

    def _read_art(self, place: int) -> str:
        """The text of WordArt that stands in a line like a character; "" for a picture."""
        at = self._place_of_data(place)
        if at is None or (at not in self._art and len(self._art) >= MAX_ART):
            return ""
        if at not in self._art:
            self._art[at] = " ".join(word_art(doc_tables.shape_at(self._data, at)))
        return self._art[at]

    def _end(self, flow: Flow, mark: str, place: int) -> None:
        """End a paragraph, a cell or a row."""
        run = self._paragraphs.at(self._place_in_stream(place))
        style = self._styles.get(run.style) if run is not None else None
        read = doc_95.paragraph_properties if self._old is not None else properties
        found = {**(style.changes if style is not None else {}), **(read(run.changes) if run is not None else {})}
        depth = _number(found, doc_tables.DEPTH, 1)
        is_inside = _is_set(found, doc_tables.IN_TABLE)
        list_level = _number(found, doc_tables.LIST_LEVEL, 0)
        is_end_of_row = mark == "\x07" and (_is_set(found, doc_tables.ROW_END) or not (is_inside or flow.inline))
        if (use := _number(found, doc_tables.LIST_USE, 0)) and flow.inline and not is_end_of_row:
            flow.prefix = self._lists.number(use, list_level)
        if is_end_of_row:
            flow.end_row(1)
        elif mark == "\x07":
            flow.end_cell(1)
        elif _is_set(found, doc_tables.INNER_ROW_END):
            flow.end_row(max(2, depth))
        elif _is_set(found, doc_tables.INNER_CELL):
            flow.end_cell(max(2, depth))
        else:
            outline = _number(found, doc_tables.OUTLINE, 9)
            heading = outline + 1 if 0 <= outline < 9 else style.heading if style is not None else 0
            flow.end_paragraph(max(1, depth) if is_inside else 0, heading=heading, indent=list_level)

    def _place_in_stream(self, place: int) -> int:
        number = bisect_right(self._starts, place) - 1
        if number < 0:
            return 0
        piece = self._pieces[number]
        return piece.place + (place - piece.start) * piece.width


class _Fields:
    """Hides the instructions of fields, and shows their results."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._open: list[list[str] | None] = []  # the instruction so far; None after its end
        self._hidden = 0  # how many of them are not at their end
        self._objects = 0
        self._too_deep = 0

    def write(self, text: str) -> None:
        if not self._hidden:
            self._flow.write(text)
        elif (instruction := self._open[-1]) is not None:
            instruction.append(text)

    def is_choice(self) -> bool:
        """Whether the instruction that is read is that of a list in a form, which has no result."""
        instruction = self._open[-1] if self._hidden == 1 else None
        return bool(instruction) and "".join(instruction or ()).strip().startswith("FORMDROPDOWN")

    def shows_pictures(self) -> bool:
        return not self._hidden and not self._objects

    def open(self) -> None:
        if len(self._open) >= MAX_FIELDS:
            self._too_deep += 1
            return
        self._open.append([])
        self._hidden += 1

    def separate(self) -> None:
        if not self._too_deep and self._open and (instruction := self._open[-1]) is not None:
            self._objects = len(self._open) if "".join(instruction).strip().startswith("EMBED") else self._objects
            self._open[-1] = None
            self._hidden -= 1

    def close(self) -> None:
        if self._too_deep:
            self._too_deep -= 1
        elif self._open:
            instruction = self._open.pop()
            self._objects = 0 if self._objects > len(self._open) else self._objects
            if instruction is not None:
                self._hidden -= 1
                self.write(fields.show("".join(instruction)))

    def finish(self) -> None:
        """What an instruction holds that never ended is text."""
        for instruction in self._open:
            self._flow.write(tidy("".join(instruction or ())))
        self._open.clear()


def _split(pair: re.Match[str]) -> str:
    """A character beyond 0xFFFF as the two that it is in UTF-16, so that places count right."""
    code = ord(pair[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def _number(found: dict[int, bytes], number: int, default: int) -> int:
    return int.from_bytes(found.get(number, b""), "little") if found.get(number) else default


def _is_set(found: dict[int, bytes], number: int) -> bool:
    return found.get(number, b"\0")[:1] not in (b"\0", b"")
