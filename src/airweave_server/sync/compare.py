"""Compare the ledger of a connection with what its source lists now. Opens no content and changes nothing."""

from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from ..db import audit
from ..db.models import SourceConnection
from ..db.session import Database
from ..errors import Unavailable
from ..sdk import Deleted, Entity, Seen, Skipped
from . import diff
from .connector import Connectors
from .signals import Signals
from .trouble import judge

LISTED_AT_ONCE = 5_000  # entities held in memory


def compare(database: Database, connectors: Connectors, connection_id: UUID) -> audit.Differences:
    """List the source once and compare. Raises ``Unavailable`` with the reason if the listing does not complete."""
    secrets: Sequence[str] = ()
    with database.step() as session:
        connection = session.get_one(SourceConnection, connection_id)
        session.commit()
        try:
            configured = connectors.load(connection)
            secrets = configured.secrets
            audit.begin_listing(session)
            with connectors.reading(configured, connection, Signals()) as source:
                source.check()
                items = (_to_listed(item) for part in source.partitions() for item in source.read(part, None))
                listed = filter(None, items)
                while part := list(islice(listed, LISTED_AT_ONCE)):
                    audit.add_listed(session, part)
        except SQLAlchemyError:
            raise
        except Exception as error:
            raise Unavailable(judge(error, secrets).text) from None
        return audit.compare_listing(session, connection_id)


def _to_listed(item: Any) -> tuple[str, str, str | None] | None:
    """Kind, id and version of an item that a source yields; None for a cursor."""
    if isinstance(item, Entity):
        entity = diff.sanitize(item)
        if isinstance(entity, diff.Malformed):
            return "entity", entity.entity_id, None
        return "entity", entity.id, entity.version
    if isinstance(item, Skipped):
        return "subtree" if item.subtree else "skipped", diff.clean_id(item.id), None
    if isinstance(item, Seen | Deleted):
        return type(item).__name__.lower(), diff.clean_id(item.id), None
    return None
