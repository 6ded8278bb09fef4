"""The metrics of a process, as a page in Prometheus' text format. docs/metrics.md lists them."""

import hmac
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, disable_created_metrics, generate_latest

from .errors import Unstartable

CONTENT_TYPE = CONTENT_TYPE_LATEST
PAGE_S = 2.0

disable_created_metrics()  # type: ignore[no-untyped-call]

ENTITIES = Counter("airweave_entities", "Entities of committed batches", ["source", "outcome"])
LEFT_OUT = Counter(
    "airweave_left_out", "What entities of committed batches have that is not in their text", ["source", "what"]
)
BATCH_S = Histogram(
    "airweave_batch_seconds",
    "Seconds from one committed batch of a partition to the next",
    ["source"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
SLICE_S = Histogram(
    "airweave_slice_seconds",
    "Seconds of one slice of a partition",
    ["source"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 90, 180, 600),
)
START_S = Histogram(
    "airweave_job_start_seconds",
    "Seconds from the creation of a job to its first step",
    ["engine"],
    buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600),
)
JOBS_ENDED = Counter("airweave_jobs_ended", "Jobs that ended", ["status", "engine", "source"])
TAKEOVERS = Counter(
    "airweave_takeovers", "Partitions (or jobs) taken over from a reader (or driver) that fell silent", ["what"]
)
for _what in ("partition", "job"):
    TAKEOVERS.labels(_what)  # so that the series exists, with 0
REQUEST_S = Histogram(
    "airweave_http_request_seconds",
    "Seconds from a request to the start of its response",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

_further: list[str] = []


def append_page(url: str) -> None:
    """Append the metrics page at ``url`` to ours, for a part that measures itself."""
    _further.append(url)


def page() -> bytes:
    """All metrics of this process."""
    parts = [generate_latest()]
    for url in _further:
        try:
            with urlopen(url, timeout=PAGE_S) as answer:
                parts.append(answer.read())
        except (URLError, OSError):  # only that part is missing
            continue
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts if part)


def may_read(token: str | None, authorization: str | None) -> bool:
    """Whether a request with this ``Authorization`` header may read the page. Without a ``token`` anybody may."""
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def serve(host: str, port: int, *, token: str | None, trouble: Callable[[], str | None]) -> ThreadingHTTPServer:
    """Answer GET /metrics and GET /health on a thread of its own. ``trouble`` returns None if all is well; otherwise
    /health answers 503 with its text. Raises ``Unstartable`` if the address cannot be bound."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                if may_read(token, self.headers.get("Authorization")):
                    self._answer(200, page(), CONTENT_TYPE)
                else:
                    self._answer(401, b"send METRICS_TOKEN as a bearer token\n")
            elif self.path == "/health":
                reason = trouble()
                self._answer(503 if reason else 200, f"{reason or 'polling'}\n".encode())
            else:
                self._answer(404, b"not found: use /metrics or /health\n")

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: scrapes come too often."""

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except OSError as error:
        raise Unstartable(f"METRICS_PORT: cannot listen on {host}:{port} ({error.strerror})") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
