"""Reads e-mail: a message under its subject, its attachments, and what cannot be read. Knows no mailbox."""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO

from ..sdk import is_private_name
from . import calendar, cms, encoded, html, mime, rtf, tnef, words
from .parts import Kind, LeftOut, Member, Part, Text

MAX_FIELD_CHARS = 100_000  # of a header that names people
MAX_STUB_WORDS = 40  # of a plain body that only points to the other form
MAX_NEW_SHARE = 0.03  # of the words of a body in winmail.dat that is the body of the message again
LEAST_ENCODED = 24  # characters of a body that is base64 without saying so
MAX_SIGNED = 4  # signed messages in one another
FIELDS = ("From", "To", "Cc", "Date")
_STUB = re.compile(
    r"(html|browser|online|web).{0,80}(version|format|mail|view|client|support|capable|compatible)"
    r"|(view|see|read|open|display).{0,80}(html|browser|online|web)|n'affiche|nicht korrekt|anzeigen",
    re.I | re.S,
)
_URL = re.compile(r"\b(?:https?://|mailto:|www\.)\S+", re.I)
_WORD = re.compile(r"\w+")
_EMLX = re.compile(rb"[ \t]*(\d{1,12})[ \t]*\r?\n")
_ENCODED_BODY = re.compile(rb"\s*+(?:[A-Za-z0-9+/]{4}|\r?\n)++(?:[A-Za-z0-9+/]{2,3}={1,2})?\s*+\Z")
_QUOTED_BODY = re.compile(rb"(?:[^=]++|=[0-9A-F]{2}|=\r?\n)*+\Z")  # quoted-printable without saying so
_ENRICHED = re.compile(r"<<|</?[A-Za-z-]{1,60}>")
_FURNITURE = ("text/css", "text/javascript", "application/javascript", "application/x-javascript", "text/xml")
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
_SAYING_NOTHING = (*_SIGNATURES, "application/pgp-encrypted", "text/x-amp-html", "text/watch-html")
_SMIME = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_CALENDARS = ("text/calendar", "application/ics", "application/calendar", "text/x-vcalendar")
_TNEF = ("application/ms-tnef", "application/vnd.ms-tnef")
_REPORTS = (
    "message/delivery-status",
    "message/disposition-notification",
    "message/feedback-report",
    "message/global-delivery-status",
    "text/rfc822-headers",
    "message/global-headers",
)
_MESSAGES = ("message/rfc822", "message/global", "message/news", "message/rfc2822")
_BODIES = ("text/plain", "text/html")
_SUFFIXES = {
    "text/html": ".html",
    "text/csv": ".csv",
    "text/markdown": ".md",
    "application/json": ".json",
    "text/calendar": ".ics",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "text/directory": ".vcf",
    "application/rtf": ".rtf",
    "text/rtf": ".rtf",
    "application/xhtml+xml": ".xhtml",
    "text/plain": ".txt",
    "text/x-patch": ".patch",
    "text/x-diff": ".diff",
    "text/tab-separated-values": ".tsv",
}


@dataclass(frozen=True, slots=True)
class _Said:
    """Text of the message itself. ``form``: "plain", "html" or "calendar"."""

    form: str
    text: str


_Piece = _Said | Member | LeftOut


def read(file: IO[bytes], *, is_inside: bool) -> Iterator[Part]:
    """The message under its subject, then what is attached. ``is_inside``: it is itself in another document."""
    data = file.read()
    if length := _EMLX.match(data[:40]):  # a message of Apple Mail: its length, itself, and a property list
        data = data[length.end() : length.end() + int(length[1])]
    return read_message(data, is_inside=is_inside)


