"""Finds encoded bytes in texts (base64, uuencode, yEnc, armor) and leaves them out, because nobody searches for them.

Short ones stay: people do search for hashes, keys and tokens.
"""

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress

from .parts import LeftOut

LEAST_CHARS = 200  # of base64 that is left out
RUN_CHARS = 60  # of it without a break: a line of base64 is at least as long
LEAST_URI_CHARS = 40  # of the base64 of a data: URI
LEAST_TAIL_CHARS = 16  # of the end of base64 whose lines were joined; a shorter one may be a word
WINDOW_CHARS = 4_000_000  # of a text that are searched at once
_HEAD_CHARS = 4_096
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_IS_FIT = bytes(byte in _ALPHABET for byte in range(256))
_RUN = b"\x01" * RUN_CHARS
# Lines of base64, or string literals of it. Only its end is padded.
_BREAK = r"(?:\\r|\\n|&#1[03];|&#x[aAdD];|[\s\"'`,;>#*\\+]){1,100}"
_BLOCK = re.compile(rf"[A-Za-z0-9+/]{{{RUN_CHARS},}}+(?:{_BREAK}[A-Za-z0-9+/]{{{RUN_CHARS},}}+)*+={{0,2}}")
_LAST_LINE = re.compile(rf"({_BREAK})([A-Za-z0-9+/]{{1,{RUN_CHARS}}}+)(={{0,2}})(?=[^\S\n]*+(?:[\n\"'`<),;\\]|\Z))")
_RULE = re.compile(r"-{8,}|_{8,}")  # a line across the page, or of a table
_WORD = re.compile(r"[A-Za-z]?[a-z]+|[A-Z]+|[0-9]+")
_URL_SAFE = re.compile(rf"[A-Za-z0-9_-]{{{LEAST_CHARS},}}+={{0,2}}")
_URI = re.compile(rf"(data:[\w.+/;=-]{{0,200}}?;base64,)[A-Za-z0-9+/=_%-]{{{LEAST_URI_CHARS},}}+", re.I)
_MARK = r"[^\S\n]*+(?:[>#*|/]+[^\S\n]*+)?"  # of a quotation or a comment
_ARMOR = re.compile(
    rf"^({_MARK})-----BEGIN ([A-Z0-9 ]{{1,60}})-----[^\S\n]*+\n((?:(?!\1-----)[^\n]*+\n)++)\1-----END \2-----",
    re.M,
)
_ARMORED_LINE = re.compile(rf"{_MARK}(?:[A-Za-z0-9+/=]{{0,100}}|[A-Z][A-Za-z-]{{2,30}}: [^\n]*)[^\S\n]*")
_UU = re.compile(
    r"^begin(?: [0-7]{3,4} ([^\n]{1,255})\n(?:[!-`][ -`]{0,99}[^\S\n]*+\n)*+(?:[` ]?\n)?end"
    r"|-base64 [0-7]{3,4} ([^\n]{1,255})\n(?:[A-Za-z0-9+/=]{1,100}[^\S\n]*+\n)*+====)[^\S\n]*$",
    re.M,
)
_LDIF_VALUE = re.compile(r"^([A-Za-z][\w;.-]{0,100}):: *([A-Za-z0-9+/=]++)[^\S\n]*$", re.M)
_YENC = re.compile(r"^=ybegin [^\n]*\n(?:(?!=yend)[^\n]*\n)*+(?:=yend[^\n]*$)?", re.M)


def strip(text: str) -> tuple[str, tuple[LeftOut, ...]]:
    """Return the text without encoded bytes, and what was left out. Takes linear time."""
    count = encrypted = 0
    if "-----BEGIN " in text:
        text, count, encrypted = _strip_armor(text)
    if "begin" in text:  # one look for both
        if "\nbegin" in text or text.startswith("begin"):
            text, n = _UU.subn(_strip_uu, text)
            count += n
        if "=ybegin " in text:
            text, n = _YENC.subn("", text)
            count += n
    if ";base64," in text:
        text, n = _URI.subn(r"\1", text)
        count += n
    pieces: list[str] = []
    position = 0
    for start, end in _find(text):
        pieces.append(text[position:start])
        position = end
    if pieces:
        text = "".join([*pieces, text[position:]])
    count += len(pieces)
    left_out = [LeftOut("encoded", count=count)] if count else []
    if encrypted:
        left_out.append(LeftOut("encrypted", count=encrypted))
    return text, tuple(left_out)


def _find(text: str) -> Iterator[tuple[int, int]]:
    """Yield where base64 begins and ends. Looks only at places with ``RUN_CHARS`` fit characters in a row, which few
    texts have."""
    position = 0
    while len(text) - position >= RUN_CHARS:
        base = position
        fit = text[base : base + WINDOW_CHARS].encode("ascii", "replace").translate(_IS_FIT)
        position += max(1, len(fit) - RUN_CHARS + 1)  # a run may begin in this window and end in the next
        at = 0
        while (at := fit.find(_RUN, at)) >= 0:
            start = base + at
            if (rule := _RULE.match(text, start)) is not None:
                at = rule.end() - base
                continue
            end = _find_end(text, start)
            if end - start >= LEAST_CHARS and is_base64(text[start:end]):
                yield start, end
            at = max(end, start + RUN_CHARS) - base
            position = max(position, base + at)


