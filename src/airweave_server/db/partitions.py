"""Queries on partitions: the claim and the fence, the rows that a batch met, and failed reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pyroaring import BitMap64
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from .. import metrics
from ..errors import Fenced
from .chunks import unstage
from .jobs import Counts, end_backend
from .leases import is_due, is_held
from .models import PartitionState, Status, SyncMark, SyncPartition

IS_LEASED = is_held("leased_at", "lease_until")
IS_DUE = is_due("delayed_at", "not_before")


@dataclass(frozen=True, slots=True)
class Progress:
    """The ledger rows that one partition met or reported deleted in this job, for the delete plan."""

    scope: str
    done: bool
    met: BitMap64
    deleted: BitMap64


@dataclass(frozen=True, slots=True)
class NextPartition:
    """The next partition to read, or the seconds until one is due (``wait_s``). Both are None if no partition is open.

    ``is_busy``: another reader has the partition to wait for. ``trouble``: the error category that it is waiting over.
    """

    partition_id: int | None = None
    wait_s: float | None = None
    is_busy: bool = False
    trouble: str | None = None


def of_job(session: Session, job_id: UUID) -> list[SyncPartition]:
    return list(
        session.scalars(select(SyncPartition).where(SyncPartition.job_id == job_id).order_by(SyncPartition.ordinal))
    )


def replace_all(session: Session, job_id: UUID, partitions: Sequence[SyncPartition]) -> None:
    """Replace a job's partitions; the ``open`` step may run more than once."""
    session.execute(delete(SyncPartition).where(SyncPartition.job_id == job_id))
    session.add_all(partitions)
    session.flush()


def carry_over(session: Session, *, before: UUID, job_id: UUID) -> None:
    """Copy the partitions of an ended job to a new one, with their cursors and marks. Failed ones are open again."""
    session.execute(delete(SyncPartition).where(SyncPartition.job_id == job_id))
    session.execute(
        text("""
            insert into sync_partition (job_id, key, scope, ordinal, data, state, cursor, epoch, reads, failures,
                                        failures_in_all, inserted, updated, kept, skipped, failed, incomplete)
            select :job_id, key, scope, ordinal, data, case state when 'done' then 'done' else 'open' end, cursor,
                   0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            from sync_partition where job_id = :before
        """),
        {"job_id": job_id, "before": before},
    )
    session.execute(
        text("""
            insert into sync_mark (job_id, partition_id, kind, rows, prefix)
            select :job_id, n.id, m.kind, m.rows, m.prefix
            from sync_mark m join sync_partition o on o.id = m.partition_id
            join sync_partition n on n.job_id = :job_id and n.key = o.key
            where m.job_id = :before order by m.id
        """),
        {"job_id": job_id, "before": before},
    )


def describe_place(session: Session, job_id: UUID, *, owner: str, total: int) -> str | None:
    """Which partition ``owner`` reads and how far it is, in numbers only: "partition 3 of 9, 1,200 entities"."""
    row = session.execute(
        text("""
            select ordinal + 1 as number, inserted + updated + kept + skipped + failed as met from sync_partition
            where job_id = :id and owner = :owner and state = 'open' order by ordinal limit 1
        """),
        {"id": job_id, "owner": owner},
    ).one_or_none()
    return None if row is None else f"partition {row.number} of {total}, {row.met:,} entities"


def find_place(session: Session, job_id: UUID, partition_id: int | None) -> tuple[int | None, int]:
    """The number of the partition, or of the first open one, and how many entities were met in it."""
    row = session.execute(
        text("""
            select ordinal + 1, inserted + updated + kept + skipped + failed from sync_partition
            where job_id = :job and coalesce(id = :id, state = 'open') order by ordinal limit 1
        """),
        {"job": job_id, "id": partition_id},
    ).one_or_none()
    return (None, 0) if row is None else (int(row[0]), int(row[1]))


def count(session: Session, job_id: UUID) -> int:
    return session.execute(select(func.count()).where(SyncPartition.job_id == job_id)).scalar_one()


def count_open(session: Session, job_id: UUID) -> int:
    return session.execute(
        select(func.count()).where(SyncPartition.job_id == job_id, SyncPartition.state == PartitionState.OPEN)
    ).scalar_one()


