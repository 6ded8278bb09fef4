"""The audit: what a job wrote is found by the job, and a repair can be asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("entity_job", "entity", ["job_id"])
    op.add_column("source_connection", sa.Column("repair_asked_at", sa.DateTime(timezone=True), nullable=True))
