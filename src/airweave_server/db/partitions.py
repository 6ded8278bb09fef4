"""Queries on partitions: the claim and the fence, what a batch met, and how a read failed."""

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
from .models import PartitionState, Status, SyncMark, SyncPartition


@dataclass(frozen=True, slots=True)
class Progress:
    """What one partition listed in this job, for the delete plan."""

    scope: str
    done: bool
    met: BitMap64
    deleted: BitMap64


@dataclass(frozen=True, slots=True)
class Due:
    """The next partition to read, or how long until there is one (``wait_s``); both None: none is open.
    ``is_busy``: the one to wait for is being read by somebody else; ``trouble``: the category of what it waits over."""

    partition_id: int | None = None
    wait_s: float | None = None
    is_busy: bool = False
    trouble: str | None = None


def of_job(session: Session, job_id: UUID) -> list[SyncPartition]:
    return list(
        session.scalars(select(SyncPartition).where(SyncPartition.job_id == job_id).order_by(SyncPartition.ordinal))
    )


def replace_all(session: Session, job_id: UUID, partitions: Sequence[SyncPartition]) -> None:
    """Lay out a job's partitions anew (``open`` may be repeated)."""
    session.execute(delete(SyncPartition).where(SyncPartition.job_id == job_id))
    session.add_all(partitions)
    session.flush()