def next_due(session: Session, job_id: UUID, *, owner: str) -> NextPartition:
    """The partition for ``owner`` to read next: the first open one that is due and that no other owner has leased."""
    values = {"id": job_id, "owner": owner}
    found = session.execute(
        text(f"""
            select id from sync_partition where job_id = :id and state = 'open' and {IS_DUE}
              and (owner is null or owner = :owner or not {IS_LEASED})
            order by ordinal limit 1
        """),
        values,
    ).scalar_one_or_none()
    if found is not None:
        return NextPartition(partition_id=found)
    row = session.execute(
        text(f"""
            select owner is not null and owner <> :owner and {IS_LEASED} as is_busy,
                   greatest(extract(epoch from greatest(case when not {IS_DUE} then not_before end,
                                                        case when owner <> :owner and {IS_LEASED} then lease_until end)
                                               - now()), 0) as wait_s, error_category
            from sync_partition where job_id = :id and state = 'open' order by is_busy, wait_s limit 1
        """),
        values,
    ).one_or_none()
    if row is None:
        return NextPartition()
    return NextPartition(wait_s=float(row.wait_s or 0.0), is_busy=bool(row.is_busy), trouble=row.error_category)


def claim(session: Session, partition_id: int, *, owner: str, lease_s: float) -> SyncPartition | None:
    """Become the writer for this partition. None if it is not open, another owner has leased it, or its job is not
    running. A former reader that never released it counts as a crash.

    Share-locks the job's row first, to wait for a cancel or takeover that is under way: otherwise the claim could slip
    in after the other transaction has incremented the epochs.
    """
    former = session.execute(
        text(f"""
            select backend_pid, backend_start, job_id from sync_partition
            where id = :id and state = 'open' and (owner is null or owner = :owner or not {IS_LEASED})
        """),
        {"id": partition_id, "owner": owner},
    ).one_or_none()
    if former is None:
        return None
    end_backend(session, former.backend_pid, former.backend_start)
    session.commit()
    status = session.execute(
        text("select status from sync_job where id = :id for share"), {"id": former.job_id}
    ).scalar_one_or_none()
    claimed = (
        status == Status.RUNNING
        and session.execute(
            text(f"""
            update sync_partition set epoch = epoch + 1, owner = :owner, reads = reads + 1, not_before = null,
                   crashes = crashes + (backend_pid is not null)::int,
                   suspect_crashes = suspect_crashes + (backend_pid is not null and suspect is not null)::int,
                   backend_pid = pg_backend_pid(), backend_start =
                   (select backend_start from pg_stat_activity where pid = pg_backend_pid()),
                   leased_at = now(), lease_until = now() + make_interval(secs => :lease_s)
            where id = :id and state = 'open' and (owner is null or owner = :owner or not {IS_LEASED})
            returning id
        """),
            {"id": partition_id, "owner": owner, "lease_s": lease_s},
        ).one_or_none()
    )
    if claimed:
        if former.backend_pid is not None:
            metrics.TAKEOVERS.labels("partition").inc()
        unstage(session, partition_id)
    session.commit()
    if not claimed:
        return None
    partition = session.get_one(SyncPartition, partition_id, populate_existing=True)
    session.commit()
    session.expunge(partition)  # never reload a claimed partition: the epoch that it was claimed with is the fence
    return partition


