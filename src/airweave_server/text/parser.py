"""The program of one parser process: reads the documents that ``parsers`` sends, until its standard input is closed.

A request is one line of JSON; the open file of the document comes through a socket. An answer is one line of JSON,
followed by the text. Before it may come pages that are images, each a line and its pixels, answered by a line with its
words. The first answer names what ``sandbox.seal`` put in force. The process holds no secrets, limits itself, opens no
file, and ends when its parent does; code that takes it over ends with its CPU time at the latest.
"""

import json
import os
import queue
import resource
import signal
import socket
import sys
import threading
from typing import IO, Any

from .. import sandbox
from . import documents
from .parts import NoText, Picture, Recognize, Unparseable

WITH_IMAGES = "images"  # an argument
MAX_OPEN_FILES = 64
CPU_SPARE_S = 5  # beyond the allowed time: the parent enforces that, and this limit applies when the parent is gone
LIFE_DOCUMENTS = 20  # a process may use the CPU time of so many of the longest documents; then another one replaces it


def main(memory_bytes: int, seconds: float, line: int, with_images: bool, user: tuple[int, int] | None) -> None:
    """Answer requests one after the other. Exits at once when the parent is gone, even in the middle of a document.

    ``line``: the number of the socket from which the documents come.
    ``with_images``: whether files that are images will be among them. ``user``: the OS user and group to become.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output of a library is not taken for an answer
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these are meant for the server, which ends this process itself
    documents.load(with_images=with_images)
    requests: queue.SimpleQueue[tuple[IO[bytes], str, bool]] = queue.SimpleQueue()
    words: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, words, socket.socket(fileno=line)), daemon=True).start()
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, LIFE_DOCUMENTS * (int(seconds) + CPU_SPARE_S))
    in_force = sandbox.seal(user)
    answers.write(json.dumps({"in_force": in_force}).encode() + b"\n")
    answers.flush()

    def recognize(picture: Picture) -> str | None:
        """Hand a page over to be read, and wait for its words."""
        answers.write(json.dumps({"picture": [picture.width, picture.height]}).encode() + b"\n")
        answers.write(picture.pixels)
        answers.flush()
        found = words.get()
        _limit_cpu(seconds)
        return found

    while True:
        file, filename, has_ocr = requests.get()
        _limit_cpu(seconds)
        with file:
            head, text = _answer(file, filename, seconds, recognize if has_ocr else None)
        answers.write(json.dumps(head | {"text_bytes": len(text)}).encode() + b"\n")
        answers.write(text)
        answers.flush()


def _answer(
    file: IO[bytes], filename: str, seconds: float, recognize: Recognize | None
) -> tuple[dict[str, Any], bytes]:
    try:
        found = documents.read(file, filename=filename, seconds=seconds, recognize=recognize)
    except Unparseable as error:
        return {"unparseable": str(error)}, b""
    except MemoryError:
        return {"no_memory": True}, b""
    if isinstance(found, NoText):
        return {"no_text": found.reason, "formats": sorted(found.formats)}, b""
    head = {
        "kind": found.kind,
        "left_out": [[one.what, one.where, one.count, one.note] for one in found.left_out],
        "formats": sorted(found.formats),
        "sections": [[section.start, section.label, section.kind] for section in found.sections],
    }
    return head, found.text.encode("utf-8", "replace")


def _listen(
    requests: "queue.SimpleQueue[tuple[IO[bytes], str, bool]]",
    words: "queue.SimpleQueue[str | None]",
    line: socket.socket,
) -> None:
    for said in sys.stdin.buffer:
        request = json.loads(said)
        if "words" in request:
            words.put(request["words"])
            continue
        _, (document, *_), _, _ = socket.recv_fds(line, 1, 1)
        requests.put((os.fdopen(document, "rb"), request["filename"], request["ocr"]))
    os._exit(0)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _limit_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(
        resource.RLIMIT_CPU, (min(int(used.ru_utime + used.ru_stime + seconds) + CPU_SPARE_S, hard), hard)
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        float(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4] == WITH_IMAGES,
        (int(sys.argv[5]), int(sys.argv[6])) if sys.argv[5:] else None,
    )
