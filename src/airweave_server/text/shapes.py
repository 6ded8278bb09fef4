"""The shapes of a slide or a sheet (DrawingML, ECMA-376-1 parts 20 and 21) to blocks of text, in document order."""

import re
from collections.abc import Callable, Iterator
from functools import partial

from . import drawingml, omml, opc
from .package import PART_ERRORS, Package
from .parts import LeftOut, Member
from .xml import Node

Block = str | LeftOut | Member  # text in Markdown, or what is not text

MAX_LEVEL = 8  # of nested lists
MAX_NUMBER = 9_999  # of a list item
NO_PLACEHOLDER = "none"  # the type of a shape that fills no placeholder of its layout

_ESCAPED = re.compile("_x000[0-9A-Fa-f]_")
_SPACES = re.compile(r"[^\S\n]+")
_AUTO_NUMBER = re.compile(r"(arabic|alphaLc|alphaUc|romanLc|romanUc)(Period|ParenR|ParenBoth|Plain)")
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_GROUPS = ("spTree", "grpSp", "wsDr", "twoCellAnchor", "oneCellAnchor", "absoluteAnchor", "lockedCanvas", "cSld")


def read_all(shape_type: str) -> bool:
    return True


class Shapes:
    """Reads the shapes of one part.

    ``place``: where the part is in the document. ``is_read``: whether a shape is read, by the type of its placeholder,
    or ``NO_PLACEHOLDER``. ``has_cells``: the values of charts are in cells of the document too.
    """

    def __init__(
        self,
        package: Package,
        part: str,
        place: str,
        *,
        is_read: Callable[[str], bool] = read_all,
        said: set[str] | None = None,
        with_values: bool = True,
    ) -> None:
        self._package = package
        self._place = place
        self._relations = package.relations(part)
        self._is_read = is_read
        self._with_values = with_values
        self._said = set() if said is None else said

    def read(self, node: Node) -> Iterator[Block]:
        """The shapes in ``node``."""
        for child in node:
            if child.local in _GROUPS:
                yield from self._alternative_text(child)
                yield from self.read(child)
            elif child.local == "AlternateContent":
                yield from self._choose(child)
            elif child.local in ("sp", "cxnSp"):
                yield from self._read_shape(child)
            elif child.local == "pic":
                yield from self._read_picture(child)
            elif child.local == "graphicFrame":
                yield from self._alternative_text(child)
                for data in child.walk():
                    if data.local == "graphicData":
                        yield from self._read_graphic(data)
                        break

    def _choose(self, node: Node) -> Iterator[Block]:
        """One of the alternatives: the first that has anything for us."""
        for alternative in node:
            if blocks := list(self.read(alternative)):
                yield from blocks
                return

    def _read_shape(self, node: Node) -> Iterator[Block]:
        kind = placeholder(node)
        if kind in ("sldNum", "sldImg") or not self._is_read(kind):
            return
        body = node.child("txBody")
        text = "\n".join(paragraphs(body)) if body is not None else ""
        if kind in ("title", "ctrTitle"):
            text = f"# {' '.join(text.split())}" if text else ""
        elif kind in ("dt", "ftr", "hdr"):
            if text in self._said:
                return
            self._said.add(text)
        if text:
            yield text
        if kind == NO_PLACEHOLDER:
            yield from self._alternative_text(node)

    def _read_picture(self, node: Node) -> Iterator[Block]:
        if not self._is_read(placeholder(node)):
            return
        yield from self._alternative_text(node)
        is_media = any(one.local in ("videoFile", "audioFile", "quickTimeFile", "wavAudioFile") for one in node.walk())
        yield LeftOut("image", (self._place,), note="a video or sound is not read" if is_media else "")

    def _alternative_text(self, node: Node) -> Iterator[Block]:
        """What the author wrote for those who cannot see the shape."""
        about = next(
            (one for child in node if child.local.startswith("nv") for one in child if one.local == "cNvPr"), None
        )
        if about is not None:
            said = dict.fromkeys(tidy(about.attributes.get(name, "")) for name in ("title", "descr"))
            if text := " ".join(filter(None, said)):
                yield f"[Image: {text}]"

    def _read_graphic(self, data: Node) -> Iterator[Block]:
        """What is in a frame: a table, a chart, a diagram, or an object of another program."""
        for child in data:
            if child.local == "tbl":
                if table := read_table(child):
                    yield table
            elif child.local == "AlternateContent":
                for alternative in child:
                    if blocks := list(self._read_graphic(alternative)):
                        yield from blocks
                        break
            elif child.local == "chart":
                yield from self._read_chart(child)
            elif child.local == "relIds":
                yield from self._read_diagram(child)
            elif child.local == "oleObj":
                yield from self._read_object(child)

    def _target(self, node: Node, name: str = "id") -> opc.Relation | None:
        return self._relations.get(node.attribute(name) or "")

    def _read_chart(self, node: Node) -> Iterator[Block]:
        target = self._target(node)
        try:
            if target is None:
                raise KeyError("chart")
            part = self._package.name(target.target)
            blocks = drawingml.read_chart_part(self._package.archive, part, with_values=self._with_values)
            yield from filter(None, blocks)
        except PART_ERRORS:
            yield LeftOut("object", (self._place,), note="a chart cannot be read")

    def _read_diagram(self, node: Node) -> Iterator[Block]:
        target = self._target(node, "dm")
        try:
            if target is None:
                raise KeyError("diagram")
            yield from drawingml.read_diagram(self._package.open(target.target))
        except PART_ERRORS:
            yield LeftOut("object", (self._place,), note="a diagram cannot be read")

    def _read_object(self, node: Node) -> Iterator[Block]:
        target = self._target(node)
        if target is not None and not target.is_external:
            yield member(self._package, target.target, self._place)


