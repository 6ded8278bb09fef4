"""The models of the public API, with our own fields after the public ones. The API and its clients share them, so this
module imports pydantic and the standard library only."""

import math
import re
from datetime import MINYEAR, UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

# In UTC; on the wire without a zone.
Moment = Annotated[
    datetime,
    AfterValidator(lambda value: value if value.tzinfo else value.replace(tzinfo=UTC)),
    PlainSerializer(lambda value: value.astimezone(UTC).replace(tzinfo=None)),
]
ReadableId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=200)]
LONGEST_QUERY = 10_000
LONGEST_WAIT_S = 30 * 24 * 3600
LONGEST_WINDOW_S = 24 * 3600
DEEPEST = 50
MOST_CONDITIONS = 1_000  # of a filter
MAX_DIGITS = 100  # of an integer in a filter
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
ROUTES_OF_COLLECTIONS = ("count",)
_ABSENT = object()

ENGLISH = "english"
# The text search configurations of Postgres 15; ``simple`` only folds case.
LANGUAGES = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", ENGLISH, "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "simple", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip

EventType = Literal[
    "sync.pending",
    "sync.running",
    "sync.cancelling",
    "sync.completed",
    "sync.failed",
    "sync.cancelled",
    "entity.batch_processed",
    "query.processed",
    "access_control.batch_processed",
    "collection.created",
    "collection.updated",
    "collection.deleted",
    "source_connection.created",
    "source_connection.auth_completed",
    "source_connection.deleted",
    "organization.created",
    "organization.deleted",
    "organization.member_added",
    "organization.member_removed",
    "search.started",
    "search.completed",
    "search.failed",
    "search.reranking",
    "search.thinking",
    "search.tool_called",
]
MOST_EVENT_TYPES = 10  # of a subscription
PUBLIC_CATEGORIES = (
    "oauth_credentials_expired",
    "api_key_invalid",
    "auth_provider_account_gone",
    "auth_provider_credentials_invalid",
)

DateField = Literal["created_at", "updated_at"]
NumericField = Literal["airweave_system_metadata.chunk_index"]
UuidField = Literal["airweave_system_metadata.sync_id", "airweave_system_metadata.sync_job_id"]
TextField = Literal[
    "entity_id",
    "name",
    "breadcrumbs.entity_id",
    "breadcrumbs.name",
    "breadcrumbs.entity_type",
    "airweave_system_metadata.entity_type",
    "airweave_system_metadata.source_name",
    "airweave_system_metadata.original_entity_id",
    UuidField,
]
Ordering = Literal["greater_than", "less_than", "greater_than_or_equal", "less_than_or_equal"]
Operator = Literal["equals", "not_equals", "contains", Ordering, "in", "not_in"]

DATES, NUMBERS, UUIDS = get_args(DateField), get_args(NumericField), get_args(UuidField)
LISTS = ("in", "not_in")
FOR_TEXT = ("equals", "not_equals", "contains", *LISTS)
FOR_ORDERED = ("equals", "not_equals", *get_args(Ordering), *LISTS)
INTEGER = re.compile(rf"\s*[+-]?[0-9]{{1,{MAX_DIGITS}}}\s*")


class Form(BaseModel):
    """A request body. Unknown keys are ignored; values that a JSON column of Postgres cannot store are refused."""

    @model_validator(mode="before")
    @classmethod
    def check_storable(cls, value: Any) -> Any:
        if (flaw := _find_flaw(value)) is not None:
            raise ValueError(flaw)
        return value


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, *sources: object, **values: Any) -> Self:
        """Take each field from ``values``, else from the first source that has an attribute of its name, else its
        default. Raises ``TypeError`` for a value that is not a field."""
        fields = cls.model_fields
        if unknown := values.keys() - fields.keys():
            raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
        for name in fields:
            if name not in values:
                for source in sources:
                    if (value := getattr(source, name, _ABSENT)) is not _ABSENT:
                        values[name] = value
                        break
        return cls.model_validate(values)


def check_not_blank(value: str) -> str:
    if len(value.strip()) < 4:
        raise ValueError("must have at least 4 characters that are not blank")
    return value


CollectionName = Annotated[str, Field(min_length=4, max_length=64), AfterValidator(check_not_blank)]


class Engine(Answer):
    """The Temporal server that is configured, and whether it is reachable now. Where it is: only with an API key, or on
    loopback without authentication."""

    address: str | None
    namespace: str | None
    task_queue: str | None
    required: bool
    reachable: bool


