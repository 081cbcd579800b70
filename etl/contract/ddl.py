"""Tables of the warehouse from contracts, with a comment on every table and column; type names of other engines."""

from __future__ import annotations

import pyarrow as pa

from etl.contract.casts import duckdb_type
from etl.contract.language import quote, text_sql
from etl.contract.model import Column, Contract
from etl.registry import Bilingual


def schema_of(table: str) -> str:
    """The warehouse schema of a table: `mart` for marts, `core` for everything else."""
    return "mart" if table.startswith("mart_") else "core"


def create_table_sql(contract: Contract, schema: str) -> str:
    """CREATE TABLE and COMMENT statements separated by `;` and a new line.

    The table is partitioned by `period` where its key has one; partitions, grants and the schema are the publisher's.
    """
    name = f"{quote(schema)}.{quote(contract.table)}"
    columns = [f"{quote(column.name)} {postgres_type(column.type)}" for column in contract.published]
    key = ", ".join(quote(column) for column in contract.key)
    partitions = " PARTITION BY LIST (period)" if "period" in contract.key else ""
    lines = ",\n  ".join([*columns, f"PRIMARY KEY ({key})"])
    create = f"CREATE TABLE IF NOT EXISTS {name} (\n  {lines}\n){partitions}"
    return ";\n".join([create, *_comments(contract, name)])


def _comments(contract: Contract, name: str) -> list[str]:
    tables = [f"COMMENT ON TABLE {name} IS {text_sql(_both(contract.says))}"]
    return tables + [
        f"COMMENT ON COLUMN {name}.{quote(column.name)} IS {text_sql(describe(column))}"
        for column in contract.published
    ]


def describe(column: Column) -> str:
    """Label, unit and meaning of a column in Chinese and English, on one line."""
    unit = f" [{column.unit}]" if column.unit else ""
    meaning = f": {_both(column.says)}" if column.says else ""
    return f"{_both(column.label)}{unit}{meaning}"


def _both(text: Bilingual) -> str:
    return text.zh if text.zh == text.en else f"{text.zh} / {text.en}"


def postgres_type(type_: str) -> str:
    """PostgreSQL's name of a field type."""
    return type_.replace("decimal", "numeric")


def arrow_type(type_: str) -> pa.DataType:
    """The Arrow type of a field type."""
    plain = {
        "text": pa.string(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
    }
    if type_ in plain:
        return plain[type_]
    precision, scale = type_.removeprefix("decimal(").removesuffix(")").split(",")
    return pa.decimal128(int(precision), int(scale))


def arrow_schema(contract: Contract) -> pa.Schema:
    """The published columns as Arrow fields; key columns are not nullable."""
    return pa.schema(
        [
            pa.field(column.name, arrow_type(column.type), nullable=column.name not in contract.key)
            for column in contract.published
        ]
    )


def duckdb_columns(contract: Contract) -> dict[str, str]:
    """The published columns and their DuckDB types, all of which Iceberg and Parquet know."""
    return {column.name: duckdb_type(column.type) for column in contract.published}
