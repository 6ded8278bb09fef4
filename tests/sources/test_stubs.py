"""The public test sources: same configuration, same entities; and errors of every kind."""

import threading
import time
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from airweave_server.sdk import (
    AuthError,
    ConfigError,
    Context,
    Entity,
    Partition,
    RateLimited,
    SignInExpired,
    Source,
    Stopped,
    Unavailable,
    Unreadable,
)
from airweave_server.sdk.testing import SourceSuite
from airweave_server.sources.stubs import (
    ExceptionStub,
    ExceptionStubConfig,
    IncrementalStub,
    IncrementalStubConfig,
    IncrementalStubCursor,
    Stub,
    StubConfig,
    StubCredentials,
    StubCursor,
    Timed,
    TimedConfig,
    TimedCredentials,
)

CANARY = "canary-stub-key"
WHOLE = Partition(key="")


def entities(source: Source[Any, Any], cursor: Any = None) -> list[Entity]:
    return [item for item in source.read(WHOLE, cursor) if isinstance(item, Entity)]


def until_it_fails(source: Source[Any, Any], cursor: Any = None) -> tuple[list[Any], Exception]:
    """What a read yields, and the error that it ends with."""
    found: list[Any] = []
    with pytest.raises(Exception, match=r".+") as caught:
        found.extend(iter(source.read(WHOLE, cursor)))
    return found, caught.value


class TestStubSuite(SourceSuite):
    secrets = (CANARY,)

    def source(self) -> Stub:
        return Stub(StubConfig(entity_count=60), StubCredentials(stub_key=SecretStr(CANARY)))


class TestTimedSuite(SourceSuite):
    secrets = (CANARY,)

    def source(self) -> Timed:
        config = TimedConfig(entity_count=24, duration_seconds=0.1)
        return Timed(config, TimedCredentials(timed_key=SecretStr(CANARY)))


class TestIncrementalStubSuite(SourceSuite):
    def source(self) -> IncrementalStub:
        return IncrementalStub(IncrementalStubConfig(entity_count=30), StubCredentials())


class TestExceptionStubSuite(SourceSuite):
    def source(self) -> ExceptionStub:
        return ExceptionStub(ExceptionStubConfig(entity_count=30, trigger_after=30), StubCredentials())


@pytest.mark.parametrize(
    ("model", "config"),
    [
        *((StubConfig, {"entity_count": count}) for count in (0, 100_001)),
        *((StubConfig, {"generation_delay_ms": delay}) for delay in (-1, 10_001)),
        *((StubConfig, {"code_file_weight": weight}) for weight in (-1, 101)),
        *((StubConfig, {"fail_after": after}) for after in (-2, 100_001)),
        *((TimedConfig, {"entity_count": count}) for count in (0, 10_001)),
        *((TimedConfig, {"duration_seconds": seconds}) for seconds in (0.05, 601, float("nan"))),
        *((IncrementalStubConfig, {"entity_count": count}) for count in (0, 100_001)),
        *((ExceptionStubConfig, {"entity_count": count}) for count in (0, 1_001)),
        (ExceptionStubConfig, {"trigger_after": -2}),
        (ExceptionStubConfig, {"exception_type": "surprise"}),
    ],
)
def test_what_is_out_of_range_is_refused(model: type[StubConfig], config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**config)


def test_unknown_fields_are_tolerated_and_defaults_are_the_public_ones() -> None:
    assert StubConfig.model_validate({"no_such_field": 1}).entity_count == 10
    assert (TimedConfig().entity_count, TimedConfig().duration_seconds) == (100, 10)
    assert IncrementalStubConfig().entity_count == 5
    assert (ExceptionStubConfig().entity_count, ExceptionStubConfig().trigger_after) == (10, 5)
    assert StubCredentials().stub_key.get_secret_value() == "stub"
    assert TimedCredentials().timed_key.get_secret_value() == "timed"
    for source in (Stub, Timed, IncrementalStub, ExceptionStub):
        assert source.internal


def test_a_stub_yields_its_container_and_the_rest_by_weight() -> None:
    found = entities(Stub(StubConfig(entity_count=300, seed=7)))
    assert len(found) == 300
    container, *rest = found
    assert (container.id, container.name) == ("stub-container-7", "Stub Container (seed=7)")
    assert container.created_at is not None
    assert container.created_at.date().isoformat() == "2024-01-01"
    assert {entity.type for entity in found} == set(Stub.entity_types)
    assert all(entity.breadcrumbs[0].entity_id == container.id for entity in rest)
    assert [entity.id.rsplit("-", 2)[1:] for entity in rest] == [["7", str(index)] for index in range(299)]
    only = StubConfig(entity_count=50, **{f"{kind}_weight": 0 for kind in WEIGHTS - {"large_entity"}})
    assert {entity.type for entity in entities(Stub(only))[1:]} == {"LargeStubEntity"}
    none = StubConfig(entity_count=300, **{f"{kind}_weight": 0 for kind in WEIGHTS})
    assert len({entity.type for entity in entities(Stub(none))[1:]}) == 6


WEIGHTS = {"small_entity", "medium_entity", "large_entity", "small_file", "large_file", "code_file"}


def test_sizes_are_those_of_their_kind() -> None:
    sizes: dict[str, list[int]] = {}
    for entity in entities(Stub(StubConfig(entity_count=400)))[1:]:
        content = entity.open().read().decode() if entity.open else str(entity.fields.get("content", entity.text))
        sizes.setdefault(entity.type, []).append(len(content))
    for kind, least, most in (
        ("SmallStubEntity", 80, 320),
        ("MediumStubEntity", 500, 1_500),
        ("LargeStubEntity", 2_900, 6_000),
        ("LargeStubFileEntity", 2_900, 6_000),
        ("CodeStubFileEntity", 300, 3_000),
    ):
        assert least <= min(sizes[kind]) <= max(sizes[kind]) <= most, (kind, min(sizes[kind]), max(sizes[kind]))


