"""Use cases of webhook subscriptions: create, change and recover; what is signed, and when it is sent again.

``deliveries`` sends the messages.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from ..db import webhooks
from ..db.models import WebhookSubscription
from ..db.session import now
from ..db.webhooks import MESSAGE_DAYS
from ..errors import BadInput, InvalidState, NotFound
from ..sdk import AuthError, ConfigError, Context, SourceError
from ..sdk.http import Http
from ..settings import Settings
from ..vault import Vault, VaultError
from ..wire import EARLIEST, LATEST

PREFIX = "whsec_"
SECRET_BYTES = (24, 64)  # of a secret in base64: the fewest and the most
MOST_SUBSCRIPTIONS = 500  # of an organization
SHOWN_BYTES = 1_024  # of a response
BACKOFF_FACTOR = 6
LONGEST_WAIT_S = 7_200.0
MARK = "airweave-installation"  # the header by which a server knows its own requests
LOOP = 508  # the status that it answers them with
GONE = 410  # the status by which a receiver says that it wants no more, by Standard Webhooks


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server was reached by the request that names a URL. ``port``: None if the request says none; then it
    came through a proxy, behind which others may have the same name."""

    host: str
    port: int | None


def create(
    session: Session,
    vault: Vault,
    settings: Settings,
    organization_id: UUID,
    *,
    url: str,
    event_types: list[str],
    secret: str | None,
    own: Endpoint,
) -> WebhookSubscription:
    """Create a subscription. Raises ``BadInput`` that names the field, and ``InvalidState`` if the endpoint is to be
    verified and does not answer."""
    key = _to_secret(secret)
    check_url(url, settings, vault, own)
    if webhooks.count(session, organization_id) >= MOST_SUBSCRIPTIONS:
        raise InvalidState(f"this organization has {MOST_SUBSCRIPTIONS} webhook subscriptions; delete some first")
    subscription = WebhookSubscription(
        id=uuid4(), organization_id=organization_id, url=url, event_types=event_types, disabled=False
    )
    subscription.secret = vault.seal(key.encode(), owner=owner_of(subscription.id))
    webhooks.add(session, subscription)
    return subscription


def find(session: Session, organization_id: UUID, subscription_id: str, *, lock: bool = False) -> WebhookSubscription:
    """Return the subscription. Raises ``NotFound``."""
    found = None
    if (key := parse_id(subscription_id)) is not None:
        found = webhooks.find(session, organization_id, key, lock=lock)
    if found is None:
        raise NotFound("Webhook subscription not found")
    return found


def parse_id(text: str) -> UUID | None:
    """The id; None for a text that is none of ours."""
    try:
        return UUID(text)
    except ValueError:
        return None


