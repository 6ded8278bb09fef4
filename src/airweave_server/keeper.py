"""Housekeeping, done by one API process at a time: starts scheduled jobs, ends abandoned ones, purges, reseals and
forgets."""

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from .db import collections, connections, credentials, jobs, leases, ledger, moves, webhooks
from .db.models import SourceConnection, Status, Trigger
from .db.session import Database, clock, first_line, is_outage
from .errors import BadInput, InvalidState, NotFound, Unavailable
from .services import jobs as job_service
from .services import reembed
from .services.connections import next_run
from .services.deliveries import Deliveries
from .services.upkeep import Upkeep
from .services.webhooks import owner_of
from .settings import Settings
from .sync.connector import traits_of
from .vault import Vault, VaultError

CANCEL_PATIENCE_S = 5.0
LEASE_TICKS = 4
FORGET_EVERY_S = 3600.0
FORGET_AT_ONCE = 500

log = structlog.get_logger(__name__)


class Keeper:
    """Ticks every ``TICK_S``, and at once after ``kick``. Works only while it holds the keeper's lease."""

    def __init__(self, database: Database, vault: Vault, driver: job_service.Driver, settings: Settings) -> None:
        self._database = database
        self._vault = vault
        self._driver = driver
        self._settings = settings
        self._name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="keeper", daemon=True)
        self._forgot_at = -math.inf
        self._upkeep = Upkeep(database, settings)
        self._deliveries = Deliveries(database, vault, settings)
        self.holds_lease = False

    def start(self) -> None:
        self._upkeep.start()
        self._deliveries.start()
        self._thread.start()

    def kick(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(10)
        self._deliveries.stop()
        self._upkeep.stop()
        with suppress(SQLAlchemyError), self._database.session() as session:  # otherwise the lease expires
            leases.release(session, "keeper", self._name)

    def tick(self) -> None:
        """Do one round of housekeeping if we hold the lease."""
        with self._database.session() as session:
            self.holds_lease = leases.take(session, "keeper", self._name, self._settings.tick_s * LEASE_TICKS)
        if self.holds_lease:
            duties = (
                self._end_unattended,
                self._start_repairs,
                self._continue_moves,
                self._plan_again,
                self._fire_schedules,
                self._deliveries.kick,
                self._driver.reconcile,
                self._mark_waiting,
                self._purge,
                self._reseal,
                self._forget,
                self._upkeep.kick,
            )
            for duty in duties:  # each on its own: one that fails does not stop the others
                self._try(duty)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._try(self.tick)
            self._wake.wait(self._settings.tick_s)
            self._wake.clear()

    def _try(self, duty: Callable[[], None]) -> None:
        try:
            duty()
        except Exception as error:  # the outermost loop of this thread: it must not end
            if is_outage(error):
                log.warning("database_unreachable", error=first_line(error))
            else:
                log.error("keeper_failed", exc_info=error)

    def _end_unattended(self) -> None:
        """Finish cancels whose driver has died or hangs in its source. The request for the cancel bumped the epochs, so
        that driver can no longer write."""
        with self._database.session() as session:
            unattended = jobs.list_overdue_cancels(session, patience_s=CANCEL_PATIENCE_S)
        for job_id in unattended:
            with self._database.session() as session:
                jobs.lock(session, job_id)
                jobs.end(session, job_id, status=Status.CANCELLED, error=None)
                log.info("job_ended", job=str(job_id), status=Status.CANCELLED)

    def _mark_waiting(self) -> None:
        """Mark jobs bound to a host where no process of ours runs as waiting for a worker."""
        with self._database.session() as session:
            jobs.wait_for_hosts(session)

    def _start_repairs(self) -> None:
        """Start the jobs that read again what the audit found damaged, each once."""
        with self._database.session() as session:
            if not connections.list_to_repair(session):
                return
        try:
            engine = self._driver.choose()
        except Unavailable as error:
            log.warning("repairs_wait", reason=str(error))
            return
        with self._database.session() as session:
            for connection in connections.list_to_repair(session):
                connection.repair_asked_at = None
                try:
                    request = job_service.JobRequest(Trigger.REPAIR, reread=True)
                    job = job_service.create(session, self._vault, connection, engine, request)
                    log.info("repair_started", connection=str(connection.id), job=str(job.id))
                except (InvalidState, NotFound) as error:
                    log.warning("repair_skipped", connection=str(connection.id), reason=str(error))
        self._driver.kick()

    def _continue_moves(self) -> None:
        """Start jobs of moves that could not start before, and finish moves that have nothing left to do."""
        with self._database.session() as session:
            moving = [collection.id for collection in moves.list_under_way(session)]
        if not moving:
            return
        try:
            engine = self._driver.choose()
        except Unavailable as error:
            log.warning("moves_wait", reason=str(error))
            return
        started = 0
        for collection_id in moving:
            with self._database.session() as session:
                if (collection := moves.lock(session, collection_id)) is not None:
                    started += len(reembed.go_on(session, self._vault, collection, engine))
                    if moves.switch(session, collection):
                        log.info("collection_moved", collection=collection.readable_id, embedder=collection.embedder)
        if started:
            self._driver.kick()

    def _plan_again(self) -> None:
        """Plan the schedules again that were planned before the clock stepped back: their times may be far away."""
        with self._database.session() as session:
            for connection in connections.list_planned_ahead(session):
                self._plan(session, connection)
                log.warning(
                    "schedule_planned_again", connection=str(connection.id), next_run=str(connection.next_run_at)
                )

    def _plan(self, session: Session, connection: SourceConnection) -> bool:
        """Compute when the connection's schedule fires next. False if it never can."""
        traits = traits_of(connection)
        connection.next_run_at, connection.planned_at = None, clock(session)
        if traits is None or connection.cron is None:
            return False
        try:
            connection.next_run_at = next_run(
                connection.cron,
                source=connection.short_name,
                traits=traits,
                after=connection.planned_at,
            )
        except (BadInput, InvalidState) as error:  # a new schedule sets it again
            log.warning("schedule_unusable", connection=str(connection.id), reason=str(error))
            return False
        return True

    def _fire_schedules(self) -> None:
        """Start the due schedules. One that overlaps a job is skipped; one that was missed many times runs once."""
        with self._database.session() as session:
            if not connections.list_due(session):
                return
        try:
            engine = self._driver.choose()
        except Unavailable as error:
            log.warning("schedules_wait", reason=str(error))  # each fires once when the engine is back
            return
        fired = False
        with self._database.session() as session:
            for connection in connections.list_due(session):
                if not self._plan(session, connection):
                    continue
                try:
                    job_service.create(
                        session, self._vault, connection, engine, job_service.JobRequest(Trigger.SCHEDULE)
                    )
                    fired = True
                except (InvalidState, NotFound) as error:
                    log.info("schedule_skipped", connection=str(connection.id), reason=str(error))
        if fired:
            self._driver.kick()

    def _purge(self) -> None:
        """Remove the data of deleted connections and collections, a portion each tick so that nothing else waits."""
        with self._database.session() as session:
            hidden = connections.list_deleted(session)
        for connection_id in hidden:
            with self._database.session() as session:
                if ledger.purge(session, connection_id):
                    self._wake.set()
                else:
                    connections.remove(session, connection_id)
                    log.info("connection_purged", connection=str(connection_id))
        with self._database.session() as session:
            for collection_id in collections.list_purgeable(session):
                collections.remove(session, collection_id)

    def _forget(self) -> None:
        """Remove jobs that ended ``RETENTION_DAYS`` ago, and webhook messages after 14 days, a portion each tick; and
        the successors of renewed credentials after a day."""
        if time.monotonic() - self._forgot_at < FORGET_EVERY_S:
            return
        with self._database.session() as session:
            credentials.forget_successors(session)
            gone = jobs.forget_ended(session, days=self._settings.retention_days, limit=FORGET_AT_ONCE)
        with self._database.session() as session:
            messages = webhooks.forget(session, limit=FORGET_AT_ONCE)
        if gone or messages:
            log.info("forgotten", jobs=gone, webhook_messages=messages)
        if max(gone, messages) < FORGET_AT_ONCE:
            self._forgot_at = time.monotonic()

    def _reseal(self) -> None:
        """Seal again with the current key what a former key of VAULT_KEY sealed, so that the former can be dropped."""
        former = self._vault.former_key_ids
        if not former:
            return
        with self._database.session() as session:
            for connection in connections.list_sealed_with(session, former):
                connection.credentials = self._reseal_value(connection.credentials, owner=str(connection.id))
            for job in jobs.list_sealed_with(session, former):
                job.access_token = self._reseal_value(job.access_token, owner=str(job.id))
            for subscription in webhooks.list_sealed_with(session, former):
                owner = owner_of(subscription.id)
                subscription.secret = self._reseal_value(subscription.secret, owner=owner) or subscription.secret
            for row in credentials.successors_sealed_with(session, former):
                owner = credentials.Successor(row.organization_id, row.digest).owner
                row.sealed = self._reseal_value(row.sealed, owner=owner) or row.sealed

    def _reseal_value(self, sealed: bytes | None, *, owner: str) -> bytes | None:
        try:
            return None if sealed is None else self._vault.seal(self._vault.open(sealed, owner=owner), owner=owner)
        except VaultError as error:
            log.error("credentials_unreadable", owner=owner, error=str(error))
            return sealed