class FullListings(Answer):
    """When the sources of connections were last listed in full: the oldest and the newest of these times."""

    oldest: datetime | None
    newest: datetime | None


class Child(Answer):
    """A process that the server has started and restarts."""

    up: bool
    pid: int | None
    restarts: int


class Health(Answer):
    """The state of the server. ``engine`` drives new jobs; ``engine_reason``: why it is not the one configured.
    ``temporal``: only if it is enabled. ``keeper``: the process that does the housekeeping. ``workers``: how many poll;
    null while the database is down. ``seen_s_ago``: the age of this view; more than 0 if something hangs."""

    status: str
    engine: str
    engine_reason: str | None
    temporal: Engine | None = None
    database: str
    seen_s_ago: float | None = None
    keeper: str | None
    workers: int | None
    last_full_listing: FullListings
    children: dict[str, Child]


class Live(Answer):
    status: str


class Ready(Answer):
    """``checks``: by name of the part, its status, with the latency or the error."""

    status: str
    checks: dict[str, dict[str, Any]]


class ConfigField(Answer):
    name: str
    title: str
    description: str | None = None
    type: str
    required: bool = False
    items_type: str | None = None
    feature_flag: str | None = None
    is_secret: bool = False
    enum_values: list[str] | None = None
    default: Any | None = None


class Fields(Answer):
    fields: list[ConfigField]


class Source(Answer):
    name: str
    short_name: str
    class_name: str
    description: str | None
    auth_methods: list[str] | None
    oauth_type: str | None = None
    requires_byoc: bool = False
    auth_config_class: str | None = None
    config_class: str | None = None
    auth_fields: Fields | None = None
    config_fields: Fields
    output_entity_definitions: list[str] | None = None
    labels: list[str] | None = None
    supports_continuous: bool = False
    federated_search: bool = False
    supports_temporal_relevance: bool = True
    supports_access_control: bool = False
    supports_browse_tree: bool = False
    rate_limit_level: str | None = None
    feature_flag: str | None = None
    supported_auth_providers: list[str] = []


class SourceRateLimit(Answer):
    """The limit on an organization's requests to a source. ``rate_limit_level``: null if the source makes no requests;
    ``id``: null if no limit is set."""

    source_short_name: str
    rate_limit_level: str | None
    limit: int | None = None
    window_seconds: int | None = None
    id: UUID | None = None


class SourceRateLimitUpdate(Form):
    limit: int = Field(gt=0, le=1_000_000, description="Requests in a window, at most.")
    window_seconds: int = Field(gt=0, le=LONGEST_WINDOW_S)


class SourceRateLimitSet(Answer):
    source_short_name: str
    limit: int
    window_seconds: int
    id: UUID
    organization_id: UUID
    created_at: Moment
    modified_at: Moment


class IndexedEntity(Answer):
    """What an entity has in the index. ``raw_source_fields``: what its source says of it besides."""

    entity_id: str
    name: str
    created_at: Moment | None
    updated_at: Moment | None
    web_url: str | None
    url: str | None
    textual_representation: str
    raw_source_fields: dict[str, Any]


class EntityDefinition(Answer):
    """A type of entities. ``entity_type``: ``file`` or ``json``."""

    short_name: str
    name: str
    description: str | None
    class_name: str
    module_name: str
    entity_type: str
    entity_schema: dict[str, Any]


class EntityCount(Answer):
    count: int
    entity_definition_short_name: str
    entity_definition_name: str
    entity_definition_type: str
    entity_definition_description: str | None
    modified_at: Moment


RoleName = Literal["reader", "editor", "admin"]


class Organization(Answer):
    """An organization, as its own keys see it. ``role``: that of the caller in the words of the public API, ``admin``
    or ``member``; ``key_role``: in ours. What the server does not have is null or empty."""

    id: UUID
    name: str
    description: str | None = None
    created_at: Moment
    modified_at: Moment
    role: Literal["admin", "member"]
    is_primary: bool = True
    auth0_org_id: str | None = None
    org_metadata: dict[str, Any] | None = None
    enabled_features: list[str] = []
    billing: dict[str, Any] | None = None
    key_role: RoleName
    is_first: bool


class ApiKeyCreate(Form):
    expiration_days: int = Field(default=90, ge=1, le=365)
    name: str = Field(default="", max_length=200)
    role: RoleName = "admin"


class ApiKey(Answer):
    """An API key. ``decrypted_key``: its text, only in the answer that creates it; ``hint``: its last characters."""

    id: UUID
    organization_id: UUID
    created_at: Moment
    modified_at: Moment
    last_used_date: Moment | None = None
    expiration_date: Moment
    created_by_email: str | None = None
    modified_by_email: str | None = None
    decrypted_key: str | None = None
    name: str
    role: RoleName
    hint: str
    revoked_at: Moment | None


