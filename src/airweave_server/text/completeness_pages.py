"""What stands on the pages of a PDF: their glyphs, for ``completeness``."""

import time
from contextlib import suppress
from typing import IO

from pypdfium2 import PdfDocument, PdfiumError, PdfTextPage

MAX_PAGES = 64  # of a PDF that are counted, spread over all


class Glyphs:
    """What stands on pages of a PDF, at most ``MAX_PAGES`` of them, spread over all: ``texts`` by their numbers.
    Whoever opens a page may show it, for that takes the most time."""

    def __init__(self) -> None:
        self.count = 0
        self.texts: dict[int, str] = {}

    def take(self, count: int, number: int, page: PdfTextPage) -> None:
        """A page, with its number from 0, of so many."""
        self.count = count
        if number in _counted(count):
            with suppress(PdfiumError):
                self.texts[number + 1] = page.get_text_range()

    def complete(self, file: IO[bytes], until: float) -> bool:
        """Look at the pages that were not shown. Returns whether there was time: until the time ``until``."""
        if self.count and all(number + 1 in self.texts for number in _counted(self.count)):
            return True
        with PdfDocument(file) as document:
            self.count = len(document)
            for number in _counted(self.count):
                if number + 1 in self.texts:
                    continue
                if time.monotonic() > until:
                    return False
                try:
                    page = document[number]
                    text = page.get_textpage()
                except PdfiumError:
                    continue
                self.take(self.count, number, text)
                text.close()
                page.close()
        return True


def _counted(count: int) -> range:
    return range(0, count, -(-count // MAX_PAGES) or 1)
