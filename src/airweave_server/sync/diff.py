"""Decisions without I/O: whether an entity is usable, whether it is unchanged, and what may be deleted."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pyroaring import BitMap64

from ..db.ledger import INDEXED, Known
from ..db.partitions import Progress
from ..sdk import Breadcrumb, Entity
from ..text.parts import LeftOut
from ..text.versions import is_current

MAX_ID_BYTES = 1_000
MAX_NAME_CHARS = 1_000
MAX_URL_CHARS = 4_000
MAX_FIELDS_BYTES = 200_000
FORMATS = ("markdown", "plain", "html")
HASHED_AT_ONCE = 1_000_000  # characters
RETRIES = 3  # jobs that retry an entity that could not be parsed


@dataclass(frozen=True, slots=True)
class Malformed:
    """An item that cannot be an entity. It is recorded as failed, under its id or one derived from its content."""

    entity_id: str
    name: str
    reason: str


class Absence(Enum):
    """What it means that an entity is missing from a complete listing."""

    GONE = "it is gone"
    DOUBTED = "it may be gone: a person decides"
    STAYS = "nothing"  # unless a person has approved the delete


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """The ledger rows to delete.

    ``doubted``: those of ``rows`` that a person must approve. ``missed``: rows absent for the first time, from a source
    whose listings can skip entities. ``emptied``: scopes that would be left with no row beyond doubt.
    """

    rows: BitMap64
    doubted: BitMap64
    missed: BitMap64
    emptied: tuple[str, ...]


def clean_text(value: str) -> str:
    """Make text acceptable to Postgres: no NUL, no lone surrogate."""
    value = value.replace("\x00", "")
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def clean_id(value: str) -> str:
    """Make an id fit for the ledger: text that Postgres accepts, cut if too long. A changed id ends in the SHA-256 of
    the original, so that two ids never become one."""
    if len(value) <= MAX_ID_BYTES and value.isascii() and "\x00" not in value:
        return value
    text = clean_text(value)
    if text != value or len(text.encode()) > MAX_ID_BYTES:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        text = text.encode()[: MAX_ID_BYTES - 65].decode("utf-8", "ignore") + "~" + digest
    return text


def sanitize(item: Entity) -> Entity | Malformed:
    """The entity, cleaned for storage, or why it is malformed."""
    if not isinstance(item.id, str) or not item.id.strip():
        return _make_malformed(item, f"the id is {item.id!r}, not a string with text in it")
    if item.text is not None and not isinstance(item.text, str):
        return _make_malformed(item, f"the text is of type {type(item.text).__name__}")
    if item.version is not None and not isinstance(item.version, str):
        return _make_malformed(item, f"the version is of type {type(item.version).__name__}")
    if not isinstance(item.fields, Mapping):
        return _make_malformed(item, f"the fields are of type {type(item.fields).__name__}")
    for label, moment in (("created_at", item.created_at), ("updated_at", item.updated_at)):
        if moment is not None and not isinstance(moment, datetime):
            return _make_malformed(item, f"{label} is of type {type(moment).__name__}")
    if item.format not in FORMATS:
        return _make_malformed(item, f"the format is {item.format!r}, not one of {', '.join(FORMATS)}")
    if not all(isinstance(crumb, Breadcrumb) for crumb in item.breadcrumbs):
        return _make_malformed(item, "a breadcrumb is not a Breadcrumb")
    try:
        fields = {clean_text(str(key)): _clean_json(value) for key, value in item.fields.items()}
        size_bytes = len(json.dumps(fields))
    except (RecursionError, ValueError) as error:
        return _make_malformed(item, f"the fields cannot be written as JSON ({type(error).__name__})")
    if size_bytes > MAX_FIELDS_BYTES:
        return _make_malformed(item, f"the fields are larger than {MAX_FIELDS_BYTES:,} bytes")
    entity_id = clean_id(item.id)
    name = clean_text(str(item.name))[:MAX_NAME_CHARS] if item.name else entity_id
    return Entity(
        id=entity_id,
        name=name,
        type=clean_text(str(item.type))[:200] or "Entity",
        version=clean_text(item.version) if item.version is not None else None,
        text=clean_text(item.text) if item.text is not None else None,
        format=item.format,
        open=item.open,
        filename=item.filename,
        size_bytes=item.size_bytes,
        breadcrumbs=tuple(
            Breadcrumb(clean_id(str(b.entity_id)), clean_text(str(b.name))[:MAX_NAME_CHARS], clean_text(str(b.type)))
            for b in item.breadcrumbs
        ),
        created_at=_to_utc(item.created_at),
        updated_at=_to_utc(item.updated_at),
        web_url=clean_text(str(item.web_url))[:MAX_URL_CHARS] if item.web_url else None,
        url=clean_text(str(item.url))[:MAX_URL_CHARS] if item.url else None,
        fields=fields,
    )


def is_unchanged(known: Known, entity: Entity, *, force: bool) -> bool:
    """Whether the version alone shows that there is nothing to do, so that the content need not be opened. ``force``:
    the job opens everything, and the fingerprint decides."""
    if force or entity.version is None or known.version != entity.version or not is_current(known.pipeline):
        return False
    return known.state == INDEXED or known.retries_left == 0


def fingerprint(entity: Entity, text: Iterable[str]) -> bytes:
    """SHA-256 of the indexed part of an entity. ``text``: its text in pieces, however it is divided."""
    digest = hashlib.sha256()
    for parts in ((entity.name,), (entity.type,), text):
        for part in parts:
            for start in range(0, len(part), HASHED_AT_ONCE):
                digest.update(part[start : start + HASHED_AT_ONCE].encode())
        digest.update(b"\x00")
    return digest.digest()


def metadata_fingerprint(entity: Entity, left_out: Sequence[LeftOut] = ()) -> bytes:
    """SHA-256 of the metadata of an entity, and of what is not in its text. Leaves out ``updated_at``: touching a file
    does not change it."""
    shown: dict[str, Any] = {
        "breadcrumbs": breadcrumbs_json(entity),
        "created_at": entity.created_at.isoformat() if entity.created_at else None,
        "web_url": entity.web_url,
        "url": entity.url,
        "fields": dict(entity.fields),
    }
    if left_out:
        shown["left_out"] = [one.as_json() for one in left_out]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).digest()


def breadcrumbs_json(entity: Entity) -> list[dict[str, str]]:
    return [{"entity_id": b.entity_id, "name": b.name, "entity_type": b.type} for b in entity.breadcrumbs]


def plan_deletes(
    ledger: Mapping[str, BitMap64],
    progress: Sequence[Progress],
    *,
    full: bool,
    below_skipped: BitMap64,
    may_skip: bool,
    missed_before: BitMap64,
    absence: Absence = Absence.GONE,
    asked_for: BitMap64 | None = None,
    never_read: BitMap64 | None = None,
) -> DeletePlan:
    """Plan the deletes of a job.

    Entities that the source declared deleted go. Once every partition is read to its end, so do all ledger rows that no
    partition met, unless they lie under a skipped subtree. While one partition is unread, absence proves nothing: an
    entity missing elsewhere may have moved there. A row that any partition met in this job is never in the plan.

    ``ledger``: the connection's rows by scope. ``full``: the job read from the beginning. ``absence``: what it means
    that a row was not met. ``may_skip``: the listing may have missed entities, so a row goes only if the previous full
    job missed it too (``missed_before``). ``asked_for``: the rows whose delete a person approved. ``never_read``: rows
    that the source never reads; they go as if the source had declared them deleted.
    """
    met, declared = BitMap64(), BitMap64()
    for part in progress:
        met |= part.met
        declared |= part.deleted
    declared |= never_read or BitMap64()
    everything = BitMap64()
    for rows in ledger.values():
        everything |= rows
    gone, missed = BitMap64(), BitMap64()
    if full and all(part.done for part in progress):
        gone = everything - met - below_skipped
        if absence is Absence.STAYS:
            gone &= asked_for or BitMap64()
        if may_skip and absence is Absence.GONE:  # otherwise nothing of it goes without a person's approval
            missed = gone - missed_before
            gone &= missed_before | (asked_for or BitMap64())
    gone |= (declared - met) & everything
    missed -= gone
    undeclared = gone - declared
    doubted = undeclared if absence is Absence.DOUBTED else BitMap64()
    certain, undeclared = gone - doubted, undeclared - doubted
    emptied = tuple(sorted(scope for scope, rows in ledger.items() if not rows - certain and rows & undeclared))
    return DeletePlan(rows=gone, doubted=doubted, missed=missed, emptied=emptied)


def guard(asked: BitMap64, emptied: Sequence[str], *, total: int, ratio: float, minimum: int) -> str | None:
    """Why these deletes must be held, or None. ``total``: number of entities of the connection."""
    if len(asked) > minimum and len(asked) > ratio * total:
        return f"{len(asked):,} of {total:,} entities would be deleted, more than {ratio:.0%}"
    if asked and emptied:
        scopes = ", ".join(repr(scope) for scope in emptied[:3])
        return f"{len(asked):,} of {total:,} entities would be deleted and nothing would be left of scope {scopes}"
    return None


def hold(
    plan: DeletePlan, *, approved: BitMap64, total: int, ratio: float, minimum: int
) -> tuple[BitMap64, str | None]:
    """Which deletes of a plan a person must approve, and why; empty and None if all may go."""
    doubted = plan.doubted - approved
    asked = plan.rows - plan.doubted - approved
    reasons = []
    held = BitMap64()
    if (reason := guard(asked, plan.emptied, total=total, ratio=ratio, minimum=minimum)) is not None:
        held |= asked
        reasons.append(reason)
    if doubted:
        held |= doubted
        reasons.append(f"{len(doubted):,} of {total:,} entities were not met, which does not prove that they are gone")
    return held, "; ".join(reasons) or None


def _make_malformed(item: Entity, reason: str) -> Malformed:
    try:
        seen = repr((item.id, item.name, item.fields))[:10_000]
    except (ValueError, RecursionError):
        seen = str(item.name)
    digest = hashlib.sha256(seen.encode("utf-8", "replace")).hexdigest()[:16]
    entity_id = clean_id(item.id) if isinstance(item.id, str) and item.id.strip() else f"malformed:{digest}"
    name = clean_text(item.name)[:MAX_NAME_CHARS] if isinstance(item.name, str) and item.name else entity_id
    return Malformed(entity_id, name, f"malformed: {clean_text(reason)[:500]}")


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): _clean_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean_json(inner) for inner in value]
    return clean_text(str(value))


def _to_utc(moment: datetime | None) -> datetime | None:
    if moment is None or not datetime.min.year < moment.year < datetime.max.year:  # may overflow when converted
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
