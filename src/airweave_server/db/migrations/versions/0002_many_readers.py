"""Many readers of one job: the open partitions at hand, who crashed where, and one pace for all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "sync_partition_open", "sync_partition", ["job_id", "ordinal"], postgresql_where=sa.text("state = 'open'")
    )
    op.add_column("sync_partition", sa.Column("crashes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("sync_partition", sa.Column("suspect", sa.Text(), nullable=True))
    op.add_column("sync_partition", sa.Column("suspect_crashes", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "source_pace",
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["source_connection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("connection_id"),
    )