class SyncDestinations(BaseModel):
    model_config = ConfigDict(extra="allow")

    skip_vespa: bool = False
    target_destinations: list[str] | None = None
    exclude_destinations: list[str] | None = None


class SyncHandlers(BaseModel):
    model_config = ConfigDict(extra="allow")

    enable_vector_handlers: bool = True
    enable_raw_data_handler: bool = True
    enable_postgres_handler: bool = True


class SyncCursor(BaseModel):
    model_config = ConfigDict(extra="allow")

    skip_load: bool = False
    skip_updates: bool = False


class SyncBehavior(BaseModel):
    model_config = ConfigDict(extra="allow")

    skip_hash_comparison: bool = False
    replay_from_arf: bool = False
    skip_guardrails: bool = False


class SyncConfig(BaseModel):
    """Kept, without effect. Clients read each field, so those that were not given are shown with their defaults;
    unknown ones are kept as they are."""

    model_config = ConfigDict(extra="allow")

    destinations: SyncDestinations = Field(default_factory=SyncDestinations)
    handlers: SyncHandlers = Field(default_factory=SyncHandlers)
    cursor: SyncCursor = Field(default_factory=SyncCursor)
    behavior: SyncBehavior = Field(default_factory=SyncBehavior)

    @field_validator("destinations", "handlers", "cursor", "behavior", mode="before")
    @classmethod
    def read_null_as_defaults(cls, value: Any) -> Any:
        return {} if value is None else value


class CollectionCreate(Form):
    name: CollectionName
    readable_id: ReadableId | None = None
    sync_config: SyncConfig | None = None
    language: str = Field(default=ENGLISH, description=f"The language of its texts: {', '.join(LANGUAGES)}.")

    @field_validator("readable_id")
    @classmethod
    def check_not_a_route(cls, value: str | None) -> str | None:
        if value in ROUTES_OF_COLLECTIONS:
            raise ValueError(f"{value} is the name of a route; choose another")
        return value

    @field_validator("language")
    @classmethod
    def check_language(cls, value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
        return value


class CollectionUpdate(Form):
    name: CollectionName | None = None
    sync_config: SyncConfig | None = None


class SourceConnectionSummary(Answer):
    short_name: str
    name: str


class Collection(Answer):
    id: UUID
    name: str
    readable_id: str
    # what a former version has stored may be of any shape
    sync_config: Annotated[SyncConfig | dict[str, Any] | None, Field(union_mode="left_to_right")]
    created_at: Moment
    modified_at: Moment
    organization_id: UUID
    created_by_email: str | None = None
    modified_by_email: str | None = None
    status: str
    vector_size: int
    embedding_model_name: str
    language: str
    source_connection_summaries: list[SourceConnectionSummary]


class ReembedRequest(Form):
    embedder: str = Field(min_length=1, max_length=100)


class ReembedJob(Answer):
    id: UUID
    source_connection_id: UUID
    status: str
    error: str | None
    waiting_for: str | None


class Reembed(Answer):
    """A collection's embedder and its move to another one. ``state``: ``moving`` or ``settled``. ``jobs``: of each
    connection, the last job of the move."""

    state: str
    embedder: str
    embedding_model_name: str
    vector_size: int
    to: str | None = None
    to_model_name: str | None = None
    entities_done: int = 0
    entities_total: int = 0
    jobs: list[ReembedJob] = []


class Schedule(Form):
    cron: str | None = None
    continuous: bool = False
    cursor_field: str | None = None

    @field_validator("cron")
    @classmethod
    def check_cron(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must be a cron expression, or null for no schedule")
        return value


class Authentication(Form):
    """One of several forms, told apart by their fields. ``type``, which the public command line sends, is ignored."""

    credentials: dict[str, Any] | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_at: datetime | None = None
    redirect_uri: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    consumer_key: str | None = None
    consumer_secret: str | None = None
    provider_readable_id: str | None = None
    provider_config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def check_not_empty(self) -> "Authentication":
        if self.credentials is not None and not self.credentials:
            raise ValueError("credentials must not be empty")
        if self.access_token is not None and not self.access_token.strip():
            raise ValueError("access_token must not be blank")
        return self


PatienceSeconds = Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)]


