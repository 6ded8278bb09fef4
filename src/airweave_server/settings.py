"""All settings of the server, with types, defaults and descriptions. A test checks that the docs name each one."""

import ipaddress
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import Unstartable

MOST_NAME_CHARS = 253  # of a host name in DNS
TEMPORAL_NAME_BYTES = 1_000  # Temporal's limit of the name of a namespace or task queue
# of our task queue: @HOST is appended to it
TASK_QUEUE_BYTES = TEMPORAL_NAME_BYTES - 1 - MOST_NAME_CHARS
# keywords by which people find a job in Temporal
SEARCH_ATTRIBUTES = ("AirweaveSource", "AirweaveCollection", "AirweaveConnection", "AirweaveTrigger")
TEMPORALS_OWN = "/_sys/"  # begins the names of task queues that Temporal keeps for itself
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # names of containers may have underscores

# Folders that are no root unless the operator names them: these with everything below them, ...
SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin"),
    *("/snap", "/sys", "/usr", "/var/backups", "/var/cache", "/var/log", "/var/mail", "/var/run", "/var/spool"),
    *("/Applications", "/Library", "/System", "/cores", "/private/etc", "/private/var/db", "/private/var/root"),
)
# ... and these, though not what lies below: homes, the folders of services, disks.
SHARED_FOLDERS = (
    *("/", "/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/home", "/var/lib", "/var/www"),
    *("/Users", "/Volumes", "/private", "/private/var"),
)


