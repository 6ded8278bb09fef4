"""What documents that are not XML hold as text: a count for ``completeness``, which knows nothing of the readers."""

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import olefile

from .completeness_held import Held, Source, TooLarge
from .completeness_numbers import BUILTIN

MAX_STREAM_BYTES = 16 * 1024 * 1024  # that are counted of a stream
MAX_RTF_CHARS = 4 * 1024 * 1024  # without pictures
SOFT_HYPHEN = b"\xad"
WORD_97 = 193  # the version that files of Word 97 and later have at least
MAX_RECORDS = 2_000_000
MAX_DEPTH = 20  # of the groups of an RTF file


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# RTF: control words are stripped, and with them the groups that hold no text


_RTF_TOKEN = re.compile(r"\\([a-z]{1,32})(-?\d{1,10})? ?|((?:\\'[0-9a-f]{2})+)|\\([^a-z'])|([{}])|([^\\{}\r\n]+)", re.I)
_RTF_GONE = _names(
    "shprslt fonttbl colortbl stylesheet info pict listtable listoverridetable rsidtbl generator themedata "
    "colorschememapping latentstyles datastore xmlnstbl filetbl revtbl object objdata fldinst template private "
    "footnotesep pgdsctbl bkmkstart bkmkend nonshppict mmathPr wgrffmtfilter userprops listtext pntext pn falt "
    "panose sp sn"
)
_RTF_BREAKS = _names(
    "par line tab cell row page sect nestcell nestrow emspace enspace "
    "rquote lquote ldblquote rdblquote bullet endash emdash"
)
_RTF_KEPT = _names(
    "footnote shptxt shpinst shp upr ud annotation fldrslt header footer headerl headerr headerf footerl footerr "
    "footerf"
)
_RTF_STATES = _names("bin uc v deleted plain u")


def _but(names: Iterable[str]) -> str:
    """An expression that holds where none of the names begins a word; it looks at one letter for most others."""
    ends: dict[str, list[str]] = {}
    for name in sorted(names):
        ends.setdefault(name[0], []).append(name[1:])
    told = "|".join(f"{first}(?:{'|'.join(rest)})(?![a-zA-Z])" for first, rest in ends.items())
    return f"(?!{told})"


# Words that say nothing here, one after the other; not an escaped backslash, and not the name of a group.
_RTF_SILENT_WORD = (
    r"\\(?<!\\\\)(?<!\\\*\\)"
    + _but(_RTF_GONE | _RTF_KEPT | _RTF_BREAKS | _RTF_STATES)
    + r"[a-zA-Z]{1,32}+(?:-?[0-9]{1,10})?+ ?"
)
_RTF_SILENT = re.compile(f"{_RTF_SILENT_WORD}(?:{_RTF_SILENT_WORD})*+")  # begins with a letter, which is found faster


def _count_rtf(source: Source) -> Held:
    text = source.file.read(MAX_STREAM_BYTES).decode("latin-1")
    text = _RTF_SILENT.sub("\n", text)  # which ends a word, and is no text
    text = re.sub(r"[0-9a-fA-F\r\n]{200,}", "", text)  # pictures
    if len(text) > MAX_RTF_CHARS:
        raise TooLarge
    found: list[str] = []
    groups = [(False, False, 1)]  # whether a group holds no text, whether it is invisible, the characters after \u
    gone, veiled, fallback = groups[0]
    skip, starred = 0, False
    for word, number, code, sign, brace, plain in _RTF_TOKEN.findall(text):
        if brace == "{":
            groups.append((gone, veiled, fallback))
            starred = False
        elif brace and len(groups) > 1:
            gone, veiled, fallback = groups.pop()
            if len(groups) < 2:
                break  # the document ends, whatever follows
            skip = 0
        elif sign == "*":
            starred = True
        elif word:
            gone = gone or word in _RTF_GONE or (starred and word not in _RTF_KEPT)
            starred = False
            if word == "bin":
                raise TooLarge  # bytes that are no text follow
            if word == "uc":
                fallback = int(number or 1)
            elif word in ("v", "deleted"):
                veiled = number != "0"
            elif word == "plain":
                veiled = False
            elif gone or veiled:
                continue
            elif word == "u":
                found.append(chr(int(number or 0) % 65_536))
                skip = fallback
            elif word in _RTF_BREAKS:
                found.append("\n")
        elif gone or veiled:
            continue
        elif code:
            data = bytes.fromhex(code.replace("\\'", ""))
            found.append(data[skip:].replace(SOFT_HYPHEN, b"").decode("latin-1").translate(_UNKNOWN_BYTES))
            skip = max(0, skip - len(data))
        elif sign:
            found.append({"~": " ", "_": "-", "-": ""}.get(sign, sign if sign in "\\{}" else "\n"))
        else:
            found.append(plain[skip:])
            skip = max(0, skip - len(plain))
    return parted("".join(found).encode("utf-16", "surrogatepass").decode("utf-16", "ignore"))


