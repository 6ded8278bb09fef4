"""Bytes to text, judged by their content first and by their name second. Knows no source and no chunk.

Text formats are read here, by our own code, in linear time. Formats whose parsers may fail are only detected here
(``detect_format``); ``parsers`` reads them in processes of their own.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Literal

from . import html
from .charset import BINARY_SHARE, decode, unusual_share
from .parts import Extracted, NoText

SAMPLE_BYTES = 65_536  # enough to tell text from binary
SNIFF_CHARS = 65_536  # enough to recognize HTML, CSV and Markdown
MAX_KEY_CHARS = 200  # of the path before a JSON value, or of the column name before a CSV value
MAX_GROWTH = 8  # such paths and names may add this many times the input; after that they are left out
MAX_TREE_CHARS = 16_000_000  # of JSON, which takes about twenty times its size as a tree; longer JSON is read as text
MAX_TEXT_CHARS = 40_000_000  # of the resulting text; more would exceed the chunks that an entity may have
SLICE_CHARS = 1_000_000
MAX_OUTPUT_CHARS = 10_000  # of one output of a notebook cell
MAX_HEADERS_CHARS = 16_384  # the headers that identify an e-mail without a suffix must be within these

Document = Literal["pdf", "zip", "gzip", "bzip2", "xz", "tar", "ole", "rtf", "email"]


def detect_format(head: bytes, *, filename: str | None) -> Document | NoText | None:
    """The format of a file, from its first ``SAMPLE_BYTES``: a document, or ``NoText`` for a format without text for
    us. None for text, and for a file whose format only all of its bytes can tell."""
    for offset, magic, form in _DOCUMENTS:
        if head.startswith(magic, offset):
            return form
    if _is_tar(head):
        return "tar"
    if binary := _binary_format(head):
        return NoText(f"unsupported_format: {binary}")
    return "email" if _is_email(head, (filename or "").lower()) else None


def extract(data: bytes, *, filename: str | None) -> Extracted | NoText:
    """Return the text of a file, or why there is none. A document is not read: it is ``NoText`` that names the format.

    Invalid bytes never raise: at worst a character is replaced. Malformed JSON, CSV and HTML are read as plain text.
    Takes linear time.
    """
    if not data:
        return NoText("empty")
    found = detect_format(data[:SAMPLE_BYTES], filename=None)
    if found is not None and found != "email":
        return found if isinstance(found, NoText) else NoText(f"unsupported_format: {found}")
    decoded = decode(data)
    del data  # it may be large, and the caller holds no reference to it
    if decoded is None:
        return NoText("unsupported_format: binary data")
    text = clean(decoded.text)
    if not text or text.isspace():
        return NoText("empty")
    extracted = _read(text, (filename or "").lower())
    formats = extracted.formats or frozenset({extracted.kind})
    if decoded.encoding != "utf-8":
        formats |= {"charset"}
    text = _drop_surrogates(extracted.text)
    if not text or text.isspace():
        return NoText("no_text", formats)
    return replace(extracted, text=text, formats=formats)


def clean(text: str) -> str:
    """The text without NUL characters and byte order mark, with ``\\n`` as line end."""
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
            return Extracted(cells, "markdown", formats=frozenset({"notebook"}))
        if (suffix in _JSON or text.lstrip()[:1] in ("{", "[")) and (lines := _json_to_text(text)) is not None:
            return Extracted(lines, "json")
    if suffix in _CSV and (delimiter := _find_delimiter(text, strict=False)):
        return Extracted(_csv_to_text(text, delimiter), "csv")
    if text.startswith("#!"):
        return Extracted(text, "code", _shebang_language(text))
    if suffix in ("", ".txt") and (delimiter := _find_delimiter(text, strict=True)):
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


def _shebang_language(text: str) -> str | None:
    words = [PurePosixPath(word).name for word in text[2:200].partition("\n")[0].split() if not word.startswith("-")]
    word = next((word for word in words if word != "env"), "")
    known = {"sh": "shell", "bash": "shell", "zsh": "shell", "node": "javascript", "python": "python"}
    return known.get(word.rstrip("0123456789."))


def _looks_like_markdown(text: str) -> bool:
    heading = re.search(r"^#{1,6} \S", text, re.MULTILINE)
    return heading is not None and ("\n```" in text or "](" in text or "\n- " in text)


def _drop_surrogates(text: str) -> str:
    try:
        for start in range(0, len(text), SLICE_CHARS):  # encoding a large text at once would take five times its size
            text[start : start + SLICE_CHARS].encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "", text)
    return text


def join_lines(lines: Iterable[str]) -> str:
    """Join lines to a text, up to the line that exceeds ``MAX_TEXT_CHARS``."""
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
    """Whether the file starts with the header of a tar archive: the sum of its bytes must match its checksum field."""
    header = head[:_TAR_HEADER_BYTES]
    if len(header) < _TAR_HEADER_BYTES or not header[0] or header[156] not in b"\x000123456789gxKLSD":
        return False
    checksum = header[148:156].strip(b"\0 ")
    return checksum.isdigit() and len(checksum) <= 7 and sum(header[:148]) + 256 + sum(header[156:]) == int(checksum, 8)


_EMAIL_SUFFIXES = (".eml", ".mht", ".mhtml")
_FIRST_HEADER = re.compile(rb"\s*+[!-9;-~]{1,80}:[ \t]")


def _is_email(head: bytes, filename: str) -> bool:
    if _FIRST_HEADER.match(head) is None:
        return False
    name = PurePosixPath(filename.replace("\\", "/"))
    if name.suffix in _EMAIL_SUFFIXES:
        return True
    # the names in a Maildir contain dots and commas
    if name.suffix and not name.suffix[1:].isdigit() and "," not in name.suffix:
        return False
    block = b"\n" + head[:MAX_HEADERS_CHARS].replace(b"\r\n", b"\n").partition(b"\n\n")[0].lower()
    return b"\nfrom:" in block and b"\nmessage-id:" in block and (b"\ndate:" in block or b"\nreceived:" in block)


# Binary formats: offset of the magic number, magic number, common name.
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
_WEAK_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # text may begin like this too
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
    if data.startswith(
        b"\xca\xfe\xba\xbe"
    ):  # Java: a version follows; Mach-O: a number of architectures, which is smaller
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
    """The cells of a notebook, with code and its output in fences. None if it is not a notebook."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(notebook, dict):
        return None
    sheets = notebook.get("worksheets")  # where the cells are before version 4
    sheet = _dict(sheets[0]) if isinstance(sheets, list) and sheets else {}
    cells = notebook.get("cells") or sheet.get("cells")
    if not isinstance(cells, list):
        return None
    kernel = _dict(_dict(notebook.get("metadata")).get("kernelspec"))
    language = str(kernel.get("language") or "python")[:20]
    blocks: list[str] = []
    for cell in map(_dict, cells):
        source = _join(cell.get("source") or cell.get("input")).strip("\n")
        if cell.get("cell_type") != "code":
            blocks.append(source)
            continue
        blocks.append(_fence(source, language))
        outputs = cell.get("outputs")
        blocks.extend(_output_to_text(_dict(output)) for output in (outputs if isinstance(outputs, list) else ()))
    return "\n\n".join(filter(None, blocks))


