"""The suite that connectors inherit: it passes right ones, and refuses every way to end a listing quietly."""

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, SecretStr

from airweave_server.sdk import (
    AuthError,
    Bearer,
    BearerCredentials,
    Entity,
    Items,
    LinkHeader,
    NextCursor,
    NextUrl,
    Offset,
    PageNumber,
    PageState,
    Paging,
    Partition,
    Patience,
    Rate,
    Skipped,
    Source,
    SourceError,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.http import Http
from airweave_server.sdk.testing import SourceSuite
from airweave_server.sdk.vendor import KINDS, Asked, Fault, Kind, Reply, Shape, Vendor

SECRET = "canary-4711"
SIZE = 10
GOODS = [{"id": f"g{number:02}", "name": f"good {number}", "text": f"text of {number}"} for number in range(28)]


class Shop(Vendor):
    """Lists its goods in every style, and refuses who has no token."""

    def answer(self, request: Asked) -> Reply:
        if request.headers.get("authorization") != f"Bearer {SECRET}":
            return Reply({"error": "sign in"}, 401)
        _, style, *rest = request.path.split("/")
        if style == "goods":
            return Reply(next(good for good in GOODS if good["id"] == rest[0]))
        if style == "shelves":
            return Reply({"shelves": ["a", "b"]})
        asked = (request.json or {}).get("at") if style == "posted" else request.params.get("at", "0")
        begin = int((asked or "0").removeprefix("c"))
        if style == "number":
            begin = SIZE * (begin - 1)
        goods = GOODS
        if style == "shelf":
            goods = GOODS[:13] if rest[0] == "a" else GOODS[13:]
        items, end = goods[begin : begin + SIZE], begin + SIZE
        following = end if end < len(goods) else None
        match style:
            case "link":
                return Reply(items, headers={"Link": f'<?at={following}>; rel="next"'} if following else {})
            case "url":
                return Reply(
                    {"value": items, "@odata.nextLink": f"{self.url}/url?at={following}" if following else None}
                )
            case "cursor":
                return Reply({"items": items, "next_cursor": f"c{following}" if following else ""})
            case "posted":
                more = following is not None
                return Reply({"results": items, "next_cursor": f"c{end}" if more else None, "has_more": more})
            case "next":
                return Reply({"items": items, "next": following, "total": len(GOODS)})
            case "more":
                return Reply({"items": items, "page": {"endCursor": f"c{end}", "hasNextPage": following is not None}})
            case "offset":
                return Reply({"items": items, "total": len(GOODS)})
            case "flag" | "shelf":
                return Reply({"items": items, "has_more": following is not None})
            case "number":
                return Reply({"items": items, "meta": {"total": len(GOODS)}})
        return Reply(status=404)


class Config(BaseModel):
    url: str


class Cursor(BaseModel):
    at: PageState


class Goods(Source[Config, Cursor]):
    """Reads the goods with the kit."""

    name = "goods"
    title = "Goods"
    auth = Bearer()
    style: ClassVar[str] = "cursor"
    paging: ClassVar[Paging] = NextCursor("next_cursor", param="at", items="items")

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        for page in self.http.pages(f"/{self.style}", self.paging, start=cursor and cursor.at):
            yield from map(self.entity, page.items)
            if page.next is not None:
                yield Cursor(at=page.next)

    def entity(self, good: dict[str, str]) -> Entity:
        return Entity(id=good["id"], name=good["name"], type="Good", text=good["text"])


class ByLink(Goods):
    style = "link"
    paging = LinkHeader()


class ByUrl(Goods):
    style = "url"
    paging = NextUrl("@odata.nextLink", items="value")


class ByCursorAndMore(Goods):
    style = "more"
    paging = NextCursor("page.endCursor", param="at", items="items", more="page.hasNextPage")


class ByPost(Goods):
    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        paging = NextCursor("next_cursor", param="at", items="results", more="has_more")
        for page in self.http.pages("/posted", paging, body={"filter": {}}, start=cursor and cursor.at):
            yield from map(self.entity, page.items)
            if page.next is not None:
                yield Cursor(at=page.next)


class ByNext(Goods):
    """The next page is a number, and the vendor tells a total besides."""

    style = "next"
    paging = NextCursor("next", param="at", items="items")
    rate = Rate(1, 3600)


class ByOffset(Goods):
    style = "offset"
    paging = Offset(size=SIZE, items="items", total="total", offset="at")


class ByFlag(Goods):
    style = "flag"
    paging = Offset(size=SIZE, items="items", more="has_more", offset="at")


class ByNumber(Goods):
    style = "number"
    paging = PageNumber(param="at", items="items", total="meta.total")


class OnShelves(Goods):
    """Partitions that the vendor lists, texts that are fetched one by one when they are opened."""

    def partitions(self) -> Iterator[Partition]:
        for shelf in self.http.json("/shelves")["shelves"]:
            yield Partition(key=shelf)

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        paging = Offset(size=SIZE, items="items", more="has_more", offset="at")
        for page in self.http.pages(f"/shelf/{partition.key}", paging, start=cursor and cursor.at):
            yield from map(self.entity, page.items)
            if page.next is not None:
                yield Cursor(at=page.next)

    def entity(self, good: dict[str, str]) -> Entity:
        return Entity(
            id=good["id"], name=good["name"], type="Good", open=partial(self.http.open, f"/goods/{good['id']}")
        )


RIGHT = [Goods, ByLink, ByUrl, ByCursorAndMore, ByPost, ByNext, ByOffset, ByFlag, ByNumber, OnShelves]


class Suite(SourceSuite):
    """The suite over a kind of source."""

    vendor: Vendor = Shop()
    kind: ClassVar[type[Goods]] = Goods
    secrets = (SECRET,)

    def source(self) -> Goods:
        credentials = BearerCredentials(access_token=SecretStr(SECRET))
        return self.kind(Config(url=self.vendor.url), credentials, self.vendor.context())


class TestByCursor(Suite): ...


class TestByCursorAndMore(Suite):
    kind = ByCursorAndMore


class TestByPost(Suite):
    kind = ByPost


class TestByNext(Suite):
    kind = ByNext


class TestByLink(Suite):
    kind = ByLink


class TestByUrl(Suite):
    kind = ByUrl


class TestByOffset(Suite):
    kind = ByOffset


class TestByFlag(Suite):
    kind = ByFlag


class TestByNumber(Suite):
    kind = ByNumber


class TestOnShelves(Suite):
    kind = OnShelves


def refusal_of(wrong: type[Goods]) -> str:
    """What the inherited test says of a wrong connector, which passes all other tests of the suite."""

    class Wrong(Suite):
        kind = wrong
        vendor = Shop()

    suite = Wrong()
    suite.setup_method()
    try:
        with pytest.raises(AssertionError) as caught:
            suite.test_no_fault_of_the_vendor_ends_a_read_as_if_all_were_well()
        suite.vendor.play()
        suite.test_all_is_read_with_ids_that_are_unique_and_stable()
        suite.test_reading_goes_on_from_every_cursor_and_loses_nothing()
    finally:
        suite.teardown_method()
    return str(caught.value)


SWALLOWED = {
    "401": "(401)",
    "403": "(403)",
    "404": "(404)",
    "410": "(410)",
    "429": "answers 429",
    "500": "answers 500",
    "a cut body": "broke off",
    "a hang": "does not answer in time",
}


ALL_OF_IT = "28 of 28 entities: 'g00', 'g01', 'g02', 'g03', 'g04', …"
THE_REST = "18 of 28 entities: 'g10', 'g11', 'g12', 'g13', 'g14', …"


@pytest.mark.parametrize(
    ("fault", "at", "deletes"),
    [(fault, *((1, ALL_OF_IT), (2, THE_REST))[number % 2]) for number, fault in enumerate(SWALLOWED)],
    ids=SWALLOWED,
)
def test_a_connector_that_takes_an_error_for_the_end_is_refused(fault: str, at: int, deletes: str) -> None:
    class Swallows(Goods):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            begun = at == 1
            try:
                for item in super().read(partition, cursor):
                    begun = True
                    yield item
            except SourceError as error:
                if SWALLOWED[fault] not in str(error) or not begun:
                    raise

    told = refusal_of(Swallows)
    first, *others = told.splitlines()
    assert first.startswith(f"request {at} of 3 (GET /cursor) is answered by {fault}")
    assert f"a job would delete {deletes}" in first
    assert all(f"is answered by {fault}" in line for line in others[:-1])


class ByHand(Goods):
    """Turns pages by itself: by offsets up to the total, without a guard."""

    def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
        read = cursor.at["at"] if cursor else 0
        while True:
            answer = self.http.json("/offset", params={"at": read})
            yield from map(self.entity, answer["items"])
            read += len(answer["items"])
            if read >= answer["total"] or not answer["items"]:
                return
            yield Cursor(at={"at": read})


def test_a_connector_that_takes_the_same_page_twice_is_refused() -> None:
    told = refusal_of(ByHand)
    assert "request 1 of 3 (GET /offset) is answered by the page before, again from then on" in told
    assert "a job would delete 18 of 28 entities: 'g10'" in told


def test_a_connector_that_takes_an_empty_page_before_the_total_for_the_end_is_refused() -> None:
    told = refusal_of(ByHand)
    assert "request 1 of 3 (GET /offset) is answered by an empty page, once" in told
    assert "a job would delete 28 of 28 entities: 'g00'" in told


@pytest.mark.parametrize("style", ["link", "url", "cursor"])
def test_a_connector_that_takes_an_empty_page_with_a_next_one_for_the_end_is_refused(style: str) -> None:
    class EndsAtEmpty(Goods):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            paging = {"link": ByLink, "url": ByUrl, "cursor": Goods}[style].paging
            for page in self.http.pages(f"/{style}", paging, start=cursor and cursor.at):
                if not page.items:
                    return
                yield from map(self.entity, page.items)
                if page.next is not None:
                    yield Cursor(at=page.next)

    told = refusal_of(EndsAtEmpty)
    assert f"request 1 of 3 (GET /{style}) is answered by an empty page, once" in told
    assert "a job would delete 28 of 28 entities: 'g00'" in told
    assert "page before" not in told


def test_a_connector_that_ends_at_an_empty_page_though_there_is_more_is_refused() -> None:
    class ToEmpty(ByFlag):
        paging = Offset(size=SIZE, items="items", offset="at")

    told = refusal_of(ToEmpty)
    assert "request 1 of 4 (GET /flag) is answered by an empty page, once" in told
    assert "a job would delete 28 of 28 entities" in told


def test_a_connector_that_follows_a_link_for_ever_is_refused() -> None:
    class ForEver(Goods):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            at = cursor.at["at"] if cursor else None
            met = set()
            while True:
                answer = self.http.json("/cursor", params={"at": at})
                for good in answer["items"]:
                    if good["id"] not in met:
                        met.add(good["id"])
                        yield self.entity(good)
                at = answer["next_cursor"]
                if not at:
                    return
                yield Cursor(at={"at": at})

    told = refusal_of(ForEver)
    assert "(GET /cursor) is answered by the page before, again from then on: the read does not end" in told


def test_a_connector_that_skips_an_entity_whose_credentials_are_refused_is_refused() -> None:
    class SkipsAll(OnShelves):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            for item in super().read(partition, cursor):
                if not isinstance(item, Entity):
                    yield item
                    continue
                try:
                    item.text = self.http.get(f"/goods/{item.id}", one_entity=True).text
                except (AuthError, Unreadable) as error:
                    yield Skipped(item.id, str(error))
                else:
                    item.open = None
                    yield item

    told = refusal_of(SkipsAll)
    assert "is answered by 401" in told
    assert "the read skips 'g00' instead of raising AuthError" in told
    assert "is answered by 403" not in told, "around one entity these are rightly skipped"
    assert "is answered by 404" not in told


def test_a_connector_that_gives_entities_without_their_text_is_refused() -> None:
    class Hollow(OnShelves):
        def entity(self, good: dict[str, str]) -> Entity:
            try:
                text = self.http.get(f"/goods/{good['id']}", one_entity=True).text
            except Unreadable:
                text = ""
            return Entity(id=good["id"], name=good["name"], type="Good", text=text)

    told = refusal_of(Hollow)
    assert "is answered by 404" in told
    assert "entities without their text: 'g00'" in told


def test_a_connector_that_raises_anything_else_is_refused() -> None:
    class Stumbles(Goods):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            try:
                yield from super().read(partition, cursor)
            except Unavailable:
                raise KeyError("items") from None

    assert "the read raises KeyError, which is not a SourceError: 'items'" in refusal_of(Stumbles)


def test_a_connector_that_tells_its_secret_in_an_error_is_refused() -> None:
    class Tells(Goods):
        def read(self, partition: Partition, cursor: Cursor | None) -> Items[Cursor]:
            try:
                yield from super().read(partition, cursor)
            except Unavailable as error:
                raise Unavailable(f"{error} with {SECRET}") from None

    told = refusal_of(Tells)
    assert "a secret of the configuration or the credentials is shown" in told


def test_a_source_that_does_not_take_the_vendors_context_is_told_so() -> None:
    class Impatient(Suite):
        def source(self) -> Goods:
            source = super().source()
            object.__setattr__(source.context, "patience", None)
            return source

    suite = Impatient()
    suite.setup_method()
    with pytest.raises(AssertionError, match=r"vendor\.context\(\)"):
        suite.test_no_fault_of_the_vendor_ends_a_read_as_if_all_were_well()
    suite.teardown_method()


def test_a_suite_without_a_vendor_passes_no_source_that_asks_over_http() -> None:
    with Shop() as shop:

        class Unplayed(SourceSuite):
            def source(self) -> Goods:
                credentials = BearerCredentials(access_token=SecretStr(SECRET))
                return Goods(Config(url=shop.url), credentials, shop.context())

        with pytest.raises(AssertionError, match="give the suite a vendor that can fail"):
            Unplayed().test_no_fault_of_the_vendor_ends_a_read_as_if_all_were_well()


def test_a_vendor_that_fails_itself_is_named() -> None:
    class Broken(Shop):
        def answer(self, request: Asked) -> Reply:
            if request.params.get("at") == "c10":
                raise KeyError("shelf")
            return super().answer(request)

    class OverBroken(Suite):
        vendor = Broken()

    suite = OverBroken()
    suite.setup_method()
    with pytest.raises(Exception, match=r".+") as caught:
        suite.test_no_fault_of_the_vendor_ends_a_read_as_if_all_were_well()
    assert "KeyError('shelf')" in "".join(traceback.format_exception(caught.value))
    suite.teardown_method()


def test_a_vendor_stops_in_milliseconds_even_while_it_hangs() -> None:
    vendor = Shop()
    vendor.start()
    vendor.play(Fault("a hang", 1))
    with Http(vendor.url, context=vendor.context(), headers={"Authorization": f"Bearer {SECRET}"}) as http:
        assert http.json("/cursor")["next_cursor"] == "c10", "it passes"
        began = time.monotonic()
        vendor.stop()
    assert time.monotonic() - began < 0.1
    with pytest.raises(RuntimeError, match="not started"):
        _ = vendor.url


@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("kind", RIGHT)
def test_every_fault_strikes_in_every_style(kind: type[Goods], fault: Kind) -> None:
    class Right(Suite):
        vendor = Shop()

    Right.kind = kind
    suite = Right()
    suite.setup_method()
    at = 3 if kind is OnShelves and fault == "the page before, again" else 2
    suite.vendor.play(Fault(fault, at))
    source = suite.source()
    with contextlib.suppress(SourceError):
        assert [item for partition in source.partitions() for item in source.read(partition, None)]
    source.close()
    suite.teardown_method()
    assert suite.vendor.struck == 1


@pytest.mark.parametrize(("lasts", "found"), [(False, [200, 404, 200]), (True, [200, 404, 404])])
def test_a_fault_passes_or_lasts(lasts: bool, found: list[int]) -> None:
    with Shop() as vendor:
        vendor.play(Fault("404", 2, lasts=lasts))
        statuses: list[Any] = []
        with Http(vendor.url, context=vendor.context(), headers={"Authorization": f"Bearer {SECRET}"}) as http:
            for _ in range(3):
                try:
                    statuses.append(http.get("/shelves").status)
                except SourceError:
                    statuses.append(404)
        assert statuses == found
        assert vendor.requests == 3
        assert [str(asked) for asked in vendor.log] == ["GET /shelves"] * 3


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        ([{"id": 1}], Shape("")),
        ({"recipes": [], "next": None}, Shape("recipes", next="next")),
        ({"value": [{}], "@odata.nextLink": "https://…"}, Shape("value", next="@odata.nextLink")),
        (
            {"data": {"issues": {"nodes": [{}], "pageInfo": {"hasNextPage": True, "endCursor": "x"}}}},
            Shape("data.issues.nodes", next="data.issues.pageInfo.endCursor", more="data.issues.pageInfo.hasNextPage"),
        ),
        ({"tags": ["a"], "items": [{}], "meta": {"total_count": 5}}, Shape("items", total="meta.total_count")),
        ({"values": [{}], "_links": {"next": {"href": "/x"}}}, Shape("values", next="_links.next.href")),
        (
            {"ok": True, "channels": [{}], "response_metadata": {"next_cursor": "dX"}},
            Shape("channels", next="response_metadata.next_cursor"),
        ),
        ({"id": 1, "tags": ["a"], "title": "an entity"}, None),
        ({"error": "none"}, None),
        ("text", None),
        (None, None),
    ],
)
def test_a_page_is_recognized_by_its_json(answer: Any, shape: Shape | None) -> None:
    assert Shop().shape(Asked("GET", "/", {}, {}, b""), Reply(answer)) == shape


class Unchanged(Vendor):
    def answer(self, request: Asked) -> Reply:
        return Reply(status=304 if "if-none-match" in request.headers else 204)


def test_an_answer_that_may_have_no_body_has_none() -> None:
    with (
        Unchanged() as vendor,
        Http(vendor.url, context=replace(vendor.context(), patience=Patience(attempts=1))) as http,
    ):
        for headers in ({}, {"If-None-Match": "1"}, {}):
            assert http.get("/", headers=headers).body == b""
