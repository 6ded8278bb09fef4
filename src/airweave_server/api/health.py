"""Health: whether the process is alive and ready, and what drives jobs."""

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
    """Report the state of the server: what drives jobs and why, which process does the housekeeping, how many workers
    poll, and when sources were last listed in full. It answers 200 even while the database is down."""
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
    storage = parts.database.room.to_wire()
    return {
        "status": "healthy" if database == "up" and storage["status"] == "ok" else "degraded",
        **parts.driver.describe(),
        "database": database,
        "storage": storage,
        "keeper": keeper,
        "workers": workers,
        "last_full_listing": {"oldest": oldest, "newest": newest},
        "children": {child.name: child.to_wire() for child in parts.children},
    }


@router.get("/live")
def live() -> dict[str, str]:
    """Answer 200 while the process is alive."""
    return {"status": "alive"}


@router.get("/ready")
def ready(parts: PartsOf, response: Response) -> dict[str, Any]:
    """Answer 200 if requests can be served, otherwise 503 with the reason."""
    began_at = time.perf_counter()
    try:
        parts.database.ping()
    except SQLAlchemyError as error:
        response.status_code = 503
        reason = "unreachable" if is_outage(error) else type(error).__name__
        return {"status": "not_ready", "checks": {"database": {"status": "down", "error": reason}}}
    latency_ms = round((time.perf_counter() - began_at) * 1000, 2)
    return {"status": "ready", "checks": {"database": {"status": "up", "latency_ms": latency_ms}}}
