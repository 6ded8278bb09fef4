"""How long a connection waits for its source, and whether it was ever to be synced."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source_connection", sa.Column("source_wait_max_s", sa.Double(), nullable=True))
    op.add_column("source_connection", sa.Column("has_sync", sa.Boolean(), nullable=False, server_default=sa.true()))
