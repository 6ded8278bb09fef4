"""Text that runs from right to left on a page of a PDF, in the order in which it is read.

PDFium puts the characters of a line in that order, except for two: those of a ligature, which it reverses with the
rest, and the parts of an identifier, such as QX-7781, which it takes for several words.
"""

import ctypes
import re
from collections.abc import Iterator
from itertools import groupby

import pypdfium2.raw as pdfium
from pypdfium2 import PdfTextPage

MAX_CHARS = 200_000  # of a page; a longer one is left as it is

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_ALEFS, _LAM = frozenset("\u0622\u0623\u0625\u0627\u0671"), "\u0644"  # no ligature has them in this order

Placed = tuple[str, float, float]  # a character and where it is drawn


def has_any(text: str) -> bool:
    return not text.isascii() and _RIGHT_TO_LEFT.search(text) is not None


def read(words: PdfTextPage) -> str | None:
    """The text of a page with some text from right to left, or None if it is too long for this."""
    count, handle = words.count_chars(), words.raw
    if count > MAX_CHARS:
        return None
    x, y = ctypes.c_double(), ctypes.c_double()
    lines: list[list[Placed]] = [[]]
    for place in range(count):
        code = pdfium.FPDFText_GetUnicode(handle, place)
        if code:
            pdfium.FPDFText_GetCharOrigin(handle, place, x, y)
            lines[-1].append((chr(code), x.value, y.value))
            if code == 0x0A:
                lines.append([])
    groups = [list(_group(line)) for line in lines]
    is_reversed = any(len(one) == 2 and one[0][0] in _ALEFS and one[1][0] == _LAM for line in groups for one in line)
    return "".join(_to_text(line, is_reversed) for line in groups)


def _group(line: list[Placed]) -> Iterator[list[Placed]]:
    """The characters of the line, those of one ligature together: they are drawn at the same place."""
    group: list[Placed] = []
    for one in line:
        if group and (one[1:] != group[-1][1:] or not _RIGHT_TO_LEFT.match(one[0]) or one[0] == group[-1][0]):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _to_text(line: list[list[Placed]], is_reversed: bool) -> str:
    if not any(_RIGHT_TO_LEFT.match(group[0][0]) for group in line):
        return "".join(one[0] for group in line for one in group)
    said: list[str] = []
    phrase: list[tuple[str, float]] = []  # words from right to left, and where each is
    for is_space, groups in groupby(line, key=lambda group: group[0][0].isspace()):
        word = list(groups)
        if is_space:
            said_space = "".join(one[0] for group in word for one in group)
            (phrase.append((said_space, word[0][0][1])) if phrase else said.append(said_space))
        elif any(_RIGHT_TO_LEFT.match(group[0][0]) for group in word):
            phrase.append((_order_word(word, is_reversed), word[0][0][1]))
        else:
            said += _end_phrase(phrase)
            said.append(_order([group[0] for group in word]))
    return "".join((*said, *_end_phrase(phrase)))


def _end_phrase(phrase: list[tuple[str, float]]) -> list[str]:
    """The words in the order in which they are read: the first is farthest to the right."""
    words = [one for one in phrase if not one[0].isspace()]
    tail = [phrase.pop()[0]] if phrase and phrase[-1][0].isspace() else []
    said = [one[0] for one in (reversed(phrase) if words and words[0][1] < words[-1][1] else phrase)]
    phrase.clear()
    return said + tail


def _order_word(word: list[list[Placed]], is_reversed: bool) -> str:
    """A word with letters from right to left, and what else stands in it without a space."""
    said: list[tuple[float, str]] = []
    for is_letter, grouped in groupby(word, key=lambda group: _RIGHT_TO_LEFT.match(group[0][0]) is not None):
        groups = list(grouped)
        middle = (groups[0][0][1] + groups[-1][0][1]) / 2
        if is_letter:
            letters = (one[0] for group in groups for one in (reversed(group) if is_reversed else group))
            said.append((middle, "".join(letters)))
        else:
            said.append((middle, _order([one for group in groups for one in group])))
    return "".join(text for _, text in sorted(said, key=lambda one: -one[0]))


def _order(word: list[Placed]) -> str:
    """Characters that are read from left to right, within a line from right to left, without a space among them."""
    text = "".join(one[0] for one in word)
    if not any(char.isalnum() and char.isascii() for char in text) or text.isalnum():
        return text
    ordered = "".join(one[0] for one in sorted(word, key=lambda one: one[1]))
    start, end = 0, len(ordered)
    while not ordered[start].isalnum():
        start += 1
    while not ordered[end - 1].isalnum():
        end -= 1
    core = ordered[start:end]
    if core in text:
        return text
    return f"{ordered[end:][::-1]}{core}{ordered[:start][::-1]}"
