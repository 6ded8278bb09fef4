"""Feeds as they are found on the web, and worse: read from a local server that answers as theirs do."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import ValidationError

from airweave_server.sdk import ConfigError, Entity, RateLimited, Skipped, Unavailable
from airweave_server.sdk.testing import SourceSuite
from airweave_server.sdk.vendor import Asked, Fault, Reply, Vendor
from airweave_server.sources.feed import Feed, FeedConfig, FeedCursor
from running import Running, Server

ATOM = "http://www.w3.org/2005/Atom"
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
BILLION_LAUGHS = "<!DOCTYPE rss [<!ENTITY a 'lol'>" + "".join(
    f"<!ENTITY {chr(n)} '{f'&{chr(n - 1)};' * 10}'>" for n in range(ord("b"), ord("k"))
)


class Web(Vendor):
    """Some places on the web, by their paths. What has an ETag or a date answers conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, Reply] = {}

    def put(self, path: str, body: str | bytes, *, status: int = 200, kind: str = "text/xml", **headers: str) -> str:
        body = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.places[path] = Reply(body=body, status=status, headers={"Content-Type": kind, **named})
        return self.url + path if self._server is not None else path

    def answer(self, request: Asked) -> Reply:
        found = self.places.get(request.path)
        if found is None:
            return Reply(status=404)
        for asked, told in (("if-none-match", "ETag"), ("if-modified-since", "Last-Modified")):
            if asked in request.headers and request.headers[asked] == found.headers.get(told):
                return replace(found, status=304)
        return found

    def statuses(self) -> list[int]:
        return [self.answer(request).status for request in self.log]


def rss(*items: str, channel: str = "<title>News</title><link>https://news.example/</link>", more: str = "") -> str:
    inner = "".join(f"<item>{item}</item>" for item in items)
    return f'<?xml version="1.0"?>\n<rss version="2.0" {more}><channel>{channel}{inner}</channel></rss>'


def atom(*entries: str, head: str = "<title>Notes</title>", more: str = "") -> str:
    inner = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return f'<feed xmlns="{ATOM}" {more}>{head}{inner}</feed>'


def stories(numbers: Sequence[int], extra: str = "") -> str:
    return rss(
        *(
            f"<guid>s{n}</guid><title>Story {n}</title><link>/s/{n}</link>"
            "<description>&lt;p class='teaser'&gt;All of story&lt;b&gt; "
            f"number {n}&lt;/b&gt;.{extra}&lt;/p&gt;</description>"
            for n in numbers
        )
    )


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as web:
        yield web


def opened(web: Web, *urls: str, is_connecting: bool = False) -> Feed:
    return Feed(FeedConfig(urls=list(urls)), None, replace(web.context(), is_connecting=is_connecting))


def items(web: Web, *urls: str, cursor: FeedCursor | None = None) -> list[Any]:
    with closing(opened(web, *urls)) as source:
        return [item for partition in source.partitions() for item in source.read(partition, cursor)]


def entries(web: Web, body: str | bytes, **headers: str) -> list[Entity]:
    """The entries of a feed with this body."""
    found = items(web, web.put("/feed", body, **headers))
    return [item for item in found if isinstance(item, Entity) and item.type == "Entry"]


def entry(web: Web, body: str | bytes, **headers: str) -> Entity:
    [one] = entries(web, body, **headers)
    return one


def own_id(entity: Entity) -> str:
    return entity.id.split("/", 2)[2]  # after the host, the path with its digest


class TestFeed(SourceSuite):
    vendor = Web()

    def source(self) -> Feed:
        assert isinstance(self.vendor, Web)
        urls = [
            self.vendor.put("/news", stories(range(20)), ETag='"1"'),
            self.vendor.put("/notes", atom(*(f"<id>n{n}</id><title>Note {n}</title>" for n in range(20)))),
            self.vendor.put("/more?of=this", stories(range(5))).replace("/more?", "/news?"),
        ]
        return Feed(FeedConfig(urls=urls), None, self.vendor.context())


