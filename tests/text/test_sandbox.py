"""What code can do that takes over a parser: nothing. A document brings the code: an e-mail in a character set of the
test, whose decoder, found by Python like any other, runs the body. It tries what takeover.py lists."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

import formats
import takeover
from airweave_server import sandbox
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of it")

SECRET = "the-secret-of-the-server"
EVERYTHING = [sandbox.OWN_USER, sandbox.NOT_DUMPABLE, sandbox.NO_NEW_PRIVILEGES, sandbox.FILTERED]
AS_OURSELVES = ["unshare", "--user", "--map-root-user"]  # a root that can become nobody else
HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")

TAKE_OVER = """
import codecs, ctypes, takeover

def run(body, errors="strict"):
    found = {}
    if len(body) < 10:  # a reader tries whether the codec decodes bytes
        return "", len(body)
    exec(bytes(body), found)
    return found["answer"], len(body)

codecs.register(lambda name: codecs.CodecInfo(None, run, name=name) if name == "hostile" else None)
"""
SERVER = """
import subprocess, sys
from pathlib import Path
from airweave_server.text.parsers import Parsers

if sys.argv[1] == "outside":
    code = Path("code").read_text() + "\\nprint(answer)"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True).stdout.decode())
else:
    parsers = Parsers(seconds=20, memory_mb=400)
    try:
        print(parsers.in_force())
        found = parsers.read([Path("mail").read_bytes()], filename="a.eml", beat=lambda: None)
        print(found.text)
    except Exception as error:
        print(type(error).__name__, error)
    parsers.close()
"""


@pytest.fixture
def aims(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What an attempt may aim at. Every OS user may use all of it, so that only the sandbox is in the way."""
    for name in ("key", "file"):
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o666)
    tmp_path.chmod(0o777)
    at = f"\0airweave-takeover-{os.getpid()}"
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as own:
        server.bind(("127.0.0.1", 0))
        server.listen()
        own.bind(at)
        own.listen()
        paths = {name: str(tmp_path / name) for name in ("key", "file", "new")}
        yield {**paths, "port": server.getsockname()[1], "socket": at, "secret": SECRET}


def serve(folder: Path, where: str, code: str, before: list[str] | None = None) -> list[str]:
    """The lines that a process prints which holds a secret in its environment, and whose parser runs the code."""
    (folder / "sitecustomize.py").write_text(TAKE_OVER)
    (folder / "code").write_text(code)
    mail = EmailMessage()
    mail["Subject"] = "hello"
    mail.set_content(f"{code}\n# not ASCII: é\n", cte="base64")
    mail.set_param("charset", "hostile")
    (folder / "mail").write_bytes(mail.as_bytes())
    path = os.pathsep.join((str(folder), str(Path(takeover.__file__).parent)))
    ended = subprocess.run(
        [*(before or []), sys.executable, "-c", SERVER, where],
        env={**os.environ, "PYTHONPATH": path, "VAULT_KEY": SECRET},
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode().strip().splitlines()


def attempts(aims: dict[str, Any], left_out: set[str]) -> str:
    return f"import takeover\nanswer = takeover.run({aims!r}, {left_out!r})"


def test_code_in_a_parser_can_do_nothing_of_what_it_can_outside(tmp_path: Path, aims: dict[str, Any]) -> None:
    left_out = takeover.ONLY_INSIDE | (set() if os.geteuid() == 0 else {"being root", "tracing"})
    outside = json.loads(serve(tmp_path, "outside", attempts(aims, left_out))[-1])
    assert {name for name, ended in outside.items() if ended != "worked"} == set()
    in_force, *_, answer = serve(tmp_path, "inside", attempts(aims, set()))
    assert in_force == str(EVERYTHING if os.geteuid() == 0 else EVERYTHING[1:])
    inside = json.loads(answer)
    assert set(inside) == set(takeover.ATTEMPTS)
    assert {name for name, ended in inside.items() if ended == "worked"} == set()
    assert Path(aims["file"]).read_text() == SECRET


def test_nor_where_it_runs_as_the_user_of_the_server(tmp_path: Path, aims: dict[str, Any]) -> None:
    if os.geteuid() == 0 and subprocess.run([*AS_OURSELVES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system makes no user namespaces")
    before = AS_OURSELVES if os.geteuid() == 0 else []
    in_force, *_, answer = serve(tmp_path, "inside", attempts(aims, {"being root"}), before)
    assert in_force == str(EVERYTHING[1:])
    assert {name for name, ended in json.loads(answer).items() if ended == "worked"} == set()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines have one table of calls")
def test_calls_of_another_architecture_end_the_parser(tmp_path: Path) -> None:
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # eax = getpid of 32 bits; int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
answer = "it was let through"
"""
    assert serve(tmp_path, "inside", code)[-1].startswith("Unparseable reading it ended the parser (SIG")


def test_a_parser_needs_nothing_more_once_it_is_sealed() -> None:
    """Every character set that Python knows is loaded by then, among what else is: test_extractor_version.py reads each
    format in the sandbox."""
    texts = {
        "euc_kr": "\ud55c\uad6d\uc5b4",
        "cp437": "caf\xe9",
        "utf-7": "\xa3",
        "iso2022_jp_2": "\u65e5\u672c",
        "hz": "\u4f60",
    }
    mails = {}
    for charset, text in texts.items():
        head = f"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n"
        mails[f"{charset}.eml"] = (head + "Content-Transfer-Encoding: 8bit\n\n").encode() + text.encode(charset)
    parsers = Parsers(seconds=20, memory_mb=400)
    found = parsers.read([formats.zipped(mails)], filename="a.zip", beat=lambda: None)
    parsers.close()
    assert isinstance(found, Extracted)
    assert [text for text in texts.values() if text not in found.text] == []


def test_the_filter_names_calls_by_the_numbers_of_the_kernel() -> None:
    headers = [Path(name) for name in HEADERS]
    if not all(header.exists() for header in headers):
        pytest.skip("this system has no headers of the kernel")
    for column, header in enumerate(headers):
        numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
        numbers |= {"newfstatat": numbers.get("newfstatat") or numbers["fstatat"]}
        known = {**sandbox.ALLOWED, **sandbox.REFUSED, **{name: rule[0] for name, rule in sandbox.ALLOWED_IF.items()}}
        found = {name: int(numbers.get(name, sandbox.ABSENT)) for name in known}
        assert found == {name: both[column] for name, both in known.items()}
    for machine in sandbox.ARCHITECTURES:
        assert 100 < len(list(sandbox.assemble(machine, 1))) < 4_096  # the most that the kernel takes
