"""The description of the API, for programs: what FastAPI derives from the routes, with what holds for all of them, and
with the descriptions and the examples of the models."""

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from .. import wire
from . import examples, gate

TITLE = "Airweave Server"
SUMMARY = "Syncs sources into collections that agents search."
DESCRIPTION = (
    "The API of Airweave, with additions. Every path is served at the root and below `/api/v1`, with and without a "
    "trailing slash. Times are in UTC; where they have no zone, too. Unknown fields of a request are ignored."
)
SERVERS = (
    {"url": "/", "description": "Every path, at the root."},
    {"url": "/api/v1", "description": "The same, where clients of the public API look for it."},
)
TAGS = {
    "health": "Whether the server works, and what it has measured.",
    "sources": "What can be connected, and how fast it may be read.",
    "entities": "Types of entities, and how many of each are indexed.",
    "collections": "What is searched: the entities of some source connections.",
    "source connections": "Sources connected to collections, their jobs, entities and held deletes.",
    "jobs": "The progress of a job, as a stream.",
    "search": "Search in a collection.",
    "legacy search": "The search of former clients. Deprecated: it has no tiers.",
    "webhooks": "Events that the server sends, and who receives them.",
    "organizations": "The organization of the caller, and its API keys.",
}
MEANINGS = {
    400: "Not possible in the present state, or the body is not text in UTF-8.",
    401: "No API key, or one that is unknown, expired or revoked.",
    403: "The role of the API key does not allow it, or the request comes from the page of another site.",
    404: "It does not exist, or it belongs to another organization.",
    408: "The body did not arrive in time.",
    413: "The body is larger than the server's MAX_BODY_MB.",
    422: "The input is invalid.",
    429: "Too many bad API keys, streams or previews at once. Try again after the time in Retry-After.",
    500: "An error of the server. The text has the id under which its log describes it.",
    503: "Not possible just now, such as without a database. Try again after the time in Retry-After.",
}
SAID = {  # an example of each error
    400: "a sync job is already running for this connection; cancel it or wait for its end",
    401: "this API key is unknown, expired or revoked",
    403: "this API key has the role reader; POST /collections needs the role editor or admin",
    404: "Collection not found",
    408: "the body did not arrive within 60 s, or paused for 10 s",
    413: "the body is larger than 10,485,760 bytes (MAX_BODY_MB)",
    429: "too many bad API keys from this address",
    500: "Internal Server Error; the log has it as request 4b0d8fdd6ea54d0d8c0a0b1a4b7b4c66",
    503: "the database cannot be reached; try again",
}
ALL = (403, 422, 500)  # 422 too: any query that Postgres cannot store is refused
NAMES = {  # in components/responses
    400: "InvalidState",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "TooSlow",
    413: "TooLarge",
    422: "InvalidInput",
    429: "TooMany",
    500: "Unexpected",
    503: "Unavailable",
}
GATED = (401, 429, 503)
WITH_BODY = (400, 408, 413)  # 400: a body that is not even text
RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
SCHEMES = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Needed where the server has AUTH_ENABLED=true.",
    },
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same API key, in Authorization.",
    },
    "MetricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The server's METRICS_TOKEN; /metrics alone takes it.",
    },
}
WITH_KEY: list[dict[str, list[str]]] = [{"ApiKey": []}, {"Bearer": []}]
FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")

Json = dict[str, Any]


def name_operation(route: APIRoute) -> str:
    """The id of a route's operation: the name of its function."""
    return route.name


def describe(app: FastAPI) -> Json:
    """The description of the application's routes, made at the first call."""
    if app.openapi_schema is None:
        app.openapi_schema = _describe(app)
    return app.openapi_schema


def _describe(app: FastAPI) -> Json:
    api: Json = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        servers=[dict(server) for server in SERVERS],
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    parts = api["components"]
    parts["securitySchemes"] = SCHEMES
    parts["responses"] = {name: _error(status) for status, name in NAMES.items()}
    for name in FASTAPI_ERRORS:
        parts["schemas"].pop(name, None)
    for model in (wire.Error, wire.InvalidInput):
        parts["schemas"][model.__name__] = model.model_json_schema(mode="serialization")
    for path, ways in api["paths"].items():
        for operation in ways.values():
            _complete(operation, path)
    docstrings = read_docstrings()
    for name, schema in parts["schemas"].items():
        _describe_fields(schema, docstrings.get(name.removesuffix("-Input").removesuffix("-Output"), {}))
    return api


