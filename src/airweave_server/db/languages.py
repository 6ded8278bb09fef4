"""The languages whose words a collection's full text can be reduced to their stems in."""

ENGLISH = "english"
# Those of Postgres 15; `simple` only makes letters small.
LANGUAGES = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", ENGLISH, "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "simple", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip
# The text search configuration of a language, in SQL; ours are those of Postgres without the parts of hyphenated words.
CONFIGURATION = f"cast('public.airweave' || case {{0}} when '{ENGLISH}' then '' else '_' || {{0}} end as regconfig)"


def configuration(language: str) -> str:
    """The same for a language that is known: its name in SQL."""
    return "airweave" if language == ENGLISH else f"airweave_{LANGUAGES[LANGUAGES.index(language)]}"