def fence(
    session: Session,
    partition: SyncPartition,
    *,
    cursor: dict[str, Any] | None,
    counts: Counts,
    done: bool,
    lease_s: float,
    progressed: bool,
) -> None:
    """Write cursor, counters and lease if the epoch is still ours; otherwise roll back and raise ``Fenced``.

    This must be the last statement of a batch.
    """
    changed = session.execute(
        update(SyncPartition)
        .where(SyncPartition.id == partition.id, SyncPartition.epoch == partition.epoch)
        .values(
            cursor=cursor,
            state=PartitionState.DONE if done else "open",
            inserted=SyncPartition.inserted + counts.inserted,
            updated=SyncPartition.updated + counts.updated,
            kept=SyncPartition.kept + counts.kept,
            skipped=SyncPartition.skipped + counts.skipped,
            failed=SyncPartition.failed + counts.failed,
            incomplete=SyncPartition.incomplete + counts.incomplete,
            chunks_written=SyncPartition.chunks_written + counts.chunks_written,
            leased_at=func.now(),
            lease_until=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s),
            **(
                {"failures": 0, "waiting_since": None, "crashes": func.least(SyncPartition.crashes, 1)}
                if progressed
                else {}
            ),
        )
        .returning(SyncPartition.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    _require_row(session, changed)


def lock(session: Session, partition: SyncPartition) -> None:
    """Lock the partition's row if the epoch is still ours; otherwise roll back and raise ``Fenced``.

    This is the fence of a transaction that moves no cursor, such as the staging of a big entity.
    """
    row = session.execute(
        text("select 1 from sync_partition where id = :id and epoch = :epoch for update"),
        {"id": partition.id, "epoch": partition.epoch},
    ).one_or_none()
    _require_row(session, row)


def renew(session: Session, job_id: UUID, *, owner: str, lease_s: float) -> None:
    """Renew the leases that ``owner`` holds on the job's partitions, so that a long batch does not lose them."""
    session.execute(
        text("""
            update sync_partition set leased_at = now(), lease_until = now() + make_interval(secs => :lease_s)
            where job_id = :id and owner = :owner and state = 'open'
        """),
        {"id": job_id, "owner": owner, "lease_s": lease_s},
    )


def disown(session: Session, job_id: UUID, *, owners: list[str]) -> None:
    """Revoke the leases of readers that are known to be gone, and fence them off in case they are not."""
    session.execute(
        text("""
            update sync_partition set epoch = epoch + 1, owner = null, lease_until = null
            where job_id = :id and owner = any(:owners)
        """),
        {"id": job_id, "owners": owners},
    )


def note_suspect(session: Session, partition: SyncPartition, entity_id: str) -> None:
    """Record the entity about to be read, in case it crashes the process. Raises ``Fenced`` as ``fence`` does."""
    noted = session.execute(
        text("""
            update sync_partition set suspect = :entity_id,
                   suspect_crashes = case when suspect = :entity_id then suspect_crashes else 0 end
            where id = :id and epoch = :epoch returning id
        """),
        {"id": partition.id, "epoch": partition.epoch, "entity_id": entity_id},
    ).one_or_none()
    _require_row(session, noted)


def clear_suspect(session: Session, partition: SyncPartition) -> None:
    """Clear the suspect: its entity was written, and the process survived."""
    session.execute(
        text("update sync_partition set suspect = null, suspect_crashes = 0 where id = :id and epoch = :epoch"),
        {"id": partition.id, "epoch": partition.epoch},
    )


def release(session: Session, partition: SyncPartition) -> None:
    """Give up the partition as its reader, so that the next one does not terminate this backend."""
    session.execute(
        text("""
            update sync_partition set owner = null, backend_pid = null, backend_start = null, lease_until = null,
                   crashes = 0, suspect = null, suspect_crashes = 0
            where id = :id and epoch = :epoch
        """),
        {"id": partition.id, "epoch": partition.epoch},
    )


def step_back(session: Session, partition: SyncPartition) -> None:
    """Give up the partition after the database or another driver terminated the step: this process is alive, so that is
    no crash. Does nothing if another reader has claimed the partition since."""
    session.execute(
        text("""
            update sync_partition set owner = null, backend_pid = null, backend_start = null, lease_until = null
            where id = :id and backend_pid = :pid and backend_start = :started
        """),
        {"id": partition.id, "pid": partition.backend_pid, "started": partition.backend_start},
    )


def record_failure(
    session: Session,
    partition: SyncPartition,
    *,
    error: str,
    category: str | None,
    wait_s: float,
    final: bool,
    waiting: bool,
) -> None:
    """Record a failed read. It is tried again after ``wait_s``, or never if ``final``.

    ``waiting``: the source only asked us to wait, so this is not a failure. Raises ``Fenced`` as ``fence`` does.
    """
    noted = session.execute(
        text("""
            update sync_partition set error = :error, error_category = :category,
                   state = case when :final then 'failed' else state end,
                   failures = failures + case when :waiting then 0 else 1 end,
                   failures_in_all = failures_in_all + case when :waiting then 0 else 1 end,
                   waiting_since = case when :waiting then least(waiting_since, now()) end,
                   delayed_at = now(),
                   not_before = case when not :final then now() + make_interval(secs => :wait_s) end,
                   owner = null, backend_pid = null, backend_start = null, lease_until = null,
                   crashes = 0, suspect = null, suspect_crashes = 0
            where id = :id and epoch = :epoch returning id
        """),
        {
            "id": partition.id,
            "epoch": partition.epoch,
            "error": error,
            "category": category,
            "wait_s": wait_s,
            "final": final,
            "waiting": waiting,
        },
    ).one_or_none()
    _require_row(session, noted)


def waited_s(session: Session, partition_id: int) -> float:
    """Seconds since the source first asked us to wait; 0 if there has been progress since."""
    value = session.execute(
        text("select coalesce(extract(epoch from now() - waiting_since), 0) from sync_partition where id = :id"),
        {"id": partition_id},
    ).scalar_one()
    return float(value)


def add_marks(
    session: Session, partition: SyncPartition, *, met: BitMap64, deleted: BitMap64, subtrees: list[str]
) -> None:
    """Append the rows that a batch met, those that it heard were deleted, and the subtrees that it could not read."""
    for kind, rows in (("met", met), ("deleted", deleted)):
        if rows:
            session.add(SyncMark(job_id=partition.job_id, partition_id=partition.id, kind=kind, rows=rows.serialize()))
    for prefix in subtrees:
        session.add(SyncMark(job_id=partition.job_id, partition_id=partition.id, kind="subtree", prefix=prefix))
    session.flush()


def reopen(session: Session, partition_ids: Sequence[int]) -> None:
    """Open these partitions again, to be read from their beginning. What they met counts no longer as met, but stays
    counted. Lock the job's row first."""
    for statement in (
        """
        update sync_partition set state = 'open', cursor = null, epoch = epoch + 1, owner = null, backend_pid = null,
               backend_start = null, lease_until = null, not_before = null where id = any(:ids)
        """,
        "update sync_mark set kind = 'counted' where partition_id = any(:ids) and kind = 'met'",
        "delete from sync_mark where partition_id = any(:ids) and kind = 'subtree'",
    ):
        session.execute(text(statement), {"ids": list(partition_ids)})


def counted_rows(session: Session, job_id: UUID) -> BitMap64:
    """The ledger rows that the job has met so far, also in reads that were repeated since."""
    together = BitMap64()
    rows = select(SyncMark.rows).where(SyncMark.job_id == job_id, SyncMark.kind.in_(("met", "counted")))
    for part in session.scalars(rows):
        together |= BitMap64.deserialize(part or b"")
    return together


def progress(session: Session, job_id: UUID) -> list[Progress]:
    """The rows that each partition met or reported deleted. Of a row that it did both with, the last report counts."""
    by_partition = {
        partition.id: Progress(partition.scope, partition.state == PartitionState.DONE, BitMap64(), BitMap64())
        for partition in of_job(session, job_id)
    }
    marks = session.execute(
        select(SyncMark.partition_id, SyncMark.kind, SyncMark.rows)
        .where(SyncMark.job_id == job_id, SyncMark.kind.in_(("met", "deleted")))
        .order_by(SyncMark.id)
    )
    for partition_id, kind, rows in marks:
        part, found = by_partition[partition_id], BitMap64.deserialize(rows or b"")
        gaining, losing = (part.met, part.deleted) if kind == "met" else (part.deleted, part.met)
        gaining |= found
        losing -= found
    return list(by_partition.values())


def unread_subtrees(session: Session, job_id: UUID) -> list[str]:
    return list(
        session.scalars(select(SyncMark.prefix).where(SyncMark.job_id == job_id, SyncMark.kind == "subtree").distinct())
    )


def forget_marks(session: Session, connection_id: UUID) -> None:
    """Delete the marks of all jobs of the connection. Call this when a job completes: nothing needs them then."""
    session.execute(
        text("delete from sync_mark where job_id in (select id from sync_job where connection_id = :id)"),
        {"id": connection_id},
    )


def _require_row(session: Session, row: object | None) -> None:
    """Roll back and raise ``Fenced`` if a statement that checks our epoch matched no row."""
    if row is None:
        session.rollback()
        raise Fenced("another process now reads this partition, or its job ended")