def update(
    session: Session,
    subscription: WebhookSubscription,
    *,
    url: str | None,
    event_types: list[str] | None,
    disabled: bool | None,
    recover_since: datetime | None,
) -> None:
    """Apply the changes that are given, to a locked subscription. ``url`` must have been checked. A message that waits
    for its next attempt is sent at once. Raises ``BadInput``."""
    if url is not None:
        subscription.url = url
    if event_types is not None:
        subscription.event_types = event_types
    if disabled is not None:
        subscription.disabled = disabled
        if not disabled:
            subscription.disabled_reason = None
    subscription.not_before = None
    subscription.updated_at = now(session)
    session.flush()
    if recover_since is not None and disabled is False:
        recover(session, subscription, since=recover_since, until=None, field="body.recover_since")


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery that has begun. ``messages``: how many are sent again."""

    id: UUID
    messages: int


def recover(
    session: Session, subscription: WebhookSubscription, *, since: datetime, until: datetime | None, field: str = ""
) -> Recovery:
    """Send what failed or was missed in this time again, to a locked subscription. Raises ``BadInput`` if ``since`` is
    too long ago."""
    since, until = _to_utc(since), None if until is None else _to_utc(until)
    if since < now(session) - timedelta(days=MESSAGE_DAYS):
        raise BadInput(f"messages are kept for {MESSAGE_DAYS} days; since must not be longer ago", field=field)
    subscription.not_before = None
    session.flush()
    return Recovery(uuid4(), webhooks.recover(session, subscription.id, since=since, until=until))


def check_url(url: str, settings: Settings, vault: Vault, own: Endpoint) -> None:
    """Check where a subscription is to send to, without a database connection. Raises ``BadInput``, and
    ``InvalidState`` if the endpoint is to be verified and does not answer."""
    try:
        with open_client(url, settings) as http:
            if own.port is not None and http.leads_to(own.host, own.port):
                raise BadInput("the URL is this server itself", field="body.url")
            http.check_address()
            if settings.webhook_verify_endpoints:
                _verify(http, vault)
    except (ConfigError, AuthError) as error:
        raise BadInput(str(error), field="body.url") from None


def _verify(http: Http, vault: Vault) -> None:
    """Ask the endpoint whether it is there. Any answer will do that is not a redirect: few know HEAD."""
    try:
        answer = http.exchange("HEAD", headers={MARK: mark_of(vault)}, most_bytes=SHOWN_BYTES)
    except ConfigError:
        raise
    except SourceError as error:
        raise InvalidState(f"the endpoint cannot be used: {error}") from None
    if 300 <= answer.status < 400 or answer.status == LOOP:
        raise InvalidState(f"the endpoint cannot be used: it {describe_status(answer.status)}")


def describe_status(status: int) -> str | None:
    """What is wrong about a response of this status; None if it is a success."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"redirects ({status}), and webhooks do not follow redirects: give the final address"
    if status == LOOP:
        return f"is this server itself, or answers that it loops ({status})"
    return f"answers {status}"


def open_client(url: str, settings: Settings, stop: threading.Event | None = None) -> Http:
    """The guarded client for one endpoint. Raises ``ConfigError`` for what is no address."""
    context = Context(allowed_hosts=settings.allowed_private_hosts, stop=stop or threading.Event())
    return Http(url, context=context, timeout_s=settings.webhook_timeout_s, total_s=settings.webhook_timeout_s)


def owner_of(subscription_id: UUID) -> str:
    """The owner of a sealed secret, for the vault."""
    return f"webhook {subscription_id}"


def open_secret(vault: Vault, subscription_id: UUID, sealed: bytes) -> str:
    """The secret in the form that receivers use, ``whsec_…``. Raises ``VaultError``."""
    return vault.open(sealed, owner=owner_of(subscription_id)).decode()


def show_secret(vault: Vault, subscription: WebhookSubscription) -> str:
    """The secret of a subscription, for its owner. Raises ``InvalidState``."""
    try:
        return open_secret(vault, subscription.id, subscription.secret)
    except VaultError as error:
        raise InvalidState(f"the secret cannot be opened: it is {error}") from None


def mark_of(vault: Vault) -> str:
    """What tells this installation from others, and tells nothing about its key."""
    return hashlib.sha256(b"airweave-server installation" + vault.key_id).hexdigest()[:16]


def to_body(payload: dict[str, Any]) -> bytes:
    """The body of a delivery. The same payload always has the same body."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def sign(secret: str, *, message_id: UUID, timestamp: int, body: bytes) -> str:
    """The signature of a delivery by Standard Webhooks: HMAC-SHA256 of id, time and body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"


def next_wait_s(attempts: int, settings: Settings) -> float | None:
    """Seconds until the next attempt after so many failed ones; None if there is none. Waits are counted, not days: the
    server may have been down."""
    total_s = 0.0
    for failed in range(attempts):
        wait_s = min(settings.webhook_backoff_s * BACKOFF_FACTOR ** min(failed, 20), LONGEST_WAIT_S)
        total_s += wait_s
    return wait_s if total_s <= settings.webhook_retry_days * 86_400 else None


def _to_secret(given: str | None) -> str:
    if given is None:
        return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES[0])).decode()
    if not given.startswith(PREFIX):
        return PREFIX + base64.b64encode(given.encode()).decode()
    try:
        key = base64.b64decode(given.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    fewest, most = SECRET_BYTES
    if not fewest <= len(key) <= most:
        raise BadInput(f"after {PREFIX} there must be the base64 of {fewest} to {most} bytes", field="body.secret")
    return given


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return EARLIEST if moment.year == 1 else LATEST
