"""The public test sources: entities generated from a seed, slowly, incrementally, or up to an error.

Names, configuration and entities are those of the public Airweave server, so that its tests run here too. The same
configuration always yields the same entities in the same versions. Each cursor is the number of entities yielded.
"""

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from airweave_server.sdk import (
    AuthError,
    Breadcrumb,
    ConfigError,
    Direct,
    Entity,
    Items,
    Partition,
    RateLimited,
    SignInExpired,
    Source,
    Unavailable,
    Unreadable,
)

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
RATE_LIMIT_S = 1.0  # that exception_stub asks to wait
LABELS = ("Internal", "Testing")

Weight = Annotated[int, Field(ge=0, le=100)]


class StubCredentials(BaseModel):
    """Any value is accepted."""

    stub_key: SecretStr = SecretStr("stub")


class TimedCredentials(BaseModel):
    """Any value is accepted."""

    timed_key: SecretStr = SecretStr("timed")


class StubConfig(BaseModel):
    """``entity_count`` includes the container. If all weights are zero, all kinds are equally likely."""

    entity_count: int = Field(default=10, ge=1, le=100_000)
    seed: int = 42
    generation_delay_ms: int = Field(default=0, ge=0, le=10_000)
    small_entity_weight: Weight = 30
    medium_entity_weight: Weight = 30
    large_entity_weight: Weight = 10
    small_file_weight: Weight = 15
    large_file_weight: Weight = 5
    code_file_weight: Weight = 10
    inject_special_tokens: bool = False
    custom_content_prefix: str | None = None
    fail_after: int = Field(default=-1, ge=-1, le=100_000, description="Fail after this many entities; -1: never.")


class TimedConfig(BaseModel):
    """``entity_count`` excludes the container."""

    entity_count: int = Field(default=100, ge=1, le=10_000)
    duration_seconds: float = Field(default=10.0, ge=0.1, le=600)
    seed: int = 42


class IncrementalStubConfig(BaseModel):
    """``entity_count`` excludes the container. Raise it, and the next sync finds the new entities."""

    entity_count: int = Field(default=5, ge=1, le=100_000)
    seed: int = 42


ExceptionType = Literal[
    "runtime_error",
    "source_auth_error",
    "source_token_refresh_error",
    "source_server_error",
    "source_rate_limit_error",
    "source_entity_not_found",
    "source_entity_forbidden",
    "token_expired",
    "token_credentials_invalid",
    "token_provider_config_error",
    "token_provider_server_error",
    "timeout",
    "cancelled",
]


class ExceptionStubConfig(BaseModel):
    """``entity_count`` includes the container, ``trigger_after`` does not; -1 means after the last entity."""

    entity_count: int = Field(default=10, ge=1, le=1_000)
    seed: int = 42
    exception_type: ExceptionType = "runtime_error"
    auth_provider_kind: str = "oauth"
    trigger_after: int = Field(default=5, ge=-1)
    error_message: str | None = None
    fail_on_validate: bool = False


class StubCursor(BaseModel):
    """``done``: number of entities yielded, including the container."""

    done: int


class IncrementalStubCursor(BaseModel):
    """``last_entity_index`` is -1 before the first entity."""

    last_entity_index: int
    entity_count: int


