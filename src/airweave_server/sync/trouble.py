"""What an error of a step means for its job, and how it is reported to people and programs."""

import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ..db import audit, ledger
from ..db.models import SyncPartition
from ..db.room import is_storage_full
from ..errors import NoRoom
from ..sdk import AuthError, ConfigError, EmbedderError, RateLimited, SignInExpired, SourceError, Stalled
from .scrub import mask, scrub

SOURCE_WAIT_LEAST_S = 1.0
STORAGE_WAIT_S = 5.0  # between two looks at a disk without room
STORAGE_WAIT_LONGEST_S = 60.0  # between two attempts to write to a disk that cannot be looked at
NAMED = 5  # partitions in the text of a job's error
LISTED = 100  # partitions in its to_error_details
KEY_REFUSED = "api_key_invalid"
SIGN_IN_REFUSED = "oauth_credentials_expired"
TOKEN_OF_RUN_REFUSED = "access_token_refused"  # the stored credentials may still be good
REFUSALS = {KEY_REFUSED, SIGN_IN_REFUSED, TOKEN_OF_RUN_REFUSED}
STORAGE_FULL = "storage_full"
WAITS_FOR = {"embedder": "embedder", STORAGE_FULL: "storage"}  # by error category; any other: the source


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about an error.

    ``final``: do not try again. ``waiting``: not a failure; the source or the embedder only asked to wait ``wait_s``
    seconds, or a disk has no room.
    """

    text: str
    category: str | None
    final: bool = False
    waiting: bool = False
    wait_s: float = 0.0

    @property
    def is_refusal(self) -> bool:
        """Whether the source refused the credentials, which makes trying other partitions pointless."""
        return self.category in REFUSALS

    @property
    def has_limit(self) -> bool:
        """Whether the job fails when it has waited too long. Room on a disk comes back when a person makes it."""
        return self.category != STORAGE_FULL

    def wait_after(self, waited_s: float) -> float:
        """Seconds to wait now, after having waited for ``waited_s``. An attempt to write costs a batch, so attempts
        become rarer."""
        return self.wait_s or min(max(STORAGE_WAIT_S, waited_s / 4), STORAGE_WAIT_LONGEST_S)

    @property
    def waiting_for(self) -> str:
        return waits_for(self.category)


def waits_for(category: str | None) -> str:
    """What a job waits for after an error of this category: ``source``, ``embedder`` or ``storage``."""
    return WAITS_FOR.get(category or "", "source")


def judge(error: Exception, secrets: Sequence[str], *, refusal: str = KEY_REFUSED) -> Verdict:
    """Decide what an error of a step means. The verdict's text contains none of the ``secrets``. ``refusal``: the
    category that an ``AuthError`` of this source gets."""
    text = scrub(str(error) or type(error).__name__, secrets)
    match error:
        case NoRoom():
            return Verdict(f"{STORAGE_FULL}: {text}", STORAGE_FULL, waiting=True, wait_s=STORAGE_WAIT_S)
        case _ if is_storage_full(error):
            of = "the disk of the database is full" if isinstance(error, SQLAlchemyError) else text
            full = f"{STORAGE_FULL}: {of}: free some, and the job goes on by itself"
            return Verdict(full, STORAGE_FULL, waiting=True)
        case ConfigError():
            return Verdict(text, "configuration", final=True)
        case SignInExpired() if refusal == KEY_REFUSED:
            return Verdict(text, SIGN_IN_REFUSED, final=True)
        case AuthError():
            return Verdict(text, refusal, final=True)
        case RateLimited(retry_after_s=wait_s):
            return Verdict(text, "source_rate_limited", waiting=True, wait_s=max(wait_s, SOURCE_WAIT_LEAST_S))
        case Stalled():
            return Verdict(f"source_stalled: {text}", "source_stalled")
        case SourceError():
            return Verdict(text, "source_unavailable")
        case EmbedderError(retry_after_s=float() | int() as wait_s):
            return Verdict(f"embedder: {text}", "embedder", waiting=True, wait_s=max(wait_s, SOURCE_WAIT_LEAST_S))
        case EmbedderError():
            return Verdict(f"embedder: {text}", "embedder")
    return Verdict(scrub(f"{type(error).__name__}: {error}", secrets), "internal")


def format_trace(error: Exception, secrets: Sequence[str]) -> str:
    """Format the traceback for the log, without secrets."""
    return mask("".join(traceback.format_exception(error)), secrets)


def describe_partitions(lost: Sequence[SyncPartition]) -> str:
    """Name the partitions that failed, with their errors; empty if there are none."""
    named = [f"partition {part.key!r}: {part.error}" if part.key else f"{part.error}" for part in lost[:NAMED]]
    if len(lost) > NAMED:
        named.append(f"and {len(lost) - NAMED} more partitions")
    return "; ".join(named)


def describe_damage(findings: Sequence[audit.Finding], *, is_repair: bool) -> str:
    """Say what the audit found and what happens next; empty if it found nothing."""
    if not findings:
        return ""
    reader = "the next sync" if is_repair else "a repair, which starts by itself,"
    remedy = f"{reader} reads it afresh"
    if any(finding.fault in audit.INDEXES or finding.fault == "index" for finding in findings):
        remedy += ", and airweave-server audit --repair builds the index anew"
    return f"{ledger.INCOMPLETE}: {'; '.join(map(str, findings))}; {remedy}"


def to_error_details(lost: Sequence[SyncPartition], findings: Sequence[audit.Finding]) -> dict[str, Any]:
    """The failed partitions and the audit's findings as the ``error_details`` of a job."""
    wire: dict[str, Any] = {}
    if lost:
        wire["partitions"] = [{"key": part.key, "error": part.error} for part in lost[:LISTED]]
    if findings:
        wire["index"] = [{"fault": one.fault, **asdict(one.some)} for one in findings]
    return wire