def take_up(session: Session, *, before: UUID, job_id: UUID) -> None:
    """Give a new job the partitions of an ended one, with cursors and what they met; failed ones are open again."""
    session.execute(delete(SyncPartition).where(SyncPartition.job_id == job_id))
    session.execute(
        text("""
            insert into sync_partition (job_id, key, scope, ordinal, data, state, cursor, epoch, reads, failures,
                                        failures_in_all, inserted, updated, kept, skipped, failed)
            select :job_id, key, scope, ordinal, data, case state when 'done' then 'done' else 'open' end, cursor,
                   0, 0, 0, 0, 0, 0, 0, 0, 0
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


def count_open(session: Session, job_id: UUID) -> int:
    return session.execute(
        select(func.count()).where(SyncPartition.job_id == job_id, SyncPartition.state == PartitionState.OPEN)
    ).scalar_one()


def next_due(session: Session, job_id: UUID, *, owner: str) -> Due:
    """What ``owner`` is to read next: the first open partition that is due and that no other has a lease on."""
    values = {"id": job_id, "owner": owner}
    found = session.execute(
        text("""
            select id from sync_partition where job_id = :id and state = 'open'
              and (not_before is null or not_before <= now())
              and (owner is null or owner = :owner or lease_until < now())
            order by ordinal limit 1
        """),
        values,
    ).scalar_one_or_none()
    if found is not None:
        return Due(partition_id=found)
    row = session.execute(
        text("""
            select owner is not null and owner <> :owner and lease_until >= now() as is_busy,
                   greatest(extract(epoch from greatest(not_before, case when owner <> :owner then lease_until end)
                                               - now()), 0) as wait_s, error_category
            from sync_partition where job_id = :id and state = 'open' order by is_busy, wait_s limit 1
        """),
        values,
    ).one_or_none()
    if row is None:
        return Due()
    return Due(wait_s=float(row.wait_s or 0.0), is_busy=bool(row.is_busy), trouble=row.error_category)


def claim(session: Session, partition_id: int, *, owner: str, lease_s: float) -> SyncPartition | None:
    """Become the one that writes for this partition. None when it is not open, another has a lease on it, or its job
    is not running. A former reader that never stepped back counts as a crash.

    The job's row is share-locked first: a cancel or takeover that is under way is waited for, so that a claim never
    slips in behind its bump of the epochs.
    """
    former = session.execute(
        text("""
            select backend_pid, backend_start, job_id from sync_partition
            where id = :id and state = 'open' and (owner is null or owner = :owner or lease_until < now())
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
            text("""
            update sync_partition set epoch = epoch + 1, owner = :owner, reads = reads + 1, not_before = null,
                   crashes = crashes + (backend_pid is not null)::int,
                   suspect_crashes = suspect_crashes + (backend_pid is not null and suspect is not null)::int,
                   backend_pid = pg_backend_pid(), backend_start =
                   (select backend_start from pg_stat_activity where pid = pg_backend_pid()),
                   lease_until = now() + make_interval(secs => :lease_s)
            where id = :id and state = 'open' and (owner is null or owner = :owner or lease_until < now())
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
    session.expunge(partition)  # what was claimed must never be read anew: its epoch is the fence
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
    """The last statement of a batch: write cursor, counters and lease if the epoch is still ours.

    Otherwise roll the batch back and raise ``Fenced``.
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
    _hold(session, changed)


def hold(session: Session, partition: SyncPartition) -> None:
    """The fence of a transaction that moves no cursor (the staging of a big entity): lock the partition's row, or roll
    back and raise ``Fenced`` if the epoch is no longer ours."""
    row = session.execute(
        text("select 1 from sync_partition where id = :id and epoch = :epoch for update"),
        {"id": partition.id, "epoch": partition.epoch},
    ).one_or_none()
    _hold(session, row)


def renew(session: Session, job_id: UUID, *, owner: str, lease_s: float) -> None:
    """The reader lives, however long a batch takes it."""
    session.execute(
        text("""
            update sync_partition set lease_until = now() + make_interval(secs => :lease_s)
            where job_id = :id and owner = :owner and state = 'open'
        """),
        {"id": job_id, "owner": owner, "lease_s": lease_s},
    )


def disown(session: Session, job_id: UUID, *, owners: list[str]) -> None:
    """Take from readers that are known to be gone what they hold, and fence them off should they not be."""
    session.execute(
        text("""
            update sync_partition set epoch = epoch + 1, owner = null, lease_until = null
            where job_id = :id and owner = any(:owners)
        """),
        {"id": job_id, "owners": owners},
    )


def suspect(session: Session, partition: SyncPartition, entity_id: str) -> None:
    """Note the entity that is about to be read, in case it ends the process; raises ``Fenced`` as ``fence`` does."""
    noted = session.execute(
        text("""
            update sync_partition set suspect = :entity_id,
                   suspect_crashes = case when suspect = :entity_id then suspect_crashes else 0 end
            where id = :id and epoch = :epoch returning id
        """),
        {"id": partition.id, "epoch": partition.epoch, "entity_id": entity_id},
    ).one_or_none()
    _hold(session, noted)


def clear(session: Session, partition: SyncPartition) -> None:
    """What was suspected is written, and the process lives."""
    session.execute(
        text("update sync_partition set suspect = null, suspect_crashes = 0 where id = :id and epoch = :epoch"),
        {"id": partition.id, "epoch": partition.epoch},
    )


def release(session: Session, partition: SyncPartition) -> None:
    """The reader steps back; its backend is not to be ended by the next one."""
    session.execute(
        text("""
            update sync_partition set owner = null, backend_pid = null, backend_start = null, lease_until = null,
                   crashes = 0, suspect = null, suspect_crashes = 0
            where id = :id and epoch = :epoch
        """),
        {"id": partition.id, "epoch": partition.epoch},
    )


def step_back(session: Session, partition: SyncPartition) -> None:
    """The reader lives, though the database or another driver ended its step: that is no crash of it. Nothing is
    changed when somebody has read the partition since."""
    session.execute(
        text("""
            update sync_partition set owner = null, backend_pid = null, backend_start = null, lease_until = null
            where id = :id and backend_pid = :pid and backend_start = :started
        """),
        {"id": partition.id, "pid": partition.backend_pid, "started": partition.backend_start},
    )


def stumble(
    session: Session,
    partition: SyncPartition,
    *,
    error: str,
    category: str | None,
    wait_s: float,
    final: bool,
    waiting: bool,
) -> None:
    """Note a failed read and when it is tried again, or that it never is. ``waiting``: the source only said wait.

    Raises ``Fenced`` as ``fence`` does.
    """
    noted = session.execute(
        text("""
            update sync_partition set error = :error, error_category = :category,
                   state = case when :final then 'failed' else state end,
                   failures = failures + case when :waiting then 0 else 1 end,
                   failures_in_all = failures_in_all + case when :waiting then 0 else 1 end,
                   waiting_since = case when :waiting then coalesce(waiting_since, now()) end,
                   not_before = case when not :final then now() + make_interval(secs => :wait_s) end,
                   owner = null, backend_pid = null, backend_start = null, lease_until = null,
                   crashes = 0, suspect = null, suspect_crashes = 0
            where id = :id and epoch = :epoch returning id
        """),
        {
            "id": partition.id, "epoch": partition.epoch, "error": error, "category": category,
            "wait_s": wait_s, "final": final, "waiting": waiting,
        },
    ).one_or_none()  # fmt: skip
    _hold(session, noted)


def waited_s(session: Session, partition_id: int) -> float:
    """Seconds since the source first said wait, without progress since."""
    value = session.execute(
        text("select coalesce(extract(epoch from now() - waiting_since), 0) from sync_partition where id = :id"),
        {"id": partition_id},
    ).scalar_one()
    return float(value)


def mark(session: Session, partition: SyncPartition, *, met: BitMap64, deleted: BitMap64, subtrees: list[str]) -> None:
    """Append what a batch met, heard deleted and could not look into."""
    for kind, rows in (("met", met), ("deleted", deleted)):
        if rows:
            session.add(SyncMark(job_id=partition.job_id, partition_id=partition.id, kind=kind, rows=rows.serialize()))
    for prefix in subtrees:
        session.add(SyncMark(job_id=partition.job_id, partition_id=partition.id, kind="subtree", prefix=prefix))
    session.flush()


def met(session: Session, job_id: UUID) -> BitMap64:
    """All ledger rows that the job has met so far."""
    together = BitMap64()
    rows = select(SyncMark.rows).where(SyncMark.job_id == job_id, SyncMark.kind == "met")
    for part in session.scalars(rows):
        together |= BitMap64.deserialize(part or b"")
    return together


def progress(session: Session, job_id: UUID) -> list[Progress]:
    """What each partition met and heard deleted; of an entity's words within one partition the last one holds."""
    made = {
        partition.id: Progress(partition.scope, partition.state == PartitionState.DONE, BitMap64(), BitMap64())
        for partition in of_job(session, job_id)
    }
    marks = session.execute(
        select(SyncMark.partition_id, SyncMark.kind, SyncMark.rows)
        .where(SyncMark.job_id == job_id, SyncMark.rows.is_not(None))
        .order_by(SyncMark.id)
    )
    for partition_id, kind, rows in marks:
        part, found = made[partition_id], BitMap64.deserialize(rows or b"")
        gaining, losing = (part.met, part.deleted) if kind == "met" else (part.deleted, part.met)
        gaining |= found
        losing -= found
    return list(made.values())


def subtrees(session: Session, job_id: UUID) -> list[str]:
    return list(
        session.scalars(select(SyncMark.prefix).where(SyncMark.job_id == job_id, SyncMark.kind == "subtree").distinct())
    )


def forget_marks(session: Session, connection_id: UUID) -> None:
    """With a completed job, the marks of it and of those it took up have done their work."""
    session.execute(
        text("delete from sync_mark where job_id in (select id from sync_job where connection_id = :id)"),
        {"id": connection_id},
    )


def _hold(session: Session, row: object | None) -> None:
    """Roll back and raise ``Fenced`` unless a statement that names our epoch found its row."""
    if row is None:
        session.rollback()
        raise Fenced("another process reads this partition now, or its job ended")
