"""The fuzz of the API: turns generated cases into requests that reach the handlers, damages some, judges answers."""

import base64
import gzip
import json
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import httpx

from running import Server

GENERATOR = Path(__file__).with_name("fuzz_cases.py")
GENERATES_S = 600.0
HANGS_S = 30.0
SHOWN_CHARS = 2_000  # of a body, in a command
SLOWEST = 10  # operations in a table
MOST_WRONG = 50  # after which no more is sent
REAL, MIXED, FOREIGN = 0.7, 0.1, 0.1  # chances of ids: of one place, of several, of another organization
REAL_FOR_DELETE = 0.2  # so that not every place has to be created again
SENSIBLE = 0.5  # chance that a field gets a value that the server can use
DAMAGED = 0.3
PLACES = 4  # that exist at a time
NOTHING = object()

DEEP = 100_000
LONG = 100_000
JSON = "application/json"
OF_NO_ROUTE = (b'{"detail":"Not Found"}', b'{"detail":"Method Not Allowed"}')
TEXTS = (
    "", " ", "\x00", "a\x00b", "\ud800", "x\udfffy", "\ufeff", "\u202e\u2066", "e\u0301" * 50,
    "\U0001f468\u200d\U0001f469",
    "\ufdfa" * 30, "x" * 256, "%", "_", "\\", "'", '"; drop table entity; --', "${jndi}", "{{7*7}}", "../../etc/passwd",
    "~root/x", "-1", "0", "NaN", "null", "true", "1e400", "0x10", "\uff11\uff12",
    "2024-02-30", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2024-01-01T00:00:00+16:00", "24:00",
    "* * * * *", "0 0 30 2 *", "*/0 * * * *", "@daily",
    "http://[::1", "http://127.0.0.1:99999/", "file:///etc/passwd", "count", "reembed", "search",
)  # fmt: skip
NUMBERS = (
    -1, 0, 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 0.1, -0.0,
    1e-320, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
CONTAINERS = ([], {}, [[]], [None], {"": None}, [1, "a", True, None, {}], {"\x00": 1}, {"a" * 300: {"b": []}})
HEADERS = (
    ("Accept", "text/html"),
    ("Accept", "*/*;q=nan"),
    ("Accept-Encoding", "br;q=2, zstd"),
    ("Authorization", "Basic Og=="),
    ("Content-Encoding", "gzip"),
    ("Content-Language", "é"),
    ("Cookie", "; ".join(["a=b"] * 500)),
    ("Expect", "100-continue"),
    ("Forwarded", "for=[::"),
    ("If-None-Match", '"' * 99),
    ("Last-Event-ID", "-1"),
    ("Range", "bytes=0-,5-1"),
    ("Upgrade", "h2c"),
    ("X-Forwarded-For", "1.1.1.1"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Long", "x" * 8_000),
    ("traceparent", "00-x-y-zz"),
)
TYPES = (
    "",
    "APPLICATION/JSON",
    "application/json, text/html",
    "application/json; charset=utf-7",
    'application/json; charset="',
    "application/octet-stream",
    "application/vnd.api+json",
    "application/x-www-form-urlencoded",
    "application/xml",
    "image/png",
    "json",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/plain; charset=utf-16",
    "é",
)
ODD_METHODS = ("HEAD", "OPTIONS", "LINK", "TRACE", "PROPFIND", "BREW")  # that no route has
OPEN = (
    "/health",
    "/health/live",
    "/health/ready",
    "/entities/definitions/by-source",
)  # to anyone, also with authentication

SOURCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stub", {"entity_count": 3}),
    ("stub", {"entity_count": 3, "fail_after": 1}),
    ("timed", {"entity_count": 3, "duration_seconds": 0.5}),
    ("incremental_stub", {"entity_count": 2}),
    ("exception_stub", {"entity_count": 3, "exception_type": "source_auth_error"}),
    ("exception_stub", {"entity_count": 3, "fail_on_validate": True}),
    ("feed", {"urls": ["http://127.0.0.1:1/feed"]}),
)
CREDENTIALS = {"credentials": {"stub_key": "k", "timed_key": "k"}}
BY_HAND = {"authentication": CREDENTIALS, "sync_immediately": False, "schedule": {"cron": None}}
HOOK = {"url": "http://127.0.0.1:1/hook", "event_types": ["sync.completed", "collection.created"]}
FILTERS = (
    ("name", ("equals", "contains"), ("stub", "")),
    ("entity_id", ("in", "not_in"), (["a", "b"], [])),
    (
        "created_at",
        ("greater_than", "equals"),
        ("2024-01-31T12:00:00Z", "0001-01-01", "9999-12-31T23:59:59.999999-12:00"),
    ),
    ("updated_at", ("in", "not_in"), (["2024-01-31T12:00:00+14:00"], ["0001-01-01T00:00:00+23:59"])),
    ("airweave_system_metadata.chunk_index", ("less_than", "equals", "not_equals"), (0, 2**70, "-1")),
    ("airweave_system_metadata.chunk_index", ("in", "not_in"), ([0, 1], [2**63])),
    ("airweave_system_metadata.sync_id", ("equals", "in"), (str(uuid4()), "no uuid")),
    ("breadcrumbs.name", ("contains", "not_equals"), ("%", "\\")),
)
LEGACY_FILTERS: tuple[dict[str, Any], ...] = (
    {"must": [{"key": "name", "match": {"any": ["a", "b"]}}], "must_not": {"has_id": ["a"]}},
    {
        "should": [
            {"key": "created_at", "range": {"gte": "0001-01-01", "lt": "9999-12-31T23:59:59-12:00"}},
            {"must": []},
        ]
    },
    {"min_should": {"conditions": [{"key": "chunk_index", "match": {"value": 2**70}}] * 3, "min_count": 2}},
    {"must_not": [{"key": "updated_at", "match": {"except": ["2024-01-31"]}}, {"is_null": {"key": "created_at"}}]},
    {"must": [{"key": "breadcrumbs.name", "match": {"text": "%"}}, {"is_empty": {"key": "breadcrumbs.name"}}]},
    {"must": [{"key": "name", "match": {"any": []}}]},
    {"must": [{"key": "colour", "match": {"value": "red"}}]},
)


@dataclass(frozen=True)
class Sent:
    """One request. ``body``: a JSON value, bytes, or ``NOTHING``. ``is_foreign``: an id in its path belongs to another
    organization."""

    operation: str
    path: dict[str, str]
    query: str
    body: Any = NOTHING
    headers: tuple[tuple[str, str], ...] = ()
    method: str = ""
    is_foreign: bool = False

    @property
    def template(self) -> str:
        return self.operation.split()[1]

    def url(self, server: str) -> str:
        return server + self.template.format_map(self.path) + (f"?{self.query}" if self.query else "")

    def content(self) -> bytes | None:
        if self.body is NOTHING or isinstance(self.body, bytes):
            return None if self.body is NOTHING else self.body
        return json.dumps(self.body).encode()

    def all_headers(self, own: dict[str, str]) -> list[tuple[str, str]]:
        is_typed = any(name == "Content-Type" for name, _ in self.headers)
        typed = [] if self.body is NOTHING or is_typed else [("Content-Type", JSON)]
        return [*own.items(), *typed, *self.headers]

    def curl(self, server: str, own: dict[str, str]) -> str:
        """The command that repeats the request."""
        words = ["curl", "-i", "-g", "--path-as-is", "-X", self.method or self.operation.split()[0], self.url(server)]
        for name, value in self.all_headers(own):
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
        content = self.content()
        if content is None:
            return shlex.join(words)
        if len(content) < SHOWN_CHARS and content.isascii() and b"\x00" not in content:
            return shlex.join([*words, "--data-binary", content.decode()])
        packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        return f"echo {packed} | base64 -d | gunzip | {shlex.join([*words, '--data-binary', '@-'])}"


@dataclass(frozen=True)
class Place:
    """Things on the server that belong together."""

    short_name: str
    collection: str
    connection: str
    job: str
    plan: str
    subscription: str
    message: str
    key: str
    organization: str
    entity: str = "a"

    def ids(self) -> dict[str, str]:
        return {
            "readable_id": self.collection,
            "connection_id": self.connection,
            "job_id": self.job,
            "plan_id": self.plan,
            "short_name": self.short_name,
            "subscription_id": self.subscription,
            "message_id": self.message,
            "key_id": self.key,
            "organization_id": self.organization,
        }


class Places:
    """The places of one organization. A place that a request deletes is created again."""

    def __init__(self, server: Server, headers: dict[str, str], chance: random.Random) -> None:
        self._server = server
        self._headers = headers
        self._chance = chance
        self.there: list[Place] = []
        self.fill()

    def fill(self) -> None:
        """Create what is missing: one place has held deletes."""
        if all(place.short_name != "folder" for place in self.there):
            self.there.insert(0, self._with_held_deletes())
        while len(self.there) < PLACES:
            self.there.append(self._make(*self._chance.choice(SOURCES[:5])))

    def forget(self, sent: Sent) -> None:
        gone = {sent.path.get(name) for name in ("readable_id", "connection_id", "subscription_id")}
        self.there = [
            place for place in self.there if not {place.collection, place.connection, place.subscription} & gone
        ]

    def _make(self, short_name: str, config: dict[str, Any]) -> Place:
        collection = self._post("/collections", {"name": "A place"})["readable_id"]
        wanted = {"short_name": short_name, "readable_collection_id": collection, "config": config, **BY_HAND}
        connection = self._post("/source-connections", wanted)["id"]
        job = self._post(f"/source-connections/{connection}/run")["id"]
        subscription = self._post("/webhooks/subscriptions", HOOK)["id"]
        message = self._get("/webhooks/messages?limit=1")[0]["id"]
        key = self._post("/api-keys", {"role": "reader"})
        plan = str(uuid4())
        owner = key["organization_id"]
        return Place(short_name, collection, connection, job, plan, subscription, message, key["id"], owner)

    def _with_held_deletes(self) -> Place:
        """A folder that was synced, and then emptied."""
        folder = self._server.folder()
        for number in range(3):
            (folder / f"{number}.txt").write_text(f"the budget of year {number}")
        place = self._make("folder", {"path": str(folder)})
        self._finish(place)
        for number in range(3):
            (folder / f"{number}.txt").unlink()
        job = self._post(f"/source-connections/{place.connection}/run")["id"]
        place = replace(place, job=job, entity="0.txt")
        self._finish(place)
        [plan] = self._get(f"/source-connections/{place.connection}/held-deletes")
        return replace(place, plan=plan["id"])

    def _finish(self, place: Place) -> None:
        path = f"/source-connections/{place.connection}/jobs/{place.job}"
        ended = self._server.wait_for(lambda: self._get(path), lambda job: job["completed_at"] is not None)
        assert ended["status"] == "completed", ended

    def _get(self, path: str) -> Any:
        answer = self._server.http.get(path, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _post(self, path: str, body: Any = None) -> Any:
        answer = self._server.http.post(path, json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


@dataclass
class Seen:
    """The answers of one operation."""

    took_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


class Fuzz:
    """Sends requests to a server, and keeps what was wrong, each with the command that repeats it."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self._server = server
        self._chance = chance
        self._http = httpx.Client(timeout=HANGS_S, trust_env=False)
        self._declared = {
            f"{method.upper()} {path}": set(map(int, operation["responses"]))
            for path, ways in server.get("/openapi.json")["paths"].items()
            for method, operation in ways.items()
        }
        self.seen: defaultdict[str, Seen] = defaultdict(Seen)
        self.wrong: list[str] = []

    def close(self) -> None:
        self._http.close()

    def run(
        self,
        cases: list[dict[str, Any]],
        places: Places,
        headers: dict[str, str],
        *,
        foreign: Places | None = None,
        is_let_in: bool = True,
    ) -> None:
        """Send each case. Ids are those of ``places``, and sometimes of ``foreign``, the places of an organization that
        these ``headers`` give no access to. With ``is_let_in`` false they give access to nothing."""
        for case in cases:
            if len(self.wrong) >= MOST_WRONG:
                return
            sent = self._build(case, places, foreign)
            status = self._send(sent, headers)
            if 0 < status < 400 and (sent.is_foreign or (not is_let_in and sent.template not in OPEN)):
                whose = "with an id of another organization" if is_let_in else "without a valid key"
                self._note(f"{status} {whose}", sent, headers)
            if status == 200 and sent.operation.startswith("DELETE") and not sent.operation.endswith("/reembed"):
                places.forget(sent)
                places.fill()

    def requests(self) -> int:
        return sum(len(seen.took_s) for seen in self.seen.values())

    def slowest(self) -> tuple[str, float]:
        """The operation of the slowest answer, and how long it took in seconds."""
        return max(((name, max(seen.took_s)) for name, seen in self.seen.items()), key=lambda each: each[1])

    def table(self, count: int = SLOWEST) -> Iterator[str]:
        """Rows of a Markdown table: the operations whose slowest answer took longest."""
        yield "| operation | requests | p50 ms | p95 ms | most ms | statuses |"
        yield "|---|---:|---:|---:|---:|---|"
        for name, seen in sorted(self.seen.items(), key=lambda each: -max(each[1].took_s))[:count]:
            p95_s = sorted(seen.took_s)[int(len(seen.took_s) * 0.95)]
            figures = (statistics.median(seen.took_s), p95_s, max(seen.took_s))
            told = ", ".join(f"{status}: {times}" for status, times in sorted(seen.statuses.items()))
            yield f"| `{name}` | {len(seen.took_s)} | {' | '.join(f'{s * 1000:.0f}' for s in figures)} | {told} |"

    def statuses(self) -> Counter[int]:
        return sum((seen.statuses for seen in self.seen.values()), Counter())

    def _build(self, case: dict[str, Any], places: Places, foreign: Places | None) -> Sent:
        chance = self._chance
        body = base64.b64decode(case["raw"]) if "raw" in case else case.get("body", NOTHING)
        sent = Sent(case["operation"], case["path"], case["query"], body)
        place = chance.choice(places.there)
        real = REAL_FOR_DELETE if sent.operation.startswith("DELETE") else REAL
        drawn = chance.random()
        if drawn < real:
            sent = replace(sent, path={**sent.path, **known(sent, place)})
        elif drawn < real + MIXED and not sent.operation.startswith("DELETE"):
            several = {name: known(sent, chance.choice(places.there))[name] for name in known(sent, place)}
            sent = replace(sent, path={**sent.path, **several})
        elif foreign is not None and drawn > 1 - FOREIGN:
            theirs = {name: id for name, id in known(sent, foreign.there[0]).items() if name != "short_name"}
            sent = replace(sent, path={**sent.path, **theirs}, is_foreign=bool(theirs))
        if isinstance(sent.body, dict):
            sent = replace(sent, body=sensible(sent.body, sent.template, place, chance))
        if sent.template.endswith("/text") and chance.random() < REAL:
            sent = replace(sent, query=f"entity_id={quote_plus(place.entity)}")
        if chance.random() < DAMAGED:
            sent = chance.choice(DAMAGES)(sent, chance)
        return sent

    def _send(self, sent: Sent, own: dict[str, str]) -> int:
        """Send it and read the answer, of a stream only the first event. Returns the status."""
        method, url = sent.method or sent.operation.split()[0], sent.url(self._server.url)
        headers = [(name, value.encode()) for name, value in sent.all_headers(own)]
        began_at, status, read, kind = time.monotonic(), 0, b"", ""
        try:
            with self._http.stream(method, url, content=sent.content(), headers=headers) as answer:
                status, kind = answer.status_code, answer.headers.get("content-type", "")
                for part in answer.iter_raw():
                    read += part
                    if time.monotonic() - began_at > HANGS_S or ("event-stream" in kind and b"\n\n" in read):
                        break
        except httpx.HTTPError as error:
            self._note(f"no answer: {error!r}", sent, own)
        took_s = time.monotonic() - began_at
        seen = self.seen[sent.operation]
        seen.took_s.append(took_s)
        seen.statuses[status] += 1
        said = read[:300].decode(errors="replace")
        if status >= 500:
            self._note(f"{status} {said}", sent, own)
        if took_s > HANGS_S:
            self._note(f"{status} after {took_s:.1f} s", sent, own)
        if 400 <= status < 500 and method != "HEAD" and kind == JSON and not is_error(read):
            self._note(f"{status} is not an error as docs/api.md describes it: {said}", sent, own)
        is_of_route = not sent.method and kind == JSON and read not in OF_NO_ROUTE
        if is_of_route and status not in self._declared[sent.operation]:
            self._note(f"{status} is not declared in /openapi.json: {said}", sent, own)
        return status

    def _note(self, what: str, sent: Sent, own: dict[str, str]) -> None:
        self.wrong.append(f"{sent.operation}: {what}\n    {sent.curl(self._server.url, own)}")


def cases_for(server: Server, requests: int, seed: int) -> list[dict[str, Any]]:
    """Generate cases from the server's own description."""
    given = {"description": server.get("/openapi.json"), "requests": requests, "seed": seed}
    done = subprocess.run(
        [sys.executable, str(GENERATOR)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=GENERATES_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    cases: list[dict[str, Any]] = json.loads(done.stdout)
    return cases


def known(sent: Sent, place: Place) -> dict[str, str]:
    return {name: id for name, id in place.ids().items() if name in sent.path}


def is_error(answer: bytes) -> bool:
    """Whether it has the form that docs/api.md promises."""
    body = json.loads(answer)
    return isinstance(body, dict) and bool(body) and body.keys() <= {"detail", "errors"}


def sensible(body: dict[str, Any], template: str, place: Place, chance: random.Random) -> dict[str, Any]:
    """The body with some of its values replaced by values that the server can use."""
    short_name, config = chance.choice(SOURCES)
    field, operators, values = chance.choice(FILTERS)
    condition = {"field": field, "operator": chance.choice(operators), "value": chance.choice(values)}
    usable: dict[str, dict[str, Any]] = {
        "collections": {"name": "A name", "readable_id": f"c-{chance.randrange(10**9)}", "language": "german"},
        "source-connections": {
            "name": "A name",
            "short_name": short_name,
            "config": config,
            "readable_collection_id": place.collection,
            "authentication": CREDENTIALS,
            "schedule": {"cron": chance.choice([None, "0 * * * *", "0 0 29 2 *", "* * * * *"])},
        },
        "run": {"force_full_sync": chance.random() < 0.5, "access_token": "a token"},
        "webhooks": HOOK | {"secret": "of the fuzz, and long enough", "disabled": chance.random() < 0.5},
        "api-keys": {"expiration_days": 1, "role": chance.choice(["reader", "editor", "admin"])},
        "recover": {"since": datetime.now(UTC).isoformat()},
        "retry": {"entity_ids": [place.entity]},
        "reembed": {"embedder": chance.choice(["wordllama", "minilm", "openai"])},
        "source-rate-limits": {"limit": chance.choice([1, 100]), "window_seconds": 1},
        "search": {
            "query": chance.choice(["budget", "the year", '"a b" -c', "a" * 9_999, "&|!:*'"]),
            "filter": [{"conditions": [condition]}],
        },
    }
    kind = next(
        (kind for kind in ("search", "run", "retry", "recover", "reembed") if f"/{kind}" in template),
        template.split("/")[1],
    )
    if template.endswith(("/search", "/search/stream")):
        usable[kind]["filter"] = chance.choice(LEGACY_FILTERS)
    if chance.random() < SENSIBLE:
        return {**body, **usable[kind]}
    return {name: chance.choice([value, usable[kind].get(name, value)]) for name, value in body.items()}


# Damages


def nasty(chance: random.Random) -> Any:
    return chance.choice([*TEXTS, *NUMBERS, *CONTAINERS, True, None, "x" * LONG, ["x"] * 2_000])


def spoil_value(sent: Sent, chance: random.Random) -> Sent:
    """A value somewhere in the body becomes a nasty one."""

    def spoil(value: Any) -> Any:
        if isinstance(value, dict) and value and chance.random() < 0.8:
            key = chance.choice(sorted(value))
            return {**value, key: spoil(value[key])}
        if isinstance(value, list) and value and chance.random() < 0.8:
            at = chance.randrange(len(value))
            return [*value[:at], spoil(value[at]), *value[at + 1 :]]
        return nasty(chance)

    return sent if sent.body is NOTHING or isinstance(sent.body, bytes) else replace(sent, body=spoil(sent.body))


def nest(sent: Sent, chance: random.Random) -> Sent:
    """The body, or a value in it, is nested deeply."""
    depth = chance.choice([40, 60, 500, 1_500, DEEP])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}"), ('[{"":', "}]")])
    nested = opening * depth + chance.choice(["1", "[]", ""]) + closing * depth
    if isinstance(sent.body, dict) and sent.body and chance.random() < 0.8:
        name = chance.choice(sorted(sent.body))
        mark = uuid4().hex
        nested = json.dumps({**sent.body, name: mark}).replace(f'"{mark}"', nested)
    return replace(sent, body=nested.encode())


def break_bytes(sent: Sent, chance: random.Random) -> Sent:
    """The bytes of the body are not JSON, or JSON in an unusual form."""
    text = (sent.content() or b"{}").decode(errors="replace")
    cut = chance.randrange(len(text) + 1)
    broken: list[bytes] = [
        b"",
        b"\x00" * 100,
        b"\xff\xfe" + text.encode("utf-16-le", "replace"),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-32", "replace"),
        text[:cut].encode(),
        text[:cut].encode() + bytes([chance.randrange(256)]) + text[cut:].encode(),
        text.encode() * 2,
        b" " * LONG + text.encode(),
        text.replace(":", ":1" + "0" * 5_000 + "e5,", 1).encode(),
        b"a=1&b=%00&" + text.encode(),
        b"--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n\x00\r\n--x--",
        json.dumps(text).encode(),
    ]
    return replace(sent, body=chance.choice(broken))


def double_key(sent: Sent, chance: random.Random) -> Sent:
    """A key of the body occurs twice, with another value."""
    if not isinstance(sent.body, dict) or not sent.body:
        return sent
    name = chance.choice(sorted(sent.body))
    rest = json.dumps(sent.body)[1:]
    return replace(sent, body=f"{{{json.dumps(name)}: {json.dumps(nasty(chance))}, {rest}".encode())


def retype(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, headers=(*sent.headers, ("Content-Type", chance.choice(TYPES))))


def drop_body(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, body=NOTHING)


def add_header(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, headers=(*sent.headers, *chance.sample(HEADERS, chance.randrange(1, 4))))


def spoil_query(sent: Sent, chance: random.Random) -> Sent:
    """Keys occur several times or in odd forms, with nasty values."""
    names = ["search", "skip", "limit", "state", "entity_id", "collection", "force_full_sync", "", "limit[]", "é"]
    parts = [sent.query] if sent.query else []
    for _ in range(chance.randrange(1, 5)):
        value = quote_plus(str(nasty(chance))[:5_000], errors="replace")
        parts.append(
            f"{quote_plus(chance.choice(names))}={chance.choice([value, '%ff', '%00', '%', '%ED%A0%80', '1', ''])}"
        )
    chance.shuffle(parts)
    return replace(sent, query=chance.choice("&&&;").join(parts)[:30_000])


def spoil_path(sent: Sent, chance: random.Random) -> Sent:
    """A value in the path is nasty; the ids are then no longer what they were."""
    if not sent.path:
        return sent
    odd = [
        "x" * 10_000,
        "%2e%2e",
        "a%2Fb",
        "%00",
        "%ff",
        "%ED%A0%80",
        "%25",
        "%0d%0aX:1",
        "count",
        "%7B%7D",
        "a;b=c",
        "%20",
    ]
    value = chance.choice([*odd, quote(str(nasty(chance))[:3_000], safe="", errors="replace") or "%20"])
    name = chance.choice(sorted(sent.path))
    return replace(sent, path={**sent.path, name: value}, is_foreign=False)


def change_method(sent: Sent, chance: random.Random) -> Sent:
    return replace(sent, method=chance.choice(ODD_METHODS))


DAMAGES: tuple[Callable[[Sent, random.Random], Sent], ...] = (
    spoil_value, spoil_value, spoil_value, nest, break_bytes, double_key, retype, drop_body, add_header, spoil_query,
    spoil_query, spoil_path, change_method,
)  # fmt: skip
