"""The description of the API: complete, true to its models, and the same as the one that is kept in the repository."""

import difflib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel, TypeAdapter

from airweave_server import wire
from airweave_server.api import examples, openapi
from airweave_server.api.app import with_routes

KEPT = Path(__file__).parents[2] / "docs/openapi.json"
MOST_ID_CHARS = 40
MOST_SHOWN = 80  # lines of a difference
Json = dict[str, Any]


@cache
def described() -> Json:
    found: Json = json.loads(openapi.to_text(with_routes()))
    return found


def operations() -> Iterator[tuple[str, Json]]:
    for path, ways in described()["paths"].items():
        for method, operation in ways.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations())


def resolve(response: Json) -> Json:
    name = response.get("$ref", "").rpartition("/")[2]
    found: Json = described()["components"]["responses"][name] if name else response
    return found


def contents(operation: Json) -> Iterator[tuple[str, str, Json]]:
    """Each body of an operation: which it is, its type, and its description."""
    bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
    for name, body in bodies.items():
        for kind, content in resolve(body).get("content", {}).items():
            yield name, kind, content


def test_the_kept_description_is_that_of_the_routes() -> None:
    now, kept = openapi.to_text(with_routes()), KEPT.read_text()
    changed = list(difflib.unified_diff(kept.splitlines(), now.splitlines(), "docs/openapi.json", "the routes", "", ""))
    more = [f"and {len(changed) - MOST_SHOWN} lines more"] if len(changed) > MOST_SHOWN else []
    assert not changed, "\n".join(["the API has changed; if that is meant: make openapi", *changed[:MOST_SHOWN], *more])


def test_every_operation_has_a_short_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names) > 50
    for name in names:
        assert name.isidentifier()
        assert name == name.lower()
        assert len(name) <= MOST_ID_CHARS
        assert not name.endswith(("_get", "_post", "_put", "_patch", "_delete"))


@pytest.mark.parametrize("place", OPERATIONS)
def test_an_operation_is_described(place: str) -> None:
    operation = OPERATIONS[place]
    assert operation["summary"]
    assert operation["description"].rstrip().endswith(".")
    [tag] = operation["tags"]
    assert tag in {each["name"] for each in described()["tags"]}
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description"), parameter["name"]
    schemes = {name for choice in operation["security"] for name in choice}
    assert schemes <= described()["components"]["securitySchemes"].keys()


@pytest.mark.parametrize("place", OPERATIONS)
def test_the_examples_of_an_operation_fit_their_schemas(place: str) -> None:
    found = list(contents(OPERATIONS[place]))
    assert found or "204" in OPERATIONS[place]["responses"]
    for name, _, content in found:
        assert content.get("example") not in (None, [], {}, ""), f"{name} has no example"
        schema = {**content["schema"], "components": described()["components"]}
        jsonschema_rs.validator_for(schema).validate(content["example"])


@pytest.mark.parametrize("place", OPERATIONS)
def test_the_errors_of_an_operation_have_their_true_shape(place: str) -> None:
    operation = OPERATIONS[place]
    errors = {status: resolve(body) for status, body in operation["responses"].items() if not status.startswith("2")}
    assert {"403", "422", "500"} <= errors.keys()
    if {"ApiKey": []} in operation["security"] and {} not in operation["security"]:
        assert {"401", "429", "503"} <= errors.keys()
    if "requestBody" in operation:
        assert {"400", "408", "413"} <= errors.keys()
    if "{" in place:
        assert "404" in errors
    for status, body in errors.items():
        shape = {"422": "InvalidInput"}.get(
            status, "Ready" if place == "GET /health/ready" and status == "503" else "Error"
        )
        assert body["description"]
        assert body["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{shape}"}
        assert ("Retry-After" in body.get("headers", {})) == (status in ("429", "503"))


def test_no_error_has_the_shape_that_is_never_sent() -> None:
    assert "ValidationError" not in openapi.to_text(with_routes())


def test_a_stream_is_declared_as_one() -> None:
    streams = {place for place, each in OPERATIONS.items() for _, kind, _ in contents(each) if "event-stream" in kind}
    assert streams == {place for place in OPERATIONS if place.endswith(("/stream", "/subscribe", "/subscribe-state"))}


@pytest.mark.parametrize("name", described()["components"]["schemas"])
def test_a_model_and_its_fields_are_described(name: str) -> None:
    schema = described()["components"]["schemas"][name]
    assert schema.get("description"), "it has no docstring"
    missing = [field for field, each in schema.get("properties", {}).items() if not each.get("description")]
    assert not missing, f"{name} has fields without a docstring: {', '.join(missing)}"


def test_every_field_on_the_wire_is_described() -> None:
    docstrings = openapi.read_docstrings()
    missing = [
        f"{name}.{field}"
        for name, model in models().items()
        for field, info in model.model_fields.items()
        if not info.description and field not in docstrings[name]
    ]
    assert not missing


@pytest.mark.parametrize("name", examples.BY_MODEL)
def test_an_example_is_what_its_model_makes_of_it(name: str) -> None:
    model, example = models()[name], examples.BY_MODEL[name]
    read = TypeAdapter(model).validate_json(json.dumps(example))
    shown = read.model_dump(mode="json", exclude_unset=True)
    assert shown == example
    if issubclass(model, wire.Answer):  # the server leaves out nothing
        optional = {"Health": {"temporal"}, "InvalidInput": {"detail"}}.get(name, set())
        assert example.keys() == model.model_fields.keys() - optional


def test_examples_of_streams_hold_events_of_the_models() -> None:
    events = {name: [json.loads(line[6:]) for line in text.strip().split("\n\n")] for name, text in streams().items()}
    progress, state = events["stream_job_progress"], events["stream_job_state"]
    assert wire.SyncProgressUpdate(**progress[1]).model_dump(mode="json") == progress[1]
    assert wire.SyncEnd(**progress[2]).model_dump(mode="json") == progress[2]
    assert wire.EntityState(**state[1]).model_dump(mode="json") == state[1]
    assert wire.SyncComplete(**state[2]).model_dump(mode="json") == state[2]


def streams() -> dict[str, str]:
    return {name: text for name, text in examples.BY_OPERATION.items() if str(text).startswith("data: ")}


def models() -> dict[str, type[BaseModel]]:
    return {
        name: each
        for name, each in vars(wire).items()
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == wire.__name__
    }