def member(package: Package, part: str, place: str) -> Block:
    """An embedded document, or that it is missing."""
    name = part.rpartition("/")[2]
    if not package.has(part):
        return LeftOut("object", (f"{place} > {name}",))
    return Member(name, partial(package.open, part), place)


def placeholder(node: Node) -> str:
    """The type of the placeholder that a shape fills; "obj" if it does not say which."""
    for child in node:
        if child.local.startswith("nv"):
            for one in child.walk():
                if one.local == "ph":
                    return one.attributes.get("type", "obj")
    return NO_PLACEHOLDER


def read_table(node: Node) -> str:
    rows: list[list[str]] = []
    for row in node:
        if row.local == "tr":
            cells = (cell for cell in row if cell.local == "tc")
            rows.append(["" if _is_covered(cell) else _cell(cell) for cell in cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows if any(row))


def _is_covered(cell: Node) -> bool:
    """Whether it is hidden below a merged cell."""
    return any(cell.attributes.get(name) in ("1", "true") for name in ("hMerge", "vMerge"))


def _cell(cell: Node) -> str:
    body = cell.child("txBody")
    text = " ".join(paragraphs(body)) if body is not None else ""
    return " ".join(text.split()).replace("|", "\\|")


def paragraphs(body: Node) -> Iterator[str]:
    """The paragraphs of a text body that have text, as lists where they have bullets or numbers of their own."""
    styles = body.child("lstStyle")
    counts: dict[int, tuple[str, int]] = {}  # of the open lists, by level
    for node in body:
        if node.local != "p" or not (text := paragraph(node)):
            continue
        own = node.child("pPr")
        level = _int(own.attributes.get("lvl") if own is not None else None, MAX_LEVEL)
        style = styles.child(f"lvl{level + 1}pPr") if styles is not None else None
        mark = next((found for found in map(_mark, (own, style)) if found is not None), None)
        for deeper in [one for one in counts if one > level]:
            del counts[deeper]
        if mark is None or mark.local != "buAutoNum":
            counts.pop(level, None)
            is_item = mark.local in ("buChar", "buBlip") if mark is not None else level > 0
            yield f"{'  ' * level}- {text}" if is_item else text
            continue
        kind, first = mark.attributes.get("type", ""), _int(mark.attributes.get("startAt", "1"), MAX_NUMBER)
        known, last = counts.get(level, ("", 0))
        key = f"{kind} {first}"
        number = last + 1 if known == key else first
        counts[level] = (key, number)
        yield f"{'  ' * level}{_number(kind, number)} {text}"


def _mark(properties: Node | None) -> Node | None:
    if properties is None:
        return None
    return next((one for one in properties if one.local in ("buNone", "buChar", "buAutoNum", "buBlip")), None)


def _int(text: str | None, most: int) -> int:
    return min(int(text), most) if text and text.isdecimal() and len(text) < 10 else 0


def _number(kind: str, number: int) -> str:
    """The number of a list item as it is shown, such as "3." or "(c)"."""
    match = _AUTO_NUMBER.match(kind)
    style, ending = (match[1], match[2]) if match else ("arabic", "Period")
    shown = str(number)
    if style.startswith("alpha"):
        shown = chr(97 + (number - 1) % 26) * min(1 + (number - 1) // 26, 9) if number else "a"
    elif style.startswith("roman"):
        shown, rest = "", number
        for value, letters in _ROMAN:
            shown += letters * (rest // value)
            rest %= value
    if style.endswith("Uc"):
        shown = shown.upper()
    return {"Period": f"{shown}.", "ParenR": f"{shown})", "ParenBoth": f"({shown})", "Plain": shown}[ending]


def paragraph(node: Node) -> str:
    """The text of a paragraph. The number of a slide is no text."""
    return tidy("".join(_runs(node)))


def _runs(node: Node) -> Iterator[str]:
    for child in node:
        if child.local == "t":
            yield child.text()
        elif child.local == "br":
            yield "\n"
        elif child.local == "tab":
            yield " "
        elif child.local in ("oMath", "oMathPara"):
            yield f" {omml.to_text(child)} "
        elif child.local == "AlternateContent":
            for alternative in child:
                if (text := "".join(_runs(alternative))).strip():
                    yield text
                    break
        elif child.local == "fld" and child.attributes.get("type") == "slidenum":
            continue
        elif not child.local.endswith("Pr"):
            yield from _runs(child)


def tidy(text: str) -> str:
    """The text with single spaces, plain hyphens and without what does not show. Line breaks stay."""
    text = _ESCAPED.sub(_unescape, text).replace("\v", "\n").replace("\u00ad", "").replace("\u2011", "-")
    return "\n".join(line for part in text.split("\n") if (line := _SPACES.sub(" ", part).strip()))


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[0][-2] in "abdABD" else " "
