"""A zip file that unpacks each of its parts once: readers look at some of them twice, and their words are counted."""

import io
import zipfile
from typing import IO, Literal

MAX_KEPT_BYTES = 8 * 1024 * 1024  # of all parts, unpacked; those that are larger are unpacked again


class Kept(zipfile.ZipFile):
    """``parts``: those that were read, by ``place``. A part that is damaged is not kept."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.parts: dict[tuple[int, str], bytes] = {}
        self._left = MAX_KEPT_BYTES

    def open(
        self,
        name: str | zipfile.ZipInfo,
        mode: Literal["r", "w"] = "r",
        pwd: bytes | None = None,
        *,
        force_zip64: bool = False,
    ) -> IO[bytes]:
        info = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        data = self.parts.get(place(info))
        if data is None and info.file_size <= self._left:
            with super().open(info, mode, pwd, force_zip64=force_zip64) as part:
                try:
                    data = part.read()  # never more than its size says
                except Exception:  # who reads it gets what comes before the damage
                    data = None
            if data is not None:
                self.parts[place(info)] = data
                self._left -= len(data)
        return io.BytesIO(data) if data is not None else super().open(info, mode, pwd, force_zip64=force_zip64)

    def forget(self) -> None:
        """Keep nothing, also from now on."""
        self.parts.clear()
        self._left = -1


def place(info: zipfile.ZipInfo) -> tuple[int, str]:
    """Where a part is in its file."""
    return info.header_offset, info.filename
