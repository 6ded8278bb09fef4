"""Separate virtual environments for the peers and for creating the corpus. This project does not depend on them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .server import Unfit

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".scratch"
INSTALL_S, ASK_S = 1_200.0, 60.0
VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


def install(name: str, pins: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Create the environment unless it exists with the pinned versions. Raises ``Unfit`` if it cannot be created."""
    if _versions(name, pins) == pins:
        return
    say(f"installing {name} for itself")
    run([sys.executable, "-m", "venv", ENVIRONMENTS / f"venv-{name}"], INSTALL_S, "making a virtual environment")
    wanted = [f"{package}=={pin}" for package, pin in pins.items()]
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run([python(name), *pip, *wanted], INSTALL_S, f"pip install {' '.join(wanted)}")
    if _versions(name, pins) != pins:
        raise Unfit("other versions than the pinned ones were installed")


def python(name: str) -> Path:
    """The interpreter of the environment."""
    return ENVIRONMENTS / f"venv-{name}" / "bin" / "python"


def run(command: Sequence[str | Path], limit_s: float, what: str) -> str:
    """Run a command, end all its processes, and return its output. Raises ``Unfit`` with its last line of errors."""
    environment = os.environ | {"COCOINDEX_DISABLE_USAGE_TRACKING": "1", "PYTHONWARNINGS": "ignore"}
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Unfit(f"{what}: not done after {limit_s:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.returncode:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
        raise Unfit(f"{what}: {last.replace(str(HERE), '')[:200]}")
    return output


def _versions(name: str, pins: Mapping[str, str]) -> dict[str, str] | None:
    with suppress(Unfit, OSError):
        found: dict[str, str] = json.loads(run([python(name), "-c", VERSIONS, *pins], ASK_S, ""))
        return found
    return None
