"""Lists in pages: every style is read whole and from every page on, and no list ends quietly that should not."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr

from airweave_server.sdk import (
    ApiKey,
    ApiKeyCredentials,
    Context,
    LinkHeader,
    NextCursor,
    NextUrl,
    Offset,
    PageNumber,
    Paging,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.http import Http
from airweave_server.sdk.pages import EMPTY_PAGES

ITEMS = [{"id": number} for number in range(7)]
SIZE = 3
Answers = Callable[[dict[str, Any]], tuple[Any, dict[str, str]]]


class Place(ThreadingHTTPServer):
    """Answers each request as ``answer`` says, given its parameters; keeps those in ``asked``."""

    answer: Answers
    asked: list[dict[str, Any]]
    origin: str


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place: Place = self.server  # type: ignore[assignment]
        given = dict(parse_qsl(urlsplit(self.path).query))
        length = int(self.headers.get("content-length", 0))
        given |= json.loads(self.rfile.read(length)) if length else {}
        place.asked.append(given | {"_path": urlsplit(self.path).path, "_headers": dict(self.headers)})
        answer, headers = place.answer(given)
        body = json.dumps(answer).encode()
        self.send_response(headers.pop("status", 200))
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def place(answer: Answers, *, auth: Any = None, credentials: Any = None) -> Iterator[tuple[Http, Place]]:
    server = Place(("127.0.0.1", 0), Handler)
    server.answer, server.asked = answer, []
    server.origin = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    context = Context(allowed_hosts=("127.0.0.1",))
    with Http(server.origin, context=context, auth=auth, credentials=credentials, attempts=1) as http:
        yield http, server
    server.shutdown()
    server.server_close()


def cut(begin: int) -> tuple[list[Any], int | None]:
    """The items of a page, and where the next begins."""
    end = begin + SIZE
    return ITEMS[begin:end], end if end < len(ITEMS) else None


def by_link(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    items, following = cut(int(given.get("begin", 0)))
    links = '</list>; rel="first"; title="a, \\"b\\"; rel=next"'
    if following:
        links += f', </list?begin={following}&kind={given["kind"]}>; REL="last  next"'
    return items, {"Link": links}


def by_url(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    items, following = cut(int(given.get("begin", 0)))
    target = f"?begin={following}&kind={given['kind']}" if following else None
    return {"value": items, "@odata.nextLink": target}, {}


def by_cursor(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    items, following = cut(int(given.get("after", "c0")[1:]))
    answer: dict[str, Any] = {"data": {"nodes": items, "page": {}}}
    if following:
        answer["data"]["page"]["end"] = f"c{following}"
    return answer, {}


def by_cursor_in_body(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    items, following = cut(int(given["variables"].get("after", 0)))
    return {"items": items, "end": following or len(ITEMS), "more": following is not None}, {}


def by_offset(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    return {"items": ITEMS[int(given["offset"]) :][: min(int(given["limit"]), SIZE)], "total": len(ITEMS)}, {}


def by_offset_and_more(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    items, following = cut(int(given["skip"]))
    return {"items": items, "has_more": following is not None}, {}


def by_number(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    return {"items": cut(SIZE * (int(given["page"]) - 1))[0], "meta": {"last": 3, "total": len(ITEMS)}}, {}


STYLES: dict[str, tuple[Paging, Answers, Any, int]] = {
    "link": (LinkHeader(), by_link, None, 3),
    "url": (NextUrl("@odata.nextLink", items="value"), by_url, None, 3),
    "cursor": (NextCursor("data.page.end", param="after", items="data.nodes"), by_cursor, None, 3),
    "cursor in the body": (
        NextCursor("end", param="variables.after", items="items", more="more"),
        by_cursor_in_body,
        {"query": "{}", "variables": {}},
        3,
    ),
    "offset": (Offset(size=50, items="items", total="total"), by_offset, None, 3),
    "offset, to an empty page": (Offset(size=50, items="items"), by_offset, None, 4),
    "offset, more": (Offset(items="items", more="has_more", offset="skip"), by_offset_and_more, None, 3),
    "number": (PageNumber(items="items", total="meta.total"), by_number, None, 3),
    "number, last": (PageNumber(items="items", last="meta.last"), by_number, None, 3),
    "number, to an empty page": (PageNumber(items="items"), by_number, None, 4),
}


@pytest.mark.parametrize("style", STYLES)
def test_a_list_is_read_whole_and_from_every_page_on(style: str) -> None:
    paging, answer, body, requests = STYLES[style]
    with place(answer) as (http, server):
        pages = list(http.pages("/list", paging, params={"kind": "all"}, body=body))
        assert [item for page in pages for item in page.items] == ITEMS
        assert len(server.asked) == requests
        assert pages[-1].next is None
        assert all(asked["kind"] == "all" for asked in server.asked)
        for number, page in enumerate(pages[:-1], 1):
            start = json.loads(json.dumps(page.next))
            rest = http.pages("/list", paging, params={"kind": "all"}, body=body, start=start)
            assert [item for other in rest for item in other.items] == [i for p in pages[number:] for i in p.items]


@pytest.mark.parametrize("style", STYLES)
def test_the_same_page_again_is_raised(style: str) -> None:
    """A vendor, or a proxy in between, answers a page with the one before."""
    paging, answer, body, _ = STYLES[style]
    answers: list[Any] = []

    def repeating(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        answers.append(answer(given))
        return answers[-2] if len(answers) == 2 else answers[-1]

    with (
        place(repeating) as (http, server),
        pytest.raises(Unavailable, match=r"the list http://127\.0\.0\.1:\d+/list leads back to itself"),
    ):
        list(http.pages("/list", paging, params={"kind": "all"}, body=body))
    assert len(server.asked) == 2


@pytest.mark.parametrize("style", [style for style in STYLES if "empty" not in style])
def test_an_empty_page_is_followed_or_raised_but_is_no_end(style: str) -> None:
    paging, answer, body, _ = STYLES[style]
    asked = 0

    def emptied(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        nonlocal asked
        asked += 1
        found, headers = answer(given)
        return (_without_items(found), headers) if asked == 2 else (found, headers)

    with place(emptied) as (http, _):
        if style.startswith(("offset", "number")):
            with pytest.raises(Unavailable, match=r"/list gives an empty page .*, but says that"):
                list(http.pages("/list", paging, params={"kind": "all"}, body=body))
        else:
            pages = list(http.pages("/list", paging, params={"kind": "all"}, body=body))
            assert [len(page.items) for page in pages] == [3, 0, 1]


def _without_items(answer: Any) -> Any:
    if isinstance(answer, list):
        return []
    return {key: _without_items(value) if isinstance(value, dict | list) else value for key, value in answer.items()}


def test_a_next_page_that_was_read_already_is_raised() -> None:
    def circle(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        number = int(given.get("p", 0))
        return {"items": [number], "next": f"/list?p={number % 3 + 1}"}, {}

    with place(circle) as (http, server), pytest.raises(Unavailable, match="its next page has already been read"):
        list(http.pages("/list", NextUrl("next", items="items")))
    assert len(server.asked) == 4


def test_empty_pages_without_end_are_bounded() -> None:
    numbers = iter(range(10_000))
    with (
        place(lambda _: ({"items": [], "next": f"c{next(numbers)}"}, {})) as (http, server),
        pytest.raises(Unavailable, match="empty pages in a row"),
    ):
        list(http.pages("/list", NextCursor("next", param="c", items="items")))
    assert len(server.asked) == EMPTY_PAGES + 1


@pytest.mark.parametrize(
    ("paging", "answer", "told"),
    [
        (LinkHeader(), {"error": "x"}, "not a list"),
        (LinkHeader(items="items"), [], "without the list 'items'"),
        (NextUrl("next", items="items"), {"items": None}, "without the list 'items'"),
        (NextUrl("next", items="items"), {"items": [], "next": 5}, "not an address"),
        (NextCursor("next", param="c", items="items"), {"items": [], "next": True}, "neither text nor number"),
        (NextCursor("next", param="c", items="items"), {"items": [], "next": {}}, "neither text nor number"),
        (NextCursor("next", param="c", items="items", more="more"), {"items": [], "next": "x"}, "without 'more'"),
        (NextCursor("next", param="c", items="items", more="more"), {"items": [], "more": True}, "'next' is empty"),
        (Offset(items="items", total="total"), {"items": [1]}, "without the number 'total'"),
        (Offset(items="items", more="more"), {"items": [1], "more": 1}, "without 'more'"),
        (PageNumber(items="items", last="last"), {"items": [1], "last": "2"}, "without the number 'last'"),
    ],
)
def test_an_answer_that_is_no_page_is_raised(paging: Paging, answer: Any, told: str) -> None:
    with place(lambda _: (answer, {})) as (http, _), pytest.raises(Unavailable, match=told):
        list(http.pages("/list", paging))


def test_a_list_around_one_entity_may_be_refused() -> None:
    with place(lambda _: ({}, {"status": 404})) as (http, _), pytest.raises(Unreadable):  # type: ignore[dict-item]
        list(http.pages("/list", LinkHeader(), one_entity=True))


def test_a_key_that_a_vendor_puts_into_its_links_is_not_stored() -> None:
    def echo(given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        assert given["api_key"] == "canary-1"
        items, following = cut(int(given.get("begin", 0)))
        return {"items": items, "next": f"/list?api_key=canary-1&begin={following}" if following else None}, {}

    credentials = ApiKeyCredentials(api_key=SecretStr("canary-1"))
    with place(echo, auth=ApiKey(query="api_key"), credentials=credentials) as (http, _):
        pages = list(http.pages("/list", NextUrl("next", items="items")))
    assert sum(len(page.items) for page in pages) == len(ITEMS)
    assert "canary" not in repr([page.next for page in pages])
    assert "begin=3" in repr(pages[0].next)


def test_headers_of_a_list_do_not_follow_a_link_to_another_origin() -> None:
    with (
        place(lambda _: ([1], {})) as (_, other),
        place(lambda given: ([0], {"Link": f"<{other.origin}/list>; rel=next"})) as (http, server),
    ):
        assert len(list(http.pages("/list", LinkHeader(), headers={"X-Key": "canary-1"}))) == 2
    assert server.asked[0]["_headers"]["x-key"] == "canary-1"
    assert "canary-1" not in repr(other.asked)
