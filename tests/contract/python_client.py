"""Calls every method of the public Python SDK, synchronous or asynchronous, on a running server.

Runs in the SDK's own environment, so it imports nothing else. Standard input is a JSON object: ``url``, ``key``,
``folder`` (an empty folder that the server may read), ``receiver`` (a URL that accepts webhooks) and ``is_async``.
Standard output is a JSON object: ``methods`` (all that the SDK has), ``calls`` (by method: its requests, and the error
of the first call that went wrong), ``missing`` (fields of its models that an answer lacked), ``seen`` and ``unseen``
(the models that answers had, and those that no answer had).
"""

import asyncio
import inspect
import json
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import airweave
import httpx
import pydantic
from airweave import AirweaveSDK, AsyncAirweaveSDK

PATIENCE_S = 90.0
POLL_S = 0.1
GROUPS = ("sources", "collections", "collections.search", "source_connections", "webhooks")
# One model of the SDK stands for two things: what a connection holds, and an entity in an event of an agentic search.
SHARED = {"EntitySummary": [{"total_entities", "by_type"}, {"entity_id", "name", "entity_type", "source_name"}]}


def find_methods(client: Any) -> dict[str, Callable[..., Any]]:
    found = {}
    for group in GROUPS:
        target = client
        for part in group.split("."):
            target = getattr(target, part)
        for name, method in inspect.getmembers(target, callable):
            if not name.startswith("_") and inspect.isroutine(method):
                found[f"{group}.{name}"] = method
    return found


def models_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    """The models that a type mentions, and those that they mention."""
    waiting, known = [annotation], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, pydantic.BaseModel):
            if one not in known:
                known.add(one)
                yield one
                waiting.extend(field.annotation for field in one.model_fields.values())
        elif not isinstance(one, types.GenericAlias) or typing.get_args(one):
            waiting.extend(typing.get_args(one))


