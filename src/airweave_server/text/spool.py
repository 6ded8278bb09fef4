"""A text too long for memory, in a temporary file. Knows no format."""

import tempfile
import weakref
from collections.abc import Iterator

from ..sdk import Unavailable


class SpooledText:
    """A text in a temporary file, which has no name and is gone with this object. ``chars``: its length."""

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(prefix="airweave-text-")  # noqa: SIM115
        except OSError as error:
            raise Unavailable(f"the server cannot create a temporary file: {error.strerror}") from error
        weakref.finalize(self, self._file.close)
        self._sizes: list[int] = []
        self.chars = 0

    def add(self, piece: str) -> None:
        """Append a piece, which must end at the end of a line. Lone surrogates are dropped."""
        data = piece.encode("utf-8", "ignore")
        try:
            self._file.write(data)
        except OSError as error:
            raise Unavailable(f"the server cannot write a temporary file: {error.strerror}") from error
        self._sizes.append(len(data))
        self.chars += len(piece)

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces from the beginning. Two iterations at a time would disturb each other."""
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size).decode()
