"""Held deletes of source connections: list, approve and dismiss."""

from uuid import UUID

from fastapi import APIRouter, BackgroundTasks
from sqlalchemy.orm import Session

from .. import wire
from ..db import ledger, plans
from ..db.models import DeletePlan, SourceConnection
from ..errors import InvalidState, NotFound
from ..services import connections as service
from .answers import may_raise
from .deps import ConnectionId, EngineOf, Organization, Page, PageOf, PartsOf, PlanId, SessionOf, find_connection
from .jobs import jobs_to_wire

router = APIRouter(prefix="/source-connections", tags=["source connections"])


@router.get("/{connection_id}/held-deletes")
def list_held_deletes(
    connection_id: ConnectionId, session: SessionOf, organization: Organization, page: PageOf
) -> list[wire.HeldDeletes]:
    """List deletes that wait for approval, each with a page of the entities that would be deleted."""
    connection = find_connection(session, organization, connection_id)
    return [_to_wire(session, plan, page) for plan in service.held_deletes(session, connection.id)]


@router.post("/{connection_id}/held-deletes/{plan_id}/approve", responses=may_raise(InvalidState))
def approve_held_deletes(
    connection_id: ConnectionId,
    plan_id: PlanId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    engine: EngineOf,
    background: BackgroundTasks,
) -> wire.SourceConnectionJob:
    """Start a full sync that checks the entities again and deletes those still missing at the source."""
    connection = find_connection(session, organization, connection_id)
    plan = _find_plan(session, connection, plan_id)
    job = parts.connections.approve(session, connection, plan, engine)
    background.add_task(parts.driver.kick)
    return jobs_to_wire(session, [job])[0]


@router.post("/{connection_id}/held-deletes/{plan_id}/dismiss", responses=may_raise(InvalidState))
def dismiss_held_deletes(
    connection_id: ConnectionId,
    plan_id: PlanId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    page: PageOf,
) -> wire.HeldDeletes:
    """Keep the entities. A later full sync that still misses them asks again."""
    connection = find_connection(session, organization, connection_id)
    plan = _find_plan(session, connection, plan_id)
    parts.connections.dismiss(plan)
    return _to_wire(session, plan, page)


def _to_wire(session: Session, plan: DeletePlan, page: Page) -> wire.HeldDeletes:
    rows = plans.rows(plan)
    named = ledger.ids_and_names(session, list(rows[page.skip : page.skip + page.limit]))
    return wire.HeldDeletes.of(
        plan,
        sync_job_id=plan.job_id,
        entities=[wire.HeldEntity(entity_id=entity_id, name=name) for entity_id, name in named],
    )


def _find_plan(session: Session, connection: SourceConnection, plan_id: UUID) -> DeletePlan:
    plan = session.get(DeletePlan, plan_id)
    if plan is None or plan.connection_id != connection.id:
        raise NotFound("Held deletes not found")
    return plan