def _output_to_text(output: dict[str, Any]) -> str:
    """The text of an output; "" for images and the like. Of a traceback only the last line."""
    if output.get("output_type") in ("error", "pyerr"):
        return _fence(f"{output.get('ename')}: {output.get('evalue')}"[:MAX_OUTPUT_CHARS], "")
    data = _dict(output.get("data"))
    if markdown := _join(data.get("text/markdown")):
        return markdown[:MAX_OUTPUT_CHARS]
    plain = _join(output.get("text") or data.get("text/plain"))
    return _fence(_ANSI.sub("", plain).strip("\n")[:MAX_OUTPUT_CHARS], "")


_ANSI = re.compile(r"\x1b\[[0-9;]{0,20}m")


def _fence(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}" if text else ""


def _join(value: object) -> str:
    """The text of a notebook value, which is a string or a list of strings."""
    return (
        "".join(part for part in value if isinstance(part, str))
        if isinstance(value, list)
        else (value if isinstance(value, str) else "")
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class _Object(list[tuple[str, Any]]):
    """A JSON object that keeps the order of its keys, and duplicate keys."""


def _json_to_text(text: str) -> str | None:
    """The values as lines of ``path: value``. None if the text is neither JSON nor JSON Lines."""
    growth = _Growth(len(text))
    try:
        value = _parse_json(text)
    except (ValueError, RecursionError):
        lines = (line for line in text.split("\n") if line and not line.isspace())
        blocks: list[str] = []
        for count, line in enumerate(lines):
            try:
                value = _parse_json(line)
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


def _parse_json(text: str) -> Any:
    # numbers stay as they are written: no limit on digits, no loss of precision
    return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str)


