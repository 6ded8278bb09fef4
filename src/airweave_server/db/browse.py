"""Queries that look around in a collection: its sources, its entities, their text and their places. Each is bounded by
a ``Scope``, which a filter has narrowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from .models import Collection
from .search import Scope, fetch

COLUMNS = "x.entity_id, x.name, x.type, s_x.short_name, x.row, x.breadcrumbs"


@dataclass(frozen=True, slots=True)
class Item:
    """An entity. ``parent_id``: the last of its breadcrumbs."""

    entity_id: str
    name: str
    type: str
    source_name: str
    row: int
    parent_id: str | None


def sources(session: Session, collection_id: UUID) -> list[str]:
    """The short names of the sources of a collection."""
    rows = session.execute(
        text(
            "select distinct short_name from source_connection where collection_id = :id and deleted_at is null "
            "order by short_name"
        ),
        {"id": collection_id},
    )
    return [name for (name,) in rows]


def count(session: Session, seen: Scope) -> int:
    """The number of entities that have chunks in the scope."""
    rows = fetch(session, f"select count(distinct c.entity_row) from {seen.source}", dict(seen.values))
    return int(rows[0][0])


def find(session: Session, collection: Collection, seen: Scope, entity_ids: Sequence[str]) -> list[Item]:
    """The entities in the scope with these ids."""
    return _list(session, collection, seen, "x.entity_id = any(:ids)", {"ids": list(entity_ids)}, 2 * len(entity_ids))


def children(session: Session, collection: Collection, seen: Scope, parent_id: str, *, limit: int) -> list[Item]:
    """The entities in the scope whose last breadcrumb is this entity."""
    return _list(
        session, collection, seen, "x.breadcrumbs -> -1 ->> 'entity_id' = :parent", {"parent": parent_id}, limit
    )


def read(session: Session, seen: Scope, row: int, *, chars: int) -> str:
    """The text of an entity, as far as it is in the scope, up to about so many characters."""
    rows = fetch(
        session,
        f"""
            select text from (
                select c.text, c.ordinal, sum(length(c.text)) over (order by c.ordinal) - length(c.text) as before
                from {seen.source} and c.entity_row = :row
            ) as t where before < :chars order by ordinal
        """,
        {**seen.values, "row": row, "chars": chars},
    )
    return "".join(part for (part,) in rows)[:chars]


def _list(
    session: Session, collection: Collection, seen: Scope, condition: str, values: dict[str, Any], limit: int
) -> list[Item]:
    rows = fetch(
        session,
        f"""
            select {COLUMNS} from entity x join source_connection s_x on s_x.id = x.connection_id
            where x.collection_id = :collection_id and {condition}
                  and exists (select from {seen.source} and c.entity_row = x.row)
            order by x.name, x.row limit :most
        """,
        {**seen.values, **values, "collection_id": collection.id, "most": limit},
    )
    return [
        Item(entity_id, name, type, source, row, crumbs[-1].get("entity_id") if crumbs else None)
        for entity_id, name, type, source, row, crumbs in rows
    ]
