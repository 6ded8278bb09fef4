"""Open Packaging Conventions (ECMA-376-2): the parts of an Office file, and how they refer to each other."""

import zipfile
from contextlib import suppress
from typing import IO, NamedTuple

from . import xml


class Relation(NamedTuple):
    """What a part refers to. ``kind``: the last word of its type, such as "chart"; ``target``: the name of a part, or
    an address if ``is_external``."""

    id: str
    kind: str
    target: str
    is_external: bool


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


def list_relations(archive: zipfile.ZipFile, part: str) -> list[Relation]:
    """All that a part refers to, in the order of the file; nothing if it refers to nothing."""
    with suppress(KeyError):
        return read_relations(archive.open(relations_part(part)), part)
    return []


def relations_part(part: str) -> str:
    """The name of the part that lists the relations of ``part``, or of the package if that is ""."""
    folder, _, name = part.rpartition("/")
    return f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels"


def read_relations(file: IO[bytes], part: str) -> list[Relation]:
    folder = part.rpartition("/")[0]
    found: list[Relation] = []

    def start(element: str, attributes: dict[str, str]) -> None:
        if xml.local_name(element) == "Relationship":
            kind = attributes.get("Type", "").rpartition("/")[2]
            target, is_external = attributes.get("Target", ""), attributes.get("TargetMode") == "External"
            place = target if is_external else resolve(folder, target.replace("\\", "/"))
            found.append(Relation(attributes.get("Id", ""), kind, place, is_external))

    xml.parse(file, start)
    return found


def resolve(folder: str, target: str) -> str:
    parts = [] if target.startswith("/") else folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
