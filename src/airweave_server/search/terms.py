"""What a query asks for: words, identifiers and quoted phrases, each with its weight. Knows neither HTTP nor SQL."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from ..db import search as sql
from ..db.models import INDEX_VERSION, Collection
from ..db.search import Phrase, Scope, Term
from ..text.identifiers import exact_terms, is_unspaced, query_terms
from ..text.normal import search_form, unaccented
from . import near

MAX_COUNTED_TERMS = 200  # terms of a query whose frequency is counted
MAX_TERMS = 32  # of these, the weightiest are searched for
COUNTED = 400  # occurrences of a term that the keeper has not counted are counted up to here
IDENTIFIER_BONUS = 4.0  # more than all the words of a query together
MAX_PHRASES = 8
LEAST_VERBATIM, MOST_VERBATIM = 3, 24  # words of a query that may stand somewhere as they are
K3 = 7.0
LONELY, LONELY_AMONG = 2, 5_000  # chunks at most that hold a lonely word, of this many at least

_QUOTED = re.compile(
    r'(?<!\w)"([^"]+)"(?!\w)|\u201c([^\u201d]+)\u201d|\u201e([^\u201c\u201d]+)[\u201c\u201d]|\u00ab([^\u00bb]+)\u00bb'
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a query that the collection has, the rarest first.

    ``total``: the sum of the weights of all its terms, those that the collection does not have included. ``unit``: the
    weight of a term that a single chunk has. ``absent``: the words that no chunk has. ``exact``: how many identifiers
    are asked for, absent ones included. ``phrases``: what stood in quotation marks. ``verbatim``: the query, if it may
    stand somewhere as it is.
    """

    known: Sequence[Term]
    total: float
    unit: float
    absent: Sequence[str] = ()
    exact: int = 0
    phrases: tuple[Phrase, ...] = ()
    verbatim: Phrase | None = None


def read(session: Session, collection: Collection, whole: Scope, asked_for: str, chunks: int) -> Terms:
    """Take the query apart and count its terms. ``chunks``: the size of the collection."""
    text = search_form(asked_for)
    former = asked_for if collection.index_version < INDEX_VERSION else ""  # some chunks have words in that form
    unit = idf(0, chunks)
    phrases = quoted(text)
    asked = _take_apart(session, collection, text, former)
    if not asked:
        return Terms([], 0.0, unit, phrases=phrases)
    counts = sql.count_occurrences(session, collection, whole, asked, chunks, at_most=COUNTED)
    weighed = [
        replace(
            term,
            frequency=count,
            is_counted=is_counted,
            weight=_repeated(term.times) * idf(count, chunks),
            idf=idf(count, chunks),
        )
        for term, (count, is_counted) in zip(asked, counts, strict=True)
    ]
    instead = _count_near(session, collection, whole, [term for term in weighed if not term.frequency], chunks)
    known = [*(term for term in weighed if term.frequency), *instead]
    known.sort(key=lambda term: (term.frequency, not term.exact))
    return Terms(
        [replace(term, bonus=_bonus(term), is_lonely=_is_lonely(term, chunks)) for term in known[:MAX_TERMS]],
        sum(term.weight for term in weighed),
        unit,
        absent=[term.word for term in weighed if not term.frequency],
        exact=sum(term.exact for term in weighed),
        phrases=phrases,
        verbatim=_as_phrase(text),
    )


def add(asked: Terms, also: Sequence[Term]) -> Terms:
    """The terms of a query and more words, which are weighed already. What the whole query weighs stays the same."""
    held = {stem for term in asked.known for stem in term.stems}
    known = [*asked.known, *(term for term in also if term.stem not in held)]
    known.sort(key=lambda term: (term.frequency, not term.exact))
    return replace(asked, known=known)


