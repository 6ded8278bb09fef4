"""The entries that archives list, by a plain look at their bytes, for ``completeness_members``."""

import os
from collections.abc import Iterator
from typing import IO

MAX_END_BYTES = 65_557  # of the end of a zip file, with its comment
MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
MAX_NAMES = 100_000
_BLOCK = 512


def zip_entries(file: IO[bytes]) -> Iterator[str]:
    """The files that the directory of a zip file lists; nothing if it is larger than 4 GB, which is written otherwise.

    Raises ``ValueError`` if there is no directory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MAX_END_BYTES))
    end = file.read()
    at = end.rindex(b"PK\5\6")
    count = int.from_bytes(end[at + 10 : at + 12], "little")
    length = int.from_bytes(end[at + 12 : at + 16], "little")
    if count == 0xFFFF or length > MAX_DIRECTORY_BYTES:
        return
    file.seek(max(0, size - len(end) + at - length))
    directory = file.read(length)
    place = 0
    for _ in range(count):
        if directory[place : place + 4] != b"PK\1\2":
            return
        flags = int.from_bytes(directory[place + 8 : place + 10], "little")
        name, extra, comment = (int.from_bytes(directory[place + n : place + n + 2], "little") for n in (28, 30, 32))
        said = directory[place + 46 : place + 46 + name].decode("utf-8" if flags & 0x800 else "cp437", "replace")
        if not said.endswith("/"):
            yield said
        place += 46 + name + extra + comment


class TarHeads:
    """The files whose headers (POSIX.1-1988, ustar) stand in a tar that passes by. Behind a header that is damaged, it
    looks for the next one. ``names``: theirs; long ones are cut."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_over = False
        self._held = b""
        self._skip = 0  # bytes of contents before the next header
        self._is_lost = False
        self._empty = 0  # blocks in a row

    def take(self, data: bytes) -> None:
        """The next bytes."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._held += data[skipped:] if skipped else data
        at = 0
        while not self.is_over and at + _BLOCK <= len(self._held):
            block = self._held[at : at + _BLOCK]
            at += _BLOCK
            jump = min(self._head(block), len(self._held) - at)
            self._skip -= jump
            at += jump
        self._held = b"" if self.is_over else self._held[at:]

    def _head(self, block: bytes) -> int:
        """Look at a block in the place of a header. Returns how many bytes of contents follow."""
        if not block.strip(b"\0"):
            self._empty += 1
            self.is_over = self._empty > 1 and not self._is_lost
            return 0
        self._empty = 0
        if not _is_head(block, with_magic=self._is_lost):
            self._is_lost = True
            return 0
        self._is_lost = False
        size = _number(block[124:136])
        kind = block[156:157]
        if kind in _FILES and len(self.names) < MAX_NAMES:
            folder = block[345:500] if block[257:263] == b"ustar\0" else b""
            name = b"/".join(filter(None, (folder.partition(b"\0")[0], block[:100].partition(b"\0")[0])))
            if not name.endswith(b"/"):
                self.names.append(name.decode("utf-8", "replace"))
        self._skip = 0 if kind in _WITHOUT_CONTENT else -(-size // _BLOCK) * _BLOCK
        return self._skip


class Watched:
    """A file that is read from its start to its end, and shows a tar in it to ``heads`` meanwhile."""

    def __init__(self, file: IO[bytes], heads: TarHeads) -> None:
        self._file, self._heads = file, heads

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._heads.take(data)
        return data


def _is_head(block: bytes, *, with_magic: bool) -> bool:
    """Whether the checksum of a header is right."""
    if with_magic and block[257:262] != b"ustar":
        return False
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * 32
    except ValueError:
        return False


def _number(digits: bytes) -> int:
    if digits[:1] == b"\x80":
        return int.from_bytes(digits[1:], "big")
    return int(digits.partition(b"\0")[0].strip() or b"0", 8)


_FILES = (b"0", b"\0", b"7", b"S")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