# Stand for characters of an unknown code page, which are letters in most of them, or punctuation.
_OPAQUE, _WEAK = "\ue000", "\ue001"
_UNKNOWN = re.compile(rf"[\w{_OPAQUE}{_WEAK}]*[{_OPAQUE}{_WEAK}][\w{_OPAQUE}{_WEAK}]*")


def parted(text: str) -> Held:
    """Words with characters that are not known are counted only."""
    held = Held()
    held.opaque = sum(1 for word in _UNKNOWN.findall(text) if word.strip(_WEAK))
    held.texts.append(_UNKNOWN.sub(" ", text))
    return held


_UNKNOWN_BYTES = {byte: _OPAQUE if byte >= 0xC0 else _WEAK for byte in range(0x80, 0x100)}


def storage(source: Source) -> olefile.OleFileIO:
    return source.opened.storage or olefile.OleFileIO(source.file)


# Word before 2007: the pieces of which the text consists


def _count_doc(source: Source) -> Held:
    held = Held()
    with storage(source) as ole:
        main = ole.openstream("WordDocument").read(MAX_STREAM_BYTES)
        version, flags = struct.unpack_from("<H", main, 2)[0], struct.unpack_from("<H", main, 10)[0]
        if flags & 0x0100:  # encrypted
            return held
        if version < WORD_97:
            start, end = struct.unpack_from("<2i", main, 24)
            return held if flags & 4 else parted(_without_fields(unknown(main[start:end])))
        table = ole.openstream("1Table" if flags & 0x0200 else "0Table").read(MAX_STREAM_BYTES)
    lengths = struct.unpack_from("<8i", main, 76)
    start, size = struct.unpack_from("<2i", main, 418)
    text = "".join(_pieces(main, table[start : start + size]))
    at = 0
    for number, length in enumerate(lengths):  # body, notes, headers, macros, comments, endnotes, boxes, header boxes
        part, at = _without_fields(text[at : at + length]), at + length
        if number == 2:
            held.alike[0].extend(part.split("\r"))
        elif number != 3:
            held.texts.append(part.replace("\r", "\n"))
    return held


