"""The code that test_sandbox.py has a taken-over parser run: it tries everything, and reports how each attempt ended.

``given`` holds what it may aim at. Outside the sandbox all of it works, but for ``ONLY_INSIDE``.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
given: dict[str, Any]
NUMBERS = {
    "x86_64": {"ptrace": 101, "process_vm_readv": 310, "tgkill": 234, "rt_sigqueueinfo": 129, "unshare": 272},
    "aarch64": {"ptrace": 117, "process_vm_readv": 270, "tgkill": 131, "rt_sigqueueinfo": 138, "unshare": 97},
}[os.uname().machine]
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
FIOSETOWN = 0x8901
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
# Nothing that works outside either, or that would end the one who tries it.
ONLY_INSIDE = {"a program in its place", "a queued signal", "more memory", "more time", "living on"}


def call(name: str, *arguments: int) -> None:
    words = [ctypes.c_long(one) for one in (NUMBERS[name], *arguments)]
    if libc.syscall(*words) == -1:
        raise OSError(ctypes.get_errno(), name)


def prctl(*arguments: int) -> None:
    if libc.prctl(*(ctypes.c_long(one) for one in (*arguments, 0, 0, 0))) == -1:
        raise OSError(ctypes.get_errno(), "prctl")


def read_environment() -> None:
    with open(f"/proc/{parent}/environ", "rb") as file:
        if given["secret"].encode() not in file.read():
            raise OSError(errno.ENOENT, "no secret")


def read_file(path: str) -> None:
    with open(path, "rb") as file:
        file.seek(0)


def write_file(path: str) -> None:
    with open(path, "w") as file:
        file.write("was here")
    os.unlink(path)


def make_folder() -> None:
    os.mkdir(given["new"])
    os.rmdir(given["new"])


def make_link() -> None:
    os.symlink("/etc/passwd", given["new"])
    os.unlink(given["new"])


def rename() -> None:
    os.rename(given["file"], given["new"])
    os.rename(given["new"], given["file"])


def connect(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as line:
        line.settimeout(5)
        line.connect(address)


def run_program() -> None:
    if subprocess.run(["/bin/sh", "-c", "exit 7"], check=False).returncode != 7:
        raise OSError(errno.EPERM, "not run")


def become_program() -> None:
    os.execv("/bin/sh", ["sh", "-c", "echo was here"])


def trace() -> None:
    call("ptrace", PTRACE_SEIZE, parent, 0, 0)


def own_socket() -> None:
    one, _ = socket.socketpair()
    fcntl.ioctl(one, FIOSETOWN, parent.to_bytes(4, "little"))


def fork() -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def start_thread() -> None:
    one = threading.Thread(target=lambda: None)
    one.start()
    one.join()


def raise_limit(which: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (hard, hard + 1))


def become_root() -> None:
    os.setresuid(0, 0, 0)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "the environment of the server": read_environment,
    "the memory of the server": lambda: read_file(f"/proc/{parent}/mem"),
    "its open files": lambda: os.listdir(f"/proc/{parent}/fd"),
    "the key of the vault": lambda: read_file(given["key"]),
    "a file of the system": lambda: read_file("/etc/passwd"),
    "a folder": lambda: os.listdir("/"),
    "a new file": lambda: write_file(given["new"]),
    "a new file in shared memory": lambda: write_file("/dev/shm/airweave-takeover"),
    "a new folder": make_folder,
    "a new link": make_link,
    "another name": rename,
    "another mode": lambda: os.chmod(given["file"], 0o600),
    "TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", given["port"])),
    "UDP": lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", given["port"])),
    "a socket like Postgres'": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, given["socket"]),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "a program": run_program,
    "a program in its place": become_program,
    "tracing": trace,
    "memory of another": lambda: call("process_vm_readv", parent, 0, 0, 0, 0, 0),
    "a signal": lambda: os.kill(parent, 0),
    "a signal to a thread": lambda: call("tgkill", parent, parent, 0),
    "a queued signal": lambda: call("rt_sigqueueinfo", parent, 0, 0),
    "a handle to the server": lambda: os.close(os.pidfd_open(parent)),
    "a pipe that signals": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, parent),
    "a socket that signals": own_socket,
    "limits of the server": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
    "processors of the server": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(0)),
    "priority of the server": lambda: os.setpriority(os.PRIO_PROCESS, parent, 0),
    "a fork": fork,
    "a thread": start_thread,
    "shared memory": lambda: mmap.mmap(-1, 1 << 20).close(),
    "a file in memory": lambda: os.close(os.memfd_create("x")),
    "more memory": lambda: raise_limit(resource.RLIMIT_DATA),
    "more time": lambda: raise_limit(resource.RLIMIT_CPU),
    "being root": become_root,
    "being looked into": lambda: prctl(PR_SET_DUMPABLE, 1),
    "living on": lambda: prctl(PR_SET_PDEATHSIG, 0),
    "namespaces": lambda: call("unshare", 0),
}


def run(aims: dict[str, Any], left_out: set[str]) -> str:
    global given
    given = aims
    ended = {}
    for name, attempt in ATTEMPTS.items():
        if name not in left_out:
            try:
                attempt()
            except (OSError, RuntimeError, ValueError) as error:
                ended[name] = type(error).__name__
            else:
                ended[name] = "worked"
    return json.dumps(ended)
