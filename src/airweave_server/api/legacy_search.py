"""The search of the time before there were tiers, for the clients that know no other. It is deprecated; it finds what
the instant tier finds, and shows it under its own names."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Generic, TypeVar
from uuid import uuid4

import structlog
from anyio import CancelScope
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from .. import wire
from ..db.models import Collection
from ..errors import BadInput, InvalidState, ServiceError, Unavailable
from ..search import hybrid, legacy_filters
from ..search.hybrid import Found, Hit
from . import searching
from .answers import answer_database_error
from .deps import Organization, Parts, PartsOf
from .gate import PLACE
from .lanes import Place

INSTEAD = "use POST /collections/{readable_id}/search/instant, classic or agentic"
DEPRECATION = {"X-API-Deprecation": "true", "X-API-Deprecation-Message": f"This search is deprecated; {INSTEAD}."}
NO_LLM = "this server has no language model, which a completion needs"
SHOWN_SCORES = 3  # in an event

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/collections", tags=["legacy search"])

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, checked. ``removed``: features that it asks for and that are gone."""

    body: wire.UntieredSearchRequest
    query: hybrid.Query
    removed: tuple[str, ...]

    @property
    def response_type(self) -> wire.ResponseType:
        return self.body.response_type or "raw"

    @property
    def wants_answer(self) -> bool:
        return self.body.generate_answer is not False and not self.body.is_legacy

    @property
    def headers(self) -> dict[str, str]:
        if not self.removed:
            return DEPRECATION
        names = ", ".join(self.removed)
        message = f"{names} has been removed and has no effect"
        return {**DEPRECATION, "X-Feature-Removed": names, "X-Feature-Removed-Message": message}


@router.get("/internal/filter-schema", deprecated=True, summary="The schema of the filters of the legacy search")
async def get_filter_schema(response: Response, _: Organization) -> dict[str, Any]:
    """Get the JSON schema of the filters that the legacy search takes."""
    response.headers.update(DEPRECATION)
    return legacy_filters.SCHEMA


@router.get("/{readable_id}/search", deprecated=True, summary="Search, as former clients call it")
def search_by_query(
    readable_id: str,
    query: Annotated[wire.QueryText, Query()],
    response: Response,
    parts: PartsOf,
    organization: Organization,
    response_type: wire.ResponseType = "raw",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    recency_bias: Annotated[float | None, Query(description="Removed; it has no effect.")] = None,
) -> wire.LegacySearchResponse:
    """Search a collection. ``response_type`` ``completion`` asks for an answer in place of results, and needs a
    language model."""
    given = {"query": query, "response_type": response_type, "limit": limit, "offset": offset}
    body = wire.UntieredSearchRequest.model_validate(given)
    asked = _check(body, removed=("recency_bias",) if recency_bias else ())
    collection = searching.find_collection(parts, organization, readable_id)
    response.headers.update(asked.headers)
    return _to_legacy(asked, _search(parts, collection, asked))


@router.post("/{readable_id}/search", deprecated=True, summary="Search, as former clients call it")
def search(
    readable_id: str,
    body: wire.UntieredSearchRequest,
    response: Response,
    parts: PartsOf,
    organization: Organization,
) -> wire.LegacySearchResponse | wire.UntieredSearchResponse:
    """Search a collection. The fields decide which of the two forms the request has, and with it the response: with one
    of ``response_type``, ``search_method``, ``score_threshold``, ``recency_bias``, ``expansion_strategy``,
    ``enable_reranking`` and ``enable_query_interpretation``, the response has ``response_type`` and ``status``."""
    asked = _check(body)
    collection = searching.find_collection(parts, organization, readable_id)
    response.headers.update(asked.headers)
    found = _search(parts, collection, asked)
    return _to_legacy(asked, found) if body.is_legacy else _to_untiered(asked, found)


class SearchStream(StreamingResponse):
    """A search as a stream of events."""

    media_type = "text/event-stream"


