"""A process that reads a connection as a step of a job does, each time it is sent a line: ``renewing.py CONNECTION``.

It says ``ready``, and after each read how many entities it met, or what went wrong.
"""

import sys
from uuid import UUID

from airweave_server import log
from airweave_server.db.models import SourceConnection
from airweave_server.installation import database_url, open_database, open_vault
from airweave_server.sdk import Entity
from airweave_server.settings import Settings
from airweave_server.sync.connector import Connectors
from airweave_server.sync.signals import Signals


def main(connection_id: UUID) -> None:
    """Read until standard input ends."""
    settings = Settings()
    log.configure(level=settings.log_level)
    with open_database(database_url(settings)) as database:
        connectors = Connectors(database, open_vault(settings), settings)
        with database.session() as session:
            connection = session.get_one(SourceConnection, connection_id)
        made = connectors.load(connection)
        say("ready")
        for _ in sys.stdin:
            try:
                with connectors.reading(made, connection, Signals()) as source:
                    parts = list(source.partitions())
                    say(str(sum(isinstance(item, Entity) for part in parts for item in source.read(part, None))))
            except Exception as error:
                say(f"{type(error).__name__}: {error}")


def say(line: str) -> None:
    """Tell whoever started us."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(UUID(sys.argv[1]))
