"""Documents to text. Runs only in the processes of ``parsers``, which limit the harm that hostile bytes can do.

Each format is read by a well-maintained library, preferably one that streams: PDF by PDFium, spreadsheets by calamine,
the other office formats by kreuzberg, e-mail and archives by Python's standard library.
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
from datetime import date, datetime, time, timedelta
from email import message_from_binary_file, policy
from email.message import EmailMessage, MIMEPart
from email.utils import collapse_rfc2231_value
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any
from xml.parsers import expat

import olefile
import python_calamine
from kreuzberg import ConcurrencyConfig, ExtractionConfig, KreuzbergError, PostProcessorConfig, extract_bytes_sync
from pypdfium2 import PdfDocument, PdfiumError

from ..sdk import is_private, is_private_name
from . import html
from .extract import (
    MAX_TEXT_CHARS,
    SAMPLE_BYTES,
    Extracted,
    Kind,
    NoText,
    Section,
    Unparseable,
    clean,
    detect_format,
    extract,
    join_lines,
    rows_to_lines,
)

MAX_MEMBERS = 1_000  # of an archive or an e-mail, including nested ones
MAX_DEPTH = 4  # of nested archives and e-mails
MAX_MEMBER_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_BYTES = 512 * 1024 * 1024  # of all members together
MAX_RATIO = 200  # of the unpacked size to the size of the file, above ``RATIO_FROM_BYTES``
RATIO_FROM_BYTES = 16 * 1024 * 1024
MAX_BOOKMARKS = 5_000
MAX_LABEL_CHARS = 300
MAX_REASON_CHARS = 500
MAX_FIELD_CHARS = 2_000  # of a header that names people
# One of each library that loads something at its first document. The PDF has an empty page: for one with text PDFium
# would look through the fonts of the system, which it does not need for what the text says.
SAMPLES = {
    "a.pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n",
    "a.rtf": b"{\\rtf1 words}",
    "a.eml": b"From: a@b.c\nSubject: =?utf-8?q?w?=\nMIME-Version: 1.0\n\nwords\n",
}

_WORD, _POWERPOINT = (
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.ms-powerpoint",
)


class _Refused(Exception):
    """The document has no text for us, for this reason. This is not a failure."""


class _Full(Exception):
    """A limit is reached: no more text is wanted."""


def load() -> None:
    """Load what the libraries load at their first document. After this, ``read`` opens no file and starts no thread, so
    that it works in a process that may do neither."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(LookupError):  # two of them exist on Windows only
            codecs.lookup(module.name)
    for name, data in SAMPLES.items():
        read(io.BytesIO(data), filename=name)


def read(file: IO[bytes], *, filename: str) -> Extracted | NoText:
    """The text of a document, including its members and attachments.

    Raises ``Unparseable`` if it is damaged, and ``MemoryError``.
    """
    reading = _Reading(size_bytes=file.seek(0, io.SEEK_END))
    file.seek(0)
    try:
        reading.take(file, filename, "", depth=0)
    except _Full:
        pass
    except _Refused as reason:
        return NoText(str(reason))
    except MemoryError:
        raise
    except Exception as error:  # parsers raise anything on invalid bytes
        why = str(error) if isinstance(error, Unparseable) else _describe_damage(error)
        if not reading.note_break(why[:MAX_REASON_CHARS]):
            raise Unparseable(why[:MAX_REASON_CHARS]) from error
    return reading.result()