def read_message(data: bytes, *, is_inside: bool, otherwise: str = "") -> Iterator[Part]:
    """The same from bytes. ``otherwise``: the label of a message without a subject."""
    message = mime.parse(data)
    subject = " ".join(message.header("Subject").split())
    fields = {name: message.header(name) for name in FIELDS}
    place = (subject or otherwise) if is_inside else ""
    walk = _Walk(place)
    pieces = list(walk.part(message))
    body, kind = _join(pieces)
    own = message_text(subject, fields, body, kind)
    yield Text(own.label or otherwise, own.text, own.kind)
    for piece in pieces:
        if isinstance(piece, Member):
            yield piece
        elif isinstance(piece, LeftOut):
            yield replace(piece, where=tuple(_at(place, one) for one in piece.where) or ((place,) if place else ()))
    for content in walk.tnefs:
        yield from _read_tnef(content, place, body)


def message_text(subject: str, fields: dict[str, str], body: str, kind: Kind) -> Text:
    """A message itself, without its attachments, under its subject."""
    subject = " ".join(subject.split())
    lines = (f"{name}: {' '.join(value.split())[:MAX_FIELD_CHARS]}" for name, value in fields.items() if value)
    head = "\n".join([*([f"Subject: {subject}"] if subject else []), *lines])
    return Text(subject, f"{head}\n\n{body}", kind)


def _says(text: str, inner: str) -> bool:
    """Whether a text contains the words of another one, except for a few that formatting adds."""
    words = Counter(_WORD.findall(inner))
    missing = words - Counter(_WORD.findall(text))
    return bool(words) and missing.total() <= MAX_NEW_SHARE * words.total()


def _join(pieces: Iterable[_Piece]) -> tuple[str, Kind]:
    """Join the bodies of a message in order. An invitation does not repeat a description that the body contains."""
    said = [piece for piece in pieces if isinstance(piece, _Said)]
    bodies = [piece for piece in said if piece.form != "calendar"]
    text = "\n\n".join(piece.text.strip("\n") for piece in bodies if piece.text.strip())
    for piece in said:
        if piece.form == "calendar":
            event = calendar.to_text(piece.text, without=text)
            text = f"{text}\n\n{event}" if text else event
    is_page = any(piece.form != "plain" for piece in said) and all(piece.form != "plain" for piece in bodies)
    return text, "html" if is_page else "text"


def _read_tnef(content: bytes, place: str, body: str) -> Iterator[Part]:
    """Read a winmail.dat. Its body is left out if it repeats the body of the message."""
    for part in tnef.read(content):
        if isinstance(part, Text):
            if not _says(body, part.text):
                yield Text(_at(place, part.label), part.text, part.kind)
        elif isinstance(part, LeftOut):
            yield replace(part, where=tuple(_at(place, one) for one in part.where or ("winmail.dat",)))
        elif part.is_named or not _says(body, _rtf_text(part)):
            yield Member(part.name, part.open, _at(place, part.place), part.is_named)


def read_signed(data: bytes, place: str, body: str) -> Iterator[Part]:
    """What a signed message holds beside a body that was read already, which is left out."""
    for part in read_message(data, is_inside=False):
        if isinstance(part, Member):
            yield replace(part, place=_at(place, part.place))
        elif isinstance(part, LeftOut):
            yield replace(part, where=tuple(_at(place, one) for one in part.where))
        elif not _says(body, part.text):
            yield replace(part, label=_at(place, part.label))


def _rtf_text(member: Member) -> str:
    """The text of a body in RTF; "" if it cannot be read, as reading it again will tell."""
    with suppress(Exception):
        return "\n".join(part.text for part in rtf.read(member.open()) if isinstance(part, Text))
    return ""


def _at(place: str, label: str) -> str:
    return f"{place} > {label}" if place and label else place or label


