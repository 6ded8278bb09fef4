"""One page of a PDF: its text in characters that people search for, and what it shows besides text."""

import ctypes
import re
import unicodedata
from dataclasses import dataclass

import pypdfium2.raw as pdfium
from pypdfium2 import PdfPage, PdfTextPage

MAX_OBJECTS = 1_000  # of a page that are looked at for images
MAX_FORM_DEPTH = 4
MIN_IMAGE_PIXELS = 64  # of the shorter side: a smaller image shows no words
LARGE_SHARE = 0.1  # of a page with text that an image covers to be counted
SEEN_SHARE = 0.02  # of a page without text
SCAN_SHARE = 0.5  # of a page with a few characters, such as a stamp of the scanner
MAX_STRAY_CHARS = 60  # on a page that is a scan nevertheless
MIN_DRAWN_SEGMENTS = 100  # of lines and curves that may be the outlines of words
SAMPLED_CHARS = 24  # of a page, to see whether its font tells characters
UNMAPPED_SHARE = 0.5  # of characters that the font does not tell: the page says nothing

_TEXT, _PATH = pdfium.FPDF_PAGEOBJ_TEXT, pdfium.FPDF_PAGEOBJ_PATH
# Ligatures and the forms that letters take within a word; not "²" or "½", which mean something else than their letters.
_PRESENTED = re.compile("[\ufb00-\ufb4f\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]+")
# Letters whose two bytes some programs write in the wrong order.
_SWAPPED = re.compile("[" + "".join(chr(code << 8) for code in range(0x20, 0x7F)) + "]")
_ODD_SPACES = re.compile("[\xa0\u2000-\u200a\u202f\u205f\u3000]")
_UNSEEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


@dataclass(slots=True)
class Shown:
    """What a page shows besides text. ``image_share``: of its area."""

    images: int = 0  # that are large
    image_share: float = 0.0
    image_pixels: int = 0  # of the largest one
    segments: int = 0  # of lines and curves
    text_objects: int = 0

    def is_scan(self, chars: int) -> bool:
        """Whether a page with so many characters most likely has words that are not text."""
        if chars == 0:
            return self.image_share >= SEEN_SHARE or self.segments >= MIN_DRAWN_SEGMENTS
        return chars <= MAX_STRAY_CHARS and self.image_share >= SCAN_SHARE


def tidy(text: str) -> str:
    """The text of a page with the characters that people write, and lines that end with ``\\n``."""
    text = text.replace("\r\n", "\n")
    if not text.isascii():
        if is_swapped(text):
            text = _SWAPPED.sub(lambda found: chr(ord(found[0]) >> 8), text)
        text = _PRESENTED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
        text = _ODD_SPACES.sub(" ", _UNSEEN.sub("", text))
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def is_swapped(text: str) -> bool:
    """Whether the two bytes of most letters are in the wrong order."""
    return not text.isascii() and 2 * len(_SWAPPED.findall(text)) > len(text)


def is_unmapped(words: PdfTextPage) -> bool:
    """Whether the fonts of a page do not tell which characters its glyphs are."""
    count, handle = words.count_chars(), words.raw
    step = max(1, count // SAMPLED_CHARS)
    seen = wrong = 0
    for place in range(0, count, step):
        if pdfium.FPDFText_GetUnicode(handle, place) not in (0x0A, 0x0D, 0x20):
            seen += 1
            wrong += pdfium.FPDFText_HasUnicodeMapError(handle, place) == 1
    return wrong > UNMAPPED_SHARE * seen


def look(page: PdfPage) -> Shown:
    """What the page shows besides text, as far as its first ``MAX_OBJECTS`` objects go."""
    shown = Shown()
    area = pdfium.FPDF_GetPageWidthF(page) * pdfium.FPDF_GetPageHeightF(page)
    room, kind_of = MAX_OBJECTS, pdfium.FPDFPageObj_GetType
    things = [(pdfium.FPDFPage_GetObject, page.raw, pdfium.FPDFPage_CountObjects(page), 1.0, 0)]
    while things and area > 0:
        get, owner, count, scale, depth = things.pop()
        for place in range(min(count, room)):
            thing = get(owner, place)
            kind = kind_of(thing)
            if kind == _TEXT:
                shown.text_objects += 1
            elif kind == _PATH:
                if shown.segments < MIN_DRAWN_SEGMENTS:
                    shown.segments += max(0, pdfium.FPDFPath_CountSegments(thing))
            elif kind == pdfium.FPDF_PAGEOBJ_IMAGE:
                _add_image(shown, thing, scale / area)
            elif kind == pdfium.FPDF_PAGEOBJ_FORM and depth < MAX_FORM_DEPTH:
                matrix = pdfium.FS_MATRIX()
                pdfium.FPDFPageObj_GetMatrix(thing, matrix)
                grown = abs(matrix.a * matrix.d - matrix.b * matrix.c)
                inside = pdfium.FPDFFormObj_CountObjects(thing)
                things.append((pdfium.FPDFFormObj_GetObject, thing, inside, scale * grown, depth + 1))
        room -= min(count, room)
    return shown


def _add_image(shown: Shown, image: "pdfium.FPDF_PAGEOBJECT", scale: float) -> None:
    width, height = ctypes.c_uint(), ctypes.c_uint()
    pdfium.FPDFImageObj_GetImagePixelSize(image, width, height)
    shown.image_pixels = max(shown.image_pixels, width.value * height.value)
    bounds = [ctypes.c_float() for _ in range(4)]
    if not pdfium.FPDFPageObj_GetBounds(image, *bounds):
        return
    left, bottom, right, top = (bound.value for bound in bounds)
    share = abs((right - left) * (top - bottom)) * scale
    shown.image_share = min(1.0, shown.image_share + share)
    if share >= LARGE_SHARE and min(width.value, height.value) >= MIN_IMAGE_PIXELS:
        shown.images += 1
