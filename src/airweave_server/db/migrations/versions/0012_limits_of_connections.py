"""How long a connection waits for its source, whether it was ever to be synced, and limits on requests to sources."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_connection", sa.Column("source_wait_max_s", sa.Double(), nullable=True))
    op.add_column("source_connection", sa.Column("has_sync", sa.Boolean(), nullable=False, server_default=sa.true()))
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "source_rate_limit",
        sa.Column("id", UUID(as_uuid=True), primary_key=True),
        sa.Column(
            "organization_id",
            UUID(as_uuid=True),
            sa.ForeignKey("organization.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("source_short_name", sa.Text(), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.Column("window_seconds", sa.BigInteger(), nullable=False),
        sa.Column("free_at", moment, nullable=True),
        sa.Column("booked_at", moment, nullable=True),
        sa.Column("created_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("modified_at", moment, nullable=False, server_default=sa.func.now()),
        sa.UniqueConstraint("organization_id", "source_short_name", name="source_rate_limit_source"),
    )
