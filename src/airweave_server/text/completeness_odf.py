"""What OpenDocument files hold as text: a count for ``completeness`` that knows nothing of the readers."""

import re
from collections.abc import Callable, Mapping

from .completeness_held import Held, Source
from .completeness_markup import MAX_PARTS_BYTES, Archive, decode_xml, elements, unescape_text, without, without_tags

MAX_REPEATED = 1_000  # of a cell that stands several times


def _count_opendocument(source: Source) -> Held:
    held, file = Held(is_sheet=source.form == "ods"), source.file
    if file.read(2) != b"PK":
        file.seek(0)
        held.texts.append(_opendocument_text(decode_xml(file.read(MAX_PARTS_BYTES))))
        return held
    archive = Archive(source)
    held.texts.append(_opendocument_text(archive.read("content.xml")))
    for name in archive.names if "content.xml" in archive.names else ():
        if _ODF_OBJECT.fullmatch(name) and "<office:chart" in (data := archive.read(name)):
            held.texts.append(_opendocument_chart(data, has_cells=source.form == "ods"))
    if source.form == "odt" and "styles.xml" in archive.names:
        masters = archive.read("styles.xml").partition("<office:master-styles")[2]
        held.alike[0].extend(_opendocument_text(one) for one in _FURNITURE.findall(masters))
    return held


_FURNITURE = re.compile(r"<style:(?:header|footer)[\w-]*>(?:[^<]|<(?!/style:(?:header|footer)))*")
_ODF_GONE = elements(
    "text:tracked-changes table:tracked-changes table:content-validations office:binary-data office:scripts "
    "office:master-styles office:chart dc:date dc:creator meta:date-string meta:creator-initials "
    "loext:sender-initials svg:title svg:desc math math:math text:note-citation text:page-number text:page-count "
    "text:date text:time table:covered-table-cell"
)
_ODF_BREAK = re.compile(r"/?text:(?:p|h)\b|text:(?:tab|line-break|s)\b")
_ODF_TEMPLATES = re.compile(r"<text:([\w-]+-source)\b(?:[^<]|<(?!/text:\1>))*")


_ODF_OBJECT = re.compile(r"[^/]+/content\.xml")
_ODF_CELLS = elements("table:table")


def _opendocument_chart(data: str, *, has_cells: bool) -> str:
    """The titles of a chart, and its numbers unless they are in cells of the document."""
    data = without(data[data.find("<office:body") :], _ODF_CHART_GONE)
    return unescape_text(without_tags(without(data, _ODF_CELLS) if has_cells else data, _ODF_BREAK))


_ODF_CHART_GONE = elements("svg:title svg:desc draw:g")


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
    data = without(data, _ODF_GONE)
    if "-columns-repeated" in data:
        data += _repeated_cells(data)
    if "-source" in data:
        data = _ODF_TEMPLATES.sub("", data)
    return unescape_text(without_tags(data, _ODF_BREAK))


COUNTERS: Mapping[str, Callable[[Source], Held]] = dict.fromkeys(("odt", "ods", "odp", "odg"), _count_opendocument)
