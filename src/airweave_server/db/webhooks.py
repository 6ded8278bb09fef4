"""Queries on webhooks: messages, subscriptions, deliveries and attempts. ``events`` writes the messages.

The keeper numbers new messages for each subscription (``take_up``), so that no transaction that causes an event waits
for another. A subscription's messages are sent in the order of their numbers, by one thread at a time (``claim``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from .leases import is_due, is_held
from .models import WebhookAttempt, WebhookMessage, WebhookSubscription

MESSAGE_DAYS = 14
TAKEN_AT_ONCE = 500
DUE_AT_ONCE = 200
LOOK_BACK = 10  # attempts that tell the health of a subscription
FAILING = 3  # attempts in a row that failed
SHOWN_ATTEMPTS = 100
IS_FREE = f"not disabled and not {is_held('sending_at', 'sending_until')} and {is_due('delayed_at', 'not_before')}"


@dataclass(frozen=True, slots=True)
class Due:
    """A subscription to which a message can be sent now. ``standing``: ``new`` before its first attempt, ``failing`` if
    the last one failed, else ``good``."""

    id: UUID
    standing: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send to a subscription. ``secret``: sealed."""

    id: UUID
    sender: str
    url: str = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Next:
    """The message that a subscription gets next. ``attempts``: how many were made."""

    position: int
    id: UUID
    number: int
    attempts: int
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended. ``status_code``: 0 without a response. ``wait_s``: until the next attempt; None after the
    last one, and after a success. ``disables``: why the subscription is to be disabled; its message stays pending."""

    status_code: int
    response: str
    is_success: bool
    wait_s: float | None = None
    disables: str | None = None


def add(session: Session, subscription: WebhookSubscription) -> None:
    """Store a new subscription. It gets the messages that are written from now on."""
    newest = select(func.coalesce(func.max(WebhookMessage.position), 0)).scalar_subquery()
    subscription.after_position = newest
    session.add(subscription)
    session.flush()
    session.refresh(subscription)


def find(
    session: Session, organization_id: UUID, subscription_id: UUID, *, lock: bool = False
) -> WebhookSubscription | None:
    """The subscription, or None if this organization has no such one. ``lock``: against changes and senders."""
    query = select(WebhookSubscription).where(
        WebhookSubscription.id == subscription_id, WebhookSubscription.organization_id == organization_id
    )
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def list_all(session: Session, organization_id: UUID) -> list[WebhookSubscription]:
    """Newest first."""
    return list(
        session.scalars(
            select(WebhookSubscription)
            .where(WebhookSubscription.organization_id == organization_id)
            .order_by(WebhookSubscription.created_at.desc(), WebhookSubscription.id)
        )
    )


def count(session: Session, organization_id: UUID) -> int:
    query = select(func.count()).where(WebhookSubscription.organization_id == organization_id)
    return session.scalar(query) or 0


def remove(session: Session, subscription: WebhookSubscription) -> None:
    session.delete(subscription)
    session.flush()


def list_sealed_with(session: Session, key_ids: list[bytes]) -> list[WebhookSubscription]:
    """Some of the subscriptions whose secret is sealed with one of these keys, locked."""
    return list(
        session.scalars(
            select(WebhookSubscription)
            .where(func.substring(WebhookSubscription.secret, 2, 4).in_(key_ids))
            .limit(100)
            .with_for_update(skip_locked=True)
        )
    )


def healths(session: Session, subscription_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The health of each of these subscriptions, by its last attempts: ``unknown``, ``healthy``, ``degraded`` or
    ``failing``."""
    rows = session.execute(
        text("""
            select s.id, array_agg(a.is_success order by a.row desc) filter (where a.row is not null) as successes
            from unnest(cast(:ids as uuid[])) as s(id)
            left join lateral (
                select row, is_success from webhook_attempt where subscription_id = s.id order by row desc limit :limit
            ) a on true group by s.id
        """),
        {"ids": list(subscription_ids), "limit": LOOK_BACK},
    )
    return {row.id: _judge(row.successes or []) for row in rows}


def _judge(successes: Sequence[bool]) -> str:
    if not successes:
        return "unknown"
    if all(successes):
        return "healthy"
    return "failing" if len(successes) >= FAILING and not any(successes[:FAILING]) else "degraded"


