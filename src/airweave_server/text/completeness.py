"""How many words of a document are not in what was read of it, by a plain count that knows nothing of the readers.

The count takes what a format holds as text, in whatever order, and leaves out what nobody sees: deleted text,
fallbacks, instructions of fields, styles and settings. It is rough: a few missing words are not worth saying.
"""

import email
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.header import decode_header, make_header
from email.message import Message
from typing import IO

from . import completeness_binary as binary
from . import completeness_numbers, completeness_xml, encoded
from .completeness_held import Held, Opened, Source, TooLarge
from .completeness_msg import count_msg
from .completeness_pages import Glyphs
from .completeness_words import (
    LEAST_SHARE,
    LEAST_WORDS,
    least_said,
    less_common_lines,
    letters_of_lines,
    rejoined,
    words,
)
from .completeness_xml import html_text

MAX_CHARS = 4_000_000  # whose words take about 100 MB; of larger documents nothing is said
MAX_MAILBOX_BYTES = 24 * 1024 * 1024  # of a larger one nothing is said
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_HEADER_CHARS = 10_000  # decoding takes the square of it; of a longer one nothing is said
MAX_LENGTH_LINE = 40

_LOG = logging.getLogger(__name__)


def missing_words(
    file: IO[bytes],
    form: str,
    read: Sequence[tuple[str, str]],
    *,
    until: float = math.inf,
    opened: Opened | None = None,
) -> int:
    """About how many words of a document are not in what was read of it, the labels and texts of its sections; 0 if
    only few are, if the format is not counted, and if the count fails. ``until``: the monotonic time at which it
    ends. ``opened``: what of the document is open already."""
    counter = _COUNTERS.get(form)
    if counter is None and form != "pdf":
        return 0
    opened = opened or Opened()
    try:
        file.seek(0)
        if counter is None:
            return _compare_pages(opened.glyphs, read) if opened.glyphs.complete(file, until) else 0
        return _compare(counter(Source(file, form, opened)), (text for _, text in read))
    except Exception as error:  # damaged in part, of a kind never seen, too large: its text is no worse for it
        _LOG.debug("completeness_not_counted: %s: %s", form, error)
        return 0


def _compare(held: Held, read: Iterable[str]) -> int:
    texts = list(read)
    if sum(map(len, held.texts)) > MAX_CHARS or sum(map(len, texts)) > 4 * MAX_CHARS:
        raise TooLarge
    texts, drawn = _without_categories(texts, held.drawn) if held.drawn else (texts, set[str]())
    whole = "\n".join(held.texts)
    rest, others = less_common_lines(whole, "\n".join(texts))
    expected = Counter(words(rest))
    for group in held.alike:
        expected.update(_greatest(group))
    expected.update(dict.fromkeys(set(words("\n".join(held.once))) - drawn, 1))
    if not expected and not held.opaque and not held.numbers:
        return 0
    found = Counter(words(others))
    with_numbers, other_texts = "\n".join(texts), whole
    if held.numbers and held.is_sheet:
        with_numbers, other_texts, hiding = _without_cells(texts, held)
        _take(found, hiding)
    names = _repeated_names(texts, held.texts) if held.is_sheet else Counter[str]()
    for name, count in names.items():
        _take(found, Counter(words(name) * count))
    missing = {word: count - had for word, count in expected.items() if count > (had := found[word])}
    lost = sum(missing.values())
    lost_numbers = 0
    if held.numbers:
        share = max(0.0, 1 - lost / max(1, len(words(other_texts))))
        lost_numbers = completeness_numbers.lost_words(
            held.numbers, with_numbers, other_texts, share, has_dates=held.has_dates, names=names
        )
    if not lost and not held.opaque and not lost_numbers:
        return 0
    if held.opaque:  # words whose letters the count does not know may be any that are left
        lost += max(0, held.opaque - (found.total() - (expected.total() - lost)))
    total = len(words(whole)) + held.opaque + sum(count * shown for (_, shown, _), count in held.numbers.items())
    least = least_said(total)
    if lost + lost_numbers >= least:
        lost -= rejoined(missing, found - expected)
    return lost + lost_numbers if lost + lost_numbers >= least else 0


