"""Excel workbooks (.xlsx, .xlsm; ECMA-376-1 part 18) to text: the rows of each sheet, then what is drawn on it."""

import html
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress

from . import xml
from .cellformat import CellFormat, formats
from .grid import Comments, Place, Row, describe_comment, parse_reference, read_rows
from .opc import Relation
from .package import PART_ERRORS, Package
from .parts import Deadline, LeftOut, Part, Text
from .shapes import Block, Shapes, member, tidy
from .worksheet import Strings, Worksheet, decode
from .xml import Node

MAIN_PART = "xl/workbook.xml"
MAX_VML_BYTES = 8 * 1024 * 1024
_TAG = re.compile(r"<[^<>]*>")
_DRAWINGS = ("drawing", "vmlDrawing", "package", "oleObject")


def read(archive: zipfile.ZipFile, deadline: Deadline) -> Iterator[Part]:
    package = Package(archive)
    main = package.main_part() or MAIN_PART
    with package.open(main) as file:
        root = xml.tree(file)
    workbook = _Workbook(package, main, root, deadline)
    yield from workbook.left_out
    for node in root.walk():
        if node.local == "sheet":
            yield from workbook.read_sheet(node.attributes.get("name", ""), node.attribute("id") or "")


class Drawings:
    """What is drawn on the sheets of a workbook, read from the parts that a sheet refers to; the same in .xlsx and
    .xlsb. ``said``: page headers and footers that were read."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.said: set[str] = set()

    def read(self, part: str, label: str, headers: list[str]) -> Iterator[Part]:
        """Shapes, charts, pictures and embedded documents of a sheet, and its page headers unless an earlier sheet has
        the same."""
        found: list[Block] = []
        related = [one for one in self._package.relations(part).values() if not one.is_external]
        for one in sorted(related, key=lambda one: _DRAWINGS.index(one.kind) if one.kind in _DRAWINGS else 9):
            if one.kind == "drawing":
                found += self._read_drawing(one.target, label)
            elif one.kind == "vmlDrawing":
                found += self._read_controls(one.target, label, {text for text in found if isinstance(text, str)})
            elif one.kind in ("package", "oleObject"):
                found.append(member(self._package, one.target, label))
        new = [text for text in dict.fromkeys(headers) if text not in self.said]
        self.said.update(new)
        blocks = [*(block for block in found if isinstance(block, str)), *new]
        yield Text(label, "\n\n".join(blocks), "markdown")
        yield from (block for block in found if not isinstance(block, str))

    def _read_drawing(self, part: str, label: str) -> list[Block]:
        try:
            shapes = Shapes(self._package, part, label, with_values=False)
            return list(shapes.read(_wrap(xml.tree(self._package.open(part)))))
        except PART_ERRORS:
            return [LeftOut("damaged", (label,), note="a drawing cannot be read")]

    def _read_controls(self, part: str, label: str, said: set[str]) -> Iterator[Block]:
        """The texts of form controls and of text boxes in VML, which is often not well-formed. Comments are read
        elsewhere."""
        try:
            with self._package.open(part) as file:
                content = file.read(MAX_VML_BYTES).decode("utf-8", "replace")
        except PART_ERRORS:
            yield LeftOut("damaged", (label,), note="a drawing cannot be read")
            return
        for shape in content.split("<v:shape ")[1:]:
            box = shape.partition("<v:textbox")[2].partition("</v:textbox>")[0].partition(">")[2]
            text = " ".join(html.unescape(_TAG.sub(" ", box)).split())
            if text and 'ObjectType="Note"' not in shape and text not in said:
                yield text


class Threads:
    """The comments that are answered in threads; the same in .xlsx and .xlsb. Of each thread the file also has a copy
    as an ordinary comment. ``relations``: those of the workbook, which lists the people."""

    def __init__(self, package: Package, relations: Iterable[Relation]) -> None:
        self._package = package
        self._people: dict[str, str] = {}
        for one in relations:
            if one.kind == "person" and not one.is_external:
                with suppress(*PART_ERRORS):
                    for person in xml.tree(package.open(one.target)):
                        self._people[person.attributes.get("id", "")] = person.attributes.get("displayName", "")

    def read(self, part: str, label: str) -> tuple[Comments, set[Place], list[LeftOut]]:
        """The comments of a sheet in threads, the cells that have them, and what of them cannot be read."""
        comments: Comments = {}
        places: set[Place] = set()
        try:
            for one in self._package.relations(part).values():
                if one.kind != "threadedComment" or one.is_external:
                    continue
                for node in xml.tree(self._package.open(one.target)):
                    place = parse_reference(node.attributes.get("ref", ""))
                    text = node.child("text")
                    if place is not None and text is not None:
                        author = self._people.get(node.attributes.get("personId", ""), "")
                        said = describe_comment(author, decode(text.text()))
                        comments.setdefault(place.row, []).append((place.column, said))
                        places.add(place)
        except PART_ERRORS:
            return comments, places, [LeftOut("damaged", (label,), note="its comments cannot be read")]
        return comments, places, []


def _wrap(root: Node) -> Node:
    top = Node("", {})
    top.children.append(root)
    return top


class _Workbook:
    """What the sheets of a workbook share."""

    def __init__(self, package: Package, main: str, root: Node, deadline: Deadline) -> None:
        self.left_out: list[LeftOut] = []
        self._package = package
        self._deadline = deadline
        self._relations = package.relations(main)
        self._drawings = Drawings(package)
        properties = next((node for node in root if node.local == "workbookPr"), None)
        self._is_1904 = properties is not None and properties.attributes.get("date1904") in ("1", "true", "on")
        self._strings = Strings()
        self._formats: list[CellFormat] = []
        self._threads = Threads(package, self._relations.values())
        for one in self._relations.values():
            try:
                if one.kind == "sharedStrings":
                    Strings.read(xml.undeclared(package.open(one.target)), self._strings)
                elif one.kind == "styles":
                    self._formats = _read_formats(xml.tree(package.open(one.target)))
            except PART_ERRORS:
                self.left_out.append(LeftOut("damaged", (one.target.rpartition("/")[2],)))

    def read_sheet(self, name: str, id: str) -> Iterator[Part]:
        label = f"Sheet {name}"
        relation = self._relations.get(id)
        if relation is None or relation.is_external or not self._package.has(relation.target):
            yield LeftOut("damaged", (label,), note="a sheet is missing")
            return
        part = relation.target
        comments, damaged = self._read_comments(part, label)
        sheet = Worksheet(self._strings, self._formats, is_1904=self._is_1904)
        size = self._package.archive.getinfo(self._package.name(part)).file_size

        yield from read_rows(self._rows(sheet, part), comments, damaged, label, self._deadline, chars=size)
        yield from self._drawings.read(part, label, sheet.headers)
        if sheet.uncalculated:
            note = "the file has no value of a formula"
            yield LeftOut("formula", (label,), sheet.uncalculated, note)

    def _rows(self, sheet: Worksheet, part: str) -> Iterator[Row]:
        yield from sheet.rows(xml.undeclared(self._package.open(part)))

    def _read_comments(self, part: str, label: str) -> tuple[Comments, list[LeftOut]]:
        comments, in_threads, left_out = self._threads.read(part, label)
        try:
            for one in self._package.relations(part).values():
                if one.kind == "comments" and not one.is_external:
                    for at, author, said in _read_notes(xml.tree(self._package.open(one.target))):
                        if at not in in_threads:
                            comments.setdefault(at.row, []).append((at.column, describe_comment(author, said)))
        except PART_ERRORS:
            left_out.append(LeftOut("damaged", (label,), note="its comments cannot be read"))
        return comments, left_out


def _read_notes(root: Node) -> Iterator[tuple[Place, str, str]]:
    """The (place, author, text) of the ordinary comments of a sheet."""
    authors = [node.text() for node in root.walk() if node.local == "author"]
    for node in root.walk():
        if node.local != "comment":
            continue
        place = parse_reference(node.attributes.get("ref", ""))
        number = node.attributes.get("authorId", "")
        author = authors[int(number)] if number.isdecimal() and int(number[:9]) < len(authors) else ""
        text = "".join(_note_texts(node))
        if place is not None and text.strip():
            yield place, "" if author.startswith("tc=") else author, tidy(decode(text))


def _note_texts(node: Node) -> Iterator[str]:
    for child in node:
        if child.local == "t":
            yield child.text()
        elif child.local in ("text", "r"):
            yield from _note_texts(child)


def _read_formats(root: Node) -> list[CellFormat]:
    """The number format of each cell style."""
    codes: dict[int, str] = {}
    ids: list[int] = []
    for node in root:
        if node.local == "numFmts":
            for one in node:
                codes[_int(one.attributes.get("numFmtId"))] = one.attributes.get("formatCode", "")
        elif node.local == "cellXfs":
            ids = [_int(one.attributes.get("numFmtId")) for one in node if one.local == "xf"]
    return formats(codes, ids)


def _int(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0
