"""Bytes to characters: detects the encoding by its byte order mark, by declaration, or by plausibility."""

import codecs
import re
import unicodedata
from dataclasses import dataclass

from charset_normalizer import from_bytes

from . import iso2022

CHARSET_SAMPLE_BYTES = 16_384  # enough to tell an encoding
# Control characters that text does not contain.
_UNUSUAL = bytes([*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])
BINARY_SHARE = 0.03  # of such characters; random bytes have 0.1
BINARY_SHARE_UTF8 = 0.3  # the same in valid UTF-8, where control characters may delimit records
_BOMS = (  # longer ones first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The encodings that charset-normalizer chooses from. With more of them it only errs more often.
_CANDIDATES = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("shift_jis", "cp932", "euc_jp", "gb18030", "big5", "cp949", "euc_kr"),
]
_LATIN = ("cp1252", "cp1250", "cp1254")
_DECLARED = re.compile(rb"""(?:charset|encoding|coding)\s{0,9}[=:]\s{0,9}["']?([a-zA-Z0-9_-]{3,20})""")
_DECLARABLE = re.compile(r"iso-?8859|windows-|cp\d|koi8|shift|sjis|euc|gb|big5|tis|mac|latin|ks_c")
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_BYTES = bytes(range(0x80, 0x100))
_PRINTABLE = bytes(range(0x20, 0x7F))
_FOREIGN = re.compile("[\u0370-\u06ff]+")  # Greek, Cyrillic, Hebrew, Arabic
_MIXED = re.compile("[a-zA-Z][\u0370-\u06ff]|[\u0370-\u06ff][a-zA-Z]")
_SIGN_IN_WORD = re.compile(r"[^\W\d_][¡-¶¸-¿×÷€][^\W\d_]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """``encoding``: a name that Python knows. ``is_sure``: it is told by the bytes or declared, not guessed."""

    text: str
    encoding: str
    is_sure: bool = True


def decode(data: bytes) -> Decoded | None:
    """The text in these bytes, or None if they are not text. Invalid bytes become U+FFFD."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            text = data[len(bom) :].decode(encoding, "replace")
            return Decoded(text, encoding) if _is_sane(text) else None
    if (wide := _detect_wide(data)) is not None:
        return Decoded(data.decode(wide, "replace"), wide)
    data = data.strip(b"\0")  # some logs are written into zeroed space
    unusual = unusual_share(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if unusual > BINARY_SHARE or (b"\0" in data and unusual > BINARY_SHARE / 10):
            return None
        return _decode_legacy(data)
    if unusual > BINARY_SHARE_UTF8:
        return None
    if iso2022.is_encoded(data):
        return Decoded(iso2022.decode(data), "iso2022_jp")
    return Decoded(text, "utf-8")


def _decode_legacy(data: bytes) -> Decoded:
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    whole = len(text) - bad - len(data.translate(None, _HIGH_BYTES))  # valid multi-byte characters
    if whole > 10 * bad:
        return Decoded(text, "utf-8")  # damaged
    if (declared := _DECLARED.search(data[:1024])) and _DECLARABLE.match(name := declared[1].decode().lower()):
        try:
            return Decoded(data.decode(name, "replace"), name)
        except LookupError:
            pass
    encoding = _guess_encoding(data)
    return Decoded(data.decode(encoding, "replace"), encoding)


def _guess_encoding(data: bytes) -> str:
    first = _HIGH.search(data)
    start = max(0, first.start() - 200) if first else 0
    sample = data[start : start + CHARSET_SAMPLE_BYTES]
    if len(data) > start + len(sample):
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b" "))] or sample  # do not cut within a character
    best = from_bytes(sample, cp_isolation=_CANDIDATES).best() or from_bytes(sample[:-1]).best()
    encoding = best.encoding if best else "cp1252"
    text = sample.decode(encoding, "replace")
    foreign = len(_FOREIGN.findall(text))
    if encoding in _LATIN or len(_MIXED.findall(text)) * 2 > foreign > 0:  # "cafй" is not Russian
        return _choose_latin(sample, encoding)
    return encoding


def _choose_latin(sample: bytes, guess: str) -> str:
    """Choose among the three Latin encodings, which share most letters and are easily confused: Western European,
    unless the spelling indicates another."""
    text = sample.decode("cp1252", "replace")
    if any(c in text for c in "ðþý") and not any(c in text for c in "áíóúæ"):
        return "cp1254"  # Turkish ğ ş ı stand where Icelandic ð þ ý do
    if _SIGN_IN_WORD.search(text) or ("ø" in text and any(c in text for c in "ìùò")):
        return "cp1250"  # Polish za¿ó³æ, Czech kùò
    return guess if guess == "cp1254" else "cp1252"


def _detect_wide(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, detected by the position of its zero bytes. None if it is neither."""
    sample = data[: 4 * 1024]
    sample = sample[: len(sample) // 4 * 4] or sample[: len(sample) // 2 * 2]
    nuls = sample.count(0)
    if not nuls:
        return None
    if nuls < len(sample) / 4:  # few: make sure that they are not stray ones in another encoding
        ascii_bytes = len(sample) - len(sample.translate(None, _PRINTABLE))
        is_utf8 = "\ufffd" not in sample.decode("utf-8", "replace")[:-1]
        if ascii_bytes > 0.85 * len(sample) or (is_utf8 and unusual_share(sample.replace(b"\0", b"")) < BINARY_SHARE):
            return None
    units = len(sample) / 4
    zeros = [sample[i::4].count(0) for i in range(4)]
    guesses = []
    if zeros[3] >= units and zeros[2] >= 0.9 * units:
        guesses.append("utf-32-le")
    if zeros[0] >= units and zeros[1] >= 0.9 * units:
        guesses.append("utf-32-be")
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    if odd > 10 * even:
        guesses.append("utf-16-le")
    if even > 10 * odd:
        guesses.append("utf-16-be")
    for encoding in guesses:
        text = sample.decode(encoding, "replace")
        if _is_sane(text.removesuffix("\ufffd")):
            return encoding
    return None


def _is_sane(text: str) -> bool:
    """Whether the text consists of characters that people write."""
    sample = text[:2048]
    odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\t\n\r\f\x1b" for c in sample)
    return odd + sample.count("\ufffd") <= 0.02 * len(sample)


def unusual_share(data: bytes) -> float:
    """The share of the bytes that are control characters that text does not contain."""
    return 1 - len(data.translate(None, _UNUSUAL)) / len(data) if data else 0
