"""What documents that are not XML hold as text: a count for ``completeness``, which knows nothing of the readers."""

import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import olefile
from pypdfium2 import PdfDocument, PdfiumError

from .completeness_held import Held

MAX_STREAM_BYTES = 16 * 1024 * 1024  # that are counted of a stream
MAX_RTF_BYTES = 4 * 1024 * 1024  # without pictures
MAX_PAGES = 64  # of a PDF that are counted, spread over all
MAX_RECORDS = 2_000_000
MAX_DEPTH = 20  # of the groups of an RTF file and the containers of slides


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# RTF: control words are stripped, and with them the groups that hold no text


_RTF_TOKEN = re.compile(r"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-f]{2})|\\([^a-z'])|([{}])|([^\\{}\r\n]+)", re.I)
_RTF_GONE = _names(
    "shprslt fonttbl colortbl stylesheet info pict listtable listoverridetable rsidtbl generator themedata "
    "colorschememapping latentstyles datastore xmlnstbl filetbl revtbl object objdata fldinst template private "
    "footnotesep pgdsctbl bkmkstart bkmkend nonshppict mmathPr wgrffmtfilter userprops listtext pntext pn falt "
    "panose sp sn"
)
_RTF_BREAKS = _names("par line tab cell row page sect nestcell nestrow emspace enspace")
_RTF_KEPT = _names(
    "footnote shptxt shpinst shp upr ud annotation fldrslt header footer headerl headerr headerf footerl footerr "
    "footerf"
)


def _count_rtf(file: IO[bytes], _: str) -> Held:
    text = file.read(MAX_STREAM_BYTES).decode("latin-1")
    text = re.sub(r"[0-9a-fA-F\r\n]{200,}", "", text)  # pictures
    if len(text) > MAX_RTF_BYTES:
        return Held()
    found: list[str] = []
    hidden = [False]
    fallback, skip, starred = [1], 0, False
    for word, number, code, sign, brace, plain in _RTF_TOKEN.findall(text):
        if brace == "{":
            hidden.append(hidden[-1])
            fallback.append(fallback[-1])
            starred = False
        elif brace:
            if len(hidden) > 1:
                hidden.pop()
                fallback.pop()
            skip = 0
        elif sign == "*":
            starred = True
        elif word:
            if word in _RTF_GONE or (starred and word not in _RTF_KEPT):
                hidden[-1] = True
            elif word == "uc":
                fallback[-1] = int(number or 1)
            elif word == "deleted" or word == "v":
                hidden[-1] = hidden[-1] or number != "0"
            elif word == "bin":
                return Held()
            elif hidden[-1]:
                pass
            elif word == "u":
                found.append(chr(int(number or 0) % 65_536))
                skip = fallback[-1]
            elif word in _RTF_BREAKS:
                found.append("\n")
            starred = False
        elif hidden[-1]:
            pass
        elif code:
            if skip:
                skip -= 1
            else:
                found.append(_OPAQUE if int(code, 16) > 127 else chr(int(code, 16)))
        elif sign:
            found.append({"~": " ", "_": "-", "-": ""}.get(sign, sign if sign in "\\{}" else "\n"))
        elif plain:
            cut = min(skip, len(plain))
            skip -= cut
            found.append(plain[cut:])
    return _parted("".join(found).encode("utf-16", "surrogatepass").decode("utf-16", "ignore"))


_OPAQUE = "\ue000"  # stands for a character of an unknown code page; no document has it


def _parted(text: str) -> Held:
    """Words with characters that are not known are counted only."""
    held = Held()
    pattern = re.compile(rf"[\w{_OPAQUE}]*{_OPAQUE}[\w{_OPAQUE}]*")
    held.opaque = len(pattern.findall(text)) if _OPAQUE in text else 0
    held.texts.append(pattern.sub(" ", text) if held.opaque else text)
    return held


# Word before 2007: the pieces of which the text consists


def _count_doc(file: IO[bytes], _: str) -> Held:
    held = Held()
    with olefile.OleFileIO(file) as ole:
        main = ole.openstream("WordDocument").read(MAX_STREAM_BYTES)
        flags = struct.unpack_from("<H", main, 10)[0]
        if struct.unpack_from("<H", main, 2)[0] < 193 or flags & 0x0100:  # before Word 97, or encrypted
            return held
        table = ole.openstream("1Table" if flags & 0x0200 else "0Table").read(MAX_STREAM_BYTES)
    lengths = struct.unpack_from(
        "<8i", main, 76
    )  # body, notes, headers, macros, comments, endnotes, boxes, header boxes
    start, size = struct.unpack_from("<2i", main, 418)
    text = "".join(_pieces(main, table[start : start + size]))
    at = 0
    for number, length in enumerate(lengths):
        part, at = _without_fields(text[at : at + length]), at + length
        if number == 2:
            held.alike[0].extend(part.split("\r"))
        elif number != 3:
            held.texts.append(part)
    return held


