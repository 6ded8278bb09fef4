"""The numbers and bullets of list items in Word documents before 2007, as they are shown (MS-DOC 2.4.6.3)."""

import struct
from dataclasses import dataclass, field

MAX_LISTS = 10_000
_LEVELS = 9
_BULLET, _NONE, _PADDED = 23, 255, 22
_FORMAT_BYTES = 28  # of a list (LSTF), and of the head of a level (LVLF)
_USE_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Level:
    """``text``: the number as shown, in which the characters 0 to 8 stand for the numbers of the levels."""

    start: int
    format: int
    is_legal: bool
    text: str


@dataclass(slots=True)
class _Use:
    """A list as paragraphs name it. ``starts``: at which number a level of it begins, if not as the list says."""

    list_id: int
    levels: dict[int, _Level] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    is_new: bool = True


class Lists:
    """``lists``, ``uses``: the table stream from the definitions of the lists on, and from those of their uses on."""

    def __init__(self, lists: bytes, uses: bytes) -> None:
        self._lists = _read_lists(lists)
        self._uses = _read_uses(uses)
        self._counts: dict[int, list[int | None]] = {}  # of each list, by its id

    def number(self, use: int, level: int) -> str:
        """The number or bullet of the next paragraph of a list. ``use``: from 1 on."""
        if not 1 <= use <= len(self._uses) or not 0 <= level < _LEVELS:
            return ""
        found = self._uses[use - 1]
        levels = {**self._lists.get(found.list_id, {}), **found.levels}
        if (form := levels.get(level)) is None:
            return ""
        counts = self._counts.setdefault(found.list_id, [None] * _LEVELS)
        if found.is_new:
            found.is_new = False
            for one in found.starts:
                counts[one] = None
        start = found.starts.get(level, form.start)
        before = counts[level]
        counts[level] = start if before is None else before + 1
        counts[level + 1 :] = [None] * (_LEVELS - level - 1)
        return "".join(self._show(ord(c), found, levels, form) if ord(c) < _LEVELS else c for c in form.text)

    def _show(self, level: int, use: _Use, levels: dict[int, _Level], shown: _Level) -> str:
        form = levels.get(level)
        if form is None:
            return ""
        count = self._counts[use.list_id][level]
        number = use.starts.get(level, form.start) if count is None else count
        return str(number) if shown.is_legal else _format(number, form.format)


def _format(number: int, form: int) -> str:
    if form in (_BULLET, _NONE):
        return ""
    if form in (1, 2) and 0 < number < 4_000:
        return _roman(number) if form == 1 else _roman(number).lower()
    if form in (3, 4) and 0 < number <= 780:
        letter = chr((number - 1) % 26 + (ord("A") if form == 3 else ord("a")))
        return letter * ((number - 1) // 26 + 1)
    return f"{number:02}" if form == _PADDED else str(number)


def _roman(number: int) -> str:
    shown = ""
    for value, letters in _ROMAN:
        shown += letters * (number // value)
        number %= value
    return shown


_ROMAN = tuple(
    zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"),
        strict=True,
    )
)


def _read_lists(data: bytes) -> dict[int, dict[int, _Level]]:
    """The levels of each list, by its id. A list that is cut short has those before."""
    found: dict[int, dict[int, _Level]] = {}
    count = min(MAX_LISTS, int.from_bytes(data[:2], "little"))
    at = 2 + _FORMAT_BYTES * count
    try:
        for number in range(count):
            (list_id,) = struct.unpack_from("<i", data, 2 + _FORMAT_BYTES * number)
            is_simple = data[2 + _FORMAT_BYTES * number + 26] & 1
            levels = found.setdefault(list_id, {})
            for level in range(1 if is_simple else _LEVELS):
                levels[level], at = _read_level(data, at)
    except (struct.error, IndexError):
        pass
    return found


def _read_level(data: bytes, at: int) -> tuple[_Level, int]:
    start, form, flags = struct.unpack_from("<iBB", data, at)
    after = at + _FORMAT_BYTES + data[at + 24] + data[at + 25]
    (size,) = struct.unpack_from("<H", data, after)
    text = data[after + 2 : after + 2 + 2 * size].decode("utf-16-le", "replace")
    return _Level(start, form, bool(flags & 4), "" if form == _NONE else text), after + 2 + 2 * size


def _read_uses(data: bytes) -> list[_Use]:
    found: list[_Use] = []
    count = min(MAX_LISTS, int.from_bytes(data[:4], "little"))
    try:
        for number in range(count):
            found.append(_Use(struct.unpack_from("<i", data, 4 + _USE_BYTES * number)[0]))
        at = 4 + _USE_BYTES * count
        for number, use in enumerate(found):
            at += 4
            for _ in range(data[4 + _USE_BYTES * number + 12]):
                start, flags = struct.unpack_from("<iI", data, at)
                at += 8
                if flags & 0x20:
                    use.levels[flags & 0xF], at = _read_level(data, at)
                if flags & 0x10:
                    use.starts[flags & 0xF] = use.levels[flags & 0xF].start if flags & 0x20 else start
    except (struct.error, IndexError):
        pass
    return found
