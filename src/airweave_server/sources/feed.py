"""Feeds of the web: RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0. Knows XML and dates, and how feeds in the wild break
their rules; what their HTML means is the engine's business.

A feed is a partition and an entity, its entries are entities below it. An entry's version is a digest of what is made
of it, since many feeds edit entries without a new date.
"""

import codecs
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import escape, unescape
from html.entities import html5
from html.parser import HTMLParser
from typing import Literal
from urllib.parse import urldefrag, urljoin, urlsplit
from xml.etree.ElementTree import Element, tostring

from pydantic import BaseModel, Field, field_validator

from airweave_server.sdk import (
    AuthError,
    Breadcrumb,
    ConfigError,
    Entity,
    Items,
    Partition,
    Skipped,
    Source,
    SourceError,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.http import Response
from airweave_server.sdk.xml import parse

MAX_FEEDS = 100
MAX_URL_CHARS = 2_000
MAX_KEY_CHARS = 200  # of an address, before the digest of all of it
MAX_ID_BYTES = 500  # of what a feed calls an entry; longer ones are digested
MAX_NAME_CHARS = 300
MAX_LABELS = 50  # categories, and enclosures, of an entry
MAX_LABEL_CHARS = 500
MAX_CONDITION_CHARS = 1_000  # of an ETag or a date that is sent back
CHECKED_AT_ONCE = 8
LOOKED_AT_CHARS = 200_000  # of a web page, for links to feeds
SHOWN = 5  # problems, or links, in a message
YEARS = range(1900, 2200)  # of a date that is taken for one

ATOM = ("http://www.w3.org/2005/Atom", "http://purl.org/atom/ns#")
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "{http://purl.org/dc/elements/1.1/}"
TERMS = "{http://purl.org/dc/terms/}"
CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"

ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.8"
FEED_TYPES = ("application/rss+xml", "application/atom+xml")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
MEANT = {  # what is written under the name of a smaller encoding
    "ascii": "utf-8", "iso8859-1": "cp1252", "shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030",
    "euc_kr": "cp949",
}  # fmt: skip
NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "unicode_escape", "utf-7"}

DECLARED = re.compile(rb"""\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._:-]{1,40})""", re.IGNORECASE)
PLAIN_DOCTYPE = re.compile(r"""<!DOCTYPE(?:[^\[\]<>"']|"[^"]*"|'[^']*')*>""", re.IGNORECASE)
PAGE = re.compile(r"<(?:html|head|body|title|meta|script)[\s>]", re.IGNORECASE)
BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # characters that XML has not
REFERENCES = re.compile(  # and, first, what may hold an ampersand that is none; unclosed, each runs to the end
    r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<\?.*?(?:\?>|\Z)|&(?:#(\d{1,8}|[xX][0-9a-fA-F]{1,8});|(\w{1,40});)?",
    re.DOTALL,
)
INLINE = "a|abbr|b|big|br|cite|code|del|em|font|i|img|ins|kbd|mark|p|q|s|small|span|strike|strong|sub|sup|tt|u|var|wbr"
INLINE_TAG = re.compile(rf"</?(?:{INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
MARKUP = re.compile(r"<[a-zA-Z/!]|&#?\w+;")
RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)(?:-(\d\d))?(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,]\d+)?\s*([Zz]|[+-]\d\d:?\d\d)?)?\Z"
)

Form = Literal["plain", "html"]


class FeedConfig(BaseModel):
    """Feeds that are read together, without a sign-in."""

    urls: list[str] = Field(
        min_length=1, max_length=MAX_FEEDS, description="Addresses of RSS or Atom feeds: http or https, 1 to 100."
    )

    @field_validator("urls")
    @classmethod
    def _must_be_addresses(cls, urls: list[str]) -> list[str]:
        cleaned = [urldefrag(url.strip()).url for url in urls]
        for url in cleaned:
            _must_be_address(url)
        twice = [url for url, count in Counter(cleaned).items() if count > 1]
        if twice:
            raise ValueError(f"{_where(twice[0])} is listed twice")
        return cleaned


class FeedCursor(BaseModel):
    """What the feed's server said of the state that was read, to be sent back as it is."""

    etag: str | None = None
    last_modified: str | None = None


