"""A job tells how many entities it removed because their names are never read."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # entities that a job removed because this version never reads files of their names
    op.add_column("sync_job", sa.Column("never_read", sa.Integer(), nullable=False, server_default="0"))
