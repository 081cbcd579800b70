"""Pull a source database: what changed since the last pull, and all keys, landed as files before anything reads them.

Two queries run in one read-only REPEATABLE READ transaction, so that rows and key list agree: the rows with
`changed_at` in [since, cutoff) in order of change time and key, and the keys of all rows that exist now (a key missing
from them was deleted at the source). Everything comes as text, in chunks, and goes as zstd Parquet straight into the
sealed landing file: the rows as its first part, the keys as its second. The same state gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, Connection, Select, Text, create_engine, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from etl.intake.delivery import Landed, land_written
from etl.registry import Feed, Layout
from etl.vocabulary import ConfigurationError, CreditVillageError

KEYS_SUFFIX: Final = ".keys"
_POSTGRES_SESSION: Final = ("SET LOCAL TIME ZONE 'Asia/Shanghai'", "SET LOCAL datestyle = 'ISO, YMD'")
_Query = Select[Any]


class SourceUnavailableError(CreditVillageError):
    """The source database could not be read and nothing was landed; the same pull may be tried again later."""


@dataclass(frozen=True)
class Pulled:
    """A landed pull: `rows` changed rows in part 1, `keys` existing keys in part 2."""

    landed: Landed
    rows: int
    keys: int


@dataclass
class _Counts:
    by_part: dict[str, int] = field(default_factory=dict)


def pull(
    url: str,
    feed: Feed,
    layout: Layout,
    dataset: str,
    folder: Path,
    master_key_file: Path,
    *,
    delivery_id: str,
    since: datetime | None,
    cutoff: datetime,
    chunk_rows: int,
) -> Pulled:
    """Land the rows changed in [since, cutoff) and all keys of one relation; `since` None takes all before the cutoff.

    Raises ConfigurationError when the feed names no relation, key or change time, SourceUnavailableError when the
    database cannot be read.
    """
    relation, key, changed_at = _named(feed, dataset)
    counts = _Counts()
    try:
        with _snapshot(url) as connection:
            is_postgres = connection.dialect.name == "postgresql"
            rows_query = _rows_query(relation, layout, key, changed_at, since, cutoff, is_postgres=is_postgres)
            keys_query = _keys_query(relation, key, is_postgres=is_postgres)
            writers = [
                (dataset, _part_writer(connection, rows_query, chunk_rows, counts, dataset)),
                (dataset + KEYS_SUFFIX, _part_writer(connection, keys_query, chunk_rows, counts, KEYS_SUFFIX)),
            ]
            landed = land_written(writers, folder, master_key_file, delivery_id=delivery_id, hash_all_parts=True)
    except SQLAlchemyError as error:
        cause = type(getattr(error, "orig", None) or error).__name__
        mend = f"check that it is up and has {relation}, then pull again"
        raise SourceUnavailableError(f"{dataset}: the source database cannot be read ({cause}) — {mend}") from None
    return Pulled(landed, counts.by_part[dataset], counts.by_part[KEYS_SUFFIX])


def _named(feed: Feed, dataset: str) -> tuple[str, str, str]:
    if not (feed.relation and feed.key and feed.changed_at):
        problem = "a pulled feed needs relation, key and changed_at"
        raise ConfigurationError("config/sources", f"feeds.{dataset}", problem, "add what is missing")
    return feed.relation, feed.key, feed.changed_at


@contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    """A connection inside one transaction that sees one state and cannot write."""
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                _settle_session(connection)
                yield connection
    finally:
        engine.dispose()


def _settle_session(connection: Connection) -> None:
    """Dates and times must read the same whatever the server's own settings are."""
    if connection.dialect.name == "postgresql":
        for statement in _POSTGRES_SESSION:
            connection.execute(text(statement))


def _rows_query(
    relation: str,
    layout: Layout,
    key: str,
    changed_at: str,
    since: datetime | None,
    cutoff: datetime,
    *,
    is_postgres: bool,
) -> _Query:
    """All columns as text, in the total order (changed_at, key) that numbers the rows."""
    wanted = [name for name in layout.source_to_canonical if name not in layout.ignore]
    changed: ColumnElement[Any] = sql_column(changed_at)
    query = _from(relation, *(_as_text(name).label(name) for name in wanted)).where(changed < cutoff)
    if since is not None:
        query = query.where(changed >= since)
    return query.order_by(changed, _sorted_key(key, is_postgres=is_postgres))


def _keys_query(relation: str, key: str, *, is_postgres: bool) -> _Query:
    return _from(relation, _as_text(key).label(key)).order_by(_sorted_key(key, is_postgres=is_postgres))


def _from(relation: str, *columns: Any) -> _Query:
    schema, _, name = relation.rpartition(".")
    return select(*columns).select_from(sql_table(name, schema=schema or None))


def _as_text(name: str) -> ColumnElement[str]:
    return sql_cast(sql_column(name), Text)


def _sorted_key(name: str, *, is_postgres: bool) -> ColumnElement[str]:
    """By bytes: a locale's order would differ from one server to the next."""
    return _as_text(name).collate("C") if is_postgres else _as_text(name)


def _part_writer(
    connection: Connection, query: _Query, chunk_rows: int, counts: _Counts, part: str
) -> Callable[[BinaryIO], None]:
    names = [column.name for column in query.selected_columns]
    schema = pa.schema([(name, pa.string()) for name in names])

    def write(sink: BinaryIO) -> None:
        counts.by_part[part] = 0
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            result = connection.execution_options(stream_results=True, max_row_buffer=chunk_rows).execute(query)
            for chunk in result.partitions(chunk_rows):
                counts.by_part[part] += len(chunk)
                columns = [pc.fill_null(pa.array(cells, pa.string()), "") for cells in zip(*chunk, strict=True)]
                writer.write_batch(pa.record_batch(columns, schema=schema))

    return write
