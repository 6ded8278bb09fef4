"""Deciding, without I/O: whether what came is usable, whether it is the same as before, and what may be deleted."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pyroaring import BitMap64

from ..db.ledger import INDEXED, Known
from ..db.partitions import Progress
from ..sdk import Breadcrumb, Entity

MAX_ID_BYTES = 1_000
MAX_NAME_CHARS = 1_000
MAX_URL_CHARS = 4_000
MAX_FIELDS_BYTES = 200_000
FORMATS = ("markdown", "plain", "html")
HASHED_AT_ONCE = 1_000_000  # characters
RETRIES = 3  # jobs that try an entity again which could not be parsed


@dataclass(frozen=True, slots=True)
class Malformed:
    """An item that is no entity; it is noted as failed under an id made of what it is."""

    entity_id: str
    name: str
    reason: str


class Absence(Enum):
    """What follows from an entity's absence from a complete listing."""

    GONE = "it is gone"
    DOUBTED = "it may be gone: a person decides"
    STAYS = "nothing"  # unless a person has approved that it goes


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """``rows`` are to go; of these ``doubted`` ones only with a person's word. ``missed`` were not met for the first
    time, by a source whose listings can skip. ``emptied``: scopes of which nothing undoubted would be left."""

    rows: BitMap64
    doubted: BitMap64
    missed: BitMap64
    emptied: tuple[str, ...]


def clean_text(value: str) -> str:
    """Text as Postgres takes it: no NUL, no lone surrogate."""
    value = value.replace("\x00", "")
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def clean_id(value: str) -> str:
    """An id as the ledger keeps it: text as Postgres takes it, an over-long one cut and told apart by its SHA-256.
    An id that had to be changed never equals another one's."""
    if len(value) <= MAX_ID_BYTES and value.isascii() and "\x00" not in value:
        return value
    text = clean_text(value)
    if text != value or len(text.encode()) > MAX_ID_BYTES:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        text = text.encode()[: MAX_ID_BYTES - 65].decode("utf-8", "ignore") + "~" + digest
    return text


def sanitize(item: Entity) -> Entity | Malformed:
    """The entity as it may be stored, or why it is none."""
    if not isinstance(item.id, str) or not item.id.strip():
        return _malformed(item, f"the id is {item.id!r}, not a text")
    if item.text is not None and not isinstance(item.text, str):
        return _malformed(item, f"the text is of type {type(item.text).__name__}")
    if item.version is not None and not isinstance(item.version, str):
        return _malformed(item, f"the version is of type {type(item.version).__name__}")
    if not isinstance(item.fields, Mapping):
        return _malformed(item, f"the fields are of type {type(item.fields).__name__}")
    for label, moment in (("created_at", item.created_at), ("updated_at", item.updated_at)):
        if moment is not None and not isinstance(moment, datetime):
            return _malformed(item, f"{label} is of type {type(moment).__name__}")
    if item.format not in FORMATS:
        return _malformed(item, f"the format is {item.format!r}, not one of {', '.join(FORMATS)}")
    if not all(isinstance(crumb, Breadcrumb) for crumb in item.breadcrumbs):
        return _malformed(item, "the breadcrumbs are none")
    try:
        fields = {clean_text(str(key)): _clean_json(value) for key, value in item.fields.items()}
        size_bytes = len(json.dumps(fields))
    except (RecursionError, ValueError) as error:
        return _malformed(item, f"the fields cannot be written as JSON ({type(error).__name__})")
    if size_bytes > MAX_FIELDS_BYTES:
        return _malformed(item, f"the fields are larger than {MAX_FIELDS_BYTES:,} bytes")
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
        created_at=_utc(item.created_at),
        updated_at=_utc(item.updated_at),
        web_url=clean_text(str(item.web_url))[:MAX_URL_CHARS] if item.web_url else None,
        url=clean_text(str(item.url))[:MAX_URL_CHARS] if item.url else None,
        fields=fields,
    )


