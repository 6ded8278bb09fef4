"""Bytes to text, by what they hold and only then by their name. Knows no source and no chunk.

Text formats are read here, by code of ours that takes linear time. Formats whose parsers may fail are only named here
(``look``): they are read in processes of their own, see ``parsers``.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal

from . import html
from .charset import BINARY_SHARE, decode, unusual_share

EXTRACTOR_VERSION = "2"

SAMPLE_BYTES = 65_536  # enough to tell text from binary
SNIFF_CHARS = 65_536  # enough to tell HTML, CSV, Markdown
MAX_KEY_CHARS = 200  # of the path before a JSON value, of a column's name before a CSV value
MAX_GROWTH = 8  # times the input that such paths and names may add; then they are left out
MAX_TREE_CHARS = 16_000_000  # of JSON: as a tree it takes some twenty times its size; a longer one is read as text
MAX_TEXT_CHARS = 40_000_000  # of what a text grows to; more makes more chunks than an entity may have
SLICE_CHARS = 1_000_000
MAX_OUTPUT_CHARS = 10_000  # of one output of a notebook's cell
MAX_HEADERS_CHARS = 16_384  # in which an e-mail without a suffix must show that it is one

Kind = Literal["text", "markdown", "html", "json", "csv", "code"]
Document = Literal["pdf", "zip", "gzip", "bzip2", "xz", "tar", "ole", "rtf", "email"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a text that is cut into chunks by itself. ``start``: the offset of its first character; ``label``: what
    it is in its document, as "Page 3", "Sheet Budget", "reports/a.pdf > Page 3"."""

    start: int
    label: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Extracted:
    """Clean text: no NUL, no lone surrogate, ``\\n`` ends a line.

    ``kind`` says how to chunk it. ``html`` has become Markdown-like text, ``json`` and ``csv`` lines of ``key: value``.
    Where there are ``sections`` they cover the text, in order. ``left_out``: what of the file is not in the text, and
    why; None when all of it is.
    """

    text: str
    kind: Kind
    language: str | None = None  # of code, where it is known
    sections: tuple[Section, ...] = ()
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class NoText:
    """There is nothing to index, and that is no failure."""

    reason: str


class Unparseable(Exception):
    """The bytes should hold text but cannot be read: the entity is ``failed``, for this reason."""


def look(head: bytes, *, filename: str | None) -> Document | NoText | None:
    """What a file is that begins so, with its first ``SAMPLE_BYTES``: a document, something that has no text for us, or
    None for a text, or for what only all of its bytes can tell."""
    for offset, magic, form in _DOCUMENTS:
        if head.startswith(magic, offset):
            return form
    if _is_tar(head):
        return "tar"
    if binary := _binary_format(head):
        return NoText(f"unsupported_format: {binary}")
    return "email" if _is_email(head, (filename or "").lower()) else None


def extract(data: bytes, *, filename: str | None) -> Extracted | NoText:
    """Return the text of a file, or why there is none; of a document only which it is.

    Odd bytes never raise, at worst a character is replaced, and malformed JSON, CSV and HTML are read as plain text.
    Time is linear in size.
    """
    if not data:
        return NoText("empty")
    found = look(data[:SAMPLE_BYTES], filename=None)
    if found is not None and found != "email":
        return found if isinstance(found, NoText) else NoText(f"unsupported_format: {found}")
    text = decode(data)
    del data  # it may be large, and who called has let go of it
    if text is None:
        return NoText("unsupported_format: binary data")
    text = clean(text)
    if not text or text.isspace():
        return NoText("empty")
    extracted = _read(text, (filename or "").lower())
    text = _without_surrogates(extracted.text)
    if not text or text.isspace():
        return NoText("no_text")
    return replace(extracted, text=text)


def clean(text: str) -> str:
    """The text without NUL and byte order mark, with ``\\n`` at the end of each line."""
    return text.removeprefix("\ufeff").replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")


def _read(text: str, filename: str) -> Extracted:
    name = PurePosixPath(filename.replace("\\", "/")).name
    suffix = PurePosixPath(name).suffix
    if suffix in _MARKDOWN:
        return Extracted(text, "markdown")
    if language := _LANGUAGES.get(suffix) or _LANGUAGES.get(name):
        return Extracted(text, "code", language)
    if suffix in _TEXT:
        return Extracted(text, "text")
    if html.START.match(text) or (suffix in _HTML and html.TAG.search(text, 0, SNIFF_CHARS)):
        return Extracted(html.to_text(text), "html")
    if len(text) <= MAX_TREE_CHARS:
        if suffix == ".ipynb" and (cells := _notebook_to_text(text)) is not None:
            return Extracted(cells, "markdown")
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
_TEXT = frozenset({".log", ".rst", ".adoc", ".tex", ".org", ".ini", ".cfg", ".conf", ".properties", ".srt"})
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
        for start in range(0, len(text), SLICE_CHARS):  # encoded at once, a large text would take five times its size
            text[start : start + SLICE_CHARS].encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "", text)
    return text


def joined(lines: Iterable[str]) -> str:
    """What is wanted of a text that comes line by line."""
    kept: list[str] = []
    chars = 0
    for line in lines:
        kept.append(line)
        chars += len(line) + 1
        if chars > MAX_TEXT_CHARS:
            break
    return "\n".join(kept)


