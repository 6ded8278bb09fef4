"""Queries on the ledger (table ``entity``): the state of each entity, and the changes that a batch makes to it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb
from pyroaring import BitMap64
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from .models import EntityRow
from .session import driver_errors, raw

DELETE_AT_ONCE = 1_000
IDS_AT_ONCE = 10_000
INDEXED, FAILED, SKIPPED = "indexed", "failed", "skipped"
INCOMPLETE = "index_incomplete"  # prefix of the reason of an entity that failed because its chunks are wrong

KNOWN = """
    select entity_id, row, state, reason, version, pipeline, fingerprint, metadata_fingerprint, scope, chunks,
           retries_left, left_out <> '[]'
    from entity where connection_id = %s and entity_id = any(array(select jsonb_array_elements_text(%s)))"""

UPSERT = """
    insert into entity (organization_id, collection_id, connection_id, job_id, changed_at, entity_id, name, type, scope,
           state, reason, version, pipeline, fingerprint, metadata_fingerprint, chunks, truncated, left_out,
           retries_left, missing, breadcrumbs, fields, web_url, url, created_at, updated_at)
    select :organization_id, :collection_id, :connection_id, :job_id, now(), e.entity_id, e.name, e.type, e.scope,
           e.state, e.reason, e.version, e.pipeline, decode(e.fingerprint, 'hex'),
           decode(e.metadata_fingerprint, 'hex'), e.chunks, e.truncated, e.left_out, e.retries_left, 0, e.breadcrumbs,
           e.fields, e.web_url, e.url, e.created_at, e.updated_at
    from jsonb_to_recordset(cast(:entries as jsonb)) as e(entity_id text, name text, type text, scope text, state text,
           reason text, version text, pipeline text, fingerprint text, metadata_fingerprint text, chunks bigint,
           truncated boolean, left_out jsonb, retries_left smallint, breadcrumbs jsonb, fields jsonb, web_url text,
           url text, created_at timestamptz, updated_at timestamptz)
    order by e.entity_id
    on conflict (connection_id, entity_id) do update set job_id = excluded.job_id, changed_at = now(),
           scope = excluded.scope, state = excluded.state, reason = excluded.reason, version = excluded.version,
           retries_left = excluded.retries_left, missing = 0"""
KEEP = ""
REPLACE = """, name = excluded.name, type = excluded.type, pipeline = excluded.pipeline,
           fingerprint = excluded.fingerprint, metadata_fingerprint = excluded.metadata_fingerprint,
           chunks = excluded.chunks, truncated = excluded.truncated, left_out = excluded.left_out,
           breadcrumbs = excluded.breadcrumbs,
           fields = excluded.fields, web_url = excluded.web_url, url = excluded.url,
           created_at = excluded.created_at, updated_at = excluded.updated_at"""


class Known(NamedTuple):
    """The part of an entity's ledger row that decides what to do about it."""

    row: int
    state: str
    reason: str | None
    version: str | None
    pipeline: str | None
    fingerprint: bytes | None
    metadata_fingerprint: bytes | None
    scope: str
    chunks: int
    retries_left: int
    is_incomplete: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """The ledger row to write for an entity.

    ``fingerprint``: None keeps the stored one (the entity failed or was skipped, and the index keeps its chunks).
    ``empties``: the entity has nothing to index, and its chunks are dropped.
    """

    entity_id: str
    name: str
    type: str
    scope: str
    state: str
    reason: str | None = None
    version: str | None = None
    pipeline: str | None = None
    fingerprint: bytes | None = None
    metadata_fingerprint: bytes | None = None
    chunks: int = 0
    truncated: bool = False
    left_out: Sequence[dict[str, Any]] = ()
    retries_left: int = 0
    empties: bool = False
    breadcrumbs: Sequence[dict[str, str]] = ()
    fields: dict[str, Any] | None = None
    web_url: str | None = None
    url: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


def look_up(session: Session, connection_id: UUID, entity_ids: Iterable[str]) -> dict[str, Known]:
    """The known entities among these, by id. Bypasses SQLAlchemy: this runs for every entity of every job."""
    with driver_errors(KNOWN):
        # as JSON, which is built ten times as fast as an array
        rows = raw(session).execute(KNOWN, (connection_id, Jsonb(list(entity_ids))), binary=True).fetchall()
    return {row[0]: Known._make(row[1:]) for row in rows}