def decode_unknown(data: bytes) -> str:
    """Text of UTF-8, or else of an unknown code page."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return unknown(data)


def unknown(data: bytes) -> str:
    """Text of an unknown code page."""
    return data.decode("latin-1").translate(_UNKNOWN_BYTES)


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
    for _ in range(3 if "\x13" in text else 0):  # fields stand in the instructions of others
        text = _FIELD.sub("", text)
    for control, plain in _CONTROLS.items():  # one by one: faster than a table
        text = text.replace(control, plain)
    return text


_CONTROLS = {"\x07": "\n", "\v": "\n", "\f": "\n", "\x1e": "-", "\xa0": " "} | dict.fromkeys(
    "\x1f\x01\x02\b\x05\x15", ""
)


# PowerPoint and Excel before 2007: records of texts


def _count_ppt(source: Source) -> Held:
    held = Held()
    with storage(source) as ole:
        data = ole.openstream("PowerPoint Document").read(MAX_STREAM_BYTES)
    outermost = list(_records(data, 0, len(data)))
    places: dict[int, int] = {}  # where the objects begin that have numbers: each time that it was saved, new ones
    for start, kind, end in outermost:
        if kind == 0x1772:
            places.update(_places(data[start + 8 : end]))
    if present := set(places.values()):
        outermost = [one for one in outermost if one[0] in present]
        documents = [one for one in outermost if one[1] == 0x03E8]
        listed = {places.get(number) for start, _, end in documents for number in _listed(data, start, end)}
        outermost = [one for one in outermost if one[0] in listed or one[1] not in _LISTED]
    for start, _, end in outermost:
        _take_texts(data, start, end, held)
    return held


def _records(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Where each record begins, its kind, and where it ends."""
    while at + 8 <= end:
        _, kind, size = struct.unpack_from("<HHI", data, at)
        yield at, kind, at + 8 + size
        at += 8 + size


_LISTED = (0x03EE, 0x03F0)  # slides and notes


