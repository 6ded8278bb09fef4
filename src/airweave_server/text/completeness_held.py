"""What a document holds as text, in the terms of ``completeness``."""

from collections import Counter
from dataclasses import dataclass, field
from typing import IO

import olefile

from .completeness_archives import TarHeads
from .completeness_numbers import Number, pattern, shown_decimals, shown_words
from .completeness_pages import Glyphs
from .kept import Kept


class TooLarge(Exception):
    """The document has more than is counted."""


@dataclass(slots=True)
class Opened:
    """What its reader has opened of a document, as it is in the file, so that it need not be opened anew: its zip file
    with the parts that are unpacked, its OLE file, the glyphs of its pages, the headers of a tar."""

    archive: Kept | None = None
    storage: olefile.OleFileIO | None = None
    glyphs: Glyphs = field(default_factory=Glyphs)
    tar: TarHeads = field(default_factory=TarHeads)


@dataclass(frozen=True, slots=True)
class Source:
    """A document."""

    file: IO[bytes]
    form: str
    opened: Opened


@dataclass(slots=True)
class Held:
    """``texts``: what must have been read. ``once``: texts each word of which counts once. ``alike``: groups of texts
    of which each may say the same as the others. ``drawn``: categories of charts, of which cells may hold the same.
    ``opaque``: how many words have letters that are not known.
    ``numbers``: values of cells and charts, each with what it shows. ``is_sheet``: names of columns may stand
    before each value."""

    texts: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)
    drawn: Counter[tuple[str, ...]] = field(default_factory=Counter)
    alike: list[list[str]] = field(default_factory=lambda: [[]])
    opaque: int = 0
    numbers: Counter[Number] = field(default_factory=Counter)
    has_dates: bool = False  # among the numbers
    is_sheet: bool = False

    def add_number(self, value: float, code: str, count: int = 1) -> None:
        """A number that so many cells with a format of this code hold."""
        if shown := shown_words(value, code):
            self.numbers[value, shown, shown_decimals(code)] += count
            self.has_dates = self.has_dates or pattern(code)[0] == "date"
