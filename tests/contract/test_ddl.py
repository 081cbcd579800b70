"""Tables of the warehouse: PostgreSQL accepts them, every column has its comment, types agree over engines."""

from __future__ import annotations

import psycopg
import pyarrow as pa
import pytest

from etl.contract.ddl import arrow_schema, create_table_sql, duckdb_columns, postgres_type, schema_of
from tests.contract.delivery import CONTRACTS


def test_postgresql_makes_every_table_with_comments(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE SCHEMA core; CREATE SCHEMA mart")
        for contract in CONTRACTS.values():
            connection.execute(create_table_sql(contract, schema_of(contract.table)))  # type: ignore[arg-type]
        bare = connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE c.relnamespace IN ('core'::regnamespace, 'mart'::regnamespace) AND c.relkind IN ('r', 'p')"
            " AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)"
        ).fetchall()
        made = connection.execute("SELECT count(*) FROM pg_partitioned_table").fetchone()
    assert bare == []
    assert made == (len([contract for contract in CONTRACTS.values() if "period" in contract.key]),)


def test_a_comment_says_label_unit_and_meaning_in_both_languages() -> None:
    text = create_table_sql(CONTRACTS["core_loans"], "core")
    assert 'COMMENT ON COLUMN "core"."core_loans"."balance_yuan" IS \'贷款余额 / outstanding balance [yuan]\'' in text
    assert "PARTITION BY LIST (period)" in text
    assert 'PRIMARY KEY ("period", "bank_code", "loan_key")' in text


@pytest.mark.parametrize(("table", "schema"), [("core_loans", "core"), ("mart_mediation", "mart")])
def test_marts_have_a_schema_of_their_own(table: str, schema: str) -> None:
    assert schema_of(table) == schema


def test_types_agree_over_engines() -> None:
    contract = CONTRACTS["core_loans"]
    arrow, duck = arrow_schema(contract), duckdb_columns(contract)
    assert list(arrow.names) == list(duck) == [column.name for column in contract.published]
    assert (arrow.field("balance_yuan").type, duck["balance_yuan"]) == (pa.decimal128(18, 2), "DECIMAL(18,2)")
    assert (arrow.field("overdue_days").type, duck["overdue_days"]) == (pa.int32(), "INTEGER")
    assert (arrow.field("is_overdue").type, duck["is_overdue"]) == (pa.bool_(), "BOOLEAN")
    assert (arrow.field("issued_on").type, duck["issued_on"]) == (pa.date32(), "DATE")
    assert not arrow.field("loan_key").nullable
    assert postgres_type("decimal(9,5)") == "numeric(9,5)"
