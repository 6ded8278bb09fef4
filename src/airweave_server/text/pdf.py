"""PDF to text, page by page, by PDFium."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from pypdfium2 import PdfDocument, PdfiumError

from .parts import LeftOut, Part, Refused, Text, Unparseable

MAX_BOOKMARKS = 5_000

_HYPHENS = re.compile("[\x02\ufffe]\r?\n?")  # PDFium's marks for a word that continues on the next line


def read(file: IO[bytes]) -> Iterator[Part]:
    """The text of each page. Its label includes the bookmark that the page is under."""
    try:
        document = PdfDocument(file)
    except PdfiumError as error:
        if "password" in str(error).lower():
            raise Refused("encrypted") from None
        raise Unparseable("it is damaged: the PDF cannot be opened") from None
    with document:
        titles = _bookmarks(document)
        title, has_text = "", False
        for number in range(len(document)):
            title = titles.get(number, title)
            try:
                page = document[number]
                text = page.get_textpage()
                content = _HYPHENS.sub("", text.get_text_bounded())
                text.close()
                page.close()
            except PdfiumError:  # this page is damaged; others may not be
                yield LeftOut("page", (f"page {number + 1}",))
                continue
            if content and not content.isspace():
                has_text = True
                yield Text(f"Page {number + 1} > {title}" if title else f"Page {number + 1}", content, "text")
        if not has_text:
            raise Refused("no_text_layer")


def _bookmarks(document: PdfDocument) -> dict[int, str]:
    """The title of the last bookmark on each page that has one."""
    found: dict[int, str] = {}
    with suppress(PdfiumError):
        for count, mark in enumerate(document.get_toc()):
            if count >= MAX_BOOKMARKS:
                break
            destination = mark.get_dest()
            page = destination.get_index() if destination is not None else None
            if page is not None and (title := " ".join(mark.get_title().split())):
                found[page] = title[:120]
    return found