def _places(table: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of objects, and where these begin."""
    at = 0
    while at + 4 <= len(table):
        (head,) = struct.unpack_from("<I", table, at)
        first, count = head & 0xFFFFF, min(head >> 20, (len(table) - at - 4) // 4)
        yield from zip(range(first, first + count), struct.unpack_from(f"<{count}I", table, at + 4), strict=True)
        at += 4 + 4 * count


def _listed(data: bytes, start: int, end: int) -> Iterator[int]:
    """The numbers of the slides and notes that a document lists, without masters."""
    for at, kind, stop in _records(data, start + 8, min(end, len(data))):
        if kind == 0x0FF0 and data[at] >> 4 != 1:
            for place, kind, _ in _records(data, at + 8, min(stop, end, len(data) - 4)):
                if kind == 0x03F3:
                    yield int.from_bytes(data[place + 8 : place + 12], "little")


def _take_texts(data: bytes, at: int, end: int, held: Held) -> None:
    """Take the texts of a record, and of those in it."""
    containers = 0
    while at + 8 <= min(end, len(data)):
        version, kind, size = struct.unpack_from("<HHI", data, at)
        at += 8
        if kind == 0x03F0 and data[at + 2 : at + 4] == b"\xf1\x03" and data[at + 11] & 0x80:
            at += size  # the master of notes
        elif kind in (0x03F8, 0x03EA, 0x0FC9, 0x1388, 0x138B):  # masters, settings
            at += size
        elif version & 0xF == 0xF and containers < MAX_RECORDS:
            containers += 1  # what is in a container comes next
        else:
            body = data[at : at + size]
            if kind == 0x0FA0:
                held.texts.append(body.decode("utf-16-le", "replace").replace("\r", "\n").replace("\v", "\n"))
            elif kind == 0x0FA8:
                held.texts.append(body.decode("latin-1").replace("\r", "\n").replace("\v", "\n"))
            at += size


def _count_xls(source: Source) -> Held:
    held = Held(is_sheet=True)
    with storage(source) as ole:
        data = ole.openstream("Workbook" if ole.exists("Workbook") else "Book").read(MAX_STREAM_BYTES)
    uses: Counter[int] = Counter()
    shared: list[bytes] = []
    formats: list[int] = []
    codes: dict[int, str] = {}
    numbers: list[tuple[int, float]] = []  # with their styles
    sheets: list[bool] = []
    at, before = 0, 0
    head = struct.Struct("<HH").unpack_from
    while at + 4 <= len(data):
        kind, size = head(data, at)
        start, at = at + 4, at + 4 + size
        if kind not in _XLS_COUNTED:
            before = kind if kind != 0x1B6 or data[start + 10 : start + 12] != b"\0\0" else 0
            continue
        body = data[start:at]
        if kind == 0x2F:  # encrypted
            return Held()
        if kind == 0xFC or (kind == 0x3C and before == 0xFC):
            shared.append(body)
            kind = 0xFC
        elif kind in (0x809, 0x0A):  # the beginning and the end of a sheet, or of a chart with copies of its numbers
            sheets = [*sheets, body[2:4] != b"\x20\0"] if kind == 0x809 else sheets[:-1]
        elif sheets and not sheets[-1]:
            pass
        elif kind == 0x3C and before == 0x1B6 and size:  # of a box or a comment
            held.texts.append(body[1:].decode("utf-16-le" if body[0] & 1 else "cp1252", "replace"))
        elif kind == 0xE0:
            formats.append(struct.unpack_from("<H", body, 2)[0])
        elif kind == 0x41E and size > 5:
            codes[struct.unpack_from("<H", body)[0]] = _format_code(body)
        elif (kind == 0x203 and size >= 14) or (kind == 0x27E and size >= 10):
            numbers.append((struct.unpack_from("<H", body, 4)[0], _number(kind, body)))
        elif kind == 0x205 and size >= 8:
            held.texts.append(_truth(body[6], is_error=body[7] != 0))
        elif kind == 0x06 and size >= 14 and body[12:14] == b"\xff\xff" and body[6] in (1, 2):
            held.texts.append(_truth(body[8], is_error=body[6] == 2))
        elif kind == 0x06 and size >= 14 and body[12:14] != b"\xff\xff":  # the result of a formula
            numbers.append((struct.unpack_from("<H", body, 4)[0], struct.unpack_from("<d", body, 6)[0]))
        elif kind == 0xBD:
            for place in range(4, size - 2, 6):
                numbers.append((struct.unpack_from("<H", body, place)[0], _rk(body[place + 2 : place + 6])))
        elif kind == 0x207 and size > 3:  # the result of a formula
            held.texts.append(_string(body))
        elif kind == 0xFD:
            uses[struct.unpack_from("<I", body, 6)[0]] += 1
        before = kind
    for style, value in numbers:
        if style < len(formats):
            held.add_number(value, codes.get(formats[style], BUILTIN.get(formats[style], "General")))
    strings = list(_shared_strings(shared)) if shared else []
    for index, count in uses.items():
        if index < len(strings):
            held.texts.extend([strings[index]] * count)
    return held


_XLS_COUNTED = frozenset((0x2F, 0xFC, 0x3C, 0x809, 0x0A, 0xE0, 0x41E, 0x06, 0x203, 0x205, 0x207, 0x27E, 0xBD, 0xFD))
_XLS_ERRORS = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}


def _truth(code: int, *, is_error: bool) -> str:
    """What a cell shows that is true, false or an error."""
    return _XLS_ERRORS.get(code, "") if is_error else ("TRUE" if code else "FALSE")


def _number(kind: int, body: bytes) -> float:
    found: float = struct.unpack_from("<d", body, 6)[0] if kind == 0x203 else _rk(body[6:10])
    return found


def _rk(data: bytes) -> float:
    """A number in four bytes: an integer, or the half of a double; perhaps a hundred times as great."""
    value: int = struct.unpack("<i", data)[0]
    number = float(value >> 2) if value & 2 else struct.unpack("<d", bytes(4) + struct.pack("<i", value & ~3))[0]
    return number / 100 if value & 1 else number


def _format_code(body: bytes) -> str:
    """The code of a format that is no common one."""
    return _string(body[2:])


def _string(body: bytes) -> str:
    chars, flags = struct.unpack_from("<HB", body)
    return body[3 : 3 + chars * (2 if flags & 1 else 1)].decode("utf-16-le" if flags & 1 else "latin-1", "replace")


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


COUNTERS: Mapping[str, Callable[[Source], Held]] = {
    "rtf": _count_rtf,
    "doc": _count_doc,
    "ppt": _count_ppt,
    "xls": _count_xls,
}
