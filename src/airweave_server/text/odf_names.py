"""The names of OpenDocument: of its XML, and of its formats."""

import re
from functools import cache
from typing import Literal

Form = Literal["odt", "ods", "odp", "odg"]

_OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
_PREFIXES = ("chart", "form", "meta", "office", "presentation", "script", "style", "table", "text")
_NAMESPACES = {prefix: f"{_OASIS}{prefix}:1.0" for prefix in _PREFIXES} | {
    "dc": "http://purl.org/dc/elements/1.1/",
    "draw": f"{_OASIS}drawing:1.0",
    "loext": "urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0",
    "math": "http://www.w3.org/1998/Math/MathML",
    "svg": f"{_OASIS}svg-compatible:1.0",
    "xlink": "http://www.w3.org/1999/xlink",
    "xml": "http://www.w3.org/XML/1998/namespace",
}


@cache
def name(short: str) -> str:
    """The name of an element or attribute as the XML parser gives it: ``name("text:p")``."""
    prefix, _, local = short.partition(":")
    return f"{_NAMESPACES[prefix]} {local}"


def number(value: str | None, default: int, least: int, most: int) -> int:
    """An attribute that is a whole number, within bounds."""
    if value is None:
        return default
    try:
        return min(max(int(value[:12]), least), most)
    except ValueError:
        return default


def form_of(mime: str) -> Form | None:
    """The format of a media type, those of templates and master documents included; None for others."""
    if not mime.startswith(_MIME):
        return None
    return _FORMS.get(mime.removeprefix(_MIME).partition("-")[0])


def packed_form(manifest: bytes) -> Form | None:
    """The format of a package, from its list of parts; None for others."""
    root = _ROOT.search(manifest)
    found = _MEDIA_TYPE.search(root[0]) if root else None
    return form_of(found[1].decode()) if found else None


def flat_form(head: bytes) -> Form | None:
    """The format of a file that is a single XML document, from its beginning; None for others."""
    found = _FLAT_MIME.search(head) if _FLAT.match(head) else None
    return form_of(found[1].decode()) if found else None


_MIME = "application/vnd.oasis.opendocument."
_FORMS: dict[str, Form] = {
    "text": "odt",
    "spreadsheet": "ods",
    "presentation": "odp",
    "graphics": "odg",
    "chart": "odg",
    "formula": "odg",
}
_FLAT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml[^>]{0,200}>\s*+)?(?:<!--.{0,2000}?-->\s*+)?<office:document\s", re.S
)
_FLAT_MIME = re.compile(rb"\soffice:mimetype=[\"']([a-z./-]{1,100})[\"']")
_ROOT = re.compile(rb"<[^<>]{0,500}:full-path=[\"']/[\"'][^<>]{0,500}>")
_MEDIA_TYPE = re.compile(rb":media-type=[\"']([a-z./-]{1,100})[\"']")