def _repeated_names(read: Sequence[str], held: Sequence[str]) -> Counter[str]:
    """The names of columns that stand before their values, as often as they are not in the document: they would hide a
    loss of the same words."""
    names = Counter(name for text in read for name in _NAME.findall(text))
    cells = Counter(line.strip() for text in held for line in text.split("\n"))
    values: Counter[str] = Counter()
    if any(cells[name] > 1 for name in names):
        values.update(cell.strip() for text in read for cell in _CELL_END.split(_NAME.sub("", text)))
    numbers = {name for name in names if name not in cells and _DIGIT.search(name)}  # of cells, not among the texts
    lines = [set(_NAME.findall(line)) for text in read for line in text.split("\n")] if numbers else []
    for name in names:
        if name in numbers:  # one for each table
            names[name] -= sum(1 for line, before in zip(lines, [set(), *lines], strict=False) if name in line - before)
        else:
            names[name] -= max(0, cells[name] - values[name])
    names.subtract(name for text in held if ": " in text for name in _NAME.findall(text))
    return +names


def _without_categories(read: Sequence[str], drawn: Mapping[tuple[str, ...], int]) -> tuple[list[str], set[str]]:
    """What was read without the lines that say the categories of charts, which would hide a loss of cells that hold the
    same; and the words of these lines. Charts come after the cells of their sheet."""
    left: Counter[tuple[str, ...]] = Counter()
    for categories, count in drawn.items():
        left[tuple(words("\n".join(categories)))] += count
    said: set[str] = set()
    kept = []
    for text in reversed(read):
        lines = []
        for line in reversed(text.split("\n")):
            if "; " in line and left[key := tuple(words(line))] > 0:
                left[key] -= 1
                said.update(key)
            else:
                lines.append(line)
        kept.append("\n".join(reversed(lines)))
    return kept[::-1], said


def _without_cells(read: Sequence[str], held: Held) -> tuple[str, str, Counter[str]]:
    """What was read without the texts of cells and charts, whose numbers are no numbers of cells; the texts of cells
    that were not found in it; and the words of cells that are numbers, which are no words of texts."""
    cells = Counter(" ".join(cell.split()) for text in held.texts for cell in _CELL_END.split(text) if _has_digit(cell))
    drawn = set(words("\n".join(held.once)))
    kept: list[str] = []
    numbers: list[str] = []
    for cell in _CELL_END.split("\n".join(read)):
        if _has_digit(cell):
            name, colon, value = cell.partition(": ") if ": " in cell else ("", "", cell)
            for place, one in enumerate((cell, value)):
                if cells[key := " ".join(one.split())] > 0:
                    cells[key] -= 1
                    cell = (name + colon) if place else ""
                    break
            else:
                beside = [word for word in words(value) if not word.isdigit()] if drawn else []
                if beside and drawn.issuperset(beside):
                    continue
                if completeness_numbers.is_number(value):
                    numbers.append(value)
        kept.append(cell)
    left = "\n".join(cell for cell, count in (+cells).items() for _ in range(count))
    return "\n".join(kept), left, Counter(words("\n".join(numbers)))


def _has_digit(text: str) -> bool:
    return _DIGIT.search(text) is not None


def _take(found: Counter[str], others: Counter[str]) -> None:
    """Take these words from those that were found."""
    for word, count in others.items():
        found[word] = max(0, found[word] - count)


_NAME = re.compile(r"(?:^|(?<=; ))([^:;\n|]{1,120}): ", re.M)
_DIGIT = re.compile(r"\d")
_CELL_END = re.compile(r"; |[\n|]")


def _compare_pages(glyphs: Glyphs, read: Sequence[tuple[str, str]]) -> int:
    """Pages are compared letter by letter: where words end is a matter of their places, in which readers differ."""
    texts: dict[int, list[str]] = {}
    for label, text in read:
        if found := _PAGE.match(label):
            texts.setdefault(int(found[1]), []).append(text)
    lost = 0.0
    for number, text in glyphs.texts.items():
        others = "\n".join(texts.get(number, ()))
        if b"".join(letters_of_lines(text)) != b"".join(letters_of_lines(others)):
            others = _COMMENT.sub("", others)  # whose letters would hide some that are lost
            expected, found_words = words(_bare(text)), words(_bare(others))
            missing = Counter("".join(expected)) - Counter("".join(found_words))
            apart = Counter(expected) - Counter(found_words)  # missing, or parted elsewhere: the letters tell
            letters = sum(len(word) * count for word, count in apart.items())
            lost += apart.total() * missing.total() / max(1, letters)
    lost *= glyphs.count / max(1, len(glyphs.texts))
    if lost < LEAST_WORDS:
        return 0
    total = sum(len(words(text)) for text in glyphs.texts.values()) * glyphs.count // max(1, len(glyphs.texts))
    return round(lost) if lost > LEAST_SHARE * total else 0


