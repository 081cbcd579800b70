"""The warehouse side of a release: parents by contract, one partition a period, staging, and the switch.

Rows are loaded and audited in schema `stage`; the switching transaction then brings the period's partition to the
staged rows by DELETE and INSERT of what differs. Not by ATTACH and DETACH: those are not snapshot-safe. A reader whose
REPEATABLE READ transaction began before the switch would find the new partition empty, beside old rows of other
tables. This way readers see all old or all new, are never blocked, and only changed rows are written.
Partitions lie in schema `part`, on which nobody else has rights: privileges and policies stand on the parents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from etl.contract.ddl import arrow_type, create_table_sql, postgres_type, schema_of
from etl.contract.model import Contract
from etl.engine.base import CHECKSUM_HEX, Content
from etl.engine.duck import identifier, literal
from etl.publish.lake import DataFile, columns_of
from etl.vocabulary import ConfigurationError, DataError

STAGE = "stage"
PARTS = "part"
READER = "analyst"
SCHEMAS = ("core", "mart", STAGE, PARTS)
SEARCH_PATH = "public, core, mart, audit, ledger"
LOCK_TIMEOUT = "800ms"  # below PostgreSQL's deadlock_timeout of 1 s: we give up before a reader is chosen as victim
LOCK_ATTEMPTS = 20
LOCK_PAUSE_SECONDS = 0.25
BATCH_ROWS = 65_536
MERGE_MEMORY = "256MB"  # a spilled hash would insert in random order of the key, at half the speed
_LOCK_NOT_AVAILABLE = "55P03"


def prepare_warehouse(engine: Engine, contracts: Mapping[str, Contract], periods: Iterable[str]) -> None:
    """Make schemas, parents, (empty) partitions, comments and grants be there; nothing a reader sees changes.

    A column a contract has gained is added. Raises ConfigurationError for a column whose type changed, or when the
    reader role is missing and may not be created.
    """
    wanted = sorted(set(periods))
    with engine.begin() as connection:
        _run(connection, "; ".join(f"CREATE SCHEMA IF NOT EXISTS {schema}" for schema in SCHEMAS))
        _ensure_reader(connection)
        _ensure_search_path(connection)
    for contract in contracts.values():
        _patiently(engine, partial(_ensure_table, contract=contract, periods=wanted))
    with engine.begin() as connection:
        _grant(connection)


def stage(
    url: str, engine: Engine, lake: Path, contracts: Mapping[str, Contract], files: Sequence[DataFile]
) -> dict[str, str]:
    """Load data files into fresh tables `stage.<table>` without constraints; returns table → staged relation.

    Every contract gets its table, without rows if no file is given. Numbers and dates travel in binary, thus exactly.
    """
    with engine.begin() as connection:
        for contract in contracts.values():
            _run(connection, _stage_sql(contract))
    with adbc.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)) as session:
        for table, contract in contracts.items():
            _ingest(session, contract, [lake / file.path for file in files if file.table == table and file.rows])
        session.commit()
    with engine.begin() as connection:
        _run(connection, "; ".join(f"ANALYZE {STAGE}.{identifier(table)}" for table in contracts))
    return {table: f"{STAGE}.{table}" for table in contracts}


def drop_stage(engine: Engine) -> None:
    """Forget everything staged."""
    with engine.begin() as connection:
        _run(connection, f"DROP SCHEMA IF EXISTS {STAGE} CASCADE; CREATE SCHEMA {STAGE}")


def switch_period(connection: Connection, contract: Contract, period: str) -> None:
    """Bring one period's partition to the staged rows of that period, inside the caller's transaction.

    Raises DataError when the staged key is not unique or has blanks.
    """
    staged, part = f"{STAGE}.{identifier(contract.table)}", _partition(contract.table, period)
    is_fresh = _rows(connection, part, period) == 0
    try:
        _run(connection, f"SET LOCAL work_mem = '{MERGE_MEMORY}'")
        for statement in [_insert_sql(contract, period)] if is_fresh else _merge_sql(contract, period):
            _run(connection, statement)
    except IntegrityError:
        raise _bad_key(contract, period) from None
    if _rows(connection, staged, period) != _rows(connection, part, period):
        raise _bad_key(contract, period)


def clear_period(connection: Connection, table: str, period: str) -> None:
    """Take all rows of a period out of a table that has no such period any more."""
    _run(connection, f"DELETE FROM {_parent(table)} WHERE period = {literal(period)}")


def tidy(engine: Engine, places: Iterable[tuple[str, str]]) -> None:
    """Give the space of replaced rows back and renew statistics for these (table, period)."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table, period in places:
            _run(connection, f"VACUUM (ANALYZE, SKIP_LOCKED) {_partition(table, period)}")


