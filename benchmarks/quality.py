"""Whether the right documents come first: nDCG@10 on Cranfield, through the same HTTP search."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path

from .lab import Lab
from .report import Table, number
from .server import serving

COLLECTION = "cranfield"
DEPTH = 10
STRATEGIES = ("keyword", "semantic", "hybrid")
FILES = ("cran.all.1400.xml", "cran.qry.xml", "cranqrel.trec.txt")
HOW = (
    "Skipped: set BENCH_CRANFIELD to a folder with the Cranfield collection in TREC form, the files "
    + ", ".join(FILES)
    + "; it is a classic test collection, freely passed on for research."
)


def run(lab: Lab) -> list[Table]:
    table = Table(f"Search quality: nDCG@{DEPTH} on Cranfield", (
        "strategy", "nDCG@10", "queries without a hit", "bounded by",
    ))  # fmt: skip
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
    with serving(lab.place) as server:
        connection = server.connect(COLLECTION, folder)
        sync = server.sync(connection)
        chunks = server.chunks(connection)
        for strategy in STRATEGIES:
            gains, empty = [], 0
            for n, query in enumerate(queries, start=1):
                hits = server.search(COLLECTION, query, limit=DEPTH, retrieval_strategy=strategy)
                found = [Path(hit["airweave_system_metadata"]["original_entity_id"]).stem for hit in hits]
                gains.append(_ndcg(found, relevant[n]))
                empty += not hits
            table.add(strategy, number(sum(gains) / len(gains), 4), str(empty), _bound(strategy))
    table.notes.append(
        f"{sync.counts['inserted']:,} abstracts indexed as files ({sync.counts['skipped']} skipped), {chunks:,} "
        f"chunks, {len(queries)} queries; a judgment of 1 or more is relevant, gain is binary. Known for this "
        "collection: BM25 with an English stemmer 0.382, the same vectors alone 0.322, both fused 2:1 0.390."
    )
    table.notes.append("A collection that the ranking's weights were looked at with: no proof for others.")
    return [table]


def _bound(strategy: str) -> str:
    if strategy == "keyword":
        return "the words that query and document share"
    if strategy == "semantic":
        return "the model: an average of static word vectors"
    return "both, and how they are fused"


def _read(source: Path) -> tuple[dict[str, str], list[str], Mapping[int, set[str]]]:
    """Texts by document number; the queries in order, by which, from 1, the judgments number them."""
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