class Feed(Source[FeedConfig, FeedCursor]):
    """Reads each feed whole, or not at all when its server says that nothing changed."""

    name = "feed"
    title = "RSS and Atom feeds"
    description = "News, blogs and podcasts by their feeds. What rolls off a feed stays."
    labels = ("web",)
    entity_types = ("Feed", "Entry")
    tells_changes = True
    is_window = True

    def root_url(self) -> str:
        return self.config.urls[0]

    def check(self) -> None:
        """Fetch every feed when a person connects them. A job does without: it fetches them anyway."""
        if not self.context.is_connecting:
            return
        with ThreadPoolExecutor(CHECKED_AT_ONCE) as pool:
            problems = [problem for problem in pool.map(self._problem, self.config.urls) if problem is not None]
        final = [str(problem) for problem in problems if isinstance(problem, ConfigError)]
        if final:
            more = f" (and {len(final) - SHOWN} more)" if len(final) > SHOWN else ""
            raise ConfigError("; ".join(final[:SHOWN]) + more)
        if problems:
            raise problems[0]

    def partitions(self) -> Iterator[Partition]:
        for url in self.config.urls:
            yield Partition(key=_key(url), data={"url": url})

    def read(self, partition: Partition, cursor: FeedCursor | None) -> Items[FeedCursor]:
        url, key = str(partition.data["url"]), partition.key
        try:
            response = self._fetch(url, cursor or FeedCursor(), one_entity=len(self.config.urls) > 1)
        except Unreadable as gone:  # one dead feed of many must not keep the others from being read
            yield Skipped(key, str(gone), name=_where(url), subtree=True)
            yield FeedCursor()
            return
        if response.status == 304:
            return
        feed = _Feed(_root(response), response.url, key)
        yield feed.entity()
        for entry in feed.entries():
            self.context.check()
            yield entry
        yield FeedCursor(etag=_condition(response, "etag"), last_modified=_condition(response, "last-modified"))

    def _fetch(self, url: str, state: FeedCursor, *, one_entity: bool) -> Response:
        headers = {"Accept": ACCEPT}
        if state.etag is not None:
            headers["If-None-Match"] = state.etag
        if state.last_modified is not None:
            headers["If-Modified-Since"] = state.last_modified
        try:
            return self.http.get(url, headers=headers, one_entity=one_entity)
        except AuthError as error:
            raise ConfigError(f"{error}: feeds are read without a sign-in, so take it out") from None

    def _problem(self, url: str) -> SourceError | None:
        try:
            _root(self._fetch(url, FeedCursor(), one_entity=False))
        except SourceError as error:
            return error
        return None


def _must_be_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or len(url) > MAX_URL_CHARS or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"each must be an http or https address of at most {MAX_URL_CHARS:,} characters")
    if "@" in parts.netloc:
        raise ValueError(f"{_where(url)}: a user name or password does not belong into the address")


