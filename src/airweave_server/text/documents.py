"""Documents to text. Runs only in the processes of ``parsers``, which limit the harm that hostile bytes can do.

Each format has a module of its own, which yields what it reads part by part; here the format is detected, documents
inside others are opened, and the limits on all of it together are held.
"""

import bz2
import codecs
import encodings
import gzip
import io
import lzma
import pkgutil
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

import olefile

from ..sdk import is_private, is_private_name
from . import (
    charset,
    cms,
    coats,
    completeness,
    completeness_archives,
    completeness_members,
    doc,
    docx,
    encoded,
    epub,
    images,
    mail,
    mailbox,
    odf,
    odf_names,
    office_xml,
    ole,
    outlook,
    pdf,
    ppt,
    pptx,
    rtf,
    tnef,
    unlock,
    xls,
    xlsb,
    xlsx,
)
from .charset import decode
from .completeness_held import Opened
from .extract import SAMPLE_BYTES, clean, detect_format, extract
from .kept import Kept
from .litter import find_litter
from .package import Package
from .parts import (
    MAX_DEPTH,
    Deadline,
    Extracted,
    Kind,
    LeftOut,
    Member,
    NoText,
    Part,
    Recognize,
    Refused,
    Section,
    Text,
    Unparseable,
    merge,
)
from .tables import MAX_TEXT_CHARS

MAX_MEMBERS = 1_000  # of an archive or an e-mail, including nested ones
MAX_MAILBOX_MEMBERS = 20_000  # attachments of a mailbox, and what they hold
MAX_MEMBER_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_BYTES = 512 * 1024 * 1024  # of all members together
MAX_RATIO = 200  # of the unpacked size to the size of the file, above ``RATIO_FROM_BYTES``
RATIO_FROM_BYTES = 16 * 1024 * 1024
MAX_LABEL_CHARS = 300
DEFAULT_SECONDS = 60.0
SHARE_OF_TIME = 0.7  # of the time of a document that a mailbox or a workbook may take
MAX_REASON_CHARS = 500
# One of each library that loads something at its first document. The PDF has an empty page: for one with text PDFium
# would look through the fonts of the system, which it does not need for what the text says.
SAMPLES = {
    "a.pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n",
    "a.rtf": b"{\\rtf1 words}",
    "a.eml": b"From: a@b.c\nSubject: =?utf-8?q?w?=\nMIME-Version: 1.0\n\nwords\n",
}


class _Full(Exception):
    """A limit is reached: no more text is wanted."""


