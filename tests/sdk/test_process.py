"""Real programs with real signals: what they may take, how they end, and that nothing of them is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airweave_server.sdk import ConfigError, Stalled, Stopped, Unavailable
from airweave_server.sdk.process import (
    STDERR_BYTES,
    Ended,
    Limits,
    NotRunnable,
    Process,
    ProcessFailed,
    TookTooLong,
    TooMuchMemory,
    TooMuchOutput,
)

MB = 1_000_000
FREE = Limits(seconds=60, memory_bytes=None, output_bytes=None)
ENV = {"PATH": "/usr/bin:/bin"}
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells no death of a parent")

FORKS = """
import os, signal, sys, time
if "ignore" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
read, write = os.pipe()
if not os.fork():
    if "session" in sys.argv:
        os.setsid()
    grandchild = os.fork()
    if grandchild:
        os.write(write, b"%d %d" % (os.getpid(), grandchild))
    time.sleep(600)
print(os.getpid(), os.read(read, 100).decode(), flush=True)
if "leave" not in sys.argv:
    time.sleep(600)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def until(done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def family(process: Process) -> list[int]:
    pids = [int(pid) for pid in process.read_line().split()]
    assert len(pids) == 3
    assert all(map(lives, pids))
    return pids


@pytest.mark.parametrize("with_warden", [True, False])
def test_a_program_is_given_its_arguments_its_environment_and_nothing_else(
    with_warden: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VAULT_KEY", "hush")
    folder = tmp_path / "a folder"
    folder.mkdir()
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environb and os.environ), os.getcwd()]))"
    odd = ["two words", "$HOME `id`", "", "ü\udcff", "new\nline"]
    given = ENV | {"LC_ALL": "C.UTF-8", "NAME": "a b=c"}
    with Process(python(code, *odd), limits=FREE, env=given, cwd=folder, with_warden=with_warden) as process:
        arguments, environment, place = json.loads(process.read())
    assert (arguments, environment, place) == (odd, given, str(folder))


def test_a_program_inherits_no_open_file_of_ours() -> None:
    with open(os.devnull) as held:
        os.set_inheritable(held.fileno(), True)
        with Process(python("import os; print(os.listdir('/dev/fd'))"), limits=FREE, env=ENV) as process:
            assert len(eval(process.read())) == 4  # the three, and the listing itself


def test_lines_are_read_as_they_come_and_what_is_written_arrives() -> None:
    with Process(["cat"], limits=FREE, env=ENV) as process:
        for line in (b"one", b"", b"x" * 200_000):
            process.write(line + b"\n")
            assert process.read_line() == line
        process.write(b"four bytes\nand\nno end")
        assert process.read_exactly(4) == b"four"
        process.end_input()
        assert list(process.lines()) == [b" bytes", b"and", b"no end"]
        assert process.code == 0


def test_much_is_written_while_much_is_read() -> None:
    data = b"0123456789abcde\n" * 500_000
    with Process(["cat"], limits=FREE, env=ENV) as process:
        process.write(data)
        process.end_input()
        assert process.read() == data


def test_a_program_that_writes_and_never_reads_its_input_is_bounded() -> None:
    limits = Limits(seconds=60, memory_bytes=None, output_bytes=None, line_bytes=MB)
    with Process(["yes"], limits=limits, env=ENV) as process, pytest.raises(TooMuchOutput, match="has read its input"):
        process.write(b"x" * MB)


@pytest.mark.parametrize("with_warden", [True, False])
def test_a_program_that_fails_ends_no_read_quietly(with_warden: bool) -> None:
    fails = ["sh", "-c", "echo one; echo two; printf cut; echo why >&2; exit 3"]  # "cut" is no line
    with Process(fails, limits=FREE, env=ENV, with_warden=with_warden) as process:
        lines = process.lines()
        assert [next(lines), next(lines)] == [b"one", b"two"]
        with pytest.raises(Ended, match=r"^sh ended: exit code 3$") as failed:
            next(lines)
        assert (failed.value.code, failed.value.how, failed.value.stderr) == (3, "exit code 3", "why\n")
    with (
        Process(fails, limits=FREE, env=ENV, with_warden=with_warden) as process,
        pytest.raises(Ended, match="exit code 3"),
    ):
        process.read()
    with Process(fails, limits=FREE, env=ENV, with_warden=with_warden) as process:
        assert process.wait() == 3
    killed = ["sh", "-c", "kill -SEGV $$"]
    with (
        Process(killed, limits=FREE, env=ENV, with_warden=with_warden) as process,
        pytest.raises(Ended, match="SIGSEGV"),
    ):
        process.read_line()
    with Process(["true"], limits=FREE, env=ENV, with_warden=with_warden) as process:
        with pytest.raises(Ended, match="exit code 0"):  # the line that was asked for never came
            process.read_line()
        with pytest.raises(Ended, match="exit code 0"):
            process.read_line()
    with Process(["true"], limits=FREE, env=ENV, with_warden=with_warden) as process, pytest.raises(Ended):
        process.write(b"x" * MB)


