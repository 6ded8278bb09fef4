"""Cell values as a spreadsheet shows them: number formats (ECMA-376 Part 1, 18.8.30 and 18.8.31).

Where the format hides a part of the value, the value follows in brackets: ``12.25% (0.1225)``.
"""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from fractions import Fraction

from .cellcode import Section, parse
from .celldate import show_date

MAX_CODE_CHARS = 255  # of a number format; a longer one is invalid and shows the value as it is
MAX_DENOMINATOR_DIGITS = 7
GENERAL_CHARS = 11  # of a small number that shows without an exponent

# The formats with these ids are not in the file (18.8.30). Those of dates depend on the language of the reader's
# computer, so the unambiguous form stands here.
BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0;-"$"#,##0',
    6: '"$"#,##0;-"$"#,##0',
    7: '"$"#,##0.00;-"$"#,##0.00',
    8: '"$"#,##0.00;-"$"#,##0.00',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm",
    37: "#,##0;(#,##0)",
    38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    41: "#,##0;-#,##0",
    42: '"$"#,##0;-"$"#,##0',
    43: "#,##0.00;-#,##0.00",
    44: '"$"#,##0.00;-"$"#,##0.00',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
    **dict.fromkeys((14, *range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
    **dict.fromkeys((32, 34, 55), "h:mm"),
    **dict.fromkeys((33, 35, 56), "h:mm:ss"),
}

_FRACTION = re.compile(r"(?:([0#?]+)\s+)?([0#?]+)\s*/\s*([0#?]+|\d+)")
_PLAIN = re.compile(r"-?(?:0|[1-9]\d{0,399})")
_SHOWN_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EXACT = Context(prec=1_000, rounding=ROUND_HALF_UP)


class CellFormat:
    """A number format."""

    def __init__(self, code: str) -> None:
        self._sections = parse(code) if 0 < len(code) <= MAX_CODE_CHARS else ()
        self._is_general = not self._sections or (
            len(self._sections) == 1 and [kind for kind, _ in self._sections[0].tokens] == ["general"]
        )

    def show(self, raw: str, *, is_1904: bool = False) -> str:
        """A number as a person sees it, followed by its value in brackets if the format hides a part of that. ``raw``
        is the number as the file has it."""
        if self._is_general:
            return plain_number(raw)
        value = plain_number(raw)
        try:
            number = Decimal(value)
        except InvalidOperation:
            return value
        if not number.is_finite():
            return value
        section, is_absolute = self._choose(number)
        if section is None:
            return value
        try:
            if section.kind == "date":
                if number < 0 and any(kind == "elapsed" for kind, _ in section.tokens):
                    shown = show_date(section, float(-number), is_1904)
                    return f"-{shown}" if shown else value
                return show_date(section, float(number), is_1904) or value
            shown = _show_number(section, abs(number) if is_absolute else number, value)
        except (ArithmeticError, ValueError):
            return value
        return _with_value(" ".join(shown.split()), value)

    def show_text(self, text: str) -> str:
        """A text as a person sees it; as it is if the format hides it."""
        if self._is_general:
            return text
        section = self._sections[3] if len(self._sections) > 3 else self._sections[-1]
        if section.kind != "text":
            return text
        return "".join(text if kind == "at" else said for kind, said in section.tokens if kind in ("at", "literal"))

    def _choose(self, number: Decimal) -> tuple[Section | None, bool]:
        """The section for a number, and whether that section shows it without its sign."""
        sections = self._sections[:3]
        if sections[-1].kind == "text" and len(sections) > 1:
            sections = sections[:-1]
        if any(section.condition for section in sections):
            for section in sections:
                if section.condition is None or _holds(section.condition, number):
                    return section, len(sections) > 1 and section is not sections[0]
            return None, False
        if number < 0 and len(sections) > 1:
            return sections[1], True
        if number == 0 and len(sections) > 2:
            return sections[2], False
        return sections[0], False


GENERAL = CellFormat("")


def formats(codes: dict[int, str], ids: Sequence[int]) -> list[CellFormat]:
    """The format of each cell style. ``codes``: what the file defines, by id; ``ids``: that of each style."""
    made: dict[int, CellFormat] = {}
    for id in ids:
        if id not in made:
            code = "" if id == 0 else BUILT_IN[14] if id == 14 else codes.get(id) or BUILT_IN.get(id, "")
            made[id] = CellFormat(code)
    return [made[id] for id in ids]


def plain_number(raw: str) -> str:
    """A number with all its digits and without an exponent, unless it is very large or small."""
    raw = raw.strip()
    if _PLAIN.fullmatch(raw):
        return raw
    try:
        value = float(raw)
    except ValueError:
        return raw
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e15 < abs(value) < 1e21:
        return str(Decimal(value))
    said = f"{value:.15g}".upper()
    if "E-" in said and len(shown := f"{Decimal(said):f}".removeprefix("-")) <= GENERAL_CHARS:
        return f"-{shown}" if value < 0 else shown
    return said  # a spreadsheet keeps 15 digits; more are noise of the binary form


def _holds(condition: tuple[str, float], number: Decimal) -> bool:
    sign, limit = condition[0], Decimal(condition[1])
    if sign == "<>":
        return number != limit
    return ("=" in sign and number == limit) or ("<" in sign and number < limit) or (">" in sign and number > limit)


def _with_value(shown: str, value: str) -> str:
    """The shown text, and the value unless the text has it: ``1,234 (1234)``, but ``5.00 €``."""
    if not shown:
        return value
    wanted = value.removeprefix("-")
    for number in _SHOWN_NUMBER.findall(shown):
        if (number.rstrip("0").rstrip(".") if "." in number else number) == wanted:
            return shown
    return f"{shown} ({value})"


def _show_number(section: Section, number: Decimal, value: str) -> str:
    sign = "-" if number < 0 else ""
    number = abs(number)
    if section.kind == "general" or section.kind == "text":
        said = value.removeprefix("-")
        parts = (said if kind in ("general", "at") else text for kind, text in section.tokens)
        return sign + "".join(part for part in parts)
    if section.kind == "fraction" and (pattern := _FRACTION.search(section.plain)):
        return (
            sign + section.plain[: pattern.start()] + _show_fraction(pattern, number) + section.plain[pattern.end() :]
        )
    tokens = list(section.tokens)
    kinds = [kind for kind, _ in tokens]
    number = _EXACT.scaleb(number, 2 * kinds.count("percent"))
    end = kinds.index("exponent") if "exponent" in kinds else len(tokens)
    point = kinds.index("point") if "point" in kinds[:end] else end
    whole, decimals, rest = tokens[:point], tokens[point + 1 : end], tokens[end:]
    digits = [place for place, (kind, _) in enumerate(whole) if kind == "digit"]
    last = digits[-1] if digits else -1
    scaled = sum(1 for kind, _ in whole[last + 1 :] if kind == "comma") if digits else 0
    if point < end:
        scaled += sum(1 for kind, _ in decimals if kind == "comma")
    has_thousands = any(kind == "comma" for kind, _ in whole[:last]) if digits else False
    number = _EXACT.scaleb(number, -3 * scaled)
    places = sum(1 for kind, _ in decimals if kind == "digit")
    tail = ""
    if rest:
        number, tail = _split_exponent(number, max(1, len(digits)), places, rest)
    fixed = f"{_EXACT.quantize(number, Decimal(1).scaleb(-places)):f}"
    before, _, after = fixed.partition(".")
    before = before.lstrip("0")
    shown = _fill_whole(whole, before, has_thousands)
    if point < end:
        shown += ("" if digits else before) + "." + _fill_decimals(decimals, after)
    is_zero = not before and not after.strip("0")
    return ("" if is_zero else sign) + shown + tail


def _fill_whole(tokens: list[tuple[str, str]], digits: str, has_thousands: bool) -> str:
    """The digits in the places before the point, from right to left; the first place takes all that remain."""
    places = sum(1 for kind, _ in tokens if kind == "digit")
    made: list[str] = []
    count = 0

    def put(digit: str) -> None:
        nonlocal count
        if has_thousands and count and count % 3 == 0:
            made.append(",")
        made.append(digit)
        count += 1

    for kind, said in reversed(tokens):
        if kind == "digit":
            places -= 1
            taken = digits if places == 0 else digits[-1:]
            digits = digits[: len(digits) - len(taken)]
            for digit in reversed(taken or ("0" if said == "0" else "")):
                put(digit)
            if not taken and said == "?":
                made.append(" ")
        elif kind != "comma":
            made.extend(reversed(said))
    return "".join(reversed(made))


def _fill_decimals(tokens: list[tuple[str, str]], digits: str) -> str:
    needed = len(digits.rstrip("0"))
    made: list[str] = []
    place = 0
    for kind, said in tokens:
        if kind == "digit":
            made.append(digits[place] if said == "0" or place < needed else " " if said == "?" else "")
            place += 1
        elif kind != "comma":
            made.append(said)
    return "".join(made)


def _split_exponent(number: Decimal, step: int, places: int, rest: list[tuple[str, str]]) -> tuple[Decimal, str]:
    """The number before the exponent, and the exponent as shown with what follows it."""
    power = 0
    if number:
        power = number.adjusted() // step * step
        rounded = _EXACT.quantize(_EXACT.scaleb(number, -power), Decimal(1).scaleb(-places))
        if rounded.adjusted() >= step:
            power += step
    sign = "-" if power < 0 else "+" if rest[0][1].endswith("+") else ""
    places = [kind for kind, _ in rest].count("digit")
    after = "".join(said for kind, said in rest[1:] if kind != "digit")
    return _EXACT.scaleb(number, -power), f"E{sign}{str(abs(power)).rjust(places, '0')}{after}"


def _show_fraction(pattern: re.Match[str], number: Decimal) -> str:
    exact = Fraction(number)
    if pattern[3].isdigit() and int(pattern[3]):
        below = int(pattern[3])
        above = int(exact * below + Fraction(1, 2))
    else:
        near = exact.limit_denominator(10 ** min(len(pattern[3]), MAX_DENOMINATOR_DIGITS) - 1)
        above, below = near.numerator, near.denominator
    if pattern[1] is None:
        return f"{above}/{below}"
    whole, above = divmod(above, below)
    if not above:
        return str(whole)
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"
