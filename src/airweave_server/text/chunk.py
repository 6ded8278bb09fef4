"""Cuts text into searchable pieces, along its structure where possible. Knows no file and no model."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import NamedTuple

CHUNKER_VERSION = "2"

CHUNK_CHARS = 2_000  # the most in a chunk, not counting line ends at its end
FULL_CHARS = 1_800  # a chunk is closed at this size, so that a short tail still fits into it
TAIL_CHARS = CHUNK_CHARS - FULL_CHARS
SECTION_CHARS = FULL_CHARS // 2  # a chunk of at least this size ends at a heading; shorter sections share a chunk
SEGMENT_CHARS = 400  # a line too long for a chunk is cut into segments of this size, at a sentence or a word
TITLE_CHARS = 120  # of one heading
BLANK_LINES = 2  # how many of consecutive blank lines are kept
LINE_CHARS = 65_536  # how much of a line is processed at once


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text.

    ``heading``: the headings above it, such as "Install > Docker"; in code, the first line of the definition; "" if
    none.
    """

    text: str
    heading: str


def chunks(text: str | Iterable[str], kind: str) -> Iterator[Chunk]:
    """Yield the chunks of a text in order. It may come in pieces that end where lines end.

    Joined, they are the text without blank lines at its beginning, without more than two consecutive blank lines, and
    without runs of white space longer than a chunk. ``kind`` is that of ``Extracted``; any other is cut like plain
    text. Takes linear time, and memory for one line.
    """
    lines = _lines(text) if isinstance(text, str) else chain.from_iterable(map(_lines, text))
    if kind in ("markdown", "html"):
        return _pack(_markdown_units(lines))
    if kind == "code":
        return _pack(_code_units(lines))
    return _pack(_text_units(lines))


# The quality of a cut before a unit. A full chunk is cut at the best place in its second half.
MUST = 9.0  # a heading
DEFINITION = 6.0
PARAGRAPH = 5.0
STATEMENT = 4.5  # a list item; after the end of a sentence; after a blank line within a definition
LINE = 4.0
INNER_LINE = 3.0  # in a fence or a definition
SENTENCE = 2.0
WORD = 1.0
NOWHERE = 0.0


class _Unit(NamedTuple):
    """A piece that is not cut any further: at most ``CHUNK_CHARS`` and the line ends after it. Never only white
    space."""

    text: str
    cut: float
    heading: str
    is_heading: bool = False


def _pack(units: Iterable[_Unit]) -> Iterator[Chunk]:
    last: list[_Unit] = []  # a full chunk that is held back, because a short tail of the text may still join it
    held: list[_Unit] = []
    chars = 0
    for unit in units:
        while held and chars + len(unit.text) > (CHUNK_CHARS if held[-1].is_heading else FULL_CHARS):
            if last:
                yield _join_units(last)
            cut = _best_cut([*held, unit])
            last, held = held[:cut], held[cut:]
            chars = sum(len(kept.text) for kept in held)
        if unit.cut == MUST and chars >= SECTION_CHARS and not held[-1].is_heading:
            yield from _close_section(last, held)
            last, held, chars = [], [], 0
        held.append(unit)
        chars += len(unit.text)
    yield from _close_section(last, held)


def _best_cut(units: list[_Unit]) -> int:
    """The index of the unit to cut before; never 0."""
    best, chars = len(units) - 1, 0
    for i in range(1, len(units)):
        chars += len(units[i - 1].text)
        if chars >= FULL_CHARS // 2 and units[i].cut >= units[best].cut:
            best = i
    return best


def _join_units(units: list[_Unit]) -> Chunk:
    body = [unit.heading for unit in units if not unit.is_heading and unit.heading] or [units[-1].heading]
    heading, *others = dict.fromkeys(body)
    for other in others:
        heading = _common_path(heading, other) or heading
    return Chunk("".join(unit.text for unit in units), heading)


def _common_path(one: str, other: str) -> str:
    """The common beginning of two paths of headings."""
    steps = zip(one.split(" > "), other.split(" > "), strict=False)
    return " > ".join(step for step, _ in takewhile(lambda both: both[0] == both[1], steps))


def _close_section(last: list[_Unit], held: list[_Unit]) -> Iterator[Chunk]:
    """The last chunks of a section: both, or one if the second is short enough to join the first."""
    both = [chunk for chunk in (last and _join_units(last), held and _join_units(held)) if chunk]
    if len(both) == 2 and len(both[1].text) < TAIL_CHARS:
        together = _join_units(last + held)
        if len(together.text) <= CHUNK_CHARS:
            both = [together]
    yield from both


