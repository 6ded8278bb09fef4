import json
import os
import py_compile
import sqlite3
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import formats
from airweave_server.text.extract import detect_format, extract
from airweave_server.text.labels import MAX_GROWTH
from airweave_server.text.parts import Extracted, NoText


def read(data: bytes | str, filename: str | None = None) -> Extracted:
    found = extract(data.encode() if isinstance(data, str) else data, filename=filename)
    assert isinstance(found, Extracted), found
    return found


def refused(data: bytes, filename: str | None = None) -> str:
    found = extract(data, filename=filename)
    assert isinstance(found, NoText), found
    return found.reason


NAMES = st.sampled_from(
    [None, "a", "a.txt", "a.html", "a.json", "a.jsonl", "a.csv", "a.tsv", "a.md", "a.py", "Ä.bin", "."]
)


@given(st.binary(max_size=300), NAMES)
def test_no_bytes_raise_and_what_comes_out_is_clean(data: bytes, filename: str | None) -> None:
    for prefix in (b"", b"<p>", b"{", b"[1,", b"a,b\n", b"\xff\xfe", b"PK\x03\x04", b"\xfe\xff\0"):
        found = extract(prefix + data, filename=filename)
        if isinstance(found, Extracted):
            assert found.text.strip()
            assert not {"\0", "\r"} & set(found.text)
            found.text.encode()


TAGS = "<p> </p> <table><tr><td> <li> <ul> <pre> </pre> <script> <!-- --> <nav> </nav> <title> </title> <br/> <svg/>"
OTHERS = ("&amp;", "&#xD800;", "&#0;", "word", '"\\ud800"')
PIECES = st.sampled_from([*"<>/\"'=&;#x1 \n\t{}[],:-!?", *TAGS.split(), *OTHERS])


@given(st.lists(PIECES, max_size=60).map("".join), NAMES)
def test_no_markup_raises(text: str, filename: str | None) -> None:
    for prefix in ("", "<html>", "{", "a,b,c\n"):
        found = extract((prefix + text).encode(), filename=filename)
        if isinstance(found, Extracted):
            assert found.text.strip()
            assert not {"\0", "\r"} & set(found.text)
            found.text.encode()


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\0\0\0\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf \n"])
def test_nothing_but_space_is_empty(data: bytes) -> None:
    assert refused(data, "a.txt") == "empty"


def test_a_page_without_text_has_none() -> None:
    assert refused(b"<html><head><script>x()</script></head><body><nav>Menu</nav></body></html>", "a.html") == "no_text"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(encoding: str) -> None:
    text = "Grüße, 世界! 😀\nsecond line"
    assert read(text.encode(encoding), "a.txt").text == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", ["a plain text\nof lines", "Grüße an alle 世界", "Это русский текст, две строки\nи ещё"]
)
def test_wide_encodings_are_known_without_a_mark(encoding: str, text: str) -> None:
    assert read(text.encode(encoding), "a.txt").text == text


def test_a_stray_nul_does_not_make_text_wide() -> None:
    assert read(b"hello world, a line of text\0").text == "hello world, a line of text"
    assert read("Grüße aus Köln und\0 Straßburg".encode()).text == "Grüße aus Köln und Straßburg"
    assert read(b"log line\n" * 10 + b"\0" * 4_000, "a.log").text == "log line\n" * 10


