"""Bytes to text, by what they hold and only then by their name. Knows no source and no chunk."""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal

from charset_normalizer import from_bytes

EXTRACTOR_VERSION = "1"

SAMPLE_BYTES = 65_536  # enough to tell text from binary
CHARSET_SAMPLE_BYTES = 16_384  # enough to tell an encoding
SNIFF_CHARS = 65_536  # enough to tell HTML, CSV, Markdown
MAX_KEY_CHARS = 200  # of the path before a JSON value, of a column's name before a CSV value
MAX_GROWTH = 8  # times the input that such paths and names may add; then they are left out

Kind = Literal["text", "markdown", "html", "json", "csv", "code"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """Clean text: no NUL, no lone surrogate, ``\\n`` ends a line.

    ``kind`` says how to chunk it. ``html`` has become Markdown-like text, ``json`` and ``csv`` lines of ``key: value``.
    """

    text: str
    kind: Kind
    language: str | None = None  # of code, where it is known


@dataclass(frozen=True, slots=True)
class NoText:
    """There is nothing to index, and that is no failure."""

    reason: str


class Unparseable(Exception):
    """The bytes should hold text but cannot be read: the entity is ``failed``, for this reason."""


def extract(data: bytes, *, filename: str | None) -> Extracted | NoText:
    """Return the text of a file, or why there is none.

    Odd bytes never raise, at worst a character is replaced, and malformed JSON, CSV and HTML are read as plain text:
    ``Unparseable`` is for formats whose parsers can fail, of which this version reads none. Time is linear in size.
    """
    if not data:
        return NoText("empty")
    if binary := _binary_format(data):
        return NoText(f"unsupported_format: {binary}")
    text = _decode(data)
    if text is None:
        return NoText("unsupported_format: binary data")
    text = text.removeprefix("\ufeff").replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    if not text or text.isspace():
        return NoText("empty")
    extracted = _read(text, (filename or "").lower())
    clean = _without_surrogates(extracted.text)
    if not clean or clean.isspace():
        return NoText("no_text")
    return Extracted(clean, extracted.kind, extracted.language)


def _read(text: str, filename: str) -> Extracted:
    name = PurePosixPath(filename.replace("\\", "/")).name
    suffix = PurePosixPath(name).suffix
    if suffix in _MARKDOWN:
        return Extracted(text, "markdown")
    if language := _LANGUAGES.get(suffix) or _LANGUAGES.get(name):
        return Extracted(text, "code", language)
    if suffix in _TEXT:
        return Extracted(text, "text")
    if _HTML_START.match(text) or (suffix in _HTML and _HTML_TAG.search(text, 0, SNIFF_CHARS)):
        return Extracted(_html_to_text(text), "html")
    if (suffix in _JSON or text.lstrip()[:1] in ("{", "[")) and (lines := _json_to_text(text)) is not None:
        return Extracted(lines, "json")
    if suffix in _CSV and (delimiter := _delimiter(text, strict=False)):
        return Extracted(_csv_to_text(text, delimiter), "csv")
    if text.startswith("#!"):
        return Extracted(text, "code", _shebang(text))
    if suffix in ("", ".txt") and (delimiter := _delimiter(text, strict=True)):
        return Extracted(_csv_to_text(text, delimiter), "csv")
    if not suffix and _looks_like_markdown(text[:SNIFF_CHARS]):
        return Extracted(text, "markdown")
    return Extracted(text, "text")


_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml", ".shtml"})
_JSON = frozenset({".json", ".jsonl", ".ndjson", ".geojson", ".jsonld", ".ipynb", ".webmanifest", ".har"})
_CSV = frozenset({".csv", ".tsv", ".tab", ".psv"})
_TEXT = frozenset({".log", ".rst", ".adoc", ".tex", ".org", ".ini", ".cfg", ".conf", ".properties", ".eml", ".srt"})
_LANGUAGES = {
    **dict.fromkeys((".py", ".pyi", ".pyx", ".pyw"), "python"),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".tsx", ".mts", ".cts"), "typescript"),
    **dict.fromkeys((".c", ".h"), "c"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ino", ".cu", ".cuh"), "cpp"),
    **dict.fromkeys((".sh", ".bash", ".zsh", ".ksh", ".fish", ".bats"), "shell"),
    **dict.fromkeys((".kt", ".kts"), "kotlin"),
    **dict.fromkeys((".rb", ".rake", ".gemspec", "rakefile", "gemfile"), "ruby"),
    **dict.fromkeys((".pl", ".pm"), "perl"),
    **dict.fromkeys((".ex", ".exs"), "elixir"),
    **dict.fromkeys((".erl", ".hrl"), "erlang"),
    **dict.fromkeys((".clj", ".cljs", ".cljc", ".edn"), "clojure"),
    **dict.fromkeys((".ml", ".mli"), "ocaml"),
    **dict.fromkeys((".fs", ".fsx", ".fsi"), "fsharp"),
    **dict.fromkeys((".hs", ".lhs"), "haskell"),
    **dict.fromkeys((".yaml", ".yml"), "yaml"),
    **dict.fromkeys((".tf", ".hcl", ".tfvars"), "hcl"),
    **dict.fromkeys((".scss", ".sass", ".less", ".css"), "css"),
    **dict.fromkeys((".mk", "makefile", "gnumakefile"), "make"),
    **dict.fromkeys((".cmake", "cmakelists.txt"), "cmake"),
    **dict.fromkeys((".ps1", ".psm1"), "powershell"),
    **dict.fromkeys((".asm", ".s"), "assembly"),
    **dict.fromkeys((".lisp", ".el", ".scm", ".rkt"), "lisp"),
    **dict.fromkeys((".m", ".mm"), "objective-c"),
    **dict.fromkeys((".gradle", ".groovy", "jenkinsfile"), "groovy"),
    **dict.fromkeys((".bzl", "build.bazel", ".star"), "starlark"),
    **dict.fromkeys((".dockerfile", "dockerfile", "containerfile"), "dockerfile"),
    **dict.fromkeys((".vue", ".svelte", ".astro"), "component"),
    **dict.fromkeys((".jl",), "julia"),
    **dict.fromkeys((".patch", ".diff"), "diff"),
    ".awk": "awk",
    ".bat": "batch",
    ".cs": "csharp",
    ".d": "d",
    ".dart": "dart",
    ".go": "go",
    ".graphql": "graphql",
    ".java": "java",
    ".lua": "lua",
    ".nim": "nim",
    ".nix": "nix",
    ".pas": "pascal",
    ".php": "php",
    ".proto": "protobuf",
    ".r": "r",
    ".rs": "rust",
    ".scala": "scala",
    ".sol": "solidity",
    ".sql": "sql",
    ".swift": "swift",
    ".toml": "toml",
    ".v": "verilog",
    ".vhdl": "vhdl",
    ".vim": "vim",
    ".zig": "zig",
}