@dataclass
class _Walk:
    """Walks the parts of one message in order. ``tnefs``: the contents of winmail.dat files, which are read last."""

    place: str
    tnefs: list[bytes] = field(default_factory=list)
    has_body: bool = False
    events: set[bytes] = field(default_factory=set)
    signed: int = 0

    def part(self, part: mime.Part) -> Iterator[_Piece]:
        kind = part.type
        if part.is_too_deep:
            yield LeftOut("too_deep", ("message",))
        if part.is_cut:
            yield LeftOut("rest", note=f"the parts after {mime.MAX_PARTS:,}")
        if kind.startswith("multipart/") and part.parts:
            yield from self._multipart(part)
        elif kind.startswith("multipart/"):
            if text := self._body_text(part):
                yield _Said("plain", text)
        elif not any(map(is_private_name, part.names)) and kind not in _SAYING_NOTHING:
            yield from self._leaf(part, kind, next(iter(part.names), ""))

    def _multipart(self, part: mime.Part) -> Iterator[_Piece]:
        if part.type == "multipart/encrypted":
            yield LeftOut("encrypted", ("message",))
        elif part.type == "multipart/alternative":
            yield from self._alternative(part)
        elif part.type == "multipart/related":
            for one in part.parts:
                if one.type not in _FURNITURE or one.is_attached:
                    yield from self.part(one)
        else:
            for one in part.parts:
                yield from self.part(one)

    def _alternative(self, part: mime.Part) -> Iterator[_Piece]:
        """Read the form with the most text, the plain one if they are alike, and the attachments of all forms."""
        forms = []
        had_body = self.has_body
        for one in part.parts:
            self.has_body = had_body
            forms.append(list(self.part(one)))
        self.has_body = True
        said = [[piece for piece in form if isinstance(piece, _Said)] for form in forms]
        bodies = [[piece for piece in form if piece.form != "calendar" and piece.text.strip()] for form in said]
        yield from _choose([body for body in bodies if body])
        yield from (piece for form in said for piece in form if piece.form == "calendar")
        for form in forms:
            yield from (piece for piece in form if not isinstance(piece, _Said))

    def _leaf(self, part: mime.Part, kind: str, name: str) -> Iterator[_Piece]:
        where = (name,) if name else ()
        if kind in _MESSAGES:
            yield Member(name or "message.eml", partial(_open, part), place=self.place, is_named=False)
        elif kind in _REPORTS:
            yield _Said("plain", words.decode_text(part.content(), part.charset).text)
        elif kind == "message/external-body":
            said = part.param("url") or part.param("site") or part.param("access-type")
            yield LeftOut("attachment", where, note=f"it is stored elsewhere: {said}"[:200])
            if request := self._body_text(mime.parse(part.content())).strip():  # what to write to a mail server for it
                yield _Said("plain", request)
        elif kind == "message/partial":
            yield LeftOut("rest", where, note=f"piece {part.param('number') or 'n'} of a message sent in pieces")
            yield _Said("plain", words.decode_text(part.content(), part.charset).text)
        elif kind in _TNEF or name.lower() == "winmail.dat":
            self.tnefs.append(part.content())
        elif kind in _SMIME or name.lower().endswith((".p7m", ".p7z")):
            yield from self._smime(part)
        elif kind in _CALENDARS or name.lower().endswith(".ics"):
            yield from self._invitation(part)
        elif kind.startswith(("image/", "audio/", "video/")) and not _is_document(part):
            yield (
                LeftOut("image", where)
                if kind.startswith("image/")
                else LeftOut("attachment", where, note=f"{kind.partition('/')[0]} is not read")
            )
        elif kind.startswith("text/") and not (
            part.is_attached or (name and self.has_body) or (kind in _SUFFIXES and kind not in _BODIES)
        ):
            yield from self._text(part)
        else:
            yield from self._attachment(part, name)

    def _attachment(self, part: mime.Part, name: str) -> Iterator[_Piece]:
        if part.start >= part.end or not part.body().strip():
            if b"x-apple-content-length" in str(sorted(part.headers)).encode():
                yield LeftOut("attachment", (name or "attachment",), note="it is stored beside the message")
            return
        suffix = _SUFFIXES.get(part.type, "")
        named = name or f"attachment{suffix}"
        if suffix and "." not in named:
            named += suffix
        yield Member(named, partial(_open_text if part.type.startswith("text/") else _open, part), place=self.place)

    def _text(self, part: mime.Part) -> Iterator[_Piece]:
        self.has_body = True
        kind = part.type
        text = self._body_text(part)
        if kind == "text/html" or html.START.match(text):
            yield _Said("html", html.to_text(text, whole=True))
        elif kind in ("text/enriched", "text/richtext"):
            yield _Said("plain", _ENRICHED.sub(lambda tag: "<" if tag[0] == "<<" else "", text))
        else:
            for name, content in encoded.find_files(text) if "begin " in text else ():
                yield Member(name, partial(io.BytesIO, content), place=self.place)
            is_flowed = part.param("format").lower() == "flowed"
            yield _Said("plain", _flow(text, part.param("delsp").lower() == "yes") if is_flowed else text)
        if self.guessed:
            self.guessed = False
            yield LeftOut("encoding")

    guessed: bool = False

    def _body_text(self, part: mime.Part) -> str:
        data = part.content()
        if _ENCODED_BODY.match(data) and len(data.strip()) >= LEAST_ENCODED:
            decoded = mime.decode_base64(data)
            with suppress(UnicodeDecodeError):
                data = decoded if _is_sane(decoded.decode("utf-8")) else data
        elif b"=\n" in data.replace(b"\r", b"") and data.isascii() and _QUOTED_BODY.match(data):
            data = mime.decode_quoted(data)
        said = words.decode_text(data, part.charset)
        self.guessed = self.guessed or said.is_guess
        return said.text.replace("\r\n", "\n").replace("\r", "\n")

    def _invitation(self, part: mime.Part) -> Iterator[_Piece]:
        content = part.content()
        if (key := content.strip()) in self.events:
            return
        self.events.add(key)
        yield _Said("calendar", words.decode_text(content, part.charset or "utf-8").text)

    def _smime(self, part: mime.Part) -> Iterator[_Piece]:
        inner = cms.signed_content(part.content())
        if inner is None or self.signed >= MAX_SIGNED:
            yield LeftOut("encrypted", ("message",))
        elif inner:
            self.signed += 1
            yield from self.part(mime.parse(inner))


