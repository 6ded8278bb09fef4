"""Examples for the description of the API: one story, in which a folder of notes feeds a collection. A test validates
each against its model."""

import json
from typing import Any

from pydantic import BaseModel

Example = Any

ORGANIZATION = "59c8f1a2-3d0e-4a7b-8a55-2f6d1c0b9e34"
COLLECTION = "0d61b6f4-6a0c-4f4f-9a77-6a0f0a8f3c11"
CONNECTION = "b34ad015-7a4c-4ad0-9f9d-0d1a5f1f6a02"
JOB = "7da4b54a-51d5-4f3a-8f4e-6f1c2d3e4a5b"
PLAN = "1fd38422-8c1b-4c7e-a2f5-9b0f7e6d5c43"
LIMIT = "c0a7d7c2-0b1e-4f6a-9d3c-5e4f3a2b1c0d"
KEY = "e1f0c5a8-2b7d-4c9e-8f1a-3d5b7c9e1f20"
SUBSCRIPTION = "5b7e9c1d-4f2a-4b8c-9d6e-7f8a9b0c1d2e"
MESSAGE = "0a2e2cf5-6d7b-4e8f-9a0b-1c2d3e4f5a6b"
ATTEMPT = "9c8b7a6d-5e4f-4c3b-8a2d-1e0f9a8b7c6d"
TASK = "3f2e1d0c-9b8a-4c7d-8e6f-5a4b3c2d1e0f"

NOON = "2026-01-31T12:00:00"
SOON = "2026-01-31T12:00:04"
BEGUN = "2026-01-31T12:00:01.210412"
ENDED = "2026-01-31T12:00:03.895345"
TIMES = {"created_at": NOON, "modified_at": SOON}
NOBODY = {"created_by_email": None, "modified_by_email": None}