class SourceConnectionCreate(Form):
    name: str | None = Field(None, min_length=4, max_length=42)
    short_name: str = Field(min_length=1, max_length=100)
    readable_collection_id: str = Field(min_length=1, max_length=200)
    description: str | None = Field(None, max_length=255)
    config: dict[str, Any] | None = None
    schedule: Schedule | None = None
    sync_immediately: bool | None = None
    authentication: Authentication | None = None
    redirect_url: str | None = None
    source_wait_max_s: PatienceSeconds | None = Field(None, description="In place of the setting SOURCE_WAIT_MAX_S.")


class LeftOut(Answer):
    """Entities that would not be indexed, for one reason. ``is_exact``: not an estimate."""

    reason: str
    entities: int
    is_exact: bool
    examples: list[str]


class SourceConnectionPreview(Answer):
    """What a first sync would read and index. ``is_complete``: the whole source was listed. ``is_exact``: all of it was
    also opened. ``seconds``: null if the embedder could not be tried."""

    short_name: str
    embedding_model_name: str
    is_complete: bool
    is_exact: bool
    entities: int
    size_bytes: int
    opened: int
    indexed: int
    chunks: int
    seconds: float | None
    skipped: list[LeftOut]
    failed: list[LeftOut]
    incomplete: list[LeftOut]
    notes: list[str]


class SourceConnectionUpdate(Form):
    name: str | None = Field(None, min_length=4, max_length=42)
    description: str | None = Field(None, max_length=255)
    config: dict[str, Any] | None = None
    schedule: Schedule | None = None
    authentication: Authentication | None = None
    source_wait_max_s: PatienceSeconds | None = Field(None, description="In place of the setting SOURCE_WAIT_MAX_S.")

    @model_validator(mode="after")
    def check_any_given(self) -> "SourceConnectionUpdate":
        if not self.model_fields_set:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"at least one of {names} must be given")
        return self


class AuthenticationDetails(Answer):
    method: str
    authenticated: bool
    authenticated_at: Moment | None = None
    expires_at: Moment | None = None
    auth_url: str | None = None
    auth_url_expires: Moment | None = None
    redirect_url: str | None = None
    claim_token: str | None = None
    provider_readable_id: str | None = None
    provider_id: str | None = None


class ScheduleDetails(Answer):
    cron: str | None
    next_run: datetime | None
    continuous: bool = False
    cursor_field: str | None = None
    cursor_value: Any | None = None
    paused_reason: str | None = None


class SyncJobDetails(Answer):
    """``error_category``: only what the public API knows, which are refused credentials. ``error_kind``: what kind of
    error it was, whatever it was."""

    id: UUID
    status: str
    started_at: Moment | None
    completed_at: Moment | None
    duration_seconds: float | None
    entities_inserted: int
    entities_updated: int
    entities_deleted: int
    entities_failed: int
    error: str | None
    error_category: str | None
    error_kind: str | None


class SyncDetails(Answer):
    """Counts of the connection's jobs that are kept. Active and cancelled jobs count in ``total_runs`` only."""

    total_runs: int = 0
    successful_runs: int = 0
    failed_runs: int = 0
    last_job: SyncJobDetails | None = None


class EntityTypeStats(Answer):
    count: int
    last_updated: Moment | None


class EntitySummary(Answer):
    total_entities: int
    by_type: dict[str, EntityTypeStats]


class SourceConnection(Answer):
    id: UUID
    organization_id: UUID
    name: str
    description: str | None
    short_name: str
    readable_collection_id: str
    status: str
    created_at: Moment
    modified_at: Moment
    auth: AuthenticationDetails
    config: dict[str, Any] | None
    schedule: ScheduleDetails | None
    sync: SyncDetails | None
    sync_id: UUID | None
    entities: EntitySummary | None
    error_category: str | None
    error_message: str | None
    provider_settings_url: str | None = None
    provider_short_name: str | None = None
    federated_search: bool = False
    held_deletes: int = 0
    error_kind: str | None
    source_wait_max_s: float | None
    synced_at: Moment | None = None


class SourceConnectionListItem(Answer):
    """``synced_at``: when the last completed sync began; the index holds what the source held then, or newer."""

    id: UUID
    name: str
    short_name: str
    readable_collection_id: str
    created_at: Moment
    modified_at: Moment
    is_authenticated: bool
    entity_count: int = 0
    federated_search: bool = False
    auth_method: str
    status: str
    synced_at: Moment | None = None


class RunRequest(Form):
    access_token: str | None = None
    force_full_sync: bool | None = None


