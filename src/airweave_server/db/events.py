"""Records events for webhooks: one row of the outbox each, in the transaction that causes it. Takes no lock."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from .models import Collection, SourceConnection

NOW = """to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def record_job(session: Session, job_id: UUID) -> None:
    """Record that the job has reached its present status. Call it once for each change of the status."""
    session.execute(
        text(f"""
            insert into webhook_message (organization_id, event_type, payload)
            select j.organization_id, 'sync.' || j.status, jsonb_build_object(
                       'event_type', 'sync.' || j.status, 'timestamp', {NOW}, 'organization_id', j.organization_id,
                       'sync_id', s.id, 'sync_job_id', j.id, 'source_connection_id', s.id,
                       'source_type', s.short_name, 'collection_id', k.id, 'collection_name', k.name,
                       'collection_readable_id', k.readable_id, 'entities_inserted', p.inserted,
                       'entities_updated', p.updated, 'entities_deleted', j.deleted, 'entities_skipped', p.skipped,
                       'chunks_written', p.chunks_written
                   ) || case when j.status in ('failed', 'cancelled') and j.error is not null
                             then jsonb_build_object('error', j.error) else '{{}}' end
            from sync_job j
            join source_connection s on s.id = j.connection_id
            join collection k on k.id = s.collection_id,
            lateral (
                select coalesce(sum(inserted), 0) as inserted, coalesce(sum(updated), 0) as updated,
                       coalesce(sum(skipped), 0) as skipped, coalesce(sum(chunks_written), 0) as chunks_written
                from sync_partition where job_id = j.id
            ) p
            where j.id = :id
        """),
        {"id": job_id},
    )


def record_collection(session: Session, collection: Collection, what: str) -> None:
    """Record that the collection was ``created``, ``updated`` or ``deleted``."""
    session.flush()
    session.execute(
        text(f"""
            insert into webhook_message (organization_id, event_type, payload)
            select k.organization_id, cast(:event as text), jsonb_build_object(
                       'event_type', cast(:event as text), 'timestamp', {NOW}, 'organization_id', k.organization_id,
                       'collection_id', k.id, 'collection_name', k.name, 'collection_readable_id', k.readable_id)
            from collection k where k.id = :id
        """),
        {"id": collection.id, "event": f"collection.{what}"},
    )


def record_connection(session: Session, connection: SourceConnection, what: str, *, is_authenticated: bool) -> None:
    """Record that the connection was ``created`` or ``deleted``, or that new credentials were accepted
    (``auth_completed``)."""
    session.flush()
    session.execute(
        text(f"""
            insert into webhook_message (organization_id, event_type, payload)
            select s.organization_id, cast(:event as text), jsonb_build_object(
                       'event_type', cast(:event as text), 'timestamp', {NOW}, 'organization_id', s.organization_id,
                       'source_connection_id', s.id, 'source_type', s.short_name,
                       'collection_readable_id', k.readable_id, 'is_authenticated', cast(:authenticated as boolean))
            from source_connection s join collection k on k.id = s.collection_id where s.id = :id
        """),
        {"id": connection.id, "event": f"source_connection.{what}", "authenticated": is_authenticated},
    )
