"""A pool of limited processes that read documents, so that a hostile or damaged document cannot harm this process. They
are started on demand, reused, and ended when they hang, die, grow too large or idle.
"""

import json
import os
import pwd
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import IO, Any, get_args

import structlog

from .. import accounts
from ..errors import Unstartable
from ..sdk import Unavailable
from ..sdk.process import Ended, Limits, NotRunnable, Process, ProcessFailed, TookTooLong, TooMuchMemory, TooMuchOutput
from . import images, ocr
from .extract import clean
from .parts import MAX_PLACES, WHAT, Extracted, Kind, LeftOut, NoText, Section, Unparseable
from .versions import VERSIONS

MOST = 2  # processes per server or worker
WAIT_S = 0.2  # interval at which a document that waits for a process checks whether it is still wanted
IDLE_S = 30.0  # a process without a document for this long is ended
MOST_DOCUMENTS = 500  # a process is replaced after this many
GROWN_BYTES = 150_000_000  # an idle process that uses more memory than this is replaced
MAX_HEAD_BYTES = 32 * 1024 * 1024  # of an answer
MAX_TEXT_BYTES = 160 * 1024 * 1024
START_S = 60.0  # time in which a new process must be ready
MAX_FILENAME_CHARS = 1_000
MAX_LEFT_OUT = 100  # kinds of what a document leaves out
MAX_PLACE_CHARS = 300
MAX_NOTE_CHARS = 500
OS_USER = "airweave-parser"  # reads documents if we are root
NOBODY = "nobody"  # the same where that user cannot be made
VARIABLES = ("PATH", "PYTHONPATH", "SYSTEMROOT")  # of ours that a process is given

log = structlog.get_logger(__name__)


class Parsers:
    """Reads documents, each within ``seconds`` and ``memory_mb``. Thread-safe. A process that has been idle for
    ``idle_s`` seconds is ended. ``ocr_languages``: those of pages that are images; None: they are not read."""

    def __init__(
        self, *, seconds: float, memory_mb: int, idle_s: float = IDLE_S, ocr_languages: str | None = None
    ) -> None:
        self._ocr_languages = ocr_languages
        self._idle_s = idle_s
        self._seconds = seconds
        self._memory_bytes = memory_mb * 1_000_000
        self._idle: list[_Process] = []
        self._count = 0
        self._changed = threading.Condition()
        self._retiring = False

    def reads_image(self, refused: NoText) -> bool:
        """Whether this is an image whose words are read all the same."""
        return self._ocr_languages is not None and images.kind_of(refused) is not None

    def read(self, content: Iterable[bytes], *, filename: str, beat: Callable[[], None]) -> Extracted | NoText:
        """Return the text of a document, or why it has none. ``beat`` is called while it is being read, and may raise
        to give up.

        Raises ``Unparseable`` if the document is damaged or exceeds a limit, and ``Unavailable`` if no document can be
        read now.
        """
        with _spool(content) as document:
            return self._parse(document, clean(filename)[-MAX_FILENAME_CHARS:], beat)

    def close(self) -> None:
        """End the idle processes."""
        with self._changed:
            for process in self._idle:
                process.end()
            self._count -= len(self._idle)
            self._idle.clear()
            self._changed.notify_all()

    def in_force(self) -> list[str]:
        """What holds a process back, of what ``sandbox.seal`` names. Starts one if none is idle."""
        process = self._acquire(lambda: None)
        try:
            return process.in_force
        finally:
            self._release(process, fit=process.is_fit())

    def _parse(self, document: IO[bytes], filename: str, beat: Callable[[], None]) -> Extracted | NoText:
        languages = self._ocr_languages
        while True:
            recognizer = ocr.Recognizer(languages, beat) if languages is not None else None
            process = self._acquire(beat)
            was_used = process.documents > 0
            fit = False
            try:
                head, text = process.ask(document, filename, beat, recognizer)
                fit = "no_memory" not in head
            except Ended as death:
                if was_used:  # an earlier document may have damaged it: try again in a new one
                    continue
                log.warning("parser_died", how=death.how)
                if death.how == "SIGXCPU":
                    raise Unparseable(_too_long(self._seconds)) from None
                raise Unparseable(
                    f"reading it ended the parser ({death.how}): it is damaged, or takes more than "
                    f"{self._memory_bytes // 1_000_000} MB of memory"
                ) from None
            finally:
                self._release(process, fit=fit and process.is_fit())
            if not fit:
                raise Unparseable(_too_much(self._memory_bytes))
            return _parse_answer(head, text)

    def _acquire(self, beat: Callable[[], None]) -> "_Process":
        """Take a process for this thread alone. Starts a new one if none is idle and fewer than ``MOST`` exist."""
        with self._changed:
            while not self._idle and self._count >= MOST:
                self._changed.wait(WAIT_S)
                beat()
            if self._idle:
                return self._idle.pop()
            self._count += 1
        process = None
        try:
            with_images = self._ocr_languages is not None
            process = _Process(
                memory_bytes=self._memory_bytes, seconds=self._seconds, with_images=with_images, beat=beat
            )
            process.wait_until_ready()
        except BaseException as error:
            if process is not None:
                process.end()
            with self._changed:
                self._count -= 1
                self._changed.notify()
            if isinstance(error, ProcessFailed | NotRunnable):
                raise Unavailable(f"the server cannot start a parser: {error}") from None
            raise
        return process

    def _release(self, process: "_Process", *, fit: bool) -> None:
        with self._changed:
            if fit:
                process.idle_since = time.monotonic()
                self._idle.append(process)
                if not self._retiring:
                    self._retiring = True
                    threading.Thread(target=self._retire, name="parsers", daemon=True).start()
            else:
                process.end()
                self._count -= 1
            self._changed.notify()

    def _retire(self) -> None:
        """End idle processes when their time is up, until none is left."""
        with self._changed:
            while self._idle:
                longest = min(process.idle_since for process in self._idle) + self._idle_s - time.monotonic()
                if longest > 0:
                    self._changed.wait(longest)
                    continue
                for process in [one for one in self._idle if time.monotonic() - one.idle_since >= self._idle_s]:
                    self._idle.remove(process)
                    self._count -= 1
                    process.end()
            self._retiring = False


