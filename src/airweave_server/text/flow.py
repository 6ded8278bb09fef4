"""Puts the running text of a word processor together: paragraphs, headings, list items, rows of tables, notes."""

import re

MAX_LEVELS = 20  # of tables in cells of tables; the deeper ones are joined with the last
MAX_INDENT = 6  # levels of nested lists
_BLANKS = re.compile(r"[ \t\v\f\u2000-\u200a\u3000\xa0\u202f]+")
_AROUND_BREAK = re.compile(r" ?\n ?")
_DROPPED = re.compile("[\u00ad\u200b\u200e\u200f\ufeff]")  # soft hyphen, marks without a width
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Table:
    """What is read of the current row of a table."""

    __slots__ = ("cells", "paragraphs")

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.paragraphs: list[str] = []  # of the current cell


class Flow:
    """The text of a document, or of one note, box or header of it.

    What is written belongs to the current paragraph until that, a cell or a row ends. ``level``: 0 for a paragraph
    outside tables, 1 in a cell, 2 in a cell of a table in a cell.
    """

    def __init__(self) -> None:
        self.inline: list[str] = []  # of the current paragraph
        self.prefix = ""  # its list number or bullet, as shown
        self._blocks: list[tuple[str, str]] = []  # (kind, text)
        self._tables: list[_Table] = []
        self._after: list[str] = []
        self._after_table: list[str] = []

    def write(self, text: str) -> None:
        self.inline.append(text)

    def add_after(self, text: str) -> None:
        """Let a note, a box or a comment follow the current paragraph, or the table that it is in."""
        if text:
            self._after.append(text)

    def end_paragraph(self, level: int = 0, *, heading: int = 0, indent: int = 0) -> None:
        text, label = tidy("".join(self.inline)), self._take_label()
        self.inline.clear()
        self._close_tables(level)
        if level:
            if text or label:
                self._table(level).paragraphs.append(f"{label} {text}".strip().replace("\n", " "))
            return
        self._end_table()
        if text and heading:
            shown = f"{label} {text}" if label and label != "-" else text
            self._blocks.append(("heading", f"{'#' * min(heading, 6)} {shown}".replace("\n", " ")))
        elif text and label:
            self._blocks.append(("item", f"{'  ' * min(indent, MAX_INDENT)}{label} {text}"))
        elif text:
            self._blocks.append(("paragraph", text))
        self._blocks += (("note", note) for note in self._after)
        self._after.clear()

    def end_cell(self, level: int) -> None:
        self.end_paragraph(level)
        table = self._table(level)
        table.cells.append(" ".join(table.paragraphs))
        table.paragraphs.clear()

    def end_row(self, level: int) -> None:
        if self.inline:
            self.end_paragraph(level)
        self._close_tables(level - 1)

    def finish(self) -> str:
        """The text read. What no mark ended ends here."""
        self.end_paragraph()
        text: list[str] = []
        before = ""
        for kind, block in self._blocks:
            if text:
                text.append("\n" if kind == before and kind in ("item", "row") else "\n\n")
            text.append(block)
            before = kind
        return "".join(text)

    def _take_label(self) -> str:
        label, self.prefix = tidy(self.prefix), ""
        is_bullet = label == "o" or not any(c.isalnum() for c in label)
        return "-" if label and is_bullet else label

    def _table(self, level: int) -> _Table:
        while len(self._tables) < min(level, MAX_LEVELS):
            self._tables.append(_Table())
        return self._tables[min(level, MAX_LEVELS) - 1]

    def _close_tables(self, level: int) -> None:
        """End the rows of the tables that are deeper than ``level``."""
        while len(self._tables) > level:
            table = self._tables.pop()
            if table.paragraphs:
                table.cells.append(" ".join(table.paragraphs))
            if not any(table.cells):
                continue
            if self._tables:
                self._tables[-1].paragraphs.append(", ".join(filter(None, table.cells)))
            else:
                self._blocks.append(
                    ("row", f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in table.cells)} |")
                )
                self._after_table += self._after
                self._after.clear()

    def _end_table(self) -> None:
        self._blocks += (("note", note) for note in self._after_table)
        self._after_table.clear()


def tidy(text: str) -> str:
    """The text of a paragraph, with single spaces, whole characters, and nothing that has no width."""
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = _BLANKS.sub(" ", _DROPPED.sub("", text)).replace("\u2011", "-")
    return _AROUND_BREAK.sub("\n", text).strip()
