"""PowerPoint before 2007 (.ppt, MS-PPT) to text: the slides in order, each with its notes and comments."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO

import olefile

from . import ole
from .flow import tidy
from .officeart import WORD_ART, Record, property_of, records
from .parts import LeftOut, Member, Part, Refused, Text, Unparseable

MAX_OBJECT_BYTES = 64 * 1024 * 1024  # of an embedded document when it is unpacked
MAX_EDITS = 100_000  # of the file, each of which names the one before
MAX_IDS = 1 << 20
# Kinds of records (MS-PPT 2.13.24, MS-ODRAW 2.2).
_DOCUMENT, _SLIDE, _SLIDE_ATOM, _NOTES, _NOTES_ATOM = 0x03E8, 0x03EE, 0x03EF, 0x03F0, 0x03F1
_SLIDE_PLACE, _SLIDE_LIST, _DRAWING = 0x03F3, 0x0FF0, 0x040C
_TEXT_KIND, _WIDE, _NARROW, _OUTLINE_TEXT, _STRING = 0x0F9F, 0x0FA0, 0x0FA8, 0x0F9E, 0x0FBA
_STAND_INS = (0x0FD8, 0x0FF7, 0x0FF8, 0x0FF9, 0x0FFA)  # for the number of the slide, dates, header and footer
_HEADERS, _HEADERS_ATOM = 0x0FD9, 0x0FDA
_OBJECTS, _EMBEDDED, _OBJECT_ATOM, _STORAGE, _OBJECT_USE = 0x0409, 0x0FCC, 0x0FC3, 0x1011, 0x0BC1
_TAGS, _TAG, _TAG_DATA, _COMMENT = 0x1388, 0x138A, 0x138B, 0x2EE0
_EDIT, _PLACES, _USER = 0x0FF5, 0x1772, 0x0FF6
_PLACEHOLDER = 0x0BC3
_GROUP, _SHAPE, _SHAPE_ATOM, _PROPERTIES, _TEXT_BOX, _ANCHOR, _CLIENT, _MORE_PROPERTIES = (
    *(0xF003, 0xF004, 0xF00A, 0xF00B, 0xF00D, 0xF00F, 0xF011, 0xF122),
)
_TITLES = (0, 6)  # kinds of text
_FURNITURE, _NUMBER, _IMAGE_OF_SLIDE = (7, 9, 10), 8, (5, 11)  # kinds of placeholders
_PICTURE = 75  # the shape that is a frame for one
_TABLE_PROPERTIES = 0x039F
_ENCRYPTED = 0xF3D1C4DF
_SLIDES, _OF_NOTES = 0, 2  # instances of the lists of slides
_SHOWS_DATE, _SHOWS_HEADER, _SHOWS_FOOTER = 0x04, 0x10, 0x20


def read(file: olefile.OleFileIO) -> Iterator[Part]:
    """The text of each slide, then the documents that are embedded. Raises ``Refused`` if it is encrypted."""
    data = file.openstream("PowerPoint Document").read()
    user = file.openstream("Current User").read() if file.exists("Current User") else b""
    return _Presentation(data, user).read()


@dataclass(slots=True)
class _Listed:
    """A slide as the document lists it, with the texts of its outline as (kind, text)."""

    place_id: int
    id: int
    texts: list[tuple[int, str]] = field(default_factory=list)


class _Presentation:
    def __init__(self, data: bytes, user: bytes) -> None:
        self._data = data
        self._places: dict[int, int] = {}  # in the stream, by id
        self._document = self._find_document(user)
        self._furniture: dict[str, None] = {}  # headers and footers
        self._used: dict[int, str] = {}  # the slide that shows an object
        self._images = 0

    def read(self) -> Iterator[Part]:
        document = self._document
        listed, notes = self._read_lists(document)
        shown: set[str] = set()
        for headers in document.children():
            if headers.kind == _HEADERS:
                self._take_headers(headers)
        for number, one in enumerate(listed, 1):
            label = f"Slide {number}"
            slide = self._at(one.place_id, _SLIDE)
            self._images = 0
            lines = self._read_slide(slide, one.texts, label) if slide is not None else _outline(one.texts)
            if slide is None and not one.texts:
                yield LeftOut("page", (label,))
            if (note := notes.get(one.id)) is not None:
                said = [text for text in self._read_notes(note) if text]
                lines += ["\nNotes:", *said] if said else []
            if slide is not None:
                lines += _comments(slide)
            lines += (text for text in self._furniture if text not in shown)
            shown.update(self._furniture)
            yield Text(label, "\n".join(lines), "markdown")
            if self._images:
                yield LeftOut("image", (label,), count=self._images)
        yield from self._read_objects(document)

    def _find_document(self, user: bytes) -> Record:
        at = 0
        for record in records(user, 0, len(user)):
            if record.kind == _USER and record.end - record.start >= 12:
                _, token, at = struct.unpack_from("<III", user, record.start)
                if token == _ENCRYPTED:
                    raise Refused("encrypted")
        document_id = self._follow_edits(at)
        found = self._at(document_id, _DOCUMENT) if document_id is not None else None
        if found is None:  # the chain of edits is broken: the last document is the newest
            for one in records(self._data, 0, len(self._data)):
                found = one if one.kind == _DOCUMENT else found
        if found is None:
            raise Unparseable("it is damaged: it has no document in it")
        return found

    def _follow_edits(self, at: int) -> int | None:
        """Note where everything is, from the newest edit to the oldest. Returns the id of the document."""
        document_id = None
        seen: set[int] = set()
        while 0 < at < len(self._data) and at not in seen and len(seen) < MAX_EDITS:
            seen.add(at)
            edit = next(records(self._data, at, len(self._data)), None)
            if edit is None or edit.kind != _EDIT or edit.end - edit.start < 28:
                break
            _, _, at, places, current_id = struct.unpack_from("<5I", self._data, edit.start)
            if edit.end - edit.start >= 32 and struct.unpack_from("<I", self._data, edit.start + 28)[0]:
                raise Refused("encrypted")
            document_id = current_id if document_id is None else document_id
            if places not in seen:
                seen.add(places)
                self._note_places(places)
        return document_id

    def _note_places(self, at: int) -> None:
        directory = next(records(self._data, at, len(self._data)), None)
        if directory is None or directory.kind != _PLACES:
            return
        words = struct.unpack_from(f"<{(directory.end - directory.start) // 4}I", self._data, directory.start)
        number = 0
        while number < len(words):
            first, count = words[number] & 0xFFFFF, words[number] >> 20
            for offset, place in enumerate(words[number + 1 : number + 1 + count]):
                self._places.setdefault(first + offset, place)
            number += 1 + count

    def _at(self, place_id: int, kind: int) -> Record | None:
        at = self._places.get(place_id, len(self._data))
        found = next(records(self._data, at, len(self._data)), None)
        return found if found is not None and found.kind == kind else None

    def _read_lists(self, document: Record) -> tuple[list[_Listed], dict[int, Record]]:
        """The slides in order, and the notes by the id of their slide."""
        listed: list[_Listed] = []
        notes: dict[int, Record] = {}
        for one in document.children():
            if one.kind == _SLIDE_LIST and one.instance == _SLIDES:
                listed += _read_list(one)
            elif one.kind == _SLIDE_LIST and one.instance == _OF_NOTES:
                for place in one.children():
                    if place.kind == _SLIDE_PLACE and place.end - place.start >= 4:
                        page = self._at(struct.unpack_from("<I", self._data, place.start)[0], _NOTES)
                        atom = page.child(_NOTES_ATOM) if page is not None else None
                        if page is not None and atom is not None and atom.end - atom.start >= 4:
                            notes[struct.unpack_from("<I", self._data, atom.start)[0]] = page
        return listed, notes

    def _read_slide(self, slide: Record, outline: list[tuple[int, str]], label: str) -> list[str]:
        rest = list(outline)
        lines: list[str] = []
        for headers in slide.children():
            if headers.kind == _HEADERS:
                self._take_headers(headers)
        for shape in _shapes(slide):
            lines += self._read_shape(shape, outline, rest, label)
        return [*_outline(rest), *lines]

    def _read_notes(self, page: Record) -> Iterator[str]:
        for shape in _shapes(page):
            yield from self._read_shape(shape, [], [], "")

    def _read_shape(
        self, shape: Record, outline: list[tuple[int, str]], rest: list[tuple[int, str]], label: str
    ) -> list[str]:
        """The lines of a shape, or of a group that is a table. ``rest``: what of the outline is still to be shown."""
        if shape.kind == _GROUP:
            return self._read_table(shape, outline, rest, label)
        placeholder = 0
        if (client := shape.child(_CLIENT)) is not None:
            if (atom := client.child(_PLACEHOLDER)) is not None and atom.end - atom.start >= 5:
                placeholder = self._data[atom.start + 4]
            if (use := client.child(_OBJECT_USE)) is not None and use.end - use.start >= 4:
                self._used.setdefault(struct.unpack_from("<I", self._data, use.start)[0], label)
            elif (atom := shape.child(_SHAPE_ATOM)) is not None and atom.instance == _PICTURE:
                self._images += 1
        elif (atom := shape.child(_SHAPE_ATOM)) is not None and atom.instance == _PICTURE:
            self._images += 1
        if placeholder == _NUMBER or placeholder in _IMAGE_OF_SLIDE:
            return []
        texts = []
        if (box := shape.child(_TEXT_BOX)) is not None:
            for reference in box.children():
                if reference.kind == _OUTLINE_TEXT and reference.end - reference.start >= 4:
                    number = struct.unpack_from("<I", self._data, reference.start)[0]
                    if number < len(outline):
                        texts.append(outline[number])
                        if outline[number] in rest:
                            rest.remove(outline[number])
            texts += _texts(box.children())
        if (table := shape.child(_PROPERTIES)) is not None and (art := property_of(table, WORD_ART)) is not None:
            texts.append((1, art.decode("utf-16-le", "replace").rstrip("\0")))
        if placeholder in _FURNITURE:
            self._furniture |= dict.fromkeys(_outline((1, text) for _, text in texts))
            return []
        return _outline(texts)

    def _read_table(
        self, group: Record, outline: list[tuple[int, str]], rest: list[tuple[int, str]], label: str
    ) -> list[str]:
        rows: dict[int, list[tuple[int, str]]] = {}
        for cell in group.children():
            anchor = cell.child(_ANCHOR) if cell.kind == _SHAPE else None
            if anchor is None or anchor.end - anchor.start < 16 or cell.child(_TEXT_BOX) is None:
                continue
            left, top = struct.unpack_from("<ii", self._data, anchor.start)
            text = " ".join(line.lstrip("# ").strip() for line in self._read_shape(cell, outline, rest, label))
            rows.setdefault(top, []).append((left, text.replace("\n", " ").replace("|", "\\|")))
        found = [[text for _, text in sorted(cells, key=lambda cell: cell[0])] for _, cells in sorted(rows.items())]
        return [f"| {' | '.join(row)} |" for row in found if any(row)]

    def _take_headers(self, headers: Record) -> None:
        atom = headers.child(_HEADERS_ATOM)
        if atom is None or atom.end - atom.start < 4:
            return
        (shown,) = struct.unpack_from("<H", self._data, atom.start + 2)
        for one in headers.children():
            mask = (_SHOWS_DATE, _SHOWS_HEADER, _SHOWS_FOOTER)[one.instance] if one.instance < 3 else 0
            if one.kind == _STRING and shown & mask and (text := tidy(one.text())):
                self._furniture.setdefault(text)

    def _read_objects(self, document: Record) -> Iterator[Part]:
        listed = document.child(_OBJECTS)
        for one in listed.children() if listed is not None else ():
            atom = one.child(_OBJECT_ATOM) if one.kind == _EMBEDDED else None
            if atom is None or atom.end - atom.start < 20:
                continue
            id, _, place_id = struct.unpack_from("<III", self._data, atom.start + 8)
            names = {string.instance: tidy(string.text()) for string in one.children() if string.kind == _STRING}
            name = names.get(2) or names.get(1) or "object"
            place = self._used.get(id, "")
            storage = self._at(place_id, _STORAGE)
            if ole.is_equation(name):
                yield LeftOut("formula", (place,) if place else ())
            elif storage is None:
                yield LeftOut("object", (place,) if place else ())
            else:
                yield Member(name, partial(_open_storage, storage), place=place)


def _open_storage(storage: Record) -> IO[bytes]:
    content = storage.content()
    if storage.instance == 1:  # packed, after its size
        content = zlib.decompressobj().decompress(content[4:], MAX_OBJECT_BYTES + 1)
    return io.BytesIO(content)


def _read_list(listed: Record) -> list[_Listed]:
    found: list[_Listed] = []
    parts: list[list[Record]] = []
    for one in listed.children():
        if one.kind == _SLIDE_PLACE and one.end - one.start >= 16:
            place_id, _, _, id = struct.unpack_from("<4I", one.data, one.start)
            found.append(_Listed(place_id, id))
            parts.append([])
        elif parts:
            parts[-1].append(one)
    for slide, texts in zip(found, parts, strict=True):
        slide.texts = list(_texts(texts))
    return found


def _texts(parts: Iterable[Record]) -> Iterator[tuple[int, str]]:
    """The (kind, text) of each text, less the characters that stand for something else."""
    kind, text, stand_ins = 1, "", set[int]()
    for one in parts:
        if one.kind == _TEXT_KIND:
            if text:
                yield kind, _without(text, stand_ins)
            text, stand_ins = "", set()
            kind = one.data[one.start] if one.end > one.start else 1
        elif one.kind in (_WIDE, _NARROW):
            if text:
                yield kind, _without(text, stand_ins)
                kind, stand_ins = 1, set()
            text = one.text() if one.kind == _WIDE else one.content().decode("latin-1")
        elif one.kind in _STAND_INS and one.end - one.start >= 4:
            stand_ins.add(struct.unpack_from("<I", one.data, one.start)[0])
    if text:
        yield kind, _without(text, stand_ins)


def _without(text: str, places: set[int]) -> str:
    return "".join(c for place, c in enumerate(text) if place not in places) if places else text


def _outline(texts: Iterable[tuple[int, str]]) -> list[str]:
    """The lines of texts, with titles as headings."""
    lines: list[str] = []
    for kind, text in texts:
        if kind in _TITLES:
            title = tidy(text.replace("\r", " ").replace("\v", " "))
            lines += [f"# {title}\n"] if title else []
        else:
            lines += filter(None, (tidy(line) for line in text.replace("\v", "\r").split("\r")))
    return lines


def _shapes(page: Record) -> Iterator[Record]:
    """The shapes of a slide in order, and the groups that are tables."""
    drawing = page.child(_DRAWING)
    if drawing is None:
        return
    waiting = [drawing.children()]
    while waiting:
        one = next(waiting[-1], None)
        if one is None:
            waiting.pop()
        elif one.kind == _SHAPE or (one.kind == _GROUP and _is_table(one)):
            yield one
        elif one.is_container:
            waiting.append(one.children())


def _is_table(group: Record) -> bool:
    first = next(group.children(), None)
    table = first.child(_MORE_PROPERTIES) if first is not None and first.kind == _SHAPE else None
    return table is not None and property_of(table, _TABLE_PROPERTIES) is not None


def _comments(slide: Record) -> list[str]:
    """Comments, which PowerPoint 2002 and later keep in a tag (MS-PPT 2.5.21)."""
    lines: list[str] = []
    tags = slide.child(_TAGS)
    for tag in tags.children() if tags is not None else ():
        data = tag.child(_TAG_DATA) if tag.kind == _TAG else None
        for one in data.children() if data is not None else ():
            if one.kind == _COMMENT:
                said = {string.instance: tidy(string.text()) for string in one.children() if string.kind == _STRING}
                if text := said.get(1):
                    lines.append(f"[Comment by {author}: {text}]" if (author := said.get(0)) else f"[Comment: {text}]")
    return lines