LEGACY = [
    ("latin-1", "Der Bürgermeister läßt grüßen. Übermäßig viele Häuser für Schüler."),
    ("latin-1", "Le garçon a mangé des pâtes à l'école où il était élève."),
    ("latin-1", "El niño comió mañana en España, ¿verdad? ¡Sí!"),
    ("latin-1", "café"),
    ("cp1252", "“Smart quotes” – and an em—dash… costs 5 €, naïve café"),
    ("shift_jis", "日本語のテキストファイルです。文字コードの判定を試します。"),
    ("shift_jis", "日本語"),
    ("euc_jp", "日本語のテキストファイルです。文字コードの判定を試します。"),
    ("iso2022_jp", "日本語のテキストファイルです。"),
    ("gb18030", "这是一个中文文本文件，用来测试编码检测。"),
    ("big5", "這是一個中文文字檔案，用來測試編碼偵測。"),
    ("euc_kr", "이것은 인코딩 감지를 시험하기 위한 한국어 텍스트입니다."),
    ("koi8-r", "Это текст на русском языке для проверки кодировки."),
    ("cp1251", "Это текст на русском языке для проверки кодировки."),
    ("cp1253", "Αυτό είναι ένα κείμενο στα ελληνικά για δοκιμή."),
    ("cp1250", "Zażółć gęślą jaźń. Proszę przyjść wcześniej, ponieważ będzie późno."),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy na louce."),
    ("cp1254", "Bu dosya Türkçe yazılmıştır; şığüöç harfleri vardır."),
    ("cp1256", "هذا نص باللغة العربية لاختبار الترميز"),
]


@pytest.mark.parametrize(("encoding", "text"), LEGACY, ids=[f"{e}-{i}" for i, (e, _) in enumerate(LEGACY)])
@pytest.mark.parametrize("times", [1, 3_000])
def test_legacy_encodings_are_told_apart(encoding: str, text: str, times: int) -> None:
    assert read("\n".join([text] * times).encode(encoding), "a.txt").text == "\n".join([text] * times)


def test_high_bytes_after_a_megabyte_of_ascii_are_still_read() -> None:
    text = "plain line\n" * 100_000 + "Übermäßig viele Häuser für Schüler."
    assert read(text.encode("latin-1")).text == text


def test_a_declared_encoding_is_believed() -> None:
    page = '<html><head><meta charset="windows-1255"><title>שלום</title></head><body>זהו טקסט</body></html>'
    assert read(page.encode("cp1255"), "a.html").text == "# שלום\n\nזהו טקסט"
    assert "ő" in read("# coding: cp1250\nx = 'ő'\n".encode("cp1250"), "a.py").text


@pytest.mark.parametrize("name", ["rot13", "idna", "unicode_escape", "nonsense", "hex", "cp99999"])
def test_a_declared_encoding_that_is_none_is_not(name: str) -> None:
    assert "Größe" in read(f"# coding: {name}\nGröße für Schüler".encode("latin-1"), "a.txt").text


def test_utf8_with_some_damage_stays_utf8() -> None:
    text = "Grüße aus Köln, Übermut tut selten gut. " * 20
    found = read(text.encode()[:300] + b"\xff" + text.encode()[300:], "a.txt").text
    assert found.count("\ufffd") <= 3
    assert found.count("Köln") >= 18


def test_newlines_nul_and_surrogates_are_cleaned() -> None:
    assert read(b"a\r\nb\rc\0d\n").text == "a\nb\ncd\n"
    assert read(rb'{"a": "x\ud800y", "b": "\ud83d\ude00"}', "a.json").text == "a: xy\nb: 😀"


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "x.db")
    connection.execute("create table t (a)")
    connection.close()
    return (folder / "x.db").read_bytes()


