"""The steps of a search, for all routes that search."""

from dataclasses import dataclass

from .. import plugins
from ..db.models import Collection
from ..errors import Unavailable
from ..sdk import ConfigError, EmbedderError, Vectors
from ..search import hybrid
from ..search.hybrid import Found, Query
from ..services import collections as service
from ..sync.vectors import embedder_of
from .deps import Organization, Parts

WORDS = "wordllama"  # comes with the server, and knows single words


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of a query, None to search by words alone, and how much it is trusted."""

    vector: Vectors | None = None
    trust: float = 1.0


def find_collection(parts: Parts, organization: Organization, readable_id: str) -> Collection:
    """The collection, detached from its transaction, which has ended: a request must not hold one database connection
    while it waits for others. Raises ``NotFound``."""
    with parts.database.session() as session:
        return service.get(session, organization, readable_id, missing=f"Collection '{readable_id}' not found.")


def embed(parts: Parts, collection: Collection, query: Query) -> Embedded:
    """Embed the query, unless it is searched for by words alone. Raises ``Unavailable``."""
    if query.strategy == "keyword":
        return Embedded()
    try:
        embedder = embedder_of(collection, parts.settings)
        return Embedded(hybrid.embed_query(embedder, query), embedder.trust)
    except (ConfigError, EmbedderError) as error:
        raise Unavailable(f"cannot embed the query: {error}; the strategy keyword works without") from None


def search(parts: Parts, collection: Collection, query: Query, embedded: Embedded) -> Found:
    """The hits of one page. If the collection is switching embedders now, the snapshot still has its former vectors."""
    with parts.database.snapshot() as snapshot:
        return hybrid.search(
            snapshot,
            collection,
            embedded.vector,
            query,
            parts.database.read_concurrently,
            trust=embedded.trust,
            words=plugins.embedder(WORDS, parts.settings),
        )