class Settings(BaseSettings):
    """Read once when a process starts, and passed down as values. The variable of a field is its name in capitals; two
    have a prefix, because the public command line uses the plain names."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    data_dir: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("AIRWEAVE_DATA_DIR", "data_dir"),
        description="The directory of the embedded Postgres and the keys. Default: the system's directory for "
        "application data.",
    )
    folder_roots: Annotated[tuple[Path, ...] | None, NoDecode] = Field(
        default=None,
        validation_alias=AliasChoices("AIRWEAVE_FOLDER_ROOTS", "folder_roots"),
        description="Folders that `folder` connections may read, separated by the system's path separator. If it is "
        "set but empty, none. Default: the user's home and the current directory, unless they belong to the system.",
    )
    organization_roots: Annotated[dict[UUID, tuple[Path, ...]], NoDecode] = Field(
        default={},
        validation_alias=AliasChoices("AIRWEAVE_ORGANIZATION_ROOTS", "organization_roots"),
        description="Folders that `folder` connections of an organization may read: `ID=FOLDERS`, by the id of the "
        "organization and separated as above; several organizations are separated by `;`. Default: the first "
        "organization has AIRWEAVE_FOLDER_ROOTS, and the others have none.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="Your own Postgres 15+ with pgvector 0.8+. Default: an embedded one."
    )
    api_host: str = Field(default="127.0.0.1", description="The address the API listens on.")
    api_port: int = Field(default=8001, ge=0, le=65535, description="The port the API listens on; 0 takes a free one.")
    api_url: str = Field(
        default="", description="Where the command line finds the server. Default: from host and port."
    )
    api_key: SecretStr | None = Field(default=None, description="The key the command line sends.")
    auth_enabled: bool = Field(
        default=False, description="Require an API key on every request except health and the API's docs."
    )
    allow_no_auth: bool = Field(
        default=False, description="Allow an address other than loopback without authentication."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="More host names or addresses allowed in the Host and Origin headers, separated by commas.",
    )
    allowed_private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Private host names, addresses or networks (CIDR) that sources and webhooks may reach over HTTP, "
        "separated by commas.",
    )
    vault_key: SecretStr | None = Field(
        default=None,
        description="Base64 of the 32 bytes of the key that seals credentials. Of several, separated by commas, the "
        "first seals and all open. Default: a key file in the data directory, created once.",
    )
    enable_internal_sources: bool = Field(default=False, description="Offer the test sources (stub, timed, ...).")
    embedder: str = Field(default="wordllama", description="The embedder of new collections.")
    embeddings_url: str = Field(
        default="",
        description="The base URL of an OpenAI-compatible service, without `/embeddings`, for the embedder `openai`.",
    )
    embeddings_model: str = Field(default="", description="The model that the embedder `openai` requests.")
    embeddings_key: SecretStr | None = Field(
        default=None, description="The API key that the embedder `openai` sends as a bearer token."
    )
    embeddings_dimensions: int | None = Field(
        default=None,
        ge=1,
        le=16_000,
        description="The dimensions of the vectors of the embedder `openai`, requested if the model's own differ. "
        "Default: those of the model.",
    )
    llm_url: str = Field(
        default="",
        description="The base URL of an OpenAI-compatible service, without `/chat/completions`, whose model plans the "
        "search tiers `classic` and `agentic` and writes answers. Default: none, and searches are planned by rules.",
    )
    llm_model: str = Field(default="", description="The model that is requested from LLM_URL.")
    llm_key: SecretStr | None = Field(default=None, description="The API key that LLM_URL gets as a bearer token.")
    llm_timeout_s: float = Field(
        default=30.0, gt=0, le=300, description="Seconds for one answer of the model, then rules plan the search."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="The format of logs: `auto` is `console` on a terminal and `json` elsewhere."
    )

    log_to: Literal["stderr", "stdout"] = Field(default="stderr", description="Where logs go.")

    metrics_host: str = Field(
        default="127.0.0.1",
        description="The address on which a worker serves /metrics and /health if METRICS_PORT is set.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The port on which a worker serves /metrics and /health. Default: none; the API always serves "
        "/metrics.",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="The bearer token that /metrics requires. Default: none, and with AUTH_ENABLED the API then "
        "serves no metrics.",
    )

    retention_days: float = Field(
        default=30.0,
        gt=0,
        description="Days that jobs are kept after they end, with their errors and delete plans. The last job of "
        "each connection and its last completed one are always kept.",
    )

    webhook_verify_endpoints: bool = Field(
        default=False,
        description="Send a HEAD request to the URL of a webhook subscription before it is accepted, and refuse one "
        "that does not answer.",
    )
    webhook_timeout_s: float = Field(
        default=15.0, gt=0, le=300, description="Seconds that the receiver of a webhook has to answer."
    )
    webhook_backoff_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds before a webhook that failed is sent again; six times as long after each further failure, "
        "up to two hours.",
    )
    webhook_retry_days: float = Field(
        default=3.0, gt=0, le=14, description="Days of waiting after which a webhook that fails is given up."
    )

    vector_index_chunks: int = Field(
        default=20_000,
        ge=1,
        description="Chunks at which a collection gets a vector index; it loses the index below half of that. "
        "Without an index, a search compares all vectors.",
    )
    vector_index_memory_mb: int = Field(
        default=512,
        ge=64,
        description="Memory that Postgres may use to build a vector index, in MB: about 2 MB for 1,000 chunks. An "
        "index that does not fit is built several times slower.",
    )

    temporal_enabled: bool = Field(
        default=False,
        description="Let Temporal drive jobs. Without it, or while it cannot be reached, they run in process.",
    )
    temporal_required: bool = Field(
        default=False,
        description="Answer 503 to a run, instead of driving it in process, while Temporal cannot be reached.",
    )
    temporal_host: str = Field(
        default="localhost", description="The Temporal server's host; TEMPORAL_ADDRESS takes precedence."
    )
    temporal_port: int = Field(default=7233, ge=1, le=65535, description="The Temporal server's port.")
    temporal_namespace: str = Field(default="default", description="The Temporal namespace that jobs run in.")
    temporal_task_queue: str = Field(
        default="airweave-sync-queue",
        description="The task queue that workers poll. Installations that share a namespace each need their own.",
    )
    temporal_ui_port: int = Field(
        default=8233, ge=1, le=65535, description="The UI port of the Temporal server that `up --temporal` starts."
    )
    temporal_lost_s: float = Field(
        default=30.0, gt=0, description="Seconds without Temporal after which its jobs continue in process."
    )
    temporal_heartbeat_s: float = Field(
        default=12.0, ge=1, description="Seconds without a heartbeat after which a step is given to another worker."
    )
    temporal_jobs: int = Field(
        default=32, ge=1, description="Jobs on Temporal at once. More of them wait, and organizations take turns."
    )
    worker_grace_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds a worker has to checkpoint when it is told to stop; 5 seconds later it ends.",
    )

    job_threads: int = Field(
        default_factory=lambda: max(4, (os.cpu_count() or 2) - 1),
        ge=1,
        le=256,
        description="Jobs that one process drives, or slices that one worker reads, in parallel. Default: cores - 1, "
        "at least 4.",
    )
    tick_s: float = Field(default=5.0, gt=0, description="Seconds between two looks for work that was not announced.")
    lease_s: float = Field(
        default=20.0, gt=0, description="Seconds after which a job whose driver has fallen silent may be taken over."
    )
    slice_s: float = Field(default=60.0, gt=0, description="Seconds of reading after which a step returns.")
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
        default=300.0, gt=0, description="Seconds without a response from the source before a job fails."
    )
    source_wait_max_s: float = Field(
        default=3600.0, gt=0, description="Seconds a job may spend following `Retry-After` without progress."
    )
    stuck_s: float = Field(
        default=600.0, gt=0, description="Seconds on one entity or batch after which it is given up."
    )
    parse_s: float = Field(
        default=60.0, gt=0, description="Seconds that reading one document (PDF, Office, e-mail, archive) may take."
    )
    parse_memory_mb: int = Field(
        default=400, ge=200, description="Memory that reading one document may use, in MB; two are read at once."
    )
    ocr: bool = Field(
        default=False, description="Whether pages that are images are read, by tesseract, which must be installed."
    )
    ocr_languages: str = Field(
        default="eng",
        pattern=r"^[A-Za-z]\w*(/\w+)*(\+\w+(/\w+)*)*$",
        description="The languages of such pages, by tesseract's names, such as `eng+deu`.",
    )
    full_sync_every_h: float = Field(
        default=24.0, gt=0, description="Hours after which a source that does not report deletes is read in full again."
    )
    resume_window_h: float = Field(
        default=24.0, ge=0, description="Hours within which a new job resumes a failed or cancelled one."
    )
    delete_guard_ratio: float = Field(
        default=0.15, ge=0, le=1, description="Share of a connection's entities above which deletes are held."
    )
    delete_guard_min: int = Field(
        default=10, ge=0, description="Number of deletes that are never held for their share alone."
    )
    min_free_mb: int = Field(
        default=128,
        ge=0,
        description="Disk space in MB that jobs leave free for the embedded Postgres, beside its reserve of 67 MB. "
        "With less, they wait.",
    )
    max_body_mb: float = Field(default=10.0, gt=0, description="Largest request body, in MB.")
    progress_heartbeat_s: float = Field(
        default=15.0, gt=0, description="Seconds without a change after which a progress stream sends a heartbeat."
    )

    @field_validator(
        "database_url",
        "vault_key",
        "api_key",
        "data_dir",
        "metrics_port",
        "metrics_token",
        "embeddings_key",
        "embeddings_dimensions",
        "llm_key",
        mode="before",
    )
    @classmethod
    def unset(cls, value: object) -> object:
        """Treat an empty variable as unset."""
        return None if value == "" else value

    @field_validator("folder_roots", mode="before")
    @classmethod
    def split_paths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            raise PydanticCustomError(
                "roots", "write folders separated by {separator}, not a JSON list", {"separator": os.pathsep}
            )
        return tuple(filter(None, value.split(os.pathsep)))

    @field_validator("organization_roots", mode="before")
    @classmethod
    def split_roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found: dict[UUID, tuple[Path, ...]] = {}
        for number, entry in enumerate(filter(None, map(str.strip, value.split(";"))), 1):
            name, is_given, folders = entry.partition("=")
            try:
                organization = UUID(name.strip())
            except ValueError:
                is_given = ""
            if not is_given or organization in found:
                raise PydanticCustomError(
                    "organization_roots",
                    "entry {number} is not ID=FOLDERS, with the id of another organization (see airweave-server "
                    "organizations list)",
                    {"number": number},
                )
            found[organization] = tuple(map(Path, filter(None, folders.split(os.pathsep))))
        return found

    @field_validator("allowed_hosts", "allowed_private_hosts", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Normalize host names and addresses for comparison with a ``Host`` header."""
        return _normalize(
            value, _normalize_host, "a host name or an address: write it without scheme, port, brackets and wildcards"
        )

    @field_validator("temporal_host")
    @classmethod
    def check_temporal_host(cls, value: str) -> str:
        host = _normalize_host(value[1:-1] if value.startswith("[") and value.endswith("]") else value)
        if host is None:
            raise PydanticCustomError(
                "host", "it is not a host name or an address: write it without scheme, port and spaces"
            )
        return host

    @field_validator("temporal_namespace", "temporal_task_queue")
    @classmethod
    def check_temporal_name(cls, value: str, info: ValidationInfo) -> str:
        """Refuse the names that Temporal refuses, and those that nobody means."""
        limit = TASK_QUEUE_BYTES if info.field_name == "temporal_task_queue" else TEMPORAL_NAME_BYTES
        if not value.strip() or value != value.strip():
            raise PydanticCustomError("name", "a name is needed, without spaces around it")
        if any(unicodedata.category(sign).startswith("C") for sign in value):
            raise PydanticCustomError("name", "it has control characters, or is not valid UTF-8")
        if len(value.encode()) > limit:
            raise PydanticCustomError("name", "it is longer than {limit} bytes", {"limit": limit})
        if info.field_name == "temporal_task_queue" and value.startswith(TEMPORALS_OWN):
            raise PydanticCustomError(
                "name", "Temporal keeps names that begin with {own} for itself", {"own": TEMPORALS_OWN}
            )
        return value

    @field_validator("allowed_private_hosts")
    @classmethod
    def check_private_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _normalize(
            value,
            lambda entry: _normalize_host(entry) or _normalize_network(entry),
            "a host name, an address or a network (CIDR): write it without scheme, port, brackets and wildcards",
        )

    def roots(self) -> tuple[Path, ...]:
        """The folders that ``folder`` connections may read, with all below them.

        Unless they are set, the home of this OS user and the current directory, but neither if it is a folder of the
        system: a service starts in ``/``, and its user may have ``/`` or nothing as its home.
        """
        if self.folder_roots is not None:
            return self.folder_roots
        found = []
        for find in (Path.home, Path.cwd):
            with suppress(RuntimeError, OSError):  # the user has no home; the current directory was deleted
                found.append(find())
        return tuple(path for path in found if path.is_absolute() and not _is_of_system(path))

    def roots_of(self, organization_id: UUID, *, is_first: bool) -> tuple[Path, ...]:
        """The folders that ``folder`` connections of this organization may read."""
        given = self.organization_roots.get(organization_id)
        if given is not None:
            return given
        return self.roots() if is_first else ()

    def languages_for_ocr(self) -> str | None:
        """The languages of pages that are images; None if such pages are not read."""
        return self.ocr_languages if self.ocr else None

    def place(self) -> Path:
        """The data directory. Raises ``Unstartable`` if there is no default for this user."""
        return (self.data_dir or default_data_dir()).expanduser().absolute()

    def key_file(self) -> Path:
        """The file of the vault key that is created if VAULT_KEY is not set."""
        return self.place() / "vault.key"