def _shebang(text: str) -> str | None:
    words = [PurePosixPath(word).name for word in text[2:200].partition("\n")[0].split() if not word.startswith("-")]
    word = next((word for word in words if word != "env"), "")
    known = {"sh": "shell", "bash": "shell", "zsh": "shell", "node": "javascript", "python": "python"}
    return known.get(word.rstrip("0123456789."))


def _looks_like_markdown(text: str) -> bool:
    heading = re.search(r"^#{1,6} \S", text, re.MULTILINE)
    return heading is not None and ("\n```" in text or "](" in text or "\n- " in text)


def _without_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "", text)
    return text


# Binary formats: the offset of their magic, the magic, the name people know.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "PDF document"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
    (0, b"II*\0", "TIFF image"),
    (0, b"MM\0*", "TIFF image"),
    (0, b"8BPS\0", "Photoshop image"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"\xfd7zXZ\0", "xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"\x28\xb5\x2f\xfd", "zstd archive"),
    (0, b"\x04\x22\x4d\x18", "lz4 archive"),
    (0, b"Rar!\x1a\x07", "RAR archive"),
    (4, b"1AY&SY", "bzip2 archive"),
    (0, b"\x7fELF", "ELF binary"),
    (0, b"\xcf\xfa\xed\xfe", "Mach-O binary"),
    (0, b"\xce\xfa\xed\xfe", "Mach-O binary"),
    (0, b"\0asm", "WebAssembly binary"),
    (0, b"\x1bLua", "Lua bytecode"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"Obj\1", "Avro file"),
    (0, b"ARROW1\0", "Arrow file"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"OggS\0", "Ogg audio"),
    (0, b"fLaC\0", "FLAC audio"),
    (0, b"MThd\0", "MIDI file"),
    (0, b"\x1aE\xdf\xa3", "Matroska video"),
    (0, b"\0\0\1\xba", "MPEG video"),
    (0, b"FLV\1", "FLV video"),
    (0, b"OTTO\0", "font"),
    (0, b"\0\1\0\0\0", "font"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "legacy Office document"),
    (0, b"{\\rtf", "RTF document"),
    (0, b"DIRC\0", "git index"),
    (0, b"PACK\0", "git pack"),
    (0, b"\xedtOc", "git pack index"),
    (0, b"!<arch>\n", "static library"),
)
_WEAK_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # text may begin so too
    (0, b"GIF87a", "GIF image"),
    (0, b"GIF89a", "GIF image"),
    (0, b"PAR1", "Parquet file"),
    (0, b"wOFF", "font"),
    (0, b"wOF2", "font"),
    (0, b"MZ", "Windows program"),
    (0, b"BM", "BMP image"),
    (8, b"WEBP", "WebP image"),
    (8, b"WAVE", "WAV audio"),
    (8, b"AVI ", "AVI video"),
    (257, b"ustar", "tar archive"),
    *((0, frame, "MP3 audio") for frame in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")),
)
_UNUSUAL = bytes([*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F])  # control characters text goes without
BINARY_SHARE = 0.03  # of them; random bytes have 0.1
BINARY_SHARE_UTF8 = 0.3  # of them in valid UTF-8: some records are delimited by control characters


