"""E-mail to text, by Python's own library: a message, its attachments, and the messages inside it."""

import io
from collections.abc import Iterator
from email import message_from_binary_file, policy
from email.message import EmailMessage, MIMEPart
from email.utils import collapse_rfc2231_value
from functools import partial
from typing import IO

from ..sdk import is_private_name
from . import html
from .extract import extract
from .parts import Extracted, Kind, LeftOut, Member, Part, Text

MAX_FIELD_CHARS = 2_000  # of a header that names people


def read(file: IO[bytes], *, is_inside: bool) -> Iterator[Part]:
    """The message under its subject, then what is attached. ``is_inside``: it is itself in another document."""
    message = message_from_binary_file(file, EmailMessage, policy=policy.default)
    body = message.get_body(("plain", "html"))
    subject = _header(message, "Subject")
    fields = {name: _header(message, name) for name in ("From", "To", "Cc", "Date")}
    yield message_text(subject, fields, *(_body_text(body) if body is not None else ("", "text")))
    place = " ".join(subject.split()) if is_inside else ""
    for part in _attachments(message, body):
        name = part.get_filename() or ""
        if is_private_name(_second_name(part)):
            continue
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0) if part.is_multipart() else None
            if isinstance(inner, MIMEPart):
                yield Member(name or "message.eml", partial(_open_message, inner), place=place, is_named=False)
        elif part.get_content_maintype() == "image":
            yield LeftOut("image", (name,) if name else ())
        elif part.get_content_maintype() not in ("audio", "video", "multipart", "message"):
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and content:
                yield Member(name or "attachment", partial(io.BytesIO, content), place=place)


def message_text(subject: str, fields: dict[str, str], body: str, kind: Kind) -> Text:
    """A message itself, without its attachments, under its subject."""
    subject = " ".join(subject.split())
    lines = (f"{name}: {' '.join(value.split())[:MAX_FIELD_CHARS]}" for name, value in fields.items() if value)
    head = "\n".join([*([f"Subject: {subject}"] if subject else []), *lines])
    return Text(subject, f"{head}\n\n{body}", kind)


def _open_message(message: MIMEPart) -> IO[bytes]:
    return io.BytesIO(message.as_bytes(policy=policy.compat32))


def _header(message: MIMEPart, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # the library fails in many ways on invalid headers; a header is not worth losing the message
        return ""


def _body_text(body: MIMEPart) -> tuple[str, Kind]:
    data = body.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", "text"
    is_page = body.get_content_type() == "text/html"
    try:
        text = data.decode(body.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        found = extract(data, filename="body.html" if is_page else "body.txt")
        return (found.text, found.kind) if isinstance(found, Extracted) else ("", "text")
    return (html.to_text(text), "html") if is_page else (text, "text")


def _second_name(part: MIMEPart) -> str:
    """The name in the type of a part, which may differ from the one in its disposition."""
    return collapse_rfc2231_value(part.get_param("name", "", "content-type"))


def _attachments(message: MIMEPart, body: MIMEPart | None) -> Iterator[MIMEPart]:
    """The parts of a message besides its body, except alternative forms of the body."""
    ways = [(message, False)]
    while ways:
        part, is_form = ways.pop()
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            is_form = is_form or part.get_content_type() == "multipart/alternative"
            inner = [one for one in part.get_payload() if isinstance(one, MIMEPart)]
            ways.extend((one, is_form) for one in reversed(inner))
        elif part is body or part is message:
            continue
        elif not (is_form and part.get_content_maintype() == "text" and part.get_filename() is None):
            yield part