def write(
    session: Session,
    entries: Sequence[Entry],
    *,
    organization_id: UUID,
    collection_id: UUID,
    connection_id: UUID,
    job_id: UUID,
) -> dict[str, int]:
    """Write the entries and return their row numbers by entity id. Failed and skipped entities keep their fingerprint,
    metadata and chunk count. Rows are written in the order of their ids, so that two batches cannot deadlock."""
    values = {
        "organization_id": organization_id,
        "collection_id": collection_id,
        "connection_id": connection_id,
        "job_id": job_id,
    }
    found: dict[str, int] = {}
    for whole in (True, False):
        part = [entry for entry in entries if (entry.state == INDEXED or entry.empties) is whole]
        if part:
            statement = text(UPSERT + (REPLACE if whole else KEEP) + " returning row, entity_id")
            rows = session.execute(statement, {**values, "entries": _as_json(part)})
            found.update((row.entity_id, int(row.row)) for row in rows)
    return found


def confirm_unchanged(session: Session, rows: Sequence[tuple[int, str | None, str, datetime | None]]) -> None:
    """Mark entities as indexed whose content was read and is unchanged; update version, scope and time.

    ``rows`` holds (row, version, scope, updated_at).
    """
    session.execute(
        text("""
            update entity t set version = e.version, scope = e.scope, updated_at = coalesce(e.updated_at, t.updated_at),
                   retries_left = 0, missing = 0,
                   reason = case when state = 'indexed' then reason end, state = 'indexed'
            from unnest(cast(:rows as bigint[]), cast(:versions as text[]), cast(:scopes as text[]),
                        cast(:times as timestamptz[])) as e(row, version, scope, updated_at)
            where t.row = e.row
        """),
        {
            "rows": [row[0] for row in rows],
            "versions": [row[1] for row in rows],
            "scopes": [row[2] for row in rows],
            "times": [row[3] for row in rows],
        },
    )


def update_scopes(session: Session, rows: Sequence[tuple[int, str]]) -> None:
    """Update the scope of unchanged entities that another scope listed this time. ``rows`` holds (row, scope)."""
    session.execute(
        text("""
            update entity t set scope = e.scope
            from unnest(cast(:rows as bigint[]), cast(:scopes as text[])) as e(row, scope) where t.row = e.row
        """),
        {"rows": [row for row, _ in rows], "scopes": [scope for _, scope in rows]},
    )


def rows_by_scope(session: Session, connection_id: UUID) -> dict[str, BitMap64]:
    """All ledger rows of the connection, by the scope that listed them last."""
    found: dict[str, BitMap64] = {}
    rows = session.execute(
        text("""
            select scope, array_agg(row) from entity where connection_id = :id group by scope, row / 50000
        """).execution_options(yield_per=10),
        {"id": connection_id},
    )
    for scope, numbers in rows:
        found.setdefault(scope, BitMap64()).update(numbers)
    return found


def rows_below(session: Session, connection_id: UUID, prefixes: Sequence[str]) -> BitMap64:
    """The ledger rows below one of these ids, judged by their own id or by their breadcrumbs."""
    found = BitMap64()
    for prefix in prefixes:
        found.update(
            session.scalars(
                text("""
                    select row from entity where connection_id = :id and
                    (starts_with(entity_id, :prefix || '/') or breadcrumbs @> cast(:breadcrumb as jsonb))
                """),
                {"id": connection_id, "prefix": prefix, "breadcrumb": json.dumps([{"entity_id": prefix}])},
            )
        )
    return found


def ids_of(session: Session, rows: BitMap64) -> Iterator[tuple[int, str]]:
    """The (row, entity id) of these rows, without holding all of them in memory."""
    numbers = iter(rows)
    while part := list(islice(numbers, IDS_AT_ONCE)):
        found = session.execute(select(EntityRow.row, EntityRow.entity_id).where(EntityRow.row.in_(part)))
        yield from ((row, entity_id) for row, entity_id in found)


def rows_missing_once(session: Session, connection_id: UUID) -> BitMap64:
    """The rows that the previous full job did not meet."""
    missing = text("missing > 0")  # not a parameter: the index is for this condition
    return BitMap64(session.scalars(select(EntityRow.row).where(EntityRow.connection_id == connection_id, missing)))


def set_missing(session: Session, rows: BitMap64, value: int) -> None:
    if not rows:
        return
    session.execute(
        text("update entity set missing = :value where row = any(:rows)"), {"value": value, "rows": list(rows)}
    )