def _pieces(main: bytes, table: bytes) -> Iterator[str]:
    at = 0
    while at < len(table) and table[at] == 1:  # properties
        at += 3 + struct.unpack_from("<H", table, at + 1)[0]
    size = struct.unpack_from("<I", table, at + 1)[0]
    count = (size - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", table, at + 5)
    for number in range(count):
        place = struct.unpack_from("<I", table, at + 5 + 4 * (count + 1) + 8 * number + 2)[0]
        chars = ends[number + 1] - ends[number]
        if place & 0x40000000:
            place = (place & 0x3FFFFFFF) // 2
            yield main[place : place + chars].decode("cp1252", "replace")
        else:
            yield main[place : place + 2 * chars].decode("utf-16-le", "replace")


_FIELD = re.compile("\x13[^\x13\x14\x15]*(?:\x15|(\x14))")


def _without_fields(text: str) -> str:
    """The text with the results of fields, and without their instructions."""
    for _ in range(3):  # fields stand in the instructions of others
        text = _FIELD.sub("", text)
    return text.translate(_CONTROLS)


_CONTROLS = {7: "\n", 9: "\t", 11: "\n", 12: "\n", 30: "-", 31: "", 160: " ", 1: "", 2: "", 8: "", 5: "", 0x15: ""}


# PowerPoint and Excel before 2007: records of texts


def _count_ppt(file: IO[bytes], _: str) -> Held:
    held = Held()
    with olefile.OleFileIO(file) as ole:
        data = ole.openstream("PowerPoint Document").read(MAX_STREAM_BYTES)
    edits = 0
    ends: list[int] = []
    at = 0
    while at + 8 <= len(data):
        version, kind, size = struct.unpack_from("<HHI", data, at)
        at += 8
        if kind == 0x0FF5:  # each time that a file was saved by adding to it
            edits += 1
        if kind == 0x03F0 and data[at + 2 : at + 4] == b"\xf1\x03" and data[at + 8 : at + 12] == bytes(4):
            at += size  # the master of notes
        elif kind in (0x03F8, 0x03EA, 0x0FC9, 0x1388, 0x138B):  # masters, settings
            at += size
        elif version & 0xF == 0xF and len(ends) < MAX_DEPTH * 1000:
            continue  # what is in a container comes next
        else:
            body = data[at : at + size]
            if kind == 0x0FA0:
                held.texts.append(body.decode("utf-16-le", "replace").replace("\r", "\n").replace("\v", "\n"))
            elif kind == 0x0FA8:
                held.texts.append(body.decode("latin-1").replace("\r", "\n").replace("\v", "\n"))
            at += size
    return held if edits <= 1 else Held()


def _count_xls(file: IO[bytes], _: str) -> Held:
    held = Held()
    with olefile.OleFileIO(file) as ole:
        data = ole.openstream("Workbook" if ole.exists("Workbook") else "Book").read(MAX_STREAM_BYTES)
    uses: Counter[int] = Counter()
    shared: list[bytes] = []
    at, before = 0, 0
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("<HH", data, at)
        body = data[at + 4 : at + 4 + size]
        at += 4 + size
        if kind == 0x2F:  # encrypted
            return Held()
        if kind == 0xFC or (kind == 0x3C and before == 0xFC):
            shared.append(body)
            kind = 0xFC
        elif kind == 0xFD:
            uses[struct.unpack_from("<I", body, 6)[0]] += 1
        before = kind
    strings = list(_shared_strings(shared)) if shared else []
    for index, count in uses.items():
        if index < len(strings):
            held.texts.extend([strings[index]] * count)
    return held


def _shared_strings(bodies: list[bytes]) -> Iterator[str]:
    """The strings of a table, which may go on in the next record."""
    _, count = struct.unpack_from("<II", bodies[0], 0)
    number, at = 0, 8
    for _ in range(min(count, MAX_RECORDS)):
        if at >= len(bodies[number]):
            number, at = number + 1, 0
            if number >= len(bodies):
                return
        chars, flags = struct.unpack_from("<HB", bodies[number], at)
        at += 3
        runs = extra = 0
        if flags & 8:
            runs = struct.unpack_from("<H", bodies[number], at)[0]
            at += 2
        if flags & 4:
            extra = struct.unpack_from("<I", bodies[number], at)[0]
            at += 4
        found: list[str] = []
        while chars:
            width = 2 if flags & 1 else 1
            here = min(chars, (len(bodies[number]) - at) // width)
            found.append(
                bodies[number][at : at + here * width].decode("utf-16-le" if width == 2 else "latin-1", "replace")
            )
            chars, at = chars - here, at + here * width
            if chars:
                number, at = number + 1, 1
                if number >= len(bodies):
                    return
                flags = bodies[number][0]
        yield "".join(found)
        at += 4 * runs + extra
        while at > len(bodies[number]) and number + 1 < len(bodies):
            number, at = number + 1, at - len(bodies[number])


def _count_msg(file: IO[bytes], _: str) -> Held:
    held = Held()
    with olefile.OleFileIO(file) as ole:
        for name in ("__substg1.0_1000", "__substg1.0_0037"):
            if ole.exists(f"{name}001F"):
                held.texts.append(ole.openstream(f"{name}001F").read(MAX_STREAM_BYTES).decode("utf-16-le", "replace"))
    return held


# PDF: the glyphs of the pages


def pages_of_pdf(file: IO[bytes], until: float) -> tuple[int, dict[int, str]]:
    """How many pages a PDF has, and what stands on at most ``MAX_PAGES`` of them, spread over all, by their numbers.
    After the time ``until`` nothing is counted."""
    found: dict[int, str] = {}
    with PdfDocument(file) as document:
        count = len(document)
        for number in range(0, count, -(-count // MAX_PAGES) or 1):
            if time.monotonic() > until:
                return count, {}
            try:
                page = document[number]
                text = page.get_textpage()
            except PdfiumError:
                continue
            found[number + 1] = text.get_text_range()
            text.close()
            page.close()
    return count, found


COUNTERS: Mapping[str, Callable[[IO[bytes], str], Held]] = {
    "rtf": _count_rtf,
    "doc": _count_doc,
    "ppt": _count_ppt,
    "xls": _count_xls,
    "msg": _count_msg,
}
