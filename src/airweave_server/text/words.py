"""The characters of mail: header words (RFC 2047), parameters (RFC 2231), and bodies, in the charset that they declare
or in the one that they are in."""

import binascii
import codecs
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from . import charset, iso2022

MAX_PARAMS = 200
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*+)(?:\?=|\?(?!=)|\Z)")
_PARAM = re.compile(r""";\s*+([^\s=;"]{1,100})\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;]*+))""", re.S)
_SECTION = re.compile(r"(.+?)(?:\*(\d{1,3}))?(\*)?\Z")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]+")
_UNFOLD = re.compile(r"\r?\n[ \t]*|\r")
# Names that Python does not know, or that promise less than what programs write under them.
_CHARSETS = {
    **dict.fromkeys(("us-ascii", "ascii", "iso-8859-1", "iso8859-1", "latin1", "latin-1", "ansi", "x-ansi"), "cp1252"),
    **dict.fromkeys(
        ("ansi-x3.4-1968", "iso-ir-100", "l1", "iso-8859-1-windows-3.1-latin-1", "windows-latin-1"), "cp1252"
    ),
    **dict.fromkeys(("iso-8859-9", "latin5", "iso8859-9"), "cp1254"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "logical", "iso-8859-8", "iso8859-8"), "cp1255"),
    **dict.fromkeys(("iso-8859-6-i", "iso-8859-6-e"), "iso8859-6"),
    **dict.fromkeys(("iso-8859-11", "tis-620", "tis620", "windows-874"), "cp874"),
    **dict.fromkeys(("unicode-1-1-utf-7", "unicode-2-0-utf-7", "x-unicode-2-0-utf-7", "csunicode11utf7"), "utf-7"),
    **dict.fromkeys(("utf8mb4", "unicode-1-1-utf-8", "unicode-2-0-utf-8", "x-unicode-2-0-utf-8", "utf-8n"), "utf-8"),
    **dict.fromkeys(("shift-jis", "shift_jis", "sjis", "x-sjis", "ms-kanji", "ms_kanji", "windows-31j"), "cp932"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb-2312-80", "chinese", "euc-cn", "x-euc-cn", "csgb2312"), "gb18030"),
    **dict.fromkeys(
        ("ks_c_5601-1987", "ks-c-5601-1987", "ks_c_5601", "euc-kr", "korean", "ksc5601", "iso-ir-149"), "cp949"
    ),
    **dict.fromkeys(("big5", "big-5", "x-big5", "cn-big5"), "cp950"),
    **dict.fromkeys(("euc-jp", "x-euc-jp", "x-euc", "eucjp"), "euc_jp"),
    **dict.fromkeys(("iso-10646-ucs-2", "ucs-2", "unicode", "utf16"), "utf-16"),
    **dict.fromkeys(("macintosh", "mac", "x-mac-roman"), "mac_roman"),
    **{f"x-{name}": name for name in ("koi8-r", "koi8-u", "cp1250", "cp1251", "cp1252", "iso-8859-2", "iso-8859-15")},
}
_SINGLE = re.compile(r"cp(?!932|949|950|936)\d|iso8859|koi8|mac|latin|tis|hp|ptcp|kz")
_UNFIT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})


@dataclass(frozen=True, slots=True)
class Said:
    """Decoded text. ``is_guess``: neither a declaration nor the bytes themselves determine the encoding."""

    text: str
    is_guess: bool = False


def decode_text(data: bytes, declared: str) -> Said:
    """Decode a body in its declared charset, if all but a few characters are valid in it; otherwise in the charset that
    the bytes are in."""
    declared = declared.strip().strip("\"'").lower()
    codec = _codec(declared)
    if iso2022.is_encoded(data) and (codec in (None, "cp1252", "utf-8") or codec.startswith("iso2022_jp")):
        return Said(iso2022.decode(data, codec))
    if data.isascii() and codec not in ("utf-7", "utf-16", "hz", "iso2022_kr"):
        return Said(data.decode("ascii"))
    if codec is None or (declared in ("us-ascii", "ascii") and not data.isascii()):
        return _guess(data)
    if codec == "utf-16" and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _guess(data)
    is_single = _SINGLE.match(codec) is not None
    if is_single and (text := _utf8(data, least=1 if codec in ("cp1252", "cp1254") else 3)) is not None:
        return Said(text)
    try:
        return Said(data.decode(codec))
    except UnicodeDecodeError:
        pass
    except (ValueError, LookupError):  # a codec that decodes no bytes
        return _guess(data)
    if not is_single and (text := _utf8(data, least=1)) is not None:
        return Said(text)
    text = data.decode(codec, "replace")
    if codec == "euc_jp":  # vendor characters that cp932 knows and EUC-JP does not
        text = iso2022.decode_euc(data)
    strange = sum(1 for c in text if c > "\x7f")
    bad = text.count("\ufffd")
    if bad <= 2 or bad * 10 <= strange or is_single:
        return Said(text)
    return _guess(data)