def _json_object(value: _Object, growth: "_Growth") -> Iterator[str]:
    for key, item in value:
        if isinstance(item, list) and item and not _fits_a_line(item):
            yield ""
            yield from _json_lines(_clip(key), item, growth)
            yield ""
        else:
            yield growth.add_label(_clip(key), _scalar_to_text(item))


def _json_lines(path: str, value: Any, growth: "_Growth") -> Iterator[str]:
    if not isinstance(value, list) or not value or _fits_a_line(value):
        yield growth.add_label(path, _scalar_to_text(value))
        return
    stack = [_children(path, value)]
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
        elif not isinstance(child[1], list) or not child[1] or _fits_a_line(child[1]):
            yield growth.add_label(child[0], _scalar_to_text(child[1]))
        else:
            stack.append(_children(*child))


def _children(path: str, value: list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, _Object):
        return ((_clip(f"{path}.{key}" if path else key), item) for key, item in value)
    return ((_clip(f"{path}[{i}]"), item) for i, item in enumerate(value))


def _fits_a_line(value: list[Any]) -> bool:
    """Whether it is a plain array of short scalars."""
    return not isinstance(value, _Object) and all(
        len(item) <= 100 and "\n" not in item if isinstance(item, str) else not isinstance(item, list) for item in value
    )


def _scalar_to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, _Object):
        return "{}"
    if isinstance(value, list):
        return ", ".join(map(_scalar_to_text, value)) if value else "[]"
    return "null" if value is None else str(value).lower()


def _clip(key: str) -> str:
    if "\n" in key:
        key = " ".join(key.split())
    return key if len(key) <= MAX_KEY_CHARS else "…" + key[-MAX_KEY_CHARS:]


class _Growth:
    """The number of characters that labels may still add to a text, so that a small file cannot become a huge one."""

    def __init__(self, chars: int) -> None:
        self._left = MAX_GROWTH * chars + 10_000

    def add_label(self, label: str, value: str) -> str:
        if not label or self._left < 0:
            return value
        self._left -= len(label)
        return f"{label}: {value}"


_DELIMITERS = ",\t;|"
_NUMBER = re.compile(r"[-+]?[$€£]?[\d.,:/ -]*\d%?")
SNIFF_ROWS = 50


def _find_delimiter(text: str, *, strict: bool) -> str | None:
    """The column delimiter, or None if there seem to be no columns. ``strict``: the file name does not say it is
    CSV."""
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
        return join_lines(rows_to_lines(_rows(text, delimiter), chars=len(text)))
    except csv.Error:
        return text  # a quote that is never closed makes a single field of the rest


def rows_to_lines(all_rows: Iterable[list[str]], *, chars: int) -> Iterator[str]:
    """A table as lines of ``column: value``, if its first row names the columns. ``chars``: its approximate size; the
    names may add at most ``MAX_GROWTH`` times that."""
    rows = (row for row in all_rows if any(row))
    growth = _Growth(chars)
    first = next(rows, [])
    names = [_clip(" ".join(cell.split())) for cell in first] if _is_header(first) else []
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
            yield growth.add_label(names[i] if i < len(names) else "", value)


def _rows(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """``strict``: keep a space after a comma, because it may belong to a sentence."""
    return csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=not strict)


def _lines(text: str) -> Iterator[str]:
    """The lines with their ends, without copying the whole text."""
    position = 0
    while position < len(text):
        end = text.find("\n", position) + 1 or len(text)
        yield text[position:end]
        position = end


def _is_header(row: list[str]) -> bool:
    return any(row) and not any(len(cell) < 40 and _NUMBER.fullmatch(cell.strip()) for cell in row)
