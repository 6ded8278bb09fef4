"""What is read of a format may change only with ``EXTRACTOR_VERSION``, which makes the next sync read entities anew
that an earlier version has read.

``extracted.json`` holds a digest of what the present version reads of each sample. After a reader was changed, raise
``EXTRACTOR_VERSION`` in text/extract.py, then write the file anew:

    PYTHONPATH=tests .venv/bin/python tests/text/test_extractor_version.py
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import formats
from airweave_server.text.extract import EXTRACTOR_VERSION, SAMPLE_BYTES, Extracted, NoText, detect_format, extract
from airweave_server.text.parsers import Parsers

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
        told = [found.text, found.kind, found.left_out, sections]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def digests() -> dict[str, str]:
    parsers = Parsers(seconds=60, memory_mb=400)
    try:
        found = {}
        for name, data in samples():
            form = detect_format(data[:SAMPLE_BYTES], filename=name)
            if isinstance(form, str):
                found[name] = digest(parsers.read([data], filename=name, beat=lambda: None))
            else:
                found[name] = digest(form or extract(data, filename=name))
        return found
    finally:
        parsers.close()


def test_what_is_read_changes_only_with_the_version_of_the_extractor() -> None:
    known = json.loads(KNOWN.read_text())
    read = digests()
    changed = sorted(name for name in read if read[name] != known["read"].get(name))
    if known["version"] == EXTRACTOR_VERSION:
        assert not changed, f"{', '.join(changed)}: read in another way than before; raise EXTRACTOR_VERSION"
    else:
        pytest.fail("EXTRACTOR_VERSION was raised: write extracted.json anew, as this file says at its top")


def test_every_format_has_a_sample() -> None:
    assert set(json.loads(KNOWN.read_text())["read"]) == {name for name, _ in samples()}


def write() -> str | None:
    """Write the digests of this version; returns why not."""
    read = digests()
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {"version": None, "read": {}}
    if known["version"] == EXTRACTOR_VERSION:
        changed = sorted(name for name, was in known["read"].items() if read.get(name, was) != was)
        if changed:
            return f"{', '.join(changed)}: read in another way than before; raise EXTRACTOR_VERSION first"
    KNOWN.write_text(json.dumps({"version": EXTRACTOR_VERSION, "read": read}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    sys.exit(write())
