"""Numbers of cells for ``completeness``: which of them a text says, whatever their format, and the words they show."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache

MAX_DECIMALS = 12
MAX_VALUES = 200_000  # different ones, of a document; of more nothing is said
MAX_TEXT_CHARS = 6_000_000  # whose numbers are looked for in 2 s

# The codes of formats that every program knows; the others of these numbers are codes of countries.
BUILTIN = {
    **{0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00"},
    **{12: "# ?/?", 13: "# ??/??", 14: "m/d/yy", 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm", 19: "h:mm:ss"},
    **{20: "h:mm", 21: "h:mm:ss", 22: "m/d/yy h:mm", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00"},
    **{41: "#,##0", 42: "#,##0", 43: "#,##0.00", 44: "#,##0.00", 45: "mm:ss", 46: "h:mm:ss", 47: "mm:ss.0"},
    **{48: "##0.0E+0", 49: "@"},
}
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_ELAPSED = re.compile(r"\[([hms]+)\]", re.I)
_RAW = re.compile(r"([^\s;|:(]{1,24}) \((-?[\d.]+(?:E[-+]?\d+)?|\d{4}-\d\d-\d\d[^()]{0,20})\)", re.I)  # "12 % (0.1225)"
_DATE = re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"\b({'|'.join(_MONTHS)})[a-z]{{0,6}}\.?"
_NAMED_DATE = re.compile(rf"{_MONTH} (\d\d?),? (\d{{4}})\b|\b(\d\d?)[ .-]{{1,2}}{_MONTH}[ -](\d{{4}})\b", re.I)
_CLOCK = re.compile(r"(?<![\d:])(\d{1,5}):(\d\d)(?::(\d\d))?(?![\d:])(?: ?([ap])m\b)?", re.I)
_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:E[-+]?\d{1,3})?(?: ?%)?|(?<!\d)\.\d+", re.I)
Number = tuple[float, int, int | None]  # a value, how many words it shows, and how many of its decimals
_EPOCH = date(1899, 12, 30).toordinal()
_DAYS_1904 = 1_462  # that a date is less where days are counted from 1904


@lru_cache(maxsize=4_096)
def pattern(code: str) -> tuple[str, int, bool]:
    """What a format shows: "date", "general", "number", or "" for what is not known; the words of it; whether thousands
    are apart."""
    parts = [_LITERAL.sub(" ", _ELAPSED.sub(r"\1", part)) for part in code.split(";")]
    if re.search("[dmyhs]", parts[0], re.I) and "general" not in parts[0].lower():
        return "date", len(re.findall("[dmy]+|[hs]+|AM/PM", parts[0], re.I)), False
    if parts[0].strip().lower() in ("general", "", "@"):
        return ("general" if parts[0].strip() or not code else ""), 1, False
    if "?/" in parts[0]:
        return "", 0, False
    exponent = 1 if re.search(r"E[-+]", parts[0], re.I) else 0
    return "number", 1 + ("." in parts[0]) + exponent, "," in parts[0]


def shown_words(value: float, code: str) -> int:
    """About how many words a cell shows; 0 if it is not known that it shows the value."""
    kind, words, is_grouped = pattern(code)
    if not kind or (not value and code.count(";") > 1):
        return 0  # a format of its own for a zero, which is a dash, or nothing
    if kind == "general":
        return 1 if value.is_integer() and abs(value) < 1e11 else 2
    return words + (is_grouped and sum(abs(value) >= 1_000**power for power in (1, 2, 3)))


@lru_cache(maxsize=4_096)
def shown_decimals(code: str) -> int | None:
    """How many decimals of its value a number of this format shows, or None if that is not known."""
    first = _LITERAL.sub("", code.split(";")[0])
    if pattern(code)[0] != "number" or "E" in first.upper() or _SCALED.search(first):
        return None
    return len(_DECIMAL.sub("", first.partition(".")[2])) + 2 * ("%" in first)


_DECIMAL = re.compile("[^0#?]")
_SCALED = re.compile(r"[0#?],+[^0#?,]*$")  # in thousands or millions


def lost_words(
    numbers: Counter[Number], text: str, others: str, share: float, *, has_dates: bool, names: Mapping[str, int]
) -> int:
    """How many words of numbers, each with the words that it shows, are not in a text. ``others``: the texts of cells,
    of which this share was read: the numbers in them are none of cells. ``names``: what the text says besides."""
    if not numbers or len(numbers) > MAX_VALUES or len(text) > MAX_TEXT_CHARS:
        return 0
    said = _tokens(text, has_dates)
    for one, count in _tokens(others, has_dates).items():
        said[one] -= round(count * share)
    for name, count in names.items():
        for one, held in _tokens(name, has_dates).items():
            said[one] -= held * count
    left: Counter[Number] = Counter()
    for (value, words, decimals), count in numbers.items():  # most stand with all of their digits, and as they show
        had = max(0, min(count, said[_token(value), words]))
        if had:
            said[_token(value), words] -= had
        if had < count:
            left[value, words, decimals] = count - had
    tokens: Counter[str] = Counter()
    for (token, _), count in said.items():
        tokens[token] += count
    for (value, words, decimals), count in list(left.items()):
        had = max(0, min(count, tokens[_token(value)]))
        tokens[_token(value)] -= had
        left[value, words, decimals] -= had
    return _lost(+left, tokens) if left else 0


def _token(value: float) -> str:
    return f"{abs(value):.15g}"


def _lost(numbers: Counter[Number], tokens: Counter[str]) -> int:
    said: Counter[str] = Counter()
    for token, count in tokens.items():
        said[_token_key(token)] += count
    for keys in (_expected_keys, _keys):  # first as its format shows it: others may stand so by rounding
        left: Counter[Number] = Counter()
        for number, count in numbers.items():
            for key in keys(abs(number[0]), number[2]):
                if (had := min(count, said[key])) > 0:
                    said[key] -= had
                    count -= had
                    if not count:
                        break
            if count:
                left[number] = count
        numbers = left
    return sum(count * words for (_, words, _), count in numbers.items())


def _expected_keys(value: float, decimals: int | None) -> tuple[str, ...]:
    return (_key(value),) if decimals is None else (_key(value), _key(round(value, decimals)))


def _tokens(text: str, has_dates: bool) -> Counter[tuple[str, int]]:
    """The numbers of a text, each with the words that it shows, 0 of a date. One with its value behind it is the
    value."""
    found: Counter[tuple[str, int]] = Counter()
    if " (" in text:
        for (shown, value), count in Counter(_RAW.findall(text)).items():
            if _NUMBER.fullmatch(value := value.removeprefix("-")):
                found[value, len(_WORD.findall(shown))] += count
        text = _RAW.sub(_without_value, text)
    if has_dates:
        text = _NAMED_DATE.sub(_in_numbers, text)
        found.update((one, 0) for one in _dates(text))
        text = _CLOCK.sub(" ", _DATE.sub(" ", text))
    for token, count in Counter(_NUMBER.findall(text)).items():
        found[token, len(_WORD.findall(token))] += count
    return found


_WORD = re.compile(r"\w+")


def is_number(text: str) -> bool:
    """Whether a cell shows a number and nothing else, perhaps with its value behind it."""
    shown = _RAW.sub(r"\1", text.strip())
    return _NUMBER.fullmatch(shown.lstrip("-")) is not None or not _LETTER.search(shown)


_LETTER = re.compile(r"[^\W\d_]")


def _without_value(found: re.Match[str]) -> str:
    """What stands in place of a number and its value: the value, unless it is counted."""
    return "" if _NUMBER.fullmatch(found[2].removeprefix("-")) else found[2]


def _token_key(token: str) -> str:
    """A token in the form of ``_keys``."""
    if token.endswith("s"):
        return token
    number = float(token.rstrip(" %").replace(",", ""))
    return _key(number / 100 if token.endswith("%") else number)


def _in_numbers(found: re.Match[str]) -> str:
    """The same date as 1988-05-03."""
    month, day, year, other_day, other_month, other_year = found.groups()
    number = _MONTHS.index((month or other_month).lower()[:3]) + 1
    return f"{year or other_year}-{number:02}-{int(day or other_day):02}"


def _dates(text: str) -> Iterator[str]:
    for year, month, day in _DATE.findall(text):
        try:
            yield str(date(int(year), int(month), int(day)).toordinal() - _EPOCH)
        except ValueError:
            continue
    for hours, minutes, seconds, half in _CLOCK.findall(_DATE.sub(" ", text)):
        hour = int(hours) % 12 + (half in "pP") * 12 if half else int(hours)
        yield f"{hour * 3600 + int(minutes) * 60 + int(seconds or 0)} s"


def _keys(value: float, _: int | None) -> Iterator[str]:
    """In which forms a value may stand: with all of its digits, as a date, a time, and rounded."""
    seen = {""}
    for key in _forms(value):
        if key not in seen:
            seen.add(key)
            yield key


def _forms(value: float) -> Iterator[str]:
    yield _key(value)
    if value < 3_000_000:  # a day, with a time or without it
        yield str(int(value))
        yield str(int(value) + _DAYS_1904)
        if value < 60:
            yield str(int(value) + 1)  # before March 1900, which has 30 days of February for a workbook
        for seconds in (value * 86_400, value % 1 * 86_400):
            yield f"{round(seconds)} s"
            yield f"{int(seconds / 60 + 1e-6) * 60} s"
    for decimals in range(MAX_DECIMALS, -1, -1):
        yield _key(round(value, decimals))
    for digits in range(9, -1, -1):
        yield _key(float(f"{value:.{digits}e}"))


def _key(number: float) -> str:
    return f"{number:.10g}"