BINARIES: dict[str, tuple[bytes, str]] = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG image"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "JPEG image"),
    "gif": (b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04", "GIF image"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 \0\0\0\0\x01\0\x02\0", "WebP image"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0", "WAV audio"),
    "elf": (Path(sys.executable).resolve().read_bytes()[:5_000], "ELF binary"),
    "mp3": (b"ID3\x04\0\0\0\0\0\x23TSSE", "MP3 audio"),
    "mp3 frame": (b"\xff\xfb\x90\x64\0\0\0\0\0\0" * 20, "MP3 audio"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0", "MP4 video"),
    "class": (b"\xca\xfe\xba\xbe\0\0\0\x41\0\x1d", "Java class file"),
    "wasm": (b"\0asm\x01\0\0\0", "WebAssembly binary"),
    "exe": (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0", "Windows program"),
    "floats": (struct.pack("<500d", *[i / 7 for i in range(500)]), "binary data"),
    "shorts": (struct.pack("<500h", *[i % 200 - 100 for i in range(500)]), "binary data"),
    "random": (bytes(i * 7919 % 251 for i in range(5_000)), "binary data"),
}


@pytest.mark.parametrize("filename", [None, "a.txt", "a.md", "a.json"])
@pytest.mark.parametrize(("data", "name"), BINARIES.values(), ids=BINARIES)
def test_binary_formats_are_named_whatever_the_file_is_called(data: bytes, name: str, filename: str | None) -> None:
    assert refused(data, filename) == f"unsupported_format: {name}"


def test_real_binaries_are_named(tmp_path: Path) -> None:
    assert refused(database(tmp_path), "x.db") == "unsupported_format: SQLite database"
    compiled = Path(py_compile.compile(__file__, cfile=str(tmp_path / "x.pyc")) or "")
    assert refused(compiled.read_bytes(), compiled.name) == "unsupported_format: Python bytecode"
    assert refused(os.urandom(100_000), "a.txt") == "unsupported_format: binary data"


@pytest.mark.parametrize(
    "text",
    [
        "GIF89a is a format.",
        "MZ starts a program",
        "the new WEBP format",
        "PAR1 is Parquet",
        "BM",
        "ID3 tags",
        "PK zip",
    ],
)
def test_text_about_a_format_is_text(text: str) -> None:
    assert read(text, "a.txt").text == text


def test_records_with_control_characters_between_them_are_text() -> None:
    message = "8=FIX.4.2\x019=178\x0135=8\x0149=PHLX\x0156=PERS\x01"
    assert read(message * 5, "a.log").text == message * 5
    assert "\x1b[31m" in read("\x1b[31mred\x1b[0m\n" * 5, "a.log").text


KINDS: list[tuple[str | None, str, str, str | None]] = [
    ("a.txt", "Just words, nothing else.", "text", None),
    (None, "Just words, nothing else.", "text", None),
    ("README.MD", "plain", "markdown", None),
    ("README", "# Title\n\n- a\n- b\n", "markdown", None),
    ("notes.txt", "# comment\nkey = value\n", "text", None),
    ("a.py", "x = 1", "code", "python"),
    ("A.PY", "x = 1", "code", "python"),
    ("dir/Makefile", "all:\n\tx", "code", "make"),
    ("dir\\Dockerfile", "FROM x", "code", "dockerfile"),
    ("run", "#!/usr/bin/env -S python3.11\nx = 1", "code", "python"),
    ("run", "#!/bin/bash\nls", "code", "shell"),
    ("run", "#!/opt/strange\nls", "code", None),
    ("page.php", "<html><?php x(); ?>", "code", "php"),
    ("a.txt", "<!DOCTYPE html><p>hi</p>", "html", None),
    (None, "  \n<!-- c --><HTML lang=en><body>hi", "html", None),
    ("a.xhtml", '<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">\n<html><p>hi</p></html>', "html", None),
    ("a.html", "No markup here, 3 < 4 and 5 > 4.", "text", None),
    ("a.html", "<p>hi</p>", "html", None),
    ("a.txt", "We use <div> for it.", "text", None),
    ("a.html", '{"a": 1}', "json", None),
    ("a.json", '{"a": 1}', "json", None),
    (None, '{"a": 1}', "json", None),
    ("a.json", "{a: 1, // comment\n}", "text", None),
    ("a.json", '"text"', "json", None),
    ("a.log", '{"a": 1}\n{"a": 2}', "text", None),
    (None, '{"a": 1}\n{"a": 2}', "json", None),
    ("a.txt", "[INFO] started\n[INFO] ended", "text", None),
    ("a.csv", "a,b\n1,2", "csv", None),
    ("a.csv", "only one column\nx\ny", "text", None),
    ("a.txt", "id,name,city\n1,Ann,Rome\n2,Bob,Oslo\n3,Cy,Bern", "csv", None),
    ("a.txt", "Well, yes, no\nSo, then, what\nOh, a, b\nI, you, it", "text", None),
]


@pytest.mark.parametrize(("filename", "text", "kind", "language"), KINDS)
def test_the_kind_follows_the_content_and_then_the_name(
    filename: str | None, text: str, kind: str, language: str | None
) -> None:
    found = read(text, filename)
    assert (found.kind, found.language) == (kind, language)
    if kind not in ("html", "json", "csv"):
        assert found.text == text


def test_html_becomes_markdown_like_text() -> None:
    page = """<!DOCTYPE html><html><head><title>The &amp; Page</title><style>p {}</style>
    <script>if (a < b) document.write("<p>no</p>")</script></head><body>
    <nav><ul><li>Menu</li></ul></nav><!-- comment <p>no</p> -->
    <h1>Main <em>heading</em></h1><p>First
    paragraph with <a href="/x?a=1&b=2">a link</a>.<br>Next line.</p><p>Second &mdash; &#x263a;&nbsp;end
    <ul><li>One<li>Two<ol><li>Inner</ol></ul>
    <table><thead><tr><th>Key</th><th>Value</th></tr></thead><tr><td>a<td><b>1</b></td></tr></table>
    <pre><code>def f():
        return 1 &lt; 2
</code></pre>
    <h2>Sub</h2><template><p>no</p></template><div>Text <code>inline</code></div><div>More</div>
    <svg><title>icon</title><text>no</text></svg><textarea>kept</textarea></body></html>"""
    assert (
        read(page, "a.html").text
        == """The & Page

# Main heading

First paragraph with a link.
Next line.

Second — ☺ end

- One
- Two
  - Inner

Key | Value
a | 1

```
def f():
        return 1 < 2
```

## Sub

Text inline
More

kept"""
    )


ARTICLE = "<p>" + "What the page is about, in many words. " * 10 + "</p>"
AROUND = {
    "elements": "<header>Around</header>{}<aside>Around</aside><footer>Around</footer>",
    "roles": "<div role='banner'>Around</div>{}<div class=x role=contentinfo><p>Around</div>",
    "names": "<div class='top navbar'>Around</div>{}<ul id=main-menu><li>Around</ul><div id='cookie-bar'>Around</div>",
    "a header that is never closed": "<header>Around {} <p>Around",
}


@pytest.mark.parametrize("page", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("main", ["<main>{}</main>", "<article>{}</article>", "<div role='main'>{}</div>"])
def test_what_stands_around_the_main_part_is_left_out(page: str, main: str) -> None:
    inside = f"<header><h1>Head</h1></header><aside>Beside</aside>{ARTICLE}<div class=footer>Last</div>"
    text = read("<title>Page</title><body>" + page.format(main.format(inside)), "a.html").text
    assert "Around" not in text
    assert text.startswith("Page\n\n# Head\n\nBeside\n\nWhat the page")
    assert text.endswith("Last")


@pytest.mark.parametrize("page", AROUND.values(), ids=AROUND)
def test_a_page_without_a_main_part_or_with_an_empty_one_loses_nothing(page: str) -> None:
    for main in (ARTICLE, "<main>Loading</main>"):
        assert read("<body>" + page.format(main), "a.html").text.count("Around") == page.count("Around")


@given(
    st.lists(st.sampled_from([*TAGS.split(), "<header>", "</header>", "<footer class=menu>", "a", "b "]), max_size=40)
)
def test_all_text_of_the_main_part_is_kept(pieces: list[str]) -> None:
    inside = "".join(pieces)
    alone = read(f"<p>{ARTICLE}{inside}", "a.html").text
    around = read(f"<body><header>Around</header><main><p>{ARTICLE}{inside}", "a.html").text
    assert "".join(around.split()) == "".join(alone.split())


def test_a_notebook_becomes_its_cells_and_what_they_print() -> None:
    found = read(formats.notebook(), "a.ipynb")
    assert found.kind == "markdown"
    code, *printed = ("print(1 + 1)", "2", "<Figure>", "KeyError: 'x'")
    fences = "\n\n".join(f"```\n{text}\n```" for text in printed)
    assert found.text == f"# Study\nWhat we ask.\n\n```python\n{code}\n```\n\n{fences}"
    old = {
        "worksheets": [
            {"cells": [{"cell_type": "code", "input": ["x = 1"], "outputs": [{"text": "\x1b[1mok\x1b[0m"}]}]}
        ]
    }
    assert read(json.dumps(old), "old.ipynb").text == "```python\nx = 1\n```\n\n```\nok\n```"


@pytest.mark.parametrize(
    "book",
    ['{"cells": 3}', '{"cells": [3, {"source": {"a": 1}}, {"outputs": "x"}]}', '{"a": "words"}', "{broken", "[1]"],
)
def test_an_odd_notebook_is_read_as_what_it_is(book: str) -> None:
    found = extract(book.encode(), filename="a.ipynb")
    assert isinstance(found, Extracted | NoText)


def test_an_email_is_told_by_its_headers() -> None:
    mail = formats.email()
    for name in ("a.eml", "1700000000.M1P2.host,S=123", "saved"):
        assert detect_format(mail, filename=name) == "email"
    assert detect_format(mail, filename="howto.md") is None
    assert detect_format(b"Title: a note\n\nFrom: nobody\nMessage-ID: none\nDate: x\n", filename="note") is None
    assert detect_format(b"Just a text that somebody named so", filename="a.eml") is None


def test_a_title_is_said_once() -> None:
    assert read("<title>Same</title><h1>Same</h1><p>x", "a.html").text == "# Same\n\nx"
    assert read("<title>Only</title><p>x", "a.html").text == "# Only\n\nx"


def test_a_layout_table_keeps_its_blocks() -> None:
    page = "<table><tr><td><h2>Head</h2><p>One</p><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    assert read(page, "a.html").text == "## Head\n\nOne\n\na | b"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a<nav>menu</div></nav>b", "a\n\nb"),
        ("<div><nav>menu</div><p>after", "after"),
        ("<p title='a > b' data-x=it's>kept</p>", "kept"),
        ("<p>1 < 2 <3</p>", "1 < 2 <3"),
        ("<p>x</p></p></div></nope>y", "x\n\ny"),
        ("<title>open<p>text", "open\n\ntext"),
        ("<p>text<script>never closed", "text"),
        ("<p>a<!-->b<!---->c<!-- x -->d<![CDATA[y]]>e<?php z ?>f", "abcdef"),
        ("<p>&zzz; &amp;amp; &#99999999999; &#xD800;", "&zzz; &amp; \ufffd \ufffd"),
        ("<pre>```\nfence in it</pre>", "````\n```\nfence in it\n````"),
        ("<p>cut in a <a href='x", "cut in a"),
        ("<?xml version='1.0'?><html><script src='x'/><title/><body><p>shown</p></body></html>", "shown"),
        ("<p>a<svg/>b</p>", "a\n\nb"),
        ("<b>bold</b><i>er</i> word", "bolder word"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "- a\n  - b\n- c"),
        ("<p>a<hr>b", "a\n\nb"),
        ("<p>QX&#8209;7781 co&shy;operate", "QX-7781 cooperate"),
    ],
)
def test_broken_and_odd_html_is_read_as_far_as_it_goes(page: str, text: str) -> None:
    assert read(page, "a.html").text == text


def test_json_becomes_lines_grouped_by_key() -> None:
    value = {
        "name": "x",
        "count": 12345678901234567890123,
        "user": {"id": 1, "roles": ["a", "b"], "address": {"city": "Rome", "none": None}},
        "on": True,
        "items": [{"sku": "A", "n": 1.50}, {"sku": "B", "deep": [[1, 2], {"z": []}]}],
        "empty": {},
    }
    assert (
        read(json.dumps(value), "a.json").text
        == """name: x
count: 12345678901234567890123

user.id: 1
user.roles: a, b
user.address.city: Rome
user.address.none: null

on: true

items[0].sku: A
items[0].n: 1.5
items[1].sku: B
items[1].deep[0]: 1, 2
items[1].deep[1].z: []

empty: {}"""
    )


def test_an_array_is_one_block_an_item() -> None:
    text = read('[{"id": 1, "t": {"a": "x"}}, {"id": 2}, "three", [4, [5]]]', "a.json").text
    assert text == "id: 1\nt.a: x\n\nid: 2\n\nthree\n\n[0]: 4\n[1]: 5"


def test_json_numbers_and_equal_keys_stay_as_they_are_written() -> None:
    text = f'{{"a": {"9" * 5_000}, "b": NaN, "c": -Infinity, "d": 1.10, "e": 1e999, "k": 1, "k": 2}}'
    assert read(text, "a.json").text == f"a: {'9' * 5_000}\nb: NaN\nc: -Infinity\nd: 1.10\ne: 1e999\nk: 1\nk: 2"


def test_json_lines_are_one_block_a_line_and_a_broken_one_is_kept() -> None:
    text = '{"a": 1, "b": {"c": 2}}\n\n{"a": 3}\n{"a": broken\n[4]\n'
    assert read(text, "a.jsonl").text == 'a: 1\nb.c: 2\n\na: 3\n\n{"a": broken\n\n4'


@pytest.mark.parametrize("text", ["[" * 10**5, "[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5])
def test_json_nested_too_deep_is_plain_text(text: str) -> None:
    assert read(text, "a.json") == Extracted(text, "text", formats=frozenset({"text"}))


def test_deep_json_that_can_be_read_is() -> None:
    assert read('{"a":' * 300 + "1" + "}" * 300, "a.json").text.endswith(".a.a: 1")


def test_a_number_where_an_archive_has_its_checksum_is_a_number() -> None:
    numbers = " ".join(f"{number:07}" for number in range(8_999_900, 9_000_000))
    text = "x" * 4 + numbers  # the field of the checksum holds one of them, and that of the kind a digit
    assert text[148:156].strip() == "8999918"
    assert read(text, "a.txt").text == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    )
)
def test_no_string_of_a_json_file_is_lost(value: object) -> None:
    def strings(inner: object) -> list[str]:
        if isinstance(inner, dict):
            return [text for item in inner.values() for text in strings(item)]
        if isinstance(inner, list):
            return [text for item in inner for text in strings(item)]
        return [inner] if isinstance(inner, str) else []

    found = extract(json.dumps({"value": value}).encode(), filename="a.json")
    assert isinstance(found, Extracted)
    for text in strings(value):
        assert text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "") in found.text.replace(
            "\r", "\n"
        ) or not (text.isprintable())


