"""Fonts of the Office formats before 2007: the encoding that a charset number stands for, and the symbol fonts."""

import codecs
import re

LATIN = "cp1252"
SYMBOLS = "symbols"  # not an encoding: the bytes are signs of a symbol font


def _numbered(pairs: str) -> dict[int, str]:
    """A table written as "0:name 1:name"."""
    return {int(number): name for number, name in (pair.split(":") for pair in pairs.split())}


# Charset numbers of Windows (the lfCharSet of MS-EMF, \fcharset of RTF).
CHARSETS = _numbered(
    "0:cp1252 2:symbols 77:mac_roman 78:shift_jis 79:euc_kr 80:gb2312 81:big5 83:cp1255 84:mac_arabic "
    "85:mac_greek 86:mac_turkish 87:cp874 88:mac_latin2 89:mac_cyrillic 128:cp932 129:cp949 130:johab 134:gb18030 "
    "136:cp950 161:cp1253 162:cp1254 163:cp1258 177:cp1255 178:cp1256 179:cp1256 180:cp1256 181:cp1255 186:cp1257 "
    "204:cp1251 222:cp874 238:cp1250 254:cp437 255:cp850 "
)
_CODE_PAGES = _numbered(
    "42:symbols 708:iso8859_6 936:gb18030 1361:johab 10000:mac_roman 10001:shift_jis 10002:big5 10003:euc_kr "
    "10004:mac_arabic 10006:mac_greek 10007:mac_cyrillic 10008:gb2312 10029:mac_latin2 10081:mac_turkish "
    "20866:koi8_r 21866:koi8_u 50220:iso2022_jp 51932:euc_jp 51949:euc_kr 54936:gb18030 65001:utf-8 "
)
_PRIVATE = range(0xF000, 0xF100)  # where Unicode text keeps the signs of symbol fonts
BULLET = "•"


def encoding_of(code_page: int) -> str | None:
    """The encoding of a code page of Windows, or None if it is unknown."""
    name = _CODE_PAGES.get(code_page, f"cp{code_page}")
    if 28591 <= code_page <= 28605:
        name = f"iso8859_{code_page - 28590}"
    try:
        return name if name == SYMBOLS else codecs.lookup(name).name
    except LookupError:
        return None


def decode(data: bytes, encoding: str, font: str = "") -> str:
    """The text of bytes in a font. Invalid bytes become U+FFFD."""
    if encoding == SYMBOLS:
        return "".join(sign(code, font) for code in data)
    return data.decode(encoding, "replace")


def is_private(code: int) -> bool:
    return code in _PRIVATE


def sign(code: int, font: str) -> str:
    """The character of a code, 0x20 to 0xFF or the same in the private use area, of a symbol font."""
    code &= 0xFF
    name = font.lower()
    if "symbol" in name and "segoe" not in name:
        return _SYMBOL.get(code, BULLET)
    if _DINGBATS.search(name):
        return _WINGDINGS.get(code, BULLET) if "wingdings" in name else BULLET
    # another one: usually letters of a font that does not say its charset
    return bytes([code]).decode(LATIN, "replace") if code > 0xA0 or 0x20 <= code < 0x7F else BULLET


_DINGBATS = re.compile(r"wingdings|webdings|dingbats|marlett|monotype sorts")
# The encoding of Adobe's Symbol font.
_SYMBOL_ROWS = (
    (0x20, " !∀#∃%&∋()∗+,−./0123456789:;<=>?"),
    (0x40, "≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_"),
    (0x60, "‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"),
    (0xA0, "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵"),
    (0xC0, "ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓"),
    (0xE0, "◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪"),
    (0xF1, "〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭"),
)
_SYMBOL = {start + offset: character for start, row in _SYMBOL_ROWS for offset, character in enumerate(row)}
_WINGDINGS = dict(zip(b"\x6f\x71\x72\x76\xa8\xd8\xdf\xe0\xe1\xe2\xf0\xfb\xfc\xfd\xfe", "☐❑❒❖◻➢←→↑↓⇨✗✓☒☑", strict=True))


def may_be_in(data: bytes) -> bool:
    """Whether a sign of a symbol font may be in bytes of XML: in UTF-8, as a reference, or in UTF-16."""
    if b"\0" in data or (b"&" in data and b"&#" in data):
        return True
    return not data.isascii() and _SIGN.search(data) is not None


_SIGN = re.compile(rb"\xef[\x80-\x83]")  # U+F0xx