def _where(url: str) -> str:
    """The address as it may be shown: a query may hold a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _key(url: str) -> str:
    """What the feed is called in ids: readable, without its query, and unique."""
    return f"{_where(url).partition('://')[2].rstrip('/')[:MAX_KEY_CHARS]}~{_digest(url)[:10]}"


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _condition(response: Response, name: str) -> str | None:
    """A header that is fit to be sent back."""
    value = response.headers.get(name, "")
    return value if value and len(value) <= MAX_CONDITION_CHARS and value.isascii() and value.isprintable() else None


# From bytes to a tree


def _root(response: Response) -> Element:
    """The root of a feed. Raises ``ConfigError`` for what is something else, ``Unavailable`` for damaged XML."""
    where = _where(response.url)
    text, lines = _without_prolog(_decoded(response))
    if PAGE.match(text):
        raise ConfigError(f"{where} is a web page, not a feed{_named_feeds(text, response.url)}")
    if text.startswith("{"):
        raise ConfigError(f"{where} is JSON, not a feed: only RSS and Atom are read")
    text = REFERENCES.sub(_reference, BAD.sub("", text))
    try:
        root = parse(("\n" * lines + text).encode())
    except Unavailable as error:
        raise Unavailable(f"{where}: {error}") from None
    space, name = _split(root.tag)
    is_feed = (name == "feed" and space in ATOM) or (name == "rss" and root.find("{*}channel") is not None)
    if not is_feed and not (name == "RDF" and space == RDF and root.find("{*}channel") is not None):
        raise ConfigError(f"{where} is XML, but neither RSS nor Atom: it begins with <{name[:40]}>")
    return root


def _decoded(response: Response) -> str:
    """The text, in the encoding that its first bytes, its Content-Type or its declaration name, if it fits."""
    body = response.body
    named: list[str] = [name for mark, name in BOMS if body.startswith(mark)][:1]
    if not named:
        header = CHARSET.search(response.headers.get("content-type", ""))
        declared = DECLARED.match(body[:400])
        named += [header[1]] if header else []
        named += [declared[1].decode()] if declared else []
        named = [name for name in named if not name.lower().startswith(("utf-16", "utf-32"))]  # it would show
    known = [name for name in map(_codec, named) if name is not None]
    for name in (*known, "utf-8"):
        try:
            return body.decode(name)
        except UnicodeError:
            continue
    return body.decode(known[0] if known else "utf-8", "replace")


def _codec(name: str) -> str | None:
    try:
        known = codecs.lookup(name).name
        b"".decode(known)  # refuses what is no encoding of text
    except (LookupError, ValueError):
        return None
    return None if known in NO_CHARSETS else MEANT.get(known, known)


def _without_prolog(text: str) -> tuple[str, int]:
    """The text from the root element on, and how many lines were before it.

    A document type that only names itself goes as well (old RSS has one). One with declarations stays, and is refused.
    """
    at, end = 0, 0
    while True:
        while at < len(text) and (text[at].isspace() or text[at] in "\ufeff\0"):
            at += 1
        if text.startswith("<?", at):
            end = text.find("?>", at) + 2
        elif text.startswith("<!--", at):
            end = text.find("-->", at) + 3
        else:
            doctype = PLAIN_DOCTYPE.match(text, at)
            end = doctype.end() if doctype else 0
        if end <= at:
            return text[at:], text.count("\n", 0, at)
        at = end


def _reference(found: re.Match[str]) -> str:
    """A reference as XML knows it: the names of HTML become characters, and a stray ampersand text."""
    number, name = found[1], found[2]
    if found[0][0] != "&" or name in ("amp", "lt", "gt", "quot", "apos"):
        return found[0]
    if number is not None:
        return escape(BAD.sub("", unescape(found[0])))
    if name is not None and f"{name};" in html5:
        return escape(html5[f"{name};"])
    return f"&amp;{found[0][1:]}"


def _named_feeds(page: str, url: str) -> str:
    finder = _Links()
    finder.feed(page[:LOOKED_AT_CHARS])
    links = [link for link in (_web(url, found) for found in finder.found) if link][:SHOWN]
    return f"; it names these: {', '.join(links)}" if links else ", and names none"


class _Links(HTMLParser):
    """Finds the feeds that a web page names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "link":
            given = {name: value or "" for name, value in attrs}
            if "alternate" in given.get("rel", "").lower().split() and given.get("type", "").lower() in FEED_TYPES:
                self.found += [given["href"]] if given.get("href") else []


# From a tree to entities


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    format: Form

    @property
    def plain(self) -> str:
        text = self.text
        if self.format == "html":
            text = unescape(TAG.sub(" ", text))
        return " ".join(text.split())