def _normalize(entries: tuple[str, ...], read: Callable[[str], str | None], expected: str) -> tuple[str, ...]:
    """The entries, normalized by ``read``. The error for an entry that it cannot read gives its number, not its text,
    which may hold a password."""
    normal = tuple(map(read, entries))
    for number, entry in enumerate(normal, 1):
        if entry is None:
            raise PydanticCustomError(
                "hosts", "entry {number} is not {expected}", {"number": number, "expected": expected}
            )
    return tuple(filter(None, normal))


def _normalize_host(text: str) -> str | None:
    """The host name in lower case, or the address in canonical form; None if it is neither. An address with a zone
    (``%eth0``) is neither: the addresses it would be compared with have none."""
    try:
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        name = text.lower().removesuffix(".")
    labels = name.split(".")
    is_name = len(name) <= MOST_NAME_CHARS and all(map(LABEL.fullmatch, labels)) and not labels[-1].isdecimal()
    return name if is_name else None


def _normalize_network(text: str) -> str | None:
    try:
        return None if "%" in text else str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


def default_data_dir() -> Path:
    """The data directory if none is set. Raises ``Unstartable`` if this OS user has no home."""
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


def _is_of_system(folder: Path) -> bool:
    """Whether a folder is one of the operating system's, or has other users' folders in it, so that it is read only if
    the operator names it."""
    path = os.path.realpath(folder)
    if path in map(os.path.realpath, SHARED_FOLDERS):
        return True
    return any(path == top or path.startswith(top + os.sep) for top in map(os.path.realpath, SYSTEM_FOLDERS))


def is_loopback(host: str) -> bool:
    """Whether a listener on this address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
