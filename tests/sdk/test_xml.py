"""XML from strangers: what is read, and what is refused before it costs anything."""

import time

import pytest

from airweave_server.sdk import Unavailable, Unreadable
from airweave_server.sdk.xml import MAX_DEPTH, MAX_ELEMENTS, parse

BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">%b]><lolz>&j;</lolz>""" % b"".join(
    b'<!ENTITY %c "%b">' % (name, b"&%c;" % (name - 1) * 10) for name in range(ord("b"), ord("k"))
)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "us-ascii"], ids=lambda encoding: encoding
)
def test_a_document_is_read_in_its_encoding(encoding: str) -> None:
    word = "cafe" if encoding == "us-ascii" else "café"
    root = parse(f'<?xml version="1.0" encoding="{encoding}"?><a href="{word}">{word}<b/>!</a>'.encode(encoding))
    assert (root.tag, root.text, root.get("href"), root[0].tag, root[0].tail) == ("a", word, word, "b", "!")


def test_names_have_their_namespaces() -> None:
    root = parse(b'<f xmlns="urn:f" xmlns:x="urn:x"><x:e x:k="1" k="2">t</x:e></f>')
    assert root.tag == "{urn:f}f"
    assert root[0].attrib == {"{urn:x}k": "1", "k": "2"}
    assert root.findtext("{urn:x}e") == "t"


def test_known_entities_and_cdata_are_text() -> None:
    assert parse(b"<a>&lt;&amp;&#233;<![CDATA[<b>&c;]]></a>").text == "<&é<b>&c;"


@pytest.mark.parametrize(
    "data",
    [
        BILLION_LAUGHS,
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><a/>',
        b"<!DOCTYPE a><a/>",
    ],
)
def test_document_types_and_entities_are_refused_at_once(data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="document type or entities"):
        parse(data)
    with pytest.raises(Unreadable, match="document type or entities"):
        parse(data, one_entity=True)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no element found in line 1"),
        (b"<a>", "no element found"),
        (b"<a>\n</b>", "mismatched tag in line 2"),
        (b"<a>&nbsp;</a>", "undefined entity"),
        (b"{}", "not well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding"),
        (b"<a>" * (MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
        (b"<a>" + b"<b/>" * MAX_ELEMENTS, f"more than {MAX_ELEMENTS}"),
        (b"<a x='\0'/>", "not well-formed"),
        (b"<a>\xff</a>", "not well-formed"),
    ],
    ids=range(10),
)
def test_what_is_damaged_or_too_much_is_said(data: bytes, told: str) -> None:
    with pytest.raises(Unavailable, match=told):
        parse(data)
