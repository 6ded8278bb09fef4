"""The package that ``sources new`` creates: a source for a paginated API with a token, and its tests."""

import keyword
import re
from pathlib import Path
from string import Template

from ..errors import ClientError

NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "airweave-source-$dashed"
version = "0.1.0"
description = "The source $name for Airweave Server."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["airweave-server"]

[project.entry-points."airweave_server.sources"]
$name = "$module:$kind"

[tool.hatch.build.targets.wheel]
include = ["$module.py"]
""",
    "$module.py": '''\
"""The source $name. It reads a paginated API that requires a token:

    GET /items?after=CURSOR  ->  {"items": [{"id", "title", "text", "updated_at", "url"}, ...], "next": CURSOR or null}

Change this to match your API. docs/sources.md of Airweave Server explains the parts.
"""

from airweave_server.sdk import Bearer, Entity, Items, NextCursor, PageState, Partition, Rate, Source
from pydantic import BaseModel, Field

# How the API gives the next page; the alternatives are LinkHeader, NextUrl, Offset and PageNumber.
PAGES = NextCursor("next", param="after", items="items")


class Config(BaseModel):
    """The configuration that a person enters. Secrets do not belong here: the token is part of the credentials."""

    url: str = Field(title="Address", description="The root of the API, such as https://api.example.com")


class Cursor(BaseModel):
    """A position where reading may stop and later resume in another process."""

    at: PageState


class $kind(Source[Config, Cursor]):
    name = "$name"
    title = "$title"
    description = "The items of $title."
    entity_types = ("Item",)
    auth = Bearer()  # or ApiKey(header="X-Api-Key"), Basic(), OAuth2(token_url=...)
    rate = Rate(requests=600, per_s=60)  # the rate limit of the API, which all jobs together keep

    def check(self) -> None:
        """Called when a person connects the source. The request itself raises for a wrong address or token."""
        self.http.json("/items")

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        """Yield every item. A failed listing must raise: items that are not yielded are deleted from the index."""
        for page in self.http.pages("/items", PAGES, start=cursor.at if cursor else None):
            for item in page.items:
                yield Entity(
                    id=str(item["id"]),  # unique and stable
                    name=item["title"],
                    type="Item",
                    version=item["updated_at"],  # if it is the same as last time, the item is not indexed again
                    text=item["text"],
                    web_url=item["url"],
                )
            if page.next is not None:
                yield Cursor(at=page.next)
''',
    "test_$name.py": '''\
"""The suite simulates every failure of the API. None of them may end a listing quietly."""

from airweave_server.sdk import BearerCredentials, Entity
from airweave_server.sdk.testing import SourceSuite
from airweave_server.sdk.vendor import Asked, Reply, Vendor
from pydantic import SecretStr

from $module import Config, $kind

TOKEN = "canary-4711"
PAGE = 10
ITEMS = [
    {
        "id": number,
        "title": f"Item {number}",
        "text": f"What item {number} says.",
        "updated_at": "2026-01-31T12:00:00Z",
        "url": f"https://example.com/items/{number}",
    }
    for number in range(30)
]


class FakeApi(Vendor):
    """Answers like the API. Copy real responses of your API here."""

    def answer(self, request: Asked) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply({"error": "unauthorized"}, status=401)
        if request.path != "/items":
            return Reply({"error": "not found"}, status=404)
        start = int(request.params.get("after", 0))
        following = start + PAGE if start + PAGE < len(ITEMS) else None
        return Reply({"items": ITEMS[start : start + PAGE], "next": following})


def connect(api: Vendor) -> $kind:
    return $kind(Config(url=api.url), BearerCredentials(access_token=SecretStr(TOKEN)), api.context())


API = FakeApi()


class Test$kind(SourceSuite):
    vendor = API
    secrets = (TOKEN,)

    def source(self) -> $kind:
        return connect(API)


def test_an_item_becomes_an_entity() -> None:
    with FakeApi() as api:
        source = connect(api)
        [partition] = source.partitions()
        first = next(iter(source.read(partition, None)))
        source.close()
    assert isinstance(first, Entity)
    assert (first.id, first.name, first.text) == ("0", "Item 0", "What item 0 says.")
''',
    "README.md": """\
# airweave-source-$dashed

The source `$name` for Airweave Server.

```
pip install -e .                                  # into the server's environment
python -m pytest                                  # simulates every failure of the API
airweave-server sources show $name                # its fields
airweave-server sources check $name --config url=https://api.example.com --secret access_token=-
airweave-server connect $name -c my-collection    # after a restart of the server
```

`$module.py` is the source, `test_$name.py` its tests with a fake API. Change both to match your API;
`docs/sources.md` of Airweave Server says what a source promises.
""",
}


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package of a source and return its files. Raises ``ClientError`` if the name is invalid or the folder
    exists."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ClientError(
            f"{name!r} cannot be the name of a source: use 2 to 40 lower-case letters, digits and _, a letter first"
        )
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "module": f"airweave_source_{name}",
        "kind": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
    }
    try:
        folder.mkdir(parents=True)
        written = []
        for file, text in FILES.items():
            path = folder / Template(file).substitute(words)
            path.write_text(Template(text).substitute(words), encoding="utf-8")
            written.append(path)
    except FileExistsError:
        raise ClientError(f"{folder} already exists: name another folder with --folder") from None
    except OSError as error:
        raise ClientError(f"{folder} cannot be written: {error.strerror}") from None
    return written
