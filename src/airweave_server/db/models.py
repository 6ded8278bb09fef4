"""All tables, as SQLAlchemy models, and the enumerations of their columns."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from ..wire import ENGLISH

VECTORS = ("embedding", "embedding_2")  # the vector columns of a chunk, for slot 1 and slot 2 of its collection


# Columns of these types are plain text, because a later version may have written a value that is not listed here.
class Status(StrEnum):
    """The state of a job. The public API uses the same words."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """The step that a job needs next."""

    OPEN = "open"
    READ = "read"
    DELETE = "delete"
    DONE = "done"


class Mode(StrEnum):
    """What a job reads: everything, the changes, or the indexed chunks."""

    FULL = "full"
    INCREMENTAL = "incremental"
    REEMBED = "reembed"


class Trigger(StrEnum):
    """What started a job."""

    API = "api"
    REFRESH_ALL = "refresh_all"
    SCHEDULE = "schedule"
    CONFIG_CHANGE = "config_change"
    RETRY = "retry"
    APPROVAL = "approval"
    REPAIR = "repair"
    REEMBED = "reembed"


class Role(StrEnum):
    """What an API key may do; each role may do what those before it may. ``api/roles.py`` says what each route
    needs."""

    READER = "reader"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do all that the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class Engine(StrEnum):
    """Which driver decides a job's next step."""

    TEMPORAL = "temporal"
    IN_PROCESS = "in_process"


class PartitionState(StrEnum):
    """``OPEN``: not read yet, or not read to its end."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


ACTIVE = (Status.PENDING, Status.RUNNING, Status.CANCELLING)  # a connection has at most one active job
IS_ACTIVE = f"status in ({', '.join(repr(str(status)) for status in ACTIVE)})"  # the same in SQL


class HalfVec(UserDefinedType[Any]):
    """pgvector's half-precision vector, without fixed dimensions."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "halfvec"


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        str: Text,
        Status: Text,
        Phase: Text,
        Mode: Text,
        Trigger: Text,
        Engine: Text,
        Role: Text,
        PartitionState: Text,
        bytes: LargeBinary,
        int: BigInteger,
    }


