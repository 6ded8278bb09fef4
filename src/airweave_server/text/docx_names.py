"""The namespaces of Word documents, transitional and strict, and the methods that handle their elements."""

from functools import cache

_TRANSITIONAL, _STRICT = "http://schemas.openxmlformats.org", "http://purl.oclc.org/ooxml"
PREFIXES = {
    f"{_TRANSITIONAL}/drawingml/2006/main": ("a",),
    f"{_STRICT}/drawingml/main": ("a",),
    f"{_TRANSITIONAL}/drawingml/2006/chart": ("c",),
    f"{_STRICT}/drawingml/chart": ("c",),
    "http://schemas.microsoft.com/office/drawing/2014/chartex": ("cx",),
    f"{_TRANSITIONAL}/drawingml/2006/diagram": ("dgm",),
    f"{_STRICT}/drawingml/diagram": ("dgm",),
    f"{_TRANSITIONAL}/officeDocument/2006/math": ("m",),
    f"{_STRICT}/officeDocument/math": ("m",),
    f"{_TRANSITIONAL}/markup-compatibility/2006": ("mc", "ve"),  # the latter in Word 2007
    "urn:schemas-microsoft-com:office:office": ("o",),
    f"{_TRANSITIONAL}/drawingml/2006/picture": ("pic",),
    f"{_STRICT}/drawingml/picture": ("pic",),
    f"{_TRANSITIONAL}/officeDocument/2006/relationships": ("r",),
    f"{_STRICT}/officeDocument/relationships": ("r",),
    "urn:schemas-microsoft-com:vml": ("v",),
    f"{_TRANSITIONAL}/wordprocessingml/2006/main": ("w",),
    f"{_STRICT}/wordprocessingml/main": ("w",),
    f"{_TRANSITIONAL}/drawingml/2006/wordprocessingDrawing": ("wp",),
    f"{_STRICT}/drawingml/wordprocessingDrawing": ("wp",),
    "http://schemas.microsoft.com/office/word/2010/wordprocessingShape": ("wps",),
}


@cache
def find_handlers(handler: type, prefix: str) -> dict[str, str]:
    """The elements that a class handles, and the method for each: ``_start_w_p`` is for ``w:p``."""
    found: dict[str, str] = {}
    for name in dir(handler):
        if name.startswith(prefix):
            space, _, local = name.removeprefix(prefix).partition("_")
            found.update((f"{known}:{local}", name) for known in _USED[space])
    return found


_USED = {usual[0]: usual for usual in PREFIXES.values()}
