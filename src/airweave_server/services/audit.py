"""The use case of the audit: look at a connection, say what is wrong, and mend it where that is request."""

import socket
from dataclasses import dataclass, field

from ..db import audit, connections, leases
from ..db.audit import Differences, Finding, Report, Scope
from ..db.models import Collection, SourceConnection
from ..db.session import Database
from ..errors import Unavailable
from ..sync.compare import compare
from ..sync.connector import Connectors, traits_of


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """``every_chunk``: look up every chunk by its words, not a sample. ``connectors``: compare with the source too, if
    that is cheap or the connection was ``named``."""

    every_chunk: bool = False
    connectors: Connectors | None = None
    named: bool = False
    repair: bool = False


@dataclass(slots=True)
class Audited:
    """``found``: what is wrong. ``mended``: what was done about it. ``is_right``: nothing is wrong, or what is was
    mended, or will be by the repair that is asked for (``asked``)."""

    title: str
    report: Report
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    asked: bool = False
    is_right: bool = True


def named(database: Database, name: str | None) -> list[SourceConnection]:
    """The connections of this id or name; all there are without one."""
    with database.session() as session:
        return [one for one in connections.list_all(session) if name is None or name in (str(one.id), one.name)]


def look(database: Database, connection: SourceConnection, request: AuditRequest) -> Audited:
    """Audit one connection. Safe at any moment: what is found is of one moment of the database, and what a job may be
    writing is left to the repair, which runs when no other job does."""
    scope = Scope(connection.id)
    with database.snapshot() as session:
        place = session.get_one(Collection, connection.collection_id).readable_id
        report = audit.check(session, scope, every_chunk=request.every_chunk)
    audited = Audited(f"{connection.name} in {place} ({connection.id})", report)
    audited.found += map(str, report.findings)
    if report.waiting:
        audited.found.append(f"entities wait to be read afresh: {report.waiting:,}")
    differs = _compare(database, connection, request, audited)
    left = _mend(database, scope, request, audited) if request.repair else report.findings
    if request.repair and (differs or report.waiting or any(one.fault not in audit.IN_DATABASE for one in left)):
        with database.session() as session:
            connections.require_full_job(session, connection.id, repair=True)
        audited.asked = True
        left = tuple(one for one in left if one.fault in audit.IN_DATABASE)
    audited.is_right = audited.is_right and not left and (audited.asked or not (differs or report.waiting))
    return audited


def look_for_leftovers(database: Database, request: AuditRequest) -> Audited | None:
    """What is left of connections that are gone altogether; None for nothing."""
    with database.snapshot() as session:
        entities, chunks = audit.count_leftovers(session)
    if not entities and not chunks:
        return None
    audited = Audited("connections that are gone", Report(entities, chunks, 0, 0, ()), is_right=request.repair)
    audited.found.append(f"left of them: {entities:,} entities, {chunks:,} chunks")
    if request.repair:
        with database.session() as session:
            audit.delete_leftovers(session)
            audited.is_right = audit.count_leftovers(session) == (0, 0)
        audited.mended.append("deleted")
    return audited


def is_kept(database: Database) -> bool:
    """Whether a server is up that starts the repairs that are asked for."""
    with database.session() as session:
        return leases.holder(session, "keeper") is not None


def _compare(database: Database, connection: SourceConnection, request: AuditRequest, audited: Audited) -> bool:
    """Whether source and ledger differ. That a source cannot be compared is said, and not right where it should be."""
    if request.connectors is None:
        return False
    traits = traits_of(connection)
    if traits is not None and not request.named and not traits.lists_cheaply:
        name = connection.short_name
        audited.notes.append(f"not compared with its source: {name} is not cheap to list; name the connection")
        return False
    if traits is not None and traits.local and connection.host != socket.gethostname():
        audited.notes.append(f"not compared with its source: that is read on {connection.host}")
        return False
    try:
        differences = compare(database, request.connectors, connection.id)
    except Unavailable as error:
        audited.notes.append(f"not compared with its source: {error}")
        audited.is_right = False
        return False
    audited.notes.append(f"compared with its source, which lists {differences.listed:,}")
    audited.found += _said(differences)
    return bool(differences)


def _said(differences: Differences) -> list[str]:
    said = {
        "the source has it, the ledger has not": differences.missing,
        "the ledger has it, the source lists it no more": differences.gone,
        "the source has another version": differences.changed,
    }
    return [f"{what}: {some}" for what, some in said.items() if some.count]


def _mend(database: Database, scope: Scope, request: AuditRequest, audited: Audited) -> tuple[Finding, ...]:
    """Mend what the database alone can; returns what is still wrong then."""
    faults = {finding.fault for finding in audited.report.findings}
    for index in audit.INDEXES:
        if faults & {index, "index"}:
            audit.rebuild(database, index)
            audited.mended.append(f"index {index} built anew")
    if "orphan" in faults:
        with database.session() as session:
            audited.mended.append(f"chunks deleted: {audit.delete_orphans(session, scope):,}")
    if not audited.mended:
        return audited.report.findings
    with database.snapshot() as session:
        return audit.check(session, scope, every_chunk=request.every_chunk).findings
