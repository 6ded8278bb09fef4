"""Keeps secrets out of what is said about a source: in errors, reasons and logs."""

import base64
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, SecretStr

from .diff import clean_text

MAX_REASON_CHARS = 2_000
SHORTEST_SECRET = 4
PIECE = 12  # characters in a row of a long secret that tell too much of it
MASK = "**********"


def scrub(text: str, secrets: Sequence[str]) -> str:
    """The text without any of these secrets, of a length for people."""
    return masked(text, secrets)[:MAX_REASON_CHARS]


def masked(text: str, secrets: Sequence[str]) -> str:
    """The text without these secrets: not as they are, nor escaped, percent-encoded, in base64, or cut short."""
    if secrets:
        forms, pieces = _known(tuple(secrets))
        for form in forms:
            text = text.replace(form, MASK)
        text = _without_pieces(text, pieces)
    return clean_text(text)


def secrets_of(*models: BaseModel | None) -> tuple[str, ...]:
    """The secrets in clear; a short one, or the default that the docs name, would mask ordinary words."""
    return tuple(secret for model in models if model is not None for secret in _secrets(model))


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name, known in type(value).model_fields.items():
            inner = getattr(value, name)
            if inner != known.default:
                yield from _secrets(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _secrets(inner)
    elif isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if len(secret) >= SHORTEST_SECRET:
            yield secret


@lru_cache(maxsize=8)
def _known(secrets: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The forms in which the secrets may be said, longest first, and every piece of the long ones."""
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST_SECRET}
    pieces = {form[at : at + PIECE] for form in forms if len(form) > PIECE for at in range(len(form) - PIECE + 1)}
    return tuple(sorted(forms, key=len, reverse=True)), frozenset(pieces)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield repr(repr(secret))[2:-2]
    yield json.dumps(secret)[1:-1]
    yield from (quote(secret, errors="replace"), quote(secret, safe="", errors="replace"))
    yield quote_plus(secret, errors="replace")
    data = secret.encode("utf-8", "replace")
    for before in range(3):  # what it shares a group of three bytes with is not known, and left out
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * before + data).decode().rstrip("=")
            yield whole[(before * 8 + 5) // 6 : len(whole) - (1 if (before + len(data)) % 3 else 0)]


def _without_pieces(text: str, pieces: frozenset[str]) -> str:
    kept, at = [], 0
    while at < len(text):
        end = at
        while pieces and text[end : end + PIECE] in pieces:
            end += 1
        if end > at:
            kept.append(MASK)
            at = end + PIECE - 1
        else:
            kept.append(text[at])
            at += 1
    return "".join(kept)
