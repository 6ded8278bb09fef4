"""A sync in four steps: open, read, sweep, close. Knows neither HTTP nor which driver runs it.

A step may be killed at any point; it can be repeated, even by another process."""

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from .. import metrics
from ..db import audit, connections, jobs, ledger, moves, partitions, plans
from ..db import chunks as chunk_rows
from ..db.models import (
    ACTIVE,
    Collection,
    Mode,
    PartitionState,
    Phase,
    SourceConnection,
    Status,
    SyncJob,
    SyncPartition,
    Trigger,
)
from ..db.room import is_storage_full
from ..db.session import Database, is_outage, now
from ..errors import Fenced
from ..sdk import ConfigError, Source, Stopped, Traits
from ..settings import Settings
from ..text import versions
from ..text.parsers import Parsers
from . import sweeping
from .batch import BATCH_ITEMS, Target, Writer
from .connector import Connectors, notices_moves, refusal_of, traits_of
from .reembed import FillTask, fill
from .signals import Signals
from .trouble import Verdict, describe_damage, describe_partitions, format_trace, judge, to_error_details, waits_for
from .vectors import models_of, next_embedder_of, overwrites
from .windows import Windows

RETRY_LONGEST_S = 60.0
MAX_PARTITIONS = 100_000
MOST_CRASHES = 20
ALWAYS_H = 24.0 * 365  # resume window of a move: its progress does not go stale

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended.

    ``ended``: the job has a terminal status. ``wait_s``: seconds until the job can continue; None to take the next step
    now. ``waiting_for``: what the job waits for, as in ``waits_for``. ``reopened``: partitions are to be read again.
    """

    ended: bool = False
    wait_s: float | None = None
    reopened: bool = False
    waiting_for: str | None = None


class SyncService:
    """Runs the steps of the jobs in one database."""

    def __init__(self, database: Database, connectors: Connectors, settings: Settings) -> None:
        self._database = database
        self._connectors = connectors
        self._settings = settings
        self._lock = threading.Lock()
        self._terminated: list[SyncPartition] = []  # their steps were ended by the database, not by a crash
        self._parsers = Parsers(
            seconds=settings.parse_s, memory_mb=settings.parse_memory_mb, ocr_languages=settings.languages_for_ocr()
        )
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    def run(self, job_id: UUID, signals: Signals) -> Outcome:
        """Take one step after another until the job ends, must wait, or is told to stop. Raises database errors."""
        with structlog.contextvars.bound_contextvars(job=str(job_id)):
            while not signals.stop.is_set():
                outcome = self._take_step(job_id, signals)
                if outcome is not None:
                    return outcome
            return Outcome(wait_s=0.0)

    def open(self, job_id: UUID, signals: Signals) -> Outcome:
        """Choose a full or an incremental sync, then resume an earlier job or list the partitions. Idempotent until the
        commit."""
        with self._database.step() as session:
            job = jobs.claim_step(session, job_id)
            if job is None or job.phase != Phase.OPEN:
                return Outcome()
            connection, collection = connections.of_job(session, job)
            secrets: Sequence[str] = ()
            refusal, wait_max_s = refusal_of(connection, job), self._wait_max_s(connection)
            try:
                self._database.room.require()
                if job.trigger == Trigger.REEMBED:
                    return self._open_move(session, job, collection)
                configured = self._connectors.load(connection, job)
                secrets = configured.secrets
                with self._connectors.reading(configured, connection, signals, job=job) as source:
                    if job.config_version != connection.config_version:
                        self._end(session, job, Status.CANCELLED, "configuration changed")
                        return Outcome(ended=True)
                    with signals.waiting():
                        source.check()
                    self._open_sync(session, job, connection, collection, source, signals)
            except Stopped:
                return Outcome(wait_s=0.0)
            except (DBAPIError, Fenced):
                raise
            except Exception as error:
                return self._retry_or_fail_job(session, job, error, secrets, refusal, wait_max_s)
            return Outcome()

    def read(self, job_id: UUID, partition_id: int, signals: Signals, *, owner: str | None = None) -> Outcome:
        """Read one slice of a partition, about ``SLICE_S`` long, starting at the stored cursor. ``owner`` names the
        reader; the default is this process."""
        self._report_alive()
        with self._database.step() as session:
            owner = owner or self._owner
            partition = partitions.claim(session, partition_id, owner=owner, lease_s=self._settings.lease_s)
            if partition is None:
                return Outcome()
            job = jobs.get(session, job_id)
            if job is None:
                raise Fenced("the job's connection was deleted")
            connection, collection = connections.of_job(session, job)
            refusal, wait_max_s = refusal_of(connection, job), self._wait_max_s(connection)
            session.commit()
            secrets: Sequence[str] = ()
            try:
                self._database.room.require()
                if job.trigger == Trigger.REEMBED:
                    return self._fill_slice(session, job, collection, partition, signals)
                configured = self._connectors.load(connection, job)
                secrets = configured.secrets
                with self._connectors.reading(configured, connection, signals, job=job) as source:
                    target = self._make_target(job, connection, collection, partition, secrets)
                    met = partitions.counted_rows(session, job_id)
                    writer = Writer(session, self._database.session, partition, target, met, signals)
                    session.commit()
                    if partition.crashes >= MOST_CRASHES:
                        raise ConfigError(f"reading this partition crashed {MOST_CRASHES} times without progress")
                    with writer, metrics.SLICE_S.labels(connection.short_name).time():
                        self._read_slice(source, partition, writer, signals)
            except Stopped:
                partitions.release(session, partition)
                session.commit()
                return Outcome(wait_s=0.0)
            except Fenced:
                self._note_terminated(partition)
                raise
            except DBAPIError as error:
                if is_outage(error) or not is_storage_full(error):
                    self._note_terminated(partition)
                    raise
                session.rollback()
                return self._retry_or_fail(session, partition, error, secrets, refusal, wait_max_s)
            except Exception as error:
                session.rollback()
                return self._retry_or_fail(session, partition, error, secrets, refusal, wait_max_s)
            partitions.release(session, partition)
            session.commit()
            log.info("slice_read", partition=partition.key, entities=writer.written)
            return Outcome()

    def sweep(self, job_id: UUID, signals: Signals) -> Outcome:
        """Once every partition is read, open those again from which or into which entities moved meanwhile. If there
        are none, plan the deletes, let the guard hold suspicious ones, and apply the rest."""
        with self._database.step() as session:
            job = jobs.claim_step(session, job_id)
            if job is None:
                return Outcome()
            if job.phase == Phase.OPEN or (job.phase == Phase.READ and partitions.count_open(session, job_id)):
                return Outcome(wait_s=0.0)  # not everything is read yet; the driver checks again
            if job.trigger == Trigger.REEMBED:
                jobs.fence(session, job_id, job.epoch, phase=Phase.DELETE)  # there is nothing to delete
                session.commit()
                return Outcome()
            if job.phase == Phase.READ:
                outcome = self._settle(session, job, signals)
                if outcome is not None:
                    return outcome
            plan = plans.find_applying(session, job_id)
            session.commit()
            if plan is None:
                return Outcome()
            rows = list(plans.rows(plan))
            for start in range(0, len(rows), ledger.DELETE_AT_ONCE):
                if signals.stop.is_set():
                    return Outcome(wait_s=0.0)
                part = rows[start : start + ledger.DELETE_AT_ONCE]
                gone = ledger.delete_rows(session, job.connection_id, part)
                jobs.fence(session, job_id, job.epoch, deleted=SyncJob.deleted + gone)
                session.commit()
            plan.state = "applied"
            jobs.fence(session, job_id, job.epoch)
            session.commit()
            log.info("deletes_applied", deleted=len(rows))
            return Outcome()

    def close(self, job_id: UUID) -> Outcome:
        """End the job: completed, failed (naming the partitions), or cancelled on request."""
        with self._database.step() as session:
            job = jobs.claim_step(session, job_id, statuses=(Status.RUNNING, Status.CANCELLING))
            if job is None:
                return Outcome(ended=True)
            if job.status == Status.CANCELLING:
                self._end(session, job, Status.CANCELLED, None)
                return Outcome(ended=True)
            if job.phase in (Phase.OPEN, Phase.READ):
                return Outcome(wait_s=0.0)
            counts = jobs.progress(session, [job_id])[job_id].counts
            written = counts.inserted + counts.updated + counts.deleted
            session.commit()
            if written:
                chunk_rows.tidy(session, analyze=written >= BATCH_ITEMS)
                session.commit()
            is_reembed = job.trigger == Trigger.REEMBED  # such a job listed nothing and changed no text
            findings = () if is_reembed else self._audit(session, job)
            parts = partitions.of_job(session, job_id)
            if not is_reembed:
                connections.save_cursors(session, job)
            lost = [part for part in parts if part.state == PartitionState.FAILED]
            if lost or findings:
                damage = describe_damage(findings, is_repair=job.trigger == Trigger.REPAIR)
                message = "; ".join(filter(None, (describe_partitions(lost), damage)))
                category = lost[0].error_category if lost else ledger.INCOMPLETE
                error_details = to_error_details(lost, findings)
                self._end(session, job, Status.FAILED, message, category=category, details=error_details)
                return Outcome(ended=True)
            if is_reembed:
                self._end(session, job, Status.COMPLETED, None)
                self._switch_collection(session, job)
                return Outcome(ended=True)
            # a resumed job listed some of it long ago, and an unsettled one may have missed some
            if job.mode == Mode.FULL and job.resumed_from is None and not job.unsettled:
                connections.record_full_job(session, job)
            partitions.forget_marks(session, job.connection_id)
            self._end(session, job, Status.COMPLETED, None)
            return Outcome(ended=True)

    def lanes(self, job_id: UUID) -> int:
        """Return how many partitions may be read in parallel now; 0 if all are done or failed."""
        with self._database.session() as session:
            job = jobs.get(session, job_id)
            if job is None or job.status != Status.RUNNING or job.phase != Phase.READ:
                return 0
            traits = traits_of(connections.of_job(session, job)[0])
            return min(partitions.count_open(session, job_id), traits.max_parallel if traits else 1)

    def read_next(self, job_id: UUID, signals: Signals, *, owner: str) -> tuple[Outcome, partitions.NextPartition]:
        """Read one slice of the first partition that is due and has no other reader, if there is one."""
        with self._database.session() as session:
            due = partitions.next_due(session, job_id, owner=owner)
        if due.partition_id is None:
            return Outcome(wait_s=due.wait_s), due
        return self.read(job_id, due.partition_id, signals, owner=owner), due

    def give_up(self, job_id: UUID, *, driver: str) -> None:
        """End a job whose source has been silent for ``SOURCE_STALL_S``. A step that still waits for the source can no
        longer write, and no longer holds a database backend."""
        with self._database.session() as session:
            jobs.end_backends(session, job_id)
            jobs.lock(session, job_id)
            ended = jobs.end(
                session,
                job_id,
                status=Status.FAILED,
                category="source_stalled",
                statuses=(Status.RUNNING,),
                driver=driver,
                error=f"source_stalled: the source sent nothing for {self._settings.source_stall_s:g} s; run it again",
            )
        if ended:
            log.warning("job_ended", job=str(job_id), status=Status.FAILED, error="source_stalled")

    def count_unexpected(self, job_id: UUID, error: Exception, *, driver: str) -> bool:
        """Count an unexplained error of a step. Returns whether it was the last of ``RETRY_ATTEMPTS``, which ends the
        job."""
        with self._database.session() as session:
            if jobs.count_failure(session, job_id, driver=driver) < self._settings.retry_attempts:
                return False
            return jobs.end(
                session,
                job_id,
                status=Status.FAILED,
                category="internal",
                statuses=(Status.RUNNING,),
                driver=driver,
                error=f"internal error: {type(error).__name__}; see the server log for details",
            )

    def _settle(self, session: Session, job: SyncJob, signals: Signals) -> Outcome | None:
        """Open partitions again if the source says that they changed since they were read, at most ``MAX_REREADS``
        times. Otherwise plan the deletes and return None."""
        connection, _ = connections.of_job(session, job)
        secrets: Sequence[str] = ()
        changed: Sequence[SyncPartition] = ()
        parts = sweeping.may_reread(session, job) if notices_moves(connection) else ()
        session.commit()
        if parts:
            try:
                configured = self._connectors.load(connection, job)
                secrets = configured.secrets
                with self._connectors.reading(configured, connection, signals, job=job) as source:
                    changed = sweeping.find_changed(source, parts, signals)
            except Stopped:
                return Outcome(wait_s=0.0)
            except (DBAPIError, Fenced):
                raise
            except Exception as error:
                refusal, wait_max_s = refusal_of(connection, job), self._wait_max_s(connection)
                return self._retry_or_fail_job(session, job, error, secrets, refusal, wait_max_s)
        if changed and job.rereads < sweeping.MAX_REREADS:
            sweeping.reread(session, job, changed)
            return Outcome(wait_s=0.0, reopened=True)
        sweeping.plan_deletes(session, job, self._settings, unsettled=bool(changed))
        return None

    def _audit(self, session: Session, job: SyncJob) -> tuple[audit.Finding, ...]:
        """Audit what the job touched, and return the damage that the database cannot repair alone. That is marked to
        be read again, by a repair, which is requested here unless this job is one."""
        scope = audit.scope_of_job(session, job)
        if orphans := audit.delete_orphans(session, scope):
            log.warning("index_mended", orphans=orphans)
        findings = audit.check(session, scope).findings
        if findings:
            marked = audit.mark(session, scope, findings)
            connections.require_full_job(session, job.connection_id, repair=job.trigger != Trigger.REPAIR)
            log.error("index_incomplete", marked=marked, found=[str(finding) for finding in findings])
        return findings

    def _take_step(self, job_id: UUID, signals: Signals) -> Outcome | None:
        """Take the next step; return None to continue with the one after it."""
        with self._database.session() as session:
            job = jobs.get(session, job_id)
            if job is None or job.status not in ACTIVE:
                return Outcome(ended=True)
            status, phase = job.status, job.phase
            due = (
                partitions.next_due(session, job_id, owner=self._owner)
                if phase == Phase.READ
                else partitions.NextPartition()
            )
        try:
            if status == Status.CANCELLING:
                outcome = self.close(job_id)
            elif phase == Phase.OPEN:
                outcome = self.open(job_id, signals)
            elif due.partition_id is not None:
                outcome = self.read(job_id, due.partition_id, signals)
            elif due.wait_s is not None:
                return Outcome(wait_s=due.wait_s, waiting_for=waits_for(due.trouble))
            elif phase in (Phase.READ, Phase.DELETE):
                outcome = self.sweep(job_id, signals)
                if outcome.reopened:
                    return None
                if outcome.wait_s is None:
                    outcome = self.close(job_id)
            else:
                outcome = self.close(job_id)
        except Fenced:
            return Outcome(wait_s=0.0)  # ended, about to end, or taken over: the driver checks again
        return outcome if outcome.ended or outcome.wait_s is not None else None

    def _note_terminated(self, partition: SyncPartition) -> None:
        with self._lock:
            self._terminated.append(partition)
        with suppress(SQLAlchemyError):
            self._report_alive()

    def _report_alive(self) -> None:
        """Tell the database we are alive for partitions whose step it terminated; otherwise that counts as a crash."""
        with self._lock:
            terminated = list(self._terminated)
        if not terminated:
            return
        with self._database.session() as session:
            for partition in terminated:
                partitions.step_back(session, partition)
        with self._lock:
            self._terminated = [one for one in self._terminated if one not in terminated]

    def _make_target(
        self,
        job: SyncJob,
        connection: SourceConnection,
        collection: Collection,
        partition: SyncPartition,
        secrets: Sequence[str],
    ) -> Target:
        return Target(
            organization_id=job.organization_id,
            collection_id=job.collection_id,
            connection_id=connection.id,
            job_id=job.id,
            source=connection.short_name,
            scope=partition.scope,
            models=models_of(collection, self._settings),
            force=job.force_full,
            lease_s=self._settings.lease_s,
            room=self._database.room,
            parsers=self._parsers,
            secrets=secrets,
        )

    def _open_sync(
        self,
        session: Session,
        job: SyncJob,
        connection: SourceConnection,
        collection: Collection,
        source: Source[Any, Any],
        signals: Signals,
    ) -> None:
        models_of(collection, self._settings)  # fail on an unusable embedder before anything is listed
        cursors = connections.cursors(session, connection.id)
        listed_at = now(session)
        is_repair = job.trigger == Trigger.REPAIR
        traits = source.traits(source.config)
        full = self._must_be_full(session, job, connection, traits, now=listed_at)
        mode = Mode.FULL if full or not _cursors_fit(cursors, source.cursor_model) else Mode.INCREMENTAL
        before = None
        # a local source is cheap to list, and edits configured since the earlier job must not be missed
        if not job.force_full and job.approves is None and not traits.local and not is_repair:
            before = jobs.find_resumable(
                session, job, mode=mode, pipeline=versions.PIPELINE, window_h=self._settings.resume_window_h
            )
        if before is not None:
            partitions.carry_over(session, before=before.id, job_id=job.id)
        else:
            session.commit()
            listed = list(self._list_partitions(job.id, source, signals, cursors if mode == Mode.INCREMENTAL else {}))
            partitions.replace_all(session, job.id, listed)
        if is_repair:
            self._audit(session, job)  # this job itself reads the damaged entities again
        jobs.fence(
            session,
            job.id,
            job.epoch,
            phase=Phase.READ,
            mode=mode,
            pipeline=versions.PIPELINE,
            failures=0,
            waiting_for=None,
            error=None,
            resumed_from=before.id if before is not None else None,
            listed_at=before.listed_at if before is not None else listed_at,
        )
        session.commit()
        log.info("job_opened", mode=mode, connection=str(connection.id), resumed=before is not None)

    def _open_move(self, session: Session, job: SyncJob, collection: Collection) -> Outcome:
        """Create one partition: the connection's chunks in key order, from where an earlier job of the same move
        stopped."""
        if next_embedder_of(collection, self._settings) is None or collection.next_since is None:
            self._end(session, job, Status.CANCELLED, "the move was abandoned or is already done")
            return Outcome(ended=True)
        move = f"reembed {collection.next_name} {collection.next_since.isoformat()}"
        before = jobs.find_resumable(session, job, mode=Mode.REEMBED, pipeline=move, window_h=ALWAYS_H)
        if before is not None:
            partitions.carry_over(session, before=before.id, job_id=job.id)
        else:
            first, last = moves.row_bounds(session, job.connection_id) or (0, -1)
            data = {"first": first, "last": last}
            part = SyncPartition(job_id=job.id, key="", scope="", ordinal=0, data=data, cursor=None)
            partitions.replace_all(session, job.id, [part])
        jobs.fence(
            session,
            job.id,
            job.epoch,
            phase=Phase.READ,
            mode=Mode.REEMBED,
            pipeline=move,
            failures=0,
            waiting_for=None,
            error=None,
            resumed_from=before.id if before is not None else None,
            listed_at=now(session),
        )
        session.commit()
        log.info("job_opened", mode=Mode.REEMBED, connection=str(job.connection_id), resumed=before is not None)
        return Outcome()

    def _fill_slice(
        self, session: Session, job: SyncJob, collection: Collection, partition: SyncPartition, signals: Signals
    ) -> Outcome:
        """Fill one slice of a move's partition with vectors."""
        embedder = next_embedder_of(collection, self._settings)
        if embedder is None:
            raise ConfigError("the move was abandoned")
        task = FillTask(
            job.connection_id,
            collection.other,
            embedder,
            overwrites(collection),
            self._settings.slice_s,
            self._settings.lease_s,
            self._database.room,
        )
        session.commit()
        with signals.working():
            entities = fill(session, partition, task, signals)
        partitions.release(session, partition)
        session.commit()
        log.info("slice_read", partition=partition.key, entities=entities)
        return Outcome()

    def _switch_collection(self, session: Session, job: SyncJob) -> None:
        """Switch the collection to its new embedder if this was the last job of the move."""
        collection = moves.lock(session, job.collection_id)
        if collection is not None and moves.switch(session, collection):
            log.info("collection_moved", collection=collection.readable_id, embedder=collection.embedder)
        session.commit()

    def _must_be_full(
        self, session: Session, job: SyncJob, connection: SourceConnection, traits: Traits, *, now: datetime
    ) -> bool:
        if job.mode == Mode.FULL or job.force_full or job.approves is not None or not traits.tells_changes:
            return True
        if connection.last_full_at is None:
            return True
        if connection.last_full_config_version != job.config_version:
            return True
        if connection.last_full_pipeline != versions.PIPELINE and ledger.has_others(
            session, connection.id, made_by=versions.CURRENT
        ):
            return True  # a reader has changed since: what it read is read anew, and only a full listing offers it
        since = now - connection.last_full_at  # negative after the clock has stepped back
        is_due = not timedelta(0) <= since <= timedelta(hours=self._settings.full_sync_every_h)
        return is_due and not traits.tells_deletes

    def _list_partitions(
        self, job_id: UUID, source: Source[Any, Any], signals: Signals, cursors: dict[str, dict[str, Any]]
    ) -> Iterator[SyncPartition]:
        keys: set[str] = set()
        for ordinal, part in enumerate(signals.watch(part for part in source.partitions())):
            if part.key in keys:
                raise ConfigError(f"the source lists partition {part.key!r} twice")
            if ordinal >= MAX_PARTITIONS:
                raise ConfigError(f"the source lists more than {MAX_PARTITIONS:,} partitions")
            keys.add(part.key)
            yield SyncPartition(
                job_id=job_id,
                key=part.key,
                scope=part.key if part.scope is None else part.scope,
                ordinal=ordinal,
                data=dict(part.data),
                cursor=cursors.get(part.key),
            )

    def _read_slice(self, source: Source[Any, Any], partition: SyncPartition, writer: Writer, signals: Signals) -> None:
        """Read to the partition's end, or until the slice's time is up and the cursor has moved."""
        began_at, first = time.monotonic(), partition.cursor
        cursor = source.cursor_model.model_validate(partition.cursor) if partition.cursor is not None else None
        with closing(signals.watch(source.read(sweeping.to_part(partition), cursor))) as items, signals.working():
            windows = Windows(items, source.cursor_model)
            for window in windows:
                writer.take(window)
                if time.monotonic() - began_at > self._settings.slice_s and writer.cursor != first:
                    writer.commit()
                    return
        writer.commit(done=windows.trouble is None)
        if windows.trouble is not None:
            raise windows.trouble  # everything before it is good and committed

    def _retry_or_fail(
        self,
        session: Session,
        partition: SyncPartition,
        error: Exception,
        secrets: Sequence[str],
        refusal: str,
        wait_max_s: float,
    ) -> Outcome:
        """Record a failed slice, and decide whether and when the partition is tried again."""
        verdict = judge(error, secrets, refusal=refusal)
        if verdict.is_refusal:
            jobs.lock_row(session, partition.job_id)
        known = session.get_one(SyncPartition, partition.id, populate_existing=True)
        final, wait_s = verdict.final, verdict.wait_s or self._backoff(known.failures)
        is_known = not verdict.has_limit and known.waiting_since is not None  # a full disk may last for days
        if verdict.waiting:
            waited_s = partitions.waited_s(session, partition.id)
            wait_s = verdict.wait_after(waited_s)
            final = verdict.has_limit and waited_s + wait_s > wait_max_s
        elif not final:
            final = (
                known.failures + 1 >= self._settings.retry_attempts
                or known.failures_in_all + 1 >= self._settings.retry_attempts_progress
            )
        partitions.record_failure(
            session,
            partition,
            error=verdict.text,
            category=verdict.category,
            wait_s=wait_s,
            final=final,
            waiting=verdict.waiting,
        )
        if verdict.is_refusal:
            return self._fail_job(session, partition.job_id, verdict)
        session.commit()
        (log.debug if is_known else log.warning)(
            "partition_failed" if final else "partition_will_retry",
            partition=partition.key,
            error=verdict.text,
            wait_s=None if final else round(wait_s, 1),
            trace=format_trace(error, secrets) if verdict.category == "internal" else None,
        )
        return Outcome() if final else Outcome(waiting_for=verdict.waiting_for)

    def _retry_or_fail_job(
        self,
        session: Session,
        job: SyncJob,
        error: Exception,
        secrets: Sequence[str],
        refusal: str,
        wait_max_s: float,
    ) -> Outcome:
        """Record a failed step that has no partition, and decide whether and when the job is tried again."""
        session.rollback()
        verdict = judge(error, secrets, refusal=refusal)
        failures, wait_s = job.failures + (not verdict.waiting), verdict.wait_s or self._backoff(job.failures)
        jobs.fence(session, job.id, job.epoch, failures=failures, error=verdict.text)
        waited_s = jobs.seconds_since_start(session, job.id) if verdict.waiting else 0.0
        lost = waited_s + wait_s > wait_max_s and verdict.waiting and verdict.has_limit
        if verdict.final or lost or failures >= self._settings.retry_attempts:
            return self._fail_job(session, job.id, verdict)
        session.commit()
        log.warning("job_will_retry", error=verdict.text, wait_s=round(wait_s, 1))
        return Outcome(wait_s=wait_s, waiting_for=verdict.waiting_for)

    def _wait_max_s(self, connection: SourceConnection) -> float:
        """How long a job of the connection waits for its source."""
        return connection.source_wait_max_s or self._settings.source_wait_max_s

    def _fail_job(self, session: Session, job_id: UUID, verdict: Verdict) -> Outcome:
        """End the job in the transaction whose fence held, unless it is being cancelled."""
        ended = jobs.end(
            session,
            job_id,
            status=Status.FAILED,
            error=verdict.text,
            category=verdict.category,
            statuses=(Status.RUNNING,),
        )
        session.commit()
        if ended:
            log.warning("job_ended", status=Status.FAILED, error=verdict.text)
        return Outcome(ended=True)

    def _end(
        self,
        session: Session,
        job: SyncJob,
        status: Status,
        error: str | None,
        *,
        category: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        jobs.fence(session, job.id, job.epoch)
        jobs.end(session, job.id, status=status, error=error, category=category, details=details)
        session.commit()
        log.info("job_ended", status=status, error=error)

    def _backoff(self, failures: int) -> float:
        return float(min(self._settings.retry_backoff_s * 2**failures, RETRY_LONGEST_S))


def _cursors_fit(cursors: dict[str, dict[str, Any]], model: type[BaseModel]) -> bool:
    """Whether the stored cursors have the form that the source writes now."""
    try:
        for cursor in cursors.values():
            model.model_validate(cursor)
    except ValidationError:
        return False
    return True
