"""A small process between us and a program. It starts and limits the program, and ends it with all its descendants when
told to, when the program ends, or when we are gone. Run by ``process`` as a script; imports only the standard library.

It has one socket to us. We send one line of JSON that says what to start, and later a byte that asks the program to
end. When we close the socket or are killed, everything is killed. It sends lines of JSON: ``{"pid": …}`` or
``{"errno": …, "error": …}`` at the start, and ``{"code": …}`` when the program has ended.

It has only one thread because PR_SET_PDEATHSIG watches the thread that started a process, not its process.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 1.0  # between two checks that our parent lives; the socket tells sooner, unless a fork holds it open
EMPTY_LOOK_S = 0.05  # between two checks whether a group that was asked to end is empty
KILL_S = 5.0  # within which killed processes must be gone; any that hang in the kernel are left to init
LINUX = sys.platform == "linux"


def main(line: int) -> None:
    """Start the program, and watch it until it has ended or must end."""
    parent = os.getppid()
    woken, wake = os.pipe()
    for end in (woken, wake, line):
        os.set_inheritable(end, False)
        os.set_blocking(end, end == line)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    program = _start(line)
    if program is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # these are for the program, not for us; set after its start, since a child inherits ignored signals
        signal.signal(number, lambda *_: None)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)  # only the program keeps the pipes
    _say(line, {"pid": program.pid})
    with suppress(KeyboardInterrupt):
        _watch(program, line, woken, parent)
    _kill_all(program)
    if program.returncode is not None:
        _say(line, {"code": program.returncode})


def _start(line: int) -> "subprocess.Popen[bytes] | None":
    given = bytearray()
    while not given.endswith(b"\n"):
        part = os.read(line, 1 << 16)
        if not part:
            return None
        given += part
    wanted = json.loads(given)
    if LINUX:
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # descendants that leave the group become ours when their parent ends
    warden = os.getpid()

    def prepare() -> None:
        if LINUX:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != warden:
                os._exit(127)
        for name, most in wanted["rlimits"].items():
            _limit(getattr(resource, name), most)

    try:
        return subprocess.Popen(
            wanted["command"], env=wanted["env"], cwd=wanted["cwd"], start_new_session=True, preexec_fn=prepare
        )
    except OSError as error:
        _say(line, {"errno": error.errno, "error": f"{error.strerror}: {error.filename}"})
    except (ValueError, subprocess.SubprocessError) as error:
        _say(line, {"errno": errno.EINVAL, "error": str(error)})
    return None


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    wanted = most + 1 if what == resource.RLIMIT_CPU else most  # SIGXCPU comes first, and says more than SIGKILL
    hard = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (min(most, hard), hard))


def _watch(program: "subprocess.Popen[bytes]", line: int, woken: int, parent: int) -> None:
    """Return when the program and its descendants must end."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    poll.register(woken, select.POLLIN)
    was_told = False
    while os.getppid() == parent:
        ready = dict(poll.poll((LOOK_S if program.returncode is None else EMPTY_LOOK_S) * 1_000))
        if woken in ready:
            os.read(woken, 1 << 12)
        if line in ready:
            if not _read(line):
                return
            was_told = True
            _signal(program, signal.SIGTERM)
        _reap(program, kills_group=not was_told)
        if program.returncode is not None and (not was_told or not _signal(program, 0)):
            return


def _reap(program: "subprocess.Popen[bytes]", *, kills_group: bool) -> None:
    """Reap ended processes. ``kills_group``: kill the group when the program ends, before its id can be reused."""
    if not LINUX:
        if program.poll() is not None and kills_group:
            _signal(program, signal.SIGKILL)
        return
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid != program.pid:
                os.waitpid(found.si_pid, 0)
                continue
            if kills_group:
                _signal(program, signal.SIGKILL)
            program.wait()


def _kill_all(program: "subprocess.Popen[bytes]") -> None:
    """Kill the group, and on Linux every descendant: orphans of the processes we kill become our children."""
    _signal(program, signal.SIGKILL)
    until = time.monotonic() + KILL_S
    while LINUX and time.monotonic() < until:
        with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)
        _reap(program, kills_group=True)
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.002)
        except ChildProcessError:
            return
    with suppress(subprocess.TimeoutExpired):
        program.wait(max(until - time.monotonic(), 0))


def _signal(program: "subprocess.Popen[bytes]", number: int) -> bool:
    """Send the signal to the group. False if the group is empty."""
    with suppress(OSError):
        os.killpg(program.pid, number)
        return True
    return False


def _read(line: int) -> bytes:
    with suppress(OSError):
        return os.read(line, 1 << 12)
    return b""


def _say(line: int, word: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(line, json.dumps(word).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