def _find_end(text: str, start: int) -> int:
    """Return the end of the block that begins at ``start``; its last line may be short."""
    ends = [found.end() for pattern in (_BLOCK, _URL_SAFE) if (found := pattern.match(text, start)) is not None]
    end = max(ends, default=start)
    if end > start and text[end - 1] != "=" and (last := _LAST_LINE.match(text, end)) is not None:
        is_line = "\n" in last[1] or "\\" in last[1] or "&" in last[1]
        if (is_line or last[3] or len(last[2]) >= LEAST_TAIL_CHARS) and (last[3] or _WORD.fullmatch(last[2]) is None):
            return last.end()
    return end


def is_base64(block: str) -> bool:
    """Whether a block of characters of its alphabet is base64, rather than digits, a genome or a path."""
    body = re.sub(r"\\[rn]|&#\w+;|[^A-Za-z0-9+/]", "", block[:_HEAD_CHARS])
    if len(block) < LEAST_CHARS or len(body) < LEAST_CHARS * 0.9:
        return False
    lower = sum(c.islower() for c in body)
    upper = sum(c.isupper() for c in body)
    digits = sum(c.isdigit() for c in body)
    if body.count("A") + body.count("/") > 0.8 * len(body):  # zeros, or ones
        return True
    least = 0.1 if digits >= 0.02 * len(body) else 0.2  # names in a path have fewer capitals
    return min(upper, lower) >= least * len(body) and digits <= 0.5 * len(body)


def decode_ldif(text: str) -> str:
    """A directory in LDIF (RFC 2849) with its values decoded, but for those that are no text."""

    def decode(found: re.Match[str]) -> str:
        with suppress(ValueError):
            value = binascii.a2b_base64(found[2]).decode("utf-8")
            if value.isprintable():
                return f"{found[1]}: {value}"
        return ""

    return _LDIF_VALUE.sub(decode, re.sub(r"\n ", "", text))


def _strip_armor(text: str) -> tuple[str, int, int]:
    encoded = encrypted = 0

    def leave_out(found: re.Match[str]) -> str:
        nonlocal encoded, encrypted
        if any(_ARMORED_LINE.fullmatch(line) is None for line in found[3].splitlines()):
            return found[0]  # words between two lines that look like it
        if found[2] == "PGP MESSAGE" or found[2] == "PKCS7" or found[2] == "CMS":
            encrypted += 1
        else:
            encoded += 1
        return f"{found[1]}-----BEGIN {found[2]}-----\n{found[1]}-----END {found[2]}-----"

    return _ARMOR.sub(leave_out, text), encoded, encrypted


def _strip_uu(found: re.Match[str]) -> str:
    return f"begin {found[1] or found[2]}\nend"


def find_files(text: str) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each uuencoded file in a text."""
    for found in _UU.finditer(text):
        yield (found[1] or found[2]).strip(), decode_file(found[0].encode("ascii", "replace"))


def decode_file(data: bytes) -> bytes:
    """Decode a file that consists of base64, or is uuencoded."""
    head, _, rest = data.lstrip().partition(b"\n")
    if head.startswith(b"begin "):
        pieces = []
        for line in rest.splitlines():
            if line.strip() in (b"end", b"`", b""):
                break
            size = (((line[0] - 32) & 63) * 8 + 5) // 6 + 1  # some programs write more than that
            try:
                pieces.append(binascii.a2b_uu(line[: max(size, 1)]))
            except binascii.Error:
                continue
        return b"".join(pieces)
    body = rest if head.startswith((b"begin-base64 ", b"-----BEGIN ")) else data
    body = re.sub(rb"[^A-Za-z0-9+/]+", b"", re.sub(rb"^(?:====|-----END ).*", b"", body, flags=re.M))
    body = body[:-1] if len(body) % 4 == 1 else body
    return binascii.a2b_base64(body + b"=" * (-len(body) % 4))


def name_in(head: bytes) -> str:
    """The name that a uuencoded file has for what it holds, or ""."""
    line = head[:_HEAD_CHARS].lstrip().partition(b"\n")[0]
    return line.split(None, 2)[-1].decode("utf-8", "replace").strip() if line.startswith(b"begin") else ""


_FILE = re.compile(
    rb"\s*+(?:begin(?:-base64)? [0-7]{3,4} \S[^\r\n]{0,255}\r?\n(?=[!-`a-z])"
    rb"|(?:[A-Za-z0-9+/]{60,}+\s*+)+(?:[A-Za-z0-9+/]{1,60}+\s*+)?={0,2}\s*+\Z)"
)


def is_file(head: bytes) -> bool:
    """Whether a file consists of base64 or is uuencoded, judged by its first bytes."""
    head = head[:_HEAD_CHARS]
    if len(head) < LEAST_CHARS or _FILE.match(head) is None:
        return False
    return head.lstrip().startswith(b"begin") or is_base64(head.decode("ascii"))