def list_messages(
    session: Session, organization_id: UUID, *, event_types: Sequence[str], skip: int, limit: int
) -> list[WebhookMessage]:
    """Newest first. ``event_types``: only of these types; all if empty."""
    query = select(WebhookMessage).where(WebhookMessage.organization_id == organization_id)
    if event_types:
        query = query.where(WebhookMessage.event_type.in_(event_types))
    return list(session.scalars(query.order_by(WebhookMessage.position.desc()).offset(skip).limit(limit)))


def find_message(session: Session, organization_id: UUID, message_id: UUID) -> WebhookMessage | None:
    return session.scalars(
        select(WebhookMessage).where(WebhookMessage.id == message_id, WebhookMessage.organization_id == organization_id)
    ).one_or_none()


@dataclass(frozen=True, slots=True)
class ShownAttempt:
    """An attempt with the ids of its message and its subscription."""

    id: UUID
    message_id: UUID
    endpoint_id: UUID
    response: str
    response_status_code: int
    is_success: bool
    timestamp: datetime
    url: str


def list_attempts(
    session: Session, *, subscription_id: UUID | None = None, position: int | None = None
) -> list[ShownAttempt]:
    """The last attempts at a message, or of a subscription, newest first."""
    query = select(WebhookAttempt, WebhookMessage.id).join(
        WebhookMessage, WebhookMessage.position == WebhookAttempt.position
    )
    if subscription_id is not None:
        query = query.where(WebhookAttempt.subscription_id == subscription_id)
    if position is not None:
        query = query.where(WebhookAttempt.position == position)
    rows = session.execute(query.order_by(WebhookAttempt.row.desc()).limit(SHOWN_ATTEMPTS))
    return [
        ShownAttempt(
            attempt.id,
            message_id,
            attempt.subscription_id,
            attempt.response,
            attempt.status_code,
            attempt.is_success,
            attempt.created_at,
            attempt.url,
        )
        for attempt, message_id in rows
    ]


def take_up(session: Session) -> int:
    """Number up to ``TAKEN_AT_ONCE`` new messages for the subscriptions that want them, in the order in which they were
    written. Those of a disabled subscription count as missed. Returns the number of messages."""
    session.execute(text("select pg_advisory_xact_lock(hashtext('airweave webhooks'))"))  # one process numbers
    taken: int = session.execute(
        text("""
            with fresh as (
                select position, organization_id, event_type from webhook_message where taken_at is null
                order by position limit :limit
            ), addressed as (
                select s.id, s.disabled, f.position,
                       s.last_number + row_number() over (partition by s.id order by f.position) as number
                from fresh f join webhook_subscription s
                  on s.organization_id = f.organization_id and f.event_type = any(s.event_types)
                 and f.position > s.after_position
            ), numbered as (
                insert into webhook_delivery (subscription_id, number, position, state)
                select id, number, position, case when disabled then 'missed' else 'pending' end from addressed
            ), counted as (
                update webhook_subscription s set last_number = a.number
                from (select id, max(number) as number from addressed group by id) a where s.id = a.id
            ), taken as (
                update webhook_message m set taken_at = clock_timestamp() from fresh f where m.position = f.position
                returning 1
            )
            select count(*) from taken
        """),
        {"limit": TAKEN_AT_ONCE},
    ).scalar_one()
    return taken


def list_due(session: Session) -> list[Due]:
    """The subscriptions to which a message can be sent now, those first that have waited longest."""
    rows = session.execute(
        text(f"""
            select id, case when sent_at is null then 'new' when failures > 0 then 'failing' else 'good' end as standing
            from webhook_subscription s
            where {IS_FREE} and exists (select from webhook_delivery d
                                        where d.subscription_id = s.id and d.state = 'pending')
            order by sent_at nulls first limit :limit
        """),
        {"limit": DUE_AT_ONCE},
    )
    return [Due(row.id, row.standing) for row in rows]


def next_due_s(session: Session) -> float | None:
    """Seconds until the next retry is due, of those that wait for it; None if there are none."""
    value = session.execute(
        text(f"""
            select extract(epoch from min(not_before) - clock_timestamp()) from webhook_subscription s
            where not disabled and not {is_due("delayed_at", "not_before")}
              and exists (select from webhook_delivery d where d.subscription_id = s.id and d.state = 'pending')
        """)
    ).scalar_one()
    return None if value is None else max(0.0, float(value))