class Organization(Base):
    """An organization. ``is_first``: it is the one of a server without authentication, and local sources are its own;
    at most one is."""

    __tablename__ = "organization"
    __table_args__ = (Index("organization_first", "is_first", unique=True, postgresql_where=text("is_first")),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    is_first: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """An API key. Only its SHA-256 is stored; the key itself is shown once, when it is created."""

    __tablename__ = "api_key"
    __table_args__ = (CheckConstraint("role in ('reader', 'editor', 'admin')", name="api_key_role"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(default="")
    role: Mapped[Role] = mapped_column(default=Role.ADMIN, server_default=Role.ADMIN)
    hint: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


INDEX_VERSION = 2  # the form in which words and identifiers are stored; older ones are worded anew


class Collection(Base):
    """A collection. ``deleted_at`` hides it at once; the keeper purges its content later.

    ``slot``: which of a chunk's two vectors is searched; ``embedder*`` and ``dimensions`` describe it. ``other_*``
    describe the other vector; null unless all of them are known to be of one model. ``next_*``: the embedder that a
    move leads to, when the move began, and the number of the last job before it; null if none is under way.
    ``index_version``: the form of its words, as ``INDEX_VERSION`` counts. While that is an older one, the chunks of the
    entities up to ``worded_row`` have the present form already.
    """

    __tablename__ = "collection"
    __table_args__ = (
        Index(
            "collection_readable_id",
            "organization_id",
            "readable_id",
            unique=True,
            postgresql_where=text("deleted_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    readable_id: Mapped[str]
    name: Mapped[str]
    sync_config: Mapped[dict[str, Any] | None]
    embedder: Mapped[str]
    embedder_name: Mapped[str]
    dimensions: Mapped[int]
    slot: Mapped[int] = mapped_column(SmallInteger, default=1, server_default="1")
    index_version: Mapped[int] = mapped_column(default=INDEX_VERSION, server_default="1")
    worded_row: Mapped[int | None]
    other_name: Mapped[str | None]
    other_dimensions: Mapped[int | None]
    next_embedder: Mapped[str | None]
    next_name: Mapped[str | None]
    next_dimensions: Mapped[int | None]
    next_since: Mapped[datetime | None]
    next_after_job: Mapped[int | None]
    language: Mapped[str] = mapped_column(server_default=ENGLISH)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]

    @property
    def searched(self) -> str:
        """The vector column of ``chunk`` that is searched."""
        return VECTORS[self.slot - 1]

    @property
    def other(self) -> str:
        """The vector column of ``chunk`` that a move fills."""
        return VECTORS[2 - self.slot]


class CollectionSize(Base):
    """The size of a collection when the keeper last counted its words, at ``counted_at`` (null while the collection is
    too small to be counted). ``looked_at``: when the keeper last checked whether the count still holds."""

    __tablename__ = "collection_size"

    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True)
    chunks: Mapped[int]
    mean_bytes: Mapped[float]
    counted_at: Mapped[datetime | None]
    looked_at: Mapped[datetime]


class CollectionWord(Base):
    """About how many chunks of a collection contain a word: a stem or a part of an identifier. Rare words are left
    out."""

    __tablename__ = "collection_word"

    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True)
    word: Mapped[str] = mapped_column(primary_key=True)
    is_ident: Mapped[bool] = mapped_column(primary_key=True)
    chunks: Mapped[int]


class SourceConnection(Base):
    """A source connection.

    ``config_version`` counts the changes of configuration and credentials; a job of another version ends.
    ``planned_at``: when ``next_run_at`` was computed. ``repair_asked_at``: when a repair was requested that the keeper
    has yet to start. ``source_wait_max_s``: how long its jobs wait for the source; null for the setting of that name.
    ``has_sync``: it has had a schedule or a job.
    """

    __tablename__ = "source_connection"
    __table_args__ = (Index("source_connection_collection", "collection_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    collection_id: Mapped[UUID] = mapped_column(ForeignKey("collection.id"))
    short_name: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    config: Mapped[dict[str, Any]]
    config_version: Mapped[int] = mapped_column(default=1)
    credentials: Mapped[bytes | None]
    host: Mapped[str | None]
    cron: Mapped[str | None]
    next_run_at: Mapped[datetime | None] = mapped_column(index=True)
    planned_at: Mapped[datetime | None]
    last_full_at: Mapped[datetime | None]
    last_full_config_version: Mapped[int | None]
    last_full_pipeline: Mapped[str | None]
    repair_asked_at: Mapped[datetime | None]
    source_wait_max_s: Mapped[float | None] = mapped_column(Double)
    has_sync: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class RenewedCredentials(Base):
    """The successor of credentials that were renewed before their connection was created, sealed.
    ``digest``: SHA-256 of the credentials that the person gave."""

    __tablename__ = "renewed_credentials"

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SourceCursor(Base):
    """Where the last completed read of a partition ended, which is where the next incremental job starts."""

    __tablename__ = "source_cursor"

    connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("source_connection.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    cursor: Mapped[dict[str, Any]]


class SourcePace(Base):
    """When a connection's next request fits its rate (a leaky bucket), shared by all processes that read it.
    ``booked_at``: when the last request was booked."""

    __tablename__ = "source_pace"

    connection_id: Mapped[UUID] = mapped_column(
        ForeignKey("source_connection.id", ondelete="CASCADE"), primary_key=True
    )
    free_at: Mapped[datetime]
    booked_at: Mapped[datetime | None]


class SourceRateLimit(Base):
    """How many requests an organization makes to a source at most, whatever its connections. ``free_at`` and
    ``booked_at``: as of ``SourcePace``."""

    __tablename__ = "source_rate_limit"
    __table_args__ = (UniqueConstraint("organization_id", "source_short_name", name="source_rate_limit_source"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    source_short_name: Mapped[str]
    limit: Mapped[int]
    window_seconds: Mapped[int]
    free_at: Mapped[datetime | None]
    booked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SyncJob(Base):
    """A job. ``number``: its place in the order of all jobs, which no clock decides. ``driver``, ``driven_at`` and
    ``driven_until``: who decides the next step, since when and until when. ``delayed_at``: when ``not_before`` was set.
    ``epoch`` and ``backend_*``: who writes for the steps that have no partition. ``rereads``: how often it opened
    partitions again because entities had moved. ``unsettled``: they still moved the last time."""

    __tablename__ = "sync_job"
    __table_args__ = (
        Index("sync_job_one_active", "connection_id", unique=True, postgresql_where=text(IS_ACTIVE)),
        Index("sync_job_connection", "connection_id", "number"),
        Index("sync_job_active", "engine", "number", postgresql_where=text(IS_ACTIVE)),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    number: Mapped[int] = mapped_column(Identity())
    organization_id: Mapped[UUID]
    collection_id: Mapped[UUID]
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("source_connection.id", ondelete="CASCADE"))
    status: Mapped[Status] = mapped_column(default=Status.PENDING)
    phase: Mapped[Phase] = mapped_column(default=Phase.OPEN)
    mode: Mapped[Mode | None]
    engine: Mapped[Engine]
    engine_reason: Mapped[str | None]
    trigger: Mapped[Trigger]
    force_full: Mapped[bool] = mapped_column(default=False)
    config_version: Mapped[int]
    pipeline: Mapped[str | None]
    host: Mapped[str | None]
    resumed_from: Mapped[UUID | None]
    approves: Mapped[UUID | None]
    access_token: Mapped[bytes | None]

    driver: Mapped[str | None]
    driven_at: Mapped[datetime | None]
    driven_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    delayed_at: Mapped[datetime | None]
    waiting_for: Mapped[str | None]
    epoch: Mapped[int] = mapped_column(default=0)
    backend_pid: Mapped[int | None]
    backend_start: Mapped[datetime | None]

    rereads: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    unsettled: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    deleted: Mapped[int] = mapped_column(default=0)
    held_deletes: Mapped[int] = mapped_column(default=0)
    never_read: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[str | None]
    error_category: Mapped[str | None]
    error_details: Mapped[dict[str, Any] | None]
    # not now(): the request that starts a job may have tried a source for minutes in the same transaction
    created_at: Mapped[datetime] = mapped_column(default=func.clock_timestamp(), server_default=func.now())
    modified_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    listed_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]


class SyncPartition(Base):
    """A partition of a job: the unit of reading, checkpointing and fencing. A job's counters are the sums over its
    partitions; its deletes are counted on the job.

    ``owner``, ``leased_at`` and ``lease_until``: who reads it, since when and until when. ``delayed_at``: when
    ``not_before`` was set.
    ``crashes``: the number of readers in a row that never released it. ``suspect``: the entity that the last one was
    reading. ``suspect_crashes``: how many readers crashed at that entity.
    """

    __tablename__ = "sync_partition"
    __table_args__ = (
        UniqueConstraint("job_id", "key", name="sync_partition_key"),
        Index("sync_partition_open", "job_id", "ordinal", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("sync_job.id", ondelete="CASCADE"))
    key: Mapped[str]
    scope: Mapped[str]
    ordinal: Mapped[int]
    data: Mapped[dict[str, Any]]
    state: Mapped[PartitionState] = mapped_column(default=PartitionState.OPEN)
    cursor: Mapped[dict[str, Any] | None]
    epoch: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    backend_pid: Mapped[int | None]
    backend_start: Mapped[datetime | None]
    leased_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    reads: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    failures_in_all: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]
    delayed_at: Mapped[datetime | None]
    waiting_since: Mapped[datetime | None]
    crashes: Mapped[int] = mapped_column(server_default="0")
    suspect: Mapped[str | None]
    suspect_crashes: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None]
    error_category: Mapped[str | None]
    inserted: Mapped[int] = mapped_column(default=0)
    updated: Mapped[int] = mapped_column(default=0)
    kept: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    incomplete: Mapped[int] = mapped_column(default=0, server_default="0")
    chunks_written: Mapped[int] = mapped_column(default=0, server_default="0")


class SyncMark(Base):
    """What a batch reported. ``kind`` met or deleted: ``rows`` is a 64-bit roaring bitmap of ledger rows. ``kind``
    subtree: ``prefix`` is a subtree that could not be read. Append-only, until the partition is opened again: ``met``
    becomes ``counted``."""

    __tablename__ = "sync_mark"
    __table_args__ = (Index("sync_mark_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("sync_job.id", ondelete="CASCADE"))
    partition_id: Mapped[int] = mapped_column(ForeignKey("sync_partition.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    rows: Mapped[bytes | None]
    prefix: Mapped[str | None]


class EntityRow(Base):
    """The ledger: which version of each entity is indexed, or why it is not.

    ``state``: indexed, failed or skipped. ``fingerprint``: SHA-256 of the indexed content; ``metadata_fingerprint``: of
    the metadata shown with it. ``missing``: 1 if the last full job did not meet it and could not prove that it is gone.
    """

    __tablename__ = "entity"
    __table_args__ = (
        UniqueConstraint("connection_id", "entity_id", name="entity_key"),
        Index("entity_updated", "collection_id", "updated_at"),
        Index("entity_job", "job_id"),
        Index("entity_missing", "connection_id", postgresql_where=text("missing > 0")),
        Index("entity_trouble", "connection_id", "state", postgresql_where=text("state <> 'indexed'")),
    )

    row: Mapped[int] = mapped_column(Identity(), primary_key=True)
    organization_id: Mapped[UUID]
    collection_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    entity_id: Mapped[str]
    name: Mapped[str]
    type: Mapped[str]
    scope: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]
    version: Mapped[str | None]
    pipeline: Mapped[str | None]
    fingerprint: Mapped[bytes | None]
    metadata_fingerprint: Mapped[bytes | None]
    chunks: Mapped[int] = mapped_column(default=0)
    truncated: Mapped[bool] = mapped_column(default=False)
    left_out: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    retries_left: Mapped[int] = mapped_column(SmallInteger, default=0)
    missing: Mapped[int] = mapped_column(SmallInteger, default=0)
    breadcrumbs: Mapped[list[Any]]
    fields: Mapped[dict[str, Any]]
    web_url: Mapped[str | None]
    url: Mapped[str | None]
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]
    job_id: Mapped[UUID]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Chunk(Base):
    """A searchable piece of an entity's text. ``ts``: its full-text vector in the collection's language, set by a
    trigger. ``ident``: its identifiers and their parts, as we split them."""

    __tablename__ = "chunk"
    __table_args__ = (
        Index("chunk_collection", "collection_id"),
        Index("chunk_ts", "ts", postgresql_using="gin"),
        Index("chunk_ident", "ident", postgresql_using="gin"),
    )

    entity_row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    collection_id: Mapped[UUID]
    connection_id: Mapped[UUID]
    heading: Mapped[str]
    text: Mapped[str]
    hash: Mapped[bytes]
    embedding: Mapped[Any | None] = mapped_column(HalfVec)
    embedding_2: Mapped[Any | None] = mapped_column(HalfVec)
    ident: Mapped[Any] = mapped_column(TSVECTOR)
    ts: Mapped[Any] = mapped_column(TSVECTOR)


Chunk.__table__.add_is_dependent_on(Collection.__table__)  # type: ignore[attr-defined]  # its trigger reads it


class ChunkStaged(Base):
    """Chunks of a big entity that is still being read. They move to ``chunk`` when the last one has arrived."""

    __tablename__ = "chunk_staged"

    partition_id: Mapped[int] = mapped_column(ForeignKey("sync_partition.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    heading: Mapped[str]
    text: Mapped[str]
    hash: Mapped[bytes]
    embedding: Mapped[Any | None] = mapped_column(HalfVec)
    embedding_2: Mapped[Any | None] = mapped_column(HalfVec)
    ident: Mapped[Any] = mapped_column(TSVECTOR)


class DeletePlan(Base):
    """The deletes that a job found. ``state``: applying, applied, held, approved, dismissed or superseded."""

    __tablename__ = "delete_plan"
    __table_args__ = (Index("delete_plan_connection", "connection_id", "state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID]
    connection_id: Mapped[UUID] = mapped_column(ForeignKey("source_connection.id", ondelete="CASCADE"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("sync_job.id", ondelete="CASCADE"))
    state: Mapped[str]
    reason: Mapped[str | None]
    total: Mapped[int]
    rows: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]


class WebhookMessage(Base):
    """The outbox: an event, written in the transaction that causes it. ``taken_at``: when the keeper numbered it for
    each subscription; null until then. Kept for ``MESSAGE_DAYS``, whether or not anybody subscribes. No foreign keys:
    they would lock rows in the transaction of the cause."""

    __tablename__ = "webhook_message"
    __table_args__ = (
        Index("webhook_message_organization", "organization_id", "position"),
        Index("webhook_message_new", "position", postgresql_where=text("taken_at is null")),
        Index("webhook_message_age", "created_at"),
    )

    position: Mapped[int] = mapped_column(Identity(), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True, server_default=text("gen_random_uuid()"))
    organization_id: Mapped[UUID]
    event_type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    taken_at: Mapped[datetime | None]


class WebhookSubscription(Base):
    """A receiver of events. ``secret``: sealed. ``disabled_reason``: why, if the server disabled it by itself.
    ``after_position``: the newest message when it was created; it gets only later ones. ``last_number``: of its
    messages. ``failures``: attempts in a row that failed. ``delayed_at``: when ``not_before`` was set. ``sender``,
    ``sending_at`` and ``sending_until``: the thread that sends to it, since when and until when. ``sent_at``: the last
    attempt."""

    __tablename__ = "webhook_subscription"
    __table_args__ = (Index("webhook_subscription_organization", "organization_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    url: Mapped[str]
    event_types: Mapped[list[str]]
    secret: Mapped[bytes]
    disabled: Mapped[bool] = mapped_column(default=False)
    disabled_reason: Mapped[str | None]
    after_position: Mapped[int]
    last_number: Mapped[int] = mapped_column(default=0, server_default="0")
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    not_before: Mapped[datetime | None]
    delayed_at: Mapped[datetime | None]
    sender: Mapped[str | None]
    sending_at: Mapped[datetime | None]
    sending_until: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class WebhookDelivery(Base):
    """A message for a subscription. ``number``: its place in the order of the subscription's messages. ``state``:
    pending, delivered, failed (after the last retry) or missed (the subscription was disabled)."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("position", "subscription_id", name="webhook_delivery_position"),
        Index("webhook_delivery_pending", "subscription_id", "number", postgresql_where=text("state = 'pending'")),
    )

    subscription_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_subscription.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(ForeignKey("webhook_message.position", ondelete="CASCADE"))
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")


class WebhookAttempt(Base):
    """One attempt at a delivery. ``status_code``: 0 if there was no response; then ``response`` says why."""

    __tablename__ = "webhook_attempt"
    __table_args__ = (
        Index("webhook_attempt_subscription", "subscription_id", "row"),
        Index("webhook_attempt_position", "position"),
    )

    row: Mapped[int] = mapped_column(Identity(), primary_key=True)
    id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_subscription.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(ForeignKey("webhook_message.position", ondelete="CASCADE"))
    url: Mapped[str]
    status_code: Mapped[int]
    response: Mapped[str]
    is_success: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Lease(Base):
    """A named lock with an expiry: the process that may do something that only one process at a time may do. A lease
    that was taken in the future, by a clock that has stepped back since, does not hold. ``place``: the id of the
    Temporal namespace that a worker polls; null for other leases."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until: Mapped[datetime]
    taken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    place: Mapped[str | None]