class _Feed:
    """One feed, RSS or Atom, whatever its namespace."""

    def __init__(self, root: Element, url: str, key: str) -> None:
        self._key = key
        self._is_atom = _split(root.tag)[0] in ATOM
        channel = root if self._is_atom else root.find("{*}channel")
        assert channel is not None, "a feed without a channel is none"
        self._channel = channel
        space = _split(channel.tag)[0]
        self._own = f"{{{space}}}" if space else ""
        name = self._own + ("entry" if self._is_atom else "item")
        self._items = root.findall(name) + (channel.findall(name) if channel is not root else [])
        self._base = _based(_based(url, root), channel)
        self._link = self._link_of(channel, self._base)
        if not self._is_atom and XML_BASE not in root.attrib and XML_BASE not in channel.attrib:
            self._base = self._link or self._base
        self._title = _short(self._title_of(channel)) or key.rpartition("~")[0]

    def entity(self) -> Entity:
        about = self._atom_text(self._channel, "subtitle", "tagline") if self._is_atom else None
        about = about or _html(self._said(self._channel, "description"))
        return _versioned(
            Entity(
                id=self._key,
                name=self._title,
                type="Feed",
                text=about.text if about else None,
                format=about.format if about else "plain",
                web_url=self._link,
            )
        )

    def entries(self) -> Iterator[Entity]:
        """Each entry once. Entries of one id are one entry, the latest, unless they lead to different places."""
        made = [(self._id_of(item), self._entry(item)) for item in self._items]
        places: dict[str, set[str | None]] = {}
        for own, entry in made:
            places.setdefault(own, set()).add(entry.web_url)
        latest: dict[str, Entity] = {}
        for own, entry in made:
            shared = len(places[own]) > 1
            entry.id = f"{self._key}/{own}" + (f"~{_digest(entry.web_url)[:10]}" if shared else "")
            known = latest.get(entry.id)
            if known is None or _age(entry) > _age(known):
                latest[entry.id] = entry
        yield from latest.values()

    def _id_of(self, item: Element) -> str:
        own = self._said(item, "id" if self._is_atom else "guid") or item.get(f"{{{RDF}}}about", "").strip()
        own = own or self._link_of(item, self._base) or ""
        if not own:
            dates = [self._said(item, name) for name in ("pubDate", DC + "date", "published", "issued")]
            title = self._title_of(item)
            own = _digest(title, *dates) if title else _digest(*"".join(item.itertext()).split())
        return own if len(own.encode()) <= MAX_ID_BYTES else _digest(own)

    def _entry(self, item: Element) -> Entity:
        base = _based(self._base, item)
        body = self._body_of(item)
        link = self._link_of(item, base)
        published = self._date(item, "published", "pubDate", DC + "date", "issued", TERMS + "created", "created")
        updated = self._date(item, "updated", f"{{{ATOM[0]}}}updated", "modified", TERMS + "modified")
        fields = {
            "feed": self._title,
            "authors": self._authors(item),
            "categories": _labels(
                (one.get("label") or one.get("term") or one.text for one in item.findall(self._own + "category")),
                (one.text for one in item.findall(DC + "subject")),
            ),
            "enclosures": _labels(_web(base, url) for url in self._enclosures(item) if url),
        }
        return _versioned(
            Entity(
                id="",
                name=_short(self._title_of(item) or (body.plain if body else "") or link or "Untitled"),
                type="Entry",
                text=body.text if body else None,
                format=body.format if body else "plain",
                breadcrumbs=(Breadcrumb(self._key, self._title, "Feed"),),
                created_at=published or updated,
                updated_at=updated or published,
                web_url=link,
                fields={name: value for name, value in fields.items() if value},
            )
        )

    def _said(self, element: Element, name: str) -> str:
        """The text of a child; names without a namespace are the feed's own."""
        child = element.find(name if name.startswith("{") else self._own + name)
        return "".join(child.itertext()).strip() if child is not None else ""

    def _title_of(self, element: Element) -> str:
        if self._is_atom:
            title = self._atom_text(element, "title")
            if title is None or title.format == "plain":
                return title.plain if title else ""
            text = title.text
        else:
            text = self._said(element, "title") or self._said(element, DC + "title")
        return " ".join(unescape(INLINE_TAG.sub("", text)).split())

    def _body_of(self, item: Element) -> _Text | None:
        if self._is_atom:
            return self._atom_text(item, "content") or self._atom_text(item, "summary")
        return _html(self._said(item, CONTENT)) or _html(self._said(item, "description"))

    def _atom_text(self, element: Element, *names: str) -> _Text | None:
        """A text construct of Atom by its type. What is not text, or is elsewhere, is None."""
        for name in names:
            child = element.find(self._own + name)
            if child is None or child.get("mode") == "base64":
                continue
            kind = child.get("type", "text").partition(";")[0].strip().lower()
            if len(child) and ("html" in kind or kind == "text"):
                found = _Text(_serialized(child), "html")
            elif "html" in kind:
                found = _Text("".join(child.itertext()).strip(), "html")
            elif kind.startswith("text") or kind.endswith("xml"):
                found = _Text("".join(child.itertext()).strip(), "plain")
            else:
                continue
            if found.text:
                return found
        return None

    def _link_of(self, element: Element, base: str) -> str | None:
        """Where people read it; None where that is no place on the web."""
        inner = [f"{{{ATOM[0]}}}link"] if not self._is_atom else [self._own + "link"]
        links = [link for name in inner for link in element.findall(name) if link.get("href")]
        links = [link for link in links if link.get("rel", "alternate") == "alternate"]
        links.sort(key=lambda link: "html" not in link.get("type", "html"))  # stable: the first of HTML
        found = [_web(_based(base, link), link.get("href", "")) for link in links]
        if not self._is_atom:
            own = self._said(element, "link")
            guid = element.find(self._own + "guid")
            is_link = guid is not None and guid.get("isPermaLink", "true").lower() != "false"
            found = [_web(base, own) if own else None, *found]
            found += [_web("", self._said(element, "guid")) if is_link else None]
        return next((link for link in found if link), None)

    def _authors(self, item: Element) -> list[str]:
        people = item.findall(self._own + "author")
        named = (self._said(one, "name") or self._said(one, "email") if len(one) else one.text for one in people)
        return _labels(named, (one.text for one in item.findall(DC + "creator")))

    def _enclosures(self, item: Element) -> Iterator[str]:
        yield from (one.get("url", "") for one in item.findall(self._own + "enclosure"))
        yield from (one.get("href", "") for one in item.findall(self._own + "link") if one.get("rel") == "enclosure")

    def _date(self, item: Element, *names: str) -> datetime | None:
        return next((date for name in names if (date := _date_of(self._said(item, name)))), None)


