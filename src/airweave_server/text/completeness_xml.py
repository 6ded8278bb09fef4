"""What documents of XML hold as text: a count for ``completeness``, by regular expressions that take linear time, which
knows nothing of the readers."""

import html
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from .completeness_held import Held, Source, TooLarge
from .completeness_numbers import BUILTIN
from .kept import place

MAX_REPEATED = 1_000  # of a cell that stands several times
MAX_PARTS_BYTES = 24 * 1024 * 1024  # of all parts that are counted; of larger documents nothing is said


class _Archive:
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
        return _decode_xml(data)


def _decode_xml(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def _elements(names: str) -> re.Pattern[str]:
    """The beginnings of elements of these names."""
    return re.compile(rf"<({names.replace(' ', '|')})(?=[\s>])[^>]*>")


def _count_openxml(source: Source) -> Held:
    held, form = Held(), source.form
    archive = _Archive(source)
    related = _related(archive, _MAIN[form])
    described: set[str] = set()
    for name in archive.names:
        kind = next((kind for kind, pattern in _KINDS if pattern.fullmatch(name)), None)
        if kind == "chart" and form != "xlsx":
            _count_chart(archive.read(name), held)
        elif kind == "chart":  # whose numbers and categories are in cells
            data = archive.read(name)
            categories = [tuple(_CHART_VALUE.findall(one)) for kind, one in _CHART_DATA.findall(data) if kind == "cat"]
            held.drawn.update(tuple(map(_unescape, one)) for one in set(categories) if one)
            found = _CHART_TEXT.findall(data)
            held.once.extend(_unescape(one) for one in found if not _NUMBER.fullmatch(one))
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
_GONE = _elements("mc:Fallback w:moveFrom")
_DELETED = _elements("w:tr w:r")  # a deleted row, and a prompt that nobody has replaced
_FLOATING = _elements("a:fld p:sp")
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
    data = _without(data, _FILTERED)
    held.texts.append("".join(_texts(data, "a:")[0]))
    seen = set()
    for kind, inside in _CHART_DATA.findall(data):
        if kind in _CATEGORIES:
            if (key := _FORMULA.sub("", inside)) in seen:
                continue
            seen.add(key)
        code = _unescape(found[1]) if (found := _CHART_FORMAT.search(inside)) else "General"
        for value in _CHART_VALUE.findall(inside):
            if "<c:num" in inside and (number := _as_number(value)) is not None:
                held.add_number(number, code)
            else:
                held.texts.append(_unescape(value))


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
                texts, _ = _texts(_without(shape, _FLOATING, _CONDITIONS), "a:")
                held.alike[group].append(_unescape("".join(texts)))


_FURNITURE_KINDS = ('type="ftr"', 'type="hdr"', 'type="dt"')


def _descriptions(data: str, described: set[str]) -> Iterator[str]:
    """What is written for those who cannot see a picture. ``described``: those of a text document, each said once."""
    data = _without(data, _GONE) if "<mc:Fallback" in data else data
    if is_document := "<wp:docPr " in data:
        elements = data.split("<wp:docPr ")[1:]
    else:
        elements = [one for one in data.split("nvPicPr>")[1:] if "cNvPr " in one[:60]]
    for one in elements:
        for text in dict.fromkeys(_unescape(text) for text in _DESCRIPTION.findall(one.partition(">")[0])):
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
            data = _without(data, _GONE)
        if "PlaceholderText" in marks or "<w:trPr>" in marks:
            data = _without(data, _DELETED, _CONDITIONS)
        if "<a:fld" in marks or "<p:ph" in marks:
            data = _without(data, _FLOATING, _CONDITIONS)
        found, marks = _texts(data, main)
    for prefix in _BREAKS:
        if prefix != main and (f"<{prefix}t>" in marks or f"<{prefix}t " in marks):
            found += _texts(data, prefix)[0]
    text = _unescape("".join(found))
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


def _without(data: str, elements: re.Pattern[str], conditions: Mapping[str, re.Pattern[str]] = {}) -> str:
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


def _related(archive: _Archive, part: str) -> set[str]:
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


def _count_cells(archive: _Archive, held: Held) -> None:
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
                    held.texts.extend([_unescape(value)] * min(count, 100_000))
                elif kind == "b":
                    held.texts.extend([_TRUTHS.get(value.strip(), "")] * min(count, 100_000))
                elif kind == "n" and (number := _as_number(value)) is not None:
                    style = int(found[1]) if (found := _STYLE.search(attributes)) else 0
                    held.add_number(number, codes[style] if style < len(codes) else "General", count)
            held.texts.extend(_unescape(_TAG.sub("", one)) for one in _INLINE.findall(data))
    if "xl/sharedstrings.xml" in parts:
        strings = _without(archive.read(parts["xl/sharedstrings.xml"]), _PHONETIC)
        for index, one in enumerate(re.split(r"<(?:\w+:)?si(?:\s*/)?>", strings)[1:]):
            if (count := uses[str(index)]) > 0:
                held.texts.extend([_openxml_text(one)] * min(count, 100_000))


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _codes(archive: _Archive) -> list[str]:
    """The code of the format of each style."""
    if "xl/styles.xml" not in archive.names:
        return []
    data = archive.read("xl/styles.xml")
    custom = {}
    for one in _FORMAT.findall(data):
        if (id := _FORMAT_ID.search(one)) and (code := _FORMAT_CODE.search(one)):
            custom[int(id[1])] = _unescape(code[1])
    styles = data.partition("cellXfs")[2].partition("cellXfs>")[0]
    ids = [int(found[1]) if (found := _XF_FORMAT.search(one)) else 0 for one in _XF.findall(styles)]
    return [custom.get(id, BUILTIN.get(id, "General")) for id in ids]


_TAG = re.compile(r"<[^>]*>")
_PHONETIC = _elements("rPh")


def _count_opendocument(source: Source) -> Held:
    held, file = Held(is_sheet=source.form == "ods"), source.file
    if file.read(2) != b"PK":
        file.seek(0)
        held.texts.append(_opendocument_text(_decode_xml(file.read(MAX_PARTS_BYTES))))
        return held
    archive = _Archive(source)
    held.texts.append(_opendocument_text(archive.read("content.xml")))
    for name in archive.names if "content.xml" in archive.names else ():
        if _ODF_OBJECT.fullmatch(name) and "<office:chart" in (data := archive.read(name)):
            held.texts.append(_opendocument_chart(data, has_cells=source.form == "ods"))
    if source.form == "odt" and "styles.xml" in archive.names:
        masters = archive.read("styles.xml").partition("<office:master-styles")[2]
        held.alike[0].extend(_opendocument_text(one) for one in _FURNITURE.findall(masters))
    return held


_FURNITURE = re.compile(r"<style:(?:header|footer)[\w-]*>(?:[^<]|<(?!/style:(?:header|footer)))*")
_ODF_GONE = _elements(
    "text:tracked-changes table:tracked-changes table:content-validations office:binary-data office:scripts "
    "office:master-styles office:chart dc:date dc:creator meta:date-string meta:creator-initials "
    "loext:sender-initials svg:title svg:desc math math:math text:note-citation text:page-number text:page-count "
    "text:date text:time table:covered-table-cell"
)
_ODF_BREAK = re.compile(r"/?text:(?:p|h)\b|text:(?:tab|line-break|s)\b")
_ODF_TEMPLATES = re.compile(r"<text:([\w-]+-source)\b(?:[^<]|<(?!/text:\1>))*")


_ODF_OBJECT = re.compile(r"[^/]+/content\.xml")
_ODF_CELLS = _elements("table:table")


def _opendocument_chart(data: str, *, has_cells: bool) -> str:
    """The titles of a chart, and its numbers unless they are in cells of the document."""
    data = _without(data[data.find("<office:body") :], _ODF_CHART_GONE)
    return _unescape(_without_tags(_without(data, _ODF_CELLS) if has_cells else data, _ODF_BREAK))


_ODF_CHART_GONE = _elements("svg:title svg:desc draw:g")


def _repeated_cells(data: str) -> str:
    """The cells with text that stand several times, without the first time."""
    found = []
    for one in _ODF_REPEATED.finditer(data):
        end = data.find("</table:table-cell>", one.end())
        found.append(data[one.end() : max(end, one.end())] * min(int(one[1]) - 1, MAX_REPEATED))
    return "".join(found)


_ODF_REPEATED = re.compile(r'table:number-columns-repeated="(\d{1,6})"[^<>]*(?<!/)>')


def _opendocument_text(data: str) -> str:
    body = data.find("<office:body")
    data = data[body:] if body >= 0 else data
    data = _without(data, _ODF_GONE)
    if "-columns-repeated" in data:
        data += _repeated_cells(data)
    if "-source" in data:
        data = _ODF_TEMPLATES.sub("", data)
    return _unescape(_without_tags(data, _ODF_BREAK))


def _without_tags(data: str, breaks: re.Pattern[str]) -> str:
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


def _unescape(text: str) -> str:
    return html.unescape(text) if "&" in text else text


_HIDDEN = _elements("script style head title template svg")
_BLOCKS = (
    r"/?(?:p|div|br|h\d|li|ul|ol|table|tr|td|th|thead|tbody|section|article|aside|header|footer|figure|figcaption|"
    r"blockquote|pre|hr|dt|dd|dl|img|option|body)\b"
)
_BLOCK = re.compile(rf"<{_BLOCKS}[^>]*>", re.I)
_BLOCK_BREAK = re.compile(_BLOCKS, re.I)


def html_text(data: str) -> str:
    data = _without(_COMMENT.sub("", data), _HIDDEN)
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
    archive = _Archive(source)
    for name in archive.names:
        if name.lower().endswith((".xhtml", ".html", ".htm")):
            data = archive.read(name)
            if "<nav" not in data:  # the table of contents says what the chapters say
                data = _in_lines(_without(_COMMENT.sub("", data), _HIDDEN))
                held.texts.append(html.unescape(_without_tags(data, _BLOCK_BREAK)))
    return held


COUNTERS: Mapping[str, Callable[[Source], Held]] = {
    **dict.fromkeys(("docx", "pptx", "xlsx"), _count_openxml),
    **dict.fromkeys(("odt", "ods", "odp", "odg"), _count_opendocument),
    "epub": _count_epub,
}
