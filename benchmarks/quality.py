"""Search quality: nDCG@10 on Cranfield through the HTTP search, and names in our own sources."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path

import airweave_server

from .lab import Lab
from .report import Table, number
from .server import serving

COLLECTION = "cranfield"
DEPTH = 10
NAMES, FEWEST = 60, 5
SOURCES = Path(airweave_server.__file__).parent
STRATEGIES = ("keyword", "semantic", "hybrid")
EMBEDDERS = ("wordllama", "minilm")
FILES = ("cran.all.1400.xml", "cran.qry.xml", "cranqrel.trec.txt")
HOW = (
    "Skipped: set BENCH_CRANFIELD to a folder with the Cranfield collection in TREC form, the files "
    + ", ".join(FILES)
    + "; it is a classic test collection, freely passed on for research."
)


def run(lab: Lab) -> list[Table]:
    return [*_cranfield(lab), _identifiers(lab)]


def _identifiers(lab: Lab) -> Table:
    """Search for names from our own sources, alone and in a question; files that hold the name as a word are right."""
    table = Table(
        f"Search quality: nDCG@{DEPTH} on identifiers",
        (
            "strategy",
            "as asked",
            "nDCG@10",
            "first is right",
            "right files whose passage shows NAME",
        ),
    )
    texts = {path.relative_to(SOURCES).as_posix(): path.read_text() for path in SOURCES.rglob("*.py")}
    names = _names(texts)
    lab.say(f"search quality on {len(names)} identifiers")
    folder = lab.place / "sources"
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
    with serving(lab.place) as server:
        server.sync(server.connect("sources", folder))
        for strategy in STRATEGIES:
            for asked in ("{}", "how is {} used and what does it return"):
                gains, first, right, shown = [], 0, 0, 0
                for name, relevant in names.items():
                    hits = server.search("sources", asked.format(name), limit=DEPTH, retrieval_strategy=strategy)
                    found = [hit.airweave_system_metadata.original_entity_id for hit in hits]
                    gains.append(_ndcg(found, relevant))
                    first += bool(found) and found[0] in relevant
                    passages = [hit for hit, file in zip(hits, found, strict=True) if file in relevant]
                    right += len(passages)
                    shown += sum(name in hit.textual_representation for hit in passages)
                table.add(
                    strategy,
                    asked.format("NAME"),
                    number(sum(gains) / len(gains), 4),
                    f"{first} of {len(names)}",
                    f"{shown} of {right}",
                )
    table.notes.append(
        f"{len(texts)} files of this package as it stands; {len(names)} names that are defined in them and stand in no "
        f"more than {FEWEST}."
    )
    return table


def _names(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """This many names of functions, classes and constants from all over the sources, and the files that hold each."""
    defined = sorted(
        {name for text in texts.values() for name in re.findall(r"^\s*(?:def|class) (\w+)|^([A-Z_]{6,}) =", text, re.M)}
    )
    told = [one or other for one, other in defined]
    compound = [name for name in told if re.search(r"[a-z][A-Z]|\w_\w", name) and not name.startswith("__")]
    where = {
        name: {file for file, text in texts.items() if re.search(rf"(?<![\w.]){name}(?!\w)|(?<=\.){name}(?!\w)", text)}
        for name in compound
    }
    rare = [name for name in compound if len(where[name]) <= FEWEST]
    step = max(1, len(rare) // NAMES)
    return {name: where[name] for name in rare[::step][:NAMES]}


def _cranfield(lab: Lab) -> list[Table]:
    table = Table(
        f"Search quality: nDCG@{DEPTH} on Cranfield",
        (
            "embedder",
            "strategy",
            "nDCG@10",
            "queries without a hit",
            "CPU s of indexing",
            "bounded by",
        ),
    )
    source = os.environ.get("BENCH_CRANFIELD")
    if not source or not all(Path(source, name).is_file() for name in FILES):
        table.notes.append(HOW)
        return [table]
    texts, queries, relevant = _read(Path(source))
    folder = lab.place / "cranfield"
    folder.mkdir(mode=0o755)
    for number_of, text in texts.items():
        (folder / f"{number_of}.txt").write_text(text, encoding="utf-8")
    lab.say(f"search quality on {len(texts):,} abstracts and {len(queries)} queries")
    for embedder in EMBEDDERS:
        with serving(lab.place, EMBEDDER=embedder) as server:
            connection = server.connect(COLLECTION, folder)
            sync = server.sync(connection)
            chunks = server.chunks(connection)
            for strategy in STRATEGIES:
                if strategy == "keyword" and embedder != EMBEDDERS[0]:
                    continue  # it has no part in it
                gains, empty = [], 0
                for n, query in enumerate(queries, start=1):
                    hits = server.search(COLLECTION, query, limit=DEPTH, retrieval_strategy=strategy)
                    found = [Path(hit.airweave_system_metadata.original_entity_id).stem for hit in hits]
                    gains.append(_ndcg(found, relevant[n]))
                    empty += not hits
                table.add(
                    embedder if strategy != "keyword" else "-",
                    strategy,
                    number(sum(gains) / len(gains), 4),
                    str(empty),
                    number(sync.cpu.server_s + sync.cpu.postgres_s),
                    _bound(strategy, embedder),
                )
    table.notes.append(
        f"{sync.counts['inserted']:,} abstracts indexed as files ({sync.counts['skipped']} skipped), {chunks:,} "
        f"chunks, {len(queries)} queries; a judgment of 1 or more is relevant, gain is binary. Known for this "
        "collection: BM25 with an English stemmer 0.382, the same vectors alone 0.322, both fused 2:1 0.390."
    )
    table.notes.append("A collection that the ranking's weights were looked at with: no proof for others.")
    return [table]


def _bound(strategy: str, embedder: str) -> str:
    if strategy == "keyword":
        return "the words that query and document share"
    if strategy == "semantic":
        return {"wordllama": "the model: an average of static word vectors"}.get(
            embedder, "the model: 22 million weights"
        )
    return "both, and how they are fused"


def _read(source: Path) -> tuple[dict[str, str], list[str], Mapping[int, set[str]]]:
    """The texts by document number, and the queries in order; the judgments number them from 1 in this order."""
    documents, asked, judged = ((source / name).read_text(encoding="utf-8", errors="replace") for name in FILES)
    texts: dict[str, str] = {}
    for found in re.finditer(r"<docno>\s*(\d+)\s*</docno>(.*?)</doc>", documents, re.DOTALL):
        body = re.search(r"<text>(.*?)</text>", found[2], re.DOTALL)  # begins with the title
        texts[found[1]] = unescape(body[1]).strip() + "\n" if body else "\n"
    queries = [
        " ".join(unescape(query).split()) for query in re.findall(r"<top>.*?<title>(.*?)</title>", asked, re.DOTALL)
    ]
    relevant: defaultdict[int, set[str]] = defaultdict(set)
    for line in judged.splitlines():
        query, _, document, value = line.split()
        if int(value) >= 1:
            relevant[int(query)].add(document)
    return texts, queries, relevant


def _ndcg(found: Sequence[str], relevant: set[str]) -> float:
    gain = sum(1 / math.log2(rank + 1) for rank, one in enumerate(found[:DEPTH], start=1) if one in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(DEPTH, len(relevant)) + 1))
    return gain / ideal if ideal else 0.0