def test_the_same_seed_gives_the_same_and_any_change_another_version() -> None:
    def versions(**config: Any) -> dict[str, str | None]:
        return {entity.id: entity.version for entity in entities(Stub(StubConfig(entity_count=40, **config)))}

    assert versions() == versions()
    for config in ({"custom_content_prefix": "hello"}, {"inject_special_tokens": True}):
        other = versions(**config)
        changed = [id for id, version in versions().items() if other[id] != version]
        assert len(changed) == 39, "all but the container"
    assert not versions().keys() & versions(seed=1).keys()


def test_special_tokens_and_a_prefix_are_in_the_content() -> None:
    config = StubConfig(entity_count=10, inject_special_tokens=True, custom_content_prefix="PREFIX")
    for entity in entities(Stub(config))[1:]:
        content = entity.open().read().decode() if entity.open else entity.text or ""
        assert "PREFIX" in content
        assert any(token in content for token in ("<|", "[INST]", "[/INST]", "<s>", "</s>"))


@pytest.mark.parametrize(("fail_after", "expected"), [(0, 1), (1, 1), (5, 5), (9, 9)])
def test_a_stub_fails_after_so_many_entities_at_every_attempt(fail_after: int, expected: int) -> None:
    source = Stub(StubConfig(entity_count=10, fail_after=fail_after))
    found, error = until_it_fails(source)
    assert isinstance(error, RuntimeError)
    assert sum(isinstance(item, Entity) for item in found) == expected + 1
    cursor = found[-1]
    assert isinstance(cursor, StubCursor)
    assert until_it_fails(source, cursor)[0] == []


def test_a_stub_that_is_to_fail_later_than_its_end_does_not() -> None:
    for fail_after in (-1, 10, 100):
        assert len(entities(Stub(StubConfig(entity_count=10, fail_after=fail_after)))) == 10


def test_timed_takes_its_time_and_goes_on_where_it_was() -> None:
    source = Timed(TimedConfig(entity_count=20, duration_seconds=0.6))
    began = time.monotonic()
    assert len(entities(source)) == 21
    assert 0.55 < time.monotonic() - began < 2
    began = time.monotonic()
    assert [entity.id for entity in entities(source, StubCursor(done=18))] == [f"timed-42-{n}" for n in (17, 18, 19)]
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    "source",
    [
        Timed(TimedConfig(entity_count=1, duration_seconds=600), context=Context()),
        Stub(StubConfig(entity_count=10, generation_delay_ms=10_000), context=Context()),
    ],
    ids=["timed", "stub"],
)
def test_a_stub_that_waits_stops_at_once(source: Source[Any, Any]) -> None:
    timer = threading.Timer(0.2, source.context.stop.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        entities(source)
    timer.join()
    assert time.monotonic() - began < 2


def test_an_incremental_stub_yields_its_container_and_what_is_new() -> None:
    first = list(IncrementalStub(IncrementalStubConfig(entity_count=5)).read(WHOLE, None))
    cursor = first[-1]
    assert cursor == IncrementalStubCursor(last_entity_index=4, entity_count=5)
    same = entities(IncrementalStub(IncrementalStubConfig(entity_count=5)), cursor)
    assert [(entity.id, entity.version) for entity in same] == [(first[0].id, first[0].version)]
    container, *new = entities(IncrementalStub(IncrementalStubConfig(entity_count=8)), cursor)
    assert container.id == "inc-stub-container-42"
    assert container.version != first[0].version
    assert "8" in (container.text or "")
    assert [entity.id for entity in new] == ["inc-stub-42-5", "inc-stub-42-6", "inc-stub-42-7"]
    assert IncrementalStub.tells_changes


@pytest.mark.parametrize(("trigger_after", "entities_before"), [(0, 0), (5, 5), (8, 8), (9, 9), (-1, 9)])
def test_an_exception_stub_fails_where_it_is_told_to(trigger_after: int, entities_before: int) -> None:
    found, error = until_it_fails(ExceptionStub(ExceptionStubConfig(trigger_after=trigger_after)))
    assert sum(isinstance(item, Entity) for item in found) == entities_before + 1
    assert str(error) == (
        f"[ExceptionStub] runtime_error triggered after {entities_before} entities (simulated failure)"
    )
    assert until_it_fails(ExceptionStub(ExceptionStubConfig(trigger_after=trigger_after)), found[-1])[0] == []


def test_an_exception_stub_that_is_to_fail_after_its_end_does_not() -> None:
    assert len(entities(ExceptionStub(ExceptionStubConfig(trigger_after=10)))) == 10


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("runtime_error", RuntimeError),
        ("source_auth_error", AuthError),
        ("source_token_refresh_error", SignInExpired),
        ("source_server_error", Unavailable),
        ("source_rate_limit_error", RateLimited),
        ("source_entity_not_found", Unreadable),
        ("source_entity_forbidden", Unreadable),
        ("token_expired", SignInExpired),
        ("token_credentials_invalid", AuthError),
        ("token_provider_config_error", ConfigError),
        ("token_provider_server_error", Unavailable),
        ("timeout", Unavailable),
        ("cancelled", RuntimeError),
    ],
)
def test_each_kind_of_error_becomes_one_of_ours(kind: Any, error: type[Exception]) -> None:
    config = ExceptionStubConfig(exception_type=kind, error_message="as told", fail_on_validate=True)
    assert type(until_it_fails(ExceptionStub(config))[1]) is error
    with pytest.raises(error, match="as told"):
        ExceptionStub(config).check()
    ExceptionStub(config.model_copy(update={"fail_on_validate": False})).check()