class Caller:
    """Calls methods, and keeps what became of each."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.sent: list[str] = []
        self.loop = asyncio.new_event_loop() if given["is_async"] else None
        hooks: dict[str, list[Any]]
        if self.loop is not None:

            async def note(request: httpx.Request) -> None:
                self.sent.append(f"{request.method} {request.url.path}")

            hooks = {"request": [note]}
            http: Any = httpx.AsyncClient(event_hooks=hooks, timeout=60)
            self.client: Any = AsyncAirweaveSDK(api_key=given["key"], base_url=given["url"], httpx_client=http)
        else:
            hooks = {"request": [lambda request: self.sent.append(f"{request.method} {request.url.path}")]}
            http = httpx.Client(event_hooks=hooks, timeout=60)
            self.client = AirweaveSDK(api_key=given["key"], base_url=given["url"], httpx_client=http)
        self.methods = find_methods(self.client)
        self.calls: dict[str, dict[str, Any]] = {}
        self.missing: dict[str, set[str]] = {}
        self.seen: set[str] = set()

    def call(self, name: str, /, *given: Any, **more: Any) -> Any:
        """Call a method; None if it failed."""
        kept = self.calls.setdefault(name, {"requests": [], "error": None})
        self.sent.clear()
        try:
            answer = self._run(self.methods[name](*given, **more))
            self._look_at(answer)
            return answer
        except Exception as error:  # whatever the client raises is the result
            kept["error"] = kept["error"] or f"{type(error).__name__}: {error}"[:500]
            return None
        finally:
            kept["requests"] = sorted({*kept["requests"], *self.sent})

    @contextmanager
    def refused(self, kind: type[Exception], status: int) -> Iterator[Callable[..., None]]:
        """What the block calls must be refused with this error."""

        def call(name: str, /, *given: Any, **more: Any) -> None:
            try:
                self._run(self.methods[name](*given, **more))
            except kind as error:
                if getattr(error, "status_code", None) == status:
                    return
                problem = f"{kind.__name__} of status {error.status_code}"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                problem = "no error"
            self.calls[name]["error"] = f"expected {kind.__name__} {status}, got {problem}"[:500]

        yield call

    def expect(self, name: str, is_met: bool, what: str) -> None:
        """Keep it as the error of this method if an expectation is not met."""
        if not is_met and self.calls[name]["error"] is None:
            self.calls[name]["error"] = f"not as expected: {what}"

    def until(self, look: Callable[[], Any], good: Callable[[Any], Any]) -> Any:
        ends = time.monotonic() + PATIENCE_S
        while not good(seen := look()):
            if time.monotonic() > ends:
                raise TimeoutError(f"the last answer: {seen}")
            time.sleep(POLL_S)
        return seen

    def _run(self, answer: Any) -> Any:
        if self.loop is None:
            return list(answer) if inspect.isgenerator(answer) else answer
        if inspect.isasyncgen(answer):

            async def collect() -> list[Any]:
                return [one async for one in answer]

            return self.loop.run_until_complete(collect())
        return self.loop.run_until_complete(answer)

    def _look_at(self, answer: Any) -> None:
        """Note each field that a model has and its JSON had not."""
        if isinstance(answer, pydantic.BaseModel):
            kind = type(answer).__name__
            self.seen.add(kind)
            fields, given = set(type(answer).model_fields), answer.model_fields_set
            for group in SHARED.get(kind, ()):
                if group & given:
                    fields = group
            if lacking := fields - given:
                self.missing.setdefault(kind, set()).update(lacking)
            for name in type(answer).model_fields:
                self._look_at(getattr(answer, name))
        elif isinstance(answer, dict):
            for value in answer.values():
                self._look_at(value)
        elif isinstance(answer, list | tuple):
            for value in answer:
                self._look_at(value)


def sources(on: Caller) -> None:
    listed = on.call("sources.list")
    on.expect("sources.list", {"folder", "stub"} <= {one.short_name for one in listed or ()}, "folder and stub")
    shown = on.call("sources.get", "stub")
    on.expect("sources.get", shown.auth_fields.fields[0].is_secret, "a secret")
    with on.refused(airweave.NotFoundError, 404) as call:
        call("sources.get", "no-such-source")


def collections(on: Caller) -> str:
    wanted = airweave.SyncConfig(
        destinations=airweave.DestinationConfig(skip_vespa=False),
        handlers=airweave.HandlerConfig(enable_vector_handlers=True),
        cursor=airweave.CursorConfig(skip_load=False),
        behavior=airweave.BehaviorConfig(skip_guardrails=True),
    )
    made = on.call("collections.create", name="Contract", sync_config=wanted)
    on.expect("collections.create", made.sync_config.behavior.skip_guardrails, "the sync_config")
    with on.refused(airweave.UnprocessableEntityError, 422) as call:
        call("collections.create", name="x")
    found = on.call("collections.list", search="contract", limit=1000)
    on.expect("collections.list", made.id in {one.id for one in found}, "the new collection")
    changed = on.call("collections.update", made.readable_id, name="Contract, changed")
    on.expect("collections.update", changed.name == "Contract, changed", "the new name")
    shown = on.call("collections.get", made.readable_id)
    on.expect("collections.get", shown.name == "Contract, changed", "the new name")
    with on.refused(airweave.NotFoundError, 404) as call:
        call("collections.get", "no-such-collection")
    return str(made.readable_id)


def subscribe(on: Caller, receiver: str) -> str:
    secret = "a secret that is long enough"
    made = on.call(
        "webhooks.create_subscription", url=receiver, event_types=["sync.completed", "sync.failed"], secret=secret
    )
    on.expect("webhooks.create_subscription", made.filter_types == ["sync.completed", "sync.failed"], "its types")
    listed = on.call("webhooks.get_subscriptions")
    on.expect("webhooks.get_subscriptions", made.id in {one.id for one in listed}, "the new subscription")
    changed = on.call("webhooks.patch_subscription", made.id, event_types=["sync.completed"])
    on.expect("webhooks.patch_subscription", changed.filter_types == ["sync.completed"], "its types")
    return str(made.id)


def connect(on: Caller, collection: str, folder: Path) -> str:
    (folder / "sub").mkdir()
    (folder / "sub" / "apples.md").write_text("# Apples\n\nThe orchard grows apples near the river.")
    (folder / "pears.txt").write_text("Pears are stored in the cellar until winter.")
    made = on.call(
        "source_connections.create",
        short_name="folder",
        readable_collection_id=collection,
        name="Orchard",
        config={"path": str(folder)},
        schedule=airweave.ScheduleConfig(cron="0 3 * * *"),
        sync_immediately=False,
    )
    on.expect("source_connections.create", made.schedule.cron == "0 3 * * *", "its schedule")
    with on.refused(airweave.UnprocessableEntityError, 422) as call:
        call("source_connections.create", short_name="folder", readable_collection_id=collection, config={})
    changed = on.call("source_connections.update", made.id, description="fruit")
    on.expect("source_connections.update", changed.description == "fruit", "its description")
    listed = on.call("source_connections.list", collection=collection)
    on.expect("source_connections.list", [one.id for one in listed] == [made.id], "one connection")
    return str(made.id)


def sync(on: Caller, connection: str) -> None:
    job = on.call("source_connections.run", connection)
    on.expect("source_connections.run", job.status == "pending", "a pending job")
    jobs = on.until(
        lambda: on.call("source_connections.get_source_connection_jobs", connection, limit=5),
        lambda found: found[0].status in ("completed", "failed"),
    )
    met = (len(jobs), jobs[0].status, jobs[0].entities_inserted) == (1, "completed", 2)
    on.expect("source_connections.get_source_connection_jobs", met, "one job that inserted two entities")
    shown = on.call("source_connections.get", connection)
    on.expect("source_connections.get", shown.entities.total_entities == 2, "two entities")
    on.expect("source_connections.get", shown.sync.last_job.id == job.id, "its last job")


def cancel(on: Caller, collection: str) -> None:
    slow = on.call(
        "source_connections.create",
        short_name="stub",
        readable_collection_id=collection,
        config={"entity_count": 1000, "generation_delay_ms": 100},
        authentication=airweave.DirectAuthentication(credentials={"stub_key": "k"}),
        schedule=airweave.ScheduleConfig(cron=None),
        sync_immediately=False,
    )
    job = on.call("source_connections.run", slow.id, force_full_sync=True)
    cancelled = on.call("source_connections.cancel_job", slow.id, job.id)
    on.expect("source_connections.cancel_job", cancelled.status in ("cancelling", "cancelled"), "a cancelled job")
    on.until(
        lambda: on.call("source_connections.get_source_connection_jobs", slow.id),
        lambda found: found[0].status == "cancelled",
    )
    few = on.call("source_connections.update", slow.id, config={"entity_count": 5})
    job = on.call("source_connections.run", few.id)
    on.until(
        lambda: on.call("source_connections.get_source_connection_jobs", few.id),
        lambda found: found[0].status == "completed",
    )


def search(on: Caller, collection: str) -> None:
    condition = airweave.FilterCondition(field="name", operator="contains", value="pears")
    groups = [airweave.FilterGroup(conditions=[condition])]
    for tier in ("instant", "classic", "agentic"):
        name = f"collections.search.{tier}"
        paged = {} if tier == "agentic" else {"offset": 0}
        found = on.call(name, collection, query="where are pears stored?", filter=groups, limit=3, **paged)
        names = [hit.name for hit in found.results or ()] if found is not None else []
        on.expect(name, names == ["pears.txt"], f"pears.txt, found {names}")
        with on.refused(airweave.UnprocessableEntityError, 422) as call:
            call(name, collection, query=" ")
    on.call("collections.search.instant", collection, query="stub container", retrieval_strategy="semantic")
    name = "collections.search.stream_agentic"
    events = on.call(name, collection, query="where are pears stored?", limit=3)
    # the SDK promises an iterator of iterators, and yields events
    kinds = [event.type for event in events] if events else []
    on.expect(name, bool(kinds) and (kinds[0], kinds[-1]) == ("started", "done"), f"from started to done, got {kinds}")


def deliveries(on: Caller, subscription: str) -> None:
    detail = on.until(
        lambda: on.call("webhooks.get_subscription", subscription, include_secret=True),
        lambda seen: seen.delivery_attempts,
    )
    on.expect("webhooks.get_subscription", str(detail.secret).startswith("whsec_"), "its secret")
    on.expect("webhooks.get_subscription", detail.delivery_attempts[0].status == "success", "a success")
    messages = on.call("webhooks.get_messages", event_types=["sync.completed"])
    on.expect("webhooks.get_messages", {one.event_type for one in messages} == {"sync.completed"}, "one type")
    sent = detail.delivery_attempts[0].message_id
    message = on.call("webhooks.get_message", sent, include_attempts=True)
    on.expect("webhooks.get_message", bool(message.delivery_attempts), "its attempts")
    with on.refused(airweave.NotFoundError, 404) as call:
        call("webhooks.get_message", str(uuid4()))
    since = datetime.now(UTC) - timedelta(hours=1)
    task = on.call("webhooks.recover_failed_messages", subscription, since=since)
    on.expect("webhooks.recover_failed_messages", task.status in ("running", "completed"), "a task")
    gone = on.call("webhooks.delete_subscription", subscription)
    on.expect("webhooks.delete_subscription", gone.id == subscription, "what was deleted")


def remove(on: Caller, collection: str, connection: str) -> None:
    gone = on.call("source_connections.delete", connection)
    on.expect("source_connections.delete", gone.id == connection, "what was deleted")
    with on.refused(airweave.NotFoundError, 404) as call:
        call("source_connections.get", connection)
    gone = on.call("collections.delete", collection)
    on.expect("collections.delete", gone.readable_id == collection, "what was deleted")


def main() -> None:
    given = json.load(sys.stdin)
    on = Caller(given)
    stopped = None
    try:
        sources(on)
        collection = collections(on)
        subscription = subscribe(on, given["receiver"])
        connection = connect(on, collection, Path(given["folder"]))
        sync(on, connection)
        cancel(on, collection)
        search(on, collection)
        deliveries(on, subscription)
        on.call("collections.list", limit=1000)  # with the summaries of connections
        remove(on, collection, connection)
    except Exception as error:  # what was not reached then shows as not called
        stopped = f"{type(error).__name__}: {error}"[:500]
    expected: dict[str, set[str]] = {}
    for name, method in on.methods.items():
        for model in models_in(typing.get_type_hints(method)["return"]):
            expected.setdefault(model.__name__, set()).add(name)
    result = {
        "methods": sorted(on.methods),
        "calls": on.calls,
        "stopped": stopped,
        "missing": {kind: sorted(names) for kind, names in sorted(on.missing.items())},
        "seen": sorted(on.seen),
        "unseen": {kind: sorted(names) for kind, names in sorted(expected.items()) if kind not in on.seen},
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
