"""Starts processes of ours from one that has loaded the program: it forks itself, which takes a tenth of the CPU time
of a start, most of which is imports.

What runs in such a process is the command line, with arguments, environment, working directory and standard streams of
its own. It differs from a process that was started as a command in what the kernel tells of it (``/proc/PID/cmdline``
and ``environ``) and in memory that it shares, so ``can_start`` refuses what depends on the start itself.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

# Of the dynamic loader, the C library, the interpreter and rich, which read them only when a program starts. These and
# all that begin with them.
READ_AT_START = (
    "LD_", "PYTHON", "LC_", "LANG", "TZ", "TMPDIR", "MALLOC_", "GLIBC_", "OPENBLAS_", "OMP_",
    "TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR",
)  # fmt: skip
MOST_BYTES = 1 << 20  # of a request: arguments and environment
START_S = 60.0
LOST = "the process that forks has ended"


class Forked:
    """A process that was forked, with what tests use of ``subprocess.Popen``."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._mutex = threading.Lock()
        self.returncode: int | None = None
        self.pid = self._hear(START_S)

    def poll(self) -> int | None:
        with self._mutex:
            if self.returncode is None and select.select([self._line], [], [], 0)[0]:
                self.returncode = self._hear(0)
                self._line.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._mutex:
            if self.returncode is None:
                self.returncode = self._hear(timeout)
                self._line.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _hear(self, timeout: float | None) -> int:
        if not select.select([self._line], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {getattr(self, 'pid', '?')}", timeout or 0)
        said = self._line.recv(64)
        if not said:
            raise RuntimeError(LOST)
        return int(said)


class Forker:
    """The process that has loaded the program. It ends with its owner."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._line, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        self._mutex = threading.Lock()
        self._known = dict(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "forking", str(theirs.fileno())],
                cwd=os.path.dirname(__file__),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # so that Python buffers it as it does for a file
            )

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether such a process differs from one that is started as a command only in how it came to be."""
        names = [name for name in {**environment, **self._known} if name.startswith(READ_AT_START)]
        return all(environment.get(name) == self._known.get(name) for name in names)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], output: int, errors: int) -> Forked:
        """Start ``airweave-server`` with these arguments; what it says goes to these open files. Its standard input is
        empty."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"arguments": arguments, "environment": environment, "cwd": os.getcwd()}).encode()
        with theirs, open(os.devnull, "rb") as nothing, self._mutex:
            files = [theirs.fileno(), nothing.fileno(), output, errors]
            socket.send_fds(self._line, [request], files)
        return Forked(ours)

    def close(self) -> None:
        self._line.close()
        self._process.wait(START_S)


def serve(line: socket.socket) -> None:
    """Fork for each request; tell its sender the number of the process, and how it ended. Ends with the sender."""
    import gc

    gc.disable()
    import airweave_server.commands.evaluate
    import airweave_server.commands.installation
    import airweave_server.commands.remote
    import airweave_server.commands.sources
    import airweave_server.commands.start
    import airweave_server.supervisor
    import airweave_server.temporal.client
    import airweave_server.temporal.worker  # noqa: F401

    gc.freeze()  # so that a collection in a forked process copies no page of this one
    born: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    while True:
        ready = select.select([line, woken], [], [])[0]
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 4096)
            while born and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with born.pop(ended[0]) as theirs, suppress(OSError):
                    theirs.send(str(os.waitstatus_to_exitcode(ended[1])).encode())
        if line in ready:
            request, files, _, _ = socket.recv_fds(line, MOST_BYTES, 4)
            if not request:
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                line.close()
                for other in born.values():
                    other.close()
                os.close(woken)
                os.close(wake)
                become(json.loads(request), files)
            theirs = socket.socket(fileno=files[0])
            for file in files[1:]:
                os.close(file)
            born[pid] = theirs
            with suppress(OSError):
                theirs.send(str(pid).encode())


def become(request: dict[str, object], files: list[int]) -> None:
    """Become the process of this request. Does not return."""
    from airweave_server.commands.main import main

    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for own, file in enumerate(files[1:]):
        os.dup2(file, own)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    os.chdir(str(request["cwd"]))
    sys.path[0] = os.getcwd()  # as of a module that is run
    sys.argv = ["airweave-server", *request["arguments"]]  # type: ignore[misc]
    try:
        main()  # ends the process
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
