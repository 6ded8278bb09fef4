"""What a sweep decides once every partition was read: what must be read again because entities moved meanwhile, and
what may be deleted."""

from collections.abc import Sequence
from typing import Any

import structlog
from pyroaring import BitMap64
from sqlalchemy.orm import Session

from ..db import connections, jobs, ledger, partitions, plans
from ..db.models import DeletePlan, Mode, PartitionState, Phase, SourceConnection, SyncJob, SyncPartition
from ..sdk import Partition, Source, Traits
from ..settings import Settings
from . import diff
from .connector import find_never_read, traits_of
from .signals import Signals

MAX_REREADS = 3  # how often a job reads partitions again before it ends unsettled
FIRST_CONFIG_VERSION = 1  # the version of a connection that was never changed

log = structlog.get_logger(__name__)


def to_part(partition: SyncPartition) -> Partition:
    """The partition as its source listed it."""
    return Partition(key=partition.key, scope=partition.scope, data=partition.data)


def may_reread(session: Session, job: SyncJob) -> list[SyncPartition]:
    """The partitions to ask the source about: none if the job reads only changes, or cannot complete anyway."""
    parts = partitions.of_job(session, job.id)
    is_complete = all(part.state == PartitionState.DONE for part in parts)
    return parts if job.mode == Mode.FULL and is_complete else []


def find_changed(source: Source[Any, Any], parts: Sequence[SyncPartition], signals: Signals) -> Sequence[SyncPartition]:
    """Those of ``parts`` whose listing changed since they were read, as far as the source can tell."""
    changed = []
    for part in parts:
        cursor = source.cursor_model.model_validate(part.cursor) if part.cursor is not None else None
        with signals.waiting():
            is_changed = source.changed_since(to_part(part), cursor)
        if is_changed:
            changed.append(part)
    return changed


def reread(session: Session, job: SyncJob, changed: Sequence[SyncPartition]) -> None:
    """Open these partitions again, in one transaction that the fence of the job ends."""
    jobs.lock_row(session, job.id)
    partitions.reopen(session, [part.id for part in changed])
    jobs.fence(session, job.id, job.epoch, rereads=job.rereads + 1, failures=0, error=None)
    session.commit()
    log.info("partitions_reread", partitions=len(changed), times=job.rereads + 1)


def plan_deletes(session: Session, job: SyncJob, settings: Settings, *, unsettled: bool) -> None:
    """Plan the deletes, let the guard hold suspicious ones, and store the plans. ``unsettled``: entities moved for as
    long as the job read, so what it did not meet for the first time may still exist elsewhere."""
    connection, _ = connections.of_job(session, job)
    traits = traits_of(connection) or Traits(proves_listing=False)
    scopes = ledger.rows_by_scope(session, job.connection_id)
    read = partitions.progress(session, job.id)
    met = BitMap64()
    for part in read:
        met |= part.met
    missed_before = ledger.rows_missing_once(session, job.connection_id)
    approves = session.get(DeletePlan, job.approves) if job.approves is not None else None
    asked_for = plans.rows(approves) if approves is not None else BitMap64()
    absence = _interpret_absence(traits, job, connection)
    never_read = find_never_read(session, connection, BitMap64.union(BitMap64(), *scopes.values()) - met)
    plan = diff.plan_deletes(
        scopes,
        read,
        full=job.mode == Mode.FULL and job.resumed_from is None,  # an old listing does not prove absence
        below_skipped=ledger.rows_below(session, job.connection_id, partitions.unread_subtrees(session, job.id)),
        may_skip=traits.may_skip or unsettled,
        missed_before=missed_before,
        absence=absence,
        asked_for=asked_for,
        never_read=never_read,
    )
    held, reason = diff.hold(
        plan,
        approved=plan.rows & (asked_for | never_read),
        total=sum(len(rows) for rows in scopes.values()),
        ratio=settings.delete_guard_ratio,
        minimum=settings.delete_guard_min,
    )
    if job.mode == Mode.FULL and absence is not diff.Absence.STAYS:
        plans.supersede_held(session, job.connection_id)
    for rows, state, why in ((plan.rows - held, "applying", None), (held, "held", reason)):
        if rows:
            session.add(
                DeletePlan(
                    organization_id=job.organization_id,
                    connection_id=job.connection_id,
                    job_id=job.id,
                    state=state,
                    reason=why,
                    total=len(rows),
                    rows=rows.serialize(),
                )
            )
    ledger.set_missing(session, missed_before & met, 0)
    ledger.set_missing(session, plan.missed, 1)
    session.flush()
    jobs.fence(
        session,
        job.id,
        job.epoch,
        phase=Phase.DELETE,
        held_deletes=len(held),
        never_read=len(never_read),
        unsettled=unsettled,
        failures=0,
        error=None,
    )
    session.commit()
    if reason:
        log.warning("deletes_held", reason=reason)
    if unsettled:
        log.warning("unsettled", rereads=job.rereads, left=len(plan.missed))


def _interpret_absence(traits: Traits, job: SyncJob, connection: SourceConnection) -> diff.Absence:
    """What the absence of an entity from this job's listing means."""
    if traits.is_window:
        is_reconfigured = job.config_version != (connection.last_full_config_version or FIRST_CONFIG_VERSION)
        return diff.Absence.DOUBTED if is_reconfigured else diff.Absence.STAYS
    return diff.Absence.GONE if traits.proves_listing else diff.Absence.DOUBTED
