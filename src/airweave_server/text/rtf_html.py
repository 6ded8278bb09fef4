"""Pages of HTML in Rich Text Format, as Outlook stores them (MS-OXRTFEX), and its compression (MS-OXRTFCP)."""

import struct

from . import rtf_groups, rtf_words
from .parts import Unparseable
from .rtf_reader import Action, Reader

_WINDOW = 4_096
_PRESET = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n"
    b"\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_COMPRESSED, _PLAIN = b"LZFu", b"MELA"


def decompress(data: bytes) -> bytes:
    """The RTF in the property PidTagRtfCompressed of a message. Raises ``Unparseable``."""
    if len(data) < 16 or data[8:12] not in (_COMPRESSED, _PLAIN):
        raise Unparseable("it is damaged: its text is not compressed RTF")
    size, raw_size = struct.unpack_from("<II", data)
    content = data[16 : size + 4]
    if data[8:12] == _PLAIN:
        return content[:raw_size]
    window = bytearray(_PRESET.ljust(_WINDOW, b"\0"))
    at, made, position = len(_PRESET), bytearray(), 0
    while position < len(content):
        flags = content[position]
        position += 1
        for bit in range(8):
            if flags >> bit & 1:
                if position + 2 > len(content):
                    return bytes(made)
                reference = content[position] << 8 | content[position + 1]
                position += 2
                start = reference >> 4
                if start == at:  # the end
                    return bytes(made)
                for offset in range(start, start + (reference & 15) + 2):
                    made.append(window[offset % _WINDOW])
                    window[at] = made[-1]
                    at = (at + 1) % _WINDOW
            elif position < len(content):
                made.append(content[position])
                window[at] = made[-1]
                at = (at + 1) % _WINDOW
                position += 1
    return bytes(made)


def has_html(rtf: bytes) -> bool:
    """Whether the RTF is a page of HTML, which ``to_html`` returns."""
    return b"\\fromhtml" in rtf[:_WINDOW]


def to_html(rtf: bytes) -> str:
    """The page of HTML that the RTF was made of."""
    reader = Reader(rtf, _GROUPS, _WORDS)
    reader.run()
    return "".join(reader.main.inline)


def _write_line(reader: Reader, number: int | None) -> None:
    reader.write("\r\n")


def _hide(reader: Reader, number: int | None) -> None:
    """What follows is only for programs that know no HTML."""
    reader.flush()
    reader.state.is_deleted = number != 0


def _read_tag(reader: Reader, number: int | None) -> None:
    reader.state.is_deleted = False


_GROUPS: dict[bytes, Action] = {**rtf_groups.HEADER, b"htmltag": _read_tag, b"pict": rtf_groups.skip}
_WORDS: dict[bytes, Action] = {**rtf_words.FONTS, b"htmlrtf": _hide, b"par": _write_line}
