"""Search in a collection."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from .. import wire
from ..search import agent, hybrid
from ..search.agent import Event, Given, Outcome
from ..search.classic import Carried
from ..search.hybrid import Found, Hit
from ..search.planning import Plan
from . import searching
from .deps import Organization, Parts, PartsOf, ReadableId
from .gate import PLACE
from .lanes import Place
from .working import Work, describe_error, finish

HEARTBEAT = ": heartbeat\n\n"  # a comment, which clients skip

router = APIRouter(prefix="/collections", tags=["search"])


@router.post("/{readable_id}/search/instant", summary="Search")
def search_instant(
    readable_id: ReadableId, body: wire.SearchRequest, parts: PartsOf, organization: Organization
) -> wire.SearchResponse:
    """Search a collection. Results are passages, best first: the best one of each entity, or all of them with
    ``group: chunk``."""
    collection = searching.find_collection(parts, organization, readable_id)
    query = _read_query(body)
    found = searching.search(parts, collection, query, searching.embed(parts, collection, query))
    return _to_wire(found, explain=body.explain)


@router.post("/{readable_id}/search/classic", summary="Search by a plan", response_model=wire.SearchResponse)
async def search_classic(
    readable_id: ReadableId, body: wire.SearchRequest, request: Request, parts: PartsOf, organization: Organization
) -> wire.SearchResponse | Response:
    """Search a collection by a plan: other phrasings, what the best results have in common, and the filter that the
    query implies. A language model makes the plan if there is one, else rules do; the response has it. It takes a few
    times as long as the instant tier."""
    stop = threading.Event()

    def search() -> wire.SearchResponse:
        collection = searching.find_collection(parts, organization, readable_id)
        plan = searching.make_plan(parts, collection, body.query, stop)
        carried = searching.carry_out(parts, collection, plan, _read_query(body))
        return _to_wire(carried.found, explain=body.explain, plan=_plan_to_wire(plan, carried))

    return await finish(Work(search, stop.set), request)


@router.post("/{readable_id}/search/agentic", summary="Search by an agent", response_model=wire.AgenticSearchResponse)
async def search_agentic(
    readable_id: ReadableId,
    body: wire.AgenticSearchRequest,
    request: Request,
    parts: PartsOf,
    organization: Organization,
) -> wire.AgenticSearchResponse | Response:
    """Search a collection by an agent that searches, reads, counts and looks around. A language model decides on its
    steps if there is one, and answers from the results; else they follow a fixed plan."""
    stop = threading.Event()

    def search() -> wire.AgenticSearchResponse:
        collection = searching.find_collection(parts, organization, readable_id)
        for step in searching.run_agent(parts, collection, _read_agentic(body), stop):
            if isinstance(step, Outcome):
                return _outcome_to_wire(step)
        raise AssertionError("a run ends with its outcome")

    return await finish(Work(search, stop.set), request)


class AgentStream(StreamingResponse):
    """An agentic search as a stream of events."""

    media_type = "text/event-stream"


@router.post(
    "/{readable_id}/search/agentic/stream", summary="Search by an agent, as a stream", response_class=AgentStream
)
async def stream_agentic_search(
    readable_id: ReadableId,
    body: wire.AgenticSearchRequest,
    request: Request,
    parts: PartsOf,
    organization: Organization,
) -> AgentStream:
    """Search a collection by an agent, and stream each step that was taken as server-sent events: ``started``, then
    ``thinking`` and ``tool_call``, and last ``done`` with the results, or ``error``. If the client hangs up, the step
    that is running ends, and no other is begun."""
    collection = await run_in_threadpool(searching.find_collection, parts, organization, readable_id)
    place: Place = request.scope[PLACE]
    place.keep()  # the search has only begun when the response does
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stop = threading.Event()
    steps = searching.run_agent(parts, collection, _read_agentic(body), stop)
    started = {
        "tier": "agentic",
        "collection_readable_id": readable_id,
        **body.model_dump(mode="json", include={"query", "thinking", "filter", "limit"}),
    }
    return AgentStream(_stream(parts, steps, started, stop, place), headers=headers)


async def _stream(
    parts: Parts, steps: Iterator[Event | Outcome], started: dict[str, Any], stop: threading.Event, place: Place
) -> AsyncIterator[str]:
    """The events of one agentic search. The place is free when it is over, before its results are sent."""
    request_id = uuid4().hex
    try:
        yield _format_event("started", request_id=request_id, **started)
        while True:
            work = Work(partial(next, steps), stop.set)
            async for _ in work.heartbeats(parts.settings.progress_heartbeat_s):
                yield HEARTBEAT
            step, _ = work.result()
            if isinstance(step, Event):
                yield _format_event(step.type, **step.values)
                continue
            place.free()
            response = _outcome_to_wire(step).model_dump(mode="json")
            yield _format_event("done", **response, duration_ms=step.duration_ms, diagnostics=dict(step.diagnostics))
            return
    except Exception as error:  # the response has begun, so that no handler of the application can answer
        yield _format_event("error", request_id=request_id, duration_ms=None, **describe_error(error, request_id))
    finally:
        place.free()


def _format_event(type: str, **data: Any) -> str:
    return f"data: {json.dumps({'type': type, **data})}\n\n"


def _read_query(body: wire.SearchRequest) -> hybrid.Query:
    return hybrid.Query(
        text=body.query,
        strategy=body.retrieval_strategy,
        filter=body.filter or (),
        limit=body.limit,
        offset=body.offset,
        group=body.group,
    )


def _read_agentic(body: wire.AgenticSearchRequest) -> Given:
    limit = min(body.limit or agent.DEFAULT_LIMIT, hybrid.MAX_LIMIT)
    return Given(body.query, body.filter or (), limit, body.thinking)


def _plan_to_wire(plan: Plan, carried: Carried) -> dict[str, Any]:
    return {
        "by": plan.by,
        "reason": plan.note,
        "queries": list(plan.phrasings),
        "filter": list(plan.filter),
        "filter_matched": carried.is_filter_met,
        "words": list(carried.also),
    }


def _outcome_to_wire(outcome: Outcome) -> wire.AgenticSearchResponse:
    return wire.AgenticSearchResponse.model_validate(
        {
            "results": [_to_values(hit, explain=False) for hit in outcome.hits],
            "nothing_relevant": outcome.nothing_relevant,
            "did_you_mean": outcome.did_you_mean,
            "plan": _plan_to_wire(outcome.plan, outcome.first),
            "completion": outcome.answer,
            "completion_reason": outcome.answer_note,
        }
    )


def _to_wire(found: Found, *, explain: bool, plan: dict[str, Any] | None = None) -> wire.SearchResponse:
    # plain values and one validation for the page: 1,000 hits take 40 % less time than with a model built for each
    return wire.SearchResponse.model_validate(
        {
            "results": [_to_values(hit, explain=explain) for hit in found.hits],
            "nothing_relevant": found.nothing_relevant,
            "did_you_mean": found.did_you_mean,
            "plan": plan,
        }
    )


def _to_values(hit: Hit, *, explain: bool) -> dict[str, Any]:
    return {
        "entity_id": hit.chunk_id,
        "name": hit.name,
        "relevance_score": hit.score,
        "breadcrumbs": hit.breadcrumbs,
        "created_at": hit.created_at,
        "updated_at": hit.updated_at,
        "textual_representation": hit.text,
        "passage": {"start": hit.passage[0], "end": hit.passage[1], "text": hit.text[slice(*hit.passage)]},
        "highlights": [{"start": start, "end": end} for start, end in hit.highlights],
        "airweave_system_metadata": {
            "source_name": hit.source_name,
            "entity_type": hit.type,
            "sync_id": hit.connection_id,
            "sync_job_id": hit.job_id,
            "chunk_index": hit.ordinal,
            "original_entity_id": hit.entity_id,
        },
        "why": asdict(hit.why) if explain else None,
        "access": {},
        "web_url": hit.web_url or hit.url or "",
        "url": hit.url,
        "raw_source_fields": hit.fields,
    }
