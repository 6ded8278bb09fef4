"""Parses MIME messages (RFC 2045, 2046) into a tree of parts and tolerates any damage. Knows no text and no document.

Parts are found from the outside in: an inner part ends at the latest where the part around it ends, so a missing
boundary damages only its own part. Time and memory are linear in the size of the message.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from . import words

MAX_NESTING = 30  # of multiparts; a deeper one is read as a single part
MAX_PARTS = 10_000  # of one message; the rest is left out
MAX_HEADER_BYTES = 65_536  # of one header
MAX_HEADERS = 10_000  # of one part
_HEADER = re.compile(rb"([!-9;-~]{1,200}?)[ \t]*+:[ \t]*+")
_BOUNDARY_GUESS = re.compile(rb"^--([^\s][^\r\n]{0,99}?)[ \t]*\r?\n(?=content-)", re.I | re.M)
_TYPE = re.compile(r"\s*+([\w!#$&^.+-]+/[\w!#$&^.+-]+)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_WORDS_LINE = re.compile(rb"^[^\r\n]*\S[ \t]+\S[^\r\n]*$", re.M)
_END = re.compile(rb"=[ \t\r]*\n|\n\r?\n")  # of base64, before words that follow it
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n|\Z)")
_BAD_QUOTED = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")


@dataclass
class Part:
    """A part of a message, or the message itself. ``start`` and ``end``: where its body is in ``data``."""

    data: bytes
    start: int
    end: int
    headers: dict[str, bytes]  # the first of each name, in lower case; unfolded, not decoded
    parent_type: str = ""
    parts: "list[Part]" = field(default_factory=list)
    is_too_deep: bool = False
    is_cut: bool = False  # it has more parts than ``MAX_PARTS``

    @cached_property
    def _typed(self) -> tuple[str, dict[str, str]]:
        value, params = words.params(self.headers.get("content-type", b""))
        if found := _TYPE.match(value):
            return found[1].lower(), params
        default = "message/rfc822" if self.parent_type == "multipart/digest" else "text/plain"
        if value.strip() and not value.strip().lower().startswith("text"):
            default = "text/html" if value.strip().lower() == "html" else "application/octet-stream"
        return default, params

    @cached_property
    def _disposed(self) -> tuple[str, dict[str, str]]:
        value, params = words.params(self.headers.get("content-disposition", b""))
        return value.strip().lower(), params

    @property
    def type(self) -> str:
        """Its type, in lower case, such as "text/plain"."""
        return self._typed[0]

    @property
    def charset(self) -> str:
        return self._typed[1].get("charset", "")

    @property
    def is_attached(self) -> bool:
        return self._disposed[0] == "attachment"

    @property
    def names(self) -> tuple[str, ...]:
        """Its file names: from its disposition, and from its type, which may differ."""
        found = (self._disposed[1].get("filename", ""), self._typed[1].get("name", ""))
        return tuple(name for name in found if name.strip())

    def param(self, name: str) -> str:
        return self._typed[1].get(name, "")

    def header(self, name: str) -> str:
        """The value of a header, decoded; "" if there is none."""
        raw = self.headers.get(name.lower())
        return words.decode(raw, self.charset) if raw else ""

    def body(self) -> bytes:
        return self.data[self.start : self.end]

    def content(self) -> bytes:
        """Its body with the transfer encoding decoded. An error in the encoding affects only the bytes around it."""
        body = self.body()
        coding = self.headers.get("content-transfer-encoding", b"").strip().lower().replace(b"_", b"-")
        coding = coding.partition(b";")[0].partition(b" ")[0].strip(b"\"'")
        if coding in (b"base64", b"base-64", b"b", b"x-base64"):
            return decode_base64(body, is_text=self.type.startswith("text/"))
        if coding in (b"quoted-printable", b"qp", b"quotedprintable"):
            return decode_quoted(body)
        if coding in (b"x-uuencode", b"uuencode", b"x-uue", b"uue"):
            return decode_uu(body)
        return body


def parse(data: bytes) -> Part:
    """Parse a message. Never raises."""
    if b"\n" not in data and b"\r" in data:
        data = data.replace(b"\r", b"\n")
    counted = _Count()
    start = _skip_from_line(data)
    return _parse(data, start, len(data), "", 0, counted)


class _Count:
    """How many parts were found so far."""

    parts = 0


def _parse(data: bytes, start: int, end: int, parent_type: str, depth: int, counted: _Count) -> Part:
    headers, start = _read_headers(data, start, end)
    part = Part(data, start, end, headers, parent_type)
    if not part.type.startswith("multipart/"):
        return part
    if depth >= MAX_NESTING:
        part.is_too_deep = True
        return part
    if part.headers.get("content-transfer-encoding", b"").strip().lower() in (b"base64", b"quoted-printable"):
        content = part.content()  # against the standard, but some programs do it
        if content.lstrip()[:2] == b"--":
            data, start, end = content, 0, len(content)
            part.data, part.start, part.end = data, start, end
    for first, last in _find_parts(data, start, end, part.param("boundary")):
        counted.parts += 1
        if counted.parts > MAX_PARTS:
            part.is_cut = True
            break
        part.parts.append(_parse(data, first, last, part.type, depth + 1, counted))
    return part


def _skip_from_line(data: bytes) -> int:
    """Return where the headers begin: after a byte order mark, empty lines, and the From_ line of a mailbox."""
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    while start < len(data) and data[start] in b"\r\n":
        start += 1
    if data.startswith((b"From ", b">From "), start):
        start = data.find(b"\n", start) + 1 or len(data)
    return start


def _read_headers(data: bytes, start: int, end: int) -> tuple[dict[str, bytes], int]:
    """Return the headers, and where the body begins: after an empty line, or at the first line that is not a header."""
    headers: dict[str, bytes] = {}
    name = ""
    value: list[bytes] = []
    size = 0

    def keep() -> None:
        if name and name not in headers and len(headers) < MAX_HEADERS:
            headers[name] = b" ".join(value)

    while start < end:
        stop = data.find(b"\n", start, end) + 1 or end
        first = data[start]
        if first in b" \t" and name:
            piece = data[start : min(stop, start + MAX_HEADER_BYTES)].strip()
            if not piece and _HEADER.match(data, stop, end) is None and data[stop : stop + 1] not in (b" ", b"\t"):
                start = stop
                break
            if size < MAX_HEADER_BYTES:
                value.append(piece)
                size += len(piece) + 1
        elif first in b"\r\n":
            start = stop
            break
        elif found := _HEADER.match(data, start, stop):
            keep()
            name = found[1].decode("ascii").lower()
            value = [data[found.end() : min(stop, found.end() + MAX_HEADER_BYTES)].strip()]
            size = len(value[0])
        elif not (data.startswith(b">From ", start) or data.startswith(b"From ", start)):
            break
        start = stop
    keep()
    return headers, start


def _find_parts(data: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
    """Yield where each part of a multipart begins and ends. If the declared boundary does not occur, guess it."""
    marker = boundary.rstrip().encode("latin-1", "replace")
    pattern = _delimiter(marker) if marker else None
    if pattern is None or pattern.search(data, start, end) is None:
        guess = _BOUNDARY_GUESS.search(data, start, end)
        if guess is None:
            return
        pattern = _delimiter(guess[1])
    first: int | None = None
    for found in pattern.finditer(data, start, end):
        if first is not None and found.start() > first:
            yield first, _before_line_end(data, first, found.start())
        # text may follow the last delimiter, such as the footer of a mailing list
        first = found.end()
    if first is not None and not data[first:end].isspace() and first < end:
        yield first, end


def _delimiter(boundary: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"^--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?:\r?\n|\Z)", re.M)


def _before_line_end(data: bytes, first: int, last: int) -> int:
    """Return the end of a part: the line end before a delimiter belongs to the delimiter."""
    if last > first and data[last - 1] == 10:
        last -= 1
        if last > first and data[last - 1] == 13:
            last -= 1
    return last


def decode_base64(body: bytes, *, is_text: bool = False) -> bytes:
    """The bytes of base64 with noise in it, without its padding, or with padding in the middle. Of a text part, what is
    not base64 is kept: all of it, if the encoding is wrongly declared, or the lines after its end."""
    tail = b""
    if is_text and (said := _WORDS_LINE.search(body)):
        ended = _END.search(body, 0, said.start())
        if not body[: said.start()].strip():
            return body
        if ended is not None and body[: ended.start()].strip():
            body, tail = body[: ended.start() + 1], b"\n" + body[ended.end() :]
    pieces = []
    for piece in _NOT_BASE64.sub(b"", body).split(b"="):
        if len(piece) % 4 == 1:
            piece = piece[:-1]
        pieces.append(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4)))
    return b"".join(pieces) + tail


def decode_quoted(body: bytes) -> bytes:
    """Decode quoted-printable. An invalid escape stays as it is."""
    return binascii.a2b_qp(_BAD_QUOTED.sub(b"=3D", _SOFT_BREAK.sub(b"=", body)))


def decode_uu(body: bytes) -> bytes:
    """Decode the first uuencoded file in a body."""
    pieces = []
    lines = iter(body.splitlines())
    for line in lines:
        if line.startswith(b"begin "):
            break
    for line in lines:
        if line.strip() in (b"end", b"`", b""):
            break
        try:
            pieces.append(binascii.a2b_uu(line))
        except binascii.Error:  # some programs write lines that are longer than their length byte says
            size = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                pieces.append(binascii.a2b_uu(line[:size]))
            except binascii.Error:
                continue
    return b"".join(pieces)
