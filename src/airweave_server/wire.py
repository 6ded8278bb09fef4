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


class Error(Answer):
    """What went wrong."""

    detail: str
    """The reason, for people."""


class InvalidInput(Answer):
    """What is wrong with the input. One of the two fields may be missing."""

    errors: list[dict[str, str]] | None = None
    """Each with one key: the place, such as `body.name`, and what is wrong there."""
    detail: str | None = None
    """The reason, for people, if it was not found by the form of the input alone."""


class Engine(Answer):
    """The Temporal server that is configured. Where it is: only with an API key, or on loopback without
    authentication."""

    address: str | None
    """Host and port; null if they are hidden."""
    namespace: str | None
    """The namespace in it; null if it is hidden."""
    task_queue: str | None
    """The queue that workers poll; null if it is hidden."""
    required: bool
    """Without it no job starts."""
    reachable: bool
    """It answers now."""


class FullListings(Answer):
    """When the sources of connections were last listed in full: the oldest and the newest of these times."""

    oldest: datetime | None
    """That of the connection where it is longest ago; null if no source was listed in full."""
    newest: datetime | None
    """The latest of all connections; null if no source was listed in full."""


class Child(Answer):
    """A process that the server has started and restarts."""

    up: bool
    """It runs now."""
    pid: int | None
    """Its process id; null if it does not run, or is hidden."""
    restarts: int
    """How often it was started again."""


class Storage(Answer):
    """The room on the disk of the database."""

    status: str
    """`ok`, or `full` while jobs wait for room."""
    free_bytes: int | None
    """Bytes that are free; null if Postgres is not the embedded one."""
    needed_bytes: int | None
    """Bytes below which jobs wait; null if Postgres is not the embedded one."""
    reason: str | None
    """What is full, and how much to free; null if nothing is."""


class Health(Answer):
    """The state of the server."""

    status: str
    """`healthy`, or `degraded` if the database does not answer or a disk is full."""
    engine: str
    """What drives a job that starts now: `temporal` or `in_process`; `unknown` if it did not say so in time."""
    engine_reason: str | None
    """Why it is not the engine that is configured; null if it is."""
    temporal: Engine | None = None
    """The Temporal server; missing unless it is enabled."""
    database: str
    """`up`, `down`, `hanging` if it did not answer in time, or `unknown`."""
    storage: Storage
    """The room on the disk of the database."""
    seen_s_ago: float | None = None
    """The age of this view in seconds: more than 0 if something hangs, null if nothing was seen yet."""
    keeper: str | None
    """The process that does the housekeeping; null if none does."""
    workers: int | None
    """How many workers poll the task queue; null while the database is down."""
    last_full_listing: FullListings
    """When the sources of connections were last listed in full."""
    children: dict[str, Child]
    """The processes that the server has started and restarts, by name."""


class Live(Answer):
    """The process is alive."""

    status: str
    """`alive`."""


class Ready(Answer):
    """Whether requests can be served."""

    status: str
    """`ready`, or `not_ready` with 503."""
    checks: dict[str, dict[str, Any]]
    """By name of the part, its `status`, with `latency_ms` or the `error`."""


class ConfigField(Answer):
    """A field of a form."""

    name: str
    """The key of the field in `config` or `credentials`."""
    title: str
    """Its name for people."""
    description: str | None = None
    """What it is for; null if the source does not say."""
    type: str
    """`string`, `number`, `boolean`, `array` or `object`."""
    required: bool = False
    """It must be given."""
    items_type: str | None = None
    """The type of the items of an `array`; else null."""
    feature_flag: str | None = None
    """Always null: no field depends on a feature."""
    is_secret: bool = False
    """It is a secret, to be shown to nobody."""
    enum_values: list[str] | None = None
    """The texts that are allowed; null if others are too."""
    default: Any | None = None
    """The value if it is not given; null if there is none."""


class Fields(Answer):
    """A form."""

    fields: list[ConfigField]
    """The fields of the form, in their order."""


class Source(Answer):
    """A source that can be connected."""

    name: str
    """Its name for people."""
    short_name: str
    """Its name in requests."""
    class_name: str
    """The name of its class."""
    description: str | None
    """What it reads."""
    auth_methods: list[str] | None
    """How to sign in: `direct`, `oauth_token` and the like."""
    oauth_type: str | None = None
    """The kind of OAuth; null if it uses none."""
    requires_byoc: bool = False
    """It needs an OAuth client of your own."""
    auth_config_class: str | None = None
    """The name of the model of its credentials; null if it needs none."""
    config_class: str | None = None
    """The name of the model of its configuration."""
    auth_fields: Fields | None = None
    """The fields of its credentials; null if it needs none."""
    config_fields: Fields
    """The fields of its configuration."""
    output_entity_definitions: list[str] | None = None
    """The types of the entities that it yields."""
    labels: list[str] | None = None
    """Words to find it by."""
    supports_continuous: bool = False
    """It tells what has changed, so that a schedule may be shorter than an hour."""
    federated_search: bool = False
    """It is searched at its own place instead of being indexed. Always false."""
    supports_temporal_relevance: bool = True
    """Its entities have dates."""
    supports_access_control: bool = False
    """It tells who may see an entity. Always false."""
    supports_browse_tree: bool = False
    """Its parts can be chosen in a tree. Always false."""
    rate_limit_level: str | None = None
    """Who shares a limit on its requests: `org`; null if it makes no requests."""
    feature_flag: str | None = None
    """Always null: no source depends on a feature."""
    supported_auth_providers: list[str] = []
    """The auth providers that can sign in to it. Always empty."""


