"""Alembic's entry: the migrations run on the connection, and in the transaction, of `Connected.upgrade`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
