"""Arrow tables into PostgreSQL through COPY, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql
from sqlalchemy import Connection

from etl.vocabulary import CreditVillageError

BATCH_ROWS = 100_000


def copy_rows(
    connection: Connection, table: tuple[str, str], columns: Sequence[str], rows: pa.Table, constants: Mapping[str, str]
) -> int:
    """Append `rows` to `table` (schema, name) and return their number.

    `constants` fill columns that are the same in every row; columns of `columns` that neither has become NULL. Raises
    CreditVillageError for a column the table does not have. NUL characters, which PostgreSQL cannot hold and a hostile
    file may, become U+FFFD.
    """
    unknown = sorted(set(rows.column_names) - set(columns))
    if unknown:
        raise CreditVillageError(f"{'.'.join(table)}: no column {', '.join(unknown)} — hand over {', '.join(columns)}")
    given = [name for name in columns if name in rows.column_names and name not in constants]
    names = [*given, *constants]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(*table), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in _csv_chunks(rows.select(given), constants):
            copy.write(chunk)
    return int(rows.num_rows)


def _csv_chunks(rows: pa.Table, constants: Mapping[str, str]) -> Iterator[memoryview]:
    """CSV without a heading: NULL is an empty cell, an empty text is quoted, as COPY reads them."""
    options = pyarrow.csv.WriteOptions(include_header=False)
    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        if batch.num_rows:
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(_complete(batch, constants), sink, options)
            yield memoryview(sink.getvalue())


def _complete(batch: pa.RecordBatch, constants: Mapping[str, str]) -> pa.RecordBatch:
    arrays = [_without_nul(column) for column in batch.columns]
    fixed = [pa.repeat(pa.scalar(value, pa.string()), batch.num_rows) for value in constants.values()]
    return pa.RecordBatch.from_arrays([*arrays, *fixed], names=[*batch.schema.names, *constants])


def _without_nul(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.replace_substring(column, "\0", "\ufffd")
    return column