class SourceRateLimit(Answer):
    """The limit on an organization's requests to a source."""

    source_short_name: str
    """The source."""
    rate_limit_level: str | None
    """Who shares the limit: `org`; null if the source makes no requests."""
    limit: int | None = None
    """Requests in a window, at most; null if no limit is set."""
    window_seconds: int | None = None
    """The length of a window; null if no limit is set."""
    id: UUID | None = None
    """The id of the limit; null if none is set."""


class SourceRateLimitUpdate(Form):
    """A limit on the requests to a source."""

    limit: int = Field(gt=0, le=1_000_000, description="Requests in a window, at most.")
    window_seconds: int = Field(gt=0, le=LONGEST_WINDOW_S)
    """The length of a window in seconds."""


class SourceRateLimitSet(Answer):
    """A limit that is set."""

    source_short_name: str
    """The source."""
    limit: int
    """Requests in a window, at most."""
    window_seconds: int
    """The length of a window in seconds."""
    id: UUID
    """The id of the limit."""
    organization_id: UUID
    """The organization whose connections keep to it."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""


class IndexedEntity(Answer):
    """What an entity has in the index."""

    entity_id: str
    """Its id at its source."""
    name: str
    """Its name."""
    created_at: Moment | None
    """When it was created at its source; null if that is unknown."""
    updated_at: Moment | None
    """When it was last changed at its source; null if that is unknown."""
    web_url: str | None
    """Where people can open it; null if that is unknown."""
    url: str | None
    """Where the source has it; null if that is unknown."""
    textual_representation: str
    """Its text."""
    raw_source_fields: dict[str, Any]
    """What its source says of it besides."""


class EntityDefinition(Answer):
    """A type of entities."""

    short_name: str
    """Its name, as results of searches have it."""
    name: str
    """Its name for people."""
    description: str | None
    """What it is. Always null: sources do not say it."""
    class_name: str
    """The name of its class."""
    module_name: str
    """The module of its source."""
    entity_type: str
    """`file` or `json`."""
    entity_schema: dict[str, Any]
    """The JSON schema of what the index has of each entity."""


class EntityCount(Answer):
    """How many entities of a type are indexed."""

    count: int
    """How many are indexed."""
    entity_definition_short_name: str
    """The type."""
    entity_definition_name: str
    """The name of the type for people."""
    entity_definition_type: str
    """`file` or `json`."""
    entity_definition_description: str | None
    """What the type is. Always null: sources do not say it."""
    modified_at: Moment
    """When one of them was last changed in the index."""


RoleName = Literal["reader", "editor", "admin"]


class Organization(Answer):
    """An organization, as its own keys see it. What the server does not have is null or empty."""

    id: UUID
    """Its id."""
    name: str
    """Its name."""
    description: str | None = None
    """Always null: the server has none."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    role: Literal["admin", "member"]
    """The role of the caller, in the words of the public API."""
    is_primary: bool = True
    """It is the caller's main one. Always true: a key has one."""
    auth0_org_id: str | None = None
    """Always null: the server does not use Auth0."""
    org_metadata: dict[str, Any] | None = None
    """Always null: the server has none."""
    enabled_features: list[str] = []
    """Always empty: no feature has to be enabled."""
    billing: dict[str, Any] | None = None
    """Always null: nothing is billed."""
    key_role: RoleName
    """The role of the API key."""
    is_first: bool
    """It is the first of the server, to which local sources belong."""


class ApiKeyCreate(Form):
    """An API key to create."""

    expiration_days: int = Field(default=90, ge=1, le=365)
    """After how many days it expires."""
    name: str = Field(default="", max_length=200)
    """What it is for."""
    role: RoleName = "admin"
    """`reader` searches and reads, `editor` also connects and syncs, `admin` may do everything."""


