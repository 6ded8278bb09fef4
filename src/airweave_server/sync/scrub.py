"""Keep secrets out of errors, reasons and logs about a source, and leave the language of these as it is.

A secret that nobody would write by chance is masked wherever it stands. A short one is masked as a whole word, and one
that is an ordinary word or number only where it stands as a value: ``password=test``, ``user:test@host``, ``'test'``.
"""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, SecretStr

from .diff import clean_text

MAX_REASON_CHARS = 2_000
LONG_CHARS = 8  # a secret of so many characters, not letters alone, is no word
LONG_WORD_CHARS = 16  # nor is one of so many letters
SHORTEST_VALUE = 4  # shorter ones are masked only after a name that announces a secret, and before the @ of a URL
# passwords of development that errors are full of
COMMON = {"password", "postgres", "username", "database", "localhost", "airweave", "security", "credential"}
# what announces a secret, up to the secret itself
ANNOUNCED = (
    r"(?i:\w*(?:pass(?:word|wd|phrase)?|pwd|secret|token|key)[\"'`]?(?:\s*[:=]\s*|\s+is\s+|\s+)[\"'`]?"
    r"|\w*(?:credentials?|auth\w*|pin|login)[\"'`]?\s*[:=]\s*[\"'`]?)"
)
AUTHORIZATION = re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|token)\s+)?)([^\s\"',;]+)")
PIECE = 12  # consecutive characters of a long secret that already give too much away
MASK = "**********"


def scrub(text: str, secrets: Sequence[str]) -> str:
    """Mask the secrets in the text and cut it to ``MAX_REASON_CHARS``."""
    return mask(text, secrets)[:MAX_REASON_CHARS]


def mask(text: str, secrets: Sequence[str]) -> str:
    """Mask the secrets in the text: plain, escaped, percent-encoded, in base64, or cut short."""
    if secrets:
        found = _compile(tuple(secrets))
        for form in found.forms:
            text = text.replace(form, MASK)
        text = AUTHORIZATION.sub(rf"\g<1>{MASK}", text)
        for pattern in found.patterns:
            text = pattern.sub(rf"\g<1>{MASK}", text)
        text = _mask_pieces(text, found.pieces)
    return clean_text(text)


def secrets_of(*models: BaseModel | None) -> tuple[str, ...]:
    """The secret values of the models, in clear text, without documented defaults."""
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
    elif isinstance(value, SecretStr) and (secret := value.get_secret_value()):
        yield secret


@dataclass(frozen=True, slots=True)
class _Searched:
    """What to look for. ``forms``: masked anywhere, longest first. ``patterns``: match a secret where it is one.
    ``pieces``: of the long forms."""

    forms: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    pieces: frozenset[str]


@lru_cache(maxsize=8)
def _compile(secrets: tuple[str, ...]) -> _Searched:
    forms: set[str] = set()
    patterns = []
    for secret in sorted(secrets, key=len, reverse=True):
        every = set(_encode_forms(secret))
        is_weak = len(secret) < LONG_CHARS or (secret.isalpha() and len(secret) < LONG_WORD_CHARS)
        if not is_weak:
            forms |= every
            continue
        plain = {form for form in every if form.lower() == secret.lower()} | {secret}
        forms |= {form for form in every - plain if len(form) >= LONG_CHARS}
        patterns.append(_find_weak(secret))
    forms.discard("")
    pieces = {form[at : at + PIECE] for form in forms if len(form) > PIECE for at in range(len(form) - PIECE + 1)}
    return _Searched(tuple(sorted(forms, key=len, reverse=True)), tuple(patterns), frozenset(pieces))


def _find_weak(secret: str) -> re.Pattern[str]:
    """Match a secret that might also be a word, where it is none."""
    word = re.escape(secret)
    places = [rf"(?<=:){word}(?=@)"]
    if len(secret) >= SHORTEST_VALUE:
        places += [rf"(?<=[=:]){word}(?!\w)", rf"(?<=[\"'`]){word}(?=[\"'`])"]
        is_word = secret.isdigit() or (secret.isalpha() and (len(secret) < LONG_CHARS or secret.lower() in COMMON))
        if not is_word:
            places.append(rf"(?<!\w){word}(?!\w)")
    return re.compile(rf"({ANNOUNCED}){word}(?!\w)|(?:{'|'.join(places)})")


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
