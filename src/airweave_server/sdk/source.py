"""The interface of a connector: one class with its configuration, its partitions and how to read them."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel

from .auth import Auth, NoAuth
from .context import Context, Rate
from .entity import Deleted, Entity, Seen, Skipped
from .http import Http

ConfigT = TypeVar("ConfigT", bound=BaseModel)
CursorT = TypeVar("CursorT", bound=BaseModel)

_CREATING = threading.Lock()  # threads that share a source must not create its HTTP client twice


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a source that can be read on its own.

    ``key`` is stable and unique. ``data`` holds JSON values and is passed back to ``read``. ``scope`` groups
    partitions; by default, each partition is its own scope. Deletes that would empty a whole scope are held.

    An entity that moves during a job, from a partition not yet read into one already read, is missed in both. If that
    can happen, the source must override ``changed_since`` or declare ``may_skip``.
    """

    key: str
    scope: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traits:
    """What the engine may rely on for one configuration of a source; see the class attributes of ``Source``."""

    tells_changes: bool = False
    tells_deletes: bool = False
    lists_cheaply: bool = False
    may_skip: bool = False
    local: bool = False
    is_window: bool = False
    proves_listing: bool = True
    max_parallel: int = 4


Items = Iterator[Entity | Seen | Deleted | Skipped | CursorT]


class Source(ABC, Generic[ConfigT, CursorT]):
    """A kind of place to read. Subclass it as ``class GitHub(Source[Config, Cursor])`` with two pydantic models.

    The engine promises:

    * ``read`` gets None, or a cursor that this source yielded before. Everything yielded before that cursor is in
      the index.
    * The engine may stop after any cursor and resume from it later, in another process.

    The source promises:

    * Reading from a cursor yields everything that changed after it. Reading from None yields everything.
    * An entity may be yielded twice, but none is left out.
    * An entity that cannot be read is yielded as ``Skipped``. A listing that fails raises.
    * A read that ends without an exception has listed everything.
    """

    name: ClassVar[str]  # the short name in the API and the CLI
    title: ClassVar[str]  # the name that people see
    description: ClassVar[str] = ""
    labels: ClassVar[tuple[str, ...]] = ()
    entity_types: ClassVar[tuple[str, ...]] = ()
    auth: ClassVar[Auth] = NoAuth()
    rate: ClassVar[Rate | None] = None
    tells_changes: ClassVar[bool] = False  # a cursor is also a position in the changes: the next job may start there
    tells_deletes: ClassVar[bool] = False  # an incremental read yields Deleted for every entity that is gone
    lists_cheaply: ClassVar[bool] = False  # listing everything is cheap: audit --source does it without being asked
    may_skip: ClassVar[bool] = False  # a listing can miss existing entities: a delete needs two full jobs
    is_window: ClassVar[bool] = False  # a feed, or a limited retention: absent entities are not deleted
    proves_listing: ClassVar[bool] = True  # False: a complete read proves nothing, so deletes are always held
    local: ClassVar[bool] = False  # must be read on the host where the connection was created
    internal: ClassVar[bool] = False  # a test source, offered only with ENABLE_INTERNAL_SOURCES
    max_parallel: ClassVar[int] = 4  # partitions that one job may read in parallel

    config_model: ClassVar[type[BaseModel]]
    cursor_model: ClassVar[type[BaseModel]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Source:
                cls.config_model, cls.cursor_model = get_args(base)

    def __init__(self, config: ConfigT, credentials: BaseModel | None = None, context: Context | None = None) -> None:
        self.config = config
        self.credentials = credentials
        context = context or Context()
        self.context = replace(context, rate=context.rate or self.rate) if self.rate is not None else context

    @classmethod
    def traits(cls, config: ConfigT) -> Traits:
        """Return the traits of a source with this configuration; by default, the class attributes."""
        return Traits(**{trait.name: getattr(cls, trait.name) for trait in fields(Traits)})

    @cached_property
    def http(self) -> Http:
        """The HTTP client of this source: it starts at ``root_url``, keeps ``rate`` and signs requests with ``auth``.

        Created on first use. A source that needs a different client sets its own in ``__init__``.
        """
        with _CREATING:
            client = vars(self).get("http")
            if client is None:
                auth = self.auth.configured(self.config)
                client = Http(self.root_url(), context=self.context, auth=auth, credentials=self.credentials)
                vars(self)["http"] = client
            return client

    @classmethod
    def never_reads(cls, entity_id: str) -> bool:
        """Return whether this version never yields an entity with this id, because its name may hold secrets.

        If an earlier version did, the next job deletes the entity, and the guard does not hold this delete.
        """
        return False

    def root_url(self) -> str:
        """Return the base URL of ``http``; by default, the configuration's ``url``."""
        return str(self.config.url)  # type: ignore[attr-defined]

    def check(self) -> None:
        """Raise ``ConfigError`` or ``AuthError`` if the source cannot be read with this configuration.

        Called when a person connects the source, and at the start of each job.
        """

    def partitions(self) -> Iterator[Partition]:
        """Yield the partitions of the source; by default, there is one."""
        yield Partition(key="")

    @abstractmethod
    def read(self, partition: Partition, cursor: CursorT | None) -> Items[CursorT]:
        """Yield the contents of the partition from the cursor on, with cursors in between."""

    def changed_since(self, partition: Partition, cursor: CursorT | None) -> bool:
        """Return whether entities may have come into the partition, left it or moved within it since it was read.

        ``cursor`` is the last one that the read yielded; None if it yielded none. A source that notes in its cursors
        what it listed can compare. Content need not be compared.

        The engine asks this of each partition of a full job once all are read, and reads those that changed again, from
        None, at most three times. By default the source cannot tell: False.
        """
        return False

    def close(self) -> None:
        """Close connections; called once, after the last read."""
        if "http" in vars(self):
            self.http.close()
