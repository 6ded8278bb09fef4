"""Plain BM25 over whole documents: the yardstick beside our ranking. Runs as a script in an environment of its own that
has a Snowball stemmer: reads a JSON file with ``texts`` by id and ``queries``, and prints the best of each query.

BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with the usual
parameters and an inverse document frequency that is never negative. It knows neither case, nor identifiers, nor chunks.
"""

import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from snowballstemmer import stemmer

DEPTH = 10
K1, B = 1.2, 0.75
# words that say nothing about the subject of a question
ARTICLES = "a an the this that these those any each some such no not"
PRONOUNS = "i me my we us our you your he him his she her it its they them their"
QUESTIONS = "what which who whom whose when where why how"
VERBS = "am is are was were be been being do does did has have had can could may might must shall should will would"
PREPOSITIONS = "about at by for from in into of on than to with"  # "above" or "between" may be the subject
CONJUNCTIONS = "and or but if as because so then there here"
ENDINGS = "s t"  # of "wing's" and "don't"
IGNORED = frozenset(" ".join((ARTICLES, PRONOUNS, QUESTIONS, VERBS, PREPOSITIONS, CONJUNCTIONS, ENDINGS)).split())


class Ranking:
    """An index over texts in memory."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._stem = stemmer("english").stemWord
        self._stems: dict[str, str] = {}
        self._places: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        lengths = {}
        for name, text in texts.items():
            counts = Counter(self._words(text))
            lengths[name] = counts.total()
            for word, count in counts.items():
                self._places[word].append((name, count))
        mean = sum(lengths.values()) / max(len(lengths), 1) or 1.0
        self._norms = {name: K1 * (1 - B + B * length / mean) for name, length in lengths.items()}

    def best(self, query: str) -> list[tuple[str, float]]:
        """The best documents with their scores."""
        scores: defaultdict[str, float] = defaultdict(float)
        for word, asked in Counter(self._words(query)).items():
            places = self._places.get(word, ())
            rarity = math.log(1 + (len(self._norms) - len(places) + 0.5) / (len(places) + 0.5))
            for name, count in places:
                scores[name] += asked * rarity * count * (K1 + 1) / (count + self._norms[name])
        return sorted(scores.items(), key=lambda pair: -pair[1])[:DEPTH]

    def _words(self, text: str) -> list[str]:
        words = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in IGNORED]
        for word in words:
            if word not in self._stems:
                self._stems[word] = self._stem(word)
        return [self._stems[word] for word in words]


def main(arguments: Sequence[str]) -> None:
    given = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    ranking = Ranking(given["texts"])
    print(json.dumps([ranking.best(query) for query in given["queries"]]))


if __name__ == "__main__":
    main(sys.argv[1:])