def _split(tag: str) -> tuple[str, str]:
    """The namespace and the name."""
    space, _, name = tag.rpartition("}")
    return space.removeprefix("{"), name


def _based(base: str, element: Element) -> str:
    return _web(base, element.get(XML_BASE, "")) or base


def _web(base: str, link: str) -> str | None:
    """Where a link leads; None where that is no place on the web."""
    try:
        url = urljoin(base, link.strip())
        is_web = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        return None
    return url if is_web else None


def _html(text: str) -> _Text | None:
    """What RSS says, which is HTML even where it is written without."""
    return _Text(text, "html" if MARKUP.search(text) else "plain") if text else None


def _serialized(element: Element) -> str:
    """XHTML as HTML: names without their namespace, and without the ``div`` that Atom wraps it in."""
    for inner in element.iter():
        inner.tag = _split(inner.tag)[1]
        inner.attrib = {name: value for name, value in inner.attrib.items() if "}" not in name}
    if len(element) == 1 and element[0].tag == "div":
        element = element[0]
    pieces = [escape(element.text or ""), *(tostring(child, "unicode", method="html") for child in element)]
    return "".join(pieces).strip()


def _labels(*groups: Iterable[str | None]) -> list[str]:
    """Words of a list, in order, each once."""
    words = (" ".join((word or "").split())[:MAX_LABEL_CHARS] for group in groups for word in group)
    return list(dict.fromkeys(word for word in words if word))[:MAX_LABELS]


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else name[: MAX_NAME_CHARS - 1] + "…"


def _age(entry: Entity) -> datetime:
    return entry.updated_at or datetime.min.replace(tzinfo=UTC)


def _versioned(entity: Entity) -> Entity:
    times = [time.isoformat() if time else None for time in (entity.created_at, entity.updated_at)]
    made = [entity.name, entity.text, entity.format, entity.web_url, *times, json.dumps(dict(entity.fields))]
    return replace(entity, version=_digest(*made))


def _date_of(text: str) -> datetime | None:
    """A date of RFC 3339 or RFC 822 in the forms that occur; None for what is none."""
    readers: tuple[Callable[[str], datetime], ...] = (_rfc_3339, parsedate_to_datetime)
    for read in readers:
        try:
            date = read(text)
            date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        except (ValueError, OverflowError, IndexError, TypeError):
            continue
        return date if date.year in YEARS else None
    return None


def _rfc_3339(text: str) -> datetime:
    found = RFC_3339.match(text)
    if found is None:
        raise ValueError(text)
    year, month, day, time, zone = found.groups()
    clock = (time or "00:00").replace("24:00", "00:00")
    return datetime.fromisoformat(f"{year}-{month}-{day or '01'}T{clock}{(zone or 'Z').upper()}")
