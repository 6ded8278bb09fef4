"""The interface of a connector: one class, its configuration, its partitions and how to read them."""

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

_MAKING = threading.Lock()  # of a source's client, which its threads share


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a source that can be read on its own.

    A source whose entities can move between partitions while they are read declares ``may_skip``: one that moves from
    a partition not yet read into one read already is met in neither.

    ``key`` is stable and unique. ``scope`` names partitions that belong together, by default each its own: deletes
    that would leave nothing of a scope are held. ``data`` (JSON) is handed back at the read.
    """

    key: str
    scope: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traits:
    """What the engine may rely on, for one configuration of a source; see the class attributes of ``Source``."""

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
    """A kind of place to read. Subclass as ``class GitHub(Source[Config, Cursor])`` with pydantic models.

    The engine promises: ``read`` is given None, or a cursor that this source once yielded, all of whose predecessors
    have reached the index; it may stop after any cursor and read on from it later, in another process.
    The source promises: reading from a cursor yields all that changed after it, reading from None all there is;
    it may yield an entity twice but leaves none out; what it cannot read it yields as ``Skipped``, what it cannot
    list it raises; only a read that comes to its end has listed all.
    """

    name: ClassVar[str]  # the short name in the API and the CLI
    title: ClassVar[str]  # what people read
    description: ClassVar[str] = ""
    labels: ClassVar[tuple[str, ...]] = ()
    entity_types: ClassVar[tuple[str, ...]] = ()
    auth: ClassVar[Auth] = NoAuth()
    rate: ClassVar[Rate | None] = None
    tells_changes: ClassVar[bool] = False  # a cursor is also a change position: the next job may start there
    tells_deletes: ClassVar[bool] = False  # an incremental read yields Deleted for all that went
    lists_cheaply: ClassVar[bool] = False  # to list everything costs little: audit --source does so unasked
    may_skip: ClassVar[bool] = False  # a listing can miss what exists: deletes need two full jobs
    is_window: ClassVar[bool] = False  # what rolls off a feed or a retention is not deleted: absent is not gone
    proves_listing: ClassVar[bool] = True  # False: a read to the end proves nothing, so deletes are always held
    local: ClassVar[bool] = False  # is read on the host that the connection was made on
    internal: ClassVar[bool] = False  # a test source, shown only with ENABLE_INTERNAL_SOURCES
    max_parallel: ClassVar[int] = 4  # partitions of one job that may be read side by side

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
        """Return what is true of a source with this configuration; by default, what the class says."""
        return Traits(**{trait.name: getattr(cls, trait.name) for trait in fields(Traits)})

    @cached_property
    def http(self) -> Http:
        """The client of this source: its root URL, its rate, and requests signed as ``auth`` says. Made when first
        used; a source that needs another one sets it in ``__init__``."""
        with _MAKING:
            made = vars(self).get("http")
            if made is None:
                auth = self.auth.configured(self.config)
                made = Http(self.root_url(), context=self.context, auth=auth, credentials=self.credentials)
                vars(self)["http"] = made
            return made

    def root_url(self) -> str:
        """Return the address that ``http`` begins with; by default the ``url`` of the configuration."""
        return str(self.config.url)  # type: ignore[attr-defined]

    def check(self) -> None:
        """Raise ``ConfigError`` or ``AuthError`` when this configuration cannot be read; called when a person
        connects it and at the start of each job."""

    def partitions(self) -> Iterator[Partition]:
        """List the parts of the source; by default it is one."""
        yield Partition(key="")

    @abstractmethod
    def read(self, partition: Partition, cursor: CursorT | None) -> Items[CursorT]:
        """Yield what the partition holds, from the cursor on, with cursors in between."""

    def close(self) -> None:
        """Let go of connections; called once after the last read."""
        if "http" in vars(self):
            self.http.close()