class _Reading:
    """The text read so far, and how much may still be unpacked."""

    def __init__(self, *, size_bytes: int) -> None:
        self._allowed_bytes = min(MAX_UNPACKED_BYTES, max(RATIO_FROM_BYTES, MAX_RATIO * size_bytes))
        self._parts: list[str] = []
        self._sections: list[Section] = []
        self._chars = 0
        self._members = 0
        self._left_out: list[str] = []
        self._refused: list[str] = []  # why members have no text

    def result(self) -> Extracted | NoText:
        if not self._sections:
            if len(set(self._refused)) == 1:
                return NoText(self._refused[0])
            return NoText(f"no_text: {self._left_out[0]}" if self._left_out else "no_text")
        left_out = "; ".join(self._left_out[:3]) + (f"; and {n} more" if (n := len(self._left_out) - 3) > 0 else "")
        kinds = {section.kind for section in self._sections}
        return Extracted(
            "".join(self._parts),
            kinds.pop() if len(kinds) == 1 else "text",
            sections=tuple(self._sections),
            left_out=left_out or None,
        )

    def note_break(self, why: str) -> bool:
        """Note that the rest cannot be read. Returns whether anything was read before."""
        self._left_out.append(f"the rest: {why}")
        return bool(self._sections)

    def take(self, file: IO[bytes], filename: str, label: str, *, depth: int) -> None:
        """Read one document. ``label``: its place in the outermost one, or "" for the outermost itself."""
        head = file.read(SAMPLE_BYTES)
        file.seek(0)
        form = detect_format(head, filename=filename)
        if isinstance(form, NoText):
            raise _Refused(form.reason)
        if form is None:
            found = extract(file.read(), filename=filename)
            if isinstance(found, NoText):
                raise _Refused(found.reason)
            self._add(label, found.text, found.kind)
        elif form == "pdf":
            self._add_all(label, _read_pdf(file), "text")
        elif form == "rtf":
            self._add(label, _convert(file.read(), "application/rtf"), "markdown")
        elif form == "ole":
            self._read_ole(file, label, depth)
        elif form == "zip":
            self._read_zip(file, label, depth)
        elif form == "email":
            self._read_email(_parse_email(file), label, depth)
        elif form == "tar":
            self._read_tar(file, label, depth)
        else:
            self._read_compressed(file, _OPENERS[form], filename, label, depth)

    def _add(self, label: str, text: str, kind: Kind) -> None:
        text = clean(text).encode("utf-8", "ignore").decode()  # no lone surrogates
        if not text or text.isspace():
            return
        room = MAX_TEXT_CHARS - self._chars
        if len(text) > room:
            self._left_out.append(f"the text after {MAX_TEXT_CHARS:,} characters")
            text = text[:room]
        if text:
            if not text.endswith("\n\n"):
                text = text.rstrip("\n") + "\n\n"
            self._sections.append(Section(self._chars, label[:MAX_LABEL_CHARS], kind))
            self._parts.append(text)
            self._chars += len(text)
        if room <= len(text):
            raise _Full

    def _add_all(self, label: str, parts: Iterable[tuple[str, str]], kind: Kind) -> None:
        """Add the parts of a document, (label, text) each."""
        for own, text in parts:
            self._add(_join_labels(label, own), text, kind)

    def _read_member(self, open_: Callable[[], IO[bytes]], name: str, label: str, depth: int) -> None:
        """Read a member of an archive or an attachment. If it cannot be read, note that it is left out."""
        name = clean(name).encode("utf-8", "replace").decode() or "unnamed"
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if any(part in (".DS_Store", "__MACOSX") or part.startswith("._") for part in parts) or is_private(parts):
            return
        self._members += 1
        if self._members > MAX_MEMBERS:
            self._left_out.append(f"what comes after {MAX_MEMBERS:,} members")
            raise _Full
        if not self._may_descend(depth, name):
            return
        try:
            with open_() as member:
                data = self._unpack(member, name)
            self.take(io.BytesIO(data), parts[-1], _join_labels(label, name), depth=depth + 1)
        except _Refused as reason:
            self._refused.append(str(reason))
        except (_Full, MemoryError):
            raise
        except Exception as error:
            self._left_out.append(
                f"{name}: {error if isinstance(error, Unparseable) else _describe_damage(error)}"[:MAX_REASON_CHARS]
            )

    def _unpack(self, member: IO[bytes], name: str) -> bytes:
        data = member.read(min(MAX_MEMBER_BYTES, self._allowed_bytes) + 1)
        if len(data) > self._allowed_bytes:
            self._left_out.append(f"{name} and what comes after it: the archive unpacks to too much")
            raise _Full
        if len(data) > MAX_MEMBER_BYTES:
            raise Unparseable(f"too_large: over {MAX_MEMBER_BYTES // 1024 // 1024} MB")
        self._allowed_bytes -= len(data)
        return data

    def _read_zip(self, file: IO[bytes], label: str, depth: int) -> None:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            if (form := _office_format(archive, names)) is not None:
                unpacked = sum(member.file_size for member in members if not member.filename.startswith(_MEDIA))
                if unpacked > self._allowed_bytes:
                    raise _Refused(f"too_large: it unpacks to {unpacked // 1024 // 1024:,} MB")
                self._read_office(file, archive, form, label)
                return
            plain = [member for member in members if not member.is_dir()]
            if plain and all(member.flag_bits & 1 for member in plain):
                raise _Refused("encrypted")
            for member in plain:
                if member.flag_bits & 1:
                    self._refused.append("encrypted")
                else:
                    self._read_member(partial(archive.open, member), member.filename, label, depth)

    def _read_office(self, file: IO[bytes], archive: zipfile.ZipFile, form: str, label: str) -> None:
        file.seek(0)
        if form in ("sheet", "ods"):
            self._add_all(label, _read_sheets(file), "csv")
        elif form == "pptx":
            self._add_all(label, _read_pptx(archive), "markdown")
        elif form == "odp":
            with archive.open("content.xml") as content:
                self._add_all(label, _read_slides(content), "markdown")
        elif form == "epub":
            self._add_all(label, _read_epub(archive), "html")
        else:
            mime = _WORD if form == "docx" else "application/vnd.oasis.opendocument.text"
            self._add(label, _convert(file.read(), mime), "markdown")

    def _read_tar(self, file: IO[bytes], label: str, depth: int) -> None:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                if member.isreg():
                    self._read_member(partial(_open_member, archive, member), member.name, label, depth)

    def _read_compressed(self, file: IO[bytes], opener: Any, filename: str, label: str, depth: int) -> None:
        """Read a compressed tar, as a stream, or a single compressed file."""
        name = re.sub(r"\.(gz|bz2|xz|lzma)$", "", PurePosixPath(filename).name, flags=re.I)
        if is_private_name(name) or is_private_name(_name_in_gzip(file.read(SAMPLE_BYTES))):
            raise _Refused("never_read: the name of the compressed file is one of those that are never read")
        file.seek(0)
        with opener(file) as unpacked:
            head = unpacked.read(SAMPLE_BYTES)
        file.seek(0)
        with opener(file) as unpacked:
            if detect_format(head, filename=None) == "tar":
                self._read_tar(unpacked, label, depth)
                return
            if depth >= MAX_DEPTH:
                raise _Refused(f"it is nested deeper than {MAX_DEPTH} archives")
            self.take(io.BytesIO(self._unpack(unpacked, name)), name, label, depth=depth + 1)

    def _read_email(self, message: MIMEPart, label: str, depth: int) -> None:
        body = message.get_body(("plain", "html"))
        subject = _header(message, "Subject")
        fields = {name: _header(message, name) for name in ("From", "To", "Cc", "Date")}
        self._add_message(label, subject, fields, *(_body_text(body) if body is not None else ("", "text")))
        inside = _join_labels(label, " ".join(subject.split())) if depth else label
        for part in _attachments(message, body):
            name = part.get_filename() or ""
            if is_private_name(_second_name(part)):
                continue
            if part.get_content_type() == "message/rfc822":
                inner = part.get_payload(0) if part.is_multipart() else None
                if isinstance(inner, MIMEPart) and self._may_descend(depth, name or "message"):
                    self._read_email(inner, inside, depth + 1)
            elif part.get_content_maintype() not in ("image", "audio", "video", "multipart", "message"):
                content = part.get_payload(decode=True)
                if isinstance(content, bytes) and content:
                    self._read_member(partial(io.BytesIO, content), name or "attachment", inside, depth)

    def _add_message(self, label: str, subject: str, fields: dict[str, str], body: str, kind: Kind) -> None:
        """Add a message itself, without its attachments, under its subject."""
        subject = " ".join(subject.split())
        lines = (f"{name}: {' '.join(value.split())[:MAX_FIELD_CHARS]}" for name, value in fields.items() if value)
        head = "\n".join([*([f"Subject: {subject}"] if subject else []), *lines])
        self._add(_join_labels(label, subject), f"{head}\n\n{body}", kind)

    def _may_descend(self, depth: int, name: str) -> bool:
        """Whether a member at this depth may be read. If not, note that it is left out."""
        if depth < MAX_DEPTH:
            return True
        self._left_out.append(f"{name}: it is nested deeper than {MAX_DEPTH} archives")
        return False

    def _read_ole(self, file: IO[bytes], label: str, depth: int) -> None:
        """Read an OLE file: an Office document from before 2007, or an Outlook message."""
        with olefile.OleFileIO(file) as ole:
            if ole.exists("EncryptedPackage") or ole.exists("EncryptionInfo"):
                raise _Refused("encrypted")
            if ole.exists("__properties_version1.0"):
                self._read_msg(ole, (), label, depth)
                return
            form = next((form for stream, form in _OLE_STREAMS.items() if ole.exists(stream)), None)
        file.seek(0)
        if form == "xls":
            self._add_all(label, _read_sheets(file), "csv")
        elif form == "doc":
            self._add(label, _convert(file.read(), "application/msword"), "markdown")
        elif form == "ppt":
            self._add(label, _convert(file.read(), _POWERPOINT), "markdown")
        else:
            raise _Refused("unsupported_format: OLE file")

    def _read_msg(self, ole: olefile.OleFileIO, place: tuple[str, ...], label: str, depth: int) -> None:
        """Read an Outlook message, which may contain others."""

        def text(of: str, at: tuple[str, ...] = place) -> str:
            for kind, encoding in (("001F", "utf-16-le"), ("001E", None)):
                if ole.exists([*at, f"__substg1.0_{of}{kind}"]):
                    data = ole.openstream([*at, f"__substg1.0_{of}{kind}"]).read()
                    if encoding:
                        return str(data.decode(encoding, "replace")).rstrip("\0")
                    found = extract(data, filename="a.txt")
                    return found.text if isinstance(found, Extracted) else ""
            return ""

        people = f"{text('0C1A')} {text('5D01') or text('0C1F')}".strip()
        fields = {"From": people, "To": text("0E04"), "Cc": text("0E03")}
        subject, body = text("0037"), text("1000")
        kind: Kind = "text"
        if not body and ole.exists([*place, "__substg1.0_10130102"]):
            page = extract(ole.openstream([*place, "__substg1.0_10130102"]).read(), filename="body.html")
            if isinstance(page, Extracted):
                body, kind = page.text, page.kind
        self._add_message(label, subject, fields, body, kind)
        inside = _join_labels(label, " ".join(subject.split())) if depth else label
        storages = {tuple(entry[: len(place) + 1]) for entry in ole.listdir() if tuple(entry[: len(place)]) == place}
        for at in sorted(storage for storage in storages if storage[-1].startswith("__attach_version1.0_")):
            name = text("3707", at) or text("3704", at)
            inner = (*at, "__substg1.0_3701000D")
            if ole.exists([*at, "__substg1.0_37010102"]):
                content = partial(ole.openstream, [*at, "__substg1.0_37010102"])
                self._read_member(content, name or "attachment", inside, depth)
            elif ole.exists([*inner, "__properties_version1.0"]) and self._may_descend(depth, name or "message"):
                self._read_msg(ole, inner, inside, depth + 1)