class ApiKey(Answer):
    """An API key."""

    id: UUID
    """Its id."""
    organization_id: UUID
    """The organization that it belongs to."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    last_used_date: Moment | None = None
    """When it was last used; null if it never was."""
    expiration_date: Moment
    """When it expires."""
    created_by_email: str | None = None
    """Always null: the server has no users."""
    modified_by_email: str | None = None
    """Always null: the server has no users."""
    decrypted_key: str | None = None
    """Its text, only in the answer that creates it; else null."""
    name: str
    """What it is for."""
    role: RoleName
    """What it may do."""
    hint: str
    """Its last characters."""
    revoked_at: Moment | None
    """When it was revoked; null if it was not."""


class SyncDestinations(BaseModel):
    """A part of a sync configuration."""

    model_config = ConfigDict(extra="allow")

    skip_vespa: bool = False
    """Without effect."""
    target_destinations: list[str] | None = None
    """Without effect."""
    exclude_destinations: list[str] | None = None
    """Without effect."""


class SyncHandlers(BaseModel):
    """A part of a sync configuration."""

    model_config = ConfigDict(extra="allow")

    enable_vector_handlers: bool = True
    """Without effect."""
    enable_raw_data_handler: bool = True
    """Without effect."""
    enable_postgres_handler: bool = True
    """Without effect."""


class SyncCursor(BaseModel):
    """A part of a sync configuration."""

    model_config = ConfigDict(extra="allow")

    skip_load: bool = False
    """Without effect."""
    skip_updates: bool = False
    """Without effect."""


class SyncBehavior(BaseModel):
    """A part of a sync configuration."""

    model_config = ConfigDict(extra="allow")

    skip_hash_comparison: bool = False
    """Without effect."""
    replay_from_arf: bool = False
    """Without effect."""
    skip_guardrails: bool = False
    """Without effect."""


class SyncConfig(BaseModel):
    """Kept, without effect. Clients read each field, so those that were not given are shown with their defaults;
    unknown ones are kept as they are."""

    model_config = ConfigDict(extra="allow")

    destinations: SyncDestinations = Field(default_factory=SyncDestinations)
    """Where entities would go."""
    handlers: SyncHandlers = Field(default_factory=SyncHandlers)
    """What would handle them."""
    cursor: SyncCursor = Field(default_factory=SyncCursor)
    """How cursors would be used."""
    behavior: SyncBehavior = Field(default_factory=SyncBehavior)
    """How a sync would behave."""

    @field_validator("destinations", "handlers", "cursor", "behavior", mode="before")
    @classmethod
    def read_null_as_defaults(cls, value: Any) -> Any:
        return {} if value is None else value


class CollectionCreate(Form):
    """A collection to create."""

    name: CollectionName
    """Its name for people."""
    readable_id: ReadableId | None = None
    """Its name in paths; made from `name` if it is not given."""
    sync_config: SyncConfig | None = None
    """Stored and returned, without effect."""
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
    """Changes of a collection."""

    name: CollectionName | None = None
    """Its new name for people."""
    sync_config: SyncConfig | None = None
    """Stored and returned, without effect."""


class SourceConnectionSummary(Answer):
    """A source connection, in short."""

    short_name: str
    """The source."""
    name: str
    """The name of the connection."""


class Collection(Answer):
    """A collection."""

    id: UUID
    """Its id."""
    name: str
    """Its name for people."""
    readable_id: str
    """Its name in paths."""
    # what a former version has stored may be of any shape
    sync_config: Annotated[SyncConfig | dict[str, Any] | None, Field(union_mode="left_to_right")]
    """As it was given; it has no effect."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    organization_id: UUID
    """The organization that it belongs to."""
    created_by_email: str | None = None
    """Always null: the server has no users."""
    modified_by_email: str | None = None
    """Always null: the server has no users."""
    status: str
    """`NEEDS SOURCE`, `ACTIVE`, or `ERROR` if the last job of every connection failed."""
    vector_size: int
    """The dimensions of its vectors."""
    embedding_model_name: str
    """The model that makes its vectors."""
    language: str
    """The language of its texts."""
    source_connection_summaries: list[SourceConnectionSummary]
    """Its source connections; only in a list of collections, else empty."""


class ReembedRequest(Form):
    """A move to another embedder."""

    embedder: str = Field(min_length=1, max_length=100)
    """The embedder to move to: `wordllama`, `minilm`, `openai`, or one of your own."""


class ReembedJob(Answer):
    """A job of a move."""

    id: UUID
    """Its id."""
    source_connection_id: UUID
    """The connection whose entities it embeds."""
    status: str
    """`pending`, `running`, `cancelling`, `completed`, `failed` or `cancelled`."""
    error: str | None
    """Why it failed, or why it waits; else null."""
    waiting_for: str | None
    """What it waits for, such as `embedder`; null if it does not wait."""


class Reembed(Answer):
    """A collection's embedder, and its move to another one."""

    state: str
    """`moving` or `settled`."""
    embedder: str
    """The embedder that searches use."""
    embedding_model_name: str
    """The model of this embedder."""
    vector_size: int
    """The dimensions of its vectors."""
    to: str | None = None
    """The embedder that the collection moves to; null if it does not move."""
    to_model_name: str | None = None
    """The model of that embedder; null if it does not move."""
    entities_done: int = 0
    """Entities that have their new vectors."""
    entities_total: int = 0
    """Entities that will have them at the end."""
    jobs: list[ReembedJob] = []
    """Of each connection, the last job of the move."""


class Schedule(Form):
    """When a connection syncs."""

    cron: str | None = None
    """When to sync, in UTC; null for no schedule."""
    continuous: bool = False
    """Without a `cron`: every five minutes, if the source tells changes."""
    cursor_field: str | None = None
    """Ignored: a source knows its own."""

    @field_validator("cron")
    @classmethod
    def check_cron(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("must be a cron expression, or null for no schedule")
        return value


class Authentication(Form):
    """One of several forms, told apart by their fields. ``type``, which the public command line sends, is ignored."""

    credentials: dict[str, Any] | None = None
    """The fields of the source's credentials, which `auth_fields` of the source lists."""
    access_token: str | None = None
    """A token of the source, if it takes one."""
    refresh_token: str | None = None
    """The token that renews it."""
    expires_at: datetime | None = None
    """When the token expires."""
    redirect_uri: str | None = None
    """Where a sign-in by browser would lead; not supported."""
    client_id: str | None = None
    """The id of an OAuth client of your own."""
    client_secret: str | None = None
    """The secret of this client."""
    consumer_key: str | None = None
    """The key of an OAuth 1 client of your own."""
    consumer_secret: str | None = None
    """The secret of this client."""
    provider_readable_id: str | None = None
    """An auth provider; this server has none (404)."""
    provider_config: dict[str, Any] | None = None
    """The configuration of the auth provider."""

    @model_validator(mode="after")
    def check_not_empty(self) -> "Authentication":
        if self.credentials is not None and not self.credentials:
            raise ValueError("credentials must not be empty")
        if self.access_token is not None and not self.access_token.strip():
            raise ValueError("access_token must not be blank")
        return self


PatienceSeconds = Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)]


