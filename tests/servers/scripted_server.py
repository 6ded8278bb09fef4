"""A small real HTTP server whose content and faults are a script that may change while it runs.

In the same process by attributes and methods, from any other one over HTTP (``POST /_script``, ``GET /_log``).

    with ScriptedServer() as server:
        server.partitions["a"] = items(25)
        server.fault("status", status=500, page=1, times=2)
        server.url

A partition is a list of items; an item is what JSON can say, usually ``{"id", "text", "version"}``. The server reads:

    GET /partitions                        {"partitions": ["a", ...]}
    GET /items?partition=a&page=0          {"items": [...], "next": 1 or null}
    GET /changes?partition=a&since=0       {"items": [... or {"id", "deleted": true}], "since": 9, "more": false}
    GET /content/ID                        the text of an item

Kinds of faults: ``status`` (with ``status``, ``retry_after``), ``reset``, ``truncate`` (half of the JSON),
``cut`` (half of the bytes that were promised), ``hang``, ``drip`` (a byte each
``every_s``), ``slow`` (``latency_s``), ``empty`` (no items and no next page), ``end`` (no next page), ``redirect``
(``to``), ``garbage`` (200, but no JSON), ``raw`` (``body``). Where: ``path``, ``partition``, ``page``, ``request`` (the
number of the request, from 1), ``from_request``. How often: ``times`` (else always), ``probability`` (seeded).

``held_from``: a page from this number on is not answered before the number is raised, or None. A job that reads such a
partition cannot be over, however slow the machine is.

Steps change the content at a given moment of a read, once: ``after={"partition": "a", "page": 2}``, and ``do``:
``remove`` (``partition``, ``id``), ``move`` (``partition``, ``id``, ``to``), ``drop`` (``partition``), ``put``
(``partition``, ``item``).
"""

import argparse
import base64
import json
import random
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE_SIZE = 10
HANG_S = 600.0
HELD_POLL_S = 0.01
STOP_POLL_S = 0.005  # how soon the server notices that it is to stop


def items(count: int, *, start: int = 0, prefix: str = "item", version: str = "1") -> list[dict[str, Any]]:
    """Items with ids ``item-0000`` on, each with a word of its own in its text."""
    return [
        {
            "id": f"{prefix}-{number:04}",
            "name": f"{prefix} {number}",
            "text": f"{prefix} number {number} in version {version} tells of word{prefix}{number}.",
            "version": version,
        }
        for number in range(start, start + count)
    ]


