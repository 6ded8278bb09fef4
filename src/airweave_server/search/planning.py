"""What the classic tier searches for: several phrasings of a query, and a filter that it implies. Made by rules here,
or by a language model (``prompts``). Knows neither HTTP nor SQL.

A filter that was inferred puts first what fits it, and joins the filter of the request, which it cannot widen.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ..db.search import Condition
from ..wire import MOST_CONDITIONS, FilterCondition, FilterGroup
from .filters import lower_one

Groups: TypeAlias = Sequence[FilterGroup | Sequence[Condition]]

MOST_PHRASINGS = 4  # the query included
LEAST_WORDS = 2  # of a phrasing without its frame

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH = "|".join([*_MONTHS, *(name[:3] for name in _MONTHS), "sept"])
_DATE = rf"""
    (?P<iso>(?:19|20)\d\d-\d\d(?:-\d\d)?)(?![\w-])
  | (?:(?P<day>\d\d?)(?:st|nd|rd|th)?\s+(?:of\s+)?)?(?P<month>{_MONTH})\.?
      (?:\s+(?P<day2>\d\d?)(?:st|nd|rd|th)?,?)?,?\s+(?P<year>(?:19|20)\d\d)\b
  | (?P<only_year>(?:19|20)\d\d)\b(?![-.]\d)
  | (?P<near>today|yesterday)\b
  | (?P<which>this|last)\s+(?P<unit>week|month|year)\b
  | (?:the\s+)?(?:last|past)\s+(?P<count>\d{{1,3}})\s+(?P<units>day|week|month|year)s?\b