class SourceConnectionCreate(Form):
    """A source connection to create."""

    name: str | None = Field(None, min_length=4, max_length=42)
    """Its name; made from that of the source if it is not given."""
    short_name: str = Field(min_length=1, max_length=100)
    """The source."""
    readable_collection_id: str = Field(min_length=1, max_length=200)
    """The collection that it feeds."""
    description: str | None = Field(None, max_length=255)
    """What it is for."""
    config: dict[str, Any] | None = None
    """The fields of the source's configuration, which `config_fields` of the source lists."""
    schedule: Schedule | None = None
    """When to sync; daily if it is not given, or every five minutes if the source tells changes."""
    sync_immediately: bool | None = None
    """Start the first job at once, which is what happens if it is not given."""
    authentication: Authentication | None = None
    """How to sign in to the source; null if it needs nothing."""
    redirect_url: str | None = None
    """Ignored: there is no sign-in by browser."""
    source_wait_max_s: PatienceSeconds | None = Field(None, description="In place of the setting SOURCE_WAIT_MAX_S.")


class LeftOut(Answer):
    """Entities that would not be indexed, for one reason."""

    reason: str
    """Why they are not indexed."""
    entities: int
    """How many they are."""
    is_exact: bool
    """They were counted, not estimated."""
    examples: list[str]
    """The ids of some of them."""


class SourceConnectionPreview(Answer):
    """What a first sync would read and index."""

    short_name: str
    """The source."""
    embedding_model_name: str
    """The model that would make the vectors."""
    is_complete: bool
    """The whole source was listed; else there is at least this much."""
    is_exact: bool
    """All of it was also opened, so that only `seconds` is an estimate."""
    entities: int
    """How many entities a sync would meet, with those that it skips."""
    size_bytes: int
    """Their size in bytes."""
    opened: int
    """How many of them were opened for this preview."""
    indexed: int
    """How many of them could be searched."""
    chunks: int
    """In how many chunks."""
    seconds: float | None
    """How long the sync would take, in seconds; null if the embedder could not be tried."""
    skipped: list[LeftOut]
    """Entities that a sync would skip, by reason, the most frequent first."""
    failed: list[LeftOut]
    """Entities that a sync would fail to read, by reason, the most frequent first."""
    incomplete: list[LeftOut]
    """What would be left out of entities that are indexed."""
    notes: list[str]
    """Remarks for people."""


class SourceConnectionUpdate(Form):
    """Changes of a source connection; at least one."""

    name: str | None = Field(None, min_length=4, max_length=42)
    """Its new name."""
    description: str | None = Field(None, max_length=255)
    """Its new description; null for none."""
    config: dict[str, Any] | None = None
    """Its new configuration, as a whole. It ends a running job and starts another."""
    schedule: Schedule | None = None
    """Its new schedule."""
    authentication: Authentication | None = None
    """How to sign in from now on. It ends a running job and starts another."""
    source_wait_max_s: PatienceSeconds | None = Field(None, description="In place of the setting SOURCE_WAIT_MAX_S.")

    @model_validator(mode="after")
    def check_any_given(self) -> "SourceConnectionUpdate":
        if not self.model_fields_set:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"at least one of {names} must be given")
        return self


class AuthenticationDetails(Answer):
    """How a source connection signs in."""

    method: str
    """How the connection signs in: `direct`, `oauth_token` and the like."""
    authenticated: bool
    """Its credentials were not refused."""
    authenticated_at: Moment | None = None
    """When it was created."""
    expires_at: Moment | None = None
    """Always null: only the source knows it."""
    auth_url: str | None = None
    """Always null: there is no sign-in by browser."""
    auth_url_expires: Moment | None = None
    """Always null: there is no sign-in by browser."""
    redirect_url: str | None = None
    """Always null: there is no sign-in by browser."""
    claim_token: str | None = None
    """Always null: there is no sign-in by browser."""
    provider_readable_id: str | None = None
    """Always null: there are no auth providers."""
    provider_id: str | None = None
    """Always null: there are no auth providers."""


class ScheduleDetails(Answer):
    """When a source connection syncs."""

    cron: str | None
    """When it syncs, in UTC."""
    next_run: datetime | None
    """When it syncs next; null while it is paused."""
    continuous: bool = False
    """It was asked to follow the source all the time."""
    cursor_field: str | None = None
    """Always null: a source knows its own."""
    cursor_value: Any | None = None
    """Always null: it is the source's own."""
    paused_reason: str | None = None
    """Why it does not sync now; null if it does."""


