"""Answers of the API, filled from the attributes of what they show."""

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from airweave_server import wire


@dataclass
class Part:
    reason: str = "too_large"
    entities: int = 3
    is_exact: bool = True
    examples: tuple[str, ...] = ("a", "b")


@dataclass
class Job:
    job_id: str = "2c8a3a8e-3c9c-4b1c-8f0e-0c8f6a2f2d11"
    status: str = "failed"
    error: str | None = None


@dataclass
class Reason:
    status: str = "unknown"
    error: str = "no room"
    unrelated: int = 1


def test_a_value_comes_before_the_sources_and_the_first_source_before_the_second() -> None:
    end = wire.SyncEnd.of(Job(), Reason(), status="completed")
    assert (str(end.job_id), end.status, end.error) == (Job.job_id, "completed", None)
    assert wire.SyncEnd.of(Reason(), Job()).error == "no room"


def test_what_no_source_has_takes_its_default_or_is_refused() -> None:
    assert wire.SyncEnd.of(Job()).type == "end"
    with pytest.raises(ValidationError, match="job_id"):
        wire.SyncEnd.of(Reason())


def test_a_value_that_is_not_a_field_is_refused() -> None:
    with pytest.raises(TypeError, match="SyncEnd has no field phase, reason"):
        wire.SyncEnd.of(Job(), reason="x", phase="done")


def test_objects_inside_are_read_by_their_attributes_too() -> None:
    detailed = wire.SourceConnectionPreview.of(
        short_name="folder",
        embedding_model_name="m",
        is_complete=True,
        is_exact=True,
        entities=3,
        size_bytes=1,
        opened=1,
        indexed=0,
        chunks=0,
        seconds=None,
        skipped=(Part(),),
        failed=(),
        incomplete=(),
        notes=(),
    )
    assert detailed.skipped == [wire.LeftOut(reason="too_large", entities=3, is_exact=True, examples=["a", "b"])]
