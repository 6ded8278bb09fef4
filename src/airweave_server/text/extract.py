"""Bytes to text, judged by their content first and by their name second. Knows no source and no chunk.

Text formats are read here, by our own code, in linear time. Formats whose parsers may fail are only detected here
(``detect_format``); ``parsers`` reads them in processes of their own.
"""

import json
import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Literal

from . import calendar, cms, coats, completeness_web, encoded, html, mailbox
from .charset import BINARY_SHARE, decode, unusual_share
from .links import is_link_name, read_link
from .odf_names import flat_form
from .parts import Extracted, LeftOut, NoText
from .records import json_to_text
from .tables import SNIFF_CHARS, csv_to_text, find_columns

SAMPLE_BYTES = 65_536  # enough to tell text from binary
MAX_TREE_CHARS = 16_000_000  # of JSON, which takes about twenty times its size as a tree; longer JSON is read as text
SLICE_CHARS = 1_000_000
MAX_OUTPUT_CHARS = 10_000  # of one output of a notebook cell

Document = Literal[
    "pdf",
    "zip",
    "gzip",
    "bzip2",
    "xz",
    "tar",
    "ole",
    "rtf",
    "email",
    "mbox",
    "tnef",
    "encoded",
    "odf",
    "cms",
    "office_xml",
]


def detect_format(head: bytes, *, filename: str | None) -> Document | NoText | None:
    """The format of a file, from its first ``SAMPLE_BYTES``: a document, or ``NoText`` for a format without text for
    us. None for text, and for a file whose format only all of its bytes can tell."""
    for offset, magic, form in _DOCUMENTS:
        if head.startswith(magic, offset):
            return form
    if _is_tar(head):
        return "tar"
    if flat_form(head) is not None:
        return "odf"
    if coats.form_of(head) is not None:
        return "office_xml"
    if _PDF.search(head, 0, _PDF_START_BYTES):
        return "pdf"
    if _RTF.match(head):
        return "rtf"
    if cms.is_cms(head):
        return "cms"
    if binary := _binary_format(head):
        return NoText(f"unsupported_format: {binary}")
    suffix = PurePosixPath((filename or "").lower().replace("\\", "/")).suffix
    if suffix not in _MARKDOWN and suffix not in _LANGUAGES:
        if mailbox.is_mailbox(head):
            return "mbox"
        if _is_email(head, suffix):
            return "email"
        if encoded.is_file(head):
            return "encoded"
    return None


def extract(data: bytes, *, filename: str | None) -> Extracted | NoText:
    """Return the text of a file, or why there is none. A document is not read: it is ``NoText`` that names the format.

    Invalid bytes never raise: at worst a character is replaced. Malformed JSON, CSV and HTML are read as plain text.
    Takes linear time.
    """
    if not data:
        return NoText("empty")
    found = detect_format(data[:SAMPLE_BYTES], filename=None)
    if found is not None and found not in ("email", "mbox", "encoded"):
        return found if isinstance(found, NoText) else NoText(f"unsupported_format: {found}")
    decoded = decode(data)
    if filename is not None and is_link_name(filename):
        link = read_link(data, clean(decoded.text) if decoded else None, filename=filename)
        if link is not None:
            return Extracted(_drop_surrogates(clean(link)), "text", formats=frozenset({"link"}))
    del data  # it may be large, and the caller holds no reference to it
    if decoded is None:
        return NoText("unsupported_format: binary data")
    text = clean(decoded.text)
    if not text or text.isspace():
        return NoText("empty")
    extracted = _read(text, (filename or "").lower())
    if missing := completeness_web.missing_words(text, extracted.kind, extracted.text):
        extracted = replace(extracted, left_out=(*extracted.left_out, LeftOut("words", count=missing)))
    text, left_out = encoded.strip(extracted.text)
    if left_out:
        extracted = replace(extracted, text=text, left_out=(*extracted.left_out, *left_out))
    formats = extracted.formats or frozenset({extracted.kind})
    if decoded.encoding != "utf-8":
        formats |= {"charset"}
    if not decoded.is_sure:
        guessed = LeftOut("encoding", note=f"the encoding is a guess: {decoded.encoding}")
        extracted = replace(extracted, left_out=(*extracted.left_out, guessed))
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
    if suffix in _MARKDOWN | _TEXT and coats.is_whole_page(text, sniff_chars=SNIFF_CHARS):
        return Extracted(html.to_text(text), "html")
    if suffix in _MARKDOWN:
        return Extracted(text, "markdown")
    if language := _LANGUAGES.get(suffix) or _LANGUAGES.get(name):
        return Extracted(text, "code", language)
    if suffix in _TEXT:
        return Extracted(text, "text")
    if suffix == ".ldif":
        return Extracted(encoded.decode_ldif(text), "text")
    if calendar.START.match(text):
        return Extracted(calendar.to_text(text), "markdown", formats=frozenset({"calendar"}))
    if (suffix in _HTML and html.TAG.search(text, 0, SNIFF_CHARS)) or coats.is_page(
        text, suffix, sniff_chars=SNIFF_CHARS
    ):
        if coats.has_rows(text, suffix):
            return Extracted(coats.rows_to_text(text), "csv", formats=frozenset({"html", "csv"}))
        return Extracted(html.to_text(text), "html")
    if len(text) <= MAX_TREE_CHARS:
        if suffix == ".ipynb" and (cells := _notebook_to_text(text)) is not None:
            return Extracted(cells, "markdown", formats=frozenset({"notebook"}))
        if (suffix in JSON_SUFFIXES or text.lstrip()[:1] in ("{", "[")) and (lines := json_to_text(text)) is not None:
            return Extracted(lines, "json")
    if suffix in TABLE_SUFFIXES | coats.SHEETS and (columns := find_columns(text, strict=False)):
        return Extracted(csv_to_text(text, columns), "csv")
    if text.startswith("#!"):
        return Extracted(text, "code", _shebang_language(text))
    if suffix in ("", ".txt") and (columns := find_columns(text, strict=True)):
        return Extracted(csv_to_text(text, columns), "csv")
    if not suffix and _looks_like_markdown(text[:SNIFF_CHARS]):
        return Extracted(text, "markdown")
    return Extracted(text, "text")