def test_rows_of_csv_name_their_columns() -> None:
    text = 'id,full name,note\n1,Ann,"likes a, b\nand c"\n2,Bob,\n3,Cy,x,extra,"more ""q"""\n4\n\n'
    assert read(text, "a.csv").text == (
        "id: 1; full name: Ann; note: likes a, b and c\n"
        "id: 2; full name: Bob\n"
        'id: 3; full name: Cy; note: x; extra; more "q"\n'
        "id: 4"
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    rows = [["name", "price", "text"], ["a", "1.5", "x y"], ["b", "2.5", "p q"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read(text, "a.csv").text == "name: a; price: 1.5; text: x y\nname: b; price: 2.5; text: p q"


def test_decimal_commas_do_not_hide_the_semicolon() -> None:
    assert (
        read("name;price\na;1,5\nb;2,5\nc;3,5", "a.csv").text
        == "name: a; price: 1,5\nname: b; price: 2,5\nname: c; price: 3,5"
    )


def test_csv_without_a_header_and_with_nothing_but_one() -> None:
    assert read("1,Ann\n2,Bob", "a.csv").text == "1; Ann\n2; Bob"
    assert read("id,name", "a.csv").text == "id; name"


def test_a_quote_that_is_never_closed_loses_no_text() -> None:
    text = 'a,b\n1,"open\n' + "2,x\n" * 100_000
    assert read(text, "a.csv").text.count("a: 2; b: x") == 100_000


def test_small_files_cannot_grow_huge() -> None:
    key = "k" * 100_000
    for data, name in (
        (json.dumps({key: [{"x": 1}] * 50_000}, separators=(",", ":")), "a.json"),
        ('{"abc":' * 800 + "[" + ",".join(['{"x":1}'] * 50_000) + "]" + "}" * 800, "a.json"),
        (f"{key},{key[1:]}\n" + "1,2\n" * 100_000, "a.csv"),
        ("x" * 199 + "," + "y" * 199 + "\n" + "1,2\n" * 100_000, "a.csv"),
    ):
        assert len(read(data, name).text) < (MAX_GROWTH + 3) * len(data) + 20_000


MB = 1_000_000
TRAPS: dict[str, tuple[str, Callable[[], str]]] = {
    "attributes": ("a.html", lambda: "<div " + " a=1" * MB + ">x"),
    "equals": ("a.html", lambda: "<div " + "=" * 4 * MB + ">x"),
    "open tags": ("a.html", lambda: "<p>x" + "<a " * MB),
    "open quotes": ("a.html", lambda: "<p>x" + "<a b=\"'" * (MB // 2)),
    "open comments": ("a.html", lambda: "<p>x" + "<!--" * MB),
    "open titles": ("a.html", lambda: "<p>x" + "<title>" * (MB // 5)),
    "less-thans": ("a.html", lambda: "<p>x" + "<" * 4 * MB),
    "references": ("a.html", lambda: "<p>&#" + "9" * 4 * MB + "; " + "&#1" * MB),
    "ampersands": ("a.html", lambda: "<p>" + "&" * 4 * MB),
    "fonts": ("a.html", lambda: "".join(f"<font size={i}>" for i in range(2_000)) + "<p>x" * (MB // 4)),
    "mismatched": ("a.html", lambda: "<div>" * 1_000 + "<p></ul></div><div>x" * (MB // 10)),
    "spaces": ("a.txt", lambda: " " * 20 * MB + "x"),
    "comments": ("a.txt", lambda: "<!-- " * 4 * MB),
    "hashes": ("README", lambda: "#" * 20 * MB),
    "json": (
        "a.json",
        lambda: json.dumps([{"id": i, "tags": ["a"], "n": {"x": {"y": [1, {}]}}} for i in range(15_000)]),
    ),
    "braces": ("a.json", lambda: "{" * 4 * MB),
    "many deep lines": ("a.jsonl", lambda: "[1]\n[2]\n" + ("[" * 2_000 + "\n") * 1_000),
    "commas": ("a.csv", lambda: "a,b\n" + "," * 4 * MB),
    "quotes": ("a.csv", lambda: "a,b\n" + '"' * 4 * MB),
    "rows": ("a.csv", lambda: "id;name;value\n" + "1;hello world;3,5\n" * 100_000),
    "text": ("a.txt", lambda: "hello world this is text\n" * 800_000),
}


@pytest.mark.parametrize(("filename", "make"), TRAPS.values(), ids=TRAPS)
def test_time_is_linear_whatever_the_file(filename: str, make: Callable[[], str]) -> None:
    data = make().encode()
    start = time.process_time()
    read(data, filename)
    assert time.process_time() - start < 4


def test_a_hundred_thousand_nested_elements_take_less_than_a_second() -> None:
    for tag in ("div", "ul><li", "table><tr><td", "b", "p"):
        page = f"<{tag}>" * 100_000 + "x"
        start = time.process_time()
        assert read(page, "a.html").text.endswith("x")
        assert time.process_time() - start < 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_odd_encodings_of_big_files_are_quick(encoding: str) -> None:
    text = "Straße und Köln\n" * 600_000
    start = time.process_time()
    assert read(text.encode(encoding)).text == text
    assert time.process_time() - start < 4
