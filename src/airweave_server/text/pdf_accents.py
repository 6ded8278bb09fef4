"""Accents of a page of a PDF that are drawn over their letter as characters of their own, as TeX does.

PDFium writes them beside the letter: "na¨ıve". They are one letter if they are drawn at one place.
"""

import ctypes
import re
import unicodedata

import pypdfium2.raw as pdfium
from pypdfium2 import PdfTextPage

MAX_CHARS = 50_000  # of a page
JOINED = 0.15  # of the size of the font, between letters of one word

_ACCENTS = "¨´`ˆ˜¯˘˙˚ˇ¸˛˝"
_COMBINING = "\u0308\u0301\u0300\u0302\u0303\u0304\u0306\u0307\u030a\u030c\u0327\u0328\u030b"
_MARKS = dict(zip(_ACCENTS, _COMBINING, strict=True))
_BESIDE = re.compile(rf"[{_ACCENTS}] ?[^\W\d_]|[^\W\d_] ?[{_ACCENTS}]")
_DOTLESS = {"\u0131": "i", "\u0237": "j"}


def replacements(words: PdfTextPage, text: str) -> dict[str, str]:
    """What of the text of the page is to be written as one letter, and as which; nothing of what stands apart too."""
    count, handle = words.count_chars(), words.raw
    if count > MAX_CHARS or not _BESIDE.search(text):
        return {}
    chars = [chr(pdfium.FPDFText_GetUnicode(handle, place) or 0x20) for place in range(count)]
    found: dict[str, str] = {}
    apart: set[str] = set()
    for place, accent in enumerate(chars):
        if accent in _MARKS:
            for step in (1, -1):
                other = place + step
                if 0 <= other < count and chars[other] == " ":
                    other += step
                if not (0 <= other < count and chars[other].isalpha()):
                    continue
                first, last = min(place, other), max(place, other)
                written = "".join(chars[first : last + 1])
                letter = unicodedata.normalize("NFC", _DOTLESS.get(chars[other], chars[other]) + _MARKS[accent])
                if len(letter) > 1 or not _is_over(handle, place, other):
                    apart.add(written)
                    continue
                if first > 1 and chars[first - 1] == " " and _is_joined(handle, first - 2, other):
                    found[f"{chars[first - 2]} {written}"] = chars[first - 2] + letter
                found[written] = letter
                break
    return {written: letter for written, letter in found.items() if written not in apart}


def replace(text: str, found: dict[str, str]) -> str:
    """The text with these replacements, the longest first."""
    for written in sorted(found, key=len, reverse=True):
        text = text.replace(written, found[written])
    return text


def _is_over(handle: "pdfium.FPDF_TEXTPAGE", accent: int, letter: int) -> bool:
    left, right, bottom, _ = _box(handle, accent)
    other_left, other_right, other_bottom, other_top = _box(handle, letter)
    return other_left <= (left + right) / 2 <= other_right and bottom < other_top + (other_top - other_bottom)


def _is_joined(handle: "pdfium.FPDF_TEXTPAGE", one: int, following: int) -> bool:
    size = pdfium.FPDFText_GetFontSize(handle, following)
    return bool(abs(_box(handle, following)[0] - _box(handle, one)[1]) < JOINED * size)


def _box(handle: "pdfium.FPDF_TEXTPAGE", place: int) -> tuple[float, float, float, float]:
    """The left, right, lower and upper edges of what is drawn."""
    edges = [ctypes.c_double() for _ in range(4)]
    pdfium.FPDFText_GetCharBox(handle, place, *edges)
    left, right, bottom, top = (one.value for one in edges)
    return left, right, bottom, top