# What a feed says


def test_rss_2(web: Web) -> None:
    channel = (
        "<title>News &amp;amp; more</title><link>https://news.example/blog/</link><description>Of the day</description>"
    )
    item = (
        "<guid isPermaLink='false'>tag:1</guid><title>Fish &amp;amp; &lt;i&gt;chips&lt;/i&gt; &lt; 5</title>"
        "<link>post?a=1&amp;b=2</link><description>teaser</description>"
        "<content:encoded><![CDATA[<p>Whole <b>text</b> &amp; more</p>]]></content:encoded>"
        "<pubDate>Tue, 5 Mar 2024 13:00:00 +0100</pubDate><dc:creator>Ann</dc:creator>"
        "<category>a</category><category>b</category><category>a</category>"
        "<enclosure url='/talk.mp3' type='audio/mpeg'/><media:title>not this</media:title>"
        "<atom:updated>2024-03-06T12:00:00Z</atom:updated>"
    )
    more = (
        'xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="{ATOM}"'
    )
    feed, one, cursor = items(web, web.put("/feed", rss(item, channel=channel, more=more)))
    assert (feed.name, feed.type, feed.text, feed.web_url) == (
        "News & more",
        "Feed",
        "Of the day",
        "https://news.example/blog/",
    )
    assert (one.name, one.type, own_id(one)) == ("Fish & chips < 5", "Entry", "tag:1")
    assert one.id.startswith(feed.id + "/")
    assert (one.text, one.format) == ("<p>Whole <b>text</b> &amp; more</p>", "html")
    assert one.web_url == "https://news.example/blog/post?a=1&b=2"
    assert (one.created_at, one.updated_at) == (NOON, NOON + timedelta(days=1))
    assert one.fields == {
        "feed": "News & more",
        "authors": ["Ann"],
        "categories": ["a", "b"],
        "enclosures": ["https://news.example/talk.mp3"],
    }
    assert [(crumb.entity_id, crumb.name, crumb.type) for crumb in one.breadcrumbs] == [
        (feed.id, "News & more", "Feed")
    ]
    assert cursor == FeedCursor()


def test_rss_1(web: Web) -> None:
    one = entry(
        web,
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://a.example/f"><title>Old</title>'
        '<link>https://a.example/</link></channel><item rdf:about="https://a.example/1"><title>One</title>'
        "<link>https://a.example/one</link><description>Plain words, 1 &lt; 2</description>"
        "<dc:date>2024-03-05T13:00+01:00</dc:date><dc:creator>Bo</dc:creator><dc:subject>x</dc:subject></item></rdf:RDF>",
    )
    assert (own_id(one), one.name, one.web_url) == ("https://a.example/1", "One", "https://a.example/one")
    assert (one.text, one.format, one.created_at) == ("Plain words, 1 < 2", "plain", NOON)
    assert one.fields == {"feed": "Old", "authors": ["Bo"], "categories": ["x"]}


def test_rss_0_91_with_the_document_type_of_its_time(web: Web) -> None:
    one = entry(
        web,
        '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<!-- made by hand -->\n<!DOCTYPE rss PUBLIC '
        '"-//Netscape Communications//DTD RSS 0.91//EN"\n "http://my.netscape.com/publish/formats/rss-0.91.dtd">\n'
        '<rss version="0.91"><channel><title>T</title><item><title>Caf&eacute; a&nbsp;b &trade; &unknown; R&D</title>'
        "<link>https://a.example/1</link></item></channel></rss>",
    )
    assert (one.name, one.text, own_id(one)) == ("Café a b ™ &unknown; R&D", None, "https://a.example/1")


def test_rss_0_90(web: Web) -> None:
    one = entry(
        web,
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://my.netscape.com/rdf/simple/0.9/">'
        "<channel><title>T</title></channel><item><title>One</title><link>https://a.example/1</link></item></rdf:RDF>",
    )
    assert (one.name, one.web_url) == ("One", "https://a.example/1")


