"""One form for what looks the same: compatibility forms, invisible characters, capitals, diacritics. Knows no database.

The database normalizes the words that it stores in the same way (``airweave_search_form`` and ``airweave_unaccented``),
and tests hold the two together.
"""

import re
import unicodedata

# soft hyphen, zero-width characters, direction marks, word joiner, variation selectors, byte order mark
INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
# letters and digits with a compatible form, and marks that compose
COMPATIBLE = (
    "\u00aa\u00b2\u00b3\u00b9\u00ba\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3\u0300-\u036f"
    "\u1100-\u11ff\u2070-\u209c\u2102-\u211d\u2124-\u2149\u2160-\u217f\u2460-\u24ff\u3099\u309a\u3131-\u318e"
    "\u3200-\u33ff\ufb00-\ufb4f\ufe70-\ufefc\uff01-\uffef"
)
# letters that do not decompose
LETTERS = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d",
           "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "ħ": "h", "Ħ": "H"}  # fmt: skip
SAMPLE_CHARS = 200  # from the middle of a text

# normalizing a run of combining marks does not take linear time
_STRETCH = re.compile(r"(?s).{1,1000}(?=\s|$)|.{1,1000}")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_COMPATIBLE = re.compile(f"[{COMPATIBLE}]")
_SPECIAL = re.compile(f"[{INVISIBLE}{COMPATIBLE}]")
_MARKS = re.compile("[\u0300-\u036f]")
_LETTERS = str.maketrans(LETTERS)


def search_form(text: str) -> str:
    """The text without invisible characters, and in NFKC if it has letters, digits or marks for which that matters."""
    if text.isascii():
        return text
    if not _SPECIAL.search(text):
        return text
    visible = _INVISIBLE.sub("", text)
    if not _COMPATIBLE.search(visible):
        return visible
    return _STRETCH.sub(lambda stretch: unicodedata.normalize("NFKC", stretch[0]), visible)


def unaccented(text: str) -> str:
    """The text without diacritics (``Prüfstände`` is ``Prufstande``)."""
    if text.isascii():
        return text
    apart = _STRETCH.sub(lambda stretch: unicodedata.normalize("NFD", stretch[0]), text.translate(_LETTERS))
    return unicodedata.normalize("NFC", _MARKS.sub("", apart))


def calm(text: str) -> str:
    """The text in small letters if it is all in capitals, which models were not made for; otherwise as it is. Some of
    its middle decides."""
    start = max(0, (len(text) - SAMPLE_CHARS) // 2)
    return text.lower() if text[start : start + SAMPLE_CHARS].isupper() else text
