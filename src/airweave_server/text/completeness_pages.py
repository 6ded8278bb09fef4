"""What stands on the pages of a PDF: their glyphs, for ``completeness``."""

import ctypes
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfiumError, PdfTextPage

MAX_PAGES = 64  # of a PDF that are counted, spread over all
MAX_ANNOTATIONS = 2_000  # of one page
MAX_VALUE_BYTES = 1_000_000  # of what one says


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
                self.texts[number + 1] = "\n".join((page.get_text_range(), *_annotations(page)))

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


def _annotations(page: PdfTextPage) -> Iterator[str]:
    """What annotations say beside the glyphs of the page: comments and typed text, and values of text fields."""
    for place in range(min(pdfium.FPDFPage_GetAnnotCount(page.page), MAX_ANNOTATIONS)):
        if annotation := pdfium.FPDFPage_GetAnnot(page.page, place):
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN or kind in _NO_TEXT:
                pass
            elif kind != pdfium.FPDF_ANNOT_WIDGET:
                yield _string(annotation, b"Contents")
            elif _string(annotation, b"FT") == "Tx" and not _number(annotation, b"Ff") & _PASSWORD:
                yield _string(annotation, b"V")
            pdfium.FPDFPage_CloseAnnot(annotation)


_HIDDEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_NO_TEXT = (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP)
_PASSWORD = 1 << 13


def _string(annotation: "pdfium.FPDF_ANNOTATION", key: bytes) -> str:
    size = pdfium.FPDFAnnot_GetStringValue(annotation, key, None, 0)
    if not 2 < size <= MAX_VALUE_BYTES:
        return ""
    buffer = (pdfium.FPDF_WCHAR * ((size + 1) // 2))()
    pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, size)
    return bytes(buffer).decode("utf-16-le", "replace").rstrip("\0")


def _number(annotation: "pdfium.FPDF_ANNOTATION", key: bytes) -> int:
    value = ctypes.c_float()
    return int(value.value) if pdfium.FPDFAnnot_GetNumberValue(annotation, key, value) else 0


def _counted(count: int) -> range:
    return range(0, count, -(-count // MAX_PAGES) or 1)