@router.post(
    "/{readable_id}/search/stream",
    deprecated=True,
    summary="Search, as former clients call it, as a stream",
    response_class=SearchStream,
)
async def stream_search(
    readable_id: str, body: wire.UntieredSearchRequest, request: Request, parts: PartsOf, organization: Organization
) -> SearchStream:
    """Search a collection, and stream what is done as server-sent events: ``connected``, ``start``,
    ``embedding_start``, ``embedding_done``, ``vector_search_start``, ``vector_search_done``, ``results``, and last
    ``done``; ``error`` if the search fails, and ``heartbeat`` while it takes its time."""
    asked = _check(body)
    collection = await run_in_threadpool(searching.find_collection, parts, organization, readable_id)
    place: Place = request.scope[PLACE]
    place.keep()  # the search has only begun when the response does
    headers = {**asked.headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return SearchStream(_stream(parts, collection, asked, place), headers=headers)


def _check(body: wire.UntieredSearchRequest, *, removed: tuple[str, ...] = ()) -> Asked:
    """The request, checked. Raises ``RequestValidationError`` for its filter, and ``InvalidState`` if it asks for a
    completion and nothing else."""
    if body.response_type == "completion":
        raise InvalidState(f"{NO_LLM}; ask for response_type raw, which returns results")
    try:
        groups = legacy_filters.to_groups(body.filter, place="body.filter") if body.filter is not None else []
    except BadInput as flaw:  # former Python SDKs cannot read a 422 whose ``detail`` is a text
        raise RequestValidationError([{"loc": (flaw.field,), "msg": str(flaw), "type": "value_error"}]) from None
    if body.source_connection_ids is not None:
        groups = legacy_filters.narrow_to_connections(groups, [str(each) for each in body.source_connection_ids])
    query = hybrid.Query(
        text=body.query,
        strategy=body.strategy,
        filter=groups,
        limit=body.limit or 100,
        offset=body.offset or 0,
    )
    gone = [name for name in ("temporal_relevance", "recency_bias") if (getattr(body, name) or 0) > 0]
    return Asked(body, query, (*removed, *gone))


def _search(parts: Parts, collection: Collection, asked: Asked) -> Found:
    return searching.search(parts, collection, asked.query, searching.embed(parts, collection, asked.query))


def _to_legacy(asked: Asked, found: Found) -> wire.LegacySearchResponse:
    status = "no_results"
    if found.hits:
        status = "no_relevant_results" if found.nothing_relevant else "success"
    return wire.LegacySearchResponse.model_validate(
        {**_to_values(asked, found), "response_type": asked.response_type, "status": status}
    )


def _to_untiered(asked: Asked, found: Found) -> wire.UntieredSearchResponse:
    return wire.UntieredSearchResponse.model_validate(_to_values(asked, found))


def _to_values(asked: Asked, found: Found) -> dict[str, Any]:
    return {
        "results": [_hit_to_values(hit) for hit in found.hits],
        "completion": None,
        "completion_reason": NO_LLM if asked.wants_answer else None,
    }


def _hit_to_values(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.chunk_id,
        "score": hit.score,
        "entity_id": hit.chunk_id,
        "name": hit.name,
        "textual_representation": hit.text,
        "created_at": hit.created_at,
        "updated_at": hit.updated_at,
        "breadcrumbs": hit.breadcrumbs,
        "system_metadata": {
            "entity_type": hit.type,
            "source_name": hit.source_name,
            "sync_id": hit.connection_id,
            "sync_job_id": hit.job_id,
            "original_entity_id": hit.entity_id,
            "chunk_index": hit.ordinal,
        },
        "access": {},
        "source_fields": hit.fields,
        "web_url": hit.web_url or hit.url or "",
        "url": hit.url,
    }


class Work(Generic[T]):
    """A call that blocks, on a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._began_at = time.monotonic()
        self._task = asyncio.ensure_future(run_in_threadpool(call))

    async def heartbeats(self, every_s: float) -> AsyncIterator[None]:
        """Yield after each ``every_s`` seconds, until the call has ended. A call cannot be stopped: if nobody waits any
        more, wait for its end, so that nothing runs without a place."""
        try:
            while not (await asyncio.wait({self._task}, timeout=every_s))[0]:
                yield None
        finally:
            with CancelScope(shield=True):
                await asyncio.wait({self._task})
            self._task.exception()  # seen, even if nobody asks for the result

    def result(self) -> tuple[T, int]:
        """What the call has returned, or raise what it has raised; and how long it took, in ms."""
        return self._task.result(), round((time.monotonic() - self._began_at) * 1_000)


async def _stream(parts: Parts, collection: Collection, asked: Asked, place: Place) -> AsyncIterator[str]:
    """The events of one search. The place is free when it is over, before its results are sent."""
    query, request_id = asked.query, uuid4().hex
    heartbeat_s = parts.settings.progress_heartbeat_s
    try:
        yield _format_event("connected", request_id=request_id)
        yield _format_event(
            "start", query=query.text, limit=query.limit, offset=query.offset, retrieval_strategy=query.strategy
        )
        embedded = searching.Embedded()
        if query.strategy != "keyword":
            yield _format_event("embedding_start")
            embedding = Work(partial(searching.embed, parts, collection, query))
            async for _ in embedding.heartbeats(heartbeat_s):
                yield _format_event("heartbeat")
            embedded, took_ms = embedding.result()
            yield _format_event("embedding_done", duration_ms=took_ms)
        yield _format_event("vector_search_start")
        finding = Work(partial(searching.search, parts, collection, query, embedded))
        async for _ in finding.heartbeats(heartbeat_s):
            yield _format_event("heartbeat")
        found, took_ms = finding.result()
        place.free()
        scores = [hit.score for hit in found.hits[:SHOWN_SCORES]]
        yield _format_event("vector_search_done", final_count=len(found.hits), top_scores=scores, duration_ms=took_ms)
        answer = _to_legacy(asked, found) if asked.body.is_legacy else _to_untiered(asked, found)
        yield _format_event("results", **answer.model_dump(mode="json"))
    except Exception as error:  # the response has begun, so that no handler of the application can answer
        yield _format_event("error", request_id=request_id, **_describe(error, request_id))
    finally:
        place.free()
    yield _format_event("done")


def _describe(error: Exception, request_id: str) -> dict[str, Any]:
    """The error of a stream, as its event shows it. ``transient``: the same search may work later."""
    if isinstance(error, ServiceError):
        return {"message": str(error), "transient": isinstance(error, Unavailable)}
    if isinstance(error, SQLAlchemyError) and (answer := answer_database_error(error)) is not None:
        return {"message": json.loads(bytes(answer.body))["detail"], "transient": True}
    log.error("request_failed", request=request_id, exc_info=error)
    return {"message": f"Internal Server Error; the log has it as request {request_id}", "transient": False}


def _format_event(type: str, **data: Any) -> str:
    now = datetime.now(UTC).replace(tzinfo=None)  # as all times of the API
    return f"data: {json.dumps({'type': type, 'ts': now.isoformat(), **data})}\n\n"
