"""Child processes: started, restarted when they die, and ended with their parent, however it ends."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import structlog

BACKOFF_S = (0.5, 30.0)  # the first pause and the longest
STEADY_S = 60.0  # a child that lived this long starts again at the shortest backoff
PR_SET_PDEATHSIG = 1
# What any program may need to find its files, its language and its libraries; nothing of it is secret.
SYSTEM_VARIABLES = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.+|TZ|TMPDIR|XDG_.+|LD_.+|DYLD_.+|VIRTUAL_ENV|PYTHON.+|SSL_CERT_(FILE|DIR)"
)

log = structlog.get_logger(__name__)


class Child:
    """One process, watched by a thread. It must end when its standard input is closed: then its parent is gone."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], *, grace_s: float) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=f"child-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def to_wire(self) -> dict[str, Any]:
        """Its state, as /health shows it."""
        process = self._process
        is_up = process is not None and process.poll() is None
        return {"up": is_up, "pid": process.pid if process and is_up else None, "restarts": self._restarts}

    def stop_restarting(self) -> None:
        """Do not restart the process when it ends."""
        self._stopping.set()

    def terminate(self) -> None:
        """Send it SIGTERM; returns at once."""
        self._stopping.set()
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the process has ended. It is killed after ``grace_s``."""
        process = self._process
        if process is not None:
            try:
                process.wait(self._grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(self._grace_s)

    def _keep_running(self) -> None:
        pause_s = BACKOFF_S[0]
        while not self._stopping.is_set():
            began_at = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.PIPE, start_new_session=True
                )
            code = self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            if self._stopping.is_set():
                return
            if time.monotonic() - began_at > STEADY_S:
                pause_s = BACKOFF_S[0]
            self._restarts += 1
            log.warning("child_ended", child=self.name, code=code, again_in_s=pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_S[1])


def command(verb: str) -> list[str]:
    """The command by which this program starts itself; process lists show it as ``airweave-server VERB``."""
    script = Path(sys.executable).parent / "airweave-server"
    return [sys.executable, *([str(script)] if script.is_file() else ["-m", "airweave_server"]), verb, "--with-parent"]


def end_with_parent() -> None:
    """Terminate this process when its standard input is closed, which means that its parent is gone."""

    def read() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, name="watch-parent", daemon=True).start()


def system_variables() -> dict[str, str]:
    """The variables of this process's environment that are not its own business."""
    return {name: value for name, value in os.environ.items() if SYSTEM_VARIABLES.fullmatch(name)}


def run_in_foreground(arguments: list[str], *, grace_s: float) -> int:
    """Run a program until it ends or this process gets SIGTERM or SIGINT, and return its exit code, or 0 after such a
    signal. ``grace_s`` seconds after the signal it is killed. On Linux it does not outlive us even if we are killed.

    It is given ``system_variables`` alone, and what it writes can be read by its OS user alone.
    """
    # its output is discarded: we report its addresses ourselves
    process = subprocess.Popen(
        arguments,
        env=system_variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        umask=0o077,
        preexec_fn=_die_with_parent,
    )
    stopping = threading.Event()

    def end(*_: object) -> None:
        stopping.set()
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    while True:
        try:
            is_stopping = stopping.is_set()
            code = process.wait(grace_s if is_stopping else 1.0)
        except subprocess.TimeoutExpired:
            if is_stopping:
                process.kill()
            continue
        return 0 if stopping.is_set() else code


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