@pytest.mark.parametrize("with_warden", [True, False])
def test_a_program_that_cannot_be_run_is_a_matter_for_a_person(with_warden: bool, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    for command in (["no-such-program", "canary"], [str(tmp_path / "plain")], [str(tmp_path)], ["a\0b"]):
        with pytest.raises((NotRunnable, ValueError) if not with_warden else NotRunnable) as failed:
            Process(command, limits=FREE, env=ENV, with_warden=with_warden)
        assert "canary" not in str(failed.value)
    with pytest.raises(NotRunnable, match="nowhere"):
        Process(["true"], limits=FREE, env=ENV, cwd=tmp_path / "nowhere", with_warden=with_warden)
    assert issubclass(NotRunnable, ConfigError)
    assert issubclass(ProcessFailed, Unavailable)
    assert issubclass(TookTooLong, Stalled)


def test_stop_ends_a_program_and_its_descendants() -> None:
    with Process(python(FORKS), limits=FREE, env=ENV) as process:
        pids = family(process)
        assert pids[0] == process.pid
        process.stop()
        assert not any(map(lives, pids))
        assert process.code == -signal.SIGTERM
        process.stop()  # may be called again


def test_who_ignores_sigterm_is_killed_after_the_grace() -> None:
    with Process(python(FORKS, "ignore"), limits=FREE, env=ENV) as process:
        pids = family(process)
        began_at = time.monotonic()
        process.stop(grace_s=0.5)
        assert 0.5 <= time.monotonic() - began_at < 5
        assert not any(map(lives, pids))
        assert process.code == -signal.SIGKILL


def test_the_grace_is_for_the_whole_group_and_no_longer_than_needed(tmp_path: Path) -> None:
    place = tmp_path / "flushed"
    works = f"trap 'sleep 0.5; echo > {place}; exit' TERM; echo up; while :; do sleep 0.05; done"
    with Process(["sh", "-c", f"({works}) & wait"], limits=FREE, env=ENV) as process:
        process.read_line()
        process.stop(grace_s=30)  # the shell in front ends at once
        assert place.exists()
    began_at = time.monotonic()
    Process(["sleep", "600"], limits=FREE, env=ENV).stop(grace_s=30)
    assert time.monotonic() - began_at < 10


@pytest.mark.parametrize("with_warden", [True, False])
def test_what_a_program_leaves_behind_ends_with_it(with_warden: bool) -> None:
    with Process(python(FORKS, "leave"), limits=FREE, env=ENV, with_warden=with_warden) as process:
        pids = [int(pid) for pid in process.read_line().split()]
        assert process.read() == b""  # although they hold the pipe open
        until(lambda: not any(map(lives, pids)))


@LINUX_ONLY
@pytest.mark.parametrize("how", ["stop", "end"])
def test_who_leaves_the_group_does_not_get_away(how: str) -> None:
    arguments = ["session", "leave"] if how == "end" else ["session"]
    with Process(python(FORKS, *arguments), limits=FREE, env=ENV) as process:
        pids = [int(pid) for pid in process.read_line().split()]
        if how == "end":
            assert process.read() == b""
        else:
            assert all(map(lives, pids))
            process.stop()
        until(lambda: not any(map(lives, pids)))


@pytest.mark.parametrize("with_warden", [True, False])
def test_time_ends_a_program_that_sleeps_and_one_that_writes(with_warden: bool) -> None:
    limits = Limits(seconds=0.5, memory_bytes=None, output_bytes=None)
    for command in (["sleep", "600"], ["yes"]):
        began_at = time.monotonic()
        with Process(command, limits=limits, env=ENV, with_warden=with_warden) as process:
            pid = process.pid
            with pytest.raises(TookTooLong, match=r"takes more than 0\.5 s"):
                list(process.lines())
            assert not lives(pid)
        assert time.monotonic() - began_at < 10


def test_renewed_time_is_for_the_next_answer() -> None:
    limits = Limits(seconds=600, memory_bytes=None, output_bytes=10)
    with Process(["cat"], limits=limits, env=ENV) as process:
        for _ in range(5):
            process.renew(30)
            process.write(b"12345678\n")
            assert process.read_line() == b"12345678"
        process.renew(0.3)
        with pytest.raises(TookTooLong, match=r"0\.3 s"):
            process.read_line()


@pytest.mark.parametrize("child", [False, True])
def test_memory_of_a_program_and_of_its_child_is_bounded(child: bool) -> None:
    grows = "held = []\nwhile True: held.append(bytearray(b'x') * 1_000_000)"
    if child:
        grows = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {grows!r}])"
    limits = Limits(seconds=60, memory_bytes=200 * MB, output_bytes=None, data_bytes=4_000 * MB)
    with (
        Process(python(grows), limits=limits, env=ENV) as process,
        pytest.raises(TooMuchMemory, match="more than 200 MB of memory"),
    ):
        process.read_line()


