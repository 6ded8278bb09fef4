"""Reads winmail.dat (TNEF, MS-OXTNEF), in which Outlook packs a body, an invitation and attachments."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from ..sdk import is_private_name
from . import html, mapi, words
from .parts import LeftOut, Member, Part, Text

MAGIC = b"\x78\x9f\x3e\x22"
MAX_PROPERTIES = 10_000  # of a message or an attachment
_SUBJECT, _BODY, _CODEPAGE, _PROPERTIES = 0x8004, 0x800C, 0x9007, 0x9003
_ATTACHED, _ATTACHED_NAME, _ATTACHED_DATA, _ATTACHED_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
_SIZES = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 0xA: 4, 0xB: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_STRING8, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x102
_DATE, _LONG = 0x40, 3

Value = int | bytes | str


@dataclass
class _Holder:
    """The properties of the message, or of an attachment. ``named``: those without a number of their own."""

    properties: dict[int, tuple[int, Value]] = field(default_factory=dict)
    named: dict[int, tuple[int, Value]] = field(default_factory=dict)
    name: str = ""
    data: bytes | None = None


def read(data: bytes) -> Iterator[Part]:
    """Read the message in a TNEF stream, then its attachments. A stream that is cut short is read up to the cut."""
    message, attached, charset, damage = _Holder(), list[_Holder](), "", ""
    subject = body = b""
    try:
        for id, value in _attributes(data):
            if id == _CODEPAGE and len(value) >= 4:
                charset = mapi.charset(struct.unpack_from("<I", value)[0])
            elif id == _SUBJECT:
                subject = value
            elif id == _BODY:
                body = value
            elif id == _PROPERTIES:
                _read_properties(value, message, charset)
            elif id == _ATTACHED:
                attached.append(_Holder())
            elif id in (_ATTACHED_NAME, _ATTACHED_DATA, _ATTACHED_PROPERTIES):
                if not attached or (id == _ATTACHED_DATA and attached[-1].data is not None):
                    attached.append(_Holder())
                if id == _ATTACHED_NAME:
                    attached[-1].name = words.decode_text(value.rstrip(b"\0"), charset).text
                elif id == _ATTACHED_DATA:
                    attached[-1].data = value
                else:
                    _read_properties(value, attached[-1], charset)
    except _CutShort as error:
        damage = str(error)
    yield from _read_message(message, words.decode_text(subject.rstrip(b"\0"), charset).text, body, charset)
    for number, one in enumerate(attached, 1):
        yield from _read_attached(one, number)
    if damage:
        yield LeftOut("damaged", note=damage)


class _CutShort(Exception):
    """The stream ends before what it announces."""


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 6
    while position + 9 <= len(data):
        _, kind, size = struct.unpack_from("<BII", data, position)
        position += 9
        if size > len(data) - position:
            raise _CutShort("it is cut short")
        yield kind & 0xFFFF, data[position : position + size]
        position += size + 2  # a checksum, which some programs write wrongly


def _read_message(message: _Holder, subject: str, body: bytes, charset: str) -> Iterator[Part]:
    subject = subject or _text(message, mapi.SUBJECT)
    lines = []
    for id, (kind, value) in message.named.items():
        said = mapi.date(value) if kind == _DATE and isinstance(value, int) else value
        if id in mapi.NAMED_FIELDS and isinstance(said, str) and said:
            lines.append(f"{mapi.NAMED_FIELDS[id]}: {said}")
    lines += mapi.contact_lines({id: _text(message, id) for id in mapi.CONTACT_FIELDS.values()})
    if lines and subject:
        lines.insert(0, f"Subject: {subject}")
    is_page = False
    text = _text(message, mapi.BODY) or words.decode_text(body.rstrip(b"\0"), charset).text
    if not text.strip() and (page := _bytes(message, mapi.HTML)):
        codepage = message.properties.get(mapi.INTERNET_CODEPAGE, (0, 0))[1]
        declared = mapi.charset(codepage) if isinstance(codepage, int) else ""
        text, is_page = html.to_text(words.decode_text(page, declared or charset).text), True
    text = "\n".join([*dict.fromkeys(lines), *([""] if lines and text else []), text])
    if text.strip():
        yield Text(subject if lines else "", text, "html" if is_page else "text")
    elif rtf := mapi.decompress(_bytes(message, mapi.RTF)):
        yield Member("message.rtf", partial(io.BytesIO, rtf), is_named=False)


def _read_attached(one: _Holder, number: int) -> Iterator[Part]:
    names = [_text(one, mapi.ATTACHED_NAME), one.name, _text(one, mapi.ATTACHED_SHORT_NAME)]
    if any(map(is_private_name, filter(None, names))):
        return
    name = next(filter(None, names), "") or _text(one, mapi.ATTACHED_TITLE) or f"attachment {number}"
    kind, value = one.properties.get(mapi.ATTACHED_DATA, (0, b""))
    if kind == _OBJECT and isinstance(value, bytes) and len(value) > 16:
        inner = value[16:]  # after the id of its interface
        yield Member("message.dat" if inner.startswith(MAGIC) else name, partial(io.BytesIO, inner))
    elif content := one.data or (value if isinstance(value, bytes) else b""):
        yield Member(name, partial(io.BytesIO, content))
    elif one.data is None:
        yield LeftOut("attachment", (name,))


def _text(holder: _Holder, id: int) -> str:
    value = holder.properties.get(id, (0, ""))[1]
    return value.strip("\0") if isinstance(value, str) else ""


def _bytes(holder: _Holder, id: int) -> bytes:
    value = holder.properties.get(id, (0, b""))[1]
    return value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else b""


def _read_properties(data: bytes, holder: _Holder, charset: str) -> None:
    """Read MAPI properties, as far as they are whole."""
    try:
        (count,) = struct.unpack_from("<I", data)
        position = 4
        for _ in range(min(count, MAX_PROPERTIES)):
            kind, id = struct.unpack_from("<HH", data, position)
            position += 4
            into = holder.properties
            if id >= 0x8000:
                id, position = _read_name(data, position)
                into = holder.named
            values, position = _read_values(data, position, kind, charset)
            if values and id:
                into.setdefault(id, (kind & ~0x1000, values[0]))
    except struct.error:
        return


def _read_name(data: bytes, position: int) -> tuple[int, int]:
    """The number of a named property, or 0 if it is named by a word; and where its values begin."""
    (by_word,) = struct.unpack_from("<I", data, position + 16)
    (value,) = struct.unpack_from("<I", data, position + 20)
    position += 24
    if not by_word:
        return value, position
    return 0, position + value + -value % 4


def _read_values(data: bytes, position: int, kind: int, charset: str) -> tuple[list[Value], int]:
    values: list[Value] = []
    base, count = kind & ~0x1000, 1
    is_long = base in (_STRING8, _UNICODE, _OBJECT, _BINARY)
    if is_long or kind & 0x1000:
        (count,) = struct.unpack_from("<I", data, position)
        position += 4
    if not is_long and base not in _SIZES:
        raise struct.error("an unknown type")
    for _ in range(count):
        if position >= len(data):
            raise struct.error("cut short")
        if not is_long:
            size = _SIZES[base]
            values.append(int.from_bytes(data[position : position + size], "little"))
        else:
            (size,) = struct.unpack_from("<I", data, position)
            position += 4
            raw = data[position : position + size]
            if base == _UNICODE:
                values.append(raw.decode("utf-16-le", "replace").rstrip("\0"))
            elif base == _STRING8:
                values.append(words.decode_text(raw.rstrip(b"\0"), charset).text)
            else:
                values.append(raw)
            size += -size % 4
        position += size
    return values, position
