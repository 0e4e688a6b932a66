"""Alembic's entry. The connection always comes from regrow.database.migrating."""

from alembic import context

from regrow.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
