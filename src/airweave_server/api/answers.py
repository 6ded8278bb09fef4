"""Error responses in the form of the public API."""

import json
from typing import Any

from fastapi.responses import JSONResponse

from ..errors import BadInput, InvalidState, NotFound, ServiceError, TooMany, Unauthorized, Unavailable

STATUS = {BadInput: 422, InvalidState: 400, NotFound: 404, Unauthorized: 401, TooMany: 429, Unavailable: 503}
AGAIN_S = 1  # after which a client may try again what was not possible just now
AGAIN = {"Retry-After": str(AGAIN_S)}


def answer_error(error: ServiceError) -> JSONResponse:
    """The response that tells a client about this error."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    body: dict[str, Any] = {"detail": str(error)}
    if isinstance(error, BadInput) and error.field:
        body["errors"] = [{error.field: str(error)}]
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooMany) else None
    return to_json(body, status, AGAIN if status == 503 else headers)


def to_json(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """A response that quotes the request safely: it may contain text that UTF-8 cannot encode."""
    safe = json.loads(json.dumps(body, default=str).encode("utf-8", "replace"))
    return JSONResponse(safe, status, headers)
