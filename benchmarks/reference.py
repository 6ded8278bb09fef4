"""The words of a document as readers see them that are not ours: pdftotext, Python's email package, LibreOffice's
conversion. Knows nothing of the readers of this project."""

import email
import email.policy
import json
import mailbox
import shutil
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import environments
from .likeness import Bag, bag, words
from .server import Unfit

CONVERT_S = 120.0  # for one document; several at once get as much each
BATCH = 25
FLAT = {
    **dict.fromkeys(("docx", "doc", "odt", "rtf"), "fodt"),
    **dict.fromkeys(("pptx", "ppt", "odp"), "fodp"),
    **dict.fromkeys(("xlsx", "xls", "ods"), "fods"),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """``required``: the words that a text must have. ``allowed``: those that it may have, beside them. ``paragraphs``:
    words whose order is judged. ``readers``: who read it. ``failed``: who could not."""

    required: Bag = field(default_factory=Bag)
    allowed: Counter[str] = field(default_factory=Counter)
    paragraphs: tuple[tuple[str, ...], ...] = ()
    readers: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __or__(self, other: "Reference") -> "Reference":
        return Reference(
            self.required | other.required,
            self.allowed | other.allowed,
            self.paragraphs or other.paragraphs,
            self.readers + other.readers,
            self.failed + other.failed,
        )


def as_json(reference: Reference) -> str:
    return json.dumps(
        {
            "words": dict(reference.required.words),
            "either": reference.required.either,
            "allowed": dict(reference.allowed),
            "paragraphs": reference.paragraphs,
            "readers": reference.readers,
            "failed": reference.failed,
        }
    )


def from_json(text: str) -> Reference:
    found = json.loads(text)
    return Reference(
        Bag(Counter(found["words"]), tuple((tuple(one), tuple(other)) for one, other in found["either"])),
        Counter(found["allowed"]),
        tuple(tuple(one) for one in found["paragraphs"]),
        tuple(found["readers"]),
        tuple(found["failed"]),
    )


# LibreOffice


def convert(files: Sequence[Path], to: str, folder: Path, home: Path) -> dict[Path, Path]:
    """Convert files by LibreOffice; those that it cannot read are not in the result. ``to``: an ending, or an ending
    and a filter."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, Path] = {}
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        named = {}
        for at, file in enumerate(batch):  # names repeat
            named[file] = folder / f"{start + at:04}{file.suffix}"
            shutil.copyfile(file, named[file])
        made = {file: copy.with_suffix("." + to.partition(":")[0]) for file, copy in named.items()}
        _soffice(list(named.values()), to, folder, home)
        for file in batch:  # one that ends LibreOffice takes those after it along
            if not made[file].is_file():
                _soffice([named[file]], to, folder, home)
            if made[file].is_file():
                found[file] = made[file]
    return found


def _soffice(files: Sequence[Path], to: str, folder: Path, home: Path) -> None:
    command = ["soffice", f"-env:UserInstallation={home.as_uri()}", "--headless", "--norestore", "--convert-to", to]
    with suppress(Unfit):
        environments.run([*command, "--outdir", folder, *files], CONVERT_S * len(files) ** 0.5, "soffice")


# PDF and text


def read_pdf(path: Path, annotations: str) -> Reference:
    """What pdftotext finds, in the order of the page's content, and the texts of annotations."""
    text = environments.run(["pdftotext", "-raw", "-enc", "UTF-8", path, "-"], CONVERT_S, "pdftotext")
    lines = tuple(tuple(words(line)) for line in text.splitlines())
    return Reference(bag(text + "\n" + annotations), Counter(), lines, ("pdftotext", "annotations"))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self._hidden += tag in _HIDDEN
        self.text.append(" " if tag in _INLINE else "\n") if tag not in _GLUED else None

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN and self._hidden > 0
        if tag not in _GLUED:
            self.text.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text.append(data)


_HIDDEN = frozenset(("script", "style", "head", "title", "template", "noscript"))
_INLINE = frozenset(("img", "input"))
_GLUED = _names(
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark o:p q s samp small span strike "
    "strong sub sup tt u var wbr"
)


def html_text(html: str) -> str:
    parser = _Html()
    parser.feed(html)
    parser.close()
    return "".join(parser.text)


def read_epub(path: Path) -> Reference:
    """Text nodes of all pages of the book."""
    required: list[str] = []
    allowed: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith((".xhtml", ".html", ".htm")):
                html = archive.read(name).decode("utf-8", "replace")
                is_menu = 'epub:type="toc"' in html or "<nav" in html
                (allowed if is_menu else required).append(html_text(html))
            elif name.endswith((".opf", ".ncx")):
                allowed.append(" ".join(ElementTree.fromstring(archive.read(name)).itertext()))
    lines = tuple(tuple(words(line)) for one in required for line in one.split("\n"))
    return Reference(bag("\n".join(required)), Counter(words("\n".join(allowed))), lines, ("walk",))


def read_text(text: str, reader: str, allowed: str = "") -> Reference:
    """What another reader found."""
    if not text.strip():
        raise Unfit(f"{reader} found nothing")
    lines = tuple(tuple(words(line)) for line in text.splitlines())
    return Reference(bag(text), Counter(words(allowed)), lines, (reader,))


# Mail


def read_mail(path: Path) -> Reference:
    """What Python's email package finds: who, what and when, and each part that is text."""
    data = path.read_bytes()
    required: list[str] = []
    allowed: list[str] = []
    if path.suffix == ".mbox":
        messages = [email.message_from_bytes(one.as_bytes(), policy=email.policy.default) for one in mailbox.mbox(path)]
    else:
        messages = [email.message_from_bytes(data, policy=email.policy.default)]
    for message in messages:
        _walk_mail(message, required, allowed)
    allowed.append(data.decode("utf-8", "replace"))
    lines = tuple(tuple(words(line)) for one in required for line in one.split("\n"))
    return Reference(bag("\n".join(required)), Counter(words("\n".join(allowed))), lines, ("email",))


def _walk_mail(message: Message, required: list[str], allowed: list[str]) -> None:
    for name in ("Subject", "From", "To", "Cc"):
        with suppress(Exception):
            required.append(str(message.get(name, "")))
    required.extend(value for name, value in message.raw_items() if name.lower() == "date")
    _walk_part(message, required, allowed)


def _walk_part(part: Message, required: list[str], allowed: list[str]) -> None:
    with suppress(Exception):
        allowed.append(str(part.get_filename() or ""))
    kind = part.get_content_type()
    if kind == "message/rfc822" and (inner := _inner(part)):
        _walk_mail(inner[0], required, allowed)
    elif kind == "multipart/alternative":
        choices = _inner(part)
        plain = [one for one in choices if one.get_content_type() == "text/plain"]
        for one in choices:
            chosen = not plain or one is plain[0] or one.get_content_type() not in ("text/html", "text/plain")
            _walk_part(one, required if chosen else allowed, allowed)
    elif part.is_multipart():
        for one in _inner(part):
            _walk_part(one, required, allowed)
    elif part.get_content_maintype() == "text":
        text = _decoded(part)
        required.append(html_text(text) if kind == "text/html" else text)


def _inner(part: Message) -> list[Message]:
    found: Any = part.get_payload()
    return list(found) if part.is_multipart() else []


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return str(part.get_payload())
    for charset in (part.get_content_charset(), "utf-8", "cp1252"):
        with suppress(UnicodeDecodeError, LookupError):
            if charset:
                return data.decode(charset)
    return data.decode("latin-1")
