"""Reads pages that are images, by tesseract, a program of the system. Off unless a person turns it on.

The limited process that reads a document draws the page and hands over its pixels; tesseract runs here, in a process of
its own, and gets nothing but them.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ..sdk.process import Limits, NotRunnable, Process, ProcessFailed
from .extract import clean

PROGRAM = "tesseract"
MAX_PAGES = 100  # of one document
MAX_PIXELS = 12_000_000  # of a page: A4 at 300 dpi has 8.7 million
DOCUMENT_S = 300.0  # after which no further page of a document is begun
PAGE_S = 60.0
EXAMINE_S = 10.0
MEMORY_BYTES = 1_000_000_000
MAX_TEXT_BYTES = 1_000_000  # of a page
VARIABLES = ("PATH", "TESSDATA_PREFIX", "LD_LIBRARY_PATH")  # of ours that it is given

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Installed:
    """The tesseract of this system. ``languages``: those it can read."""

    version: str
    languages: tuple[str, ...]


class Recognizer:
    """Reads the pages of one document, within ``DOCUMENT_S``. ``languages``: such as "eng+deu"."""

    def __init__(self, languages: str, beat: Callable[[], None]) -> None:
        self._languages = languages
        self._beat = beat
        self._pages = 0
        self._until = time.monotonic() + DOCUMENT_S

    def read(self, width: int, height: int, pixels: bytes) -> str | None:
        """The words on a page, given its gray pixels row by row: "" if there are none or it cannot be read, None if no
        more pages of this document are read."""
        self._pages += 1
        left_s = self._until - time.monotonic()
        if self._pages > MAX_PAGES or left_s <= 0:
            return None
        command = [PROGRAM, "stdin", "stdout", "-l", self._languages]
        try:
            with _run(command, min(PAGE_S, left_s), self._beat) as program:
                program.write(b"P5\n%d %d\n255\n" % (width, height))
                program.write(pixels)
                program.end_input()
                return clean(program.read().decode("utf-8", "replace")).replace("\f", "\n").strip()
        except NotRunnable:
            log.warning("ocr_not_installed", program=PROGRAM)
            return None
        except ProcessFailed as error:
            log.warning("ocr_failed", why=str(error), said=error.stderr[-300:])
            return ""


def examine() -> Installed:
    """The installed tesseract. Raises ``NotRunnable`` or ``ProcessFailed``."""
    with _run([PROGRAM, "--version"], EXAMINE_S) as program:
        version = program.read().decode("utf-8", "replace").split("\n")[0].removeprefix(PROGRAM).strip()
    with _run([PROGRAM, "--list-langs"], EXAMINE_S) as program:
        languages = program.read().decode("utf-8", "replace").split("\n")[1:]
    return Installed(version, tuple(sorted(filter(None, map(str.strip, languages)))))


def _run(command: list[str], seconds: float, beat: Callable[[], None] = lambda: None) -> Process:
    limits = Limits(
        seconds=seconds,
        memory_bytes=MEMORY_BYTES,
        output_bytes=MAX_TEXT_BYTES,
        cpu_s=int(seconds) + 1,
        file_bytes=0,
        open_files=64,
    )
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    environment |= {"LC_ALL": "C.UTF-8", "OMP_THREAD_LIMIT": "1"}
    return Process(command, limits=limits, env=environment, beat=beat)