def _choose(bodies: list[list[_Said]]) -> list[_Said]:
    """Choose the plain form, unless it only points to the page or has much less text."""
    plain = [one for one in bodies if all(piece.form == "plain" for piece in one)]
    pages = [one for one in bodies if any(piece.form != "plain" for piece in one)]
    if not plain or not pages:
        return max(bodies, key=_count_words, default=[])
    best, page = max(plain, key=_count_words), max(pages, key=_count_words)
    said, more = _count_words(best), _count_words(page)
    is_stub = said <= MAX_STUB_WORDS and more > said and _STUB.search("\n".join(piece.text for piece in best))
    return page if is_stub or more > 1.5 * said + 20 else best


def _count_words(body: list[_Said]) -> int:
    return sum(len(_WORD.findall(_URL.sub("", piece.text))) for piece in body)


def _is_sane(text: str) -> bool:
    sample = text[:2_000]
    strange = sum(not (c.isprintable() or c in "\r\n\t") for c in sample)
    return bool(sample) and strange == 0


def _is_document(part: mime.Part) -> bool:
    """Whether a part that is declared as an image is a PDF or an Office document."""
    return part.content()[:8].startswith((b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"{\\rtf"))


def _flow(text: str, deletes_space: bool) -> str:
    """Join flowed lines: a line that ends in a space continues in the next one (RFC 3676)."""
    joint = "" if deletes_space else " "
    return re.sub(r"(?<=\S)(?<!\n--) \n(?=[^\s>-])", joint, re.sub(r"^ (?=[ >]|From )", "", text, flags=re.M))


def _open_text(part: mime.Part) -> IO[bytes]:
    """The content in UTF-8, if its charset is declared."""
    content = part.content()
    return io.BytesIO(words.decode_text(content, part.charset).text.encode() if part.charset else content)


def _open(part: mime.Part) -> IO[bytes]:
    return io.BytesIO(part.content())
