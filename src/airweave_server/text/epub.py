"""EPUB to text, chapter by chapter."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress

from . import opc, xml
from .extract import extract
from .parts import Extracted, Part, Text, Unparseable

MAX_CHAPTERS = 1_000
MAX_CHAPTER_BYTES = 64 * 1024 * 1024


def read(archive: zipfile.ZipFile) -> Iterator[Part]:
    """The chapters, in reading order. Their labels are empty: a chapter has its own title."""
    packages: list[str] = []
    items: dict[str, str] = {}
    order: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "rootfile":
            packages.append(attributes.get("full-path", ""))
        elif local == "item" and "html" in attributes.get("media-type", ""):
            items[attributes.get("id", "")] = attributes.get("href", "")
        elif local == "itemref":
            order.append(attributes.get("idref", ""))

    xml.parse(archive.open("META-INF/container.xml"), start)
    if not packages:
        raise Unparseable("it is damaged: an EPUB without a package")
    xml.parse(archive.open(packages[0]), start)
    folder = packages[0].rpartition("/")[0]
    for id in order[:MAX_CHAPTERS]:
        with suppress(KeyError):
            page = archive.open(opc.resolve(folder, _unquote(items[id]))).read(MAX_CHAPTER_BYTES)
            found = extract(page, filename="chapter.xhtml")
            if isinstance(found, Extracted):
                yield Text("", found.text, "html")


def _unquote(href: str) -> str:
    return re.sub("%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), href.partition("#")[0])
