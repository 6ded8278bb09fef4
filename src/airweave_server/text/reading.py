"""From what an entity brings to its text, and from that to its chunks. Knows no database and no index."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import BinaryIO

import structlog

from ..sdk import Entity, Unreadable
from . import html
from .chunk import CHUNK_CHARS, Chunk, chunks
from .extract import SAMPLE_BYTES, Extracted, Kind, NoText, Unparseable, clean, extract, look
from .parsers import Parsers

MAX_CHUNKS = 20_000  # of one entity
READ_BYTES = 1024 * 1024
TEXT_BYTES = MAX_CHUNKS * CHUNK_CHARS  # of a text are read
DOCUMENT_BYTES = 512 * 1024 * 1024
TOO_LARGE = f"too_large: over {DOCUMENT_BYTES // 1024 // 1024} MB"

log = structlog.get_logger(__name__)


class Reader:
    """Reads entities. ``waiting`` stands around whatever the source may keep us waiting for; ``beat`` is called while
    one document takes its time, and may raise to give it up."""

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
        """The text of an entity that came through the door, or why it has none.

        Raises ``Unparseable`` where its bytes should hold a text and do not, and what its ``open`` raises.
        """
        if entity.text is not None:
            return _handed_in(entity.text, entity.format)
        if entity.open is None:
            return Extracted(fields_as_text(entity), "text")
        filename = entity.filename or entity.name
        with ExitStack() as opened:
            with self._waiting():
                stream = opened.enter_context(entity.open())
            content = self._content(stream)
            head = next(content, b"")
            form = look(head[:SAMPLE_BYTES], filename=filename)
            if isinstance(form, NoText):
                return form
            if form is not None and (entity.size_bytes or 0) > DOCUMENT_BYTES:
                return NoText(TOO_LARGE)
            if form is not None:
                return self._parsers.read(_limited(head, content), filename=filename, beat=self._beat)
            parts, is_all = _beginning(head, content)
        try:
            found = extract(_joined(parts), filename=filename)
        except Exception as error:  # around one entity: what its bytes do to us must not end the read
            raise unparseable(error) from error
        if is_all:
            return found
        if isinstance(found, NoText):
            return NoText(f"too_large: {found.reason}, as far as it was read")
        return replace(found, left_out=f"what comes after {TEXT_BYTES // 1_000_000} MB")

    def _content(self, stream: BinaryIO) -> Iterator[bytes]:
        """What a source gives, in pieces; only while it does are we waiting for it."""
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


def cut(found: Extracted) -> Iterator[Chunk]:
    """The chunks of a text, section by section where it has any; each tells its section first."""
    if not found.sections:
        yield from chunks(found.text, found.kind)
        return
    ends = [section.start for section in found.sections[1:]] + [len(found.text)]
    for section, end in zip(found.sections, ends, strict=True):
        for chunk in chunks(found.text[section.start : end], section.kind):
            yield replace(chunk, heading=" > ".join(filter(None, (section.label, chunk.heading))))


def _handed_in(text: str, form: str) -> Extracted | NoText:
    """The text that a source hands in, read as what it says it is."""
    if form == "html":
        try:
            text = clean(html.to_text(text))
        except Exception as error:  # around one entity, as in ``Reader.read``
            raise unparseable(error) from error
    kinds: dict[str, Kind] = {"html": "html", "plain": "text"}
    return Extracted(text, kinds.get(form, "markdown")) if text.strip() else NoText("empty")


def fields_as_text(entity: Entity) -> str:
    """What is indexed of an entity that has neither text nor content: its name and its fields."""
    lines = [entity.name]
    for key, value in entity.fields.items():
        if value not in (None, "", [], {}):
            lines.append(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)


def unparseable(error: Exception) -> Unparseable:
    """What an error over the bytes of one entity means for it."""
    log.warning("parser_failed", exc_info=error)
    return Unparseable(f"it cannot be parsed: {type(error).__name__}: {error}")


def _beginning(head: bytes, content: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """Up to ``TEXT_BYTES``, in pieces, and whether that is all."""
    parts, room = [head], TEXT_BYTES - len(head)
    for piece in content:
        if len(piece) > room:
            return [*parts, piece[:room]], False
        parts.append(piece)
        room -= len(piece)
    return parts, True


def _joined(parts: list[bytes]) -> bytes:
    """All of it at once, and nothing of it twice."""
    data = b"".join(parts)
    parts.clear()
    return data


def _limited(head: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    """All of it. Raises ``Unreadable`` when it is too much."""
    size = len(head)
    yield head
    for piece in content:
        size += len(piece)
        if size > DOCUMENT_BYTES:
            raise Unreadable(TOO_LARGE)
        yield piece
