"""Rich Text Format (RTF 1.9.1) to tokens, and what the words mean that stand for a character or name an encoding."""

import re
from collections.abc import Iterator

from . import fonts

TEXT, HEX, WORD, NUMBERED, SYMBOL, BRACE = range(1, 7)  # the number of the group in which a token matches last
_TOKEN = re.compile(
    rb"([^\\{}]++)|\\'([0-9a-fA-F]{2})|\\([a-zA-Z]{1,32}+)(-?[0-9]{1,10}+)?+ ?|\\([^a-zA-Z])|([{}])", re.S
)
LINE_ENDS = b"\r\n\0"  # they mean nothing in RTF
CHARACTERS = (
    {b"tab": "\t", b"line": "\n", b"lbr": "\n", b"softline": "\n", b"page": "\n", b"column": "\n"}
    | {b"emdash": "—", b"endash": "–", b"lquote": "‘", b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”"}
    | {b"bullet": "•", b"emspace": " ", b"enspace": " ", b"qmspace": " ", b"zwj": "\u200d", b"zwnj": "\u200c"}
)
SYMBOLS = {b"~": " ", b"_": "-", b"{": "{", b"}": "}", b"\\": "\\", b"\t": "\t"}
_ANSI = {b"ansi": fonts.LATIN, b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}


class Tokens:
    """The tokens of RTF, as matches of a regular expression; linear in time, whatever the bytes.

    ``data``: the bytes. ``skip``: go on after so many bytes, for those of a picture that are not RTF.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._at = 0

    def __iter__(self) -> Iterator[re.Match[bytes]]:
        while self._at < len(self.data):
            started = self._at
            for token in _TOKEN.finditer(self.data, started):
                yield token
                if self._at != started:
                    break
            else:
                return

    def skip(self, after: int, count: int) -> bytes:
        """Take ``count`` bytes after the place ``after`` as they are."""
        self._at = max(after, min(len(self.data), after + max(0, count)))
        return self.data[after : self._at]


def unicode_of(number: int) -> str:
    """The character, or the half of one, of ``\\u``; the number may be negative, as of 16 bits with a sign."""
    if 0xFFFF < number <= 0x10FFFF:
        return chr(number)
    return chr(number & 0xFFFF)


def default_encoding(word: bytes, number: int | None) -> str | None:
    """The encoding that a word of the header declares, or None if it is no such word or one that says nothing."""
    if word == b"ansicpg":
        return fonts.encoding_of(number) if number else None
    return _ANSI.get(word)


def has_utf8(data: bytes) -> bool:
    """Whether the bytes above 0x7F, which RTF escapes, are UTF-8: some programs write it, and no other text is it by
    chance."""
    if data.isascii():
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
