"""What every connector must hold, as tests that its own test class inherits.

class TestGitHub(SourceSuite):
    secrets = ("ghp_canary",)

    @pytest.fixture(autouse=True)
    def _place(self, server):
        self.server = server

    def source(self):
        return GitHub(Config(url=self.server.url), Credentials(token="ghp_canary"), context)
"""

import io
import json
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, ClassVar

from pydantic import BaseModel

from .entity import Deleted, Entity, Seen, Skipped
from .errors import SourceError, Stopped
from .source import Partition, Source

CURSORS = 40  # that are read from, spread evenly, in each partition
STOPS_IN_S = 5.0


class SourceSuite:
    """Say in ``source`` where the data is and inherit the rest. The place holds a few dozen entities at least."""

    secrets: ClassVar[Sequence[str]] = ()  # that config or credentials of ``source()`` hold
    at_least: ClassVar[int] = 24  # entities that a read finds

    def source(self) -> Source[Any, Any]:
        """Return a fresh source that reads the prepared place."""
        raise NotImplementedError

    def requests_failed_in_turn(self) -> Iterator[Source[Any, Any]]:
        """Yield sources over the same place, the first of whose requests fails, then one whose second does, and so on.

        For what is read by requests; nothing by default.
        """
        return iter(())

    def test_all_is_read_with_ids_that_are_unique_and_stable(self) -> None:
        first, second = self._all(), self._all()
        ids = [entity.id for entity in first]
        assert len(ids) >= self.at_least, f"the place must hold {self.at_least} entities, {len(ids)} were read"
        assert len(ids) == len(set(ids)), f"some ids are not unique: {sorted(id for id in ids if ids.count(id) > 1)}"
        assert ids == [entity.id for entity in second], "a second read gave other ids, or another order"
        versions = [entity.version for entity in first]
        assert versions == [entity.version for entity in second], "nothing changed, but versions did"

    def test_entities_are_fit_to_be_stored(self) -> None:
        for entity in self._all():
            assert isinstance(entity.id, str), f"the id {entity.id!r} is no text"
            assert entity.id.strip(), "an id is empty"
            for text in (entity.id, entity.name, entity.type, entity.version or ""):
                assert "\0" not in text, f"{text!r} holds a NUL"
                text.encode()  # fails for lone surrogates
            json.dumps(dict(entity.fields), allow_nan=False)
            assert entity.text is None or entity.open is None, f"{entity.id} has text and content; one will do"

    def test_content_can_be_opened(self) -> None:
        for entity in self._all()[: self.at_least]:
            if entity.open is not None:
                with closing(entity.open()) as content:
                    assert isinstance(content.read(io.DEFAULT_BUFFER_SIZE), bytes), f"{entity.id} opens as text"

    def test_partitions_have_keys_that_are_unique_and_stable(self) -> None:
        with closing(self.source()) as source:
            partitions = list(source.partitions())
            again = list(source.partitions())
        keys = [partition.key for partition in partitions]
        assert keys, "a source has at least one partition"
        assert len(keys) == len(set(keys)), f"some keys are not unique: {keys}"
        assert keys == [partition.key for partition in again], "a second listing gave other keys"
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
                    assert not lost, f"partition {partition.key!r} read from {cursor!r} loses {sorted(lost)[:5]}"

    def test_a_request_that_fails_is_tried_again_or_raised_but_never_passed_over(self) -> None:
        expected = {entity.id for entity in self._all()}
        for number, source in enumerate(self.requests_failed_in_turn(), 1):
            with closing(source):
                try:
                    found = {entity.id for entity in _entities(source)}
                except SourceError as error:
                    self._must_not_tell("".join(traceback.format_exception(error)))
                    continue
            missing = expected - found
            assert not missing, f"request {number} failed; the read ended as if all were well, without {missing}"

    def test_stops_soon_when_it_is_told_to(self) -> None:
        with closing(self.source()) as source:
            partition = next(iter(source.partitions()))
            with closing(_Closable(source.read(partition, None))) as items:
                next(items, None)
                source.context.stop.set()
                told = time.monotonic()
                try:
                    for _ in items:
                        pass
                except Stopped:
                    pass
                took_s = time.monotonic() - told
        assert took_s < STOPS_IN_S, f"went on for {took_s:.1f} s after it was told to stop"

    def test_secrets_are_never_shown(self, caplog: Any) -> None:
        with caplog.at_level("DEBUG"), closing(self.source()) as source:
            shown = [repr(source), repr(source.config), repr(source.credentials), repr(vars(source))]
            shown += [repr(partition) for partition in source.partitions()]
            shown += [repr(item) for partition in source.partitions() for item in source.read(partition, None)]
        self._must_not_tell("\n".join((*shown, caplog.text)))

    def _must_not_tell(self, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text, "a secret of the configuration or the credentials is shown"

    def _all(self) -> list[Entity]:
        with closing(self.source()) as source:
            return _entities(source)


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
    """The partition as the engine gives it back."""
    return Partition(partition.key, partition.scope, json.loads(json.dumps(dict(partition.data))))


def _key(item: Entity | Seen | Deleted | Skipped) -> tuple[str, str]:
    return ("deleted" if isinstance(item, Deleted) else "there", item.id)
