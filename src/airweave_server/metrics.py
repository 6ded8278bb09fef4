"""What a process counts and measures, as a page in Prometheus' text format; docs/metrics.md has the table."""

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
BATCH_S = Histogram(
    "airweave_batch_seconds", "Seconds from one committed batch of a partition to the next", ["source"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)  # fmt: skip
SLICE_S = Histogram(
    "airweave_slice_seconds", "Seconds of one slice of a partition", ["source"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 90, 180, 600),
)  # fmt: skip
START_S = Histogram(
    "airweave_job_start_seconds", "Seconds from the creation of a job to its first step", ["engine"],
    buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600),
)  # fmt: skip
JOBS_ENDED = Counter("airweave_jobs_ended", "Jobs that came to their end", ["status", "engine", "source"])
TAKEOVERS = Counter(
    "airweave_takeovers", "Partitions (or jobs) taken from a reader (or driver) that fell silent", ["what"]
)
for _what in ("partition", "job"):
    TAKEOVERS.labels(_what)  # none is a figure too
REQUEST_S = Histogram(
    "airweave_http_request_seconds", "Seconds from a request to its answer", ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)  # fmt: skip

_further: list[str] = []


def append_page(url: str) -> None:
    """Append the page at ``url``, of a part that measures itself."""
    _further.append(url)


def page() -> bytes:
    """Everything this process exports."""
    parts = [generate_latest()]
    for url in _further:
        try:
            with urlopen(url, timeout=PAGE_S) as answer:
                parts.append(answer.read())
        except (URLError, OSError):  # that part is missing, and only that
            continue
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts if part)


def may_read(token: str | None, authorization: str | None) -> bool:
    """Whether a request with this ``Authorization`` header may see the page; without a ``token`` anybody may."""
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


def serve(host: str, port: int, *, token: str | None, trouble: Callable[[], str | None]) -> ThreadingHTTPServer:
    """Answer GET /metrics, and GET /health with 200 or, while there is ``trouble``, 503 and its words, on a thread of
    its own. Raises ``Unstartable`` when the address cannot be listened on."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                if may_read(token, self.headers.get("Authorization")):
                    self._answer(200, page(), CONTENT_TYPE)
                else:
                    self._answer(401, b"send METRICS_TOKEN as a bearer token\n")
            elif self.path == "/health":
                said = trouble()
                self._answer(503 if said else 200, f"{said or 'polling'}\n".encode())
            else:
                self._answer(404, b"there are /metrics and /health\n")

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not worth a line."""

        def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    try:
        server = ThreadingHTTPServer((host, port), Pages)
    except OSError as error:
        raise Unstartable(f"METRICS_PORT: {host}:{port} cannot be listened on ({error.strerror})") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
