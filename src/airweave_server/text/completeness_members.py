"""Which documents inside another one its reader has not met, by a plain count that knows nothing of the readers.

The count finds what a format holds as attachments, entries and embedded objects, and compares names. Where names
differ, as those of other charsets do, numbers are compared.
"""

import email
import logging
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.message import Message
from typing import IO
from xml.sax.saxutils import unescape

from ..sdk import is_private_name
from . import completeness_archives as archives
from .completeness_binary import MAX_STREAM_BYTES, storage
from .completeness_held import Opened, Source, TooLarge
from .parts import MAX_PLACES, LeftOut, Member

MAX_MAIL_BYTES = 24 * 1024 * 1024  # of a larger message or mailbox nothing is said
MAX_PART_BYTES = 8 * 1024 * 1024  # of the parts of a package that are looked through
MAX_RTF_BYTES = 64 * 1024 * 1024
MAX_HEADER_CHARS = 10_000  # decoding takes the square of it; a longer name stays as it is
MAX_NAME_CHARS = 300
_LOG = logging.getLogger(__name__)
_CUT = ("rest", "too_deep", "too_large")  # what follows is known to be left out, and said
_MET = ("attachment", "encrypted", "formula", "member", "object")  # a document is there and was not read


@dataclass(slots=True)
class Met:
    """The documents inside that a reader has met: read, or said to be left out. ``images``: so too, those of a message
    are attached to it. ``is_cut``: the reader has stopped before the end, and has said so."""

    names: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    is_cut: bool = False

    def member(self, one: Member) -> None:
        if one.is_named or one.name != _BODY:
            self.names.append(one.name)

    def left_out(self, one: LeftOut) -> None:
        self.is_cut = self.is_cut or one.what in _CUT
        if one.what in _MET or one.what == "image":
            names = self.images if one.what == "image" else self.names
            names += [place.rpartition(" > ")[2] for place in one.where]
            names += [""] * (one.count - len(one.where))


_MAILS = ("email", "mbox", "msg", "tnef")
_ARCHIVES = ("zip", "tar")  # in which files of different folders have the same name
_BODY = "message.rtf"  # of a message that has no other form: no document of its own


def missing_members(file: IO[bytes], form: str, met: Met, read: str, *, opened: Opened | None = None) -> LeftOut | None:
    """The documents inside a document that were not met, with their names if it is known which; None if all were, if
    the format is not counted, and if the count fails. ``read``: the text that was read of the document itself.
    ``opened``: what of the document is open already."""
    counter = _COUNTERS.get(form)
    if counter is None or met.is_cut:
        return None
    try:
        file.seek(0)
        held = list(counter(Source(file, form, opened or Opened()), read))
    except Exception as error:  # damaged in part, of a kind never seen, too large: its text is no worse for it
        _LOG.debug("members_not_counted: %s: %s", form, error)
        return None
    names = met.names + met.images if form in _MAILS else met.names
    return _compare(held, names, str.strip if form in _ARCHIVES else _plain)


def _compare(held: list[str], met: list[str], plain: Callable[[str], str]) -> LeftOut | None:
    """What is held more often than it was met. ``plain``: a name in the form that is compared."""
    left = Counter(map(plain, met))
    missing = []
    for name in held:
        if (key := plain(name)) and left[key] > 0:
            left[key] -= 1
        else:
            missing.append(name)
    count = len(missing) - (+left).total()
    if count <= 0:
        return None
    names = tuple(" ".join(name.split())[:MAX_NAME_CHARS] for name in missing[:MAX_PLACES])
    return LeftOut("documents", names if count == len(missing) and all(names) else (), count)


def _plain(name: str) -> str:
    """A name in one form, without folders."""
    return " ".join(unicodedata.normalize("NFKC", name.replace("\\", "/").rpartition("/")[2]).casefold().split())


def _find_in_mail(source: Source, read: str) -> Iterator[str]:
    data = source.file.read(MAX_MAIL_BYTES + 1)
    if len(data) > MAX_MAIL_BYTES:
        raise TooLarge
    starts = _FROM_LINE.split(data)[1:] if source.form == "mbox" else [_APPLE.sub(b"", data, count=1)]
    for one in starts:
        yield from _find_in_part(email.message_from_bytes(one.lstrip()), "", read)


_FROM_LINE = re.compile(rb"(?:\A|\n\r?\n)>?From [^\n]{0,300}?\d{4}[^\n]{0,60}\n(?=[!-9;-~]{1,80}:)")
_APPLE = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:\d+[ \t]*\r?\n)?")  # the length that Apple Mail writes first


