"""Processes of ours: started, started again when they die, and ended with us, however we end."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import structlog

BACKOFF_S = (0.5, 30.0)
STEADY_S = 60.0  # a child that lived this long begins its backoff anew
PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


class Child:
    """One process, watched by a thread. It reads its standard input to the end to know when we are gone."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], *, grace_s: float) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name=f"child-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def shown(self) -> dict[str, Any]:
        process = self._process
        is_up = process is not None and process.poll() is None
        return {"up": is_up, "pid": process.pid if process and is_up else None, "restarts": self._restarts}

    def start_no_more(self) -> None:
        """Should it end from now on, it is meant to."""
        self._stopping.set()

    def ask_to_end(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has ended; it is killed when its time is over."""
        process = self._process
        if process is not None:
            try:
                process.wait(self._grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(self._grace_s)

    def _keep_up(self) -> None:
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
    """How this program starts itself; recognisable in a list of processes as ``airweave-server VERB``."""
    script = Path(sys.executable).parent / "airweave-server"
    return [sys.executable, *([str(script)] if script.is_file() else ["-m", "airweave_server"]), verb, "--with-parent"]


def end_with_parent() -> None:
    """Ask this process to end once its standard input is closed: who started it is gone."""

    def read() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, name="watch-parent", daemon=True).start()


def run_until_told(arguments: list[str], *, grace_s: float) -> int:
    """Run a program in the foreground until it ends, or SIGTERM or SIGINT ends it; returns its exit code, 0 when it
    was told to. On Linux it does not outlive us even if we are killed."""
    # what it prints at its start, we say ourselves
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    told = threading.Event()

    def end(*_: object) -> None:
        told.set()
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    while True:
        try:
            was_told = told.is_set()
            code = process.wait(grace_s if was_told else 1.0)
        except subprocess.TimeoutExpired:
            if was_told:
                process.kill()
            continue
        return 0 if told.is_set() else code


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
