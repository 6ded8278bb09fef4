"""The search of the time before there were tiers, for the clients that know no other. It is deprecated. It finds what
the instant tier finds, or the classic one if it asks for other phrasings or filters, and shows it under its own names.
"""

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from .. import wire
from ..db.models import Collection
from ..errors import BadInput, InvalidState, Unavailable
from ..search import agent, hybrid, legacy_filters
from ..search.hybrid import Found, Hit
from . import searching
from .answers import may_raise
from .deps import Organization, Parts, PartsOf, ReadableId
from .gate import PLACE
from .lanes import Place
from .working import Work, describe_error

INSTEAD = "use POST /collections/{readable_id}/search/instant, classic or agentic"
DEPRECATION = {"X-API-Deprecation": "true", "X-API-Deprecation-Message": f"This search is deprecated; {INSTEAD}."}
SHOWN_SCORES = 3  # in an event

router = APIRouter(prefix="/collections", tags=["legacy search"])


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
    def needs_answer(self) -> bool:
        """Whether it asks for a completion and nothing else."""
        return self.body.response_type == "completion"

    @property
    def wants_answer(self) -> bool:
        return self.needs_answer or (self.body.generate_answer is not False and not self.body.is_legacy)

    @property
    def is_expanded(self) -> bool:
        """Whether it asks for other phrasings."""
        return self.body.expand_query is True or self.body.expansion_strategy in ("auto", "llm")

    @property
    def is_planned(self) -> bool:
        return self.is_expanded or self.is_interpreted

    @property
    def is_interpreted(self) -> bool:
        """Whether it asks for the filter that the query implies."""
        return self.body.interpret_filters is True or self.body.enable_query_interpretation is True

    @property
    def headers(self) -> dict[str, str]:
        if not self.removed:
            return DEPRECATION
        names = ", ".join(self.removed)
        message = f"{names} has been removed and has no effect"
        return {**DEPRECATION, "X-Feature-Removed": names, "X-Feature-Removed-Message": message}


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, or why there is none; neither if none was asked for."""

    text: str | None = None
    reason: str | None = None


@router.get("/internal/filter-schema", deprecated=True, summary="The schema of the filters of the legacy search")
async def get_legacy_filter_schema(response: Response, _: Organization) -> dict[str, Any]:
    """Get the JSON schema of the filters that the legacy search takes."""
    response.headers.update(DEPRECATION)
    return legacy_filters.SCHEMA


@router.get(
    "/{readable_id}/search",
    deprecated=True,
    summary="Search, as former clients call it, by parameters",
    responses=may_raise(InvalidState),
)
def search_legacy_by_query(
    readable_id: ReadableId,
    query: Annotated[wire.QueryText, Query(description="What is searched for.")],
    response: Response,
    parts: PartsOf,
    organization: Organization,
    response_type: Annotated[
        wire.ResponseType, Query(description="raw for results; completion also for an answer.")
    ] = "raw",
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many results to return, at most.")] = 100,
    offset: Annotated[
        int, Query(ge=0, le=1_000_000, description="How many results to leave out at the beginning.")
    ] = 0,
    recency_bias: Annotated[float | None, Query(description="Removed; it has no effect.")] = None,
) -> wire.LegacySearchResponse:
    """Search a collection. ``response_type`` ``completion`` asks for an answer, and needs a language model."""
    given = {"query": query, "response_type": response_type, "limit": limit, "offset": offset}
    body = wire.UntieredSearchRequest.model_validate(given)
    asked = _check(parts, body, removed=("recency_bias",) if recency_bias else ())
    collection = searching.find_collection(parts, organization, readable_id)
    response.headers.update(asked.headers)
    found = _search(parts, collection, asked)
    return _to_legacy(asked, found, _answer(parts, asked, found))


@router.post(
    "/{readable_id}/search",
    deprecated=True,
    summary="Search, as former clients call it",
    responses=may_raise(InvalidState),
)
def search_legacy(
    readable_id: ReadableId,
    body: wire.UntieredSearchRequest,
    response: Response,
    parts: PartsOf,
    organization: Organization,
) -> wire.LegacySearchResponse | wire.UntieredSearchResponse:
    """Search a collection. The fields decide which of the two forms the request has, and with it the response: with one
    of ``response_type``, ``search_method``, ``score_threshold``, ``recency_bias``, ``expansion_strategy``,
    ``enable_reranking`` and ``enable_query_interpretation``, the response has ``response_type`` and ``status``."""
    asked = _check(parts, body)
    collection = searching.find_collection(parts, organization, readable_id)
    response.headers.update(asked.headers)
    found = _search(parts, collection, asked)
    answer = _answer(parts, asked, found)
    return _to_legacy(asked, found, answer) if body.is_legacy else _to_untiered(found, answer)


class SearchStream(StreamingResponse):
    """A search as a stream of events."""

    media_type = "text/event-stream"


@router.post(
    "/{readable_id}/search/stream",
    deprecated=True,
    summary="Search, as former clients call it, as a stream",
    response_class=SearchStream,
    responses=may_raise(InvalidState),
)
async def stream_legacy_search(
    readable_id: ReadableId,
    body: wire.UntieredSearchRequest,
    request: Request,
    parts: PartsOf,
    organization: Organization,
) -> SearchStream:
    """Search a collection, and stream what is done as server-sent events: ``connected``, ``start``,
    ``embedding_start``, ``embedding_done``, ``vector_search_start``, ``vector_search_done``, ``results``, and last
    ``done``; ``error`` if the search fails, and ``heartbeat`` while it takes its time."""
    asked = _check(parts, body)
    collection = await run_in_threadpool(searching.find_collection, parts, organization, readable_id)
    place: Place = request.scope[PLACE]
    place.keep()  # the search has only begun when the response does
    headers = {**asked.headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return SearchStream(_stream(parts, collection, asked, place), headers=headers)


def _check(parts: Parts, body: wire.UntieredSearchRequest, *, removed: tuple[str, ...] = ()) -> Asked:
    """The request, checked. Raises ``RequestValidationError`` for its filter, and ``InvalidState`` if it asks for a
    completion and nothing else, and there is no language model."""
    if body.response_type == "completion" and not searching.has_llm(parts.settings):
        raise InvalidState(f"{agent.NO_LLM}; ask for response_type raw, which returns results")
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
    if asked.is_planned:
        return _search_by_plan(parts, collection, asked)
    return searching.search(parts, collection, asked.query, searching.embed(parts, collection, asked.query))


def _search_by_plan(parts: Parts, collection: Collection, asked: Asked) -> Found:
    plan = searching.make_plan(parts, collection, asked.query.text, threading.Event())
    if not asked.is_expanded:
        plan = replace(plan, phrasings=plan.phrasings[:1])
    if not asked.is_interpreted:
        plan = replace(plan, filter=())
    return searching.carry_out(parts, collection, plan, asked.query).found


def _answer(parts: Parts, asked: Asked, found: Found, stop: threading.Event | None = None) -> Answer:
    """The completion, if one is asked for. Raises ``Unavailable`` if nothing else is asked for and there is none."""
    if not asked.wants_answer:
        return Answer()
    text, reason = searching.answer(parts, asked.query.text, found.hits, stop or threading.Event())
    if text is None and asked.needs_answer and found.hits:
        raise Unavailable(f"{reason}; ask for response_type raw, which returns results")
    return Answer(text, reason)


def _to_legacy(asked: Asked, found: Found, answer: Answer) -> wire.LegacySearchResponse:
    status = "no_results"
    if found.hits:
        status = "no_relevant_results" if found.nothing_relevant else "success"
    return wire.LegacySearchResponse.model_validate(
        {**_to_values(found, answer), "response_type": asked.response_type, "status": status}
    )


def _to_untiered(found: Found, answer: Answer) -> wire.UntieredSearchResponse:
    return wire.UntieredSearchResponse.model_validate(_to_values(found, answer))


def _to_values(found: Found, answer: Answer) -> dict[str, Any]:
    return {
        "results": [_hit_to_values(hit) for hit in found.hits],
        "completion": answer.text,
        "completion_reason": answer.reason,
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
        if query.strategy != "keyword" and not asked.is_planned:
            yield _format_event("embedding_start")
            embedding = Work(partial(searching.embed, parts, collection, query))
            async for _ in embedding.heartbeats(heartbeat_s):
                yield _format_event("heartbeat")
            embedded, took_ms = embedding.result()
            yield _format_event("embedding_done", duration_ms=took_ms)
        yield _format_event("vector_search_start")
        search = partial(searching.search, parts, collection, query, embedded)
        finding = Work(partial(_search_by_plan, parts, collection, asked) if asked.is_planned else search)
        async for _ in finding.heartbeats(heartbeat_s):
            yield _format_event("heartbeat")
        found, took_ms = finding.result()
        scores = [hit.score for hit in found.hits[:SHOWN_SCORES]]
        yield _format_event("vector_search_done", final_count=len(found.hits), top_scores=scores, duration_ms=took_ms)
        stop = threading.Event()
        answering = Work(partial(_answer, parts, asked, found, stop), stop.set)
        async for _ in answering.heartbeats(heartbeat_s):
            yield _format_event("heartbeat")
        answer, _ = answering.result()
        place.free()
        response = _to_legacy(asked, found, answer) if asked.body.is_legacy else _to_untiered(found, answer)
        yield _format_event("results", **response.model_dump(mode="json"))
    except Exception as error:  # the response has begun, so that no handler of the application can answer
        yield _format_event("error", request_id=request_id, **describe_error(error, request_id))
    finally:
        place.free()
    yield _format_event("done")


def _format_event(type: str, **data: Any) -> str:
    now = datetime.now(UTC).replace(tzinfo=None)  # as all times of the API
    return f"data: {json.dumps({'type': type, 'ts': now.isoformat(), **data})}\n\n"