def _lines(text: str) -> Iterator[str]:
    """The lines with their ends. Up to ``BLANK_LINES`` blank lines are appended to the line before them; those at the
    beginning of the text are dropped.

    A line longer than ``LINE_CHARS`` comes in parts, of which only the last has a line end.
    """
    position, held = 0, ""
    while position < len(text):
        end = text.find("\n", position, position + LINE_CHARS) + 1
        if not end:
            end = _soft_end(text, position, position + LINE_CHARS)[0]
        line = text[position:end]
        position = end
        if not line.isspace():
            if held:
                yield held
            held = line
            continue
        if line.endswith("\n"):
            more = _BLANK.match(text, position)
            position = more.end() if more else position
            held += "\n" * min(BLANK_LINES, 1 + (more[0].count("\n") if more else 0)) if held else ""
    if held:
        yield held


_BLANK = re.compile(r"(?:[^\S\n]*+\n)++")


def _text_units(lines: Iterator[str]) -> Iterator[_Unit]:
    before = "\n\n"
    for line in lines:
        yield from _units(line, _cut_after(before))
        before = line


def _cut_after(before: str) -> float:
    if before.endswith("\n\n"):
        return PARAGRAPH
    if not before.endswith("\n"):
        return WORD
    return STATEMENT if before[-2:-1] in _SENTENCE_ENDS else LINE


def _units(line: str, cut: float, heading: str = "") -> Iterator[_Unit]:
    if len(line) <= FULL_CHARS:
        yield _Unit(line, cut, heading)
        return
    position = 0
    while position < len(line):
        end, next_cut = _soft_end(line, position, position + SEGMENT_CHARS)
        if not line[position:end].isspace():
            yield _Unit(line[position:end], cut, heading)
            cut = next_cut
        position = end


_SENTENCE_ENDS = ".!?:;。！？…"
_SENTENCE = re.compile(r"[.!?…][\"')\]”’]{0,3}\s+|[。！？]")
SOFT_CHARS = 1_000  # how far before the limit to search for a good end