def test_the_kernel_holds_the_limits_of_a_program_that_does_not_limit_itself(tmp_path: Path) -> None:
    limits = Limits(
        seconds=60, memory_bytes=None, output_bytes=None, cpu_s=1, data_bytes=100 * MB, file_bytes=MB, open_files=20
    )

    def run(code: str) -> str:
        with Process(python(code), limits=limits, env=ENV, cwd=tmp_path) as process:
            process.wait()
            return f"{process.code} {process.stderr}"

    assert run("while True: pass").split()[0] == str(-signal.SIGXCPU)
    assert "File too large" in run("f = open('a', 'wb'); f.write(bytes(2_000_000)); f.close()")
    assert "Too many open files" in run("held = [open('/dev/null') for _ in range(30)]")
    if sys.platform == "linux":
        assert "MemoryError" in run("bytearray(200_000_000)")
    with pytest.raises(ValueError, match="need a warden"):
        Process(["true"], limits=limits, env=ENV, with_warden=False)


@pytest.mark.parametrize("with_warden", [True, False])
def test_output_is_bounded_by_line_and_in_all(with_warden: bool) -> None:
    limits = Limits(seconds=60, memory_bytes=None, output_bytes=5 * MB, line_bytes=2 * MB)
    with (
        Process(["cat", "/dev/zero"], limits=limits, env=ENV, with_warden=with_warden) as process,
        pytest.raises(TooMuchOutput, match="a line of more than 2 MB"),
    ):
        process.read_line()
    with (
        Process(["yes"], limits=limits, env=ENV, with_warden=with_warden) as process,
        pytest.raises(TooMuchOutput, match="writes more than 5 MB"),
    ):
        process.wait()
    with (
        Process(["yes"], limits=limits, env=ENV, with_warden=with_warden) as process,
        pytest.raises(TooMuchOutput, match="writes more than 5 MB"),
    ):
        process.read()


def test_a_flood_on_stderr_blocks_nobody_and_its_end_is_kept() -> None:
    floods = "import os\nfor n in range(200): os.write(2, b'%09d\\n' % n * 5_000)\nprint('done'); raise SystemExit(1)"
    with Process(python(floods), limits=FREE, env=ENV) as process:
        assert process.read_line() == b"done"
        with pytest.raises(Ended) as failed:
            list(process.lines())
    assert len(failed.value.stderr) == STDERR_BYTES
    assert failed.value.stderr.endswith("000000199\n")
    assert "000000199" not in str(failed.value)


@pytest.mark.parametrize("with_warden", [True, False])
def test_a_beat_that_raises_ends_the_group(with_warden: bool) -> None:
    beats: list[float] = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) > 3:
            raise Stopped("asked to stop")

    with Process(python(FORKS), limits=FREE, env=ENV, with_warden=with_warden) as process:
        pids = family(process)
        process.beat = beat
        with pytest.raises(Stopped):
            process.read_line()
        until(lambda: not any(map(lives, pids)))
    assert beats[-1] - beats[0] < 5


def test_a_program_lives_on_when_the_thread_that_started_it_ends() -> None:
    started: list[Process] = []
    thread = threading.Thread(target=lambda: started.append(Process(["cat"], limits=FREE, env=ENV)))
    thread.start()
    thread.join()
    with started[0] as process:
        time.sleep(0.5)  # for a signal that must not come
        process.write(b"still here\n")
        assert process.read_line() == b"still here"


@LINUX_ONLY
@pytest.mark.parametrize("victim", ["us", "warden"])
def test_nothing_outlives_us_or_the_warden_when_that_is_killed(victim: str) -> None:
    starts = f"""
import sys, threading
from airweave_server.sdk.process import Limits, Process
limits = Limits(seconds=600, memory_bytes=None, output_bytes=None)
process = Process([sys.executable, "-I", "-S", "-c", {FORKS!r}, "ignore"], limits=limits, env={{}})
print(process.read_line().decode(), process._process.pid, flush=True)
print(process.wait(), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as us:
        assert us.stdout is not None
        *pids, warden = map(int, us.stdout.readline().split())
        assert all(map(lives, [*pids, warden]))
        assert len(pids) == 3
        os.kill(us.pid if victim == "us" else warden, signal.SIGKILL)
        until(lambda: not any(map(lives, [*pids, warden])), 10)
        if victim == "warden":
            assert us.stdout.readline() == f"{-signal.SIGKILL}\n"


@pytest.mark.parametrize("with_warden", [True, False])
def test_many_runs_leave_no_process_and_no_open_file(with_warden: bool) -> None:
    def left() -> tuple[int, list[int]]:
        us = psutil.Process()
        return us.num_fds(), [child.pid for child in us.children()]

    def run(number: int) -> None:
        short = Limits(seconds=0.1 if number % 5 == 4 else 60, memory_bytes=None, output_bytes=None)
        with contextlib.suppress(ProcessFailed, NotRunnable):
            command = [["true"], ["false"], ["sleep", "600"], ["nowhere"], ["sleep", "600"]][number % 5]
            with Process(command, limits=short, env=ENV, with_warden=with_warden) as process:
                if number % 5 != 2:
                    process.read()

    run(0)
    before = left()
    for number in range(20):
        run(number)
    assert left() == before
