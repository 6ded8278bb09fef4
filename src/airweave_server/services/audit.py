"""The use case of the audit: check a connection, report what is wrong, and repair it on request."""

import socket
from dataclasses import dataclass, field

from ..db import audit, connections, leases, ledger
from ..db.audit import Differences, Finding, Report, Scope
from ..db.models import Collection, SourceConnection
from ..db.session import Database
from ..errors import Unavailable
from ..sync.compare import compare
from ..sync.connector import Connectors, traits_of
from ..text.reading import Reader


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to check.

    ``every_chunk``: look up every chunk by its words, not a sample. ``connectors``: also compare with the source, if
    it is cheap to list or the connection was ``named``. ``reader``: also read the content there.
    """

    every_chunk: bool = False
    connectors: Connectors | None = None
    reader: Reader | None = None
    named: bool = False
    repair: bool = False


@dataclass(slots=True)
class Audited:
    """The result for one connection.

    ``found``: what is wrong. ``repaired``: what was repaired. ``asked``: a repair job was requested. ``is_right``:
    nothing is wrong, or it was repaired, or the requested job will repair it.
    """

    title: str
    report: Report
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    asked: bool = False
    is_right: bool = True


def find_connections(database: Database, name: str | None) -> list[SourceConnection]:
    """The connections with this id or name; all of them if it is None."""
    with database.session() as session:
        return [one for one in connections.list_all(session) if name is None or name in (str(one.id), one.name)]


def audit_connection(database: Database, connection: SourceConnection, request: AuditRequest) -> Audited:
    """Audit one connection. Safe at any time: it reads one snapshot of the database, and anything a job may be writing
    is left to the repair job, which runs when no other job does."""
    scope = Scope(connection.id)
    with database.snapshot() as session:
        place = session.get_one(Collection, connection.collection_id).readable_id
        report = audit.check(session, scope, every_chunk=request.every_chunk)
    audited = Audited(f"{connection.name} in {place} ({connection.id})", report)
    audited.found += map(str, report.findings)
    if report.waiting:
        audited.found.append(f"entities waiting to be read again: {report.waiting:,}")
    differs = _compare(database, connection, request, audited)
    left = _repair(database, scope, request, audited) if request.repair else report.findings
    if request.repair and (differs or report.waiting or any(one.fault not in audit.IN_DATABASE for one in left)):
        with database.session() as session:
            connections.require_full_job(session, connection.id, repair=True)
        audited.asked = True
        left = tuple(one for one in left if one.fault in audit.IN_DATABASE)
    audited.is_right = audited.is_right and not left and (audited.asked or not (differs or report.waiting))
    return audited


def audit_leftovers(database: Database, request: AuditRequest) -> Audited | None:
    """Audit what is left of connections that no longer exist; None if nothing is left."""
    with database.snapshot() as session:
        entities, chunks = audit.count_leftovers(session)
    if not entities and not chunks:
        return None
    audited = Audited("deleted connections", Report(entities, chunks, 0, 0, ()), is_right=request.repair)
    audited.found.append(f"left behind: {entities:,} entities, {chunks:,} chunks")
    if request.repair:
        with database.session() as session:
            audit.delete_leftovers(session)
            audited.is_right = audit.count_leftovers(session) == (0, 0)
        audited.repaired.append("deleted")
    return audited


def has_keeper(database: Database) -> bool:
    """Whether a server is running that will start requested repairs."""
    with database.session() as session:
        return leases.holder(session, "keeper") is not None


def _compare(database: Database, connection: SourceConnection, request: AuditRequest, audited: Audited) -> bool:
    """Whether source and ledger differ. Notes why they were not compared; a comparison that failed is not right."""
    if request.connectors is None:
        return False
    traits = traits_of(connection)
    if traits is not None and not request.named and not traits.lists_cheaply:
        name = connection.short_name
        audited.notes.append(f"not compared with its source: {name} is not cheap to list; name the connection")
        return False
    if traits is not None and traits.local and connection.host != socket.gethostname():
        audited.notes.append(f"not compared with its source: run this on host {connection.host}, where it is read")
        return False
    try:
        differences = compare(database, request.connectors, connection.id, reader=request.reader)
    except Unavailable as error:
        audited.notes.append(f"not compared with its source: {error}")
        audited.is_right = False
        return False
    read = f"; read {differences.read:,} of them" if request.reader is not None else ""
    audited.notes.append(f"compared with its source, which lists {differences.listed:,}{read}")
    audited.found += _describe_differences(differences)
    if request.repair and differences.rewritten_rows:
        with database.session() as session:  # otherwise the repair would keep them because of their version
            ledger.forget_versions(session, differences.rewritten_rows)
    return bool(differences)


def _describe_differences(differences: Differences) -> list[str]:
    kinds = {
        "in the source but not in the ledger": differences.missing,
        "in the ledger but no longer in the source": differences.gone,
        "another version in the source": differences.changed,
        "other content in the source under the same version": differences.rewritten,
    }
    return [f"{kind}: {some}" for kind, some in kinds.items() if some.count]


def _repair(database: Database, scope: Scope, request: AuditRequest, audited: Audited) -> tuple[Finding, ...]:
    """Repair what needs only the database. Returns what is still wrong."""
    faults = {finding.fault for finding in audited.report.findings}
    for index in audit.INDEXES:
        if faults & {index, "index"}:
            audit.rebuild(database, index)
            audited.repaired.append(f"index {index} rebuilt")
    if "orphan" in faults:
        with database.session() as session:
            audited.repaired.append(f"chunks deleted: {audit.delete_orphans(session, scope):,}")
    if not audited.repaired:
        return audited.report.findings
    with database.snapshot() as session:
        return audit.check(session, scope, every_chunk=request.every_chunk).findings
