"""The program of one parser process: reads the documents that ``parsers`` sends, until its standard input is closed.

A request is one line of JSON. An answer is one line of JSON, followed by the text; an empty object says that the
process is ready. The process holds no secrets, limits itself, and never outlives its parent.
"""

import json
import os
import queue
import resource
import shutil
import signal
import sys
import threading
from typing import Any

from .documents import read
from .extract import NoText, Unparseable

LARGEST_FILE_BYTES = 1024 * 1024 * 1024  # the largest file that it may write
MAX_OPEN_FILES = 64
CPU_SPARE_S = 5  # beyond the allowed time: the parent enforces that, and this limit applies when the parent is gone


def main(memory_bytes: int, seconds: float) -> None:
    """Answer requests one after the other. Exits at once when the parent is gone, even in the middle of a document."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output of a library is not taken for an answer
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these are meant for the server, which ends this process itself
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, LARGEST_FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    place: list[str] = []  # the folder of the current document
    threading.Thread(target=_listen, args=(requests, place), daemon=True).start()
    answers.write(b"{}\n")  # ready
    answers.flush()
    while True:
        request = requests.get()
        place.append(request["folder"])
        os.environ["TMPDIR"] = request["folder"]
        _limit_cpu(seconds)
        head, text = _answer(request["path"], request["filename"])
        answers.write(json.dumps(head | {"text_bytes": len(text)}).encode() + b"\n")
        answers.write(text)
        answers.flush()
        place.clear()


def _answer(path: str, filename: str) -> tuple[dict[str, Any], bytes]:
    try:
        found = read(path, filename=filename)
    except Unparseable as error:
        return {"unparseable": str(error)}, b""
    except MemoryError:
        return {"no_memory": True}, b""
    if isinstance(found, NoText):
        return {"no_text": found.reason}, b""
    head = {
        "kind": found.kind,
        "left_out": found.left_out,
        "sections": [[section.start, section.label, section.kind] for section in found.sections],
    }
    return head, found.text.encode("utf-8", "replace")


def _listen(requests: "queue.SimpleQueue[dict[str, Any]]", place: list[str]) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    for folder in place:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, hard))


def _limit_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + CPU_SPARE_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