def _complete(operation: Json, path: str) -> None:
    """Add to the description of an operation what FastAPI does not know of it."""
    name = operation["operationId"]
    if operation["summary"] == name.replace("_", " ").title():
        operation["summary"] = name.replace("_", " ").capitalize()
    for parameter in operation.get("parameters", ()):
        parameter["schema"].pop("description", None)  # the parameter has it
    operation["security"] = _security(path)
    responses = operation["responses"]
    for status in {*_errors(operation, path), *map(int, responses)}:
        response = responses.setdefault(str(status), {})
        if status < 300:
            response["description"] = "What was asked for." if response.get("content") else "Done."
        elif status != 422 and response.get("content"):  # in a form of its own
            response |= {key: value for key, value in _error(status).items() if key != "content"}
        else:
            responses[str(status)] = {"$ref": f"#/components/responses/{NAMES[status]}"}
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        content["example"] = _find_example(f"{name} request", content["schema"])
    for status, response in responses.items():
        for kind, content in response.get("content", {}).items():
            if kind == "text/event-stream":
                content["schema"] = {"type": "string", "description": "Server-sent events, each with JSON as its data."}
            content["example"] = _find_example(name if status < "300" else f"{name} {status}", content["schema"])
    operation["responses"] = dict(sorted(responses.items()))


def _security(path: str) -> list[dict[str, list[str]]]:
    if path in gate.KEYLESS:
        return [{}, {"MetricsToken": []}]
    if path == "/health":  # tells more to those who send a key
        return [{}, *WITH_KEY]
    return [] if gate.is_open(path) else WITH_KEY


def _errors(operation: Json, path: str) -> Iterator[int]:
    """The statuses of the errors that hold for all operations of this kind."""
    yield from ALL
    if not gate.is_open(path):
        yield from GATED
    if "{" in path:
        yield 404
    if "requestBody" in operation:
        yield from WITH_BODY


def _error(status: int) -> Json:
    """The response with this status, whatever the operation."""
    model = wire.InvalidInput if status == 422 else wire.Error
    example = examples.of(model) if status == 422 else {"detail": SAID[status]}
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    response: Json = {"description": MEANINGS[status], "content": _as_json(schema, example)}
    return {**response, "headers": RETRY_AFTER} if status in (429, 503) else response


def _as_json(schema: Json, example: Any) -> Json:
    return {"application/json": {"schema": schema, "example": example}}


def _find_example(operation: str, schema: Json) -> Any:
    """The example of an operation: its own, else that of its model. None if there is none, which a test refuses."""
    if operation in examples.BY_OPERATION:
        return examples.BY_OPERATION[operation]
    if "$ref" in schema:
        return examples.BY_MODEL.get(schema["$ref"].rpartition("/")[2])
    if "items" in schema:
        inner = _find_example("", schema["items"])
        return None if inner is None else [inner]
    for choice in schema.get("anyOf", ()):
        if (found := _find_example("", choice)) is not None:
            return found
    return None


def _describe_fields(schema: Json, docstrings: dict[str, str]) -> None:
    for name, field in schema.get("properties", {}).items():
        if name in docstrings:
            field.setdefault("description", docstrings[name])


def read_docstrings() -> dict[str, dict[str, str]]:
    """The docstrings of the fields of each model in ``wire.py``, by the names of both. Read from the source when they
    are asked for, since pydantic, which could do it too, would do it in every process, at its start."""
    own = {
        node.name: dict(_docstrings_of(node))
        for node in ast.parse(inspect.getsource(wire)).body
        if isinstance(node, ast.ClassDef)
    }
    found: dict[str, dict[str, str]] = {}
    for name in own:
        found[name] = {}
        for parent in reversed(getattr(wire, name).__mro__):
            found[name] |= own.get(parent.__name__, {})
    return found


def _docstrings_of(model: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(model.body, model.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                yield name, inspect.cleandoc(text).replace("\n", " ")


def to_text(app: FastAPI) -> str:
    """The description as it is kept in the repository: sorted, so that a change shows where it is."""
    return json.dumps(describe(app), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
