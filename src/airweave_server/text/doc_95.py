"""Decodes the characters of Word 6 and 95 documents, which are bytes in the charset of their font."""

import struct

from . import charset, fonts
from .doc_tables import CHARACTERS, FONTS, IN_TABLE, OF_CHARACTERS, ROW_END, Fib, Run, Runs

_DELETED, _FONT = 65, 93
_OF_PARAGRAPHS = {24: IN_TABLE, 25: ROW_END}
_FIRST_OF_TABLES = 182
# Bytes of the operand of a property (sprm), where not 1; 0: the first byte tells.
_OPERAND_BYTES = (
    dict.fromkeys((3, 12, 15, 23, 52), 0)
    | dict.fromkeys((2, *range(16, 20), 21, 22, 26, 27, 28, *range(30, 44), *range(45, 50)), 2)
    | {20: 4}
    | dict.fromkeys((68, 74, 81, 82, 103, 105, 106, 109, 110), 0)
    | dict.fromkeys((69, 72, 80, 93, 96, 97, 99, 101, 107, 108), 2)
    | {70: 4, 73: 3, 83: -1, 95: 3}
)


class Characters:
    """Decodes the bytes of a document. ``is_guess``: some are in an encoding that neither font nor language tells."""

    def __init__(self, fib: Fib, stream: bytes, text: bytes) -> None:
        self._fonts = _read_charsets(fib.part(FONTS, stream))
        self._runs = Runs(widen(fib.part(CHARACTERS, stream)), stream, OF_CHARACTERS)
        self._base = fib.encoding
        self.is_guess = False
        others = {encoding for encoding in self._fonts if encoding not in (fonts.LATIN, fonts.SYMBOLS)}
        if self._base == fonts.LATIN and others and not text.isascii():
            guess = charset.decode(text)
            if guess is not None and guess.encoding in others:
                self._base, self.is_guess = guess.encoding, True

    def decode(self, data: bytes, place: int) -> str:
        """The text of bytes at a place in the stream: one character for each byte, NUL for those that show none."""
        parts: list[str] = []
        done = place
        for run in self._runs.between(place, place + len(data)):
            start, end = max(done, run.start), min(place + len(data), run.end)
            if start >= end:
                continue
            parts.append(_pad(data[done - place : start - place], self._base))
            parts.append(self._decode_run(data[start - place : end - place], run))
            done = end
        return "".join([*parts, _pad(data[done - place :], self._base)])

    def _decode_run(self, data: bytes, run: Run) -> str:
        found = _properties(run.changes)
        if found.get(_DELETED, b"\0") != b"\0":
            return "\0" * len(data)
        number = int.from_bytes(found.get(_FONT, b""), "little")
        if not found.get(_FONT) or number >= len(self._fonts):
            return _pad(data, self._base)
        encoding = self._fonts[number]
        return _pad(data, self._base if encoding in (fonts.LATIN, fonts.SYMBOLS) else encoding)


def paragraph_properties(changes: bytes) -> dict[int, bytes]:
    """The properties of a paragraph that later versions have too, by their later number."""
    return {_OF_PARAGRAPHS[old]: value for old, value in _properties(changes).items() if old in _OF_PARAGRAPHS}


def _pad(data: bytes, encoding: str) -> str:
    text = data.decode(encoding, "replace")
    return text + "\0" * (len(data) - len(text))


def _properties(changes: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(changes):
        sprm = changes[at]
        if sprm >= _FIRST_OF_TABLES:
            break
        size = _OPERAND_BYTES.get(sprm, 1)
        if size == 0:
            size = 1 + changes[at + 1] if at + 1 < len(changes) else 1
        size = max(0, size)
        found[sprm] = changes[at + 1 : at + 1 + size]
        at += 1 + size
    return found


def _read_charsets(table: bytes) -> list[str]:
    """The encoding of each font."""
    found: list[str] = []
    at = 2
    while at + 5 < len(table):
        found.append(fonts.CHARSETS.get(table[at + 4], fonts.LATIN))
        at += 1 + table[at]
    return found


def widen(table: bytes) -> bytes:
    """The table of pages with their numbers in four bytes, as later versions write them."""
    count = max(0, (len(table) - 4) // 6)
    if not count:
        return b""
    pages = struct.unpack_from(f"<{count}H", table, 4 * (count + 1))
    return table[: 4 * (count + 1)] + struct.pack(f"<{count}I", *pages)
