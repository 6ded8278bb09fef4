"""ISO-2022-JP and EUC-JP with the characters of vendors, which Python's codecs refuse. A character that no table has
costs no other one."""

import re
from contextlib import suppress

_ESCAPE = re.compile(rb"\x1b(?:\$[@B]|\$\([@BD]|\([BJIH]|\$\(Q|\$\(O|\$\(P|\.A|&@)")
_ENTERED = re.compile(rb"\x1b\$(?:[@B]|\([@BDOPQ])(?:[!-~]{2})+(?:\x1b|\r?\n|\Z)")
_PAIRS = (b"$@", b"$B", b"$(@", b"$(B", b"$(Q", b"$(O")


def is_encoded(data: bytes) -> bool:
    """Whether bytes that are ASCII hold an escape to Japanese characters, with some after it."""
    return b"\x1b$" in data and _ENTERED.search(data) is not None


def decode(data: bytes, codec: str | None = None) -> str:
    """The text of ISO-2022-JP, with the rows of NEC and IBM, and with bytes of Shift JIS outside of its escapes.
    ``codec``: the variant that is declared, if one is."""
    for name in ("iso2022_jp", codec):
        if name is not None and name.startswith("iso2022_jp"):
            with suppress(UnicodeDecodeError):
                return data.decode(name)
    out: list[str] = []
    state = b"(B"
    position = 0
    for escape in _ESCAPE.finditer(data):
        out.append(_segment(data[position : escape.start()], state))
        state = escape[0][1:]
        position = escape.end()
    out.append(_segment(data[position:], state))
    return "".join(out)


def _segment(data: bytes, state: bytes) -> str:
    if not data:
        return ""
    if state in _PAIRS or state == b"$(D":
        # a line end resets to ASCII, whether or not an escape says so
        lines = re.split(rb"(\r?\n)", data)
        decoded = [_pairs(lines[0], is_supplement=state == b"$(D")]
        if len(lines) > 1:
            decoded.append(b"".join(lines[1:]).decode("cp932", "replace"))
        return "".join(decoded)
    if state == b"(I":
        return bytes(byte | 0x80 if byte > 0x20 else byte for byte in data).decode("cp932", "replace")
    return data.decode("cp932", "replace")


def _pairs(data: bytes, *, is_supplement: bool) -> str:
    out: list[str] = []
    position = 0
    while position < len(data):
        pair = data[position : position + 2]
        if pair[0] <= 0x20 or pair[0] >= 0x7F:  # not of a character of two bytes
            out.append(chr(pair[0]) if pair[0] <= 0x20 else "\ufffd")
            position += 1
            continue
        position += 2
        if len(pair) < 2:
            out.append("\ufffd")
        else:
            out.append(_character(pair[0], pair[1], is_supplement))
    return "".join(out)


def _character(first: int, second: int, is_supplement: bool) -> str:
    if not 0x21 <= second <= 0x7E:
        return "\ufffd"
    with suppress(UnicodeDecodeError):
        return bytes((*([0x8F] if is_supplement else []), first | 0x80, second | 0x80)).decode("euc_jp")
    if is_supplement:
        return "\ufffd"
    try:
        # the same place in the layout of Shift JIS, whose Windows form has the rows of the vendors
        lead = (first + 1) // 2 + (0x70 if first < 0x5F else 0xB0)
        trail = second + (0x1F if first % 2 else 0x7E) + (1 if first % 2 and second >= 0x60 else 0)
        return bytes((lead, trail)).decode("cp932")
    except UnicodeDecodeError:
        return "\ufffd"


_EUC = re.compile(rb"[\xa1-\xfe]{2}|\x8f[\xa1-\xfe]{2}|\x8e[\xa1-\xdf]|[\x80-\xff]")


def decode_euc(data: bytes) -> str:
    """The text of EUC-JP, with the rows of NEC and IBM."""
    out: list[str] = []
    position = 0
    for found in _EUC.finditer(data):
        out.append(data[position : found.start()].decode("ascii", "replace"))
        byte = found[0]
        if len(byte) == 2 and byte[0] != 0x8E:
            out.append(_character(byte[0] & 0x7F, byte[1] & 0x7F, False))
        elif len(byte) == 3:
            out.append(_character(byte[1] & 0x7F, byte[2] & 0x7F, True))
        else:
            out.append(byte.decode("euc_jp", "replace"))
        position = found.end()
    out.append(data[position:].decode("ascii", "replace"))
    return "".join(out)