"""
_WORD_BEFORE = {
    **dict.fromkeys(("from", "in", "on", "of", "during"), "within"),
    **dict.fromkeys(("before", "until"), "before"),
    "since": "since",
    "after": "after",
}
_WHEN = re.compile(rf"(?:\b(?P<how>{'|'.join(_WORD_BEFORE)})\s+)?(?:{_DATE})", re.IGNORECASE | re.VERBOSE)
_FILE = re.compile(r"(?<![\w./\\@-])[\w-]{2,}(?:\.[\w-]+)*\.[A-Za-z][A-Za-z0-9]{0,4}(?![\w/\\-])")
_KINDS: dict[str, tuple[str, ...]] = {
    r"pdfs?(?:\s+files?)?": (".pdf",),
    r"spreadsheets?|excel\s+(?:files?|sheets?)": (".xlsx", ".xls", ".xlsb", ".ods", ".csv"),
    r"slide\s?decks?|powerpoints?": (".pptx", ".ppt", ".odp"),
    r"word\s+(?:documents?|files?)": (".docx", ".doc", ".odt"),
    r"markdown\s+files?": (".md",),
    r"csv\s+files?": (".csv",),
}
_KIND = {re.compile(rf"\b(?:{words})\b", re.IGNORECASE): endings for words, endings in _KINDS.items()}
# Words around what an English question is about.
_FRAME = re.compile(
    r"""\b(?:
        (?:please|kindly)\b
      | (?:can|could|would)\s+(?:you|i|we|anyone|someone)\b
      | (?:i|we)\s+(?:am|are|was|were|need|want|would\s+like|wish|have\s+to)\b
      | (?:i'm|we're)\b
      | (?:has|have|had)\s+(?:anyone|anybody|someone|somebody)\b
      | (?:tell|show|give|find|get|send)\s+(?:me|us)\b
      | (?:looking|searching|interested|search|look)\s+(?:for|in)\b
      | (?:find|list|describes?|describing|explain|discuss(?:es|ed|ing)?|concerning|regarding)\b
      | (?:about|dealing|deals?)\s+with\b
      | (?:articles?|papers?|documents?|information|publications?|literature|pages?|notes?)\s+
        (?:on|about|that|which|of|for|in|dealing|discussing|describing|concerning|regarding|available|are|is)\b
      | (?:what|which)\s+(?:articles?|papers?|documents?|information|publications?|literature|pages?|notes?)\b
      | (?:are|is)\s+there\s+(?:any|some)?\b
      | (?:what|which|who|whom|whose|where|when|why|how)
        (?:\s+(?:is|are|was|were|do|does|did|can|could|should|must|to))?\b
      | (?:do|does|did)\s+(?:you|i|we|anyone)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the collection and the moment: the short names of its sources, its language, and now."""

    sources: Sequence[str] = ()
    language: str = "english"
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Plan:
    """``phrasings``: what is searched for, first the query as it is. ``filter``: what fits it comes first. ``by``: who
    made it. ``note``: why it was made by rules although there is a language model."""

    phrasings: tuple[str, ...]
    filter: tuple[FilterGroup, ...] = ()
    by: Literal["rules", "llm"] = "rules"
    note: str | None = None


def plan_by_rules(text: str, facts: Facts) -> Plan:
    """A plan without a language model."""
    phrasings = [text]
    if facts.language == "english" and (bare := strip_frame(text)) is not None:
        phrasings.append(bare)
    return Plan(tuple(phrasings[:MOST_PHRASINGS]), infer_filter(text, facts))


def strip_frame(text: str) -> str | None:
    """What a question is about, without the words around it; None if there are none, or too little else."""
    bare = " ".join(_FRAME.sub(" ", text).split()).strip(" .?!,;:")
    words = re.findall(r"\w{3,}", bare)
    is_other = bare.lower() != " ".join(text.split()).strip(" .?!,;:").lower()
    return bare if is_other and len(words) >= LEAST_WORDS else None


def infer_filter(text: str, facts: Facts) -> tuple[FilterGroup, ...]:
    """The filter that a query implies: dates, sources and files that it names. Empty if there is none."""
    groups: list[list[FilterCondition]] = [[]]
    for found in (_infer_dates(text, facts.now), _infer_sources(text, facts.sources), _infer_names(text)):
        if found and len(groups) * len(found) * 6 <= MOST_CONDITIONS:
            groups = [[*group, *other] for group in groups for other in found]
    return tuple(FilterGroup(conditions=group) for group in groups if group)


def join_filters(given: Groups, inferred: Sequence[FilterGroup]) -> list[Sequence[Condition]]:
    """What fits both filters. No part of the one that was given is lost."""
    lowered = [_lower(group) for group in given] or [()]
    return [(*group, *_lower(other)) for group in lowered for other in inferred]


def _lower(group: FilterGroup | Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(map(lower_one, group.conditions)) if isinstance(group, FilterGroup) else tuple(group)


def _infer_dates(text: str, now: datetime) -> list[list[FilterCondition]]:
    """Created or updated in the first period that the text names."""
    for found in _WHEN.finditer(text):
        how = _WORD_BEFORE.get((found["how"] or "").lower())
        if found["only_year"] and how is None:
            continue  # a number
        try:
            start, end = _read_period(found, now)
        except (ValueError, OverflowError):
            continue
        bounds: dict[str, datetime] = {}
        if how == "before":
            bounds["less_than"] = start
        elif how == "after" and not found["count"]:
            bounds["greater_than_or_equal"] = end
        else:
            bounds["greater_than_or_equal"] = start
            if how != "since":
                bounds["less_than"] = end
        return [
            [
                FilterCondition.model_validate({"field": name, "operator": operator, "value": at.isoformat()})
                for operator, at in bounds.items()
            ]
            for name in ("updated_at", "created_at")
        ]
    return []


def _read_period(found: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """The first moment of a period, and the one after it. Raises ``ValueError`` for a date that does not exist."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if found["iso"]:
        year, month, *day = map(int, found["iso"].split("-"))
        return _day(year, month, day[0]) if day else _month(year, month)
    if found["month"]:
        month = next(n for n, name in enumerate(_MONTHS, 1) if name.startswith(found["month"].lower()[:3]))
        day_of = found["day"] or found["day2"]
        return _day(int(found["year"]), month, int(day_of)) if day_of else _month(int(found["year"]), month)
    if found["only_year"]:
        return _year(int(found["only_year"]))
    if found["near"]:
        start = today - timedelta(days=found["near"].lower() == "yesterday")
        return start, start + timedelta(days=1)
    if found["count"]:
        days = int(found["count"]) * {"day": 1, "week": 7, "month": 31, "year": 366}[found["units"].lower()]
        return today - timedelta(days=days), today + timedelta(days=1)
    is_last = found["which"].lower() == "last"
    match found["unit"].lower():
        case "week":
            start = today - timedelta(days=today.weekday() + 7 * is_last)
            return start, start + timedelta(days=7)
        case "month":
            before = today.replace(day=1) - timedelta(days=1)
            return _month(before.year, before.month) if is_last else _month(today.year, today.month)
    return _year(today.year - is_last)


def _day(year: int, month: int, day: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def _month(year: int, month: int) -> tuple[datetime, datetime]:
    start = datetime(year, month, 1, tzinfo=UTC)
    return start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _year(year: int) -> tuple[datetime, datetime]:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _infer_sources(text: str, sources: Sequence[str]) -> list[list[FilterCondition]]:
    """From a source that the text names; none if the collection has only one."""
    if len(sources) < 2:
        return []
    found = []
    for name in sources:
        said = re.escape(name).replace("_", r"[\s_-]?")
        if re.search(rf"\b(?:in|on|from|at|via)\s+(?:the\s+|my\s+|our\s+)?{said}\b", text, re.IGNORECASE):
            found.append(name)
    if not found:
        return []
    return [[FilterCondition(field="airweave_system_metadata.source_name", operator="in", value=found)]]


def _infer_names(text: str) -> list[list[FilterCondition]]:
    """Of a name that the text gives, or of a kind of files that it asks for."""
    names = list(dict.fromkeys(_FILE.findall(text)))[:8]
    if not names:
        names = [ending for kind, endings in _KIND.items() if kind.search(text) for ending in endings]
    return [[FilterCondition(field="name", operator="contains", value=name)] for name in names]
