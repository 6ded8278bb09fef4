"""What changed lately in a collection is found without a look at all of its entities."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("entity_updated", "entity", ["collection_id", "updated_at"])
    op.drop_index("entity_collection", "entity")  # the new one begins with it
