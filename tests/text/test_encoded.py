"""Raw base64 is never indexed, from any format; hashes, keys and code stay."""

import base64
import binascii
import hashlib
import io
import json
import random
import time

import pytest

import formats
from airweave_server.sdk import Entity
from airweave_server.text import documents, encoded
from airweave_server.text.extract import SAMPLE_BYTES, detect_format, extract
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted, NoText
from airweave_server.text.reading import Reader

BYTES = random.Random(7).randbytes(3_000)
ONE_LINE = base64.b64encode(BYTES).decode()
LINES = base64.encodebytes(BYTES).decode()
IMAGE = f"data:image/png;base64,{ONE_LINE}"
HASHES = [hashlib.sha512(bytes([n])) for n in range(8)]


def read(text: str, filename: str) -> Extracted:
    data = text.encode()
    form = detect_format(data[:SAMPLE_BYTES], filename=filename)
    assert form is None or isinstance(form, str)
    found = documents.read(io.BytesIO(data), filename=filename) if form else extract(data, filename=filename)
    assert isinstance(found, Extracted), found
    return found


def pieces(text: str) -> list[str]:
    """Of encoded bytes: a piece of each line, some of which would be left if not all were left out."""
    return [line[20:50] for line in text.split("\n") if len(line) > 60]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", f"Before.\n\n{LINES}\nAfter."),
        ("a.txt", f"Before. {ONE_LINE} After."),
        ("a.txt", "Before.\n" + "".join(f"> {line}\n" for line in LINES.splitlines()) + "After."),
        ("a.md", f"Before.\n\n![A picture]({IMAGE})\n\nAfter."),
        ("a.md", f"Before.\n\n[pic]: {IMAGE}\n\nAfter."),
        ("a.html", f"<html><body><p>Before.</p><p>{LINES}</p><img src='{IMAGE}'><p>After.</p></body></html>"),
        ("a.json", json.dumps({"a": "Before.", "image": IMAGE, "raw": ONE_LINE, "lines": LINES, "z": "After."})),
        ("a.jsonl", json.dumps({"a": "Before.", "x": ONE_LINE}) + "\n" + json.dumps({"a": "After."}) + "\n"),
        ("a.csv", f"name,data\nBefore.,{ONE_LINE}\nAfter.,x\n"),
        ("a.xml", f"<a><b>Before.</b><c>{LINES}</c><d>After.</d></a>"),
        ("a.yaml", "a: Before.\ndata: |\n" + "".join(f"  {line}\n" for line in LINES.splitlines()) + "z: After.\n"),
        ("a.py", '"""Before."""\nX = (\n' + "".join(f'    "{one}"\n' for one in LINES.splitlines()) + ")\nAfter.x()"),
        ("a.js", f"// Before.\nconst a = '{LINES[:-1]}';\n".replace("\n", "\\n") + "// After."),
        ("a.css", f"/* Before. */ a {{ background: url({IMAGE}) }} /* After. */"),
        ("a.svg", f'<svg><text>Before.</text><image href="{IMAGE}"/><text>After.</text></svg>'),
        ("a.log", f"Before.\n-----BEGIN CERTIFICATE-----\n{LINES}-----END CERTIFICATE-----\nAfter.\n"),
        ("a.txt", "Before.\n" + base64.urlsafe_b64encode(BYTES).decode() + "\nAfter."),
        (
            "a.ipynb",
            json.dumps(
                {
                    "cells": [
                        {
                            "cell_type": "markdown",
                            "source": ["Before.\n", f"![x]({IMAGE})"],
                            "attachments": {"a": {"b/c": LINES}},
                        },
                        {
                            "cell_type": "code",
                            "source": "x",
                            "outputs": [
                                {
                                    "output_type": "display_data",
                                    "data": {"image/png": LINES, "text/plain": f"<x {ONE_LINE}>"},
                                }
                            ],
                        },
                        {"cell_type": "markdown", "source": "After."},
                    ]
                }
            ),
        ),
        ("a.eml", f"From: a@x.org\nSubject: x\n\nBefore.\n\n{LINES}\nAfter.\n"),
    ],
)
def test_encoded_bytes_are_left_out_and_said(name: str, text: str) -> None:
    found = read(text, name)
    assert "Before." in found.text
    assert "After." in found.text
    for piece in pieces(LINES) + pieces(ONE_LINE) + [ONE_LINE[-60:-20], LINES[-40:-10]]:
        assert piece not in found.text
    assert name == "a.html" or any(one.what == "encoded" for one in found.left_out)
    assert len(found.text) < 600


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"integrity": f"sha512-{base64.b64encode(HASHES[0].digest()).decode()}"}),
        "\n".join(f"    --hash=sha256:{one.hexdigest()[:64]} \\" for one in HASHES),
        "\n".join(f"h1:{base64.b64encode(one.digest()[:32]).decode()}=" for one in HASHES),
        "\n".join(base64.b64encode(one.digest()).decode() for one in HASHES),
        "\n".join(one.hexdigest() for one in HASHES),
        json.dumps([f"sha384-{base64.b64encode(one.digest()[:48]).decode()}" for one in HASHES], indent=1),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5mHfsmr2b4d2iP7Kq7n0Wq3kZqv8Zf2m0q9n8b7c6d ann@host",
        "token: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "ACGTACGTTTGACCATGACCATTGACCATGACA" * 20,
        "/usr/share/" + "some/very/long/path/of/Folders/with9names/" * 10,
        "-" * 300,
        "=" * 300,
        "aaaaaaaaaabbbbbbbbbb" * 30,
        "DONAUDAMPFSCHIFFFAHRTSGESELLSCHAFTSKAPITAEN" * 6,
        "0123456789" * 50,
        "a_long_snake_case_name_" * 20,
        "data:text/plain;base64,aGVsbG8= is short",
        "begin the work\nand end\n",
        "begin 644 notes\nThese are words, and not what uuencode writes.\nend",
        "-----BEGIN PLAN-----\nStep one: read, and then write.\n-----END PLAN-----",
    ],
)
def test_what_people_search_stays(text: str) -> None:
    assert encoded.strip(text) == (text, ())


