"""Runs migrations on the connection that ``db.session.migrate`` hands in."""

from alembic import context

from airweave_server.db.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
