"""Bytes to characters: detects the encoding by its byte order mark, by declaration, or by plausibility."""

import codecs
import re
import unicodedata
from dataclasses import dataclass

import chardet

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
# The encodings that a guess chooses from. With rarer ones it only errs more often.
_CANDIDATES = [
    *("cp1252", "iso8859-15", "cp850", "cp437", "mac-roman"),
    *("cp1250", "iso8859-2", "cp852", "cp1257", "iso8859-13", "cp1254", "cp1258"),
    *("cp1251", "koi8-r", "koi8-u", "cp866", "iso8859-5", "mac-cyrillic", "cp1253", "iso8859-7"),
    *("cp1255", "iso8859-8", "cp1256", "iso8859-6", "cp874"),
    *("cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949", "euc_kr", "utf-16-le", "utf-16-be"),
]
# A guess is sure if the text has so many bytes beyond ASCII and the confidence is so high; and, with few of them, if
# what the next encoding reads is much less likely. Of a thousand sure guesses of one to twelve lines one was wrong.
SURE_BYTES = 3
SURE_CONFIDENCE = 0.02
FEW_BYTES = 20
NEXT_SHARE = 0.8
_UNLIKELY = 0.2  # what a guess is worth whose words are none, for each kind of fault
_DECLARED = re.compile(
    rb"""(?:charset|encoding|coding|fenc)\s{0,9}[=:]\s{0,9}["']?([a-zA-Z0-9_.:-]{3,20})"""
    rb"""|@charset\s{1,9}["']([a-zA-Z0-9_-]{3,20})|\\usepackage\[([a-zA-Z0-9-]{3,20})\]\{inputenc\}"""
)
_DECLARABLE = re.compile(
    r"iso-?8859|windows-|cp-?\d|koi8|shift|sjis|x-sjis|euc|gb|big5|tis|mac|latin|ks_c|ansinew|applemac"
)
_DECLARED_BYTES = 2_048  # at the beginning, where an encoding is declared
_MODELINE_BYTES = 400  # at the end, where Vim finds it too
_MODELINE = re.compile(rb"\bvim?:[^\n]{0,200}\b(?:fileencoding|fenc)=([a-zA-Z0-9_-]{3,20})")
_OTHER_NAMES = {"ansinew": "cp1252", "applemac": "mac_roman", "x-sjis": "cp932", "latin9": "iso8859-15"}
# What bytes hold that are declared as the first: programs write the second and call it so.
_SUPERSETS = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
_UTF7 = re.compile(rb"charset\s*=\s*[\"']?(?:utf-7|unicode-1-1-utf-7)\b", re.I)
_HZ = re.compile(rb"~\{((?:[\x21-\x77][\x21-\x7e])+)~\}")
_HZ_COMMON = (*range(0x21, 0x24), *range(0x30, 0x58))  # first bytes of punctuation and of the common characters
_HIGH = re.compile(rb"[\x80-\xff]")
_HIGH_BYTES = bytes(range(0x80, 0x100))
_PRINTABLE = bytes(range(0x20, 0x7F))
_FOREIGN = re.compile("[\u0370-\u06ff]")  # Greek, Cyrillic, Hebrew, Arabic
_FAULTS = (
    re.compile("[a-zA-ZÀ-ʯ][\u0370-\u06ff]|[\u0370-\u06ff][a-zA-ZÀ-ʯ]"),  # "cafй" is not Russian
    re.compile(r"[^\W\d_][¡-¶¸-¿×÷€†‡•‰‗„˝˛¨¸„“”Ŀ─-▟][^\W\d_]"),  # za¿ó³æ
    re.compile("[a-zß-öø-ÿа-яα-ω][À-ÖØ-ÞŠŽŒŐŰА-ЯΑ-Ω][a-zß-öø-ÿа-яα-ω]"),
    re.compile("[\x80-\x9f]"),
)
_HAN = re.compile("[\u4e00-\u9fff]")
_EASTERN = re.compile("[\u3040-\u30ff\uac00-\ud7a3]")  # Japanese and Korean letters
_KATAKANA = re.compile(rb"(?:[\xa1-\xdf]|[\x00-\x7f])+")  # of half width
_VOICED = re.compile(rb"[\xb3\xb6-\xc4\xca-\xce]\xde|[\xca-\xce]\xdf|[\xb1-\xdc]\xb0")


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
    return _decode_ascii(data, text) if text.isascii() else Decoded(text, "utf-8")


def _decode_ascii(data: bytes, text: str) -> Decoded:
    """Text of ASCII bytes, which some encodings use for all characters."""
    encodings: list[str] = []
    if "\x1b$)C" in text:
        encodings = ["iso2022_kr"]
    elif iso2022.is_encoded(data):
        return Decoded(iso2022.decode(data), "iso2022_jp")
    elif "~{" in text and _is_hz(data):
        encodings = ["hz"]
    elif _UTF7.search(data[:_DECLARED_BYTES]):
        encodings = ["utf-7"]
    for encoding in encodings:
        try:
            return Decoded(data.decode(encoding), encoding)
        except UnicodeDecodeError:
            pass
    return Decoded(text, "utf-8")


