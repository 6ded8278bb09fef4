"""Signed messages and files (S/MIME, .p7m; CMS, RFC 5652): the content that is signed. Knows no key and verifies
nothing."""

_SIGNED = bytes.fromhex("2a864886f70d010702")
_DATA = bytes.fromhex("2a864886f70d010701")
_ANY = bytes.fromhex("06092a864886f70d0107")  # of any of these kinds
_HEAD_BYTES = 20
MAX_DEPTH = 20
MAX_PIECES = 100_000  # of a content that is written in pieces


def is_cms(head: bytes) -> bool:
    """Whether a file is signed or encrypted (.p7m), told by its first bytes."""
    return head.startswith(b"\x30") and _ANY in head[:_HEAD_BYTES]


class _Invalid(Exception):
    """It is not what BER writes."""


def signed_content(data: bytes) -> bytes | None:
    """The message or the file that is signed, b"" if it is elsewhere; None if it is encrypted, or no CMS at all."""
    try:
        kind = _enter(data, 0, len(data), 0x30)
        id, position = _take(data, *kind, 0x06)
        if id != _SIGNED:
            return None
        explicit = _enter(data, position, kind[1], 0xA0)
        signed = _enter(data, *explicit, 0x30)
        position = _skip(data, _skip(data, signed[0], signed[1]), signed[1])  # the version, and the digests' names
        inner = _enter(data, position, signed[1], 0x30)
        id, position = _take(data, *inner, 0x06)
        if id != _DATA or position >= inner[1] or data[position] != 0xA0:
            return b""
        start, end = _enter(data, position, inner[1], 0xA0)
        pieces: list[bytes] = []
        _collect(data, start, end, pieces, 0)
        return b"".join(pieces)
    except (_Invalid, IndexError):
        return None


def _header(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """The tag of a value, where its content begins, and where it ends."""
    if position + 2 > end:
        raise _Invalid
    tag, size = data[position], data[position + 1]
    position += 2
    if size == 0x80:  # it ends at a mark
        return tag, position, _find_end(data, position, end, 0)
    if size > 0x80:
        count = size & 0x7F
        if count > 8:
            raise _Invalid
        size = int.from_bytes(data[position : position + count], "big")
        position += count
    return tag, position, min(end, position + size)


def _after(data: bytes, position: int, end: int, last: int) -> int:
    """Where the next value begins."""
    return last + 2 if data[position + 1] == 0x80 and last < end else last


def _find_end(data: bytes, position: int, end: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise _Invalid
    while position + 2 <= end:
        if data[position] == 0 and data[position + 1] == 0:
            return position
        if data[position + 1] == 0x80:
            position = _find_end(data, position + 2, end, depth + 1) + 2
        else:
            position = _header(data, position, end)[2]
    return end


def _enter(data: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    found, start, last = _header(data, position, end)
    if found != tag:
        raise _Invalid
    return start, last


def _take(data: bytes, position: int, end: int, tag: int) -> tuple[bytes, int]:
    start, last = _enter(data, position, end, tag)
    return data[start:last], _after(data, position, end, last)


def _skip(data: bytes, position: int, end: int) -> int:
    return _after(data, position, end, _header(data, position, end)[2])


def _collect(data: bytes, position: int, end: int, pieces: list[bytes], depth: int) -> None:
    """The bytes of a string, which may be written in pieces."""
    if depth > MAX_DEPTH:
        raise _Invalid
    while position + 2 <= end and len(pieces) < MAX_PIECES:
        tag, start, last = _header(data, position, end)
        if tag == 0x04:
            pieces.append(data[start:last])
        elif tag == 0x24:
            _collect(data, start, last, pieces, depth + 1)
        position = _after(data, position, end, last)
