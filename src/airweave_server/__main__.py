"""``python -m airweave_server`` is the command ``airweave-server``."""

from .commands.main import main

main()
