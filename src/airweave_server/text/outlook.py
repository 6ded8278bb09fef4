"""Outlook messages (.msg, MS-OXMSG) to text: a message, its attachments, and the messages inside it."""

from collections.abc import Iterator
from functools import partial

import olefile

from .extract import extract
from .mail import message_text
from .parts import MAX_DEPTH, Extracted, Kind, LeftOut, Member, Part, Text

_TEXT_TYPES = (("001F", "utf-16-le"), ("001E", None))  # PtypString and PtypString8 (MS-OXCDATA 2.11.1)


def read(ole: olefile.OleFileIO, *, is_inside: bool) -> Iterator[Part]:
    """The message under its subject, then what is attached. ``is_inside``: it is itself in another document."""
    yield from _read_message(ole, (), "", is_inside=is_inside, depth=0)


def _read_message(
    ole: olefile.OleFileIO, at: tuple[str, ...], label: str, *, is_inside: bool, depth: int
) -> Iterator[Part]:
    people = f"{_text(ole, at, '0C1A')} {_text(ole, at, '5D01') or _text(ole, at, '0C1F')}".strip()
    fields = {"From": people, "To": _text(ole, at, "0E04"), "Cc": _text(ole, at, "0E03")}
    subject, body = _text(ole, at, "0037"), _text(ole, at, "1000")
    kind: Kind = "text"
    if not body and ole.exists([*at, "__substg1.0_10130102"]):
        page = extract(ole.openstream([*at, "__substg1.0_10130102"]).read(), filename="body.html")
        if isinstance(page, Extracted):
            body, kind = page.text, page.kind
    own = message_text(subject, fields, body, kind)
    yield Text(_join(label, own.label), own.text, own.kind)
    place = _join(label, own.label) if is_inside else label
    storages = {tuple(entry[: len(at) + 1]) for entry in ole.listdir() if tuple(entry[: len(at)]) == at}
    for attached in sorted(storage for storage in storages if storage[-1].startswith("__attach_version1.0_")):
        name = _text(ole, attached, "3707") or _text(ole, attached, "3704")
        inner = (*attached, "__substg1.0_3701000D")
        if ole.exists([*attached, "__substg1.0_37010102"]):
            content = partial(ole.openstream, [*attached, "__substg1.0_37010102"])
            yield Member(name or "attachment", content, place=place)
        elif not ole.exists([*inner, "__properties_version1.0"]):
            continue
        elif depth < MAX_DEPTH:
            yield from _read_message(ole, inner, place, is_inside=True, depth=depth + 1)
        else:
            yield LeftOut("too_deep", (_join(place, name or "message"),))


def _text(ole: olefile.OleFileIO, at: tuple[str, ...], property_id: str) -> str:
    for kind, encoding in _TEXT_TYPES:
        if ole.exists([*at, f"__substg1.0_{property_id}{kind}"]):
            data = ole.openstream([*at, f"__substg1.0_{property_id}{kind}"]).read()
            if encoding:
                return str(data.decode(encoding, "replace")).rstrip("\0")
            found = extract(data, filename="a.txt")
            return found.text if isinstance(found, Extracted) else ""
    return ""


def _join(label: str, name: str) -> str:
    return f"{label} > {name}" if label and name else label or name
