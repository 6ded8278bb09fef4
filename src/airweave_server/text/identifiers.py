"""Splits identifiers, which a full-text parser breaks, in the same way for the index and for queries. Knows no
database."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from .normal import search_form

MAX_BYTES = 255  # of a lexeme, in UTF-8; longer ones are cut, in the index and in queries alike
MAX_CHARS = 1_000  # how much of an identifier is used
MAX_PARTS = 48  # of one identifier; base64 and the like have thousands
CACHED_CHARS = 64  # a longer word rarely comes twice
CACHED_WORDS = 32_768  # met last; as many from before them are kept too
MAX_SUFFIXES = 4  # of a path: src/app/sync/steps.py has sync/steps.py and steps.py, for example

# Scripts written without spaces: Thai, Lao, Myanmar, Hangul, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORD = rf"(?:[a-zA-Z0-9_]++|[^\W{_UNSPACED}]|[\u0300-\u036f])++"
# Every quantifier is possessive, and no joiner begins with a word character: one pass, whatever the text.
_TOKEN = re.compile(
    rf"[{_UNSPACED}]++"
    rf"|(?:(?<![\w.])\.|[#@$])?+{_WORD}"
    rf"(?:(?:://|:\\|::|->|\+\+[.-]?|[/\\]\.?|[.:@#-]){_WORD})*+"
    r"(?:\+\+|\#(?!\w))?+"
)
# the same for a text in ASCII
_ASCII_TOKEN = re.compile(
    r"(?:(?<![\w.])\.|[#@$])?+\w++(?:(?:://|:\\|::|->|\+\+[.-]?|[/\\]\.?|[.:@#-])\w++)*+(?:\+\+|\#(?!\w))?+", re.ASCII
)
_UNSPACED_START = re.compile(f"[{_UNSPACED}]")
_PATH = re.compile(r"://|:?[/\\]")
_JOINER = re.compile(r"://|::|->|\+\+|[./\\:@#$-]")
_SUFFIX = re.compile(r"://|::|->|[./\\:#@]")
_DOTTED_LETTERS = re.compile(r"[^\W\d_](?:\.[^\W\d_])+")  # e.g, i.e, U.S
_HUMP = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_PLURAL = re.compile(r"[A-Z]+s")  # IDs, URLs
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# These are parts of many identifiers (is_valid, path_to_file), and a query would take them for rare, significant words.
_STOPPED = """
    an and are as at be but by can do does for from has have how if in into is it its me my no not of on or our so such
    that the their then there these they this to was we were what when where which who why will with you your
"""
# Of ASCII, these are not part of any identifier. The text falls apart at them, so its words are fewer and come again.
_APART = bytes(32 if byte < 33 or byte in b"()[]{}<\"'`*,;&=|~!?%^\x7f" else byte for byte in range(256))
# Parts without meaning.
_SILENT = frozenset(["", *map(chr, range(128)), *("_" * n for n in range(2, 17)), *_STOPPED.split()])


def index_terms(text: str, *, limit: int = 2000) -> list[str]:
    """Return the distinct lexemes to store for a chunk, in the order of the text, at most ``limit``.

    They are compound identifiers in lowercase, whole and in parts, and bigrams of scripts written without spaces. Plain
    words are left to the full-text index of the language.
    """
    said = search_form(text).encode("utf-8", "surrogatepass").translate(_APART).decode("utf-8", "surrogatepass")
    words = dict.fromkeys(said.split())  # identifiers contain no white space
    return list(islice(dict.fromkeys(chain.from_iterable(map(_words.__getitem__, words))), limit))


def query_terms(text: str) -> list[str]:
    """Return the distinct lexemes to search for: whole identifiers, plain words except stop words, and bigrams."""
    terms: dict[str, None] = {}
    for token in _TOKEN.findall(search_form(text)):
        if is_unspaced(token):
            terms.update(dict.fromkeys(_bigrams(token)))
        else:
            token = token[:MAX_CHARS]
            if _is_compound(token) or is_telling(token.lower()):
                terms[_to_lexeme(token)] = None
    return list(terms)


def exact_terms(text: str) -> list[str]:
    """Return the lexemes of only the compound identifiers of a query: chunks that contain them rank first.

    ``index_terms`` of a text with such an identifier returns the same lexeme.
    """
    tokens = [token[:MAX_CHARS] for token in _TOKEN.findall(search_form(text)) if not is_unspaced(token)]
    return list(dict.fromkeys(_to_lexeme(token) for token in tokens if _is_compound(token)))


def _word_lexemes(word: str) -> tuple[str, ...]:
    """The lexemes of a word, that is, of a run of characters without white space."""
    bare = word.rstrip(".:>")
    if bare.isalpha() and bare.isascii() and (bare[1:].islower() or len(bare) == 1):
        return ()  # a plain word
    if word.isascii():
        tokens = _ASCII_TOKEN.findall(word)
        return (
            _token_lexemes(tokens[0]) if len(tokens) == 1 else tuple(chain.from_iterable(map(_token_lexemes, tokens)))
        )
    found: list[str] = []
    for token in _TOKEN.findall(word):
        found += _bigrams(token) if is_unspaced(token) else _token_lexemes(token)
    return tuple(found)


class _Words(dict[str, tuple[str, ...]]):
    """A cache of the lexemes of words: most words are met again and again."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, ...]] = {}

    def __missing__(self, word: str) -> tuple[str, ...]:
        lexemes = self._before.get(word)
        if lexemes is None:
            lexemes = _word_lexemes(word)
            if len(word) > CACHED_CHARS:
                return lexemes
        if len(self) >= CACHED_WORDS:
            self._before = dict(self)
            self.clear()
        self[word] = lexemes
        return lexemes


