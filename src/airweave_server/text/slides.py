"""OpenDocument presentations to text."""

import zipfile
from collections.abc import Iterator
from typing import IO

from . import xml
from .parts import Part, Text


def read_odp(archive: zipfile.ZipFile) -> Iterator[Part]:
    """The text of each slide, with its notes."""
    for label, text in _read_slides(archive.open("content.xml")):
        yield Text(label, text, "markdown")


_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg", "page-number", "date-time", "footer", "header")
_TITLES = ("title", "ctrTitle")


def _read_slides(content: IO[bytes]) -> Iterator[tuple[str, str]]:
    """The (label, text) of each slide in a part of a PowerPoint file (which has one) or in an OpenDocument
    presentation."""
    slides = _Slides()
    xml.parse(content, slides.start, slides.end, slides.characters)
    for number, lines in enumerate(slides.lines):
        if lines:
            yield f"Slide {number}", "\n".join(lines)


class _Slides:
    """Handles the XML elements of both kinds of slides, which share most of their names."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]  # of each slide; the first list is for text that is on no slide
        self._shape = ""  # the purpose of the current shape
        self._held: list[str] = []  # the text of the current paragraph
        self._cells: list[str] = []
        self._paragraphs = self._rows = 0  # how many are open

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "page":
            self.lines.append([])
        elif local in ("sp", "frame"):
            self._shape = attributes.get(_CLASS, "")
        elif local == "ph":
            self._shape = attributes.get("type", "")
        elif local == "notes":
            self.lines[-1].append("\nNotes:")
        elif local in ("p", "h"):
            self._paragraphs += 1
        elif local in ("tr", "table-row"):
            self._rows += 1
        elif local in ("br", "line-break", "tab", "s"):
            self._held.append(" ")

    def end(self, name: str) -> None:
        local = xml.local_name(name)
        if local in ("p", "h"):
            self._paragraphs -= 1
            text = " ".join("".join(self._held).split())
            self._held.clear()
            if text and self._shape not in _FURNITURE:
                self._take(text)
        elif local in ("tr", "table-row"):
            self._rows -= 1
            if self._cells:
                self.lines[-1].append(f"| {' | '.join(self._cells)} |")
            self._cells.clear()
        elif local in ("sp", "frame"):
            self._shape = ""

    def characters(self, text: str) -> None:
        if self._paragraphs:
            self._held.append(text)

    def _take(self, text: str) -> None:
        if self._rows:
            self._cells.append(text.replace("|", "\\|"))
        else:
            self.lines[-1].append(f"# {text}\n" if self._shape in _TITLES else text)


_CLASS = "urn:oasis:names:tc:opendocument:xmlns:presentation:1.0 class"
