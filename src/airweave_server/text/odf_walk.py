"""The walk through the XML of an OpenDocument file: what is open, and where text goes.

What an element means is said by handlers (``odf_text``, ``odf_shapes``, ``odf_sheets``). The text of an element without
a handler is read like any other.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from . import xml
from .mathml import Formula
from .odf_lists import Counter, Levels, ListStyles
from .odf_names import name
from .parts import LeftOut, Member
from .tables import MAX_TEXT_CHARS

MAX_SINKS = 16  # notes, comments and cells within each other; the text of deeper ones goes to the one around them
REPEATED_CHARS = 4_000_000  # that repeated cells and rows may add to the text of a document
LABEL_CHARS = 8  # more for each cell: the name of its column, which then stands before it
MAX_GAP = 64  # empty cells before another one, which are always kept
MAX_GAPS = 5_000_000  # those beyond, of all rows together

BREAK = "\v"  # a line break within a paragraph; no character of XML
FIELD = "\x02"  # where a header or footer has the number of the page or today's date; no character of XML
SEAM = "\x1f"  # between two pieces of a paragraph: a space if they would make one word; no character of XML
_SEAMS = re.compile(rf"(?<=\w){SEAM}+(?=\w)")

End = Callable[[], None]
Handler = Callable[["Walker", dict[str, str]], End | None]
Handlers = dict[str, Handler]


@dataclass(slots=True)
class Block:
    """A paragraph, a heading, an item of a list, a table."""

    text: str
    is_item: bool = False
    is_comment: bool = False
    is_table: bool = False


@dataclass(slots=True)
class OpenList:
    """``depth``: how many paragraphs were open where the list began: a list in a text box is not in that around it."""

    style: str
    levels: Levels
    counter: Counter
    level: int
    depth: int
    is_label_due: bool = False
    first: int | None = None
    label: str = ""  # of the open item, if it stands in the document


@dataclass(slots=True)
class Sink:
    """A place for blocks: the document, a cell, a note. While a paragraph is open, other blocks wait for its end."""

    blocks: list[Block] = field(default_factory=list)
    waiting: list[Block] = field(default_factory=list)
    paragraphs: list[list[str]] = field(default_factory=list)  # the open ones; the inner one is in a box
    lists: list[OpenList] = field(default_factory=list)

    def add(self, text: str, *, is_item: bool = False, is_comment: bool = False) -> None:
        if text:
            (self.waiting if self.paragraphs else self.blocks).append(Block(text, is_item, is_comment))

    def extend(self, blocks: list[Block]) -> None:
        (self.waiting if self.paragraphs else self.blocks).extend(blocks)

    def close_paragraph(self) -> str:
        return tidy("".join(self.paragraphs.pop()))

    def end_line(self) -> None:
        """Add the innermost paragraph as it is."""
        self.add(self.close_paragraph())
        self.release()

    def release(self) -> None:
        """Add the blocks that waited for the outermost paragraph."""
        if self.waiting and not self.paragraphs:
            self.blocks.extend(self.waiting)
            self.waiting.clear()


@dataclass(frozen=True, slots=True)
class Embedded:
    """What an object in a document says. ``formula``: if it is one, which belongs into its sentence."""

    blocks: list[Block] = field(default_factory=list)
    formula: str = ""


@dataclass(slots=True)
class Table:
    blocks: list[Block] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    row: list[list[Block]] = field(default_factory=list)
    gap: int = 0  # empty cells since the last other one


@dataclass(slots=True)
class Frame:
    """What stands in a frame: the ways to show one thing. ``is_shown``: one of them is read."""

    images: int = 0
    is_shown: bool = False
    description: str = ""


@dataclass(slots=True)
class Sheet:
    """What is read of a sheet. ``rows``: the complete ones, each with how often it stands there; the reader takes them
    away while the walk goes on."""

    title: str
    shapes: Sink = field(default_factory=Sink)  # text on the sheet beside its cells
    rows: deque[tuple[list[str], int]] = field(default_factory=deque)
    is_complete: bool = False
    row: list[str] = field(default_factory=list)  # the open one
    gap: int = 0  # empty cells since the last other one
    cell: Sink | None = None  # the open one
    spare: Sink = field(default_factory=Sink)  # an empty one, for the next cell


@dataclass(slots=True)
class Found:
    """What is found beside text, in a document and all objects in it."""

    left_out: list[LeftOut] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    images: dict[tuple[str, ...], int] = field(default_factory=dict)  # how many, by place


class Walker:
    """Handles XML events. ``embed``: reads the object of that name in the package."""

    def __init__(self, handlers: Handlers, found: Found, embed: Callable[["Walker", str], Embedded]) -> None:
        self.handlers = handlers
        self.embed = embed
        self.found = found
        self.sink = Sink()
        self.place: tuple[str, ...] = ()  # where in the document the walk is: ("Slide 3",)
        self.is_muted = False  # characters are not text, as within styles
        self.is_formula = False  # the whole document is one
        self.chars = 0  # of all paragraphs

        self.bodies: list[Handlers] = []  # the handlers outside of styles
        self.styles = ListStyles()
        self.parents: dict[str, str] = {}  # of paragraph styles
        self.numbered: set[str] = set()  # paragraph styles with a list style of their own
        self.unnumbered: set[str] = set()  # those that take a heading out of the numbering
        self.is_furniture = False  # within a header or footer
        self.furniture: dict[str, None] = {}  # headers and footers

        self.outline = Counter()
        self.counters: dict[str, Counter] = {}  # of lists, by their id and by their style
        self.labels: list[str] = []  # numbers that stand in the document, of the open paragraphs
        self.note = ["", ""]  # the open one: its label and its text
        self.author = ""  # of the open comment
        self.tables: list[Table | None] = []  # None: nested too deeply, read as if it were no table
        self.spare_chars = REPEATED_CHARS
        self.spare_gaps = MAX_GAPS
        self.is_cut = False  # something is repeated more often than it is read

        self.sheet: Sheet | None = None  # the open one
        self.sheets: deque[Sheet] = deque()  # those that are not yet taken

        self.linked = ""  # the file in which the open section stands
        self.frames: list[Frame] = []
        self.is_chart = False
        self.has_values = True  # charts are read with their values, which a sheet has already
        self.controls: dict[str, str] = {}  # the texts of form controls, by their id
        self.is_title = False  # within the title of a slide
        self.page_name = "Page"
        self.pages: list[tuple[str, list[Block]]] = []
        self.declared: dict[str, str] = {}  # headers and footers of slides
        self.said: set[str] = set()  # those that are read

        self._sinks: list[Sink] = []
        self._open: list[End | None] = []
        self._is_apart = False  # within an element that is ignored, or a formula
        self._deeper = 0  # open elements within that
        self._formula: Formula | None = None

    def read(self, file: IO[bytes]) -> None:
        """Walk through a part, to its end or until the text is longer than one may be. If that fails, what was read
        before is kept."""
        try:
            for _ in xml.parse_in_pieces(file, self.start, self.end, self.characters):
                if self.chars > MAX_TEXT_CHARS:
                    break
        finally:
            self.finish()

    def finish(self) -> None:
        """Close what is open, in a part that is cut short."""
        self._deeper = 0
        while self._open:
            self.end("")

    def start(self, element: str, attributes: dict[str, str]) -> None:
        if self._is_apart:
            self._deeper += 1
            if self._formula is not None:
                self._formula.start(xml.local_name(element), attributes)
            return
        handler = self.handlers.get(element)
        self._open.append(None if handler is None else handler(self, attributes))

    def end(self, _element: str) -> None:
        if self._deeper:
            self._deeper -= 1
            if self._formula is not None:
                self._formula.end()
        elif (close := self._open.pop()) is not None:
            close()

    def characters(self, text: str) -> None:
        if self.is_muted:
            return
        if self._is_apart:
            if self._formula is not None:
                self._formula.characters(text)
        elif self.sink.paragraphs:
            self.sink.paragraphs[-1].append(text)
        elif not text.isspace():
            self.sink.add(tidy(text))

    def ignore(self, _: dict[str, str]) -> End:
        """Handle an element whose content is not read."""
        self._is_apart = True
        return self._end_apart

    def read_formula(self, _: dict[str, str]) -> End:
        """Handle a formula, which is read by rules of its own."""
        self.is_formula = not self._open
        self._is_apart, self._formula = True, Formula()
        return self._end_apart

    def _end_apart(self) -> None:
        formula, self._is_apart, self._formula = self._formula, False, None
        if formula is not None:
            self.add_inline(formula.text())

    def add_inline(self, text: str) -> None:
        """Add to the open paragraph, or as one of its own."""
        if not text:
            return
        if self.sink.paragraphs:
            self.sink.paragraphs[-1].append(f"{SEAM}{text}{SEAM}")
        else:
            self.sink.add(tidy(text))

    def open_sink(self, inner: Sink | None = None) -> Callable[[], Sink] | None:
        """Take what follows apart. Returns how to end that, or None if too much is nested."""
        if len(self._sinks) >= MAX_SINKS:
            return None
        self._sinks.append(self.sink)
        self.sink = Sink() if inner is None else inner
        return self._close_sink

    def _close_sink(self) -> Sink:
        inner, self.sink = self.sink, self._sinks.pop()
        return inner

    def repeats(self, times: int, chars: int, *, cells: int = 1) -> int:
        """How many times something is read that says it is repeated: at most so often that the text stays small."""
        if times <= 1 or not chars:
            return times
        chars += LABEL_CHARS * cells
        allowed = min(times, 1 + self.spare_chars // chars)
        self.spare_chars -= (allowed - 1) * chars
        if allowed < times and not self.is_cut:
            self.is_cut = True
            self.found.left_out.append(LeftOut("rest", self.place, note="cells and rows that are repeated very often"))
        return allowed

    def gaps(self, count: int) -> int:
        """How many empty cells are kept before another one."""
        more = min(max(0, count - MAX_GAP), self.spare_gaps)
        self.spare_gaps -= more
        return min(count, MAX_GAP) + more


def make_handlers(handlers: Handlers) -> Handlers:
    return {name(element): handler for element, handler in handlers.items()}


def tidy(text: str) -> str:
    """One space for all white space in a row; a no-break hyphen is a hyphen, a soft one is none."""
    if SEAM in text:
        text = _SEAMS.sub(" ", text).replace(SEAM, "")
    if not text.isascii():
        text = text.replace("\u2011", "-").replace("\u00ad", "")
    if BREAK in text:
        return "\n".join(" ".join(line.split()) for line in text.split(BREAK)).strip("\n")
    return " ".join(text.split())


def in_line(blocks: list[Block]) -> str:
    """Blocks as a single line; the rows of a table as ``a, b; c, d``."""
    return " ".join(_rows_in_line(block.text) if block.is_table else " ".join(block.text.split()) for block in blocks)


def _rows_in_line(table: str) -> str:
    rows = (row[2:-2] for row in table.split("\n") if not row.startswith("| --- |"))
    return "; ".join(", ".join(filter(None, row.split(" | "))) for row in rows)


def join(blocks: list[Block]) -> str:
    """Blocks as Markdown: a blank line between them, none between the items of a list."""
    parts: list[str] = []
    for before, block in zip([None, *blocks], blocks, strict=False):
        if before is not None:
            parts.append("\n" if before.is_item and block.is_item else "\n\n")
        parts.append(block.text)
    return "".join(parts)
