"""``python -m airweave_server`` is the command ``airweave-server``."""

from .cli import main

main()
