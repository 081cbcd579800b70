"""The schemas as migrated: equal to the models, documented, and readable by analysts except for the keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from etl.ledger.migrations import configuration
from etl.ledger.models import Base
from etl.ledger.repository import Ledger
from etl.local.postgres import EmbeddedPostgres

OURS = ("ledger", "audit")


def test_migrating_twice_and_at_once_is_harmless(empty_database_url: str) -> None:
    ledgers = [Ledger(empty_database_url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Ledger.migrate, ledgers))
    ledgers[0].migrate()
    with ledgers[0].engine.connect() as connection:
        [newest] = ScriptDirectory.from_config(configuration(connection)).get_heads()
        assert connection.scalars(sa.text("SELECT version_num FROM ledger.alembic_version")).all() == [newest]
    for ledger in ledgers:
        ledger.close()


def test_the_migrated_schemas_are_those_of_the_models(ledger: Ledger) -> None:
    options = {
        "include_schemas": True,
        "version_table_schema": "ledger",
        "include_name": lambda name, kind, _: kind != "schema" or name in OURS,
        "compare_server_default": True,
    }
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def _check_constraints(tables: list[sa.Table]) -> set[tuple[str, str]]:
    checks = [
        (table.name, each) for table in tables for each in table.constraints if isinstance(each, sa.CheckConstraint)
    ]
    return {(table, str(each.name)) for table, each in checks}


def test_the_migrated_checks_are_those_of_the_models(ledger: Ledger) -> None:
    """Alembic does not compare them."""
    migrated = sa.MetaData()
    for schema in OURS:
        migrated.reflect(ledger.engine, schema=schema)
    found = _check_constraints([table for table in migrated.sorted_tables if table.name != "alembic_version"])
    assert found == _check_constraints(Base.metadata.sorted_tables) != set()


def test_every_table_and_column_has_a_comment(ledger: Ledger) -> None:
    inspector = sa.inspect(ledger.engine)
    bare = [
        f"{schema}.{table}.{column['name']}"
        for schema in OURS
        for table in inspector.get_table_names(schema)
        if table != "alembic_version"
        for column in [
            {"name": "", **inspector.get_table_comment(table, schema)},
            *inspector.get_columns(table, schema),
        ]
        if not (column.get("text") or column.get("comment"))
    ]
    assert bare == []


def test_analysts_read_everything_but_keys_and_texts_and_write_nothing(
    ledger: Ledger, postgres: EmbeddedPostgres
) -> None:
    name = str(ledger.engine.url.database)
    with ledger.engine.begin() as connection:
        connection.execute(sa.text(f"GRANT CONNECT ON DATABASE {name} TO analyst"))
    analyst = sa.create_engine(postgres.url(name, "analyst"))
    with analyst.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name not in ("delivery_keys", "case_texts"):
                assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0
    for statement in (
        "SELECT * FROM ledger.delivery_keys",
        "SELECT * FROM ledger.case_texts",
        "DELETE FROM ledger.deliveries",
        "DELETE FROM audit.findings",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), analyst.connect() as connection:
            connection.execute(sa.text(statement))
    analyst.dispose()
