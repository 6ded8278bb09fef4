"""Queries on delete plans: the deletes that a job found, and what was decided about them."""

from collections.abc import Sequence
from uuid import UUID

from pyroaring import BitMap64
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from .models import DeletePlan, SyncJob


def find_applying(session: Session, job_id: UUID) -> DeletePlan | None:
    """The plan that the job is applying, or None."""
    return session.scalars(
        select(DeletePlan).where(DeletePlan.job_id == job_id, DeletePlan.state == "applying")
    ).one_or_none()


def of_connection(session: Session, connection_id: UUID, *, states: tuple[str, ...]) -> list[DeletePlan]:
    """The connection's plans in these states, newest first."""
    return list(
        session.scalars(
            select(DeletePlan)
            .join(SyncJob, SyncJob.id == DeletePlan.job_id)
            .where(DeletePlan.connection_id == connection_id, DeletePlan.state.in_(states))
            .order_by(SyncJob.number.desc())
        )
    )


def deleted_rows(session: Session, connection_id: UUID, jobs: Sequence[UUID]) -> BitMap64:
    """The ledger rows that these jobs of the connection deleted or are deleting."""
    together = BitMap64()
    plans = select(DeletePlan).where(
        DeletePlan.connection_id == connection_id,
        DeletePlan.state.in_(("applying", "applied")),
        DeletePlan.job_id == func.any(list(jobs)),
    )
    for plan in session.scalars(plans):
        together |= rows(plan)
    return together


def rows(plan: DeletePlan) -> BitMap64:
    """The ledger rows that the plan deletes."""
    return BitMap64.deserialize(plan.rows)


def supersede_held(session: Session, connection_id: UUID) -> None:
    """Mark the connection's held plans as superseded, because a newer full job has listed the source since."""
    session.execute(
        update(DeletePlan)
        .where(DeletePlan.connection_id == connection_id, DeletePlan.state == "held")
        .values(state="superseded", decided_at=func.now())
    )