class SyncJobDetails(Answer):
    """A job."""

    id: UUID
    """Its id."""
    status: str
    """`pending`, `running`, `cancelling`, `completed`, `failed` or `cancelled`."""
    started_at: Moment | None
    """When it was first driven; null if it never was."""
    completed_at: Moment | None
    """When it ended; null until then."""
    duration_seconds: float | None
    """Seconds from its start to its end, or until now; null before its start."""
    entities_inserted: int
    """Entities that are new in the index."""
    entities_updated: int
    """Entities whose content or fields have changed."""
    entities_deleted: int
    """Entities that were deleted from the index."""
    entities_failed: int
    """Entities that could not be read into the index."""
    error: str | None
    """Why it failed, or why it waits; else null."""
    error_category: str | None
    """`api_key_invalid` or `oauth_credentials_expired`, if the credentials were refused; else null."""
    error_kind: str | None
    """What kind of error it failed by, whatever it was; null if it did not fail."""


class SyncDetails(Answer):
    """Counts of the connection's jobs that are kept. Active and cancelled jobs count in ``total_runs`` only."""

    total_runs: int = 0
    """Jobs that are kept, of every status."""
    successful_runs: int = 0
    """Those of them that completed."""
    failed_runs: int = 0
    """Those of them that failed."""
    last_job: SyncJobDetails | None = None
    """The newest job; null if there is none."""


class EntityTypeStats(Answer):
    """What the index holds of one type."""

    count: int
    """How many are indexed."""
    last_updated: Moment | None
    """When one of them was last changed in the index."""


class EntitySummary(Answer):
    """What the index holds of a source connection."""

    total_entities: int
    """How many are indexed."""
    by_type: dict[str, EntityTypeStats]
    """The same for each type."""


class SourceConnection(Answer):
    """A source connection."""

    id: UUID
    """Its id."""
    organization_id: UUID
    """The organization that it belongs to."""
    name: str
    """Its name."""
    description: str | None
    """What it is for; null if that was not said."""
    short_name: str
    """The source."""
    readable_collection_id: str
    """The collection that it feeds."""
    status: str
    """`syncing` while a job is active, `needs_reauth` or `error` if the last job failed, else `active`."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    auth: AuthenticationDetails
    """How it signs in."""
    config: dict[str, Any] | None
    """Its configuration; null if it has none."""
    schedule: ScheduleDetails | None
    """When it syncs; null if it has no schedule."""
    sync: SyncDetails | None
    """Its jobs."""
    sync_id: UUID | None
    """Its own id, from its first schedule or job on; null before."""
    entities: EntitySummary | None
    """What the index holds of it."""
    error_category: str | None
    """`api_key_invalid` or `oauth_credentials_expired`, if the last job failed by it; else null."""
    error_message: str | None
    """Why the last job failed; null if it did not."""
    provider_settings_url: str | None = None
    """Always null: there are no auth providers."""
    provider_short_name: str | None = None
    """Always null: there are no auth providers."""
    federated_search: bool = False
    """It is searched at its source instead of being indexed. Always false."""
    held_deletes: int = 0
    """How many entities wait for a person to approve that they are deleted."""
    error_kind: str | None
    """What kind of error the last job failed by; null if it did not fail."""
    source_wait_max_s: float | None
    """How long its jobs wait for its source, in seconds; null for the setting SOURCE_WAIT_MAX_S."""
    synced_at: Moment | None = None
    """When the last completed sync began: the index holds what the source held then, or newer. Null before the
    first."""


class SourceConnectionListItem(Answer):
    """A source connection, in a list."""

    id: UUID
    """Its id."""
    name: str
    """Its name."""
    short_name: str
    """The source."""
    readable_collection_id: str
    """The collection that it feeds."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    is_authenticated: bool
    """Its credentials were not refused."""
    entity_count: int = 0
    """How many of its entities are indexed."""
    federated_search: bool = False
    """It is searched at its source instead of being indexed. Always false."""
    auth_method: str
    """How it signs in: `direct`, `oauth_token` and the like."""
    status: str
    """`syncing` while a job is active, `needs_reauth` or `error` if the last job failed, else `active`."""
    synced_at: Moment | None = None
    """When the last completed sync began: the index holds what the source held then, or newer. Null before the
    first."""


class RunRequest(Form):
    """How to sync."""

    access_token: str | None = None
    """A token of the source for this run only; it is forgotten at its end."""
    force_full_sync: bool | None = None
    """Read everything again, as if nothing were known."""


class SourceConnectionJob(SyncJobDetails):
    """A job of a source connection."""

    source_connection_id: UUID
    """The connection that it syncs."""
    error_details: dict[str, Any] | None
    """`partitions` that failed, or what is wrong in the `index`; null without either."""
    organization_id: UUID
    """The organization that it belongs to."""
    created_at: Moment
    """When it was created."""
    modified_at: Moment
    """When it was last changed."""
    failed_at: Moment | None
    """When it failed; null if it did not."""
    entities_kept: int
    """Entities that are unchanged."""
    entities_skipped: int
    """Entities that exist and were not read; the ledger has the reasons."""
    entities_incomplete: int
    """Indexed entities from whose text something is left out."""
    entities_encountered: int
    """All that were met: inserted, updated, kept, skipped and failed."""
    phase: str
    """`open`, `read`, `delete` or `done`."""
    mode: str | None
    """`full`, `incremental` or `reembed`; null until that is decided."""
    engine: str
    """What drives it: `temporal` or `in_process`."""
    engine_reason: str | None
    """Why Temporal does not drive it although it should, or which task queue nobody polls; else null."""
    trigger: str
    """What started it: `api`, `schedule`, `refresh_all`, `retry`, `config_change`, `approval`, `repair` or
    `reembed`."""
    waiting_for: str | None
    """What it waits for: `source`, `embedder`, `storage`, `database`, `worker` or `temporal`; null if it does not
    wait."""
    held_deletes: int
    """Deletes that wait for a person."""
    entities_never_read: int
    """Deleted entities that an earlier version of the source read, and this one never does."""
    unsettled: bool
    """Entities kept moving while it read, so that it may have missed some. The next job finds them."""
    resumed_from: UUID | None
    """The job whose work it went on with; its own id after a restore. Null if it began anew."""
    attempts: int
    """How often it was started."""
    partitions_total: int
    """In how many parts the source is read, as far as that is known."""
    partitions_done: int
    """How many of them are done."""