_words = _Words()


def _token_lexemes(token: str) -> tuple[str, ...]:
    token = token[:MAX_CHARS]
    if not _is_compound(token):
        return ()
    return tuple(dict.fromkeys([_to_lexeme(token), *islice(_parts(token), MAX_PARTS)]))


def is_unspaced(token: str) -> bool:
    return not token.isascii() and _UNSPACED_START.match(token) is not None


def _is_compound(token: str) -> bool:
    if token.isalpha():
        if token.isupper() or token[1:].islower():
            return False
        shape = _shape(token)
        return _HUMP.search(shape) is not None and not _PLURAL.fullmatch(shape)
    core = token.strip("_$")
    return bool(core) and not core.isdigit() and not _DOTTED_LETTERS.fullmatch(token)


def is_telling(part: str) -> bool:
    """Whether a word or a part of an identifier says anything, in English."""
    return part not in _SILENT and part.strip("_") != ""


def _parts(token: str) -> Iterable[str]:
    """The lexemes of the parts of an identifier, except parts without meaning."""
    bare = token.strip("_").lstrip(".#@$")
    found = [bare]
    if bare[:1] in "vV" and bare[1:2].isdigit():
        found.append(bare[1:])
    if not token.isalpha():
        ends = [match.end() for match in _SUFFIX.finditer(token)]
        found += [token[end:] for end in ends[-MAX_SUFFIXES:]]
        for component in _PATH.split(token) if "/" in token or "\\" in token else [token]:
            found.append(component)
            head, plus, _ = component.partition("++")
            if plus:
                found.append(head + plus)
        found += _JOINER.split(token)
    if token.isascii():
        found += _PIECE.findall(token)
    else:
        found += [token[piece.start() : piece.end()] for piece in _PIECE.finditer(_shape(token))]
    parts = dict.fromkeys(map(str.lower, found))
    for silent in _SILENT.intersection(parts):
        del parts[silent]
    return parts if len(token) * 4 <= MAX_BYTES else map(_to_lexeme, parts)


def _shape(token: str) -> str:
    """The token in ASCII, at the same length: A for a capital, a for a small letter, 0 for a digit, _ for the rest."""
    if token.isascii():
        return token
    return "".join("A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else "_" for c in token)


def _bigrams(run: str) -> Iterator[str]:
    step = MAX_CHARS  # normalizing a run of combining marks does not take linear time
    for start in range(0, len(run), step):
        part = unicodedata.normalize("NFKC", run[start : start + step + 1]).lower()
        if len(part) == 1 and start == 0:
            yield part
        for i in range(len(part) - 1):
            yield part[i : i + 2]


def _to_lexeme(token: str) -> str:
    lexeme = token.lower()
    if len(lexeme) * 4 <= MAX_BYTES:
        return lexeme
    return lexeme.encode()[:MAX_BYTES].decode("utf-8", "ignore")
