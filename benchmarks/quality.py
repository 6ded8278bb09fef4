"""Search quality through the HTTP search: labelled collections beside plain BM25, what scores say, exact words, and
names in our own sources."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import airweave_server
from airweave_server.search.measures import Interval, auc, ndcg, paired_bootstrap

from . import exact, labelled
from .lab import Lab
from .labelled import Labelled
from .report import Table, number
from .server import Server, serving

DEPTH = 10
NAMES, FEWEST = 60, 5
SOURCES = Path(airweave_server.__file__).parent
STRATEGIES = ("keyword", "semantic", "hybrid")
EMBEDDERS = ("wordllama", "minilm")
ANSWERED = 0.5  # a first hit with this score or more counts as an answer
UNANSWERABLE = 60  # questions of nonsense, and near misses, of each collection
OWN, NONSENSE, NEAR = "its own questions", "nonsense", "its own questions beside an identifier that it has not"
Best = Sequence[Sequence[tuple[str, float]]]  # of each query, the best documents with their scores


@dataclass(frozen=True, slots=True)
class Asked:
    """Of each query, its nDCG and the score of its first hit."""

    gains: Sequence[float]
    firsts: Sequence[float]
    without_hit: int


def run(lab: Lab) -> list[Table]:
    return [*_labelled(lab), *exact.run(lab), _identifiers(lab)]


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
                    gains.append(ndcg(found, dict.fromkeys(relevant, 1.0), DEPTH))
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


def _labelled(lab: Lab) -> list[Table]:
    table = Table(
        f"Search quality: nDCG@{DEPTH} on labelled collections",
        (
            "collection",
            "embedder",
            "strategy",
            f"nDCG@{DEPTH}",
            "plain BM25",
            "difference (95 %)",
            "hybrid beside the better of keyword and vectors (95 %)",
            "without a hit",
            "bounded by",
        ),
    )
    relevance = Table(
        "Relevance: what the score of the first hit says",
        (
            "embedder",
            "collection",
            "asked",
            "AUC beside its own questions",
            "the same with plain BM25's score",
            f"first scores {ANSWERED} or more",
            "says nothing relevant",
            "bounded by",
        ),
    )
    sets = labelled.load(quick=lab.quick)
    if not sets:
        table.notes.append(labelled.HOW)
        return [table]
    every = [variant for one in sets for variant in (one, one.capitals())]
    for one in every:
        one.write(lab.place / one.name)
    asked = {one.name: _questions(one, sets) for one in sets}
    plain = {one.name: _plain(lab, one, asked[one.name]) for one in sets}
    keyword: dict[str, Asked] = {}
    for embedder in EMBEDDERS:
        with serving(lab.place, EMBEDDER=embedder) as server:
            lab.say(f"indexing {', '.join(one.name for one in every)} with {embedder}")
            syncs = [server.sync(server.connect(one.name, lab.place / one.name)) for one in every]
            server.wait_for_index()
            cpu_s = sum(one.cpu.server_s + one.cpu.postgres_s for one in syncs)
            table.notes.append(f"Indexing all of them with {embedder} took {number(cpu_s)} s of CPU.")
            gained = []
            for variant in every:
                bm25 = _gains(plain[variant.name.removesuffix("-capitals")][OWN], variant)
                gained.append(_ask_all(server, variant, embedder, keyword, bm25, table))
            table.notes.append(
                f"Hybrid beside the better of keyword and vectors with {embedder}: {statistics.mean(gained):+.3f} in "
                f"the mean of these collections, {min(gained):+.3f} in the worst."
            )
            _ask_strange(server, embedder, sets, asked, plain, relevance)
    table.notes.append(
        "; ".join(f"{one.name}: {len(one.texts):,} documents, {len(one.queries)} queries" for one in sets)
        + ". A judgment of 1 or more is right, gain is binary. Those in capitals are the same in upper case, questions "
        "and documents. Plain BM25 ranks whole documents with a Snowball stemmer; differences are those of the means, "
        "with the interval of a paired bootstrap."
    )
    relevance.notes.append(
        f"Hybrid. An AUC is the share of pairs of an own and a strange question in which the own one has the greater "
        f"score. {UNANSWERABLE} questions of nonsense and as many near misses at most."
    )
    return [table, relevance]


def _questions(one: Labelled, sets: Sequence[Labelled]) -> dict[str, Sequence[str]]:
    """What is asked of a collection: its own questions, those of each other, and what it cannot answer."""
    near = [f"{query} ZX-{n + 40}-RAG" for n, query in enumerate(one.queries[:UNANSWERABLE])]
    others = {f"questions of {other.name}": other.queries for other in sets if other is not one}
    return {OWN: one.queries, **others, NONSENSE: labelled.nonsense(len(near)), NEAR: near}


def _plain(lab: Lab, one: Labelled, asked: Mapping[str, Sequence[str]]) -> dict[str, Best]:
    queries = [query for some in asked.values() for query in some]
    left = iter(labelled.plain_bm25(one.texts, queries, lab.place, lab.say))
    return {kind: [next(left) for _ in some] for kind, some in asked.items()}


def _gains(best: Best, one: Labelled) -> list[float]:
    return [ndcg([name for name, _ in some], grades, DEPTH) for some, grades in zip(best, one.grades, strict=True)]


def _ask_all(
    server: Server, one: Labelled, embedder: str, keyword: dict[str, Asked], bm25: Sequence[float], table: Table
) -> float:
    """Ask all questions by all strategies. Returns by how much hybrid is above the better of the others."""
    is_new = one.name not in keyword
    if is_new:
        keyword[one.name] = _ask(server, one, "keyword")
    found = {name: keyword[one.name] if name == "keyword" else _ask(server, one, name) for name in STRATEGIES}
    better = max(("keyword", "semantic"), key=lambda name: statistics.mean(found[name].gains))
    gain = paired_bootstrap(found["hybrid"].gains, found[better].gains)
    for strategy, some in found.items():
        if strategy == "keyword" and not is_new:
            continue  # the embedder has no part in it
        table.add(
            one.name,
            embedder if strategy != "keyword" else "-",
            strategy,
            number(statistics.mean(some.gains), 4),
            number(statistics.mean(bm25), 4),
            _shown(paired_bootstrap(some.gains, bm25)),
            f"{_shown(gain)}: {better}" if strategy == "hybrid" else "-",
            str(some.without_hit),
            _bound(strategy, embedder),
        )
    return gain.mean


def _ask(server: Server, one: Labelled, strategy: str) -> Asked:
    gains, firsts, empty = [], [], 0
    for query, grades in zip(one.queries, one.grades, strict=True):
        hits = server.search(one.name, query, limit=DEPTH, retrieval_strategy=strategy)
        found = [Path(hit.airweave_system_metadata.original_entity_id).stem for hit in hits]
        gains.append(ndcg(found, grades, DEPTH))
        firsts.append(hits[0].relevance_score if hits else 0.0)
        empty += not hits
    return Asked(gains, firsts, empty)


def _ask_strange(
    server: Server,
    embedder: str,
    sets: Sequence[Labelled],
    asked: Mapping[str, Mapping[str, Sequence[str]]],
    plain: Mapping[str, Mapping[str, Best]],
    table: Table,
) -> None:
    """Ask each collection what it can answer and what it cannot, and compare the scores of the first hits."""
    pairs = []
    for one in sets:
        answers = {kind: [_first(server, one.name, query) for query in some] for kind, some in asked[one.name].items()}
        scores = {kind: [score for score, _ in some] for kind, some in answers.items()}
        raw = {kind: [some[0][1] if some else 0.0 for some in best] for kind, best in plain[one.name].items()}
        for kind, some in scores.items():
            share = sum(score >= ANSWERED for score in some) / len(some)
            doubted = sum(is_doubted for _, is_doubted in answers[kind]) / len(some)
            ours = auc(scores[OWN], some)
            if kind not in (OWN, NONSENSE, NEAR):
                pairs.append(ours)
            table.add(
                embedder,
                one.name,
                kind,
                number(ours, 3) if kind != OWN else "-",
                number(auc(raw[OWN], raw[kind]), 3) if kind != OWN else "-",
                f"{share:.0%}",
                f"{doubted:.0%}",
                "how words and vectors tell what fits",
            )
    if pairs:
        table.notes.append(
            f"{embedder}: the mean AUC of {len(pairs)} pairs of collections is {statistics.mean(pairs):.3f}, the least "
            f"{min(pairs):.3f}."
        )


def _first(server: Server, collection: str, query: str) -> tuple[float, bool]:
    """The score of the first hit, and whether the answer says that nothing is relevant."""
    answer = server.answer(collection, query, limit=DEPTH)
    return next((hit.relevance_score for hit in answer.results), 0.0), answer.nothing_relevant


def _shown(found: Interval) -> str:
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _bound(strategy: str, embedder: str) -> str:
    if strategy == "keyword":
        return "the words that query and document share"
    if strategy == "semantic":
        return {"wordllama": "the model: an average of static word vectors"}.get(
            embedder, "the model: 22 million weights"
        )
    return "both, and how they are fused"
