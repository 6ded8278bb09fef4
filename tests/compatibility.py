"""The page that ``make compatibility`` writes: each public client, its version, what was run with it on which driver,
and what differs and why. The tables are the results of ``tests/contract``; the reasons are written by hand."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pytest

PROPERTY = "contract"
DRIVERS = {"in_process": "in process", "temporal": "Temporal"}
WORKS, ABSENT, FAILS = "works", "not there yet", "**fails**"

HEAD = """# Compatibility

Written by `make compatibility` from the results of `tests/contract`: real clients, each from its registry and in an
environment of its own, against a real server with authentication on, once with jobs in process and once with jobs on
Temporal. `not there yet`: the server has no such route. A test fails when this page is not what the clients do.

"""

REASONS = "## What differs, and why"  # written by hand, from here to the end of the page


@dataclass(frozen=True)
class Row:
    """What became of an operation of a client. ``note``: the first error, if it failed."""

    client: str
    operation: str
    request: str
    driver: str
    result: str
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """What was seen of a client's models besides its operations."""

    client: str
    text: str


def keep(node: pytest.Item, results: Iterable[Row | Finding]) -> None:
    """Keep results for the page."""
    for result in results:
        node.user_properties.append((PROPERTY, json.dumps({type(result).__name__: asdict(result)})))


def results_of(reporter: pytest.TerminalReporter) -> tuple[list[Row], list[Finding]]:
    rows: dict[Row, None] = {}
    findings: dict[Finding, None] = {}
    for outcome in ("passed", "failed"):
        for report in reporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == PROPERTY:
                    found: dict[str, Any] = json.loads(str(value))
                    if "Row" in found:
                        rows[Row(**found["Row"])] = None
                    else:
                        findings[Finding(**found["Finding"])] = None
    return list(rows), list(findings)


def render(rows: list[Row], findings: list[Finding], former: str) -> str:
    """The page as Markdown, with the reasons of the ``former`` page."""
    clients = list(dict.fromkeys(row.client for row in rows))
    page = HEAD + "| Client | Operations | Work in process | Work on Temporal |\n|---|---:|---:|---:|\n"
    for client in sorted(clients):
        own = [row for row in rows if row.client == client]
        operations = {row.operation for row in own}
        works = [
            len({row.operation for row in own if (row.driver, row.result) == (driver, WORKS)}) for driver in DRIVERS
        ]
        page += f"| {client} | {len(operations)} | {works[0]} | {works[1]} |\n"
    for client in sorted(clients):
        page += f"\n## {client}\n\n| Operation | Request | {' | '.join(DRIVERS.values())} |\n|---|---|---|---|\n"
        page += "".join(f"{line}\n" for line in table(rows, client))
        texts = sorted({finding.text for finding in findings if finding.client == client})
        page += "".join(f"\n{text}\n" for text in texts)
    return f"{page}\n{REASONS}{former.partition(REASONS)[2]}"


def table(rows: Iterable[Row], client: str) -> list[str]:
    """The lines of a client's table, one for each operation."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.client == client:
            found.setdefault(row.operation, {})[row.driver] = row
    lines = []
    for operation, by_driver in sorted(found.items()):
        requests = sorted({request for row in by_driver.values() for request in row.request.split(", ")})
        shown = "<br>".join(f"`{request}`" for request in requests)
        results = [by_driver[driver].result if driver in by_driver else "" for driver in DRIVERS]
        lines.append(f"| `{operation}` | {shown} | {' | '.join(results)} |")
    return lines


def read(page: str) -> dict[tuple[str, str, str], tuple[str, str]]:
    """What the page says: by client, operation and driver, the result and the requests."""
    said: dict[tuple[str, str, str], tuple[str, str]] = {}
    client = ""
    for line in page.splitlines():
        if line.startswith("## "):
            client = line.removeprefix("## ")
        if match := re.fullmatch(r"\| `([^`]+)` \| (`.*`) \| ([^|]*) \| ([^|]*) \|", line):
            operation, requests, *results = match.groups()
            for driver, result in zip(DRIVERS, results, strict=True):
                said[(client, operation, driver)] = (result, requests)
    return said
