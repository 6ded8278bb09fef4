"""An Office file as a package of parts (ECMA-376-2), found by their relations whatever the case of their names."""

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import IO
from urllib.parse import unquote

from . import opc, xml
from .parts import LeftOut, Refused, Unparseable

# What opening and reading one part may raise; ``describe_failure`` describes it.
PART_ERRORS = (
    KeyError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    Unparseable,
    Refused,
)


class Package:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self._last: tuple[str, dict[str, opc.Relation]] | None = None  # relations are asked for several times in a row
        self._names = {name.replace("\\", "/").lstrip("/").casefold(): name for name in archive.namelist()}

    def has(self, part: str) -> bool:
        return part.casefold() in self._names

    def name(self, part: str) -> str:
        """The name of a part in the archive. Raises ``KeyError`` if there is no such part."""
        return self._names[part.casefold()]

    def open(self, part: str) -> IO[bytes]:
        """Raises ``KeyError`` if the part is missing, and ``RuntimeError`` if it is encrypted."""
        return self.archive.open(self.name(part))

    def relations(self, part: str) -> Mapping[str, opc.Relation]:
        """What a part refers to, by id; what the package itself refers to for ``""``. Empty if it cannot be read."""
        if self._last is not None and self._last[0] == part:
            return self._last[1]
        found: list[opc.Relation] = []
        with suppress(*PART_ERRORS):
            found = opc.read_relations(self.open(opc.relations_part(part)), part)
        by_id = {one.id: one if one.is_external else one._replace(target=self._existing(one.target)) for one in found}
        self._last = part, by_id
        return by_id

    def main_part(self) -> str | None:
        """The part that the package is about, such as "word/document.xml"."""
        found = (one.target for one in self.relations("").values() if one.kind == "officeDocument")
        return next(filter(self.has, found), None)

    def content_type(self, part: str) -> str:
        """The declared type of a part, or ""."""
        types: dict[str, str] = {}
        wanted = f"/{part}".casefold(), "." + part.rpartition(".")[2].casefold()

        def start(_: str, attributes: dict[str, str]) -> None:
            name = (attributes.get("PartName") or "." + attributes.get("Extension", "")).casefold()
            if name in wanted:
                types[name] = attributes.get("ContentType", "")

        with suppress(*PART_ERRORS):
            xml.parse(self.open("[Content_Types].xml"), start)
        return types.get(wanted[0]) or types.get(wanted[1], "")

    def _existing(self, target: str) -> str:
        part = target.partition("#")[0]
        return part if self.has(part) or not self.has(unquoted := unquote(part)) else unquoted


def describe_failure(error: Exception, part: str) -> LeftOut:
    """What is left out if a part cannot be read."""
    is_encrypted = type(error) is RuntimeError  # so zipfile says it
    return LeftOut("encrypted" if is_encrypted else "damaged", (part.rpartition("/")[2],))
