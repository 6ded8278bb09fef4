"""PowerPoint presentations (.pptx; ECMA-376-1 part 19) to text: a section for each slide, in the order of the show."""

import zipfile
from collections.abc import Iterator

from . import xml
from .package import PART_ERRORS, Package
from .parts import LeftOut, Part, Text, Unparseable
from .shapes import NO_PLACEHOLDER, Block, Shapes, paragraph, tidy
from .xml import Node

MAIN_PART = "ppt/presentation.xml"


def read(archive: zipfile.ZipFile) -> Iterator[Part]:
    """The text of each slide: its shapes, then what its layout adds, its notes, and its comments. What several slides
    share, such as a footer, is said once."""
    package = Package(archive)
    main = package.main_part() or MAIN_PART
    if not package.has(main):
        raise Unparseable("it is damaged: it lists no slides")
    with package.open(main) as file:
        slides = [node for node in xml.tree(file).walk() if node.local == "sldId"]
    deck = _Deck(package, main)
    for number, slide in enumerate(slides, 1):
        id = next((value for name, value in slide.attributes.items() if name.endswith("relationships id")), "")
        yield from deck.read_slide(f"Slide {number}", id)


class _Deck:
    """What the slides of a presentation share."""

    def __init__(self, package: Package, main: str) -> None:
        self._package = package
        self._relations = package.relations(main)
        self._authors = self._read_authors()
        self._said: set[str] = set()  # footers and dates
        self._layouts: set[str] = set()  # layouts and masters whose text was read

    def read_slide(self, label: str, id: str) -> Iterator[Part]:
        target = self._relations.get(id)
        part = target.target if target is not None else ""
        try:
            root = xml.tree(self._package.open(part))
            found = list(Shapes(self._package, part, label, said=self._said).read(root))
        except PART_ERRORS:
            yield LeftOut("page", (label,))
            return
        related = {one.kind: one.target for one in self._package.relations(part).values() if not one.is_external}
        if "slideLayout" in related:
            found += self._read_layout(related["slideLayout"], label, _shows_master(root))
        if "notesSlide" in related:
            found += self._read_notes(related["notesSlide"], label)
        for one in self._package.relations(part).values():
            if one.kind == "comments" and not one.is_external:
                found += self._read_comments(one.target, label)
        yield Text(label, "\n\n".join(one for one in found if isinstance(one, str)), "markdown")
        yield from (one for one in found if not isinstance(one, str))

    def _read_layout(self, part: str, label: str, with_master: bool) -> list[Block]:
        """The text of a layout and its master that shows on each slide: that of no placeholder, which only prompts."""
        found: list[Block] = []
        try:
            root = xml.tree(self._package.open(part))
        except PART_ERRORS:
            return found  # the slide has its own text
        if part not in self._layouts:
            self._layouts.add(part)
            shapes = Shapes(self._package, part, label, is_read=lambda kind: kind == NO_PLACEHOLDER)
            found += [block for block in shapes.read(root) if not isinstance(block, LeftOut)]
        master = next((one.target for one in self._package.relations(part).values() if one.kind == "slideMaster"), "")
        if master and with_master and _shows_master(root):
            found += self._read_layout(master, label, False)
        return found

    def _read_notes(self, part: str, label: str) -> list[Block]:
        try:
            root = xml.tree(self._package.open(part))
            return list(Shapes(self._package, part, label, said=self._said).read(root))
        except PART_ERRORS:
            return [LeftOut("damaged", (label,), note="its notes cannot be read")]

    def _read_comments(self, part: str, label: str) -> list[Block]:
        try:
            root = xml.tree(self._package.open(part))
        except PART_ERRORS:
            return [LeftOut("damaged", (label,), note="its comments cannot be read")]
        found: list[Block] = []
        for node in root.walk():
            if node.local in ("cm", "reply") and (text := _comment(node)):
                author = self._authors.get(node.attributes.get("authorId", ""), "")
                found.append(f"[Comment by {author}: {text}]" if author else f"[Comment: {text}]")
        return found

    def _read_authors(self) -> dict[str, str]:
        """The names of the authors of comments, by id, of both kinds of comments."""
        authors: dict[str, str] = {}
        for one in self._relations.values():
            if one.kind in ("commentAuthors", "authors") and not one.is_external:
                try:
                    root = xml.tree(self._package.open(one.target))
                except PART_ERRORS:
                    continue
                for node in root:
                    authors[node.attributes.get("id", "")] = tidy(node.attributes.get("name", ""))
        return authors


def _shows_master(root: Node) -> bool:
    return root.attributes.get("showMasterSp", "1") not in ("0", "false")


def _comment(node: Node) -> str:
    """The text of a comment: of one paragraph in the older form, of several in the newer."""
    for child in node:
        if child.local == "text":
            return " ".join(tidy(child.text()).split())
        if child.local == "txBody":
            return " ".join(" ".join(map(paragraph, (one for one in child if one.local == "p"))).split())
    return ""