class Stub(Source[StubConfig, StubCursor]):
    """A container and entities of six kinds, chosen by weight. Fails after ``fail_after`` of them if that is set."""

    name: ClassVar[str] = "stub"
    title: ClassVar[str] = "Stub"
    description: ClassVar[str] = "Generated entities of all sizes, the same for the same seed."
    labels: ClassVar[tuple[str, ...]] = LABELS
    entity_types: ClassVar[tuple[str, ...]] = (
        "StubContainerEntity",
        "SmallStubEntity",
        "MediumStubEntity",
        "LargeStubEntity",
        "SmallStubFileEntity",
        "LargeStubFileEntity",
        "CodeStubFileEntity",
    )
    auth: ClassVar[Direct] = Direct(StubCredentials)
    internal: ClassVar[bool] = True

    def read(self, partition: Partition, cursor: StubCursor | None) -> Items[StubCursor]:
        """Yield the entities after the cursor. Raises ``RuntimeError`` after ``fail_after`` entities."""
        config = self.config
        container = _container("stub-container", "Stub Container", config.seed, config.entity_count)
        kinds: Mapping[str, tuple[int, Callable[..., Entity]]] = {
            "small": (config.small_entity_weight, _small),
            "medium": (config.medium_entity_weight, _medium),
            "large": (config.large_entity_weight, _large),
            "small-file": (config.small_file_weight, _small_file),
            "large-file": (config.large_file_weight, _large_file),
            "code-file": (config.code_file_weight, _code_file),
        }
        weights = [weight for weight, _ in kinds.values()]
        for done in range(cursor.done if cursor else 0, config.entity_count):
            self.context.check()
            if done == 0:
                yield container
            else:
                index = done - 1
                self._fail_after(index)
                if index and config.generation_delay_ms:
                    self.context.sleep(config.generation_delay_ms / 1_000)
                kind = random.Random(config.seed + index).choices(
                    list(kinds), weights if any(weights) else [1] * len(kinds)
                )[0]
                words = _Words(
                    f"{config.seed}/{index}/{kind}", config.custom_content_prefix, config.inject_special_tokens
                )
                yield _file_in(kinds[kind][1](f"{kind}-{config.seed}-{index}", index, words), container)
            yield StubCursor(done=done + 1)
        self._fail_after(config.entity_count - 1)

    def _fail_after(self, entities: int) -> None:
        if self.config.fail_after >= 0 and entities >= max(self.config.fail_after, 1):
            raise RuntimeError(f"stub: simulated failure after {entities} entities")


class Timed(Source[TimedConfig, StubCursor]):
    """A container and small entities, spread evenly over a given time, to test races of cancel and delete."""

    name: ClassVar[str] = "timed"
    title: ClassVar[str] = "Timed"
    description: ClassVar[str] = "Generated entities that take a given time."
    labels: ClassVar[tuple[str, ...]] = LABELS
    entity_types: ClassVar[tuple[str, ...]] = ("TimedContainerEntity", "TimedEntity")
    auth: ClassVar[Direct] = Direct(TimedCredentials)
    internal: ClassVar[bool] = True

    def read(self, partition: Partition, cursor: StubCursor | None) -> Items[StubCursor]:
        """Yield the entities after the cursor, waiting before each."""
        config = self.config
        container = _container("timed-container", "Timed Container", config.seed, config.entity_count)
        container = replace(container, type="TimedContainerEntity")
        for done in range(cursor.done if cursor else 0, config.entity_count + 1):
            if done == 0:
                self.context.check()
                yield container
            else:
                self.context.sleep(config.duration_seconds / config.entity_count)
                yield _file_in(_timed(f"timed-{config.seed}-{done - 1}", done - 1, config.seed), container)
            yield StubCursor(done=done + 1)


class IncrementalStub(Source[IncrementalStubConfig, IncrementalStubCursor]):
    """A container and small entities. The next sync starts where the cursor is."""

    name: ClassVar[str] = "incremental_stub"
    title: ClassVar[str] = "Incremental Stub"
    description: ClassVar[str] = "Generated entities, of which a later sync reads only the new ones."
    labels: ClassVar[tuple[str, ...]] = LABELS
    entity_types: ClassVar[tuple[str, ...]] = ("StubContainerEntity", "SmallStubEntity")
    auth: ClassVar[Direct] = Direct(StubCredentials)
    tells_changes: ClassVar[bool] = True
    internal: ClassVar[bool] = True

    def read(self, partition: Partition, cursor: IncrementalStubCursor | None) -> Items[IncrementalStubCursor]:
        """Yield the container, whose description has the count, and then the entities after the cursor."""
        config = self.config
        container = _container("inc-stub-container", "Incremental Stub Container", config.seed, config.entity_count)
        done = cursor.last_entity_index if cursor else -1
        self.context.check()
        yield container
        yield IncrementalStubCursor(last_entity_index=done, entity_count=config.entity_count)
        for index in range(done + 1, config.entity_count):
            self.context.check()
            words = _Words(f"{config.seed}/{index}/incremental")
            yield _file_in(_small(f"inc-stub-{config.seed}-{index}", index, words), container)
            yield IncrementalStubCursor(last_entity_index=index, entity_count=config.entity_count)


