"""The words of office documents by a plain walk over their XML, and over what LibreOffice makes of them. Knows nothing
of the readers of this project."""

import re
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import olefile

from .likeness import Bag, bag, words
from .reference import FLAT, Reference

DIGITS, LONG = 15, 13  # that a spreadsheet keeps of a number; from here on the last may be rounded
MAX_REPEATS = 1_000  # of a cell that a sheet holds once for many


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _OpenDocument:
    """Collects the text nodes of OpenDocument XML. ``kind``: "fodt", "fods" or "fodp"."""

    def __init__(self, kind: str, *, has_charts: bool) -> None:
        self._has_charts = has_charts
        self.charts: list[str] = []
        self.headers: list[str] = []
        self.either: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.main: list[str] = []
        self.apart: list[str] = []  # boxes, notes, headers and comments, whose place in the order is free
        self.allowed: list[str] = []
        self.paragraphs: list[str] = []
        self._kind = kind
        self._in_chart = False
        self._inside = False  # an embedded object
        self._deletions: set[str] = set()  # the ids of deletions whose text LibreOffice leaves in its place
        self._gone = 0  # how many of them are open
        self._pivots: set[str] = set()  # sheets that have a pivot table
        self._is_pivot = False
        self.is_escaped = False  # control characters stand in cells as _x0007_

    def reference(self, reader: str) -> Reference:
        required = bag("\n".join([*self.main, *self.apart])).words
        for line in set(self.headers):
            required.update(words(line))
        for chart in self.charts:
            required.update(set(words(chart)))
        return Reference(
            Bag(required, tuple(self.either)),
            Counter(words("\n".join([*self.allowed, *self.charts, *self.headers]))) + required,
            tuple(tuple(words(one)) for one in self.paragraphs),
            (reader,),
        )

    def walk(self, node: ElementTree.Element, into: list[str], times: int = 1) -> None:
        name = _qualified(node.tag)
        if name.endswith(":tracked-changes"):
            for region in node:
                if region.find(f"{_TEXT}deletion") is not None:
                    self._deletions.add(region.get(f"{_TEXT}id", ""))
        if name in _SKIPPED or name.endswith("-source"):
            return
        if name in _SPACES:
            into.append(_SPACES[name])
            return
        if name in ("text:change-start", "text:change-end") and node.get(f"{_TEXT}change-id") in self._deletions:
            self._gone += 1 if name == "text:change-start" else -1
        if name in ("text:ruby-text", "text:note"):  # the mark of a note stands between the words beside it
            into.append(" ")
        if name == "office:chart":
            inside = _OpenDocument(self._kind, has_charts=True)
            inside._in_chart = True
            inside._children(node, inside.main, 1)
            self.allowed.extend([*inside.main, *inside.allowed])
            if self._has_charts:
                self.charts.append("\n".join(inside.main))
            return
        if name in _ALLOWED or (name in _MASTERS and self._kind != "fodt") or (name in _INSIDE and self._inside):
            into = self.allowed
        elif into is not self.allowed and (name in _HEADERS or node.get(f"{_PRESENTATION}class") in _FURNITURE_CLASSES):
            into = self.headers
        elif (
            into is not self.allowed
            and into is not self.headers
            and (name in _APART or (name in _BOXES and self._kind != "fodp"))
        ):
            into = self.apart
        if name == "office:spreadsheet":
            ranges = [one.get(f"{_TABLE}target-range-address", "") for one in node.iter(f"{_TABLE}data-pilot-table")]
            self._pivots = {one.rpartition(":")[0].rpartition(".")[0].strip("'$") for one in ranges}
        if name == "table:table":
            self._is_pivot = node.get(f"{_TABLE}name") in self._pivots
        if name == "table:table" and node.find(f"{_TABLE}table-source") is not None:
            return  # what LibreOffice keeps of another file
        if name in ("table:table-cell", "table:table-row"):
            axis = "columns" if name.endswith("cell") else "rows"
            times = min(MAX_REPEATS, times * int(node.get(f"{_TABLE}number-{axis}-repeated", 1)))
            if name == "table:table-cell":
                into = self._cell(node, into, times)
        if name in ("text:p", "text:h"):
            own = self.allowed if into is self.allowed else []
            own.append("\n")
            self._children(node, own, times)
            own.append("\n")
            if own is not self.allowed:
                line = "".join(own).strip()
                if self.is_escaped and "_x00" in line:
                    line = _CONTROL.sub(" ", line)
                if self._in_chart and _NUMBER.fullmatch(line):
                    into = self.allowed
                elif into is self.main:
                    self.paragraphs.append(line)
                into.extend([line] * times)
            return
        before, self._inside = self._inside, self._inside or name == "draw:object"
        self._children(node, into, times)
        self._inside = before

    def _cell(self, node: ElementTree.Element, into: list[str], times: int) -> list[str]:
        """Collect the value of a cell, and what it may be beside what is shown. Returns where its text goes."""
        values = [v for k in _VALUES if (v := node.get(f"{_OFFICE}{k}"))]
        self.allowed.extend([form for v in values for form in _forms(v)] * times)
        shown = "".join("".join(child.itertext()) for child in node if child.tag == f"{_TEXT}p").strip()
        if into is self.allowed:
            return into
        if _VOLATILE.search(node.get(f"{_TABLE}formula", "")):  # calculated anew, with today's date
            return self.allowed
        if _ERROR.fullmatch(shown):
            self.allowed.extend([_ERRORS] * times)
            return self.allowed
        others: list[str] = []
        date = node.get(f"{_OFFICE}date-value", "")
        if date and date < _FIRST_DAY:  # Excel counts from 0 January 1900, and has a 29 February then
            self.allowed.extend(_old_days(date) * times)
            return self.allowed
        if date and _is_american(shown, date):
            others = [date[:10]]
        elif shown in _TRUTHS:  # LibreOffice shows some results of formulas as numbers, even TRUE() as 0
            truth = "true" if node.get(f"{_TABLE}formula") == "of:=TRUE()" else _TRUTHS[shown]
            others = [truth]
            self.allowed.extend(others * times)
        elif value := node.get(f"{_OFFICE}value"):
            near = _neighbours(value)
            self.allowed.extend(near * times)
            others = ([value] if self._is_pivot or _is_rounded(shown, value) else []) + (near if shown == value else [])
        self.either.extend([(tuple(words(shown)), tuple(words(other))) for other in others] * times)
        return into

    def _children(self, node: ElementTree.Element, into: list[str], times: int) -> None:
        if node.text and not self._gone:
            into.append(_SYMBOLS.sub(" ", node.text))
        for child in node:
            if isinstance(child.tag, str):
                self.walk(child, into, times)
            if child.tail and not self._gone:
                into.append(_SYMBOLS.sub(" ", child.tail))