def unchanged(known: Known, entity: Entity, *, pipeline: str, force: bool) -> bool:
    """Whether the source's own word says that nothing is to be done, so that nothing need be opened."""
    if entity.version is None or known.version != entity.version or known.pipeline != pipeline:
        return False
    return known.state == INDEXED or (known.retries_left == 0 and not force)


def fingerprint(entity: Entity, text: str) -> bytes:
    """SHA-256 of what is indexed of an entity."""
    digest = hashlib.sha256()
    for part in (entity.name, entity.type, text):
        for start in range(0, len(part), HASHED_AT_ONCE):
            digest.update(part[start : start + HASHED_AT_ONCE].encode())
        digest.update(b"\x00")
    return digest.digest()


def metadata_fingerprint(entity: Entity) -> bytes:
    """SHA-256 of what is shown with an entity. ``updated_at`` is not in it: a touched file is not a changed one."""
    shown = {
        "breadcrumbs": breadcrumbs_json(entity),
        "created_at": entity.created_at.isoformat() if entity.created_at else None,
        "web_url": entity.web_url,
        "url": entity.url,
        "fields": dict(entity.fields),
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).digest()


def breadcrumbs_json(entity: Entity) -> list[dict[str, str]]:
    return [{"entity_id": b.entity_id, "name": b.name, "entity_type": b.type} for b in entity.breadcrumbs]


def delete_plan(
    ledger: Mapping[str, BitMap64],
    progress: Sequence[Progress],
    *,
    full: bool,
    below_skipped: BitMap64,
    may_skip: bool,
    missed_before: BitMap64,
    absence: Absence = Absence.GONE,
    asked_for: BitMap64 | None = None,
) -> DeletePlan:
    """What is gone: once every partition was read to its end, all ledger rows less those that any partition met and
    those that lie under a skipped subtree; and what the source declared deleted. Nothing that a partition met in this
    job is ever in it. With one partition unread nothing is concluded at all: what another one misses may have moved
    there.

    ``ledger``: the connection's rows by scope. ``full``: the job read from the beginning. ``absence``: what a job may
    conclude from an entity that it did not meet. With ``may_skip`` one that is gone must have been missed by the full
    job before as well.
    ``asked_for``: the rows that a person approved to go.
    """
    met, declared = BitMap64(), BitMap64()
    for part in progress:
        met |= part.met
        declared |= part.deleted
    everything = BitMap64()
    for rows in ledger.values():
        everything |= rows
    gone, missed = BitMap64(), BitMap64()
    if full and all(part.done for part in progress):
        gone = everything - met - below_skipped
        if absence is Absence.STAYS:
            gone &= asked_for or BitMap64()
        if may_skip and absence is Absence.GONE:  # else nothing of it goes without a person's word
            missed = gone - missed_before
            gone &= missed_before
    gone |= (declared - met) & everything
    missed -= gone
    unsaid = gone - declared
    doubted = unsaid if absence is Absence.DOUBTED else BitMap64()
    certain, unsaid = gone - doubted, unsaid - doubted
    emptied = tuple(sorted(scope for scope, rows in ledger.items() if not rows - certain and rows & unsaid))
    return DeletePlan(rows=gone, doubted=doubted, missed=missed, emptied=emptied)


def guard(asked: BitMap64, emptied: Sequence[str], *, total: int, ratio: float, minimum: int) -> str | None:
    """Why these deletes are held, or None. ``total``: the connection's entities."""
    if len(asked) > minimum and len(asked) > ratio * total:
        return f"{len(asked):,} of {total:,} entities would be deleted, more than {ratio:.0%}"
    if asked and emptied:
        named = ", ".join(repr(scope) for scope in emptied[:3])
        return f"{len(asked):,} of {total:,} entities would be deleted and nothing would be left of scope {named}"
    return None


def hold(
    plan: DeletePlan, *, approved: BitMap64, total: int, ratio: float, minimum: int
) -> tuple[BitMap64, str | None]:
    """Which deletes of a plan wait for a person's word, and why; none and None when all may go."""
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


def _malformed(item: Entity, reason: str) -> Malformed:
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


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or not datetime.min.year < moment.year < datetime.max.year:  # a time zone could push it over
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