def test_a_file_of_base64_is_read_as_what_it_holds() -> None:
    word = formats.word()
    uuencoded = b"".join(binascii.b2a_uu(word[n : n + 45]) for n in range(0, len(word), 45))
    files = {
        "report.docx.b64": base64.encodebytes(word),
        "report.txt": base64.b64encode(word),
        "report.uue": b"begin 644 report.docx\n" + uuencoded + b"`\nend\n",
        "report": b"begin-base64 644 report.docx\n" + base64.encodebytes(word) + b"====\n",
        "table.csv.b64": base64.encodebytes(b"Name,Amount\n" + b"apple,3\n" * 50),
    }
    for name, data in files.items():
        found = read(data.decode(), name)
        assert "Compose it." in found.text or "Name: apple; Amount: 3" in found.text
    for name, data in (
        (".env.b64", base64.encodebytes(b"KEY=hush\n" * 50)),
        ("a.uue", b"begin 644 .env\n" + uuencoded + b"`\nend\n"),
    ):
        hidden = documents.read(io.BytesIO(data), filename=name)
        assert isinstance(hidden, NoText)
        assert hidden.reason.startswith("never_read")
    nothing = documents.read(io.BytesIO(LINES.encode()), filename="dump.txt")
    assert isinstance(nothing, NoText)


def test_yenc_and_ldif_are_read_without_their_bytes() -> None:
    article = "Before.\n=ybegin line=128 size=9 name=a.bin\n" + "".join(
        "\xe9\x91r*}}=J\xa2" * 14 + "\n" for _ in range(9)
    )
    found = read(article + "=yend size=9\nAfter.\n", "a.txt")
    assert found.text == "Before.\n\nAfter.\n"
    name = base64.b64encode("Jürgen Groß".encode()).decode()
    photo = "\n ".join(LINES.split())
    text = f"dn: cn=1\ncn:: {name}\njpegPhoto:: {photo}\nuserPassword:: /9j/4AAQ\nmail: j@x.org\n"
    assert read(text, "a.ldif").text == "dn: cn=1\ncn: Jürgen Groß\n\n\nmail: j@x.org\n"


def test_text_that_a_source_hands_in_is_treated_alike() -> None:
    parsers = Parsers(seconds=10, memory_mb=400)
    entity = Entity(id="1", type="note", name="n", text=f"Before.\n\n{LINES}\n\nAfter.", format="markdown")
    found = Reader(parsers).read(entity)
    assert isinstance(found, Extracted)
    assert found.text.split() == ["Before.", "After."]
    assert [one.what for one in found.left_out] == ["encoded"]
    fields = Entity(id="1", type="note", name="n", fields={"picture": ONE_LINE, "words": "Stays."})
    found = Reader(parsers).read(fields)
    assert isinstance(found, Extracted)
    assert found.text == "n\npicture: \nwords: Stays."


def test_blocks_are_found_wherever_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "WINDOW_CHARS", 1_000)
    for before in range(900, 1_010):
        text = "a " * (before // 2) + ONE_LINE[:300] + " after " + "b " * 700 + ONE_LINE[:400] + " end"
        said, found = encoded.strip(text)
        assert said == "a " * (before // 2) + " after " + "b " * 700 + " end"
        assert found[0].count == 2


HOSTILE = [
    "Ab1+" * 2_000_000,
    ("a" * 61 + " ") * 100_000,
    ("Ab1" * 30 + "," * 99) * 30_000,
    "-----BEGIN A-----\n" * 300_000,
    "begin 644 a\n" * 300_000,
    "begin-base64 644 a\n" * 300_000,
    ("begin 644 a\n" + "M" * 61 + "\n") * 50_000,
    "=ybegin a\n" * 300_000,
    ";base64," * 500_000,
    "data:" * 500_000 + ";base64,",
    "\n > " * 500_000,
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_it_takes_linear_time(number: int) -> None:
    began = time.process_time()
    encoded.strip(HOSTILE[number])
    assert time.process_time() - began < 5
