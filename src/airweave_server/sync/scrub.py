"""Keep secrets out of errors, reasons and logs about a source."""

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
PIECE = 12  # consecutive characters of a long secret that already give too much away
MASK = "**********"


def scrub(text: str, secrets: Sequence[str]) -> str:
    """Mask the secrets in the text and cut it to ``MAX_REASON_CHARS``."""
    return mask(text, secrets)[:MAX_REASON_CHARS]


def mask(text: str, secrets: Sequence[str]) -> str:
    """Mask the secrets in the text: plain, escaped, percent-encoded, in base64, or cut short."""
    if secrets:
        forms, pieces = _compile(tuple(secrets))
        for form in forms:
            text = text.replace(form, MASK)
        text = _mask_pieces(text, pieces)
    return clean_text(text)


def secrets_of(*models: BaseModel | None) -> tuple[str, ...]:
    """The secret values of the models, in clear text. Without short ones and documented defaults: masking those would
    hit ordinary words."""
    return tuple(secret for model in models if model is not None for secret in _find_secrets(model))


def _find_secrets(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name, known in type(value).model_fields.items():
            inner = getattr(value, name)
            if inner != known.default:
                yield from _find_secrets(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _find_secrets(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _find_secrets(inner)
    elif isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if len(secret) >= SHORTEST_SECRET:
            yield secret


@lru_cache(maxsize=8)
def _compile(secrets: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Every form in which the secrets may appear, longest first, and all pieces of the long ones."""
    forms = {form for secret in secrets for form in _encode_forms(secret) if len(form) >= SHORTEST_SECRET}
    pieces = {form[at : at + PIECE] for form in forms if len(form) > PIECE for at in range(len(form) - PIECE + 1)}
    return tuple(sorted(forms, key=len, reverse=True)), frozenset(pieces)


def _encode_forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield repr(repr(secret))[2:-2]
    yield json.dumps(secret)[1:-1]
    yield from (quote(secret, errors="replace"), quote(secret, safe="", errors="replace"))
    yield quote_plus(secret, errors="replace")
    data = secret.encode("utf-8", "replace")
    for before in range(3):  # its neighbours in the first and last group of three bytes are unknown: leave those out
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(b"\0" * before + data).decode().rstrip("=")
            yield whole[(before * 8 + 5) // 6 : len(whole) - (1 if (before + len(data)) % 3 else 0)]


def _mask_pieces(text: str, pieces: frozenset[str]) -> str:
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
