"""Paginated lists: how to find the next page, and how to notice a list that does not end properly.

    paging = NextCursor("next", param="after", items="recipes")
    for page in self.http.pages("/recipes", paging, start=cursor and cursor.at):
        yield from map(to_entity, page.items)
        if page.next is not None:
            yield Cursor(at=page.next)

Paths into the JSON are dotted ("meta.next"); a key that itself holds dots is found too ("@odata.nextLink").
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from .errors import Unavailable

EMPTY_PAGES = 200  # in a row that are followed while each says that there is more

LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[^\s;,="]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)')
PARAMETER = re.compile(r';\s*([^\s;,="]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?')

PageState = dict[str, Any]  # where reading resumes, as JSON; a cursor stores it unchanged
Params = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    ``answer``: its whole JSON. ``next``: the ``start`` for ``Http.pages`` to resume after this page; None after the
    last one.
    """

    items: list[Any] = field(repr=False)
    answer: Any = field(repr=False)
    next: PageState | None


@dataclass(frozen=True, slots=True)
class Ask:
    """The request for a page. Without a ``body`` it is a GET."""

    target: str
    params: Params | None = None
    body: object = None

    def with_value(self, name: str, value: Any) -> "Ask":
        """Add a parameter: to the body at its dotted path if there is a body, otherwise to the query."""
        if self.body is None:
            return Ask(self.target, {**(self.params or {}), name: value})
        body: Any = deepcopy(self.body)
        *path, last = name.split(".")
        inner = body
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
        return Ask(self.target, self.params, body)


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to the request for a page; ``url`` is the requested URL."""

    json: Any
    headers: Mapping[str, str]
    url: str


class Malformed(Exception):
    """A response that cannot be a page of this list. The message continues the URL."""


class Paging(ABC):
    """How a vendor paginates a list. ``items``: the path of the list; empty if the response itself is the list."""

    items: str

    def first(self) -> Any:
        """Return the position of the first page."""
        return None

    @abstractmethod
    def ask(self, first: Ask, at: Any) -> Ask:
        """Return the request for the page at position ``at``, given the request for the first page."""

    def items_of(self, answer: Answer) -> list[Any]:
        """Return the items of a page. Raises ``Malformed`` if there is no list."""
        found = find(answer.json, self.items)
        if not isinstance(found, list):
            raise Malformed(
                f"answers without the list {self.items!r}"
                if self.items
                else "answers with something that is not a list"
            )
        return found

    @abstractmethod
    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        """Return the position of the page after ``at``, as JSON; None if this was the last.

        ``count`` items are on this page, ``read`` on all pages so far. Raises ``Malformed`` if the list cannot end
        here.
        """


@dataclass(frozen=True)
class LinkHeader(Paging):
    """The next page is given by the ``Link`` header with ``rel="next"`` (RFC 8288)."""

    items: str = ""

    def ask(self, first: Ask, at: Any) -> Ask:
        return first if at is None else Ask(at, None, first.body)

    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        for target, parameters in LINK.findall(answer.headers.get("link", "")):
            relations = [
                quoted or plain for name, quoted, plain in PARAMETER.findall(parameters) if name.lower() == "rel"
            ]
            if relations and "next" in relations[0].lower().split():
                return urljoin(answer.url, target)
        return None


@dataclass(frozen=True)
class NextUrl(Paging):
    """The next page is given by a URL in the JSON, at the path ``url``; null or absent after the last page."""

    url: str
    items: str = ""

    def ask(self, first: Ask, at: Any) -> Ask:
        return first if at is None else Ask(at, None, first.body)

    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        target = find(answer.json, self.url)
        if target is None or target == "":
            return None
        if not isinstance(target, str):
            raise Malformed(f"answers with a {self.url!r} that is not an address")
        return urljoin(answer.url, target)


@dataclass(frozen=True)
class NextCursor(Paging):
    """The next page is given by a string or number in the JSON, at the path ``cursor``, and requested as ``param``;
    null, empty or absent after the last page.

    ``more``: the path of a boolean that says whether there is more, for vendors that give a cursor after the last page
    too.
    """

    cursor: str
    param: str
    items: str = ""
    more: str | None = None

    def ask(self, first: Ask, at: Any) -> Ask:
        return first if at is None else first.with_value(self.param, at)

    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        following = find(answer.json, self.cursor)
        is_last = following is None or following == ""
        if self.more is not None:
            if not _says_more(answer, self.more):
                return None
            if is_last:
                raise Malformed(f"says that there is more, but its {self.cursor!r} is empty")
        if is_last:
            return None
        if isinstance(following, bool) or not isinstance(following, str | int):
            raise Malformed(f"answers with a {self.cursor!r} that is neither text nor number")
        return following


@dataclass(frozen=True)
class Offset(Paging):
    """The next page begins after the items read so far. ``offset`` and ``limit`` name the parameters, ``size`` is the
    page size.

    The list ends when ``total`` items are read (the path of a number), or when ``more`` (the path of a boolean) is
    false; without either, at an empty page.
    """

    size: int = 100
    items: str = ""
    total: str | None = None
    more: str | None = None
    offset: str = "offset"
    limit: str = "limit"

    def first(self) -> Any:
        return 0

    def ask(self, first: Ask, at: Any) -> Ask:
        return first.with_value(self.limit, self.size).with_value(self.offset, at)

    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        return None if _ends(answer, count, read, self.total, self.more) else at + count


@dataclass(frozen=True)
class PageNumber(Paging):
    """Pages are numbered from ``start`` on and requested by the parameter ``param``.

    The list ends when ``total`` items are read, after page number ``last`` (both are paths of numbers), or when
    ``more`` (the path of a boolean) is false; without any of these, at an empty page.
    """

    param: str = "page"
    start: int = 1
    items: str = ""
    total: str | None = None
    last: str | None = None
    more: str | None = None

    def first(self) -> Any:
        return self.start

    def ask(self, first: Ask, at: Any) -> Ask:
        return first.with_value(self.param, at)

    def follow(self, answer: Answer, at: Any, count: int, read: int) -> Any:
        if self.last is not None:
            last = _number(answer, self.last)
            if at >= last:
                return None
            if not count:
                raise Malformed(f"gives an empty page {at}, but says that {last} is the last")
            return at + 1
        return None if _ends(answer, count, read, self.total, self.more) else at + 1


def walk(
    fetch: Callable[[Ask], Answer],
    paging: Paging,
    first: Ask,
    *,
    where: str,
    start: PageState | None = None,
    clean: Callable[[str], str] = str,
) -> Iterator[Page]:
    """Yield the pages of a list from ``start`` on. ``clean`` removes from a URL what must not be stored.

    Raises ``Unavailable``, naming ``where``, if the list leads back to itself or cannot be complete.
    """
    at, read = (paging.first(), 0) if start is None else (start["at"], start["read"])
    asked: set[bytes] = set()
    met: set[bytes] = set()
    empty = 0
    while True:
        asked.add(_digest(at))
        answer = fetch(paging.ask(first, at))
        try:
            items = paging.items_of(answer)
            read += len(items)
            following = paging.follow(answer, at, len(items), read)
        except Malformed as error:
            raise Unavailable(f"{where} {error}") from None
        if isinstance(following, str):
            following = clean(following)
        if items and (mark := _digest(items)) in met:
            raise Unavailable(f"the list {where} leads back to itself: it returned the same page again")
        elif items:
            met.add(mark)
        if following is not None and _digest(following) in asked:
            raise Unavailable(f"the list {where} leads back to itself: its next page has already been read")
        empty = 0 if items else empty + 1
        if empty > EMPTY_PAGES:
            raise Unavailable(f"the list {where} returned {empty} empty pages in a row, each with a next page")
        yield Page(items, answer.json, None if following is None else {"at": following, "read": read})
        if following is None:
            return
        at = following


def find(answer: Any, path: str) -> Any:
    """Return the value at a path in JSON; None if there is none."""
    if not path:
        return answer
    if not isinstance(answer, dict):
        return None
    if path in answer:
        return answer[path]
    key, _, rest = path.partition(".")
    return find(answer[key], rest) if rest and key in answer else None


def _ends(answer: Answer, count: int, read: int, total: str | None, more: str | None) -> bool:
    if total is not None:
        wanted = _number(answer, total)
        if not count and read < wanted:
            raise Malformed(f"gives an empty page after {read} items, but says that there are {wanted}")
        return read >= wanted
    if more is not None:
        if not count and _says_more(answer, more):
            raise Malformed(f"gives an empty page after {read} items, but says that there is more")
        return not _says_more(answer, more)
    return not count


def _says_more(answer: Answer, path: str) -> bool:
    found = find(answer.json, path)
    if not isinstance(found, bool):
        raise Malformed(f"answers without {path!r}, which says whether there is more")
    return found


def _number(answer: Answer, path: str) -> int:
    found = find(answer.json, path)
    if isinstance(found, bool) or not isinstance(found, int):
        raise Malformed(f"answers without the number {path!r}")
    return found


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()