_DOCUMENTS: tuple[tuple[int, bytes, Document], ...] = (
    (0, b"%PDF-", "pdf"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (4, b"1AY&SY", "bzip2"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"{\\rtf", "rtf"),
)
_TAR_HEADER_BYTES = 512


def _is_tar(head: bytes) -> bool:
    """Whether a header of a tar archive stands there: its bytes add up to what it says itself."""
    header = head[:_TAR_HEADER_BYTES]
    if len(header) < _TAR_HEADER_BYTES or not header[0] or header[156] not in b"\x000123456789gxKLSD":
        return False
    said = header[148:156].strip(b"\0 ")
    return said.isdigit() and len(said) <= 7 and sum(header[:148]) + 256 + sum(header[156:]) == int(said, 8)


_EMAIL_SUFFIXES = (".eml", ".mht", ".mhtml")
_FIRST_HEADER = re.compile(rb"\s*+[!-9;-~]{1,80}:[ \t]")


def _is_email(head: bytes, filename: str) -> bool:
    if _FIRST_HEADER.match(head) is None:
        return False
    name = PurePosixPath(filename.replace("\\", "/"))
    if name.suffix in _EMAIL_SUFFIXES:
        return True
    if (
        name.suffix and not name.suffix[1:].isdigit() and "," not in name.suffix
    ):  # a Maildir's names hold dots and commas
        return False
    block = b"\n" + head[:MAX_HEADERS_CHARS].replace(b"\r\n", b"\n").partition(b"\n\n")[0].lower()
    return b"\nfrom:" in block and b"\nmessage-id:" in block and (b"\ndate:" in block or b"\nreceived:" in block)


# Binary formats: the offset of their magic, the magic, the name people know.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
    (0, b"II*\0", "TIFF image"),
    (0, b"MM\0*", "TIFF image"),
    (0, b"8BPS\0", "Photoshop image"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"\x28\xb5\x2f\xfd", "zstd archive"),
    (0, b"\x04\x22\x4d\x18", "lz4 archive"),
    (0, b"Rar!\x1a\x07", "RAR archive"),
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
    *((0, frame, "MP3 audio") for frame in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")),
)


def _binary_format(data: bytes) -> str | None:
    for offset, magic, name in _MAGIC:
        if data.startswith(magic, offset):
            return name
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
    if unusual_share(head) > BINARY_SHARE:
        for offset, magic, name in _WEAK_MAGIC:
            if data.startswith(magic, offset):
                return name
    return None


def _notebook_to_text(text: str) -> str | None:
    """The cells of a notebook, code and what it printed in fences; None when it is no notebook."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(notebook, dict):
        return None
    sheets = notebook.get("worksheets")  # the cells' place before version 4
    sheet = _dict(sheets[0]) if isinstance(sheets, list) and sheets else {}
    cells = notebook.get("cells") or sheet.get("cells")
    if not isinstance(cells, list):
        return None
    kernel = _dict(_dict(notebook.get("metadata")).get("kernelspec"))
    language = str(kernel.get("language") or "python")[:20]
    blocks: list[str] = []
    for cell in map(_dict, cells):
        source = _joined(cell.get("source") or cell.get("input")).strip("\n")
        if cell.get("cell_type") != "code":
            blocks.append(source)
            continue
        blocks.append(_fenced(source, language))
        outputs = cell.get("outputs")
        blocks.extend(_output(_dict(output)) for output in (outputs if isinstance(outputs, list) else ()))
    return "\n\n".join(filter(None, blocks))


def _output(output: dict[str, Any]) -> str:
    """What an output says in words; "" for pictures and the like. A traceback is told by its last line."""
    if output.get("output_type") in ("error", "pyerr"):
        return _fenced(f"{output.get('ename')}: {output.get('evalue')}"[:MAX_OUTPUT_CHARS], "")
    data = _dict(output.get("data"))
    if markdown := _joined(data.get("text/markdown")):
        return markdown[:MAX_OUTPUT_CHARS]
    plain = _joined(output.get("text") or data.get("text/plain"))
    return _fenced(_ANSI.sub("", plain).strip("\n")[:MAX_OUTPUT_CHARS], "")


_ANSI = re.compile(r"\x1b\[[0-9;]{0,20}m")


def _fenced(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}" if text else ""


def _joined(value: object) -> str:
    """Notebooks write a text as one string or as a list of them."""
    return (
        "".join(part for part in value if isinstance(part, str))
        if isinstance(value, list)
        else (value if isinstance(value, str) else "")
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
    try:
        return joined(lines_of_rows(_rows(text, delimiter), chars=len(text)))
    except csv.Error:
        return text  # a quote that is never closed makes one field of all the rest


def lines_of_rows(all_rows: Iterable[list[str]], *, chars: int) -> Iterator[str]:
    """A table as lines of ``column: value``, where its first row names the columns. ``chars`` is about its size, which
    the names may add to ``MAX_GROWTH`` times at most."""
    rows = (row for row in all_rows if any(row))
    growth = _Growth(chars)
    first = next(rows, [])
    names = [_clipped(" ".join(cell.split())) for cell in first] if _is_header(first) else []
    is_empty = True
    if first and not names:
        is_empty = False
        yield "; ".join(_cells(first, names, growth))
    for row in rows:
        is_empty = False
        yield "; ".join(_cells(row, names, growth))
    if is_empty and names:
        yield "; ".join(names)


def _cells(row: list[str], names: list[str], growth: _Growth) -> Iterator[str]:
    for i, cell in enumerate(row):
        if value := " ".join(cell.split()):
            yield growth.labelled(names[i] if i < len(names) else "", value)


def _rows(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """``strict``: a space after a comma is part of the cell, and of a sentence."""
    return csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=not strict)


def _lines(text: str) -> Iterator[str]:
    """The lines with their ends, without a copy of it all."""
    position = 0
    while position < len(text):
        end = text.find("\n", position) + 1 or len(text)
        yield text[position:end]
        position = end


def _is_header(row: list[str]) -> bool:
    return any(row) and not any(len(cell) < 40 and _NUMBER.fullmatch(cell.strip()) for cell in row)