class ExceptionStub(Source[ExceptionStubConfig, StubCursor]):
    """A container and small entities, and then an error of a chosen kind.

    Each error of the public server becomes the one of ours that asks for the same action. If a person must sign in
    again (``source_token_refresh_error``, ``token_expired``), it is ``SignInExpired``; if the credentials are wrong
    (``source_auth_error``, ``token_credentials_invalid``), ``AuthError``; for a wrong configuration
    (``token_provider_config_error``) ``ConfigError``; for a temporary failure (``source_server_error``,
    ``token_provider_server_error``, ``timeout``) ``Unavailable``. ``source_entity_not_found`` and
    ``source_entity_forbidden`` are ``Unreadable``, raised from a listing, where no connector should raise it.
    ``runtime_error`` and ``cancelled`` (the connector's own task was cancelled) are bugs of a connector, so
    ``RuntimeError``.
    """

    name: ClassVar[str] = "exception_stub"
    title: ClassVar[str] = "Exception Stub"
    description: ClassVar[str] = "Generated entities, and then an error of a chosen kind."
    labels: ClassVar[tuple[str, ...]] = LABELS
    entity_types: ClassVar[tuple[str, ...]] = ("StubContainerEntity", "SmallStubEntity")
    auth: ClassVar[Direct] = Direct(StubCredentials)
    internal: ClassVar[bool] = True

    def check(self) -> None:
        """Raise the chosen error if ``fail_on_validate`` is set."""
        if self.config.fail_on_validate:
            raise self._make_error()

    def read(self, partition: Partition, cursor: StubCursor | None) -> Items[StubCursor]:
        """Yield the entities after the cursor. Raises the chosen error when it is due, at each attempt."""
        config = self.config
        container = _container("exception-stub-container", "Exception Stub Container", config.seed, config.entity_count)
        for done in range(cursor.done if cursor else 0, config.entity_count):
            self.context.check()
            if done == 0:
                yield container
            else:
                self._raise_after(done - 1)
                words = _Words(f"{config.seed}/{done - 1}/exception")
                yield _file_in(_small(f"exception-stub-{config.seed}-{done - 1}", done - 1, words), container)
            yield StubCursor(done=done + 1)
        self._raise_after(config.entity_count - 1)

    def _raise_after(self, entities: int) -> None:
        if entities >= self._trigger and self._trigger < self.config.entity_count:
            raise self._make_error()

    @property
    def _trigger(self) -> int:
        return self.config.entity_count - 1 if self.config.trigger_after == -1 else self.config.trigger_after

    def _make_error(self) -> Exception:
        kind = self.config.exception_type
        text = self.config.error_message or (
            f"[ExceptionStub] {kind} triggered after {self._trigger} entities (simulated failure)"
        )
        match kind:
            case "source_token_refresh_error" | "token_expired":
                return SignInExpired(text)
            case "source_auth_error" | "token_credentials_invalid":
                return AuthError(text)
            case "token_provider_config_error":
                return ConfigError(text)
            case "source_server_error" | "token_provider_server_error" | "timeout":
                return Unavailable(text)
            case "source_rate_limit_error":
                return RateLimited(text, retry_after_s=RATE_LIMIT_S)
            case "source_entity_not_found" | "source_entity_forbidden":
                return Unreadable(text)
            case "runtime_error" | "cancelled":
                return RuntimeError(text)