def load(*, with_images: bool = False) -> None:
    """Load what the libraries load at their first document. After this, ``read`` opens no file and starts no thread, so
    that it works in a process that may do neither."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(LookupError):  # two of them exist on Windows only
            codecs.lookup(module.name)
    decode(b"caf\xe9")  # loads what guesses encodings
    unlock.load()
    if with_images:
        images.load()
    for name, data in SAMPLES.items():
        read(io.BytesIO(data), filename=name)


def read(
    file: IO[bytes], *, filename: str, seconds: float = DEFAULT_SECONDS, recognize: Recognize | None = None
) -> Extracted | NoText:
    """The text of a document, including its members and attachments. After most of ``seconds``, the rest of a mailbox
    or a workbook is left out. ``recognize`` reads pages that are images.

    Raises ``Unparseable`` if it is damaged, and ``MemoryError``.
    """
    reading = _Reading(size_bytes=file.seek(0, io.SEEK_END), seconds=seconds * SHARE_OF_TIME, recognize=recognize)
    file.seek(0)
    try:
        reading.take(file, filename, "", depth=0)
    except _Full:
        pass
    except Refused as reason:
        return NoText(str(reason), reading.formats())
    except MemoryError:
        raise
    except Exception as error:  # parsers raise anything on invalid bytes
        why = str(error) if isinstance(error, Unparseable) else _describe_damage(error)
        if not reading.note_break(why[:MAX_REASON_CHARS]):
            raise Unparseable(why[:MAX_REASON_CHARS]) from error
    return reading.result()


@dataclass(slots=True)
class _Own:
    """The document that is being read: its format, the labels and texts of its sections, without its members, what its
    reader has opened of it, and which members it has met."""

    form: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)
    opened: Opened = field(default_factory=Opened)
    met: completeness_members.Met = field(default_factory=completeness_members.Met)


class _Reading:
    """The text read so far, and how much may still be unpacked."""

    def __init__(self, *, size_bytes: int, seconds: float, recognize: Recognize | None) -> None:
        self._deadline = Deadline(seconds)
        self._recognize = recognize
        self._allowed_bytes = min(MAX_UNPACKED_BYTES, max(RATIO_FROM_BYTES, MAX_RATIO * size_bytes))
        self._parts: list[str] = []
        self._sections: list[Section] = []
        self._chars = 0
        self._members = 0
        self._members_allowed = MAX_MEMBERS
        self._left_out: list[LeftOut] = []
        self._refused: list[str] = []  # why members have no text
        self._formats: set[str] = set()
        self._own = _Own()

    def formats(self) -> frozenset[str]:
        return frozenset(self._formats)

    def _open(self, form: str) -> None:
        self._formats.add(form)
        self._own.form = form

    def result(self) -> Extracted | NoText:
        left_out = merge(self._left_out)
        if not self._sections:
            if len(set(self._refused)) == 1:
                return NoText(self._refused[0], self.formats())
            return NoText(f"no_text: {left_out[0].described()}" if left_out else "no_text", self.formats())
        kinds = {section.kind for section in self._sections}
        return Extracted(
            "".join(self._parts),
            kinds.pop() if len(kinds) == 1 else "text",
            sections=tuple(self._sections),
            left_out=left_out,
            formats=self.formats(),
        )

    def note_break(self, why: str) -> bool:
        """Note that the rest cannot be read. Returns whether anything was read before."""
        self._left_out.append(LeftOut("rest", note=f"the rest: {why}"))
        return bool(self._sections)

    def take(self, file: IO[bytes], filename: str, label: str, *, depth: int) -> None:
        """Read one document, and count whether its words were read. ``label``: its place in the outermost one, or ""
        for the outermost itself."""
        outer, self._own = self._own, _Own()
        said = len(self._left_out)
        try:
            self._take(file, filename, label, depth)
            if not any(one.what in _UNREAD for one in self._left_out[said:]):
                self._count(file, label)
            self._count_members(file, label)
        finally:
            self._own = outer

    def _count(self, file: IO[bytes], label: str) -> None:
        """Note how many words of the document were not read, if there is time to count them."""
        if not self._deadline.is_over():
            sections = [(one.removeprefix(label).removeprefix(" > "), text) for one, text in self._own.sections]
            form, opened = self._own.form, self._own.opened
            missing = completeness.missing_words(file, form, sections, until=self._deadline.ends_at, opened=opened)
            if missing:
                self._left_out.append(LeftOut("words", (label,) if label else (), missing))

    def _count_members(self, file: IO[bytes], label: str) -> None:
        """Note which documents inside the document were not met, if there is time to look for them."""
        if not self._deadline.is_over():
            own, read = self._own, "\n".join(text for _, text in self._own.sections)
            missing = completeness_members.missing_members(file, own.form, own.met, read, opened=own.opened)
            if missing is not None:
                self._left_out.append(_at(label, missing))

    def _take(self, file: IO[bytes], filename: str, label: str, depth: int) -> None:
        head = file.read(SAMPLE_BYTES)
        file.seek(0)
        if (reason := find_litter(head, PurePosixPath(filename.replace("\\", "/")).name)) is not None:
            raise Refused(reason)
        form = detect_format(head, filename=filename)
        if isinstance(form, NoText):
            if self._recognize is None or (kind := images.kind_of(form)) is None:
                raise Refused(form.reason)
            self._formats.add("image")
            self._take_parts(images.read(file, kind, self._recognize), label, depth)
            return
        if form is None:
            found = extract(file.read(), filename=filename)
            self._formats |= found.formats
            if isinstance(found, NoText):
                raise Refused(found.reason)
            self._left_out.extend(_at(label, one) for one in found.left_out)
            if found.formats <= _PLAIN and not filename.lower().endswith(".ldif"):  # the file as it is
                self._own.form = "text"
            self._add(label, found.text, found.kind)
        elif form == "ole":
            self._read_ole(file, label, depth)
        elif form == "zip":
            self._read_zip(file, label, depth)
        elif form == "tar":
            self._read_tar(file, label, depth)
        elif form == "odf":
            self._read_flat(file, head, label, depth)
        elif form == "office_xml":
            self._read_office_xml(file, head, label, depth)
        elif form in _OPENERS:
            self._read_compressed(file, _OPENERS[form], filename, label, depth)
        else:
            self._open("archive" if form == "cms" else form)
            if form == "pdf":
                self._take_parts(pdf.read(file, self._recognize, self._own.opened.glyphs.take), label, depth)
            elif form == "rtf":
                self._take_parts(rtf.read(file), label, depth)
            elif form == "mbox":
                self._members_allowed = MAX_MAILBOX_MEMBERS
                self._take_parts(self._in_time(mailbox.read(file, is_inside=depth > 0)), label, depth)
            elif form == "tnef":
                self._take_parts(tnef.read(file.read()), label, depth)
            elif form in ("encoded", "cms"):
                self._read_wrapped(file, form, filename, label, depth)
            else:
                self._take_parts(mail.read(file, is_inside=depth > 0), label, depth)

    def _in_time(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The parts for which there is time. The rest is left out, for a document that takes all of its time is not
        read at all."""
        for part in parts:
            if self._deadline.is_over():
                yield self._deadline.left_out()
                return
            yield part

    def _take_parts(self, parts: Iterable[Part], label: str, depth: int) -> None:
        """Add the parts of one document."""
        for part in parts:
            if isinstance(part, Text):
                self._add(_join_labels(label, part.label), part.text, part.kind)
            elif isinstance(part, LeftOut):
                self._own.met.left_out(part)
                self._left_out.append(_at(label, part))
            else:
                self._read_member(part, _join_labels(label, part.place), depth)

    def _add(self, label: str, text: str, kind: Kind) -> None:
        text = clean(text).encode("utf-8", "ignore").decode()  # no lone surrogates
        text, left_out = encoded.strip(text)
        self._left_out.extend(_at(label, one) for one in left_out)
        if not text or text.isspace():
            return
        room = MAX_TEXT_CHARS - self._chars
        if len(text) > room:
            self._left_out.append(LeftOut("rest", note=f"the text after {MAX_TEXT_CHARS:,} characters"))
            text = text[:room]
        if text:
            if not text.endswith("\n\n"):
                text = text.rstrip("\n") + "\n\n"
            self._sections.append(Section(self._chars, label[:MAX_LABEL_CHARS], kind))
            self._parts.append(text)
            self._own.sections.append((label, text))
            self._chars += len(text)
        if room <= len(text):
            raise _Full

    def _read_member(self, member: Member, label: str, depth: int) -> None:
        """Read a member of an archive or an attachment. If it cannot be read, note that it is left out."""
        self._own.met.member(member)
        name = clean(member.name).encode("utf-8", "replace").decode() or "unnamed"
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if is_private(parts) or find_litter(b"", "", parts[:-1]) is not None:
            return
        self._members += 1
        if self._members > self._members_allowed:
            self._left_out.append(LeftOut("rest", note=f"what comes after {self._members_allowed:,} members"))
            raise _Full
        place = _join_labels(label, name)
        if not self._may_descend(depth, place):
            return
        try:
            with member.open() as content:
                data = self._unpack(content, place)
            self.take(io.BytesIO(data), parts[-1], place if member.is_named else label, depth=depth + 1)
        except Refused as reason:
            self._refused.append(str(reason))
            self._left_out.extend(_refused(str(reason), place))
        except (_Full, MemoryError):
            raise
        except Exception as error:
            why = str(error) if isinstance(error, Unparseable) else _describe_damage(error)
            self._left_out.append(LeftOut("member", (place,), note=why[:MAX_REASON_CHARS]))

    def _unpack(self, member: IO[bytes], place: str) -> bytes:
        data = member.read(min(MAX_MEMBER_BYTES, self._allowed_bytes) + 1)
        if len(data) > self._allowed_bytes:
            self._left_out.append(LeftOut("rest", (place,), note="it and what comes after it unpack to too much"))
            raise _Full
        if len(data) > MAX_MEMBER_BYTES:
            raise Unparseable(f"too_large: over {MAX_MEMBER_BYTES // 1024 // 1024} MB")
        self._allowed_bytes -= len(data)
        return data

    def _read_zip(self, file: IO[bytes], label: str, depth: int) -> None:
        with Kept(file) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            if (form := _office_format(archive, names)) is not None:
                unpacked = sum(member.file_size for member in members if not member.filename.startswith(_MEDIA))
                if unpacked > self._allowed_bytes:
                    raise Refused(f"too_large: it unpacks to {unpacked // 1024 // 1024:,} MB")
                self._own.opened.archive = archive
                self._read_office(file, archive, form, label, depth)
                return
            archive.forget()
            self._formats.add("archive")
            self._own.form = "zip"
            plain = [member for member in members if not member.is_dir()]
            if plain and all(member.flag_bits & 1 for member in plain):
                raise Refused("encrypted")
            for one in plain:
                if one.flag_bits & 1:
                    self._refused.append("encrypted")
                    self._take_parts([LeftOut("encrypted", (one.filename,))], label, depth)
                else:
                    self._read_member(Member(one.filename, partial(archive.open, one)), label, depth)

    def _read_office(self, file: IO[bytes], archive: zipfile.ZipFile, form: str, label: str, depth: int) -> None:
        self._open(form)
        file.seek(0)
        if form in _OPEN_DOCUMENTS:
            self._take_parts(odf.read(archive, _OPEN_DOCUMENTS[form], self._deadline), label, depth)
        elif form == "xlsx":
            self._take_parts(xlsx.read(archive, self._deadline), label, depth)
        elif form == "xlsb":
            self._take_parts(xlsb.read(archive, self._deadline), label, depth)
        elif form == "pptx":
            self._take_parts(pptx.read(archive), label, depth)
        elif form == "docx":
            self._take_parts(docx.read(archive), label, depth)
        else:
            self._take_parts(epub.read(archive), label, depth)

    def _read_flat(self, file: IO[bytes], head: bytes, label: str, depth: int) -> None:
        """Read an OpenDocument file that is a single XML document."""
        form = odf_names.flat_form(head)
        assert form is not None
        self._open(form)
        size_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._take_parts(odf.read_flat(file, form, self._deadline, size_bytes=size_bytes), label, depth)

    def _read_office_xml(self, file: IO[bytes], head: bytes, label: str, depth: int) -> None:
        """Read an Office document that is a single XML file."""
        form = coats.form_of(head)
        if form == "opc":
            self._read_zip(io.BytesIO(office_xml.to_package(file.read())), label, depth)
            return
        self._formats.add("office_xml")
        if form == "wordml":
            self._take_parts(office_xml.read_word(file), label, depth)
        else:
            size_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._take_parts(office_xml.read_spreadsheet(file, size_bytes=size_bytes), label, depth)

    def _read_tar(self, file: IO[bytes], label: str, depth: int) -> None:
        self._formats.add("archive")
        self._own.form = "tar"
        watched: Any = completeness_archives.Watched(file, self._own.opened.tar)
        with tarfile.open(fileobj=watched, mode="r|") as archive:
            for one in archive:
                if one.isreg():
                    self._read_member(Member(one.name, partial(_open_member, archive, one)), label, depth)
        for _ in range(self._allowed_bytes // SAMPLE_BYTES):  # a damaged header ends the reading: what is behind it?
            if self._own.opened.tar.is_over or self._deadline.is_over() or not watched.read(SAMPLE_BYTES):
                break

    def _read_compressed(self, file: IO[bytes], opener: Any, filename: str, label: str, depth: int) -> None:
        """Read a compressed tar, as a stream, or a single compressed file."""
        self._formats.add("archive")
        name = re.sub(r"\.(gz|bz2|xz|lzma)$", "", PurePosixPath(filename).name, flags=re.I)
        if is_private_name(name) or is_private_name(_name_in_gzip(file.read(SAMPLE_BYTES))):
            raise Refused("never_read: the name of the compressed file is one of those that are never read")
        file.seek(0)
        with opener(file) as unpacked:
            head = unpacked.read(SAMPLE_BYTES)
        file.seek(0)
        with opener(file) as unpacked:
            if detect_format(head, filename=None) == "tar":
                self._read_tar(unpacked, label, depth)
                return
            if depth >= MAX_DEPTH:
                raise Refused(f"it is nested deeper than {MAX_DEPTH} archives")
            self.take(io.BytesIO(self._unpack(unpacked, name)), name, label, depth=depth + 1)

    def _read_wrapped(self, file: IO[bytes], form: str, filename: str, label: str, depth: int) -> None:
        """Read the file that is written as characters in another one, or is signed by it."""
        data = file.read()
        content = cms.signed_content(data) if form == "cms" else encoded.decode_file(data)
        if content is None:
            raise Refused("encrypted")
        head = content[:SAMPLE_BYTES]
        if not head or (detect_format(head, filename=None) is None and charset.decode(head) is None):
            raise Refused(f"no_text: it is {'a signature' if form == 'cms' else 'encoded bytes'}")
        if not self._may_descend(depth, label):
            return
        path = PurePosixPath(filename)
        name = path.stem if path.suffix else filename
        if is_private_name(name) or (form == "encoded" and is_private_name(encoded.name_in(data[:SAMPLE_BYTES]))):
            raise Refused("never_read: the name of the file in it is one of those that are never read")
        if form == "cms" and "." not in name:
            name += ".eml"  # smime.p7m: a message whose headers are few
        self.take(io.BytesIO(content), name, label, depth=depth + 1)

    def _read_locked(self, storage: olefile.OleFileIO, label: str, depth: int) -> None:
        """Read an encrypted package, if Excel opens it for everybody."""
        package = unlock.unlock_package(storage)
        if package is None:
            raise Refused("encrypted")
        if self._may_descend(depth, label):
            self.take(io.BytesIO(package), "", label, depth=depth + 1)

    def _may_descend(self, depth: int, place: str) -> bool:
        """Whether a member at this depth may be read. If not, note that it is left out."""
        if depth < MAX_DEPTH:
            return True
        self._left_out.append(LeftOut("too_deep", (place,)))
        return False

    def _read_ole(self, file: IO[bytes], label: str, depth: int) -> None:
        """Read an OLE file: an Office document from before 2007, or an Outlook message."""
        with olefile.OleFileIO(file) as storage:
            self._own.opened.storage = storage
            if storage.exists("EncryptedPackage") or storage.exists("EncryptionInfo"):
                self._read_locked(storage, label, depth)
                return
            if storage.exists("__properties_version1.0"):
                self._open("msg")
                self._take_parts(outlook.read(storage, is_inside=depth > 0), label, depth)
                return
            form = next((form for stream, form in _OLE_STREAMS.items() if storage.exists(stream)), None)
            if form is None and (inner := ole.open_package(storage)) is not None:
                self._formats.add("archive")
                self._read_member(inner, label, depth)
                return
            if form is None:
                raise Refused("unsupported_format: OLE file")
            self._open(form)
            if form == "xls":
                self._take_parts(xls.read(storage, self._deadline), label, depth)
            else:
                self._take_parts(_OLE_READERS[form](storage), label, depth)


_UNREAD = ("rest", "too_large")  # left out, with words that are not counted once more
_MEDIA = ("word/media/", "xl/media/", "ppt/media/", "Pictures/", "media/")
_PLAIN = frozenset(("text", "code", "markdown", "charset"))
_OPEN_DOCUMENTS: dict[str, odf_names.Form] = {"odt": "odt", "ods": "ods", "odp": "odp", "odg": "odg"}
_OLE_STREAMS = {"Workbook": "xls", "Book": "xls", "WordDocument": "doc", "PowerPoint Document": "ppt"}
_OLE_READERS: dict[str, Callable[[olefile.OleFileIO], Iterator[Part]]] = {
    "doc": doc.read,
    "ppt": ppt.read,
}
_OPENERS: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}  # each takes a file


