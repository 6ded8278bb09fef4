"""Error responses in the form of the public API."""

import json
from typing import Any

from fastapi.responses import JSONResponse

from ..db.room import is_storage_full
from ..db.session import is_locked, is_outage, is_timed_out
from ..errors import BadInput, Forbidden, InvalidState, NotFound, ServiceError, TooMany, Unauthorized, Unavailable

STATUS = {
    BadInput: 422,
    InvalidState: 400,
    NotFound: 404,
    Unauthorized: 401,
    Forbidden: 403,
    TooMany: 429,
    Unavailable: 503,
}
STATEMENT_S = 25  # after which Postgres ends a statement of a request
AGAIN_S = 1  # after which a client may try again what was not possible just now
AGAIN = {"Retry-After": str(AGAIN_S)}


def may_raise(*kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """What a route declares of its errors, besides those that ``openapi.py`` declares of every route."""
    return {STATUS[kind]: {} for kind in kinds}


def answer_error(error: ServiceError) -> JSONResponse:
    """The response that tells a client about this error."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, BadInput) and error.field:
        body["errors"] = [{error.field: str(error)}]
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooMany) else None
    return to_json(body, status, AGAIN if status == 503 else headers)


def answer_database_error(error: Exception) -> JSONResponse | None:
    """The response while the database cannot serve; None if the error has another reason."""
    if is_locked(error):
        return to_json({"detail": "locked by another operation; try again"}, 503, AGAIN)
    if is_storage_full(error):
        return to_json({"detail": "the disk of the database is full; see /health"}, 503, {"Retry-After": "10"})
    if is_timed_out(error):
        return to_json({"detail": f"the database took longer than {STATEMENT_S} s; try again"}, 503, AGAIN)
    if is_outage(error):
        return to_json({"detail": "the database cannot be reached; try again"}, 503, AGAIN)
    return None


def to_json(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """A response that quotes the request safely: it may contain text that UTF-8 cannot encode."""
    safe = json.loads(json.dumps(body, default=str).encode("utf-8", "replace"))
    return JSONResponse(safe, status, headers)
