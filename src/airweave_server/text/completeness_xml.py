"""What documents of XML hold as text: a count for ``completeness``, by regular expressions that take linear time, which
knows nothing of the readers."""

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from . import completeness_odf
from .completeness_held import Held, Source
from .completeness_markup import Archive, elements, unescape_text, without, without_tags
from .completeness_numbers import BUILTIN


def _count_openxml(source: Source) -> Held:
    held, form = Held(), source.form
    archive = Archive(source)
    related = _related(archive, _MAIN[form])
    described: set[str] = set()
    for name in archive.names:
        kind = next((kind for kind, pattern in _KINDS if pattern.fullmatch(name)), None)
        if kind == "chart" and form != "xlsx":
            _count_chart(archive.read(name), held)
        elif kind == "chart":  # whose numbers and categories are in cells
            data = archive.read(name)
            categories = [tuple(_CHART_VALUE.findall(one)) for kind, one in _CHART_DATA.findall(data) if kind == "cat"]
            held.drawn.update(tuple(map(unescape_text, one)) for one in set(categories) if one)
            found = _CHART_TEXT.findall(data)
            held.once.extend(unescape_text(one) for one in found if not _NUMBER.fullmatch(one))
        elif kind == "text" or (kind == "slide" and name.rpartition("/")[2] in related):
            data = archive.read(name)
            held.texts.append(_openxml_text(data))
            if kind == "slide" and "<p:ph" in data:
                _count_furniture(data, held)
            if 'descr="' in data:
                held.texts.extend(_descriptions(data, described))
        elif kind == "furniture" and name.rpartition("/")[2] in related:
            held.alike[0].append(_openxml_text(archive.read(name)))
    if form == "xlsx":
        held.is_sheet = True
        _count_cells(archive, held)
    return held


_MAIN = {"docx": "word/_rels/document.xml.rels", "pptx": "ppt/_rels/presentation.xml.rels", "xlsx": ""}
_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("text", r"word/(?:document|footnotes|endnotes|comments)\d*\.xml|\w+/diagrams/data\d*\.xml"),
        ("furniture", r"word/(?:header|footer)\d*\.xml"),
        ("slide", r"ppt/slides/slide\d+\.xml"),
        ("text", r"ppt/(?:notesSlides/notesSlide|comments/\w+?)\d*\.xml|xl/comments\d*\.xml"),
        ("text", r"\w+/drawings/drawing\d+\.xml"),
        ("chart", r"\w+/charts/chart\d*\.xml"),
    )
)
_GONE = elements("mc:Fallback w:moveFrom")
_DELETED = elements("w:tr w:r")  # a deleted row, and a prompt that nobody has replaced
_FLOATING = elements("a:fld p:sp")
_CONDITIONS = {
    "w:tr": re.compile(r"<w:trPr>(?:[^<]|<(?!/w:trPr>))*<w:del\b"),
    "w:r": re.compile(r'<w:rStyle w:val="PlaceholderText"'),
    "a:fld": re.compile(r'type="(?:slidenum|datetime)'),
    "p:sp": re.compile(r'<p:ph\b[^>]*\btype="(?:sldNum|dt|ftr|hdr)"'),
}
_BREAKS = {
    "w:": ("</w:p>", "<w:tab/>", "<w:br", "<w:cr", "<w:txbxContent", "<w:noBreakHyphen"),
    "a:": ("</a:p>", "<a:br"),
    "m:": ("</m:oMath>",),
    "": ("</si>", "</text>", "</comment>"),
}
_ESCAPED = re.compile("_?x[0-9A-Fa-f]{4}_")
_CHART_TEXT = re.compile(r"<(?:a:t|c:v)>([^<]+)")
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+(?:[eE][-+]?\d+)?\s*")


def _count_chart(data: str, held: Held) -> None:
    """The titles of a chart, its series, their categories, which may be the same for all, and their values."""
    data = without(data, _FILTERED)
    held.texts.append("".join(_texts(data, "a:")[0]))
    seen = set()
    for kind, inside in _CHART_DATA.findall(data):
        if kind in _CATEGORIES:
            if (key := _FORMULA.sub("", inside)) in seen:
                continue
            seen.add(key)
        code = unescape_text(found[1]) if (found := _CHART_FORMAT.search(inside)) else "General"
        for value in _CHART_VALUE.findall(inside):
            if "<c:num" in inside and (number := _as_number(value)) is not None:
                held.add_number(number, code)
            else:
                held.texts.append(unescape_text(value))


