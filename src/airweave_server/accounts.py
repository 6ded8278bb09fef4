"""OS users without rights, made once, for what root should not run."""

import os
import pwd
import shutil
import subprocess
import time
from contextlib import suppress

from .errors import Unstartable

TRIES = 20  # another start may have locked the password file
PAUSE_S = 0.1
COMMAND_S = 60.0


def ensure(name: str) -> tuple[pwd.struct_passwd, bool]:
    """The OS user of this name, and whether it was made just now. Needs root. Raises ``Unstartable`` if it cannot be
    made."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    program = shutil.which("useradd", path=path)
    options = ("--system", "--user-group", "--no-create-home", "--shell=/usr/sbin/nologin")
    why, made = "there is no useradd here", False
    for _ in range(TRIES):
        with suppress(KeyError):
            return pwd.getpwnam(name), made
        if program is None:
            break
        command = [program, *options, name]
        with suppress(OSError, subprocess.TimeoutExpired):
            ended = subprocess.run(
                command, env={"PATH": path, "LC_ALL": "C"}, capture_output=True, timeout=COMMAND_S, check=False
            )
            made = ended.returncode == 0
            why = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2] or why
        if not made:
            time.sleep(PAUSE_S)
    raise Unstartable(f"cannot create the OS user {name} ({why})")
