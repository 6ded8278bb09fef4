"""The tables of the public API as strict models: a field that is missing or of another type does not validate."""

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, NaiveDatetime

AuthMethod = Literal["direct", "oauth_browser", "oauth_token", "oauth_byoc", "auth_provider"]
ErrorCategory = Literal[
    "oauth_credentials_expired", "api_key_invalid", "auth_provider_account_gone", "auth_provider_credentials_invalid"
]
ConnectionStatus = Literal["active", "pending_auth", "syncing", "error", "needs_reauth", "inactive", "pending_sync"]
JobStatus = Literal["pending", "running", "completed", "failed", "cancelling", "cancelled"]


class Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class ConfigField(Shape):
    name: str
    title: str
    description: str | None
    type: Literal["string", "number", "boolean", "array", "object"]
    required: bool
    items_type: str | None
    feature_flag: str | None
    is_secret: bool
    enum_values: list[str] | None


class Fields(Shape):
    fields: list[ConfigField]


class Source(Shape):
    name: str
    short_name: str
    class_name: str
    description: str | None
    auth_methods: list[AuthMethod] | None
    oauth_type: str | None
    requires_byoc: bool
    auth_config_class: str | None
    config_class: str | None
    auth_fields: Fields | None
    config_fields: Fields
    output_entity_definitions: list[str] | None
    labels: list[str] | None
    supports_continuous: bool
    federated_search: bool
    supports_temporal_relevance: Literal[True]
    supports_access_control: bool
    supports_browse_tree: bool
    rate_limit_level: str | None
    feature_flag: str | None
    supported_auth_providers: list[str]


class Summary(Shape):
    short_name: str
    name: str


class Collection(Shape):
    id: UUID
    name: str
    readable_id: str
    sync_config: dict[str, Any] | None
    created_at: NaiveDatetime
    modified_at: NaiveDatetime
    organization_id: UUID
    created_by_email: str | None
    modified_by_email: str | None
    status: Literal["ACTIVE", "NEEDS SOURCE", "ERROR"]
    vector_size: int
    embedding_model_name: str
    source_connection_summaries: list[Summary]


class AuthenticationDetails(Shape):
    method: AuthMethod
    authenticated: bool
    authenticated_at: NaiveDatetime | None
    expires_at: NaiveDatetime | None
    auth_url: str | None
    auth_url_expires: NaiveDatetime | None
    redirect_url: str | None
    claim_token: str | None
    provider_readable_id: str | None
    provider_id: str | None


class ScheduleDetails(Shape):
    cron: str | None
    next_run: AwareDatetime | None
    continuous: bool
    cursor_field: str | None
    cursor_value: Any


class Counts(Shape):
    id: UUID
    status: JobStatus
    started_at: NaiveDatetime | None
    completed_at: NaiveDatetime | None
    duration_seconds: float | None
    entities_inserted: int
    entities_updated: int
    entities_deleted: int
    entities_failed: int
    error: str | None
    error_category: ErrorCategory | None


class SyncDetails(Shape):
    total_runs: int
    successful_runs: int
    failed_runs: int
    last_job: Counts | None


class EntityType(Shape):
    count: int
    last_updated: NaiveDatetime | None


class Entities(Shape):
    total_entities: int
    by_type: dict[str, EntityType]


class SourceConnection(Shape):
    id: UUID
    organization_id: UUID
    name: str
    description: str | None
    short_name: str
    readable_collection_id: str
    status: ConnectionStatus
    created_at: NaiveDatetime
    modified_at: NaiveDatetime
    auth: AuthenticationDetails
    config: dict[str, Any] | None
    schedule: ScheduleDetails | None
    sync: SyncDetails | None
    sync_id: UUID | None
    entities: Entities | None
    error_category: ErrorCategory | None
    error_message: str | None
    provider_settings_url: str | None
    provider_short_name: str | None
    federated_search: bool


class SourceConnectionListItem(Shape):
    id: UUID
    name: str
    short_name: str
    readable_collection_id: str
    created_at: NaiveDatetime
    modified_at: NaiveDatetime
    is_authenticated: bool
    entity_count: int
    federated_search: bool
    auth_method: AuthMethod
    status: ConnectionStatus


class Job(Counts):
    source_connection_id: UUID
    error_details: dict[str, Any] | None
    # ours in addition
    phase: str
    engine: str
    failed_at: NaiveDatetime | None
    entities_kept: int
    entities_skipped: int
    entities_encountered: int
    held_deletes: int
    unsettled: bool


class Breadcrumb(Shape):
    entity_id: str
    name: str
    entity_type: str


class SystemMetadata(Shape):
    source_name: str
    entity_type: str
    sync_id: UUID
    sync_job_id: UUID
    chunk_index: int
    original_entity_id: str


class Access(Shape):
    viewers: list[str] | None
    is_public: bool | None


class SearchResult(Shape):
    entity_id: str
    name: str
    relevance_score: float
    breadcrumbs: list[Breadcrumb]
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None
    textual_representation: str
    airweave_system_metadata: SystemMetadata
    access: Access
    web_url: str
    url: str | None
    raw_source_fields: dict[str, Any]


class SearchResponse(Shape):
    results: list[SearchResult]


class LegacyMetadata(Shape):
    entity_type: str
    source_name: str | None
    sync_id: UUID | None
    sync_job_id: UUID | None
    original_entity_id: str | None
    chunk_index: int | None


class LegacyResult(Shape):
    id: str
    score: float
    entity_id: str
    name: str
    textual_representation: str
    created_at: NaiveDatetime | None
    updated_at: NaiveDatetime | None
    breadcrumbs: list[Breadcrumb]
    system_metadata: LegacyMetadata
    access: Access | None
    source_fields: dict[str, Any]


class UntieredSearchResponse(Shape):
    results: list[LegacyResult]
    completion: str | None


class LegacySearchResponse(UntieredSearchResponse):
    response_type: Literal["raw", "completion"]
    status: Literal["success", "no_relevant_results", "no_results"]
