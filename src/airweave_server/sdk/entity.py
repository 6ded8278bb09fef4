"""What a source yields: entities and what it knows of them without reading them. Knows no engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Literal


@dataclass(frozen=True, slots=True)
class Breadcrumb:
    """One step of the way to an entity: a folder, a channel, a project."""

    entity_id: str
    name: str
    type: str


@dataclass(slots=True)  # not frozen: each field of one that is takes three times as long to set
class Entity:
    """One thing at the source.

    ``id`` is stable and unique within its connection. ``version`` is the source's cheap word for "the same as
    last time" (etag, mtime and size, commit); equal to the stored one, neither ``text`` nor ``open`` is looked at.
    What is indexed is ``text``, written as ``format`` says, or, where that is None, the bytes that ``open`` returns; an
    entity with neither is indexed by its name and fields. ``open`` may raise ``Unreadable``.
    Times are the source's; naive ones are taken as UTC. ``fields`` holds JSON values and is shown with each hit.
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
    """The entity is still there; it was not read and nothing about it is to change."""

    id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The source itself says that this entity is gone."""

    id: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The entity is there but could not or must not be read; the index keeps what it holds of it.

    ``subtree``: the same is true of everything below it, that is, of every entity whose id begins with
    ``id + "/"`` or that names ``id`` among its breadcrumbs.
    """

    id: str
    reason: str
    name: str = ""
    subtree: bool = False
