"""Queries on sync jobs: who drives them, who writes for them, and how they end. Only this module changes job state."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import UUID as UUID_COLUMN
from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, cast, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from .. import metrics
from ..errors import Fenced
from . import events
from .leases import HELD, is_due, is_held
from .models import ACTIVE, IS_ACTIVE, Engine, Mode, PartitionState, Phase, Status, SyncJob, SyncPartition, Trigger

LOCK_PATIENCE = "2s"
TEMPORAL = "temporal"  # the driver of the jobs that were handed to Temporal
# now() is the start of this transaction, which may have begun just before the job was created or started.
BEGUN = "greatest(now(), created_at, started_at)"
IS_DRIVEN = is_held("driven_at", "driven_until")
IS_DUE = is_due("delayed_at", "not_before")
OF_TEMPORAL = """j.id, j.organization_id, j.host, j.status, j.connection_id,
    (select short_name from source_connection where id = j.connection_id),
    (select readable_id from collection where id = j.collection_id), j.trigger"""  # the columns of a TemporalJob
SIGNED_OUT = ("api_key_invalid", "oauth_credentials_expired")  # error categories that only new credentials fix


@dataclass(frozen=True, slots=True)
class Counts:
    """What a job did, summed over its partitions."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    kept: int = 0
    skipped: int = 0
    failed: int = 0
    incomplete: int = 0  # of those indexed: some of their content is left out
    chunks_written: int = 0

    @property
    def met(self) -> int:
        """The number of entities that the source listed."""
        return self.inserted + self.updated + self.kept + self.skipped + self.failed


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job. ``error``: of a job that waits, also why it does. ``at``: when it was read; it does not
    count in comparisons."""

    job_id: UUID
    connection_id: UUID
    status: Status
    phase: Phase
    waiting_for: str | None
    error: str | None
    counts: Counts
    partitions_total: int
    partitions_done: int
    at: datetime = field(compare=False)

    @property
    def is_ended(self) -> bool:
        return self.status not in ACTIVE


@dataclass(frozen=True, slots=True)
class TemporalJob:
    """A job that Temporal drives. ``host``: the only host whose workers may take it; None if any may. ``source``: the
    short name of its source. ``collection``: the readable id."""

    id: UUID
    organization_id: UUID
    host: str | None
    status: Status
    connection_id: UUID
    source: str
    collection: str
    trigger: str


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job whose lease this process has just renewed."""

    id: UUID
    status: Status


def get(session: Session, job_id: UUID) -> SyncJob | None:
    return session.get(SyncJob, job_id)


def find_active(session: Session, connection_id: UUID) -> SyncJob | None:
    """The connection's pending, running or cancelling job. There is at most one."""
    return session.scalars(
        select(SyncJob).where(SyncJob.connection_id == connection_id, SyncJob.status.in_(ACTIVE))
    ).one_or_none()


def list_newest(session: Session, connection_id: UUID, *, limit: int) -> list[SyncJob]:
    return list(
        session.scalars(
            select(SyncJob).where(SyncJob.connection_id == connection_id).order_by(SyncJob.number.desc()).limit(limit)
        )
    )


