"""Run by Alembic: migrate over the connection, and in the transaction, that the caller has opened."""

from __future__ import annotations

from alembic import context

from etl.ledger.migrations import VERSION_SCHEMA
from etl.ledger.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table_schema=VERSION_SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
