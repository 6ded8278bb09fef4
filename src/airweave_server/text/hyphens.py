"""Words that are broken at the ends of lines, put together again. Knows no format."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

MAX_WORD_CHARS = 60  # looked at on each side of a break
MAX_FOOT_CHARS = 12  # of the number of a page
MAX_ENDING = 3  # characters of what is an ending rather than a word

BREAK = "\x02"  # stands for a hyphen that may belong to its word or not; PDFium writes it too

# A hyphen at the end of a line, the mark of PDFium, which stands for the line end too, and a soft hyphen: many fonts
# say that their hyphen is one.
_BREAKS = re.compile(
    r"[-\x02\xad\u2010\u2011](?<=\w.)(?:(?<=\x02)\n?|(?<=[-\u2010\u2011]) ?\n|(?<=\xad)(?: ?\n)?) *(?=\w)"
)
_LONE = re.compile(r"(?<!\w)\x02|\x02(?!\w)")
_WORD = re.compile(r"\w+(?:-\w+)*")  # reads the same backwards
_TOKEN = re.compile(r"[\w\x02]+(?:-[\w\x02]+)*")
_ITEM = re.compile(r"\d{1,3}[.)]\s")  # the number of the next item of a list
_FOOT = re.compile(r"(?<=\w)(?:\x02|[-\u2010\u2011]\n)\s*(\d{1,5})$")  # the number of the page below a broken word
# First parts that nearly always keep their hyphen. Others, such as "non", are written both ways.
_FIRST_PARTS = frozenset(["all", "cross", "half", "quasi", "self", "vice", "well"])
# Beginnings that rarely keep it, although they are words by themselves.
_PREFIXES = frozenset(
    [
        *("back", "de", "dis", "down", "en", "fore", "in", "inter", "out", "over", "re", "sub", "sur", "un", "under"),
        *("ab", "an", "auf", "aus", "be", "bei", "durch", "ein", "er", "hin", "hinzu", "mit", "nach", "um", "unter"),
        *("up", "ver", "vor", "weg", "wieder", "zu", "über"),
    ]
)
# Words in the middle of a compound, such as "state-of-the-art", ...
_MIDDLES = frozenset(
    ["a", "and", "at", "by", "de", "for", "in", "la", "of", "on", "or", "out", "the", "to", "und", "up"]
)
_ENDS = frozenset(["by", "in", "off", "on", "out", "up"])  # ... and short ones at its end, such as "plug-in"
_SUSPENDING = frozenset(["and", "et", "oder", "or", "ou", "und"])  # "pre- and post-war" has a space


def mark(text: str) -> str:
    """The text with ``BREAK`` for each hyphen at a line end within a word. Its lines end with ``\\n``."""
    text = _BREAKS.sub(BREAK, text.replace("\ufffe", BREAK))
    return (_LONE.sub("-", text) if BREAK in text else text).replace("\xad", "")


def join(pages: Sequence[str]) -> list[str]:
    """The marked pages, with each broken word in one piece: with its hyphen or without it.

    A word that is broken by the end of a page is put on the first of the two.
    """
    joined = _join_across(pages)
    words = _count(joined)
    return [_join_page(page, words) if BREAK in page else page for page in joined]


def _join_across(pages: Sequence[str]) -> list[str]:
    """Move the second half of a word that is broken by the end of a page to the first page."""
    joined = list(pages)
    for number, (page, following) in enumerate(pairwise(pages)):
        page, second = joined[number].rstrip(), _WORD.match(following.lstrip())
        if second is None:
            continue
        foot = _FOOT.search(page, max(0, len(page) - MAX_FOOT_CHARS))
        if foot is not None and (foot[1] == str(number + 1) or page[foot.start() - 1].islower()):
            if second[0][0].islower():
                joined[number] = f"{page[: foot.start()]}{BREAK}{second[0]}\n{foot[1]}"
            else:
                joined[number] = f"{page[: foot.start()]}-\n{foot[1]}"
                continue
        elif page[-1:] in ("-", "\u2010", "\u2011") and page[-2:-1].isalnum():
            if not (second[0][0].islower() or second[0][0].isdigit()):
                continue
            joined[number] = f"{page[:-1]}{BREAK}{second[0]}"
        else:
            continue
        joined[number + 1] = following.lstrip()[second.end() :].lstrip(" ")
    return joined


def _count(pages: Sequence[str]) -> Counter[str]:
    """How often each word that helps to decide stands in the document, apart from the broken words themselves."""
    wanted: set[str] = set()
    for page in pages:
        for left, right in _broken(page):
            wanted.update((left + right, f"{left}-{right}", left, right))
            last, beginning = left.rpartition("-")[2], right.partition("-")[0]
            wanted.update((last, beginning, last + beginning))
    counted: Counter[str] = Counter()
    if wanted:
        for page in pages:
            tokens = _TOKEN.findall(page.casefold())
            counted.update(filter(wanted.__contains__, tokens))
            for parts in [token.split("-") for token in tokens if "-" in token]:
                counted.update(filter(wanted.__contains__, parts))
                if len(parts) > 2:
                    counted.update(filter(wanted.__contains__, map("-".join, pairwise(parts))))
    return counted


def _broken(page: str) -> list[tuple[str, str]]:
    """The two halves of each broken word, casefolded."""
    found = []
    place = page.find(BREAK)
    while place >= 0:
        left, right = _halves(page, place)
        found.append((left.casefold(), right.casefold()))
        place = page.find(BREAK, place + 1)
    return found


def _halves(page: str, place: int) -> tuple[str, str]:
    left = _WORD.match(page[max(0, place - MAX_WORD_CHARS) : place][::-1])
    right = _WORD.match(page[place + 1 : place + 1 + MAX_WORD_CHARS])
    return left[0][::-1] if left else "", right[0] if right else ""


def _join_page(page: str, words: Counter[str]) -> str:
    pieces, start = [], 0
    place = page.find(BREAK)
    while place >= 0:
        pieces.append(page[start:place])
        left, right = _halves(page, place)
        if _ITEM.match(page, place + 1) and not left[-1:].isdigit():
            pieces.append("-\n")
        elif right in _SUSPENDING:
            pieces.append("- ")
        elif _keeps_hyphen(left, right, words):
            pieces.append("-")
        start = place + 1
        place = page.find(BREAK, start)
    pieces.append(page[start:])
    return "".join(pieces)


def _keeps_hyphen(left: str, right: str, words: Counter[str]) -> bool:
    """Whether the hyphen between the halves belongs to the word. The document decides, if it has the word again."""
    if not left or not right or left[-1].isdigit() or right[0].isdigit():
        return True
    first, second = left.casefold(), right.casefold()
    hyphenated, closed = words[f"{first}-{second}"], words[first + second]
    if hyphenated or closed:
        return hyphenated >= closed
    before, _, last = first.rpartition("-")
    beginning, _, after = second.partition("-")
    if (before and last in _MIDDLES) or (after and beginning in _MIDDLES):
        return True
    if words[last + beginning]:
        return False
    if left[-1].isupper() or right[0].isupper() or last in _FIRST_PARTS or len(last) == 1 or len(second) == 1:
        return True
    if last in _PREFIXES or (len(beginning) <= MAX_ENDING and beginning not in _ENDS):
        return False
    # Both are words of the document by themselves. German puts a noun and what follows it together.
    return bool(words[last] and words[beginning]) and not left[0].isupper()