SCHEDULE = {"cron": "0 * * * *", "continuous": False, "cursor_field": None}
CONFIG = {"path": "~/notes"}
SUMMARY = {"short_name": "folder", "name": "Notes"}
FIELD = {
    "name": "path",
    "title": "Path",
    "description": "The folder to read: an absolute path, or one that begins with ~.",
    "type": "string",
    "required": True,
    "items_type": None,
    "feature_flag": None,
    "is_secret": False,
    "enum_values": None,
    "default": None,
}
JOB_DETAILS = {
    "id": JOB,
    "status": "completed",
    "started_at": BEGUN,
    "completed_at": ENDED,
    "duration_seconds": 2.684933,
    "entities_inserted": 20,
    "entities_updated": 0,
    "entities_deleted": 0,
    "entities_failed": 0,
    "error": None,
    "error_category": None,
    "error_kind": None,
}
CONDITION = {"field": "name", "operator": "contains", "value": ".md"}
FILTER = [{"conditions": [CONDITION]}]
TEXT = "# Router\n\nThe router answers ERR_1234 when the WAN is down."
URL = "file:///home/me/notes/router.md"
ORIGIN = {
    "source_name": "folder",
    "entity_type": "FileEntity",
    "sync_id": CONNECTION,
    "sync_job_id": JOB,
    "chunk_index": 0,
    "original_entity_id": "router.md",
}
HIT: dict[str, Example] = {
    "entity_id": "router.md__chunk_0",
    "name": "router.md",
    "breadcrumbs": [],
    "created_at": None,
    "updated_at": "2026-01-30T09:15:00",
    "textual_representation": TEXT,
    "access": {"viewers": None, "is_public": None},
    "web_url": URL,
    "url": URL,
}
FIELDS_OF_SOURCE = {"path": "router.md", "size": len(TEXT), "extension": ".md"}
RESULT = {
    **HIT,
    "relevance_score": 0.98,
    "airweave_system_metadata": ORIGIN,
    "raw_source_fields": FIELDS_OF_SOURCE,
    "passage": {"start": 0, "end": len(TEXT), "text": TEXT},
    "highlights": [{"start": 29, "end": 37}],
    "why": None,
}
SEARCH_PLAN = {
    "by": "rules",
    "reason": None,
    "queries": ["ERR_1234 in markdown files", "ERR_1234"],
    "filter": FILTER,
    "filter_matched": True,
    "words": ["router", "wan"],
}
FOUND = {"results": [RESULT], "nothing_relevant": False, "did_you_mean": None, "plan": None}
NO_MODEL = "no language model is configured (LLM_URL)"
AGENTIC = {**FOUND, "plan": SEARCH_PLAN, "completion": None, "completion_reason": NO_MODEL}
UNTIERED = {
    "results": [
        {**HIT, "id": "router.md__chunk_0", "score": 0.98, "system_metadata": ORIGIN, "source_fields": FIELDS_OF_SOURCE}
    ],
    "completion": None,
    "completion_reason": None,
}
HOOK = "https://example.com/hooks/airweave"
PAYLOAD = {
    "event_type": "sync.completed",
    "timestamp": "2026-01-31T12:00:03.895345Z",
    "organization_id": ORGANIZATION,
    "sync_id": CONNECTION,
    "sync_job_id": JOB,
    "source_connection_id": CONNECTION,
    "source_type": "folder",
    "collection_id": COLLECTION,
    "collection_name": "My notes",
    "collection_readable_id": "my-notes",
    "entities_inserted": 20,
    "entities_updated": 0,
    "entities_deleted": 0,
    "entities_skipped": 1,
    "chunks_written": 48,
}
ATTEMPTED = {
    "id": ATTEMPT,
    "message_id": MESSAGE,
    "endpoint_id": SUBSCRIPTION,
    "response": "ok",
    "response_status_code": 200,
    "status": "success",
    "timestamp": SOON,
    "url": HOOK,
}
SENT = {
    "id": MESSAGE,
    "event_type": "sync.completed",
    "payload": PAYLOAD,
    "timestamp": ENDED,
    "channels": ["sync.completed"],
    "tags": None,
}
SUBSCRIBED = {
    "id": SUBSCRIPTION,
    "url": HOOK,
    "filter_types": ["sync.completed", "sync.failed"],
    "disabled": False,
    "disabled_reason": None,
    "description": None,
    "created_at": NOON,
    "updated_at": NOON,
    "health_status": "healthy",
}

