"""The use case of ``doctor``: the state of this installation, and what to do about it. Needs no running server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError
from rich.filesize import decimal
from sqlalchemy.orm import Session

from .. import plugins, sandbox
from ..db import collections, connections, jobs, leases, moves, usage
from ..db.models import Status
from ..db.session import Database, known_revisions, now
from ..db.usage import Scheduled, Use, Waiting
from ..sdk import ConfigError, EmbedderError, Unavailable
from ..settings import Settings
from ..sync.connector import traits_of
from ..text import ocr
from ..text.parsers import Parsers
from .backup import kept_keys

FREE_SHARE, FREE_LEAST_BYTES = 0.1, 1_000_000_000  # of the data directory's disk
PARSER_FACTS = {
    sandbox.OWN_USER: "run as an OS user without rights",
    sandbox.NOT_DUMPABLE: "hidden",
    sandbox.NO_NEW_PRIVILEGES: "gain no privileges",
    sandbox.FILTERED: "open no files, connections or programs",
}
LATE_AFTER = timedelta(days=3)  # without a full listing; or twice the sync interval, if that is longer


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and what to do about it."""

    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Report:
    facts: dict[str, str]
    collections: list[Use]
    findings: list[Finding]


def examine(database: Database, settings: Settings) -> Report:
    """Examine the installation. Raises ``Unstartable`` if the schema is newer than this program."""
    facts = {"database": f"{database.address()} answers"}
    with database.session() as session:
        current, newest = database.revision(session.connection()), known_revisions()[0]
        facts |= {"schema": current or "none", "pgvector": usage.extension_versions(session)[0] or "none"}
        if current != newest:
            behind = (
                f"the schema is {current}, but this program needs {newest}" if current else "there is no schema yet"
            )
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
    facts["server"] = "hidden from its OS user's other processes" if sandbox.hide() else "not hidden on this system"
    facts["parsers"], trouble = _parsers(settings)
    findings += trouble
    facts["ocr"], trouble = describe_ocr(settings)
    findings += trouble
    if settings.database_url is None:
        disk = shutil.disk_usage(settings.place())
        facts["free"] = f"{decimal(disk.free)} of {decimal(disk.total)}"
        facts["room"] = database.room.describe()
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
    """Whether the embedder for new collections works, and what to do if it does not."""
    try:
        model = plugins.embedder(settings.embedder, settings)
        model.check()
        return f"{settings.embedder} ({model.name}, {model.dimensions} dimensions)", []
    except ConfigError as error:
        return f"{settings.embedder} cannot work", [Finding(str(error), "fix its settings, or choose another EMBEDDER")]
    except EmbedderError as error:
        return f"{settings.embedder} does not answer", [
            Finding(f"embedder {settings.embedder}: {error}", "make sure it can be reached; jobs wait for it meanwhile")
        ]


def _parsers(settings: Settings) -> tuple[str, list[Finding]]:
    """What holds back the processes that read documents, as one of them reports it."""
    parsers = Parsers(
        seconds=settings.parse_s, memory_mb=settings.parse_memory_mb, ocr_languages=settings.languages_for_ocr()
    )
    try:
        in_force = parsers.in_force()
    except Unavailable as error:
        return "do not start", [Finding(str(error), "documents wait until one starts; the log of the server says more")]
    finally:
        parsers.close()
    facts = [PARSER_FACTS[one] for one in in_force]
    if sandbox.FILTERED not in in_force:
        facts.append("may open files and connections: this system cannot filter their calls")
    return "; ".join(facts), []


