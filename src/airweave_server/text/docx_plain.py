"""Plain paragraphs of a Word document, found in its bytes and taken as they are, in a fraction of the time of a parse.

Most of a document is paragraphs whose runs hold nothing but text and properties that are not read. Expressions of
linear time find them; all else is parsed, and so is what looks plain but has characters that a parser must judge.
Only for parts in UTF-8 with the usual prefixes, and without comments and CDATA.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ATTRIBUTES = rb'(?: [\w:]{1,40}="[^"<&]*+")*+'
_EMPTY = rb"<[\w:]{1,40}" + _ATTRIBUTES + rb"/>"
# Elements without content that are not read: among runs, before the text of a run, of paragraphs and of cells.
_MARK = re.compile(rb"<w:(?:proofErr|bookmarkStart|bookmarkEnd|permStart|permEnd)" + _ATTRIBUTES + rb"/>")
_BEFORE_TEXT = rb"<w:lastRenderedPageBreak/>"
_OF_PARAGRAPH = (
    rb"(?:<w:(?:adjustRightInd|autoSpaceDE|autoSpaceDN|bidi|cnfStyle|contextualSpacing|ind|jc|keepLines|keepNext|"
    rb"kinsoku|mirrorIndents|overflowPunct|pageBreakBefore|shd|snapToGrid|spacing|suppressAutoHyphens|"
    rb"suppressLineNumbers|textAlignment|topLinePunct|widowControl|wordWrap)" + _ATTRIBUTES + rb"/>)*+"
)
_OF_ITS_END = rb"(?:<w:(?!del[ />]|moveFrom[ />])\w{1,40}" + _ATTRIBUTES + rb"/>)*+"
_OF_CELL = rb"<w:(?:cnfStyle|hideMark|noWrap|shd|tcW|textDirection|vAlign|vMerge)" + _ATTRIBUTES + rb"/>"

_RUN = re.compile(
    rb"<w:r" + _ATTRIBUTES + rb">(?:<w:rPr>(?:" + _EMPTY + rb")*+</w:rPr>|<w:rPr/>)?+(?:" + _BEFORE_TEXT + rb")*+"
    rb'<w:t(?: xml:space="[a-z]{1,10}")?+>'
)
_RUN_AS, _BETWEEN = b"<w:r><w:t>", b"</w:t></w:r><w:r><w:t>"
_CELL = re.compile(rb"<w:tcPr>(?:" + _OF_CELL + rb")*+</w:tcPr>")
_STYLE = rb'(?:<w:pStyle w:val="([^"<&\0-\x1f]*+)"/>)?+'
_LIST = rb'(?:<w:numPr>(?:<w:ilvl w:val="(\d{1,4})"/>)?+<w:numId w:val="(\d{1,9})"/></w:numPr>)?+'
_PROPERTIES = _STYLE + _OF_PARAGRAPH + _LIST + _OF_PARAGRAPH + rb"(?:<w:rPr>" + _OF_ITS_END + rb"</w:rPr>)?+"
_PARAGRAPH = re.compile(
    rb"<w:(?:(tc)><w:)?+p" + _ATTRIBUTES + rb">(?:<w:pPr>" + _PROPERTIES + rb"</w:pPr>|<w:pPr/>)?+"
    rb"(?:<w:r><w:t>([^<>&\0-\x1f]*+)</w:t></w:r>)?+</w:p>(</w:tc>)?+"
)
_FIELDS = 7
_NO_CHARACTER = b"\xef\xbf"  # how U+FFFE begins, which no XML may hold


class Plain(NamedTuple):
    """A paragraph, as bytes. ``text``: None if it has no run. ``opens``, ``closes``: not None if it is the first or the
    last of its cell, ``rest``: what comes after it."""

    opens: bytes | None
    style: bytes | None
    level: bytes | None
    list_id: bytes | None
    text: bytes | None
    closes: bytes | None
    rest: bytes


def split(data: bytes) -> tuple[bytes, Iterator[Plain]]:
    """A piece of a part as what comes before its first plain paragraph, and each of them. Properties of characters are
    lost."""
    data = _RUN.sub(_RUN_AS, data)
    if b"<w:proofErr" in data or b"<w:bookmark" in data or b"<w:perm" in data:
        data = _MARK.sub(b"", data)
    data = data.replace(_BETWEEN, b"")
    if b"<w:tcPr>" in data:
        data = _CELL.sub(b"", data)
    head, *parts = _PARAGRAPH.split(data)
    values = iter(parts)
    return head, map(Plain._make, zip(*[values] * _FIELDS, strict=True))


def decode(value: bytes | None) -> str:
    """Raises ``ValueError`` for bytes that a parser refuses."""
    if value is None:
        return ""
    if _NO_CHARACTER in value:
        raise ValueError
    return value.decode()


def to_xml(plain: Plain) -> bytes:
    """The paragraph as it may stand in the part."""
    style = b'<w:pStyle w:val="%b"/>' % plain.style if plain.style is not None else b""
    level = b'<w:ilvl w:val="%b"/>' % plain.level if plain.level is not None else b""
    numbered = b'<w:numPr>%b<w:numId w:val="%b"/></w:numPr>' % (level, plain.list_id) if plain.list_id else b""
    run = b"<w:r><w:t>%b</w:t></w:r>" % plain.text if plain.text is not None else b""
    return b"<w:p><w:pPr>%b%b</w:pPr>%b</w:p>" % (style, numbered, run)
