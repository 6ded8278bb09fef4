"""Webhooks: messages, and the subscriptions that receive them."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Body, Query, Request
from sqlalchemy.orm import Session

from .. import wire
from ..db import webhooks
from ..db.models import WebhookMessage, WebhookSubscription
from ..db.session import give_back
from ..errors import InvalidState, NotFound
from ..services import webhooks as service
from ..services.webhooks import Endpoint
from .answers import may_raise
from .deps import MessageId, Organization, PageOf, PartsOf, SessionOf, SubscriptionId

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


@router.get("/messages")
def list_webhook_messages(
    session: SessionOf,
    organization: Organization,
    page: PageOf,
    event_types: Annotated[list[wire.EventType] | None, Query(description="Only messages of these types.")] = None,
) -> list[wire.WebhookMessage]:
    """List messages of the last 14 days, newest first, whether or not anybody subscribed to them."""
    found = webhooks.list_messages(
        session, organization, event_types=event_types or (), skip=page.skip, limit=page.limit
    )
    return [wire.WebhookMessage.of(message, **_message_fields(message)) for message in found]


@router.get("/messages/{message_id}")
def get_webhook_message(
    message_id: MessageId,
    session: SessionOf,
    organization: Organization,
    include_attempts: Annotated[bool, Query(description="Also the attempts to deliver it.")] = False,
) -> wire.WebhookMessageWithAttempts:
    """Get a message, and the attempts to deliver it, newest first, if they are asked for."""
    key = service.parse_id(message_id)
    message = webhooks.find_message(session, organization, key) if key is not None else None
    if message is None:
        raise NotFound("Webhook message not found")
    return wire.WebhookMessageWithAttempts.of(
        message,
        **_message_fields(message),
        delivery_attempts=_attempts(session, message=message) if include_attempts else None,
    )


@router.get("/subscriptions")
def list_webhook_subscriptions(session: SessionOf, organization: Organization) -> list[wire.WebhookSubscription]:
    """List the webhook subscriptions, newest first."""
    found = webhooks.list_all(session, organization)
    healths = webhooks.healths(session, [subscription.id for subscription in found])
    return [_to_wire(subscription, healths[subscription.id]) for subscription in found]


@router.post("/subscriptions", responses=may_raise(InvalidState))
def create_webhook_subscription(
    body: wire.WebhookSubscriptionCreate,
    request: Request,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
) -> wire.WebhookSubscription:
    """Subscribe a URL to events. It gets those that happen from now on, signed with the subscription's secret."""
    subscription = service.create(
        session,
        parts.vault,
        parts.settings,
        organization,
        url=body.url,
        event_types=list(body.event_types),
        secret=body.secret.get_secret_value() if body.secret is not None else None,
        own=_own_endpoint(request),
    )
    return _to_wire(subscription, "unknown")


@router.get("/subscriptions/{subscription_id}", responses=may_raise(InvalidState))
def get_webhook_subscription(
    subscription_id: SubscriptionId,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    include_secret: Annotated[bool, Query(description="Also the secret that signs.")] = False,
) -> wire.WebhookSubscriptionDetail:
    """Get a subscription with its last delivery attempts."""
    subscription = service.find(session, organization, subscription_id)
    secret = service.show_secret(parts.vault, subscription) if include_secret else None
    return wire.WebhookSubscriptionDetail.of(
        subscription,
        filter_types=subscription.event_types,
        health_status=webhooks.healths(session, [subscription.id])[subscription.id],
        delivery_attempts=_attempts(session, subscription=subscription),
        secret=secret,
        pending_messages=webhooks.count_pending(session, subscription.id),
    )


@router.patch("/subscriptions/{subscription_id}", responses=may_raise(InvalidState))
def update_webhook_subscription(
    subscription_id: SubscriptionId,
    request: Request,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
    changes: Annotated[wire.WebhookSubscriptionUpdate | None, Body()] = None,
) -> wire.WebhookSubscription:
    """Change the fields that are given. A message that waits for its next attempt is sent at once."""
    body = changes or wire.WebhookSubscriptionUpdate()  # a client that changes nothing sends no body
    service.find(session, organization, subscription_id)
    if body.url is not None:
        give_back(session)
        service.check_url(body.url, parts.settings, parts.vault, _own_endpoint(request))
    subscription = service.find(session, organization, subscription_id, lock=True)
    service.update(
        session,
        subscription,
        url=body.url,
        event_types=list(body.event_types) if body.event_types is not None else None,
        disabled=body.disabled,
        recover_since=body.recover_since,
    )
    background.add_task(parts.keeper.kick)
    return _to_wire(subscription, webhooks.healths(session, [subscription.id])[subscription.id])


@router.delete("/subscriptions/{subscription_id}")
def delete_webhook_subscription(
    subscription_id: SubscriptionId, session: SessionOf, organization: Organization
) -> wire.WebhookSubscription:
    """Delete a subscription. What was not delivered to it is not delivered any more."""
    subscription = service.find(session, organization, subscription_id, lock=True)
    deleted = _to_wire(subscription, webhooks.healths(session, [subscription.id])[subscription.id])
    webhooks.remove(session, subscription)
    return deleted


@router.post("/subscriptions/{subscription_id}/recover")
def recover_webhook_messages(
    subscription_id: SubscriptionId,
    body: wire.WebhookRecovery,
    parts: PartsOf,
    session: SessionOf,
    organization: Organization,
    background: BackgroundTasks,
) -> wire.RecoveryTask:
    """Send again what failed for good, or was missed while the subscription was disabled, at most 14 days back."""
    subscription = service.find(session, organization, subscription_id, lock=True)
    task = service.recover(session, subscription, since=body.since, until=body.until)
    background.add_task(parts.keeper.kick)
    return wire.RecoveryTask(id=task.id, status="running" if task.messages else "completed", messages=task.messages)


def _own_endpoint(request: Request) -> Endpoint:
    return Endpoint(request.url.hostname or "", request.url.port)


def _message_fields(message: WebhookMessage) -> dict[str, object]:
    return {"timestamp": message.created_at, "channels": [message.event_type]}


def _to_wire(subscription: WebhookSubscription, health: str) -> wire.WebhookSubscription:
    return wire.WebhookSubscription.of(subscription, filter_types=subscription.event_types, health_status=health)


def _attempts(
    session: Session, *, subscription: WebhookSubscription | None = None, message: WebhookMessage | None = None
) -> list[wire.DeliveryAttempt]:
    found = webhooks.list_attempts(
        session,
        subscription_id=subscription.id if subscription is not None else None,
        position=message.position if message is not None else None,
    )
    return [wire.DeliveryAttempt.of(one, status="success" if one.is_success else "failed") for one in found]
