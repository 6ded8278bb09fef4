"""The page /docs: the description of the API as HTML, made on the server, with forms that call the routes. It loads
nothing from elsewhere and reads without scripts."""

import json
import re
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

CODE = re.compile("``([^`]+)``")
DEEPEST = 5  # nesting of an example
FILES = {"page.js": "text/javascript", "page.css": "text/css"}
STATIC = Path(__file__).parent / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(prefix="/docs", include_in_schema=False)


@router.get("")
async def show_page(request: Request) -> HTMLResponse:
    """The description of the API."""
    description: dict[str, Any] = request.app.openapi()
    return HTMLResponse(_render(json.dumps(description)), headers=HEADERS)


@router.get("/{name}")
async def show_file(name: str) -> Response:
    """The script and the style of the page."""
    if name not in FILES:
        return Response(status_code=404)
    return Response(_read(name), media_type=FILES[name], headers=HEADERS)


@cache
def _read(name: str) -> str:
    return (STATIC / name).read_text()


@cache
def _render(text: str) -> str:
    api = json.loads(text)
    by_tag: dict[str, list[str]] = {}
    for path, ways in api["paths"].items():
        for method, operation in ways.items():
            for tag in operation.get("tags", ["other"])[:1]:
                by_tag.setdefault(tag, []).append("".join(_operation(api, method.upper(), path, operation)))
    sections = "".join(
        f"<section><h2>{escape(tag.capitalize())}</h2>{''.join(parts)}</section>" for tag, parts in by_tag.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(api["info"]["title"])}: API</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/page.css">'
        f'<script src="/docs/page.js" defer></script></head><body><h1>{escape(api["info"]["title"])}</h1>'
        f"<p>{escape(api['info'].get('summary', ''))} The same for programs: "
        '<a href="/openapi.json">openapi.json</a>.</p><p><label>API key, if the server requires one: '
        '<input id="key" type="password" autocomplete="off"></label></p>'
        f"<main>{sections}</main></body></html>"
    )


def _operation(api: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<details><summary><b class="{method.lower()}">{method}</b> <code>{escape(path)}</code> '
    yield f"{escape(operation.get('summary', ''))}</summary><p>{_prose(operation.get('description', ''))}</p>"
    yield f'<form data-method="{method}" data-path="{escape(path)}"><table>'
    for each in operation.get("parameters", []):
        name, schema = escape(each["name"]), each.get("schema", {})
        place = escape(f"{method} {path} {each['name']}".replace(" ", "-"))
        default = "" if schema.get("default") is None else escape(json.dumps(schema["default"]).strip('"'))
        yield f'<tr><td><label for="{place}"><code>{name}</code></label><td>{escape(each["in"])}'
        yield f'<td><input id="{place}" name="{name}" data-in="{escape(each["in"])}" placeholder="{default}"'
        yield f"{' required' if each.get('required') else ''}><td>{escape(_kind(api, schema))}"
        yield f"<td>{_prose(each.get('description', ''))}</tr>"
    yield "</table>"
    if body := operation.get("requestBody"):
        example = _example(api, body["content"]["application/json"]["schema"], DEEPEST)
        yield "<p>Body: the required fields, and the others with their defaults</p>"
        yield f'<textarea name="body" rows="8">{escape(json.dumps(example, indent=2))}</textarea>'
    yield '<p><button type="submit">Send</button></p><pre class="answer" hidden></pre></form>'
    content = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json")
    if content is not None and content.get("schema"):
        example = _example(api, content["schema"], DEEPEST)
        yield f"<details><summary>Response</summary><pre>{escape(json.dumps(example, indent=2))}</pre></details>"
    yield "</details>"


def _prose(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", escape(text))


def _resolve(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself: behind references, and the first choice that is not null."""
    while True:
        if "$ref" in schema:
            schema = api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        elif choices := schema.get("anyOf") or schema.get("allOf") or schema.get("oneOf"):
            schema = next((each for each in choices if each.get("type") != "null"), {"type": "null"})
        else:
            return schema


def _kind(api: dict[str, Any], schema: dict[str, Any]) -> str:
    found = _resolve(api, schema)
    words = [str(found.get("format") or found.get("type", "any"))]
    if "enum" in found:
        words = [", ".join(map(str, found["enum"]))]
    for name, label in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most")):
        if name in found:
            words.append(f"{label} {found[name]}{' characters' if 'Length' in name else ''}")
    return " ".join(words)


def _example(api: dict[str, Any], schema: dict[str, Any], depth: int) -> Any:
    """A value of the form that the schema describes."""
    if "default" in schema:
        return schema["default"]
    found = _resolve(api, schema)
    for name in ("default", "const"):
        if name in found:
            return found[name]
    if found.get("enum"):
        return found["enum"][0]
    kind = found.get("type")
    if kind == "object":
        fields = found.get("properties", {}) if depth else {}
        return {name: _example(api, each, depth - 1) for name, each in fields.items()}
    if kind == "array":
        return [_example(api, found.get("items", {}), depth - 1)] if depth else []
    return {"string": found.get("format", "text"), "integer": 0, "number": 0.0, "boolean": False}.get(str(kind))