def _binary_format(data: bytes) -> str | None:
    for offset, magic, name in _MAGIC:
        if data.startswith(magic, offset):
            return name
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_format(data)
    if data.startswith(b"\xca\xfe\xba\xbe"):  # Java's version follows; Mach-O's count of architectures is smaller
        return "Java class file" if int.from_bytes(data[4:8], "big") > 30 else "Mach-O binary"
    if data[4:8] == b"ftyp" and b"\0" in data[:4]:
        brands = {b"heic": "HEIC image", b"heix": "HEIC image", b"mif1": "HEIC image", b"avif": "AVIF image"}
        return brands.get(data[8:12], "MP4 video")
    if data.startswith(b"ID3") and data[3:4] < b"\x0a":
        return "MP3 audio"
    if data[2:4] == b"\r\n" and data[1:2] in (b"\x0c", b"\x0d", b"\x0e") and b"\0" in data[4:16]:
        return "Python bytecode"
    head = data[:SAMPLE_BYTES]
    if _unusual_share(head) > BINARY_SHARE:
        for offset, magic, name in _WEAK_MAGIC:
            if data.startswith(magic, offset):
                return name
    return None


def _zip_format(data: bytes) -> str:
    if data.startswith(b"mimetype", 30):
        return "EPUB document" if b"epub" in data[:100] else "OpenDocument file"
    names = data[:SAMPLE_BYTES] + data[-SAMPLE_BYTES:]  # a ZIP lists its files at the end
    if b"[Content_Types].xml" in names:
        for folder, name in ((b"word/", "DOCX"), (b"xl/", "XLSX"), (b"ppt/", "PPTX")):
            if folder in names:
                return f"{name} document"
    return "Java archive" if b"META-INF/MANIFEST.MF" in names else "ZIP archive"


def _unusual_share(data: bytes) -> float:
    return 1 - len(data.translate(None, _UNUSUAL)) / len(data) if data else 0


_BOMS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What charset-normalizer chooses among: more only let it err more often.
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


