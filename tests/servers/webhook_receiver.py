"""A real HTTP server that receives webhooks, and answers what a test wants.

Each path is a receiver of its own. ``answers[path]`` are the statuses of its next requests; afterwards it answers 200,
or ``always[path]``. ``hanging``: paths that never answer. ``retry_after[path]``: that header of its failures. A status
of 3xx redirects to ``/elsewhere``.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STOP_POLL_S = 0.005
HANG_S = 60.0


@dataclass(frozen=True)
class Received:
    """A request, and what was answered (0: nothing)."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.headers["svix-id"]

    @property
    def number(self) -> int:
        return int(self.headers["airweave-sequence"])

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def is_signed_with(self, secret: str) -> bool:
        """Verify the signature as the specification of Standard Webhooks says, and that it was made just now."""
        prefix, _, encoded = secret.partition("_")
        assert prefix == "whsec"
        signed = f"{self.id}.{self.headers['svix-timestamp']}.{self.body.decode()}".encode()
        expected = base64.b64encode(hmac.new(base64.b64decode(encoded), signed, hashlib.sha256).digest()).decode()
        is_recent = abs(time.time() - int(self.headers["svix-timestamp"])) < 300
        return is_recent and f"v1,{expected}" in self.headers["svix-signature"].split(" ")


class WebhookReceiver:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.received: list[Received] = []
        self.answers: dict[str, list[int]] = {}
        self.always: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.retry_after: dict[str, str] = {}
        self.stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(STOP_POLL_S,), daemon=True)

    def __enter__(self) -> "WebhookReceiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def got(self, path: str, *, ok: bool = False, method: str = "POST") -> list[Received]:
        """What came to this path, in order; ``ok``: only what was answered with 2xx."""
        with self.lock:
            return [
                one
                for one in self.received
                if one.path == path and one.method == method and (not ok or 200 <= one.status < 300)
            ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    receiver: WebhookReceiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with receiver.lock:
            hangs = self.path in receiver.hanging
            planned = receiver.answers.get(self.path) or [receiver.always.get(self.path, 200)]
            status = 0 if hangs else planned.pop(0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.command, self.path, headers, body, status))
        if hangs:
            receiver.stopped.wait(HANG_S)
            self.close_connection = True
            return
        said = b"" if self.command == "HEAD" else f"answered {status}".encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        if status >= 400 and self.path in receiver.retry_after:
            self.send_header("Retry-After", receiver.retry_after[self.path])
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_HEAD = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass
