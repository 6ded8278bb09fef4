"""The parts of documents of XML, and what their markup holds as text, by regular expressions that take linear time."""

import html
import re
import zipfile
from collections.abc import Mapping

from .completeness_held import Source, TooLarge
from .kept import place

MAX_PARTS_BYTES = 24 * 1024 * 1024  # of all parts that are counted; of larger documents nothing is said


class Archive:
    """The parts of a document, as long as they are not too large together."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._zip = source.opened.archive or zipfile.ZipFile(source.file)
        self._kept = source.opened.archive.parts if source.opened.archive is not None else {}
        self.names = self._zip.namelist()
        self._left = MAX_PARTS_BYTES

    def read(self, name: str) -> str:
        data = self._kept.get(place(self._zip.getinfo(name)))
        if data is None:
            if self._zip.fp is None:  # its reader has closed it
                self._zip = zipfile.ZipFile(self._source.file)
            with self._zip.open(name) as part:
                data = part.read(self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge
        return decode_xml(data)


def decode_xml(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def elements(names: str) -> re.Pattern[str]:
    """The beginnings of elements of these names."""
    return re.compile(rf"<({names.replace(' ', '|')})(?=[\s>])[^>]*>")


def without(data: str, elements: re.Pattern[str], conditions: Mapping[str, re.Pattern[str]] = {}) -> str:
    """The same without the elements that begin so, or those of them whose content meets the condition."""
    kept: list[str] = []
    at = 0
    for found in elements.finditer(data):
        if found.start() < at or found[0].endswith("/>"):
            continue
        end = f"</{found[1]}>"
        stop = data.find(end, found.end())
        if stop < 0:
            break
        condition = conditions.get(found[1])
        if condition is None or condition.search(data, found.start(), stop):
            kept.append(data[at : found.start()])
            at = stop + len(end)
    return "".join([*kept, data[at:]])


def without_tags(data: str, breaks: re.Pattern[str]) -> str:
    """The text of XML, with a line end for each tag that begins as ``breaks`` say."""
    found: list[str] = []
    told: dict[str, bool] = {}  # few tags are different
    for one in data.split("<"):
        tag, _, text = one.partition(">")
        if (is_break := told.get(tag)) is None:
            is_break = told[tag] = breaks.match(tag) is not None
        if is_break:
            found.append("\n")
        if text:
            found.append(text)
    return "".join(found)


def unescape_text(text: str) -> str:
    return html.unescape(text) if "&" in text else text