def describe_ocr(settings: Settings) -> tuple[str, list[Finding]]:
    """Whether pages that are images are read, and what is missing if they should be."""
    try:
        installed = ocr.examine()
    except (ConfigError, Unavailable) as error:
        if not settings.ocr:
            return "off; tesseract is not installed", []
        do = "install tesseract 5 (Debian: apt install tesseract-ocr, macOS: brew install tesseract), or set OCR=false"
        return "does not work", [Finding(f"OCR is true, but {error}", do)]
    known = f"tesseract {installed.version} reads {', '.join(installed.languages)}"
    if not settings.ocr:
        return f"off; {known}", []
    missing = [one for one in settings.ocr_languages.split("+") if one not in installed.languages]
    return f"on, {settings.ocr_languages}; {known}", [
        Finding(
            f"OCR_LANGUAGES names {one}, which tesseract does not have",
            f"install it (Debian: apt install tesseract-ocr-{one}), or change OCR_LANGUAGES",
        )
        for one in missing
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
            continue  # reported already, or by the jobs that wait for it
        if not same and collection.next_since is None:
            yield Finding(
                f"collection {collection.readable_id} has vectors of {collection.embedder_name}, but embedder "
                f"{collection.embedder} is now {embedder.name} ({embedder.dimensions} dimensions)",
                f"set it back, or airweave-server reembed {collection.readable_id} --to {collection.embedder}",
            )


def _of_storage(session: Session) -> Iterator[Finding]:
    installed, available = usage.extension_versions(session)
    if installed != available:
        yield Finding(
            f"pgvector is {installed}, but Postgres has {available}", "run in SQL: alter extension vector update"
        )
    for table, dead, living in usage.with_dead_rows(session):
        yield Finding(
            f"table {table} has {dead:,} dead rows and {living:,} live ones: vacuuming lags behind",
            f"run in SQL: vacuum (analyze) {table}; if they stay, end the transaction that pg_stat_activity shows open",
        )
    for index in usage.invalid_indexes(session):
        yield Finding(
            f"index {index} is invalid: its build was cut short", f"run in SQL: reindex index concurrently {index}"
        )


def _of_jobs(session: Session, settings: Settings) -> Iterator[Finding]:
    for one in usage.waiting(session):
        if (do := _for_what_waits(one)) is not None:
            whom, example = (f"{one.jobs} jobs wait", "for example, ") if one.jobs > 1 else ("a job waits", "")
            since = f"{one.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield Finding(f"{whom} for {one.waiting_for} since {since} ({example}connection {one.connection!r})", do)
    active = usage.count_active(session)
    if active and leases.holder(session, "keeper") is None:
        yield Finding(
            f"{active} jobs are under way, but no server does the housekeeping"
            if active > 1
            else "a job is under way, but no server does the housekeeping",
            "airweave-server up; the jobs go on from their last batch",
        )
    if settings.temporal_enabled and not leases.count(session, f"{leases.WORKER}{settings.temporal_task_queue}:"):
        yield Finding(
            f"TEMPORAL_ENABLED is true, but no worker of task queue {settings.temporal_task_queue} is running",
            "airweave-server worker; up starts one by itself",
        )


def _for_what_waits(one: Waiting) -> str | None:
    """What to do about it; None if it passes by itself."""
    if one.waiting_for == "worker":
        if one.host is None:
            return "airweave-server worker; up starts one by itself"
        return (
            f"airweave-server up on host {one.host}, where the files are; if it is gone, connect them again elsewhere"
        )
    return {
        "storage": "free space on the disk that the job's error names; the jobs then go on by themselves",
        "temporal": "start Temporal; the jobs then go on by themselves",
        "embedder": "make sure the embedder can be reached; the job's error says why it cannot",
    }.get(one.waiting_for)


def _of_connections(session: Session, settings: Settings) -> Iterator[Finding]:
    keys = kept_keys(settings)
    closed = connections.list_unopenable(session, keys.ids if keys is not None else ())
    for one in closed:
        yield Finding(
            f"the credentials of connection {one.name!r} are sealed with key {one.key_id}, "
            f"which is neither in VAULT_KEY nor in {settings.key_file()}",
            f"add the key there (VAULT_KEY takes several), or send credentials: PATCH /source-connections/{one.id}",
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
            f"connection {trouble.name!r} holds {trouble.what} deletes that wait for your decision",
            f"GET /source-connections/{trouble.id}/held-deletes, then POST …/approve or …/dismiss there",
        )
    for late in usage.scheduled(session):
        if _is_late(late, now(session)):
            since = f"{late.last_full_at.astimezone(UTC):%Y-%m-%d}" if late.last_full_at else "it was created"
            yield Finding(
                f"connection {late.name!r} has a schedule, but has not been listed in full since {since}",
                f"airweave-server status says why; then airweave-server sync {late.id} --full",
            )


def _is_late(one: Scheduled, moment: datetime) -> bool:
    traits = traits_of(one)
    if traits is not None and traits.tells_changes and traits.tells_deletes:
        return False  # it never needs a full listing again
    try:
        fires = CronSim(one.cron, moment)
        first, second = next(fires), next(fires)
    except (CronSimError, StopIteration):
        return True
    return moment - (one.last_full_at or one.created_at) > max(LATE_AFTER, 2 * (second - first))
