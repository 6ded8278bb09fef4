"""Reads the text of an entity and cuts it into chunks. Knows no database and no index."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from itertools import chain
from typing import BinaryIO

import structlog

from ..sdk import Entity, Unavailable, Unreadable
from . import completeness_web, encoded, html
from .chunk import CHUNK_CHARS, Chunk, chunks
from .extract import SAMPLE_BYTES, clean, detect_format, extract
from .litter import find_litter
from .long import LONG_BYTES, MAX_LONG_CHUNKS, read_long
from .parsers import Parsers
from .parts import Extracted, Kind, LeftOut, NoText, Unparseable

MAX_CHUNKS = 20_000  # of one entity
READ_BYTES = 1024 * 1024
TEXT_BYTES = MAX_CHUNKS * CHUNK_CHARS  # how much of a text file is read
DOCUMENT_BYTES = 512 * 1024 * 1024
TOO_LARGE = f"too_large: over {DOCUMENT_BYTES // 1024 // 1024} MB"

_TOO_LONG = LeftOut("rest", note=f"what comes after {TEXT_BYTES // 1_000_000} MB")

log = structlog.get_logger(__name__)


class Reader:
    """Reads entities. ``waiting`` is entered around every wait for the source. ``beat`` is called while a document is
    being read, and may raise to give up."""

    def __init__(
        self,
        parsers: Parsers,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._parsers = parsers
        self._waiting = waiting
        self._beat = beat

    def read(self, entity: Entity) -> Extracted | NoText:
        """The text of a sanitized entity, or why it has none.

        Raises ``Unparseable`` if its bytes should contain text but cannot be read, and whatever ``entity.open`` raises.
        """
        if entity.text is not None:
            return _read_text(entity.text, entity.format)
        if entity.open is None:
            text, left_out = encoded.strip(fields_as_text(entity))
            return Extracted(text, "text", left_out=left_out, formats=frozenset({"text"}))
        filename = entity.filename or entity.name
        with ExitStack() as opened:
            with self._waiting():
                stream = opened.enter_context(entity.open())
            content = self._content(stream)
            head = next(content, b"")
            if (reason := find_litter(head[:SAMPLE_BYTES], filename, entity.id.split("/")[:-1])) is not None:
                return NoText(reason)
            form = detect_format(head[:SAMPLE_BYTES], filename=filename)
            if isinstance(form, NoText) and not self._parsers.reads_image(form):
                return form
            if form == "mbox":
                return self._read_mailbox(head, content, filename)
            if form is not None and (entity.size_bytes or 0) > DOCUMENT_BYTES:
                return NoText(TOO_LARGE)
            if form is not None:
                return self._parsers.read(_limit_size(head, content), filename=filename, beat=self._beat)
            parts, is_all = _read_start([head], content, LONG_BYTES)
            if not is_all:
                head = _join_pieces(parts)
                if (table := self._read_long(head, content, filename)) is not None:
                    return table
                parts, is_all = _read_start([head], content, TEXT_BYTES)
                del head
        try:
            found = extract(_join_pieces(parts), filename=filename)
        except Exception as error:  # around one entity: its bytes must not end the read of the others
            raise as_unparseable(error) from error
        if is_all:
            return found
        if isinstance(found, NoText):
            return NoText(f"too_large: {found.reason}, as far as it was read", found.formats)
        return replace(found, left_out=(*found.left_out, _TOO_LONG))

    def _read_long(self, head: bytes, content: Iterator[bytes], filename: str) -> Extracted | None:
        """A table that is too long for memory; None if it is no table, and then nothing of ``content`` is taken."""
        raised: list[Exception] = []  # by the source, or to give up

        def watched() -> Iterator[bytes]:
            try:
                for piece in content:
                    self._beat()
                    yield piece
            except Exception as error:
                raised.append(error)
                raise

        try:
            return read_long(head, watched(), filename=filename)
        except Exception as error:
            if error in raised or isinstance(error, Unavailable):
                raise
            raise as_unparseable(error) from error

    def _read_mailbox(self, head: bytes, content: Iterator[bytes], filename: str) -> Extracted | NoText:
        """Read a mailbox, as far as ``DOCUMENT_BYTES``: its messages can be read without those that follow."""
        size, is_cut = 0, False

        def start() -> Iterator[bytes]:
            nonlocal size, is_cut
            for piece in chain([head], content):
                size += len(piece)
                if size > DOCUMENT_BYTES:
                    is_cut = True
                    return
                yield piece

        found = self._parsers.read(start(), filename=filename, beat=self._beat)
        if not is_cut or isinstance(found, NoText):
            return found
        rest = LeftOut("rest", note=f"the messages after {DOCUMENT_BYTES // 1024 // 1024} MB")
        return replace(found, left_out=(*found.left_out, rest))

    def _content(self, stream: BinaryIO) -> Iterator[bytes]:
        """The content of the stream in pieces of ``READ_BYTES``. ``waiting`` is entered only while the source is
        read."""
        while True:
            parts: list[bytes] = []
            size = 0
            with self._waiting():
                while size < READ_BYTES and (part := stream.read(READ_BYTES - size)):
                    parts.append(part)
                    size += len(part)
            if not size:
                return
            yield parts[0] if len(parts) == 1 else b"".join(parts)


def max_chunks(found: Extracted) -> int:
    """How many chunks of it are indexed."""
    return MAX_CHUNKS if found.spooled is None else MAX_LONG_CHUNKS


def cut(found: Extracted) -> Iterator[Chunk]:
    """The chunks of a text, section by section if it has any. The heading of a chunk starts with its section."""
    if not found.sections:
        yield from chunks(found.spooled or found.text, found.kind)
        return
    ends = [section.start for section in found.sections[1:]] + [len(found.text)]
    for section, end in zip(found.sections, ends, strict=True):
        for chunk in chunks(found.text[section.start : end], section.kind):
            yield replace(chunk, heading=" > ".join(filter(None, (section.label, chunk.heading))))


def _read_text(text: str, form: str) -> Extracted | NoText:
    """The text that a source passes, read in the format that it declares."""
    missing = 0
    if form == "html":
        try:
            page, text = text, clean(html.to_text(text))
            missing = completeness_web.missing_words(page, form, text)
        except Exception as error:  # around one entity, as in ``Reader.read``
            raise as_unparseable(error) from error
    kinds: dict[str, Kind] = {"html": "html", "plain": "text"}
    kind = kinds.get(form, "markdown")
    text, left_out = encoded.strip(text)
    if missing:
        left_out = (*left_out, LeftOut("words", count=missing))
    return Extracted(text, kind, left_out=left_out, formats=frozenset({kind})) if text.strip() else NoText("empty")


def fields_as_text(entity: Entity) -> str:
    """The text to index for an entity that has neither text nor content: its name and its fields."""
    lines = [entity.name]
    for key, value in entity.fields.items():
        if value not in (None, "", [], {}):
            lines.append(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)


def as_unparseable(error: Exception) -> Unparseable:
    """The ``Unparseable`` for an unexpected error in reading one entity's bytes. Logs the error."""
    log.warning("parser_failed", exc_info=error)
    return Unparseable(f"it cannot be parsed: {type(error).__name__}: {error}")


def _read_start(parts: list[bytes], content: Iterator[bytes], most: int) -> tuple[list[bytes], bool]:
    """The first ``most`` bytes of the content or somewhat more, in pieces, and whether that is all of it. ``parts``:
    what is read of it already."""
    room = most - sum(map(len, parts))
    while room >= 0:
        if (piece := next(content, None)) is None:
            return parts, True
        parts.append(piece)
        room -= len(piece)
    return parts, False


def _join_pieces(parts: list[bytes]) -> bytes:
    """Join the pieces, and free them, so that the content is in memory only once."""
    data = b"".join(parts)
    parts.clear()
    return data


def _limit_size(head: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    """The whole content. Raises ``Unreadable`` if it is larger than ``DOCUMENT_BYTES``."""
    size = len(head)
    yield head
    for piece in content:
        size += len(piece)
        if size > DOCUMENT_BYTES:
            raise Unreadable(TOO_LARGE)
        yield piece
