"""Keeps secrets out of what is said about a source: in errors, reasons and logs."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, SecretStr

from .diff import clean_text

MAX_REASON_CHARS = 2_000
SHORTEST_SECRET = 4


def scrub(text: str, secrets: Sequence[str]) -> str:
    """The text without any of these secrets, of a length for people."""
    return masked(text, secrets)[:MAX_REASON_CHARS]


def masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "**********")
    return clean_text(text)


def secrets_of(*models: BaseModel | None) -> tuple[str, ...]:
    """The secrets in clear; a short one, or the default that the docs name, would mask ordinary words."""
    return tuple(secret for model in models if model is not None for secret in _secrets(model))


def _secrets(model: BaseModel) -> Iterator[str]:
    for name, known in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _secrets(value)
        elif isinstance(value, SecretStr) and value != known.default:
            secret = value.get_secret_value()
            if len(secret) >= SHORTEST_SECRET:
                yield secret