def _file_in(entity: Entity, container: Entity) -> Entity:
    """Put the entity into its container, with a version that changes whenever the entity does."""
    content = entity.open().read() if entity.open else (entity.text or "").encode()
    known = json.dumps([entity.name, dict(entity.fields), container.name], sort_keys=True, default=str)
    version = hashlib.blake2b(content + known.encode(), digest_size=8).hexdigest()
    breadcrumb = Breadcrumb(container.id, container.name, container.type)
    return replace(entity, version=version, breadcrumbs=(breadcrumb,))


def _container(id: str, title: str, seed: int, entity_count: int) -> Entity:
    description = f"Test container with {entity_count} entities"
    return Entity(
        id=f"{id}-{seed}",
        name=f"{title} (seed={seed})",
        type="StubContainerEntity",
        version=f"{entity_count}",
        text=description,
        created_at=BEGINNING,
        updated_at=BEGINNING,
        fields={"description": description, "seed": seed, "entity_count": entity_count},
    )


def _small(id: str, index: int, words: "_Words") -> Entity:
    content = words.text(100, 200)
    fields = {"content": content, "author": words.pick(AUTHORS), "tags": words.tags(3), "sequence_number": index}
    return _record(id, "SmallStubEntity", index, words, content, fields)


def _medium(id: str, index: int, words: "_Words") -> Entity:
    description, notes = words.text(500, 1_000), words.text(100, 200)
    fields = {
        "description": description,
        "status": words.pick(("active", "pending", "done", "archived")),
        "priority": words.pick(("low", "normal", "high")),
        "assignee": words.pick(AUTHORS),
        "tags": words.tags(4),
        "notes": notes,
        "due_date": (_created(index) + timedelta(days=30)).isoformat(),
        "sequence_number": index,
    }
    return _record(id, "MediumStubEntity", index, words, f"{description}\n\n{notes}", fields)


def _large(id: str, index: int, words: "_Words") -> Entity:
    summary = words.text(200, 300)
    sections = [f"{words.title()} {number}" for number in range(1, 6)]
    parts = [f"## {section}\n\n{words.text(600, 1_000)}" for section in sections]
    content = "\n\n".join(parts)
    fields = {
        "summary": summary,
        "content": content,
        "author": words.pick(AUTHORS),
        "category": words.pick(("general", "technical", "business", "research")),
        "tags": words.tags(5),
        "sections": sections,
        "references": [f"Reference {number}: {words.title()}" for number in range(1, 4)],
        "published_at": (_created(index) + timedelta(days=3)).isoformat(),
        "word_count": len(content.split()),
        "sequence_number": index,
    }
    return _record(id, "LargeStubEntity", index, words, f"{summary}\n\n{content}", fields)


def _small_file(id: str, index: int, words: "_Words") -> Entity:
    extension = words.pick((".txt", ".md"))
    return _file(id, "SmallStubFileEntity", index, words, extension, words.text(100, 200), {})


def _large_file(id: str, index: int, words: "_Words") -> Entity:
    content = "\n\n".join(words.text(600, 1_000) for _ in range(5))
    fields = {
        "summary": words.text(100, 200),
        "author": words.pick(AUTHORS),
        "category": "document",
        "page_count": len(content) // 3_000 + 1,
    }
    return _file(id, "LargeStubFileEntity", index, words, words.pick((".txt", ".md")), content, fields)


