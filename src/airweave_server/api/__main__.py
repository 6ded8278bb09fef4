"""``python -m airweave_server.api`` prints the description of the API; ``make openapi`` writes it where it is kept."""

import sys

from .app import with_routes
from .openapi import to_text

sys.stdout.write(to_text(with_routes()))