def claim(session: Session, subscription_id: UUID, *, sender: str, lease_s: float) -> Claim | None:
    """Become the sender to a subscription. None if another thread is, or if it is not due."""
    row = session.execute(
        text(f"""
            update webhook_subscription set sender = :sender, sending_at = now(),
                   sending_until = now() + make_interval(secs => :lease_s)
            where id = :id and {IS_FREE} returning url, secret
        """),
        {"id": subscription_id, "sender": sender, "lease_s": lease_s},
    ).one_or_none()
    return None if row is None else Claim(subscription_id, sender, row.url, bytes(row.secret))


def next_message(session: Session, subscription_id: UUID) -> Next | None:
    """The oldest message that is pending for the subscription."""
    row = session.execute(
        text("""
            select m.position, m.id, d.number, d.attempts, m.payload
            from webhook_delivery d join webhook_message m using (position)
            where d.subscription_id = :id and d.state = 'pending' order by d.number limit 1
        """),
        {"id": subscription_id},
    ).one_or_none()
    return None if row is None else Next(*row)


def record(session: Session, claim: Claim, message: Next, attempt: Attempt, *, lease_s: float) -> bool:
    """Record an attempt, and renew the claim. False if the sender is to stop: the subscription is another sender's now,
    it is disabled, changed or deleted, or it has to wait."""
    row = session.execute(
        text("""
            update webhook_subscription set sending_at = now(), sending_until = now() + make_interval(secs => :lease_s),
                   sent_at = now(), failures = case when :is_success then 0 else failures + 1 end,
                   delayed_at = now(), not_before = now() + make_interval(secs => :wait_s),
                   disabled = disabled or (cast(:disables as text) is not null and url = :url),
                   disabled_reason = case when not disabled and url = :url then cast(:disables as text)
                                     else disabled_reason end
            where id = :id and sender = :sender returning url = :url and secret = :secret and not disabled as goes_on
        """),
        {
            "id": claim.id,
            "sender": claim.sender,
            "url": claim.url,
            "secret": claim.secret,
            "lease_s": lease_s,
            "is_success": attempt.is_success,
            "wait_s": attempt.wait_s,
            "disables": attempt.disables,
        },
    ).one_or_none()
    if row is None:
        return False
    state = "delivered" if attempt.is_success else "failed" if attempt.wait_s is None else "pending"
    kept = session.execute(
        text("""
            update webhook_delivery set state = :state, attempts = attempts + 1
            where subscription_id = :id and number = :number returning 1
        """),
        {"id": claim.id, "number": message.number, "state": state},
    ).one_or_none()
    if kept is not None:  # else the message was forgotten meanwhile
        session.add(
            WebhookAttempt(
                subscription_id=claim.id,
                position=message.position,
                url=claim.url,
                status_code=attempt.status_code,
                response=attempt.response,
                is_success=attempt.is_success,
            )
        )
        session.flush()
    return bool(row.goes_on) and attempt.wait_s is None


def release(session: Session, claim: Claim) -> None:
    """Let others send to the subscription."""
    session.execute(
        text("""
            update webhook_subscription set sender = null, sending_until = null where id = :id and sender = :sender
        """),
        {"id": claim.id, "sender": claim.sender},
    )


def recover(session: Session, subscription_id: UUID, *, since: datetime, until: datetime | None) -> int:
    """Make the messages of this time pending again that failed or were missed. Their numbers stay, so the oldest goes
    first. Returns how many. Lock the subscription first."""
    changed = session.execute(
        text("""
            update webhook_delivery d set state = 'pending', attempts = 0
            from webhook_message m
            where d.subscription_id = :id and d.state in ('failed', 'missed') and m.position = d.position
              and m.created_at >= :since and (cast(:until as timestamptz) is null or m.created_at < :until)
            returning 1
        """),
        {"id": subscription_id, "since": since, "until": until},
    )
    return len(changed.all())


def count_pending(session: Session, subscription_id: UUID) -> int:
    found: int = session.execute(
        text("select count(*) from webhook_delivery where subscription_id = :id and state = 'pending'"),
        {"id": subscription_id},
    ).scalar_one()
    return found


def forget(session: Session, *, limit: int) -> int:
    """Delete messages that are older than ``MESSAGE_DAYS``, with their deliveries and attempts. Returns how many, at
    most ``limit``."""
    deleted = session.execute(
        text("""
            delete from webhook_message where position in (
                select position from webhook_message where created_at < now() - make_interval(days => :days)
                order by created_at limit :limit
            ) returning 1
        """),
        {"days": MESSAGE_DAYS, "limit": limit},
    )
    return len(deleted.all())