def _bare(text: str) -> str:
    """Letters without accents, which may be drawn apart from them."""
    if text.isascii():
        return text
    return _MARK.sub("", unicodedata.normalize("NFKD", text)).replace("\u0131", "i")


_COMMENT = re.compile(r"\[Comment(?: by [^:\n]*)?: ")
_MARK = re.compile("[\u0300-\u036f]")
_PAGE = re.compile(r"Page (\d+)(?: >|$)")


def _greatest(texts: Iterable[str]) -> Counter[str]:
    """The words of texts of which each may say the same as another, such as headers."""
    found: Counter[str] = Counter()
    for text in texts:
        found |= Counter(words(text))
    return found


def _count_mail(source: Source) -> Held:
    held = Held()
    first = source.file.readline(MAX_LENGTH_LINE).strip()
    if first.isdigit():  # a message of Apple Mail: its length, itself, and a property list
        message = email.message_from_bytes(source.file.read(int(first)))
    else:
        source.file.seek(0)
        message = email.message_from_binary_file(source.file)
    held.texts.extend(_message(message))
    return held


def _count_mailbox(source: Source) -> Held:
    held = Held()
    data = source.file.read(MAX_MAILBOX_BYTES + 1)
    if len(data) > MAX_MAILBOX_BYTES:
        raise TooLarge
    for one in _FROM_LINE.split(data)[1:]:
        held.texts.extend(_message(email.message_from_bytes(one)))
    return held


_FROM_LINE = re.compile(rb"(?:\A|\n\r?\n)From [^\n]*\n")


def _message(message: Message) -> Iterator[str]:
    """What it is about, who wrote it to whom and when, and its body."""
    for name in _FIELDS:
        value = str(message.get(name) or "")
        if len(value) > MAX_HEADER_CHARS:
            continue
        with suppress(ValueError, LookupError):  # of a charset that is none
            value = str(make_header(decode_header(value)))
        if value.strip():
            yield f"{name}: {' '.join(value.split())}"
    yield from _body(message)


_FIELDS = ("Subject", "From", "To", "Cc", "Date")


def _body(part: Message) -> Iterator[str]:
    """The text of the body: attachments and messages inside are documents of their own."""
    kind = part.get_content_type()
    if part.is_multipart():
        inner = [one for one in part.get_payload() if isinstance(one, Message)]
        if kind == "multipart/alternative":
            plain = [one for one in inner if one.get_content_type() == "text/plain"]
            inner = plain[:1] or [one for one in inner if one.get_content_type() != "text/html"][:1] or inner[:1]
        if kind.startswith("message/") and kind != "message/external-body":
            if kind != "message/rfc822":  # a report of a mail server: fields
                yield from (f"{name}: {value}" for one in inner for name, value in one.items())
            inner = []
        for one in inner:
            yield from _body(one)
    elif kind.startswith("multipart/"):  # without the boundary that it says
        yield _PART_HEAD.sub("", str(part.get_payload()))
    elif kind in ("text/plain", "text/html", "text/rfc822-headers") and part.get_content_disposition() != "attachment":
        data = part.get_payload(decode=True)
        if isinstance(data, bytes) and part.get_filename() is None:
            text = _decode(data, part.get_content_charset())
            yield encoded.strip(html_text(text) if kind == "text/html" else text)[0]


_PART_HEAD = re.compile(r"^--.*|^Content-[\w-]+:.*(?:\n[ \t].*)*", re.M | re.I)


def _decode(data: bytes, charset: str | None) -> str:
    for one in (charset, "utf-8"):
        try:
            return data.decode(one or "ascii")
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("ascii", "ignore")


def _count_text(source: Source) -> Held:
    """A file that is text and nothing else."""
    data = source.file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise TooLarge
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    elif b"\0" in data or b"\x1b$" in data:
        return Held()  # of an encoding whose bytes may look like others' letters
    else:
        text = binary.decode_unknown(data)
    return binary.parted(encoded.strip(text)[0])


_COUNTERS: Mapping[str, Callable[[Source], Held]] = {
    **completeness_xml.COUNTERS,
    **binary.COUNTERS,
    "msg": count_msg,
    "email": _count_mail,
    "mbox": _count_mailbox,
    "text": _count_text,
}
