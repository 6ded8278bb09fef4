"""Run a program as a child process with limits on time, memory and output, and end it with all its descendants.

    limits = Limits(seconds=3_600, memory_bytes=500_000_000, output_bytes=None)
    with Process(["git", "log"], limits=limits, env={"PATH": "/usr/bin:/bin"}, beat=self.context.check) as git:
        for line in git.lines():
            ...

Errors are sorted by how they are handled (see ``errors``):

    ConfigError
    └── NotRunnable      the program is missing or may not be executed: final, a person must install it
    Unavailable
    └── ProcessFailed    retried with backoff; ``stderr`` holds the end of the program's standard error
        ├── Ended        too early, or with an exit code other than 0
        ├── TookTooLong  also ``Stalled``
        ├── TooMuchMemory
        └── TooMuchOutput

No message holds an argument, the environment or the program's output, since these may hold secrets.

The program runs in a session and process group of its own. A warden starts it (see ``process_warden``), a small process
that outlives neither the program nor us. The guarantees differ by system:

* On Linux no descendant outlives ``stop``, the end of the program, or our own end, even by SIGKILL. This includes
  grandchildren and processes that left the group. The thread that started the program may end at any time. If the
  warden is killed, the program is killed with it, and the rest of its group as soon as a method of ``Process`` notices.
* On macOS and other Unix systems the same holds for the process group, but not for a descendant that started its own
  session. If the warden is killed, the group ends as soon as a method of ``Process`` notices.
* Without a warden (``with_warden=False``) the group ends with ``stop`` and with the program, but not with us. This is
  for our own programs, which end when their standard input does and limit themselves.

Time, memory and output are only checked while a method of ``Process`` waits or reads. While the caller is busy
elsewhere, a program that keeps writing soon blocks on its full pipe.
"""

import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from .errors import ConfigError, Stalled, Unavailable