_PREFIXES = {
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": "text",
    "urn:oasis:names:tc:opendocument:xmlns:table:1.0": "table",
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office",
    "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0": "draw",
    "urn:oasis:names:tc:opendocument:xmlns:style:1.0": "style",
    "urn:oasis:names:tc:opendocument:xmlns:meta:1.0": "meta",
    "urn:oasis:names:tc:opendocument:xmlns:presentation:1.0": "presentation",
    "urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0": "svg",
    "urn:oasis:names:tc:opendocument:xmlns:chart:1.0": "chart",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://www.w3.org/1998/Math/MathML": "math",
    "urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0": "loext",
}
_SYMBOLS = re.compile("[\uf020-\uf0ff]")  # of a symbol font, which LibreOffice does not name
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_PRESENTATION = "{urn:oasis:names:tc:opendocument:xmlns:presentation:1.0}"
_FURNITURE_CLASSES = ("header", "footer", "date-time", "page-number")
_VALUES = ("value", "date-value", "time-value", "boolean-value", "string-value")
_NUMBER = re.compile(r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?|NaN")
_ERROR = re.compile(r"Err:\d+|#[A-Z/0-9]+[!?]?")
_ERRORS = "#NULL! #DIV/0! #VALUE! #REF! #NAME? #NUM! #N/A"  # what Excel calls what LibreOffice numbers
_CONTROL = re.compile(r"_x00[01][0-9A-Fa-f]_")
_VOLATILE = re.compile(r"\b(?:TODAY|NOW|RAND|RANDBETWEEN)\(")
_TRUTHS = {"0": "false", "1": "true"}
_SPACES = {"text:s": " ", "text:tab": "\t", "text:line-break": "\n"}
_SKIPPED = _names(
    "text:tracked-changes table:tracked-changes office:binary-data dc:date meta:date-string office:settings "
    "office:font-face-decls office:meta office:scripts office:automatic-styles office:styles math:annotation "
    "text:sequence-decls text:variable-decls text:user-field-decls draw:page-thumbnail"
)
_ALLOWED = _names(
    "dc:creator meta:creator-initials loext:sender-initials svg:title svg:desc text:note-citation text:page-number "
    "text:page-count text:page-continuation text:date text:time text:file-name text:sheet-name text:template-name "
    "text:printed-by text:print-date text:print-time text:modification-date text:modification-time "
    "text:creation-date text:creation-time text:editing-cycles text:editing-duration text:initial-creator "
    "text:creator text:author-name text:author-initials text:word-count text:paragraph-count text:character-count "
    "text:table-count text:image-count text:object-count table:covered-table-cell table:content-validations "
    "presentation:date-time-decl"
)
_MASTERS = frozenset(("office:master-styles",))
_INSIDE = frozenset(("office:spreadsheet", "office:text", "office:presentation", "office:drawing"))
_APART = frozenset(("text:note", "office:annotation"))
_HEADERS = _names(
    "style:header style:footer style:header-left style:footer-left style:header-first style:footer-first "
    "loext:header-first loext:footer-first"
)
_BOXES = _names(
    "draw:frame draw:text-box draw:custom-shape draw:g draw:rect draw:ellipse draw:polygon draw:path draw:line "
    "draw:connector draw:object table:shapes draw:circle draw:caption"
)


def _is_rounded(shown: str, value: str) -> bool:
    """Whether a cell shows its value with fewer digits because it is narrow, and not because of its format."""
    try:
        return len(value) > 10 and shown != value and abs(float(shown) / float(value) - 1) < 1e-7
    except (ValueError, ZeroDivisionError):
        return False


def _forms(value: str) -> list[str]:
    """A value as OpenDocument has it, and as people write it: 2015-12-15 22:50:08, 25:30:00, 1.5E-07."""
    if moment := re.match(r"PT(\d{5,7})H", value):  # of which only the time is shown
        return [value, (datetime(1899, 12, 30) + timedelta(hours=int(moment[1]))).isoformat(" ")]
    if _TIME.search(value):
        return [value, _TIME.sub(" ", value)]
    try:
        return [value, f"{float(value):.15g}"] if "." in value else [value]
    except ValueError:
        return [value]


_TIME = re.compile(r"(?<=\d\d)T(?=\d\d:)|^PT|(?<=\d)[HMS]")


def _old_days(date: str) -> list[str]:
    """A day before March 1900 as Excel writes it: it is at 0 January when LibreOffice is at 30 December."""
    serial = (datetime.fromisoformat(date[:10]) - datetime(1899, 12, 30)).days
    day, month = (serial, "January 1 01") if serial < 32 else (serial - 31, "February 2 02")
    return [f"1900 00 {day} {day:02} {month}"] * 2


_FIRST_DAY = "1900-03-01"


def _neighbours(value: str) -> list[str]:
    """The numbers that differ from one of 15 digits, or of 14 and a zero, by one in the last place: LibreOffice rounds
    424/543, which is 0.78084714548802946, to 0.78084714548803."""
    if sum(map(str.isdigit, value.lstrip("-0."))) < LONG or "E" in value.upper():
        return []
    number = Decimal(value)
    unit = Decimal(1).scaleb(number.adjusted() - DIGITS + 1)
    return [f"{number + step:f}".rstrip("0") for step in (unit, -unit)] if unit < 1 else []


def _is_american(shown: str, date: str) -> bool:
    """Whether it is the date as LibreOffice writes it where a file leaves the form to the reader's computer."""
    year, month, day = date[:10].split("-")
    return shown.strip() == f"{int(month)}/{int(day)}/{year}"


def _qualified(tag: str) -> str:
    space, _, local = tag[1:].rpartition("}")
    return f"{_PREFIXES.get(space, '?')}:{local}"


def read_opendocument(path: Path, form: str) -> Reference:
    """A plain walk over the XML of an OpenDocument file."""
    walk = _OpenDocument(FLAT[form], has_charts=True)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        parts = ["content.xml", *(["styles.xml"] if form in ("odt", "ods") else [])]
        parts += [name for name in names if re.fullmatch(r"Object \d+/content\.xml", name)]
        for part in parts:
            if part in names:
                walk.walk(ElementTree.fromstring(archive.read(part)), walk.main)
    return walk.reference("walk")


def read_flat(path: Path, form: str) -> Reference:
    """What LibreOffice made of a document. Its charts have names of its own for what has none: where there is XML, the
    charts are read from it."""
    walk = _OpenDocument(path.suffix[1:], has_charts=form in ("odt", "ods", "odp"))
    walk.is_escaped = form == "xlsx"
    walk.walk(ElementTree.parse(path).getroot(), walk.main)
    return walk.reference("LibreOffice")


# Parts of Office Open XML with text that is shown.
_PARTS = {
    "docx": r"word/(document\d*|header\d*|footer\d*|footnotes|endnotes|comments|charts/chart\d+|diagrams/data\d+)\.xml",
    "pptx": r"ppt/(slides/slide\d+|notesSlides/notesSlide\d+|comments/\w+|charts/chart\d+|diagrams/data\d+)\.xml",
    "xlsx": r"xl/(comments/?\w*|threadedComments/\w+|drawings/drawing\d+|charts/chart\d+|diagrams/data\d+)\.xml",
}
_GONE = frozenset(("Fallback", "moveFrom", "delText", "instrText", "delInstrText", "rPh"))
_BLANKS = {
    **{"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"},
    **{"footnoteReference": " ", "endnoteReference": " "},  # their marks stand between the words beside them
}
_LINES = frozenset(("p", "v", "si", "is", "text", "comment", "rt", "rubyBase"))
_FLOATING = ("slidenum", "datetime")
_FURNITURE = ("ftr", "hdr", "dt", "sldNum")


@dataclass(slots=True)
class _OpenXml:
    """Collects text nodes of Office Open XML. ``once``: texts each word of which is required once: of a chart, and what
    stands on every page."""

    required: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def reference(self) -> Reference:
        required = bag("".join(self.required))
        once = Counter[str]()
        for text in self.once:
            once |= Counter(dict.fromkeys(words(text), 1))
        allowed = Counter(words("\n".join([*self.allowed, *self.once])))
        both = Bag(required.words + once, required.either)
        return Reference(both, allowed + required.words, (), ("walk",))

    def walk(self, node: ElementTree.Element, into: list[str], *, is_chart: bool = False) -> None:
        name = _local(node.tag)
        if name in _GONE:
            return
        if name == "fld" and node.get("type", "").startswith(_FLOATING):
            into = self.allowed
        if name == "sp" and any(_local(one.tag) == "ph" and one.get("type") in _FURNITURE for one in node.iter()):
            found: list[str] = []
            for child in node:
                self.walk(child, found)
            self.once.append("".join(found))
            return
        if (name in _BLANKS and "wordprocessingml" in node.tag) or name == "br":
            into.append(_BLANKS.get(name, ""))
        elif name in ("t", "text") and node.text:
            into.append(_decoded(node.text) if "spreadsheetml" in node.tag else node.text)
        elif name == "v" and is_chart and node.text:
            (self.allowed if _NUMBER.fullmatch(node.text.strip()) else into).append(node.text)
        elif name == "numCache":
            self.allowed.extend(_as_shown(node))
        for child in node:
            self.walk(child, into, is_chart=is_chart)
        if name in _LINES:
            into.append("\n")


def _as_shown(numbers: ElementTree.Element) -> Iterator[str]:
    """The numbers of a chart as their format shows them, with 15 digits as programs show all, and dates of ISO 8601."""
    code = next((one.text or "" for one in numbers if _local(one.tag) == "formatCode"), "")
    code = re.sub(r'"[^"]*"|\[[^\]]*\]|\\\\.', "", code.partition(";")[0])
    for one in numbers.iter():
        with suppress(ValueError, OverflowError):
            if _local(one.tag) != "v":
                continue
            value = float(one.text or "")
            yield f"{value:.15g}"
            if re.search("[dy]", code, re.I):
                date = datetime(1899, 12, 30) + timedelta(days=value)
                yield date.strftime("%Y-%m-%d")
                yield re.sub("[dmy]+", lambda part, date=date: _date_part(date, part[0].lower()), code, flags=re.I)
            elif found := re.search(r"[#0](?:\.(0+))?(%?)", code.replace("#,##", "")):
                yield f"{value * (100 if found[2] else 1):.{len(found[1] or '')}f}"


def _date_part(date: datetime, code: str) -> str:
    if code[0] == "y":
        return date.strftime("%Y" if len(code) > 2 else "%y")
    if code[0] == "m":
        return (str(date.month), *map(date.strftime, ("%m", "%b", "%B")))[min(len(code), 4) - 1]
    return (str(date.day), *map(date.strftime, ("%d", "%a", "%A")))[min(len(code), 4) - 1]


def read_openxml(path: Path, form: str) -> Reference:
    """A plain walk over the XML of a .docx, .pptx or .xlsx file, less what is deleted and what is there twice."""
    found = _OpenXml()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        unseen = _unseen_headers(archive, names) if form == "docx" else set()
        for name in names:
            if re.fullmatch(_PARTS[form], name):
                root = ElementTree.fromstring(archive.read(name))
                if "charts/" in name or "header" in name or "footer" in name:
                    part: list[str] = []
                    found.walk(root, part, is_chart="charts/" in name)
                    (found.allowed if name in unseen else found.once).append("".join(part))
                else:
                    found.walk(root, found.required)
                    authors = [one.text or "" for one in root.iter() if _local(one.tag) == "author"]
                    said = [one.get("authorId", "") for one in root.iter() if _local(one.tag) == "comment"]
                    found.allowed.extend(
                        f"{authors[int(one)]}\n" for one in said if one.isdigit() and int(one) < len(authors)
                    )
        if form == "xlsx":
            _walk_sheets(archive, names, found)
    return found.reference()


def _unseen_headers(archive: zipfile.ZipFile, names: Sequence[str]) -> set[str]:
    """Headers and footers of pages that the settings do not have, and those that no section has."""
    main = archive.read("word/document.xml").decode("utf-8", "replace") if "word/document.xml" in names else ""
    links = "word/_rels/document.xml.rels"
    related = archive.read(links).decode("utf-8", "replace") if links in names else ""
    settings = archive.read("word/settings.xml").decode("utf-8", "replace") if "word/settings.xml" in names else ""
    kinds = {"default"}
    kinds |= {"first"} if "<w:titlePg" in main else set()
    kinds |= {"even"} if "<w:evenAndOddHeaders" in settings else set()
    shown: set[str] = set()
    for link in re.findall(r"<w:(?:header|footer)Reference\b[^>]*>", main):
        kind, id = re.search(r'w:type="(\w+)"', link), re.search(r'r:id="(\w+)"', link)
        if id and (kind is None or kind[1] in kinds):
            for one in re.findall(r"<Relationship\b[^>]*>", related):
                target = re.search(r'Target="([^"]+)"', one)
                if f'Id="{id[1]}"' in one and target:
                    shown.add("word/" + target[1].rpartition("/")[2])
    return {name for name in names if re.fullmatch(r"word/(header|footer)\d*\.xml", name)} - shown


def read_boxes(path: Path) -> list[str]:
    """The texts of boxes and comments of an Excel file before 2007, by a plain walk over its records: LibreOffice's
    conversion loses many of them."""
    with olefile.OleFileIO(path) as file:
        if not file.exists("Workbook"):
            return []
        data = file.openstream("Workbook").read()
    found: list[str] = []
    at, is_box = 0, False
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        body = data[at + 4 : at + 4 + size]
        if kind == 0x2F:  # encrypted
            return []
        if kind == 0x3C and is_box and body:
            found.append(body[1:].decode("utf-16-le" if body[0] & 1 else "cp1252", "replace"))
        is_box = kind == 0x1B6 and size > 11 and body[10:12] != bytes(2)
        at += 4 + size
    return found


def _walk_sheets(archive: zipfile.ZipFile, names: Sequence[str], found: _OpenXml) -> None:
    """Texts of cells, as often as cells show them. Numbers have formats, which LibreOffice applies."""
    shared: list[str] = []
    if "xl/sharedStrings.xml" in names:
        for one in ElementTree.fromstring(archive.read("xl/sharedStrings.xml")):
            text: list[str] = []
            found.walk(one, text)
            shared.append("".join(text))
    for name in names:
        if re.fullmatch(r"xl/worksheets/\w+\.xml", name):
            for cell in ElementTree.fromstring(archive.read(name)).iter():
                if _local(cell.tag) == "c":
                    value = "".join(one.text or "" for one in cell if _local(one.tag) == "v")
                    if cell.get("t") == "s" and value.isdigit() and int(value) < len(shared):
                        found.required.append(shared[int(value)] + "\n")
                    elif cell.get("t") == "str":
                        found.required.append(_decoded(value) + "\n")
                    elif cell.get("t") == "inlineStr":
                        found.walk(cell, found.required)
                        found.required.append("\n")
                    else:
                        found.allowed.append(value + "\n")


def _decoded(text: str) -> str:
    """A string of a sheet, where ``_x000D_`` stands for a character."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]
