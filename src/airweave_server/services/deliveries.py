"""Sends webhook messages to their subscriptions: in order, at least once, each subscription on its own.

The keeper says when; only its process sends. A thread holds a subscription by a claim in the database, so a process
that was taken for dead never sends beside its successor for longer than one request. No thread holds a database
connection while it waits for a receiver.
"""

import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import structlog

from ..db import webhooks
from ..db.session import Database, first_line, is_outage
from ..db.webhooks import Attempt, Claim, Due, Next
from ..sdk import SourceError, Stopped
from ..sdk.http import Http
from ..settings import Settings
from ..vault import Vault, VaultError
from .webhooks import (
    GONE,
    LONGEST_WAIT_S,
    MARK,
    SHOWN_BYTES,
    describe_status,
    mark_of,
    next_wait_s,
    open_client,
    open_secret,
    sign,
    to_body,
)

# by the standing of subscriptions: those that fail, or may, must not hold up the others
LANES = {"good": 4, "new": 2, "failing": 2}
THREADS = sum(LANES.values()) + 1  # that use the database
TURN_S = 5.0  # after which a subscription with more messages lets others go first
CLAIM_SHARE = 1.5  # how long a claim holds, as a multiple of the time that a receiver has
SHORTEST_WAIT_S = 0.05
STOP_S = 3.0

log = structlog.get_logger(__name__)


