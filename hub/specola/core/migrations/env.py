"""Run by alembic: brings the database of `open_database` to the wanted schema."""

from __future__ import annotations

from alembic import context

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
