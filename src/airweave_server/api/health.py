"""Health: alive, ready, and what drives jobs."""

import time
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.exc import SQLAlchemyError

from ..db import figures, leases
from ..db.session import is_outage
from .deps import PartsOf

router = APIRouter(prefix="/health", tags=["health"])


@router.get("")
def health(parts: PartsOf) -> dict[str, Any]:
    """That the process answers, what drives its jobs and why, whether the house-keeping is done by somebody, and when
    the connections were last listed whole."""
    keeper: str | None = None
    workers: int | None = None
    oldest = newest = None
    database = "up"
    try:
        with parts.database.session() as session:
            keeper = leases.holder(session, "keeper")
            workers = leases.count(session, f"{leases.WORKER}{parts.settings.temporal_task_queue}:")
            oldest, newest = figures.full_listings(session)
    except SQLAlchemyError:
        database = "down"
    return {
        "status": "healthy" if database == "up" else "degraded",
        **parts.driver.shown(),
        "database": database,
        "keeper": keeper,
        "workers": workers,
        "last_full_listing": {"oldest": oldest, "newest": newest},
        "children": {child.name: child.to_wire() for child in parts.children},
    }


@router.get("/live")
def live() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/ready")
def ready(parts: PartsOf, response: Response) -> dict[str, Any]:
    """200 when requests can be served, 503 with the reason otherwise."""
    began_at = time.perf_counter()
    try:
        parts.database.ping()
    except SQLAlchemyError as error:
        response.status_code = 503
        reason = "unreachable" if is_outage(error) else type(error).__name__
        return {"status": "not_ready", "checks": {"database": {"status": "down", "error": reason}}}
    latency_ms = round((time.perf_counter() - began_at) * 1000, 2)
    return {"status": "ready", "checks": {"database": {"status": "up", "latency_ms": latency_ms}}}
