"""The public clients of Airweave, each from its registry and in an environment of its own below the tests' own."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PLACE = Path(sys.prefix) / "clients"
INSTALL_S = 300
RUN_S = 300

PYTHON_SDK = ("airweave-sdk", "0.9.62")
COMMAND_LINE = ("airweave-cli", "0.1.15")
TYPESCRIPT_SDK = ("@airweave/sdk", "0.7.20")
GENERATOR = ("openapi-python-client", "0.29.1")  # makes a client of an OpenAPI description


def python_of(client: tuple[str, str]) -> Path:
    """The Python of an environment in which this package is installed. Skips the test if it cannot be had here."""
    package, version = client
    place = PLACE / f"{package}-{version}"
    python = place / "bin" / "python"
    with _alone(place) as is_there:
        if not is_there:
            _install(client, [sys.executable, "-m", "venv", "--clear", str(place)])
            _install(client, [str(python), "-m", "pip", "install", "--quiet", f"{package}=={version}"])
    return python


def node_modules_of(client: tuple[str, str]) -> Path:
    """The folder of an environment in which this package is installed. Skips the test if it cannot be had here."""
    package, version = client
    place = PLACE / f"npm-{package.strip('@').replace('/', '-')}-{version}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        _give_up(client, "node and npm are not installed")
    with _alone(place) as is_there:
        if not is_there:
            place.mkdir(parents=True, exist_ok=True)
            options = ["--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"]
            _install(client, ["npm", "install", *options, f"{package}@{version}"])
    return place / "node_modules"


def walk(command: list[str], given: dict[str, Any], *, cwd: Path | None = None, **environment: str) -> dict[str, Any]:
    """Run a script of this folder with ``given`` as its standard input, and return the JSON that it writes."""
    done = subprocess.run(
        command,
        input=json.dumps(given),
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


@contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Hold the lock of an environment; true if it is complete. It is complete once the block ends without an error."""
    PLACE.mkdir(exist_ok=True)
    mark = place / ".complete"
    with (PLACE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield mark.exists()
        mark.touch()


def _install(client: tuple[str, str], command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        _give_up(client, f"no answer within {INSTALL_S} s")
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        _give_up(client, " ".join(lines[:2]) or "no reason given")


def _give_up(client: tuple[str, str], reason: str) -> None:
    pytest.skip(f"{client[0]} {client[1]} cannot be had from its registry here: {reason}")