def test_atom(web: Web) -> None:
    head = (
        '<title type="html">Notes &amp;amp; &lt;b&gt;more&lt;/b&gt;</title>'
        '<subtitle>What I saw</subtitle><id>urn:f</id><link rel="self" href="/feed"/><link href="/home"/>'
    )
    one = (
        "<id>urn:1</id><title>vector&lt;int&gt;</title><published>2024-03-05T12:00:00Z</published><updated>2024-03-06t12:00:00.25z</updated>"
        '<author><name>Ann</name><uri>u</uri></author><category term="t" label="L"/><category term="u"/>'
        '<link rel="alternate" type="application/pdf" href="a.pdf"/><link rel="alternate" type="text/html" href="one"/>'
        '<link rel="enclosure" href="a.mp3"/><summary>teaser</summary><content type="xhtml" xml:lang="en">'
        '<div xmlns="http://www.w3.org/1999/xhtml">a &lt; b<p class="k">P<br/>Q</p>c</div></content>'
        "<source><id>urn:other</id><title>Other</title></source>"
    )
    two = "<id>urn:2</id><title/><content type='html'>&lt;p&gt;Hello&amp;nbsp;there&lt;/p&gt;</content>"
    three = (
        "<id>urn:3</id><title type='xhtml'><div xmlns='http://www.w3.org/1999/xhtml'>A <b>bold</b> one</div></title>"
        "<content type='text'>1 &lt;b&gt; 2</content>"
    )
    four = (
        "<id>urn:4</id><title>F</title><content type='image/png'>iVBORw0KGgo=</content>"
        "<summary type='html'>A &lt;b&gt;picture&lt;/b&gt;</summary>"
    )
    five = "<id>urn:5</id><title>V</title><content src='https://a.example/v.mp4' type='video/mp4'/>"
    url = web.put("/feed", atom(one, two, three, four, five, head=head, more='xml:base="https://notes.example/x/"'))
    feed, first, second, third, fourth, fifth, _ = items(web, url)
    assert (feed.name, feed.text, feed.web_url) == ("Notes & more", "What I saw", "https://notes.example/home")
    assert (first.name, own_id(first), first.web_url) == ("vector<int>", "urn:1", "https://notes.example/x/one")
    assert (first.text, first.format) == ('a &lt; b<p class="k">P<br>Q</p>c', "html")
    assert (first.created_at, first.updated_at) == (NOON, NOON + timedelta(days=1))
    assert first.fields == {
        "feed": "Notes & more",
        "authors": ["Ann"],
        "categories": ["L", "u"],
        "enclosures": ["https://notes.example/x/a.mp3"],
    }
    assert (second.name, second.text, second.format) == ("Hello there", "<p>Hello&nbsp;there</p>", "html")
    assert (third.name, third.text, third.format) == ("A bold one", "1 <b> 2", "plain")
    assert (fourth.text, fourth.format) == ("A <b>picture</b>", "html")
    assert (fifth.name, fifth.text, fifth.web_url) == ("V", None, None)


def test_atom_0_3(web: Web) -> None:
    one = entry(
        web,
        '<feed version="0.3" xmlns="http://purl.org/atom/ns#"><title>Old</title><entry><id>i</id>'
        '<title mode="escaped" type="text/html">A &lt;i&gt;b&lt;/i&gt;</title><issued>2024-03-05T12:00:00Z</issued>'
        '<modified>2024-03-06T12:00:00Z</modified><link rel="alternate" href="https://a.example/1"/>'
        '<content mode="escaped" type="text/html">&lt;p&gt;x&lt;/p&gt;</content></entry></feed>',
    )
    assert (one.name, one.text, one.format, one.web_url) == ("A b", "<p>x</p>", "html", "https://a.example/1")
    assert (one.created_at, one.updated_at) == (NOON, NOON + timedelta(days=1))


def test_an_entry_within_the_content_of_an_entry_is_none(web: Web) -> None:
    inner = f"<content type='application/xml'><entry xmlns='{ATOM}'><id>inner</id></entry></content>"
    assert own_id(entry(web, atom(f"<id>outer</id>{inner}"))) == "outer"