class SyncProgressUpdate(Answer):
    """The progress of a job; the last update has its terminal status."""

    inserted: int
    """Entities that are new in the index."""
    updated: int
    """Entities whose content or fields have changed."""
    deleted: int
    """Entities that were deleted from the index."""
    kept: int
    """Entities that are unchanged."""
    skipped: int
    """Entities that were not read."""
    entities_encountered: dict[str, int]
    """How many were met; one key, `all`."""
    status: str
    """The status of the job."""
    last_update_timestamp: Moment
    """When this was so."""
    failed: int
    """Entities that could not be read into the index."""
    phase: str
    """`open`, `read`, `delete` or `done`."""
    waiting_for: str | None
    """What the job waits for; null if it does not wait."""
    partitions_total: int
    """In how many parts the source is read, as far as that is known."""
    partitions_done: int
    """How many of them are done."""


class SyncEnd(Answer):
    """The last event of a stream of progress."""

    type: Literal["end"] = "end"
    """Which event this is."""
    job_id: UUID
    """The job."""
    status: str
    """Its last status."""
    error: str | None
    """Why it failed; null if it did not."""


class EntityState(Answer):
    """What the index holds of the connection now, by entity type."""

    type: Literal["entity_state"] = "entity_state"
    """Which event this is."""
    job_id: UUID
    """The job."""
    sync_id: UUID
    """The connection."""
    entity_counts: dict[str, int]
    """How many entities are indexed, by type."""
    total_entities: int
    """How many entities are indexed."""
    timestamp: Moment
    """When this was so."""
    job_status: str
    """The status of the job."""


class SyncComplete(Answer):
    """The end of a job."""

    type: Literal["sync_complete"] = "sync_complete"
    """Which event this is."""
    job_id: UUID
    """The job."""
    sync_id: UUID
    """The connection."""
    is_complete: bool
    """It completed."""
    is_failed: bool
    """It failed."""
    final_counts: dict[str, int]
    """How many entities are indexed, by type."""
    total_entities: int
    """How many entities are indexed."""
    total_operations: int
    """How many entities the job inserted, updated and deleted."""
    final_status: str
    """The last status of the job."""
    error: str | None
    """Why it failed; null if it did not."""
    timestamp: Moment
    """When it ended."""


class PartLeftOut(Answer):
    """Something of an entity that is not in its text."""

    what: str
    """A word of the list in docs/formats.md."""
    count: int
    """How many of it; of `words`, about how many."""
    where: list[str]
    """Some of the places."""
    note: str | None
    """More about it, for people; null if there is no more."""


class LedgerEntry(Answer):
    """The ledger's row of one entity."""

    entity_id: str
    """The id of the entity at its source."""
    name: str
    """Its name."""
    type: str
    """Its type, such as `FileEntity`."""
    state: str
    """`indexed`, `failed` or `skipped`."""
    reason: str | None
    """Why the index does not hold it as the source has it; null if it does."""
    chunks: int
    """In how many chunks it is indexed."""
    truncated: bool
    """Words of it are missing."""
    left_out: list[PartLeftOut]
    """What of it is not in its text, part by part."""
    version: str | None
    """What the source says of its version; null if it says nothing."""
    retries_left: int
    """In how many more jobs it is tried again by itself, if it failed."""
    changed_at: Moment
    """When this entry last changed."""
    sync_job_id: UUID
    """The job that last wrote it."""


class EntityText(Answer):
    """The indexed text of an entity."""

    entity_id: str
    """The id of the entity at its source."""
    name: str
    """Its name."""
    text: str
    """Its text, as it was extracted when it was indexed."""
    truncated: bool
    """It is not the whole text."""
    left_out: list[PartLeftOut]
    """What of it is not in its text, part by part."""


class RetryRequest(Form):
    """Which failed entities to try again."""

    entity_ids: list[str] | None = Field(None, max_length=1_000)
    """The entities to try again; all failed ones if it is not given."""


class HeldEntity(Answer):
    """An entity that would be deleted."""

    entity_id: str
    """The id of the entity at its source."""
    name: str
    """Its name."""


class HeldDeletes(Answer):
    """Deletes that a job planned and that wait for approval."""

    id: UUID
    """The id of the plan."""
    sync_job_id: UUID
    """The job that planned them."""
    reason: str | None
    """Why they are held."""
    total: int
    """How many they are."""
    created_at: Moment
    """When they were planned."""
    entities: list[HeldEntity]
    """A page of the entities that would be deleted."""


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
    """They must all hold."""


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
    """A search."""

    query: QueryText
    """What is searched for. Words in quotation marks must be there as they are."""
    cursor: NoCursor = None
    filter: Annotated[list[FilterGroup], AfterValidator(check_size)] | None = None
    """Groups of which one must hold; null for no filter."""
    limit: int = Field(100, ge=1, le=1_000)
    """How many results to return, at most."""
    offset: int = Field(0, ge=0, le=1_000_000)
    """How many results to leave out at the beginning."""
    retrieval_strategy: Strategy = "hybrid"
    """`semantic` by meaning, `keyword` by words, `hybrid` by both."""
    group: Literal["entity", "chunk"] = "entity"
    """`entity` for the best passage of each entity, `chunk` for all passages."""
    explain: bool = False
    """Say of each result what it was ranked by."""


