"""A client of a language model that speaks OpenAI's chat protocol: OpenAI or vLLM, Ollama, llama.cpp and others.

It asks for one JSON object and checks that it gets one. No error holds the key, a prompt or an answer.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from ..sdk import AuthError, ConfigError, Context, RateLimited, SourceError, Unavailable
from ..sdk.errors import Stalled, Stopped
from ..sdk.http import Http

MAX_BYTES = 2_000_000  # of a response
PATIENCE_S = 2.0  # of waiting as told by the service
MOST_TOKENS = 2_000  # of an answer
Message = Mapping[str, str]


class LlmError(Exception):
    """The model gave no usable answer. Its text says why, for people."""


@dataclass(frozen=True, slots=True)
class Model:
    """The model that the operator configured. ``timeout_s``: for one answer."""

    url: str
    name: str
    key: SecretStr | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The JSON object of an answer, and what it cost."""

    given: Mapping[str, Any]
    prompt_tokens: int
    completion_tokens: int


class Llm:
    """A connection to the model, for one request of ours. The address may be private, since the operator sets it.

    ``stop``: an event that ends a question that is being waited for; ``ask`` then raises ``Stopped``.
    """

    def __init__(self, model: Model, stop: threading.Event) -> None:
        self._model = model
        key = model.key
        try:
            url = model.url.rstrip("/").removesuffix("/chat/completions")
            self._http = Http(
                url,
                context=Context(allowed_hosts=(httpx.URL(url).host,), stop=stop),
                headers={"Authorization": SecretStr(f"Bearer {key.get_secret_value()}")} if key is not None else {},
                attempts=1,
                patience_s=PATIENCE_S,
                timeout_s=model.timeout_s,
                total_s=model.timeout_s,
                max_bytes=MAX_BYTES,
            )
        except (SourceError, httpx.InvalidURL):
            raise LlmError("LLM_URL or LLM_KEY cannot be used") from None

    def ask(self, messages: Sequence[Message]) -> Reply:
        """Ask for one JSON object. Raises ``LlmError``, and ``Stopped``."""
        body = {
            "model": self._model.name,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
            "stream": False,
        }
        try:
            answer = self._http.json("chat/completions", body=body)
        except Stopped:
            raise
        except AuthError:
            raise LlmError("the language model refused LLM_KEY") from None
        except RateLimited:
            raise LlmError("the language model is overloaded") from None
        except ConfigError:
            raise LlmError("the language model refused the request; see LLM_URL and LLM_MODEL") from None
        except Stalled:
            raise LlmError("the language model did not answer in time") from None
        except Unavailable:
            raise LlmError("the language model did not answer") from None
        except (SourceError, httpx.InvalidURL):
            raise LlmError("the language model cannot be reached; see LLM_URL") from None
        return _read_reply(answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _read_reply(answer: Any) -> Reply:
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise LlmError("the language model returned something that is not an answer")
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = (counts.get(f"{part}_tokens") for part in ("prompt", "completion"))
    return Reply(_find_object(text), prompt if type(prompt) is int else 0, completion if type(completion) is int else 0)


def _find_object(text: str) -> dict[str, Any]:
    """The first JSON object of a text: models put words or fences around it."""
    start = text.find("{")
    if start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
    raise LlmError("the language model returned no JSON")
