"""The versions of the ledger's schemas, applied by Alembic from within the package: there is no alembic.ini."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

VERSION_SCHEMA = "ledger"


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for one open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Apply what is missing, inside the caller's transaction."""
    for schema in ("ledger", "audit"):
        # Asked first: CREATE SCHEMA wants the right to create even where the schema exists.
        if not connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": schema}):
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    command.upgrade(configuration(connection), "head")
