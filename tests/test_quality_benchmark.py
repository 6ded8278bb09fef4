"""What the benchmarks of search make and read: labelled collections, marks, and phrases that stand once."""

from pathlib import Path

import pytest
from benchmarks import corpus, labelled
from benchmarks.exact import PHRASE_WORDS, unique_phrases
from benchmarks.server import Unfit

DOCUMENTS = """<doc><docno>1</docno><title>t</title><text>wings &amp; tails
of aircraft</text></doc>
<doc><docno> 2 </docno><text></text></doc>
<doc><docno>3</docno></doc>"""
QUERIES = "<top><num>7</num><title>what of\nwings</title></top><top><num>9</num><title>tails</title></top>"
JUDGMENTS = "1 0 1 1\n1 0 2 -1\n2 0 3 2\n2 0 1 0\n9 0 1 1\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "Old_Wings"
    place.mkdir()
    for name, text in zip(labelled.FILES, (DOCUMENTS, QUERIES, JUDGMENTS), strict=True):
        (place / name).write_text(text)
    return place


def test_a_labelled_collection_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CRANFIELD", str(folder))
    monkeypatch.setenv("BENCH_LABELLED", f"{folder}:")  # the same again
    [found] = labelled.load(quick=False)
    assert found.name == "old-wings"
    assert found.texts == {"1": "wings & tails\nof aircraft\n", "2": "\n", "3": "\n"}
    assert found.queries == ["what of wings", "tails"]
    assert found.grades == [{"1": 1.0}, {"3": 1.0}]  # by the order of the queries, not by their numbers
    loud = found.capitals()
    assert (loud.name, loud.texts["1"], loud.queries[1]) == (
        "old-wings-capitals",
        "WINGS & TAILS\nOF AIRCRAFT\n",
        "TAILS",
    )
    assert loud.grades == found.grades


def test_none_or_an_incomplete_collection(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in labelled.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert labelled.load(quick=False) == []
    (folder / labelled.FILES[1]).unlink()
    monkeypatch.setenv("BENCH_LABELLED", str(folder))
    with pytest.raises(Unfit, match=r"Old_Wings has no cran\.qry\.xml"):
        labelled.load(quick=False)


def test_marks_differ_and_each_is_in_one_document(tmp_path: Path) -> None:
    files = []
    for n in range(70):
        files.append(tmp_path / f"{n}.md")
        files[-1].write_text(f"# Page {n}\n\nSome text.\n\nMore text.\n")
    marks = [*corpus.identifiers(60), *corpus.plain_words(6)]
    assert len(set(marks)) == 66
    assert not any(one.lower() in other.lower() for one in marks for other in marks if one != other)
    where = corpus.plant(files, marks)
    for mark, path in where.items():
        assert [one for one in files if mark in one.read_text()] == [path]
        assert path.read_text().startswith("# Page")
    with pytest.raises(Unfit, match="already"):
        corpus.plant(files, marks[:1])


def test_a_phrase_stands_in_one_document_whatever_stands_between_its_words(tmp_path: Path) -> None:
    texts = (
        "the harbour of this old town freezes",
        "The harbour, of this *old* town: freezes",
        "a lantern burns above the northern gate",
    )
    files = [tmp_path / f"{n}.md" for n in range(len(texts))]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text + "\n")
    [(phrase, path)] = unique_phrases(files, 1).items()
    assert path == files[2]
    assert phrase in texts[2]
    assert len(phrase.split()) == PHRASE_WORDS
    with pytest.raises(Unfit, match="only"):
        unique_phrases(files, 5)
