"""What a document holds as text, in the terms of ``completeness``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO


class TooLarge(Exception):
    """The document has more than is counted."""


@dataclass(frozen=True, slots=True)
class Source:
    """The document, and the parts of its zip file that are unpacked already, by their places in it."""

    file: IO[bytes]
    form: str
    unpacked: Mapping[int, bytes]


@dataclass(slots=True)
class Held:
    """``texts``: what must have been read. ``once``: texts each word of which counts once. ``alike``: groups of texts
    of which each may say the same as the others. ``opaque``: how many words have letters that are not known."""

    texts: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)
    alike: list[list[str]] = field(default_factory=lambda: [[]])
    opaque: int = 0
