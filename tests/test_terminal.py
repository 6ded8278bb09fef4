"""Nothing that comes from elsewhere controls the terminal it is shown on, or forges a line there."""

import ast
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import airweave_server
from airweave_server.terminal import visible
from running import Running

COMMANDS = Path(airweave_server.__file__).parent / "commands"
PRINTER = "common.py"  # through which everything goes
WRITES = {"print", "input", "echo", "secho", "prompt", "confirm", "getpass", "print_json", "write", "log", "render"}
OF_CONSOLES = {"rich.console", "rich.markup", "rich.text", "getpass", "click"}
TITLE, CLEAR, FORGED = "\x1b]0;owned\x07", "\x1b[2J\x9b2J", "\nairweave-server: all is well"
HOSTILE = f"a{TITLE}b{CLEAR}c{FORGED}\u202egnp.exe\u2066"


@pytest.mark.parametrize(
    ("text", "shown", "shown_with_lines"),
    [
        ("plain, ünïcode, 日本 and 😀\u200d", None, None),
        (TITLE, r"\x1b]0;owned\x07", None),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00", None),
        ("a\nb\tc\r\n", r"a\nb\tc\r\n", "a\nb\tc\\r\n"),
        ("\u202ea\u2066b\u200fc", r"\u202ea\u2066b\u200fc", None),
        ("a\u2028b\x85c", r"a\u2028b\x85c", None),
        ("\udc9b2J", r"\udc9b2J", None),
    ],
)
def test_controls_are_shown_as_escapes(text: str, shown: str | None, shown_with_lines: str | None) -> None:
    shown = text if shown is None else shown
    assert visible(text) == shown
    assert visible(text, lines=True) == (shown if shown_with_lines is None else shown_with_lines)


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.name)
def test_no_command_writes_to_the_terminal_but_through_common(path: Path) -> None:
    if path.name == PRINTER:
        return
    allowed = {"confirm", "ask_secret", "file.write", "backups.write"}
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.rpartition(".")[2] in WRITES and called not in allowed:
                wrong.append(f"{node.lineno}: {called}")
        elif isinstance(node, ast.ImportFrom):
            wrong += [f"{node.lineno}: from {node.module}"] if node.module in OF_CONSOLES else []
            names = {alias.name for alias in node.names} & {"TextColumn", "Table", "Console", "out", "err"}
            is_bar = names == {"out"} and "console=out" in path.read_text()  # of the progress bars
            wrong += [f"{node.lineno}: {names}"] if names and not is_bar else []
    assert wrong == []


def on_terminal(running: Running, *arguments: str, **more: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "airweave_server", *arguments],
        env={**running.environment(**more), "TERM": "xterm", "COLUMNS": "400"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 1 << 16):
            said += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(60)
    return said.decode()


def controls(said: str) -> list[str]:
    """What in it would have come from elsewhere."""
    return [
        one for one in (TITLE, "\x1b[2J", "\x9b", "\nairweave-server: all is well", "\u202e", "\u2066") if one in said
    ]


def test_no_command_obeys_what_names_and_texts_say(running: Running) -> None:
    server = running.start()
    folder = server.folder()
    (folder / f"{HOSTILE.replace('/', '')}.md").write_text(f"# Zebra\n\nzebra {TITLE}{CLEAR} text\u202e\n")
    (folder / f"broken{CLEAR}.pdf").write_bytes(b"%PDF-1.4\nnothing")
    key = {"API_URL": server.url}
    first = on_terminal(running, "add", str(folder), "--collection", "zoo", "--name", "animals", **key)
    assert "completed" in first
    said: dict[str, Any] = {"add": first}
    said["preview"] = on_terminal(running, "preview", str(folder), "--collection", "zoo", **key)
    said["search"] = on_terminal(running, "search", "zebra", "--collection", "zoo", **key)
    said["status"] = on_terminal(running, "status", **key)
    said["sync"] = on_terminal(running, "sync", HOSTILE, **key)
    said["argument"] = on_terminal(running, "sync", "animals", HOSTILE, **key)  # as a glob of the shell gives it
    said["option"] = on_terminal(running, f"--{HOSTILE}", **key)
    said["restore"] = on_terminal(running, "restore", f"/nowhere/{HOSTILE}")
    said["setting"] = on_terminal(running, "doctor", EMBEDDER=HOSTILE)
    assert r"\x1b]0;owned\x07" in said["search"]
    assert r"\x1b[2J" in said["preview"]
    assert r"\x1b]0;owned\x07" in said["argument"]
    assert {name: controls(text) for name, text in said.items() if controls(text)} == {}


def test_nor_do_logs_on_a_terminal() -> None:
    code = (
        "import structlog, logging; from airweave_server import log; log.configure(style='console', to='stdout'); "
        f"text = {HOSTILE!r}; one = structlog.get_logger('x'); one.info(text, name=text, names=[text]); "
        "logging.getLogger('other').warning(text)\n"
        "try: raise ValueError(text)\nexcept ValueError: one.exception('failed')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count(r"x1b]0;owned\x07") + said.count(r"x1b]0;owned\\x07") == 5
    assert "Traceback" in said
    left = [one for one in controls(said) if one != "\nairweave-server: all is well"]
    assert left == []
