"""What an error of a step means for its job, and how it is told to people and programs."""

import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from ..db import audit, ledger
from ..db.models import SyncPartition
from ..db.session import is_storage_full
from ..sdk import AuthError, ConfigError, EmbedderError, RateLimited, SourceError, Stalled
from .scrub import masked, scrub

SOURCE_WAIT_LEAST_S = 1.0
NAMED = 5  # partitions in the text of a job's error
LISTED = 100  # partitions in its details
KEY_REFUSED = "api_key_invalid"
SIGN_IN_REFUSED = "oauth_credentials_expired"
TOKEN_OF_RUN_REFUSED = "access_token_refused"  # it says nothing about the stored credentials
REFUSALS = {KEY_REFUSED, SIGN_IN_REFUSED, TOKEN_OF_RUN_REFUSED}
WAITS_FOR = {"embedder": "embedder", "storage_full": "storage"}  # by category of an error; else the source


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about an error.

    ``final``: it is not tried again. ``waiting``: the source only said wait, for ``wait_s`` seconds; no failure.
    """

    text: str
    category: str | None
    final: bool = False
    waiting: bool = False
    wait_s: float = 0.0

    @property
    def is_refusal(self) -> bool:
        """Whether the source refused the credentials, so that no other partition need be tried."""
        return self.category in REFUSALS

    @property
    def waiting_for(self) -> str:
        return waits_for(self.category)


def waits_for(category: str | None) -> str:
    """What a job waits for whose last error was of this category."""
    return WAITS_FOR.get(category or "", "source")


def judge(error: Exception, secrets: Sequence[str], *, refusal: str = KEY_REFUSED) -> Verdict:
    """Decide what an error of a step means; no text of it holds one of ``secrets``. ``refusal``: the category of an
    ``AuthError`` of this source."""
    text = scrub(str(error) or type(error).__name__, secrets)
    match error:
        case ConfigError():
            return Verdict(text, "configuration", final=True)
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
        case SQLAlchemyError() if is_storage_full(error):
            full = "storage_full: the database has no room left; free some and run it again"
            return Verdict(full, "storage_full")
    return Verdict(scrub(f"{type(error).__name__}: {error}", secrets), "internal")


def trace(error: Exception, secrets: Sequence[str]) -> str:
    """The traceback for the log, without secrets."""
    return masked("".join(traceback.format_exception(error)), secrets)


def describe_partitions(lost: Sequence[SyncPartition]) -> str:
    """Name the partitions that were given up, with their errors; empty when there are none."""
    named = [f"partition {part.key!r}: {part.error}" if part.key else f"{part.error}" for part in lost[:NAMED]]
    if len(lost) > NAMED:
        named.append(f"and {len(lost) - NAMED} more partitions")
    return "; ".join(named)


def describe_damage(found: Sequence[audit.Finding], *, is_repair: bool) -> str:
    """Say what the audit found and what happens next; empty when it found nothing."""
    if not found:
        return ""
    reader = "the next sync" if is_repair else "a repair, which starts by itself,"
    mend = f"{reader} reads it afresh"
    if any(finding.fault in audit.INDEXES or finding.fault == "index" for finding in found):
        mend += ", and airweave-server audit --repair builds the index anew"
    return f"{ledger.INCOMPLETE}: {'; '.join(map(str, found))}; {mend}"


def details(lost: Sequence[SyncPartition], found: Sequence[audit.Finding]) -> dict[str, Any]:
    """The same for programs: ``error_details`` of a job."""
    told: dict[str, Any] = {}
    if lost:
        told["partitions"] = [{"key": part.key, "error": part.error} for part in lost[:LISTED]]
    if found:
        told["index"] = [{"fault": one.fault, **asdict(one.some)} for one in found]
    return told
