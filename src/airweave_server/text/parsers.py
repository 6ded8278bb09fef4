"""The processes that read documents: started when there is something to read, used again, limited, and ended when they
hang, die, grow, or have nothing to do. What a document does to one of them is no trouble of ours.
"""

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import psutil
import structlog

from ..sdk import Unavailable
from .extract import Extracted, Kind, NoText, Section, Unparseable, clean

MOST = 2  # processes of one server or worker
LOOK_S = 0.2  # between two looks at one that reads: whether it is still wanted, and how large it is
IDLE_S = 30.0  # without a document, after which one is ended
MOST_DOCUMENTS = 500  # that one reads before it is replaced
GROWN_BYTES = 150_000_000  # at rest, above which it is replaced
MAX_HEAD_BYTES = 32 * 1024 * 1024  # of an answer
MAX_TEXT_BYTES = 160 * 1024 * 1024
START_S = 60.0  # in which a new one must be ready
READ_BYTES = 1 << 20
MAX_FILENAME_CHARS = 1_000

log = structlog.get_logger(__name__)


class Parsers:
    """Reads documents, each within ``seconds`` and ``memory_mb``; from any thread. A process that had nothing to do for
    ``idle_s`` is ended."""

    def __init__(self, *, seconds: float, memory_mb: int, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._seconds = seconds
        self._memory_bytes = memory_mb * 1_000_000
        self._idle: list[_Process] = []
        self._count = 0
        self._changed = threading.Condition()
        self._retiring = False

    def read(self, content: Iterable[bytes], *, filename: str, beat: Callable[[], None]) -> Extracted | NoText:
        """Return the text of a document, or why it has none. ``beat`` is called while it takes time, and may raise to
        give it up.

        Raises ``Unparseable`` when it is damaged or takes more than is allowed, and ``Unavailable`` when we cannot
        read anything now.
        """
        try:
            folder = tempfile.mkdtemp(prefix="airweave-document-")
        except OSError as error:
            raise Unavailable(f"the server has no place for a temporary file: {error.strerror}") from None
        try:
            path = Path(folder, "document")
            _spool(content, path)
            request = {"folder": folder, "path": str(path), "filename": clean(filename)[-MAX_FILENAME_CHARS:]}
            return self._answered(request, beat)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End those that wait for a document."""
        with self._changed:
            for process in self._idle:
                process.end()
            self._count -= len(self._idle)
            self._idle.clear()
            self._changed.notify_all()

    def _answered(self, request: dict[str, str], beat: Callable[[], None]) -> Extracted | NoText:
        while True:
            process = self._taken(beat)
            was_used = process.documents > 0
            fit = False
            try:
                head, text = process.ask(request, beat)
                fit = "no_memory" not in head
            except _Died as death:
                if was_used:  # what it read before may have hurt it
                    continue
                log.warning("parser_died", how=str(death))
                if str(death) == "SIGXCPU":
                    raise Unparseable(_too_long(self._seconds)) from None
                raise Unparseable(
                    f"reading it ended the parser ({death}): it is damaged, or takes more than "
                    f"{self._memory_bytes // 1_000_000} MB of memory"
                ) from None
            finally:
                self._given_back(process, fit=fit and process.is_fit())
            if not fit:
                raise Unparseable(_too_much(self._memory_bytes))
            return _understood(head, text)

    def _taken(self, beat: Callable[[], None]) -> "_Process":
        """A process for this thread alone, a new one if need be and allowed."""
        with self._changed:
            while not self._idle and self._count >= MOST:
                self._changed.wait(LOOK_S)
                beat()
            if self._idle:
                return self._idle.pop()
            self._count += 1
        process = None
        try:
            process = _Process(memory_bytes=self._memory_bytes, seconds=self._seconds)
            process.wait_until_ready(beat)
        except BaseException as error:
            if process is not None:
                process.end()
            with self._changed:
                self._count -= 1
                self._changed.notify()
            if isinstance(error, OSError | _Died | Unparseable):
                raise Unavailable(f"the server cannot start a parser: {error}") from None
            raise
        return process

    def _given_back(self, process: "_Process", *, fit: bool) -> None:
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
        """End who has nothing to do; this thread ends when nobody is left."""
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


class _Died(Exception):
    """The process ended in the midst of a document; the text says how."""


class _Process:
    """One process, in the hands of one thread at a time."""

    def __init__(self, *, memory_bytes: int, seconds: float) -> None:
        self.documents = 0
        self.idle_since = 0.0
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        command = [sys.executable, "-P", "-m", "airweave_server.text.parser", str(memory_bytes), str(seconds)]
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        environment = {**kept, "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2", "RAYON_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)

    def wait_until_ready(self, beat: Callable[[], None]) -> None:
        """Raises ``_Died``, or ``Unparseable`` when it takes too long, when it cannot be started."""
        self._answer(START_S, beat)

    def ask(self, request: dict[str, str], beat: Callable[[], None]) -> tuple[dict[str, Any], bytes]:
        """The answer's head and text. Raises ``Unparseable`` when it takes too much, ``_Died`` when there is none."""
        self.documents += 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")  # less than a pipe holds
        except BrokenPipeError:
            raise _Died(self._how()) from None
        return self._answer(self._seconds, beat)

    def _answer(self, seconds: float, beat: Callable[[], None]) -> tuple[dict[str, Any], bytes]:
        until = time.monotonic() + seconds

        def more() -> bytes:
            while not waiting.select(LOOK_S):
                beat()
                if time.monotonic() > until:
                    raise Unparseable(_too_long(seconds))
                if self._resident() > self._memory_bytes:
                    raise Unparseable(_too_much(self._memory_bytes))
            part = os.read(self._output, READ_BYTES)
            if not part:
                raise _Died(self._how())
            return part

        with selectors.DefaultSelector() as waiting:
            waiting.register(self._output, selectors.EVENT_READ)
            held = bytearray()
            while (end := held.find(b"\n")) < 0:
                held += more()
                if len(held) > MAX_HEAD_BYTES:
                    raise Unparseable("too_large: it has too many parts")
            head = _parsed(bytes(held[:end]))
            del held[: end + 1]
            size = head.get("text_bytes", 0)
            if not isinstance(size, int) or not 0 <= size <= MAX_TEXT_BYTES:
                raise Unparseable("too_large: it holds too much text")
            while len(held) < size:
                held += more()
        return head, bytes(held)

    def is_fit(self) -> bool:
        return self._process.poll() is None and self.documents < MOST_DOCUMENTS and self._resident() < GROWN_BYTES

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _resident(self) -> int:
        with suppress(psutil.Error):
            return int(psutil.Process(self._process.pid).memory_info().rss)
        return 0

    def _how(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"


def _too_long(seconds: float) -> str:
    return f"reading it takes more than {seconds:g} s"


def _too_much(memory_bytes: int) -> str:
    return f"too_large: reading it takes more than {memory_bytes // 1_000_000} MB of memory"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
        if isinstance(head, dict):
            return head
    except (ValueError, RecursionError):
        pass
    raise Unparseable("the parser's answer makes no sense: it has no head")


def _spool(content: Iterable[bytes], path: Path) -> None:
    """Raises ``Unavailable`` when there is no room; what the content raises, rises."""
    pieces = iter(content)
    with path.open("wb") as file:
        while (piece := next(pieces, b"")) != b"":
            try:
                file.write(piece)
            except OSError as error:
                raise Unavailable(f"the server has no room for a temporary file: {error.strerror}") from None


def _understood(head: dict[str, Any], text: bytes) -> Extracted | NoText:
    """The answer, which may be that of a process that hostile bytes have taken over: nothing in it is believed."""
    if "unparseable" in head:
        raise Unparseable(clean(str(head["unparseable"]))[:1_000])
    if "no_text" in head:
        return NoText(clean(str(head["no_text"]))[:1_000])
    content = clean(text.decode("utf-8", "replace"))
    kinds = get_args(Kind)
    left_out = head.get("left_out")
    try:
        sections = tuple(Section(int(start), clean(str(label)), kind) for start, label, kind in head["sections"])
        starts = [section.start for section in sections]
        if starts != sorted(set(starts)) or starts[:1] != [0] or starts[-1] >= len(content):
            raise ValueError("sections out of order")
        if head["kind"] not in kinds or not {section.kind for section in sections} <= set(kinds):
            raise ValueError("an unknown kind")
    except (KeyError, TypeError, ValueError) as error:
        raise Unparseable(f"the parser's answer makes no sense: {error}") from None
    return Extracted(
        content, head["kind"], sections=sections, left_out=None if left_out is None else clean(str(left_out))[:1_000]
    )
