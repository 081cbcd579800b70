"""The engine on one machine: DuckDB in memory, spilling to a folder when told one."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from etl.engine.base import CHECKSUM_HEX, NOTHING, Content

MAIN = "main"
ROW_GROUP_ROWS = 122_880
# of files from which single rows are read again: what is read with a row is its group
LOOKUP_GROUP_ROWS = 20_480
# level 1 takes two thirds of the time of the default level and gives files of about the same size
FILE_CODEC, FILE_LEVEL = "zstd", 1
_FORMAT = f"FORMAT parquet, COMPRESSION {FILE_CODEC}, COMPRESSION_LEVEL {FILE_LEVEL}"
_VECTOR = 2048


@dataclass(frozen=True)
class Written:
    """A file just written: its rows, and the least and greatest value of its columns where they are known exactly."""

    path: Path
    rows: int
    spans: Mapping[str, tuple[str, str]]


def identifier(name: str) -> str:
    """A name quoted for SQL.

    >>> identifier('core_loans')
    '"core_loans"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted for SQL, for the few places (file names) where a parameter cannot stand."""
    return "'" + text.replace("'", "''") + "'"


def _opened(memory_limit: str, threads: int | None, temp_dir: Path | None) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    config["temp_directory"] = str(temp_dir) if temp_dir else ""
    con = duckdb.connect(":memory:", config=config)
    con.execute("SET enable_progress_bar = false")  # it would be drawn on standard output, terminal or not
    return con