class AgenticSearchRequest(Form):
    """A search by an agent."""

    query: QueryText
    """What is searched for."""
    thinking: bool = Field(False, description="Take more steps.")
    filter: Annotated[list[FilterGroup], AfterValidator(check_size)] | None = None
    """Groups of which one must hold, in every step; null for no filter."""
    limit: int | None = Field(None, ge=1, description="The most results; 20 if it is not given, and never above 1,000.")


class SearchBreadcrumb(Answer):
    """Something that an entity is in."""

    entity_id: str
    """The id at the source of what the entity is in."""
    name: str
    """Its name."""
    entity_type: str
    """Its type."""


class SearchSystemMetadata(Answer):
    """Where a result comes from."""

    source_name: str
    """The short name of the source."""
    entity_type: str
    """The type of the entity, such as `FileEntity`."""
    sync_id: UUID
    """The id of the source connection."""
    sync_job_id: UUID
    """The job that last wrote the entity."""
    chunk_index: int
    """The place of the chunk in its entity, from 0."""
    original_entity_id: str
    """The id of the entity at its source."""


class SearchAccess(Answer):
    """Who may see an entity at its source."""

    viewers: list[str] | None = None
    """Who may see it; null if that is unknown."""
    is_public: bool | None = None
    """Everybody may see it; null if that is unknown."""


class SearchSpan(Answer):
    """A part of ``textual_representation``, in characters."""

    start: int
    """Where it begins, in characters from 0."""
    end: int
    """Where it ends, in characters; the first after it."""


class SearchPassage(SearchSpan):
    """The part that shows best why this is a result."""

    text: str
    """Its text."""


class SearchWhy(Answer):
    """What a result was ranked by."""

    rank: float | None
    """The sum of what its words, its meaning and its identifiers count; null for a result so deep that it was only
    listed."""
    coverage: float
    """How much of the query it covers, from 0 to 1."""
    closeness: float
    """The cosine of its vector and the query's."""
    identifiers: float
    """What its identifiers count."""
    verbatim: bool
    """It holds the query in its order."""
    found: list[str]
    """The words of the query that it holds."""
    lacking: list[str]
    """The words of the query that it lacks."""


class SearchResult(Answer):
    """A result of a search."""

    entity_id: str
    """The id of the chunk; the entity's is `original_entity_id`."""
    name: str
    """The name of the entity."""
    relevance_score: float
    """How well it fits, above 0 and at most 1; about 0.5 is even."""
    breadcrumbs: list[SearchBreadcrumb]
    """Where the entity is at its source, from the outside in."""
    created_at: Moment | None
    """When the entity was created at its source; null if that is unknown."""
    updated_at: Moment | None
    """When the entity was last changed at its source; null if that is unknown."""
    textual_representation: str
    """The text of the chunk."""
    airweave_system_metadata: SearchSystemMetadata
    """Where it comes from."""
    access: SearchAccess
    """Who may see the entity at its source; this server does not know it."""
    web_url: str
    """Where people can open the entity; empty if that is unknown."""
    url: str | None
    """Where the source has the entity; null if that is unknown."""
    raw_source_fields: dict[str, Any]
    """What the source says of the entity besides."""
    passage: SearchPassage
    """The part of the text that shows best why this is a result."""
    highlights: list[SearchSpan]
    """Where the words of the query stand in the text, or else words that mean about the same."""
    why: SearchWhy | None = None
    """What it was ranked by; null unless `explain` asks for it."""


class SearchPlan(Answer):
    """What was searched for."""

    by: Literal["rules", "llm"]
    """`rules`, or `llm` for a language model."""
    reason: str | None
    """Why by rules, if a language model is configured; else null."""
    queries: list[str]
    """The query as it is, and its other phrasings."""
    filter: list[FilterGroup]
    """What the query implies. Results that fit it come first; nothing is left out for it."""
    filter_matched: bool
    """Something fits this filter."""
    words: list[str]
    """Words of the best results that were searched for as well."""


class SearchResponse(Answer):
    """What a search has found."""

    results: list[SearchResult]
    """The results, best first."""
    nothing_relevant: bool
    """Even the best result is unlikely to be what was asked for."""
    did_you_mean: str | None
    """The query with near words of the collection for those that it does not have, which were searched for instead;
    else null."""
    plan: SearchPlan | None = None
    """What was searched for; null in the instant tier."""


class AgenticSearchResponse(SearchResponse):
    """What a search by an agent has found."""

    completion: str | None
    """An answer by a language model from the results; null if there is none."""
    completion_reason: str | None
    """Why there is no completion; null if there is one."""


