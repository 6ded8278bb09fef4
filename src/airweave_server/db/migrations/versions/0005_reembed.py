"""Reembed: a chunk may have vectors of two models, and a collection says which are searched and which are to be."""

import sqlalchemy as sa
from alembic import op

from airweave_server.db.models import HalfVec

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("chunk", "chunk_staged"):
        op.add_column(table, sa.Column("embedding_2", HalfVec(), nullable=True))
        op.alter_column(table, "embedding", nullable=True)
    op.add_column("collection", sa.Column("slot", sa.SmallInteger(), nullable=False, server_default="1"))
    for name, kind in (
        ("other_name", sa.Text()),
        ("other_dimensions", sa.BigInteger()),
        ("next_embedder", sa.Text()),
        ("next_name", sa.Text()),
        ("next_dimensions", sa.BigInteger()),
        ("next_since", sa.DateTime(timezone=True)),
    ):
        op.add_column("collection", sa.Column(name, kind, nullable=True))
