"""Every setting of the server, typed, with its default and what it is for; the docs' table is checked against it."""

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import Unstartable

MOST_NAME_CHARS = 253  # of a host name, as DNS has it
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # containers have names with underscores


class Settings(BaseSettings):
    """Read once by whatever starts a process and handed down as values. Each field's variable is its name in capitals,
    but for the two whose names the public command line would otherwise own."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    data_dir: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("AIRWEAVE_DATA_DIR", "data_dir"),
        description="Where the embedded Postgres and the keys live. Default: the system's place for application data.",
    )
    folder_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        validation_alias=AliasChoices("AIRWEAVE_FOLDER_ROOTS", "folder_roots"),
        description="Folders that `folder` connections may read below, separated by the system's path separator. "
        "Default: the home of the user and the current directory.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="A Postgres 15+ with pgvector 0.8+ of your own; without it an embedded one is run."
    )
    api_host: str = Field(default="127.0.0.1", description="The address the API listens on.")
    api_port: int = Field(default=8001, ge=0, le=65535, description="The port the API listens on; 0 takes a free one.")
    api_url: str = Field(
        default="", description="Where the command line finds the server. Default: from host and port."
    )
    api_key: SecretStr | None = Field(default=None, description="The key the command line sends.")
    auth_enabled: bool = Field(
        default=False, description="Require an API key on every request but health and the API's own docs."
    )
    allow_no_auth: bool = Field(
        default=False, description="Allow an address other than loopback without authentication."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Further host names or addresses that the Host and Origin headers may carry, separated by commas.",
    )
    allowed_private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Private host names, addresses or networks (CIDR) that sources may reach over HTTP, separated by "
        "commas.",
    )
    vault_key: SecretStr | None = Field(
        default=None,
        description="Base64 of 32 bytes that seal credentials; of several, separated by commas, the first seals and "
        "all open. Default: made once in the data directory.",
    )
    enable_internal_sources: bool = Field(default=False, description="Offer the test sources (stub, timed, ...).")
    embedder: str = Field(default="wordllama", description="The embedder that new collections get.")
    embeddings_url: str = Field(
        default="", description="The base address of an OpenAI-compatible service, up to where `/embeddings` follows, "
        "for the embedder `openai`.",
    )  # fmt: skip
    embeddings_model: str = Field(default="", description="The model that the embedder `openai` asks for.")
    embeddings_key: SecretStr | None = Field(default=None, description="What it sends as a bearer token.")
    embeddings_dimensions: int | None = Field(
        default=None, ge=1, le=16_000, description="The dimensions its vectors must have; they are asked for where the "
        "model's own are others. Default: as many as the model answers.",
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="How logs look: `auto` is `console` on a terminal and `json` elsewhere."
    )

    log_to: Literal["stderr", "stdout"] = Field(default="stderr", description="Where logs go.")

    metrics_host: str = Field(
        default="127.0.0.1", description="The address a worker answers /metrics and /health on, where METRICS_PORT is "
        "set.",
    )  # fmt: skip
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535,
        description="The port a worker answers /metrics and /health on. Default: none; the API has /metrics anyway.",
    )  # fmt: skip
    metrics_token: SecretStr | None = Field(
        default=None, description="What /metrics asks for as a bearer token. Default: nothing; with AUTH_ENABLED the "
        "API shows no metrics without it.",
    )  # fmt: skip

    retention_days: float = Field(
        default=30.0, gt=0, description="Days that jobs are kept after their end, with their errors and what became of "
        "their deletes; the last of each connection stay.",
    )  # fmt: skip

    vector_index_chunks: int = Field(
        default=20_000, ge=1, description="Chunks from which a collection gets an index over its vectors; it loses it "
        "when fewer than half of that are left. Without one, all vectors are compared.",
    )  # fmt: skip
    vector_index_memory_mb: int = Field(
        default=512, ge=64, description="Memory that Postgres may take to build one such index; about 2 MB for 1,000 "
        "chunks, and what does not fit is built several times slower.",
    )  # fmt: skip

    temporal_enabled: bool = Field(
        default=False, description="Let Temporal drive jobs; without it, or while it cannot be reached, they run in "
        "process.",
    )  # fmt: skip
    temporal_required: bool = Field(
        default=False,
        description="Answer 503 to a run rather than drive it in process when Temporal cannot be reached.",
    )
    temporal_host: str = Field(default="localhost", description="The Temporal server's host; TEMPORAL_ADDRESS wins.")
    temporal_port: int = Field(default=7233, ge=1, le=65535, description="The Temporal server's port.")
    temporal_namespace: str = Field(default="default", description="The Temporal namespace that jobs run in.")
    temporal_task_queue: str = Field(
        default="airweave-sync-queue", description="The task queue that workers take steps from; another for each "
        "installation that shares a namespace.",
    )  # fmt: skip
    temporal_ui_port: int = Field(
        default=8233, ge=1, le=65535, description="The port of the UI of the Temporal server that we start."
    )
    temporal_lost_s: float = Field(
        default=30.0, gt=0, description="Seconds without Temporal after which its jobs go on in process."
    )
    temporal_heartbeat_s: float = Field(
        default=12.0, ge=1, description="Seconds without a heartbeat after which a step is given to another worker."
    )
    temporal_jobs: int = Field(
        default=32, ge=1, description="Jobs under way on Temporal at once; more of them wait, organizations by turns."
    )
    worker_grace_s: float = Field(
        default=15.0, gt=0, description="Seconds a worker has to checkpoint when it is told to end; 5 later it is gone."
    )

    job_threads: int = Field(
        default_factory=lambda: max(4, (os.cpu_count() or 2) - 1), ge=1, le=256,
        description="Jobs that one process drives, or slices that one worker reads, side by side. "
        "Default: cores - 1, at least 4.",
    )  # fmt: skip
    tick_s: float = Field(default=5.0, gt=0, description="Seconds between two looks for work that nobody announced.")
    lease_s: float = Field(
        default=20.0, gt=0, description="Seconds after which a job whose driver fell silent may be taken over."
    )
    slice_s: float = Field(default=60.0, gt=0, description="Seconds of reading after which a step hands back.")
    retry_attempts: int = Field(
        default=5, ge=1, description="Failures in a row, without progress, before a partition is given up."
    )
    retry_attempts_progress: int = Field(
        default=100, ge=1, description="Failures in all before a partition is given up."
    )
    retry_backoff_s: float = Field(
        default=1.0, gt=0, description="Seconds before the first retry; doubled each time, up to 60."
    )
    source_stall_s: float = Field(
        default=300.0, gt=0, description="Seconds without a word of the source before a job ends failed."
    )
    source_wait_max_s: float = Field(
        default=3600.0, gt=0, description="Seconds a job follows `Retry-After` without any progress."
    )
    stuck_s: float = Field(
        default=600.0, gt=0, description="Seconds at one and the same entity, or batch, after which it is given up."
    )
    parse_s: float = Field(
        default=60.0, gt=0, description="Seconds that reading one document (PDF, Office, e-mail, archive) may take."
    )
    parse_memory_mb: int = Field(
        default=400, ge=200, description="Memory that reading one document may take, in MB; two are read at once."
    )
    full_sync_every_h: float = Field(
        default=24.0, gt=0, description="Hours after which a source that cannot tell deletes is read in full"
    )
    resume_window_h: float = Field(
        default=24.0, ge=0, description="Hours in which a new job takes up a failed or cancelled one."
    )
    delete_guard_ratio: float = Field(
        default=0.15, ge=0, le=1, description="Share of a connection above which deletes are held."
    )
    delete_guard_min: int = Field(default=10, ge=0, description="Deletes that are never held for their share alone.")
    max_body_mb: float = Field(default=10.0, gt=0, description="Largest request body, in MB.")
    progress_heartbeat_s: float = Field(
        default=15.0, gt=0, description="Seconds without news after which a stream of progress says that it lives."
    )

    @field_validator(
        "database_url", "vault_key", "api_key", "data_dir", "metrics_port", "metrics_token",
        "embeddings_key", "embeddings_dimensions", mode="before",
    )  # fmt: skip
    @classmethod
    def unset(cls, value: object) -> object:
        """A variable that is set to nothing is not set."""
        return None if value == "" else value

    @field_validator("folder_roots", mode="before")
    @classmethod
    def split_paths(cls, value: object) -> object:
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @field_validator("allowed_hosts", "allowed_private_hosts", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Host names and addresses, as a ``Host`` header is compared with them."""
        return _each(value, _host, "a host name or an address: write it without scheme, port, brackets and wildcards")

    @field_validator("allowed_private_hosts")
    @classmethod
    def check_private_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _each(
            value,
            lambda entry: _host(entry) or _network(entry),
            "a host name, an address or a network (CIDR): write it without scheme, port, brackets and wildcards",
        )

    def roots(self) -> tuple[Path, ...]:
        """The folders below which `folder` connections may read."""
        return self.folder_roots or (Path.home(), Path.cwd())

    def place(self) -> Path:
        """The data directory. Raises ``Unstartable`` when there is no place for one."""
        return (self.data_dir or default_data_dir()).expanduser().absolute()

    def key_file(self) -> Path:
        """Where the vault key is kept that we make where there is no VAULT_KEY."""
        return self.place() / "vault.key"


