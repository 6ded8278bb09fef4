"""Open Packaging Conventions (ECMA-376-2): the parts of an Office file, and how they refer to each other."""

import zipfile
from contextlib import suppress

from . import xml


def relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    """The targets that a part of an Office document refers to, by id."""
    folder, _, name = part.rpartition("/")
    found: dict[str, str] = {}

    def start(element: str, attributes: dict[str, str]) -> None:
        if xml.local_name(element) == "Relationship" and attributes.get("TargetMode") != "External":
            target = attributes.get("Target", "")
            found[attributes.get("Id", "")] = resolve(folder, target)

    with suppress(KeyError):
        xml.parse(archive.open(f"{folder}/_rels/{name}.rels"), start)
    return found


def resolve(folder: str, target: str) -> str:
    parts = [] if target.startswith("/") else folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
