"""Use case of ``doctor``: what a person should know of this installation, and do. Asks database and disk, no server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError
from rich.filesize import decimal
from sqlalchemy.orm import Session

from .. import plugins
from ..db import collections, connections, jobs, leases, moves, usage
from ..db.models import Status
from ..db.session import Database, known_revisions, now
from ..db.usage import Scheduled, Use, Waiting
from ..sdk import ConfigError, EmbedderError
from ..settings import Settings
from ..sync.connector import traits_of
from .backup import kept_keys

FREE_SHARE, FREE_LEAST_BYTES = 0.1, 1_000_000_000  # of the data directory's disk
LATE_AFTER = timedelta(days=3)  # without a full listing, or twice the time between two syncs if that is longer


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that needs doing, and what."""

    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Report:
    facts: dict[str, str]
    collections: list[Use]
    findings: list[Finding]


def examine(database: Database, settings: Settings) -> Report:
    """Raises ``Unstartable`` for a schema that is newer than this program."""
    facts = {"database": f"{database.address()} answers"}
    with database.session() as session:
        current, newest = database.revision(session.connection()), known_revisions()[0]
        facts |= {"schema": current or "none", "pgvector": usage.extension_versions(session)[0] or "none"}
        if current != newest:
            behind = f"the schema is {current}, and this program's {newest}" if current else "there is no schema yet"
            return Report(facts, [], [Finding(behind, "airweave-server migrate; up, api and worker do it too")])
        uses = usage.by_collection(session)
        alive = leases.list_held(session)
        facts |= {
            "size": decimal(usage.size_bytes(session)),
            "alive": ", ".join(name.rpartition(":")[0] for name in alive) or "no server and no worker",
        }
        findings = [*_of_storage(session), *_of_jobs(session, settings), *_of_connections(session, settings)]
        findings += _of_moves(session, settings)
    facts["embedder"], trouble = _embedder(settings)
    findings += trouble
    if settings.database_url is None:
        disk = shutil.disk_usage(settings.place())
        facts["free"] = f"{decimal(disk.free)} of {decimal(disk.total)}"
        if disk.free < FREE_LEAST_BYTES or disk.free < disk.total * FREE_SHARE:
            largest = f"; the largest collection is {uses[0].readable_id}" if uses else ""
            findings.insert(
                0,
                Finding(
                    f"the disk of {settings.place()} has only {facts['free']} left",
                    f"free some, or move the data directory to a larger one{largest}",
                ),
            )
    return Report(facts, uses, findings)


def _embedder(settings: Settings) -> tuple[str, list[Finding]]:
    """What the embedder of new collections answers, and what is to be done if it does not."""
    try:
        model = plugins.embedder(settings.embedder, settings)
        model.check()
        return f"{settings.embedder} ({model.name}, {model.dimensions} dimensions)", []
    except ConfigError as error:
        return f"{settings.embedder} cannot work", [Finding(str(error), "set it right, or choose another EMBEDDER")]
    except EmbedderError as error:
        return f"{settings.embedder} does not answer", [
            Finding(f"embedder {settings.embedder}: {error}", "see that it can be reached; jobs wait for it meanwhile")
        ]


def _of_moves(session: Session, settings: Settings) -> Iterator[Finding]:
    for collection in moves.list_under_way(session):
        progress = moves.progress(session, collection)
        lost = [
            job for job in moves.newest_jobs(session, collection) if job.status in (Status.FAILED, Status.CANCELLED)
        ]
        if lost:
            yield Finding(
                f"collection {collection.readable_id} does not go on to {collection.next_embedder}, at "
                f"{progress.done:,} of {progress.total:,} entities: {lost[0].error or 'a job was cancelled'}",
                f"airweave-server reembed {collection.readable_id} --to {collection.next_embedder}",
            )
    for collection in collections.list_all(session):
        try:
            embedder = plugins.embedder(collection.embedder, settings)
            same = (embedder.name, embedder.dimensions) == (collection.embedder_name, collection.dimensions)
        except (ConfigError, EmbedderError):
            continue  # said of it already, or by the jobs that wait for it
        if not same and collection.next_since is None:
            yield Finding(
                f"collection {collection.readable_id} has vectors of {collection.embedder_name}, and embedder "
                f"{collection.embedder} is {embedder.name} ({embedder.dimensions} dimensions) now",
                f"set it back, or airweave-server reembed {collection.readable_id} --to {collection.embedder}",
            )


