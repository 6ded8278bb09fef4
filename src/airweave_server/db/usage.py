"""Queries on the content and health of the database: disk use, and the things that need a person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from . import indexes
from .models import IS_ACTIVE, Base

DEAD_SHARE, DEAD_LEAST = 0.5, 50_000  # dead rows of a table; autovacuum normally removes them well before
TABLES = [table.name for table in Base.metadata.sorted_tables]


@dataclass(frozen=True, slots=True)
class Use:
    """The size of a collection. ``size_bytes``: its share of the shared tables with their indexes, by its number of
    rows. ``is_leaving``: it was deleted, and the keeper is purging it. ``vectors``: how its nearest vectors are
    found."""

    readable_id: str
    is_leaving: bool
    connections: int
    entities: int
    chunks: int
    size_bytes: int
    vectors: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Active jobs that wait for the same thing. ``host``: the only host whose processes may take them."""

    waiting_for: str
    host: str | None
    jobs: int
    connection: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A connection with a schedule."""

    id: UUID
    name: str
    short_name: str
    config: dict[str, Any]
    cron: str
    created_at: datetime
    last_full_at: datetime | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A connection with a problem, described by ``what``."""

    id: UUID
    name: str
    what: str


def by_collection(session: Session) -> list[Use]:
    """The size of each collection, the largest first."""
    rows = session.execute(
        text("""
            with held as (
                select collection_id, count(*) as entities, sum(chunks) as chunks from entity group by 1
            ), row_size as (
                select pg_total_relation_size('entity') / greatest(sum(entities), 1) as of_entity,
                       pg_total_relation_size('chunk') / greatest(sum(chunks), 1) as of_chunk from held
            )
            select k.readable_id, k.deleted_at is not null,
                   (select count(*) from source_connection s where s.collection_id = k.id and s.deleted_at is null),
                   coalesce(h.entities, 0), coalesce(h.chunks, 0),
                   coalesce(h.entities * r.of_entity + h.chunks * r.of_chunk, 0) as size_bytes,
                   case when i.indisvalid then 'by index' when i.indexrelid is not null then 'index is being built'
                        else 'all compared' end
            from collection k cross join row_size r left join held h on h.collection_id = k.id
            left join pg_index i on i.indexrelid = to_regclass(:near || replace(cast(k.id as text), '-', ''))
            order by size_bytes desc, k.readable_id
        """),
        {"near": indexes.PREFIX},
    )
    return [Use(row[0], row[1], row[2], row[3], int(row[4]), int(row[5]), row[6]) for row in rows]


def size_bytes(session: Session) -> int:
    found: int = session.execute(text("select pg_database_size(current_database())")).scalar_one()
    return found


def extension_versions(session: Session) -> tuple[str, str]:
    """The pgvector version that is installed in the database, and the newest that its server offers."""
    row = session.execute(
        text("select installed_version, default_version from pg_available_extensions where name = 'vector'")
    ).one()
    return row[0], row[1]


def with_dead_rows(session: Session) -> list[tuple[str, int, int]]:
    """Tables with so many dead rows that vacuuming must be lagging: (name, dead rows, live rows)."""
    rows = session.execute(
        text("""
            select relname, n_dead_tup, n_live_tup from pg_stat_user_tables
            where schemaname = current_schema() and relname = any(:tables)
              and n_dead_tup > :least and n_dead_tup > n_live_tup * :share order by n_dead_tup desc
        """),
        {"tables": TABLES, "least": DEAD_LEAST, "share": DEAD_SHARE},
    )
    return [(row[0], row[1], row[2]) for row in rows]


def invalid_indexes(session: Session) -> list[str]:
    """Indexes whose build was interrupted, which cost space and serve no query; without those that the keeper
    rebuilds."""
    rows = session.execute(
        text("""
            select cast(cast(i.indexrelid as regclass) as text) from pg_index i join pg_class c on c.oid = i.indrelid
            join pg_namespace n on n.oid = c.relnamespace and n.nspname = current_schema()
            where not i.indisvalid and c.relname = any(:tables) and i.indexrelid not in (
                select oid from pg_class where starts_with(relname, :near))
              and not exists (select 1 from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
            order by 1
        """),
        {"tables": TABLES, "near": indexes.PREFIX},
    )
    return list(rows.scalars())


def waiting(session: Session) -> list[Waiting]:
    rows = session.execute(
        text(f"""
            select j.waiting_for, j.host, count(*), min(s.name), min(j.created_at)
            from sync_job j join source_connection s on s.id = j.connection_id
            where j.{IS_ACTIVE} and j.waiting_for is not null group by 1, 2 order by 1, 2
        """)
    )
    return [Waiting(*row) for row in rows]


def count_active(session: Session) -> int:
    found: int = session.execute(text(f"select count(*) from sync_job where {IS_ACTIVE}")).scalar_one()
    return found


def scheduled(session: Session) -> list[Scheduled]:
    rows = session.execute(
        text("""
            select id, name, short_name, config, cron, created_at, last_full_at from source_connection
            where cron is not null and deleted_at is null order by name, id
        """)
    )
    return [Scheduled(*row) for row in rows]


def with_held_deletes(session: Session) -> list[Trouble]:
    rows = session.execute(
        text("""
            select s.id, s.name, sum(p.total) from delete_plan p join source_connection s on s.id = p.connection_id
            where p.state = 'held' and s.deleted_at is null group by 1, 2 order by 2, 1
        """)
    )
    return [Trouble(row[0], row[1], f"{row[2]:,}") for row in rows]
