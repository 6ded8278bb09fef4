"""Reads tables too long for memory, such as CSV of a million rows, piece by piece into a temporary file."""

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePosixPath

from . import html
from .charset import decode
from .extract import JSON_SUFFIXES, TABLE_SUFFIXES, clean
from .labels import Growth
from .parts import Extracted, Kind, LeftOut
from .records import are_json_lines, json_lines_to_blocks
from .spool import SpooledText
from .tables import SNIFF_CHARS, find_columns, parse_rows, rows_to_lines, split_lines

LONG_BYTES = 4 * 1024 * 1024  # a longer table is read piece by piece
MAX_LONG_CHUNKS = 400_000  # of one entity; the rows of about 5 million short ones
MAX_LONG_CHARS = MAX_LONG_CHUNKS * 1_700  # of its text
MAX_LINE_CHARS = 4_000_000  # held in memory; of a longer line each part is read as a line

_SUFFIXES = JSON_SUFFIXES | TABLE_SUFFIXES | {".txt", ""}
_TOO_LONG = LeftOut("rest", note=f"what comes after {MAX_LONG_CHARS // 1_000_000} million characters")


def read_long(head: bytes, content: Iterator[bytes], *, filename: str) -> Extracted | None:
    """The text of a table or of JSON Lines, or None if it is neither; then nothing of ``content`` is taken. ``head``:
    its first ``LONG_BYTES``. Takes memory for a few pieces of the content."""
    suffix = PurePosixPath(filename.lower().replace("\\", "/")).suffix
    end = max(head.rfind(b"\n"), head.rfind(b"\r")) + 1  # not within a character
    if suffix not in _SUFFIXES or (decoded := decode(head[:end])) is None:
        return None
    sample = clean(decoded.text)
    text = _Decoder(decoded.encoding, is_guess=not decoded.is_sure)
    del decoded
    growth = Growth(0)
    kind: Kind
    if sample.lstrip()[:1] in ("{", "["):
        if not are_json_lines(sample):
            return None
        kind, gap = "json", "\n\n"
    elif html.START.match(sample) or suffix in JSON_SUFFIXES:
        return None
    elif (columns := find_columns(sample, strict=suffix not in TABLE_SUFFIXES)) is not None:
        kind, gap = "csv", "\n"
    else:
        return None
    del sample
    lines = _split(_count(text.decode(chain((head,), content)), growth))
    if kind == "csv" and columns is not None:
        if columns.start:
            next(lines, None)
        blocks = rows_to_lines(parse_rows(lines, columns.delimiter), chars=growth)
    else:
        blocks = json_lines_to_blocks(lines, growth)
    spooled = SpooledText()
    is_all = _spool(blocks, gap, spooled)
    left_out = [*text.left_out(), *([] if is_all else [_TOO_LONG])]
    formats = frozenset({kind, "charset"} if text.encoding != "utf-8" else {kind})
    return Extracted("", kind, left_out=tuple(left_out), formats=formats, spooled=spooled)


class _Decoder:
    """Bytes to characters, piece by piece. What is ASCII as far as the encoding was told may turn out to be another
    one."""

    def __init__(self, encoding: str, *, is_guess: bool) -> None:
        self.encoding = encoding
        self._is_guess = is_guess

    def decode(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """The text, with ``\\n`` at the end of each line, without NUL characters and byte order mark."""
        errors = "strict" if self.encoding == "utf-8" else "replace"
        decoder = codecs.getincrementaldecoder(self.encoding)(errors)
        ends = io.IncrementalNewlineDecoder(None, translate=True)
        is_ascii = is_first = True
        for piece in pieces:
            held = decoder.getstate()[0]
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError:
                if is_ascii and (other := decode(held + piece)) is not None:
                    self.encoding, self._is_guess = other.encoding, not other.is_sure
                decoder = codecs.getincrementaldecoder(self.encoding)("replace")
                text = decoder.decode(held + piece)
            is_ascii = is_ascii and text.isascii()
            text = ends.decode(text.replace("\0", ""))
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False
        yield ends.decode(decoder.decode(b"", final=True) if errors == "replace" else "", final=True)

    def left_out(self) -> list[LeftOut]:
        return [LeftOut("encoding", note=f"the encoding is a guess: {self.encoding}")] if self._is_guess else []


def _count(texts: Iterable[str], growth: Growth) -> Iterator[str]:
    for text in texts:
        growth.add_input(len(text))
        yield text


def _split(texts: Iterable[str]) -> Iterator[str]:
    """The lines with their ends."""
    tail = ""
    for text in texts:
        text = tail + text
        end = text.rfind("\n") + 1
        yield from split_lines(text[:end])
        tail = text[end:]
        if len(tail) > MAX_LINE_CHARS:
            yield tail
            tail = ""
    if tail:
        yield tail


def _spool(blocks: Iterable[str], gap: str, spooled: SpooledText) -> bool:
    """Write the blocks, each with ``gap`` after it, as long as there is room. Returns whether there was for all."""
    held: list[str] = []
    chars = 0
    for block in blocks:
        held.append(block)
        chars += len(block) + len(gap)
        if chars > SNIFF_CHARS:
            spooled.add(gap.join(held) + gap)
            held, chars = [], 0
            if spooled.chars > MAX_LONG_CHARS:
                return next(iter(blocks), None) is None
    if held:
        spooled.add(gap.join(held) + gap)
    return True
