"""Labels before values, as in ``column: value``, within what they may add to a text. Knows no format."""

MAX_KEY_CHARS = 200  # of the path before a JSON value, or of the column name before a CSV value
MAX_GROWTH = 8  # such paths and names may add this many times the input; after that they are left out


class Growth:
    """The number of characters that labels may still add to a text, so that a small file cannot become a huge one.
    ``chars``: the length of the input, as far as it is known; ``add_input`` adds what is read later."""

    def __init__(self, chars: int) -> None:
        self._left = MAX_GROWTH * chars + 10_000

    def add_input(self, chars: int) -> None:
        self._left += MAX_GROWTH * chars

    def add_label(self, label: str, value: str) -> str:
        if not label or self._left < 0:
            return value
        self._left -= len(label)
        return f"{label}: {value}"


def clip(key: str) -> str:
    """A label in one line, of at most ``MAX_KEY_CHARS``: of a longer one its end."""
    if "\n" in key:
        key = " ".join(key.split())
    return key if len(key) <= MAX_KEY_CHARS else "…" + key[-MAX_KEY_CHARS:]
