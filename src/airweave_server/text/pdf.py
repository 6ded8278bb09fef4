"""PDF to text, page by page, by PDFium."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import IO

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfiumError, PdfPage, PdfTextPage

from . import hyphens, pdf_accents, pdf_annotations, pdf_page, pdf_picture, pdf_rtl, pdf_spaces
from .parts import LeftOut, Member, Part, Recognize, Refused, Text, Unparseable
from .tables import MAX_TEXT_CHARS

MAX_BOOKMARKS = 5_000
MAX_FILES = 1_000  # that are embedded

UNMAPPED = "its fonts do not tell the characters"
XFA = "an XFA form, which only some viewers show"


Show = Callable[[int, int, PdfTextPage], None]


def read(file: IO[bytes], recognize: Recognize | None = None, show: Show | None = None) -> Iterator[Part]:
    """The text of each page, with what annotations say on it, and the embedded files.

    The label of a page includes the bookmark that it is under. ``recognize`` reads pages that are images. ``show`` gets
    the number of pages, and each page with its number from 0, before anything is made of it.
    """
    try:
        document = PdfDocument(file)
    except PdfiumError as error:
        if "password" in str(error).lower():
            raise Refused("encrypted") from None
        raise Unparseable("it is damaged: the PDF cannot be opened") from None
    with document:
        forms = pdf_annotations.Forms(document)
        try:
            yield from _Reading(document, forms, recognize, show).parts()
        finally:
            forms.close()


class _Reading:
    """One document. All of its pages are read before the first part of it is known: a word that is broken by the end of
    a line is written as the rest of the document writes it."""

    def __init__(
        self, document: PdfDocument, forms: pdf_annotations.Forms, recognize: Recognize | None, show: Show | None
    ) -> None:
        self._document = document
        self._count = len(document)
        self._forms = forms
        self._recognize = recognize
        self._show = show
        self._labels: list[str] = []
        self._texts: list[str] = []
        self._left_out: list[LeftOut] = []
        self._files: list[pdf_annotations.File] = []

    def parts(self) -> Iterator[Part]:
        self._read_pages()
        is_xfa = self._forms.kind == pdfium.FORMTYPE_XFA_FULL
        if is_xfa:
            self._left_out.append(LeftOut("object", note=XFA))
        if not self._texts and not self._files and not pdfium.FPDFDoc_GetAttachmentCount(self._document):
            raise Refused(f"no_text: {XFA}" if is_xfa else "no_text_layer")
        yield from self._left_out
        texts = hyphens.join(self._texts)
        self._texts.clear()
        for number, label in enumerate(self._labels):
            text, texts[number] = texts[number], ""  # in memory only once
            yield Text(label, text, "text")
        yield from self._embedded()

    def _read_pages(self) -> None:
        titles = _bookmarks(self._document)
        title, chars = "", 0
        for number in range(self._count):
            title = titles.get(number, title)
            try:
                text, is_recognized = self._read_page(number)
            except PdfiumError:  # this page is damaged; others may not be
                self._left_out.append(LeftOut("page", (f"page {number + 1}",)))
                continue
            if text and not text.isspace():
                label = f"Page {number + 1} (OCR)" if is_recognized else f"Page {number + 1}"
                self._labels.append(f"{label} > {title}" if title else label)
                self._texts.append(text)
                chars += len(text)
                if chars > MAX_TEXT_CHARS:
                    return  # the rest is left out anyway

    def _read_page(self, number: int) -> tuple[str, bool]:
        """The text of the page, and whether it was read from its image."""
        place = (f"page {number + 1}",)
        page = self._document[number]
        try:
            words = page.get_textpage()
            try:
                if self._show is not None:
                    self._show(self._count, number, words)
                text = words.get_text_bounded()
                is_unmapped = bool(text) and pdf_page.is_unmapped(words)
                if is_unmapped:
                    text = ""
                elif pdf_rtl.has_any(text):
                    text = pdf_rtl.read(words) or text
                elif pdf_page.is_swapped(text) and " " not in text:  # PDFium drops them: U+2000 is one of typography
                    text = pdf_spaces.part(words) or text
                elif pdf_spaces.is_suspicious(text):
                    text = pdf_spaces.repair(words) or text
                shown = pdf_page.look(page)
                is_scan = is_unmapped or shown.is_scan(len("".join(text.split())))
                recognized = self._read_image(page, shown) if is_scan else ""
                accents = pdf_accents.replacements(words, text)
                said = pdf_annotations.read(self._document, number, page, words, self._forms)
                if said is not None:
                    if (
                        (said.inline or said.under) and not is_unmapped and not pdf_rtl.has_any(text)
                    ):  # their places are in the whole text
                        text = words.get_text_range()
                    self._left_out += said.left_out
                    self._files += said.files
            finally:
                words.close()
        finally:
            page.close()
        if recognized:
            self._left_out.append(LeftOut("ocr", place))
        elif is_scan:
            self._left_out.append(LeftOut("page_without_text", place, note=UNMAPPED if is_unmapped else ""))
        elif shown.images:
            self._left_out.append(LeftOut("image", place, shown.images))
        if said is not None:
            text = said.add_to(text) if not recognized else said.add_below(recognized)
        text = text if said is not None else recognized or text
        text = pdf_accents.replace(text, accents) if accents else text
        return hyphens.mark(pdf_page.tidy(text)), bool(recognized)

    def _read_image(self, page: PdfPage, shown: pdf_page.Shown) -> str:
        """The words of a page without text, if they are wanted and can be read."""
        if self._recognize is None or shown.image_pixels > pdf_picture.MAX_IMAGE_PIXELS:
            return ""
        picture = pdf_picture.draw(page)
        words = self._recognize(picture) if picture is not None else ""
        if words is None:  # no more
            self._recognize = None
        return words or ""

    def _embedded(self) -> Iterator[Part]:
        """The embedded files, each once."""
        count = pdfium.FPDFDoc_GetAttachmentCount(self._document)
        if count > MAX_FILES:
            yield LeftOut("attachment", count=count - MAX_FILES)
        handles = (pdfium.FPDFDoc_GetAttachment(self._document, place) for place in range(min(count, MAX_FILES)))
        seen = set()
        for file in chain(self._files, map(pdf_annotations.read_file, handles)):
            if isinstance(file, LeftOut):
                yield file
            elif (key := (file.name, hashlib.sha256(file.data).digest())) not in seen:
                seen.add(key)
                yield Member(file.name, partial(io.BytesIO, file.data))


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
