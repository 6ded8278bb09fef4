"""The HTTP application: all routes, middleware, and error responses in the form of the public API."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..db.room import is_storage_full
from ..db.session import is_locked, is_outage
from ..errors import BadInput, InvalidState, NotFound, ServiceError, TooMany, Unauthorized, Unavailable
from ..settings import is_loopback
from . import (
    collections,
    entities,
    health,
    held_deletes,
    jobs,
    metrics,
    progress,
    reembed,
    search,
    source_connections,
    sources,
)
from .deps import Parts, check_parameters

PREFIX = "/api/v1"
ROUTES = (
    health,
    metrics,
    sources,
    collections,
    reembed,
    source_connections,
    jobs,
    entities,
    held_deletes,
    progress,
    search,
)
STATUS = {BadInput: 422, InvalidState: 400, NotFound: 404, Unauthorized: 401, TooMany: 429, Unavailable: 503}

log = structlog.get_logger(__name__)


def create_app(parts: Parts, *, own_hosts: frozenset[str] | None) -> FastAPI:
    """Build the application. ``own_hosts``: the only host names allowed in Host and Origin; None allows any."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(
        title="Airweave Server",
        summary="Syncs sources into collections that agents search.",
        dependencies=[Depends(check_parameters)],
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.parts = parts
    for module in ROUTES:
        app.include_router(module.router)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(SQLAlchemyError, _answer_database_error)
    app.add_exception_handler(Exception, _answer_unexpected_error)
    app.add_middleware(metrics.Timed)
    metrics.DatabaseFigures(parts.database, parts.settings.temporal_task_queue).register()
    app.add_middleware(BodyLimit, most_bytes=int(parts.settings.max_body_mb * 1024 * 1024))
    if own_hosts is not None:
        app.add_middleware(OwnHosts, names=own_hosts)
    app.add_middleware(Paths)
    return app


class Paths:
    """Serves every route at the root and under ``/api/v1``, with and without a trailing slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path == PREFIX or path.startswith(PREFIX + "/"):
                path = path[len(PREFIX) :]
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self._app(scope, receive, send)


class OwnHosts:
    """Refuses requests that a foreign web page makes a browser send: another Origin, or a Host rebound to loopback."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            for header, url in (("host", "//" + headers.get("host", "")), ("origin", headers.get("origin"))):
                if url is not None and _parse_host(url) not in self._names:
                    text = f"{header.capitalize()} {url.removeprefix('//')!r} is not this server's; see ALLOWED_HOSTS"
                    await JSONResponse({"detail": text[:300]}, 403)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


class BodyLimit:
    """Answers 413 to a body larger than the limit, with or without a Content-Length."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self._most_bytes:
                text = f"the body is larger than {self._most_bytes:,} bytes (MAX_BODY_MB)"
                await JSONResponse({"detail": text}, 413)(scope, receive, send)
                return
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def replay() -> Message:
            nonlocal body
            message, body = body, None
            return message if message is not None else await receive()

        await self._app(scope, replay, send)


def loopback_names(host: str, more: tuple[str, ...]) -> frozenset[str] | None:
    """The host names that a server on this address answers to. On an address that is not loopback these are the names
    in ``more``; None, which allows any, if there are none."""
    if is_loopback(host):
        return frozenset({"localhost", "127.0.0.1", "::1", host, *more})
    return frozenset(more) or None


def _parse_host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = []
    for part in error.errors():
        # for invalid JSON the location is a byte offset
        where = "body" if part["type"] == "json_invalid" else ".".join(map(str, part["loc"]))
        errors.append({where: str(part["msg"]).removeprefix("Value error, ")})
    return _to_json({"errors": errors}, 422)


def _answer_service_error(request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, BadInput) and error.field:
        body["errors"] = [{error.field: str(error)}]
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooMany) else None
    return _to_json(body, status, headers)


def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _to_json({"detail": error.detail}, error.status_code, dict(error.headers or {}))


def _answer_database_error(request: Request, error: Exception) -> JSONResponse:
    if is_locked(error):
        return _to_json({"detail": "locked by another operation; try again"}, 503, {"Retry-After": "1"})
    if is_storage_full(error):
        return _to_json({"detail": "the disk of the database is full; see /health"}, 503, {"Retry-After": "10"})
    if is_outage(error):
        return _to_json({"detail": "the database cannot be reached; try again"}, 503, {"Retry-After": "1"})
    return _answer_unexpected_error(request, error)


def _answer_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    request_id = uuid4().hex
    log.error("request_failed", request=request_id, method=request.method, path=request.url.path, exc_info=error)
    return _to_json({"detail": f"Internal Server Error; the log has it as request {request_id}"}, 500)


def _to_json(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    # the request may contain text that UTF-8 cannot encode; a response that quotes it must not fail
    safe = json.loads(json.dumps(body, default=str).encode("utf-8", "replace"))
    return JSONResponse(safe, status, headers)
