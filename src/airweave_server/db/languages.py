"""Text search configurations of the languages whose stems a collection's full text is reduced to."""

from ..wire import ENGLISH, LANGUAGES

# The text search configuration of a language, in SQL; ours are those of Postgres without the parts of hyphenated words.
CONFIGURATION = f"cast('public.airweave' || case {{0}} when '{ENGLISH}' then '' else '_' || {{0}} end as regconfig)"


def configuration(language: str) -> str:
    """The same for a language that is known: its name in SQL."""
    return "airweave" if language == ENGLISH else f"airweave_{LANGUAGES[LANGUAGES.index(language)]}"