class DuckEngine:
    """A private DuckDB database. `threads` changes the speed, never a byte of what is written."""

    def __init__(self, *, memory_limit: str = "2GB", threads: int | None = None, temp_dir: Path | None = None) -> None:
        self.con = _opened(memory_limit, threads, temp_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and spill files back; harmless when done twice."""
        self.con.close()

    def register_parquet(
        self, name: str, paths: Sequence[Path | str], columns: Mapping[str, str], *, are_alike: bool = False
    ) -> None:
        """A view over Parquet files with exactly these columns (name to SQL type); empty when there are no files.

        A column no file holds is NULL throughout, so that files older than a column stay readable. Of files that
        `are_alike` only one is opened to see its columns.
        """
        self._drop(name)
        held = self._columns_of(paths, are_alike=are_alike) if paths else set()
        wanted = ", ".join(
            f"CAST({identifier(column) if column in held else 'NULL'} AS {kind}) AS {identifier(column)}"
            for column, kind in columns.items()
        )
        source = f"FROM {_read(paths, are_alike=are_alike)}" if paths else "WHERE false"
        self.con.execute(f"CREATE VIEW {identifier(name)} AS SELECT {wanted} {source}")

    def register_arrow(self, name: str, table: pa.Table | pa.RecordBatchReader) -> None:
        """A relation over an Arrow table (or, readable once, a stream of batches)."""
        self._drop(name)
        self.con.register(name, table)

    def run_model(self, name: str, select_sql: str, params: Mapping[str, Any] | None = None) -> None:
        """Replace the table `name` by the rows of one SELECT; parameters the SELECT does not name are left out."""
        fresh = identifier(f"{name}__fresh")
        self.con.execute(f"DROP TABLE IF EXISTS {fresh}")
        self._execute(f"CREATE TABLE {fresh} AS {select_sql}", params)
        self._drop(name)
        self.con.execute(f"ALTER TABLE {fresh} RENAME TO {identifier(name)}")

    def run_over(
        self, name: str, select_sql: str, params: Mapping[str, Any] | None = None, *, schemas: Sequence[str]
    ) -> None:
        """Replace the table `name` by the rows of one SELECT that looks for relations in these schemas, in this order."""
        self.con.execute(f"SET search_path = {literal(','.join(schemas))}")
        try:
            self._execute(f"CREATE OR REPLACE TABLE {MAIN}.{identifier(name)} AS {select_sql}", params)
        finally:
            self.con.execute(f"SET search_path = {literal(MAIN)}")

    def run_view(self, name: str, select_sql: str) -> None:
        """Replace `name` by a view: a relation too large to keep, computed when it is written. No parameters."""
        self._drop(name)
        self.con.execute(f"CREATE VIEW {identifier(name)} AS {select_sql}")

    def columns(self, name: str) -> list[str]:
        """The columns of a relation, in order."""
        return [column for (column,) in self.fetch(f"SELECT column_name FROM (DESCRIBE {identifier(name)})")]

    def rename(self, name: str, other: str) -> None:
        """Let a table or view bear another name; an Arrow relation is kept as a table under it."""
        kinds = dict(
            self.fetch(
                "SELECT table_name, table_type FROM information_schema.tables "
                f"WHERE table_catalog = current_database() AND table_schema = {literal(MAIN)}"
            )
        )
        if name in kinds:
            kind = "VIEW" if kinds[name] == "VIEW" else "TABLE"
            self.con.execute(f"ALTER {kind} {identifier(name)} RENAME TO {identifier(other)}")
        else:
            self.run_model(other, f"SELECT * FROM {identifier(name)}")
            self._drop(name)

    def write_parquet(
        self, query: str, path: Path, params: Mapping[str, Any] | None = None, *, group_rows: int = ROW_GROUP_ROWS
    ) -> int:
        """Write the rows of one SELECT, in its total order, as zstd Parquet with fixed row groups; returns how many.

        The same rows in the same order give the same bytes on one DuckDB build, whatever the number of threads.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        options = f"{_FORMAT}, ROW_GROUP_SIZE {group_rows}"
        [(rows,)] = self.fetch(f"COPY ({query}) TO {literal(str(path))} ({options})", params)
        return int(rows)

    def write_ranges(
        self, query: str, folder: Path, rows: int | None, params: Mapping[str, Any] | None = None
    ) -> list[Written]:
        """Write the rows of one SELECT, in its total order, as files of so many rows each into a new folder.

        One file if `rows` is None. The files are given in no particular order, empty rows as one file without any.
        """
        folder.mkdir(parents=True)
        if rows is None:
            target, options = folder / "data_0.parquet", f"{_FORMAT}, ROW_GROUP_SIZE {ROW_GROUP_ROWS}"
        else:
            target, options = folder, f"{_FORMAT}, ROW_GROUP_SIZE {_whole_vectors(rows)}, ROW_GROUPS_PER_FILE 1"
        found = self.fetch(f"COPY ({query}) TO {literal(str(target))} ({options}, RETURN_STATS)", params)
        return [Written(Path(name), int(count), _spans(columns)) for name, count, _, _, columns, *_ in found]

    def contents(self, paths: Sequence[Path], columns: Sequence[str]) -> list[Content]:
        """The content of each Parquet file over these columns, in this order."""
        mark, query = "_file_read", _content_select(columns)
        files = ", ".join(literal(str(path)) for path in paths)
        rows = self.fetch(
            f"SELECT {mark}, {query} FROM read_parquet([{files}], filename = {literal(mark)}, hive_partitioning = false) "
            f"GROUP BY {mark}"
        )
        found = {Path(name): Content(int(count), int(checksum)) for name, count, checksum in rows}
        return [found.get(path, NOTHING) for path in paths]

    def content(self, relation: str, columns: Sequence[str]) -> Content:
        """The content of a relation or parenthesised SELECT over these columns, in this order."""
        source = relation if relation.lstrip().startswith("(") else identifier(relation)
        [(rows, checksum)] = self.fetch(f"SELECT {_content_select(columns)} FROM {source}")
        return Content(int(rows), int(checksum))

    def arrow(self, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """The rows of one SELECT as an Arrow table."""
        return self.con.sql(query, params=self._named(query, params)).to_arrow_table()

    def fetch(self, query: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a small SELECT (all of them: DuckDB allows nothing else while a result is half read)."""
        return self._execute(query, params).fetchall()

    def _execute(self, sql: str, params: Mapping[str, Any] | None) -> duckdb.DuckDBPyConnection:
        bound = self._named(sql, params)
        return self.con.execute(sql, bound) if bound else self.con.execute(sql)

    def _named(self, sql: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Just the parameters one statement names: DuckDB refuses one too many."""
        if not params:
            return {}
        [statement] = self.con.extract_statements(sql)
        named = statement.named_parameters
        return {name: value for name, value in params.items() if name in named}

    def _columns_of(self, paths: Sequence[Path | str], *, are_alike: bool) -> set[str]:
        described = self.con.execute(f"DESCRIBE SELECT * FROM {_read(paths, are_alike=are_alike)}").fetchall()
        return {row[0] for row in described}

    def _drop(self, name: str) -> None:
        """Forget whatever bears this name, be it a table, a view or an Arrow object."""
        self.con.unregister(name)
        try:
            self.con.execute(f"DROP TABLE IF EXISTS {identifier(name)}")
        except duckdb.CatalogException:
            self.con.execute(f"DROP VIEW IF EXISTS {identifier(name)}")


def _content_select(columns: Sequence[str]) -> str:
    """Rows and checksum over these columns, for the SELECT that gives the content of what it reads."""
    texts = ", ".join(f"coalesce(CAST({identifier(column)} AS VARCHAR), chr(30))" for column in columns)
    digits = f"left(md5(concat_ws(chr(31), {texts})), {CHECKSUM_HEX})"
    return f"count(*), coalesce(sum(CAST('0x' || {digits} AS BIGINT)), 0)"


def _whole_vectors(rows: int) -> int:
    """Row groups are counted in vectors."""
    return -(-rows // _VECTOR) * _VECTOR


def _spans(columns: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """Least and greatest value of the columns for which the file's statistics give them exactly."""
    exact = {
        name: said for name, said in columns.items() if said.get("min_is_exact") == said.get("max_is_exact") == "true"
    }
    return {name.strip('"'): (said["min"], said["max"]) for name, said in exact.items()}


def _read(paths: Sequence[Path | str], *, are_alike: bool) -> str:
    files = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{files}], union_by_name = {str(not are_alike).lower()}, hive_partitioning = false)"


class DuckHost:
    """One DuckDB kept for many engines, one after the other or side by side: opening it takes longer than a small check.

    Each engine has a database of its own, of which nothing is left when it is closed; memory limit and threads are those of
    the host. Not to be carried into a forked process.
    """

    def __init__(self, *, memory_limit: str, threads: int, temp_dir: Path | None = None) -> None:
        self._held = [_opened(memory_limit, threads, temp_dir)]
        self._numbers = count(1)
        weakref.finalize(self, self._held.clear)  # before the interpreter ends: later it would be complained of

    def engine(self) -> DuckEngine:
        """A fresh engine."""
        [con] = self._held
        return _Guest(con.cursor(), f"guest_{next(self._numbers)}")


class _Guest(DuckEngine):
    """An engine in the DuckDB of a host."""

    def __init__(self, con: duckdb.DuckDBPyConnection, database: str) -> None:
        self.con, self._database, self._is_closed = con, database, False
        self.con.execute(f"ATTACH ':memory:' AS {database}; USE {database}; SET enable_progress_bar = false")

    def close(self) -> None:
        """Give the database back; harmless when done twice."""
        if not self._is_closed:
            self._is_closed = True
            self.con.execute(f"USE memory; DETACH {self._database}")
            self.con.close()
