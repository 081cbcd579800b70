"""The floor: every input file decoded and written as typed zstd Parquet, and nothing else.

No check, no code list, no token, no order, no link between files: less than this cannot be called taking the data in.
It is written the way one would write it for speed with the same libraries: streams of Arrow batches, DuckDB for the
types, one file per process and core. Columns the configuration ignores are not even kept; a cell that cannot be cast is
NULL; a line with too many or too few fields is dropped.
"""

from __future__ import annotations

import multiprocessing
import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import yaml

from benchmarks.workloads import Input, inputs, registry
from etl.registry import Layout
from etl.settings import PROJECT_ROOT

BLOCK_BYTES = 8 << 20
DUCKDB_READS = ("database", "json_lines")


@dataclass(frozen=True)
class Task:
    """One file to decode and the Parquet file to write."""

    input: Input
    target: Path


def run(folder: Path, out: Path) -> dict[str, int]:
    """Decode every input file of a simulated month; gives {files, rows, bytes}."""
    found = inputs(folder, registry(folder))
    if not found:
        raise SystemExit(f"{folder}: no input files — let `python -m benchmarks run` generate them")
    out.mkdir(parents=True, exist_ok=True)
    tasks = [Task(each, out / f"{number:03d}_{each.dataset}.parquet") for number, each in enumerate(found)]
    workers = min(os.cpu_count() or 1, len(tasks))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = sum(pool.map(decode, tasks))
    return {"files": len(tasks), "rows": rows, "bytes": sum(each.path.stat().st_size for each in found)}


def decode(task: Task) -> int:
    """One file into one Parquet file; gives the rows written."""
    layout = task.input.layout
    with duckdb.connect(config={"preserve_insertion_order": False, "threads": _threads(task.input)}) as con:
        if layout.format in DUCKDB_READS:
            return _write(con, _duckdb_relation(task.input), layout, task.target)
        with _arrow_relation(task.input) as relation:
            con.register("delivered", relation)
            return _write(con, "delivered", layout, task.target)


def _threads(given: Input) -> int:
    """Arrow streams have a process per core already; a large table read by DuckDB itself may use them all."""
    return (os.cpu_count() or 1) if given.layout.format in DUCKDB_READS else 1


def _write(con: duckdb.DuckDBPyConnection, relation: str, layout: Layout, target: Path) -> int:
    columns = ", ".join(typed(source, name, layout) for source, name in wanted(layout).items())
    query = f"COPY (SELECT {columns} FROM {relation}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    [[rows]] = con.execute(query).fetchall()
    return int(rows)


def wanted(layout: Layout) -> dict[str, str]:
    """Columns as delivered to canonical names, without those the layout ignores."""
    return {source: name for source, name in layout.source_to_canonical.items() if source not in layout.ignore}


def typed(source: str, name: str, layout: Layout) -> str:
    """The SQL that turns one delivered column into its type; units and codes stay as delivered.

    Without the NULLIF, DuckDB 2.0 moves the cast into its CSV reader, where TRY_CAST fails on the first bad cell.
    """
    cell, kind = f"nullif({_quoted(source)}, '')", field_types().get(name, "text")
    if kind == "date":
        return f"CAST(try_strptime({cell}, '{layout.dates}') AS DATE) AS {name}"
    if kind.startswith("decimal"):
        return f"TRY_CAST({cell} AS DECIMAL(18, {kind.partition(',')[2].rstrip(')')})) AS {name}"
    if kind in ("integer", "bigint"):
        return f"TRY_CAST({cell} AS {kind}) AS {name}"
    return f"{cell} AS {name}"


@cache
def field_types() -> dict[str, str]:
    """Name to type, of every field."""
    text = (PROJECT_ROOT / "expectations" / "fields.yml").read_text("utf-8")
    entries: dict[str, dict[str, Any]] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: str(entry["type"]) for name, entry in entries.items()}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _duckdb_relation(given: Input) -> str:
    """Formats DuckDB reads itself: UTF-8 CSV as PostgreSQL's COPY writes it, and JSON Lines."""
    if given.layout.format == "json_lines":
        names = ", ".join(f"{_quoted(name)}: 'VARCHAR'" for name in wanted(given.layout))
        return f"read_json('{given.path}', format = 'newline_delimited', columns = {{{names}}})"
    return f"read_csv('{given.path}', header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"')"


@contextmanager
def _arrow_relation(given: Input) -> Iterator[pa.RecordBatchReader | pa.Table]:
    """Formats Arrow reads: delimited text in any encoding, plain or in a zip, and workbooks."""
    if given.layout.format == "workbook":
        yield _workbook(given)
        return
    with _opened(given.path) as stream:
        yield _delimited(stream, given.layout)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | Path]:
    """The bytes of a file, or of the one data member of a zip."""
    if path.suffix != ".zip":
        yield path
        return
    with zipfile.ZipFile(path) as package:
        [member] = [name for name in package.namelist() if name.endswith(".dat")]
        with package.open(member) as stream:
            yield cast(BinaryIO, stream)


def _delimited(stream: BinaryIO | Path, layout: Layout) -> pa.RecordBatchReader:
    names = list(layout.source_to_canonical)
    return pa_csv.open_csv(
        stream,
        read_options=pa_csv.ReadOptions(
            encoding=layout.encoding, block_size=BLOCK_BYTES, column_names=None if layout.header else names
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char=False if layout.quote == "none" else layout.quote,
            invalid_row_handler=lambda _row: "skip",
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names}, include_columns=list(wanted(layout))
        ),
    )


def _workbook(given: Input) -> pa.Table:
    from python_calamine import CalamineWorkbook

    layout = given.layout
    rows = CalamineWorkbook.from_path(str(given.path)).get_sheet_by_name(layout.sheet or "").to_python()
    header, *cells = rows[(layout.header_row or 1) - 1 :]
    columns = dict(zip(map(str, header), zip(*cells, strict=True), strict=True))
    return pa.table({name: pa.array([_text(cell) for cell in columns[name]], pa.string()) for name in wanted(layout)})


def _text(cell: object) -> str:
    whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell)) if whole else str(cell)  # type: ignore[call-overload]
