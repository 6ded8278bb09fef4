"""What a source yields: entities, and what it knows about them without reading them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Literal


@dataclass(frozen=True, slots=True)
class Breadcrumb:
    """One step of the path to an entity: a folder, a channel, a project."""

    entity_id: str
    name: str
    type: str


@dataclass(slots=True)  # not frozen: setting each field of a frozen dataclass takes three times as long
class Entity:
    """One thing at the source: a file, an issue, a message.

    ``id`` is stable and unique within the connection.

    ``version`` changes whenever the content does, and is cheap for the source to tell: an ETag, a commit, mtime and
    size. If it equals the stored one, neither ``text`` nor ``open`` is used.

    ``text`` is indexed, in the given ``format``. If it is None, the bytes that ``open`` returns are indexed instead;
    ``open`` may raise ``Unreadable``. An entity with neither is indexed by its name and fields.

    ``created_at`` and ``updated_at`` are times at the source; naive times are taken as UTC. ``fields`` holds JSON
    values and is shown with each search result.
    """

    id: str
    name: str
    type: str
    version: str | None = None
    text: str | None = None
    format: Literal["markdown", "plain", "html"] = "markdown"
    open: Callable[[], BinaryIO] | None = None
    filename: str | None = None
    size_bytes: int | None = None
    breadcrumbs: tuple[Breadcrumb, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    web_url: str | None = None
    url: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """The entity still exists. It was not read, and nothing about it changes."""

    id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The source says explicitly that this entity is gone."""

    id: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The entity exists but could not or must not be read. What the index already holds of it stays.

    ``subtree``: this also applies to everything below it, that is, to every entity whose id begins with
    ``id + "/"`` or that has ``id`` among its breadcrumbs.
    """

    id: str
    reason: str
    name: str = ""
    subtree: bool = False
