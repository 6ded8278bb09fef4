"""EPUB to text, chapter by chapter."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from . import html, opc, xml
from .charset import decode
from .parts import LeftOut, Part, Refused, Text, Unparseable

MAX_CHAPTERS = 5_000
MAX_CHAPTER_BYTES = 64 * 1024 * 1024
_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # of fonts, which say nothing
_PAGES = (".xhtml", ".html", ".htm", ".xht", ".xml")


@dataclass
class _Item:
    href: str
    type: str
    properties: str = ""


@dataclass
class _Package:
    items: dict[str, _Item] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # the ids of the chapters

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "item":
            made = _Item(attributes.get("href", ""), attributes.get("media-type", ""), attributes.get("properties", ""))
            self.items.setdefault(attributes.get("id", ""), made)
        elif local == "itemref":
            self.order.append(attributes.get("idref", ""))


def read(archive: zipfile.ZipFile) -> Iterator[Part]:
    """The chapters, in reading order. Their labels are empty: a chapter has its own title."""
    names = _Names(archive)
    path = _package_path(archive, names)
    package = _Package()
    xml.parse(archive.open(path), package.start)
    folder = path.rpartition("/")[0]
    encrypted = _encrypted(archive, names)
    chapters = _chapters(package)
    read = locked = 0
    for item in chapters[:MAX_CHAPTERS]:
        if item is None:
            yield LeftOut("chapter", note="a chapter is listed without a file")
            continue
        href = item.href.partition("#")[0]
        found = names.find(opc.resolve(folder, unquote(href)), opc.resolve(folder, href))
        if found is None:
            yield LeftOut("chapter", (href,))
        elif found in encrypted or archive.getinfo(found).flag_bits & 1:
            locked += 1
            yield LeftOut("encrypted", (href,))
        elif item.type.startswith("image/") and "svg" not in item.type:
            continue  # it is counted below
        else:
            try:
                text = _read_page(archive, found)
            except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
                yield LeftOut("chapter", (href,), note=f"a chapter is damaged: {error}"[:200])
                continue
            read += 1
            yield Text("", text, "html")
    if locked and not read:
        raise Refused("encrypted")
    if (rest := len(chapters) - MAX_CHAPTERS) > 0:
        yield LeftOut("chapter", count=rest, note=f"the chapters after {MAX_CHAPTERS:,}")
    if images := sum(item.type.startswith("image/") for item in package.items.values()):
        yield LeftOut("image", count=images)


def _chapters(package: _Package) -> list[_Item | None]:
    """Those that the book lists, then pages that it holds and does not list, such as notes. None for a chapter without
    a file. The table of contents, which repeats their titles, is none."""
    listed: list[_Item | None] = [package.items.get(id) for id in dict.fromkeys(package.order)]
    hrefs = {item.href.partition("#")[0] for item in listed if item is not None}
    extra = [
        item for item in package.items.values() if "html" in item.type and item.href.partition("#")[0] not in hrefs
    ]
    return [item for item in [*listed, *extra] if item is None or "nav" not in item.properties.split()]


def _package_path(archive: zipfile.ZipFile, names: "_Names") -> str:
    paths: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if xml.local_name(name) == "rootfile":
            paths.append(attributes.get("full-path", ""))

    container = names.find("META-INF/container.xml")
    if container is not None:
        xml.parse(archive.open(container), start)
    for path in [*paths, *(name for name in archive.namelist() if name.lower().endswith(".opf"))]:
        if (found := names.find(path.lstrip("/"), unquote(path))) is not None:
            return found
    raise Unparseable("it is damaged: an EPUB without a package")


def _encrypted(archive: zipfile.ZipFile, names: "_Names") -> set[str]:
    """The parts that are encrypted, but for fonts."""
    found: set[str] = set()
    algorithm = [""]

    def start(name: str, attributes: dict[str, str]) -> None:
        local = xml.local_name(name)
        if local == "EncryptedData":
            algorithm[0] = ""
        elif local == "EncryptionMethod":
            algorithm[0] = algorithm[0] or attributes.get("Algorithm", "")
        elif local == "CipherReference" and algorithm[0] not in _OBFUSCATION:
            uri = attributes.get("URI", "")
            if (known := names.find(unquote(uri), uri)) is not None:
                found.add(known)

    listed = names.find("META-INF/encryption.xml")
    if listed is not None:
        xml.parse(archive.open(listed), start)
    return found


class _Names:
    """The names of the files in an archive, found in whatever case the package writes them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        names = archive.namelist()
        self._names = set(names)
        self._folded = {name.casefold(): name for name in names}

    def find(self, *names: str) -> str | None:
        for name in names:
            if name in self._names:
                return name
        return next(filter(None, (self._folded.get(name.casefold()) for name in names)), None)


def _read_page(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        data = file.read(MAX_CHAPTER_BYTES)
    decoded = decode(data)
    if data and decoded is None:
        raise ValueError("it is no text")
    return html.to_text(decoded.text.removeprefix("\ufeff"), whole=True) if decoded else ""
