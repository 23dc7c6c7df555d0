"""Migrates the database of the quickstart."""

from alembic import context

from examples.quickstart import engine

with engine.connect() as connection:
    context.configure(connection)
    with context.begin_transaction():
        context.run_migrations()
