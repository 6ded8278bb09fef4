"""What is read of a format may change only with its version, which makes the next sync read entities anew that an
earlier version has read.

``extracted.json`` holds a digest of what the present versions read of each sample. After a reader was changed, raise
the version of its format in text/versions.py, then write the file anew:

    PYTHONPATH=tests .venv/bin/python tests/text/test_extractor_version.py
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import formats
from airweave_server.text.extract import SAMPLE_BYTES, detect_format, extract
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText
from airweave_server.text.versions import VERSIONS

KNOWN = Path(__file__).with_name("extracted.json")
TEXTS = {
    "notes.md": "# Title\n\nSome *words*, a [link](https://example.com/a_b) and `code`.\n\n* one\n* two\n",
    "page.html": "<html><head><title>Page</title></head><body><nav>menu</nav><main><h1>Head</h1><p>Text &amp; more"
    "<br>line</p><ul><li>one</li></ul><table><tr><th>a</th><td>1</td></tr></table></main></body></html>",
    "fragment.html": "<p>Just <b>some</b> text</p><script>no()</script>",
    "table.csv": 'name;amount\napple;3\n"pear; green";4\n',
    "table.tsv": "name\tamount\napple\t3\n",
    "data.json": json.dumps({"a": [1, 2, {"b": "text"}], "c": None, "d": {"e": 1.5}}),
    "lines.jsonl": '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n',
    "code.py": "def add(a, b):\n    return a + b\n",
    "plain.txt": "Some words.\r\n\r\nAnd a tab\there.\n",
    "notebook.ipynb": json.dumps(
        {"cells": [{"cell_type": "markdown", "source": ["# Title"]}, {"cell_type": "code", "source": "1 + 1"}]}
    ),
    "event.ics": "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Review\r\nDTSTART:20260702T100000Z\r\nDESCRIPTION:Words\\n"
    "more.\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    "shop.url": "[InternetShortcut]\r\nURL=https://example.com/a?b=1\r\n",
    "mail.eml": "From: a@example.com\nTo: b@example.com\nSubject: Hello\n\nSome words.\n",
}
ENCODED = {
    "latin-1.txt": "Voilà une phrase où l'on reconnaît le français.\n".encode("latin-1"),
    "cp1251.txt": "Это обычный русский текст, написанный для проверки.\n".encode("cp1251"),
    "utf-16.txt": "\ufeffWörter in zwei Bytes.\n".encode("utf-16-le"),
    "shift-jis.txt": "これは日本語の文章です。文字コードを確かめます。\n".encode("shift-jis"),
}


def samples() -> Iterator[tuple[str, bytes]]:
    for name, (make, _) in formats.FORMATS.items():
        yield name, make()
    for name, text in TEXTS.items():
        yield name, text.encode()
    yield from ENCODED.items()


def digest(found: Extracted | NoText) -> str:
    if isinstance(found, NoText):
        told: object = found.reason
    else:
        sections = [[section.start, section.label, section.kind] for section in found.sections]
        told = [found.text, found.kind, [one.as_json() for one in found.left_out], sections]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def read_all() -> dict[str, dict[str, Any]]:
    """What is read of each sample now: its digest, and the formats that were read."""
    parsers = Parsers(seconds=60, memory_mb=400)
    try:
        read = {}
        for name, data in samples():
            form = detect_format(data[:SAMPLE_BYTES], filename=name)
            if isinstance(form, str):
                found = parsers.read([data], filename=name, beat=lambda: None)
            else:
                found = form or extract(data, filename=name)
            read[name] = {"digest": digest(found), "formats": sorted(found.formats)}
        return read
    finally:
        parsers.close()


def find_unsaid(known: dict[str, Any], read: dict[str, dict[str, Any]]) -> list[str]:
    """The samples that are read in another way than before though no version of their formats has risen."""
    risen = {name for name, version in VERSIONS.items() if known["versions"].get(name) != version}
    was = known["read"]
    return sorted(
        name for name in read if name in was and read[name] != was[name] and not risen & {*read[name]["formats"]}
    )


def test_what_is_read_changes_only_with_the_version_of_its_format() -> None:
    known, read = json.loads(KNOWN.read_text()), read_all()
    unsaid = find_unsaid(known, read)
    assert not unsaid, f"{', '.join(unsaid)}: read in another way than before; raise the version of its format"
    assert known == {"versions": VERSIONS, "read": read}, "write extracted.json anew, as this file says at its top"


def test_every_format_has_a_sample() -> None:
    known = json.loads(KNOWN.read_text())["read"]
    assert set(known) == {name for name, _ in samples()}
    assert {form for one in known.values() for form in one["formats"]} == VERSIONS.keys() - {"none", "image"}


def write() -> str | None:
    """Write the digests of these versions; returns why not."""
    read = read_all()
    if KNOWN.exists() and (unsaid := find_unsaid(json.loads(KNOWN.read_text()), read)):
        return f"{', '.join(unsaid)}: read in another way than before; raise the version of its format first"
    KNOWN.write_text(json.dumps({"versions": VERSIONS, "read": read}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    sys.exit(write())
