"""The agentic tier: a language model uses tools over one collection until it has what answers the query. Without a
model, a fixed plan uses the same tools. Knows neither HTTP nor SQL.

The filter of the request is in force in every tool. The model sees what sources say as data, and what it replies is
checked: it may call a tool of ours, and nothing else. It may put results first, and hides none: what the plain search
finds follows. If it fails, the fixed plan goes on and the response says so.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..db import browse
from ..db import search as sql
from ..db.browse import Item
from ..db.models import Collection
from ..db.session import Database
from ..wire import FilterGroup
from . import planning, prompts, ranking
from .classic import Carried
from .filters import lower
from .hybrid import MAX_LIMIT, Hit, Query
from .llm import Llm, LlmError, Message
from .planning import Facts, Groups, Plan

DEFAULT_LIMIT = 20  # results, if the request does not say
ITERATIONS, ITERATIONS_THINKING = 8, 16  # answers of the model
AGENT_S = 120.0  # after which the model is not asked again
CONVERSATION_CHARS = 200_000  # after which the model is not asked again
FAILURES = 2  # unusable answers of the model in a row, after which the fixed plan goes on
FIRST_SHOWN = 5  # results of a tool in its event
SEARCHED = 10  # hits of one search of the agent
READ, READ_CHARS = 3, 6_000  # entities read at once, and characters of each
LISTED = 30  # entities of one step of navigation
MOST_IDS = 50  # in one call
QUERY_CHARS = 2_000
NO_LLM = "this server has no language model, which an answer needs"
NO_ANSWER = "the results do not answer the question"

_CHUNK = re.compile(r"__chunk_\d+$")
CarryOut = Callable[[Plan, Query], Carried]


@dataclass(frozen=True, slots=True)
class Event:
    """A step that has been taken, as the stream shows it."""

    type: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run. ``answer``: by the model; if None, ``answer_note`` says why. ``plan``: what was searched for
    first, and by whom the steps were decided. ``first``: what that has found."""

    hits: Sequence[Hit]
    nothing_relevant: bool
    did_you_mean: str | None
    plan: Plan
    first: Carried
    answer: str | None
    answer_note: str | None
    duration_ms: int
    diagnostics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """A request: what is asked for, in which collection, with which filter."""

    query: str
    filter: Groups = ()
    limit: int = DEFAULT_LIMIT
    thinking: bool = False


class _Refused(LlmError):
    """The model asked for what there is not."""


@dataclass
class _Spent:
    iterations: int = 0
    retries: int = 0
    nudges: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_over: bool = False


