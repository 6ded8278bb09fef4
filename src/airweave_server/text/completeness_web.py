"""About how many words of HTML, JSON and CSV are not in what was read of them, by a plain count that knows nothing of
the readers. Takes linear time, and a fraction of what reading takes while nothing is missing.

First the letters of both are compared, in their order: of a file that was read in full they are the same. Only where
they differ, words are counted.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import unescape

from .completeness_words import (
    least_said,
    less_common_lines,
    letters_of_lines,
    rejoined,
    words,
)

MAX_CHARS = 4_000_000  # whose words take about 100 MB; of longer texts nothing is said
MAX_HEADER_ROWS = 21  # among which are those that name the columns
MAX_NAMES = 500  # of columns that are told from values
MAX_REPLACED = 40  # of more, each cell is looked at
SNIFF_CHARS = 16_384  # of what was read, in which the names are looked for

_LOG = logging.getLogger(__name__)


def missing_words(held: str, form: str, read: str) -> int:
    """About how many words of a text of this form are not in what was read of it; 0 if only few are, if the form is
    not counted, and if the count fails."""
    count = {"html": _missing_of_page, "json": _missing_of_json, "csv": _missing_of_table}.get(form)
    if count is None or len(held) > MAX_CHARS or len(read) > 4 * MAX_CHARS:
        return 0
    try:
        return count(held, read)
    except Exception as error:  # of a kind never seen: its text is no worse for it
        _LOG.debug("completeness_not_counted: %s: %s", form, error)
        return 0


def _missing_of_page(held: str, read: str) -> int:
    """Of a page that marks its main part, only that part must have been read."""
    if held.lstrip()[:5] == "<?xml":  # in which any element may close itself
        held = _CLOSED.sub("", held)
    title = ""
    if found := _TITLE.search(held):
        title, held = found[1], held[: found.start()] + "\n" + held[found.end() :]
    lower = held.lower()
    if any(one in lower for one in _SIGNS_OF_HIDDEN):
        held = _HIDDEN.sub("", held)
    if any(one in lower for one in _SIGNS_OF_UNREAD):
        held = _without_nested(held, _UNREAD)
    is_marked = any(one in lower for one in _SIGNS_OF_MAIN)
    parts = [held[start:end] for start, end in _main_parts(held)] if is_marked else []
    if any(_has_letters(read, title, held, parts, tag) for tag in (_SIMPLE_TAG, _TAG)):
        return 0
    expected = _unescape("".join(_lines_of_page(title if not parts else "", parts or [held])))
    if parts:
        read = _without_others(read, _unescape("".join(_lines_of_page(title, [held]))), expected)
    return _missing(expected, read)


def _has_letters(read: str, title: str, held: str, parts: Sequence[str], tag: re.Pattern[str]) -> bool:
    """Whether all letters of the page, or of its main parts, were read in their order."""
    known = _letters(read)
    if parts:
        return all(_letters(_unescape("".join(tag.split(part)))) in known for part in parts)
    shown = _letters(_unescape("".join(tag.split(held))))
    return shown == known or known == _letters(_unescape(title)) + shown


_SIGNS_OF_HIDDEN = ("<!--", "<script", "<style", "<iframe")
_SIGNS_OF_UNREAD = ("<nav", "<template", "<svg")
_SIGNS_OF_MAIN = ("<main", "<article", "role")
_SIMPLE_TAG = re.compile(r"<[a-zA-Z/!?][^>]*+>?")
# An attribute may hold ">" in quotes. All quantifiers are possessive, and what is not closed ends with the text.
_ATTRIBUTES = r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
_TAG = re.compile(rf"<[a-zA-Z/!?]{_ATTRIBUTES}>?")
_NAMED_TAG = re.compile(rf"<[/!?]*([a-zA-Z][\w:-]*)?{_ATTRIBUTES}>?")
_HIDDEN = re.compile(
    r"<!--(?:>|(?:[^-]++|-(?!->))*+(?:-->|\Z))|<(script|style|iframe)(?=[\s/>])(?:[^<]++|<(?!/\1[\s/>]))*+", re.I
)
_CLOSED = re.compile(r"<(?:script|style|iframe|title|textarea)(?:\s[^<>]*)?/>", re.I)
_TITLE = re.compile(r"<title(?=[\s>])[^<>]*+>([^<]*+)", re.I)
_UNREAD = re.compile(rf"<(/?)(nav|template|svg)(?=[\s/>]){_ATTRIBUTES}>?", re.I)
_MAIN = re.compile(r"""<(main|article|(?:div|section)(?=[^<>]{0,2000}?\srole\s*=\s*["']?main\b))(?=[\s/>])""", re.I)
_SAME = {name: re.compile(rf"<(/?){name}(?=[\s/>])", re.I) for name in ("main", "article", "div", "section")}
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd"}
    | {"label", "mark", "nobr", "output", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time"}
    | {"tt", "u", "var", "wbr", "rt", "rp", "ruby", "picture"}
)


def _without_nested(text: str, elements: re.Pattern[str]) -> str:
    """The same without these elements, each of which may hold others of its name."""
    kept: list[str] = []
    at, depth, begun, name = 0, 0, 0, ""
    for found in elements.finditer(text):
        one = found[2].lower()
        if depth and one != name:
            continue
        if found[0].endswith("/>"):
            continue
        if found[1]:
            depth = max(0, depth - 1)
            if not depth and name:
                kept.append(text[at:begun])
                at, name = found.end(), ""
        else:
            if not depth:
                begun, name = found.start(), one
            depth += 1
    return "\n".join([*kept, text[at:]])


def _main_parts(text: str) -> Iterator[tuple[int, int]]:
    """Where the main parts of a page begin and end."""
    at = 0
    while found := _MAIN.search(text, at):
        depth, at = 0, len(text)
        for one in _SAME[found[1].lower()].finditer(text, found.start()):
            depth += -1 if one[1] else 1
            if not depth:
                at = one.end()
                break
        yield found.start(), at


def _lines_of_page(title: str, parts: Sequence[str]) -> Iterator[str]:
    """A line for each paragraph, as it shows."""
    yield title
    for part in parts:
        yield "\n"
        for number, piece in enumerate(_PRE.split(part)):
            at = 0
            text = piece if number % 2 else piece.replace("\n", " ")
            for found in _NAMED_TAG.finditer(text):
                yield text[at : found.start()]
                yield "" if (found[1] or "").lower() in _INLINE else "\n"
                at = found.end()
            yield text[at:]


_PRE = re.compile(r"(<pre(?=[\s>])(?:[^<]++|<(?!/pre))*+)", re.I)


def _without_others(read: str, whole: str, part: str) -> str:
    """What was read without the lines that are in the whole and not in the part: they would hide a loss of it."""
    others = set(letters_of_lines(whole)) - set(letters_of_lines(part))
    lines = read.split("\n")
    return "\n".join(line for line, key in zip(lines, letters_of_lines(read), strict=True) if key not in others)


def _unescape(text: str) -> str:
    return unescape(_DIGITS.sub("\ufffd", text)) if "&" in text else text


_DIGITS = re.compile(r"&#[xX]?[0-9a-fA-F]{16,};?")  # unescape raises on thousands of digits


def _missing_of_json(held: str, read: str) -> int:
    """The words of all values. Keys stand before them, once for each."""
    shown = _LABEL.sub("", read)
    values = _values(held)
    if _letters(values) == _letters(shown):
        return 0
    lines = held.split("\n")
    if any(line.replace('\\"', "").count('"') % 2 for line in lines):  # a line that is no JSON is read as it is
        values = _values("\n".join(line for line in lines if not line.count('"') % 2))
    return _missing(values, shown)


def _values(text: str) -> str:
    """The values, each in a line."""
    has_escapes = "\\" in text
    marked = text.replace("\\\\", "\1").replace('\\"', "\2") if has_escapes else text
    has_lines = "\\n" in marked  # a line within a value may look as if it had a label, so each begins with one
    label = f"\n{_MARK}: " if has_lines else "\n"
    if '" :' in marked:
        marked = marked.replace('" :', '":')
    pieces = marked.split('"')
    strings, others = pieces[1::2], pieces[2::2]
    strings = [label if after[:1] == ":" else one for one, after in zip(strings, others, strict=False)]
    found = [""] * (2 * len(strings) + 1)
    found[0], found[1::2], found[2::2] = pieces[0], strings, others
    values = " ".join(found) if not has_lines else "".join(found).replace(f"{label}:", label)
    if has_escapes:
        escaped = values.replace("\1", "\\\\").replace("\2", '\\"')
        values = json.JSONDecoder(strict=False).decode(f'"{escaped}"')
    return _LABEL.sub("", values) if has_lines else values


_MARK = "\3"
_LABEL = re.compile(r"^[^\n:]*+(?::(?! )[^\n:]*+)*+: ", re.M)


def _missing_of_table(held: str, read: str) -> int:
    """The words of all cells. Names of columns stand before values, and a row that says them again is left out."""
    head = _SEP_LINE.sub("", held)
    lines = head.split("\n")
    names = _names(lines[:MAX_HEADER_ROWS], read)
    headers = {line for line in lines[:MAX_HEADER_ROWS] if _is_header(line, names)}
    if headers:
        head = "\n".join(line for line in lines if line not in headers)
    if _letters(_without_names(head, names) if "; " in head else head) == _letters(_without_names(read, names)):
        return 0
    shown = read
    if names:
        before = _any_name(names)
        shown, head = before.sub("", read), before.sub("", head) if "; " in head else head
    return _missing(_CELLS.sub("\n", _QUOTED.sub("", head)), shown.replace("; ", "\n"))


def _without_names(text: str, names: Sequence[str]) -> str:
    """The same without the names before the values, in one line."""
    text = "; " + text.replace("\n", "; ")
    if len(names) > MAX_REPLACED:
        known = set(names)
        parts = (one.partition(": ") for one in text.split("; "))
        return "; ".join(value if name in known else name + value for name, _, value in parts)
    for name in names:
        text = text.replace(f"; {name}: ", "; ")
    return text


def _any_name(names: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:^|(?<=; ))(?:{'|'.join(map(re.escape, names))}): ", re.M)


_SEP_LINE = re.compile(r'\A[ \t]*"?sep=."?[ \t]*(?:\n|\Z)', re.I)
_CELLS = re.compile(r"[,;\t|]")
_QUOTED = re.compile(r'""')


def _names(rows: Sequence[str], read: str) -> list[str]:
    """What stands before values, of what these rows say; the longest first."""
    cells = {" ".join(cell.strip('" ').split()) for row in rows for cell in _CELLS.split(row)[:MAX_NAMES]}
    sample = "; " + read[:SNIFF_CHARS].replace("\n", "; ")
    said = {cell.partition(": ")[0] for cell in sample.split("; ") if ": " in cell}
    found = {cell.rstrip(": ") for cell in cells if cell}
    found = {one for one in found if one in said or (": " in one and f"; {one}: " in sample)}
    return sorted(found, key=lambda one: -len(one))[:MAX_NAMES]


def _is_header(line: str, names: Sequence[str]) -> bool:
    """Whether the cells of a row are the names of the columns."""
    cells = [" ".join(cell.strip('" ').split()).rstrip(": ") for cell in _CELLS.split(line)]
    known = set(names)
    filled = [cell for cell in cells if cell]
    return len(filled) > 0 and 2 * sum(cell in known for cell in filled) > len(filled)


def _letters(text: str) -> bytes:
    """A text without ASCII punctuation, spaces and what does not show."""
    if not text.isascii():
        text = "".join(text.split())
        for one in _NOT_SHOWN:
            text = text.replace(one, "")
    return text.encode("utf-8", "surrogatepass").translate(None, _NO_LETTERS)


_NOT_SHOWN = "\u00ad\u2011\ufeff\ufffd"
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalnum())


def _missing(held: str, read: str) -> int:
    """How many of the words that a text holds were not read, each as often as it is missing; 0 if only few are."""
    rest, others = less_common_lines(held, read)
    expected, found = Counter(words(rest)), Counter(words(others))
    missing = {word: count - had for word, count in expected.items() if count > (had := found[word])}
    lost = sum(missing.values())
    least = least_said(len(words(held))) if lost else 0
    if lost and lost >= least:
        lost -= rejoined(missing, found - expected)
    return lost if lost and lost >= least else 0