def warehouse_content(connection: Connection, table: str, period: str, columns: Sequence[str]) -> Content:
    """The content of one period of a warehouse table, by the same definition as in the engine."""
    texts = ", ".join(f"coalesce({identifier(column)}::text, chr(30))" for column in columns)
    digits = f"('x' || left(md5(concat_ws(chr(31), {texts})), {CHECKSUM_HEX}))::bit({4 * CHECKSUM_HEX})::bigint"
    found = connection.exec_driver_sql(
        f"SELECT count(*), coalesce(sum({digits}), 0) FROM {_parent(table)} WHERE period = %s", (period,)
    ).one()
    return Content(int(found[0]), int(found[1]))


def _ensure_reader(connection: Connection) -> None:
    known = connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).first()
    if known:
        return
    asked = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
    may = connection.exec_driver_sql(asked).scalar()
    if not may:
        raise ConfigurationError(
            "$CREDITVILLAGE_WAREHOUSE_URL",
            f"role {READER}",
            "missing, and this account may not create it",
            f"let an administrator run: CREATE ROLE {READER}",
        )
    _run(connection, f"CREATE ROLE {READER} NOLOGIN")


def _ensure_search_path(connection: Connection) -> None:
    """Every reader finds `core_loans` without its schema; creating still happens in `public`."""
    found = connection.exec_driver_sql(
        "SELECT 1 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS one"
        " WHERE d.datname = current_database() AND s.setrole = 0 AND one LIKE 'search_path=%%'",
        (),
    ).first()
    if not found:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        _run(connection, f"ALTER DATABASE {identifier(name)} SET search_path = {SEARCH_PATH}")


def _grant(connection: Connection) -> None:
    readable = "SCHEMA core, mart"
    _run(connection, f"GRANT USAGE ON {readable} TO {READER}; GRANT SELECT ON ALL TABLES IN {readable} TO {READER}")


def _ensure_table(connection: Connection, contract: Contract, periods: Sequence[str]) -> None:
    held = _columns_held(connection, contract.table)
    if not held:
        _run(connection, create_table_sql(contract, schema_of(contract.table)))
    else:
        _add_columns(connection, contract, held)
    for period in periods:
        _ensure_partition(connection, contract.table, period)


def _columns_held(connection: Connection, table: str) -> dict[str, str]:
    found = connection.exec_driver_sql(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (_parent(table),),
    )
    return {row[0]: row[1] for row in found}


def _add_columns(connection: Connection, contract: Contract, held: Mapping[str, str]) -> None:
    for name, kind in columns_of(contract).items():
        if name not in held:
            _run(connection, f"ALTER TABLE {_parent(contract.table)} ADD COLUMN {identifier(name)} {kind}")
        elif held[name] != postgres_type(kind):
            raise ConfigurationError(
                f"{contract.table}.yml",
                name,
                f"type {kind}, but the warehouse holds {held[name]}",
                "give the column a new name; published types do not change",
            )