def _utf8(data: bytes, *, least: int) -> str | None:
    """The text if it is UTF-8, with at least so many characters that other charsets have too."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if len(data) - len(text) >= least else None


def _guess(data: bytes) -> Said:
    found = charset.decode(data)
    if found is None:
        return Said(data.decode("latin-1"), is_guess=True)
    return Said(found.text, is_guess=not found.is_sure)


def _codec(name: str) -> str | None:
    """The name of the codec in Python, or None if it is not known."""
    name = name.partition("*")[0].strip().strip("\"'").lower()
    if name.startswith(("iso-2022-jp", "iso2022jp", "iso2022-jp", "csiso2022jp", "x-iso-2022-jp", "cp5022")):
        return "iso2022_jp"
    for form in (name, name.replace("_", "-"), name.removeprefix("x-"), re.sub(r"^cp-", "cp", name)):
        known = _CHARSETS.get(form, form)
        try:
            # a codec of bytes to bytes, such as "hex", decodes no text; and "" is no name
            b"a".decode(known, "replace")
            found = codecs.lookup(known).name
        except (LookupError, ValueError):
            continue
        return None if found in _UNFIT else found
    return None


def decode(raw: bytes, hint: str = "") -> str:
    """Decode a header: its encoded words, and 8-bit bytes by the charset ``hint`` or by a guess."""
    text = _UNFOLD.sub(" ", _decode_raw(raw, hint))
    return _decode_words(text) if "=?" in text else text


def _decode_raw(raw: bytes, hint: str) -> str:
    return decode_text(raw, hint if _codec(hint) not in (None, "cp1252") else "utf-8").text


def _decode_words(text: str) -> str:
    out: list[str] = []
    held = (
        b""  # of words that follow each other in one charset, because a character may begin in one and end in the next
    )
    name = ""
    position = 0

    def flush() -> None:
        nonlocal held
        if held:
            out.append(decode_text(held, name).text)
            held = b""

    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        if not (position and between.isspace()) and between:
            flush()
            out.append(between)
        charset_name = word[1].partition("*")[0].lower()
        if charset_name != name or "iso-2022" in name:
            flush()
        name = charset_name
        held += _word_bytes(word[2].lower(), word[3])
        position = word.end()
    flush()
    out.append(text[position:])
    return "".join(out)


def _word_bytes(coding: str, text: str) -> bytes:
    if coding == "q":
        return binascii.a2b_qp(text.replace("_", " ").encode("utf-8"))
    pieces = []
    for piece in text.split("="):
        piece = _NOT_BASE64.sub("", piece)
        piece = piece[:-1] if len(piece) % 4 == 1 else piece
        pieces.append(binascii.a2b_base64(piece + "=" * (-len(piece) % 4)))
    return b"".join(pieces)


def params(raw: bytes) -> tuple[str, dict[str, str]]:
    """The value of a header such as Content-Type, and its parameters, with names in lower case."""
    text = _UNFOLD.sub(" ", _decode_raw(raw, ""))
    value = text.partition(";")[0]
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[str, bool]]] = {}
    for number, found in enumerate(_PARAM.finditer(text)):
        if number >= MAX_PARAMS:
            break
        said = re.sub(r'\\(["\\])', r"\1", found[2]) if found[2] is not None else found[3].strip()
        section = _SECTION.match(found[1].lower())
        if section is None or (section[2] is None and section[3] is None):
            plain.setdefault(found[1].lower(), _decode_words(said) if "=?" in said else said)
        else:
            pieces.setdefault(section[1], {}).setdefault(int(section[2] or 0), (said, section[3] is not None))
    for name, parts in pieces.items():
        plain[name] = _join_sections(parts)  # which names more characters than its plain twin
    return value, plain


def _join_sections(parts: dict[int, tuple[str, bool]]) -> str:
    name = ""
    data = b""
    for number, (said, is_encoded) in sorted(parts.items()):
        if is_encoded and number == min(parts) and said.count("'") >= 2:
            name, _, said = said.split("'", 2)
        data += unquote_to_bytes(said) if is_encoded else said.encode("utf-8", "surrogateescape")
    text = decode_text(data, name or "utf-8").text
    return _decode_words(text) if "=?" in text else text
