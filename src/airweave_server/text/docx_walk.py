"""WordprocessingML (ECMA-376-1, part 17) to text: the elements of one part of a Word document, as they stream by.

What Word shows is read: deleted text, instructions of fields and old properties are not. Hidden text is, because a
search is for what a document holds.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from . import docx_flow, fields, fonts, omml, xml
from .docx_context import Context
from .docx_flow import BREAK, LIST, Block, Field, Paragraph, Story, Table
from .docx_names import PREFIXES, find_handlers
from .docx_objects import Objects
from .docx_styles import BODY, number
from .parts import LeftOut, Part, Text

MAX_STORIES = 100  # boxes and tables in each other
MAX_FIELDS = 1_000  # in each other
MAX_FORMULA_NODES = 50_000
MAX_FORMULA_DEPTH = 150
FLUSH_CHARS = 1_000_000  # a longer text is handed on in pieces
CHECKED, UNCHECKED = "☒", "☐"
# What a piece of a part may hold if a sign of a symbol font is in it: U+F0xx, a reference, or UTF-16.
_SIGNS = (*(bytes((0xEF, second)) for second in range(0x80, 0x84)), b"&#", b"\0")

# Properties that say nothing of the text. None of them holds an element of its own name.
_PASSED = (
    *("w:pPrChange", "w:tblPrChange", "w:trPrChange", "w:tcPrChange", "w:sectPrChange", "w:tblGridChange"),
    *("w:tblPrExChange", "w:numberingChange", "w:tabs", "w:pBdr", "w:tblPr", "w:tblPrEx", "w:tblGrid", "w:tcBorders"),
    *("w:tcMar", "w:pgBorders", "wps:spPr", "wps:style", "wps:bodyPr", "pic:spPr", "v:shapetype", "v:formulas"),
)


class Walk:
    """Reads one part. The text is in ``blocks`` and ``parts`` afterwards; notes and comments are in ``context``."""

    def __init__(self, context: Context, part: str) -> None:
        self.parts: list[Part] = []  # text that was handed on, and imported documents
        self.headers: list[tuple[str, str]] = []  # kind ("header", "footer") and part, in order
        self._context = context
        self._relations = context.package.relations(part)
        self._objects = Objects(context, self._relations, self._anchor)
        self._story = Story([])
        self._stories: list[Story] = []  # around the current one
        self._base = 0  # how many stories are around one that is a whole
        self._tables: list[Table] = []
        self._owners: list[int] = []  # how many stories were open where each table began
        self._cells: list[bool] = []  # open cells: whether each has a story
        self._sink = self._story.loose
        self._out: list[str] | None = None  # where characters go
        self._pending: list[Block] = []  # notes and comments, for the end of the paragraph or table
        self._drawn: list[str] = []  # text of a shape that is no paragraph of Word
        self._font = ""
        self._muted: list[str] | None = None  # the sink, while a placeholder is passed over
        self._placeholders: list[bool] = []  # open content controls: whether each shows its placeholder
        self._rubies: list[tuple[list[str], list[str]]] = []
        self._readings: list[str] = []
        self._alternatives: list[int] = []
        self._busy = 0  # open elements of a formula, or of what is passed over
        self._formula: list[xml.Node] = []
        self._formula_nodes = 0
        self._is_in_properties = self._is_in_row_properties = False
        self._note: tuple[str, str, str] | None = None
        self._chars = 0
        self._made = 0  # texts
        self._starts = self._handlers("_start_")
        self._ends = self._handlers("_end_")
        self._stream = xml.Stream(PREFIXES, self._start, self._end, self._characters)
        self._reads_fonts = True  # symbols are in the piece that is being read
        self._marks = {"w:del": self._join_paragraph, "w:moveFrom": self._join_paragraph}

    @property
    def blocks(self) -> list[Block]:
        return self._story.blocks

    def pieces(self, file: IO[bytes]) -> Iterator[None]:
        """Read the part piece by piece; yields when ``parts`` may be taken."""
        for data in self._stream.pieces(file):
            yield  # what was found in the piece before
            self._reads_fonts = any(sign in data for sign in _SIGNS)

    def read(self, file: IO[bytes]) -> None:
        for _ in self.pieces(file):
            pass

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._busy:
            self._busy += 1
            if self._formula:
                self._open_node(name, attributes)
        elif (handler := self._starts.get(name)) is not None:
            handler(attributes)

    def _end(self, name: str) -> None:
        if self._busy:
            self._busy -= 1
            if self._formula:
                self._close_node()
        elif (handler := self._ends.get(name)) is not None:
            handler()

    def _characters(self, text: str) -> None:
        if self._out is not None:
            if self._font:
                text = "".join(fonts.sign(ord(c), self._font) if fonts.is_private(ord(c)) else c for c in text)
            self._out.append(text)
        elif self._formula:
            self._formula[-1].children.append(text)

    def finish(self) -> None:
        """Close what is open: at the end of the part, or where it is damaged."""
        while self._stories:
            self._anchor_to(self._stories[-1], self._close_story())
        self._close_paragraph()
        self._flush_loose(self._story)
        self._close_joined()
        self._story.blocks += self._pending
        self._pending = []

    def flush(self) -> None:
        """Hand on the text so far."""
        if self._story.blocks:
            self.parts.append(Text("", docx_flow.join(self._story.blocks), "markdown"))
            self._story.blocks = []
        self._chars = 0

    def _handlers(self, prefix: str) -> dict[str, Callable[..., None]]:
        found = self._objects.handlers(prefix)
        found |= {element: getattr(self, name) for element, name in find_handlers(Walk, prefix)}
        if prefix == "_start_":
            found |= {name: partial(self._pass, name) for name in _PASSED}
        return found

    def _pass(self, name: str, _: dict[str, str]) -> None:
        self._stream.pass_over(name)

    def _start_w_rPr(self, _: dict[str, str]) -> None:
        """Pass over the properties of characters, if nothing of them matters here."""
        if self._is_in_properties:
            self._stream.pass_over("w:rPr", self._marks)
        elif not self._placeholders and not self._reads_fonts:
            self._stream.pass_over("w:rPr")

    # Paragraphs and runs

    def _start_w_p(self, _: dict[str, str]) -> None:
        story = self._story
        if story.is_deleted:
            self._busy = 1
            return
        if story.paragraph is not None:
            self._close_paragraph()
        if story.loose:
            self._flush_loose(story)
        story.paragraph = made = Paragraph()
        if story.joined is not None:
            made.pieces, made.after = story.joined.pieces, story.joined.after
            story.joined = None
        self._sink = made.pieces

    def _end_w_p(self) -> None:
        self._close_paragraph()

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

    def _close_paragraph(self) -> None:
        story = self._story
        made = story.paragraph
        if made is None:
            return
        for one in [one for one in reversed(story.fields) if not one.is_shown]:
            one.outer.extend(one.held)  # its instruction never ended, so this may be text
            story.fields.remove(one)
        story.paragraph = None
        self._sink = story.loose
        self._is_in_properties = False
        if made.is_joined:
            story.joined = made
        else:
            self._add(story, self._block(made), made.after)

    def _block(self, made: Paragraph) -> Block | None:
        text = docx_flow.clean("".join(made.pieces))
        style = self._context.styles.resolve(made.style)
        list_id = style.list_id if made.list_id is None else made.list_id
        shown, level = None, made.level or 0
        if list_id is not None and list_id != "0":
            if made.level is None:
                of_style = self._context.lists.level_of(list_id, style.name or made.style)
                level = (style.level or 0) if of_style is None else of_style
            shown = self._context.lists.advance(list_id, level)
        if not text:
            return None
        outline = style.outline if made.outline is None else made.outline
        if outline is not None and outline < BODY and len(text) <= docx_flow.MAX_HEADING_CHARS:
            number = f"{shown} " if shown and shown != "-" else ""
            return Block(None, f"{'#' * min(outline + 1, 6)} ", number + text.replace("\n", " "))
        if shown is not None:
            return Block(LIST, f"{'  ' * level}{shown} ", text.replace("\n", " "))
        return Block(None, "", text)

    def _add(self, story: Story, block: Block | None, after: list[Block]) -> None:
        """Add a paragraph, and what belongs after it."""
        if block is not None:
            story.blocks.append(block)
            self._chars += len(block.text)
        story.blocks += after
        if self._pending and len(self._stories) <= self._base and not self._tables:
            story.blocks += self._pending
            self._pending = []
        if self._chars > FLUSH_CHARS and not self._stories and not self._tables:
            self.flush()

    def _flush_loose(self, story: Story) -> None:
        """Text outside of paragraphs becomes one."""
        text = docx_flow.clean("".join(story.loose))
        story.loose.clear()
        if text:
            story.blocks.append(Block(None, "", text))

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

    def _open_story(self) -> None:
        self._stories.append(self._story)
        self._story = Story(self._sink)
        self._sink = self._story.loose
        self._is_in_properties = False

    def _close_story(self) -> list[Block]:
        self._close_paragraph()
        story = self._story
        self._flush_loose(story)
        self._close_joined()
        self._story = self._stories.pop()
        self._sink = story.outer
        return story.blocks

    def _close_joined(self) -> None:
        """Add a paragraph that should go on with the next one, and there is none."""
        made, self._story.joined = self._story.joined, None
        if made is not None:
            self._add(self._story, self._block(made), made.after)

    def _anchor(self, blocks: list[Block]) -> None:
        """Add blocks after the current paragraph."""
        self._anchor_to(self._story, blocks)

    def _anchor_to(self, story: Story, blocks: list[Block]) -> None:
        if story.paragraph is not None:
            story.paragraph.after += blocks
        else:
            story.blocks += blocks

    def _is_too_deep(self) -> bool:
        if len(self._stories) < MAX_STORIES:
            return False
        self._context.left_out.append(LeftOut("too_deep"))
        self._busy = 1
        return True

    def _start_w_txbxContent(self, _: dict[str, str]) -> None:
        if not self._is_too_deep():
            self._open_story()

    def _end_w_txbxContent(self) -> None:
        blocks = self._close_story()
        self._anchor(blocks)

    def _start_a_t(self, _: dict[str, str]) -> None:
        self._out = self._drawn
        self._made += 1

    def _end_a_t(self) -> None:
        self._out = None

    def _start_a_br(self, _: dict[str, str]) -> None:
        self._drawn.append(BREAK)

    def _end_a_p(self) -> None:
        """Add text of a shape: a paragraph of DrawingML, or what a box of VML holds without one of Word."""
        text = docx_flow.clean("".join(self._drawn))
        self._drawn.clear()
        if text:
            self._anchor([Block(None, "", text)])

    def _start_v_textbox(self, _: dict[str, str]) -> None:
        self._out = self._drawn

    def _end_v_textbox(self) -> None:
        self._out = None
        self._end_a_p()

    def _start_w_tbl(self, _: dict[str, str]) -> None:
        if self._is_too_deep():
            return
        if self._story.is_deleted:
            self._busy = 1
            return
        self._close_paragraph()
        self._close_joined()
        self._flush_loose(self._story)
        self._tables.append(Table())
        self._owners.append(len(self._stories))

    def _end_w_tbl(self) -> None:
        self._tables.pop()
        self._owners.pop()
        self._add(self._story, None, [])

    def _start_w_tr(self, _: dict[str, str]) -> None:
        if self._tables:
            table = self._tables[-1]
            table.cells, table.blocks, table.count, table.is_deleted = [], [], 0, False

    def _end_w_tr(self) -> None:
        if self._tables:
            made = list(self._tables[-1].close_row())
            self._story.blocks += made
            self._chars += sum(len(one.text) for one in made)

    def _start_w_tc(self, _: dict[str, str]) -> None:
        table = self._tables[-1] if self._tables else None
        is_cell = table is not None and table.cells is not None and self._owners[-1] == len(self._stories)
        if is_cell and table is not None and table.is_deleted:
            self._busy = 1
            return
        self._cells.append(is_cell)
        if is_cell:
            self._open_story()

    def _start_w_gridSpan(self, attributes: dict[str, str]) -> None:
        self._story.span = max(1, min(number(attributes.get("w:val") or ""), docx_flow.MAX_SPAN))

    def _end_w_tc(self) -> None:
        if not self._cells.pop():
            return
        story, blocks = self._story, self._close_story()
        table = self._tables[-1]
        if table.cells is not None and not story.is_deleted:
            table.cells += [docx_flow.escape(docx_flow.cell_text(blocks)), *[""] * (story.span - 1)]
            table.blocks = blocks
            table.count += 1

    def _start_w_footnote(self, attributes: dict[str, str]) -> None:
        self._open_note("footnote", attributes)

    def _start_w_endnote(self, attributes: dict[str, str]) -> None:
        self._open_note("endnote", attributes)

    def _start_w_comment(self, attributes: dict[str, str]) -> None:
        self._open_note("comment", attributes)

    def _open_note(self, kind: str, attributes: dict[str, str]) -> None:
        self._note = kind, attributes.get("w:id") or "", attributes.get("w:author") or ""
        self._base = 1
        self._open_story()

    def _end_w_footnote(self) -> None:
        blocks = self._close_story()
        if self._note is not None:
            self._context.add_note(*self._note, blocks)

    _end_w_endnote = _end_w_comment = _end_w_footnote

    def _start_w_footnoteReference(self, attributes: dict[str, str]) -> None:
        self._refer("footnote", attributes)

    def _start_w_endnoteReference(self, attributes: dict[str, str]) -> None:
        self._refer("endnote", attributes)

    def _refer(self, kind: str, attributes: dict[str, str]) -> None:
        label, blocks = self._context.refer(kind, attributes.get("w:id") or "")
        if label:
            self._sink.append(f"[^{label}]")
            self._pending += blocks

    def _start_w_commentReference(self, attributes: dict[str, str]) -> None:
        self._pending += self._context.take_comment(attributes.get("w:id") or "")

    # Other parts

    def _start_w_headerReference(self, attributes: dict[str, str]) -> None:
        self._add_header("header", attributes)

    def _start_w_footerReference(self, attributes: dict[str, str]) -> None:
        self._add_header("footer", attributes)

    def _add_header(self, kind: str, attributes: dict[str, str]) -> None:
        target = self._relations.get(self._objects.relation_id(attributes))
        if target is not None and not target.is_external:
            self.headers.append((kind, target.target))

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