LOOK_S = 0.2  # between two checks of beat, clock and memory
END_S = 5.0  # within which a program that closed its pipes must end
END_LOOK_S = 0.01  # between two checks whether a program without a warden has ended
GRACE_S = 5.0  # between SIGTERM and SIGKILL
KILL_S = 10.0  # within which a warden that was told to kill must be gone
READ_BYTES = 1 << 20
WRITE_BYTES = 1 << 16
LINE_BYTES = 16 * 1024 * 1024
STDERR_BYTES = 8_192
WARDEN = Path(__file__).with_name("process_warden.py")
NOT_RUNNABLE = {errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.EPERM, errno.E2BIG, errno.EINVAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on a program; None means unlimited.

    ``seconds``: wall-clock time since the start. ``memory_bytes``: resident memory of the program and its descendants
    together; shared pages count once for each. ``output_bytes``: everything it writes to stdout. ``line_bytes``: one
    line of stdout.

    The kernel enforces the other limits on each process separately; they need a warden. ``cpu_s``: seconds of CPU time.
    ``data_bytes``: private writable memory, touched or not (Linux). ``file_bytes``: the largest file it may write.
    ``open_files``: files open at once.
    """

    seconds: float | None
    memory_bytes: int | None
    output_bytes: int | None
    line_bytes: int = LINE_BYTES
    cpu_s: int | None = None
    data_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel enforces, by their names in the module ``resource``."""
        wanted = {
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_DATA": self.data_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
        }
        return {name: most for name, most in wanted.items() if most is not None}


class NotRunnable(ConfigError):
    """The program is missing, or may not be executed."""


class ProcessFailed(Unavailable):
    """The program failed. ``stderr``: the end of its standard error, which may hold secrets."""

    def __init__(self, message: str, *, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


class Ended(ProcessFailed):
    """The program ended too early, or with an error.

    ``code``: its exit code, or the negative number of the signal that ended it. ``how``: the same for people, such as
    ``exit code 3`` or ``SIGSEGV``.
    """

    def __init__(self, message: str, *, code: int, stderr: str = "") -> None:
        super().__init__(message, stderr=stderr)
        self.code = code
        self.how = describe_code(code)


class TookTooLong(ProcessFailed, Stalled):
    """The program ran longer than ``Limits.seconds``, or does not end."""


class TooMuchMemory(ProcessFailed):
    """The program and its descendants used more than ``Limits.memory_bytes``."""


class TooMuchOutput(ProcessFailed):
    """The program wrote more than ``Limits.output_bytes``, or a line of more than ``Limits.line_bytes``."""


def describe_code(code: int) -> str:
    """Return how a program ended: ``exit code 3``, ``SIGSEGV``."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


class Process:
    """One run of a program. One thread may use it at a time, which need not be the one that started it.

    ``command``: the arguments, without a shell; the first is looked up on the ``PATH`` of ``env``. ``env``: the whole
    environment of the program, which inherits nothing from ours. ``kept``: open files that a program without a warden
    inherits, under the same numbers. ``beat``: called about every 0.2 s while a method
    waits or reads; it may raise to give up. Whenever a method raises, the program is killed first.

    Raises ``NotRunnable``, or ``ProcessFailed`` if it cannot be started now.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        limits: Limits,
        env: Mapping[str, str],
        cwd: Path | None = None,
        beat: Callable[[], None] = lambda: None,
        with_warden: bool = True,
        kept: Sequence[int] = (),
    ) -> None:
        self.name = Path(command[0]).name
        self.beat = beat  # may be replaced
        self._limits = limits
        self._code: int | None = None
        self._closed = False
        self._held = bytearray()
        self._searched = 0  # bytes at the start of _held that are known to hold no line end
        self._stderr = bytearray()
        self._output_count = 0
        self._is_over = False  # stdout has ended
        self._pid: int | None = None
        self._words = bytearray()
        self._warden: socket.socket | None = None
        self._warden_ended = False
        self._next_look = time.monotonic() + LOOK_S
        self.renew(limits.seconds)
        arguments = [os.fspath(part) for part in command]
        if not with_warden:
            if limits.rlimits():
                raise ValueError("limits that the kernel enforces need a warden")
            self._spawn(arguments, env, cwd, kept)
            self._pid = self._process.pid
            return
        if kept:
            raise ValueError("a warden hands no open file on")
        self._warden, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self._spawn([sys.executable, "-I", "-S", str(WARDEN), str(number)], {}, None, (number,))
        self._selector.register(self._warden, selectors.EVENT_READ, self._take_word)
        rlimits = {**limits.rlimits(), "RLIMIT_CORE": 0}
        wanted = {"command": arguments, "env": dict(env), "cwd": cwd and os.fspath(cwd), "rlimits": rlimits}
        with suppress(OSError):  # the warden died; the wait for its answer notices
            self._warden.sendall(json.dumps(wanted).encode() + b"\n")
        self._warden.setblocking(False)
        while self._pid is None:
            self._pump()

    @property
    def pid(self) -> int:
        """The process id of the program, which is also its process group."""
        assert self._pid is not None
        return self._pid

    @property
    def code(self) -> int | None:
        """The exit code, or the negative number of the signal that ended the program; None while it runs."""
        if self._code is None and not self._closed:
            if self._warden is not None:
                self._take_word()
            elif (code := self._process.poll()) is not None:
                self._code = code
                with suppress(OSError):
                    os.killpg(self.pid, signal.SIGKILL)  # remaining children would keep the pipes open
        return self._code

    @property
    def stderr(self) -> str:
        """The end of the program's standard error, as far as it has been read."""
        return self._stderr.decode("utf-8", "replace")

    def renew(self, seconds: float | None) -> None:
        """Restart the limits on time and output, for a program that answers one request after another."""
        self._seconds = seconds
        self._until = time.monotonic() + seconds if seconds is not None else None
        self._output_count = len(self._held)

    def write(self, data: bytes) -> None:
        """Write to the program's standard input. Its output meanwhile is buffered, up to ``Limits.line_bytes``.

        Raises ``Ended`` if the program has ended or closed its input.
        """
        self._require_open()
        assert self._process.stdin is not None
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._process.stdin.fileno(), rest[:WRITE_BYTES]) :]
            except BlockingIOError:
                self._selector.register(self._process.stdin, selectors.EVENT_WRITE, lambda: None)
                try:
                    self._pump()
                finally:
                    if not self._closed:
                        self._selector.unregister(self._process.stdin)
                if len(self._held) > self._limits.line_bytes:
                    self.kill()
                    what = f"writes more than {_size(self._limits.line_bytes)} before it has read its input"
                    raise self._failed(TooMuchOutput, what) from None
            except BrokenPipeError:
                raise self._ended() from None

    def end_input(self) -> None:
        """Close the program's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read_line(self) -> bytes:
        """Return the next line without its line end. Raises ``Ended`` if the output ends before the line does."""
        line = self._next_line()
        if line is None:
            raise self._ended()
        return line

    def read_exactly(self, size: int) -> bytes:
        """Return this many bytes of output. Raises ``Ended`` if the output is shorter."""
        while len(self._held) < size:
            if self._is_over:
                raise self._ended()
            self._pump()
        return self._cut(size)

    def lines(self) -> Iterator[bytes]:
        """Yield every line without its line end; the last line may lack one.

        The iterator ends only if the program ended with exit code 0; otherwise it raises ``Ended``.
        """
        while (line := self._next_line()) is not None:
            yield line
        rest = self._cut(len(self._held))
        self._require_success()
        if rest:
            yield rest

    def read(self) -> bytes:
        """Return the whole output once the program has ended with exit code 0; otherwise raise ``Ended``.

        The output is held in memory, up to ``Limits.output_bytes``.
        """
        while not self._is_over:
            self._pump()
        output = self._cut(len(self._held))
        self._require_success()
        return output

    def wait(self) -> int:
        """Wait until the program ends, and discard its output. Returns its exit code, or the negative number of the
        signal that ended it."""
        while (code := self._code_in()) is None:
            self._held.clear()
        return code

    def resident_bytes(self) -> int:
        """The resident memory of the program and its descendants; shared pages count once for each."""
        total = 0
        for pid in _family(self._process.pid, with_itself=self._warden is None):
            with suppress(psutil.Error):
                total += int(psutil.Process(pid).memory_info().rss)
        return total

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End the program and its group with SIGTERM, and with SIGKILL after ``grace_s``.

        When this returns, they are gone and reaped and the pipes are closed. May be called again.
        """
        if self._closed:
            return
        until = time.monotonic() + grace_s
        with suppress(OSError):
            self.end_input()
        with suppress(OSError):
            if self._warden is not None:
                self._warden.send(b"t")
            elif self.code is None:
                os.killpg(self.pid, signal.SIGTERM)
        try:
            while not self._is_gone() and (left := until - time.monotonic()) > 0:
                self._held.clear()
                self._take(min(left, LOOK_S if self._warden is not None else END_LOOK_S))
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the program and its group. When this returns, they are gone and reaped and the pipes are closed."""
        if self._closed:
            return
        self._closed = True
        if self._warden is None:
            if self._process.poll() is None:  # otherwise another process may have its id by now
                with suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._code = self._process.wait()
        else:
            self._kill_by_warden(self._warden)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _spawn(self, command: list[str], env: Mapping[str, str], cwd: Path | None, kept: Sequence[int]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=kept,
                bufsize=0,
            )
        except OSError as error:
            if self._warden is not None:
                self._warden.close()
                raise ProcessFailed(f"{self.name} cannot be started now: {error.strerror}") from None
            raise self._not_started(error.errno, f"{error.strerror}: {error.filename}") from None
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ, self._take_output)  # type: ignore[arg-type]
        self._selector.register(self._process.stderr, selectors.EVENT_READ, self._take_stderr)  # type: ignore[arg-type]

    def _pump(self, most_s: float = LOOK_S) -> None:
        """Read what is available, or wait for it, and check the limits."""
        self._require_open()
        try:
            self._take(min(most_s, max(self._next_look - time.monotonic(), 0)))
            if self._limits.output_bytes is not None and self._output_count > self._limits.output_bytes:
                raise self._failed(TooMuchOutput, f"writes more than {_size(self._limits.output_bytes)}")
            if time.monotonic() >= self._next_look:
                self._look()
                self._next_look = time.monotonic() + LOOK_S
        except BaseException:
            self.kill()
            raise

    def _take(self, wait_s: float) -> None:
        """Read what is available without checking limits."""
        for key, _ in self._selector.select(wait_s):
            key.data()

    def _look(self) -> None:
        self.beat()
        if self._until is not None and time.monotonic() > self._until:
            raise self._failed(TookTooLong, f"takes more than {self._seconds:g} s")
        most = self._limits.memory_bytes
        if most is not None and self.resident_bytes() > most:
            raise self._failed(TooMuchMemory, f"takes more than {_size(most)} of memory")
        if self._warden is None:
            self.code  # noqa: B018  # kills what an ended program left behind

    def _take_output(self) -> None:
        assert self._process.stdout is not None
        part = os.read(self._process.stdout.fileno(), READ_BYTES)
        if not part:
            self._selector.unregister(self._process.stdout)
            self._is_over = True
        self._output_count += len(part)
        self._held += part

    def _take_stderr(self) -> None:
        assert self._process.stderr is not None
        part = os.read(self._process.stderr.fileno(), READ_BYTES)
        if not part:
            self._selector.unregister(self._process.stderr)
        self._stderr += part[-STDERR_BYTES:]
        del self._stderr[:-STDERR_BYTES]

    def _take_word(self) -> None:
        """Read the warden's messages. Raises if the program could not be started."""
        assert self._warden is not None
        try:
            part = self._warden.recv(1 << 12)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._words += part
        while (end := self._words.find(b"\n")) >= 0:
            word = json.loads(self._words[:end])
            del self._words[: end + 1]
            if "errno" in word:
                raise self._not_started(word["errno"], word["error"])
            self._pid = word.get("pid", self._pid)
            self._code = word.get("code", self._code)
        if not part:
            self._warden_ended = True
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._warden)
            if self._pid is None:
                raise self._failed(ProcessFailed, "cannot be started: its warden ended")
            if self._code is None:  # the warden was killed, and the program with it
                self._code = -signal.SIGKILL
                with suppress(OSError):
                    os.killpg(self._pid, signal.SIGKILL)

    def _kill_by_warden(self, warden: socket.socket) -> None:
        with suppress(OSError):
            warden.shutdown(socket.SHUT_WR)
        warden.settimeout(KILL_S)
        with suppress(OSError, ConfigError, Unavailable):
            while self._code is None:
                self._take_word()
        warden.close()
        try:
            self._process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_gone(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self._is_over and (self._warden_ended if self._warden is not None else self.code is not None)

    def _next_line(self) -> bytes | None:
        while (end := self._held.find(b"\n", self._searched)) < 0:
            self._searched = len(self._held)
            if self._searched > self._limits.line_bytes:
                self._fail_line()
            if self._is_over:
                return None
            self._pump()
        if end > self._limits.line_bytes:
            self._fail_line()
        line = self._cut(end)
        del self._held[:1]
        return line

    def _fail_line(self) -> None:
        self.kill()
        raise self._failed(TooMuchOutput, f"writes a line of more than {_size(self._limits.line_bytes)}")

    def _cut(self, size: int) -> bytes:
        with memoryview(self._held) as held, held[:size] as wanted:
            part = bytes(wanted)
        del self._held[:size]
        self._searched = 0
        return part

    def _code_in(self) -> int | None:
        """Check once more whether it has ended, reading its output meanwhile."""
        if self.code is None:
            self._pump(LOOK_S if self._warden is not None else END_LOOK_S)
        return self.code

    def _require_success(self) -> None:
        while (code := self._code_in()) is None:
            pass
        if code != 0:
            raise self._ended()

    def _ended(self) -> ProcessFailed:
        """The error that says why its output or input ended."""
        self._require_open()
        until = time.monotonic() + END_S
        while (code := self._code_in()) is None:
            self._held.clear()
            if time.monotonic() > until:
                self.kill()
                return self._failed(TookTooLong, "closed its pipes and does not end")
        self._take(0)
        self.kill()
        return self._ended_with(code)

    def _ended_with(self, code: int) -> Ended:
        return Ended(f"{self.name} ended: {describe_code(code)}", code=code, stderr=self.stderr)

    def _require_open(self) -> None:
        if self._closed:
            raise self._ended_with(self._code if self._code is not None else -signal.SIGKILL)

    def _failed(self, kind: type[ProcessFailed], what: str) -> ProcessFailed:
        return kind(f"{self.name} {what}", stderr=self.stderr)

    def _not_started(self, number: int | None, why: str) -> NotRunnable | ProcessFailed:
        if number in NOT_RUNNABLE:
            return NotRunnable(f"{self.name} cannot be run: {why}")
        return ProcessFailed(f"{self.name} cannot be started now: {why}")


def _family(pid: int, *, with_itself: bool) -> Iterator[int]:
    """The process and its descendants. On Linux the kernel lists the children of a thread, which costs little."""
    if with_itself:
        yield pid
    children: list[bytes] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                children += file.read().split()
    except OSError:  # it has just ended, or this is not Linux
        if sys.platform != "linux":
            with suppress(psutil.Error):
                yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
            return
    for child in children:
        yield from _family(int(child), with_itself=True)


def _size(count: int) -> str:
    return f"{count / 1_000_000:g} MB"
