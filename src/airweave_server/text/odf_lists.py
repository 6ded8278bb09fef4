"""The numbers of lists and headings in OpenDocument, as they are shown."""

import re
from dataclasses import dataclass, field

from .odf_names import name, number

MAX_LEVEL = 10  # of lists and headings (ODF 1.3, 19.880)
MAX_NUMBER = 1_000_000_000
MAX_AFFIX_CHARS = 20  # of what stands before and after a number, so that a small file cannot become a huge one
MAX_PATTERN_CHARS = 100
MAX_LETTERS = 10_000  # a number above this is not written in letters
BULLET = "- "


@dataclass(frozen=True, slots=True)
class Level:
    """How the numbers of one level look. ``format``: "1", "a", "A", "i", "I", the first ones ("01, 02, 03, ..."),
    or "" for none."""

    format: str = ""
    prefix: str = ""
    suffix: str = ""
    shown_levels: int = 1
    first: int = 1
    pattern: str = ""  # of LibreOffice: "%1%.%2%)"; replaces prefix, suffix and shown_levels
    are_letters_repeated: bool = False  # aa, bb instead of aa, ab
    is_bullet: bool = False


Levels = dict[int, Level]
_BULLETS: Levels = {level: Level(is_bullet=True) for level in range(1, MAX_LEVEL + 1)}


class ListStyles:
    """The list styles of a document, as its XML is read."""

    def __init__(self) -> None:
        self.outline: Levels = {}  # of the headings
        self._styles: dict[str, Levels] = {}
        self._current: Levels = {}

    def open_style(self, attributes: dict[str, str]) -> None:
        self._current = self._styles[attributes.get(_STYLE_NAME, "")] = {}

    def open_outline(self) -> None:
        self._current = self.outline = {}

    def add_level(self, attributes: dict[str, str], *, is_bullet: bool) -> None:
        level = number(attributes.get(_LEVEL), 1, 1, MAX_LEVEL)
        self._current[level] = Level(
            attributes.get(_FORMAT, "")[:MAX_PATTERN_CHARS],
            attributes.get(_PREFIX, "")[:MAX_AFFIX_CHARS],
            attributes.get(_SUFFIX, "")[:MAX_AFFIX_CHARS],
            number(attributes.get(_SHOWN_LEVELS), 1, 1, MAX_LEVEL),
            number(attributes.get(_START), 1, 0, MAX_NUMBER),
            attributes.get(_PATTERN, "")[:MAX_PATTERN_CHARS],
            attributes.get(_LETTER_SYNC) == "true",
            is_bullet and attributes.get(_BULLET_CHAR, "•") != "",
        )

    def find(self, style: str) -> Levels:
        """The levels of a list style; of one that is not defined, bullets."""
        return self._styles.get(style, _BULLETS)


@dataclass(slots=True)
class Counter:
    """Counts the items of a list, or the headings."""

    values: dict[int, int] = field(default_factory=dict)  # by level

    def count(self, levels: Levels, level: int, first: int | None = None) -> str:
        """Count one more on ``level``; returns its label, such as ``2.1 ``, or ``""`` if none is shown.

        ``first``: the number to begin with instead of the next one.
        """
        own = levels.get(level, _NONE)
        if first is None:
            first = self.values[level] + 1 if level in self.values else own.first
        self.values = {upper: value for upper, value in self.values.items() if upper < level} | {level: first}
        if own.is_bullet:
            return BULLET
        label = self._label(levels, level, own)
        return f"{label.strip()} " if label.strip() else ""

    def _label(self, levels: Levels, level: int, own: Level) -> str:
        def shown(one: int) -> str:
            look = levels.get(one, _NONE)
            return format_number(self.values.get(one, look.first), look.format, repeat=look.are_letters_repeated)

        if own.pattern:
            return re.sub(r"%(\d{1,2})%", lambda found: shown(int(found[1])), own.pattern)
        if not own.format:
            return own.prefix + own.suffix
        numbers = [shown(one) for one in range(max(1, level - own.shown_levels + 1), level + 1)]
        return own.prefix + ".".join(filter(None, numbers)) + own.suffix


_NONE = Level()


def format_number(value: int, form: str, *, repeat: bool = False) -> str:
    """A number as ``style:num-format`` says; in digits if it says something unknown."""
    if not form:
        return ""
    if ", " in form:
        return _listed(value, form)
    if form in ("a", "A") and 0 < value <= MAX_LETTERS:
        text = _letters(value, repeat=repeat)
    elif form in ("i", "I") and 0 < value < 4_000:
        text = _roman(value)
    else:
        return str(value)
    return text.upper() if form.isupper() else text


def _listed(value: int, form: str) -> str:
    """The number where the format names the first ones: ``01, 02, 03, ...``."""
    first = form.partition(", ")[0]
    if first == "①" and 0 < value <= 20:
        return chr(ord("①") + value - 1)
    if first == "一" and 0 < value < 100:
        tens, ones = divmod(value, 10)
        return ("" if tens < 2 else _CHINESE[tens]) + ("十" if tens else "") + (_CHINESE[ones] if ones else "")
    if first.isascii():
        return str(value).zfill(len(first) if first.isdigit() else 0)
    known = [one for one in form.split(", ") if one != "..."]
    return known[value - 1] if 0 < value <= len(known) else str(value)


_CHINESE = "〇一二三四五六七八九"


def _letters(value: int, *, repeat: bool) -> str:
    if repeat:
        return chr(ord("a") + (value - 1) % 26) * ((value - 1) // 26 + 1)
    text = ""
    while value:
        value, digit = divmod(value - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def _roman(value: int) -> str:
    text = ""
    for worth, sign in _ROMAN:
        text += sign * (value // worth)
        value %= worth
    return text


_ROMAN = (
    (1000, "m"),
    (900, "cm"),
    (500, "d"),
    (400, "cd"),
    (100, "c"),
    (90, "xc"),
    (50, "l"),
    (40, "xl"),
    (10, "x"),
    (9, "ix"),
    (5, "v"),
    (4, "iv"),
    (1, "i"),
)

_STYLE_NAME, _LEVEL, _START = name("style:name"), name("text:level"), name("text:start-value")
_FORMAT, _PREFIX, _SUFFIX = name("style:num-format"), name("style:num-prefix"), name("style:num-suffix")
_SHOWN_LEVELS, _PATTERN = name("text:display-levels"), name("loext:num-list-format")
_LETTER_SYNC, _BULLET_CHAR = name("style:num-letter-sync"), name("text:bullet-char")