def newest_by_connection(session: Session, connection_ids: list[UUID]) -> dict[UUID, SyncJob]:
    """The newest job of each of these connections. A connection without jobs is left out."""
    found = session.scalars(select(SyncJob).where(SyncJob.id.in_(_newest_ids(connection_ids))))
    return {job.connection_id: job for job in found}


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands, or how it ended."""

    status: Status
    error_category: str | None


def newest_states(session: Session, connection_ids: list[UUID]) -> dict[UUID, JobState]:
    """The state of the newest job of each of these connections. A connection without jobs is left out."""
    rows = session.execute(
        select(SyncJob.connection_id, SyncJob.status, SyncJob.error_category).where(
            SyncJob.id.in_(_newest_ids(connection_ids))
        )
    )
    return {connection_id: JobState(Status(status), category) for connection_id, status, category in rows}


def synced_at(session: Session, connection_ids: list[UUID]) -> dict[UUID, datetime]:
    """When the last completed job of each of these connections began. A connection without one is left out."""
    rows = session.execute(
        select(SyncJob.connection_id, SyncJob.started_at).where(
            SyncJob.id.in_(_newest_ids(connection_ids, SyncJob.status == Status.COMPLETED))
        )
    )
    return {connection_id: at for connection_id, at in rows if at is not None}


def _newest_ids(connection_ids: list[UUID], *conditions: ColumnElement[bool]) -> Select[UUID]:
    # one look into the index for each: a connection may have hundreds of jobs
    wanted = select(func.unnest(cast(connection_ids, ARRAY(UUID_COLUMN))).label("id")).subquery()
    newest = (
        select(SyncJob.id)
        .where(SyncJob.connection_id == wanted.c.id, *conditions)
        .order_by(SyncJob.number.desc())
        .limit(1)
        .correlate(wanted)
        .scalar_subquery()
    )
    return select(newest).select_from(wanted)


def progress(session: Session, job_ids: Sequence[UUID]) -> dict[UUID, Progress]:
    """The progress of these jobs, in one query. A deleted job is left out."""
    rows = session.execute(
        text("""
            select j.id, j.connection_id, j.status, j.phase, j.waiting_for, j.deleted, p.*, now() as at,
                   coalesce(j.error, (select w.error from sync_partition w where w.job_id = j.id
                                       and j.waiting_for is not null and w.state = 'open' and w.not_before is not null
                                       order by w.not_before desc limit 1)) as error
            from sync_job j, lateral (
                select count(*) as total, count(*) filter (where state = 'done') as done,
                       coalesce(sum(inserted), 0) as inserted, coalesce(sum(updated), 0) as updated,
                       coalesce(sum(kept), 0) as kept, coalesce(sum(skipped), 0) as skipped,
                       coalesce(sum(failed), 0) as failed, coalesce(sum(incomplete), 0) as incomplete,
                       coalesce(sum(chunks_written), 0) as chunks_written
                from sync_partition where job_id = j.id
            ) p where j.id = any(:ids)
        """),
        {"ids": list(job_ids)},
    )
    return {
        row.id: Progress(
            row.id,
            row.connection_id,
            row.status,
            row.phase,
            row.waiting_for,
            row.error,
            Counts(**{each.name: int(getattr(row, each.name)) for each in fields(Counts)}),
            row.total,
            row.done,
            row.at,
        )
        for row in rows
    }


def claim_to_drive(session: Session, *, engine: Engine, driver: str, host: str, lease_s: float) -> UUID | None:
    """Take over one job that is due and has no driver, from the organization with the fewest jobs under way.

    Fences off the former driver and terminates its backends. None if no job is due.
    """
    found = session.execute(
        text(f"""
            select j.id, j.driver, j.status from sync_job j
            where j.engine = :engine and j.{IS_ACTIVE}
              and not {is_held("j.driven_at", "j.driven_until")}
              and ({is_due("j.delayed_at", "j.not_before")} or j.status = 'cancelling')
              and (j.host is null or j.host = :host)
            order by (select count(*) from sync_job o where o.organization_id = j.organization_id
                        and o.status in ('running', 'cancelling') and {is_held("o.driven_at", "o.driven_until")}),
                     j.number
            limit 1 for update of j skip locked
        """),
        {"engine": engine, "host": host},
    ).one_or_none()
    if found is None:
        return None
    if found.driver is not None:
        metrics.TAKEOVERS.labels("job").inc()
    started = session.execute(
        text(f"""
            update sync_job set driver = :driver,
                   driven_at = now(), driven_until = now() + make_interval(secs => :lease_s),
                   attempts = attempts + 1, epoch = epoch + 1, not_before = null, waiting_for = null,
                   status = case status when 'pending' then 'running' else status end,
                   started_at = coalesce(started_at, {BEGUN}), modified_at = now()
            where id = :id
            returning case when started_at = {BEGUN} then extract(epoch from started_at - created_at) end
        """),
        {"id": found.id, "driver": driver, "lease_s": lease_s},
    ).scalar_one()
    _note_start(engine, started)
    if found.status == Status.PENDING:
        events.record_job(session, found.id)
    end_backends(session, found.id)
    _bump_partitions(session, found.id)
    return UUID(str(found.id))


def renew(session: Session, *, driver: str, lease_s: float, job_ids: list[UUID]) -> list[LeasedJob]:
    """Renew the leases of these jobs. Returns the jobs that this driver still holds."""
    rows = session.execute(
        text("""
            update sync_job set driven_at = now(), driven_until = now() + make_interval(secs => :lease_s)
            where id = any(:ids) and driver = :driver and status in ('running', 'cancelling')
            returning id, status
        """),
        {"ids": job_ids, "driver": driver, "lease_s": lease_s},
    )
    return [LeasedJob(row.id, row.status) for row in rows]


def hand_over(session: Session, *, lease_s: float, at_once: int) -> TemporalJob | None:
    """Mark one job as handed to Temporal, from the organization with the fewest jobs there.

    None if no job is due, or if ``at_once`` jobs are under way already. An organization without a job under way is not
    held to that limit.
    """
    row = session.execute(
        text(f"""
            with under_way as (
                select organization_id, count(*) as jobs from sync_job
                where engine = 'temporal' and driver is not null and {IS_ACTIVE}
                  and waiting_for is distinct from 'worker'
                group by organization_id
            ), due as (
                select j.id from sync_job j left join under_way u on u.organization_id = j.organization_id
                where j.engine = 'temporal' and j.driver is null and j.status in ('pending', 'running')
                  and {is_due("j.delayed_at", "j.not_before")}
                  and (u.jobs is null or (select sum(jobs) from under_way) < :at_once)
                order by coalesce(u.jobs, 0), j.number limit 1 for update of j skip locked
            )
            update sync_job j set driver = 'temporal',
                   driven_at = now(), driven_until = now() + make_interval(secs => :lease_s),
                   not_before = null, waiting_for = null, engine_reason = null, modified_at = now()
            from due where j.id = due.id returning {OF_TEMPORAL}
        """),
        {"lease_s": lease_s, "at_once": at_once},
    ).one_or_none()
    return None if row is None else TemporalJob(*row)


def mark_refused(session: Session, job_id: UUID, *, wait_s: float) -> None:
    """Note that Temporal refused the job, and offer it again after ``wait_s``.

    Does nothing if a worker has taken a step of the job: then Temporal accepted it, and only its answer was lost.
    """
    session.execute(
        text("""
            update sync_job set driver = null, driven_until = null, waiting_for = 'temporal', modified_at = now(),
                   delayed_at = now(), not_before = now() + make_interval(secs => :wait_s)
            where id = :id and driver = 'temporal' and status = 'pending'
        """),
        {"id": job_id, "wait_s": wait_s},
    )


def take_step(session: Session, job_id: UUID, *, lease_s: float, new_attempt: bool) -> Status | None:
    """Take a step of a job that Temporal drives: mark the job as running and renew its lease.

    ``new_attempt``: no worker has taken this step before, or the worker that had it is gone. Returns the status, or
    None if the job has ended or Temporal no longer drives it.
    """
    taken = session.execute(
        text(f"""
            with before as (select status from sync_job where id = :id for update)
            update sync_job set driver = 'temporal',
                   driven_at = now(), driven_until = now() + make_interval(secs => :lease_s),
                   attempts = greatest(attempts + :new_attempt, 1), waiting_for = null, not_before = null,
                   engine_reason = null, modified_at = now(),
                   status = case sync_job.status when 'pending' then 'running' else sync_job.status end,
                   started_at = coalesce(started_at, {BEGUN})
            from before where id = :id and engine = 'temporal' and sync_job.{IS_ACTIVE}
            returning sync_job.status, before.status = 'pending' as is_new,
                      case when started_at = {BEGUN} then extract(epoch from started_at - created_at) end as after_s
        """),
        {"id": job_id, "lease_s": lease_s, "new_attempt": int(new_attempt)},
    ).one_or_none()
    if taken is None:
        return None
    _note_start(Engine.TEMPORAL, taken.after_s)
    if taken.is_new:
        events.record_job(session, job_id)
    return Status(taken.status)


def _note_start(engine: Engine, after_s: Any) -> None:
    if after_s is not None:
        metrics.START_S.labels(engine).observe(float(after_s))


def set_waiting_for(session: Session, job_id: UUID, waiting_for: str | None) -> None:
    """Record what a job that Temporal drives is waiting for; None if nothing."""
    session.execute(
        text("""
            update sync_job set waiting_for = :waiting_for where id = :id and engine = 'temporal'
              and status in ('pending', 'running') and waiting_for is distinct from :waiting_for
        """),
        {"id": job_id, "waiting_for": waiting_for},
    )


def wait_for_worker(session: Session, job_id: UUID, reason: str) -> None:
    """Record that no worker polls the task queue on which Temporal offers the job, and which queue that is."""
    session.execute(
        text("""
            update sync_job set waiting_for = 'worker', engine_reason = :reason where id = :id and engine = 'temporal'
              and status in ('pending', 'running')
              and (waiting_for is distinct from 'worker' or engine_reason is distinct from :reason)
        """),
        {"id": job_id, "reason": reason},
    )


def list_unattended(session: Session) -> list[TemporalJob]:
    """Jobs that were handed to Temporal and whose lease has lapsed: no worker has renewed it. Up to 200."""
    rows = session.execute(
        text(f"""
            select {OF_TEMPORAL} from sync_job j
            where engine = 'temporal' and driver is not null and not {IS_DRIVEN}
              and {IS_ACTIVE} order by driven_until limit 200
        """)
    )
    return [TemporalJob(*row) for row in rows]


def extend_lease(session: Session, job_id: UUID, *, lease_s: float) -> None:
    """Extend a lapsed lease: Temporal still has the job, though no worker is running a step of it."""
    session.execute(
        text(f"""
            update sync_job set driven_at = now(), driven_until = now() + make_interval(secs => :lease_s)
            where id = :id and driver = 'temporal' and not {IS_DRIVEN}
        """),
        {"id": job_id, "lease_s": lease_s},
    )


def adopt(session: Session, *, reason: str, only_refused: bool = False) -> list[UUID]:
    """Move unattended jobs from Temporal to the in-process driver, which continues them from where they are. A job that
    is bound to a host moves only if an API process runs there.

    ``only_refused``: move only the jobs that Temporal refused. Returns the ids.
    """
    return list(
        session.execute(
            text(f"""
                with lost as (
                    select id from sync_job j
                    where engine = 'temporal' and {IS_ACTIVE}
                      and (driver is null or not {IS_DRIVEN})
                      and (not :only_refused or (driver is null and waiting_for = 'temporal'))
                      and (host is null or exists (select 1 from lease where {HELD}
                                                     and starts_with(name, 'api:' || j.host || ':')))
                    for update skip locked
                )
                update sync_job j set engine = 'in_process', engine_reason = :reason, driver = null,
                       driven_until = null, waiting_for = null, not_before = null, epoch = epoch + 1,
                       modified_at = now()
                from lost where j.id = lost.id returning j.id
            """),
            {"reason": reason, "only_refused": only_refused},
        ).scalars()
    )


def count_refused(session: Session) -> int:
    """The number of jobs that Temporal was offered and refused."""
    count: int = session.execute(
        text("""
            select count(*) from sync_job where engine = 'temporal' and driver is null and waiting_for = 'temporal'
              and status in ('pending', 'running')
        """)
    ).scalar_one()
    return count


def wait_for_hosts(session: Session) -> None:
    """Mark jobs that are bound to a host without a running API process as waiting for a worker."""
    session.execute(
        text(f"""
            update sync_job j set waiting_for = 'worker'
            where engine = 'in_process' and host is not null and status in ('pending', 'running')
              and waiting_for is null
              and (driver is null or not {IS_DRIVEN})
              and not exists (select 1 from lease where {HELD} and starts_with(name, 'api:' || j.host || ':'))
        """)
    )


def release(session: Session, job_id: UUID, *, driver: str, wait_s: float, waiting_for: str | None) -> None:
    """Give up the job as its driver. It is due again after ``wait_s``."""
    session.execute(
        text(f"""
            update sync_job set driver = null, driven_until = null, waiting_for = :waiting_for, modified_at = now(),
                   delayed_at = now(),
                   not_before = case when :wait_s > 0 then now() + make_interval(secs => :wait_s) end
            where id = :id and driver = :driver and {IS_ACTIVE}
        """),
        {"id": job_id, "driver": driver, "wait_s": wait_s, "waiting_for": waiting_for},
    )


def count_failure(session: Session, job_id: UUID, *, driver: str) -> int:
    """Count an unexpected error of a step. Returns the count so far, or 0 if another driver has the job now."""
    statement = text("""
        update sync_job set failures = failures + 1 where id = :id and driver = :driver returning failures
    """)
    return int(session.execute(statement, {"id": job_id, "driver": driver}).scalar_one_or_none() or 0)


def lock_row(session: Session, job_id: UUID) -> None:
    """Lock the job so that no other process can end it. Call this before locking any of its partitions."""
    session.execute(text("select 1 from sync_job where id = :id for update"), {"id": job_id})


def seconds_since_start(session: Session, job_id: UUID) -> float:
    statement = text("select coalesce(extract(epoch from now() - started_at), 0) from sync_job where id = :id")
    return float(session.execute(statement, {"id": job_id}).scalar_one())


def next_due_s(session: Session, *, engine: Engine, host: str) -> float | None:
    """Seconds until the next job becomes due: 0 if one is due now, None if there is no active job."""
    value = session.execute(
        text(f"""
            select extract(epoch from min(greatest(now(), case when not {IS_DUE} then not_before end,
                                                   case when {IS_DRIVEN} then driven_until end)) - now())
            from sync_job where engine = :engine and {IS_ACTIVE}
              and (host is null or host = :host)
        """),
        {"engine": engine, "host": host},
    ).scalar_one()
    return None if value is None else max(0.0, float(value))


def claim_step(session: Session, job_id: UUID, *, statuses: tuple[Status, ...] = (Status.RUNNING,)) -> SyncJob | None:
    """Become the writer for the job's steps that have no partition. Increments the job's epoch and terminates the
    backend of its former writer. None if the job is in none of ``statuses``."""
    former = session.execute(
        text("select backend_pid, backend_start from sync_job where id = :id"), {"id": job_id}
    ).one_or_none()
    if former is not None:
        end_backend(session, former.backend_pid, former.backend_start)
    claimed = session.execute(
        text("""
            update sync_job set epoch = epoch + 1, backend_pid = pg_backend_pid(), backend_start =
                   (select backend_start from pg_stat_activity where pid = pg_backend_pid())
            where id = :id and status = any(:statuses) returning id
        """),
        {"id": job_id, "statuses": list(statuses)},
    ).one_or_none()
    session.commit()
    if claimed is None:
        return None
    job = session.get_one(SyncJob, job_id, populate_existing=True)
    session.commit()
    session.expunge(job)  # never reload a claimed job: the epoch that it was claimed with is the fence
    return job


def fence(session: Session, job_id: UUID, epoch: int, **values: Any) -> None:
    """Write ``values`` to the job if its epoch is still ours; otherwise roll back and raise ``Fenced``.

    This must be the last statement of a step's transaction.
    """
    changed = session.execute(
        update(SyncJob)
        .where(SyncJob.id == job_id, SyncJob.epoch == epoch)
        .values(modified_at=func.now(), **values)
        .returning(SyncJob.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if changed is None:
        session.rollback()
        raise Fenced("the job ended, or another process now runs its steps")


def request_cancel(session: Session, job_id: UUID) -> Status | None:
    """Cancel the job. Fences off its writers, then ends the job or, if it has a driver, asks the driver to end it.

    Returns the new status, or None if the job is neither pending nor running.
    """
    lock(session, job_id)
    job = session.execute(text("select status, driver from sync_job where id = :id"), {"id": job_id}).one_or_none()
    if job is None or job.status not in (Status.PENDING, Status.RUNNING):
        return None
    driven = job.status == Status.RUNNING and job.driver is not None
    if driven:
        session.execute(
            text("""
                update sync_job set status = 'cancelling', cancel_requested_at = now(), modified_at = now(),
                       epoch = epoch + 1 where id = :id
            """),
            {"id": job_id},
        )
        _bump_partitions(session, job_id)
        events.record_job(session, job_id)
        return Status.CANCELLING
    end(session, job_id, status=Status.CANCELLED, error=None)
    return Status.CANCELLED


def end(
    session: Session,
    job_id: UUID,
    *,
    status: Status,
    error: str | None,
    category: str | None = None,
    details: dict[str, Any] | None = None,
    statuses: tuple[Status, ...] = ACTIVE,
    driver: str | None = None,
) -> bool:
    """End an active job; nothing can be written for it afterwards.

    False if the job is in none of ``statuses``, or if ``driver`` is given and another driver has the job.
    """
    ended = session.execute(
        text(f"""
            update sync_job set status = :status, error = :error, error_category = :category, error_details = :details,
                   epoch = epoch + 1, driver = null, driven_until = null, waiting_for = null, not_before = null,
                   access_token = null, modified_at = at, started_at = coalesce(started_at, {BEGUN}),
                   completed_at = greatest(at, created_at, started_at),
                   failed_at = case when :status = 'failed' then greatest(at, created_at, started_at) end,
                   phase = case when :status = 'completed' then 'done' else phase end
            from (select clock_timestamp() as at) as clock  -- not now(): this transaction may have run an audit
            where id = :id and status = any(:statuses) and (cast(:driver as text) is null or driver = :driver)
            returning approves, engine,
                      (select short_name from source_connection where id = connection_id) as source
        """).bindparams(_json("details")),
        {
            "id": job_id,
            "status": status,
            "error": error,
            "category": category,
            "details": details,
            "statuses": list(statuses),
            "driver": driver,
        },
    ).one_or_none()
    if ended is not None and ended.approves is not None:
        session.execute(
            text("""
                update delete_plan set state = case when :completed then 'applied' else 'held' end,
                       decided_at = case when :completed then decided_at end
                where id = :plan and state = 'approved'
            """),
            {"plan": ended.approves, "completed": status == Status.COMPLETED},
        )
    if ended is not None:
        events.record_job(session, job_id)
        metrics.JOBS_ENDED.labels(status, ended.engine, ended.source).inc()
        _bump_partitions(session, job_id)
        session.execute(
            text("""
                delete from chunk_staged where partition_id in (select id from sync_partition where job_id = :id)
            """),
            {"id": job_id},
        )
    return ended is not None


def list_overdue_cancels(session: Session, *, patience_s: float) -> list[UUID]:
    """Jobs whose driver has not finished their cancel within ``patience_s``."""
    return list(
        session.execute(
            text("""
                select id from sync_job where status = 'cancelling'
                  and (cancel_requested_at < now() - make_interval(secs => :patience_s)
                       or cancel_requested_at > clock_timestamp())  -- the clock has stepped back since
            """),
            {"patience_s": patience_s},
        ).scalars()
    )


def list_sealed_with(session: Session, key_ids: list[bytes]) -> list[SyncJob]:
    """Active jobs whose access token is sealed with one of these keys. Up to 100."""
    return list(
        session.scalars(
            select(SyncJob)
            .where(SyncJob.status.in_(ACTIVE), func.substring(SyncJob.access_token, 2, 4).in_(key_ids))
            .limit(100)
        )
    )


def find_resumable(session: Session, job: SyncJob, *, mode: Mode, pipeline: str, window_h: float) -> SyncJob | None:
    """The failed or cancelled job whose progress this one can continue, or None.

    Only the job right before this one qualifies. It must be of the same kind, mode, pipeline and configuration, have
    unfinished partitions, and have listed the source within ``window_h`` hours. A job that resumed another one and met
    nothing does not: what it failed at would keep all other partitions from being read anew.
    """
    before = session.scalars(
        select(SyncJob)
        .where(
            SyncJob.connection_id == job.connection_id,
            (SyncJob.trigger == Trigger.REEMBED) == (job.trigger == Trigger.REEMBED),
            SyncJob.number < job.number,
            or_(SyncJob.phase != Phase.OPEN, SyncJob.mode.is_not(None)),
        )
        .order_by(SyncJob.number.desc())
        .limit(1)
    ).one_or_none()
    if before is None or before.status not in (Status.FAILED, Status.CANCELLED) or before.approves is not None:
        return None
    unfinished = select(SyncPartition.id).where(
        SyncPartition.job_id == before.id, SyncPartition.state != PartitionState.DONE
    )
    if session.scalars(unfinished.limit(1)).first() is None:
        return None  # it read everything it listed: only a fresh listing can add to that
    if before.resumed_from is not None and not progress(session, [before.id])[before.id].counts.met:
        return None
    same = before.mode == mode and before.pipeline == pipeline and before.config_version == job.config_version
    young = session.execute(
        select(before.listed_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, window_h * 3600))
    ).scalar_one()
    return before if same and young else None


def lock(session: Session, job_id: UUID) -> None:
    """Lock the job and its partitions against every writer.

    Waits ``LOCK_PATIENCE``, then terminates the writers' backends and tries once more. Raises ``OperationalError`` if
    a session other than its writers holds the lock.
    """
    for attempt in ("ask", "insist"):
        try:
            with session.begin_nested():
                session.execute(text(f"set local lock_timeout = '{LOCK_PATIENCE}'"))
                session.execute(text("select 1 from sync_job where id = :id for update"), {"id": job_id})
                session.execute(
                    text("select 1 from sync_partition where job_id = :id order by id for update"), {"id": job_id}
                )
                return
        except OperationalError:
            if attempt == "insist":
                raise
            end_backends(session, job_id)


def end_backend(session: Session, pid: int | None, started: datetime | None) -> None:
    """Terminate the Postgres backend of a former owner if it still runs: a stopped process keeps its locks."""
    if pid is None:
        return
    session.execute(
        text("""
            select pg_terminate_backend(pid, 2000) from pg_stat_activity
            where pid = :pid and backend_start = :started and pid <> pg_backend_pid()
        """),
        {"pid": pid, "started": started},
    )


def end_backends(session: Session, job_id: UUID) -> None:
    """Terminate the backends of the job's last writers if they still run."""
    writers = session.execute(
        text("""
            select backend_pid as pid, backend_start as started from sync_partition
            where job_id = :id and backend_pid is not null
            union all select backend_pid, backend_start from sync_job where id = :id and backend_pid is not null
        """),
        {"id": job_id},
    ).all()
    for writer in writers:
        end_backend(session, writer.pid, writer.started)