def _join_labels(label: str, name: str) -> str:
    return f"{label} > {name}" if label and name else label or name


def _at(label: str, left_out: LeftOut) -> LeftOut:
    """The same, seen from the outermost document."""
    if not label:
        return left_out
    return replace(left_out, where=tuple(_join_labels(label, place) for place in left_out.where) or (label,))


def _refused(reason: str, place: str) -> Iterator[LeftOut]:
    """What a member without text leaves out, if there was anything to read in it."""
    if reason == "encrypted":
        yield LeftOut("encrypted", (place,))
    elif reason == "no_text_layer":
        yield LeftOut("page_without_text", (place,))
    elif reason.startswith("unsupported_format") and "image" in reason:
        yield LeftOut("image", (place,))
    elif not reason.startswith(("empty", "no_text", "never_read", "litter")):
        yield LeftOut("member", (place,), note=reason)


def _name_in_gzip(head: bytes) -> str:
    """The original name in the header of a gzip file (RFC 1952), or ""; the gzip file may have been renamed."""
    if len(head) < 10 or not head.startswith(b"\x1f\x8b") or not head[3] & 8:
        return ""
    start = 10 + (2 + int.from_bytes(head[10:12], "little") if head[3] & 4 else 0)
    return PurePosixPath(head[start:].partition(b"\0")[0].decode("latin-1").replace("\\", "/")).name


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return archive.extractfile(member) or io.BytesIO()


