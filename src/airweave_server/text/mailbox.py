"""Reads mailboxes (mbox, RFC 4155) message by message, with one message at a time in memory."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import IO

from . import mail
from .parts import LeftOut, Part

MAX_MESSAGES = 20_000  # of a mailbox: an entity has no more chunks, and each message has at least one
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
_DATED = rb"From [^\r\n]{0,300}?\d{1,2}:\d{2}[^\r\n]{0,40}?\d{4}[^\r\n]{0,60}\r?\n"
_HEADED = rb"(?=[!-9;-~]{1,80}[ \t]*:|>?From )"
_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*+>?(?:" + _DATED + rb"|From \?{3}@\?{3}[^\r\n]{0,60}\r?\n)" + _HEADED)
_NEXT = re.compile(rb"\n" + _DATED + _HEADED)
_LONGEST_START = 1_000  # bytes of what ``_NEXT`` matches
_QUOTED = re.compile(rb"^>(?=>*From )", re.M)


def read(file: IO[bytes], *, is_inside: bool) -> Iterator[Part]:
    """Each message under its subject, with what is attached to it; a mailbox of one message is that message."""
    messages = split(file)
    first = next(messages, b"")
    more = list(islice(messages, 1))
    yield from _read_one(first, 1, is_inside=is_inside or bool(more))
    for number, message in enumerate(chain(more, messages), 2):
        if number > MAX_MESSAGES:
            rest = 1 + sum(1 for _ in messages)
            yield LeftOut("rest", count=rest, note=f"the messages after {MAX_MESSAGES:,}")
            return
        yield from _read_one(message, number, is_inside=True)


def _read_one(message: bytes | None, number: int, *, is_inside: bool) -> Iterator[Part]:
    if message is None:
        yield LeftOut("too_large", (f"message {number}",))
    elif message.strip():
        yield from mail.read_message(message, is_inside=is_inside, otherwise=f"Message {number}" if is_inside else "")


def is_mailbox(head: bytes) -> bool:
    """Whether a file begins as a mailbox does, with a line "From somebody Thu Jul  2 10:00:00 2026"."""
    return _START.match(head) is not None


def split(file: IO[bytes]) -> Iterator[bytes | None]:
    """The messages of a mailbox, without the quotation of lines that begin with "From "; None for one that is too
    large."""
    held = bytearray()
    is_cut = False  # the start of this message is dropped, because it is too large
    searched = 0
    while block := file.read(BLOCK_BYTES):
        held += block
        start = 0
        while (found := _NEXT.search(held, max(start, searched))) is not None:
            if is_cut or not held[start : found.start() + 1].isspace():
                yield None if is_cut else _unquote(bytes(held[start : found.start() + 1]))
            start = searched = found.start() + 1
            is_cut = False
        del held[:start]
        if len(held) > MAX_MESSAGE_BYTES:
            is_cut = True
            del held[:-_LONGEST_START]
        searched = max(0, len(held) - _LONGEST_START)
    if held:
        yield None if is_cut else _unquote(bytes(held))


def _unquote(message: bytes) -> bytes:
    return _QUOTED.sub(b"", message) if b"\n>" in message else message
