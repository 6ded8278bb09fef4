"""Dates and times of cells as their number format shows them, followed by the ISO form where that shows a part only."""

from datetime import date, datetime, timedelta

from .cellcode import Section

MAX_SERIAL = 2_958_466.0  # the last day is 9999-12-31
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


def show_date(section: Section, serial: float, is_1904: bool) -> str | None:
    """The date and time of a serial number, followed by it in ISO form if the format hides a part or may be taken for
    another date. None if it is no date."""
    if not 0 <= serial < MAX_SERIAL:
        return None
    kinds = {kind if kind != "date" else said[0] for kind, said in section.tokens}
    kinds |= {said[0] for kind, said in section.tokens if kind == "elapsed"}
    decimals = min(6, max((len(said) for kind, said in section.tokens if kind == "decimals"), default=0))
    unit = 10 ** (decimals if "s" in kinds else 3)
    days, ticks = int(serial), int((serial - int(serial)) * 86_400 * unit + 0.5)
    days, ticks = days + ticks // (86_400 * unit), ticks % (86_400 * unit)
    seconds, part = divmod(ticks, unit)
    year, month, day = _calendar(days, is_1904)
    hour, minute, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    weekday = _DAYS[(days + 5 if is_1904 else days - 1) % 7]
    is_12 = "ampm" in kinds
    made: list[str] = []
    for kind, said in section.tokens:
        width = len(said)
        if kind == "literal":
            made.append(said)
        elif kind == "minute":
            made.append(f"{minute:0{width}}")
        elif kind == "decimals":
            made.append(f".{part:0{decimals}}"[: width + 1])
        elif kind == "ampm":
            made.append(("AM", "PM")[hour >= 12][: 2 if width > 3 else 1])
        elif kind == "elapsed":
            total = days * 86_400 + seconds
            amount = total // {"h": 3600, "m": 60, "s": 1}[said[0]]
            made.append(f"{amount:0{width}}")
        else:
            clock = (hour % 12 or 12) if is_12 else hour
            made.append(_show_unit(said, year, month, day, weekday, clock, second))
    shown = " ".join("".join(made).split())
    if "elapsed" in kinds:
        total = int(serial * 86_400 + 0.5)
        is_whole = not total % 60 or "s" in kinds
        return shown if is_whole else f"{shown} ({total // 3600}:{total // 60 % 60:02}:{total % 60:02})"
    exact = min(86_399, int((serial - int(serial)) * 86_400 + 0.5)) if "s" not in kinds else seconds
    clock_time = f"{exact // 3600:02}:{exact // 60 % 60:02}" + (f":{exact % 60:02}" if exact % 60 else "")
    shows_time = all(unit in kinds or not amount for unit, amount in (("h", hour), ("minute", minute), ("s", second)))
    if kinds.isdisjoint("ymdeba"):
        if days == 0:
            return shown if shows_time else f"{shown} ({clock_time})"
        return f"{shown} ({year:04}-{month:02}-{day:02}{f' {clock_time}' if seconds else ''})"
    if shows_time and _is_clear(section, kinds):
        return shown
    return f"{shown} ({year:04}-{month:02}-{day:02}{f' {clock_time}' if seconds else ''})"


def _show_unit(said: str, year: int, month: int, day: int, weekday: str, hour: int, second: int) -> str:
    width, unit = len(said), said[0]
    if unit == "y":
        return f"{year % 100:02}" if width < 3 else f"{year:04}"
    if unit == "e":
        return f"{year:04}"
    if unit == "b":
        return f"{(year + 543) % 100:02}" if width < 3 else str(year + 543)
    if unit == "m":
        name = _MONTHS[month - 1]
        return f"{month:0{width}}" if width < 3 else name[:3] if width == 3 else name if width == 4 else name[:1]
    if unit == "d":
        return f"{day:0{width}}" if width < 3 else weekday[:3] if width == 3 else weekday
    if unit == "a":
        return weekday[:3] if width == 3 else weekday
    if unit == "h":
        return f"{hour:0{min(width, 2)}}"
    if unit == "s":
        return f"{second:0{min(width, 2)}}"
    return ""


def _is_clear(section: Section, kinds: set[str]) -> bool:
    """Whether it shows year, month and day, and which is which."""
    units = [(place, said) for place, (kind, said) in enumerate(section.tokens) if kind == "date" and said[0] in "ymde"]
    units = [(place, said) for place, said in units if said[0] != "d" or len(said) < 3]
    order = "".join(said[0] for _, said in units).replace("e", "y")
    if sorted(order) != ["d", "m", "y"] or any(said in ("y", "yy") for _, said in units):
        return False
    month = next(said for _, said in units if said[0] == "m")
    if len(month) in (3, 4):
        return not section.is_foreign
    between = "".join(said for kind, said in section.tokens[units[0][0] : units[1][0]] if kind == "literal").strip()
    return order == "ymd" or (order == "dmy" and between == ".")


def _calendar(days: int, is_1904: bool) -> tuple[int, int, int]:
    """Year, month and day of a serial number. 1900 has a 29 February there, and a day 0."""
    if is_1904:
        found = date(1904, 1, 1) + timedelta(days=min(days, 2_957_003))
    elif days == 60:
        return 1900, 2, 29
    elif days == 0:
        return 1900, 1, 0
    else:
        found = date(1899, 12, 31 if days < 60 else 30) + timedelta(days=min(days, 2_958_465))
    return found.year, found.month, found.day


def serial_of(text: str, *, is_1904: bool = False) -> str:
    """The serial number of an ISO date or time, as the files of some programs have it; the text itself if it is
    none."""
    try:
        moment = datetime.fromisoformat(text.strip().removesuffix("Z")).replace(tzinfo=None)
    except ValueError:
        return text
    since = moment - datetime(1904, 1, 1) if is_1904 else moment - datetime(1899, 12, 30)
    return repr(since.days + since.seconds / 86_400 + since.microseconds / 86_400_000_000)
