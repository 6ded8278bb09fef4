"""Search in a collection."""

from fastapi import APIRouter

from ..errors import Unavailable
from ..sdk import ConfigError, EmbedderError
from ..search import hybrid
from ..search.hybrid import Hit
from ..services import collections as service
from ..sync.vectors import embedder_of
from . import wire
from .deps import Organization, PartsOf

router = APIRouter(prefix="/collections", tags=["search"])


@router.post("/{readable_id}/search/classic", summary="Search, as clients that ask for the classic tier call it")
@router.post("/{readable_id}/search/instant", summary="Search")
def search_instant(
    readable_id: str, body: wire.SearchRequest, parts: PartsOf, organization: Organization
) -> wire.SearchResponse:
    """The passages that answer, best first: the best one of each entity, or all with ``group: chunk``."""
    query = hybrid.Query(
        text=body.query, strategy=body.retrieval_strategy, filter=body.filter or (), limit=body.limit,
        offset=body.offset, group=body.group,
    )  # fmt: skip
    with parts.database.session() as session:
        collection = service.get(session, organization, readable_id, missing=f"Collection '{readable_id}' not found.")
    vector = None
    if query.strategy != "keyword":
        try:
            vector = hybrid.embedded(embedder_of(collection, parts.settings), query)
        except (ConfigError, EmbedderError) as error:
            raise Unavailable(f"the query cannot be embedded: {error}; without: retrieval_strategy keyword") from None
    with parts.database.snapshot() as snapshot:  # should the collection move just now, its former vectors still stand
        hits = hybrid.search(snapshot, collection, vector, query)
    return wire.SearchResponse(results=[_shown(hit) for hit in hits])


def _shown(hit: Hit) -> wire.SearchResult:
    return wire.SearchResult(
        entity_id=hit.chunk_id,
        name=hit.name,
        relevance_score=hit.score,
        breadcrumbs=[wire.SearchBreadcrumb.model_validate(crumb) for crumb in hit.breadcrumbs],
        created_at=hit.created_at,
        updated_at=hit.updated_at,
        textual_representation=hit.text,
        airweave_system_metadata=wire.SearchSystemMetadata(
            source_name=hit.source_name,
            entity_type=hit.type,
            sync_id=hit.connection_id,
            sync_job_id=hit.job_id,
            chunk_index=hit.ordinal,
            original_entity_id=hit.entity_id,
        ),
        access=wire.SearchAccess(),
        web_url=hit.web_url or hit.url or "",
        url=hit.url,
        raw_source_fields=hit.fields,
    )