# Ids


def test_an_entry_without_an_id_has_its_link_or_a_digest(web: Web) -> None:
    body = rss(
        "<link>https://a.example/1</link>",
        "<title>A</title><pubDate>Tue, 5 Mar 2024 12:00:00 GMT</pubDate>",
        "<title>A</title><pubDate>Wed, 6 Mar 2024 12:00:00 GMT</pubDate>",
        "<description>words</description>",
        f"<guid>{'x' * 5000}</guid>",
    )
    first, *rest = entries(web, body)
    assert own_id(first) == "https://a.example/1"
    assert [len(own_id(one)) for one in rest] == [32] * 4
    assert len({one.id for one in rest}) == 4
    assert [one.id for one in entries(web, body.replace("words", "words "))] == [first.id, *(one.id for one in rest)]


def test_one_id_twice_is_one_entry_the_latest_unless_it_leads_to_two_places(web: Web) -> None:
    early = "<id>a</id><title>Early</title><link href='https://a.example/1'/><updated>2024-03-05T12:00:00Z</updated>"
    late = "<id>a</id><title>Late</title><link href='https://a.example/1'/><updated>2024-03-06T12:00:00Z</updated>"
    assert [one.name for one in entries(web, atom(early, late))] == ["Late"]
    assert [one.name for one in entries(web, atom(late, early, late))] == ["Late"]
    lazy = [
        f"<guid isPermaLink='false'>same</guid><link>https://a.example/{n}</link><title>{n}</title>" for n in range(3)
    ]
    found = entries(web, rss(*lazy))
    assert [one.name for one in found] == ["0", "1", "2"]
    assert {one.id: one.name for one in found} == {one.id: one.name for one in entries(web, rss(*reversed(lazy)))}


def test_the_same_id_in_two_feeds_is_two_entries(web: Web) -> None:
    urls = [web.put("/a", stories([1])), web.put("/b", stories([1])), f"{web.url}/a?x=1"]
    ids = [item.id for item in items(web, *urls) if isinstance(item, Entity)]
    assert len(ids) == len(set(ids)) == 6


# Links


def test_links_lead_from_where_they_stand(web: Web) -> None:
    new = web.put("/deep/feed", atom("<id>a</id><link href='x'/>"))
    old = web.put("/old", "", status=302, Location="/deep/feed")
    assert [item.web_url for item in items(web, old)[1:2]] == [new.replace("feed", "x")]
    based = "<id>a</id><link xml:base='https://b.example/c/' href='../x'/>"
    assert entry(web, atom(based)).web_url == "https://b.example/x"
    assert entry(web, rss("<link>x/1</link>", channel="<link>https://news.example/a/</link>")).web_url == (
        "https://news.example/a/x/1"
    )
    assert entry(web, rss("<link>x</link>", channel="<link/>")).web_url == f"{web.url}/x"
    assert entry(web, rss("<link>x</link>", more="xml:base='https://b.example/'")).web_url == "https://b.example/x"


def test_a_link_is_one_of_the_web_or_none(web: Web) -> None:
    assert entry(web, rss("<guid>https://a.example/g</guid>")).web_url == "https://a.example/g"
    assert entry(web, rss("<guid isPermaLink='false'>https://a.example/g</guid>")).web_url is None
    assert entry(web, rss("<title>t</title><link>javascript:alert(1)</link>")).web_url is None
    assert entry(web, rss("<title>t</title><link>http://[bad</link>")).web_url is None
    linked = f"<atom:link xmlns:atom='{ATOM}' rel='alternate' href='https://a.example/l'/>"
    assert entry(web, rss(f"<title>t</title>{linked}")).web_url == "https://a.example/l"


# Dates