_FILTERED = re.compile(r"<(c1\d:filtered\w+)(?=[\s>])[^>]*>")
_CHART_DATA = re.compile(r"<c:(tx|cat|val|xVal|yVal|bubbleSize)>((?:[^<]|<(?!/c:\1>))*)")
_CATEGORIES = ("cat", "xVal")
_FORMULA = re.compile(r"<c:f>[^<]*")
_CHART_FORMAT, _CHART_VALUE = re.compile(r"<c:formatCode>([^<]*)"), re.compile(r"<c:v>([^<]*)")


def _count_furniture(data: str, held: Held) -> None:
    """Footers and dates of slides, which may be the same on all."""
    if len(held.alike) < 2:
        held.alike.extend([[] for _ in _FURNITURE_KINDS])
    for group, kind in enumerate(_FURNITURE_KINDS, 1):
        for shape in data.split("<p:sp>")[1:] if kind in data else ():
            if kind in (shape := shape.partition("</p:sp>")[0]):
                texts, _ = _texts(without(shape, _FLOATING, _CONDITIONS), "a:")
                held.alike[group].append(unescape_text("".join(texts)))


_FURNITURE_KINDS = ('type="ftr"', 'type="hdr"', 'type="dt"')


def _descriptions(data: str, described: set[str]) -> Iterator[str]:
    """What is written for those who cannot see a picture. ``described``: those of a text document, each said once."""
    data = without(data, _GONE) if "<mc:Fallback" in data else data
    if is_document := "<wp:docPr " in data:
        elements = data.split("<wp:docPr ")[1:]
    else:
        elements = [one for one in data.split("nvPicPr>")[1:] if "cNvPr " in one[:60]]
    for one in elements:
        for text in dict.fromkeys(unescape_text(text) for text in _DESCRIPTION.findall(one.partition(">")[0])):
            if not is_document:
                yield text
            elif text not in described and not _FILE.search(text):
                described.add(text)
                yield text


_DESCRIPTION = re.compile(r'\b(?:title|descr)="([^"]*)"')
_FILE = re.compile(r"\.\w{3,4}$|[\\/]")


def _openxml_text(data: str) -> str:
    main = "w:" if "<w:" in data else "a:"
    found, marks = _texts(data, main)
    if any(one in marks for one in _SIGNS_OF_MORE):
        if "<mc:Fallback" in marks or "<w:moveFrom" in marks:
            data = without(data, _GONE)
        if "PlaceholderText" in marks or "<w:trPr>" in marks:
            data = without(data, _DELETED, _CONDITIONS)
        if "<a:fld" in marks or "<p:ph" in marks:
            data = without(data, _FLOATING, _CONDITIONS)
        found, marks = _texts(data, main)
    for prefix in _BREAKS:
        if prefix != main and (f"<{prefix}t>" in marks or f"<{prefix}t " in marks):
            found += _texts(data, prefix)[0]
    text = unescape_text("".join(found))
    return _ESCAPED.sub("\n", text) if "_" in text and "_x" in text else text


_SIGNS_OF_MORE = ("<mc:Fallback", "<w:moveFrom", "PlaceholderText", "<w:trPr>", "<a:fld", "<p:ph")


def _texts(data: str, prefix: str) -> tuple[list[str], str]:
    """What the elements "t" of a prefix hold, with line ends where paragraphs end, and all else, each mark once."""
    opening = f"<{prefix}t>"
    data = data.replace(f'<{prefix}t xml:space="preserve">', opening)
    if f"<{prefix}t " in data:
        data = re.sub(rf"<{prefix}t [^>]*>", opening, data)
    head, *rest = data.split(opening)
    parts = [one.partition("<") for one in rest]
    ends = {after: "" for _, _, after in parts}
    for after in ends:
        if any(tag in f"<{after}" for tag in _BREAKS[prefix]):
            ends[after] = "\n"
    found = [text for one, _, after in parts for text in (one, ends[after])]
    found.append("\n")
    return found, "<".join((head, *ends))


def _related(archive: Archive, part: str) -> set[str]:
    """The names of the parts that the main part refers to."""
    return set(re.findall(r'Target="[^"]*?([^"/]+)"', archive.read(part))) if part in archive.names else set()


_CELL = re.compile(
    r'<(?:\w+:)?c(?:\s+r="[A-Z]+\d+")?((?:\s[^<>]*[^<>/])?)>\s*'
    r"(?:<(?:\w+:)?f\b(?:[^<>]*/>|[^<>]*>[^<]*</(?:\w+:)?f>)\s*)?<(?:\w+:)?v(?:\s[^<>]*)?>([^<]*)"
)
_INLINE = re.compile(r't="inlineStr"[^<>]*>((?:[^<]|<(?!/(?:\w+:)?c>))*)')
_TRUTHS = {"0": "FALSE", "1": "TRUE"}
_TYPE, _STYLE = re.compile(r'\bt="(\w+)"'), re.compile(r'\bs="(\d+)"')
_XF, _XF_FORMAT = re.compile(r"<(?:\w+:)?xf\b[^>]*"), re.compile(r'\bnumFmtId="(\d+)"')
_FORMAT = re.compile(r"<(?:\w+:)?numFmt\b[^>]*")
_FORMAT_ID, _FORMAT_CODE = re.compile(r'numFmtId="(\d+)"'), re.compile(r'formatCode="([^"]*)"')


