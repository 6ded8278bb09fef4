"""What this process gives up for good: rights, system calls, and being looked into by other processes of its OS user.

``seal`` is for a process that reads hostile bytes, once it has loaded everything it will ever need. From then on it may
compute, use the files and pipes that are open, and end; what it may not do is what ``ALLOWED`` leaves out: open a file,
reach a network or a socket, start a program, a process or a thread, signal or trace anyone, or map shared memory.

The filter is a BPF program of seccomp, assembled here: libseccomp is a library of the system that slim images lack, and
its Python bindings add a dependency without wheels for a table of this size. The program is described in the kernel's
Documentation/userspace-api/seccomp_filter.rst, the numbers are those of its asm/unistd.h.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
PR_SET_NAME, PR_SET_VMA = 15, 0x53564D41  # of a thread, and of a memory area
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
BPF_LOAD, BPF_AND, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x54, 0x15, 0x06
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16  # in struct seccomp_data; an argument has 8 bytes

# AUDIT_ARCH_… of the machines whose numbers are known; each is little-endian
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
ABSENT = -1
# What a sealed process may call: its number on x86_64 and on aarch64.
ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "lseek": (8, 62),
    "futex": (202, 98),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    "sched_yield": (24, 124),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "close": (3, 57),
    "dup": (32, 23),
    "fstat": (5, 80),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "poll": (7, ABSENT),
    "ppoll": (271, 73),
    "select": (23, ABSENT),
    "pselect6": (270, 72),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, ABSENT),
    "epoll_pwait": (281, 22),
    "recvmsg": (47, 212),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "times": (100, 153),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getcpu": (309, 168),
    "sched_getaffinity": (204, 123),
    "membarrier": (324, 283),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# What is allowed only with certain values of one argument: numbers, the argument, the bits that are compared, and the
# values. ``None`` stands for the process itself.
ALLOWED_IF: dict[str, tuple[tuple[int, int], int, int, tuple[int | None, ...]]] = {
    "mmap": ((9, 222), 3, 0x0F, (0x02,)),  # MAP_PRIVATE: no limit counts shared memory
    "newfstatat": ((262, 79), 3, 0x1000, (0x1000,)),  # AT_EMPTY_PATH: how the C library looks at an open file
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; with F_SETOWN it could send signals
    "fcntl": ((72, 25), 1, 0xFFFF_FFFF, (0, 1, 2, 3, 4, 1030)),
    "ioctl": (
        (16, 29),
        1,
        0xFFFF_FFFF,
        (0x5401, 0x5421, 0x541B, 0x5450, 0x5451),
    ),  # TCGETS, FIONBIO, FIONREAD, FIO(N)CLEX
    "prlimit64": ((302, 261), 0, 0xFFFF_FFFF, (0, None)),
    "prctl": ((157, 167), 0, 0xFFFF_FFFF, (PR_SET_NAME, PR_SET_VMA)),
    "tgkill": ((234, 131), 0, 0xFFFF_FFFF, (None,)),  # how a process aborts
}
# Refused with EACCES, which programs expect; the rest with ENOSYS, for which the C library has other ways.
REFUSED = {
    "openat": (257, 56),
    "open": (2, ABSENT),
    "access": (21, ABSENT),
    "faccessat": (269, 48),
    "stat": (4, ABSENT),
}

NOT_DUMPABLE, NO_NEW_PRIVILEGES, OWN_USER, FILTERED = "not dumpable", "no new privileges", "own user", "filtered"


def hide() -> bool:
    """Keep other processes of this OS user from reading this one's memory and environment, and the kernel from writing
    core dumps of it. A program that it starts is not hidden. False where the system has no such thing (macOS)."""
    with suppress(OSError):
        _prctl(PR_SET_DUMPABLE, 0)
        return True
    return False


def seal(user: tuple[int, int] | None = None) -> list[str]:
    """Give up every right that reading open files does not need, for all threads of this process. Cannot be undone.

    ``user``: the numbers of an OS user and its group to become, if we are root. Returns what is now in force, of
    ``OWN_USER``, ``NOT_DUMPABLE``, ``NO_NEW_PRIVILEGES`` and ``FILTERED``. Everything is in force on Linux on x86_64
    and aarch64; on other systems only what they have.
    """
    in_force = []
    with suppress(OSError):  # a container may lack this user
        if user is not None:
            os.setgroups([])
            os.setresgid(user[1], user[1], user[1])
            os.setresuid(user[0], user[0], user[0])
            in_force.append(OWN_USER)
    if hide():
        in_force.append(NOT_DUMPABLE)
    with suppress(OSError):
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        in_force.append(NO_NEW_PRIVILEGES)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no process, nor on Linux a thread, where the filter is missing
    with suppress(OSError):
        _filter_calls()
        in_force.append(FILTERED)
    return in_force


def _filter_calls() -> None:
    number_of_seccomp = {"x86_64": 317, "aarch64": 277}.get(platform.machine())
    if sys.platform != "linux" or number_of_seccomp is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, "no filter for this system")
    instructions = b"".join(assemble(platform.machine(), os.getpid()))
    code = ctypes.create_string_buffer(instructions)
    program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.addressof(program))
    if libc.syscall(*(ctypes.c_long(word) for word in (number_of_seccomp, *arguments))) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


def assemble(machine: str, pid: int) -> Iterator[bytes]:
    """The filter, one instruction after the other."""
    column = list(ARCHITECTURES).index(machine)
    allow, refuse = _return(SECCOMP_RET_ALLOW), _return(SECCOMP_RET_ERRNO | errno.EACCES)
    yield _instruction(BPF_LOAD, AT_ARCHITECTURE)
    yield _instruction(BPF_JUMP_IF_EQUAL, ARCHITECTURES[machine], 1, 0)
    yield _return(SECCOMP_RET_KILL_PROCESS)  # the calls of another architecture have other numbers
    yield _instruction(BPF_LOAD, AT_NUMBER)
    for numbers, verdict in (*((one, allow) for one in ALLOWED.values()), *((one, refuse) for one in REFUSED.values())):
        if numbers[column] != ABSENT:
            yield _instruction(BPF_JUMP_IF_EQUAL, numbers[column], 0, 1)
            yield verdict
    for numbers, argument, bits, values in ALLOWED_IF.values():
        yield _instruction(BPF_JUMP_IF_EQUAL, numbers[column], 0, 3 + 2 * len(values))
        yield _instruction(BPF_LOAD, AT_ARGUMENTS + 8 * argument)  # its lower half, in which all of these stand
        yield _instruction(BPF_AND, bits)
        for value in values:
            yield _instruction(BPF_JUMP_IF_EQUAL, pid if value is None else value, 0, 1)
            yield allow
        yield refuse
    yield _return(SECCOMP_RET_ERRNO | errno.ENOSYS)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _return(verdict: int) -> bytes:
    return _instruction(BPF_RETURN, verdict)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no prctl")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(word) for word in (value, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