def _decode(data: bytes) -> str | None:
    """None when it is no text."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            text = data[len(bom) :].decode(encoding, "replace")
            return text if _is_sane(text) else None
    if (wide := _wide_encoding(data)) is not None:
        return data.decode(wide, "replace")
    data = data.strip(b"\0")  # logs are written into zeroed space
    unusual = _unusual_share(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if unusual > BINARY_SHARE or (b"\0" in data and unusual > BINARY_SHARE / 10):
            return None
        return _decode_legacy(data)
    if unusual > BINARY_SHARE_UTF8:
        return None
    if "\x1b$" in text:
        try:
            return data.decode("iso2022_jp")
        except UnicodeDecodeError:
            pass
    return text


def _decode_legacy(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    whole = len(text) - bad - len(data.translate(None, _HIGH_BYTES))  # characters of more than one byte that were right
    if whole > 10 * bad:
        return text  # UTF-8 with some damage
    if (declared := _DECLARED.search(data[:1024])) and _DECLARABLE.match(name := declared[1].decode().lower()):
        try:
            return data.decode(name, "replace")
        except LookupError:
            pass
    return data.decode(_guess(data), "replace")


def _guess(data: bytes) -> str:
    first = _HIGH.search(data)
    start = max(0, first.start() - 200) if first else 0
    sample = data[start : start + CHARSET_SAMPLE_BYTES]
    if len(data) > start + len(sample):
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b" "))] or sample  # not within a character
    best = from_bytes(sample, cp_isolation=_CANDIDATES).best() or from_bytes(sample[:-1]).best()
    encoding = best.encoding if best else "cp1252"
    text = sample.decode(encoding, "replace")
    foreign = len(_FOREIGN.findall(text))
    if encoding in _LATIN or len(_MIXED.findall(text)) * 2 > foreign > 0:  # cafй is no Russian
        return _latin(sample, encoding)
    return encoding


def _latin(sample: bytes, guess: str) -> str:
    """Western European unless its spelling says otherwise: the three share most of their letters, and so do guesses."""
    text = sample.decode("cp1252", "replace")
    if any(c in text for c in "ðþý") and not any(c in text for c in "áíóúæ"):
        return "cp1254"  # Turkish ğ ş ı stand where Icelandic ð þ ý do
    if _SIGN_IN_WORD.search(text) or ("ø" in text and any(c in text for c in "ìùò")):
        return "cp1250"  # Polish za¿ó³æ, Czech kùò
    return guess if guess == "cp1254" else "cp1252"


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where its zero bytes are."""
    sample = data[: 4 * 1024]
    sample = sample[: len(sample) // 4 * 4] or sample[: len(sample) // 2 * 2]
    nuls = sample.count(0)
    if not nuls:
        return None
    if nuls < len(sample) / 4:  # few: it must not be a stray one in another encoding
        ascii_bytes = len(sample) - len(sample.translate(None, _PRINTABLE))
        is_utf8 = "\ufffd" not in sample.decode("utf-8", "replace")[:-1]
        if ascii_bytes > 0.85 * len(sample) or (is_utf8 and _unusual_share(sample.replace(b"\0", b"")) < BINARY_SHARE):
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
    """Whether characters are such as people write."""
    sample = text[:2048]
    odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\t\n\r\f\x1b" for c in sample)
    return odd + sample.count("\ufffd") <= 0.02 * len(sample)


_HTML_START = re.compile(
    r"\s*+(?:<\?xml[^>]{0,200}>\s*+)?(?:<!--.{0,2000}?-->\s*+)?<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_HTML_TAG = re.compile(
    r"</?(?:a|article|b|body|br|code|dd|div|dl|dt|em|font|form|h[1-6]|head|header|hr|html|i|img|input|li|link|main|meta"
    r"|nav|ol|p|pre|script|section|span|strong|style|table|tbody|td|th|title|tr|u|ul)[\s/>]",
    re.I,
)
# Possessive throughout, and a tag ends at the latest with the text: one pass, whatever the text. A quote that is
# never closed is met once of each kind.
_MARKUP = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+(?:>|\Z)|<(!--|[!?/])""")
_DIGITS = re.compile(r"&#[xX]?[0-9a-fA-F]{16,};?")  # unescape raises at thousands of them
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.I) for name in ("script", "style", "title", "textarea", "iframe")}
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd"}
    | {"label", "mark", "nobr", "output", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong"}
    | {"sub", "sup", "time", "tt", "u", "var", "picture"}
)
_DROPPED = frozenset({"nav", "template", "svg"})
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_LINES = frozenset(
    {
        "li",
        "tr",
        "br",
        "dt",
        "dd",
        "div",
        "option",
        "legend",
        "summary",
        "figcaption",
        "caption",
        "thead",
        "tbody",
        "tfoot",
    }
)
_BREAK_ROW = frozenset({"table", "pre", *_HEADINGS})
MAX_ROW_CHARS = 1_000  # a longer row is a layout, not data
MAX_INDENT = 6  # levels of nested lists


def _html_to_text(html: str) -> str:
    page = _Page()
    is_xml = html.lstrip()[:5] == "<?xml"  # there any element may close itself
    position = 0
    unclosed: set[str] = set()
    while markup := _MARKUP.search(html, position):
        page.text(html[position : markup.start()])
        position = markup.end()
        if other := markup[3]:
            closing = html.find("-->" if other == "!--" else ">", position - (2 if other == "!--" else 0))
            position = len(html) if closing < 0 else html.index(">", closing) + 1
            continue
        name = markup[2].lower()
        if markup[1]:
            page.close(name)
        elif markup[0].endswith("/>") and (is_xml or name in _DROPPED):
            page.open(name)
            page.close(name)
        elif (pattern := _RAW.get(name)) and name not in unclosed:
            if end := pattern.search(html, position):
                page.raw(name, html[position : end.start()])
                position = end.start()
            elif name in ("title", "textarea"):
                unclosed.add(name)
            else:
                return page.finish()
        else:
            page.open(name)
    page.text(html[position:])
    return page.finish()


class _Page:
    """Turns tags and text, in the order of the page, into lines. Keeps no tree, so no nesting is too deep."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._inline: list[str] = []
        self._inline_chars = 0
        self._prefix = ""
        self._blank = False  # an empty line is due
        self._stack: list[str] = []
        self._open: dict[str, int] = {}
        self._dropped_at: int | None = None  # height of the stack under what is left out
        self._pre = False
        self._row = False
        self._title = ""
        self._first_h1: str | None = None

    def text(self, text: str) -> None:
        if text and self._dropped_at is None:
            self._inline.append(_unescaped(text))
            self._inline_chars += len(text)

    def raw(self, name: str, text: str) -> None:
        if self._dropped_at is not None:
            return
        if name == "title":
            self._title = self._title or " ".join(_unescaped(text).split())
        elif name == "textarea":
            self.text(text)

    def open(self, name: str) -> None:
        if name in _INLINE:
            return
        self._start(name)
        if name not in _VOID:
            if name in _DROPPED and self._dropped_at is None:
                self._dropped_at = len(self._stack)
            self._stack.append(name)
            self._open[name] = self._open.get(name, 0) + 1

    def close(self, name: str) -> None:
        if name in _INLINE:
            return
        if name == "p" and not self._open.get("p"):
            self._start("p")
        while self._open.get(name):
            top = self._stack.pop()
            self._open[top] -= 1
            if self._dropped_at is not None and len(self._stack) <= self._dropped_at:
                self._dropped_at = None
            self._end(top)
            if top == name:
                break

    def finish(self) -> str:
        self._dropped_at = None
        self._end("pre" if self._pre else "table")
        if self._title and self._title != self._first_h1:
            self._lines.insert(0, self._title if self._first_h1 else f"# {self._title}")
            self._lines.insert(1, "")
        return "\n".join(self._lines)

    def _start(self, name: str) -> None:
        if self._dropped_at is not None:
            return
        if self._pre:
            if name in ("br", "div", "p", "tr", "li"):
                self._inline.append("\n" if name == "br" or not self._at_line_start() else "")
            return
        if name in ("td", "th"):
            self._row = True
            if any(not part.isspace() for part in self._inline):
                self._inline.append(" | ")
            return
        if self._row and name not in _BREAK_ROW and name != "tr" and self._inline_chars < MAX_ROW_CHARS:
            self._inline.append(" ")
            return
        self._flush()
        self._blank = self._blank or not self._is_close(name)
        if name in _HEADINGS:
            self._prefix = _HEADINGS[name]
        elif name == "li":
            depth = self._open.get("ul", 0) + self._open.get("ol", 0)
            self._prefix = "  " * min(max(depth - 1, 0), MAX_INDENT) + "- "
        elif name == "pre":
            self._pre = True

    def _end(self, name: str) -> None:
        if self._dropped_at is not None:
            return
        if self._pre:
            if name == "pre":
                self._fence()
            return
        if name in ("td", "th"):
            return
        if (
            self._row
            and name not in ("tr", "table", "tbody", "thead", *_HEADINGS)
            and self._inline_chars < MAX_ROW_CHARS
        ):
            self._inline.append(" ")
            return
        self._flush()
        self._blank = self._blank or not self._is_close(name)

    def _is_close(self, name: str) -> bool:
        return name in _LINES or (name in ("ul", "ol") and self._open.get("li", 0) > 0)

    def _at_line_start(self) -> bool:
        return not self._inline or self._inline[-1].endswith("\n") or not self._inline[-1]

    def _flush(self) -> None:
        line = " ".join("".join(self._inline).split())
        self._inline, self._inline_chars, self._row = [], 0, False
        if line:
            if self._prefix == "# " and self._first_h1 is None:
                self._first_h1 = line
            self._add(self._prefix + line)
        self._prefix = ""

    def _fence(self) -> None:
        code = "".join(self._inline).strip("\n").rstrip()
        self._inline, self._inline_chars, self._pre = [], 0, False
        if code:
            fence = "```"
            while fence in code and len(fence) < 20:
                fence += "`"
            self._blank = True
            self._add(f"{fence}\n{code}\n{fence}")
        self._blank = True

    def _add(self, line: str) -> None:
        if self._blank and self._lines:
            self._lines.append("")
        self._blank = False
        self._lines.append(line)


def _unescaped(text: str) -> str:
    return unescape(_DIGITS.sub("\ufffd", text)) if "&" in text else text


class _Object(list[tuple[str, Any]]):
    """A JSON object that keeps its order and all its keys, equal ones too."""


def _json_to_text(text: str) -> str | None:
    """None when it is neither JSON nor JSON Lines."""
    growth = _Growth(len(text))
    try:
        value = _parsed_json(text)
    except (ValueError, RecursionError):
        lines = (line for line in text.split("\n") if line and not line.isspace())
        blocks: list[str] = []
        for count, line in enumerate(lines):
            try:
                value = _parsed_json(line)
            except (ValueError, RecursionError):
                if count < 2:
                    return None
                blocks.append(line)
            else:
                if count < 2 and not isinstance(value, list):
                    return None
                blocks.append("\n".join(_json_lines("", value, growth)))
        return "\n\n".join(blocks)
    if isinstance(value, _Object):
        return "\n".join(_json_object(value, growth)).strip("\n")
    if isinstance(value, list) and not _fits_a_line(value):
        return "\n\n".join("\n".join(_json_lines("", item, growth)) for item in value)
    return "\n".join(_json_lines("", value, growth))


def _parsed_json(text: str) -> Any:
    # numbers stay as they are written: no limit of digits, no loss
    return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str)


