"""The versions of the readers, one a format: after one has risen, the next job reads anew what it has read."""

import hashlib
from collections.abc import Iterable

from .chunk import CHUNKER_VERSION

# Raise a number when other text than before is read of that format, or of "charset" when bytes that are not UTF-8
# become other characters. "none": what has no format that is read; raise it when a format is read that was not.
VERSIONS = {
    "archive": 1,
    "calendar": 1,
    "charset": 1,
    "code": 1,
    "csv": 2,
    "doc": 1,
    "docx": 1,
    "email": 2,
    "encoded": 1,
    "epub": 1,
    "html": 2,
    "image": 1,
    "json": 1,
    "link": 1,
    "markdown": 1,
    "mbox": 2,
    "msg": 2,
    "none": 2,
    "notebook": 1,
    "odg": 1,
    "odp": 1,
    "ods": 2,
    "odt": 1,
    "office_xml": 2,
    "pdf": 2,
    "ppt": 1,
    "pptx": 1,
    "rtf": 1,
    "text": 1,
    "tnef": 1,
    "xls": 2,
    "xlsb": 2,
    "xlsx": 2,
}
_CHUNKER = f"chunk-{CHUNKER_VERSION}"


def stamp(formats: Iterable[str]) -> str:
    """What the ledger keeps with an entity that was read from these formats, and cut into chunks."""
    return " ".join([_CHUNKER, *(f"{name}-{VERSIONS[name]}" for name in sorted(formats) or ["none"])])


_ALL = f"all-{hashlib.sha256(stamp(VERSIONS).encode()).hexdigest()[:12]}"
CURRENT = frozenset({*stamp(VERSIONS).split(), _ALL})  # each word that a stamp of the present readers may have
# Of all readers together: of a job, and of an entity that could not be read.
PIPELINE = f"{_CHUNKER} {_ALL}"


def is_current(stamped: str | None) -> bool:
    """Whether the readers that have read an entity are still the same."""
    return stamped is not None and CURRENT.issuperset(stamped.split())
