"""Calls that block, run for a response that streams meanwhile, and what their errors look like in an event."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import structlog
from anyio import CancelScope
from fastapi import Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ..errors import ServiceError, Unavailable
from .answers import answer_database_error

GONE_POLL_S = 0.5  # between two looks whether the client is still there
GONE = 499  # the status of a response that nobody receives

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Work(Generic[T]):
    """A call that blocks, on a thread of its own. ``stop`` is called if nobody waits for it any more."""

    def __init__(self, call: Callable[[], T], stop: Callable[[], None] = lambda: None) -> None:
        self._began_at = time.monotonic()
        self._stop = stop
        self._task = asyncio.ensure_future(run_in_threadpool(call))

    async def heartbeats(self, every_s: float) -> AsyncGenerator[None, None]:
        """Yield after each ``every_s`` seconds, until the call has ended. A call cannot be cancelled: if nobody waits
        any more, wait for its end, so that nothing runs without a place."""
        try:
            while not (await asyncio.wait({self._task}, timeout=every_s))[0]:
                yield None
        finally:
            if not self._task.done():
                self._stop()
            with CancelScope(shield=True):
                await asyncio.wait({self._task})
            self._task.exception()  # seen, even if nobody asks for the result

    def result(self) -> tuple[T, int]:
        """What the call has returned, or raise what it has raised; and how long it took, in ms."""
        return self._task.result(), round((time.monotonic() - self._began_at) * 1_000)


async def finish(work: Work[T], request: Request) -> T | Response:
    """The result of the call, or raise what it has raised. If the client hangs up, the call is stopped, and the
    response goes nowhere."""
    async with aclosing(work.heartbeats(GONE_POLL_S)) as beats:
        async for _ in beats:
            if await request.is_disconnected():
                return Response(status_code=GONE)
    return work.result()[0]


def describe_error(error: Exception, request_id: str) -> dict[str, Any]:
    """The error of a stream, as its event shows it. ``transient``: the same search may work later."""
    if isinstance(error, ServiceError):
        return {"message": str(error), "transient": isinstance(error, Unavailable)}
    if isinstance(error, SQLAlchemyError) and (answer := answer_database_error(error)) is not None:
        return {"message": json.loads(bytes(answer.body))["detail"], "transient": True}
    log.error("request_failed", request=request_id, exc_info=error)
    return {"message": f"Internal Server Error; the log has it as request {request_id}", "transient": False}