@pytest.mark.parametrize(
    "text",
    [
        "Tue, 05 Mar 2024 12:00:00 GMT",
        "Tue, 5 Mar 2024 12:00 UT",
        "5 Mar 24 12:00:00 Z",
        "Tues, 05 March 2024 07:00:00 EST",
        "Tue, 05 Mar 2024 12:00:00",
        "Tue 05 Mar 2024 13:00:00 +0100",
        "2024-03-05T12:00:00Z",
        "2024-03-05 12:00:00",
        "2024-03-05T12:00:00.123456789Z",
        "2024-03-05T13:00:00+0100",
        "2024-03-05T12:00Z",
        "\n 2024-03-05t12:00:00z ",
        "Tue, 05 Mar 2024 12:00:00 -0000",
    ],
)
def test_a_date_is_read_in_the_forms_that_occur(web: Web, text: str) -> None:
    one = entry(web, rss(f"<guid>a</guid><pubDate>{text}</pubDate>"))
    assert one.created_at == one.updated_at == NOON


@pytest.mark.parametrize(("text", "day"), [("2024-03-05", 5), ("2024-03", 1)])
def test_a_day_or_a_month_is_a_date(web: Web, text: str, day: int) -> None:
    more = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
    one = entry(web, rss(f"<guid>a</guid><dc:date>{text}</dc:date>", more=more))
    assert one.created_at == datetime(2024, 3, day, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "2024-13-45",
        "Tue, 99 Mar 2024 99:00:00 GMT",
        "0" * 5000,
    ],
)
def test_what_is_no_date_is_none(web: Web, text: str) -> None:
    assert entry(web, rss(f"<guid>a</guid><pubDate>{text}</pubDate>")).created_at is None


# Bytes


@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("windows-1251", "Привет"),
        ("ISO-8859-1", "café"),
        ("Shift_JIS", "日本語①"),
        ("utf-16", "日本語"),
        ("koi8-r", "Привет"),
        ("utf-8", "naïve"),
        ("gb2312", "中文"),
        ("euc-kr", "한국어"),
        ("windows-1252", "“x” €"),
        ("iso-8859-1", "“x” €"),
    ],
)
def test_text_is_read_in_its_encoding(web: Web, encoding: str, word: str) -> None:
    written = {"Shift_JIS": "cp932", "gb2312": "gb18030", "iso-8859-1": "cp1252"}.get(encoding, encoding)
    plain = rss(f"<guid>a</guid><title>{word}</title>")
    declared = plain.replace('version="1.0"', f'version="1.0" encoding="{encoding}"', 1)
    assert entry(web, declared.encode(written)).name == word
    assert entry(web, plain.encode(written), kind=f'application/rss+xml; charset="{encoding}"').name == word


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff".encode() + rss("<title>é</title>").encode(),
        b"\r\n\n  " + rss("<title>é</title>").encode(),
        "\ufeff\n".encode() + rss("<title>é</title>").encode(),
        rss("<title>é</title>").replace('"1.0"', '"1.0" encoding="utf-16"', 1).encode(),
        rss("<title>é</title>").replace('"1.0"', '"1.0" encoding="x-unheard-of"', 1).encode(),
        rss("<title>é</title>").replace('"1.0"', '"1.0" encoding="unicode_escape"', 1).encode(),
        rss("<title>\x0cé\x00&#8;</title>").encode(),
        "\ufeff".encode("utf-16-be") + rss("<title>é</title>").encode("utf-16-be"),
        rss("<title>é</title>").encode("utf-16-le"),
    ],
    ids=[
        "bom",
        "blanks",
        "bom and blank",
        "wrongly declared",
        "unheard of",
        "no charset",
        "control characters",
        "utf-16be",
        "no bom",
    ],
)
def test_what_is_before_or_around_the_xml_is_forgiven(web: Web, body: bytes) -> None:
    assert entry(web, body).name == "é"


def test_a_byte_that_does_not_fit_costs_one_character(web: Web) -> None:
    assert entry(web, rss("<title>a?b</title>").encode().replace(b"?b", b"\xffb")).name == "a\ufffdb"


