"""The steps of a search, for all routes that search."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from .. import plugins
from ..db import browse
from ..db.models import Collection
from ..errors import Unavailable
from ..sdk import ConfigError, EmbedderError, Vectors
from ..search import agent, classic, hybrid, planning, prompts
from ..search.agent import Event, Given, Outcome, Tools
from ..search.classic import Carried
from ..search.hybrid import Found, Hit, Query
from ..search.llm import Llm, LlmError, Model
from ..search.planning import Facts, Plan
from ..services import collections as service
from ..settings import Settings
from ..sync.vectors import embedder_of
from .deps import Organization, Parts

WORDS = "wordllama"  # comes with the server, and knows single words
HALF_SET = "LLM_URL and LLM_MODEL must both be set"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of a query, None to search by words alone, and how much it is trusted."""

    vector: Vectors | None = None
    trust: float = 1.0


def find_collection(parts: Parts, organization: Organization, readable_id: str) -> Collection:
    """The collection, detached from its transaction, which has ended: a request must not hold one database connection
    while it waits for others. Raises ``NotFound``."""
    with parts.database.session() as session:
        return service.get(session, organization, readable_id, missing=f"Collection '{readable_id}' not found.")


def embed(parts: Parts, collection: Collection, query: Query) -> Embedded:
    """Embed the query, unless it is searched for by words alone. Raises ``Unavailable``."""
    if query.strategy == "keyword":
        return Embedded()
    try:
        embedder = embedder_of(collection, parts.settings)
        return Embedded(hybrid.embed_query(embedder, query), embedder.trust)
    except (ConfigError, EmbedderError) as error:
        raise Unavailable(f"cannot embed the query: {error}; the strategy keyword works without") from None


def make_plan(parts: Parts, collection: Collection, text: str, stop: threading.Event) -> Plan:
    """Plan a search: by the language model if there is one and it answers, else by rules. ``stop``: see
    ``run_agent``."""
    facts = find_facts(parts, collection)
    if not has_llm(parts.settings):
        return replace(planning.plan_by_rules(text, facts), note=lack_of_llm(parts.settings))
    try:
        with open_llm(parts.settings, stop) as llm:
            return prompts.plan(llm, text, facts)
    except LlmError as error:
        log.warning("llm_failed", reason=str(error))
        return replace(planning.plan_by_rules(text, facts), note=str(error))


def carry_out(parts: Parts, collection: Collection, plan: Plan, query: Query) -> Carried:
    """Search by a plan, in one snapshot. Raises ``Unavailable``."""
    embedded = [embed(parts, collection, replace(query, text=text)) for text in plan.phrasings]
    words = plugins.embedder(WORDS, parts.settings)
    with parts.database.snapshot() as snapshot:

        def rank(vector: Vectors | None, asked: Query, **how: Any) -> hybrid.Ranking:
            return hybrid.rank(
                snapshot,
                collection,
                vector,
                asked,
                parts.database.read_concurrently,
                trust=embedded[0].trust,
                **how,
            )

        return classic.search(rank, collection, plan, [one.vector for one in embedded], query, words)


def run_agent(parts: Parts, collection: Collection, given: Given, stop: threading.Event) -> Iterator[Event | Outcome]:
    """The steps of an agentic search, then its outcome. ``stop`` ends a question to the model that is being waited for,
    which raises ``Stopped``. Raises ``Unavailable``."""
    facts = find_facts(parts, collection)
    tools = Tools(parts.database, collection, partial(carry_out, parts, collection), facts, given)
    if not has_llm(parts.settings):
        yield from agent.run(tools, None, lack_of_llm(parts.settings))
        return
    try:
        with open_llm(parts.settings, stop) as llm:
            yield from agent.run(tools, llm)
    except LlmError as error:  # it cannot be opened
        yield from agent.run(tools, None, str(error))


def answer(parts: Parts, question: str, hits: Sequence[Hit], stop: threading.Event) -> tuple[str | None, str | None]:
    """An answer by the language model from the first hits, or why there is none. ``stop``: see ``run_agent``."""
    if not has_llm(parts.settings):
        return None, lack_of_llm(parts.settings) or agent.NO_LLM
    if not hits:
        return None, agent.NO_ANSWER
    try:
        with open_llm(parts.settings, stop) as llm:
            text, _ = prompts.answer(llm, question, hits)
    except LlmError as error:
        log.warning("llm_failed", reason=str(error))
        return None, str(error)
    return text, None if text is not None else agent.NO_ANSWER


def has_llm(settings: Settings) -> bool:
    return bool(settings.llm_url and settings.llm_model)


def lack_of_llm(settings: Settings) -> str | None:
    """What is wrong with a language model that is configured by half; None if none is configured."""
    return HALF_SET if bool(settings.llm_url) != bool(settings.llm_model) else None


@contextmanager
def open_llm(settings: Settings, stop: threading.Event) -> Iterator[Llm]:
    """A connection to the configured language model. Raises ``LlmError``."""
    model = Model(settings.llm_url, settings.llm_model, settings.llm_key, settings.llm_timeout_s)
    with closing(Llm(model, stop)) as llm:
        yield llm


def find_facts(parts: Parts, collection: Collection) -> Facts:
    """What a plan may know of the collection."""
    with parts.database.session() as session:
        return Facts(browse.sources(session, collection.id), collection.language)


def search(parts: Parts, collection: Collection, query: Query, embedded: Embedded) -> Found:
    """The hits of one page. If the collection is switching embedders now, the snapshot still has its former vectors."""
    with parts.database.snapshot() as snapshot:
        return hybrid.search(
            snapshot,
            collection,
            embedded.vector,
            query,
            parts.database.read_concurrently,
            trust=embedded.trust,
            words=plugins.embedder(WORDS, parts.settings),
        )
