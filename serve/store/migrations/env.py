"""Run by Alembic for each migration, on the connection that `serve.store.migration` gives."""

from alembic import context

from serve.store.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