def _ensure_partition(connection: Connection, table: str, period: str) -> None:
    part = _partition(table, period)
    if connection.exec_driver_sql("SELECT to_regclass(%s)", (part,)).scalar() is None:
        _run(connection, f"CREATE TABLE {part} (LIKE {_parent(table)} INCLUDING ALL)")
        _run(connection, f"ALTER TABLE {_parent(table)} ATTACH PARTITION {part} FOR VALUES IN ({literal(period)})")


def _patiently(engine: Engine, work: Callable[[Connection], None]) -> None:
    """Do DDL in one transaction that rather gives way to readers than lets them queue behind it."""
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                _run(connection, f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                work(connection)
                return
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or attempt == LOCK_ATTEMPTS:
                raise
            time.sleep(LOCK_PAUSE_SECONDS)


def _stage_sql(contract: Contract) -> str:
    columns = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns_of(contract).items())
    table = f"{STAGE}.{identifier(contract.table)}"
    return f"DROP TABLE IF EXISTS {table}; CREATE UNLOGGED TABLE {table} ({columns})"


def _ingest(session: adbc.Connection, contract: Contract, paths: Sequence[Path]) -> None:
    if not paths:
        return
    schema = pa.schema([pa.field(name, arrow_type(kind)) for name, kind in columns_of(contract).items()])
    batches = pa.RecordBatchReader.from_batches(schema, _batches(paths, schema))
    with session.cursor() as cursor:
        cursor.adbc_ingest(contract.table, batches, mode="append", db_schema_name=STAGE)


def _batches(paths: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches in the schema's order; a column that an older file lacks is null."""
    for path in paths:
        with pq.ParquetFile(path) as file:
            held = set(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                arrays = [
                    batch.column(field.name) if field.name in held else pa.nulls(batch.num_rows, field.type)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _insert_sql(contract: Contract, period: str) -> str:
    names = ", ".join(identifier(name) for name in columns_of(contract))
    return (
        f"INSERT INTO {_partition(contract.table, period)} ({names})"
        f" SELECT {names} FROM {STAGE}.{identifier(contract.table)} AS fresh WHERE fresh.period = {literal(period)}"
    )


def _merge_sql(contract: Contract, period: str) -> list[str]:
    """Delete what is not staged exactly so, then insert what is not held."""
    part, fresh = _partition(contract.table, period), f"{STAGE}.{identifier(contract.table)}"
    names = [identifier(name) for name in columns_of(contract)]
    same_key = " AND ".join(f"fresh.{identifier(name)} = held.{identifier(name)}" for name in contract.key)
    alike = f"{_row('fresh', names)} IS NOT DISTINCT FROM {_row('held', names)}"
    return [
        f"DELETE FROM {part} AS held WHERE NOT EXISTS (SELECT FROM {fresh} AS fresh WHERE {same_key} AND {alike})",
        f"{_insert_sql(contract, period)} AND NOT EXISTS (SELECT FROM {part} AS held WHERE {same_key})",
    ]


def _rows(connection: Connection, relation: str, period: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {relation} WHERE period = %s", (period,)).scalar_one())


def _bad_key(contract: Contract, period: str) -> DataError:
    return DataError(
        f"{contract.table}, period {period}: the key is not unique or has blanks",
        f"let sql/**/{contract.table}.sql give one row per {', '.join(contract.key)}",
    )


def _row(alias: str, names: Sequence[str]) -> str:
    return f"ROW({', '.join(f'{alias}.{name}' for name in names)})"


def _parent(table: str) -> str:
    return f"{identifier(schema_of(table))}.{identifier(table)}"


def _partition(table: str, period: str) -> str:
    return f"{PARTS}.{identifier(table + '_' + period.replace('-', '_'))}"


def _run(connection: Connection, sql: str) -> None:
    """Statements without parameters, sent as they are: a `%` in a comment is no placeholder."""
    connection.execution_options(no_parameters=True).exec_driver_sql(sql)
