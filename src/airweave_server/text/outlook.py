"""Outlook messages (.msg, MS-OXMSG) to text: a message, its attachments, and the messages inside it."""

import io
import re
import struct
from collections.abc import Iterator
from functools import partial

import olefile

from ..sdk import is_private_name
from . import html, mapi, mime, words
from .mail import message_text, read_signed
from .parts import MAX_DEPTH, Kind, LeftOut, Member, Part, Text

_UNICODE, _STRING8, _BINARY = "001F", "001E", "0102"  # MS-OXCDATA 2.11.1
_PROPERTIES = "__properties_version1.0"
_NAMED = "__nameid_version1.0"
_DATE = 0x40
_SIGNED = "ipm.note.smime.multipartsigned"  # its attachment is the message once more, with a signature
_ADDRESS = re.compile(r"[^\s<>,;\"']+@[^\s<>,;\"']+")


def read(ole: olefile.OleFileIO, *, is_inside: bool) -> Iterator[Part]:
    """The message under its subject, then what is attached. ``is_inside``: it is itself in another document."""
    reading = _Reading(ole)
    yield from reading.message((), "", is_inside=is_inside, depth=0)
    if reading.damaged:
        yield LeftOut("damaged", count=reading.damaged)


class _Reading:
    """Reads the properties of a message and of those inside it."""

    def __init__(self, ole: olefile.OleFileIO) -> None:
        self.damaged = 0  # how many streams
        self._ole = ole
        self._streams = {tuple(entry) for entry in ole.listdir(streams=True, storages=False)}
        self._below: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for entry in self._streams:
            for n in range(1, len(entry)):
                self._below.setdefault(entry[: n - 1], set()).add(entry[:n])
        self._named = self._read_names()

    def message(self, at: tuple[str, ...], label: str, *, is_inside: bool, depth: int) -> Iterator[Part]:
        fixed = self._fixed(at, 24 if at else 32)
        charset = mapi.charset(fixed.get(mapi.MESSAGE_CODEPAGE, (0, 0))[1]) or mapi.charset(
            fixed.get(mapi.INTERNET_CODEPAGE, (0, 0))[1]
        )
        sender = self._text(at, mapi.SENDER_NAME, charset)
        address = self._address(at, (mapi.SENDER_SMTP, mapi.SENDER_ADDRESS), charset) or self._sent_from(at, charset)
        fields = {
            "From": _person(sender, address),
            "To": self._people(at, mapi.TO, charset) or self._text(at, mapi.DISPLAY_TO, charset),
            "Cc": self._people(at, mapi.CC, charset) or self._text(at, mapi.DISPLAY_CC, charset),
            "Date": next(
                filter(None, (mapi.date(fixed.get(id, (0, 0))[1]) for id in (mapi.SUBMITTED, mapi.DELIVERED))), ""
            ),
        }
        body, kind = self._body(at, charset, fixed.get(mapi.INTERNET_CODEPAGE, (0, 0))[1])
        body = "\n".join([*self._details(at, fixed, charset), body])
        own = message_text(self._text(at, mapi.SUBJECT, charset), fields, body, kind)
        yield Text(_join(label, own.label), own.text, own.kind)
        place = _join(label, own.label) if is_inside else label
        if not body.strip() and (rtf := mapi.decompress(self._bytes(at, mapi.RTF))):
            yield Member("message.rtf", partial(io.BytesIO, rtf), place=_join(label, own.label), is_named=False)
        storages = self._below.get(at, set())
        is_signed = self._text(at, mapi.MESSAGE_CLASS, charset).lower() == _SIGNED
        for attached in sorted(one for one in storages if one[-1].startswith("__attach_version1.0_")):
            if is_signed and (content := self._bytes(attached, mapi.ATTACHED_DATA)):
                yield from read_signed(content, place, body)
            else:
                yield from self._attached(attached, place, charset, depth)

    def _people(self, at: tuple[str, ...], kind: int, charset: str) -> str:
        """The recipients of a kind, with their addresses."""
        people = []
        for one in sorted(one for one in self._below.get(at, set()) if one[-1].startswith("__recip_version1.0_")):
            if self._fixed(one, 8).get(mapi.RECIPIENT_KIND, (0, mapi.TO))[1] == kind:
                address = self._address(one, (mapi.SMTP, mapi.ADDRESS), charset)
                people.append(_person(self._text(one, mapi.DISPLAY_NAME, charset), address))
        return "; ".join(filter(None, people))

    def _address(self, at: tuple[str, ...], ids: tuple[int, ...], charset: str) -> str:
        """The first address that is one of the internet: those within an organization say nothing to people."""
        found = (self._text(at, id, charset) for id in ids)
        return next((one for one in found if "@" in one and not one.startswith("/")), "")

    def _sent_from(self, at: tuple[str, ...], charset: str) -> str:
        """The address of the sender in the headers that came with the message; "" if it came from within."""
        headers = self._text(at, mapi.HEADERS, charset)
        first, _, following = headers.partition("\n")
        headers = headers if ":" in first else following  # "Microsoft Mail Internet Headers Version 2.0"
        found = _ADDRESS.findall(mime.parse(headers.encode()).header("From")) if headers else []
        return str(found[-1]) if found else ""

    def _attached(self, at: tuple[str, ...], place: str, charset: str, depth: int) -> Iterator[Part]:
        names = [self._text(at, id, charset) for id in (mapi.ATTACHED_NAME, mapi.ATTACHED_SHORT_NAME)]
        name = next(filter(None, names), "") or self._text(at, mapi.ATTACHED_TITLE, charset)
        if any(map(is_private_name, filter(None, names))):
            return
        inner = (*at, "__substg1.0_3701000D")
        if (*at, f"__substg1.0_3701{_BINARY}") in self._streams:
            content = partial(self._ole.openstream, [*at, f"__substg1.0_3701{_BINARY}"])
            yield Member(name or "attachment", content, place=place)
        elif (*inner, _PROPERTIES) not in self._streams:
            yield LeftOut("attachment", (_join(place, name or "attachment"),))
        elif depth < MAX_DEPTH:
            yield from self.message(inner, place, is_inside=True, depth=depth + 1)
        else:
            yield LeftOut("too_deep", (_join(place, name or "message"),))

    def _body(self, at: tuple[str, ...], charset: str, codepage: int) -> tuple[str, Kind]:
        body = self._text(at, mapi.BODY, charset)
        if body.strip():
            return body, "text"
        page = self._bytes(at, mapi.HTML)
        if page:
            return html.to_text(words.decode_text(page.rstrip(b"\0"), mapi.charset(codepage) or charset).text), "html"
        text = self._text(at, mapi.HTML, charset)
        return (html.to_text(text), "html") if text else ("", "text")

    def _details(self, at: tuple[str, ...], fixed: dict[int, tuple[int, int]], charset: str) -> list[str]:
        """The fields of an appointment, a task or a contact."""
        lines = []
        for id, name in self._named.items():
            kind, value = fixed.get(id, (0, 0))
            said = mapi.date(value) if kind == _DATE else self._text(at, id, charset)
            if said:
                lines.append(f"{name}: {said}")
        if self._text(at, mapi.MESSAGE_CLASS, charset).lower().startswith("ipm.contact"):
            lines += mapi.contact_lines({id: self._text(at, id, charset) for id in mapi.CONTACT_FIELDS.values()})
        return [*dict.fromkeys(lines), ""] if lines else []

    def _read_names(self) -> dict[int, str]:
        """What the named properties that people read are called, by the number they have in this file."""
        entries = self._bytes((_NAMED,), 0x0003)
        found = {}
        for position in range(0, len(entries) - 7, 8):
            name, info, index = struct.unpack_from("<IHH", entries, position)
            if not info & 1 and name in mapi.NAMED_FIELDS:
                found[0x8000 + index] = mapi.NAMED_FIELDS[name]
        return found

    def _fixed(self, at: tuple[str, ...], header: int) -> dict[int, tuple[int, int]]:
        """The type and the value of each property of a fixed size."""
        path = (*at, _PROPERTIES)
        if path not in self._streams:
            return {}
        data = self._stream(path)
        found = {}
        for position in range(header, len(data) - 15, 16):
            kind, id, _, value = struct.unpack_from("<HHIQ", data, position)
            found[id] = (kind, value & 0xFFFFFFFF if kind == 3 else value)
        return found

    def _stream(self, path: tuple[str, ...]) -> bytes:
        """The content of a stream; nothing of one that is damaged, which is counted."""
        try:
            return bytes(self._ole.openstream([*path]).read())
        except (OSError, ValueError, IndexError):
            self.damaged += 1
            return b""

    def _bytes(self, at: tuple[str, ...], id: int) -> bytes:
        path = (*at, f"__substg1.0_{id:04X}{_BINARY}")
        return self._stream(path) if path in self._streams else b""

    def _text(self, at: tuple[str, ...], id: int, charset: str) -> str:
        for kind in (_UNICODE, _STRING8):
            path = (*at, f"__substg1.0_{id:04X}{kind}")
            if path in self._streams:
                data = self._stream(path)
                if kind == _UNICODE:
                    return str(data.decode("utf-16-le", "replace")).rstrip("\0")
                return words.decode_text(data.rstrip(b"\0"), charset).text
        return ""


def _person(name: str, address: str) -> str:
    """Who it is, with the address. Many are named by their address, perhaps in quotes: it is said once."""
    if address and name.strip("'\" ").casefold() == address.casefold():
        return address
    return f"{name} <{address}>" if name and address else name or address


def _join(label: str, name: str) -> str:
    return f"{label} > {name}" if label and name else label or name
