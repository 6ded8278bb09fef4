"""Webhooks: an outbox of events, subscriptions, their deliveries, and the attempts at these."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment, by_clock = sa.DateTime(timezone=True), sa.func.clock_timestamp()
    op.create_table(
        "webhook_message",
        sa.Column("position", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("id", sa.Uuid(), nullable=False, unique=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=by_clock),
        sa.Column("taken_at", moment),
    )
    op.create_index("webhook_message_organization", "webhook_message", ["organization_id", "position"])
    op.create_index(
        "webhook_message_new", "webhook_message", ["position"], postgresql_where=sa.text("taken_at is null")
    )
    op.create_index("webhook_message_age", "webhook_message", ["created_at"])
    op.create_table(
        "webhook_subscription",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("after_position", sa.BigInteger(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("failures", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("not_before", moment),
        sa.Column("delayed_at", moment),
        sa.Column("sender", sa.Text()),
        sa.Column("sending_at", moment),
        sa.Column("sending_until", moment),
        sa.Column("sent_at", moment),
        sa.Column("created_at", moment, nullable=False, server_default=by_clock),
        sa.Column("updated_at", moment, nullable=False, server_default=by_clock),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], ondelete="CASCADE"),
    )
    op.create_index("webhook_subscription_organization", "webhook_subscription", ["organization_id", "created_at"])
    op.create_table(
        "webhook_delivery",
        sa.Column("subscription_id", sa.Uuid(), primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(["subscription_id"], ["webhook_subscription.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["position"], ["webhook_message.position"], ondelete="CASCADE"),
        sa.UniqueConstraint("position", "subscription_id", name="webhook_delivery_position"),
    )
    op.create_index(
        "webhook_delivery_pending",
        "webhook_delivery",
        ["subscription_id", "number"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "webhook_attempt",
        sa.Column("row", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("id", sa.Uuid(), nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("status_code", sa.BigInteger(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("is_success", sa.Boolean(), nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=by_clock),
        sa.ForeignKeyConstraint(["subscription_id"], ["webhook_subscription.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["position"], ["webhook_message.position"], ondelete="CASCADE"),
    )
    op.create_index("webhook_attempt_subscription", "webhook_attempt", ["subscription_id", "row"])
    op.create_index("webhook_attempt_position", "webhook_attempt", ["position"])
    # what the payload of sync.* counts
    op.add_column("sync_partition", sa.Column("chunks_written", sa.BigInteger(), nullable=False, server_default="0"))