def test_what_looks_like_an_entity_in_a_cdata_section_is_text(web: Web) -> None:
    assert entry(web, rss("<guid>a</guid><description><![CDATA[<p>R&D &eacute;</p>]]></description>")).text == (
        "<p>R&D &eacute;</p>"
    )


# What is no feed


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (stories(range(3))[:-40], "damaged XML"),
        (stories(range(3)).replace("</channel></rss>", ""), "damaged XML: no element found"),
        ("<rss><channel><item><description><![CDATA[abc", "damaged XML"),
        ("", "damaged XML"),
        ("<rss><channel><item></channel></rss>", "damaged XML: mismatched tag"),
        (BILLION_LAUGHS + "]><rss><channel><title>&j;</title></channel></rss>", "document type or entities"),
        ('<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel>&x;</channel></rss>', "document type"),
        ("<!DOCTYPE rss [ ]>" + stories([1])[22:], "document type"),
        (rss("<title>" + "<b>" * 5000 + "</b>" * 5000 + "</title>"), "nested deeper than"),
    ],
)
def test_what_is_damaged_or_dangerous_raises_and_names_the_feed(web: Web, body: str, told: str) -> None:
    began = time.monotonic()
    url = web.put("/bad", body)
    with pytest.raises(Unavailable, match=told) as raised:
        items(web, f"{url}?token=canary")
    assert url in str(raised.value)
    assert "canary" not in str(raised.value)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("opening", ["<![CDATA[", "<!--", "<?", "&#", "&a", "<", "<!DOCTYPE a '", " <? ?>"])
def test_hostile_text_takes_no_longer_than_its_length(web: Web, opening: str) -> None:
    for body in (opening * 300_000, "<rss><channel><item><title>" + opening * 300_000):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            entries(web, body)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "<!doctype html><HTML><head><link rel='alternate' type='application/rss+xml' href='/feed.xml?a=1'>"
            "<link rel=stylesheet href=x.css><link rel='Alternate home' type='application/atom+xml' href='atom'>"
            "</head><p>x",
            r"/page is a web page, not a feed; it names these: http://127.0.0.1:\d+/feed.xml\?a=1, "
            r"http://127.0.0.1:\d+/atom$",
        ),
        ("<html><p>x<br></html>", "is a web page, not a feed, and names none"),
        ('<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body/></html>', "is a web page"),
        ('{"version": "https://jsonfeed.org/version/1.1"}', "is JSON, not a feed"),
        ("<urlset><url/></urlset>", "neither RSS nor Atom: it begins with <urlset>"),
        ("<rss/>", "neither RSS nor Atom"),
    ],
)
def test_what_is_no_feed_is_refused_when_it_is_connected(web: Web, body: str, told: str) -> None:
    url = web.put("/page", body, kind="text/html")
    with closing(opened(web, url, is_connecting=True)) as source, pytest.raises(ConfigError, match=told):
        source.check()
    with pytest.raises(ConfigError, match=told):
        items(web, url)


def test_connecting_names_every_feed_that_is_wrong(web: Web) -> None:
    good, page = web.put("/good", stories([1])), web.put("/page", "<html>")
    private = web.put("/private", "", status=401)
    wrong = opened(web, good, page, f"{web.url}/gone", private, is_connecting=True)
    with closing(wrong), pytest.raises(ConfigError) as raised:
        wrong.check()
    assert "/page is a web page" in str(raised.value)
    assert "/gone does not exist (404)" in str(raised.value)
    assert "/private does not accept the credentials (401): feeds are read without a sign-in" in str(raised.value)
    assert "/good" not in str(raised.value)
    with closing(opened(web, good, is_connecting=True)) as source:
        source.check()


def test_connecting_waits_for_a_feed_that_says_so_but_names_wrong_ones_first(web: Web) -> None:
    busy, page = web.put("/busy", "", status=429, Retry_After="90"), web.put("/page", "<html>")
    with closing(opened(web, busy, is_connecting=True)) as source, pytest.raises(RateLimited) as raised:
        source.check()
    assert raised.value.retry_after_s == 90
    with closing(opened(web, busy, page, is_connecting=True)) as source, pytest.raises(ConfigError, match="web page"):
        source.check()


