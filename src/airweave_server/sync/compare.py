"""Compare the ledger of a connection with what its source lists now, and on request with the content there. Changes
nothing."""

from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from ..db import audit
from ..db.audit import Listed
from ..db.models import SourceConnection
from ..db.session import Database
from ..errors import Unavailable
from ..sdk import Deleted, Entity, Seen, Skipped, Unreadable
from ..text.parts import NoText, Unparseable
from ..text.reading import Reader
from ..text.versions import CURRENT
from . import diff
from .connector import Connectors
from .signals import Signals
from .trouble import judge

LISTED_AT_ONCE = 5_000  # entities held in memory
READ_AT_ONCE = 200  # if their content is read too


def compare(
    database: Database, connectors: Connectors, connection_id: UUID, *, reader: Reader | None = None
) -> audit.Differences:
    """List the source once and compare. With a ``reader``, also read every entity and compare its fingerprint. Raises
    ``Unavailable`` with the reason if the listing does not complete."""
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
                items = (_to_listed(item, reader) for part in source.partitions() for item in source.read(part, None))
                listed = filter(None, items)
                while part := list(islice(listed, LISTED_AT_ONCE if reader is None else READ_AT_ONCE)):
                    audit.add_listed(session, part)
        except SQLAlchemyError:
            raise
        except Exception as error:
            raise Unavailable(judge(error, secrets).text) from None
        return audit.compare_listing(session, connection_id, current=sorted(CURRENT))


def _to_listed(item: Any, reader: Reader | None) -> Listed | None:
    """An item that a source yields; None for a cursor."""
    if isinstance(item, Entity):
        entity = diff.sanitize(item)
        if isinstance(entity, diff.Malformed):
            return Listed("entity", entity.entity_id)
        return Listed("entity", entity.id, entity.version, _fingerprint(entity, reader) if reader is not None else None)
    if isinstance(item, Skipped):
        return Listed("subtree" if item.subtree else "skipped", diff.clean_id(item.id))
    if isinstance(item, Seen | Deleted):
        return Listed(type(item).__name__.lower(), diff.clean_id(item.id))
    return None


def _fingerprint(entity: Entity, reader: Reader) -> str | None:
    """The fingerprint of what would be indexed, in hexadecimal: empty if that is nothing, None if it cannot be read."""
    try:
        found = reader.read(entity)
    except (Unreadable, Unparseable):
        return None
    return "" if isinstance(found, NoText) else diff.fingerprint(entity, found.pieces()).hex()