def _json_object(value: _Object, growth: "_Growth") -> Iterator[str]:
    for key, item in value:
        if isinstance(item, list) and item and not _fits_a_line(item):
            yield ""
            yield from _json_lines(_clipped(key), item, growth)
            yield ""
        else:
            yield growth.labelled(_clipped(key), _scalar(item))


def _json_lines(path: str, value: Any, growth: "_Growth") -> Iterator[str]:
    if not isinstance(value, list) or not value or _fits_a_line(value):
        yield growth.labelled(path, _scalar(value))
        return
    stack = [_children(path, value)]
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
        elif not isinstance(child[1], list) or not child[1] or _fits_a_line(child[1]):
            yield growth.labelled(child[0], _scalar(child[1]))
        else:
            stack.append(_children(*child))


def _children(path: str, value: list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _Object):
        return ((_clipped(f"{path}.{key}" if path else key), item) for key, item in value)
    return ((_clipped(f"{path}[{i}]"), item) for i, item in enumerate(value))


def _fits_a_line(value: list[Any]) -> bool:
    """Whether it is a plain array of short scalars."""
    return not isinstance(value, _Object) and all(
        len(item) <= 100 and "\n" not in item if isinstance(item, str) else not isinstance(item, list) for item in value
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, _Object):
        return "{}"
    if isinstance(value, list):
        return ", ".join(map(_scalar, value)) if value else "[]"
    return "null" if value is None else str(value).lower()


