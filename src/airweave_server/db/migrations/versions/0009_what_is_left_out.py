"""What is not in an entity's text, part by part."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entity", sa.Column("left_out", JSONB(), nullable=False, server_default="[]"))
    op.add_column("sync_partition", sa.Column("incomplete", sa.BigInteger(), nullable=False, server_default="0"))
