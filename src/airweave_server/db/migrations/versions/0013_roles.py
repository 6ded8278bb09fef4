"""Roles of API keys, and which organization is the first. Existing keys may do everything, as before."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("role", sa.Text(), nullable=False, server_default="admin"))
    op.create_check_constraint("api_key_role", "api_key", "role in ('reader', 'editor', 'admin')")
    op.add_column("organization", sa.Column("is_first", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(
        "update organization set is_first = true "
        "where id = (select id from organization order by created_at, id limit 1)"
    )
    op.create_index(
        "organization_first", "organization", ["is_first"], unique=True, postgresql_where=sa.text("is_first")
    )
