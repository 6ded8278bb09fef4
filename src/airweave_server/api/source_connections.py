"""Source connections: connect, change, run, cancel, and read what became of every entity."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Body, Query
from sqlalchemy.orm import Session

from .. import plugins, wire
from ..db import chunks, collections, connections, jobs, ledger, plans
from ..db.models import Collection, DeletePlan, SourceConnection, SyncJob, Trigger
from ..errors import BadInput, InvalidState, NotFound
from ..sdk import Bearer
from ..services import connections as service
from ..services import jobs as job_service
from ..services.connections import Wanted
from ..services.jobs import Ask
from ..sync.diff import clean_id
from ..sync.preview import LeftOut
from .deps import Organization, Page, PageOf, PartsOf, SessionOf

TEXT_CHARS = 10_000_000  # of an entity that are shown

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.post("")
def create_source_connection(
    body: wire.SourceConnectionCreate, parts: PartsOf, session: SessionOf, organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnection:  # fmt: skip
    """Connect a source; its first sync starts at once unless ``sync_immediately`` is false."""
    made = parts.connections.create(session, organization, _wanted(body))
    if body.sync_immediately is not False:
        job_service.create(session, parts.vault, made, parts.driver.choose(), Ask())
        background.add_task(parts.driver.kick)
    return _shown(session, made)


@router.post("/preview")
def preview_source_connection(
    body: wire.SourceConnectionCreate, parts: PartsOf, session: SessionOf, organization: Organization
) -> wire.SourceConnectionPreview:
    """What a first sync of this would meet, make and leave out, and how long it would take. Nothing is stored."""
    found = parts.connections.preview(session, organization, _wanted(body))
    return wire.SourceConnectionPreview(
        short_name=body.short_name,
        embedding_model_name=found.embedder,
        is_complete=found.is_complete,
        is_exact=found.is_exact,
        entities=found.entities,
        size_bytes=found.size_bytes,
        opened=found.opened,
        indexed=found.indexed,
        chunks=found.chunks,
        seconds=found.seconds,
        skipped=_left_out(found.skipped),
        failed=_left_out(found.failed),
        notes=list(found.notes),
    )


@router.get("")
def list_source_connections(
    session: SessionOf, organization: Organization, page: PageOf, collection: Annotated[str | None, Query()] = None
) -> list[wire.SourceConnectionListItem]:
    return listed(session, organization, collection, page)


@router.get("/{connection_id}")
def get_source_connection(connection_id: UUID, session: SessionOf, organization: Organization) -> wire.SourceConnection:
    return _shown(session, _found(session, organization, connection_id))


@router.patch("/{connection_id}")
def update_source_connection(
    connection_id: UUID, body: wire.SourceConnectionUpdate, parts: PartsOf, session: SessionOf,
    organization: Organization, background: BackgroundTasks,
) -> wire.SourceConnection:  # fmt: skip
    """Change it. Another configuration ends a running sync and starts it anew."""
    connection = _found(session, organization, connection_id)
    changes: dict[str, Any] = {}
    if body.name is not None:
        changes["name"] = body.name
    if "description" in body.model_fields_set:
        changes["description"] = body.description
    if body.config is not None:
        changes["config"] = body.config
    if body.schedule is not None:
        changes |= {"cron": body.schedule.cron, "continuous": body.schedule.continuous}
    if body.authentication is not None:
        given = _credentials(body.authentication)
        if given is None:
            raise BadInput("only direct credentials can be changed", field="body.authentication")
        changes["credentials"] = given
    if parts.connections.update(session, connection, engine=parts.driver.choose, changes=changes) is not None:
        background.add_task(parts.driver.kick)
    session.flush()
    session.refresh(connection)
    return _shown(session, connection)


@router.delete("/{connection_id}")
def delete_source_connection(
    connection_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks
) -> wire.SourceConnection:
    """Hide it at once, end its sync, and purge everything it brought."""
    connection = _found(session, organization, connection_id)
    shown = _shown(session, connection)
    if (ended := parts.connections.delete(session, connection)) is not None:
        background.add_task(parts.driver.cancelled, ended)
    background.add_task(parts.keeper.kick)
    return shown


@router.get("/{connection_id}/sync-id", include_in_schema=False)
def get_sync_id(connection_id: UUID, session: SessionOf, organization: Organization) -> dict[str, UUID]:
    return {"sync_id": _found(session, organization, connection_id).id}


@router.post("/{connection_id}/run")
def run_source_connection(
    connection_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks,
    body: Annotated[wire.RunRequest | None, Body()] = None, force_full_sync: Annotated[bool, Query()] = False,
) -> wire.SourceConnectionJob:  # fmt: skip
    """Start a sync. ``force_full_sync``, in the query or the body, reads everything afresh; ``access_token`` signs in
    this one run and is forgotten at its end."""
    connection = _found(session, organization, connection_id)
    body = body or wire.RunRequest()
    job = job_service.create(
        session, parts.vault, connection, parts.driver.choose(),
        Ask(force_full=force_full_sync or bool(body.force_full_sync), access_token=body.access_token),
    )  # fmt: skip
    background.add_task(parts.driver.kick)
    return shown_jobs(session, [job])[0]


@router.get("/{connection_id}/jobs")
def list_jobs(
    connection_id: UUID, session: SessionOf, organization: Organization,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[wire.SourceConnectionJob]:  # fmt: skip
    """The connection's jobs, newest first."""
    connection = _found(session, organization, connection_id)
    return shown_jobs(session, jobs.newest(session, connection.id, limit=limit))


