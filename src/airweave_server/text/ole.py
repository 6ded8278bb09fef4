"""Embedded objects (MS-OLEDS, MS-CFB): the documents in what Office keeps of another program's data."""

import io
import re
import struct
from functools import partial
from pathlib import PureWindowsPath
from typing import IO

import olefile

from .parts import LeftOut, Member, Part

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
NATIVE = "\x01Ole10Native"
_CONTENTS = ("Package", "package_stream", "CONTENTS", "Contents", "CONTENT")  # streams that are a whole file
# Streams of a document, or of an object that holds one.
DOCUMENT_STREAMS = frozenset({"WordDocument", "Workbook", "Book", "PowerPoint Document", NATIVE, *_CONTENTS})
_EQUATION = re.compile(r"Equation|MathType", re.I)
_EMBEDDED = 2  # the FormatID of an object with data (MS-OLEDS 2.2.4)
MAX_NAME_CHARS = 255


def read_hex(digits: bytes, name: str) -> Part | None:
    """The object in the hexadecimal digits of RTF, or None if there is none."""
    digits = re.sub(rb"[^0-9a-fA-F]+", b"", digits)
    return read_object(bytes.fromhex(digits[: len(digits) // 2 * 2].decode()), name) if len(digits) > 2 else None


def read_object(data: bytes, name: str) -> Part:
    """An object of OLE 1 (MS-OLEDS 2.2.5): its document, or that it is left out. ``name``: its class, if known."""
    try:
        _, form = struct.unpack_from("<II", data)
        kind, at = _prefixed(data, 8)
        for _ in range(2):  # the topic and the item of a link
            _, at = _prefixed(data, at)
        size = struct.unpack_from("<I", data, at)[0]
        native = data[at + 4 : at + 4 + size]
    except struct.error:
        return LeftOut("object", (name,) if name else ())
    name = name or kind
    if form != _EMBEDDED:
        return LeftOut("object", (name,) if name else ())
    if kind == "Package":
        return _package(native) or LeftOut("object", (name,))
    return describe(native, name)


def describe(data: bytes, name: str) -> Part:
    """A document inside another one, from the bytes of it: a member, or that it is left out."""
    if is_equation(name):
        return LeftOut("formula")
    if not data.startswith((MAGIC, b"PK\x03\x04", b"%PDF-")):
        return LeftOut("object", (name,) if name else ())
    return Member(name or "object", partial(io.BytesIO, data))


def is_equation(name: str) -> bool:
    """Whether a class of objects is that of formulas, whose data no one reads here."""
    return _EQUATION.match(name) is not None


def open_package(file: olefile.OleFileIO) -> Member | None:
    """The file that an object of OLE holds as a stream, or None if it holds none."""
    if file.exists(NATIVE):
        return _package(file.openstream(NATIVE).read()[4:])
    for name in _CONTENTS:
        if file.exists(name):
            data = file.openstream(name).read()
            return Member("object", partial(io.BytesIO, data), is_named=False)
    return None


def _package(native: bytes) -> Member | None:
    """The file that a person put into a document (the class "Package")."""
    try:
        (flags,) = struct.unpack_from("<H", native)
        label, at = _terminated(native, 2)
        path, at = _terminated(native, at)
        (kind,) = struct.unpack_from("<I", native, at)
        _, at = _prefixed(native, at + 4)
        (size,) = struct.unpack_from("<I", native, at)
    except (struct.error, ValueError):
        return None
    if flags != 2 or kind >> 16 != _STORED:
        return None
    name = PureWindowsPath(label or path).name[:MAX_NAME_CHARS] or "package"
    return Member(name, partial(io.BytesIO, native[at + 4 : at + 4 + size]))


_STORED = 3  # the file is here, not only its name


def _prefixed(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", data, at)
    return data[at + 4 : at + 4 + size].rstrip(b"\0").decode("cp1252", "replace"), at + 4 + size


def _terminated(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode("cp1252", "replace"), end + 1


def open_storage(file: olefile.OleFileIO, path: list[str]) -> IO[bytes]:
    """A storage as a compound file of its own: the whole file, in whose directory only that storage is left."""
    file.fp.seek(0)
    data = bytearray(file.fp.read())
    kept: set[int] = set()
    waiting = [file.direntries[file._find(path)]]
    child = waiting[0].sid_child
    while waiting:
        for entry in waiting.pop().kids:
            if entry.sid not in kept:
                kept.add(entry.sid)
                waiting.append(entry)
    per_sector = file.sector_size // _ENTRY_BYTES
    sector, sid, seen = file.first_dir_sector, 0, set()
    while sector < len(file.fat) and sector not in seen:
        seen.add(sector)
        start = (sector + 1) * file.sector_size
        for at in range(start, start + per_sector * _ENTRY_BYTES, _ENTRY_BYTES):
            if sid == 0:
                struct.pack_into("<I", data, at + _CHILD, child)
            elif sid not in kept:
                data[at : at + _ENTRY_BYTES] = bytes(_ENTRY_BYTES)
            sid += 1
        sector = file.fat[sector]
    return io.BytesIO(data)


_ENTRY_BYTES, _CHILD = 128, 76