def fence_off(session: Session, job_id: UUID) -> None:
    """Fence off all current readers of the job's partitions. The next readers continue from the cursors."""
    lock(session, job_id)
    _bump_partitions(session, job_id)


def _bump_partitions(session: Session, job_id: UUID) -> None:
    session.execute(
        text("update sync_partition set epoch = epoch + 1, owner = null, lease_until = null where job_id = :id"),
        {"id": job_id},
    )


def _json(name: str) -> BindParameter[Any]:
    return bindparam(name, type_=JSONB(none_as_null=True))


def forget_ended(session: Session, *, days: float, limit: int) -> int:
    """Delete jobs that ended more than ``days`` ago, with their partitions and decided delete plans.

    Keeps each connection's last job and last completed job, and every job with deletes that wait for a person. Returns
    the number of deleted jobs, at most ``limit``.
    """
    deleted = session.execute(
        text("""
            delete from sync_job where id in (
                select j.id from sync_job j
                where j.completed_at < now() - make_interval(secs => :days * 86400)
                  and exists (select 1 from sync_job n where n.connection_id = j.connection_id
                                and n.number > j.number)
                  and (j.status <> 'completed' or exists (
                       select 1 from sync_job n where n.connection_id = j.connection_id
                         and n.number > j.number and n.status = 'completed'))
                  and not exists (select 1 from delete_plan p where p.job_id = j.id
                                    and p.state in ('held', 'approved', 'applying'))
                order by j.completed_at limit :limit
            ) returning id
        """),
        {"days": days, "limit": limit},
    )
    return len(deleted.all())
