# mypy: disable-error-code="import-not-found,misc"
"""LlamaIndex: an ingestion pipeline with a document store that tells what changed, to a LanceDB table. One phase a
process."""

from typing import Any

import common
import lancedb
import pyarrow as pa
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import Document, NodeRelationship, TextNode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

ASKED = common.arguments()
EMBED = common.embedder(ASKED.embedder)
EMBED_AT_ONCE = 16  # the fastest for this model: it pads to the longest of a batch
TABLE = "chunks"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("document", pa.string()),
        ("text", pa.string()),
        ("vector", pa.list_(pa.float32(), common.DIMENSIONS)),
    ]
)


class Embedding(BaseEmbedding):
    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = EMBED(texts).tolist()
        return vectors


class Splitter(TransformComponent):
    def __call__(self, nodes: Any, **_: Any) -> list[Any]:
        return [
            TextNode(text=text, relationships={NodeRelationship.SOURCE: document.as_related_node_info()})
            for document in nodes
            for text in common.split(document.get_content())
        ]


class Store(BasePydanticVectorStore):
    """The least that a pipeline needs of a vector store."""

    stores_text: bool = True
    table: Any = None
    files: set[str] = set()  # noqa: RUF012 - pydantic copies it
    chunks: int = 0

    @property
    def client(self) -> Any:
        return self.table

    def add(self, nodes: Any, **_: Any) -> list[str]:
        rows = [{"id": n.node_id, "document": n.ref_doc_id, "text": n.text, "vector": n.embedding} for n in nodes]
        if rows:
            self.table.add(pa.Table.from_pylist(rows, SCHEMA))
        self.chunks += len(rows)
        self.files |= {row["document"] for row in rows}
        return [row["id"] for row in rows]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        self.table.delete("document = '" + ref_doc_id.replace("'", "''") + "'")

    def query(self, query: Any, **_: Any) -> Any:
        raise NotImplementedError


def main() -> None:
    database = lancedb.connect(str(ASKED.state / "lance"))
    first = ASKED.phase == "initial"
    table = database.create_table(TABLE, schema=SCHEMA) if first else database.open_table(TABLE)
    kept = str(ASKED.state / "documents.json")
    began_at = common.now()
    documents = SimpleDocumentStore() if first else SimpleDocumentStore.from_persist_path(kept)
    store = Store(table=table)
    pipeline = IngestionPipeline(
        transformations=[Splitter(), Embedding(model_name="wordllama", embed_batch_size=EMBED_AT_ONCE)],
        docstore=documents,
        docstore_strategy=DocstoreStrategy.UPSERTS,
        vector_store=store,
        disable_cache=True,
    )
    paths = sorted(ASKED.folder.iterdir())
    pipeline.run(documents=[Document(text=path.read_text(encoding="utf-8"), id_=path.name) for path in paths])
    documents.persist(kept)
    if first:
        table.create_fts_index("text", with_position=False)
        if ASKED.vector_index:
            table.create_index(metric="cosine", vector_column_name="vector")
    elif store.chunks:
        table.optimize()
    ended_at = common.now()
    common.report(began_at, ended_at, files=len(store.files), chunks=store.chunks, table=table, words=ASKED.words)


main()
