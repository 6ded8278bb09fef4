"""What the parts of a Word document share: styles, lists, notes and comments, and what is left out of it."""

from . import docx_flow, numerals
from .docx_flow import Block
from .docx_styles import Lists, Styles
from .package import Package
from .parts import LeftOut, Member


class Context:
    def __init__(self, package: Package) -> None:
        self.package = package
        self.styles = Styles()
        self.lists = Lists()
        self.left_out: list[LeftOut] = []
        self.members: list[Member] = []  # documents inside, to be read after this one
        self.images: set[str] = set()  # their parts
        self.descriptions: set[str] = set()  # of images, that were read
        self._notes: dict[tuple[str, str], list[Block]] = {}
        self._counts: dict[str, int] = {}
        self._labels: dict[tuple[str, str], str] = {}
        self._comments: dict[str, tuple[str, list[Block]]] = {}

    def add_note(self, kind: str, id: str, author: str, blocks: list[Block]) -> None:
        """Keep a footnote, an endnote or a comment until the text refers to it."""
        if kind == "comment":
            self._comments[id] = author, blocks
        else:
            self._notes[kind, id] = blocks

    def refer(self, kind: str, id: str) -> tuple[str, list[Block]]:
        """The label of a note, and its text if this is the first reference to it; "" if there is no such note.

        Footnotes are numbered 1, 2, …, endnotes i, ii, …, as Word does."""
        if (label := self._labels.get((kind, id))) is not None:
            return label, []
        if (blocks := self._notes.pop((kind, id), None)) is None:
            return "", []
        self._counts[kind] = self._counts.get(kind, 0) + 1
        label = numerals.format_number(self._counts[kind], "lowerRoman" if kind == "endnote" else "decimal")
        self._labels[kind, id] = label
        return label, [Block(None, "", f"[^{label}]: {docx_flow.join(blocks)}")] if blocks else []

    def take_comment(self, id: str) -> list[Block]:
        """A comment, once."""
        author, blocks = self._comments.pop(id, ("", []))
        if not blocks:
            return []
        by = f" by {author}" if author else ""
        return [Block(None, "", f"[Comment{by}: {docx_flow.join(blocks)}]")]

    def other_comments(self) -> list[Block]:
        """The comments that the text does not refer to."""
        return [block for id in list(self._comments) for block in self.take_comment(id)]