def _count_near(
    session: Session, collection: Collection, whole: Scope, absent: Sequence[Term], chunks: int
) -> list[Term]:
    """The terms near absent ones, counted. They count less than the words that were asked for."""
    found = near.nearest(session, collection, whole, absent, chunks) if absent else []
    counts = sql.count_occurrences(session, collection, whole, found, chunks, at_most=COUNTED) if found else []
    return [
        replace(
            term,
            frequency=count,
            is_counted=is_counted,
            idf=idf(count, chunks) * near.SHARE,
            weight=term.weight * near.SHARE,
        )
        for term, (count, is_counted) in zip(found, counts, strict=True)
        if count
    ]


def quoted(text: str) -> tuple[Phrase, ...]:
    """What stands in quotation marks in a text in its search form, unless there is no word in it."""
    found = []
    for groups in _QUOTED.findall(text):
        phrase = next(filter(None, groups))
        if words := _WORD.findall(phrase):
            bigrams = tuple(term for term in query_terms(phrase) if not term.isascii())
            is_run = all(map(is_unspaced, words))
            literal = r"\W+".join(words)
            found.append(Phrase(phrase, literal, bigrams) if is_run else _in_order(phrase, words))
    return tuple(found[:MAX_PHRASES])


def _as_phrase(text: str) -> Phrase | None:
    """The query as one phrase, if it may be one."""
    words = _WORD.findall(text)
    return _in_order(text, words) if LEAST_VERBATIM <= len(words) <= MOST_VERBATIM else None


def _in_order(text: str, words: Sequence[str]) -> Phrase:
    literal = r"\W+".join(words)
    return Phrase(text, rf"\m{literal}\M")


def idf(frequency: int, chunks: int) -> float:
    """The inverse document frequency of BM25 (Robertson and Zaragoza 2009), never below 0."""
    return math.log(1 + (max(chunks - frequency, 0) + 0.5) / (frequency + 0.5))


def _repeated(times: int) -> float:
    """What a term counts that is asked for several times, as in BM25 for long queries (Robertson and others 1995)."""
    return times * (K3 + 1) / (times + K3)


def _bonus(term: Term) -> float:
    """What an identifier counts beside its weight as a word: the rarer, the more."""
    return IDENTIFIER_BONUS / (1 + math.log2(term.frequency)) if term.exact else 0.0


def _is_lonely(term: Term, chunks: int) -> bool:
    return not term.exact and term.is_counted and term.frequency <= LONELY and chunks >= LONELY_AMONG


def _take_apart(session: Session, collection: Collection, text: str, former: str) -> list[Term]:
    """The terms of a query, and those of its ``former`` form. A plain word and its stem are one term; an identifier
    that stemming changes is its own term.

    A hyphenated word of letters (boundary-layer) is language, not an identifier: only its parts are terms.
    """
    words = [word for word in query_terms(text) if word.isalpha() or not word.replace("-", "").isalpha()]
    words = words[:MAX_COUNTED_TERMS]
    exact = set(exact_terms(text))
    times = Counter(_WORD.findall(text.lower()))
    bare = [unaccented(word) for word in words]
    stems, *each = sql.to_lexemes(session, collection, [f"{text} {former}", *words, *bare])
    by_stem: dict[str, Term] = {}
    others = []
    for word, found, folded in zip(words, each, each[len(words) :], strict=False):
        count = times.get(word, 1)
        if found == [word] or (len(found) == 1 and word.isalnum() and word not in exact):
            known = by_stem.get(found[0], Term(found[0], (), word=word, times=0))
            by_stem[found[0]] = replace(
                known,
                idents=(*known.idents, word),
                exact=known.exact or word in exact,
                times=known.times + count,
                folded=tuple(dict.fromkeys((*known.folded, *folded))) if folded != found else known.folded,
            )
        elif found or word in exact or not word.isalpha() or not word.isascii() or not stems:
            others.append(Term(None, (word,), word=word, exact=word in exact, times=count))
    plain = [Term(stem, (), word=stem) for stem in stems if stem not in by_stem]
    return [*by_stem.values(), *others, *plain][:MAX_COUNTED_TERMS]