class AgenticSearchEvent(Answer):
    """One event of the agentic search. The other fields depend on the type."""

    model_config = ConfigDict(extra="allow")

    type: str
    """`started`, `thinking`, `tool_call`, `done` or `error`."""


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
    """A webhook subscription to create."""

    url: WebhookUrl
    """Where the events are sent."""
    event_types: EventTypes
    """Which events, at most ten types."""
    secret: WebhookSecret | None = None
    """`whsec_` and base64, or any text, which is then turned into that form; a random one if it is not given."""


class WebhookSubscriptionUpdate(Form):
    """Changes of a webhook subscription."""

    url: WebhookUrl | None = None
    """Where the events are sent from now on."""
    event_types: EventTypes | None = None
    """Which events from now on, at most ten types."""
    disabled: bool | None = None
    """Stop sending, or start again."""
    recover_since: Moment | None = None
    """With `disabled: false`, also send what failed or was missed since then, at most 14 days back."""


class WebhookRecovery(Form):
    """A time whose messages are sent again, if they failed or were missed."""

    since: Moment
    """From when on, at most 14 days back."""
    until: Moment | None = None
    """Until before when; until now if it is not given."""


class DeliveryAttempt(Answer):
    """An attempt to deliver a message."""

    id: UUID
    """Its id."""
    message_id: UUID
    """The message."""
    endpoint_id: UUID
    """The subscription."""
    response: str | None
    """The beginning of the body, or why there was no response."""
    response_status_code: int
    """The status of the response; 0 if there was none."""
    status: Literal["success", "pending", "failed"]
    """How it ended."""
    timestamp: Moment
    """When it was made."""
    url: str | None
    """Where it was sent."""


class WebhookMessage(Answer):
    """An event, as it is sent to subscriptions."""

    id: UUID
    """Its id, which each delivery has too."""
    event_type: str
    """What has happened."""
    payload: dict[str, Any]
    """The event, as it is sent."""
    timestamp: Moment
    """When the message was made."""
    channels: list[str] | None
    """Its event type, as a list."""
    tags: list[str] | None = None
    """Always null: messages have none."""


class WebhookMessageWithAttempts(WebhookMessage):
    """A message with its attempts."""

    delivery_attempts: list[DeliveryAttempt] | None = None
    """The attempts to deliver it, newest first; null unless they are asked for."""


class WebhookSubscription(Answer):
    """A URL that gets events."""

    id: UUID
    """Its id."""
    url: str
    """Where its events are sent."""
    filter_types: list[str] | None
    """Which events it gets."""
    disabled: bool
    """Nothing is sent to it now."""
    disabled_reason: str | None = Field(None, description="Why, if the server disabled it by itself.")
    description: str | None = None
    """Always null: the server has none."""
    created_at: Moment
    """When it was created."""
    updated_at: Moment
    """When it was last changed."""
    health_status: Literal["healthy", "degraded", "failing", "unknown"]
    """How its last attempts went; `unknown` if there were none."""


class WebhookSubscriptionDetail(WebhookSubscription):
    """A webhook subscription with its attempts."""

    delivery_attempts: list[DeliveryAttempt] | None
    """Its last attempts, newest first."""
    secret: str | None
    """The secret that signs; null unless it is asked for."""
    pending_messages: int
    """How many messages wait to be sent."""


class RecoveryTask(Answer):
    """Messages that are sent again."""

    id: UUID
    """Its id."""
    status: Literal["running", "completed"]
    """`running`, or `completed` if there was nothing to send."""
    messages: int
    """How many messages are sent again."""


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
    """What is searched for."""
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
    """Where a result comes from."""

    entity_type: str
    """The type of the entity, such as `FileEntity`."""
    source_name: str
    """The short name of the source."""
    sync_id: UUID
    """The id of the source connection."""
    sync_job_id: UUID
    """The job that last wrote the entity."""
    original_entity_id: str
    """The id of the entity at its source."""
    chunk_index: int
    """The place of the chunk in its entity, from 0."""


class LegacySearchResult(Answer):
    """A result, under the names of the legacy search."""

    id: str
    """The id of the chunk."""
    score: float
    """How well it fits, above 0 and at most 1; about 0.5 is even."""
    entity_id: str
    """The id of the chunk, too; the entity's is `original_entity_id`."""
    name: str
    """The name of the entity."""
    textual_representation: str
    """The text of the chunk."""
    created_at: Moment | None
    """When the entity was created at its source; null if that is unknown."""
    updated_at: Moment | None
    """When the entity was last changed at its source; null if that is unknown."""
    breadcrumbs: list[SearchBreadcrumb]
    """Where the entity is at its source, from the outside in."""
    system_metadata: LegacySystemMetadata
    """Where it comes from."""
    access: SearchAccess
    """Who may see the entity at its source; this server does not know it."""
    source_fields: dict[str, Any]
    """What the source says of the entity besides."""
    web_url: str
    """Where people can open the entity; empty if that is unknown."""
    url: str | None
    """Where the source has the entity; null if that is unknown."""


class UntieredSearchResponse(Answer):
    """What a search without a tier has found."""

    results: list[LegacySearchResult]
    """The results, best first."""
    completion: str | None
    """An answer by a language model from the results; null if there is none."""
    completion_reason: str | None = None
    """Why there is no completion although one was asked for; else null."""


class LegacySearchResponse(UntieredSearchResponse):
    """What a legacy search has found."""

    response_type: ResponseType
    """The one of the request."""
    status: Literal["success", "no_relevant_results", "no_results"]
    """`no_relevant_results` if even the best result is unlikely to be what was asked for."""


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