def _clipped(key: str) -> str:
    if "\n" in key:
        key = " ".join(key.split())
    return key if len(key) <= MAX_KEY_CHARS else "…" + key[-MAX_KEY_CHARS:]


class _Growth:
    """What labels may still add to a text, so that a small file cannot become a huge one."""

    def __init__(self, chars: int) -> None:
        self._left = MAX_GROWTH * chars + 10_000

    def labelled(self, label: str, value: str) -> str:
        if not label or self._left < 0:
            return value
        self._left -= len(label)
        return f"{label}: {value}"


_DELIMITERS = ",\t;|"
_NUMBER = re.compile(r"[-+]?[$€£]?[\d.,:/ -]*\d%?")
SNIFF_ROWS = 50


def _delimiter(text: str, *, strict: bool) -> str | None:
    """What separates the columns; None when there seem to be none. ``strict``: nothing but the text says it is CSV."""
    sample = text[:SNIFF_CHARS]
    if len(text) > len(sample):
        sample = sample[: sample.rfind("\n") + 1] or sample
    best: tuple[float, int, str] | None = None
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in islice(_rows(sample, delimiter, strict=strict), SNIFF_ROWS) if row]
        except csv.Error:
            continue
        widths = [len(row) for row in rows]
        width = max(set(widths), key=lambda w: (widths.count(w), w), default=0)
        share = widths.count(width) / max(1, len(widths))
        if width < 2 or share < 0.5 or (strict and not _is_surely_csv(rows, share, delimiter)):
            continue
        if best is None or (share, width) > best[:2]:
            best = (share, width, delimiter)
    return best[2] if best else None


