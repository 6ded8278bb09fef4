"""Sources that are signed in to with OAuth 2, and read the provider of ``tests/servers/oauth_server.py``."""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import BaseModel

from airweave_server.sdk import Context, Entity, Items, OAuth2, Partition, Patience, Source


class OAuthConfig(BaseModel):
    """Where the provider is, in how many ``parts`` its list is read, and how patient to be."""

    url: str
    parts: int = 1
    timeout_s: float = 30
    note: str = ""  # changes nothing


class OAuthCursor(BaseModel):
    """The page to read next."""

    page: int


def _token_url(config: OAuthConfig) -> str:
    return f"{config.url}/token"


class Rotating(Source[OAuthConfig, OAuthCursor]):
    """Each refresh replaces the refresh token; each partition reads the whole list."""

    name = "oauth"
    title = "OAuth"
    auth = OAuth2(_token_url)
    internal = True

    def __init__(
        self, config: OAuthConfig, credentials: BaseModel | None = None, context: Context | None = None
    ) -> None:
        super().__init__(config, credentials, context)
        patience = Patience(timeout_s=config.timeout_s, attempts=2, backoff_s=0.05)
        self.context = replace(self.context, patience=patience)

    def check(self) -> None:
        self.http.json("/items")

    def partitions(self) -> Iterator[Partition]:
        for number in range(self.config.parts):
            yield Partition(key=f"part-{number}")

    def read(self, partition: Partition, cursor: OAuthCursor | None) -> Items[OAuthCursor]:
        page: int | None = cursor.page if cursor else 0
        while page is not None:
            answer = self.http.json("/items", params={"page": page})
            if not isinstance(answer["items"], list):
                raise RuntimeError(f"this is no list: {answer}")
            for item in answer["items"]:
                id = f"{partition.key}/{item['id']}"
                yield Entity(id=id, name=id, type="OAuthEntity", text=item["text"])
            page = answer["next"]
            if page is not None:
                yield OAuthCursor(page=page)


class Static(Rotating):
    """A refresh keeps the refresh token."""

    name = "oauth_static"
    title = "OAuth, static"
    auth = OAuth2(_token_url, rotates=False)
