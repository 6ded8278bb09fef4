"""A small real server of OpenAI's embeddings API, which answers rightly or as wrongly as it is told.

``faults`` holds what happens to requests, in turn; when it is used up, ``always`` does, where there is one:

    a number                that status; ``(429, 1)``: with ``Retry-After``
    ``partial``             without the last vector, ``doubled``: the last one twice, ``numbers``: numbered from 1
    ``nan zero``            one vector of such numbers
    ``short``               every vector a dimension too short, ``ragged``: one of them
    ``text``                what is no JSON, ``null``: JSON of another form
    ``huge hang reset``     an answer without an end, none, a broken connection

``poison``: a text that holds it fails its whole request, with ``poison_status``, or ``nan``.
"""

import base64
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from airweave_test_plugin.embedders import DIMENSIONS, hashed

HUGE_BYTES = 60_000_000
KEY = "sk-canary-of-the-embedding-service"
STOP_POLL_S = 0.005  # how soon the server notices that it is to stop


class EmbeddingServer:
    """Vectors of 16 dimensions, or of fewer when asked for them; ``as_floats``: it knows no base64."""

    def __init__(self) -> None:
        self.faults: deque[Any] = deque()
        self.always: Any = None
        self.poison = ""
        self.poison_status: int | str = 400
        self.most_texts = 10_000
        self.dimensions = DIMENSIONS
        self.takes_dimensions = True
        self.as_floats = False
        self.key: str | None = KEY
        self.requests: list[dict[str, Any]] = []
        self.ending = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if script.key and self.headers.get("Authorization") != f"Bearer {script.key}":
                    self._send(401, {"error": f"wrong key: {self.headers.get('Authorization')}"})
                    return
                if self.path != "/v1/embeddings":
                    self._send(404, {"error": "there is only /v1/embeddings"})
                    return
                script.requests.append(body)
                self._play(body, script.faults.popleft() if script.faults else script.always)

            def _play(self, body: dict[str, Any], fault: Any) -> None:
                texts = body["input"]
                if script.poison and any(script.poison in text for text in texts):
                    fault = script.poison_status
                if len(texts) > script.most_texts:
                    fault = 413
                if "dimensions" in body and not script.takes_dimensions:
                    fault = 400
                if isinstance(fault, tuple):
                    self._send(fault[0], {"error": body}, retry_after=fault[1])
                    return
                if isinstance(fault, int):
                    self._send(fault, {"error": body, "authorization": self.headers.get("Authorization")})
                    return
                match fault:
                    case "hang":
                        script.ending.wait(60)
                        return
                    case "reset":
                        self.close_connection = True
                        return
                    case "huge":
                        self.send_response(200)
                        self.send_header("Content-Length", str(HUGE_BYTES))
                        self.end_headers()
                        for _ in range(HUGE_BYTES // 1_000_000):
                            self.wfile.write(b" " * 1_000_000)
                        return
                    case "text":
                        self._bytes(200, b"<html>it works!</html>")
                        return
                    case "null":
                        self._send(200, None)
                        return
                vectors = list(3.0 * hashed(texts)[:, : min(body.get("dimensions", script.dimensions), DIMENSIONS)])
                match fault:
                    case "nan":
                        vectors[-1][0] = np.nan
                    case "zero":
                        vectors[-1] = vectors[-1] * 0
                    case "short":
                        vectors = [vector[:-1] for vector in vectors]
                    case "ragged":
                        vectors[0] = vectors[0][:-1]
                data = [
                    {"object": "embedding", "index": index, "embedding": self._encoded(vector, body)}
                    for index, vector in enumerate(vectors)
                ]
                match fault:
                    case "partial":
                        data.pop()
                    case "doubled":
                        data[0] = data[-1]
                    case "numbers":
                        for one in data:
                            one["index"] += 1
                self._send(200, {"object": "list", "data": data[::-1], "model": body["model"]})  # in any order

            def _encoded(self, vector: Any, body: dict[str, Any]) -> Any:
                if body.get("encoding_format") == "base64" and not script.as_floats:
                    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
                return [float(value) for value in vector]

            def _send(self, status: int, body: Any, *, retry_after: float | None = None) -> None:
                self._bytes(status, json.dumps(body).encode(), retry_after=retry_after)

            def _bytes(self, status: int, data: bytes, *, retry_after: float | None = None) -> None:
                self.send_response(status)
                if retry_after is not None:
                    self.send_header("Retry-After", str(retry_after))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(STOP_POLL_S,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def asked(self) -> list[int]:
        """How many texts each request so far asked for."""
        return [len(body["input"]) for body in self.requests]

    def settings(self) -> dict[str, str]:
        """What a server is told to use it."""
        return {
            "EMBEDDER": "openai",
            "EMBEDDINGS_URL": self.url,
            "EMBEDDINGS_MODEL": "hashed-words",
            "EMBEDDINGS_KEY": KEY,
        }

    def __enter__(self) -> "EmbeddingServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