def _describe_damage(error: Exception) -> str:
    if isinstance(error, EOFError | zlib.error | zipfile.BadZipFile | tarfile.TarError | lzma.LZMAError):
        return "it is damaged or cut short"
    return f"it cannot be parsed: {type(error).__name__}: {error}"


# The formats of packages, by the folder of the part that they are about, or by words of its declared type.
_FOLDERS = {"word": "docx", "ppt": "pptx", "xl": "xlsx"}
_TYPES = {
    "wordprocessingml": "docx",
    "ms-word": "docx",
    "presentationml": "pptx",
    "ms-powerpoint": "pptx",
    "spreadsheetml": "xlsx",
    "ms-excel": "xlsx",
}


def _package_format(archive: zipfile.ZipFile) -> str | None:
    """The format of an Open Packaging package. Some programs write its names in other cases or with backslashes."""
    package = Package(archive)
    usual = ("word/document.xml", "ppt/presentation.xml", "xl/workbook.xml", "xl/workbook.bin")
    main = package.main_part() or next(filter(package.has, usual), None)
    if main is None:
        return None
    form = _FOLDERS.get(main.partition("/")[0].lower())
    if form is None:
        declared = package.content_type(main)
        form = next((found for words, found in _TYPES.items() if words in declared), None)
    return "xlsb" if form == "xlsx" and main.lower().endswith(".bin") else form


