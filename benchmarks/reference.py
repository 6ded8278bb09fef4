"""The words of a document as readers see them that are not ours: pdftotext, Python's email package, LibreOffice's
conversion. Knows nothing of the readers of this project."""

import email
import email.policy
import html
import json
import mailbox
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.header import decode_header, make_header
from email.message import Message
from html.parser import HTMLParser
from itertools import pairwise
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
    """``required``: the words that a text must have. ``allowed``: those that it may have, the required ones too: of two
    readers a word may stand as often as one of them has it. ``paragraphs``: words whose order is judged. ``readers``:
    who read it. ``failed``: who could not."""

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


def _found(text: str, reader: str, allowed: str = "") -> Reference:
    """What a reader found in the order of its lines. ``allowed``: what a text may hold besides."""
    required = bag(text)
    lines = tuple(tuple(words(line)) for line in text.split("\n"))
    return Reference(required, required.words + Counter(words(allowed)), lines, (reader,))


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
    """What pdftotext finds, in the order of the page's content, and the texts of annotations.

    In that order letters that are set apart are words each: such may as well be the words that they are on the page.
    """
    command = ["pdftotext", "-raw", "-enc", "UTF-8"]
    text = environments.run([*command, path, "-"], CONVERT_S, "pdftotext")
    if 2 * len(_SWAPPED.findall(text)) > len("".join(text.split())):
        raise Unfit("pdftotext reads the two bytes of each letter in the wrong order")  # "M" as U+4D00
    found = _found(f"{text}\n{annotations}", "pdftotext")
    apart = torn(environments.run([*command, "-bbox", path, "-"], CONVERT_S, "pdftotext"))
    required = replace(found.required, either=(*found.required.either, *apart))
    return replace(found, required=required, readers=("pdftotext", "annotations"))


def torn(boxes: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Words of which each letter is a word of its own for pdftotext, which writes ``boxes``: as letters, and whole. A
    word ends at a gap that is clearly wider than others of its line."""
    for page in boxes.split("<page ")[1:]:
        run: list[tuple[str, float, float, float]] = []  # letters, with their left, right and lower edges
        for left, top, right, bottom, word in _BOX.findall(page):
            here = html.unescape(word), float(left), float(right), float(bottom)
            slack = (here[3] - float(top)) / 3
            if run and (len(here[0]) > 1 or abs(here[3] - run[-1][3]) > slack or here[1] < run[-1][2] - slack):
                yield from _whole(run)
                run = []
            if len(here[0]) == 1:
                run.append(here)
        yield from _whole(run)


_BOX = re.compile(r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">([^<]*)</word>')
_WIDER = 1.5  # how much wider than the gaps within words one between words is
_LEAST = 0.1  # points: a narrower gap is as wide


def _whole(run: Sequence[tuple[str, float, float, float]]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    gaps = [max(_LEAST, following[1] - one[2]) for one, following in pairwise(run)]
    wider, within = max(((more / less, less) for less, more in pairwise(sorted(gaps))), default=(1.0, 0.0))
    widest = within if wider > _WIDER else max(gaps, default=0.0)
    group = ""
    for (letter, *_), gap in zip(run, [*gaps, float("inf")], strict=False):
        group += letter
        if gap > widest:
            letters, whole = tuple(words(" ".join(group))), tuple(words(group))
            if letters != whole:
                yield letters, whole
            group = ""


_SWAPPED = re.compile("[" + "".join(chr(code << 8) for code in range(0x21, 0x7F)) + "]")


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


def html_text(page: str) -> str:
    parser = _Html()
    parser.feed(page)
    parser.close()
    return "".join(parser.text)


def read_epub(path: Path) -> Reference:
    """Text nodes of all pages of the book."""
    required: list[str] = []
    allowed: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith((".xhtml", ".html", ".htm")):
                page = archive.read(name).decode("utf-8", "replace")
                is_menu = 'epub:type="toc"' in page or "<nav" in page
                (allowed if is_menu else required).append(html_text(page))
            elif name.endswith((".opf", ".ncx")):
                allowed.append(" ".join(ElementTree.fromstring(archive.read(name)).itertext()))
    return _found("\n".join(required), "walk", "\n".join(allowed))


def read_text(text: str, reader: str, allowed: str = "") -> Reference:
    """What another reader found."""
    if not text.strip():
        raise Unfit(f"{reader} found nothing")
    return _found(text, reader, allowed)


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
    return _found("\n".join(required), "email", "\n".join(allowed))


def _walk_mail(message: Message, required: list[str], allowed: list[str]) -> None:
    """A message with its fields, whose names a text may hold too."""
    for name in ("Subject", "From", "To", "Cc"):
        with suppress(Exception):
            required.append(str(message.get(name, "")))
        raw = next((value for one, value in message.raw_items() if one.lower() == name.lower()), "")
        with suppress(Exception):  # with comments, "(such)", which the package drops
            allowed.append(str(make_header(decode_header(raw))))
    required.extend(value for name, value in message.raw_items() if name.lower() == "date")
    allowed.extend(("Subject", "From", "To", "Cc", "Date"))
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
    elif part.get_content_maintype() == "message" and kind != "message/external-body":  # a report of a mail server
        for one in _inner(part):
            required.extend(f"{name}: {value}" for name, value in one.items())
            _walk_part(one, required, allowed)
    elif part.is_multipart():
        allowed.extend((part.preamble or "", part.epilogue or ""))
        for one in _inner(part):
            _walk_part(one, required, allowed)
    elif part.get_content_maintype() == "multipart":  # whose parts the package does not find
        allowed.append(_decoded(part))
    elif part.get_content_maintype() == "text":
        text = _decoded(part)
        required.append(html_text(text) if kind == "text/html" else text)
        allowed.extend(_TITLE.findall(text))


_TITLE = re.compile(r"<title[^>]*>([^<]*)</title>", re.I)


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
