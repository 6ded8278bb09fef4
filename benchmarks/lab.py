"""What every benchmark is given: the options, the corpus and a place for copies of it."""

from dataclasses import dataclass
from pathlib import Path

from .corpus import USUAL, Corpus


@dataclass(frozen=True, slots=True)
class Lab:
    """``place`` is removed in the end, whatever happens."""

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
