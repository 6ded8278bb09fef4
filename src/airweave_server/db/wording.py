"""Brings the words and identifiers of chunks that an earlier release wrote into the present form, from their stored
text. Only text beyond ASCII has more than one form. Queries find both forms meanwhile."""

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from .models import INDEX_VERSION

ENTITIES_AT_ONCE = 200

Identifiers = Callable[[str], Sequence[str]]


def list_due(session: Session) -> list[UUID]:
    """The collections whose words are in an earlier form."""
    return list(
        session.scalars(
            text("select id from collection where index_version < :version and deleted_at is null order by id"),
            {"version": INDEX_VERSION},
        )
    )


def word_anew(session: Session, collection_id: UUID, identifiers: Identifiers) -> tuple[int, bool]:
    """Word the chunks of the next entities anew. Returns how many chunks changed, and whether the collection is done.

    The entities are locked, as a writer of their chunks locks them, so both may run; but this never waits for a lock,
    because the two lock in different orders. Raises ``DBAPIError`` if a writer has one of them (``is_locked``).
    ``identifiers``: the lexemes of a text.
    """
    language, after = session.execute(
        text("select language, coalesce(worded_row, 0) from collection where id = :id for no key update nowait"),
        {"id": collection_id},
    ).one()
    entities = {
        row: f" {name} {entity_id}"
        for row, name, entity_id in session.execute(
            text("""
                select row, name, entity_id from entity where collection_id = :id and row > :after
                order by row limit :most for no key update nowait
            """),
            {"id": collection_id, "after": after, "most": ENTITIES_AT_ONCE},
        )
    }
    found = session.execute(
        text("""
            select c.entity_row, c.ordinal, c.text, tsvector_to_array(c.ident) as ident,
                   airweave_words(:language, c.heading || ' ' || c.text) is distinct from c.ts as differs
            from chunk c where c.entity_row = any(:rows)
              and (octet_length(c.text) > length(c.text) or octet_length(c.heading) > length(c.heading))
            order by c.entity_row, c.ordinal
        """),
        {"language": language, "rows": list(entities)},
    ).all()
    changed = 0
    for row, ordinal, body, before, differs in found:
        idents = identifiers(body + (entities[row] if ordinal == 0 else ""))
        if differs or set(idents) != set(before):
            session.execute(
                text("""
                    update chunk set ts = ts, ident = array_to_tsvector(cast(:idents as text[]))
                    where entity_row = :row and ordinal = :ordinal
                """),
                {"row": row, "ordinal": ordinal, "idents": list(idents)},
            )
            changed += 1
    is_done = len(entities) < ENTITIES_AT_ONCE
    session.execute(
        text("""
            update collection set worded_row = :row, index_version = case when :is_done then :version
                                                                     else index_version end
            where id = :id
        """),
        {"id": collection_id, "row": max(entities, default=after), "is_done": is_done, "version": INDEX_VERSION},
    )
    return changed, is_done
