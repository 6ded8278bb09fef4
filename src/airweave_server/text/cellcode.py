"""The codes of number formats (ECMA-376 Part 1, 18.8.31), taken apart into sections and tokens."""

import re
from dataclasses import dataclass
from typing import Literal

_Kind = Literal["general", "number", "fraction", "date", "text"]
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"?|\\(?P<escaped>.)|_(?P<space>.)|\*(?P<fill>.)|\[(?P<bracket>[^\]]*)\]?'
    r"|(?P<general>General)|(?P<ampm>AM/PM|A/P)|(?P<exponent>E[-+])|(?P<date>y+|m+|d+|h+|s+|e+|b{2,4}|g+|aaaa?)"
    r"|(?P<digit>[0#?])|(?P<point>\.)|(?P<comma>,)|(?P<percent>%)|(?P<slash>/)|(?P<at>@)|(?P<end>;)|(?P<other>.)",
    re.I | re.S,
)
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?\d+(?:\.\d+)?)")
_ENGLISH = 0x09  # the low bits of the numbers of its locales
_DATE_KINDS = ("date", "minute", "elapsed", "decimals", "ampm")


@dataclass(frozen=True, slots=True)
class Section:
    """One of up to four parts of a format. ``tokens``: (kind, text) in order; ``plain``: it without what is quoted."""

    kind: _Kind
    tokens: tuple[tuple[str, str], ...]
    condition: tuple[str, float] | None
    plain: str
    is_foreign: bool  # its names of months and days are in another language


def parse(code: str) -> tuple[Section, ...]:
    """The sections of a format, at most four."""
    sections: list[Section] = []
    tokens: list[tuple[str, str]] = []
    condition: tuple[str, float] | None = None
    is_foreign = False
    for match in _TOKEN.finditer(code + ";"):
        kind, said = str(match.lastgroup), match[match.lastgroup or 0]
        if kind == "end":
            kind_of_section = _kind_of(tokens)
            arranged = _arrange_date(tokens) if kind_of_section == "date" else tokens
            plain = "".join(text for name, text in tokens if name in ("digit", "slash", "other", "literal"))
            sections.append(Section(kind_of_section, tuple(arranged), condition, plain, is_foreign))
            tokens, condition, is_foreign = [], None, False
        elif kind == "bracket":
            if said[:1] == "$":
                symbol, _, locale = said[1:].partition("-")
                tokens.append(("literal", symbol))
                is_foreign = is_foreign or _is_foreign(locale)
            elif found := _CONDITION.match(said):
                condition = (found[1], float(found[2]))
            elif re.fullmatch("h+|m+|s+", said, re.I):
                tokens.append(("elapsed", said.lower()))
        elif kind in ("quoted", "escaped"):
            tokens.append(("literal", said))
        elif kind == "space":
            tokens.append(("literal", " "))
        elif kind == "date":
            tokens.append(("date", said.lower()))
        elif kind != "fill":
            tokens.append((kind, said))
    return tuple(sections[:4])


def _is_foreign(locale: str) -> bool:
    try:
        number = int(locale, 16)
    except ValueError:
        return False
    return number & 0xF000 == 0 and number & 0x3FF not in (0, _ENGLISH)


def _kind_of(tokens: list[tuple[str, str]]) -> _Kind:
    kinds = [kind for kind, _ in tokens]
    if "general" in kinds:
        return "general"
    has_digits = "digit" in kinds
    if "elapsed" in kinds or any(kind == "date" and (said[0] not in "ebg" or not has_digits) for kind, said in tokens):
        return "date"
    if "at" in kinds:
        return "text"
    if has_digits and "slash" in kinds:
        return "fraction"
    return "number"


def _arrange_date(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The tokens of a date, with minutes told from months and decimals of seconds in one token."""
    arranged: list[tuple[str, str]] = []
    units = [place for place, (kind, _) in enumerate(tokens) if kind in ("date", "elapsed")]
    for place, (kind, said) in enumerate(tokens):
        if kind == "date" and said[0] == "m" and len(said) < 3:
            before = [tokens[one] for one in units if one < place][-1:]
            after = [tokens[one] for one in units if one > place][:1]
            if (before and before[0][1][0] in "hs") or (after and after[0][1][0] == "s"):
                kind = "minute"
        elif kind == "digit" and arranged and arranged[-1][0] == "decimals":
            arranged[-1] = ("decimals", arranged[-1][1] + said)
            continue
        elif (
            kind == "point"
            and arranged
            and arranged[-1][1][:1] == "s"
            and tokens[place + 1 : place + 2] == [("digit", "0")]
        ):
            kind, said = "decimals", ""
        arranged.append((kind, said) if kind in _DATE_KINDS else ("literal", said))
    return arranged
