"""Labelled collections in TREC form: documents, questions, and which documents answer each; and plain BM25 on them."""

import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

from . import environments
from .server import Unfit

FILES = ("cran.all.1400.xml", "cran.qry.xml", "cranqrel.trec.txt")
VARIABLES = ("BENCH_CRANFIELD", "BENCH_LABELLED")
HOW = (
    "Skipped: set BENCH_CRANFIELD to a folder with the Cranfield collection in TREC form, the files "
    + ", ".join(FILES)
    + ", or BENCH_LABELLED to several folders of this form, separated by colons. Cranfield and CACM are classic test "
    "collections, freely passed on for research."
)
STEMMER = {"snowballstemmer": "3.1.1"}
BM25_S = 600.0
QUICK_QUERIES, QUICK_DOCUMENTS = 8, 50


@dataclass(frozen=True, slots=True)
class Labelled:
    """A collection. ``grades``: of each query, the right documents."""

    name: str
    texts: Mapping[str, str]
    queries: Sequence[str]
    grades: Sequence[Mapping[str, float]]

    def capitals(self) -> "Labelled":
        """The same, all in capital letters."""
        return replace(
            self,
            name=f"{self.name}-capitals",
            texts={name: text.upper() for name, text in self.texts.items()},
            queries=[query.upper() for query in self.queries],
        )

    def shortened(self) -> "Labelled":
        """The first queries, with the documents that answer them and some others."""
        grades = self.grades[:QUICK_QUERIES]
        kept = {*list(self.texts)[:QUICK_DOCUMENTS], *(name for some in grades for name in some)}
        texts = {name: text for name, text in self.texts.items() if name in kept}
        return Labelled(self.name, texts, self.queries[:QUICK_QUERIES], grades)

    def write(self, folder: Path) -> None:
        """Write a file for each document."""
        folder.mkdir(mode=0o755)
        for name, text in self.texts.items():
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def load(*, quick: bool) -> list[Labelled]:
    """The collections that the environment names, by the names of their folders. Raises ``Unfit`` if one of them is not
    complete."""
    named = (folder for variable in VARIABLES for folder in os.environ.get(variable, "").split(os.pathsep))
    folders = list(dict.fromkeys(Path(folder).resolve() for folder in named if folder))
    for folder in folders:
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise Unfit(f"the labelled collection {folder.name} has no {', '.join(missing)}")
    names = [re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") for folder in folders]
    if len(set(names)) < len(names):
        raise Unfit("two labelled collections have folders of the same name")
    found = [_read(folder, name) for folder, name in zip(folders, names, strict=True)]
    return [one.shortened() for one in found] if quick else found


def plain_bm25(
    texts: Mapping[str, str], queries: Sequence[str], place: Path, say: Callable[[str], None]
) -> list[list[tuple[str, float]]]:
    """The best documents of each query by plain BM25, with their scores. Raises ``Unfit`` if there is no stemmer."""
    environments.install("bm25", STEMMER, say)
    given = place / "bm25.json"
    given.write_text(json.dumps({"texts": dict(texts), "queries": list(queries)}), encoding="utf-8")
    script = Path(__file__).with_name("plain.py")
    output = environments.run([environments.python("bm25"), script, given], BM25_S, "plain BM25")
    return [[(name, score) for name, score in best] for best in json.loads(output)]


def nonsense(count: int, *, words: int = 3, seed: int = 11) -> list[str]:
    """Questions of words that no language has."""
    chance = random.Random(seed)
    heads = ("x", "zv", "qu", "vl", "kr", "wz", "fn", "gx")
    tails = ("obnar", "yzzy", "ux", "imble", "ork", "azd", "ixo")

    def word() -> str:
        return chance.choice(heads) + chance.choice(tails) + chance.choice(heads) + chance.choice(tails)

    return [" ".join(word() for _ in range(words)) for _ in range(count)]


def _read(folder: Path, name: str) -> Labelled:
    """The judgments number the queries from 1 in the order of the file; a judgment of 1 or more is right."""
    documents, asked, judged = ((folder / file).read_text(encoding="utf-8", errors="replace") for file in FILES)
    texts: dict[str, str] = {}
    for found in re.finditer(r"<docno>\s*([\w.-]+)\s*</docno>(.*?)</doc>", documents, re.DOTALL):
        body = re.search(r"<text>(.*?)</text>", found[2], re.DOTALL)  # begins with the title
        texts[found[1]] = unescape(body[1]).strip() + "\n" if body else "\n"
    queries = [
        " ".join(unescape(query).split()) for query in re.findall(r"<top>.*?<title>(.*?)</title>", asked, re.DOTALL)
    ]
    grades: list[dict[str, float]] = [{} for _ in queries]
    for line in filter(str.strip, judged.splitlines()):
        query, _, document, value = line.split()
        if int(value) >= 1 and int(query) <= len(queries):
            grades[int(query) - 1][document] = 1.0  # the gain is binary
    return Labelled(name, texts, queries, grades)
