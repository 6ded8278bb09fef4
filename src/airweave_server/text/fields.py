"""Fields of Word (ECMA-376-1, 17.16.5): what those show whose result is not stored with them."""

import re

from . import fonts

MAX_INSTRUCTION_CHARS = 10_000
_SYMBOL = re.compile(r"SYMBOL\s+(0x[0-9a-f]{1,4}|\d{1,5})(.*)", re.I | re.S)
_BUTTON = re.compile(r"(?:MACROBUTTON|GOTOBUTTON)\s+(?:\"[^\"]*\"|\S+)\s+(.*)", re.I | re.S)
_EQUATION = re.compile(r"EQ\s(.*)", re.I | re.S)
_FONT = re.compile(r"\\f\s+(?:\"([^\"]*)\"|(\S+))")
_FORMAT = re.compile(r"\\\*\s*(?:\"[^\"]*\"|\S+)")
_OPTION = re.compile(r"\\[a-z]{1,2}\s?\d*", re.I)


def show(instruction: str) -> str:
    """The text that a field without a result shows, as far as its instruction holds it."""
    instruction = _FORMAT.sub(" ", instruction[:MAX_INSTRUCTION_CHARS]).strip()
    if found := _SYMBOL.match(instruction):
        code = int(found[1], 0) if found[1].lower().startswith("0x") else int(found[1])
        named = _FONT.search(found[2])
        font = (named[1] or named[2] or "") if named else ""
        if "\\u" in found[2]:
            return chr(code)
        return fonts.sign(code, font) if font else bytes([code & 0xFF]).decode(fonts.LATIN, "replace")
    if found := _BUTTON.match(instruction):
        return found[1].strip()
    if found := _EQUATION.match(instruction):
        return re.sub(r"[(),;\\\s]+", " ", _OPTION.sub(" ", found[1])).strip()
    return ""
