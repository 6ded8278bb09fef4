"""One form for what looks the same: compatibility forms, invisible characters, capitals, diacritics. Knows no database.

The database normalizes the words that it stores in the same way (``airweave_search_form`` and ``airweave_unaccented``),
and tests hold the two together.
"""

import re
import unicodedata

# soft hyphen, zero-width characters, direction marks, word joiner, variation selectors, byte order mark
INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
# letters that do not decompose
LETTERS = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
           "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h", "Ħ": "H"}  # fmt: skip
MOSTLY_CAPITALS = 0.7  # of the letters
SAMPLE_CHARS = 200  # from the middle of a text

# normalizing a run of combining marks does not take linear time
_STRETCH = re.compile(r"(?s).{1,1000}(?=\s|$)|.{1,1000}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_MARKS = re.compile("[\u0300-\u036f]")
_LETTERS = str.maketrans(LETTERS)


def search_form(text: str) -> str:
    """The text in NFKC, without invisible characters."""
    if text.isascii():
        return text
    visible = _INVISIBLE.sub("", text)
    return _STRETCH.sub(lambda stretch: unicodedata.normalize("NFKC", stretch[0]), visible)


def unaccented(text: str) -> str:
    """The text without diacritics (``Prüfstände`` is ``Prufstande``)."""
    if text.isascii():
        return text
    apart = _STRETCH.sub(lambda stretch: unicodedata.normalize("NFD", stretch[0]), text.translate(_LETTERS))
    return unicodedata.normalize("NFC", _MARKS.sub("", apart))


def calm(text: str) -> str:
    """The text in small letters if it is all in capitals, which models were not made for; otherwise as it is."""
    start = max(0, (len(text) - SAMPLE_CHARS) // 2)
    sample = text[start : start + SAMPLE_CHARS]
    capitals = sum(map(str.isupper, sample))
    return text.lower() if capitals > MOSTLY_CAPITALS * sum(map(str.isalpha, sample)) else text