_MARKDOWN = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml", ".shtml"})
JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", ".geojson", ".jsonld", ".ipynb", ".webmanifest", ".har"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".psv"})
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


_DOCUMENTS: tuple[tuple[int, bytes, Document], ...] = (
    (0, b"%PDF-", "pdf"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (4, b"1AY&SY", "bzip2"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (0, b"\x78\x9f\x3e\x22", "tnef"),
)
_PDF = re.compile(rb"%PDF-\d\.\d\s{1,2}(?:%[^\r\n]{0,40}[\r\n]{1,2}\s*)?\d+ \d+ obj\b")
_PDF_START_BYTES = 1_200  # a PDF may have so much before its beginning, such as the headers of an answer
# Word opens these too: with a byte order mark, or white space, in front.
_RTF = re.compile(rb"(?:\xef\xbb\xbf)?[\s\0]{0,1024}+\{\s{0,16}+\\u?rtf")
_TAR_HEADER_BYTES = 512


def _is_tar(head: bytes) -> bool:
    """Whether the file starts with the header of a tar archive: the sum of its bytes must match its checksum field."""
    header = head[:_TAR_HEADER_BYTES]
    if len(header) < _TAR_HEADER_BYTES or not header[0] or header[156] not in b"\x000123456789gxKLSD":
        return False
    checksum = header[148:156].strip(b"\0 ")
    is_octal = 1 <= len(checksum) <= 7 and not checksum.strip(b"01234567")
    return is_octal and sum(header[:148]) + 256 + sum(header[156:]) == int(checksum, 8)


_EMAIL_SUFFIXES = (".eml", ".emlx", ".mht", ".mhtml", ".mbox", ".mbx", ".mail", ".nws")
_FIRST_HEADER = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:\d{1,12}[ \t]*\r?\n)?(?:>?From [^\r\n]*\r?\n)?[!-9;-~]{1,80}[ \t]*:(?!//)"
)
_HEADERS_END = re.compile(rb"\r?\n[ \t]*\r?\n|\r\r")
_MULTIPART = re.compile(rb"[\r\n]content-type[ \t]*:\s*multipart/[a-z-]+;(?:[^\r\n]|[\r\n]+[ \t])*boundary=")
_MIME = re.compile(rb"[\r\n]content-type[ \t]*:\s*(?:multipart/|message/|text/(?:html|plain))")


def _is_email(head: bytes, suffix: str) -> bool:
    """Whether a file is a message, of any name, or a web page that is saved as one (MHTML)."""
    if _FIRST_HEADER.match(head) is None:
        return False
    if suffix in _EMAIL_SUFFIXES:
        return True
    if suffix in _TEXT:
        return False
    block = b"\n" + _HEADERS_END.split(head.removeprefix(b"\xef\xbb\xbf").lstrip(), maxsplit=1)[0].lower()
    lines = block.replace(b"\r", b"\n")
    if b"\nfrom:" in lines and b"\nmessage-id:" in lines and (b"\ndate:" in lines or b"\nreceived:" in lines):
        return True
    if b"\nmime-version:" in lines and _MIME.search(lines) is not None:
        return True
    return _MULTIPART.search(lines) is not None


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
    (0, b"!BDN", "Outlook data file"),
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
    (0, b"1\xbe\0\0", "Write document"),
    (0, b"2\xbe\0\0", "Write document"),
    (0, b"\xdb\xa5-\0", "Word 2 document"),
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
