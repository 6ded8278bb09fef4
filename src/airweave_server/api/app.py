"""The HTTP application: all routes, middleware, and error responses in the form of the public API."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ServiceError
from ..services.webhooks import MARK, mark_of
from ..version import __version__
from . import (
    collections,
    definitions,
    docs,
    entities,
    health,
    held_deletes,
    jobs,
    keys,
    legacy_search,
    metrics,
    openapi,
    organizations,
    progress,
    rate_limits,
    reembed,
    search,
    source_connections,
    sources,
    webhooks,
)
from .answers import answer_database_error, answer_error, to_json
from .deps import Parts, check_parameters
from .gate import Callers, Gate
from .lanes import Lanes
from .origin import Names, NoLoop, OwnOrigin
from .streams import Streams

PREFIX = "/api/v1"
ROUTES = (
    health,
    metrics,
    sources,
    rate_limits,
    definitions,
    collections,
    reembed,
    source_connections,
    jobs,
    entities,
    held_deletes,
    progress,
    search,
    webhooks,
    legacy_search,
    organizations,
    keys,
    docs,
)
SPARE_THREADS = 16  # for what runs after a response; it waits for nothing

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mount:
    """An application with a path of its own, whose requests pass what those of the routes do. ``run``: the context in
    which it serves. ``around``: wraps everything that its requests pass, to put refusals into its own form."""

    path: str
    app: ASGIApp
    run: Callable[[], AbstractAsyncContextManager[None]]
    around: Callable[[ASGIApp], ASGIApp]


def create_app(parts: Parts, lanes: Lanes, mounts: Sequence[Mount] = ()) -> FastAPI:
    """Build the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # a request with a place never waits for a thread
        to_thread.current_default_thread_limiter().total_tokens = lanes.threads + SPARE_THREADS
        async with AsyncExitStack() as stack:
            for mount in mounts:
                await stack.enter_async_context(mount.run())
            yield

    app = with_routes(lifespan=lifespan)
    app.state.parts = parts
    app.state.probes = health.Probes(parts)
    for mount in mounts:
        app.router.routes.append(Route(mount.path, mount.app, name=mount.path, include_in_schema=False))
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(SQLAlchemyError, _answer_database_error)
    app.add_exception_handler(Exception, _answer_unexpected_error)
    metrics.DatabaseFigures(parts.house, parts.settings.temporal_task_queue).register()
    app.state.callers = Callers(parts.database, lanes, needs_key=parts.settings.auth_enabled)
    most_bytes = int(parts.settings.max_body_mb * 1024 * 1024)
    streams = Streams(parts.house)
    app.add_middleware(Gate, callers=app.state.callers, streams=streams, lanes=lanes, most_bytes=most_bytes)
    app.add_middleware(metrics.Timed)
    names = Names.of(parts.settings.api_host, parts.settings.allowed_hosts)
    if names is not None or not parts.settings.auth_enabled:
        app.add_middleware(OwnOrigin, names=names)
    app.add_middleware(NoLoop, mark=(MARK, mark_of(parts.vault)))
    for mount in mounts:
        app.add_middleware(mount.around)
    app.add_middleware(Paths)
    return app


def with_routes(**options: Any) -> FastAPI:
    """An application that has all routes and can describe them. It serves none: ``create_app`` gives it its parts."""
    app = FastAPI(
        title=openapi.TITLE,
        summary=openapi.SUMMARY,
        version=__version__,
        dependencies=[Depends(check_parameters)],
        generate_unique_id_function=openapi.name_operation,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        **options,
    )
    for module in ROUTES:
        app.include_router(module.router)
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]
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


def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = []
    for part in error.errors():
        # for invalid JSON the location is a byte offset
        where = "body" if part["type"] == "json_invalid" else ".".join(map(str, part["loc"]))
        errors.append({where: str(part["msg"]).removeprefix("Value error, ")})
    return to_json({"errors": errors}, 422)


def _answer_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return answer_error(error)


def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return to_json({"detail": error.detail}, error.status_code, dict(error.headers or {}))


def _answer_database_error(request: Request, error: Exception) -> JSONResponse:
    return answer_database_error(error) or _answer_unexpected_error(request, error)


def _answer_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    request_id = uuid4().hex
    log.error("request_failed", request=request_id, method=request.method, path=request.url.path, exc_info=error)
    return to_json({"detail": f"Internal Server Error; the log has it as request {request_id}"}, 500)