def _find_in_part(part: Message, around: str, read: str) -> Iterator[str]:
    """The parts with a file name, a disposition "attachment" or a type that is no text; not what is in them."""
    kind, name = part.get_content_type(), _name(part)
    is_attached = part.get_content_disposition() == "attachment"
    if kind == "multipart/encrypted":
        return
    if part.is_multipart() and not kind.startswith("message/"):
        for one in part.get_payload():
            if isinstance(one, Message):
                yield from _find_in_part(one, kind, read)
        return
    if kind.startswith(("multipart/", "message/")):
        if kind in _MESSAGES and not is_private_name(name):
            yield name or "message.eml"
        return
    if not str(part.get_payload()).strip() or is_private_name(name) or kind in _SIGNATURES:
        return
    if kind.endswith(("/ms-tnef", "/vnd.ms-tnef")) or name.lower() == "winmail.dat":
        yield from _find_in_tnef(_content(part))
    elif kind.endswith("pkcs7-mime") or name.lower().endswith((".p7m", ".p7z")) or "calendar" in kind:
        return  # the message itself once more, or its text
    elif kind.startswith("text/") and not is_attached:
        if name and around != "multipart/related" and not name.lower().endswith(".ics"):
            if not _is_read(_content(part), read):
                yield name
        elif kind == "text/plain":
            yield from (found.decode("utf-8", "replace").strip() for found in _ENCODED.findall(_content(part)))
    elif not name.lower().endswith(".ics") and not (around == "multipart/related" and "javascript" in kind):
        yield name


_MESSAGES = ("message/rfc822", "message/global", "message/news")
_SIGNATURES = (
    "application/pgp-signature",
    "application/pkcs7-signature",
    "application/x-pkcs7-signature",
    "application/pgp-encrypted",
)
_ENCODED = re.compile(rb"^begin [0-7]{3} ([^\r\n]+)\r?\n(?=M)", re.M)  # a file that is written into a text


