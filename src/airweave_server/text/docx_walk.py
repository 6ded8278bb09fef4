"""WordprocessingML (ECMA-376-1, part 17) to text: the elements of one part of a Word document, as they stream by.

What Word shows is read: deleted text, instructions of fields and old properties are not. Hidden text is, because a
search is for what a document holds.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from . import docx_plain, fields, fonts, omml, xml
from .docx_context import Context
from .docx_flow import BREAK, Field
from .docx_names import PREFIXES, find_handlers
from .docx_objects import Objects
from .docx_stories import Stories
from .docx_styles import number
from .parts import LeftOut

MAX_FIELDS = 1_000  # in each other
MAX_FORMULA_NODES = 50_000
MAX_FORMULA_DEPTH = 150
CHECKED, UNCHECKED = "☒", "☐"

_PLACEHOLDER = b"<w:showingPlcHdr"

# Properties that say nothing of the text. None of them holds an element of its own name.
_PASSED = (
    *(
        "w:pPrChange",
        "w:rPrChange",
        "w:tblPrChange",
        "w:trPrChange",
        "w:tcPrChange",
        "w:sectPrChange",
        "w:tblGridChange",
    ),
    *("w:tblPrExChange", "w:numberingChange", "w:tabs", "w:pBdr", "w:tblPr", "w:tblPrEx", "w:tblGrid", "w:tcBorders"),
    *("w:tcMar", "w:pgBorders", "wps:spPr", "wps:style", "wps:bodyPr", "pic:spPr", "v:shapetype", "v:formulas"),
)


class Walk(Stories):
    """Reads one part. The text is in ``blocks`` and ``parts`` afterwards; notes and comments are in ``context``."""

    def __init__(self, context: Context, part: str) -> None:
        self._relations = context.package.relations(part)
        super().__init__(context, self._relations)
        self.headers: list[tuple[str, str]] = []  # kind ("header", "footer") and part, in order
        self._font = ""
        self._placeholders: list[bool] = []  # open content controls: whether each shows its placeholder
        self._rubies: list[tuple[list[str], list[str]]] = []
        self._readings: list[str] = []
        self._alternatives: list[int] = []
        self._formula: list[xml.Node] = []
        self._formula_nodes = 0
        self._is_in_row_properties = False
        self._starts, self._ends = _Handlers(self, self._objects, "_start_"), _Handlers(self, self._objects, "_end_")
        self._stream = xml.Stream(PREFIXES, self._start, self._end, self._characters, self._take)
        self._reads_fonts = True  # symbols are in the piece that is being read
        self._marks = {"w:del": self._join_paragraph, "w:moveFrom": self._join_paragraph}

    def pieces(self, file: IO[bytes]) -> Iterator[None]:
        """Read the part piece by piece; yields when ``parts`` may be taken."""
        for data in self._stream.pieces(file):
            yield  # what was found in the piece before
            self._reads_fonts = fonts.may_be_in(data)

    def _take(self, data: bytes) -> Iterator[bytes]:
        """Take the plain paragraphs of a piece, if properties of characters do not matter in it, and yield the rest."""
        if self._reads_fonts or self._placeholders or _PLACEHOLDER in data:
            yield data
            return
        head, found = docx_plain.split(data)
        yield head
        for plain in found:
            opens, style, level, list_id, text, closes, rest = plain
            is_cell = opens is not None and closes is not None
            if opens is not None and not is_cell:
                yield b"<w:tc>"
            if not self._busy and not self._stream.is_passing:
                depth = int(level) if level is not None else None
                if not self._take_plain(text or "", style or "", list_id, depth, is_cell=is_cell):
                    as_xml = docx_plain.to_xml(plain)
                    yield (f"<w:tc>{as_xml}</w:tc>" if is_cell else as_xml).encode()
                elif text is not None:
                    self._font, self._out = "", None
                    self._made += 1
            if closes is not None and not is_cell:
                yield b"</w:tc>"
            if rest:
                yield rest.encode()

    def read(self, file: IO[bytes]) -> None:
        for _ in self.pieces(file):
            pass

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._busy:
            self._busy += 1
            if self._formula:
                self._open_node(name, attributes)
        elif (handler := self._starts[name]) is not None:
            handler(attributes)

    def _end(self, name: str) -> None:
        if self._busy:
            self._busy -= 1
            if self._formula:
                self._close_node()
        elif (handler := self._ends[name]) is not None:
            handler()

    def _characters(self, text: str) -> None:
        if self._out is not None:
            if self._font:
                text = "".join(fonts.sign(ord(c), self._font) if fonts.is_private(ord(c)) else c for c in text)
            self._out.append(text)
        elif self._formula:
            self._formula[-1].children.append(text)

    def pass_over(self, name: str, _: dict[str, str]) -> None:
        self._stream.pass_over(name)

    def _start_w_rPr(self, _: dict[str, str]) -> None:
        """Pass over the properties of characters, if nothing of them matters here."""
        if self._is_in_properties:
            self._stream.pass_over("w:rPr", self._marks)
        elif not self._placeholders and not self._reads_fonts:
            self._stream.pass_over("w:rPr")

    # Paragraphs and runs

    def _start_w_pPr(self, _: dict[str, str]) -> None:
        self._is_in_properties = True

    def _end_w_pPr(self) -> None:
        self._is_in_properties = False

    def _start_w_pStyle(self, attributes: dict[str, str]) -> None:
        if self._story.paragraph is not None:
            self._story.paragraph.style = attributes.get("w:val") or ""

    def _start_w_numId(self, attributes: dict[str, str]) -> None:
        if self._story.paragraph is not None:
            self._story.paragraph.list_id = attributes.get("w:val")

    def _start_w_ilvl(self, attributes: dict[str, str]) -> None:
        if self._story.paragraph is not None:
            self._story.paragraph.level = number(attributes.get("w:val") or "")

    def _start_w_outlineLvl(self, attributes: dict[str, str]) -> None:
        if self._story.paragraph is not None:
            self._story.paragraph.outline = number(attributes.get("w:val") or "")

    def _start_w_framePr(self, attributes: dict[str, str]) -> None:
        if self._story.paragraph is not None and attributes.get("w:dropCap") in ("drop", "margin"):
            self._story.paragraph.is_joined = True  # its letter is the first of the next paragraph

    def _start_w_r(self, _: dict[str, str]) -> None:
        self._font = ""
        if self._muted is not None:
            self._sink, self._muted = self._muted, None

    def _start_w_rFonts(self, attributes: dict[str, str]) -> None:
        font = attributes.get("w:ascii") or attributes.get("w:hAnsi") or ""
        self._font = font if font.startswith(("Sym", "Wing", "Web")) else ""

    def _start_w_rStyle(self, attributes: dict[str, str]) -> None:
        if self._placeholders and self._placeholders[-1]:
            style = attributes.get("w:val") or ""
            if style in self._context.styles.placeholders and self._muted is None:
                self._muted, self._sink = self._sink, []

    def _start_w_t(self, _: dict[str, str]) -> None:
        self._out = self._sink
        self._made += 1

    def _end_w_t(self) -> None:
        self._out = None

    def _start_w_tab(self, _: dict[str, str]) -> None:
        self._sink.append("\t")

    _start_w_ptab = _start_w_tab

    def _start_w_br(self, _: dict[str, str]) -> None:
        self._sink.append(BREAK)

    _start_w_cr = _start_w_br

    def _start_w_noBreakHyphen(self, _: dict[str, str]) -> None:
        self._sink.append("-")

    def _start_w_sym(self, attributes: dict[str, str]) -> None:
        try:
            code = int(attributes.get("w:char") or "", 16)
            font = attributes.get("w:font") or ""
            self._sink.append(fonts.sign(code, font) if code < 0x100 or fonts.is_private(code) else chr(code))
        except ValueError:
            return

    # Tracked changes

    def _start_w_del(self, _: dict[str, str]) -> None:
        if self._is_in_row_properties:
            if self._tables:
                self._tables[-1].is_deleted = True
        else:
            self._busy = 1

    _start_w_moveFrom = _start_w_del

    def _join_paragraph(self) -> None:
        """The end of the paragraph is deleted."""
        if self._story.paragraph is not None:
            self._story.paragraph.is_joined = True

    def _start_w_trPr(self, _: dict[str, str]) -> None:
        self._is_in_row_properties = True

    def _end_w_trPr(self) -> None:
        self._is_in_row_properties = False

    def _start_w_cellDel(self, _: dict[str, str]) -> None:
        self._story.is_deleted = True

    # Fields, content controls, ruby

    def _start_w_fldChar(self, attributes: dict[str, str]) -> None:
        kind, story = attributes.get("w:fldCharType"), self._story
        if kind == "begin" and len(story.fields) < MAX_FIELDS:
            story.fields.append(Field(self._sink))
            self._sink = story.fields[-1].held
        elif kind == "separate" and story.fields and not story.fields[-1].is_shown:
            story.fields[-1].is_shown = True
            self._sink = story.fields[-1].outer
        elif kind == "end" and story.fields:
            one = story.fields.pop()
            if not one.is_shown:
                self._sink = one.outer
            self._sink.append(_shown(one))

    def _start_w_instrText(self, _: dict[str, str]) -> None:
        if self._story.fields:
            self._out = self._story.fields[-1].instruction

    def _end_w_instrText(self) -> None:
        self._out = None

    def _start_w_listEntry(self, attributes: dict[str, str]) -> None:
        if self._story.fields:
            self._story.fields[-1].choices.append(attributes.get("w:val") or "")

    def _start_w_result(self, attributes: dict[str, str]) -> None:
        if self._story.fields:
            self._story.fields[-1].chosen = number(attributes.get("w:val") or "")

    def _start_w_default(self, attributes: dict[str, str]) -> None:
        if self._story.fields and (one := self._story.fields[-1]).is_checked is None:
            value = attributes.get("w:val") or ""
            one.is_checked = value in ("1", "true", "on")
            one.chosen = one.chosen or number(value)

    def _start_w_checked(self, attributes: dict[str, str]) -> None:
        if self._story.fields:
            self._story.fields[-1].is_checked = attributes.get("w:val") in (None, "1", "true", "on")

    def _start_w_sdt(self, _: dict[str, str]) -> None:
        self._placeholders.append(False)

    def _start_w_showingPlcHdr(self, attributes: dict[str, str]) -> None:
        if self._placeholders:
            self._placeholders[-1] = attributes.get("w:val") not in ("0", "false", "off")

    def _end_w_sdt(self) -> None:
        if self._placeholders:
            self._placeholders.pop()
        if self._muted is not None:
            self._sink, self._muted = self._muted, None

    def _start_w_rt(self, _: dict[str, str]) -> None:
        self._rubies.append((self._sink, []))
        self._sink = self._rubies[-1][1]

    def _end_w_rt(self) -> None:
        if self._rubies:
            self._sink, reading = self._rubies.pop()
            self._readings = reading

    def _end_w_ruby(self) -> None:
        if any(self._readings):
            self._sink += ["(", *self._readings, ")"]
        self._readings = []

    # Formulas and alternatives

    def _start_m_oMath(self, attributes: dict[str, str]) -> None:
        self._busy, self._formula_nodes = 1, 0
        self._formula = [xml.Node("oMath", attributes)]

    def _start_m_oMathPara(self, attributes: dict[str, str]) -> None:
        self._busy, self._formula_nodes = 1, 0
        self._formula = [xml.Node("oMathPara", attributes)]

    def _open_node(self, name: str, attributes: dict[str, str]) -> None:
        top = self._formula[-1]
        self._formula_nodes += 1
        if self._formula_nodes > MAX_FORMULA_NODES or len(self._formula) > MAX_FORMULA_DEPTH:
            if top.local != "t":
                top.children.append(xml.Node("t", {}))
                top = next(reversed([*top]))
            self._formula.append(top)
            return
        node = xml.Node(_local(name), {_local(key): value for key, value in attributes.items()})
        top.children.append(node)
        self._formula.append(node)

    def _close_node(self) -> None:
        node = self._formula.pop()
        if not self._formula:
            text = omml.to_text(node)
            is_display = node.local == "oMathPara"
            self._sink += [BREAK, text.replace("\n", BREAK), BREAK] if is_display else [text]

    def _start_mc_AlternateContent(self, _: dict[str, str]) -> None:
        self._alternatives.append(self._made + self._objects.made)

    def _start_mc_Choice(self, _: dict[str, str]) -> None:
        """An alternative is read if those before it had nothing that can be read."""
        if self._alternatives and self._made + self._objects.made > self._alternatives[-1]:
            self._busy = 1

    _start_mc_Fallback = _start_mc_Choice

    def _end_mc_AlternateContent(self) -> None:
        if self._alternatives:
            self._alternatives.pop()

    # Tables, boxes, notes

    # Other parts

    def _start_w_headerReference(self, attributes: dict[str, str]) -> None:
        self._add_header("header", attributes)

    def _start_w_footerReference(self, attributes: dict[str, str]) -> None:
        self._add_header("footer", attributes)

    def _add_header(self, kind: str, attributes: dict[str, str]) -> None:
        target = self._relations.get(self._objects.relation_id(attributes))
        if target is not None and not target.is_external:
            self.headers.append((kind, target.target))

    def _start_w_subDoc(self, attributes: dict[str, str]) -> None:
        """A part of a master document, which is a file of its own."""
        target = self._relations.get(self._objects.relation_id(attributes))
        self._context.left_out.append(LeftOut("member", (target.target,) if target is not None else ()))

    def _start_w_altChunk(self, attributes: dict[str, str]) -> None:
        """An imported document: its text comes here, or after the table that it is in."""
        member = self._objects.imported(attributes)
        if member is None:
            return
        if self._stories or self._tables:
            self._context.members.append(member)
            return
        self._close_paragraph()
        self.flush()
        self.parts.append(member)


class _Handlers(dict[str, Callable[..., None] | None]):
    """What to call for each element, or None. Most parts have few of them: each is looked up when it first comes."""

    def __init__(self, walk: Walk, objects: Objects, prefix: str) -> None:
        super().__init__()
        self._walk, self._objects, self._prefix = walk, objects, prefix

    def __missing__(self, element: str) -> Callable[..., None] | None:
        found: Callable[..., None] | None = None
        if self._prefix == "_start_" and element in _PASSED:
            found = partial(self._walk.pass_over, element)
        elif (method := find_handlers(Walk, self._prefix).get(element)) is not None:
            found = getattr(self._walk, method)
        elif (method := find_handlers(Objects, self._prefix).get(element)) is not None:
            found = getattr(self._objects, method)
        if len(self) < xml.MAX_NAMES:
            self[element] = found
        return found


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _shown(one: Field) -> str:
    """What a field shows besides its result."""
    instruction = "".join(one.instruction)
    word = instruction.split(None, 1)[0].upper() if instruction.strip() else ""
    if word == "FORMCHECKBOX":
        return CHECKED if one.is_checked else UNCHECKED
    if word == "FORMDROPDOWN":
        return one.choices[one.chosen] if one.chosen < len(one.choices) else ""
    return "" if one.is_shown else fields.show(instruction)