def _is_surely_csv(rows: list[list[str]], share: float, delimiter: str) -> bool:
    header = rows[0]
    return (
        share == 1
        and len(rows) >= 4
        and len(header) >= (2 if delimiter == "\t" else 3)
        and len(set(header)) == len(header)
        and all(cell and cell == cell.strip() and len(cell) <= 40 for cell in header)
        and _is_header(header)
    )


def _csv_to_text(text: str, delimiter: str) -> str:
    rows = (row for row in _rows(text, delimiter) if any(row))
    growth = _Growth(len(text))
    lines: list[str] = []
    try:
        first = next(rows, [])
        names = [_clipped(" ".join(cell.split())) for cell in first] if _is_header(first) else []
        if not names:
            lines.append("; ".join(_cells(first, names, growth)))
        lines.extend("; ".join(_cells(row, names, growth)) for row in rows)
    except csv.Error:
        return text  # a quote that is never closed makes one field of all the rest
    return "\n".join(lines) if lines else "; ".join(names)


def _cells(row: list[str], names: list[str], growth: _Growth) -> Iterator[str]:
    for i, cell in enumerate(row):
        if value := " ".join(cell.split()):
            yield growth.labelled(names[i] if i < len(names) else "", value)


def _rows(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """``strict``: a space after a comma is part of the cell, and of a sentence."""
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=not strict)


def _is_header(row: list[str]) -> bool:
    return any(row) and not any(len(cell) < 40 and _NUMBER.fullmatch(cell.strip()) for cell in row)
