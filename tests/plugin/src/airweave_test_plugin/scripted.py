"""A source that reads the scripted server, with all its faults. Malformed items are passed on as they are."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

from airweave_server.sdk import (
    Breadcrumb,
    ConfigError,
    Context,
    Deleted,
    Direct,
    Entity,
    Items,
    Partition,
    Seen,
    Skipped,
    Source,
    Unavailable,
)
from airweave_server.sdk.http import Http

KNOWN = {"id", "name", "type", "version", "text", "format", "filename", "url", "created_at", "updated_at", "fields"}


class ScriptedCredentials(BaseModel):
    """``token`` is sent as ``Authorization: Bearer``."""

    token: SecretStr | None = None


class ScriptedConfig(BaseModel):
    """Where the server is, and how patient to be. ``lazy``: the text of an item is fetched when it is opened."""

    url: str
    lazy: bool = False
    timeout_s: float = 30
    total_s: float = 120
    attempts: int = 4
    patience_s: float = 60
    backoff_s: float = 0.5


class ScriptedCursor(BaseModel):
    """``page`` is the next one to read; ``since`` the last change that was read, where changes are told."""

    page: int = 0
    since: int = 0


class Scripted(Source[ScriptedConfig, ScriptedCursor]):
    """Pages of items, in partitions that the server lists."""

    name = "scripted"
    title = "Scripted"
    description = "A source of the tests."
    auth = Direct(ScriptedCredentials)
    internal = True

    def __init__(
        self, config: ScriptedConfig, credentials: BaseModel | None = None, context: Context | None = None
    ) -> None:
        super().__init__(config, credentials, context)
        token = getattr(credentials, "token", None)
        self.http = Http(
            config.url,
            context=self.context,
            headers={"Authorization": SecretStr(f"Bearer {token.get_secret_value()}")} if token else {},
            timeout_s=config.timeout_s,
            total_s=config.total_s,
            attempts=config.attempts,
            patience_s=config.patience_s,
            backoff_s=config.backoff_s,
        )

    def partitions(self) -> Iterator[Partition]:
        answer = self.http.json("/partitions")
        for key in _of(answer, "partitions"):
            yield Partition(key=key)

    def read(self, partition: Partition, cursor: ScriptedCursor | None) -> Items[ScriptedCursor]:
        page = cursor.page if cursor else 0
        while True:
            answer = self.http.json("/items", params={"partition": partition.key, "page": page})
            for item in _of(answer, "items"):
                yield self._item(item)
            following = answer.get("next")
            yield ScriptedCursor(page=page + 1 if following is None else following)
            if following is None:
                return
            if following <= page:
                raise Unavailable(f"page {page} is followed by page {following}")
            page = following

    def close(self) -> None:
        self.http.close()

    def _item(self, item: Any) -> Entity | Seen | Deleted | Skipped:
        if not isinstance(item, dict):
            return Entity(id=None, name="", type="ScriptedEntity", fields={"item": item})  # type: ignore[arg-type]
        id = item.get("id")
        if isinstance(id, str) and "skip" in item:
            return Skipped(id, str(item["skip"]), subtree=bool(item.get("subtree")))
        if isinstance(id, str) and item.get("seen"):
            return Seen(id)
        if isinstance(id, str) and item.get("deleted"):
            return Deleted(id)
        text, fields = item.get("text"), item.get("fields", {})
        others = {key: value for key, value in item.items() if key not in KNOWN}
        is_lazy = self.config.lazy and isinstance(id, str)
        return Entity(
            id=id,  # type: ignore[arg-type]
            name=item.get("name", id if isinstance(id, str) else ""),
            type=item.get("type", "ScriptedEntity"),
            version=item.get("version"),
            text=None if is_lazy else text,
            format=item.get("format", "markdown"),
            open=partial(self.http.open, f"/content/{quote(id, safe='', errors='replace')}") if is_lazy else None,
            filename=item.get("filename"),
            breadcrumbs=(Breadcrumb(item["folder"], item["folder"], "folder"),) if "folder" in item else (),
            created_at=_time(item.get("created_at")),
            updated_at=_time(item.get("updated_at")),
            url=item.get("url"),
            fields={**fields, **others} if isinstance(fields, dict) else fields,
        )


class ScriptedIncremental(Scripted):
    """Reads the feed of changes: what was put or removed since the cursor, oldest first."""

    name = "scripted_incremental"
    title = "Scripted, incremental"
    tells_changes = True
    tells_deletes = True

    def read(self, partition: Partition, cursor: ScriptedCursor | None) -> Items[ScriptedCursor]:
        since = cursor.since if cursor else 0
        while True:
            answer = self.http.json("/changes", params={"partition": partition.key, "since": since})
            for item in _of(answer, "items"):
                yield self._item(item)
            since = answer["since"]
            yield ScriptedCursor(since=since)
            if not answer["more"]:
                return


class ScriptedSkipping(Scripted):
    """A listing that can miss what exists, as pages by number do when something before them goes."""

    name = "scripted_skipping"
    title = "Scripted, skipping"
    may_skip = True


class ScriptedWindow(Scripted):
    """A feed: what rolled off it is not met any more, and is not gone."""

    name = "scripted_window"
    title = "Scripted, window"
    is_window = True


class ScriptedUnproven(Scripted):
    """A listing whose end proves nothing."""

    name = "scripted_unproven"
    title = "Scripted, unproven"
    proves_listing = False


def _of(answer: Any, key: str) -> list[Any]:
    found = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise ConfigError(f"the server does not speak the scripted protocol: no list of {key}")
    return found


def _time(value: Any) -> Any:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