class SourceConnectionJob(SyncJobDetails):
    source_connection_id: UUID
    error_details: dict[str, Any] | None
    organization_id: UUID
    created_at: Moment
    modified_at: Moment
    failed_at: Moment | None
    entities_kept: int
    entities_skipped: int
    entities_incomplete: int
    entities_encountered: int
    phase: str
    mode: str | None
    engine: str
    engine_reason: str | None
    trigger: str
    waiting_for: str | None
    held_deletes: int
    entities_never_read: int
    unsettled: bool
    resumed_from: UUID | None
    attempts: int
    partitions_total: int
    partitions_done: int


class SyncProgressUpdate(Answer):
    """The progress of a job; the last update has its terminal status. ``entities_encountered`` has one key, ``all``."""

    inserted: int
    updated: int
    deleted: int
    kept: int
    skipped: int
    entities_encountered: dict[str, int]
    status: str
    last_update_timestamp: Moment
    failed: int
    phase: str
    waiting_for: str | None
    partitions_total: int
    partitions_done: int


class SyncEnd(Answer):
    """The last event of a stream of progress."""

    type: Literal["end"] = "end"
    job_id: UUID
    status: str
    error: str | None


class EntityState(Answer):
    """What the index holds of the connection now, by entity type."""

    type: Literal["entity_state"] = "entity_state"
    job_id: UUID
    sync_id: UUID
    entity_counts: dict[str, int]
    total_entities: int
    timestamp: Moment
    job_status: str


class SyncComplete(Answer):
    """The end of a job. ``total_operations``: how many entities it inserted, updated and deleted."""

    type: Literal["sync_complete"] = "sync_complete"
    job_id: UUID
    sync_id: UUID
    is_complete: bool
    is_failed: bool
    final_counts: dict[str, int]
    total_entities: int
    total_operations: int
    final_status: str
    error: str | None
    timestamp: Moment


class PartLeftOut(Answer):
    """Something of an entity that is not in its text. ``what``: a word of the list in docs/formats.md; ``count``: how
    many of it, of ``words`` about how many; ``where``: some of the places; ``note``: more about it, for people."""

    what: str
    count: int
    where: list[str]
    note: str | None


class LedgerEntry(Answer):
    """The ledger's row of one entity. ``state``: ``indexed``, ``failed`` or ``skipped``; ``reason``: why the
    index does not hold it as the source has it. ``left_out``: what of it is not in its text, part by part;
    ``truncated``: words of it are missing."""

    entity_id: str
    name: str
    type: str
    state: str
    reason: str | None
    chunks: int
    truncated: bool
    left_out: list[PartLeftOut]
    version: str | None
    retries_left: int
    changed_at: Moment
    sync_job_id: UUID


class EntityText(Answer):
    """The indexed text of an entity. ``truncated``: it is not the whole text."""

    entity_id: str
    name: str
    text: str
    truncated: bool
    left_out: list[PartLeftOut]


class RetryRequest(Form):
    entity_ids: list[str] | None = Field(None, max_length=1_000)


class HeldEntity(Answer):
    entity_id: str
    name: str


class HeldDeletes(Answer):
    """Deletes that a job planned and that wait for approval."""

    id: UUID
    sync_job_id: UUID
    reason: str | None
    total: int
    created_at: Moment
    entities: list[HeldEntity]


