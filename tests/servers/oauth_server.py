"""An OAuth 2 provider with short-lived tokens, and an API with pages that checks them.

    with OAuthServer(lifetime_s=5) as provider:
        credentials = provider.sign_in()          # what OAuth2Credentials takes
        provider.token_url, provider.url

    POST /token                      RFC 6749, section 6; client secret in the body or by Basic
    GET  /items?page=0               {"items": [...], "next": 1 or null}, for a valid Bearer token
    GET  /large                      a body in pieces, for a valid Bearer token

Each refresh replaces the refresh token (``rotates``). One that is used twice revokes its whole family: every token that
came of the same sign-in, as RFC 9700, section 4.14.2 asks. Runs by itself: ``python oauth_server.py --port 9000``.
"""

import argparse
import base64
import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE_SIZE = 10
CLIENT_ID = "client-1"
CLIENT_SECRET = "canary-client-secret"


@dataclass
class Family:
    """All tokens of one sign-in."""

    access: dict[str, float] = field(default_factory=dict)  # token -> monotonic time when it expires
    refresh: str = ""
    used: set[str] = field(default_factory=set)
    is_revoked: bool = False


class OAuthServer:
    """The provider. Counters: ``refreshes`` that succeeded, ``reused`` refresh tokens, ``asked`` of the token endpoint,
    ``refused`` requests to the API, ``log`` of the paths of the API."""

    def __init__(
        self, port: int = 0, *, lifetime_s: float = 3600, rotates: bool = True, items: int = 25, latency_s: float = 0
    ) -> None:
        self.lifetime_s = lifetime_s
        self.rotates = rotates
        self.items = [{"id": f"item-{number:04}", "text": f"number {number}"} for number in range(items)]
        self.latency_s = latency_s  # of each page
        self.api_status: int | None = None  # answered by the API to valid tokens
        self.echoes = False  # the API answers what signed the request, where a list is due
        self.issued: list[str] = []  # every token there ever was
        self.hang_s = 0.0  # of the token endpoint, which then breaks off without having done anything
        self.slow_s = 0.0  # after it was used up, before the new ones are answered
        self.token_answers: list[tuple[int, dict[str, str], bytes]] = []  # given instead, in turn
        self.refreshes = self.reused = self.asked = self.refused = 0
        self.log: list[str] = []
        self.forms: list[dict[str, str]] = []  # that the token endpoint was sent
        self.lock = threading.RLock()
        self._families: list[Family] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def __enter__(self) -> "OAuthServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def sign_in(self) -> dict[str, Any]:
        """Begin a family; return its credentials."""
        with self.lock:
            family = Family()
            self._families.append(family)
            access, refresh = self._issue(family)
        expires_at = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        return {
            "access_token": access,
            "refresh_token": refresh,
            "expires_at": expires_at.isoformat(),
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }

    def expire(self) -> None:
        """Let every access token expire now, whatever lifetime was promised."""
        with self.lock:
            for family in self._families:
                family.access = dict.fromkeys(family.access, 0.0)

    def revoke(self) -> None:
        """Revoke every sign-in."""
        with self.lock:
            for family in self._families:
                family.is_revoked = True

    def knows(self, access_token: str) -> bool:
        """Whether an access token is valid now."""
        with self.lock:
            return any(
                not family.is_revoked and family.access.get(access_token, 0.0) > time.monotonic()
                for family in self._families
            )

    def is_newest(self, refresh_token: str) -> bool:
        """Whether a refresh token is the last one of a family that is not revoked."""
        with self.lock:
            return any(not family.is_revoked and family.refresh == refresh_token for family in self._families)

    def refresh(self, token: str) -> dict[str, Any] | None:
        """Answer a refresh token; None: ``invalid_grant``."""
        with self.lock:
            for family in self._families:
                if token in family.used:
                    self.reused += 1
                    family.is_revoked = True
                if not family.is_revoked and secrets.compare_digest(token, family.refresh):
                    access, refresh = self._issue(family)
                    self.refreshes += 1
                    answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.lifetime_s}
                    return answer | ({"refresh_token": refresh} if self.rotates else {})
            return None

    def _issue(self, family: Family) -> tuple[str, str]:
        access = f"canary-access-{secrets.token_hex(8)}"
        family.access[access] = time.monotonic() + self.lifetime_s
        if self.rotates or not family.refresh:
            family.used |= {family.refresh} - {""}
            family.refresh = f"canary-refresh-{secrets.token_hex(8)}"
        self.issued += [access, family.refresh]
        return access, family.refresh


class _Server(ThreadingHTTPServer):
    provider: OAuthServer
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def provider(self) -> OAuthServer:
        return self.server.provider  # type: ignore[attr-defined, no-any-return]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        with self.provider.lock:
            self.provider.asked += 1
            self.provider.forms.append(form)
            scripted = self.provider.token_answers.pop(0) if self.provider.token_answers else None
        if self.provider.hang_s:
            time.sleep(self.provider.hang_s)
            self.close_connection = True
            return
        if scripted is not None:
            self._answer(*scripted)
        elif urlsplit(self.path).path != "/token":
            self._json(404, {"error": "not_found"})
        elif form.get("grant_type") != "refresh_token":
            self._json(400, {"error": "unsupported_grant_type"})
        elif self._client(form) != (CLIENT_ID, CLIENT_SECRET):
            self._json(401, {"error": "invalid_client"})
        elif (answer := self.provider.refresh(form.get("refresh_token", ""))) is None:
            self._json(400, {"error": "invalid_grant", "error_description": form.get("refresh_token")})
        else:
            if self.provider.slow_s:
                time.sleep(self.provider.slow_s)
            self._json(200, answer)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        provider = self.provider
        if provider.latency_s:
            time.sleep(provider.latency_s)
        is_valid = provider.knows(self.headers.get("authorization", "").removeprefix("Bearer "))
        with provider.lock:
            provider.log.append(self.path)
            provider.refused += not is_valid
        if not is_valid:
            self._json(401, {"error": "invalid_token"})
        elif provider.api_status is not None:
            self._json(provider.api_status, {"error": "told to"})
        elif provider.echoes:
            self._json(200, {"items": self.headers.get("authorization"), "next": None})
        elif address.path == "/items":
            page = int(parse_qs(address.query).get("page", ["0"])[0])
            begin, end = page * PAGE_SIZE, (page + 1) * PAGE_SIZE
            following = page + 1 if end < len(provider.items) else None
            self._json(200, {"items": provider.items[begin:end], "next": following})
        elif address.path == "/large":
            self._answer(200, {}, b"x" * 1_000_000)
        else:
            self._json(404, {"error": "not_found"})

    def _client(self, form: dict[str, str]) -> tuple[str | None, str | None]:
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(value).decode().partition(":")
            return name, secret
        return form.get("client_id"), form.get("client_secret")

    def _json(self, status: int, answer: object) -> None:
        self._answer(status, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # whoever asked is gone

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--lifetime-s", type=float, default=3600)
    chosen = options.parse_args()
    with OAuthServer(chosen.port, lifetime_s=chosen.lifetime_s) as running:
        sys.stdout.write(json.dumps({"url": running.url, **running.sign_in()}) + "\n")
        sys.stdout.flush()
        threading.Event().wait()
