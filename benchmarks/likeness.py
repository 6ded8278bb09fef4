"""How alike two texts are, word by word: recall, precision, and order within paragraphs. Knows no format."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FEWEST = 5  # words of a paragraph whose order is judged
PIECE = 200  # words of a paragraph that are compared at once
ANCHORS, PLACES = 3, 20  # words by which a paragraph is found in a text, and places of each that are tried

_WORD = re.compile(r"\w+")
_INVISIBLE = dict.fromkeys(
    [0x00AD, 0x034F, 0x061C, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065)]
)
_DOTLESS = re.compile("\u0131(?=[\u0300-\u0315])")  # under an accent, which takes the place of the dot
_LINE_END = re.compile(r"(\w+)[-\u2010] ?\r?\n\s*(\w+)")


@dataclass(frozen=True, slots=True)
class Bag:
    """The words of a text. ``either``: words that may as well be others: one that a hyphen at the end of a line parts,
    a number that is shown with fewer digits than it has."""

    words: Counter[str] = field(default_factory=Counter)
    either: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    def __or__(self, other: "Bag") -> "Bag":
        return Bag(self.words | other.words, self.either + other.either)


@dataclass(frozen=True, slots=True)
class Likeness:
    """``found`` of the ``expected`` words are in the text; ``right`` of its ``written`` words are in the reference."""

    found: int
    expected: int
    right: int
    written: int
    missing: tuple[tuple[str, int], ...] = ()
    surplus: tuple[tuple[str, int], ...] = ()

    @property
    def recall(self) -> float:
        return self.found / self.expected if self.expected else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.written if self.written else 1.0


def normal(text: str) -> str:
    """In one normal form, without case and invisible characters."""
    return unicodedata.normalize("NFKC", _DOTLESS.sub("i", text)).translate(_INVISIBLE).casefold()


def words(text: str) -> list[str]:
    """The words in their order. Underscores around a word are marks of emphasis."""
    return [word for found in _WORD.findall(normal(text)) if (word := found.strip("_"))]


def bag(text: str) -> Bag:
    pairs = [(one.strip("_"), other.strip("_")) for one, other in _LINE_END.findall(normal(text))]
    return Bag(Counter(words(text)), tuple((pair, ("".join(pair),)) for pair in pairs))


def compare(reference: Bag, text: Bag, allowed: Counter[str] | None = None) -> Likeness:
    """``allowed``: words, with the reference's, that the text may hold but need not."""
    expected, written = Counter(reference.words), Counter(text.words)
    may = expected | allowed if allowed else Counter(expected)
    for one, other in reference.either:
        if _lacks(written, expected, one) and _exceeds(written, expected, other) and _has(expected, one):
            for counts in (expected, may):
                _replace(counts, one, other)
    for one, other in text.either:
        if _exceeds(written, expected, one) and _lacks(written, expected, other) and _has(written, one):
            _replace(written, one, other)
    expected, written, may = +expected, +written, +may
    return Likeness(
        (expected & written).total(),
        expected.total(),
        (may & written).total(),
        written.total(),
        tuple((expected - written).most_common()),
        tuple((written - may).most_common()),
    )


def _lacks(written: Counter[str], expected: Counter[str], found: Sequence[str]) -> bool:
    return any(written[word] < expected[word] for word in found)


def _exceeds(written: Counter[str], expected: Counter[str], found: Sequence[str]) -> bool:
    return any(written[word] > expected[word] for word in found)


def _has(counts: Counter[str], found: Sequence[str]) -> bool:
    return all(counts[word] > 0 for word in found)


def _replace(counts: Counter[str], one: Sequence[str], other: Sequence[str]) -> None:
    counts.subtract(one)
    counts.update(other)


def order(paragraphs: Iterable[Sequence[str]], text: Sequence[str]) -> tuple[int, int]:
    """How many words of the paragraphs stand in the text in their order, and how many stand at their place at all."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(text):
        places[word].append(place)
    in_order = present = 0
    for paragraph in paragraphs:
        if len(paragraph) < FEWEST:
            continue
        for start in range(0, len(paragraph), PIECE):
            piece = paragraph[start : start + PIECE]
            held = Counter(piece)
            found = ((subsequence(piece, one), (held & Counter(one)).total()) for one in _windows(piece, text, places))
            ordered, there = max(found, key=lambda both: (both[0], -both[1]), default=(0, 0))
            in_order, present = in_order + ordered, present + there
    return in_order, present


def _windows(piece: Sequence[str], text: Sequence[str], places: dict[str, list[int]]) -> Iterable[Sequence[str]]:
    """The parts of the text in which the piece may stand: around its rarest words."""
    anchors = sorted((len(places[word]), at, word) for at, word in enumerate(piece) if word in places)
    slack = len(piece) // 2 + 10
    for _, at, word in anchors[:ANCHORS]:
        for place in places[word][:PLACES]:
            yield text[max(0, place - at - slack) : place - at + len(piece) + slack]


def subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence (Hyyrö's bit-parallel algorithm)."""
    masks: defaultdict[str, int] = defaultdict(int)
    for at, word in enumerate(one):
        masks[word] |= 1 << at
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        matches = row & masks[word] if word in masks else 0
        row = ((row + matches) | (row - matches)) & every
    return len(one) - row.bit_count()