class Deliveries:
    """Takes up new messages and sends those that are due, at each ``kick``."""

    def __init__(self, database: Database, vault: Vault, settings: Settings) -> None:
        self._database = database
        self._vault = vault
        self._settings = settings
        self._sender = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._claim_s = settings.webhook_timeout_s * CLAIM_SHARE
        self._kicked_at = -math.inf
        self._wait_s: float | None = None  # until the next look, if nobody kicks
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[UUID] = set()
        self._unfinished: set[UUID] = set()  # their turn ended before their messages
        self._lanes = {name: _Lane(f"webhooks-{name}", threads, self._serve) for name, threads in LANES.items()}
        self._thread = threading.Thread(target=self._loop, name="deliveries", daemon=True)

    def start(self) -> None:
        for lane in self._lanes.values():
            lane.start()
        self._thread.start()

    def kick(self) -> None:
        self._kicked_at = time.monotonic()
        self._wake.set()

    def stop(self) -> None:
        """Stop sending. A request under way is broken off and does not count as an attempt; its message is sent
        again."""
        self._stopping.set()
        self._wake.set()
        ends = time.monotonic() + STOP_S
        self._thread.join(STOP_S)
        for lane in self._lanes.values():
            lane.stop(max(0.1, ends - time.monotonic()))

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._wait_s)
            self._wake.clear()
            self._wait_s = None
            self._try(self._round)

    def _round(self) -> None:
        taken = 1
        while taken and not self._stopping.is_set():
            with self._database.session() as session:
                taken = webhooks.take_up(session)
        with self._database.session() as session:
            found = webhooks.list_due(session)
        for due in found:
            with self._lock:
                if due.id in self._busy or self._stopping.is_set():
                    continue
                self._busy.add(due.id)
            self._lanes[due.standing].put(due)
        with self._database.session() as session:
            due_s = webhooks.next_due_s(session)
        if due_s is not None and time.monotonic() + due_s < self._kicked_at + self._settings.tick_s:
            self._wait_s = max(due_s, SHORTEST_WAIT_S)  # the next attempt is due before the keeper kicks again

    def _serve(self, due: Due) -> None:
        """Send to one subscription until it has everything, fails, or has had its turn."""
        try:
            self._try(lambda: self._send_pending(due.id))
        finally:
            with self._lock:
                self._busy.discard(due.id)
                has_more, self._unfinished = due.id in self._unfinished, self._unfinished - {due.id}
            if has_more:
                self._wake.set()

    def _send_pending(self, subscription_id: UUID) -> None:
        if self._stopping.is_set():
            return
        with self._database.session() as session:
            claim = webhooks.claim(session, subscription_id, sender=self._sender, lease_s=self._claim_s)
            message = webhooks.next_message(session, subscription_id) if claim is not None else None
        if claim is None:
            return
        ends = time.monotonic() + TURN_S
        try:
            secret = open_secret(self._vault, claim.id, claim.secret)
            with open_client(claim.url, self._settings, self._stopping) as http:
                while message is not None and time.monotonic() < ends:
                    attempt = self._attempt(http, secret, message)
                    message = self._record(claim, message, attempt)
        except VaultError as error:
            if message is not None:
                log.error("webhook_secret_unreadable", subscription=str(claim.id), error=str(error))
                self._record(claim, message, self._fail(message, 0, "the stored secret cannot be opened"))
        except Stopped:
            pass
        finally:
            with self._database.session() as session:
                webhooks.release(session, claim)
        if message is not None:
            with self._lock:
                self._unfinished |= {subscription_id}

    def _attempt(self, http: Http, secret: str, message: Next) -> Attempt:
        timestamp, body = int(time.time()), to_body(message.payload)
        headers = {
            "content-type": "application/json",
            "svix-id": str(message.id),
            "svix-timestamp": str(timestamp),
            "svix-signature": sign(secret, message_id=message.id, timestamp=timestamp, body=body),
            "airweave-sequence": str(message.number),
            MARK: mark_of(self._vault),
        }
        try:
            answer = http.exchange("POST", body, headers=headers, most_bytes=SHOWN_BYTES)
        except Stopped:
            raise
        except SourceError as error:
            return self._fail(message, 0, str(error))
        text = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
        trouble = describe_status(answer.status)
        if trouble is None:
            return Attempt(answer.status, text, is_success=True)
        is_told = bool(text) and answer.status >= 400
        failed = self._fail(message, answer.status, text if is_told else trouble)
        if answer.status == GONE:
            return replace(failed, wait_s=0.0, disables=f"the endpoint answered {GONE}: it wants no more messages")
        if failed.wait_s is not None and (told_s := answer.retry_after_s) is not None:
            return replace(failed, wait_s=max(failed.wait_s, min(told_s, LONGEST_WAIT_S)))
        return failed

    def _fail(self, message: Next, status: int, response: str) -> Attempt:
        wait_s = next_wait_s(message.attempts + 1, self._settings)
        return Attempt(status, response, is_success=False, wait_s=wait_s)

    def _record(self, claim: Claim, message: Next, attempt: Attempt) -> Next | None:
        """Record the attempt; returns the message to send next, None if the turn is over."""
        with self._database.session() as session:
            goes_on = webhooks.record(session, claim, message, attempt, lease_s=self._claim_s)
            following = webhooks.next_message(session, claim.id) if goes_on else None
        if not attempt.is_success:
            # neither the address nor the response: both may hold secrets
            event = "webhook_given_up" if attempt.wait_s is None else "webhook_failed"
            event = "webhook_disabled" if attempt.disables is not None else event
            log.warning(
                event,
                subscription=str(claim.id),
                message=str(message.id),
                status=attempt.status_code,
                attempts=message.attempts + 1,
                wait_s=attempt.wait_s,
            )
        return following

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the outermost frame of these threads: they must not end
            if self._stopping.is_set():
                return
            if is_outage(error):
                log.warning("database_unreachable", error=first_line(error))
            else:
                log.error("deliveries_failed", exc_info=error)


class _Lane:
    """Threads that serve one subscription after another, first come, first served."""

    def __init__(self, name: str, threads: int, serve: Callable[[Due], None]) -> None:
        self._serve = serve
        self._waiting: queue.SimpleQueue[Due | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._loop, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, due: Due) -> None:
        self._waiting.put(due)

    def stop(self, within_s: float) -> None:
        ends = time.monotonic() + within_s
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(max(0.05, ends - time.monotonic()))

    def _loop(self) -> None:
        while (due := self._waiting.get()) is not None:
            self._serve(due)
