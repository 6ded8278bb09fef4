"""The metrics page: what this process has measured, and figures about jobs and connections from the database."""

import math
import threading
import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
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

KEPT_S = 5.0  # figures from the database are reused for so long, however many scrape
CONNECTIONS = 50  # that have series of their own: those that need a look most; the others count in the sums by source

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
def show_metrics(parts: PartsOf, request: Request) -> Response:
    """Metrics in Prometheus' text format. The figures cover all organizations, so with ``AUTH_ENABLED`` they require
    ``METRICS_TOKEN`` as a bearer token."""
    token = parts.settings.metrics_token
    if parts.settings.auth_enabled and token is None:
        raise Unauthorized("with AUTH_ENABLED the metrics require their own token: set METRICS_TOKEN")
    given = request.headers.get("authorization")
    if not metrics.may_read(token.get_secret_value() if token else None, given):
        raise Unauthorized("send METRICS_TOKEN as a bearer token")
    return Response(metrics.page(), media_type=metrics.CONTENT_TYPE)


class DatabaseFigures(Collector):
    """Gauges from the database, the same in every API process."""

    def __init__(self, database: Database, task_queue: str) -> None:
        self._database = database
        self._task_queue = task_queue
        self._lock = threading.Lock()
        self._queried_at = float("-inf")
        self._gauges: list[GaugeMetricFamily] = []

    def register(self) -> None:
        REGISTRY.register(self)

    def describe(self) -> list[GaugeMetricFamily]:
        """Describe nothing, so that registering does not query the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._queried_at > KEPT_S:
                self._gauges = self._query()
                self._queried_at = time.monotonic()
            return iter(self._gauges)

    def _storage(self) -> list[GaugeMetricFamily]:
        """The disk of the database, which is measured without it."""
        room = self._database.room
        full = GaugeMetricFamily("airweave_storage_full", "Whether jobs wait for room on the database's disk")
        full.add_metric([], int(room.trouble() is not None))
        free = GaugeMetricFamily("airweave_storage_free_bytes", "Free bytes on the disk of the embedded Postgres")
        needed = GaugeMetricFamily("airweave_storage_needed_bytes", "Free bytes below which jobs wait")
        for gauge, value in ((free, room.free_bytes()), (needed, room.needed_bytes)):
            gauge.add_metric([], math.nan if value is None else value)
        return [full, free, needed]

    def _query(self) -> list[GaugeMetricFamily]:
        up = GaugeMetricFamily("airweave_database_up", "Whether Postgres answers")
        try:
            with self._database.session() as session:
                counts = figures.job_counts(session)
                oldest_s = figures.oldest_active_s(session)
                connections = figures.freshness(session)
                workers = leases.count(session, f"{leases.WORKER}{self._task_queue}:")
                keeper = leases.holder(session, "keeper")
        except SQLAlchemyError:
            up.add_metric([], 0)
            return [up, *self._storage()]
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
        kept = GaugeMetricFamily("airweave_keeper_up", "Whether some API process does the housekeeping")
        kept.add_metric([], int(keeper is not None))
        place = ["connection", "collection", "source"]
        completed = GaugeMetricFamily(
            "airweave_last_completed_timestamp_seconds", "When the last sync completed", labels=place
        )
        full = GaugeMetricFamily(
            "airweave_last_full_timestamp_seconds", "When the source was last listed in full", labels=place
        )
        held = GaugeMetricFamily("airweave_held_deletes", "Deletes that wait for approval", labels=place)
        failing = GaugeMetricFamily("airweave_connection_failing", "Whether the last sync failed", labels=place)
        for each in connections[:CONNECTIONS]:
            labels = [str(each.connection_id), each.collection, each.source]
            if each.last_completed_at is not None:
                completed.add_metric(labels, each.last_completed_at.timestamp())
            if each.last_full_at is not None:
                full.add_metric(labels, each.last_full_at.timestamp())
            held.add_metric(labels, each.held_deletes)
            failing.add_metric(labels, int(each.is_failing))
        by_source = [
            GaugeMetricFamily("airweave_connections", "Source connections", labels=["source"]),
            GaugeMetricFamily("airweave_connections_failing", "Whose last sync failed", labels=["source"]),
            GaugeMetricFamily("airweave_connections_held_deletes", "Deletes that wait for approval", labels=["source"]),
            GaugeMetricFamily(
                "airweave_connections_oldest_completed_timestamp_seconds",
                "When the last sync completed of the connection where that is longest ago",
                labels=["source"],
            ),
        ]
        for group in figures.by_source(connections):
            at = group.oldest_completed_at
            values = (group.connections, group.failing, group.held_deletes, at.timestamp() if at is not None else None)
            for gauge, value in zip(by_source, values, strict=True):
                if value is not None:
                    gauge.add_metric([group.source], value)
        return [up, *self._storage(), jobs, oldest, seen, kept, *by_source, completed, full, held, failing]


class Timed:
    """Measures each request until its response begins, since a progress stream lasts as long as its job. Labels the
    measurement by route, never by path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at, took_s, status = time.perf_counter(), 0.0, 500

        async def send_timed(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status, took_s = message["status"], time.perf_counter() - began_at
            await send(message)

        try:
            await self._app(scope, receive, send_timed)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.REQUEST_S.labels(scope["method"], route, str(status)).observe(took_s)