def _content(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _is_read(data: bytes, read: str) -> bool:
    """Whether most words of a part are in the text of the message: a body that has a name."""
    known = set(_ASCII_WORD.findall(data.lower()))
    found = set(_ASCII_WORD.findall(read.lower().encode()))
    return len(known & found) >= 0.5 * len(known)


_ASCII_WORD = re.compile(rb"[a-z0-9]{2,}")


def _name(part: Message) -> str:
    name = part.get_filename() or ""
    if len(name) > MAX_HEADER_CHARS:
        return name
    with suppress(ValueError, LookupError):  # of a charset that is none
        return str(make_header(decode_header(name)))
    return name


def _find_in_tnef(data: bytes) -> Iterator[str]:
    """One for each mark of an attachment that is not empty, with its short name."""
    for one in _ATTACHED.split(data)[1:]:
        if _EMPTY in one:
            continue
        title = _TITLE.search(one)
        size = int.from_bytes(title[1], "little") if title else 0
        name = one[title.end() : title.end() + size].rstrip(b"\0").decode("latin-1") if title else ""
        if not is_private_name(name):
            yield name


_ATTACHED = re.compile(rb"\x02\x02\x90\x06\x00\x0e\x00\x00\x00")
_EMPTY = b"\x02\x0f\x80\x06\x00" + bytes(4)
_TITLE = re.compile(rb"\x02\x10\x80\x01\x00(....)", re.S)


def _find_tnef(source: Source, _read: str) -> Iterator[str]:
    yield from _find_in_tnef(source.file.read(MAX_MAIL_BYTES))


def _find_msg(source: Source, _read: str) -> Iterator[str]:
    """The storages of attachments. Messages inside are no documents of their own: what is attached to them is."""
    with storage(source) as ole:
        streams = {tuple(one) for one in ole.listdir()}
        signed = {path[:-1] for path in streams if _is_signed(ole.openstream, path)}
        for place in sorted({path[:-1] for path in streams if len(path) > 1}):
            if not place[-1].startswith("__attach_version1.0_") or place[:-1] in signed:
                continue
            if (*place, "__substg1.0_3701000D", "__properties_version1.0") in streams:
                continue
            names = []
            for id in ("3707", "3704", "3001"):
                for kind, charset in (("001F", "utf-16-le"), ("001E", "latin-1")):
                    if (path := (*place, f"__substg1.0_{id}{kind}")) in streams:
                        names.append(ole.openstream(list(path)).read(MAX_STREAM_BYTES).decode(charset).rstrip("\0"))
            if not any(map(is_private_name, names)):
                yield next(filter(None, names), "")


def _is_signed(open_stream: Callable[[list[str]], IO[bytes]], path: tuple[str, ...]) -> bool:
    if not path[-1].startswith("__substg1.0_001A00"):
        return False
    said = open_stream(list(path)).read(MAX_STREAM_BYTES).replace(b"\0", b"").lower()
    return said.startswith(b"ipm.note.smime")


def _find_embedded(source: Source, _read: str) -> Iterator[str]:
    """The parts of an Office package to which a page, a sheet or a text refers as to an embedded document."""
    archive = source.opened.archive or zipfile.ZipFile(source.file)
    names = {name.replace("\\", "/").casefold(): name for name in archive.namelist()}
    parts = {name.rpartition("/")[2] for name in names}
    found: dict[str, None] = {}
    room = MAX_PART_BYTES
    for name in sorted(names):
        if not _RELATIONS.match(name):
            continue
        info = archive.getinfo(names[name])
        room -= info.file_size
        if room < 0:
            raise TooLarge
        text = archive.read(info).decode("utf-8", "replace")
        for relation in _RELATION.findall(text):
            said = _TARGET.search(relation)
            if said is None or 'TargetMode="External"' in relation or not _EMBEDDED.search(relation):
                continue
            target = unescape(said[1]).replace("\\", "/").casefold().rpartition("/")[2]
            if target in parts:
                found[target] = None
    yield from found


_RELATIONS = re.compile(
    r"word/_rels/(?:document|header|footer|footnotes|endnotes|comments)\d*\.xml\.rels$|ppt/slides/_rels/|xl/worksheets/_rels/"
)
_RELATION = re.compile(r"<(?:\w+:)?Relationship\s[^<>]*>")
_TARGET = re.compile(r'\sTarget="([^"]+)"')
_EMBEDDED = re.compile(r'/relationships/(?:oleObject|package|aFChunk)"')


def _find_in_open_document(source: Source, _read: str) -> Iterator[str]:
    """The objects of other programs that its content shows."""
    archive = source.opened.archive or zipfile.ZipFile(source.file)
    info = archive.getinfo("content.xml")
    if info.file_size > MAX_PART_BYTES:
        raise TooLarge
    shown = set(_SHOWN.findall(archive.read(info).decode("utf-8", "replace")))
    yield from (name for name in archive.namelist() if name in shown)


_SHOWN = re.compile(r'<draw:object-ole\b[^<>]*\sxlink:href="(?:\./)?([^"]+)"')


def _find_in_pool(source: Source, _read: str) -> Iterator[str]:
    """The storages of objects: of Word below "ObjectPool", of Excel at the top."""
    with storage(source) as ole:
        places = {tuple(path[:-1]) for path in ole.listdir() if len(path) > 1}
    if source.form == "doc":
        yield from ("" for _ in {place[1] for place in places if place[0] == "ObjectPool" and len(place) > 1})
    else:
        yield from sorted({place[0] for place in places if place[0].upper().startswith("MBD")})


def _find_in_rtf(source: Source, _read: str) -> Iterator[str]:
    """One for each group with the data of an object."""
    data = source.file.read(MAX_RTF_BYTES + 1)
    if len(data) > MAX_RTF_BYTES:
        raise TooLarge
    yield from ("" for _ in _OBJECT_DATA.finditer(data))


_OBJECT_DATA = re.compile(rb"\\objdata\s+[0-9a-fA-F\s]{16}")


def _find_zipped(source: Source, _read: str) -> Iterator[str]:
    return archives.zip_entries(source.file)


def _find_tarred(source: Source, _read: str) -> Iterator[str]:
    return iter(source.opened.tar.names)


_COUNTERS: Mapping[str, Callable[[Source, str], Iterator[str]]] = {
    "email": _find_in_mail,
    "mbox": _find_in_mail,
    "tnef": _find_tnef,
    "msg": _find_msg,
    **dict.fromkeys(("docx", "pptx", "xlsx", "xlsb"), _find_embedded),
    **dict.fromkeys(("odt", "ods", "odp", "odg"), _find_in_open_document),
    "doc": _find_in_pool,
    "xls": _find_in_pool,
    "rtf": _find_in_rtf,
    "zip": _find_zipped,
    "tar": _find_tarred,
}