def _each(entries: tuple[str, ...], read: Callable[[str], str | None], expected: str) -> tuple[str, ...]:
    """Each entry as ``read`` normalizes it. An entry that it cannot read is named by its number, for it may hold a
    password."""
    normal = tuple(map(read, entries))
    for number, entry in enumerate(normal, 1):
        if entry is None:
            raise PydanticCustomError(
                "hosts", "entry {number} is not {expected}", {"number": number, "expected": expected}
            )
    return tuple(filter(None, normal))


def _host(text: str) -> str | None:
    """A host name in small letters or an address in its usual form; None when it is neither. An address with a zone
    (``%eth0``) is neither: those that it would be compared with have none."""
    try:
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        name = text.lower().removesuffix(".")
    labels = name.split(".")
    is_name = len(name) <= MOST_NAME_CHARS and all(map(LABEL.fullmatch, labels)) and not labels[-1].isdecimal()
    return name if is_name else None


def _network(text: str) -> str | None:
    try:
        return None if "%" in text else str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


def default_data_dir() -> Path:
    """Where data lies when nothing else is said."""
    if os.geteuid() == 0:
        return Path("/var/lib/airweave-server")
    shared = Path(os.environ.get("XDG_DATA_HOME", ""))
    if shared.is_absolute():
        return shared / "airweave-server"
    try:
        home = Path.home()
    except RuntimeError:
        raise Unstartable("this OS user has no home directory: set AIRWEAVE_DATA_DIR") from None
    return home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "airweave-server"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
