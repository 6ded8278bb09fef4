"""One process that reads documents, as ``parsers`` asks it to, until its standard input is closed. A request is a line
of JSON, an answer a line of JSON and the text after it; an empty one says that it is ready. It knows no secrets, limits
itself, and outlives nobody.
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

LARGEST_FILE_BYTES = 1024 * 1024 * 1024  # that it may write
MAX_OPEN_FILES = 64
CPU_SPARE_S = 5  # beyond what is allowed; whoever asked looks at the clock, this is for when it is gone


def main(memory_bytes: int, seconds: float) -> None:
    """Answer one request after the other. Ends at once when whoever asks is gone, even in the midst of a document."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the server, which ends us when it is done with us
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, LARGEST_FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    place: list[str] = []  # the folder of the document at hand
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