def _code_file(id: str, index: int, words: "_Words") -> Entity:
    functions = [f"{words.pick(VERBS)}_{words.pick(NOUNS)}_{number}" for number in range(4)]
    classes = [f"{words.pick(NOUNS).title()}{words.pick(('Store', 'Reader', 'Plan'))}"]
    imports = ["json", "logging", "pathlib"]
    lines = [f'"""{words.text(40, 80)}"""', "", *(f"import {name}" for name in imports), "", ""]
    lines += [f"class {classes[0]}:", f'    """{words.text(40, 80)}"""', "", ""]
    for function in functions:
        lines += [f"def {function}(value):", f'    """{words.text(40, 80)}"""', "    return json.dumps(value)", "", ""]
    fields = {
        "functions": functions,
        "classes": classes,
        "imports": imports,
        "repo_name": "stub-repository",
        "repo_owner": "stub-owner",
        "path_in_repo": f"src/{id}.py",
        "language": "python",
        "commit_id": f"stub-commit-{index}",
    }
    return _file(id, "CodeStubFileEntity", index, words, ".py", "\n".join(lines), fields)


def _timed(id: str, index: int, seed: int) -> Entity:
    words = _Words(f"{seed}/{index}/timed")
    content = words.text(100, 200)
    entity = _record(id, "TimedEntity", index, words, content, {"content": content, "sequence_number": index})
    return replace(entity, name=f"Timed Entity {index}", updated_at=None)


def _record(id: str, type: str, index: int, words: "_Words", text: str, fields: Mapping[str, Any]) -> Entity:
    return Entity(
        id=id,
        name=f"{words.title()} #{index}",
        type=type,
        text=text,
        created_at=_created(index),
        updated_at=_created(index) + timedelta(hours=1),
        fields=fields,
    )


def _file(
    id: str, type: str, index: int, words: "_Words", extension: str, text: str, fields: Mapping[str, Any]
) -> Entity:
    name, content = f"{id.replace('-', '_')}{extension}", text.encode()
    return Entity(
        id=id,
        name=name,
        type=type,
        open=partial(io.BytesIO, content),
        filename=name,
        size_bytes=len(content),
        created_at=_created(index),
        updated_at=_created(index) + timedelta(hours=1),
        url=f"stub://file/{name}",
        fields={"description": words.text(40, 80), "file_extension": extension, "sequence_number": index, **fields},
    )


def _created(index: int) -> datetime:
    return BEGINNING + timedelta(minutes=index)


AUTHORS = ("Ada Berg", "Ben Okafor", "Carla Mendes", "Dmitri Volkov", "Emi Tanaka")
VERBS = ("plan", "review", "ship", "measure", "repair", "merge", "compare", "archive")
NOUNS = ("budget", "release", "invoice", "meeting", "roadmap", "ticket", "report", "design", "contract", "survey")
ADJECTIVES = ("quarterly", "urgent", "minor", "detailed", "final", "early", "shared", "open")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "[INST]", "[/INST]", "<s>", "</s>")


class _Words:
    """Random text from a seed; ``special_tokens`` adds control tokens of language models."""

    def __init__(self, seed: str, prefix: str | None = None, special_tokens: bool = False) -> None:
        self._random = random.Random(seed)
        self._prefix = f"{prefix} " if prefix else ""
        self._special_tokens = special_tokens

    def pick(self, words: Sequence[str]) -> str:
        return self._random.choice(words)

    def title(self) -> str:
        return f"{self.pick(ADJECTIVES).capitalize()} {self.pick(NOUNS)}"

    def tags(self, count: int) -> list[str]:
        return self._random.sample(NOUNS, count)

    def text(self, least: int, most: int) -> str:
        """Sentences of ``least`` to ``most`` characters in all, not counting the prefix."""
        wanted, text = self._random.randint(least, most), ""
        for sentence in self._sentences():
            if len(text) + len(sentence) > wanted and len(text) >= least:
                break
            text = f"{text} {sentence}" if text else sentence
            if len(text) >= wanted:
                break
        return self._prefix + text

    def _sentences(self) -> Iterator[str]:
        while True:
            token = f" {self.pick(SPECIAL_TOKENS)}" if self._special_tokens else ""
            yield (
                f"{self.pick(AUTHORS)} will {self.pick(VERBS)} the {self.pick(ADJECTIVES)} {self.pick(NOUNS)}"
                f" before the {self.pick(NOUNS)}{token}."
            )