def _of_storage(session: Session) -> Iterator[Finding]:
    installed, available = usage.extension_versions(session)
    if installed != available:
        yield Finding(
            f"pgvector is {installed}, and the server has {available}", "run in SQL: alter extension vector update"
        )
    for table, dead, living in usage.with_dead_rows(session):
        yield Finding(
            f"table {table} has {dead:,} dead rows beside {living:,} living ones: vacuuming lags behind",
            f"run in SQL: vacuum (analyze) {table}; if they stay, end the transaction that pg_stat_activity shows open",
        )
    for index in usage.invalid_indexes(session):
        yield Finding(
            f"index {index} is invalid: making it was cut short", f"run in SQL: reindex index concurrently {index}"
        )


def _of_jobs(session: Session, settings: Settings) -> Iterator[Finding]:
    for one in usage.waiting(session):
        if (do := _for_what_waits(one)) is not None:
            whom = f"{one.jobs} jobs wait" if one.jobs > 1 else "a job waits"
            since = f"{one.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield Finding(f"{whom} for {one.waiting_for}, as of connection {one.connection!r}, since {since}", do)
    active = usage.count_active(session)
    if active and leases.holder(session, "keeper") is None:
        yield Finding(
            f"{active} jobs are under way, and no server keeps house"
            if active > 1
            else "a job is under way, and no server keeps house",
            "airweave-server up; the jobs go on from their last batch",
        )
    if settings.temporal_enabled and not leases.count(session, f"{leases.WORKER}{settings.temporal_task_queue}:"):
        yield Finding(
            f"TEMPORAL_ENABLED is true, and no worker of task queue {settings.temporal_task_queue} is seen",
            "airweave-server worker; up starts one by itself",
        )


def _for_what_waits(one: Waiting) -> str | None:
    """What a person does about it; None when it passes by itself."""
    if one.waiting_for == "worker":
        if one.host is None:
            return "airweave-server worker; up starts one by itself"
        return f"airweave-server up on host {one.host}, where the files are; if it is gone, connect them anew elsewhere"
    return {
        "storage": "free room on the disk of the database; they go on by themselves",
        "temporal": "start Temporal; they go on by themselves",
        "embedder": "see that the embedder can be reached; the job's error says why not",
    }.get(one.waiting_for)


def _of_connections(session: Session, settings: Settings) -> Iterator[Finding]:
    keys = kept_keys(settings)
    closed = connections.list_unopenable(session, keys.ids if keys is not None else ())
    for one in closed:
        yield Finding(
            f"the credentials of connection {one.name!r} are sealed with key {one.key_id}, "
            f"which is neither in VAULT_KEY nor in {settings.key_file()}",
            f"put the key there (VAULT_KEY takes several), or send credentials: PATCH /source-connections/{one.id}",
        )
    signed_out = connections.list_signed_out(session)
    last = jobs.newest_by_connection(session, [connection.id for connection in signed_out])
    for connection in signed_out:
        if connection.id not in {one.id for one in closed}:
            yield Finding(
                f"connection {connection.name!r} needs new credentials: {last[connection.id].error or ''}",
                f"send them: PATCH /source-connections/{connection.id}",
            )
    for trouble in usage.with_held_deletes(session):
        yield Finding(
            f"connection {trouble.name!r} holds {trouble.what} deletes for you to decide about",
            f"GET /source-connections/{trouble.id}/held-deletes, then POST …/approve or …/dismiss there",
        )
    for late in usage.scheduled(session):
        if _is_late(late, now(session)):
            since = f"{late.last_full_at.astimezone(UTC):%Y-%m-%d}" if late.last_full_at else "it was made"
            yield Finding(
                f"connection {late.name!r} has a schedule, and was not listed in full since {since}",
                f"see why in airweave-server status, then airweave-server sync {late.id} --full",
            )


def _is_late(one: Scheduled, moment: datetime) -> bool:
    traits = traits_of(one)
    if traits is not None and traits.tells_changes and traits.tells_deletes:
        return False  # it need never be listed in full again
    try:
        fires = CronSim(one.cron, moment)
        first, second = next(fires), next(fires)
    except (CronSimError, StopIteration):
        return True
    return moment - (one.last_full_at or one.created_at) > max(LATE_AFTER, 2 * (second - first))
