"""Fills collections the way a job does, and searches them the way the API does."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from airweave_server.db import chunks, collections, ledger
from airweave_server.db.models import Collection, SourceConnection
from airweave_server.db.session import Database
from airweave_server.embedders.local import WordLlama
from airweave_server.search.hybrid import Found, Hit, Query, embed_query, search
from airweave_server.text.identifiers import index_terms
from airweave_server.wire import FilterGroup

WORDLLAMA = WordLlama()


class Library:
    """One collection of a test's own, with a first connection."""

    def __init__(self, database: Database, *, organization_id: UUID | None = None, language: str = "english") -> None:
        self.database = database
        with database.session() as session:
            owner = organization_id or collections.organization(session).id
            self.collection = Collection(
                organization_id=owner,
                readable_id=f"library-{uuid4().hex[:6]}",
                name="Library",
                embedder="wordllama",
                embedder_name=WORDLLAMA.name,
                dimensions=WORDLLAMA.dimensions,
                language=language,
            )
            session.add(self.collection)
        self.connection = self.connect("folder")

    def connect(self, short_name: str) -> SourceConnection:
        with self.database.session() as session:
            connection = SourceConnection(
                organization_id=self.collection.organization_id,
                collection_id=self.collection.id,
                short_name=short_name,
                name=short_name,
                config={},
            )
            session.add(connection)
        return connection

    def put(
        self,
        entity_id: str,
        *texts: str,
        to: SourceConnection | None = None,
        name: str = "",
        type: str = "FileEntity",
        job_id: UUID | None = None,
        heading: str = "",
        breadcrumbs: Sequence[dict[str, str]] = (),
        created_at: datetime | None = None,
        updated_at: datetime | None = None,
        web_url: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Write an entity and a chunk for each text."""
        connection = to or self.connection
        entry = ledger.Entry(
            entity_id=entity_id,
            name=name or entity_id,
            type=type,
            scope="",
            state=ledger.INDEXED,
            chunks=len(texts),
            fingerprint=b"f",
            metadata_fingerprint=b"m",
            breadcrumbs=breadcrumbs,
            created_at=created_at,
            updated_at=updated_at,
            web_url=web_url,
            fields=fields,
        )
        vectors = chunks.encode_vectors(WORDLLAMA.embed(texts))
        with self.database.session() as session:
            rows = ledger.write(
                session,
                [entry],
                organization_id=self.collection.organization_id,
                collection_id=self.collection.id,
                connection_id=connection.id,
                job_id=job_id or uuid4(),
            )
            chunks.drop(session, list(rows.values()))
            new = [
                chunks.NewChunk(
                    n, heading, text, hashlib.sha256(text.encode()).digest(), (vector, None), index_terms(text)
                )
                for n, (text, vector) in enumerate(zip(texts, vectors, strict=True))
            ]
            chunks.insert(
                session,
                [(rows[entity_id], chunk) for chunk in new],
                collection_id=self.collection.id,
                connection_id=connection.id,
            )

    def put_many(self, texts: Mapping[str, str], *, marked: int) -> None:
        """Write entities of one chunk each, at once. The name of each so-and-so-manieth is ``marked``."""
        entries = [
            ledger.Entry(
                entity_id=entity_id,
                name="plain" if n % marked else "marked",
                type="FileEntity",
                scope="",
                state=ledger.INDEXED,
                chunks=1,
                fingerprint=b"f",
                metadata_fingerprint=b"m",
            )
            for n, entity_id in enumerate(texts)
        ]
        vectors = dict(zip(texts, chunks.encode_vectors(WORDLLAMA.embed(list(texts.values()))), strict=True))
        with self.database.session() as session:
            rows = ledger.write(
                session,
                entries,
                organization_id=self.collection.organization_id,
                collection_id=self.collection.id,
                connection_id=self.connection.id,
                job_id=uuid4(),
            )
            new = [
                (rows[key], chunks.NewChunk(0, "", text, text.encode(), (vectors[key], None), index_terms(text)))
                for key, text in texts.items()
            ]
            chunks.insert(session, new, collection_id=self.collection.id, connection_id=self.connection.id)

    def search(self, text: str, *, filter: Sequence[dict[str, Any]] = (), **how: Any) -> list[Hit]:
        """``filter`` is in the form of the wire."""
        groups = [FilterGroup.model_validate(group) for group in filter]
        with self.database.snapshot() as session:
            return self.search_in(session, Query(text, filter=groups, **how))

    def found(self, query: Query) -> Found:
        with self.database.snapshot() as session:
            return self.found_in(session, query)

    def search_in(self, snapshot: Session, query: Query) -> list[Hit]:
        return list(self.found_in(snapshot, query).hits)

    def found_in(self, snapshot: Session, query: Query) -> Found:
        vector = embed_query(WORDLLAMA, query) if query.strategy != "keyword" else None
        return search(
            snapshot,
            self.collection,
            vector,
            query,
            self.database.read_concurrently,
            trust=WORDLLAMA.trust,
            words=WORDLLAMA,
        )

    def ids(self, text: str, **how: Any) -> list[str]:
        return [hit.entity_id for hit in self.search(text, **how)]
