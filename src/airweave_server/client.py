"""A client for every route of the HTTP API. It takes and returns the models of ``wire``. Every error is a
``ClientError`` with one line that says what to do next."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from . import wire
from .errors import ClientError
from .settings import Settings

TIMEOUT_S = 60.0  # of each wait for the server
PAGE = 1_000  # rows per request
LATEST = 20  # jobs that are searched for a full one
ACTIVE = ("pending", "running", "cancelling")

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)
Id = UUID | str


def fill(kind: type[ModelT], **values: Any) -> ModelT:
    """Create a request model. Raises ``ClientError``, which names the field but shows no value: it may be secret."""
    return check(kind, values)


def check(kind: type[ModelT], values: dict[str, Any]) -> ModelT:
    """As ``fill``, for values whose names come from elsewhere."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        flaws = ((".".join(str(part) for part in one["loc"]), one["msg"]) for one in _errors(error))
        message = "; ".join(
            f"{place}: {text.removeprefix('Value error, ')}".removeprefix(": ") for place, text in flaws
        )
        raise ClientError(message) from None


class Client:
    """A client of a running server."""

    def __init__(self, url: str, api_key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        headers = {"X-API-Key": api_key} if api_key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ClientError(f"API_URL={url} or API_KEY cannot be used: {error}") from None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
        url = settings.api_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"
        return cls(url.rstrip("/"), settings.api_key.get_secret_value() if settings.api_key else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # Health

    def health(self) -> wire.Health:
        return self._call(wire.Health, "GET", "/health")

    def live(self) -> wire.Live:
        return self._call(wire.Live, "GET", "/health/live")

    def ready(self) -> wire.Ready:
        """Raises ``ClientError`` if the server cannot serve requests."""
        return self._call(wire.Ready, "GET", "/health/ready")

    def metrics(self) -> str:
        """The metrics in Prometheus text format."""
        return self._request("GET", "/metrics").text

    # Sources

    def sources(self) -> list[wire.Source]:
        return self._call(list[wire.Source], "GET", "/sources")

    def source(self, short_name: str) -> wire.Source:
        return self._call(wire.Source, "GET", f"/sources/{_part(short_name)}")

    def entity_definitions(self, short_name: str) -> list[wire.EntityDefinition]:
        """The types of entities that a source yields; empty if it is unknown."""
        path = "/entities/definitions/by-source"
        return self._call(list[wire.EntityDefinition], "GET", path, source_short_name=short_name)

    def rate_limits(self) -> list[wire.SourceRateLimit]:
        """All sources, with the limits that are set."""
        return self._call(list[wire.SourceRateLimit], "GET", "/source-rate-limits")

    def set_rate_limit(self, short_name: str, body: wire.SourceRateLimitUpdate) -> wire.SourceRateLimitSet:
        return self._call(wire.SourceRateLimitSet, "PUT", f"/source-rate-limits/{_part(short_name)}", body)

    def remove_rate_limit(self, short_name: str) -> None:
        self._request("DELETE", f"/source-rate-limits/{_part(short_name)}")

    # Organizations and API keys

    def organizations(self) -> list[wire.Organization]:
        """The organization of the key, as a list of one."""
        return self._call(list[wire.Organization], "GET", "/organizations")

    def organization(self, organization_id: Id) -> wire.Organization:
        return self._call(wire.Organization, "GET", f"/organizations/{_part(organization_id)}")

    def own_organizations(self) -> list[wire.Organization]:
        """The same as ``organizations``, where clients that have users look for it."""
        return self._call(list[wire.Organization], "GET", "/users/me/organizations")

    def api_keys(self) -> list[wire.ApiKey]:
        """All API keys of the organization, newest first."""
        return self._pages(wire.ApiKey, "/api-keys")

    def api_key(self, key_id: Id) -> wire.ApiKey:
        return self._call(wire.ApiKey, "GET", f"/api-keys/{_part(key_id)}")

    def create_api_key(self, body: wire.ApiKeyCreate) -> wire.ApiKey:
        """Create an API key, whose text is only in this answer."""
        return self._call(wire.ApiKey, "POST", "/api-keys", body)

    def revoke_api_key(self, key_id: Id) -> wire.ApiKey:
        return self._call(wire.ApiKey, "DELETE", "/api-keys", id=key_id)

    # Collections

    def collections(
        self, search: str | None = None, *, skip: int = 0, limit: int | None = None
    ) -> list[wire.Collection]:
        """All collections, or those whose name or readable id contains ``search``; with ``limit``, one page."""
        if limit is not None:
            return self._call(list[wire.Collection], "GET", "/collections", search=search, skip=skip, limit=limit)
        return self._pages(wire.Collection, "/collections", search=search)

    def count_collections(self, search: str | None = None) -> int:
        return self._call(int, "GET", "/collections/count", search=search)

    def create_collection(self, body: wire.CollectionCreate) -> wire.Collection:
        return self._call(wire.Collection, "POST", "/collections", body)

    def collection(self, readable_id: str) -> wire.Collection:
        return self._call(wire.Collection, "GET", _collection(readable_id))

    def update_collection(self, readable_id: str, body: wire.CollectionUpdate) -> wire.Collection:
        return self._call(wire.Collection, "PATCH", _collection(readable_id), body)

    def delete_collection(self, readable_id: str) -> wire.Collection:
        return self._call(wire.Collection, "DELETE", _collection(readable_id))

    def refresh_all(self, readable_id: str) -> list[wire.SourceConnectionJob]:
        return self._call(list[wire.SourceConnectionJob], "POST", f"{_collection(readable_id)}/refresh_all")

    def connections_of(self, readable_id: str) -> list[wire.SourceConnectionListItem]:
        """All connections of a collection. Raises ``ClientError`` if the collection does not exist."""
        return self._pages(wire.SourceConnectionListItem, f"{_collection(readable_id)}/source-connections")

    def reembed(self, readable_id: str) -> wire.Reembed:
        return self._call(wire.Reembed, "GET", f"{_collection(readable_id)}/reembed")

    def start_reembed(self, readable_id: str, body: wire.ReembedRequest) -> wire.Reembed:
        return self._call(wire.Reembed, "POST", f"{_collection(readable_id)}/reembed", body)

    def abandon_reembed(self, readable_id: str) -> wire.Reembed:
        return self._call(wire.Reembed, "DELETE", f"{_collection(readable_id)}/reembed")

    def search(self, readable_id: str, body: wire.SearchRequest) -> list[wire.SearchResult]:
        return self.answer(readable_id, body).results

    def answer(self, readable_id: str, body: wire.SearchRequest) -> wire.SearchResponse:
        """The results of a search, with what it says about them."""
        return self._call(wire.SearchResponse, "POST", f"{_collection(readable_id)}/search/instant", body)

    def classic(self, readable_id: str, body: wire.SearchRequest) -> wire.SearchResponse:
        """A search by a plan, with the plan."""
        return self._call(wire.SearchResponse, "POST", f"{_collection(readable_id)}/search/classic", body)

    def agentic(self, readable_id: str, body: wire.AgenticSearchRequest) -> wire.AgenticSearchResponse:
        """A search by an agent. May take minutes if the server has a language model."""
        path = f"{_collection(readable_id)}/search/agentic"
        return self._call(wire.AgenticSearchResponse, "POST", path, body)

    def stream_agentic(self, readable_id: str, body: wire.AgenticSearchRequest) -> Iterator[wire.AgenticSearchEvent]:
        """Yield each step of a search by an agent; the last event, ``done``, has the results."""
        for event in self._events(f"{_collection(readable_id)}/search/agentic/stream", body):
            yield self._parse(wire.AgenticSearchEvent, event)

    # Source connections

    def create_connection(self, body: wire.SourceConnectionCreate) -> wire.SourceConnection:
        return self._call(wire.SourceConnection, "POST", "/source-connections", body)

    def preview(self, body: wire.SourceConnectionCreate) -> wire.SourceConnectionPreview:
        return self._call(wire.SourceConnectionPreview, "POST", "/source-connections/preview", body)

    def connections(
        self, collection: str | None = None, *, skip: int = 0, limit: int | None = None
    ) -> list[wire.SourceConnectionListItem]:
        """All connections, or those of one collection; an empty list if the collection does not exist. With ``limit``,
        one page."""
        path, kind = "/source-connections", wire.SourceConnectionListItem
        if limit is not None:
            return self._call(list[kind], "GET", path, collection=collection, skip=skip, limit=limit)  # type: ignore[valid-type]
        return self._pages(kind, path, collection=collection)

    def connection(self, connection_id: Id) -> wire.SourceConnection:
        return self._call(wire.SourceConnection, "GET", _connection(connection_id))

    def update_connection(self, connection_id: Id, body: wire.SourceConnectionUpdate) -> wire.SourceConnection:
        return self._call(wire.SourceConnection, "PATCH", _connection(connection_id), body)

    def delete_connection(self, connection_id: Id) -> wire.SourceConnection:
        return self._call(wire.SourceConnection, "DELETE", _connection(connection_id))

    # Jobs

    def run(
        self, connection_id: Id, *, full: bool = False, access_token: str | None = None
    ) -> wire.SourceConnectionJob:
        """Start a job. ``full``: read everything again. ``access_token``: signs in this run only."""
        body = fill(wire.RunRequest, force_full_sync=full, access_token=access_token)
        return self._call(wire.SourceConnectionJob, "POST", f"{_connection(connection_id)}/run", body)

    def jobs(self, connection_id: Id, *, limit: int = 100) -> list[wire.SourceConnectionJob]:
        """The newest ``limit`` jobs, newest first."""
        path = f"{_connection(connection_id)}/jobs"
        return self._call(list[wire.SourceConnectionJob], "GET", path, limit=limit)

    def job(self, connection_id: Id, job_id: Id) -> wire.SourceConnectionJob:
        return self._call(wire.SourceConnectionJob, "GET", f"{_connection(connection_id)}/jobs/{_part(job_id)}")

    def cancel(self, connection_id: Id, job_id: Id) -> wire.SourceConnectionJob:
        return self._call(wire.SourceConnectionJob, "POST", f"{_connection(connection_id)}/jobs/{_part(job_id)}/cancel")

    def progress(self, job_id: Id) -> Iterator[wire.SyncProgressUpdate | wire.SyncEnd]:
        """Yield the job's progress so far, then each change until the job ends."""
        for event in self._events(f"/sync/job/{_part(job_id)}/subscribe"):
            is_end = event.get("type") == "end"
            yield self._parse(wire.SyncEnd, event) if is_end else self._parse(wire.SyncProgressUpdate, event)

    def states(self, job_id: Id) -> Iterator[wire.EntityState | wire.SyncComplete]:
        """Yield what the index holds of the job's connection, then each change until the job ends."""
        for event in self._events(f"/sync/job/{_part(job_id)}/subscribe-state"):
            is_end = event.get("type") == "sync_complete"
            yield self._parse(wire.SyncComplete, event) if is_end else self._parse(wire.EntityState, event)

    # Entities and held deletes

    def entities(
        self,
        connection_id: Id,
        state: Literal["indexed", "failed", "skipped"] | None = None,
        *,
        incomplete: bool | None = None,
    ) -> Iterator[wire.LedgerEntry]:
        """Yield the ledger; fetches it page by page."""
        path = f"{_connection(connection_id)}/entities"
        return self._rows(wire.LedgerEntry, path, state=state, incomplete=incomplete)

    def entity_text(self, connection_id: Id, entity_id: str) -> wire.EntityText:
        return self._call(wire.EntityText, "GET", f"{_connection(connection_id)}/entities/text", entity_id=entity_id)

    def count_entities(self, connection_id: Id) -> int:
        return self._call(int, "GET", f"/entity-counts/syncs/{_part(connection_id)}/total-count")

    def count_entities_by_type(self, connection_id: Id) -> list[wire.EntityCount]:
        return self._call(list[wire.EntityCount], "GET", f"/entity-counts/syncs/{_part(connection_id)}/counts")

    def retry(self, connection_id: Id, entity_ids: list[str] | None = None) -> wire.SourceConnectionJob:
        """Retry failed entities: all, or these."""
        body = fill(wire.RetryRequest, entity_ids=entity_ids)
        return self._call(wire.SourceConnectionJob, "POST", f"{_connection(connection_id)}/entities/retry", body)

    def held_deletes(self, connection_id: Id, *, limit: int = 100) -> list[wire.HeldDeletes]:
        """The deletes that wait for a decision, each with the first ``limit`` of its entities."""
        return self._call(list[wire.HeldDeletes], "GET", f"{_connection(connection_id)}/held-deletes", limit=limit)

    def approve_deletes(self, connection_id: Id, plan_id: Id) -> wire.SourceConnectionJob:
        path = f"{_connection(connection_id)}/held-deletes/{_part(plan_id)}/approve"
        return self._call(wire.SourceConnectionJob, "POST", path)

    def dismiss_deletes(self, connection_id: Id, plan_id: Id) -> wire.HeldDeletes:
        return self._call(
            wire.HeldDeletes, "POST", f"{_connection(connection_id)}/held-deletes/{_part(plan_id)}/dismiss"
        )

    # Webhooks

    def messages(
        self, event_types: list[wire.EventType] | None = None, *, limit: int = 100
    ) -> list[wire.WebhookMessage]:
        """The newest ``limit`` messages, or those of these types, newest first."""
        return self._call(list[wire.WebhookMessage], "GET", "/webhooks/messages", event_types=event_types, limit=limit)

    def message(self, message_id: Id) -> wire.WebhookMessageWithAttempts:
        """A message, with the attempts to deliver it."""
        path = f"/webhooks/messages/{_part(message_id)}"
        return self._call(wire.WebhookMessageWithAttempts, "GET", path, include_attempts=True)

    def subscribe(self, body: wire.WebhookSubscriptionCreate) -> wire.WebhookSubscription:
        return self._call(wire.WebhookSubscription, "POST", "/webhooks/subscriptions", body)

    def subscriptions(self) -> list[wire.WebhookSubscription]:
        return self._call(list[wire.WebhookSubscription], "GET", "/webhooks/subscriptions")

    def subscription(self, subscription_id: Id, *, include_secret: bool = False) -> wire.WebhookSubscriptionDetail:
        """A subscription, with its last attempts; with ``include_secret``, also the secret that signs."""
        return self._call(
            wire.WebhookSubscriptionDetail, "GET", _subscription(subscription_id), include_secret=include_secret
        )

    def update_subscription(
        self, subscription_id: Id, body: wire.WebhookSubscriptionUpdate
    ) -> wire.WebhookSubscription:
        return self._call(wire.WebhookSubscription, "PATCH", _subscription(subscription_id), body)

    def unsubscribe(self, subscription_id: Id) -> wire.WebhookSubscription:
        return self._call(wire.WebhookSubscription, "DELETE", _subscription(subscription_id))

    def recover_messages(self, subscription_id: Id, body: wire.WebhookRecovery) -> wire.RecoveryTask:
        """Send again what failed or was missed."""
        return self._call(wire.RecoveryTask, "POST", f"{_subscription(subscription_id)}/recover", body)

    # Combinations of several requests

    def ensure_collection(self, readable_id: str, *, language: str | None = None) -> None:
        """Create the collection if it does not exist. Raises ``ClientError`` if it exists with another ``language``."""
        found = self._find_collection(readable_id)
        if found is None:
            name = readable_id if len(readable_id) >= 4 else f"Collection {readable_id}"
            spoken = {"language": language} if language else {}
            body = fill(wire.CollectionCreate, name=name[:64], readable_id=readable_id, **spoken)
            self.create_collection(body)
        elif language and found.language != language:
            raise ClientError(
                f"collection {readable_id} is {found.language}, which is fixed: use another collection for {language}"
            )

    def last_full(self, connection_id: Id) -> wire.SourceConnectionJob | None:
        """The newest of the latest jobs that listed everything; None if there is none among them."""
        latest = self.jobs(connection_id, limit=LATEST)
        return next((job for job in latest if job.status == "completed" and job.mode == "full"), None)

    def run_or_join(self, connection_id: Id, *, full: bool = False) -> wire.SourceConnectionJob:
        """Start a job, or return the one that is already active."""
        newest = next(iter(self.jobs(connection_id, limit=1)), None)
        return newest if newest is not None and newest.status in ACTIVE else self.run(connection_id, full=full)

    def _find_collection(self, readable_id: str) -> wire.Collection | None:
        path = _collection(readable_id)
        answer = self._send("GET", path)
        return None if answer.status_code == 404 else self._parse(wire.Collection, self._check(answer, path).content)

    def _call(self, kind: type[T], method: str, path: str, body: BaseModel | None = None, **query: Any) -> T:
        return self._parse(kind, self._request(method, path, body, **query).content)

    def _pages(self, kind: type[T], path: str, **query: Any) -> list[T]:
        return list(self._rows(kind, path, **query))

    def _rows(self, kind: type[T], path: str, **query: Any) -> Iterator[T]:
        read = 0
        while True:
            page = self._call(list[kind], "GET", path, skip=read, limit=PAGE, **query)  # type: ignore[valid-type]
            yield from page
            read += len(page)
            if len(page) < PAGE:
                return

    def _request(self, method: str, path: str, body: BaseModel | None = None, **query: Any) -> httpx.Response:
        sent = None if body is None else body.model_dump(mode="json", exclude_unset=True)
        return self._check(self._send(method, path, json=sent, params=_without_none(query)), path)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _check(self, answer: httpx.Response, path: str) -> httpx.Response:
        if not answer.is_success:
            refusal = _describe_refusal(answer)
            message = f"{answer.request.method} {self.url}{path}: {refusal}"
            raise ClientError(message, status=answer.status_code, refusal=refusal)
        return answer

    def _events(self, path: str, body: BaseModel | None = None) -> Iterator[dict[str, Any]]:
        method = "GET" if body is None else "POST"
        sent = None if body is None else body.model_dump(mode="json", exclude_unset=True)
        try:
            with self._http.stream(method, path, json=sent) as answer:
                if not answer.is_success:
                    answer.read()
                for line in self._check(answer, path).iter_lines():
                    if not line.startswith("data:"):
                        continue
                    event = self._parse(dict[str, Any], line.removeprefix("data:"))
                    if event.get("type") == "error":
                        raise ClientError(f"{method} {self.url}{path}: {event.get('message')}")
                    if event.get("type") not in ("connected", "heartbeat"):
                        yield event
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _parse(self, kind: type[T], sent: bytes | str | dict[str, Any]) -> T:
        try:
            adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
            return adapter.validate_python(sent) if isinstance(sent, dict) else adapter.validate_json(sent)
        except ValidationError as error:
            first = next(iter(_errors(error)))
            place = ".".join(str(part) for part in first["loc"])
            why = f"{place}: {first['msg']}" if place else first["msg"]
            raise ClientError(f"{self.url} is not an Airweave server of this version ({why}); set API_URL") from None

    def _unreachable(self, error: httpx.HTTPError) -> ClientError:
        reason = str(error) or type(error).__name__
        return ClientError(f"no server answers at {self.url} ({reason}); start one with: airweave-server up")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _errors(error: ValidationError) -> list[Any]:
    return list(error.errors(include_input=False, include_url=False, include_context=False))


def _without_none(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _part(value: Id) -> str:
    return quote(str(value), safe="")


def _collection(readable_id: str) -> str:
    return f"/collections/{_part(readable_id)}"


def _connection(connection_id: Id) -> str:
    return f"/source-connections/{_part(connection_id)}"


def _subscription(subscription_id: Id) -> str:
    return f"/webhooks/subscriptions/{_part(subscription_id)}"


def _describe_refusal(answer: httpx.Response) -> str:
    plain = f"{answer.status_code} {answer.reason_phrase}"
    try:
        body = json.loads(answer.content)
    except ValueError:
        return plain
    if not isinstance(body, dict) or not body.keys() & {"errors", "detail"}:
        return plain
    if errors := body.get("errors"):
        return "; ".join(f"{place}: {text}" for part in errors for place, text in part.items())
    return str(body["detail"])
