"""Plain paragraphs of a Word document, found in its bytes and taken as they are, in a fraction of the time of a parse.

Most of a document is paragraphs whose runs hold nothing but text and properties that are not read. Expressions of
linear time find them; all else is parsed, and so is what looks plain but has characters that a parser must judge.
Only for parts in UTF-8 with the usual prefixes, and without comments and CDATA.
"""

import re
from collections.abc import Iterable

_ATTRIBUTES = r'(?: [A-Za-z0-9_:]{1,40}="[^"<&]*+")*+'
_EMPTY = r"<[A-Za-z0-9_:]{1,40}" + _ATTRIBUTES + r"/>"
# Elements without content that are not read: among runs, before the text of a run, of paragraphs and of cells.
_MARK = re.compile(r"<w:(?:proofErr|bookmarkStart|bookmarkEnd|permStart|permEnd)" + _ATTRIBUTES + r"/>")
_BEFORE_TEXT = r"<w:lastRenderedPageBreak/>"
_OF_PARAGRAPH = (
    r"(?:<w:(?:adjustRightInd|autoSpaceDE|autoSpaceDN|bidi|cnfStyle|contextualSpacing|ind|jc|keepLines|keepNext|"
    r"kinsoku|mirrorIndents|overflowPunct|pageBreakBefore|shd|snapToGrid|spacing|suppressAutoHyphens|"
    r"suppressLineNumbers|textAlignment|topLinePunct|widowControl|wordWrap)" + _ATTRIBUTES + r"/>)*+"
)
_OF_ITS_END = r"(?:<w:(?!del[ />]|moveFrom[ />])[A-Za-z0-9_]{1,40}" + _ATTRIBUTES + r"/>)*+"
_OF_CELL = r"<w:(?:cnfStyle|hideMark|noWrap|shd|tcW|textDirection|vAlign|vMerge)" + _ATTRIBUTES + r"/>"

_RUN = re.compile(
    r"<w:r" + _ATTRIBUTES + r">(?:<w:rPr>(?:" + _EMPTY + r")*+</w:rPr>|<w:rPr/>)?+(?:" + _BEFORE_TEXT + r")*+"
    r'<w:t(?: xml:space="[a-z]{1,10}")?+>'
)
_RUN_AS, _BETWEEN = "<w:r><w:t>", "</w:t></w:r><w:r><w:t>"
_CELL = re.compile(r"<w:tcPr>(?:" + _OF_CELL + r")*+</w:tcPr>")
_STYLE = r'(?:<w:pStyle w:val="([^"<&\0-\x1f\ufffe\uffff]*+)"/>)?+'
_LIST = r'(?:<w:numPr>(?:<w:ilvl w:val="([0-9]{1,4})"/>)?+<w:numId w:val="([0-9]{1,9})"/></w:numPr>)?+'
_PROPERTIES = _STYLE + _OF_PARAGRAPH + _LIST + _OF_PARAGRAPH + r"(?:<w:rPr>" + _OF_ITS_END + r"</w:rPr>)?+"
_PARAGRAPH = re.compile(
    r"<w:(?:(tc)><w:)?+p" + _ATTRIBUTES + r">(?:<w:pPr>" + _PROPERTIES + r"</w:pPr>|<w:pPr/>)?+"
    r"(?:<w:r><w:t>([^<>&\0-\x1f\ufffe\uffff]*+)</w:t></w:r>)?+</w:p>(</w:tc>)?+"
)
_FIELDS = 7
# The beginning and the style of a paragraph, level and list, text, end, and what comes after it. The first is not None
# for the first of a cell, the end for the last of it, and the text if there is a run.
Plain = tuple[str | None, str | None, str | None, str | None, str | None, str | None, str]


def split(data: bytes) -> tuple[bytes, Iterable[Plain]]:
    """A piece of a part as what comes before its first plain paragraph, and each of them. Properties of characters are
    lost."""
    try:
        text = data.decode()
    except UnicodeDecodeError:  # the parser says where
        return data, ()
    text = _RUN.sub(_RUN_AS, text)
    if "<w:proofErr" in text or "<w:bookmark" in text or "<w:perm" in text:
        text = _MARK.sub("", text)
    text = text.replace(_BETWEEN, "")
    if "<w:tcPr>" in text:
        text = _CELL.sub("", text)
    head, *parts = _PARAGRAPH.split(text)
    values = iter(parts)
    return head.encode(), zip(*[values] * _FIELDS, strict=True)


def to_xml(plain: Plain) -> str:
    """The paragraph as it may stand in the part."""
    _, style, level, list_id, text, _, _ = plain
    styled = f'<w:pStyle w:val="{style}"/>' if style is not None else ""
    leveled = f'<w:ilvl w:val="{level}"/>' if level is not None else ""
    listed = f'<w:numPr>{leveled}<w:numId w:val="{list_id}"/></w:numPr>' if list_id is not None else ""
    run = f"<w:r><w:t>{text}</w:t></w:r>" if text is not None else ""
    return f"<w:p><w:pPr>{styled}{listed}</w:pPr>{run}</w:p>"