def _count_cells(archive: Archive, held: Held) -> None:
    """Texts of cells as often as cells hold them, and numbers."""
    uses: Counter[str] = Counter()
    codes = _codes(archive)
    parts = {name.lower(): name for name in archive.names}
    for lower, name in parts.items():
        if re.fullmatch(r"xl/worksheets/\w+\.xml", lower):
            data = archive.read(name)
            for (attributes, value), count in Counter(_CELL.findall(data)).items():
                kind = found[1] if (found := _TYPE.search(attributes)) else "n"
                if kind == "s":
                    uses[value.strip()] += count
                elif kind in ("str", "e"):
                    held.texts.extend([unescape_text(value)] * min(count, 100_000))
                elif kind == "b":
                    held.texts.extend([_TRUTHS.get(value.strip(), "")] * min(count, 100_000))
                elif kind == "n" and (number := _as_number(value)) is not None:
                    style = int(found[1]) if (found := _STYLE.search(attributes)) else 0
                    held.add_number(number, codes[style] if style < len(codes) else "General", count)
            held.texts.extend(unescape_text(_TAG.sub("", one)) for one in _INLINE.findall(data))
    if "xl/sharedstrings.xml" in parts:
        strings = without(archive.read(parts["xl/sharedstrings.xml"]), _PHONETIC)
        for index, one in enumerate(re.split(r"<(?:\w+:)?si(?:\s*/)?>", strings)[1:]):
            if (count := uses[str(index)]) > 0:
                held.texts.extend([_openxml_text(one)] * min(count, 100_000))


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _codes(archive: Archive) -> list[str]:
    """The code of the format of each style."""
    if "xl/styles.xml" not in archive.names:
        return []
    data = archive.read("xl/styles.xml")
    custom = {}
    for one in _FORMAT.findall(data):
        if (id := _FORMAT_ID.search(one)) and (code := _FORMAT_CODE.search(one)):
            custom[int(id[1])] = unescape_text(code[1])
    styles = data.partition("cellXfs")[2].partition("cellXfs>")[0]
    ids = [int(found[1]) if (found := _XF_FORMAT.search(one)) else 0 for one in _XF.findall(styles)]
    return [custom.get(id, BUILTIN.get(id, "General")) for id in ids]


_TAG = re.compile(r"<[^>]*>")
_PHONETIC = elements("rPh")


_HIDDEN = elements("script style head title template svg")
_BLOCKS = (
    r"/?(?:p|div|br|h\d|li|ul|ol|table|tr|td|th|thead|tbody|section|article|aside|header|footer|figure|figcaption|"
    r"blockquote|pre|hr|dt|dd|dl|img|option|body)\b"
)
_BLOCK = re.compile(rf"<{_BLOCKS}[^>]*>", re.I)
_BLOCK_BREAK = re.compile(_BLOCKS, re.I)


def html_text(data: str) -> str:
    data = without(_COMMENT.sub("", data), _HIDDEN)
    return html.unescape(_TAG.sub("", _BLOCK.sub("\n", data)))


_COMMENT = re.compile(r"<!--(?:[^-]|-(?!->))*-->")


def _in_lines(data: str) -> str:
    """XHTML with a paragraph in each line, which then is the same as that of the reader."""
    first, *others = data.split("<pre")
    kept = [_in_line(first)]
    for one in others:
        lines, end, after = one.partition("</pre>")
        kept += ["<pre", lines, end, _in_line(after)]
    return "".join(kept)


def _in_line(data: str) -> str:
    return data.replace("\n", " ").replace("\r", " ")


def _count_epub(source: Source) -> Held:
    held = Held()
    archive = Archive(source)
    for name in archive.names:
        if name.lower().endswith((".xhtml", ".html", ".htm")):
            data = archive.read(name)
            if "<nav" not in data:  # the table of contents says what the chapters say
                data = _in_lines(without(_COMMENT.sub("", data), _HIDDEN))
                held.texts.append(html.unescape(without_tags(data, _BLOCK_BREAK)))
    return held


COUNTERS: Mapping[str, Callable[[Source], Held]] = {
    **dict.fromkeys(("docx", "pptx", "xlsx"), _count_openxml),
    **completeness_odf.COUNTERS,
    "epub": _count_epub,
}
