"""Properties that Outlook's formats share (MS-OXPROPS, MS-OXRTFCP): dates, code pages, and compressed RTF."""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

MAX_RTF_BYTES = 64 * 1024 * 1024

SUBJECT, BODY, HTML, RTF = 0x0037, 0x1000, 0x1013, 0x1009
SENDER_NAME, SENDER_ADDRESS, SENDER_SMTP = 0x0C1A, 0x0C1F, 0x5D01
DISPLAY_TO, DISPLAY_CC = 0x0E04, 0x0E03
RECIPIENT_KIND, TO, CC = 0x0C15, 1, 2
DISPLAY_NAME, ADDRESS, SMTP = 0x3001, 0x3003, 0x39FE
SUBMITTED, DELIVERED = 0x0039, 0x0E06
MESSAGE_CODEPAGE, INTERNET_CODEPAGE = 0x3FFD, 0x3FDE
MESSAGE_CLASS = 0x001A
HEADERS = 0x007D  # of the message as it came from the internet
ATTACHED_NAME, ATTACHED_SHORT_NAME, ATTACHED_DATA, ATTACHED_TITLE = 0x3707, 0x3704, 0x3701, 0x3001
# Of contacts: what they are called here, and the property.
CONTACT_FIELDS = {
    "Name": 0x3001,
    "Company": 0x3A16,
    "Department": 0x3A18,
    "Title": 0x3A17,
    "Profession": 0x3A46,
    "Business phone": 0x3A08,
    "Home phone": 0x3A09,
    "Mobile": 0x3A1C,
    "Fax": 0x3A24,
    "Manager": 0x3A4E,
    "Assistant": 0x3A30,
    "Nickname": 0x3A4F,
    "Web page": 0x3A51,
    "Spouse": 0x3A48,
}
# Of appointments, tasks and contacts, by their number in a property set (MS-OXPROPS); each may be text or a date.
NAMED_FIELDS = {
    0x8208: "Where",
    0x820D: "Start",
    0x820E: "End",
    0x8232: "Repeats",
    0x8234: "Time zone",
    0x8238: "Attendees",
    0x8104: "Start",
    0x8105: "Due",
    0x811F: "Owner",
    0x8083: "E-mail",
    0x8093: "E-mail",
    0x80A3: "E-mail",
    0x801B: "Address",
    0x801A: "Home address",
    0x8062: "Messenger",
}
_CODEPAGES = {
    65001: "utf-8",
    65000: "utf-7",
    1200: "utf-16-le",
    20127: "cp1252",
    28591: "cp1252",
    20866: "koi8-r",
    21866: "koi8-u",
    50220: "iso-2022-jp",
    50221: "iso-2022-jp",
    50222: "iso-2022-jp",
    51932: "euc-jp",
    51949: "euc-kr",
    52936: "hz",
    54936: "gb18030",
    936: "gb18030",
    10000: "mac-roman",
}
_PREFIX = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans Serif"
    rb"SymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    + b"\r\n"
    + rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def charset(codepage: int) -> str:
    """The name of a code page of Windows as a charset; "" for none."""
    if 28592 <= codepage <= 28606:
        return f"iso-8859-{codepage - 28590}"
    return _CODEPAGES.get(codepage, f"cp{codepage}" if codepage else "")


def date(filetime: int) -> str:
    """A FILETIME for people, in UTC; "" if there is none, or for a day out of reach."""
    if not 0 < filetime < 0x0CB34557A3DD4000:
        return ""
    return (_EPOCH + timedelta(microseconds=filetime // 10)).strftime("%a, %d %b %Y %H:%M:%S +0000")


def decompress(data: bytes) -> bytes:
    """RTF from its compressed form (MS-OXRTFCP). What is cut short gives the text before that; what is no compressed
    RTF gives nothing."""
    if len(data) < 16:
        return b""
    _, raw_size, kind, _ = struct.unpack_from("<IIII", data)
    raw_size = min(raw_size, MAX_RTF_BYTES)
    if kind == 0x414C454D:  # "MELA": stored
        return data[16 : 16 + raw_size]
    if kind != 0x75465A4C:  # "LZFu"
        return b""
    out = bytearray(_PREFIX)
    base = len(_PREFIX)
    # ``out`` is the dictionary too: position p of the circular buffer is the last byte written at p modulo 4,096
    position, size = 16, len(data)
    while position < size and len(out) - base < raw_size:
        control = data[position]
        position += 1
        for bit in range(8):
            if position >= size:
                break
            if not control >> bit & 1:
                out.append(data[position])
                position += 1
                continue
            if position + 1 >= size:
                position = size
                break
            pair = data[position] << 8 | data[position + 1]
            position += 2
            offset, length = pair >> 4, (pair & 15) + 2
            here = len(out) & 4095
            if offset == here:
                position = size
                break
            start = len(out) - (here - offset & 4095)
            for step in range(length):
                out.append(out[start + step] if start + step >= 0 else 0x20)
    return bytes(out[base : base + raw_size])


def contact_lines(values: Mapping[int, str]) -> list[str]:
    return [f"{name}: {values[id]}" for name, id in CONTACT_FIELDS.items() if values.get(id)]
