"""The count of the words of HTML, JSON and CSV: it finds what was not read, and is silent where all was."""

import csv
import io
import json
import random
import time

import pytest

from airweave_server.sdk import Entity
from airweave_server.text import completeness_web, extract, html
from airweave_server.text.parsers import Parsers
from airweave_server.text.parts import Extracted
from airweave_server.text.reading import Reader

WORDS = [f"{first}{last}" for first in ("ba", "de", "fi", "go", "ku", "la", "mö") for last in "nrstvz"]


def sentence(seed: int, count: int = 20) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def page(lines: list[str]) -> str:
    blocks = []
    for number, line in enumerate(lines):
        first, second, rest = line.split(" ", 2)
        block = ("p", "li", "h2", "td")[number % 4]
        inside = f'{first} <b class="a > b">{second}</b> {rest}<!-- not <p>this</p> --><script>nor("this")</script>'
        blocks.append(f"<table><tr><td>{inside}</td></tr></table>" if block == "td" else f"<{block}>{inside}</{block}>")
    return (
        "<!DOCTYPE html><html><head><title>A page</title><style>p {}</style></head><body><nav>Menu <nav>in it</nav> of"
        f" many words that nobody has to find</nav>{''.join(blocks)}<template>no text</template></body></html>"
    )


def records_of(lines: list[str]) -> str:
    made = [{"id": number, "title of it": line[:40], "in": {"rest": [line[40:]]}} for number, line in enumerate(lines)]
    return json.dumps(made, indent=1)


def table(lines: list[str]) -> str:
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(["Number", "Name, of it", "Rest"])
    writer.writerows([number, line[:40], line[40:]] for number, line in enumerate(lines))
    return made.getvalue()


MAKERS = {"html": page, "json": records_of, "csv": table}
LINES = [sentence(seed) for seed in range(100)]


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("lost", [3, 20, 80, 100])
def test_a_planted_loss_is_counted(form: str, lost: int) -> None:
    held = MAKERS[form](LINES)
    found = extract.extract(held.encode(), filename=f"a.{form}")
    assert isinstance(found, Extracted)
    assert found.kind == form
    assert found.left_out == ()
    gone = set(random.Random(lost).sample(LINES, lost))
    kept = extract.extract(MAKERS[form]([line for line in LINES if line not in gone]).encode(), filename=f"a.{form}")
    text = kept.text if isinstance(kept, Extracted) else ""
    expected = sum(len(line.split()) for line in gone)
    assert completeness_web.missing_words(held, form, text) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("module", "reader", "form"),
    [(html, "to_text", "html"), (extract, "json_to_text", "json"), (extract, "csv_to_text", "csv")],
)
def test_what_a_reader_loses_is_said(module: object, reader: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = getattr(module, reader)
    monkeypatch.setattr(module, reader, lambda *given, **more: whole(*given, **more)[: len("".join(LINES)) // 2])
    found = extract.extract(MAKERS[form](LINES).encode(), filename=f"a.{form}")
    assert isinstance(found, Extracted)
    assert [one.what for one in found.left_out] == ["words"]
    assert 700 < found.left_out[0].count < 2_100


def test_a_loss_of_a_page_that_a_source_passes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    entity = Entity(id="1", name="a", type="page", text=page(LINES), format="html")
    reader = Reader(Parsers(seconds=1, memory_mb=400))
    found = reader.read(entity)
    assert isinstance(found, Extracted)
    assert found.left_out == ()
    whole = html.to_text
    monkeypatch.setattr(html, "to_text", lambda text: whole(text)[:5_000])
    found = reader.read(entity)
    assert isinstance(found, Extracted)
    assert [one.what for one in found.left_out] == ["words"]


WHOLE = {
    "a.html": "<p>" + "a < b, super<wbr>cali&shy;fragilistic &amp; so&nbsp;on<br>" * 50,
    "b.html": f"<body><header>{sentence(1)}</header><main><h1>T</h1><p>{sentence(2, 60)}</p></main><footer>x</footer>",
    "c.html": f'<div class="sidebar">{sentence(1)}</div><div role="main"><div>{sentence(2, 90)}</div></div><p>after',
    "d.html": f"<title>{sentence(4)}</title><script>var a = '<p>{sentence(1)}';</script><svg><text>x</text></svg><p>b",
    "e.html": f"<p>text</p><!-- {sentence(1)} <p> --><style>{sentence(2)}</style><pre>a\n  b\n</pre>",
    "a.json": json.dumps([{"k: x": f"a: b\nc: d\n{sentence(1)}", "e": 'é"\\', "f": [1.5e3, None, True]}] * 30),
    "b.json": '{"a" : "b", "c":"d: e", "' + "k" * 300 + '": {}}',
    "a.jsonl": "".join(json.dumps({"a": sentence(seed), "b": [seed]}) + "\n" for seed in range(50)) + 'not "JSON\n',
    "a.csv": "sep=;\nName;Note: it\n" + f'"{sentence(1)}";"a; Name: b\nc"\n' * 20 + "Name;Note: it\nx;y\n",
    "b.tsv": "A title\n\nName\tValue\n" + "".join(f"{sentence(seed)}\t{seed}\n" for seed in range(40)),
    "c.csv": "1,2,3\n" * 60,
}


@pytest.mark.parametrize("filename", WHOLE)
def test_of_a_whole_file_nothing_is_said(filename: str) -> None:
    found = extract.extract(WHOLE[filename].encode(), filename=filename)
    assert isinstance(found, Extracted)
    assert "words" not in [one.what for one in found.left_out]


def test_an_opportunity_to_break_a_word_is_no_end_of_it() -> None:
    assert html.to_text("<p>BTree<wbr>Map and <code>std::<wbr/>str</code></p>") == "BTreeMap and std::str"


HOSTILE = ("<", "<a", "<!--", "<nav>", "<script>", "<main>", '<a b="', "<div role=", "<pre", "<title ", "&#", "</main>")
HOSTILE_DATA = ('"', "\\", '{"a":', "a: ", "[", '"a;"": ', "; a: ", ",,")


@pytest.mark.parametrize("piece", [*HOSTILE, *HOSTILE_DATA])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    for form in ("html",) if piece in HOSTILE else ("json", "csv"):
        taken = []
        for count in (20_000, 80_000):
            text = "a,b\n" + piece * count
            begun = time.process_time()
            completeness_web.missing_words(text, form, "nothing of it")
            taken.append(time.process_time() - begun)
        assert taken[1] < 12 * taken[0] + 0.3