def delete_rows(session: Session, connection_id: UUID, rows: Sequence[int]) -> int:
    """Delete these entities with their chunks. Returns how many were still there."""
    values = {"id": connection_id, "rows": list(rows)}
    session.execute(
        text("""
            delete from chunk where entity_row in
            (select row from entity where connection_id = :id and row = any(:rows))
        """),
        values,
    )
    gone = session.execute(
        text("delete from entity where connection_id = :id and row = any(:rows) returning row"), values
    ).all()
    return len(gone)


def purge(session: Session, connection_id: UUID) -> int:
    """Delete up to ``DELETE_AT_ONCE`` entities of a deleted connection. Returns how many; 0 when none are left."""
    rows = session.scalars(
        select(EntityRow.row).where(EntityRow.connection_id == connection_id).limit(DELETE_AT_ONCE)
    ).all()
    return delete_rows(session, connection_id, rows) if rows else 0


def list_page(
    session: Session,
    connection_id: UUID,
    *,
    state: str | None,
    incomplete: bool | None = None,
    skip: int,
    limit: int,
) -> list[EntityRow]:
    query = select(EntityRow).where(EntityRow.connection_id == connection_id)
    if state is not None:
        query = query.where(EntityRow.state == state)
    if incomplete is not None:
        query = query.where((EntityRow.left_out != []) == incomplete)
    return list(session.scalars(query.order_by(EntityRow.row).offset(skip).limit(limit)))


def has_others(session: Session, connection_id: UUID, *, made_by: Iterable[str]) -> bool:
    """Whether the connection has an entity that something else than ``made_by`` made: words of ``Entry.pipeline``."""
    found = session.execute(
        text("""
            select exists (select from entity where connection_id = :id
                and (string_to_array(pipeline, ' ') <@ cast(:words as text[])) is not true)
        """),
        {"id": connection_id, "words": sorted(made_by)},
    )
    return bool(found.scalar_one())


def find(session: Session, connection_id: UUID, entity_id: str) -> EntityRow | None:
    return session.scalars(
        select(EntityRow).where(EntityRow.connection_id == connection_id, EntityRow.entity_id == entity_id)
    ).one_or_none()


def ids_and_names(session: Session, rows: Sequence[int]) -> list[tuple[str, str]]:
    """The (id, name) of these rows, in the order of the rows."""
    query = select(EntityRow.entity_id, EntityRow.name).where(EntityRow.row.in_(rows)).order_by(EntityRow.row)
    return [(entity_id, name) for entity_id, name in session.execute(query)]


def retry_failed(session: Session, connection_id: UUID, entity_ids: Sequence[str] | None) -> int:
    """Have failed entities (these, or all) read again by the next job that lists them. Returns how many."""
    changed = session.execute(
        text("""
            update entity set version = null, retries_left = 3 where connection_id = :id and state = 'failed'
              and (cast(:ids as text[]) is null or entity_id = any(:ids)) returning row
        """),
        {"id": connection_id, "ids": list(entity_ids) if entity_ids is not None else None},
    ).all()
    return len(changed)


def forget_versions(session: Session, rows: Sequence[int]) -> None:
    """Have these entities read again by the next job that lists them, whatever version it meets."""
    session.execute(text("update entity set version = null where row = any(:rows)"), {"rows": list(rows)})


def _as_json(entries: Sequence[Entry]) -> str:
    return json.dumps(
        [
            {
                "entity_id": entry.entity_id,
                "name": entry.name,
                "type": entry.type,
                "scope": entry.scope,
                "state": entry.state,
                "reason": entry.reason,
                "version": entry.version,
                "pipeline": entry.pipeline,
                "fingerprint": entry.fingerprint.hex() if entry.fingerprint else None,
                "metadata_fingerprint": entry.metadata_fingerprint.hex() if entry.metadata_fingerprint else None,
                "chunks": entry.chunks,
                "truncated": entry.truncated,
                "left_out": list(entry.left_out),
                "retries_left": entry.retries_left,
                "breadcrumbs": list(entry.breadcrumbs),
                "fields": entry.fields or {},
                "web_url": entry.web_url,
                "url": entry.url,
                "created_at": entry.created_at.isoformat() if entry.created_at else None,
                "updated_at": entry.updated_at.isoformat() if entry.updated_at else None,
            }
            for entry in entries
        ]
    )
