"""The input of every benchmark: the options, the corpus and a folder for copies of it."""

from dataclasses import dataclass
from pathlib import Path

from .corpus import USUAL, Corpus


@dataclass(frozen=True, slots=True)
class Lab:
    """The input of a benchmark. ``place`` is always removed in the end."""

    corpus: Corpus
    place: Path
    repeats: int
    quick: bool

    @property
    def usual(self) -> int:
        return min(200 if self.quick else USUAL, len(self.corpus.files))

    @property
    def whole(self) -> int:
        return self.usual if self.quick else len(self.corpus.files)

    def sizes(self) -> list[int]:
        return sorted({self.usual, self.whole})

    def say(self, text: str) -> None:
        print(f"... {text}", flush=True)