class FilterCondition(BaseModel):
    """One field compared with a value, or with a list of values for ``in`` and ``not_in``."""

    model_config = ConfigDict(frozen=True)

    field: Literal[TextField, DateField, NumericField] = Field(
        description="The field to compare; nested fields are written with dots."
    )
    operator: Operator = Field(
        description="Text: equals, not_equals, contains (any case), in, not_in. Dates and numbers: all but contains."
    )
    value: str | bool | int | list[str] | list[int] = Field(
        description="Dates in ISO-8601, in UTC if they have no zone. A list for in and not_in."
    )

    @field_validator("operator")
    @classmethod
    def check_operator(cls, operator: str, info: ValidationInfo) -> str:
        field = info.data.get("field")
        allowed = FOR_ORDERED if field in DATES or field in NUMBERS else FOR_TEXT
        if field is not None and operator not in allowed:
            raise ValueError(f"{operator} cannot be used with {field}; use one of {', '.join(allowed)}")
        return operator

    @field_validator("value", mode="before")
    @classmethod
    def check_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Return the value as given; a single text becomes a list where the operator takes a list."""
        operator, field = info.data.get("operator"), info.data.get("field")
        if operator is None or field is None:  # reported already
            return ""
        if operator in LISTS and isinstance(value, str):
            value = [value]
        if operator in LISTS and not isinstance(value, list):
            raise ValueError(f"{operator} takes a list")
        if operator not in LISTS and isinstance(value, list):
            raise ValueError(f"{operator} takes a single value, not a list")
        values = value if isinstance(value, list) else [value]
        kinds = {type(item) for item in values}
        if not kinds <= {str, int, bool} or (isinstance(value, list) and (len(kinds) > 1 or bool in kinds)):
            raise ValueError("the value must be a text, an integer, true or false, or a list of texts or of integers")
        for item in values:
            if field in NUMBERS:
                to_integer(item)
            elif field in DATES:
                to_date(item)
        return value


class FilterGroup(BaseModel):
    """Conditions that must all hold."""

    model_config = ConfigDict(frozen=True)

    conditions: list[FilterCondition] = Field(min_length=1)


def check_asks(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def accept_former_name(value: Any) -> Any:
    return "semantic" if value == "neural" else value


QueryText = Annotated[str, Field(max_length=LONGEST_QUERY), AfterValidator(check_asks)]
Strategy = Annotated[Literal["hybrid", "semantic", "keyword"], BeforeValidator(accept_former_name)]
Tier = Literal["instant", "classic", "agentic"]


def check_size(groups: list[FilterGroup]) -> list[FilterGroup]:
    if sum(len(group.conditions) for group in groups) > MOST_CONDITIONS:
        raise ValueError(f"has more than {MOST_CONDITIONS:,} conditions; a list of values is one condition with in")
    return groups


def refuse_cursor(value: Any) -> None:
    if value is not None:
        raise ValueError("a search has no cursor: page with offset and limit")


# not ignored as unknown keys are: a client that pages with it would read the first page for ever
NoCursor = Annotated[None, BeforeValidator(refuse_cursor), Field(description="There is none: page with offset.")]


class SearchRequest(Form):
    query: QueryText
    cursor: NoCursor = None
    filter: Annotated[list[FilterGroup], AfterValidator(check_size)] | None = None
    limit: int = Field(100, ge=1, le=1_000)
    offset: int = Field(0, ge=0, le=1_000_000)
    retrieval_strategy: Strategy = "hybrid"
    group: Literal["entity", "chunk"] = "entity"
    explain: bool = False


class AgenticSearchRequest(Form):
    query: QueryText
    thinking: bool = Field(False, description="Take more steps.")
    filter: Annotated[list[FilterGroup], AfterValidator(check_size)] | None = None
    limit: int | None = Field(None, ge=1, description="The most results; 20 if it is not given, and never above 1,000.")


class SearchBreadcrumb(Answer):
    entity_id: str
    name: str
    entity_type: str


class SearchSystemMetadata(Answer):
    source_name: str
    entity_type: str
    sync_id: UUID
    sync_job_id: UUID
    chunk_index: int
    original_entity_id: str


class SearchAccess(Answer):
    viewers: list[str] | None = None
    is_public: bool | None = None


class SearchSpan(Answer):
    """A part of ``textual_representation``, in characters."""

    start: int
    end: int


class SearchPassage(SearchSpan):
    """The part that shows best why this is a result."""

    text: str


class SearchWhy(Answer):
    """What a result was ranked by: the sum of what its words, its meaning and its identifiers count (``rank``, null for
    a result so deep that it was only listed), how much of the query it covers, the cosine of its vector and the
    query's, what its identifiers count, whether it holds the query in its order, and the words of the query that it
    holds and lacks."""

    rank: float | None
    coverage: float
    closeness: float
    identifiers: float
    verbatim: bool
    found: list[str]
    lacking: list[str]


class SearchResult(Answer):
    entity_id: str
    name: str
    relevance_score: float
    breadcrumbs: list[SearchBreadcrumb]
    created_at: Moment | None
    updated_at: Moment | None
    textual_representation: str
    airweave_system_metadata: SearchSystemMetadata
    access: SearchAccess
    web_url: str
    url: str | None
    raw_source_fields: dict[str, Any]
    passage: SearchPassage
    highlights: list[SearchSpan]
    why: SearchWhy | None = None


class SearchPlan(Answer):
    """What was searched for. ``by``: rules, or a language model (``llm``). ``reason``: why by rules, if the server has
    a language model. ``queries``: the query as it is, and its other phrasings. ``filter``: what the query implies;
    results that fit it come first, and if there are any, ``filter_matched`` is true. ``words``: those of the best
    results that were searched for as well."""

    by: Literal["rules", "llm"]
    reason: str | None
    queries: list[str]
    filter: list[FilterGroup]
    filter_matched: bool
    words: list[str]


class SearchResponse(Answer):
    """``nothing_relevant``: even the best result is unlikely to be what was asked for. ``did_you_mean``: the query with
    near words of the collection for those that it does not have, which were searched for instead. ``plan``: null in the
    instant tier."""

    results: list[SearchResult]
    nothing_relevant: bool
    did_you_mean: str | None
    plan: SearchPlan | None = None


class AgenticSearchResponse(SearchResponse):
    """``completion``: an answer by a language model from the results; if it is null, ``completion_reason`` says why."""

    completion: str | None
    completion_reason: str | None


class AgenticSearchEvent(Answer):
    """One event of the agentic search: ``started``, ``thinking``, ``tool_call``, ``done`` or ``error``. The other
    fields depend on the type."""

    model_config = ConfigDict(extra="allow")

    type: str


def check_event_types(value: list[str] | None) -> list[str] | None:
    """The event types without repetitions."""
    if value is None:
        return None
    if len(unique := list(dict.fromkeys(value))) > MOST_EVENT_TYPES:
        raise ValueError(f"at most {MOST_EVENT_TYPES} event types")
    return unique


EventTypes = Annotated[list[EventType], Field(min_length=1), AfterValidator(check_event_types)]
WebhookUrl = Annotated[str, Field(min_length=1, max_length=2_000)]
# in a request to the server it is said; str() and repr() still hide it
WebhookSecret = Annotated[
    SecretStr,
    Field(min_length=24, max_length=256),
    PlainSerializer(lambda secret: secret.get_secret_value(), return_type=str, when_used="json-unless-none"),
]


class WebhookSubscriptionCreate(Form):
    """``secret``: ``whsec_`` and base64, or any text, which is then turned into that form. Default: a random one."""

    url: WebhookUrl
    event_types: EventTypes
    secret: WebhookSecret | None = None


class WebhookSubscriptionUpdate(Form):
    """``recover_since``: with ``disabled: false``, also send what failed or was missed since then."""

    url: WebhookUrl | None = None
    event_types: EventTypes | None = None
    disabled: bool | None = None
    recover_since: Moment | None = None


class WebhookRecovery(Form):
    """Send again what failed or was missed from ``since`` until before ``until``."""

    since: Moment
    until: Moment | None = None


class DeliveryAttempt(Answer):
    """``response_status_code``: 0 if there was no response; ``response`` then says why, else it is the beginning of the
    body."""

    id: UUID
    message_id: UUID
    endpoint_id: UUID
    response: str | None
    response_status_code: int
    status: Literal["success", "pending", "failed"]
    timestamp: Moment
    url: str | None


class WebhookMessage(Answer):
    id: UUID
    event_type: str
    payload: dict[str, Any]
    timestamp: Moment
    channels: list[str] | None
    tags: list[str] | None = None


class WebhookMessageWithAttempts(WebhookMessage):
    delivery_attempts: list[DeliveryAttempt] | None = None


class WebhookSubscription(Answer):
    id: UUID
    url: str
    filter_types: list[str] | None
    disabled: bool
    disabled_reason: str | None = Field(None, description="Why, if the server disabled it by itself.")
    description: str | None = None
    created_at: Moment
    updated_at: Moment
    health_status: Literal["healthy", "degraded", "failing", "unknown"]


class WebhookSubscriptionDetail(WebhookSubscription):
    """``pending_messages``: those that wait to be sent."""

    delivery_attempts: list[DeliveryAttempt] | None
    secret: str | None
    pending_messages: int


class RecoveryTask(Answer):
    """``status``: ``running``, or ``completed`` if there was nothing to send. ``messages``: how many are sent again."""

    id: UUID
    status: Literal["running", "completed"]
    messages: int


ResponseType = Literal["raw", "completion"]


class UntieredSearchRequest(Form):
    """A search of the time before there were tiers, in either of its two forms. Which one it is, the fields decide that
    are given: with one of ``LEGACY_ONLY`` it is the older one."""

    LEGACY_ONLY: ClassVar[frozenset[str]] = frozenset(
        (
            "score_threshold",
            "response_type",
            "search_method",
            "recency_bias",
            "expansion_strategy",
            "enable_reranking",
            "enable_query_interpretation",
        )
    )

    query: QueryText
    cursor: NoCursor = None
    filter: dict[str, Any] | None = Field(
        None, description="In the style of Qdrant; GET /collections/internal/filter-schema has its schema."
    )
    offset: int | None = Field(None, ge=0, le=1_000_000, description="0 if it is not given.")
    limit: int | None = Field(None, ge=1, le=1_000, description="100 if it is not given.")
    source_connection_ids: list[UUID] | None = Field(
        None, max_length=1_000, description="Search only what these source connections have read."
    )
    retrieval_strategy: Strategy | None = Field(None, description="hybrid if it is not given; neural means semantic.")
    temporal_relevance: float | None = Field(None, description="Removed; it has no effect.")
    expand_query: bool | None = Field(None, description="Has no effect.")
    interpret_filters: bool | None = Field(None, description="Has no effect: filters are only those of the request.")
    rerank: bool | None = Field(None, description="Has no effect: results are always ranked.")
    generate_answer: bool | None = Field(None, description="True if it is not given.")
    score_threshold: float | None = Field(None, ge=0, le=1, description="Has no effect.")
    response_type: ResponseType | None = Field(None, description="raw if it is not given.")
    search_method: Strategy | None = Field(None, description="As retrieval_strategy.")
    recency_bias: float | None = Field(None, ge=0, le=1, description="Removed; it has no effect.")
    expansion_strategy: Literal["auto", "llm", "no_expansion"] | None = Field(None, description="Has no effect.")
    enable_reranking: bool | None = Field(None, description="Has no effect.")
    enable_query_interpretation: bool | None = Field(None, description="Has no effect.")

    @property
    def is_legacy(self) -> bool:
        return not self.LEGACY_ONLY.isdisjoint(self.model_fields_set)

    @property
    def strategy(self) -> Literal["hybrid", "semantic", "keyword"]:
        return self.search_method or self.retrieval_strategy or "hybrid"


class LegacySystemMetadata(Answer):
    entity_type: str
    source_name: str
    sync_id: UUID
    sync_job_id: UUID
    original_entity_id: str
    chunk_index: int


class LegacySearchResult(Answer):
    """A result, under the names of the legacy search. ``id`` and ``entity_id`` are the id of the chunk."""

    id: str
    score: float
    entity_id: str
    name: str
    textual_representation: str
    created_at: Moment | None
    updated_at: Moment | None
    breadcrumbs: list[SearchBreadcrumb]
    system_metadata: LegacySystemMetadata
    access: SearchAccess
    source_fields: dict[str, Any]
    web_url: str
    url: str | None


class UntieredSearchResponse(Answer):
    """``completion_reason``: why there is no ``completion`` although one was asked for."""

    results: list[LegacySearchResult]
    completion: str | None
    completion_reason: str | None = None


class LegacySearchResponse(UntieredSearchResponse):
    """``status``: ``no_relevant_results`` if even the best result is unlikely to be what was asked for."""

    response_type: ResponseType
    status: Literal["success", "no_relevant_results", "no_results"]


def to_public_category(category: str | None) -> str | None:
    """The category of an error if the public API has it, else None."""
    return category if category in PUBLIC_CATEGORIES else None


def to_integer(value: str | int) -> int:
    """Parse the integer of a filter. Raises ``ValueError``."""
    if isinstance(value, bool) or not INTEGER.fullmatch(str(value)):
        raise ValueError(f"the value must be an integer of at most {MAX_DIGITS} digits")
    return int(value)


def to_date(value: str | int) -> datetime:
    """Parse the date of a filter, in UTC unless it has a zone. Returns it in UTC, since Postgres knows no offsets of 16
    hours or more; a date whose UTC lies outside the years 1 to 9999 becomes the nearest one inside. Raises
    ``ValueError``."""
    try:
        moment = datetime.fromisoformat(str(value).strip()) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError("the value must be a date in ISO-8601, such as 2024-01-31T12:00:00Z")
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        return EARLIEST if moment.year == MINYEAR else LATEST


def find_text_flaw(text: str) -> str | None:
    """Describe why Postgres cannot store the text; None if it can."""
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        return "must not contain NUL characters or lone surrogates"
    return None


def _find_flaw(value: Any, place: str = "", depth: int = 0) -> str | None:
    """Describe why a JSON value cannot be stored and returned, and where in it; None if it can."""
    if depth > DEEPEST:
        return f"must not be nested more than {DEEPEST} deep"
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        flaws = (
            (isinstance(key, str) and find_text_flaw(key))
            or _find_flaw(part, f"{place}.{key}" if place else str(key), depth + 1)
            for key, part in inner
        )
        return next(filter(None, flaws), None)
    flaw = find_text_flaw(value) if isinstance(value, str) else None
    if isinstance(value, float) and not math.isfinite(value):
        flaw = "must not be NaN or infinite"
    return f"{place} {flaw}".lstrip() if flaw else None