_MEDIA = ("word/media/", "xl/media/", "ppt/media/", "Pictures/", "media/")
_OLE_STREAMS = {"Workbook": "xls", "Book": "xls", "WordDocument": "doc", "PowerPoint Document": "ppt"}
_OPENERS: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}  # each takes a file


def _join_labels(label: str, name: str) -> str:
    return f"{label} > {name}" if label and name else label or name


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


def _office_format(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    """The format of an office document in a zip file, or None for a plain archive. Raises ``_Refused`` for others."""
    if "[Content_Types].xml" in names:
        for part, form in (
            ("word/document.xml", "docx"),
            ("ppt/presentation.xml", "pptx"),
            ("xl/workbook.xml", "sheet"),
        ):
            if part in names:
                return form
        if "xl/workbook.bin" in names:
            return "sheet"
    if "mimetype" in names:
        mime = archive.open("mimetype").read(100).decode("ascii", "replace").strip()
        if mime == "application/epub+zip":
            if "META-INF/rights.xml" in names:
                raise _Refused("encrypted")
            return "epub"
        for kind, form in (("text", "odt"), ("spreadsheet", "ods"), ("presentation", "odp")):
            if mime.startswith(f"application/vnd.oasis.opendocument.{kind}"):
                manifest = (
                    archive.open("META-INF/manifest.xml").read(1_000_000) if "META-INF/manifest.xml" in names else b""
                )
                if b"encryption-data" in manifest:
                    raise _Refused("encrypted")
                return form
        if mime.startswith("application/vnd.oasis.opendocument."):
            raise _Refused("unsupported_format: OpenDocument file")
    if "META-INF/MANIFEST.MF" in names or "AndroidManifest.xml" in names:
        raise _Refused("unsupported_format: Java archive")
    if any(name.endswith(("dist-info/RECORD", "EGG-INFO/PKG-INFO")) for name in names):
        raise _Refused("unsupported_format: Python package")
    return None


_HYPHENS = re.compile("[\x02\ufffe]\r?\n?")  # PDFium's marks for a word that continues on the next line


def _read_pdf(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """The (label, text) of each page. The label includes the bookmark that the page is under."""
    try:
        document = PdfDocument(file)
    except PdfiumError as error:
        if "password" in str(error).lower():
            raise _Refused("encrypted") from None
        raise Unparseable("it is damaged: the PDF cannot be opened") from None
    with document:
        titles = _bookmarks(document)
        title, has_text = "", False
        for number in range(len(document)):
            title = titles.get(number, title)
            try:
                page = document[number]
                text = page.get_textpage()
                content = _HYPHENS.sub("", text.get_text_bounded())
                text.close()
                page.close()
            except PdfiumError:  # this page is damaged; others may not be
                continue
            if content and not content.isspace():
                has_text = True
                yield _join_labels(f"Page {number + 1}", title) if title else f"Page {number + 1}", content
        if not has_text:
            raise _Refused("no_text_layer")


def _bookmarks(document: PdfDocument) -> dict[int, str]:
    """The title of the last bookmark on each page that has one."""
    found: dict[int, str] = {}
    with suppress(PdfiumError):
        for count, mark in enumerate(document.get_toc()):
            if count >= MAX_BOOKMARKS:
                break
            destination = mark.get_dest()
            page = destination.get_index() if destination is not None else None
            if page is not None and (title := " ".join(mark.get_title().split())):
                found[page] = title[:120]
    return found


def _read_sheets(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(file)
    except python_calamine.PasswordError:
        raise _Refused("encrypted") from None
    except python_calamine.CalamineError as error:
        raise Unparseable(f"it is damaged: {error}"[:300]) from None
    size = file.seek(0, io.SEEK_END)
    for name in workbook.sheet_names:
        with suppress(python_calamine.WorksheetNotFound):  # a chart sheet
            sheet = workbook.get_sheet_by_name(name)
            rows = ([_cell(value) for value in row] for row in sheet.iter_rows())
            yield f"Sheet {name}", join_lines(rows_to_lines(rows, chars=4 * size))


def _cell(value: int | float | str | bool | time | date | datetime | timedelta) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime) and not (value.hour or value.minute or value.second):
        return value.date().isoformat()
    return value if isinstance(value, str) else str(value)


def _convert(data: bytes, mime: str) -> str:
    try:
        return extract_bytes_sync(data, mime, config=_KREUZBERG).content
    except KreuzbergError as error:
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise _Refused("encrypted") from None
        raise Unparseable(f"it cannot be parsed: {error}"[:300]) from None


_KREUZBERG = ExtractionConfig(
    use_cache=False,
    enable_quality_processing=False,
    output_format="markdown",
    postprocessor=PostProcessorConfig(enabled=False),
    concurrency=ConcurrencyConfig(max_threads=1),
)


def _read_pptx(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    main = "ppt/presentation.xml"
    targets = _relations(archive, main)
    ids: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if _local_name(name) == "sldId":
            ids.extend(value for key, value in attributes.items() if key.endswith("relationships id"))

    _parse_xml(archive.open(main), start)
    for number, id in enumerate(ids, 1):
        slide = targets.get(id, "")
        try:
            texts = [text for _, text in _read_slides(archive.open(slide))]
            notes = next((one for one in _relations(archive, slide).values() if "notesSlide" in one), None)
            if notes is not None:
                texts.extend(text for _, text in _read_slides(archive.open(notes)))
        except KeyError:  # it is listed but missing
            continue
        yield f"Slide {number}", "\n\n".join(filter(None, texts))


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, str]:
    """The targets that a part of an Office document refers to, by id."""
    folder, _, name = part.rpartition("/")
    found: dict[str, str] = {}

    def start(element: str, attributes: dict[str, str]) -> None:
        if _local_name(element) == "Relationship" and attributes.get("TargetMode") != "External":
            target = attributes.get("Target", "")
            found[attributes.get("Id", "")] = _resolve(folder, target)

    with suppress(KeyError):
        _parse_xml(archive.open(f"{folder}/_rels/{name}.rels"), start)
    return found


def _resolve(folder: str, target: str) -> str:
    parts = [] if target.startswith("/") else folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg", "page-number", "date-time", "footer", "header")
_TITLES = ("title", "ctrTitle")


def _read_slides(content: IO[bytes]) -> Iterator[tuple[str, str]]:
    """The (label, text) of each slide in a part of a PowerPoint file (which has one) or in an OpenDocument
    presentation."""
    slides = _Slides()
    _parse_xml(content, slides.start, slides.end, slides.characters)
    for number, lines in enumerate(slides.lines):
        if lines:
            yield f"Slide {number}", "\n".join(lines)


class _Slides:
    """Handles the XML elements of both kinds of slides, which share most of their names."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]  # of each slide; the first list is for text that is on no slide
        self._shape = ""  # the purpose of the current shape
        self._held: list[str] = []  # the text of the current paragraph
        self._cells: list[str] = []
        self._paragraphs = self._rows = 0  # how many are open

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = _local_name(name)
        if local == "page":
            self.lines.append([])
        elif local in ("sp", "frame"):
            self._shape = attributes.get(_CLASS, "")
        elif local == "ph":
            self._shape = attributes.get("type", "")
        elif local == "notes":
            self.lines[-1].append("\nNotes:")
        elif local in ("p", "h"):
            self._paragraphs += 1
        elif local in ("tr", "table-row"):
            self._rows += 1
        elif local in ("br", "line-break", "tab", "s"):
            self._held.append(" ")

    def end(self, name: str) -> None:
        local = _local_name(name)
        if local in ("p", "h"):
            self._paragraphs -= 1
            text = " ".join("".join(self._held).split())
            self._held.clear()
            if text and self._shape not in _FURNITURE:
                self._take(text)
        elif local in ("tr", "table-row"):
            self._rows -= 1
            if self._cells:
                self.lines[-1].append(f"| {' | '.join(self._cells)} |")
            self._cells.clear()
        elif local in ("sp", "frame"):
            self._shape = ""

    def characters(self, text: str) -> None:
        if self._paragraphs:
            self._held.append(text)

    def _take(self, text: str) -> None:
        if self._rows:
            self._cells.append(text.replace("|", "\\|"))
        else:
            self.lines[-1].append(f"# {text}\n" if self._shape in _TITLES else text)


_CLASS = "urn:oasis:names:tc:opendocument:xmlns:presentation:1.0 class"


def _read_epub(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """The (label, text) of the chapters, in reading order. The labels are empty: a chapter has its own title."""
    packages: list[str] = []
    items: dict[str, str] = {}
    order: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        local = _local_name(name)
        if local == "rootfile":
            packages.append(attributes.get("full-path", ""))
        elif local == "item" and "html" in attributes.get("media-type", ""):
            items[attributes.get("id", "")] = attributes.get("href", "")
        elif local == "itemref":
            order.append(attributes.get("idref", ""))

    _parse_xml(archive.open("META-INF/container.xml"), start)
    if not packages:
        raise Unparseable("it is damaged: an EPUB without a package")
    _parse_xml(archive.open(packages[0]), start)
    folder = packages[0].rpartition("/")[0]
    for id in order[:MAX_MEMBERS]:
        with suppress(KeyError):
            page = archive.open(_resolve(folder, _unquote(items[id]))).read(MAX_MEMBER_BYTES)
            found = extract(page, filename="chapter.xhtml")
            if isinstance(found, Extracted):
                yield "", found.text


def _unquote(href: str) -> str:
    return re.sub("%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), href.partition("#")[0])


def _parse_xml(
    file: IO[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    characters: Callable[[str], None] | None = None,
) -> None:
    """Parse XML without building a tree. Element names have the form "namespace local". A document type is refused,
    because with one a small file can expand to a huge one."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise Unparseable("it declares a document type, which no office document does")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    if end is not None:
        parser.EndElementHandler = end
    if characters is not None:
        parser.CharacterDataHandler = characters
    with file:
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise Unparseable(f"it is damaged: {error}") from None


def _local_name(name: str) -> str:
    return name.rpartition(" ")[2]


def _parse_email(file: IO[bytes]) -> MIMEPart:
    return message_from_binary_file(file, EmailMessage, policy=policy.default)


def _header(message: MIMEPart, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # the library fails in many ways on invalid headers; a header is not worth losing the message
        return ""


def _body_text(body: MIMEPart) -> tuple[str, Kind]:
    data = body.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", "text"
    is_page = body.get_content_type() == "text/html"
    try:
        text = data.decode(body.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        found = extract(data, filename="body.html" if is_page else "body.txt")
        return (found.text, found.kind) if isinstance(found, Extracted) else ("", "text")
    return (html.to_text(text), "html") if is_page else (text, "text")


def _second_name(part: MIMEPart) -> str:
    """The name in the type of a part, which may differ from the one in its disposition."""
    return collapse_rfc2231_value(part.get_param("name", "", "content-type"))


def _attachments(message: MIMEPart, body: MIMEPart | None) -> Iterator[MIMEPart]:
    """The parts of a message besides its body, except alternative forms of the body."""
    ways = [(message, False)]
    while ways:
        part, is_form = ways.pop()
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            is_form = is_form or part.get_content_type() == "multipart/alternative"
            inner = [one for one in part.get_payload() if isinstance(one, MIMEPart)]
            ways.extend((one, is_form) for one in reversed(inner))
        elif part is body or part is message:
            continue
        elif not (is_form and part.get_content_maintype() == "text" and part.get_filename() is None):
            yield part
