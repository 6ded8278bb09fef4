"""Structured logs: events with fields, readable on a terminal and JSON elsewhere, with secrets redacted."""

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from pydantic import SecretStr

from .terminal import visible

SECRET_WORDS = ("password", "secret", "token", "credential", "authorization", "api_key", "apikey", "vault_key")


def configure(
    *,
    level: str = "info",
    style: Literal["auto", "console", "json"] = "auto",
    to: Literal["stderr", "stdout"] = "stderr",
) -> None:
    """Send all logs of this process, including those of libraries, to standard error or output."""
    stream = sys.stdout if to == "stdout" else sys.stderr
    stream = getattr(stream, "rich_proxied_file", stream)  # the lines are made visible here, and then coloured
    console = style == "console" or (style == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=_format_exception)
        if console
        else structlog.processors.JSONRenderer(default=str)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([] if console else [structlog.processors.format_exc_info]),
        _redact_secrets,
        *([_show_controls] if console else []),  # in JSON they are escapes already
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("temporalio.activity").setLevel("CRITICAL")  # we log the errors of steps ourselves
    logging.getLogger("uvicorn.error").setLevel("CRITICAL")  # we log failed requests ourselves
    for noisy in ("temporalio", "httpx", "httpcore", "alembic", "uvicorn.access", "sqlalchemy.engine", "mcp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _redact_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, SecretStr) or any(word in key.lower() for word in SECRET_WORDS):
            event[key] = "**********"
    return event


def _show_controls(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = visible(value)
        elif key not in ("exc_info", "_record", "_from_structlog"):
            event[key] = value if isinstance(value, bool | int | float | None) else visible(repr(value))
    return event


def _format_exception(stream: TextIO, exception: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exception)
    stream.write(visible(text.getvalue(), lines=True))