def _soft_end(line: str, start: int, limit: int) -> tuple[int, float]:
    """Where to end a part that begins at ``start``, no later than ``limit``, and the quality of that cut."""
    if limit >= len(line):
        return len(line), LINE
    first = max(start + (limit - start) // 4, limit - SOFT_CHARS)
    end = 0
    for match in _SENTENCE.finditer(line, first, limit):
        end = match.end()
    if end:
        return end, SENTENCE
    end = max(line.rfind(space, first, limit) for space in " \t\u3000") + 1
    if end:
        return end, WORD
    end = limit
    while end > limit - 16 and (unicodedata.combining(line[end]) or line[end] in _JOINERS or line[end - 1] == "\u200d"):
        end -= 1
    return end, NOWHERE


_JOINERS = "\u200d\ufe0e\ufe0f"  # these join emoji


_FENCE = re.compile(r"[ \t>]{0,12}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_UNDERLINE = re.compile(r" {0,3}(={3,}|-{3,})[ \t]*\n*")
_ITEM = re.compile(r"[ \t]{0,40}(?:[-*+]|\d{1,9}[.)])[ \t]")
MAX_HEADING_LINE_CHARS = 1_000
_RULES = ("=", "-", " ")  # how an underline begins


def _markdown_units(all_lines: Iterator[str]) -> Iterator[_Unit]:
    lines = _Ahead(all_lines)
    path: list[tuple[int, str]] = []
    heading = ""
    before = "\n\n"
    for line in lines:
        cut = _cut_after(before)
        if not before.endswith("\n"):
            yield from _units(line, cut, heading)
        elif line[0].isalpha() and len(line) <= FULL_CHARS and not (cut == PARAGRAPH and lines.peek()[:1] in _RULES):
            # the common case, first: of what follows, only an underlined title can begin with a letter
            yield _Unit(line, cut, heading)
        elif marker := _fence_marker(line):
            yield from _fence_units(line, lines, marker, max(cut, STATEMENT), heading)
            line = lines.last
        elif title := _read_title(line, cut, lines):
            path = [step for step in path if step[0] < title.level] + [(title.level, title.name)]
            heading = " > ".join(name for _, name in path if name)
            yield _Unit(title.text, MUST, heading, is_heading=True)
            line = "\n\n"
        else:
            yield from _units(line, _row_cut(line, before, cut), heading)
        before = line


class _Ahead:
    """An iterator of lines that can be asked for the next one without taking it."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._next = next(lines, "")
        self.last = ""

    def __iter__(self) -> "_Ahead":
        return self

    def __next__(self) -> str:
        if not self._next:
            raise StopIteration
        self.last, self._next = self._next, next(self._lines, "")
        return self.last

    def peek(self) -> str:
        return self._next


@dataclass(frozen=True, slots=True)
class _Title:
    text: str
    level: int
    name: str


def _read_title(line: str, cut: float, lines: _Ahead) -> _Title | None:
    if len(line) > MAX_HEADING_LINE_CHARS:
        return None
    if atx := _ATX.fullmatch(line.rstrip()):
        return _Title(line, len(atx[1]), _clean_title(atx[2] or ""))
    # only a one-line paragraph can be a title, not a longer one, a list, a table, or front matter before ---
    if cut != PARAGRAPH or line.endswith("\n\n") or line[0] in "|>-*+#=<`~ \t":
        return None
    if underline := _UNDERLINE.fullmatch(lines.peek()):
        return _Title(line + next(lines), 1 if underline[1][0] == "=" else 2, _clean_title(line))
    return None


def _clean_title(title: str) -> str:
    plain = _CLOSING.sub("", title).replace("**", "").replace("`", "")
    return plain.strip()[:TITLE_CHARS].rstrip()


_CLOSING = re.compile(r"[ \t]#{1,20}[ \t]*$")


def _fence_marker(line: str) -> str | None:
    fence = _FENCE.match(line)
    if fence is None or (fence[1][0] == "`" and "`" in line[fence.end() :]):
        return None
    return fence[1]


def _fence_units(opening: str, lines: _Ahead, marker: str, cut: float, heading: str) -> Iterator[_Unit]:
    """One unit if the fence fits into a chunk, otherwise one per line."""
    block, chars, fits = [opening], len(opening), True
    for line in lines:
        ends = len(line) < 100 and _ends_fence(line, marker)
        if fits:
            block.append(line)
            chars += len(line)
            if chars > CHUNK_CHARS:
                fits = False
                yield from _units(block[0], cut, heading)
                for inner in block[1:]:
                    yield from _units(inner, INNER_LINE, heading)
        else:
            yield from _units(line, NOWHERE if ends else INNER_LINE, heading)
        if ends:
            break
    if fits:
        yield _Unit("".join(block), cut, heading)


def _ends_fence(line: str, marker: str) -> bool:
    bare = line.strip(" \t>\n")
    return len(bare) >= len(marker) and not bare.strip(marker[0])


def _row_cut(line: str, before: str, cut: float) -> float:
    row = line.lstrip()
    if row.startswith("|") and before.lstrip().startswith("|") and cut != PARAGRAPH:
        rule = not row.strip().strip("|:- \t")
        # the table head stays with its first row
        return NOWHERE if rule or not before.strip().strip("|:- \t") else LINE
    return max(cut, STATEMENT) if _ITEM.match(line) else cut


_TOP_CLOSERS = re.compile(r"[})\]]|(?:end|else|elif|elsif|except|rescue|finally|catch|ensure)\b")
_ATTACHED = re.compile(r"[@#/*;\[-]|\"\"\"")  # decorators, attributes and comments stay with what follows
_DEFINITION = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub|pub\(\w{1,20}\)|unsafe"
    r"|extern|inline|virtual|override|open|data|sealed|partial|const|declare|local|create(?: or replace)?)\s+)*+"
    r"(?:def|defp|defmodule|class|func|function|fn|fun|impl|interface|type|struct|enum|union|trait|module|namespace"
    r"|object|record|protocol|extension|message|service|resource|table|view|procedure|trigger|sub|package)"
    r"(?:\s+[\w$(<\"`*&]|<)",
    re.I,
)
_CONTROL = re.compile(r"(?:if|for|while|switch|do|try|with|using|return)\b")
MAX_DEFINITION_LINE_CHARS = 400


def _code_units(lines: Iterator[str]) -> Iterator[_Unit]:
    heading = ""
    before = "\n\n"
    attached = False  # the line before is a decorator or a comment right above this one
    for line in lines:
        cut = _cut_after(before)
        if before.endswith("\n"):
            indent = len(line) - len(line.lstrip(" \t"))
            if indent:
                bonus = max(0, 20 - indent) / 50  # the less indented, the better
                cut = (LINE if cut == PARAGRAPH else INNER_LINE) + bonus
                attached = False
            elif _TOP_CLOSERS.match(line):
                cut = INNER_LINE - 0.5
                attached = False
            elif _is_definition(line):
                cut = WORD if attached else DEFINITION
                heading = line.strip().rstrip("{:").rstrip()[:TITLE_CHARS].rstrip()
                attached = False
            else:
                cut = DEFINITION if cut == PARAGRAPH else LINE
                if cut == DEFINITION:
                    heading = ""
                attached = bool(_ATTACHED.match(line)) and not line.endswith("\n\n")
        yield from _units(line, cut, heading)
        before = line


def _is_definition(line: str) -> bool:
    if len(line) > MAX_DEFINITION_LINE_CHARS:
        return False
    if _DEFINITION.match(line):
        return True
    return line.rstrip().endswith("{") and "(" in line and not _CONTROL.match(line)
