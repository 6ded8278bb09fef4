"""Spaces between the words of a page where PDFium misjudges them.

It glues the words of programs that move to the next word instead of writing a space, and tears words that are set with
wide letters. Both show in the text, and only then is the place of each character looked at, which takes time.
"""

import ctypes
import re
from itertools import pairwise

import pypdfium2.raw as pdfium
from pypdfium2 import PdfTextPage

from .hyphens import BREAK

MAX_CHARS = 50_000  # of a page
MIN_GLUED = 2  # on a page, such as "file,can"
TORN_SHARE = 0.15  # of the words of a page that are single letters
MIN_WORDS = 20
SAME_LINE = 3.0  # points between the lower edges of characters of one line
WORD_GAP = 0.2  # of the size of the font, between two words
WIDER = 1.25  # how much wider than the one before the gap between two letters may be
MUCH_WIDER = 2.0  # than most gaps of a line, of one between two words where no space is left
LEAST_GAP = 0.05  # which letters of a word may have between them

_GLUED = re.compile(r"[a-z]{2}[,;][a-z]{2}|[a-z]\.[A-Z][a-z]")
_SINGLE = re.compile(r"(?<![^\s])[A-Za-z](?![^\s])")


def is_suspicious(text: str) -> bool:
    """Whether spaces seem to be missing or too many."""
    glued = _GLUED.finditer(text)
    if all(next(glued, None) is not None for _ in range(MIN_GLUED)):
        return True
    words = text.count(" ") + text.count("\n")
    return words >= MIN_WORDS and len(_SINGLE.findall(text)) > TORN_SHARE * words


def repair(words: PdfTextPage) -> str | None:
    """The text of the page with spaces where there are gaps; None if it is too long for this."""
    count, handle = words.count_chars(), words.raw
    if count > MAX_CHARS:
        return None
    box = pdfium.FS_RECTF()
    box_of = pdfium.FPDFText_GetLooseCharBox
    said: list[str] = []
    last: tuple[float, float] | None = None  # the right and the lower edge of the character before
    within = 0.0  # the gap before that one, within its word
    theirs: int | None = None  # where PDFium has put a space
    ours: tuple[int, float] | None = None  # where we have put one, and into which gap
    for place, char in enumerate(_characters(words, count)):
        if char == "\0":
            continue
        if char.isspace() or char == BREAK:
            if char == " " and theirs is None and last is not None and pdfium.FPDFText_IsGenerated(handle, place) == 1:
                theirs = len(said)
            else:
                last, theirs, ours, within = None, None, None, 0.0
            said.append(char)
            continue
        box_of(handle, place, box)
        gap, added = 0.0, None
        if last is not None and abs(box.bottom - last[1]) < SAME_LINE:
            gap = box.left - last[0]
            if theirs is not None:
                size = pdfium.FPDFText_GetFontSize(handle, place)
                if within > 0 and -size < gap <= WIDER * within + LEAST_GAP * size:
                    said[theirs] = ""
                else:
                    gap = 0.0
            elif ours is not None and gap > ours[1] / 2:  # all letters of this word are wide apart
                said[ours[0]] = ""
            elif gap > 0 and within < gap / 2 and gap > WORD_GAP * pdfium.FPDFText_GetFontSize(handle, place) > 0:
                added = len(said), gap
                said.append(" ")
                gap = 0.0
        within, theirs, ours = gap, None, added
        last = box.right, box.bottom
        said.append(char)
    return "".join(said)


def _characters(words: PdfTextPage, count: int) -> str:
    """The characters of the page by their places, "\\0" where there is none."""
    text: str = words.get_text_range().replace("\ufffe", BREAK)
    if len(text) == count:
        return text
    return "".join(chr(pdfium.FPDFText_GetUnicode(words.raw, place)) for place in range(count))


def part(words: PdfTextPage) -> str | None:
    """The text of a page without any spaces, with one in each gap that is clearly wider than the others of its line."""
    count, handle = words.count_chars(), words.raw
    if count > MAX_CHARS:
        return None
    edges = [ctypes.c_double() for _ in range(4)]
    lines: list[list[tuple[str, float, float]]] = [[]]  # characters, and where they begin and end
    for place in range(count):
        char = chr(pdfium.FPDFText_GetUnicode(handle, place) or 0x20)
        if char in "\r\n":
            lines += [[]] if char == "\n" else []
        else:
            pdfium.FPDFText_GetCharBox(handle, place, *edges)
            lines[-1].append((char, edges[0].value, edges[1].value))
    return "\n".join(map(_part_line, lines))


def _part_line(line: list[tuple[str, float, float]]) -> str:
    gaps = [following[1] - one[2] for one, following in pairwise(line)]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
    spaces = [" " if gap > MUCH_WIDER * max(usual, 0.0) > 0 else "" for gap in gaps]
    return "".join(char + space for (char, _, _), space in zip(line, [*spaces, ""], strict=False))