BY_MODEL: dict[str, Example] = {
    "Error": {"detail": "Collection not found"},
    "InvalidInput": {"errors": [{"body.name": "String should have at least 4 characters"}]},
    "Health": {
        "status": "healthy",
        "engine": "in_process",
        "engine_reason": None,
        "database": "up",
        "storage": {"status": "ok", "free_bytes": 74894966784, "needed_bytes": 195108864, "reason": None},
        "seen_s_ago": 0.0,
        "keeper": "myhost:16738:6b3a4c62",
        "workers": 0,
        "last_full_listing": {"oldest": "2026-01-31T12:00:01Z", "newest": "2026-01-31T12:00:01Z"},
        "children": {},
    },
    "Live": {"status": "alive"},
    "Ready": {"status": "ready", "checks": {"database": {"status": "up", "latency_ms": 0.84}}},
    "Source": {
        "name": "Folder",
        "short_name": "folder",
        "class_name": "Folder",
        "description": "Files and folders on the machine that the server runs on.",
        "auth_methods": ["direct"],
        "oauth_type": None,
        "requires_byoc": False,
        "auth_config_class": None,
        "config_class": "FolderConfig",
        "auth_fields": None,
        "config_fields": {"fields": [FIELD]},
        "output_entity_definitions": ["FileEntity"],
        "labels": ["Files"],
        "supports_continuous": False,
        "federated_search": False,
        "supports_temporal_relevance": True,
        "supports_access_control": False,
        "supports_browse_tree": False,
        "rate_limit_level": None,
        "feature_flag": None,
        "supported_auth_providers": [],
    },
    "SourceRateLimit": {
        "source_short_name": "feed",
        "rate_limit_level": "org",
        "limit": 100,
        "window_seconds": 60,
        "id": LIMIT,
    },
    "SourceRateLimitUpdate": {"limit": 100, "window_seconds": 60},
    "SourceRateLimitSet": {
        "source_short_name": "feed",
        "limit": 100,
        "window_seconds": 60,
        "id": LIMIT,
        "organization_id": ORGANIZATION,
        **TIMES,
    },
    "EntityDefinition": {
        "short_name": "FileEntity",
        "name": "FileEntity",
        "description": None,
        "class_name": "FileEntity",
        "module_name": "folder",
        "entity_type": "file",
        "entity_schema": {"title": "FileEntity", "type": "object", "properties": {"name": {"type": "string"}}},
    },
    "EntityCount": {
        "count": 20,
        "entity_definition_short_name": "FileEntity",
        "entity_definition_name": "FileEntity",
        "entity_definition_type": "file",
        "entity_definition_description": None,
        "modified_at": ENDED,
    },
    "Organization": {
        "id": ORGANIZATION,
        "name": "Default Organization",
        "description": None,
        **TIMES,
        "role": "admin",
        "is_primary": True,
        "auth0_org_id": None,
        "org_metadata": None,
        "enabled_features": [],
        "billing": None,
        "key_role": "admin",
        "is_first": True,
    },
    "ApiKeyCreate": {"expiration_days": 90, "name": "the search page", "role": "reader"},
    "ApiKey": {
        "id": KEY,
        "organization_id": ORGANIZATION,
        **TIMES,
        "last_used_date": SOON,
        "expiration_date": "2026-05-01T12:00:00",
        **NOBODY,
        "decrypted_key": None,
        "name": "the search page",
        "role": "reader",
        "hint": "x7Qk",
        "revoked_at": None,
    },
    "CollectionCreate": {"name": "My notes", "readable_id": "my-notes", "language": "english"},
    "CollectionUpdate": {"name": "Notes of the team"},
    "Collection": {
        "id": COLLECTION,
        "name": "My notes",
        "readable_id": "my-notes",
        "sync_config": None,
        **TIMES,
        "organization_id": ORGANIZATION,
        **NOBODY,
        "status": "ACTIVE",
        "vector_size": 256,
        "embedding_model_name": "wordllama-256",
        "language": "english",
        "source_connection_summaries": [SUMMARY],
    },
    "ReembedRequest": {"embedder": "minilm"},
    "Reembed": {
        "state": "moving",
        "embedder": "wordllama",
        "embedding_model_name": "wordllama-256",
        "vector_size": 256,
        "to": "minilm",
        "to_model_name": "all-MiniLM-L6-v2",
        "entities_done": 12,
        "entities_total": 20,
        "jobs": [
            {"id": JOB, "source_connection_id": CONNECTION, "status": "running", "error": None, "waiting_for": None}
        ],
    },
    "SourceConnectionCreate": {
        "name": "Notes",
        "short_name": "folder",
        "readable_collection_id": "my-notes",
        "description": "What the team has written down.",
        "config": CONFIG,
        "schedule": SCHEDULE,
        "sync_immediately": True,
    },
    "SourceConnectionPreview": {
        "short_name": "folder",
        "embedding_model_name": "wordllama-256",
        "is_complete": True,
        "is_exact": True,
        "entities": 22,
        "size_bytes": 480112,
        "opened": 21,
        "indexed": 20,
        "chunks": 48,
        "seconds": 0.9,
        "skipped": [
            {"reason": "unsupported_format", "entities": 1, "is_exact": True, "examples": ["logo.ico"]},
        ],
        "failed": [],
        "incomplete": [{"reason": "no text layer", "entities": 1, "is_exact": True, "examples": ["scan.pdf"]}],
        "notes": [],
    },
    "SourceConnectionUpdate": {"name": "Notes of the team", "schedule": SCHEDULE},
    "SourceConnection": {
        "id": CONNECTION,
        "organization_id": ORGANIZATION,
        "name": "Notes",
        "description": "What the team has written down.",
        "short_name": "folder",
        "readable_collection_id": "my-notes",
        "status": "active",
        **TIMES,
        "auth": {
            "method": "direct",
            "authenticated": True,
            "authenticated_at": NOON,
            "expires_at": None,
            "auth_url": None,
            "auth_url_expires": None,
            "redirect_url": None,
            "claim_token": None,
            "provider_readable_id": None,
            "provider_id": None,
        },
        "config": CONFIG,
        "schedule": {
            "cron": "0 * * * *",
            "next_run": "2026-01-31T13:00:00Z",
            "continuous": False,
            "cursor_field": None,
            "cursor_value": None,
            "paused_reason": None,
        },
        "sync": {"total_runs": 1, "successful_runs": 1, "failed_runs": 0, "last_job": JOB_DETAILS},
        "sync_id": CONNECTION,
        "entities": {"total_entities": 20, "by_type": {"FileEntity": {"count": 20, "last_updated": ENDED}}},
        "error_category": None,
        "error_message": None,
        "provider_settings_url": None,
        "provider_short_name": None,
        "federated_search": False,
        "held_deletes": 0,
        "error_kind": None,
        "source_wait_max_s": None,
        "synced_at": BEGUN,
    },
    "SourceConnectionListItem": {
        "id": CONNECTION,
        "name": "Notes",
        "short_name": "folder",
        "readable_collection_id": "my-notes",
        **TIMES,
        "is_authenticated": True,
        "entity_count": 20,
        "federated_search": False,
        "auth_method": "direct",
        "status": "active",
        "synced_at": BEGUN,
    },
    "RunRequest": {"force_full_sync": True},
    "SourceConnectionJob": {
        **JOB_DETAILS,
        "source_connection_id": CONNECTION,
        "error_details": None,
        "organization_id": ORGANIZATION,
        **TIMES,
        "failed_at": None,
        "entities_kept": 0,
        "entities_skipped": 1,
        "entities_incomplete": 1,
        "entities_encountered": 21,
        "phase": "done",
        "mode": "full",
        "engine": "in_process",
        "engine_reason": None,
        "trigger": "api",
        "waiting_for": None,
        "held_deletes": 0,
        "entities_never_read": 0,
        "unsettled": False,
        "resumed_from": None,
        "attempts": 1,
        "partitions_total": 1,
        "partitions_done": 1,
    },
    "LedgerEntry": {
        "entity_id": "big.txt",
        "name": "big.txt",
        "type": "Skipped",
        "state": "skipped",
        "reason": "too_large: 30.0 MB, the limit is 20 MB",
        "chunks": 0,
        "truncated": False,
        "left_out": [],
        "version": None,
        "retries_left": 0,
        "changed_at": ENDED,
        "sync_job_id": JOB,
    },
    "EntityText": {"entity_id": "router.md", "name": "router.md", "text": TEXT, "truncated": False, "left_out": []},
    "RetryRequest": {"entity_ids": ["report.md"]},
    "HeldDeletes": {
        "id": PLAN,
        "sync_job_id": JOB,
        "reason": "16 of 23 entities would be deleted, more than 15%",
        "total": 16,
        "created_at": ENDED,
        "entities": [{"entity_id": "n10.txt", "name": "n10.txt"}, {"entity_id": "n11.txt", "name": "n11.txt"}],
    },
    "SearchRequest": {"query": "ERR_1234", "filter": FILTER, "limit": 10},
    "SearchResponse": FOUND,
    "AgenticSearchRequest": {"query": "What does ERR_1234 mean?", "thinking": False, "limit": 10},
    "AgenticSearchResponse": AGENTIC,
    "UntieredSearchRequest": {
        "query": "ERR_1234",
        "response_type": "raw",
        "limit": 10,
        "filter": {"must": [{"key": "source_name", "match": {"value": "folder"}}]},
    },
    "UntieredSearchResponse": UNTIERED,
    "LegacySearchResponse": {**UNTIERED, "response_type": "raw", "status": "success"},
    "WebhookSubscriptionCreate": {"url": HOOK, "event_types": ["sync.completed", "sync.failed"]},
    "WebhookSubscriptionUpdate": {"disabled": False, "recover_since": NOON},
    "WebhookRecovery": {"since": NOON, "until": "2026-01-31T18:00:00"},
    "WebhookMessage": SENT,
    "WebhookMessageWithAttempts": {**SENT, "delivery_attempts": [ATTEMPTED]},
    "WebhookSubscription": SUBSCRIBED,
    "WebhookSubscriptionDetail": {
        **SUBSCRIBED,
        "delivery_attempts": [ATTEMPTED],
        "secret": None,
        "pending_messages": 0,
    },
    "RecoveryTask": {"id": TASK, "status": "running", "messages": 3},
}

