"""Generates requests for the fuzz of the API from its description with Schemathesis.

Runs in a process of its own, because Schemathesis changes Hypothesis for the whole process that uses it. Reads
``{"description": openapi.json, "requests": N, "seed": N}`` from standard input, and writes a JSON list of cases: values
that fit the description and values that do not, in random order. The same input yields the same cases.
"""

import base64
import json
import random
import sys
import zlib
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from requests import PreparedRequest
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core import NotSet

WITH_BODY, WITH_PARAMETERS, ALONE = 6, 3, 1  # relative shares of the operations
MOST_CHARS = 60_000  # of a query


def generate(description: dict[str, Any], requests: int, number: int) -> list[dict[str, Any]]:
    """Return ``requests`` cases in random order, at least one of each operation."""
    operations = [found.ok() for found in schemathesis.openapi.from_dict(description).get_all_operations()]
    shares = [share_of(operation.definition.raw) for operation in operations]
    chance = random.Random(number)
    cases: list[dict[str, Any]] = []
    for operation, share in zip(operations, shares, strict=True):
        count = max(2, round(requests * share / sum(shares)))
        drawn = draw(operation, GenerationMode.POSITIVE, (count + 1) // 2, number)
        if not takes_anything(operation.definition.raw):  # finding this out by trying takes half a second
            drawn += draw(operation, GenerationMode.NEGATIVE, count // 2, number)
        cases += drawn + [chance.choice(drawn) for _ in range(count - len(drawn))]  # some have few values
    cases += [chance.choice(cases) for _ in range(requests - len(cases))]
    chance.shuffle(cases)
    needed = {operation.label: 1 for operation in operations}
    cases.sort(key=lambda case: -needed.pop(case["operation"], 0))  # stable: one of each first
    return cases[:requests]


def share_of(operation: dict[str, Any]) -> int:
    if "requestBody" in operation:
        return WITH_BODY
    return WITH_PARAMETERS if operation.get("parameters") else ALONE


def takes_anything(operation: dict[str, Any]) -> bool:
    """Whether every request to it fits: it has no body, and its parameters are texts in the path."""
    schemas = [parameter["schema"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"]
    is_all = len(schemas) == len(operation.get("parameters", ())) and "requestBody" not in operation
    return is_all and all(schema.keys() <= {"type", "title"} and schema["type"] == "string" for schema in schemas)


def draw(operation: APIOperation, mode: GenerationMode, count: int, number: int) -> list[dict[str, Any]]:
    """Return up to ``count`` cases of one operation; none if it has no values of this kind."""
    drawn: list[dict[str, Any]] = []

    @seed(number ^ zlib.crc32(f"{operation.label} {mode}".encode()))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def collect(case: Case) -> None:
        drawn.append(to_json(case, fits=mode is GenerationMode.POSITIVE))

    try:
        collect()
    except Unsatisfiable:
        return []
    return drawn


def to_json(case: Case, *, fits: bool) -> dict[str, Any]:
    """``path``: percent-encoded values. ``query``: as it is sent. ``body``: a JSON value, or ``raw``: bytes in base64;
    neither if there is none."""
    prepared = PreparedRequest()
    prepared.prepare_url("http://localhost/", case.as_transport_kwargs(base_url="http://localhost")["params"] or {})
    query = str(prepared.url).partition("?")[2]
    written: dict[str, Any] = {
        "operation": case.operation.label,
        "fits": fits,
        "path": {name: str(value) for name, value in case.path_parameters.items()},
        "query": query if len(query) < MOST_CHARS else query[:MOST_CHARS].rsplit("%", 1)[0],
    }
    if isinstance(case.body, bytes):
        written["raw"] = base64.b64encode(case.body).decode()
    elif not isinstance(case.body, NotSet):
        written["body"] = case.body
    return written


if __name__ == "__main__":
    given_here = json.load(sys.stdin)
    json.dump(generate(given_here["description"], given_here["requests"], given_here["seed"]), sys.stdout, default=str)
