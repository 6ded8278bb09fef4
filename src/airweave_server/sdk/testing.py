"""The standard tests of a connector, which its own test class inherits.

class TestGitHub(SourceSuite):
    vendor = FakeGitHub()  # a Vendor; it is started and stopped around each test
    secrets = ("ghp_canary",)

    def source(self):
        return GitHub(Config(url=self.vendor.url), BearerCredentials(access_token="ghp_canary"), self.vendor.context())
"""

import io
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel

from .entity import Deleted, Entity, Seen, Skipped
from .errors import SourceError, Stopped, Unreadable
from .http import Http
from .source import Partition, Source, Traits
from .vendor import KINDS, Fault, Vendor

CURSORS = 40  # tested per partition, spread evenly
STOPS_IN_S = 5.0
FIRST, LAST = 3, 2  # faults are played at this many first and last requests of a read
SHOWN = 5  # ids in a message
REREADS = 3  # of a partition by a job, if the source says that it changed
PATIENCE = 3, 50  # a read may send 3 times as many requests as one without a fault, plus 50


class SourceSuite:
    """Return in ``source`` a source that reads at least a few dozen entities, and inherit the tests.

    If there is a ``vendor``, create the source with ``vendor.context()``. Every fault of vendors is then played at the
    first and the last requests of a read, which must raise or still find every entity.
    """

    vendor: Vendor | None = None
    secrets: ClassVar[Sequence[str]] = ()  # that the config or credentials of ``source()`` hold
    at_least: ClassVar[int] = 24  # entities that a read must find

    def setup_method(self) -> None:
        if self.vendor is not None:
            self.vendor.play()
            self.vendor.start()

    def teardown_method(self) -> None:
        if self.vendor is not None:
            self.vendor.stop()

    def source(self) -> Source[Any, Any]:
        """Return a new source that reads the prepared data."""
        raise NotImplementedError

    def requests_failed_in_turn(self) -> Iterator[Source[Any, Any]]:
        """Yield sources over the same data: the first request fails in the first, the second in the second, and so on.

        For a source that sends requests but has no ``vendor``. Yields nothing by default.
        """
        return iter(())

    def test_all_is_read_with_ids_that_are_unique_and_stable(self) -> None:
        first, second = self._all(), self._all()
        ids = [entity.id for entity in first]
        assert len(ids) >= self.at_least, f"the source must read {self.at_least} entities; it read {len(ids)}"
        assert len(ids) == len(set(ids)), f"some ids are not unique: {sorted(id for id in ids if ids.count(id) > 1)}"
        assert ids == [entity.id for entity in second], "a second read returned other ids, or another order"
        versions = [
            (one.version, other.version)
            for one, other in zip(first, second, strict=True)
            if one.version is not None and other.version is not None
        ]
        assert all(one == other for one, other in versions), "nothing changed, but versions did"

    def test_entities_are_fit_to_be_stored(self) -> None:
        for entity in self._all():
            assert isinstance(entity.id, str), f"the id {entity.id!r} is not a string"
            assert entity.id.strip(), "an id is empty"
            for text in (entity.id, entity.name, entity.type, entity.version or ""):
                assert "\0" not in text, f"{text!r} holds a NUL character"
                text.encode()  # fails for lone surrogates
            json.dumps(dict(entity.fields), allow_nan=False)
            assert entity.text is None or entity.open is None, f"{entity.id} has both text and open: set only one"

    def test_content_can_be_opened(self) -> None:
        with closing(self.source()) as source:
            for entity in _entities(source)[: self.at_least]:
                if entity.open is not None:
                    with closing(entity.open()) as content:
                        data = content.read(io.DEFAULT_BUFFER_SIZE)
                        assert isinstance(data, bytes), f"{entity.id} opens in text mode: open must return bytes"

    def test_partitions_have_keys_that_are_unique_and_stable(self) -> None:
        with closing(self.source()) as source:
            partitions = list(source.partitions())
            again = list(source.partitions())
        keys = [partition.key for partition in partitions]
        assert keys, "a source has at least one partition"
        assert len(keys) == len(set(keys)), f"some keys are not unique: {keys}"
        assert keys == [partition.key for partition in again], "a second listing returned other keys"
        for partition in partitions:
            assert json.loads(json.dumps(dict(partition.data))) == dict(partition.data), "data does not survive JSON"

    def test_reading_goes_on_from_every_cursor_and_loses_nothing(self) -> None:
        with closing(self.source()) as source:
            for partition in list(source.partitions()):
                before: set[Any] = set()
                stops: list[tuple[BaseModel, set[Any]]] = []
                for item in source.read(partition, None):
                    if isinstance(item, BaseModel):
                        stops.append((item, set(before)))
                    else:
                        before.add(_key(item))
                for cursor, met in stops[:: max(1, len(stops) // CURSORS)]:
                    stored = type(source).cursor_model.model_validate_json(cursor.model_dump_json())
                    assert stored == cursor, f"the cursor {cursor!r} does not survive JSON"
                    with closing(self.source()) as other:
                        rest = {_key(item) for item in _items(other, _stored(partition), stored)}
                    lost = before - met - rest
                    assert not lost, f"partition {partition.key!r}, read from {cursor!r}, loses {sorted(lost)[:5]}"

    def test_a_partition_that_rests_is_not_read_again_and_again(self) -> None:
        with closing(self.source()) as source:
            for partition in list(source.partitions()):
                for _ in range(1 + REREADS):
                    cursors = [item for item in source.read(partition, None) if isinstance(item, BaseModel)]
                    stored = cursors[-1].model_dump_json() if cursors else None
                    cursor = type(source).cursor_model.model_validate_json(stored) if stored is not None else None
                    with closing(self.source()) as other:
                        if not other.changed_since(_stored(partition), cursor):
                            break
                else:
                    raise AssertionError(f"nothing changed, but partition {partition.key!r} did: see changed_since")

    def test_a_request_that_fails_is_tried_again_or_raised_but_never_passed_over(self) -> None:
        expected = {entity.id for entity in self._all()}
        for number, source in enumerate(self.requests_failed_in_turn(), 1):
            with closing(source):
                try:
                    found = {entity.id for entity in _entities(source)}
                except SourceError as error:
                    self._assert_no_secrets("".join(traceback.format_exception(error)))
                    continue
            missing = expected - found
            assert not missing, f"request {number} failed; the read ended as if all were well, without {missing}"

    def test_no_fault_of_the_vendor_ends_a_read_as_if_all_were_well(self) -> None:
        if self.vendor is None:
            plays_its_own = type(self).requests_failed_in_turn is not SourceSuite.requests_failed_in_turn
            with closing(self.source()) as source:
                _entities(source)
                asks = any(isinstance(value, Http) for value in vars(source).values())
            assert plays_its_own or not asks, "the source sends HTTP requests: give the suite a vendor that can fail"
            return
        self.vendor.play()
        with closing(self.source()) as source:
            assert source.context.patience, "create the source with vendor.context(): otherwise a hang takes minutes"
            try:
                whole = _Read.of(source)
            finally:
                assert not self.vendor.broken, f"the answer() of this vendor raised {self.vendor.broken[0]!r}"
        asked = [str(request) for request in self.vendor.log]
        assert asked, "the source sent no request to the vendor: it must read vendor.url"
        wrong: dict[str, str] = {}  # by kind of fault, the first place where the source handles it wrongly
        count = 0
        for fault in _faults(len(asked)):
            flaw = self._find_flaw(fault, whole, len(asked))
            if flaw is not None:
                where = f"request {fault.at} of {len(asked)} ({asked[fault.at - 1]})"
                wrong.setdefault(fault.kind, f"{where} is answered by {fault}: {flaw}")
                count += 1
        more = f"\n… and {count - len(wrong)} more of the same kinds at other places" if count > len(wrong) else ""
        assert not wrong, "\n".join(wrong.values()) + more

    def _find_flaw(self, fault: Fault, whole: "_Read", requests: int) -> str | None:
        """What a read does wrong when it meets the fault; None if nothing."""
        assert self.vendor is not None
        times, besides = PATIENCE
        self.vendor.play(fault)
        with closing(self.source()) as source:
            self.vendor.play(fault, limit=times * requests + besides, on_limit=source.context.stop.set)
            try:
                found = _Read.of(source)
            except Exception as error:
                self._assert_no_secrets("".join(traceback.format_exception(error)))
                if self.vendor.is_over_limit:
                    return f"the read does not end; it was stopped after {self.vendor.requests} requests"
                if isinstance(error, SourceError):
                    return None
                return f"the read raises {type(error).__name__}, which is not a SourceError: {error}"
        return found.find_flaw(whole, fault)

    def test_traits_are_answered_for_a_configuration(self) -> None:
        with closing(self.source()) as source:
            traits = type(source).traits(source.config)
        assert isinstance(traits, Traits)
        assert traits.max_parallel >= 1
        assert traits.tells_changes or not traits.tells_deletes, "tells_deletes requires tells_changes"

    def test_stops_soon_when_it_is_told_to(self) -> None:
        with closing(self.source()) as source:
            partition = next(iter(source.partitions()))
            with closing(_Closable(source.read(partition, None))) as items:
                next(items, None)
                source.context.stop.set()
                told_at = time.monotonic()
                try:
                    for _ in items:
                        pass
                except Stopped:
                    pass
                took_s = time.monotonic() - told_at
        assert took_s < STOPS_IN_S, f"the read went on for {took_s:.1f} s after it was told to stop"

    def test_secrets_are_never_shown(self, caplog: Any) -> None:
        with caplog.at_level("DEBUG"), closing(self.source()) as source:
            shown = [repr(source), repr(source.config), repr(source.credentials), repr(vars(source))]
            shown += [repr(partition) for partition in source.partitions()]
            shown += [repr(item) for partition in source.partitions() for item in source.read(partition, None)]
        self._assert_no_secrets("\n".join((*shown, caplog.text)))

    def _assert_no_secrets(self, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text, "a secret of the configuration or the credentials is shown"

    def _all(self) -> list[Entity]:
        with closing(self.source()) as source:
            return _entities(source)


@dataclass
class _Read:
    """The result of a complete read, contents included."""

    there: dict[str, Entity | Seen | Skipped] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # the reason by id
    subtrees: list[str] = field(default_factory=list)  # ids that were skipped with everything below them

    @classmethod
    def of(cls, source: Source[Any, Any]) -> "_Read":
        found = cls()
        for partition in source.partitions():
            for item in _items(source, partition, None):
                if isinstance(item, Deleted):
                    found.there.pop(item.id, None)
                    continue
                found.there[item.id] = item
                if isinstance(item, Skipped):
                    found.skipped[item.id] = item.reason
                    found.subtrees += [item.id] if item.subtree else []
                elif isinstance(item, Entity) and item.open is not None:
                    try:
                        with closing(item.open()) as content:
                            content.read()
                    except Unreadable as error:
                        found.skipped[item.id] = str(error)
        return found

    def find_flaw(self, whole: "_Read", fault: Fault) -> str | None:
        """What is wrong with this read, which met a fault and ended without an error; None if nothing."""
        missing = [id for id, item in whole.there.items() if id not in self.there and not self._covers(item)]
        if missing:
            return (
                f"the read ends as if all were well, and a job would delete {len(missing)} of {len(whole.there)} "
                f"entities: {_some(missing)}"
            )
        skipped = [id for id in self.skipped if id not in whole.skipped]
        if fault.kind == "401" and skipped:
            return f"the credentials are refused, but the read skips {_some(skipped)} instead of raising AuthError"
        hollow = [
            id
            for id, item in whole.there.items()
            if isinstance(item, Entity)
            and item.text
            and isinstance(now := self.there.get(id), Entity)
            and not now.text
            and now.open is None
        ]
        if hollow:
            return f"the read yields entities without their text: {_some(hollow)}"
        return None

    def _covers(self, item: Entity | Seen | Skipped) -> bool:
        """Whether the entity is below an id that was skipped with everything below it."""
        above = {crumb.entity_id for crumb in item.breadcrumbs} if isinstance(item, Entity) else set()
        return any(item.id.startswith(f"{id}/") or id in above for id in self.subtrees)


def _faults(requests: int) -> Iterator[Fault]:
    """The faults to play in a read of this many requests."""
    places = sorted({place for place in range(1, requests + 1) if place <= FIRST or place > requests - LAST})
    for at in places:
        for kind in KINDS:
            if kind != "a hang":
                yield Fault(kind, at)
            if kind != "an empty page":
                yield Fault(kind, at, lasts=True)


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")


class _Closable:
    """An iterator that can be closed, whether or not it is a generator."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __iter__(self) -> "_Closable":
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        if hasattr(self._items, "close"):
            self._items.close()


def _entities(source: Source[Any, Any]) -> list[Entity]:
    return [
        item for partition in source.partitions() for item in source.read(partition, None) if isinstance(item, Entity)
    ]


def _items(source: Source[Any, Any], partition: Partition, cursor: Any) -> Iterable[Any]:
    return (item for item in source.read(partition, cursor) if not isinstance(item, BaseModel))


def _stored(partition: Partition) -> Partition:
    """The partition as the engine passes it back."""
    return Partition(partition.key, partition.scope, json.loads(json.dumps(dict(partition.data))))


def _key(item: Entity | Seen | Deleted | Skipped) -> tuple[str, str]:
    return ("deleted" if isinstance(item, Deleted) else "there", item.id)
