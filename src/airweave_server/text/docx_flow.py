"""The text of a Word document while it is read: paragraphs and tables, and the blocks that come of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BREAK = "\x0b"  # a line break in a paragraph; XML can hold no such character
MAX_HEADING_CHARS = 250  # a longer paragraph with an outline level is text
MAX_SPAN = 64  # columns of one cell
LIST, RULE = "list", "rule"

_ODD = re.compile("[\t\n\x0b\r\u00a0\u00ad\u2000-\u200a\u2011\u202f]|  ")
_TABLE = {
    **dict.fromkeys((0x09, 0x0A, 0x0D, 0xA0, 0x202F, *range(0x2000, 0x200B)), " "),
    0xAD: None,
    0x2011: "-",
}
_SPACES, _BREAKS = re.compile("  +"), re.compile(" ?\x0b[ \x0b]*")


@dataclass(slots=True)
class Block:
    """``group``: blocks of the same group are on consecutive lines; None stands alone. ``mark``: what Markdown puts
    before it, such as "## "."""

    group: object
    mark: str
    text: str


@dataclass(slots=True)
class Paragraph:
    pieces: list[str] = field(default_factory=list)
    after: list[Block] = field(default_factory=list)  # boxes and the like that are anchored in it
    style: str = ""
    list_id: str | None = None
    level: int | None = None
    outline: int | None = None
    is_joined: bool = False  # its end is deleted: the next one goes on with it


@dataclass(slots=True)
class Field:
    """A field of Word. Until its instruction ends, ``held`` takes what would be text."""

    outer: list[str]
    instruction: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    is_shown: bool = False
    choices: list[str] = field(default_factory=list)  # of a drop-down
    chosen: int = 0
    is_checked: bool | None = None  # of a check box


@dataclass(slots=True)
class Table:
    cells: list[str] | None = None  # of the open row
    blocks: list[Block] = field(default_factory=list)  # of its only cell so far
    count: int = 0  # of the cells of the open row
    is_first: bool = True
    is_deleted: bool = False  # the row is

    def close_row(self) -> Iterator[Block]:
        """The row as a line of a Markdown table; a row of one cell with several paragraphs as these paragraphs."""
        cells, self.cells = self.cells, None
        if not cells or not any(cells):
            return
        if self.count == 1 and len(self.blocks) > 1:
            yield from self.blocks
            return
        yield Block(self, "| ", " | ".join(cells))
        if self.is_first:
            self.is_first = False
            yield Block(self, RULE, " | ".join(["---"] * len(cells)))


@dataclass(slots=True)
class Story:
    """A flow of paragraphs: the body, a cell, a box, a note. ``outer``: where the text of the one around it goes."""

    outer: list[str]
    blocks: list[Block] = field(default_factory=list)
    paragraph: Paragraph | None = None
    fields: list[Field] = field(default_factory=list)
    joined: Paragraph | None = None  # that the next paragraph goes on with
    loose: list[str] = field(default_factory=list)  # text outside of paragraphs
    span: int = 1  # of a cell
    is_deleted: bool = False


def clean(text: str) -> str:
    """A paragraph as it is indexed: no-break characters as plain ones, one space at a time, breaks as line ends."""
    if _is_odd(text):
        text = _BREAKS.sub("\n", _SPACES.sub(" ", text.translate(_TABLE)))
    return text.strip()


def _is_odd(text: str) -> bool:
    """Whether ``_ODD`` is in it, which in ASCII is found faster."""
    if text.isascii():
        return "  " in text or "\t" in text or BREAK in text or "\n" in text or "\r" in text
    return _ODD.search(text) is not None


def cell_text(blocks: list[Block]) -> str:
    """Blocks on one line."""
    if len(blocks) == 1 and blocks[0].group is None:
        return blocks[0].text.replace("\n", " ")
    texts: list[str] = []
    for block in blocks:
        if block.mark == RULE:
            continue
        text = block.text.replace(" | ", "; ") if block.mark == "| " else block.text
        if block.group is LIST:
            text = f"{block.mark.lstrip()}{text}"
        texts.append(text)
    return " ".join(texts).replace("\n", " ")


def escape(cell: str) -> str:
    return cell.replace("\\|", "|").replace("|", "\\|") if "|" in cell else cell


def join(blocks: list[Block]) -> str:
    """The Markdown of blocks."""
    parts: list[str] = []
    group: object = None
    for block in blocks:
        if parts:
            parts.append("\n" if block.group is not None and block.group is group else "\n\n")
        group = block.group
        if block.mark in ("| ", RULE):
            parts.append(f"| {block.text} |")
        else:
            parts.append(block.mark + block.text)
    return "".join(parts)
