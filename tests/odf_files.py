"""OpenDocument files from literal XML."""

import io
import re

import formats
from airweave_server.text import documents
from airweave_server.text.parts import Extracted, NoText

_OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
_PREFIXES = ("chart", "form", "meta", "office", "presentation", "style", "table", "text")
NAMESPACES = " ".join(
    [f'xmlns:{one}="{_OASIS}{one}:1.0"' for one in _PREFIXES]
    + [
        f'xmlns:draw="{_OASIS}drawing:1.0"',
        f'xmlns:svg="{_OASIS}svg-compatible:1.0"',
        'xmlns:dc="http://purl.org/dc/elements/1.1/"',
        'xmlns:loext="urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0"',
        'xmlns:math="http://www.w3.org/1998/Math/MathML"',
        'xmlns:xlink="http://www.w3.org/1999/xlink"',
        'xmlns:x="urn:of-nobody"',
    ]
)
_BODIES = {"odt": "text", "ods": "spreadsheet", "odp": "presentation", "odg": "drawing", "chart": "chart"}
_MIMES = {"odt": "text", "ods": "spreadsheet", "odp": "presentation", "odg": "graphics"}


def content(body: str, *, form: str = "odt", styles: str = "") -> bytes:
    """The content.xml of a document."""
    return (
        f"<office:document-content {NAMESPACES}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{_BODIES[form]}>{body}</office:{_BODIES[form]}></office:body></office:document-content>"
    ).encode()


def styles_part(*, styles: str = "", masters: str = "") -> bytes:
    return (
        f"<office:document-styles {NAMESPACES}><office:styles>{styles}</office:styles>"
        f"<office:master-styles>{masters}</office:master-styles></office:document-styles>"
    ).encode()


def mimetype(form: str, ending: str = "") -> bytes:
    return f"application/vnd.oasis.opendocument.{_MIMES[form]}{ending}".encode()


def package(body: str, *, form: str = "odt", styles: str = "", parts: dict[str, bytes] | None = None) -> bytes:
    """A document with these styles of its own, and other parts."""
    own = {"mimetype": mimetype(form), "content.xml": content(body, form=form, styles=styles)}
    return formats.zipped(own | (parts or {}))


def flat(body: str, *, form: str = "odt", styles: str = "") -> bytes:
    """The same as a single XML document."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<office:document {NAMESPACES} '
        f'office:mimetype="{mimetype(form).decode()}"><office:meta><dc:title>META</dc:title></office:meta>'
        f"<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{_BODIES[form]}>{body}</office:{_BODIES[form]}></office:body></office:document>"
    ).encode()


def p(text: str) -> str:
    return f"<text:p>{text}</text:p>"


def items(*texts: str) -> str:
    return "".join(f"<text:list-item>{text}</text:list-item>" for text in texts)


def ul(*texts: str, style: str = "", attributes: str = "") -> str:
    """A list with these items."""
    name = f'text:style-name="{style}"' if style else ""
    return f"<text:list {name} {attributes}>{items(*texts)}</text:list>"


def number_level(level: int, form: str, attributes: str = "") -> str:
    return f'<text:list-level-style-number text:level="{level}" style:num-format="{form}" {attributes}/>'


def bullet_level(level: int) -> str:
    return f'<text:list-level-style-bullet text:level="{level}" text:bullet-char="•"/>'


def list_style(name: str, *levels: str) -> str:
    return f'<text:list-style style:name="{name}">{"".join(levels)}</text:list-style>'


def box(text: str, attributes: str = "") -> str:
    return f"<draw:frame {attributes}><draw:text-box>{text}</draw:text-box></draw:frame>"


def read(data: bytes) -> Extracted:
    found = documents.read(io.BytesIO(data), filename="a")
    assert isinstance(found, Extracted), found
    return found


def refused(data: bytes) -> NoText:
    found = documents.read(io.BytesIO(data), filename="a")
    assert isinstance(found, NoText), found
    return found


def said(body: str, *, form: str = "odt", styles: str = "", parts: dict[str, bytes] | None = None) -> str:
    """The text of a document, without the white space around it."""
    return read(package(body, form=form, styles=styles, parts=parts)).text.strip()


def sections(data: bytes) -> dict[str, str]:
    """The text of each section, by its label."""
    found = read(data)
    ends = [section.start for section in found.sections[1:]] + [len(found.text)]
    texts: dict[str, str] = {}
    for section, end in zip(found.sections, ends, strict=True):
        texts[section.label] = texts.get(section.label, "") + found.text[section.start : end]
    return {label: re.sub(r"\n\n\Z", "", text) for label, text in texts.items()}