def test_a_job_fetches_nothing_to_check(web: Web) -> None:
    with closing(opened(web, f"{web.url}/gone")) as source:
        source.check()
    assert web.requests == 0


@pytest.mark.parametrize("status", [403, 404, 410])
def test_one_feed_of_many_that_is_gone_is_skipped_and_the_only_one_raises(web: Web, status: int) -> None:
    good, gone = web.put("/good", stories([1])), web.put("/gone", "", status=status)
    [_, entry, _, skipped, cursor] = items(web, good, gone)
    assert entry.name == "Story 1"
    assert isinstance(skipped, Skipped)
    assert (skipped.subtree, str(status) in skipped.reason, skipped.name) == (True, True, gone)
    assert cursor == FeedCursor()  # so that it is fetched anew when it is back
    with pytest.raises(ConfigError, match=str(status)):
        items(web, gone)


@pytest.mark.parametrize(
    "urls",
    [
        [],
        ["ftp://a.example/f"],
        ["a.example/f"],
        ["http://"],
        ["https://user:canary@a.example/f"],
        ["http://a b/"],
        ["https://a.example/" + "x" * 2000],
        ["https://a.example/f", " https://a.example/f#top "],
        ["http://a.example:99999/"],
        [f"https://a.example/{n}" for n in range(101)],
    ],
)
def test_an_address_must_be_one_without_a_password(urls: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        FeedConfig(urls=urls)
    assert all("canary" not in error["msg"] for error in raised.value.errors())


# Conditions and versions


def test_conditions_are_sent_back_as_they_came_and_304_yields_nothing(web: Web) -> None:
    dated = format_datetime(NOON, usegmt=True)
    url = web.put("/feed", stories(range(3)), ETag='W/"a-1"', Last_Modified=dated)
    *_, cursor = items(web, url)
    assert cursor == FeedCursor(etag='W/"a-1"', last_modified=dated)
    assert items(web, url, cursor=cursor) == []
    assert [request.headers.get("if-none-match") for request in web.log] == [None, 'W/"a-1"']
    assert [request.headers.get("if-modified-since") for request in web.log] == [None, dated]
    assert len(items(web, url)) == 5  # from None all there is
    web.put("/feed", stories(range(4)), ETag='W/"a-2"')
    assert len(items(web, url, cursor=cursor)) == 6


def test_an_etag_that_may_not_be_sent_is_not_kept(web: Web) -> None:
    *_, cursor = items(web, web.put("/feed", stories([1]), ETag='"é"', Last_Modified="x" * 2000))
    assert cursor == FeedCursor()


def test_a_version_is_of_what_the_entry_says(web: Web) -> None:
    def versions(body: str) -> list[str | None]:
        return [one.version for one in entries(web, body)]

    before = versions(stories(range(3)))
    assert (
        versions(stories([5, 0, 1, 2]).replace("<title>News", "<lastBuildDate>x</lastBuildDate><title>News"))[1:]
        == before
    )
    edited = versions(stories(range(3)).replace("number 1", "number one"))
    assert [a == b for a, b in zip(before, edited, strict=True)] == [True, False, True]


def test_an_empty_feed_is_one(web: Web) -> None:
    assert entries(web, rss()) == []
    assert entries(web, atom()) == []


def test_a_body_that_is_cut_and_one_that_is_too_slow_raise(web: Web) -> None:
    url = web.put("/feed", stories(range(30)))
    for kind in ("a cut body", "a hang"):
        web.play(Fault(kind, 1, lasts=True))  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            items(web, url)


def test_a_large_feed_is_read_in_a_few_seconds(web: Web) -> None:
    body = stories(range(10_000), extra="&amp;nbsp;word" * 60)
    assert len(body) > 10_000_000
    began = time.monotonic()
    assert len(entries(web, body)) == 10_000
    assert time.monotonic() - began < 20


# Through a server


@pytest.fixture(scope="module")
def server(running: Running) -> Server:
    return running.start()


def test_what_rolls_off_a_feed_stays_and_an_unchanged_one_is_not_sent(server: Server, web: Web) -> None:
    a = web.put("/a", stories(range(30)), ETag='"1"')
    b = web.put("/b", atom("<id>b</id><title>Quince</title><content>jelly</content>"), Last_Modified="yesterday")
    collection = server.collection()
    connection = server.connect(collection, "feed", {"urls": [a, b]})
    assert sorted(request.path for request in web.log) == ["/a", "/b"]  # side by side, when it was connected
    web.play()
    assert server.sync(connection)["entities_inserted"] == 33
    assert web.statuses() == [200, 200]

    [hit] = [hit for hit in server.search(collection, "all of story number 7") if hit["name"] == "Story 7"]
    assert "All of story number 7." in hit["textual_representation"]
    assert "<p" not in str(hit)
    assert "teaser" not in str(hit)
    assert hit["web_url"] == "https://news.example/s/7"

    for _ in range(2):
        web.play()
        job = server.sync(connection)
        assert (job["mode"], job["status"], job["entities_deleted"], job["held_deletes"]) == (
            "incremental",
            "completed",
            0,
            0,
        )
        assert web.statuses() == [304, 304]

    web.put("/a", stories(range(28, 32)), ETag='"2"')
    for body, inserted in ((stories(range(28, 32)), 2), (rss(), 0)):
        web.put("/a", body, ETag=hashlib.sha256(body.encode()).hexdigest())
        for force in (False, True, True):
            web.play()
            job = server.sync(connection, force_full_sync=force)
            assert (job["status"], job["entities_deleted"], job["held_deletes"]) == ("completed", 0, 0)
            assert job["entities_inserted"] == (0 if force else inserted)
    assert len(server.ledger(connection)) == 35
    assert server.found(collection, "all of story number 3")


def test_a_feed_that_is_taken_out_leaves_by_a_decision(server: Server, web: Web) -> None:
    a, b = web.put("/a", stories(range(3))), web.put("/b", stories(range(4)))
    connection = server.connect(server.collection(), "feed", {"urls": [a, b]})
    server.sync(connection)
    assert server.http.patch(f"/source-connections/{connection}", json={"config": {"urls": [b]}}).status_code == 200
    job = server.sync(connection)
    assert (job["status"], job["entities_deleted"], job["held_deletes"]) == ("completed", 0, 4)


def test_a_feed_that_is_gone_keeps_its_entries_and_comes_back(server: Server, web: Web) -> None:
    a, b = web.put("/a", stories(range(3)), ETag='"1"'), web.put("/b", stories([1]))
    connection = server.connect(server.collection(), "feed", {"urls": [a, b]})
    server.sync(connection)
    web.put("/a", "", status=410)
    web.put("/b", stories([1, 2]))
    job = server.sync(connection)
    assert (job["status"], job["entities_inserted"], job["entities_skipped"]) == ("completed", 1, 1)
    ledger = server.ledger(connection)
    [(gone, told)] = [(id, row) for id, row in ledger.items() if row["state"] == "skipped"]
    assert "410" in told["reason"]
    assert sum(id.startswith(f"{gone}/") for id in ledger) == 3
    web.put("/a", stories(range(3)), ETag='"1"')
    server.sync(connection)
    assert not server.ledger(connection, state="skipped")


def test_one_page_that_is_no_feed_is_refused_by_the_server(server: Server, web: Web) -> None:
    page = web.put("/", "<html><link rel=alternate type=application/rss+xml href=/rss>")
    body = {
        "short_name": "feed", "readable_collection_id": server.collection(), "config": {"urls": [page]},
        "sync_immediately": False,
    }  # fmt: skip
    refused = server.http.post("/source-connections", json=body)
    assert 400 <= refused.status_code < 500
    assert f"it names these: {web.url}/rss" in refused.text