@router.get("/{connection_id}/jobs/{job_id}")
def get_job(
    connection_id: UUID, job_id: UUID, session: SessionOf, organization: Organization
) -> wire.SourceConnectionJob:
    return shown_jobs(session, [_found_job(session, organization, connection_id, job_id)])[0]


@router.post("/{connection_id}/jobs/{job_id}/cancel")
def cancel_job(
    connection_id: UUID, job_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnectionJob:  # fmt: skip
    """From this answer on nothing more is written for the job; its status becomes cancelled within seconds."""
    job = _found_job(session, organization, connection_id, job_id)
    job_service.cancel(session, job)
    background.add_task(parts.driver.cancelled, job.id)
    return shown_jobs(session, [job])[0]


@router.get("/{connection_id}/entities")
def list_entities(
    connection_id: UUID, session: SessionOf, organization: Organization, page: PageOf,
    state: Literal["indexed", "failed", "skipped"] | None = None,
) -> list[wire.LedgerEntry]:  # fmt: skip
    """The ledger: every entity with its state, and the reason why one is not in the index as it is at the source."""
    connection = _found(session, organization, connection_id)
    return [
        wire.LedgerEntry(
            entity_id=row.entity_id, name=row.name, type=row.type, state=row.state, reason=row.reason,
            chunks=row.chunks, truncated=row.truncated, version=row.version, retries_left=row.retries_left,
            changed_at=row.changed_at, sync_job_id=row.job_id,
        )
        for row in ledger.listed(session, connection.id, state=state, skip=page.skip, limit=page.limit)
    ]  # fmt: skip


@router.get("/{connection_id}/entities/text")
def read_entity(
    connection_id: UUID, session: SessionOf, organization: Organization,
    entity_id: Annotated[str, Query(min_length=1, max_length=2_000)],
) -> wire.EntityText:  # fmt: skip
    """The text of one entity, whole, as it was extracted when it was indexed."""
    connection = _found(session, organization, connection_id)
    entity = ledger.find(session, connection.id, clean_id(entity_id))
    if entity is None:
        raise NotFound("Entity not found")
    found = chunks.text_of(session, entity.row, at_most=TEXT_CHARS)
    return wire.EntityText(
        entity_id=entity.entity_id, name=entity.name, text=found[:TEXT_CHARS],
        truncated=entity.truncated or len(found) > TEXT_CHARS,
    )  # fmt: skip


@router.post("/{connection_id}/entities/retry")
def retry_entities(
    connection_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization, background: BackgroundTasks,
    body: Annotated[wire.RetryRequest | None, Body()] = None,
) -> wire.SourceConnectionJob:  # fmt: skip
    """Try failed entities again, all or these, in a full sync that starts now."""
    connection = _found(session, organization, connection_id)
    chosen = body.entity_ids if body is not None else None
    if not ledger.ask_again(session, connection.id, chosen):
        raise NotFound("there is no failed entity" + (" of these ids" if chosen else "") + " to try again")
    job = job_service.create(session, parts.vault, connection, parts.driver.choose(), Ask(Trigger.RETRY, reread=True))
    background.add_task(parts.driver.kick)
    return shown_jobs(session, [job])[0]


@router.get("/{connection_id}/held-deletes")
def list_held_deletes(
    connection_id: UUID, session: SessionOf, organization: Organization, page: PageOf
) -> list[wire.HeldDeletes]:
    """Deletes that wait for a person, each with a page of the entities that would go."""
    connection = _found(session, organization, connection_id)
    return [_held(session, plan, page) for plan in service.held(session, connection.id)]


@router.post("/{connection_id}/held-deletes/{plan_id}/approve")
def approve_held_deletes(
    connection_id: UUID, plan_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization,
    background: BackgroundTasks,
) -> wire.SourceConnectionJob:  # fmt: skip
    """Start a full sync that checks them once more and deletes what is still gone."""
    connection = _found(session, organization, connection_id)
    plan = _found_plan(session, connection, plan_id)
    job = parts.connections.approve(session, connection, plan, parts.driver.choose())
    background.add_task(parts.driver.kick)
    return shown_jobs(session, [job])[0]


@router.post("/{connection_id}/held-deletes/{plan_id}/dismiss")
def dismiss_held_deletes(
    connection_id: UUID, plan_id: UUID, parts: PartsOf, session: SessionOf, organization: Organization, page: PageOf
) -> wire.HeldDeletes:
    """Keep these entities; a later full sync that still misses them asks again."""
    connection = _found(session, organization, connection_id)
    plan = _found_plan(session, connection, plan_id)
    parts.connections.dismiss(plan)
    return _held(session, plan, page)


def listed(
    session: Session, organization: UUID, readable_id: str | None, page: Page
) -> list[wire.SourceConnectionListItem]:
    """The connections of an organization, or of one of its collections, newest first."""
    collection = collections.find(session, organization, readable_id) if readable_id is not None else None
    if readable_id is not None and collection is None:
        return []
    found = connections.listed(
        session, organization, collection_id=collection.id if collection else None, skip=page.skip, limit=page.limit
    )
    ids = [connection.id for connection in found]
    last, counts = jobs.last_of(session, ids), connections.entity_counts(session, ids)
    signed_out = {connection.id for connection in connections.signed_out(session, ids)}
    return [
        wire.SourceConnectionListItem(
            id=connection.id,
            name=connection.name,
            short_name=connection.short_name,
            readable_collection_id=session.get_one(Collection, connection.collection_id).readable_id,
            created_at=connection.created_at,
            modified_at=connection.modified_at,
            is_authenticated=connection.id not in signed_out,
            entity_count=counts.get(connection.id, 0),
            auth_method=_method(connection),
            status=_status(last.get(connection.id)),
        )
        for connection in found
    ]


def shown_jobs(session: Session, found: list[SyncJob]) -> list[wire.SourceConnectionJob]:
    progress = jobs.progress(session, [job.id for job in found])
    shown = []
    for job in found:
        seen = progress.get(job.id)  # None: it was deleted just now
        count = seen.counts if seen else jobs.Counts()
        shown.append(
            wire.SourceConnectionJob(
                id=job.id,
                source_connection_id=job.connection_id,
                status=job.status,
                started_at=job.started_at,
                completed_at=job.completed_at,
                duration_seconds=_duration_s(job),
                entities_inserted=count.inserted,
                entities_updated=count.updated,
                entities_deleted=count.deleted,
                entities_failed=count.failed,
                error=job.error,
                error_category=job.error_category,
                error_details=job.error_details,
                organization_id=job.organization_id,
                created_at=job.created_at,
                modified_at=job.modified_at,
                failed_at=job.failed_at,
                entities_kept=count.kept,
                entities_skipped=count.skipped,
                entities_encountered=count.met,
                phase=job.phase,
                mode=job.mode,
                engine=job.engine,
                engine_reason=job.engine_reason,
                trigger=job.trigger,
                waiting_for=job.waiting_for,
                held_deletes=job.held_deletes,
                resumed_from=job.resumed_from,
                attempts=job.attempts,
                partitions_total=seen.partitions_total if seen else 0,
                partitions_done=seen.partitions_done if seen else 0,
            )
        )
    return shown


def _shown(session: Session, connection: SourceConnection) -> wire.SourceConnection:
    last = jobs.last_of(session, [connection.id]).get(connection.id)
    collection = session.get_one(Collection, connection.collection_id)
    types = connections.entity_types(session, connection.id)
    is_signed_out = bool(connections.signed_out(session, [connection.id]))
    return wire.SourceConnection(
        id=connection.id,
        organization_id=connection.organization_id,
        name=connection.name,
        description=connection.description,
        short_name=connection.short_name,
        readable_collection_id=collection.readable_id,
        status=_status(last),
        created_at=connection.created_at,
        modified_at=connection.modified_at,
        auth=wire.AuthenticationDetails(
            method=_method(connection),
            authenticated=not is_signed_out,
            authenticated_at=connection.created_at,
        ),
        config=connection.config,
        schedule=_schedule(connection, waits=is_signed_out) if connection.cron else None,
        sync=_sync(session, last),
        sync_id=connection.id,
        entities=wire.EntitySummary(
            total_entities=sum(count for _, count, _ in types),
            by_type={kind: wire.EntityTypeStats(count=count, last_updated=at) for kind, count, at in types},
        ),
        error_category=last.error_category if last and last.status == "failed" else None,
        error_message=last.error if last and last.status == "failed" else None,
        held_deletes=sum(plan.total for plan in service.held(session, connection.id)),
    )


def _schedule(connection: SourceConnection, *, waits: bool) -> wire.ScheduleDetails:
    return wire.ScheduleDetails(
        cron=connection.cron,
        next_run=None if waits else connection.next_run_at,
        continuous=service.is_continuous(connection.cron, plugins.sources().get(connection.short_name)),
        paused_reason="its credentials were refused; send new ones, or run a sync once they work again"
        if waits
        else None,
    )


def _sync(session: Session, last: SyncJob | None) -> wire.SyncDetails:
    if last is None:
        return wire.SyncDetails()
    return wire.SyncDetails(
        total_runs=1,
        successful_runs=int(last.status == "completed"),
        failed_runs=int(last.status == "failed"),
        last_job=wire.SyncJobDetails.model_validate(dict(shown_jobs(session, [last])[0])),
    )


def _status(last: SyncJob | None) -> str:
    if last is not None and last.status in ("running", "cancelling"):
        return "syncing"
    if last is not None and last.status == "failed":
        return "needs_reauth" if last.error_category in jobs.SIGNED_OUT else "error"
    return "active"


def _method(connection: SourceConnection) -> str:
    kind = plugins.sources().get(connection.short_name)
    return "oauth_token" if kind is not None and isinstance(kind.auth, Bearer) else "direct"


def _duration_s(job: SyncJob) -> float | None:
    if job.started_at is None:
        return None
    return max(0.0, ((job.completed_at or datetime.now(UTC)) - job.started_at).total_seconds())


def _wanted(body: wire.SourceConnectionCreate) -> Wanted:
    return Wanted(
        short_name=body.short_name,
        readable_collection_id=body.readable_collection_id,
        name=body.name,
        description=body.description,
        config=body.config,
        credentials=_credentials(body.authentication),
        access_token=body.authentication.access_token if body.authentication else None,
        cron=body.schedule.cron if body.schedule is not None else "",
        continuous=body.schedule is not None and body.schedule.continuous,
    )


def _left_out(found: Sequence[LeftOut]) -> list[wire.LeftOut]:
    return [wire.LeftOut(**asdict(each)) for each in found]


def _credentials(given: wire.Authentication | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if given.provider_readable_id is not None:
        raise InvalidState("auth providers are not supported by this server; send credentials or an access_token")
    if given.credentials is None and given.access_token is None:
        raise InvalidState("browser sign-in is not supported by this server; send credentials or an access_token")
    return given.credentials


def _held(session: Session, plan: DeletePlan, page: Page) -> wire.HeldDeletes:
    rows = plans.rows(plan)
    named = ledger.named(session, list(rows[page.skip : page.skip + page.limit]))
    return wire.HeldDeletes(
        id=plan.id,
        sync_job_id=plan.job_id,
        reason=plan.reason,
        total=plan.total,
        created_at=plan.created_at,
        entities=[wire.HeldEntity(entity_id=entity_id, name=name) for entity_id, name in named],
    )


def _found(session: Session, organization: UUID, connection_id: UUID) -> SourceConnection:
    connection = connections.find(session, organization, connection_id)
    if connection is None:
        raise NotFound("Source connection not found")
    return connection


def _found_job(session: Session, organization: UUID, connection_id: UUID, job_id: UUID) -> SyncJob:
    connection = _found(session, organization, connection_id)
    job = jobs.get(session, job_id)
    if job is None or job.connection_id != connection.id:
        raise NotFound("Job not found")
    return job


def _found_plan(session: Session, connection: SourceConnection, plan_id: UUID) -> DeletePlan:
    plan = session.get(DeletePlan, plan_id)
    if plan is None or plan.connection_id != connection.id:
        raise NotFound("Held deletes not found")
    return plan
