"""A small real server of OpenAI's chat protocol, which replies as a script says.

``replies`` holds what happens to requests, in turn; when it is used up, ``always`` does. A reply is

    an object     sent as JSON in the message, as a model would write it
    a text        sent as it is
    a number      that status
    a function    called with the text of all messages, returns one of the others
    ``FORMLESS``  JSON of another form
    ``HANG``      no answer until the server ends; ``gone`` is set when the client has hung up meanwhile
"""

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-canary-of-the-language-model"
HANG, FORMLESS = object(), object()
HANG_S = 60.0
STOP_POLL_S = 0.005  # how soon the server notices that it is to stop


class LlmServer:
    """``requests``: the bodies so far."""

    def __init__(self) -> None:
        self.replies: deque[Any] = deque()
        self.always: Any = {}
        self.requests: list[dict[str, Any]] = []
        self.gone = threading.Event()
        self.released = threading.Event()
        self.ending = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers.get("Authorization") != f"Bearer {KEY}":
                    self._send(401, {"error": f"wrong key: {self.headers.get('Authorization')}"})
                    return
                if self.path != "/v1/chat/completions":
                    self._send(404, {"error": "there is only /v1/chat/completions"})
                    return
                script.requests.append(body)
                self._play(body, script.replies.popleft() if script.replies else script.always)

            def _play(self, body: dict[str, Any], reply: Any) -> None:
                if isinstance(reply, Callable):  # type: ignore[arg-type]
                    reply = reply("\n".join(one["content"] for one in body["messages"]))
                if reply is HANG:
                    self._hang()
                elif reply is FORMLESS:
                    self._send(200, {"choices": []})
                elif isinstance(reply, int):
                    self._send(reply, {"error": body, "authorization": self.headers.get("Authorization")})
                else:
                    content = reply if isinstance(reply, str) else f"```json\n{json.dumps(reply)}\n```"
                    message = {"role": "assistant", "content": content}
                    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                    self._send(200, {"choices": [{"index": 0, "message": message}], "usage": usage})

            def _hang(self) -> None:
                ends_at = time.monotonic() + HANG_S
                while not (script.ending.is_set() or script.released.is_set()) and time.monotonic() < ends_at:
                    readable, _, _ = select.select([self.connection], [], [], 0.05)
                    if readable and not self.connection.recv(1, socket.MSG_PEEK):
                        script.gone.set()
                        break
                self.close_connection = True

            def _send(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
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

    def settings(self) -> dict[str, str]:
        """What a server is told to use it."""
        return {"LLM_URL": self.url, "LLM_MODEL": "scripted", "LLM_KEY": KEY, "LLM_TIMEOUT_S": "1"}

    def said(self) -> str:
        """All that it was told, in all requests."""
        return "\n".join(one["content"] for body in self.requests for one in body["messages"])

    def reset(self, *replies: Any, always: Any = None) -> None:
        """Begin a new script."""
        self.replies = deque(replies)
        self.always = {} if always is None else always
        self.requests.clear()
        self.gone.clear()
        self.released.clear()

    def release(self) -> None:
        """End all requests that hang."""
        self.released.set()

    def __enter__(self) -> "LlmServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
