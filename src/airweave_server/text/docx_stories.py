"""The flows of text in a Word document (body, cells, boxes, notes, comments), and the paragraphs and tables in them."""

from collections.abc import Mapping

from . import docx_flow, opc
from .docx_context import Context
from .docx_flow import BREAK, LIST, Block, Paragraph, Story, Table
from .docx_objects import Objects
from .docx_styles import BODY, number
from .parts import LeftOut, Part, Text

MAX_STORIES = 100  # boxes and tables in each other
FLUSH_CHARS = 1_000_000  # a longer text is handed on in pieces


class Stories:
    """Handles the elements that are around the text of a part. Whoever reads it puts text into ``_sink``."""

    def __init__(self, context: Context, relations: Mapping[str, opc.Relation]) -> None:
        self.parts: list[Part] = []  # text that was handed on, and imported documents
        self._context = context
        self._objects = Objects(context, relations, self._anchor)
        self._story = Story([])
        self._stories: list[Story] = []  # around the current one
        self._base = 0  # how many stories are around one that is a whole
        self._tables: list[Table] = []
        self._owners: list[int] = []  # how many stories were open where each table began
        self._cells: list[bool] = []  # open cells: whether each has a story
        self._sink = self._story.loose  # where text goes
        self._muted: list[str] | None = None  # the sink, while a placeholder is passed over
        self._out: list[str] | None = None  # where characters go
        self._pending: list[Block] = []  # notes and comments, for the end of the paragraph or table
        self._drawn: list[str] = []  # text of a shape that is no paragraph of Word
        self._note: tuple[str, str, str] | None = None  # kind, id and author of the open one
        self._is_in_properties = False  # of a paragraph
        self._busy = 0  # open elements of a formula, or of what is passed over
        self._chars = 0
        self._made = 0  # texts

    @property
    def blocks(self) -> list[Block]:
        return self._story.blocks

    def finish(self) -> None:
        """Close what is open: at the end of the part, or where it is damaged."""
        while self._stories or self._tables:
            if self._tables and self._owners[-1] == len(self._stories):
                self._end_w_tr()
                self._end_w_tbl()
            else:
                story, blocks = self._story, self._close_story()
                if not self._add_cell(story, blocks):
                    self._anchor(blocks)
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

    # Paragraphs

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

    def _close_paragraph(self) -> None:
        story = self._story
        made = story.paragraph
        if made is None:
            return
        if story.fields:
            for one in [one for one in reversed(story.fields) if not one.is_shown]:
                one.outer.extend(one.held)  # its instruction never ended, so this may be text
                story.fields.remove(one)
        story.paragraph = None
        self._sink, self._muted = story.loose, None
        self._is_in_properties = False
        if made.is_joined:
            story.joined = made
        else:
            self._add(story, self._block_of(made), made.after)

    def _take_plain(self, text: str, style: str, list_id: str | None, level: int | None, *, is_cell: bool) -> bool:
        """Take a paragraph that is only this text, or a cell that is only this paragraph. Returns whether that is all
        there is to it where it stands."""
        story = self._story
        if story.is_deleted or self._muted is not None:
            return False
        if is_cell:
            table = self._tables[-1] if self._tables else None
            if table is None or table.cells is None or table.is_deleted or self._owners[-1] != len(self._stories):
                return False
            block = self._block(text, style, list_id, level, None)
            table.blocks = [block] if block is not None else []
            table.cells.append(docx_flow.escape(docx_flow.cell_text(table.blocks)))
            table.count += 1
            self._chars += len(block.text) if block is not None else 0
            return True
        if story.paragraph is not None or story.loose or story.joined is not None or story.fields:
            return False
        self._sink = story.loose
        self._is_in_properties = False
        self._add(story, self._block(text, style, list_id, level, None), [])
        return True

    def _block_of(self, made: Paragraph) -> Block | None:
        return self._block("".join(made.pieces), made.style, made.list_id, made.level, made.outline)

    def _block(
        self, text: str, style_id: str, list_id: str | None, level: int | None, outline: int | None
    ) -> Block | None:
        """A paragraph with what is given of its properties; those of its style are looked up."""
        text = docx_flow.clean(text)
        style = self._context.styles.resolve(style_id)
        list_id = style.list_id if list_id is None else list_id
        shown, depth = None, level or 0
        if list_id is not None and list_id != "0":
            if level is None:
                of_style = self._context.lists.level_of(list_id, style.name or style_id)
                depth = (style.level or 0) if of_style is None else of_style
            shown = self._context.lists.advance(list_id, depth)
        if not text:
            return None
        outline = style.outline if outline is None else outline
        if outline is not None and outline < BODY and len(text) <= docx_flow.MAX_HEADING_CHARS:
            number = f"{shown} " if shown and shown != "-" else ""
            return Block(None, f"{'#' * min(outline + 1, 6)} ", number + text.replace("\n", " "))
        if shown is not None:
            return Block(LIST, f"{'  ' * depth}{shown} ", text.replace("\n", " "))
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

    def _close_joined(self) -> None:
        """Add a paragraph that should go on with the next one, and there is none."""
        made, self._story.joined = self._story.joined, None
        if made is not None:
            self._add(self._story, self._block_of(made), made.after)

    # Boxes

    def _open_story(self) -> None:
        self._stories.append(self._story)
        self._story = Story(self._sink if self._muted is None else self._muted)
        self._muted = None
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

    def _anchor(self, blocks: list[Block]) -> None:
        """Add blocks after the current paragraph."""
        story = self._story
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

    # Tables

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
        if self._cells.pop():
            story, blocks = self._story, self._close_story()
            self._add_cell(story, blocks)

    def _add_cell(self, story: Story, blocks: list[Block]) -> bool:
        """Add a cell to the open row. Returns whether there is one."""
        table = self._tables[-1] if self._tables else None
        if table is None or table.cells is None or self._owners[-1] != len(self._stories):
            return False
        if not story.is_deleted:
            table.cells += [docx_flow.escape(docx_flow.cell_text(blocks)), *[""] * (story.span - 1)]
            table.blocks = blocks
            table.count += 1
        return True

    # Notes and comments

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
