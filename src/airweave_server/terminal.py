"""Text from elsewhere on a terminal: what would control it is shown, not obeyed."""

import re
from typing import Any, TextIO

# C0 and C1 controls and DEL, which begin every escape sequence; the marks that reverse or isolate the direction of
# writing; separators of lines; and halves of surrogate pairs, which stand for bytes of a file name that are no text
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, lines: bool = False) -> str:
    """The text with every control character as an escape that can be read, such as ``\\x1b``. ``lines``: it may have
    several lines, so line ends and tabs stay as they are."""
    return _CONTROLS.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


class VisibleStream:
    """A standard stream on which everything is ``visible``. Rich, which writes sequences of its own, finds the stream
    itself in ``rich_proxied_file``."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(visible(text, lines=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