def _is_hz(data: bytes) -> bool:
    leads = [lead for run in _HZ.findall(data[:CHARSET_SAMPLE_BYTES]) for lead in run[::2]]
    return len(leads) > 1 and sum(lead in _HZ_COMMON for lead in leads) >= 0.9 * len(leads)


def _decode_legacy(data: bytes) -> Decoded:
    if (declared := _declared_encoding(data)) is not None:
        text = data.decode(declared, "replace")
        if text.count("\ufffd") <= len(text) / 200:
            return Decoded(text, declared)
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    whole = len(text) - bad - len(data.translate(None, _HIGH_BYTES))  # valid multi-byte characters
    if whole > bad:
        return _decode_mixed(data)
    encoding, is_sure = _guess_encoding(data)
    return Decoded(data.decode(encoding, "replace"), encoding, is_sure)


def _declared_encoding(data: bytes) -> str | None:
    """The encoding that the text names, as Python names it; None if it names none of those that it may be in."""
    found = _DECLARED.search(data[:_DECLARED_BYTES]) or _MODELINE.search(data[-_MODELINE_BYTES:])
    if found is None:
        return None
    name = next(filter(None, found.groups())).decode().lower()
    name = _OTHER_NAMES.get(name, name)
    if _DECLARABLE.match(name) is None:
        return None
    try:
        encoding = codecs.lookup(name).name
    except LookupError:
        return None
    return _SUPERSETS.get(encoding, encoding)


def _decode_mixed(data: bytes) -> Decoded:
    """UTF-8 with lines in another encoding, such as a log that two programs write. Bytes that are damaged in a line of
    UTF-8 become U+FFFD."""
    lines = data.split(b"\n")
    others = []
    for i, line in enumerate(lines):
        if not line.isascii():
            text = line.decode("utf-8", "replace")
            if (bad := text.count("\ufffd")) and len(text) - bad == len(line.translate(None, _HIGH_BYTES)):
                others.append(i)
    if not others:
        return Decoded(data.decode("utf-8", "replace"), "utf-8")
    encoding, _ = _guess_encoding(b"\n".join(lines[i] for i in others))
    for i in others:
        lines[i] = lines[i].decode(encoding, "replace").encode()
    return Decoded(b"\n".join(lines).decode("utf-8", "replace"), encoding, is_sure=False)


def _guess_encoding(data: bytes) -> tuple[str, bool]:
    """The likeliest encoding, and whether another one is unlikely."""
    first = _HIGH.search(data)
    start = max(0, first.start() - 200) if first else 0
    sample = data[start : start + CHARSET_SAMPLE_BYTES]
    if len(data) > start + len(sample):
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b" "))] or sample  # do not cut within a character
    sample = b"\n".join(dict.fromkeys(sample.split(b"\n")))  # a line that comes again and again would bias the guess
    if _KATAKANA.fullmatch(sample) and len(_VOICED.findall(sample)) * 8 >= len(_HIGH.findall(sample)):
        return "cp932", True
    scores: dict[str, tuple[float, str]] = {}  # of each text that an encoding reads
    for guess in chardet.detect_all(sample, ignore_threshold=True, include_encodings=_CANDIDATES):
        if guess["encoding"] is None:
            continue
        encoding = codecs.lookup(guess["encoding"]).name
        encoding = _SUPERSETS.get(encoding, encoding)
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        score = guess["confidence"] * _UNLIKELY ** _count_faults(text)
        before = scores.get(text, (score, encoding))  # of encodings that read the same, the one that is used most
        scores[text] = max(before[0], score), min(before[1], encoding, key=_commonness)
    if not scores:
        return "cp1252", False
    (text, (best, encoding)), *others = sorted(scores.items(), key=lambda one: -one[1][0])
    high = len(_HIGH.findall(sample))
    is_close = bool(others) and others[0][1][0] > NEXT_SHARE * best
    # a few Chinese characters and no others: in another encoding they are other such characters
    is_close = is_close or (_HAN.search(text) is not None and _EASTERN.search(text) is None)
    return encoding, high >= SURE_BYTES and best >= SURE_CONFIDENCE and not (is_close and high < FEW_BYTES)


def _commonness(encoding: str) -> int:
    return _CANDIDATES.index(encoding) if encoding in _CANDIDATES else len(_CANDIDATES)


def _count_faults(text: str) -> int:
    """How many kinds of faults show that a text is decoded wrongly: in its words, or few letters of another script."""
    letters = sum(map(str.isalpha, text))
    is_sprinkled = 0 < len(_FOREIGN.findall(text)) < 0.15 * letters
    return is_sprinkled + sum(fault.search(text) is not None for fault in _FAULTS)


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
