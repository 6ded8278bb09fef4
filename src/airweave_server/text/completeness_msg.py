"""What a message of Outlook (.msg) holds as text, for ``completeness``."""

import re
from datetime import datetime, timedelta

from .completeness_binary import MAX_STREAM_BYTES, parted, storage, unknown
from .completeness_held import Held, Source


def count_msg(source: Source) -> Held:
    """Subjects, bodies, people and dates of a message and of the messages inside it."""
    held = Held()
    with storage(source) as ole:
        streams = {tuple(one) for one in ole.listdir()}
        page = _MSG_CODEPAGE.search(ole.openstream(_MSG_PROPERTIES).read(MAX_STREAM_BYTES))
        charset = f"cp{int.from_bytes(page[1], 'little')}" if page else "ascii"

        def said(place: tuple[str, ...], *names: str) -> str:
            """The first of these properties that is there."""
            for name in names:
                for kind in ("001F", "001E"):
                    if (path := (*place, f"__substg1.0_{name}{kind}")) in streams:
                        data = ole.openstream(list(path)).read(MAX_STREAM_BYTES)
                        return data.decode("utf-16-le", "replace") if kind == "001F" else _narrow(data, charset)
            return ""

        def person(place: tuple[str, ...], *names: str) -> str:
            """A name and an address, which may be the same."""
            name, address = (
                said(place, names[0]),
                next(filter(_is_address, (said(place, one) for one in names[1:])), ""),
            )
            return name if address.casefold() in name.casefold() else f"{name} <{address}>"

        for path in streams:
            place, name = path[:-1], path[-1]
            if name == _MSG_PROPERTIES and (not place or place[-1] == "__substg1.0_3701000D"):  # a message
                texts = [said(place, "0037"), said(place, "1000"), person(place, "0C1A", "5D01", "0C1F")]
                sent = _MSG_SENT.search(ole.openstream(list(path)).read(MAX_STREAM_BYTES))
                texts.append(_date(sent[1]) if sent else "")
            elif name == _MSG_PROPERTIES and place[-1].startswith("__recip"):
                kind = _MSG_RECIPIENT.search(ole.openstream(list(path)).read(MAX_STREAM_BYTES))
                if (kind and kind[1] == b"\3") or (place[:-1] and place[-2] != "__substg1.0_3701000D"):
                    continue  # one who is hidden from the others, or of an attachment
                texts = [person(place, "3001", "39FE", "3003")]
            else:
                continue
            known = parted("\n".join(texts))
            held.texts += known.texts
            held.opaque += known.opaque
    return held


_MSG_PROPERTIES = "__properties_version1.0"
_MSG_CODEPAGE = re.compile(rb"\x03\x00(?:\xfd|\xde)\x3f....(....)", re.S)  # of its strings, or of the internet
_MSG_RECIPIENT = re.compile(rb"\x03\x00\x15\x0c....(.)", re.S)
_MSG_SENT = re.compile(rb"\x40\x00\x39\x00....(.{8})", re.S)


def _is_address(text: str) -> bool:
    """Whether it is one of the internet; of others nobody reads anything."""
    return "@" in text and not text.startswith("/")


def _narrow(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except (LookupError, UnicodeDecodeError):
        return unknown(data)


def _date(filetime: bytes) -> str:
    try:
        at = datetime(1601, 1, 1) + timedelta(microseconds=int.from_bytes(filetime, "little") // 10)
    except OverflowError:
        return ""
    return at.strftime("%a, %d %b %Y %H:%M:%S +0000")