class _Process:
    """One parser process, used by one thread at a time. It exits by itself when its standard input is closed."""

    def __init__(self, *, memory_bytes: int, seconds: float, with_images: bool, beat: Callable[[], None]) -> None:
        self.documents = 0
        self.idle_since = 0.0
        self.in_force: list[str] = []
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        user = _find_user()
        numbers = [str(user.pw_uid), str(user.pw_gid)] if user else []
        environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        environment |= {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2", "RAYON_NUM_THREADS": "1"}
        limits = Limits(seconds=START_S, memory_bytes=memory_bytes, output_bytes=None, line_bytes=MAX_HEAD_BYTES)
        self._line, theirs = socket.socketpair()
        command = [*(sys.executable, "-P", "-m", "airweave_server.text.parser"), str(memory_bytes), str(seconds)]
        command += [str(theirs.fileno()), "images" if with_images else "documents", *numbers]
        with theirs:
            kept = (theirs.fileno(),)
            self._process = Process(command, limits=limits, env=environment, beat=beat, with_warden=False, kept=kept)

    def wait_until_ready(self) -> None:
        """Wait for its first answer. Raises ``ProcessFailed`` if it could not start."""
        self.in_force = [str(word) for word in json.loads(self._process.read_line())["in_force"]]

    def ask(
        self, document: IO[bytes], filename: str, beat: Callable[[], None], recognizer: ocr.Recognizer | None
    ) -> tuple[dict[str, Any], bytes]:
        """The head and the text of its answer. Raises ``Unparseable`` if a limit is exceeded, ``Ended`` if it died."""
        self.documents += 1
        self._process.beat = beat
        self._process.renew(self._seconds)
        try:
            with suppress(OSError):  # it has died, as the next line notices
                socket.send_fds(self._line, [b"d"], [document.fileno()])
            self._process.write(json.dumps({"filename": filename, "ocr": recognizer is not None}).encode() + b"\n")
            head = _parse_head(self._process.read_line())
            if recognizer is not None:
                head = self._recognize(head, recognizer)
            size = head.get("text_bytes", 0)
            if not isinstance(size, int) or not 0 <= size <= MAX_TEXT_BYTES:
                raise Unparseable("too_large: it holds too much text")
            return head, self._process.read_exactly(size)
        except TookTooLong:
            raise Unparseable(_too_long(self._seconds)) from None
        except TooMuchMemory:
            raise Unparseable(_too_much(self._memory_bytes)) from None
        except TooMuchOutput:
            raise Unparseable("too_large: it has too many parts") from None

    def _recognize(self, head: dict[str, Any], recognizer: ocr.Recognizer) -> dict[str, Any]:
        """Read the pages that it hands over, until its answer comes. Returns the head of that."""
        for _ in range(ocr.MAX_PAGES + 2):  # after the last one it is told that there are no more
            if "picture" not in head:
                return head
            match head["picture"]:
                case [int(width), int(height)] if 0 < width * height <= 2 * ocr.MAX_PIXELS and width > 0:
                    words = recognizer.read(width, height, self._process.read_exactly(width * height))
                case _:
                    break
            self._process.renew(self._seconds)
            self._process.write(json.dumps({"words": words}).encode() + b"\n")
            head = _parse_head(self._process.read_line())
        raise Unparseable("the parser sent an invalid answer: it has other pages than it may")

    def is_fit(self) -> bool:
        return (
            self._process.code is None
            and self.documents < MOST_DOCUMENTS
            and self._process.resident_bytes() < GROWN_BYTES
        )

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._line.close()


@cache
def _find_user() -> pwd.struct_passwd | None:
    """The OS user that reads documents; None if that is ourselves, because we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return accounts.ensure(OS_USER)[0]
    except Unstartable as error:
        log.warning("parsers_run_as_nobody", why=str(error))
    with suppress(KeyError):
        return pwd.getpwnam(NOBODY)
    return None


def _too_long(seconds: float) -> str:
    return f"reading it takes more than {seconds:g} s"


def _too_much(memory_bytes: int) -> str:
    return f"too_large: reading it takes more than {memory_bytes // 1_000_000} MB of memory"


def _parse_head(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
        if isinstance(head, dict):
            return head
    except (ValueError, RecursionError):
        pass
    raise Unparseable("the parser sent an invalid answer: it has no head")


@contextmanager
def _spool(content: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Open the content as a file that can only be read and has no name any more, so that nothing is left behind.

    Raises ``Unavailable`` if the disk is full, and whatever ``content`` raises.
    """
    pieces = iter(content)
    with ExitStack() as opened:
        try:
            number, path = tempfile.mkstemp(prefix="airweave-document-")
            file = opened.enter_context(open(number, "wb"))
            try:
                document = opened.enter_context(open(path, "rb"))
            finally:
                os.unlink(path)
        except OSError as error:
            raise Unavailable(f"the server cannot create a temporary file: {error.strerror}") from error
        while (piece := next(pieces, b"")) != b"":
            _write(file, piece)
        _write(file, None)
        yield document


def _write(file: IO[bytes], piece: bytes | None) -> None:
    """Write a piece to the file, or with None close it."""
    try:
        file.close() if piece is None else file.write(piece)
    except OSError as error:
        raise Unavailable(f"the server cannot write a temporary file: {error.strerror}") from error


def _parse_answer(head: dict[str, Any], text: bytes) -> Extracted | NoText:
    """Validate the answer. Nothing in it is trusted: hostile bytes may have taken over the process."""
    if "unparseable" in head:
        raise Unparseable(clean(str(head["unparseable"]))[:1_000])
    formats = frozenset(name for name in _list(head, "formats") if isinstance(name, str) and name in VERSIONS)
    if "no_text" in head:
        return NoText(clean(str(head["no_text"]))[:1_000], formats)
    content = clean(text.decode("utf-8", "replace"))
    kinds = get_args(Kind)
    try:
        sections = tuple(Section(int(start), clean(str(label)), kind) for start, label, kind in head["sections"])
        starts = [section.start for section in sections]
        if starts != sorted(set(starts)) or starts[:1] != [0] or starts[-1] >= len(content):
            raise ValueError("sections out of order")
        if head["kind"] not in kinds or not {section.kind for section in sections} <= set(kinds):
            raise ValueError("an unknown kind")
        left_out = tuple(_parse_left_out(*one) for one in _list(head, "left_out")[:MAX_LEFT_OUT])
    except (KeyError, TypeError, ValueError) as error:
        raise Unparseable(f"the parser sent an invalid answer: {error}") from None
    return Extracted(content, head["kind"], sections=sections, left_out=left_out, formats=formats)


def _parse_left_out(what: object, where: object, count: object, note: object) -> LeftOut:
    if not isinstance(what, str) or what not in WHAT or not isinstance(where, list) or not isinstance(count, int):
        raise ValueError("something unknown is left out")
    places = tuple(clean(str(place))[:MAX_PLACE_CHARS] for place in where[:MAX_PLACES])
    return LeftOut(what, places, max(1, count), clean(str(note))[:MAX_NOTE_CHARS])


def _list(head: dict[str, Any], name: str) -> list[Any]:
    value = head.get(name)
    return value if isinstance(value, list) else []
