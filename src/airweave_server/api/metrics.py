"""The page of metrics: what this process measured, and what the database says of jobs and connections."""

import threading
import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..db import figures, leases
from ..db.session import Database
from ..errors import Unauthorized
from .deps import PartsOf

KEPT_S = 5.0  # a figure is asked of the database at most this often, however many scrape
CONNECTIONS = 2_000  # those synced longest ago; more would drown a Prometheus

router = APIRouter(tags=["health"])


@router.get("/metrics")
def show_metrics(parts: PartsOf, request: Request) -> Response:
    """Prometheus' text format. Where authentication is on, METRICS_TOKEN is asked for as a bearer token: the figures
    are those of all organizations."""
    token = parts.settings.metrics_token
    if parts.settings.auth_enabled and token is None:
        raise Unauthorized("with AUTH_ENABLED the metrics need a token of their own: set METRICS_TOKEN")
    given = request.headers.get("authorization")
    if not metrics.may_read(token.get_secret_value() if token else None, given):
        raise Unauthorized("send METRICS_TOKEN as a bearer token")
    return Response(metrics.page(), media_type=metrics.CONTENT_TYPE)


class DatabaseFigures(Collector):
    """Gauges that are the same whichever API process is asked."""

    def __init__(self, database: Database, task_queue: str) -> None:
        self._database = database
        self._task_queue = task_queue
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: list[GaugeMetricFamily] = []

    def register(self) -> None:
        REGISTRY.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is asked of the database until somebody scrapes."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._asked_at > KEPT_S:
                self._found = self._ask()
                self._asked_at = time.monotonic()
            return iter(self._found)

    def _ask(self) -> list[GaugeMetricFamily]:
        up = GaugeMetricFamily("airweave_database_up", "Whether Postgres answers")
        try:
            with self._database.session() as session:
                counts = figures.job_counts(session)
                oldest_s = figures.oldest_active_s(session)
                connections = figures.freshness(session, limit=CONNECTIONS)
                workers = leases.count(session, f"{leases.WORKER}{self._task_queue}:")
                keeper = leases.holder(session, "keeper")
        except SQLAlchemyError:
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        jobs = GaugeMetricFamily(
            "airweave_jobs", "Jobs under way", labels=["status", "engine", "source", "waiting_for"]
        )
        for one in counts:
            jobs.add_metric([one.status, one.engine, one.source, one.waiting_for], one.count)
        oldest = GaugeMetricFamily(
            "airweave_oldest_active_job_seconds", "Age of the oldest job under way that waits for nothing"
        )
        oldest.add_metric([], oldest_s)
        seen = GaugeMetricFamily("airweave_workers", "Workers that poll the task queue", labels=["task_queue"])
        seen.add_metric([self._task_queue], workers)
        kept = GaugeMetricFamily("airweave_keeper_up", "Whether some API process does the house-keeping")
        kept.add_metric([], int(keeper is not None))
        place = ["connection", "collection", "source"]
        completed = GaugeMetricFamily(
            "airweave_last_completed_timestamp_seconds", "When the last sync completed", labels=place
        )
        full = GaugeMetricFamily(
            "airweave_last_full_timestamp_seconds", "When the source was last listed whole", labels=place
        )
        held = GaugeMetricFamily("airweave_held_deletes", "Deletes that wait for a person", labels=place)
        failing = GaugeMetricFamily("airweave_connection_failing", "Whether the last sync failed", labels=place)
        for each in connections:
            labels = [str(each.connection_id), each.collection, each.source]
            if each.last_completed_at is not None:
                completed.add_metric(labels, each.last_completed_at.timestamp())
            if each.last_full_at is not None:
                full.add_metric(labels, each.last_full_at.timestamp())
            held.add_metric(labels, each.held_deletes)
            failing.add_metric(labels, int(each.is_failing))
        return [up, jobs, oldest, seen, kept, completed, full, held, failing]


class Timed:
    """Measures each request by its route, never by its path, until its answer begins: a stream of progress goes on for
    as long as its job."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at, took_s, status = time.perf_counter(), 0.0, 500

        async def sent(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status, took_s = message["status"], time.perf_counter() - began_at
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.REQUEST_S.labels(scope["method"], route, str(status)).observe(took_s)
