"""What is read of a document: text, what is left out of it, and the documents inside it. Knows no format."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from .spool import SpooledText

Kind = Literal["text", "markdown", "html", "json", "csv", "code"]

MAX_DEPTH = 4  # of nested archives and messages
MAX_PLACES = 20  # that one ``LeftOut`` names
DESCRIBED = 3  # of them, and of their places, in a line for people
# What may be left out of a text, and how a person is told. The words are part of the API: add, never rename.
WHAT = {
    "attachment": "an attachment is not read",
    "chapter": "a chapter is missing",
    "damaged": "it is damaged",
    "documents": "a document inside is not read",
    "encoding": "the encoding is a guess",
    "encoded": "encoded bytes are not read",
    "encrypted": "it is encrypted",
    "formula": "a formula is not read",
    "image": "an image is not read",
    "member": "a file in it is not read",
    "object": "an embedded object is not read",
    "ocr": "read by OCR, so characters may be others",
    "page": "a page cannot be read",
    "page_without_text": "no text layer",
    "rest": "what comes after it is not read",
    "too_deep": "it is nested too deeply",
    "too_large": "it is too large",
    "words": "words are not read",
}

COMPLETE = ("encoded", "encoding", "image", "ocr")  # said, but no words are known to be missing


class Unparseable(Exception):
    """The bytes should contain text but cannot be read: the entity is ``failed``, with this message as the reason."""


class Refused(Exception):
    """The document has no text for us, for this reason. This is not a failure."""


class Deadline:
    """When to stop reading a document, so that what was read of it is kept. None of ``seconds``: never."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds or 0.0
        self.ends_at = math.inf if seconds is None else time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() > self.ends_at

    def left_out(self, *where: str) -> "LeftOut":
        return LeftOut("rest", where, note=f"what comes after {self._seconds:g} s of reading")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of a document that is not in its text.

    ``what``: a word of ``WHAT``. ``count``: how many of it; of "words" about how many. ``where``: places in the
    document, such as "page 2" or "winmail.dat", at most ``MAX_PLACES``. ``note``: more about it, for people.
    """

    what: str
    where: tuple[str, ...] = ()
    count: int = 1
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "count": self.count, "where": list(self.where), "note": self.note or None}

    def described(self) -> str:
        """For people: "page 2: no text layer", "about 120 words"."""
        is_amount = self.what == "words"
        said = self.note or (f"about {self.count:,} words" if is_amount else WHAT[self.what])
        if is_amount or not self.where:
            places = ", ".join(self.where)
            said = said if is_amount or self.count == 1 else f"{said} ({self.count:,} times)"
        else:
            more = self.count - len(self.where[:DESCRIBED])
            places = ", ".join(self.where[:DESCRIBED]) + (f" and {more:,} more" if more > 0 else "")
        return f"{places}: {said}" if places else said


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one part of a document. ``label``: the place of the part, such as "Page 3"; "" is the whole."""

    label: str
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Picture:
    """A page in gray: a byte for each pixel, row by row."""

    width: int
    height: int
    pixels: bytes


# Reads the words on a page: "" if there are none, None if no more pages of the document are read.
Recognize = Callable[[Picture], str | None]


@dataclass(frozen=True, slots=True)
class Member:
    """A document inside another one: an attachment, an embedded workbook.

    ``name``: its file name, by which its format is told where its content does not tell it. ``is_named``: its sections
    are labelled with that name. ``place``: where it is in the document, before that name.
    """

    name: str
    open: Callable[[], IO[bytes]]
    place: str = ""
    is_named: bool = True


Part = Text | LeftOut | Member


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a text that is cut into chunks separately. ``start``: the offset of its first character, in characters.
    ``label``: its place in the document, such as "Page 3", "Sheet Budget" or "reports/a.pdf > Page 3"."""

    start: int
    label: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Extracted:
    """Clean text: no NUL, no lone surrogate, and ``\\n`` ends each line.

    ``kind`` says how to chunk it. ``html`` is now Markdown-like text; ``json`` and ``csv`` are lines of ``key: value``.
    ``sections``, if there are any, cover the whole text in order. ``left_out``: what of the document is not in the
    text; empty if all of it is. ``formats``: those that were read, names of ``versions.VERSIONS``.
    ``spooled``: a text too long for memory; ``text`` is then "".
    """

    text: str
    kind: Kind
    language: str | None = None  # of code, if known
    sections: tuple[Section, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    formats: frozenset[str] = frozenset()
    spooled: SpooledText | None = None

    @property
    def chars(self) -> int:
        return self.spooled.chars if self.spooled is not None else len(self.text)

    def pieces(self) -> Iterator[str]:
        """The text in order, in pieces of any length."""
        if self.spooled is None:
            yield self.text
        else:
            yield from self.spooled


@dataclass(frozen=True, slots=True)
class NoText:
    """There is nothing to index. This is not a failure."""

    reason: str
    formats: frozenset[str] = frozenset()


def merge(left_out: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    """The same with one ``LeftOut`` for all that differ only in their place."""
    found: dict[tuple[str, str], LeftOut] = {}
    for one in left_out:
        key = one.what, one.note
        if (same := found.get(key)) is not None:
            one = LeftOut(one.what, (same.where + one.where)[:MAX_PLACES], same.count + one.count, one.note)
        found[key] = one
    return tuple(found.values())


def describe(left_out: Sequence[LeftOut]) -> str:
    """For people, in a line: "page 2: no text layer; winmail.dat: an attachment is not read; and 2 more"."""
    more = f"; and {n} more" if (n := len(left_out) - DESCRIBED) > 0 else ""
    return "; ".join(one.described() for one in left_out[:DESCRIBED]) + more
