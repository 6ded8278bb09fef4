"""The namespaces of Word documents, transitional and strict, and the methods that handle their elements."""

from functools import cache

_TRANSITIONAL, _STRICT = "http://schemas.openxmlformats.org", "http://purl.oclc.org/ooxml"
SPACES = {
    "a": (f"{_TRANSITIONAL}/drawingml/2006/main", f"{_STRICT}/drawingml/main"),
    "c": (f"{_TRANSITIONAL}/drawingml/2006/chart", f"{_STRICT}/drawingml/chart"),
    "cx": ("http://schemas.microsoft.com/office/drawing/2014/chartex",),
    "dgm": (f"{_TRANSITIONAL}/drawingml/2006/diagram", f"{_STRICT}/drawingml/diagram"),
    "m": (f"{_TRANSITIONAL}/officeDocument/2006/math", f"{_STRICT}/officeDocument/math"),
    "mc": (f"{_TRANSITIONAL}/markup-compatibility/2006",),
    "o": ("urn:schemas-microsoft-com:office:office",),
    "pic": (f"{_TRANSITIONAL}/drawingml/2006/picture", f"{_STRICT}/drawingml/picture"),
    "r": (f"{_TRANSITIONAL}/officeDocument/2006/relationships", f"{_STRICT}/officeDocument/relationships"),
    "v": ("urn:schemas-microsoft-com:vml",),
    "w": (f"{_TRANSITIONAL}/wordprocessingml/2006/main", f"{_STRICT}/wordprocessingml/main"),
    "wp": (
        f"{_TRANSITIONAL}/drawingml/2006/wordprocessingDrawing",
        f"{_STRICT}/drawingml/wordprocessingDrawing",
    ),
    "wps": ("http://schemas.microsoft.com/office/word/2010/wordprocessingShape",),
}


@cache
def find_handlers(handler: type, prefix: str) -> tuple[tuple[str, str], ...]:
    """The elements that a class handles, and the method for each: ``_start_w_p`` is for ``p`` of WordprocessingML."""
    found = []
    for name in dir(handler):
        if name.startswith(prefix):
            space, _, local = name.removeprefix(prefix).partition("_")
            found += [(f"{uri} {local}", name) for uri in SPACES[space]]
    return tuple(found)
