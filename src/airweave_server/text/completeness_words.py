"""Words, letters and lines that two texts share: how ``completeness`` compares what a document holds with what was
read. Knows no format."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

MAX_REJOINED = 500  # words that are looked for in longer ones
LEAST_WORDS, LEAST_SHARE = 8, 0.02  # that must be missing before anything is said

_WORD = re.compile(r"\w+")
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def least_said(total: int) -> int:
    """How many of so many words must be missing before anything is said."""
    return max(LEAST_WORDS, int(LEAST_SHARE * total) + 1)


def words(text: str) -> list[str]:
    """The words in one normal form, which hyphens, invisible characters and underscores around words do not change."""
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    found: list[str] = _WORD.findall(text.casefold())
    return [word for one in found if (word := one.strip("_"))] if "_" in text else found


def less_common_lines(held: str, read: str) -> tuple[str, str]:
    """Both texts without the lines that they share, each as often as it stands in both: a fraction of the work is left.
    Lines are the same that have the same letters."""
    read = read.replace("|", "\n")
    keys, other_keys = letters_of_lines(held), letters_of_lines(read)
    if [*filter(None, keys)] == [*filter(None, other_keys)]:
        return "", ""
    counts, other_counts = Counter(keys), Counter(other_keys)
    return _without(held.split("\n"), keys, other_counts), _without(read.split("\n"), other_keys, counts)


def letters_of_lines(text: str) -> list[bytes]:
    """The lines of a text without case, ASCII punctuation, spaces and soft hyphens."""
    if not text.isascii():
        text = text.replace("\xa0", "").replace("\xad", "")
    return text.lower().encode("utf-8", "surrogatepass").translate(None, _NO_LETTERS).split(b"\n")


def _without(lines: Sequence[str], keys: Sequence[bytes], common: Counter[bytes]) -> str:
    """The lines without as many of each as are common."""
    kept = []
    for line, key in zip(lines, keys, strict=True):
        if (left := common[key]) > 0:
            common[key] = left - 1
        else:
            kept.append(line)
    return "\n".join(kept)


_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalnum() and code != 10)


def rejoined(missing: Mapping[str, int], surplus: Counter[str]) -> int:
    """How many of the missing words stand in longer words that only the reading has: the count parted them."""
    joined = "\n".join(islice(surplus, MAX_REJOINED))
    return sum(count for word, count in islice(missing.items(), MAX_REJOINED) if len(word) > 2 and word in joined)
