"""Search in a collection."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from .. import plugins, wire
from ..errors import Unavailable
from ..sdk import ConfigError, EmbedderError
from ..search import hybrid
from ..search.hybrid import Found, Hit
from ..services import collections as service
from ..sync.vectors import embedder_of
from .deps import Organization, PartsOf

WORDS = "wordllama"  # comes with the server, and knows single words

router = APIRouter(prefix="/collections", tags=["search"])


@router.post("/{readable_id}/search/classic", summary="Search, as clients that ask for the classic tier call it")
@router.post("/{readable_id}/search/instant", summary="Search")
def search_instant(
    readable_id: str, body: wire.SearchRequest, parts: PartsOf, organization: Organization
) -> wire.SearchResponse:
    """Search a collection. Results are passages, best first: the best one of each entity, or all of them with
    ``group: chunk``."""
    # in a transaction of its own: a request must not hold one database connection while it waits for others
    with parts.database.session() as session:
        collection = service.get(session, organization, readable_id, missing=f"Collection '{readable_id}' not found.")
    query = hybrid.Query(
        text=body.query,
        strategy=body.retrieval_strategy,
        filter=body.filter or (),
        limit=body.limit,
        offset=body.offset,
        group=body.group,
    )
    vector, trust = None, 1.0
    if query.strategy != "keyword":
        try:
            embedder = embedder_of(collection, parts.settings)
            vector, trust = hybrid.embed_query(embedder, query), embedder.trust
        except (ConfigError, EmbedderError) as error:
            raise Unavailable(f"cannot embed the query: {error}; retrieval_strategy keyword works without") from None
    # if the collection is switching embedders now, the snapshot still has its former vectors
    with parts.database.snapshot() as snapshot:
        found = hybrid.search(
            snapshot,
            collection,
            vector,
            query,
            parts.database.read_concurrently,
            trust=trust,
            words=plugins.embedder(WORDS, parts.settings),
        )
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
