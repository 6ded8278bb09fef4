"""What is found by its exact words: planted identifiers, and phrases that stand in one document only."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path

from . import corpus
from .lab import Lab
from .report import Table
from .server import Server, Unfit, serving

COLLECTION = "exact"
DEPTH = 10
PHRASES, PHRASE_WORDS = 200, 6
IDENTIFIERS = 60
QUICK = 10  # so many times fewer in a quick run
CANDIDATES = 4  # of each wanted phrase: some stand in several documents
ABSENT = 5_000  # numbers from here on are of identifiers that no document has
BESIDE, MANY = 3, 10
WORD = r"\b[a-z]{5,}\b"
NAME = r"\b[A-Za-z]+_[A-Za-z_]+\b|\b[A-Z][a-z]+[A-Z][A-Za-z]+\b"
CONFIDENT = 0.5
STRATEGIES = ("hybrid", "keyword")
BOUNDS = {
    "hybrid": "how the words and the vectors are fused",
    "keyword": "the weights of the words",
}


def run(lab: Lab) -> list[Table]:
    folder = lab.place / "exact"
    files = lab.corpus.copy(folder, lab.whole)
    share = QUICK if lab.quick else 1
    phrases = unique_phrases(files, PHRASES // share)
    where = corpus.plant(files, corpus.identifiers(IDENTIFIERS // share))
    lab.say(f"exact words in {len(files):,} documents")
    with serving(lab.place) as server:
        connection = server.connect(COLLECTION, folder)
        server.sync(connection)
        server.wait_for_index()
        server.vacuum()
        chunks = f"{len(files):,} documents, {server.chunks(connection):,} chunks."
        tables = [_phrases(server, phrases), _identifiers(server, where, files)]
    for table in tables:
        table.notes.append(chunks)
    return tables


def unique_phrases(files: Sequence[Path], count: int, *, seed: int = 13) -> dict[str, Path]:
    """Phrases of plain words in a line, each of which stands in one document only, whatever its case and what stands
    between its words. Raises ``Unfit`` if there are not enough of them."""
    chance = random.Random(seed)
    candidates: dict[tuple[str, ...], str] = {}
    pattern = re.compile(rf"(?<!\S)[A-Za-z]+(?: [A-Za-z]+){{{PHRASE_WORDS - 1}}}(?!\S)")
    for path in chance.choices(corpus.readable(files), k=count * CANDIDATES):
        if found := pattern.findall(path.read_text(encoding="utf-8")):
            phrase = chance.choice(found)
            candidates[tuple(phrase.lower().split())] = phrase
    starts = {words[:2] for words in candidates}
    where: defaultdict[tuple[str, ...], set[Path]] = defaultdict(set)
    for path in files:
        words = re.findall(r"\w+", path.read_text(encoding="utf-8").lower())
        for n, pair in enumerate(pairwise(words)):
            if pair in starts and (here := tuple(words[n : n + PHRASE_WORDS])) in candidates:
                where[here].add(path)
    unique = [(candidates[words], next(iter(paths))) for words, paths in where.items() if len(paths) == 1]
    if len(unique) < count:
        raise Unfit(f"only {len(unique)} phrases stand in one document only")
    return dict(chance.sample(sorted(unique), count))


def _phrases(server: Server, phrases: Mapping[str, Path]) -> Table:
    table = Table(
        f"Phrases: {PHRASE_WORDS} words that stand in one document only",
        ("strategy", "as asked", "its document is first", f"in the first {DEPTH}", "bounded by"),
    )
    for strategy in STRATEGIES:
        for label, asked in (("bare", "{}"), ("in quotes", '"{}"')):
            first = among = 0
            for phrase, path in phrases.items():
                names = [name for name, _ in _search(server, asked.format(phrase), strategy)]
                first += names[:1] == [path.name]
                among += path.name in names
            count = len(phrases)
            table.add(strategy, label, f"{first} of {count}", f"{among} of {count}", BOUNDS[strategy])
    return table


def _identifiers(server: Server, where: Mapping[str, Path], files: Sequence[Path]) -> Table:
    table = Table(
        "Identifiers: planted, each in one document",
        ("strategy", "as asked", "its document is first", f"first scores {CONFIDENT} or more", "bounded by"),
    )
    chance = random.Random(23)
    frequencies = Counter(name for path in files for name in set(re.findall(NAME, path.read_text(encoding="utf-8"))))
    common = {name for name, count in frequencies.items() if count >= MANY}
    ways: dict[str, Callable[[str, Path], str]] = {
        "bare": lambda mark, _: mark,
        "in a question": lambda mark, _: f"what do we know about {mark} and who wrote it",
        f"beside {BESIDE} plain words of others": lambda mark, path: _beside(mark, path, files, WORD, chance),
        f"beside {BESIDE} identifiers of {MANY} others or more": lambda mark, path: _beside(
            mark, path, files, NAME, chance, among=common
        ),
    }
    asked = {label: {way(mark, path): path for mark, path in where.items()} for label, way in ways.items()}
    absent = corpus.identifiers(len(where), first=ABSENT)
    count = len(where)
    for strategy in STRATEGIES:
        for label, queries in asked.items():
            found = [(path, _search(server, query, strategy)) for query, path in queries.items()]
            first = sum(hits[:1] != [] and hits[0][0] == path.name for path, hits in found)
            sure = sum(_is_confident(hits) for _, hits in found)
            table.add(strategy, label, f"{first} of {count}", f"{sure} of {count}", BOUNDS[strategy])
        sure = sum(_is_confident(_search(server, mark, strategy)) for mark in absent)
        table.add(strategy, "the same with a number that no document has", "-", f"{sure} of {count}", "the calibration")
    table.notes.append(f"Of the shapes {', '.join(shape.format(18) for shape in corpus.SHAPES)}.")
    return table


def _beside(
    mark: str,
    path: Path,
    files: Sequence[Path],
    pattern: str,
    chance: random.Random,
    *,
    among: Set[str] | None = None,
) -> str:
    """The mark behind words of another document that its own does not hold."""
    own = path.read_text(encoding="utf-8").lower()
    for other in chance.sample(list(files), len(files)):
        words = set(re.findall(pattern, other.read_text(encoding="utf-8")))
        strange = sorted(word for word in (words if among is None else words & among) if word.lower() not in own)
        if other != path and len(strange) >= BESIDE:
            return " ".join([*chance.sample(strange, BESIDE), mark])
    raise Unfit("no document has enough words that another has not")


def _is_confident(hits: Sequence[tuple[str, float]]) -> bool:
    return bool(hits) and hits[0][1] >= CONFIDENT


def _search(server: Server, query: str, strategy: str) -> list[tuple[str, float]]:
    hits = server.search(COLLECTION, query, limit=DEPTH, retrieval_strategy=strategy)
    return [(hit.airweave_system_metadata.original_entity_id, hit.relevance_score) for hit in hits]