@dataclass
class Tools:
    """The tools over one collection, for one request, and what they have found. Each call is a snapshot of its own, so
    that none waits for a model."""

    database: Database
    collection: Collection
    carry_out: CarryOut
    facts: Facts
    given: Given
    seen: dict[str, list[Hit]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    read_ids: dict[str, None] = field(default_factory=dict)
    collected: dict[str, None] = field(default_factory=dict)

    def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """The statistics of a call, and what the model may see. Raises ``LlmError`` for what no tool takes."""
        tool = TOOLS.get(name)
        if tool is None:
            raise _Refused("the language model asked for a tool that does not exist")
        return tool(self, arguments)

    def search(self, plan: Plan, *, limit: int, filter: Sequence[FilterGroup] = ()) -> tuple[dict[str, Any], Carried]:
        """Search by a plan. ``filter`` must fit as well as that of the request."""
        within = planning.join_filters(self.given.filter, filter) if filter else self.given.filter
        carried = self.carry_out(plan, Query(plan.phrasings[0], filter=within, limit=limit))
        before = len(self.seen)
        for hit in carried.found.hits:
            same = self.seen.setdefault(hit.entity_id, [])
            if all(other.chunk_id != hit.chunk_id or other.connection_id != hit.connection_id for other in same):
                same.append(hit)
        first = [_hit_item(hit) for hit in carried.found.hits[:FIRST_SHOWN]]
        count = len(carried.found.hits)
        return {"result_count": count, "new_results": len(self.seen) - before, "first_results": first}, carried

    def read(self, entity_ids: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Read entities, up to ``READ`` of them."""
        wanted = list(dict.fromkeys(entity_ids))[:READ]
        shown = []
        with self.database.snapshot() as session:
            seen = self._narrow(session)
            items = browse.find(session, self.collection, seen, wanted)
            for item in items[:READ]:
                text = browse.read(session, seen, item.row, chars=READ_CHARS)
                shown.append({**_item(item), "text": text})
        found = {item.entity_id for item in items}
        self.listed |= found
        self.read_ids.update(dict.fromkeys(one for one in wanted if one in found))
        stats = {
            "found": len(found),
            "not_found": len(set(wanted) - found),
            "entities": [_item(item) for item in items[:READ]],
            "context_label": None,
        }
        return stats, shown

    def count(self, filter: Sequence[FilterGroup] = ()) -> dict[str, Any]:
        """Count the entities that fit."""
        with self.database.snapshot() as session:
            return {"count": browse.count(session, self._narrow(session, filter))}

    def navigate(self, name: str, entity_id: str) -> tuple[dict[str, Any], list[Item]]:
        """The entities below, beside or above one."""
        with self.database.snapshot() as session:
            seen = self._narrow(session)
            parent: str | None = entity_id
            if name != "get_children":
                own = browse.find(session, self.collection, seen, [entity_id])
                parent = own[0].parent_id if own else None
            found: list[Item] = []
            if parent is not None and name == "get_parent":
                found = browse.find(session, self.collection, seen, [parent])
            elif parent is not None:
                found = browse.children(session, self.collection, seen, parent, limit=LISTED + 1)
        found = [item for item in found if item.entity_id != entity_id][:LISTED]
        self.listed |= {item.entity_id for item in found}
        first = [_item(item) for item in found[:FIRST_SHOWN]]
        return {"result_count": len(found), "context_label": name.removeprefix("get_"), "first_results": first}, found

    def collect(self, entity_ids: Sequence[str]) -> dict[str, Any]:
        """Add entities to the results. Only those that a tool has shown can be added."""
        known = [one for one in dict.fromkeys(entity_ids) if one in self.seen or one in self.listed]
        added = [one for one in known if one not in self.collected]
        self.collected.update(dict.fromkeys(added))
        return {
            "added": len(added),
            "already_collected": len(known) - len(added),
            "not_found": len(set(entity_ids)) - len(known),
            "total_collected": len(self.collected),
            "entities": [_hit_item(self.seen[one][0]) for one in added if one in self.seen][:FIRST_SHOWN],
        }

    def drop(self, entity_ids: Sequence[str]) -> dict[str, Any]:
        """Remove entities from the results."""
        gone = [one for one in dict.fromkeys(entity_ids) if one in self.collected]
        for one in gone:
            del self.collected[one]
        return {
            "added": -len(gone),
            "already_collected": 0,
            "not_found": len(set(entity_ids)) - len(gone),
            "total_collected": len(self.collected),
            "entities": [],
        }

    def review(self) -> dict[str, Any]:
        """The results so far."""
        first = [_hit_item(self.seen[one][0]) for one in self.collected if one in self.seen][:FIRST_SHOWN]
        count = len(self.collected)
        return {"total_collected": count, "entity_count": count, "first_results": first}

    def gather(self) -> list[Hit]:
        """The hits of what was collected; one that no search has shown is searched for."""
        unseen = [one for one in self.collected if one not in self.seen][:MOST_IDS]
        if unseen:
            only = FilterGroup.model_validate(
                {"conditions": [{"field": "entity_id", "operator": "in", "value": unseen}]}
            )
            self.search(Plan((self.given.query,)), limit=len(unseen), filter=[only])
        return [hit for one in self.collected for hit in self.seen.get(one, [])[:1]]

    def _narrow(self, session: Any, filter: Sequence[FilterGroup] = ()) -> sql.Scope:
        whole, _ = sql.whole(session, self.collection)
        within = planning.join_filters(self.given.filter, filter) if filter else self.given.filter
        return sql.narrow(session, self.collection, whole, lower(within), few=0) if within else whole


def run(tools: Tools, llm: Llm | None, note: str | None = None) -> Iterator[Event | Outcome]:
    """Take the steps of a run, and yield each when it has been taken, and last the outcome. ``note``: why there is no
    model, if there should be one. Raises ``Stopped`` if the model is told to stop."""
    began_at, spent, given = time.monotonic(), _Spent(), tools.given
    plan = planning.plan_by_rules(given.query, tools.facts)
    at = time.monotonic()
    stats, base = tools.search(plan, limit=min(max(given.limit, SEARCHED), MAX_LIMIT))
    yield _tool_call("search", 0, _plan_arguments(plan), stats, at)
    if llm is not None:
        try:
            yield from _ask(tools, llm, base, spent)
            plan = replace(plan, by="llm")
        except LlmError as error:
            note = str(error)
            tools.collected.clear()
    if llm is None or note is not None:
        plan = replace(plan, note=note)
        yield from _follow_plan(tools, base, plan, spent)
    hits = _order(tools.gather(), base.found.hits)[: given.limit]
    answer: str | None = None
    answer_note: str | None = note or NO_LLM
    if llm is not None and note is None and hits:
        try:
            answer, reply = prompts.answer(llm, given.query, hits)
            spent.prompt_tokens += reply.prompt_tokens
            spent.completion_tokens += reply.completion_tokens
            answer_note = None if answer is not None else NO_ANSWER
        except LlmError as error:
            answer_note = str(error)
    elif not hits and note is None and llm is not None:
        answer_note = NO_ANSWER
    yield Outcome(
        hits,
        nothing_relevant=not hits or hits[0].score < ranking.RELEVANT,
        did_you_mean=base.found.did_you_mean,
        plan=plan,
        first=base,
        answer=answer,
        answer_note=answer_note,
        duration_ms=_ms(began_at),
        diagnostics={
            "total_iterations": spent.iterations,
            "all_seen_entity_ids": list(tools.seen),
            "all_read_entity_ids": list(tools.read_ids),
            "all_collected_entity_ids": list(tools.collected),
            "max_iterations_hit": spent.is_over,
            "total_llm_retries": spent.retries,
            "stagnation_nudges_sent": spent.nudges,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    )


def _follow_plan(tools: Tools, base: Carried, plan: Plan, spent: _Spent) -> Iterator[Event]:
    """The plan without a model: read the first hits, count what fits a filter, look beside the first hit if there is
    time to think, and return what was found."""
    hits = base.found.hits
    iteration = spent.iterations + 1
    if plan.filter:
        at = time.monotonic()
        yield _tool_call("count", iteration, {"filter": _dump(plan.filter)}, tools.count(plan.filter), at)
    elif tools.given.filter:
        at = time.monotonic()
        yield _tool_call("count", iteration, {}, tools.count(), at)
    ids = list(dict.fromkeys(hit.entity_id for hit in hits))
    if ids:
        at = time.monotonic()
        stats, _ = tools.read(ids[:READ])
        yield _tool_call("read", iteration, {"entity_ids": ids[:READ]}, stats, at)
    beside: list[str] = []
    if tools.given.thinking and ids:
        at = time.monotonic()
        stats, items = tools.navigate("get_siblings", ids[0])
        yield _tool_call("get_siblings", iteration, {"entity_id": ids[0]}, stats, at)
        unseen = [item.entity_id for item in items if item.entity_id not in tools.seen]
        if unseen:
            only = prompts.read_filter([{"conditions": [{"field": "entity_id", "operator": "in", "value": unseen}]}])
            at = time.monotonic()
            stats, carried = tools.search(Plan((tools.given.query,)), limit=SEARCHED, filter=only)
            yield _tool_call("search", iteration, {"query": tools.given.query, "filter": _dump(only)}, stats, at)
            beside = [hit.entity_id for hit in carried.found.hits if hit.score >= ranking.RELEVANT]
    at = time.monotonic()
    chosen = [*ids[: tools.given.limit], *beside]
    yield _tool_call("add_to_results", iteration, {"entity_ids": chosen}, tools.collect(chosen), at)
    stats = {"accepted": True, "total_collected": len(tools.collected), "warning": None}
    yield _tool_call("return_results_to_user", iteration, {}, stats, time.monotonic())
    spent.iterations = iteration


def _ask(tools: Tools, llm: Llm, base: Carried, spent: _Spent) -> Iterator[Event]:
    """Let the model use the tools until it returns its results. Raises ``LlmError`` if it fails, and ``Stopped``."""
    marks, ends_at = prompts.Marks(), time.monotonic() + AGENT_S
    shown = [prompts.show_hit(hit) for hit in base.found.hits[:SEARCHED]]
    asked = {"query": tools.given.query, "sources": list(tools.facts.sources), "now": tools.facts.now.isoformat()}
    messages: list[Message] = [
        prompts.system(prompts.AGENT, marks),
        {"role": "user", "content": f"{marks.wrap(asked)}\nA first search found:\n{marks.wrap(shown)}"},
    ]
    most = ITERATIONS_THINKING if tools.given.thinking else ITERATIONS
    failures, last = 0, ""
    while (
        spent.iterations < most
        and time.monotonic() < ends_at
        and sum(len(one["content"]) for one in messages) < CONVERSATION_CHARS
    ):
        spent.iterations += 1
        at = time.monotonic()
        try:
            reply = llm.ask(messages)
            name, arguments = _read_call(reply.given)
            spent.prompt_tokens += reply.prompt_tokens
            spent.completion_tokens += reply.completion_tokens
            thought = reply.given.get("thinking")
            yield _thinking(thought if isinstance(thought, str) else None, spent, at)
            at = time.monotonic()
            if name == "return_results_to_user":
                stats = {"accepted": True, "total_collected": len(tools.collected), "warning": None}
                yield _tool_call(name, spent.iterations, {}, stats, at)
                return
            stats, seen = tools.call(name, arguments)
        except LlmError as error:
            failures += 1
            spent.retries += 1
            if failures >= FAILURES:
                raise
            again = f"That is not possible ({error}). Reply with one JSON object that calls one tool."
            messages.append({"role": "user", "content": again})
            continue
        failures = 0
        yield _tool_call(name, spent.iterations, dict(arguments), stats, at)
        call = repr((name, sorted(arguments.items(), key=str)))
        nudge = ""
        if call == last:
            spent.nudges += 1
            nudge = "\nYou have just done that. Do something else, or return the results."
        last = call
        messages.append({"role": "assistant", "content": f"I called {name}."})
        messages.append({"role": "user", "content": f"It returned:\n{marks.wrap(seen)}{nudge}"})
    spent.is_over = True


def _read_call(given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    name, arguments = given.get("tool"), given.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise _Refused("the language model called no tool")
    if name != "return_results_to_user" and name not in TOOLS:
        raise _Refused("the language model asked for a tool that does not exist")
    return name, arguments


def _call_search(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    query = arguments.get("query")
    if not isinstance(query, str) or not query.strip():
        raise _Refused("the language model searched for nothing")
    limit = arguments.get("limit", SEARCHED)
    most = min(max(limit, 1), SEARCHED) if type(limit) is int else SEARCHED
    plan = planning.plan_by_rules(query[:QUERY_CHARS], tools.facts)
    stats, carried = tools.search(plan, limit=most, filter=prompts.read_filter(arguments.get("filter")))
    return stats, [prompts.show_hit(hit) for hit in carried.found.hits]


def _call_read(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    return tools.read(_ids(arguments))


def _call_count(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    stats = tools.count(prompts.read_filter(arguments.get("filter")))
    return stats, stats


def _navigation(name: str) -> Callable[[Tools, Mapping[str, Any]], tuple[dict[str, Any], Any]]:
    def call(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        entity_id = arguments.get("entity_id")
        if not isinstance(entity_id, str):
            raise _Refused("the language model named no entity")
        stats, items = tools.navigate(name, _CHUNK.sub("", entity_id))
        return stats, [_item(item) for item in items]

    return call


def _call_collect(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    stats = tools.collect(_ids(arguments))
    return stats, stats


def _call_drop(tools: Tools, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    stats = tools.drop(_ids(arguments))
    return stats, stats


def _call_review(tools: Tools, _: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    stats = tools.review()
    return stats, stats


TOOLS: Mapping[str, Callable[[Tools, Mapping[str, Any]], tuple[dict[str, Any], Any]]] = {
    "search": _call_search,
    "read": _call_read,
    "count": _call_count,
    "get_children": _navigation("get_children"),
    "get_siblings": _navigation("get_siblings"),
    "get_parent": _navigation("get_parent"),
    "add_to_results": _call_collect,
    "remove_from_results": _call_drop,
    "review_results": _call_review,
}


def _ids(arguments: Mapping[str, Any]) -> list[str]:
    found = arguments.get("entity_ids")
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise _Refused("the language model named no entities")
    return [_CHUNK.sub("", one) for one in found[:MOST_IDS]]


def _order(chosen: Sequence[Hit], others: Sequence[Hit]) -> list[Hit]:
    """The chosen hits, then the others that are relevant. No score is below that of a later hit."""
    met = {(hit.connection_id, hit.entity_id) for hit in chosen}
    rest = [hit for hit in others if (hit.connection_id, hit.entity_id) not in met and hit.score >= ranking.RELEVANT]
    hits = [*chosen, *rest]
    most = 0.0
    for n in range(len(hits) - 1, -1, -1):
        most = max(most, hits[n].score)
        hits[n] = replace(hits[n], score=most)
    return hits


def _tool_call(name: str, iteration: int, arguments: Mapping[str, Any], stats: Mapping[str, Any], at: float) -> Event:
    diagnostics = {
        "iteration": iteration,
        "tool_call_id": f"{name}-{iteration}",
        "arguments": dict(arguments),
        "stats": dict(stats),
    }
    return Event("tool_call", {"tool_name": name, "duration_ms": _ms(at), "diagnostics": diagnostics})


def _thinking(text: str | None, spent: _Spent, at: float) -> Event:
    diagnostics = {
        "iteration": spent.iterations,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
    }
    return Event("thinking", {"thinking": None, "text": text, "duration_ms": _ms(at), "diagnostics": diagnostics})


def _plan_arguments(plan: Plan) -> dict[str, Any]:
    return {"query": plan.phrasings[0], "phrasings": list(plan.phrasings), "prefer": _dump(plan.filter)}


def _dump(filter: Sequence[FilterGroup]) -> list[dict[str, Any]]:
    return [group.model_dump(mode="json") for group in filter]


def _item(item: Item) -> dict[str, Any]:
    return {
        "entity_id": item.entity_id,
        "name": item.name,
        "entity_type": item.type,
        "source_name": item.source_name,
        "relevance_score": None,
    }


def _hit_item(hit: Hit) -> dict[str, Any]:
    return {
        "entity_id": hit.entity_id,
        "name": hit.name,
        "entity_type": hit.type,
        "source_name": hit.source_name,
        "relevance_score": hit.score,
    }


def _ms(since: float) -> int:
    return round((time.monotonic() - since) * 1_000)