def _office_format(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    """The format of an office document in a zip file, or None for a plain archive. Raises ``Refused`` for others."""
    if "[content_types].xml" in {name.lower() for name in names} and (form := _package_format(archive)) is not None:
        return form
    if "mimetype" in names:
        mime = archive.open("mimetype").read(100).decode("ascii", "replace").strip()
        if mime == "application/epub+zip":
            if "META-INF/rights.xml" in names:
                raise Refused("encrypted")
            return "epub"
        if (opened := odf_names.form_of(mime)) is not None:
            if b"encryption-data" in _manifest(archive, names):
                raise Refused("encrypted")
            return opened
        if mime.startswith("application/vnd.oasis.opendocument."):
            raise Refused("unsupported_format: OpenDocument file")
    elif "content.xml" in names and (opened := odf_names.packed_form(_manifest(archive, names))) is not None:
        return opened
    if "META-INF/MANIFEST.MF" in names or "AndroidManifest.xml" in names:
        raise Refused("unsupported_format: Java archive")
    if any(name.endswith(("dist-info/RECORD", "EGG-INFO/PKG-INFO")) for name in names):
        raise Refused("unsupported_format: Python package")
    return None


def _manifest(archive: zipfile.ZipFile, names: set[str]) -> bytes:
    """The list of parts of an OpenDocument package, or as much of it as matters."""
    return archive.open("META-INF/manifest.xml").read(1_000_000) if "META-INF/manifest.xml" in names else b""