class ScriptedServer:
    """The script, and the server that plays it. All of it may be changed while it is read."""

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.stopped = threading.Event()
        self.reset()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.script = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(STOP_POLL_S,), daemon=True)

    def reset(self) -> None:
        """Forget everything."""
        with self.lock:
            self.partitions: dict[str, list[Any]] = {}
            self.page_size = PAGE_SIZE
            self.latency_s = 0.0  # of each page
            self.held_from: int | None = None  # the first page that is not answered yet
            self.token: str | None = None  # that requests must bear
            self.expires_at_request: int | None = None  # from this one on the token is refused
            self.faults: list[dict[str, Any]] = []
            self.steps: list[dict[str, Any]] = []
            self.log: list[dict[str, Any]] = []
            self.requests = 0
            self.seed(0)
            self._feed: dict[str, list[dict[str, Any]]] = {}
            self._last_change = 0

    def seed(self, seed: int) -> None:
        """Begin the chances of faults with a probability anew."""
        self.chance = random.Random(seed)

    def fault(self, kind: str, **where: Any) -> None:
        """Add a fault; see the module."""
        with self.lock:
            self.faults.append({"kind": kind, **where})

    def step(self, after: dict[str, Any], do: str, **what: Any) -> None:
        """Add a change of the content that happens once the given page was served."""
        with self.lock:
            self.steps.append({"after": after, "do": do, **what})

    def put(self, partition: str, item: dict[str, Any]) -> None:
        """Add an item, or replace the one of its id where it stands."""
        with self.lock:
            held = self.partitions.setdefault(partition, [])
            for place, other in enumerate(held):
                if _id(other) == item["id"]:
                    held[place] = item
                    return
            held.append(item)

    def listed(self) -> list[Any]:
        """All items of all partitions."""
        with self.lock:
            return [item for held in self.partitions.values() for item in held]

    def remove(self, partition: str, id: str) -> Any:
        """Take an item out."""
        with self.lock:
            held = self.partitions[partition]
            place = next(place for place, item in enumerate(held) if _id(item) == id)
            return held.pop(place)

    def move(self, partition: str, id: str, to: str) -> None:
        """Move an item to the end of another partition."""
        with self.lock:
            self.partitions.setdefault(to, []).append(self.remove(partition, id))

    def apply(self, change: dict[str, Any]) -> None:
        """What ``POST /_script`` does: ``reset``, then attributes, then ``put``, ``remove``, ``move``, ``fault``s."""
        with self.lock:
            if change.get("reset"):
                self.reset()
            if "seed" in change:
                self.seed(change["seed"])
            if change.get("clear_log"):
                self.log.clear()
            for name in ("page_size", "latency_s", "held_from", "token", "expires_at_request", "faults", "steps"):
                if name in change:
                    setattr(self, name, change[name])
            for key, held in change.get("partitions", {}).items():
                if held is None:
                    self.partitions.pop(key, None)
                else:
                    self.partitions[key] = held
            for name in ("put", "remove", "move", "fault", "step"):
                for arguments in change.get(name, []):
                    getattr(self, name)(**arguments)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopped.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(10)
        self._server.server_close()

    def __enter__(self) -> "ScriptedServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def page(self, partition: str, page: int) -> dict[str, Any]:
        held = self.partitions.get(partition, [])
        begin, end = page * self.page_size, (page + 1) * self.page_size
        return {"items": held[begin:end], "next": page + 1 if end < len(held) else None}

    def changes(self, partition: str, since: int) -> dict[str, Any]:
        """A page of what changed, found by comparing with what the feed already tells."""
        feed = self._feed.setdefault(partition, [])
        told = {entry["id"]: entry for entry in feed}
        now = {_id(item): item for item in self.partitions.get(partition, [])}
        for id, item in now.items():
            if id not in told or told[id]["item"] != item:
                self._tell(feed, id, item)
        for id in told.keys() - now.keys():
            if not (isinstance(told[id]["item"], dict) and told[id]["item"].get("deleted")):
                self._tell(feed, id, {"id": id, "deleted": True})
        new = [entry for entry in feed if entry["change"] > since]
        page = new[: self.page_size]
        last = page[-1]["change"] if page else since
        return {"items": [entry["item"] for entry in page], "since": last, "more": len(new) > len(page)}

    def _tell(self, feed: list[dict[str, Any]], id: Any, item: Any) -> None:
        self._last_change += 1
        feed[:] = [entry for entry in feed if entry["id"] != id]
        feed.append({"change": self._last_change, "id": id, "item": json.loads(json.dumps(item))})

    def holds(self, page: int | None) -> bool:
        """Whether this page is not to be answered yet."""
        held_from = self.held_from
        return page is not None and held_from is not None and page >= held_from

    def fault_of(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The first fault that applies to a request, once counted."""
        for fault in self.faults:
            if any(name in fault and fault[name] != request[name] for name in ("path", "partition", "page")):
                continue
            if fault.get("request", request["number"]) != request["number"]:
                continue
            if request["number"] < fault.get("from_request", 0) or fault.get("times", 1) <= 0:
                continue
            if "probability" in fault and self.chance.random() >= fault["probability"]:
                continue
            if "times" in fault:
                fault["times"] -= 1
            return fault
        return None

    def done(self, request: dict[str, Any]) -> None:
        """Do the steps that were to come after this request."""
        for step in [step for step in self.steps if all(request[key] == value for key, value in step["after"].items())]:
            self.steps.remove(step)
            match step["do"]:
                case "remove":
                    self.remove(step["partition"], step["id"])
                case "move":
                    self.move(step["partition"], step["id"], step["to"])
                case "put":
                    self.put(step["partition"], step["item"])
                case "drop":
                    self.partitions.pop(step["partition"], None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    script: ScriptedServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``script.log``."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if urlsplit(self.path).path != "/_script":
            self._play(body)
            return
        self.server.script.apply(json.loads(body or b"{}"))
        self._send(200, {"ok": True})

    def do_GET(self) -> None:
        if self.path == "/_log":
            with self.server.script.lock:
                log = json.dumps(self.server.script.log)
            self._send(200, log.encode())
            return
        self._play(b"")

    def _play(self, body: bytes) -> None:
        script = self.server.script
        split = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        with script.lock:
            script.requests += 1
            request: dict[str, Any] = {
                "number": script.requests,
                "at": time.time(),
                "method": self.command,
                "path": split.path,
                "query": query,
                "partition": query.get("partition"),
                "page": int(query["page"]) if "page" in query else None,
                "since": int(query["since"]) if "since" in query else None,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("utf-8", "replace"),
                "answer": None,
            }
            script.log.append(request)
            is_expired = script.expires_at_request is not None and script.requests >= script.expires_at_request
            wanted = None if script.token is None else f"Bearer {script.token}"
            is_refused = wanted is not None and request["headers"].get("authorization") != wanted
            fault = script.fault_of(request)
            latency_s = script.latency_s if split.path in ("/items", "/changes") else 0.0
        if is_expired or is_refused:
            request["answer"] = 401
            self._send(401, {"error": "credentials", "echo": request["headers"].get("authorization")})
            return
        kind = fault["kind"] if fault else None
        request["fault"] = kind
        if kind == "slow" and fault is not None:
            latency_s += fault["latency_s"]
        is_ending = bool(latency_s) and script.stopped.wait(latency_s)
        while script.holds(request["page"]) and not is_ending:
            is_ending = script.stopped.wait(HELD_POLL_S)
        if is_ending:
            self.close_connection = True
            return
        with script.lock:
            answer = self._answer(script, split.path, request)
            payload = answer if isinstance(answer, bytes) or answer is None else json.dumps(answer).encode()
        if fault is None or kind == "slow":
            request["answer"] = 404 if payload is None else 200
            self._send(404 if payload is None else 200, {"error": "not found"} if payload is None else payload)
        else:
            request["answer"] = kind
            self._fail(fault, answer, payload or b"{}", request)
        with script.lock:
            if request["answer"] == 200:
                script.done(request)

    def _answer(self, script: ScriptedServer, path: str, request: dict[str, Any]) -> Any:
        if path == "/partitions":
            return {"partitions": list(script.partitions)}
        if path == "/items":
            if request["partition"] not in script.partitions:
                return None
            return script.page(request["partition"], request["page"] or 0)
        if path == "/changes":
            return script.changes(request["partition"], request["since"] or 0)
        if path.startswith("/content/"):
            id = unquote(path.removeprefix("/content/"))
            for held in script.partitions.values():
                for item in held:
                    if _id(item) == id:
                        return str(item.get("text", "")).encode("utf-8", "replace")
        return None

    def _fail(self, fault: dict[str, Any], answer: Any, payload: bytes, request: dict[str, Any]) -> None:
        match fault["kind"]:
            case "status":
                headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
                echo = {"error": "as told", "echo": request["headers"].get("authorization")}
                request["answer"] = fault["status"]
                self._send(fault["status"], echo, headers)
            case "redirect":
                request["answer"] = fault.get("status", 302)
                self._send(request["answer"], {}, {"Location": fault["to"]})
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.rfile.close()
                self.wfile.close()
                self.connection.close()
                raise ConnectionResetError
            case "truncate":
                self._send(200, payload[: len(payload) // 2])
            case "cut":
                self._head(200, len(payload))
                self.wfile.write(payload[: len(payload) // 2])
                self.close_connection = True
            case "hang":
                self.server.script.stopped.wait(HANG_S)
                self.close_connection = True
            case "drip":
                self._head(200, len(payload))
                for byte in payload:
                    self.wfile.write(bytes([byte]))
                    if self.server.script.stopped.wait(fault.get("every_s", 0.1)):
                        break
                self.close_connection = True
            case "empty":
                request["answer"] = 200
                self._send(200, {**answer, "items": [], "next": None, "more": False})
            case "end":
                request["answer"] = 200
                self._send(200, {**answer, "next": None, "more": False})
            case "garbage":
                self._send(200, b"<html>please sign in</html>")
            case "raw":
                encoded = fault["body"]
                self._send(200, base64.b64decode(encoded) if fault.get("base64") else encoded.encode())

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, len(payload), headers)
        self.wfile.write(payload)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


def _id(item: Any) -> Any:
    id = item.get("id") if isinstance(item, dict) else None
    return id if isinstance(id, str | int | float | bool) or id is None else repr(id)


def main() -> None:
    """Serve until standard input closes or a signal comes; the first line printed is the address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", help="a JSON file, as POST /_script takes it")
    arguments = parser.parse_args()
    with ScriptedServer(arguments.port) as server:
        if arguments.script:
            with open(arguments.script) as file:
                server.apply(json.load(file))
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
