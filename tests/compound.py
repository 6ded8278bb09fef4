"""Writes compound files, the container of Office before 2007 and of Outlook's messages: no library writes them."""

import struct
from collections.abc import Mapping

SECTOR, LEAST = 512, 4096  # shorter streams would need a second table of sectors: they are padded with zeros
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of these streams; slashes in their names make storages."""
    names = sorted({"/".join(path.split("/")[:n]) for path in streams for n in range(1, path.count("/") + 2)})
    body, table = bytearray(), []
    starts: dict[str, tuple[int, int]] = {}
    for path, data in streams.items():
        padded = data.ljust(LEAST, b"\0")
        count = -(-len(padded) // SECTOR)
        starts[path] = (len(table), len(padded))
        table += [*range(len(table) + 1, len(table) + count), END]
        body += padded.ljust(count * SECTOR, b"\0")
    entries = [_entry("Root Entry", 5, child=_tree(names, ""), names=names, right=FREE, start=END, size=0)]
    for name in names:
        kind, (start, size) = (2, starts[name]) if name in starts else (1, (0, 0))
        entries.append(
            _entry(
                name.rpartition("/")[2],
                kind,
                child=_tree(names, name),
                names=names,
                right=_next(names, name),
                start=start,
                size=size,
            )
        )
    folder = b"".join(entries)
    folder += _entry("", 0, child=FREE, names=[], right=FREE, start=0, size=0) * (-len(entries) % 4)
    first = len(table)
    count = len(folder) // SECTOR
    table += [*range(first + 1, first + count), END]
    fats = 1
    while (len(table) + fats) * 4 > fats * SECTOR:
        fats += 1
    first_fat = len(table)
    table += [FAT] * fats
    table += [FREE] * (fats * SECTOR // 4 - len(table))
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"",
        0x3E,
        3,
        0xFFFE,
        9,
        6,
        0,
        fats,
        first,
        0,
        LEAST,
        END,
        0,
        END,
        0,
        0,
    )[:-4]
    places = [first_fat + n for n in range(fats)]
    header += struct.pack("<109I", *places, *[FREE] * (109 - fats))
    return header + bytes(body) + folder + struct.pack(f"<{len(table)}I", *table)


def _entry(name: str, kind: int, *, child: int, names: list[str], right: int, start: int, size: int) -> bytes:
    text = (name + "\0").encode("utf-16-le") if name else b""
    return struct.pack("<64sHBBIII16sIQQIQ", text, len(text), kind, 1, FREE, right, child, b"", 0, 0, 0, start, size)


def _below(names: list[str], folder: str) -> list[str]:
    """In the order that compound files want: by length, then by letters."""
    inside = [name for name in names if name.rpartition("/")[0] == folder]
    return sorted(inside, key=lambda name: (len(name), name.upper()))


def _tree(names: list[str], folder: str) -> int:
    inside = _below(names, folder)
    return names.index(inside[0]) + 1 if inside else FREE


def _next(names: list[str], name: str) -> int:
    inside = _below(names, name.rpartition("/")[0])
    after = inside[inside.index(name) + 1 :]
    return names.index(after[0]) + 1 if after else FREE