PROGRESS = {
    "inserted": 20,
    "updated": 0,
    "deleted": 0,
    "kept": 0,
    "skipped": 1,
    "entities_encountered": {"all": 21},
    "status": "completed",
    "last_update_timestamp": ENDED,
    "failed": 0,
    "phase": "done",
    "waiting_for": None,
    "partitions_total": 1,
    "partitions_done": 1,
}
STATE = {"job_id": JOB, "sync_id": CONNECTION, "total_entities": 20, "timestamp": ENDED}
COUNTS = {"FileEntity": 20}
QUERY = {"query": "What does ERR_1234 mean?", "thinking": False, "filter": None, "limit": 10}
CONNECTED = {"type": "connected", "job_id": JOB}
REQUEST = "4b0d8fdd6ea54d0d8c0a0b1a4b7b4c66"


def events(*sent: dict[str, Example]) -> str:
    """The text of a stream with these events."""
    return "".join(f"data: {json.dumps(event)}\n\n" for event in sent)


# by the id of the operation, where a model does not say it
BY_OPERATION: dict[str, Example] = {
    "count_collections": 1,
    "count_entities": 20,
    "show_metrics": "# HELP airweave_database_up Whether Postgres answers\n# TYPE airweave_database_up gauge\n"
    "airweave_database_up 1.0\n",
    "get_legacy_filter_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Filter",
        "$ref": "#/$defs/Filter",
        "$defs": {"Filter": {"type": "object"}},
    },
    "stream_job_progress": events(
        CONNECTED, PROGRESS, {"type": "end", "job_id": JOB, "status": "completed", "error": None}
    ),
    "stream_job_state": events(
        CONNECTED,
        {"type": "entity_state", **STATE, "entity_counts": COUNTS, "job_status": "completed"},
        {
            "type": "sync_complete",
            **STATE,
            "is_complete": True,
            "is_failed": False,
            "final_counts": COUNTS,
            "total_operations": 20,
            "final_status": "completed",
            "error": None,
        },
    ),
    "stream_agentic_search": events(
        {
            "type": "started",
            "request_id": REQUEST,
            "tier": "agentic",
            "collection_readable_id": "my-notes",
            **QUERY,
        },
        {
            "type": "tool_call",
            "tool_name": "search",
            "duration_ms": 21,
            "diagnostics": {"iteration": 1, "tool_call_id": "1", "arguments": {"query": "ERR_1234"}, "stats": {}},
        },
        {"type": "done", **AGENTIC, "duration_ms": 44, "diagnostics": {}},
    ),
    "stream_legacy_search": events(
        {"type": "connected", "ts": NOON, "request_id": REQUEST},
        {"type": "vector_search_done", "ts": NOON, "final_count": 1, "top_scores": [0.98], "duration_ms": 12},
        {"type": "results", "ts": NOON, **UNTIERED},
        {"type": "done", "ts": NOON},
    ),
    "check_ready 503": {"status": "not_ready", "checks": {"database": {"status": "down", "error": "unreachable"}}},
}


def of(model: type[BaseModel]) -> Example:
    """The example of a model."""
    return BY_MODEL[model.__name__]
