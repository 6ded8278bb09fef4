"""Rich Text Format (RTF 1.9.1) to text, in one pass: what the pages show, notes, comments, and what is embedded."""

import re
from collections.abc import Iterator
from typing import IO

from . import html, rtf_groups, rtf_html, rtf_words
from .parts import LeftOut, Part, Text, Unparseable
from .rtf_reader import Reader

START = re.compile(rb"(?:\xef\xbb\xbf)?[\s\0]*+\{\s*+\\u?rtf")


def read(file: IO[bytes]) -> Iterator[Part]:
    """The text of the document, then the documents that are embedded in it."""
    data = file.read()
    if not START.match(data):
        raise Unparseable("it is damaged: it does not start like RTF")
    if rtf_html.has_html(data):
        yield Text("", html.to_text(rtf_html.to_html(data)), "html")
        return
    reader = Reader(data, rtf_groups.GROUPS, rtf_words.WORDS)
    reader.run()
    text = reader.text()
    if reader.is_cut and not text:
        raise Unparseable("it is damaged or cut short")
    yield Text("", text, "markdown")
    yield from reader.others
    if reader.is_cut:
        yield LeftOut("rest", note="the rest: it is cut short")
