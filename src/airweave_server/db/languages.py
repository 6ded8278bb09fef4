"""The Postgres text search configuration of each language that a collection can have."""

from ..wire import ENGLISH, LANGUAGES

# The text search configuration of a language, as SQL. Ours are those of Postgres, without parts of hyphenated words.
CONFIGURATION = f"cast('public.airweave' || case {{0}} when '{ENGLISH}' then '' else '_' || {{0}} end as regconfig)"


def configuration(language: str) -> str:
    """The name of the text search configuration of a language. Raises ``ValueError`` for an unknown language."""
    return "airweave" if language == ENGLISH else f"airweave_{LANGUAGES[LANGUAGES.index(language)]}"
